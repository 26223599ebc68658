//! Unix domain sockets: paths, abstract names, and what happens to the files.
//!
//! A bind never deletes a file that is not a socket, and never takes a path from a living listener. A socket that
//! nobody listens on is what a killed process leaves; it is replaced. A listener removes its own file when it goes,
//! unless somebody has put another one there. There is no lock file: two programs that replace the same dead socket
//! within the same microseconds may still meet, and the later one wins.
//!
//! Permissions: `ipc_mode` is set on the socket before its file exists (Linux lets the file start with it) and on
//! the file afterwards. Elsewhere the umask alone guards the moment between; put the file in a private directory.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

use super::{bind_error, set_buffers};
use crate::endpoint::{Endpoint, IpcAddress};
use crate::error::BindError;
use crate::options::TransportOptions;

/// Sockets of this process look at a taken path one after the other.
static TAKEOVER: Mutex<()> = Mutex::const_new(());
/// A listener is bound for an instant before it listens, and looks dead then: look twice.
const SECOND_LOOK: Duration = Duration::from_millis(10);
/// Each try sees a file that was gone or new at the next step; nobody has bad luck that often.
const TRIES: usize = 4;
/// What the kernel's buffer has at least, unless `send_buffer` says otherwise; Linux gives twice what is asked for, of
/// what it allows (208 KiB as it comes). It tells a writer of room only when three quarters are free
/// again: its own 208 KiB hold three batches, and then both sides take turns in waiting.
const SEND_BUFFER: usize = 256 * 1024;

pub(super) async fn connect(address: &IpcAddress, options: &TransportOptions) -> io::Result<UnixStream> {
    let stream = match address {
        IpcAddress::Path(path) => UnixStream::connect(path).await,
        // tokio reads a leading NUL as the abstract namespace where there is one.
        IpcAddress::Abstract(name) => {
            abstract_names()?;
            UnixStream::connect(format!("\0{name}")).await
        }
        IpcAddress::Temporary => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    let stream = stream.map_err(|e| match e.kind() {
        // Not "try this call again when ready", which is what the kind says elsewhere.
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "the listener's backlog is full"),
        _ => e,
    })?;
    set_stream_buffers(&SockRef::from(&stream), options)?;
    Ok(stream)
}

#[derive(Debug)]
pub(super) struct Listener {
    /// First, hence dropped first: while the socket is open its inode number stays its own.
    _file: Option<OwnFile>,
    listener: UnixListener,
    options: TransportOptions,
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept().await?;
        // Where this fails the peer has left, and reading will say so.
        let _ = set_stream_buffers(&SockRef::from(&stream), &self.options);
        Ok(stream)
    }
}

pub(super) async fn bind(
    endpoint: &Endpoint,
    address: &IpcAddress,
    options: &TransportOptions,
) -> Result<(Listener, Endpoint), BindError> {
    let (listener, file, endpoint) = match address {
        IpcAddress::Abstract(name) => {
            abstract_names().map_err(BindError::Io)?;
            let path = PathBuf::from(format!("\0{name}"));
            let listener = listen(&path, options).map_err(|e| bind_error(endpoint, e))?;
            (listener, None, endpoint.clone())
        }
        IpcAddress::Path(path) => {
            let (listener, file) = bind_path(endpoint, Path::new(path), None, options).await?;
            (listener, Some(file), endpoint.clone())
        }
        IpcAddress::Temporary => {
            let directory = TemporaryDirectory::new().map_err(BindError::Io)?;
            let path = directory.path.join("socket");
            let endpoint: Endpoint = format!("ipc://{}", path.display()).parse()?;
            let (listener, file) = bind_path(&endpoint, &path, Some(directory), options).await?;
            (listener, Some(file), endpoint)
        }
    };
    Ok((Listener { _file: file, listener, options: options.clone() }, endpoint))
}

async fn bind_path(
    endpoint: &Endpoint,
    path: &Path,
    directory: Option<TemporaryDirectory>,
    options: &TransportOptions,
) -> Result<(UnixListener, OwnFile), BindError> {
    let listener = match listen(path, options) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => take_over(endpoint, path, options).await?,
        other => other.map_err(|e| explain(endpoint, path, e))?,
    };
    let file = OwnFile::new(path, directory).map_err(BindError::Io)?;
    if let Some(mode) = options.ipc_mode {
        set_mode(path, mode).map_err(BindError::Io)?;
    }
    Ok((listener, file))
}

