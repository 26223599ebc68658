//! The few functions of libzmq's C interface that the yardstick needs, and safe owners around them.
//!
//! The only unsafe code of the bench package besides `getrusage`. Nothing here measures anything.

use crate::workload::RECONNECT;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_short, c_void};

#[repr(C, align(8))]
struct RawMsg([u8; 64]);

#[repr(C)]
struct PollItem {
    socket: *mut c_void,
    fd: c_int,
    events: c_short,
    revents: c_short,
}

unsafe extern "C" {
    fn zmq_version(major: *mut c_int, minor: *mut c_int, patch: *mut c_int);
    fn zmq_errno() -> c_int;
    fn zmq_strerror(errno: c_int) -> *const c_char;
    fn zmq_ctx_new() -> *mut c_void;
    fn zmq_ctx_set(context: *mut c_void, option: c_int, value: c_int) -> c_int;
    fn zmq_ctx_term(context: *mut c_void) -> c_int;
    fn zmq_socket(context: *mut c_void, kind: c_int) -> *mut c_void;
    fn zmq_close(socket: *mut c_void) -> c_int;
    fn zmq_setsockopt(socket: *mut c_void, option: c_int, value: *const c_void, len: usize) -> c_int;
    fn zmq_getsockopt(socket: *mut c_void, option: c_int, value: *mut c_void, len: *mut usize) -> c_int;
    fn zmq_bind(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    fn zmq_connect(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    fn zmq_msg_init(msg: *mut RawMsg) -> c_int;
    fn zmq_msg_init_size(msg: *mut RawMsg, size: usize) -> c_int;
    fn zmq_msg_data(msg: *mut RawMsg) -> *mut c_void;
    fn zmq_msg_size(msg: *const RawMsg) -> usize;
    fn zmq_msg_send(msg: *mut RawMsg, socket: *mut c_void, flags: c_int) -> c_int;
    fn zmq_msg_recv(msg: *mut RawMsg, socket: *mut c_void, flags: c_int) -> c_int;
    fn zmq_msg_close(msg: *mut RawMsg) -> c_int;
    fn zmq_poll(items: *mut PollItem, count: c_int, timeout: c_long) -> c_int;
}

pub const PUB: c_int = 1;
pub const SUB: c_int = 2;
pub const REQ: c_int = 3;
pub const REP: c_int = 4;
pub const DEALER: c_int = 5;
pub const ROUTER: c_int = 6;
pub const PULL: c_int = 7;
pub const PUSH: c_int = 8;

const DONTWAIT: c_int = 1;
const SNDMORE: c_int = 2;
const POLLIN: c_short = 1;
const MAX_SOCKETS: c_int = 2;

const SUBSCRIBE: c_int = 6;
const RECONNECT_IVL: c_int = 18;
const BACKLOG: c_int = 19;
const XPUB_NODROP: c_int = 69;

const LAST_ENDPOINT: c_int = 32;
const LINGER: c_int = 17;
const SNDHWM: c_int = 23;
const RCVHWM: c_int = 24;

/// `4.3.5`.
pub fn version() -> String {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: three valid places to write to.
    unsafe { zmq_version(&mut major, &mut minor, &mut patch) };
    format!("{major}.{minor}.{patch}")
}

fn check(what: &str, code: c_int) -> c_int {
    if code >= 0 {
        return code;
    }
    // SAFETY: zmq_strerror returns a static string.
    let text = unsafe { CStr::from_ptr(zmq_strerror(zmq_errno())) };
    panic!("{what}: {}", text.to_string_lossy());
}

/// One libzmq context with its default of one I/O thread.
pub struct Context(*mut c_void);

// SAFETY: a libzmq context may be used from any thread, which is all we do with it: make sockets.
unsafe impl Sync for Context {}

impl Context {
    pub fn new() -> Context {
        // SAFETY: no arguments; null is checked.
        let context = unsafe { zmq_ctx_new() };
        assert!(!context.is_null(), "zmq_ctx_new");
        Context(context)
    }

    /// One that allows so many sockets; the default is 1,023.
    pub fn with_sockets(count: usize) -> Context {
        let context = Context::new();
        let count = c_int::try_from(count).expect("fits in an int");
        // SAFETY: the context is alive.
        check("zmq_ctx_set", unsafe { zmq_ctx_set(context.0, MAX_SOCKETS, count) });
        context
    }

    /// A socket with both high-water marks at `hwm`, an endless linger, so that `drop` waits for the last write,
    /// the reconnect interval of all columns, and a backlog as the others have it (its default is 100).
    pub fn socket(&self, kind: c_int, hwm: usize) -> Socket<'_> {
        // SAFETY: the context is alive; null is checked.
        let socket = unsafe { zmq_socket(self.0, kind) };
        assert!(!socket.is_null(), "zmq_socket");
        let socket = Socket(socket, std::marker::PhantomData);
        let hwm = c_int::try_from(hwm).expect("HWM fits in an int");
        socket.set(SNDHWM, hwm);
        socket.set(RCVHWM, hwm);
        socket.set(LINGER, -1);
        socket.set(BACKLOG, 1024);
        socket.set(RECONNECT_IVL, c_int::try_from(RECONNECT.as_millis()).expect("fits in an int"));
        socket
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: every socket borrows the context, so all are closed.
        unsafe { zmq_ctx_term(self.0) };
    }
}

/// One socket, used from one thread.
pub struct Socket<'a>(*mut c_void, std::marker::PhantomData<&'a Context>);

