//! The bootstrap configuration: one table of settings feeds reading, `config show`, did-you-mean and the reference page.
//!
//! Only what a process needs before it can open its state lives here. Everything else is a declarative resource.

mod load;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bartizan_authority::oauth::{self, MetadataClients};
use bartizan_base::Name;
use bartizan_child::{CommandSpec, Totals};
use bartizan_enforce::CacheBounds;
use bartizan_gateway::TrustedProxies;
use bartizan_identify::spiffe::TrustDomain;
use bartizan_keys::{AuthorPublic, MutualFiles};
use bartizan_mesh::Peers;
use bartizan_model::SubjectPattern;
use bartizan_sandbox::RuntimeSpec;
use bartizan_secret::Secret;
use bartizan_vault::{Kind, Retention};

pub use load::{ConfigError, Origin, Raw, Strings};
pub use settings::{SETTINGS, Setting};

/// The resolved configuration: every value present and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which parts this process runs.
    pub role: Role,
    /// Where the listeners bind.
    pub listeners: Listeners,
    /// Our own authority, as its tokens name it; none without.
    pub issuer: Option<String>,
    /// What it was agreed to do.
    pub authority: oauth::Settings,
    /// Where state, keys and the ledger are.
    pub folder: PathBuf,
    /// Where deliveries to files write.
    pub delivered: PathBuf,
    /// The URL of the state database; embedded in the folder without.
    pub postgres: Option<Secret<String>>,
    /// Bounds on what callers may send.
    pub limits: Limits,
    /// The write-ahead log and its sealing.
    pub record: Record,
    /// Personal data and kept content.
    pub vault: VaultConfig,
    /// Whose signatures a policy bundle needs; none for nobody's.
    pub policy_signers: Vec<AuthorPublic>,
    /// What is kept so that decisions can be made again.
    pub replay: Replay,
    /// What the process says about itself.
    pub log: Log,
    /// Where traces go.
    pub traces: Option<TracesTo>,
    /// The folder of SQLite files that can be asked for.
    pub sqlite_folder: Option<PathBuf>,
    /// A PEM file with further roots for upstream TLS.
    pub upstream_ca: Option<PathBuf>,
    /// What this process shows, and whom it believes, between processes of the house.
    pub mutual: Option<MutualFiles>,
    /// The file that names the logs which a witness cosigns.
    pub witnessed: Option<PathBuf>,
    /// What may be run as a tool server, by name. It stands in the file and nowhere else.
    pub commands: BTreeMap<Name, CommandSpec>,
    /// Tool servers that run as children.
    pub children: ChildrenConfig,
    /// Code that is run.
    pub code: CodeConfig,
}

/// Code that is run in the sandbox.
#[derive(Clone, Debug)]
pub struct CodeConfig {
    /// What runs it, by name. It stands in the file and nowhere else.
    pub runtimes: BTreeMap<Name, RuntimeSpec>,
    /// Runs at once.
    pub runs_max: usize,
}

/// Tool servers that run as children.
#[derive(Clone, Copy, Debug)]
pub struct ChildrenConfig {
    /// Bounds on all of them.
    pub totals: Totals,
    /// The user and group that they run as, where we are root.
    pub user: u32,
}

/// Which parts a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    All,
    /// A witness of other houses' logs, and nothing else.
    Witness,
}

/// Addresses and certificates.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// The data plane.
    pub data: SocketAddr,
    /// The control API.
    pub control: SocketAddr,
    /// Health and metrics; never reachable from outside.
    pub operations: SocketAddr,
    /// The address of the data plane as others know it, without a slash at its end.
    pub public_url: Option<String>,
    /// Certificate chain and key for the data plane and the control API; plain HTTP without.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The authorities of client certificates; none are asked for without.
    pub client_ca: Option<PathBuf>,
    /// Whether clients may show certificates that name a workload.
    pub workloads: bool,
    /// The proxies in front whose word about callers' addresses is taken.
    pub trusted_proxies: TrustedProxies,
    /// Where proxies ask; nowhere without.
    pub mesh: Option<MeshListener>,
}

