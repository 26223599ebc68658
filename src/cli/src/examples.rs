//! The two examples that end the help of each subcommand.

pub(crate) const TOP: &str = "\
An unknown subcommand X runs ginnel-X from PATH.

Examples:
  ginnel rep -b tcp://:5555 --echo
  echo hello | ginnel req -c tcp://:5555";

pub(crate) const PUSH: &str = "\
Examples:
  seq 100 | ginnel push -b tcp://:5557 -n 100
  ginnel push -c ipc:///tmp/jobs -D job -D 17";

pub(crate) const PULL: &str = "\
Examples:
  ginnel pull -c tcp://:5557 -n 100 | sort -n | tail -1
  ginnel pull -b tcp://*:5557 -x ./work.sh";

pub(crate) const PUB: &str = "\
Examples:
  ginnel pub -b tcp://:5556 --wait-subs 1 --topic weather.eu -D 12C
  tail -f events | ginnel pub -b tcp://*:5556 --on-full drop-oldest";

pub(crate) const SUB: &str = "\
Examples:
  ginnel sub -c tcp://:5556 -s weather. -f json -n 2
  ginnel sub -c tcp://:5556 -x ./store.sh";

pub(crate) const REQ: &str = "\
Examples:
  echo hello | ginnel req -c tcp://:5555
  ginnel req -c tcp://:5555 -D time --retries 3 --request-timeout 1s";

pub(crate) const REP: &str = "\
Examples:
  ginnel rep -b tcp://:5555 --echo
  ginnel rep -b tcp://:5555 -x 'tr a-z A-Z'";

pub(crate) const DEALER: &str = "\
With -n, N counts messages sent and received together.

Examples:
  ginnel dealer -c tcp://:5555 -D '' -D hello -n 2 -f json
  ginnel dealer -b tcp://:5558 -n 10 </dev/null";

pub(crate) const ROUTER: &str = "\
The first frame of each record is the peer id, in and out.
With -n, N counts messages sent and received together.

Examples:
  ginnel router -b tcp://:5558 -f json </dev/null
  echo '[\"worker1\",\"job\"]' | ginnel router -b tcp://:5558 -f json";

pub(crate) const XPUB: &str = "\
Examples:
  ginnel -v xpub -b tcp://:5556
  ginnel xpub -b tcp://:5556 --wait-subs 1 --topic a -D 1";

pub(crate) const XSUB: &str = "\
Examples:
  ginnel xsub -c tcp://:5556 -s weather.
  ginnel xsub -b tcp://:5556 -n 1 -f hex";

pub(crate) const PAIR: &str = "\
With -n, N counts messages sent and received together.

Examples:
  ginnel pair -b ipc:///tmp/chat
  ginnel pair -c ipc:///tmp/chat";

pub(crate) const BENCH: &str = "\
Default patterns: push-pull for thr, req-rep for lat.

Examples:
  ginnel bench thr -s 64 --format json
  ginnel bench lat -T ipc -s 64,1Ki --time 2s";

pub(crate) const PROXY: &str = "\
Pairs: xsub and xpub, router and dealer, pull and push.
SIGUSR1 prints the statistics to stderr.

Examples:
  ginnel proxy --front xsub@tcp://*:5556 --back xpub@tcp://*:5557
  ginnel proxy --front router@tcp://*:5555 --back dealer@ipc:///tmp/workers";

pub(crate) const PING: &str = "\
Exit 0: it answered; 3: it did not in time; 4: it refused.

Examples:
  ginnel ping -c tcp://:5555
  ginnel ping -c ipc:///tmp/jobs -n 5 -t 500ms";

pub(crate) const DRIVE: &str = "\
Messages and commands are lines of JSON on stdin, events on stdout. Frames,
topics and the identity are in base64.

CONFIG: type, bind, connect, subscribe, identity, options (libzmq's names and
units), plain {username, password} or plain_server {users: {name: password}},
ack (events count what was sent), exit_on_eof (without it, only the command exit
or a signal is the end).
In:  {\"f\":[\"aGk=\",...]} sends; {\"cmd\":\"subscribe\",\"topic\":\"YQ==\"}, unsubscribe;
     {\"cmd\":\"bind\",\"ep\":\"tcp://:5555\"}, connect, unbind, disconnect;
     {\"cmd\":\"stats\"}; {\"cmd\":\"exit\"}
Out: {\"m\":[\"aGk=\",...]} arrived; {\"ev\":...} with ready, sent, done (a command),
     err (a line that failed), fatal and, with -v, monitor (connections, drops)

Examples:
  ginnel drive '{\"type\":\"pull\",\"bind\":[\"tcp://127.0.0.1:*\"]}'
  ginnel drive @socket.json";