/// Something is at the path. Replaces it if it is a dead socket, else says what it is.
async fn take_over(endpoint: &Endpoint, path: &Path, options: &TransportOptions) -> Result<UnixListener, BindError> {
    let _turn = TAKEOVER.lock().await;
    for _ in 0..TRIES {
        if let Some(found) = look_at(endpoint, path)? {
            tokio::time::sleep(SECOND_LOOK).await;
            if look_at(endpoint, path)? != Some(found) {
                continue;
            }
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(explain(endpoint, path, e)),
                _ => {}
            }
        }
        match listen(path, options) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            other => return other.map_err(|e| explain(endpoint, path, e)),
        }
    }
    Err(BindError::AddrInUse(endpoint.to_string()))
}

/// The dead socket at the path, or `None` when nothing is there. Anything else stays, and is the error.
fn look_at(endpoint: &Endpoint, path: &Path) -> Result<Option<Identity>, BindError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(explain(endpoint, path, e)),
    };
    let kind = found.file_type();
    if !kind.is_socket() {
        let what = match kind {
            kind if kind.is_symlink() => "symbolic link",
            kind if kind.is_dir() => "directory",
            _ => "file",
        };
        return Err(BindError::AddrInUse(format!("{endpoint} (a {what} that is no socket, and stays)")));
    }
    match knock(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(Some(Identity::of(&found))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(BindError::Permission(endpoint.to_string())),
        // It answers, it has no room for now, or it is a socket of another kind: it lives.
        _ => Err(BindError::AddrInUse(endpoint.to_string())),
    }
}

fn set_stream_buffers(socket: &SockRef<'_>, options: &TransportOptions) -> io::Result<()> {
    if options.send_buffer.is_none() && socket.send_buffer_size().is_ok_and(|size| size < SEND_BUFFER) {
        // A system that allows less gives what it allows, or refuses: only speed hangs on it.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
    }
    set_buffers(socket, options)
}

/// Connects without waiting: a listener with a full backlog must not hold us.
fn knock(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// Binds and listens; a leading NUL means the abstract namespace.
fn listen(path: &Path, options: &TransportOptions) -> io::Result<UnixListener> {
    let mut socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    set_buffers(&SockRef::from(&socket), options)?;
    if let Some(mode) = options.ipc_mode {
        let file = fs::File::from(OwnedFd::from(socket));
        // Refused outside Linux; the file's own mode is set after the bind.
        let _ = file.set_permissions(Permissions::from_mode(mode & 0o7777));
        socket = Socket::from(OwnedFd::from(file));
    }
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let mode = mode & 0o7777;
    // Mostly it is right already, and changing it by name could meet another file.
    if fs::symlink_metadata(path)?.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn explain(endpoint: &Endpoint, path: &Path, error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let why = format!("{endpoint}: there is no directory {}; create it first", parent.display());
            BindError::Io(io::Error::new(error.kind(), why))
        }
        _ => bind_error(endpoint, error),
    }
}

fn abstract_names() -> io::Result<()> {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        return Ok(());
    }
    Err(super::unsupported("abstract names (ipc://@NAME) exist on Linux only; use ipc://PATH"))
}

/// Which file it is, whatever its name. The time tells a new file from an old one that had the same number.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &Metadata) -> Identity {
        Identity { device: file.dev(), inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) }
    }
}

/// The file that our bind made; removed when dropped, unless it is another one by then.
#[derive(Debug)]
struct OwnFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Dropped after the file is gone.
    _directory: Option<TemporaryDirectory>,
}

