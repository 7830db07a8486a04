//! What several benches need: programs of this machine, started with a configuration and ended with their handle.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

/// A program that is installed here.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}

/// The middle one of some figures; of an even number the upper one.
pub(crate) fn median<T>(of: &[T], figure: impl Fn(&T) -> f64) -> Option<f64> {
    let mut values: Vec<f64> = of.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A folder for configurations, open to servers that give up their privileges.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("permissions");
    folder
}

/// A server that ends with its handle.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// Where it listens on 127.0.0.1.
    pub(crate) port: u16,
}

impl Server {
    /// Starts a server whose configuration is in `folder`, and waits until it listens.
    pub(crate) fn start(command: &mut Command, port: u16) -> Self {
        let server = Self { child: command.spawn().expect("the server runs"), port };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(server.address()).is_err() {
            assert!(Instant::now() < end, "nobody listens on port {port}: {command:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        server
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Asks a process to end, and waits until it has.
pub(crate) fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
    let _ = child.wait();
}

/// squid, which tunnels to this port only; `more` are further lines of its configuration.
pub(crate) fn squid(folder: &Path, origin: u16, more: &str) -> Option<Server> {
    let port = free_port();
    let text = format!(
        "http_port 127.0.0.1:{port}\npid_filename none\naccess_log none\ncache_log DIR/squid.log\ncache deny all\n\
         coredump_dir DIR\nvisible_hostname proxy.example\npinger_enable off\nmax_filedescriptors 16384\n\
         acl SSL_ports port {origin}\nhttp_access deny CONNECT !SSL_ports\nhttp_access allow all\n{more}\n"
    );
    let path = configuration(folder, "squid.conf", &text);
    Some(Server::start(Command::new(program("squid")?).arg("-N").arg("-f").arg(path), port))
}

#[allow(dead_code, reason = "not every bench compares with it")]
/// nginx with these lines in its `http` block; it listens on `port`.
pub(crate) fn nginx(folder: &Path, port: u16, http: &str) -> Option<Server> {
    let text = format!(
        "daemon off;\npid DIR/pid;\nerror_log DIR/error.log;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n\
         events {{ worker_connections 8000; }}\nhttp {{\naccess_log off;\nclient_body_temp_path DIR/b;\n\
         proxy_temp_path DIR/p;\nfastcgi_temp_path DIR/f;\nuwsgi_temp_path DIR/u;\nscgi_temp_path DIR/s;\n{http}\n}}\n"
    );
    let path = configuration(folder, "nginx.conf", &text);
    Some(Server::start(Command::new(program("nginx")?).arg("-c").arg(path).arg("-p").arg(folder), port))
}

/// Writes a configuration in which `DIR` stands for the folder.
pub(crate) fn configuration(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text.replace("DIR", &folder.display().to_string())).expect("the configuration");
    path
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
