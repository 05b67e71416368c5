//! A real PostgreSQL for tests: own cluster in a temporary folder, own port on loopback, gone when the test is.
//!
//! Tests share a server through a `static`, and a `static` is never dropped; test processes are also killed. So a
//! shell stands by that waits for the end of its input, which only this process holds open, and then stops the server
//! and removes the folder.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What the cluster runs with. A test needs no power-cut safety, and a fixed time to answer.
const SETTINGS: &str = "-c fsync=off -c full_page_writes=off -c shared_buffers=16MB -c max_connections=200 \
                        -c autovacuum=off -c listen_addresses=127.0.0.1";

/// Stops the server `$1` keeps in `$2`, once nobody holds the input any more.
const WATCH: &str = r#"cat >/dev/null; "$1/pg_ctl" -D "$2/data" -m immediate stop; rm -rf "$2""#;

/// A running server.
#[derive(Debug)]
pub struct Server {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    made: AtomicU32,
    watch: Child,
}

impl Server {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// When there is no PostgreSQL on the machine, with how to install it, or when it does not start.
    #[must_use]
    pub fn start() -> Self {
        let binaries = binaries();
        let folder =
            run(unprivileged("mktemp").arg("-d").arg(std::env::temp_dir().join("bartizan-postgres-XXXXXX")));
        let folder = PathBuf::from(String::from_utf8_lossy(&folder.stdout).trim());
        // From here on everything is cleared away, whatever happens.
        let watch = unprivileged("sh")
            .args(["-c", WATCH, "watch"])
            .args([&binaries, &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run `sh`: {error}"));
        run(unprivileged(binaries.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(folder.join("data")));
        let mut server = Self { binaries, folder, port: 0, made: AtomicU32::new(0), watch };
        // Another process may take the free port before the server does.
        for attempt in 1.. {
            server.port = free_port();
            match server.try_start() {
                Ok(()) => break,
                Err(why) => assert!(attempt < 5, "PostgreSQL does not start: {why}"),
            }
        }
        server
    }

    /// Starts the stopped server again, on the same port and data.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&self) {
        self.try_start().unwrap_or_else(|why| panic!("PostgreSQL does not start again: {why}"));
    }

    /// Stops the server at once, as a crash would.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&self) {
        run(self.control().args(["-m", "immediate", "stop"]));
    }

    /// Sends a signal, such as `STOP`, to one of the server's processes.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal(&self, process: &str, signal: &str) {
        run(unprivileged("kill").args(["-s", signal, process]));
    }

    /// Adds lines to the server's configuration; they hold from the next start.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    pub fn configure(&self, lines: &str) {
        let append = r#"printf '%s\n' "$2" >> "$1/data/postgresql.conf""#;
        run(unprivileged("sh").args(["-c", append, "configure"]).arg(&self.folder).arg(lines));
    }

    /// Puts a file that the server alone may read into its folder, and says where it is.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.join(name);
        let write = r#"umask 077; printf '%s' "$2" > "$1""#;
        run(unprivileged("sh").args(["-c", write, "write"]).arg(&path).arg(content));
        path
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database and gives its URL.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn create_database(&self) -> String {
        let name = format!("test{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("create database {name}"));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Makes an empty schema in a shared database and gives the URL that leads into it: much cheaper than a database.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn create_schema(&self) -> String {
        let name = format!("test{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("create schema {name}"));
        let port = self.port;
        format!("postgres://postgres@127.0.0.1:{port}/postgres?options=-c%20search_path%3D{name}")
    }

    /// Runs `sql` as the superuser and gives what it prints, without alignment or headings.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let output = run(Command::new(self.binaries.join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-p",
            ])
            .args([&port, "-d", database, "-c", sql]));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn control(&self) -> Command {
        let mut command = unprivileged(self.binaries.join("pg_ctl"));
        command.arg("-D").arg(self.folder.join("data"));
        command
    }

    fn try_start(&self) -> Result<(), String> {
        let options = format!("{SETTINGS} -p {} -k {}", self.port, self.folder.display());
        let mut command = self.control();
        command.args(["-w", "-o", &options, "-l"]).arg(self.folder.join("log")).arg("start");
        // The server would hold an inherited output open and keep whoever reads the test's waiting.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if matches!(&status, Ok(status) if status.success()) {
            return Ok(());
        }
        let log = unprivileged("tail").arg("-n20").arg(self.folder.join("log")).output();
        Err(format!(
            "{status:?}\n{}",
            log.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stdout).into())
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        // Nothing to be done about a failure here; the folder is a temporary one.
        let _ = self.watch.wait();
    }
}

/// The newest installed PostgreSQL.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|entry| entry.path().join("bin"))
        .filter(|folder| folder.join("initdb").exists())
        .max_by_key(|folder| version(folder))
        .unwrap_or_else(|| panic!("these tests need a real PostgreSQL: `apt-get install postgresql-15`"))
}

fn version(binaries: &Path) -> Option<u32> {
    binaries.parent()?.file_name()?.to_str()?.parse().ok()
}

/// PostgreSQL refuses to run as root; then it runs as the user that its package made.
fn unprivileged(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let mut command = if is_root { Command::new("runuser") } else { Command::new(&program) };
    if is_root {
        command.args(["-u", "postgres", "--"]).arg(&program);
    }
    // The present folder may be one that user cannot enter.
    command.current_dir("/");
    command
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .unwrap_or_else(|error| panic!("no free port: {error}"))
}

fn run(command: &mut Command) -> Output {
    let output: io::Result<Output> = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => output,
        Ok(output) => panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{command:?}: {error}"),
    }
}
