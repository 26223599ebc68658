//! The two examples that end the help of each subcommand.

pub(crate) const TOP: &str = "\
An unknown subcommand X runs ginnel-X from PATH.

Examples:
  ginnel rep -b tcp://:5555 --echo
  echo hello | ginnel req -c tcp://:5555";

pub(crate) const PUSH: &str = "\
Examples:
  seq 100 | ginnel push -b tcp://:5557 -n 100
  ginnel push -c ipc:///tmp/jobs --spool q -D job -D 17";

pub(crate) const PULL: &str = "\
Examples:
  ginnel pull -c tcp://:5557 -n 100 | sort -n | tail -1
  ginnel pull -b tcp://*:5557 -x ./work.sh";

pub(crate) const PUB: &str = "\
Examples:
  ginnel pub -b tcp://:5556 --wait-subs 1 --topic weather.eu -D 12C
  ginnel pub -b tcp://*:5556 --spool q --declare audit < events.txt";

pub(crate) const SUB: &str = "\
Examples:
  ginnel sub -c tcp://:5556 -s weather. -f json -n 2
  ginnel sub -c tcp://:5556 --durable audit -x ./store.sh --ack exec";

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

pub(crate) const RECORD: &str = "\
Everything is kept until --spool-max is reached. With --durable a message is
acknowledged when it is on disk.

Examples:
  ginnel record sub -c tcp://:5556 --spool tape -s weather. -n 1000
  ginnel record pull -b tcp://:5557 --spool tape --time 1h --spool-max 4Gi";

pub(crate) const REPLAY: &str = "\
A time is written as 2026-01-31T12:00:00Z.

Examples:
  ginnel replay pub -b tcp://:6556 --spool tape --speed 10 --wait-subs 1
  ginnel replay push -c tcp://:6557 --spool tape --from 500 --to 999 --fast";

pub(crate) const SPOOL: &str = "\
All but repair, drop-name and new-id only read, and work on a spool in use.

Examples:
  ginnel spool list q
  ginnel spool drop-name q audit";

pub(crate) const SPOOL_LIST: &str = "\
Examples:
  ginnel spool list q
  ginnel spool list q | jq '.names[] | {name, lag_records}'";

pub(crate) const SPOOL_VERIFY: &str = "\
Examples:
  ginnel spool verify q
  ginnel spool verify q && echo good";

pub(crate) const SPOOL_DUMP: &str = "\
A time is written as 2026-01-31T12:00:00Z. A bad record is named on stderr, the
others are printed, and the exit code is 5.

Examples:
  ginnel spool dump q --from 100 --to 199
  ginnel spool dump q | ginnel push -c tcp://:5557 -f envelope";

pub(crate) const SPOOL_REPAIR: &str = "\
Good records stay; copies of what is damaged are in its directory damaged.

Examples:
  ginnel spool repair q
  ginnel spool repair q | jq .damage";

pub(crate) const SPOOL_DROP_NAME: &str = "\
What was kept for this name alone goes.

Examples:
  ginnel spool drop-name q audit
  ginnel spool list q | jq -r .names[].name";

pub(crate) const SPOOL_NEW_ID: &str = "\
For a copy or a backup that is put to use beside the original, or after it.

Examples:
  ginnel spool new-id copy-of-q
  cp -r q copy && ginnel spool new-id copy";

pub(crate) const DRIVE: &str = "\
Messages and commands are lines of JSON on stdin, events on stdout. Frames,
topics and the identity are in base64.

CONFIG: type, bind, connect, subscribe, identity, options (libzmq's names and
units), plain {username, password} or plain_server {users: {name: password}},
spool {dir, sync, max_bytes, when_full, declare: {name: [prefix]}, ...} (push,
pub), durable {name, ack: next|manual|receive, from: now|oldest, cursor, ...}
(pull, sub), ack (events count what was sent), exit_on_eof (without it, only the
command exit or a signal is the end).
In:  {\"f\":[\"aGk=\",...]} sends; {\"cmd\":\"subscribe\",\"topic\":\"YQ==\"}, unsubscribe;
     {\"cmd\":\"bind\",\"ep\":\"tcp://:5555\"}, connect, unbind, disconnect;
     {\"cmd\":\"ack\",\"seq\":7}, retry, cancel, drop-name (durable sockets);
     {\"cmd\":\"stats\"}; {\"cmd\":\"exit\"}
Out: {\"m\":[\"aGk=\",...]} arrived; {\"ev\":...} with ready, sent, done (a command),
     err (a line that failed), spool (losses and the like), fatal and, with -v,
     monitor (connections, drops)

Examples:
  ginnel drive '{\"type\":\"pull\",\"bind\":[\"tcp://127.0.0.1:*\"]}'
  ginnel drive @socket.json";