/// Where proxies ask whether a request may go on.
#[derive(Clone, Debug)]
pub struct MeshListener {
    /// The address.
    pub address: SocketAddr,
    /// The proxies.
    pub peers: Peers,
    /// How they are spoken to.
    pub tls: MeshTls,
}

/// How proxies are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshTls {
    /// As the other listeners are.
    Server,
    /// By mutual TLS of the house.
    Mutual,
    /// In clear.
    Plain,
}

/// Bounds on what callers may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Within which time the body must be here.
    pub body_timeout: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Nesting of JSON.
    pub json_depth_max: usize,
    /// Values in one JSON document.
    pub json_nodes_max: usize,
    /// Connections at once.
    pub connections_max: usize,
    /// How long a caller may take nothing of its answer.
    pub write_timeout: Duration,
    /// Bytes of an answer that must be held whole to be redacted.
    pub answer_bytes_max: usize,
    /// Of answers of models that are kept to be given again.
    pub cache: CacheBounds,
}

/// The write-ahead log and its sealing.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where a second copy of the write-ahead log is written.
    pub copy: Option<PathBuf>,
    /// The file that names the witnesses of the operator's log.
    pub witnesses: Option<PathBuf>,
    /// Where archives of past periods lie.
    pub archives: Option<PathBuf>,
    /// For how long after its end a period stays, if not for ever.
    pub keep: Option<Duration>,
    /// Bytes of a segment of the write-ahead log.
    pub segment_bytes: u64,
    /// Records that may wait for the disk.
    pub queue_max: usize,
    /// Between two checkpoints.
    pub seal_interval: Duration,
}

/// Personal data and kept content.
#[derive(Clone, Debug)]
pub struct VaultConfig {
    /// Whether there is a vault.
    pub enabled: bool,
    /// How long each kind is kept.
    pub retention: Retention,
}

/// What is kept so that decisions can be made again.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// Whether it is.
    pub enabled: bool,
    /// How long.
    pub keep_for: Duration,
    /// In how many bytes.
    pub bytes_max: u64,
    /// Between two checks that decisions come out again.
    pub check_every: Duration,
    /// How many decisions a check takes.
    pub check_sample: usize,
}

/// What the process says about itself on standard error.
#[derive(Clone, Debug)]
pub struct Log {
    /// A filter such as `info` or `bartizan=debug`.
    pub filter: String,
    /// Whether lines are JSON.
    pub json: bool,
}

/// Where traces go.
#[derive(Clone, Debug)]
pub struct TracesTo {
    /// The collector's base URL.
    pub endpoint: String,
    /// Of a thousand calls.
    pub permille: u16,
}

/// The database's URL, from the setting itself or from the file that it names.
fn postgres(raw: &Raw) -> Result<Option<Secret<String>>, ConfigError> {
    let Some(url) = raw.optional("state.postgres_url") else { return Ok(None) };
    let Some(path) = url.strip_prefix("file:") else { return Ok(Some(Secret::new(url.to_owned()))) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Secret::new(text.trim().to_owned()))),
        Err(error) => Err(raw.wrong("state.postgres_url", &format!("{path}: {error}"))),
    }
}

/// Reads for how long periods stay.
fn period_retention(raw: &Raw) -> Result<Option<Duration>, ConfigError> {
    const SETTING: &str = "record.retention_days";
    if raw.optional(SETTING).is_none() {
        return Ok(None);
    }
    let days: u64 = raw.number(SETTING, 1, 36_500)?;
    if raw.optional("record.archive_folder").is_none() {
        return Err(raw
            .wrong(SETTING, "expected with `record.archive_folder`: nothing is removed without an archive"));
    }
    Ok(Some(Duration::from_secs(days * 86_400)))
}

/// Reads `KIND=DAYS` pairs.
fn retention(raw: &Raw) -> Result<Retention, ConfigError> {
    const SETTING: &str = "vault.retention_days";
    const DAY_S: u64 = 86_400;
    let mut out = Retention::new();
    for pair in raw.optional(SETTING).into_iter().flat_map(|text| text.split(',')) {
        let read = pair.split_once('=').and_then(|(kind, days)| {
            let days = days.trim().parse::<u64>().ok().filter(|days| (1..=36_500).contains(days))?;
            let kind = Kind::from_name(kind.trim()).filter(|kind| *kind != Kind::Replay)?;
            Some((kind, Duration::from_secs(days * DAY_S)))
        });
        let (kind, kept) = read.ok_or_else(|| {
            raw.wrong(SETTING, "expected kinds with days from 1 to 36500, such as `prompt=30, output=30`")
        })?;
        if out.insert(kind, kept).is_some() {
            return Err(raw.wrong(SETTING, &format!("`{}` stands twice", kind.name())));
        }
    }
    Ok(out)
}

