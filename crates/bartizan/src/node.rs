//! A running node: everything introduced to everything.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bartizan_api::{Api, Mount};
use bartizan_authority::signals::Signals;
use bartizan_authority::{Authority, Bonds};
use bartizan_base::{Clock, Random, json};
use bartizan_child::{Children, OldServers};
use bartizan_control::{Archive, ByRight, Control, Prover};
use bartizan_enforce::{
    Accounts, Afterwards, Bounds, Gate, Keeper, Limiter, Metrics, Parts, Policies, PublicUrl, Published,
};
use bartizan_gateway::{Gateway, ServerLimits, serve};
use bartizan_identify::Identifier;
use bartizan_jose::Nonces;
use bartizan_keys::{KeyFolder, MutualTls, PolicySigner, Sealer, ServerTls};
use bartizan_mesh::Mesh;
use bartizan_model::NodeId;
use bartizan_record::{Copy, Disk, RealDisk, Recorder};
use bartizan_rt::{SystemClock, SystemRandom, Tasks};
use bartizan_sql::{Databases, Settings as DatabaseSettings};
use bartizan_upstream::{Settings, SystemResolver, Upstreams};
use bartizan_vault::Vault;
use http::Request;
use hyper::body::Incoming;
use prometheus_client::registry::Registry;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::Notify;

use crate::archived::Archived;
use crate::authority;
use crate::children;
use crate::code;
use crate::config::{Config, MeshTls};
use crate::deliveries::{self, Deliveries};
use crate::ground::{DataFolder, NodeError, StateDb, part};
use crate::house::{Opener, Running};
use crate::operations::Operations;
use crate::telemetry::Telemetry;
use crate::tending::{compare, index, note_uses, renew, seal, write_uses};
use crate::watermark::Watermark;
use crate::witnesses::{Witnesses, follow, tell, told};
use crate::{policy_life, retention, signals};

/// What a node takes from its machine. The default is the real one; tests put something that fails in its place.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where the ledger is written.
    pub disk: Arc<dyn Disk>,
    /// What proves about policy in a process of its own: a program of this build; the running one if none is named.
    pub prover: Option<PathBuf>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom::new()),
            disk: Arc::new(RealDisk),
            prover: None,
        }
    }
}

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    /// Where the data plane listens.
    pub data: SocketAddr,
    /// Where the control API listens.
    pub control: SocketAddr,
    /// Where health and metrics are served.
    pub operations: SocketAddr,
    /// Where proxies ask, if anywhere.
    pub mesh: Option<SocketAddr>,
    tasks: Tasks,
    recorder: Recorder,
    keeper: Arc<Keeper>,
    traces: Option<Telemetry>,
    witnesses: Option<Arc<Witnesses>>,
    /// The gate does not hold them.
    _accounts: Option<Arc<dyn Accounts>>,
    /// They end with the tasks.
    _children: Option<Arc<Children>>,
    _folder: DataFolder,
}

impl Node {
    /// Starts a node on an installation.
    ///
    /// # Errors
    /// [`NodeError`]; each says what can be done.
    pub async fn start(config: &Config) -> Result<Self, NodeError> {
        Self::start_on(config, Machine::default()).await
    }