impl Socket<'_> {
    fn set(&self, option: c_int, value: c_int) {
        // SAFETY: the pointer is to an int of that size.
        let code = unsafe { zmq_setsockopt(self.0, option, (&raw const value).cast(), size_of::<c_int>()) };
        check("zmq_setsockopt", code);
    }

    pub fn bind(&self, endpoint: &str) -> String {
        let text = CString::new(endpoint).expect("no NUL");
        // SAFETY: a NUL-terminated string.
        check("zmq_bind", unsafe { zmq_bind(self.0, text.as_ptr()) });
        let mut buffer = [0_u8; 256];
        let mut len = buffer.len();
        // SAFETY: the buffer has `len` bytes.
        check("zmq_getsockopt", unsafe { zmq_getsockopt(self.0, LAST_ENDPOINT, buffer.as_mut_ptr().cast(), &mut len) });
        let text = CStr::from_bytes_until_nul(&buffer).expect("libzmq ends it with NUL");
        text.to_string_lossy().into_owned()
    }

    pub fn connect(&self, endpoint: &str) {
        let text = CString::new(endpoint).expect("no NUL");
        // SAFETY: a NUL-terminated string.
        check("zmq_connect", unsafe { zmq_connect(self.0, text.as_ptr()) });
    }

    /// What is not sent may be thrown away when it is closed.
    pub fn no_linger(&self) {
        self.set(LINGER, 0);
    }

    /// A publisher waits for slow subscribers instead of dropping.
    pub fn no_drop(&self) {
        self.set(XPUB_NODROP, 1);
    }

    pub fn subscribe(&self, prefix: &[u8]) {
        // SAFETY: the pointer is to that many bytes.
        let code = unsafe { zmq_setsockopt(self.0, SUBSCRIBE, prefix.as_ptr().cast(), prefix.len()) };
        check("zmq_setsockopt", code);
    }

    /// Sends a copy of `body`.
    ///
    /// `zmq_msg_init_size` and one copy is libzmq's cheapest way for bodies that differ (`zmq_send` does the same
    /// inside). `zmq_send_const` wants bytes that never change, and ours carry a number.
    #[inline]
    pub fn send(&self, body: &[u8]) {
        self.send_with(body, 0);
    }

    /// Sends a frame that is not the last of its message.
    #[inline]
    pub fn send_more(&self, frame: &[u8]) {
        self.send_with(frame, SNDMORE);
    }

    /// Sends if that needs no waiting.
    pub fn try_send(&self, body: &[u8]) -> bool {
        let mut msg = RawMsg([0; 64]);
        // SAFETY: as in `send_with`; a message that was not taken is closed here.
        unsafe {
            check("zmq_msg_init_size", zmq_msg_init_size(&mut msg, body.len()));
            std::ptr::copy_nonoverlapping(body.as_ptr(), zmq_msg_data(&mut msg).cast::<u8>(), body.len());
            let sent = zmq_msg_send(&mut msg, self.0, DONTWAIT) >= 0;
            if !sent {
                zmq_msg_close(&mut msg);
            }
            sent
        }
    }

    #[inline]
    fn send_with(&self, body: &[u8], flags: c_int) {
        let mut msg = RawMsg([0; 64]);
        // SAFETY: init_size gives `body.len()` writable bytes; send takes the message over.
        unsafe {
            check("zmq_msg_init_size", zmq_msg_init_size(&mut msg, body.len()));
            std::ptr::copy_nonoverlapping(body.as_ptr(), zmq_msg_data(&mut msg).cast::<u8>(), body.len());
            check("zmq_msg_send", zmq_msg_send(&mut msg, self.0, flags));
        }
    }

    /// Parks until a message is there.
    #[inline]
    pub fn recv<'m>(&self, msg: &'m mut Msg) -> &'m [u8] {
        // SAFETY: the message is initialised; recv frees its old content.
        unsafe {
            check("zmq_msg_recv", zmq_msg_recv(&mut msg.0, self.0, 0));
            let size = zmq_msg_size(&msg.0);
            std::slice::from_raw_parts(zmq_msg_data(&mut msg.0).cast(), size)
        }
    }
}

