"""A libzmq peer that is driven by JSON lines: one command a line in, one answer a line out.

It knows no test. Every command names a socket by a word of the driver's choice; the answer is an object, with
"error" when the command failed. Frames are {"b": base64} or {"fill": length, "seed": n}: a run of the numbers
0..250, started at n, which both sides can build and recognise without carrying it through the pipe.

libzmq sends subscriptions only from inside calls into the socket, so while this program waits for its next
command it also waits for the sockets' own descriptors, and calls into each that stirs.
"""

import base64
import json
import os
import select
import struct
import sys
import threading

import zmq
import zmq.auth.thread
import zmq.utils.monitor

PERIOD = bytes(range(251))
LARGE = 128

context = zmq.Context()
sockets = {}
monitors = {}
proxies = {}
authenticator = None


def fill(length, seed):
    start = seed % 251
    block = PERIOD[start:] + PERIOD[:start]
    return (block * (length // 251 + 1))[:length]


def to_bytes(frame):
    if "fill" in frame:
        return fill(frame["fill"], frame["seed"])
    return base64.b64decode(frame["b"])


def to_json(frame):
    if len(frame) >= LARGE and frame == fill(len(frame), frame[0]):
        return {"fill": len(frame), "seed": frame[0]}
    return {"b": base64.b64encode(frame).decode()}


def set_option(socket, name, value):
    if name == "SUBSCRIBE" or name == "UNSUBSCRIBE":
        value = value.encode()
    elif isinstance(value, str):
        value = value.encode()
    socket.setsockopt(getattr(zmq, name), value)


def open_socket(command):
    socket = context.socket(getattr(zmq, command["type"]))
    sockets[command["s"]] = socket
    socket.linger = 0
    socket.rcvtimeo = socket.sndtimeo = 10_000
    for name, value in command.get("options", {}).items():
        set_option(socket, name, value)
    if command.get("monitor"):
        monitors[command["s"]] = socket.get_monitor_socket()
    if "bind" in command:
        socket.bind(command["bind"])
        return {"endpoint": socket.last_endpoint.rstrip(b"\0").decode()}
    socket.connect(command["connect"])
    return {}


def close_socket(command):
    socket = sockets.pop(command["s"])
    if command["s"] in monitors:
        socket.disable_monitor()
        del monitors[command["s"]]
    socket.close(linger=command.get("linger", 0))
    return {}


def proxy(command):
    """Runs zmq.proxy in a thread, with a context of its own: ending that is what ends the proxy."""
    own = zmq.Context()
    ends = []
    for side in ("front", "back"):
        socket = own.socket(getattr(zmq, command[side]["type"]))
        socket.linger = 0
        if "connect" in command[side]:
            socket.connect(command[side]["connect"])
        else:
            socket.bind(command[side]["bind"])
        ends.append(socket)
    endpoints = [end.last_endpoint.rstrip(b"\0").decode() for end in ends]

    def run():
        try:
            zmq.proxy(*ends)
        except zmq.ContextTerminated:
            for end in ends:
                end.close()

    threading.Thread(target=run, daemon=True).start()
    proxies[command["s"]] = own
    return {"endpoints": endpoints}


def reset(command):
    for name in list(sockets):
        close_socket({"s": name})
    while proxies:
        proxies.popitem()[1].term()
    return {}


def recv(command):
    socket = sockets[command["s"]]
    socket.rcvtimeo = command.get("timeout", 10_000)
    messages = []
    for _ in range(command.get("count", 1)):
        messages.append([to_json(frame) for frame in socket.recv_multipart()])
    return {"messages": messages}


def property_of(frame, name):
    try:
        return frame.get(name)
    except zmq.ZMQError:
        return None


def recv_properties(command):
    """Receives one message; what its first frame says of the peer, None for what it does not say."""
    frames = sockets[command["s"]].recv_multipart(copy=False)
    return {"properties": {name: property_of(frames[0], name) for name in command["names"]}}


def silent(command):
    """Fails when a message comes in the time given."""
    socket = sockets[command["s"]]
    socket.rcvtimeo = command["timeout"]
    try:
        return {"error": "received %r" % [frame[:100] for frame in socket.recv_multipart()]}
    except zmq.Again:
        return {}


def stream_collect(command):
    """Receives numbered messages until nothing comes for a while; their numbers as ranges, which must ascend."""
    socket = sockets[command["s"]]
    socket.rcvtimeo = command["timeout"]
    ranges = []
    while True:
        try:
            number = struct.unpack(">Q", socket.recv_multipart()[-1])[0]
        except zmq.Again:
            return {"ranges": ranges}
        if ranges and number <= ranges[-1][1]:
            return {"error": "message %d arrived after %s" % (number, ranges)}
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])


