// A JeroMQ 0.3.6 peer (ZMTP 2.0), driven by the same JSON lines as peer.py; see there. It knows no test.
//
// Run as a single source file: java -cp /usr/share/java/jeromq.jar Peer.java

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.zeromq.ZMQ;

public class Peer {
    static final Map<String, Integer> TYPES = new HashMap<>();
    static final Map<String, ZMQ.Socket> SOCKETS = new HashMap<>();
    static final ZMQ.Context CONTEXT = ZMQ.context(1);
    static final int LARGE = 128;

    static {
        TYPES.put("PAIR", ZMQ.PAIR);
        TYPES.put("PUB", ZMQ.PUB);
        TYPES.put("SUB", ZMQ.SUB);
        TYPES.put("REQ", ZMQ.REQ);
        TYPES.put("REP", ZMQ.REP);
        TYPES.put("DEALER", ZMQ.DEALER);
        TYPES.put("ROUTER", ZMQ.ROUTER);
        TYPES.put("PULL", ZMQ.PULL);
        TYPES.put("PUSH", ZMQ.PUSH);
        TYPES.put("XPUB", ZMQ.XPUB);
        TYPES.put("XSUB", ZMQ.XSUB);
    }

    public static void main(String[] arguments) throws Exception {
        LinkedBlockingQueue<String> lines = new LinkedBlockingQueue<>();
        Thread reader = new Thread(() -> read(lines));
        reader.setDaemon(true);
        reader.start();
        answer(Map.of("ready", "JeroMQ " + ZMQ.getVersionString()));
        while (true) {
            String line = lines.poll(5, TimeUnit.MILLISECONDS);
            if (line == null) {
                // A SUB sends its subscriptions only from inside calls into the socket.
                for (ZMQ.Socket socket : SOCKETS.values()) {
                    socket.getEvents();
                }
                continue;
            }
            answer(run(line));
        }
    }

