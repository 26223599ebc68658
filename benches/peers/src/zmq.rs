//! The few functions of libzmq's C interface that the yardstick needs, and safe owners around them.
//!
//! The only unsafe code of the bench package besides `getrusage`. Nothing here measures anything.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

#[repr(C, align(8))]
struct RawMsg([u8; 64]);

unsafe extern "C" {
    fn zmq_version(major: *mut c_int, minor: *mut c_int, patch: *mut c_int);
    fn zmq_errno() -> c_int;
    fn zmq_strerror(errno: c_int) -> *const c_char;
    fn zmq_ctx_new() -> *mut c_void;
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
}

pub const REQ: c_int = 3;
pub const REP: c_int = 4;
pub const PULL: c_int = 7;
pub const PUSH: c_int = 8;

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

impl Context {
    pub fn new() -> Context {
        // SAFETY: no arguments; null is checked.
        let context = unsafe { zmq_ctx_new() };
        assert!(!context.is_null(), "zmq_ctx_new");
        Context(context)
    }

    /// A socket with both high-water marks at `hwm` and an endless linger, so that `drop` waits for the last write.
    pub fn socket(&self, kind: c_int, hwm: usize) -> Socket<'_> {
        // SAFETY: the context is alive; null is checked.
        let socket = unsafe { zmq_socket(self.0, kind) };
        assert!(!socket.is_null(), "zmq_socket");
        let socket = Socket(socket, std::marker::PhantomData);
        let hwm = c_int::try_from(hwm).expect("HWM fits in an int");
        socket.set(SNDHWM, hwm);
        socket.set(RCVHWM, hwm);
        socket.set(LINGER, -1);
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

    /// Sends a copy of `body`.
    ///
    /// `zmq_msg_init_size` and one copy is libzmq's cheapest way for bodies that differ (`zmq_send` does the same
    /// inside). `zmq_send_const` wants bytes that never change, and ours carry a number.
    #[inline]
    pub fn send(&self, body: &[u8]) {
        let mut msg = RawMsg([0; 64]);
        // SAFETY: init_size gives `body.len()` writable bytes; send takes the message over.
        unsafe {
            check("zmq_msg_init_size", zmq_msg_init_size(&mut msg, body.len()));
            std::ptr::copy_nonoverlapping(body.as_ptr(), zmq_msg_data(&mut msg).cast::<u8>(), body.len());
            check("zmq_msg_send", zmq_msg_send(&mut msg, self.0, 0));
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