    /// The same on another machine.
    ///
    /// # Errors
    /// As for [`Node::start`].
    pub async fn start_on(config: &Config, machine: Machine) -> Result<Self, NodeError> {
        let Assembled {
            folder,
            registry,
            gate,
            keeper,
            afterwards,
            recorder,
            traces,
            witnesses,
            deliveries,
            control,
            authority,
            signals,
            mounts,
            accounts,
            limiter,
            tasks,
            children,
        } = Assembled::new(config, machine).await?;
        if let Some(witnesses) = &witnesses {
            // A house that was put back to an earlier state must not serve, also one whose operator's log is gone whole:
            // so that there is one to ask about, it is told first.
            told(&recorder, Some(witnesses)).await.map_err(part("the ledger"))?;
        }
        let known_keeper = keeper.clone();
        note_uses(&tasks, keeper.clone());
        let mark = Watermark::of(&folder.path);
        not_put_back(&mark, keeper.revision())?;
        watch(&tasks, keeper.clone(), mark);
        gate.prove_limits().await.map_err(part("limits"))?;
        renew(&tasks, limiter);
        compare(&tasks, keeper.clone());
        seal(&tasks, recorder.clone(), config.record.seal_interval);
        index(&tasks, control.archive.clone(), config.record.seal_interval);
        follow(&tasks, recorder.clone(), witnesses.clone());
        retention::follow(&tasks, config, &control, keeper.clone());
        deliveries::follow(&tasks, deliveries.clone());
        let replay_differing = Arc::default();
        policy_life::follow(&tasks, config, &control, &keeper, &afterwards, &replay_differing);
        authority::follow(&tasks, authority.as_ref()).await;
        let machine_clock = control.clock.clone();
        let mesh = listen_to_proxies(config, &tasks, gate.clone(), authority, machine_clock).await?;
        signals::follow(&tasks, signals);
        let (data, control, operations) = listen(
            config,
            &tasks,
            gate,
            (control, mounts),
            Operations {
                registry: Arc::new(registry),
                keeper,
                recorder: recorder.clone(),
                witnesses: witnesses.clone(),
                deliveries,
                afterwards,
                replay_differing,
            },
        )
        .await?;
        Ok(Self {
            data,
            control,
            operations,
            mesh,
            tasks,
            recorder,
            keeper: known_keeper,
            traces,
            witnesses,
            _accounts: accounts,
            _children: children,
            _folder: folder,
        })
    }

    /// Seals what is recorded up to now.
    ///
    /// # Errors
    /// When a file or the lock store fails.
    pub async fn seal(&self) -> Result<(), NodeError> {
        self.recorder.seal_now().await.map_err(part("sealing"))
    }

    /// Ends: no new connections, running requests get ten seconds, then the ledger is sealed.
    pub async fn stop(self) {
        if !self.tasks.finish(Duration::from_secs(10)).await {
            tracing::warn!("some requests did not end in time");
        }
        write_uses(&self.keeper).await;
        leave(&self.keeper).await;
        // What happened in the last minute must not be deniable for want of a round.
        tell(&self.recorder, self.witnesses.as_deref()).await;
        self.recorder.close().await;
        if let Some(traces) = self.traces {
            traces.close().await;
        }
    }
}

/// A node that is put together and listens to nobody: to become one that runs, or for work on a stopped installation.
#[derive(Debug)]
pub(crate) struct Assembled {
    folder: DataFolder,
    registry: Registry,
    gate: Arc<Gate>,
    keeper: Arc<Keeper>,
    afterwards: Arc<Afterwards>,
    recorder: Recorder,
    traces: Option<Telemetry>,
    witnesses: Option<Arc<Witnesses>>,
    deliveries: Arc<Deliveries>,
    pub(crate) control: Control,
    authority: Option<Authority>,
    signals: Option<Arc<Signals>>,
    mounts: Vec<Arc<dyn Mount>>,
    accounts: Option<Arc<dyn Accounts>>,
    limiter: Arc<Limiter>,
    tasks: Tasks,
    children: Option<Arc<Children>>,
}

