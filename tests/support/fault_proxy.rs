//! A proxy between two well-behaved peers that spoils their connection by plan: [`FaultProxy`].
//!
//! TCP on loopback. Each direction has its own [`Plan`]: pieces of odd sizes, a delay, a rate, a flipped bit, a cut
//! by FIN or RST after so many bytes, a stall. Nothing is random: a plan that fails is its own report.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Fin,
    Reset,
}

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Sizes of the pieces, again and again; empty: as they come.
    pub pieces: Vec<usize>,
    /// Before each piece.
    pub delay: Duration,
    /// Bytes per second; 0: as fast as they come.
    pub rate: u32,
    /// The number of a bit, counted from the connection's start.
    pub flip: Option<u64>,
    /// Ends both directions after this many bytes.
    pub cut: Option<(u64, Cut)>,
}

/// See the module's words.
pub struct FaultProxy {
    pub endpoint: String,
    stall: watch::Sender<bool>,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FaultProxy {
    /// In front of `target` (`tcp://…`). `plans` gives the n-th connection's: towards the target, and back.
    pub async fn start(target: &str, plans: impl Fn(usize) -> (Plan, Plan) + Send + 'static) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let endpoint = format!("tcp://{}", listener.local_addr().expect("its address"));
        let target = target.trim_start_matches("tcp://").to_owned();
        let (stall, stalled) = watch::channel(false);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            // Ends the connections together with the proxy.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let plans = plans(count.fetch_add(1, Ordering::Relaxed));
                let (target, stalled) = (target.clone(), stalled.clone());
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        forward(client, server, plans, stalled).await;
                    }
                });
            }
        });
        FaultProxy { endpoint, stall, accepted, task: task.abort_handle() }
    }

    /// Stops forwarding without closing, or goes on.
    pub fn stall(&self, stalled: bool) {
        self.stall.send_replace(stalled);
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn forward(client: TcpStream, server: TcpStream, plans: (Plan, Plan), stalled: watch::Receiver<bool>) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let mut there = Direction { from: client_in, to: server_out, plan: plans.0, stalled: stalled.clone(), passed: 0 };
    let mut back = Direction { from: server_in, to: client_out, plan: plans.1, stalled, passed: 0 };
    let result = tokio::try_join!(there.run(), back.run());
    if result == Err(Cut::Reset) {
        for half in [&there.to, &back.to] {
            let stream: &TcpStream = half.as_ref();
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

struct Direction {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    plan: Plan,
    stalled: watch::Receiver<bool>,
    passed: u64,
}

impl Direction {
    /// Until the end of this direction; an error ends the other one, too.
    async fn run(&mut self) -> Result<(), Cut> {
        let mut sizes = self.plan.pieces.clone().into_iter().cycle();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let _ = self.stalled.wait_for(|stalled| !stalled).await;
            let wanted = sizes.next().unwrap_or(buffer.len()).clamp(1, buffer.len());
            let limit = self.plan.cut.map_or(wanted as u64, |(at, _)| (at - self.passed).min(wanted as u64));
            if let (0, Some((_, cut))) = (limit, self.plan.cut) {
                return Err(cut);
            }
            let read = match self.from.read(&mut buffer[..limit as usize]).await {
                Ok(0) => return self.to.shutdown().await.map_err(|_| Cut::Fin),
                Ok(read) => read,
                Err(_) => return Err(Cut::Reset),
            };
            self.spoil(&mut buffer[..read]);
            self.hold_back(read).await;
            self.to.write_all(&buffer[..read]).await.map_err(|_| Cut::Reset)?;
            self.passed += read as u64;
        }
    }

    fn spoil(&self, piece: &mut [u8]) {
        let Some(bit) = self.plan.flip else { return };
        let at = (bit / 8).checked_sub(self.passed).and_then(|at| usize::try_from(at).ok());
        if let Some(byte) = at.and_then(|at| piece.get_mut(at)) {
            *byte ^= 1 << (bit % 8);
        }
    }

    async fn hold_back(&self, bytes: usize) {
        let mut wait = self.plan.delay;
        if self.plan.rate > 0 {
            wait += Duration::from_secs(1) * bytes as u32 / self.plan.rate;
        }
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}