/// What the authority was agreed to do.
fn authority(raw: &Raw) -> Result<oauth::Settings, ConfigError> {
    let list =
        |setting| raw.optional(setting).into_iter().flat_map(|text: &str| text.split(',')).map(str::trim);
    let owned = |setting| list(setting).map(str::to_owned).collect::<BTreeSet<_>>();
    let flag = |setting| match raw.text(setting) {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(raw.wrong(setting, "expected `true` or `false`")),
    };
    for resource in list("authority.resources") {
        let plain = resource.starts_with("https://") || resource.starts_with("http://");
        if !plain || resource.contains(['?', '#', '@', ' ']) {
            return Err(
                raw.wrong("authority.resources", "expected addresses without user, query and fragment")
            );
        }
    }
    if let Some(unknown) = list("authority.default_scopes").find(|scope| !oauth::is_known(scope)) {
        return Err(
            raw.wrong("authority.default_scopes", &format!("no action or group of actions: `{unknown}`"))
        );
    }
    let default_scopes = owned("authority.default_scopes");
    let hosts = owned("authority.metadata_hosts");
    let metadata_clients = flag("authority.metadata_clients")?.then(|| MetadataClients {
        hosts: (!hosts.is_empty()).then_some(hosts),
        private_hosts: owned("authority.metadata_private_hosts"),
        scopes: default_scopes.clone(),
    });
    Ok(oauth::Settings {
        default_resource: list("authority.resources").next().map(str::to_owned),
        resources: owned("authority.resources"),
        default_scopes,
        metadata_clients,
        registration: flag("authority.registration")?,
        private_receivers: owned("authority.private_receivers"),
        ..oauth::Settings::default()
    })
}

/// The file of authorities of client certificates, which are shown in TLS alone.
fn client_ca(raw: &Raw, tls: bool) -> Result<Option<PathBuf>, ConfigError> {
    const SETTING: &str = "listeners.client_ca";
    match raw.optional(SETTING) {
        Some(_) if !tls => Err(raw.wrong(SETTING, "expected with `listeners.tls_certificate`")),
        path => Ok(path.map(PathBuf::from)),
    }
}

/// Whether workloads come by their certificates, which are shown in TLS alone.
fn workloads(raw: &Raw, tls: bool) -> Result<bool, ConfigError> {
    const SETTING: &str = "listeners.workloads";
    match raw.parse(SETTING, "expected `true` or `false`")? {
        true if !tls => Err(raw.wrong(SETTING, "expected with `listeners.tls_certificate`")),
        taken => Ok(taken),
    }
}

/// Where proxies ask.
fn mesh(raw: &Raw) -> Result<Option<MeshListener>, ConfigError> {
    if raw.optional("listeners.mesh").is_none() {
        return Ok(None);
    }
    let networks = "addresses and networks such as `10.0.0.0/8`";
    let tls = match raw.text("listeners.mesh_tls") {
        "server" => MeshTls::Server,
        "mutual" if raw.optional("mutual.folder").is_none() => {
            return Err(raw.wrong("listeners.mesh_tls", "expected with the settings of `mutual`"));
        }
        "mutual" => MeshTls::Mutual,
        "plain" => MeshTls::Plain,
        _ => return Err(raw.wrong("listeners.mesh_tls", "expected `server`, `mutual` or `plain`")),
    };
    Ok(Some(MeshListener {
        address: raw.parse("listeners.mesh", "an address and port such as `127.0.0.1:8083`")?,
        peers: Peers {
            asking: raw.parse("listeners.mesh_peers", networks)?,
            certificates: raw.parse("listeners.mesh_certificates", networks)?,
        },
        tls,
    }))
}