impl Socket<'_> {
    /// A message that is there already.
    #[inline]
    pub fn try_recv<'m>(&self, msg: &'m mut Msg) -> Option<&'m [u8]> {
        // SAFETY: as in `recv`.
        unsafe {
            if zmq_msg_recv(&mut msg.0, self.0, DONTWAIT) < 0 {
                return None;
            }
            let size = zmq_msg_size(&msg.0);
            Some(std::slice::from_raw_parts(zmq_msg_data(&mut msg.0).cast(), size))
        }
    }
}

/// Several sockets of one thread that are waited for together.
pub struct Poll(Vec<PollItem>);

impl Poll {
    pub fn new(sockets: &[Socket<'_>]) -> Poll {
        let item = |socket: &Socket<'_>| PollItem { socket: socket.0, fd: 0, events: POLLIN, revents: 0 };
        Poll(sockets.iter().map(item).collect())
    }

    /// Parks until one of them has a message; which ones do.
    ///
    /// The sockets of `new` must still be open.
    pub fn wait(&mut self) -> impl Iterator<Item = usize> + '_ {
        let count = c_int::try_from(self.0.len()).expect("fits in an int");
        // SAFETY: that many items; an interrupted wait is like one without a message.
        unsafe { zmq_poll(self.0.as_mut_ptr(), count, -1) };
        self.0.iter().enumerate().filter(|(_, item)| item.revents != 0).map(|(index, _)| index)
    }
}

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        // SAFETY: closed once.
        unsafe { zmq_close(self.0) };
    }
}

/// A message to receive into, used again and again.
pub struct Msg(RawMsg);

impl Msg {
    pub fn new() -> Msg {
        let mut raw = RawMsg([0; 64]);
        // SAFETY: 64 bytes, as zmq.h declares.
        check("zmq_msg_init", unsafe { zmq_msg_init(&mut raw) });
        Msg(raw)
    }
}

impl Drop for Msg {
    fn drop(&mut self) {
        // SAFETY: initialised once, closed once.
        unsafe { zmq_msg_close(&mut self.0) };
    }
}
