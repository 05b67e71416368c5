//! PostgreSQL as an append-only table, with `synchronous_commit=on`: a transaction a record on many connections, which the
//! server flushes together, or a group commit of ours in front.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use bartizan_bench::Error;
use bartizan_bench::process::{Processes, Program, free_address};
use tokio_postgres::{Client, NoTls, Statement};

use super::group::Group;
use super::{Engine, at_least, record};

/// Connections at the most: beyond, writers share them, and each connection's records wait in line.
const CONNECTIONS_MAX: u64 = 64;

/// A real server's settings where they matter for writing; checkpoints are kept out of the measured seconds.
const SETTINGS: &[&str] = &[
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=256MB",
    "wal_buffers=16MB",
    "max_wal_size=8GB",
    "checkpoint_timeout=30min",
    "max_connections=100",
    "track_wal_io_timing=off",
];

/// How long the server may take until it answers.
const START: Duration = Duration::from_secs(60);

pub struct Postgres {
    clients: Vec<(Client, Statement)>,
    group: Option<Group>,
    server: Server,
}

impl Postgres {
    /// With a connection for each writer, up to 64.
    pub async fn start(folder: &Path, writers: u64) -> Result<Self, Error> {
        let server = Server::start(folder).await?;
        let mut clients = Vec::new();
        for _ in 0..writers.clamp(1, CONNECTIONS_MAX) {
            let client = server.connect().await?;
            let statement = client.prepare("insert into record (body) values ($1)").await?;
            clients.push((client, statement));
        }
        Ok(Self { clients, group: None, server })
    }

    /// With a group commit in front of one connection.
    pub async fn start_batched(folder: &Path) -> Result<Self, Error> {
        let server = Server::start(folder).await?;
        let client = server.connect().await?;
        let insert = client.prepare("insert into record (body) select unnest($1::bytea[])").await?;
        let runtime = tokio::runtime::Handle::current();
        let group = Group::start(move |records| {
            let inserted = runtime.block_on(client.execute(&insert, &[&records]))?;
            at_least(inserted, records.len() as u64)
        })?;
        Ok(Self { clients: Vec::new(), group: Some(group), server })
    }
}

impl Engine for Postgres {
    async fn append(&self, number: u64) -> Result<(), Error> {
        if let Some(group) = &self.group {
            return group.append(record(number)).await;
        }
        let place = usize::try_from(number % self.clients.len() as u64)?;
        let (client, insert) = self.clients.get(place).ok_or("there are no connections")?;
        client.execute(insert, &[&record(number)]).await?;
        Ok(())
    }

    /// As the server counts them; it tells the numbers of a connection about once a second.
    async fn syncs(&self) -> Result<Option<u64>, Error> {
        let row = self.server.control.query_one("select wal_sync from pg_stat_wal", &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0)).ok())
    }

    fn server(&self) -> Option<Processes> {
        Some(self.server.program.processes())
    }

    /// What the table holds.
    async fn check(&self, acknowledged: u64) -> Result<(), Error> {
        if let Some(group) = &self.group {
            group.end()?;
        }
        let count = "select count(distinct substring(body from 1 for 8)) from record";
        let row = self.server.control.query_one(count, &[]).await?;
        at_least(u64::try_from(row.get::<_, i64>(0))?, acknowledged)
    }
}

/// A server of its own: cluster in the folder, socket in a folder of its own, ended with this value.
struct Server {
    control: Client,
    connect: tokio_postgres::Config,
    program: Program,
    binaries: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
}

impl Server {
    /// Starts the cluster in `folder`, which is made if it is not there, with an empty table.
    async fn start(folder: &Path) -> Result<Self, Error> {
        let binaries = binaries()?;
        let home = folder.join("cluster");
        let data = home.join("data");
        if !data.join("PG_VERSION").exists() {
            fs::create_dir_all(&home)?;
            if is_root()? {
                run(Command::new("chown").arg("postgres").arg(&home))?;
            }
            let flags = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"];
            run(unprivileged(&binaries.join("initdb"))?.args(flags).arg(&data))?;
        }
        // One that was left behind by a run that was killed.
        stop(&binaries, &data, "immediate")?;
        // A socket's path may have no more than a hundred characters or so.
        let sockets = run(unprivileged(Path::new("mktemp"))?.args(["-d", "-t", "bartizan-bench-XXXXXX"]))?;
        let sockets = PathBuf::from(String::from_utf8_lossy(&sockets.stdout).trim());
        let port = free_address()?.port();
        let mut command = Vec::new();
        if is_root()? {
            command.extend(["runuser", "-u", "postgres", "--"].map(str::to_owned));
        }
        command.push(binaries.join("postgres").display().to_string());
        command.extend(["-D".to_owned(), data.display().to_string()]);
        let own = [
            format!("port={port}"),
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories={}", sockets.display()),
        ];
        for setting in SETTINGS.iter().map(|s| (*s).to_owned()).chain(own) {
            command.extend(["-c".to_owned(), setting]);
        }
        let log = folder.join("postgres.log");
        let mut program = Program::start(None, &command, &[], &log)?;
        let mut connect = tokio_postgres::Config::new();
        connect.host_path(&sockets).port(port).user("postgres").dbname("postgres");
        let limit = Instant::now() + START;
        let control = loop {
            match connected(&connect).await {
                Ok(control) => break control,
                Err(_) if program.runs() && Instant::now() < limit => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(format!("{error}; see {}", log.display()).into()),
            }
        };
        control
            .batch_execute(
                "drop table if exists record; \
                 create table record (id bigint generated always as identity primary key, body bytea not null); \
                 checkpoint",
            )
            .await?;
        Ok(Self { control, connect, program, binaries, data, sockets })
    }

    async fn connect(&self) -> Result<Client, Error> {
        connected(&self.connect).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The folder of the socket is a temporary one, and the next start stops what still runs.
        let _ = stop(&self.binaries, &self.data, "fast");
        let _ = fs::remove_dir_all(&self.sockets);
    }
}

async fn connected(config: &tokio_postgres::Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // Its error is told to whoever waits for an answer.
    tokio::spawn(connection);
    Ok(client)
}

/// Stops the server of a cluster, if one runs.
fn stop(binaries: &Path, data: &Path, mode: &str) -> Result<(), Error> {
    let mut status = unprivileged(&binaries.join("pg_ctl"))?;
    if run(status.arg("status").arg("-D").arg(data)).is_ok() {
        run(unprivileged(&binaries.join("pg_ctl"))?.args(["stop", "-w", "-m", mode, "-D"]).arg(data))?;
    }
    Ok(())
}

/// Which PostgreSQL is measured.
pub fn postgres_version() -> Result<String, Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn records_are_found_again_and_lost_ones_are_noticed_with_and_without_group_commit() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        // The server's user must get to its cluster.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            for batched in [false, true] {
                let postgres = match batched {
                    false => Postgres::start(folder, 3).await.unwrap(),
                    true => Postgres::start_batched(folder).await.unwrap(),
                };
                let durable = "select current_setting('synchronous_commit') || current_setting('fsync')";
                let row = postgres.server.control.query_one(durable, &[]).await.unwrap();
                assert_eq!(row.get::<_, String>(0), "onon");
                for number in 0..10 {
                    postgres.append(number).await.unwrap();
                }
                postgres.check(10).await.unwrap();
                postgres.server.control.execute("delete from record where id = 4", &[]).await.unwrap();
                assert!(postgres.check(10).await.unwrap_err().to_string().contains("9 are there"));
                assert!(postgres.server().unwrap().memory_mib() > 1.0);
            }
        });
    }
}
