//! What the tests share.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bartizan_base::Name;
use bartizan_deliver::{Batch, Position, Source, SourceError, Want};
use bartizan_model::Tenant;
use bartizan_rt::SystemClock;
use bartizan_secret::Secret;
use bartizan_upstream::{Credentials, Settings, SystemResolver, Upstreams};
use bytes::Bytes;
use rustls::pki_types::CertificateDer;

pub(crate) const ORIGIN: &str = "log.example/default/2026q4";

pub(crate) fn at(index: u64) -> Position {
    Position { origin: ORIGIN.into(), index }
}

/// A batch of records that know their number, `n`.
pub(crate) fn batch(first: u64, last: u64) -> Batch {
    let record = |n| {
        format!(
            "{{\"kind\":\"refusal\",\"n\":{n},\"seq\":{n},\"tenant\":\"a]b\",\"time_us\":1795161600123000}}\n"
        )
    };
    let body: String = (first..=last).map(record).collect();
    let records = u32::try_from(last - first + 1).unwrap();
    Batch::new(at(first), at(last), Batch::JSON_LINES, Bytes::from(body), records).unwrap()
}

/// The numbers of the records in a body; it fails on a line that is not whole.
pub(crate) fn numbers(body: &[u8]) -> Vec<u64> {
    let lines = std::str::from_utf8(body).unwrap().lines();
    lines.map(|l| serde_json::from_str::<serde_json::Value>(l).expect(l)["n"].as_u64().unwrap()).collect()
}

/// A log of so many entries. How many a batch takes changes with every call, so that only a kept range gives the same batch.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) size: u64,
    pub(crate) calls: std::sync::atomic::AtomicU64,
}

#[async_trait]
impl Source for Log {
    async fn next(&self, want: &Want) -> Result<Option<Batch>, SourceError> {
        let call = self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let some = 1 + (call * 7 + u64::from(std::process::id())) % u64::from(want.records_max);
        let first = want.after.as_ref().map_or(0, |p| p.index + 1);
        let end = want.until.as_ref().map_or(self.size.min(first + some), |p| p.index + 1);
        Ok((first < end).then(|| batch(first, end - 1)))
    }

    async fn behind(&self, after: Option<&Position>) -> Result<u64, SourceError> {
        Ok(self.size - after.map_or(0, |p| p.index + 1))
    }
}

#[derive(Debug)]
struct NoCredentials;

impl Credentials for NoCredentials {
    fn credential(&self, _: &Tenant, _: &Name) -> Option<Secret<String>> {
        None
    }
}

pub(crate) fn upstreams(extra_roots: Vec<CertificateDer<'static>>) -> Arc<Upstreams> {
    let settings = Settings {
        extra_roots,
        resolver: Arc::new(SystemResolver),
        credentials: Arc::new(NoCredentials),
        clock: Arc::new(SystemClock::new()),
    };
    Arc::new(Upstreams::new(settings).unwrap())
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A foreign program that ends with the test.
#[derive(Debug)]
pub(crate) struct Program(Child);

impl Program {
    /// Starts `program` of the Debian package `package` and waits until it listens on `port`.
    pub(crate) fn start(program: &str, package: &str, arguments: &[&str], port: u16) -> Self {
        let path =
            ["/usr/sbin", "/usr/bin"].map(|f| Path::new(f).join(program)).into_iter().find(|p| p.exists());
        let path = path.unwrap_or_else(|| panic!("this test needs `{program}`: `apt-get install {package}`"));
        let child =
            Command::new(path).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut program = Self(child);
        eventually(|| {
            assert!(program.0.try_wait().unwrap().is_none(), "{arguments:?} does not start");
            TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Duration::from_secs(1))
                .ok()
        });
        program
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until there is something.
#[expect(clippy::disallowed_methods, reason = "a foreign program goes by the machine's clock")]
pub(crate) fn eventually<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "it never comes to that");
        std::thread::sleep(Duration::from_millis(10));
    }
}
