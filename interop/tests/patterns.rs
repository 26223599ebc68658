//! Every legal pair of socket types carries the content set to libzmq and back, over tcp and ipc, whoever binds.

use ginnel::SocketType;
use interop::{Cases, Meeting, Program, Transport, exchange};

async fn table(name: &'static str, transport: Transport, we_bind: bool) {
    let mut cases = Cases::new(name, Program::Libzmq);
    for ours in SocketType::ALL {
        for theirs in SocketType::ALL.into_iter().filter(|&theirs| ours.accepts(theirs)) {
            let meeting = Meeting { ours, theirs, transport, we_bind, options: &[] };
            cases.run(meeting, async |peer| exchange(&meeting, peer).await).await;
        }
    }
    cases.finish();
}

#[tokio::test]
async fn all_pairs_over_tcp_we_bind() {
    table("all pairs, tcp, we bind", Transport::Tcp, true).await;
}

#[tokio::test]
async fn all_pairs_over_tcp_they_bind() {
    table("all pairs, tcp, they bind", Transport::Tcp, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pairs_over_ipc_we_bind() {
    table("all pairs, ipc, we bind", Transport::Ipc, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pairs_over_ipc_they_bind() {
    table("all pairs, ipc, they bind", Transport::Ipc, false).await;
}
