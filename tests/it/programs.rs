//! Programs of other makers that tests start, with the configurations that several tests share.
//!
//! In a configuration `DIR` stands for the program's folder, `LISTEN` for the address and port to listen on, `ADDRESS` and
//! `PORT` for its parts.

use std::{
    fs::{self, File, Permissions},
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Squid, one process that keeps its files to itself; the access rules are still to come.
pub(crate) const SQUID: &str = "http_port LISTEN\npid_filename none\ncache_log DIR/cache.log\naccess_log none\n\
    cache deny all\ncoredump_dir DIR\nshutdown_lifetime 0 seconds\nvisible_hostname proxy.example\npinger_enable off\n";

/// Tinyproxy; whom it allows is still to come.
pub(crate) const TINYPROXY: &str = "Port PORT\nListen ADDRESS\nTimeout 60\nMaxClients 20\nLogLevel Error\n\
    LogFile \"DIR/log\"\n";

/// haproxy's general sections, with the timeouts of Debian's package; what it serves is still to come.
pub(crate) const HAPROXY: &str =
    "global\n maxconn 100\ndefaults\n timeout connect 5s\n timeout client 50s\n timeout server 50s\n";

/// nginx as what it is, a web server. One process, so that nothing outlives the test that ends it.
pub(crate) const NGINX: &str = "daemon off;\nmaster_process off;\npid DIR/pid;\nerror_log DIR/error.log;\nevents {}\n\
    http {\n access_log off;\n client_body_temp_path DIR/b;\n proxy_temp_path DIR/p;\n fastcgi_temp_path DIR/f;\n \
    uwsgi_temp_path DIR/u;\n scgi_temp_path DIR/s;\n server { listen LISTEN; return 200 hello; }\n}\n";

/// A program that ends with the test.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    name: String,
    output: PathBuf,
}

impl Program {
    /// Starts it; what it says goes into the file `output`.
    pub(crate) fn start(mut command: Command, output: &Path) -> Self {
        let log = File::create(output).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, name: format!("{command:?}"), output: output.to_owned() }
    }

    /// Waits until it does its work, and fails when it ends before.
    pub(crate) fn wait_until(&mut self, works: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !works() {
            let output = || fs::read_to_string(&self.output).unwrap_or_default();
            assert!(Instant::now() < end, "{} does not get ready: {}", self.name, output());
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status}: {}", self.name, output());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that a program may use after it has dropped its privileges.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    folder
}

/// A configuration, or an argument, with its placeholders replaced.
pub(crate) fn fill(text: &str, listen: &str, folder: &Path) -> String {
    let (address, port) = listen.rsplit_once(':').unwrap();
    text.replace("LISTEN", listen)
        .replace("ADDRESS", address)
        .replace("PORT", port)
        .replace("DIR", &folder.display().to_string())
}

/// Answers every question with NXDOMAIN, until something comes that is none.
pub(crate) fn know_no_name(socket: &UdpSocket) {
    const HEADER: usize = 12;
    socket.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
    let mut buffer = [0; 1024];
    while let Ok((length @ HEADER.., from)) = socket.recv_from(&mut buffer) {
        // A response (QR), and its code.
        buffer[2] |= 0x80;
        buffer[3] = 0x83;
        let _ = socket.send_to(&buffer[..length], from);
    }
}