impl Assembled {
    pub(crate) async fn new(config: &Config, machine: Machine) -> Result<Self, NodeError> {
        let folder = DataFolder::open(&config.folder)?;
        let store = StateDb::open(config).await?;
        if store.state.revision().await.map_err(part("the state database"))? == 0 {
            return Err(NodeError::NotFounded(folder.path));
        }
        let Machine { clock, random, disk, prover } = machine;
        if !folder.path.join("keys").exists() {
            return Err(NodeError::NoKeys(folder.path));
        }
        let keys = KeyFolder::open(&folder.path.join("keys")).map_err(part("the key folder"))?;
        let sealer = Arc::new(keys.sealer().map_err(part("the key-encryption key"))?);
        let vault = vault(config, &folder, &sealer, &random).await?;
        let recorder = recorder(config, &folder, &keys, &clock, &random, disk, &store).await?;
        let policy_seed = keys.policy_seed().map_err(part("the policy key"))?;
        let policy_signer = PolicySigner::from_seed(&policy_seed).map_err(part("the policy key"))?;
        let verifier = policy_signer.verifier().map_err(part("the policy key"))?;
        let policies =
            Policies::open(&folder.path.join("policy"), verifier).map_err(part("what was in force"))?;
        let slices = policy_life::slices(config, vault.as_ref(), &clock, &random).await?;
        let afterwards = Arc::new(Afterwards::new(slices.clone()).map_err(part("a thread"))?);
        let issuer: Option<Arc<str>> = config.issuer.as_deref().map(Arc::from);
        let node = node_id(&folder.path, &*clock, &*random)?;
        let (state, from) = (store.state.clone(), issuer.clone());
        let keeper = Keeper::open(state, store.nodes, node, recorder.clone(), clock.clone(), policies, from)
            .await
            .map_err(part("the state"))?;
        let keeper = Arc::new(keeper);
        let known = Arc::new(OnceLock::from(keeper.clone()));
        let upstreams =
            Arc::new(upstreams(config, Opener { keeper: known.clone(), sealer: sealer.clone() }, &clock)?);
        let tasks = Tasks::new();
        let opener = Arc::new(Opener { keeper: known.clone(), sealer: sealer.clone() });
        let children = children::children(config, opener, clock.clone(), tasks.clone()).await?;
        let sandbox = code::sandbox(config, clock.clone()).await?;
        let mut registry = Registry::default();
        let traces = config.traces.as_ref().map(Telemetry::open).transpose().map_err(part("traces"))?;
        let metrics = Metrics::register(&mut registry);
        let limiter = Arc::new(Limiter::new(store.counters.clone(), clock.clone()));
        let gate = Arc::new(Gate::new(Parts {
            keeper: keeper.clone(),
            identifier: Arc::new(identifier(&sealer)),
            recorder: recorder.clone(),
            limiter: limiter.clone(),
            upstreams: upstreams.clone(),
            children: children.clone(),
            old_servers: Some(OldServers::new(
                upstreams.clone(),
                clock.clone(),
                tasks.clone(),
                config.children.totals,
            )),
            databases: Some(Arc::new(Databases::new(DatabaseSettings {
                upstreams: upstreams.clone(),
                credentials: Arc::new(Opener { keeper: known.clone(), sealer: sealer.clone() }),
                sqlite_folder: config.sqlite_folder.clone(),
                clock: clock.clone(),
            }))),
            sandbox,
            afterwards: afterwards.clone(),
            vault: vault.clone(),
            metrics,
            rows: store.rows.clone(),
            marks: store.marks.clone(),
            traces: traces.as_ref().map(Telemetry::traces),
            sealer: sealer.clone(),
            public: match &config.listeners.public_url {
                Some(url) => PublicUrl::Is(url.clone()),
                None if config.listeners.tls.is_some() => PublicUrl::Asked { scheme: "https" },
                None => PublicUrl::Asked { scheme: "http" },
            },
            published: Published {
                base: base(config),
                issuer,
                certificates: config.listeners.client_ca.is_some(),
            },
            tasks: tasks.clone(),
            bounds: bounds(config),
            clock: clock.clone(),
            random: random.clone(),
        }));
        let witnesses = config.record.witnesses.as_deref();
        let witnesses = witnesses
            .map(|path| Witnesses::load(path, recorder.clone(), &upstreams, clock.clone()).map(Arc::new))
            .transpose()?;
        let deliveries = Arc::new(Deliveries::new(deliveries::Parts {
            keeper: keeper.clone(),
            feed: recorder.feed(),
            credentials: Arc::new(Opener { keeper: known, sealer: sealer.clone() }),
            upstreams: upstreams.clone(),
            clock: clock.clone(),
            random: random.clone(),
            node,
            folder: folder.path.join("deliveries"),
            files: config.delivered.clone(),
        }));
        let house = Arc::new(Running {
            keeper: keeper.clone(),
            gate: gate.clone(),
            upstreams: upstreams.clone(),
            afterwards: afterwards.clone(),
            clock: clock.clone(),
        });
        let archive = Arc::new(Archive::new(recorder.feed(), folder.path.join("index"), clock.clone()));
        let control = Control {
            house,
            store: store.state,
            bonds: Arc::new(Bonds { rows: store.rows.clone() }),
            recorder: recorder.clone(),
            archive,
            archives: Arc::new(Archived::new(&config.record)),
            couriers: deliveries.clone(),
            sealer,
            vault,
            policy_signer: Arc::new(policy_signer),
            authors: config.policy_signers.clone().into(),
            approvals: Arc::new(ByRight),
            prover: proving(prover),
            slices,
            clock,
            random,
        };
        let authority = authority::authority(config, &control, store.rows.clone());
        let (mut mounts, accounts) =
            authority::mounts(config, authority.as_ref(), &upstreams, gate.step_ups());
        if let Some(accounts) = &accounts {
            gate.with_accounts(accounts);
        }
        mounts.insert(0, authority::labels(config, &control, store.rows.clone()));
        mounts.insert(0, authority::provisioning(config, &control, store.rows));
        let signals = signals::signals(authority.as_ref(), &upstreams);
        mounts.extend(signals::mount(config, signals.as_ref()));
        Ok(Self {
            folder,
            registry,
            gate,
            keeper,
            afterwards,
            recorder,
            traces,
            witnesses,
            deliveries,
            control,
            authority,
            signals,
            mounts,
            accounts,
            limiter,
            tasks,
            children,
        })
    }