    /** Carries input to the main thread; the end of input ends the process. */
    static void read(LinkedBlockingQueue<String> lines) {
        try (BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                lines.add(line);
            }
        } catch (IOException error) {
            System.err.println(error);
        }
        Runtime.getRuntime().halt(0);
    }

    static void answer(Map<String, Object> value) {
        System.out.println(Json.write(value));
        System.out.flush();
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> run(String line) {
        try {
            Map<String, Object> command = (Map<String, Object>) new Json(line).value();
            switch ((String) command.get("do")) {
                case "open": return open(command);
                case "close": SOCKETS.remove(command.get("s")).close(); return Map.of();
                case "reset": return reset();
                case "send": return send(command);
                case "recv": return recv(command);
                case "stream_send": return streamSend(command);
                case "stream_verify": return streamVerify(command);
                case "set": return setOptions(command);
                default: return Map.of("error", "no command " + command.get("do"));
            }
        } catch (Exception error) {
            return Map.of("error", error.toString());
        }
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> open(Map<String, Object> command) {
        ZMQ.Socket socket = CONTEXT.socket(TYPES.get((String) command.get("type")));
        SOCKETS.put((String) command.get("s"), socket);
        socket.setLinger(0);
        socket.setReceiveTimeOut(10_000);
        socket.setSendTimeOut(10_000);
        Map<String, Object> options = (Map<String, Object>) command.getOrDefault("options", Map.of());
        options.forEach((name, value) -> setOption(socket, name, value));
        if (command.containsKey("bind")) {
            // This JeroMQ does not tell which port * became, so it picks one itself.
            int port = socket.bindToRandomPort("tcp://127.0.0.1");
            return Map.of("endpoint", "tcp://127.0.0.1:" + port);
        }
        socket.connect((String) command.get("connect"));
        return Map.of();
    }

    static Map<String, Object> reset() {
        SOCKETS.values().forEach(ZMQ.Socket::close);
        SOCKETS.clear();
        return Map.of();
    }

    static void setOption(ZMQ.Socket socket, String name, Object value) {
        byte[] bytes = value.toString().getBytes(StandardCharsets.UTF_8);
        switch (name) {
            case "SUBSCRIBE": socket.subscribe(bytes); break;
            case "UNSUBSCRIBE": socket.unsubscribe(bytes); break;
            case "IDENTITY": socket.setIdentity(bytes); break;
            case "ROUTER_MANDATORY": socket.setRouterMandatory(true); break;
            default: throw new IllegalArgumentException("no option " + name);
        }
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> setOptions(Map<String, Object> command) {
        for (Object pair : (List<Object>) command.get("options")) {
            List<Object> words = (List<Object>) pair;
            setOption(SOCKETS.get(command.get("s")), (String) words.get(0), words.get(1));
        }
        return Map.of();
    }

    static byte[] fill(int length, int seed) {
        byte[] bytes = new byte[length];
        for (int at = 0; at < length; at++) {
            bytes[at] = (byte) ((seed + at) % 251);
        }
        return bytes;
    }

    @SuppressWarnings("unchecked")
    static List<byte[]> frames(Object list) {
        List<byte[]> frames = new ArrayList<>();
        for (Object item : (List<Object>) list) {
            Map<String, Object> frame = (Map<String, Object>) item;
            if (frame.containsKey("fill")) {
                frames.add(fill(((Long) frame.get("fill")).intValue(), ((Long) frame.get("seed")).intValue()));
            } else {
                frames.add(Base64.getDecoder().decode((String) frame.get("b")));
            }
        }
        return frames;
    }

    static Map<String, Object> describe(byte[] frame) {
        if (frame.length >= LARGE && Arrays.equals(frame, fill(frame.length, frame[0] & 0xff))) {
            return Map.of("fill", (long) frame.length, "seed", (long) (frame[0] & 0xff));
        }
        return Map.of("b", Base64.getEncoder().encodeToString(frame));
    }

    static void sendAll(ZMQ.Socket socket, List<byte[]> frames) {
        for (int at = 0; at < frames.size(); at++) {
            int flags = at + 1 < frames.size() ? ZMQ.SNDMORE : 0;
            if (!socket.send(frames.get(at), flags)) {
                throw new IllegalStateException("not sent");
            }
        }
    }

    static List<byte[]> recvAll(ZMQ.Socket socket) {
        List<byte[]> frames = new ArrayList<>();
        do {
            byte[] frame = socket.recv(0);
            if (frame == null) {
                throw new IllegalStateException("Again: nothing arrived in time");
            }
            frames.add(frame);
        } while (socket.hasReceiveMore());
        return frames;
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> send(Map<String, Object> command) {
        for (Object message : (List<Object>) command.get("messages")) {
            sendAll(SOCKETS.get(command.get("s")), frames(message));
        }
        return Map.of();
    }

    static Map<String, Object> recv(Map<String, Object> command) {
        ZMQ.Socket socket = SOCKETS.get(command.get("s"));
        socket.setReceiveTimeOut(((Long) command.getOrDefault("timeout", 10_000L)).intValue());
        List<Object> messages = new ArrayList<>();
        for (long left = (Long) command.getOrDefault("count", 1L); left > 0; left--) {
            List<Object> message = new ArrayList<>();
            recvAll(socket).forEach(frame -> message.add(describe(frame)));
            messages.add(message);
        }
        return Map.of("messages", messages);
    }

    static Map<String, Object> streamSend(Map<String, Object> command) {
        ZMQ.Socket socket = SOCKETS.get(command.get("s"));
        List<byte[]> message = frames(command.getOrDefault("head", List.of()));
        message.add(null);
        long count = (Long) command.get("count");
        for (long number = 0; number < count; number++) {
            message.set(message.size() - 1, ByteBuffer.allocate(8).putLong(number).array());
            sendAll(socket, message);
        }
        return Map.of();
    }

    static Map<String, Object> streamVerify(Map<String, Object> command) {
        ZMQ.Socket socket = SOCKETS.get(command.get("s"));
        List<Object> head = new ArrayList<>();
        long count = (Long) command.get("count");
        for (long number = 0; number < count; number++) {
            List<byte[]> frames = recvAll(socket);
            long got = ByteBuffer.wrap(frames.get(frames.size() - 1)).getLong();
            if (got != number) {
                return Map.of("error", "message " + got + " arrived as number " + number);
            }
            if (number == 0) {
                frames.subList(0, frames.size() - 1).forEach(frame -> head.add(describe(frame)));
            }
        }
        return Map.of("head", head);
    }
}

/** As much JSON as the commands need: objects, lists, texts without escapes, whole numbers, true and false. */
class Json {
    private final String text;
    private int at = 0;

    Json(String text) {
        this.text = text;
    }

    Object value() {
        switch (text.charAt(at)) {
            case '{': return object();
            case '[': return list();
            case '"': return word();
            case 't': at += 4; return true;
            case 'f': at += 5; return false;
            default: return number();
        }
    }

    private Map<String, Object> object() {
        Map<String, Object> object = new LinkedHashMap<>();
        at++;
        while (text.charAt(at) != '}') {
            skip(',');
            String name = word();
            skip(':');
            object.put(name, value());
        }
        at++;
        return object;
    }

    private List<Object> list() {
        List<Object> list = new ArrayList<>();
        at++;
        while (text.charAt(at) != ']') {
            skip(',');
            list.add(value());
        }
        at++;
        return list;
    }

    private String word() {
        int end = text.indexOf('"', at + 1);
        String word = text.substring(at + 1, end);
        at = end + 1;
        return word;
    }

    private Long number() {
        int start = at;
        while (at < text.length() && "-0123456789".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
        return Long.valueOf(text.substring(start, at));
    }

    private void skip(char separator) {
        if (text.charAt(at) == separator) {
            at++;
        }
    }

    static String write(Object value) {
        StringBuilder out = new StringBuilder();
        if (value instanceof Map<?, ?> map) {
            out.append('{');
            map.forEach((name, item) -> out.append(out.length() > 1 ? "," : "").append(write(name)).append(':').append(write(item)));
            return out.append('}').toString();
        }
        if (value instanceof List<?> list) {
            out.append('[');
            list.forEach(item -> out.append(out.length() > 1 ? "," : "").append(write(item)));
            return out.append(']').toString();
        }
        return value instanceof String word ? '"' + word.replace('\\', '/').replace('"', '\'').replaceAll("\\p{Cntrl}", " ") + '"' : String.valueOf(value);
    }
}