/// Mutual TLS between processes of the house: all of it, or none.
fn mutual(raw: &Raw) -> Result<Option<MutualFiles>, ConfigError> {
    const NEEDED: [&str; 3] = ["mutual.folder", "mutual.trust_domain", "mutual.peers"];
    if NEEDED.iter().all(|setting| raw.optional(setting).is_none()) {
        return Ok(None);
    }
    let need = |setting: &'static str| {
        raw.optional(setting)
            .ok_or_else(|| raw.wrong(setting, "needed beside the other settings of `mutual`"))
    };
    let folder = PathBuf::from(need("mutual.folder")?);
    let domain = need("mutual.trust_domain")?.parse::<TrustDomain>();
    let domain = domain.map_err(|_| raw.wrong("mutual.trust_domain", "a name such as `house.example`"))?;
    let peers = need("mutual.peers")?.split(',').map(|peer| peer.trim().parse::<SubjectPattern>());
    let peers = peers.collect::<Result<Vec<_>, _>>();
    let expected =
        "SPIFFE identities separated by commas, such as `spiffe://house.example/workload/witness-*`";
    let files = ["cert.pem", "key.pem", "trust.pem"].map(|name| folder.join(name));
    let [certificate, key, trust] = files;
    let peers = peers.map_err(|_| raw.wrong("mutual.peers", expected))?;
    Ok(Some(MutualFiles { certificate, key, trust, domain, peers }))
}

/// An address as others know it, which is an origin: paths are appended to it.
fn origin(raw: &Raw, setting: &'static str) -> Result<Option<String>, ConfigError> {
    let Some(text) = raw.optional(setting) else { return Ok(None) };
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |host: &str| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
    match host {
        Some(host) if plain(host) => Ok(Some(text.to_owned())),
        _ => Err(raw.wrong(setting, "a scheme and a host such as `https://gateway.example.com`")),
    }
}