    /// Ends: what was recorded is sealed.
    pub(crate) async fn close(self) {
        leave(&self.keeper).await;
        self.recorder.close().await;
    }
}

/// What proves about policy in plans.
#[cfg(feature = "proofs")]
fn proving(program: Option<PathBuf>) -> Arc<dyn Prover> {
    Arc::new(crate::plan_proofs::PlanProver::new(program))
}

/// Nothing does: this build is without proofs.
#[cfg(not(feature = "proofs"))]
fn proving(_: Option<PathBuf>) -> Arc<dyn Prover> {
    Arc::new(bartizan_control::NoProver)
}

/// Opens the vault, where there is to be one.
async fn vault(
    config: &Config,
    folder: &DataFolder,
    sealer: &Arc<Sealer>,
    random: &Arc<dyn Random>,
) -> Result<Option<Vault>, NodeError> {
    if !config.vault.enabled {
        return Ok(None);
    }
    let (path, sealer, random) = (folder.path.clone(), sealer.clone(), random.clone());
    let opened = tokio::task::spawn_blocking(move || Vault::open(&path, sealer, random)).await;
    opened.map_err(part("the vault"))?.map(Some).map_err(part("the vault"))
}

pub(crate) async fn recorder(
    config: &Config,
    folder: &DataFolder,
    keys: &KeyFolder,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
    disk: Arc<dyn Disk>,
    store: &StateDb,
) -> Result<Recorder, NodeError> {
    let node = node_id(&folder.path, &**clock, &**random)?;
    if let Some(copy) = &config.record.copy {
        check_copy(&folder.path, copy)?;
    }
    let settings = bartizan_record::Config {
        segment_bytes: config.record.segment_bytes,
        queue_max: config.record.queue_max,
        copy: config.record.copy.clone().map(|folder| Copy { disk: disk.clone(), folder }),
        witnessed: config.record.witnesses.is_some(),
        ..bartizan_record::Config::new(
            folder.path.clone(),
            node,
            format!("{node}.bartizan.internal/log"),
            keys.log_seed().map_err(part("the ledger's key"))?,
            env!("CARGO_PKG_VERSION").to_owned(),
        )
    };
    Recorder::open(settings, clock.clone(), disk, store.checkpoints.clone()).await.map_err(part("the ledger"))
}

/// A second copy in the same place is none; one on the same device helps against nothing but a lost folder.
fn check_copy(folder: &Path, copy: &Path) -> Result<(), NodeError> {
    let wal = folder.join("wal");
    let identity = |path: &Path| {
        let made = fs::create_dir_all(path).and_then(|()| fs::metadata(path));
        let found = made.map_err(|source| NodeError::Io { path: path.to_owned(), source })?;
        Ok((found.dev(), found.ino()))
    };
    let ((device, first), (other, second)) = (identity(&wal)?, identity(copy)?);
    if (device, first) == (other, second) {
        let text = "it is the folder of the write-ahead log itself; a second copy belongs on another disk";
        return Err(NodeError::Part { what: "`record.copy_folder`", source: text.into() });
    }
    if device == other {
        tracing::warn!(
            "`record.copy_folder` lies on the same device as the data folder: losing it loses both"
        );
    }
    Ok(())
}

/// Which node this is, for the life of the folder.
pub(crate) fn node_id(folder: &Path, clock: &dyn Clock, random: &dyn Random) -> Result<NodeId, NodeError> {
    let path = folder.join("node");
    let io = |source| NodeError::Io { path: path.clone(), source };
    if !path.exists() {
        fs::write(&path, NodeId::new(clock.now(), random).to_string()).map_err(io)?;
    }
    let text = fs::read_to_string(&path).map_err(io)?;
    text.trim().parse().map_err(|e| io(io::Error::new(io::ErrorKind::InvalidData, e)))
}

