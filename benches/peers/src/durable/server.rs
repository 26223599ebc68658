//! A rival's server: a process of ours on a free port, ended by its own handle.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Server {
    child: Child,
    pub endpoint: String,
}

impl Server {
    /// Starts `command` for this port of the loopback address, and waits until it listens. Its output goes to a file
    /// in `dir`.
    pub fn start(dir: &Path, port: u16, command: &mut Command) -> Server {
        let log = std::fs::File::create(dir.join("server.log")).expect("create the server's log");
        let errors = log.try_clone().expect("clone a handle");
        let child = command
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("start {:?}: {error}; is it installed?", command.get_program()));
        let mut server = Server { child, endpoint: format!("127.0.0.1:{port}") };
        let patience = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&server.endpoint).is_err() {
            let ended = server.child.try_wait().expect("look after the server");
            assert!(ended.is_none() && Instant::now() < patience, "the server does not listen: see {}", dir.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// User and system time of the server so far.
    pub fn cpu_us(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // Behind the name in parentheses, which may hold anything: state is the first, user time the twelfth.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks: f64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        // SAFETY: sysconf has no memory effects.
        ticks * 1e6 / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is thrown away; nothing needs an orderly end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("an address").port()
}

/// What a program says of its version, and where it was found: `variable` names another than that on the path.
pub fn program(variable: &str, name: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| name.to_owned())
}

pub fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|error| format!("{program}: {error}"))
}