impl OwnFile {
    fn new(path: &Path, directory: Option<TemporaryDirectory>) -> io::Result<OwnFile> {
        let file = fs::symlink_metadata(path)?;
        // The process may change its working directory later.
        let path = std::path::absolute(path)?;
        Ok(OwnFile { path, device: file.dev(), inode: file.ino(), _directory: directory })
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let same = |file: Metadata| (file.dev(), file.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(same) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// For `ipc://*`: only this user may enter. Removed when dropped, if it is empty.
#[derive(Debug)]
struct TemporaryDirectory {
    path: PathBuf,
}

impl TemporaryDirectory {
    fn new() -> io::Result<TemporaryDirectory> {
        let parent = std::env::temp_dir();
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TRIES {
            // Hashed with random keys, new ones each time: nobody can guess the name and be there first.
            let path = parent.join(format!("ginnel-{:016x}", RandomState::new().hash_one(std::process::id())));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(TemporaryDirectory { path }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => last = e,
                Err(e) => {
                    let why = format!("cannot create a directory in {}: {e}", parent.display());
                    return Err(io::Error::new(e.kind(), why));
                }
            }
        }
        Err(last)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net as std_net;

    use super::super::tests::{bound, echo, options, refused};
    use super::super::{self as transport};
    use super::*;

    /// A directory of one test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Scratch {
            let directory = TemporaryDirectory::new().unwrap();
            let path = directory.path.clone();
            // Ours removes what is inside as well.
            std::mem::forget(directory);
            Scratch(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn endpoint(&self, name: &str) -> String {
            format!("ipc://{}", self.path(name).display())
        }

        /// What a killed process leaves.
        fn dead_socket(&self, name: &str) -> PathBuf {
            drop(std_net::UnixListener::bind(self.path(name)).unwrap());
            self.path(name)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_path_listens_and_its_file_goes_with_the_listener() {
        let scratch = Scratch::new();
        let text = scratch.endpoint("socket");
        let listener = bound(&text).await;
        assert_eq!(listener.endpoint().to_string(), text);
        echo(&listener).await;
        drop(listener);
        assert!(!scratch.path("socket").exists());
        echo(&bound(&text).await).await;
    }

    #[tokio::test]
    async fn a_file_that_replaced_ours_stays() {
        let scratch = Scratch::new();
        let listener = bound(&scratch.endpoint("socket")).await;
        fs::remove_file(scratch.path("socket")).unwrap();
        let other = bound(&scratch.endpoint("socket")).await;
        drop(listener);
        assert!(scratch.path("socket").exists());
        echo(&other).await;
        fs::remove_file(scratch.path("socket")).unwrap();
        fs::write(scratch.path("socket"), "precious").unwrap();
        drop(other);
        assert_eq!(fs::read(scratch.path("socket")).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn n09_a_dead_socket_is_replaced() {
        let scratch = Scratch::new();
        scratch.dead_socket("socket");
        echo(&bound(&scratch.endpoint("socket")).await).await;
        assert!(!scratch.path("socket").exists());
    }

    #[tokio::test]
    async fn n09_a_living_socket_is_never_stolen() {
        let scratch = Scratch::new();
        let text = scratch.endpoint("socket");
        let listener = bound(&text).await;
        assert!(matches!(refused(&text).await, BindError::AddrInUse(said) if said == text));
        drop(listener.accept().await.unwrap());
        echo(&listener).await;

        let datagram = std_net::UnixDatagram::bind(scratch.path("datagram")).unwrap();
        assert!(matches!(refused(&scratch.endpoint("datagram")).await, BindError::AddrInUse(_)));
        assert!(scratch.path("datagram").exists());
        drop(datagram);
    }

    /// Nobody may wait for a listener that accepts nobody.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn n09_a_busy_socket_is_living() {
        let scratch = Scratch::new();
        let options = TransportOptions { backlog: 1, ..options() };
        let endpoint: Endpoint = scratch.endpoint("socket").parse().unwrap();
        let listener = transport::bind(&endpoint, &options).await.unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match transport::connect(&endpoint, &options).await {
                Ok(stream) => waiting.push(stream),
                Err(e) => break e,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::ResourceBusy);
        assert!(matches!(refused(&endpoint.to_string()).await, BindError::AddrInUse(_)));
        drop(listener);
    }

    #[tokio::test]
    async fn n09_what_is_no_socket_is_left_alone() {
        let scratch = Scratch::new();
        fs::write(scratch.path("file"), "precious").unwrap();
        fs::create_dir(scratch.path("directory")).unwrap();
        let dead = scratch.dead_socket("dead");
        std::os::unix::fs::symlink(&dead, scratch.path("link")).unwrap();
        std::os::unix::fs::symlink(scratch.path("nothing"), scratch.path("dangling")).unwrap();
        for (name, what) in
            [("file", "file"), ("directory", "directory"), ("link", "symbolic link"), ("dangling", "symbolic link")]
        {
            let said = refused(&scratch.endpoint(name)).await;
            assert!(matches!(&said, BindError::AddrInUse(text) if text.contains(what)), "{said}");
        }
        assert_eq!(fs::read(scratch.path("file")).unwrap(), b"precious");
        assert!(scratch.path("directory").is_dir());
        assert_eq!(fs::read_link(scratch.path("link")).unwrap(), dead);
        assert!(dead.exists() && !scratch.path("nothing").exists());
    }

    #[tokio::test]
    async fn many_who_replace_one_dead_socket_leave_one_listener() {
        let scratch = Scratch::new();
        scratch.dead_socket("socket");
        let endpoint: Endpoint = scratch.endpoint("socket").parse().unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let endpoint = endpoint.clone();
                tokio::spawn(async move { transport::bind(&endpoint, &options()).await })
            })
            .collect();
        let mut listeners = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(listener) => listeners.push(listener),
                Err(e) => assert!(matches!(e, BindError::AddrInUse(_)), "{e}"),
            }
        }
        assert_eq!(listeners.len(), 1);
        drop(listeners);
        assert!(!scratch.path("socket").exists());
    }

    #[tokio::test]
    async fn a_missing_directory_is_named() {
        let scratch = Scratch::new();
        let said = refused(&scratch.endpoint("missing/socket")).await.to_string();
        assert!(said.contains("there is no directory") && said.contains("missing; create it"), "{said}");
        fs::write(scratch.path("file"), "").unwrap();
        assert!(refused(&scratch.endpoint("file/socket")).await.to_string().contains("there is no directory"));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let scratch = Scratch::new();
        scratch.dead_socket("dead");
        for (name, kind) in [("dead", io::ErrorKind::ConnectionRefused), ("none", io::ErrorKind::NotFound)] {
            let endpoint = scratch.endpoint(name).parse().unwrap();
            assert_eq!(transport::connect(&endpoint, &options()).await.unwrap_err().kind(), kind);
        }
        assert!(scratch.path("dead").exists());
    }

    #[tokio::test]
    async fn n09_a_path_may_have_107_bytes() {
        let scratch = Scratch::new();
        let room = 107 - scratch.path("").as_os_str().len();
        // Systems other than Linux have room for fewer, and say so.
        if cfg!(target_os = "linux") {
            echo(&bound(&scratch.endpoint(&"p".repeat(room))).await).await;
        }
        for more in [1, 2] {
            scratch.endpoint(&"p".repeat(room + more)).parse::<Endpoint>().unwrap_err();
        }
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_fresh_path_is_private_and_goes_with_the_listener() {
        let (one, two) = (bound("ipc://*").await, bound("ipc://*").await);
        assert_ne!(one.endpoint(), two.endpoint());
        let path = PathBuf::from(one.endpoint().to_string().trim_start_matches("ipc://"));
        let parent = path.parent().unwrap();
        assert_eq!(fs::metadata(parent).unwrap().permissions().mode() & 0o777, 0o700);
        echo(&one).await;
        drop(one);
        assert!(!parent.exists());
    }

    #[tokio::test]
    async fn the_file_has_the_mode_that_was_asked_for() {
        let scratch = Scratch::new();
        for mode in [0o600, 0o666, 0o700] {
            let options = TransportOptions { ipc_mode: Some(mode), ..options() };
            let listener = transport::bind(&scratch.endpoint("socket").parse().unwrap(), &options).await.unwrap();
            assert_eq!(fs::metadata(scratch.path("socket")).unwrap().permissions().mode() & 0o7777, mode);
            echo(&listener).await;
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn abstract_names_have_no_file() {
        let unique = RandomState::new().hash_one(0);
        let text = format!("ipc://@ginnel-test-{unique:x}");
        let listener = bound(&text).await;
        assert!(matches!(refused(&text).await, BindError::AddrInUse(said) if said == text));
        echo(&listener).await;
        drop(listener);
        let longest = format!("ipc://@{}", format!("{unique:x}").repeat(20).get(..107).unwrap());
        echo(&bound(&longest).await).await;
    }

    #[tokio::test]
    async fn buffers_are_set() {
        let scratch = Scratch::new();
        let options = TransportOptions { send_buffer: Some(50_000), ..options() };
        let listener = transport::bind(&scratch.endpoint("socket").parse().unwrap(), &options).await.unwrap();
        let client = transport::connect(listener.endpoint(), &options).await.unwrap();
        for stream in [client, listener.accept().await.unwrap().0] {
            let transport::Stream::Unix(stream) = stream else { panic!("not a Unix domain socket") };
            assert!(SockRef::from(&stream).send_buffer_size().unwrap() >= 50_000);
        }
    }
}