fn upstreams(config: &Config, credentials: Opener, clock: &Arc<dyn Clock>) -> Result<Upstreams, NodeError> {
    let extra_roots = match &config.upstream_ca {
        None => Vec::new(),
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(part("`upstream.ca_file`"))?,
    };
    let settings = Settings {
        extra_roots,
        resolver: Arc::new(SystemResolver),
        credentials: Arc::new(credentials),
        clock: clock.clone(),
    };
    let upstreams = Upstreams::new(settings).map_err(part("outbound TLS"))?;
    Ok(match mutual_tls(config, clock.clone())? {
        Some(mutual) => upstreams.with_mutual(mutual.client().map_err(part("mutual TLS"))?),
        None => upstreams,
    })
}

/// For how long a nonce is accepted, and again as long.
const NONCE_PERIOD: Duration = Duration::from_secs(120);

/// Proofs need a nonce that every node of the house accepts, since none knows what the others have seen.
fn identifier(sealer: &Sealer) -> Identifier {
    Identifier::new().with_nonces(Nonces::new(sealer.derive("nonces of proofs"), NONCE_PERIOD))
}

/// The data plane's address, for tokens that are for it. Never what a request says: a token for another house would be for
/// whatever house its presenter names.
pub(crate) fn base(config: &Config) -> String {
    let listeners = &config.listeners;
    let scheme = if listeners.tls.is_some() { "https" } else { "http" };
    listeners.public_url.clone().unwrap_or_else(|| format!("{scheme}://{}", listeners.data))
}

const fn bounds(config: &Config) -> Bounds {
    let limits = &config.limits;
    Bounds {
        body: json::Limits {
            bytes_max: limits.body_bytes_max,
            depth_max: limits.json_depth_max,
            nodes_max: limits.json_nodes_max,
        },
        body_timeout: limits.body_timeout,
        answer_bytes_max: limits.answer_bytes_max,
    }
}

/// Watches the state database: a change made elsewhere is in force here as soon as the word of it comes, and without one within
/// a fraction of the lease. The lease has a task of its own, which never waits for what there is to take in.
fn watch(tasks: &Tasks, keeper: Arc<Keeper>, mark: Watermark) {
    let shutdown = tasks.shutdown().clone();
    let (word, heard) = (Arc::new(Notify::new()), keeper.clone());
    let (told, until) = (word.clone(), shutdown.clone());
    tasks.spawn("listen", async move {
        while !until.is_requested() {
            tokio::select! {
                () = heard.moved() => told.notify_one(),
                () = until.requested() => {}
            }
        }
    });
    let (hearing, until) = (keeper.clone(), shutdown.clone());
    tasks.spawn("lease", async move {
        while !until.is_requested() {
            if let Err(error) = hearing.hear().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the state database does not answer; the lease runs"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(PULSE) => {}
                () = word.notified() => {}
                () = until.requested() => {}
            }
        }
    });
    tasks.spawn("follow", async move {
        let mut noted = 0;
        while !shutdown.is_requested() {
            tokio::select! {
                () = keeper.behind() => {}
                () = tokio::time::sleep(PULSE) => {}
                () = shutdown.requested() => {}
            }
            // Not within the choice: what was begun goes on to its end.
            if let Err(error) = keeper.follow_heard().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the state could not be followed; the lease runs"
                );
            }
            let revision = keeper.revision();
            if revision > noted {
                noted = revision;
                note(mark.clone(), revision).await;
            }
        }
    });
}

/// How often a node asks for the present revision, also without a word: a fraction of the lease.
const PULSE: Duration = Duration::from_millis(200);

async fn note(mark: Watermark, revision: u64) {
    let noted = tokio::task::spawn_blocking(move || mark.note(revision)).await;
    if let Ok(Err(error)) = noted {
        tracing::warn!(error = &error as &dyn std::error::Error, "the revision could not be noted");
    }
}

/// Refuses a state database that is behind what this node has decided on.
fn not_put_back(mark: &Watermark, revision: u64) -> Result<(), NodeError> {
    match mark.known() {
        Some(known) if known > revision => {
            Err(NodeError::PutBack { revision, known, path: mark.path().to_owned() })
        }
        _ => Ok(()),
    }
}

