//! A PostgreSQL of its own, with a real server's settings where they matter for writing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bartizan_bench::Error;
use bartizan_bench::process::free_address;

/// Every commit waits for the disk; checkpoints are kept out of the measured seconds.
const SETTINGS: &str = "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nshared_buffers = 256MB\n\
                        wal_buffers = 16MB\nmax_wal_size = 8GB\ncheckpoint_timeout = 30min\nmax_connections = 200\n\
                        listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\n";

/// A server that ends with this value.
pub struct Server {
    binaries: PathBuf,
    home: PathBuf,
    port: u16,
}

impl Server {
    /// Makes a cluster in `folder` and starts it.
    pub fn start(folder: &Path) -> Result<Self, Error> {
        let binaries = binaries()?;
        let home = folder.join("cluster");
        if home.exists() {
            stop(&binaries, &home);
            fs::remove_dir_all(&home)?;
        }
        fs::create_dir_all(&home)?;
        if is_root()? {
            run(Command::new("chown").arg("postgres").arg(&home))?;
        }
        let data = home.join("data");
        let flags = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"];
        run(unprivileged(&binaries.join("initdb"))?.args(flags).arg(&data))?;
        let port = free_address()?.port();
        let configure = r#"printf '%b' "$2" >> "$1/postgresql.conf""#;
        run(unprivileged(Path::new("sh"))?
            .args(["-c", configure, "configure"])
            .arg(&data)
            .arg(format!("{SETTINGS}port = {port}\n")))?;
        let server = Self { binaries, home, port };
        let mut start = unprivileged(&server.binaries.join("pg_ctl"))?;
        start.args(["start", "-w", "-D"]).arg(&data).arg("-l").arg(server.home.join("log"));
        // Its children must not hold our pipes open.
        let status = start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if status.success() { Ok(server) } else { Err("PostgreSQL does not start".into()) }
    }

    /// An empty database, and the URL that leads to it.
    pub fn database(&self, name: &str) -> Result<String, Error> {
        let port = self.port.to_string();
        run(Command::new(self.binaries.join("psql"))
            .args(["-X", "-q", "-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-c"])
            .arg(format!("create database {name}")))?;
        Ok(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&self.binaries, &self.home);
    }
}

fn stop(binaries: &Path, home: &Path) {
    let stopped = unprivileged(&binaries.join("pg_ctl"))
        .and_then(|mut ctl| run(ctl.args(["stop", "-w", "-m", "immediate", "-D"]).arg(home.join("data"))));
    // One that does not run is as good.
    drop(stopped);
}

/// Which PostgreSQL is measured.
pub fn version() -> Result<String, Error> {
    let told = run(Command::new(binaries()?.join("postgres")).arg("--version"))?;
    Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

/// The newest installed PostgreSQL, as Debian lays it out.
fn binaries() -> Result<PathBuf, Error> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |bin: &Path| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let folders = versions.map(|version| version.path().join("bin"));
    let newest = folders.filter(|bin| bin.join("initdb").exists()).max_by_key(|bin| number(bin));
    newest.ok_or_else(|| "there is no PostgreSQL; install it with: apt-get install -y postgresql".into())
}

fn is_root() -> Result<bool, Error> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

/// PostgreSQL refuses to run as root; then it runs as the user that its package made.
fn unprivileged(program: &Path) -> Result<Command, Error> {
    let mut command = if is_root()? { Command::new("runuser") } else { Command::new(program) };
    if is_root()? {
        command.args(["-u", "postgres", "--"]).arg(program);
    }
    // The present folder may be one that user cannot enter.
    command.current_dir("/");
    Ok(command)
}

fn run(command: &mut Command) -> Result<Output, Error> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