def stream_send(command):
    socket = sockets[command["s"]]
    head = [to_bytes(frame) for frame in command.get("head", [])]
    for number in range(command["count"]):
        socket.send_multipart(head + [struct.pack(">Q", number)])
    return {}


def stream_verify(command):
    socket = sockets[command["s"]]
    first = None
    for number in range(command["count"]):
        frames = socket.recv_multipart()
        got = struct.unpack(">Q", frames[-1])[0]
        if got != number:
            return {"error": "message %d arrived as number %d" % (got, number)}
        first = first or frames
    return {"head": [to_json(frame) for frame in first[:-1]]}


def echo(command):
    """Receives messages and sends each back; "reverse": all are received first, and the last is answered first."""
    socket = sockets[command["s"]]
    if command.get("reverse"):
        for message in reversed([socket.recv_multipart() for _ in range(command["count"])]):
            socket.send_multipart(message)
        return {}
    for _ in range(command["count"]):
        socket.send_multipart(socket.recv_multipart())
    return {}


def events(command):
    """Reads the monitor until the named event came or the time is over; answers the names of all events read."""
    monitor = monitors[command["s"]]
    monitor.rcvtimeo = command.get("timeout", 10_000)
    names = []
    while command.get("until") not in names:
        try:
            event = zmq.utils.monitor.recv_monitor_message(monitor)
        except zmq.Again:
            break
        names.append(zmq.Event(event["event"]).name)
    return {"events": names}


def plain(command):
    """Starts the ZAP handler that PLAIN servers need."""
    global authenticator
    if authenticator is None:
        authenticator = zmq.auth.thread.ThreadAuthenticator(context)
        authenticator.start()
    authenticator.configure_plain(domain="*", passwords=command["users"])
    return {}


def send(command):
    for message in command["messages"]:
        sockets[command["s"]].send_multipart([to_bytes(frame) for frame in message])
    return {}


def endpoint_command(method):
    def run(command):
        socket = sockets[command["s"]]
        getattr(socket, method)(command["endpoint"])
        return {"endpoint": socket.last_endpoint.rstrip(b"\0").decode()}

    return run


def set_options(command):
    for name, value in command["options"]:
        set_option(sockets[command["s"]], name, value)
    return {}


COMMANDS = {
    "open": open_socket,
    "close": close_socket,
    "reset": reset,
    "bind": endpoint_command("bind"),
    "unbind": endpoint_command("unbind"),
    "connect": endpoint_command("connect"),
    "disconnect": endpoint_command("disconnect"),
    "set": set_options,
    "send": send,
    "recv": recv,
    "recv_properties": recv_properties,
    "silent": silent,
    "proxy": proxy,
    "stream_send": stream_send,
    "stream_verify": stream_verify,
    "stream_collect": stream_collect,
    "echo": echo,
    "events": events,
    "plain": plain,
}


def run(line):
    command = json.loads(line)
    try:
        return COMMANDS[command["do"]](command)
    except Exception as error:  # every failure is an answer
        return {"error": "%s: %s" % (type(error).__name__, error)}


def answer(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def wait_for_input():
    """Returns when there are bytes to read; meanwhile lets libzmq do what it only does inside calls."""
    while True:
        descriptors = {socket.fd: socket for socket in sockets.values()}
        for socket in descriptors.values():
            socket.getsockopt(zmq.EVENTS)
        readable, _, _ = select.select([0, *descriptors], [], [])
        if 0 in readable:
            return


def main():
    answer({"ready": "libzmq " + zmq.zmq_version()})
    pending = b""
    while True:
        wait_for_input()
        chunk = os.read(0, 1 << 20)
        if not chunk:
            os._exit(0)
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            answer(run(line))


main()