impl Config {
    /// Resolves what was written, checking every value.
    ///
    /// # Errors
    /// Names the setting, where its value came from, and what it should be.
    pub fn resolve(raw: &Raw) -> Result<Self, ConfigError> {
        let tls = match (raw.optional("listeners.tls_certificate"), raw.optional("listeners.tls_key")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(raw.wrong("listeners.tls_key", "needed beside `listeners.tls_certificate`"));
            }
            (None, Some(_)) => {
                return Err(raw.wrong("listeners.tls_certificate", "needed beside `listeners.tls_key`"));
            }
        };
        Ok(Self {
            role: match raw.text("server.role") {
                "all" => Role::All,
                "witness" => Role::Witness,
                _ => return Err(raw.wrong("server.role", "expected `all` or `witness`")),
            },
            listeners: Listeners {
                data: raw.parse("listeners.data", "an address and port such as `127.0.0.1:8080`")?,
                public_url: origin(raw, "listeners.public_url")?,
                control: raw.parse("listeners.control", "an address and port such as `127.0.0.1:8081`")?,
                operations: raw
                    .parse("listeners.operations", "an address and port such as `127.0.0.1:9090`")?,
                client_ca: client_ca(raw, tls.is_some())?,
                workloads: workloads(raw, tls.is_some())?,
                tls,
                trusted_proxies: raw
                    .parse("listeners.trusted_proxies", "addresses and networks such as `10.0.0.0/8`")?,
                mesh: mesh(raw)?,
            },
            issuer: origin(raw, "authority.issuer")?,
            authority: authority(raw)?,
            mutual: mutual(raw)?,
            folder: raw.text("data.folder").into(),
            delivered: raw
                .optional("deliver.folder")
                .map_or_else(|| PathBuf::from(raw.text("data.folder")).join("delivered"), PathBuf::from),
            postgres: postgres(raw)?,
            limits: Limits {
                body_bytes_max: raw.number("limits.body_bytes_max", 1, 1 << 30)?,
                body_timeout: Duration::from_millis(raw.number("limits.body_timeout_ms", 1, 600_000)?),
                head_bytes_max: raw.number("limits.head_bytes_max", 8_192, 1 << 20)?,
                json_depth_max: raw.number("limits.json_depth_max", 1, 512)?,
                json_nodes_max: raw.number("limits.json_nodes_max", 1, 100_000_000)?,
                connections_max: raw.number("limits.connections_max", 1, 1_000_000)?,
                write_timeout: Duration::from_millis(raw.number(
                    "limits.write_timeout_ms",
                    100,
                    3_600_000,
                )?),
                answer_bytes_max: raw.number("limits.answer_bytes_max", 1, 1 << 30)?,
                cache: CacheBounds {
                    answers_max: raw.number("cache.answers_max", 1, 10_000_000)?,
                    bytes_max: raw.number("cache.bytes_max", 1, 1 << 40)?,
                    answer_bytes_max: raw.number("cache.answer_bytes_max", 1, 1 << 30)?,
                },
            },
            record: Record {
                copy: raw.optional("record.copy_folder").map(PathBuf::from),
                witnesses: raw.optional("record.witness_policy").map(PathBuf::from),
                archives: raw.optional("record.archive_folder").map(PathBuf::from),
                keep: period_retention(raw)?,
                segment_bytes: raw.number("record.segment_bytes", 1 << 20, 1 << 30)?,
                queue_max: raw.number("record.queue_max", 16, 1 << 20)?,
                seal_interval: Duration::from_millis(raw.number("record.seal_interval_ms", 100, 60_000)?),
            },
            vault: VaultConfig {
                enabled: match raw.text("vault.enabled") {
                    "true" => true,
                    "false" => false,
                    _ => return Err(raw.wrong("vault.enabled", "expected `true` or `false`")),
                },
                retention: retention(raw)?,
            },
            policy_signers: match raw.optional("policy.signers") {
                None => Vec::new(),
                Some(text) => {
                    text.split(',').map(|key| key.trim().parse()).collect::<Result<_, _>>().map_err(|_| {
                        raw.wrong("policy.signers", "expected public keys `ed25519:…` separated by commas")
                    })?
                }
            },
            replay: Replay {
                enabled: match raw.text("replay.enabled") {
                    "true" => true,
                    "false" => false,
                    _ => return Err(raw.wrong("replay.enabled", "expected `true` or `false`")),
                },
                keep_for: Duration::from_secs(raw.number::<u64>("replay.keep_days", 1, 36_500)? * 86_400),
                bytes_max: raw.number::<u64>("replay.megabytes_max", 1, 1 << 30)? << 20,
                check_every: Duration::from_secs(raw.number("replay.check_interval_s", 1, 31_536_000)?),
                check_sample: raw.number("replay.check_sample", 1, 1_000)?,
            },
            log: Log {
                filter: raw.text("log.filter").to_owned(),
                json: match raw.text("log.format") {
                    "text" => false,
                    "json" => true,
                    _ => return Err(raw.wrong("log.format", "expected `text` or `json`")),
                },
            },
            traces: match raw.optional("telemetry.otlp_endpoint") {
                None => None,
                Some(endpoint) if ["http://", "https://"].iter().any(|s| endpoint.starts_with(s)) => {
                    Some(TracesTo {
                        endpoint: endpoint.trim_end_matches('/').to_owned(),
                        permille: raw.number("telemetry.traces_permille", 0, 1_000)?,
                    })
                }
                Some(_) => {
                    return Err(raw
                        .wrong("telemetry.otlp_endpoint", "expected a URL such as `http://127.0.0.1:4318`"));
                }
            },
            sqlite_folder: raw.optional("query.sqlite_folder").map(PathBuf::from),
            upstream_ca: raw.optional("upstream.ca_file").map(PathBuf::from),
            witnessed: raw.optional("witness.logs").map(PathBuf::from),
            commands: raw.commands()?,
            code: CodeConfig { runtimes: raw.runtimes()?, runs_max: raw.number("code.runs_max", 1, 1_000)? },
            children: ChildrenConfig {
                totals: Totals {
                    children_max: raw.number("children.max", 1, 10_000)?,
                    of_tenant_max: raw.number("children.per_tenant_max", 1, 10_000)?,
                    idle: Duration::from_secs(raw.number("children.idle_s", 1, 86_400)?),
                    ..Totals::default()
                },
                user: raw.number("children.user", 1, u64::from(u32::MAX) - 1)?,
            },
        })
    }
}