/// Nobody needs to wait for this node any more.
async fn leave(keeper: &Keeper) {
    if let Err(error) = keeper.leave().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the lease was not given back; it runs out by itself"
        );
    }
}

/// Mutual TLS between processes of the house, where it is configured.
pub(crate) fn mutual_tls(config: &Config, clock: Arc<dyn Clock>) -> Result<Option<MutualTls>, NodeError> {
    let Some(files) = &config.mutual else { return Ok(None) };
    MutualTls::open(files.clone(), clock).map(Some).map_err(part("mutual TLS"))
}

pub(crate) fn server_tls(config: &Config) -> Result<Option<ServerTls>, NodeError> {
    let Some((certificates, key)) = &config.listeners.tls else { return Ok(None) };
    let (clients, workloads) = (config.listeners.client_ca.as_deref(), config.listeners.workloads);
    ServerTls::with_clients(certificates, key, clients, workloads).map(Some).map_err(part("inbound TLS"))
}

/// Opens the listener for proxies, where there is to be one.
async fn listen_to_proxies(
    config: &Config,
    tasks: &Tasks,
    gate: Arc<Gate>,
    authority: Option<Authority>,
    clock: Arc<dyn Clock>,
) -> Result<Option<SocketAddr>, NodeError> {
    let Some(listener) = &config.listeners.mesh else { return Ok(None) };
    let tls = match listener.tls {
        MeshTls::Plain => None,
        MeshTls::Server => server_tls(config)?,
        MeshTls::Mutual => {
            let mutual = mutual_tls(config, clock)?;
            mutual.map(|mutual| mutual.server()).transpose().map_err(part("mutual TLS"))?
        }
    };
    let (peers, body_bytes_max) = (listener.peers.clone(), config.limits.body_bytes_max);
    let mesh = Mesh::new(bartizan_mesh::Parts { gate, authority, peers, body_bytes_max });
    let served = serve(
        "mesh",
        listener.address,
        tls,
        limits(config),
        tasks,
        move |request: Request<Incoming>, peer| {
            let mesh = mesh.clone();
            async move { mesh.answer(request, peer).await }
        },
    );
    Ok(Some(served.await.map_err(part("the listener for proxies"))?.address))
}

fn limits(config: &Config) -> ServerLimits {
    ServerLimits {
        head_bytes_max: config.limits.head_bytes_max,
        connections_max: config.limits.connections_max,
        write_timeout: config.limits.write_timeout,
        ..ServerLimits::default()
    }
}

async fn listen(
    config: &Config,
    tasks: &Tasks,
    gate: Arc<Gate>,
    (control, mounts): (Control, Vec<Arc<dyn Mount>>),
    operations: Operations,
) -> Result<(SocketAddr, SocketAddr, SocketAddr), NodeError> {
    let limits = limits(config);
    let tls = server_tls(config)?;
    let listeners = &config.listeners;
    let gateway = Gateway::new(gate);
    let proxies = listeners.trusted_proxies.clone();
    let data =
        serve("data", listeners.data, tls.clone(), limits, tasks, move |request: Request<Incoming>, peer| {
            let (gateway, caller) = (gateway.clone(), proxies.caller(peer, request.headers()));
            async move { gateway.answer(request, caller).await }
        });
    let data = data.await.map_err(part("the data listener"))?;
    let published = config.issuer.as_deref().map(|issuer| bartizan_api::Published {
        issuer: issuer.into(),
        certificates: listeners.client_ca.is_some(),
    });
    let api = Api::new(control).published(published).with(mounts);
    let proxies = listeners.trusted_proxies.clone();
    let control =
        serve("control", listeners.control, tls, limits, tasks, move |request: Request<Incoming>, peer| {
            let (api, caller) = (api.clone(), proxies.caller(peer, request.headers()));
            async move { api.answer(request, caller).await }
        });
    let control = control.await.map_err(part("the control listener"))?;
    let operations = serve(
        "operations",
        listeners.operations,
        None,
        limits,
        tasks,
        move |request: Request<Incoming>, _| {
            let operations = operations.clone();
            async move { operations.answer(request.uri().path()) }
        },
    );
    let operations = operations.await.map_err(part("the operations listener"))?;
    Ok((data.address, control.address, operations.address))
}
