//! The thread behind blocking sockets: [`Context`].
//!
//! One thread with a runtime of its own; it ends by itself when nobody has a share in it any more. A socket has
//! one from its first bind or connect until it is gone *and* its linger is over, since the closing task holds
//! what holds the share.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::socket::Socket;

/// A thread that does the work in the background for any number of blocking sockets: connecting, reading, and
/// writing what their callers do not write themselves. Cheap to clone.
///
/// Nobody needs one: a socket without a context starts a thread of its own. Share one where there are many
/// sockets; a busy socket is better off alone. The thread ends when all of its sockets and all handles of the context
/// are gone and the sockets' linger is over.
///
/// ```
/// use ginnel::blocking::{Context, Pull, Push};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let context = Context::new()?;
/// let mut pull = Pull::builder().context(&context).bind("tcp://127.0.0.1:0")?;
/// let push = Push::builder().context(&context).connect(pull.local_endpoint())?;
/// push.send("through one thread")?;
/// assert_eq!(pull.recv()?[0].to_str()?, "through one thread");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Context {
    thread: Arc<IoThread>,
}

struct IoThread {
    runtime: Handle,
    /// Dropped with the last share, it ends the thread, which is never waited for.
    _stop: oneshot::Sender<()>,
}

impl Context {
    /// Starts a thread.
    ///
    /// # Errors
    /// What the operating system says: no more threads or descriptors.
    pub fn new() -> io::Result<Context> {
        Context::start().map(|(context, _)| context)
    }

    fn start() -> io::Result<(Context, JoinHandle<()>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        // The runtime ends in its own thread: nothing that a caller does can wait for it.
        let work = move || drop(runtime.block_on(stopped));
        let thread = thread::Builder::new().name("ginnel-io".to_owned()).spawn(work)?;
        Ok((Context { thread: Arc::new(IoThread { runtime: handle, _stop: stop }) }, thread))
    }

    /// Has the socket's tasks run here, unless they run somewhere already.
    pub(super) fn adopt(&self, socket: &Socket) {
        socket.core.shared.move_in(self.thread.runtime.clone(), self.thread.clone());
    }

    /// The runtime of a socket's tasks, in a new thread if there is none yet.
    pub(super) fn of(socket: &Socket) -> io::Result<Handle> {
        let shared = &socket.core.shared;
        if let Some(runtime) = shared.runtime() {
            return Ok(runtime.clone());
        }
        let context = Context::new()?;
        context.adopt(socket);
        // Another caller may have been faster: then this context ends right here.
        Ok(shared.runtime().unwrap_or(&context.thread.runtime).clone())
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Context")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocking::{Pull, Push};

    #[test]
    fn the_thread_ends_with_the_last_share() {
        let (context, thread) = Context::start().unwrap();
        let pull = Pull::builder().context(&context).bind("tcp://127.0.0.1:0").unwrap();
        let push = Push::builder().context(&context).connect(pull.local_endpoint()).unwrap();
        let another = push.clone();
        drop((context, pull, push));
        another.try_send("kept alive by one handle of one socket").unwrap();
        assert!(!thread.is_finished());
        another.shutdown_now();
        drop(another);
        thread.join().unwrap();
    }

    #[test]
    fn linger_goes_on_when_all_handles_are_gone() {
        let (context, thread) = Context::start().unwrap();
        let mut pull = Pull::bind("tcp://127.0.0.1:0").unwrap();
        let push = Push::builder().context(&context).connect(pull.local_endpoint()).unwrap();
        push.send("last words").unwrap();
        drop((context, push));
        assert_eq!(pull.recv().unwrap(), "last words".into());
        thread.join().unwrap();
    }

    #[test]
    fn a_socket_of_an_own_thread_shares_it_with_nobody() {
        let pull = Pull::bind("tcp://127.0.0.1:0").unwrap();
        let weak = {
            let push = Push::connect(pull.local_endpoint()).unwrap();
            let one = push.core.shared.runtime().unwrap().id();
            assert_ne!(one, pull.core.shared.runtime().unwrap().id());
            assert_eq!(Context::of(&push).unwrap().id(), one);
            Arc::downgrade(&push.core.shared)
        };
        // The closing task lets go of the socket last, and with it of the thread.
        while weak.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
