//! The role `witness`: cosigns the checkpoints of the logs it was told of, each only as the continuation of the last
//! (C2SP tlog-witness). It needs no installation, and works for logs that are none of ours.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::Clock;
use bartizan_gateway::{ServerLimits, serve};
use bartizan_keys::KeyFolder;
use bartizan_ledger::{
    ADD_CHECKPOINT_MAX, AddCheckpoint, Cosigner, CosignerKey, Judgement, Policy, SIZE_TYPE, VerifierKey,
    Witness, monitor_path,
};
use bartizan_rt::Tasks;
use bartizan_store::Checkpoints;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;

use crate::config::Config;
use crate::ground::{DataFolder, NodeError, StateDb, part};
use crate::node::{Machine, node_id};

/// Within which time a request's body must be here.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// How often a request is judged anew because another one came first.
const TRIES: usize = 8;

/// A witness that runs.
#[derive(Debug)]
pub struct WitnessNode {
    /// Where it listens.
    pub data: SocketAddr,
    /// Where health and metrics are served.
    pub operations: SocketAddr,
    /// Its key, for the policies of those who ask it.
    pub key: CosignerKey,
    tasks: Tasks,
    _folder: DataFolder,
}

impl WitnessNode {
    /// Starts a witness; its key and state are made in the data folder at the first start.
    ///
    /// # Errors
    /// [`NodeError`]; each says what can be done.
    pub async fn start(config: &Config) -> Result<Self, NodeError> {
        let Machine { clock, random, .. } = Machine::default();
        let folder = DataFolder::open(&config.folder)?;
        let logs = known_logs(config.witnessed.as_deref())?;
        let keys = KeyFolder::create(&folder.path.join("keys")).map_err(part("the key folder"))?;
        let seed = keys.witness_seed(&*random).map_err(part("the witness's key"))?;
        let name = format!("{}.bartizan.internal/witness", node_id(&folder.path, &*clock, &*random)?);
        let cosigner = Cosigner::from_seed(&name, seed.expose()).map_err(part("the witness's key"))?;
        let key = cosigner.verifier().clone();
        let notes = folder.path.join("witnessed");
        fs::create_dir_all(&notes).map_err(|source| NodeError::Io { path: notes.clone(), source })?;
        let desk = Arc::new(Desk {
            witness: Witness::new(vec![cosigner]),
            logs,
            state: StateDb::open(config).await?.checkpoints(),
            notes,
            kept: Mutex::default(),
            clock,
            cosigned: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let tasks = Tasks::new();
        let limits = ServerLimits {
            head_bytes_max: config.limits.head_bytes_max,
            connections_max: config.limits.connections_max,
            write_timeout: config.limits.write_timeout,
            ..ServerLimits::default()
        };
        let (asked, watched) = (desk.clone(), desk);
        let tls = match crate::node::mutual_tls(config, asked.clock.clone())? {
            Some(mutual) => Some(mutual.server().map_err(part("mutual TLS"))?),
            None => crate::node::server_tls(config)?,
        };
        let data = serve("witness", config.listeners.data, tls, limits, &tasks, move |request, _| {
            let desk = asked.clone();
            async move { desk.answer(request).await }
        });
        let data = data.await.map_err(part("the data listener"))?.address;
        let operations = serve(
            "operations",
            config.listeners.operations,
            None,
            limits,
            &tasks,
            move |request: Request<Incoming>, _| {
                let desk = watched.clone();
                async move { desk.operations(request.uri().path()) }
            },
        );
        let operations = operations.await.map_err(part("the operations listener"))?.address;
        Ok(Self { data, operations, key, tasks, _folder: folder })
    }

    /// Ends; running requests get ten seconds.
    pub async fn stop(self) {
        if !self.tasks.finish(Duration::from_secs(10)).await {
            tracing::warn!("some requests did not end in time");
        }
    }
}

/// The keys of the logs that may ask: `log VKEY` lines of a tlog-policy file (C2SP).
fn known_logs(path: Option<&Path>) -> Result<Vec<VerifierKey>, NodeError> {
    let what = "`witness.logs`";
    let Some(path) = path else {
        let text = "a witness needs a file with one `log VKEY` line for each log it cosigns";
        return Err(NodeError::Part { what, source: text.into() });
    };
    let mut file = fs::read(path).map_err(part(what))?;
    file.extend_from_slice(b"\nquorum none\n");
    let policy = Policy::parse(&file).map_err(part(what))?;
    Ok(policy.logs().iter().map(|log| log.key.clone()).collect())
}

/// Where requests are judged.
#[derive(Debug)]
struct Desk {
    witness: Witness,
    logs: Vec<VerifierKey>,
    state: Arc<dyn Checkpoints>,
    /// The latest cosigned checkpoint of each log, for monitors.
    notes: PathBuf,
    /// The size of each of them; held while one is written, so that none replaces a later one.
    kept: Mutex<BTreeMap<String, u64>>,
    clock: Arc<dyn Clock>,
    cosigned: AtomicU64,
    refused: AtomicU64,
}

type Reply = Response<Full<Bytes>>;

fn reply(status: u16, kind: &'static str, text: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(text.into()));
    *reply.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::POST, "/add-checkpoint") => {
                let body = Limited::new(request.into_body(), ADD_CHECKPOINT_MAX).collect();
                match tokio::time::timeout(BODY_PATIENCE, body).await {
                    Ok(Ok(body)) => self.add_checkpoint(&body.to_bytes()).await,
                    Ok(Err(_)) => reply(413, TEXT, "longer than an add-checkpoint request may be\n"),
                    Err(_) => reply(408, TEXT, "the request did not arrive in time\n"),
                }
            }
            (&Method::GET, path) => self.monitor(path),
            _ => reply(405, TEXT, "there are POST /add-checkpoint and GET /HASH/checkpoint\n"),
        }
    }

    async fn add_checkpoint(&self, body: &[u8]) -> Reply {
        let reply = self.judge(body).await;
        let counter = if reply.status().is_success() { &self.cosigned } else { &self.refused };
        counter.fetch_add(1, Relaxed);
        reply
    }

    async fn judge(&self, body: &[u8]) -> Reply {
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(error) => return reply(400, TEXT, format!("{error}\n")),
        };
        for _ in 0..TRIES {
            let latest = match self.state.latest(request.origin()).await {
                Ok(latest) => latest,
                Err(error) => return unavailable(&error),
            };
            let judgement = self.witness.judge(&self.logs, latest, &request);
            let status = judgement.status();
            let accepted = match judgement {
                Judgement::Accept(accepted) => accepted,
                Judgement::Conflict(size) => return reply(status, SIZE_TYPE, format!("{size}\n")),
                Judgement::UnknownLog => return reply(status, TEXT, "not a log that this witness follows\n"),
                Judgement::Unsigned(error) => return reply(status, TEXT, format!("{error}\n")),
                Judgement::Backwards => return reply(status, TEXT, "the old size is beyond the new one\n"),
                Judgement::Inconsistent(error) => return reply(status, TEXT, format!("{error}\n")),
            };
            if latest != Some(accepted.state()) {
                match self.state.swap(accepted.origin(), latest, accepted.state()).await {
                    Ok(true) => {}
                    // Another request came first: judged anew on what it left.
                    Ok(false) => continue,
                    Err(error) => return unavailable(&error),
                }
            }
            return match self.witness.cosign(&accepted, self.clock.now().as_secs()) {
                Ok(answer) => {
                    self.keep(accepted.origin(), accepted.state().0, &answer.checkpoint);
                    reply(200, TEXT, answer.lines)
                }
                Err(error) => reply(500, TEXT, format!("{error}\n")),
            };
        }
        reply(503, TEXT, "too many requests for one log at once\n")
    }

    /// Keeps the cosigned checkpoint for monitors. Advisory: the state is what counts, and it is durable already.
    fn keep(&self, origin: &str, size: u64, checkpoint: &str) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = kept.entry(origin.to_owned()).or_default();
        if *latest > size {
            return;
        }
        *latest = size;
        let path = self.notes.join(file_of(&monitor_path(origin)));
        let temporary = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(checkpoint.as_bytes())?;
            fs::rename(&temporary, &path)
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "a cosigned checkpoint could not be kept for monitors");
        }
    }

    fn monitor(&self, path: &str) -> Reply {
        let known =
            self.logs.iter().map(|key| monitor_path(key.name())).find(|p| path.strip_prefix('/') == Some(p));
        match known.and_then(|path| fs::read(self.notes.join(file_of(&path))).ok()) {
            Some(note) => reply(200, TEXT, note),
            None => reply(404, TEXT, "no checkpoint of such a log was cosigned here\n"),
        }
    }

    fn operations(&self, path: &str) -> Reply {
        let (cosigned, refused) = (self.cosigned.load(Relaxed), self.refused.load(Relaxed));
        match path {
            "/healthz" | "/readyz" => reply(200, TEXT, "ok\n"),
            "/metrics" => reply(
                200,
                TEXT,
                format!(
                    "# HELP bartizan_witness_cosigned Checkpoints cosigned.\n# TYPE bartizan_witness_cosigned counter\n\
                     bartizan_witness_cosigned_total {cosigned}\n\
                     # HELP bartizan_witness_refused Checkpoints not cosigned.\n# TYPE bartizan_witness_refused counter\n\
                     bartizan_witness_refused_total {refused}\n# EOF\n"
                ),
            ),
            _ => reply(404, TEXT, "there are /healthz, /readyz, /metrics\n"),
        }
    }
}

/// The name of the file for a monitor's path: the hash alone.
fn file_of(monitor_path: &str) -> &str {
    monitor_path.split('/').next().unwrap_or_default()
}

fn unavailable(error: &bartizan_store::StoreError) -> Reply {
    tracing::error!(error = error as &dyn std::error::Error, "the witness's state cannot be had");
    reply(503, TEXT, "the witness's state cannot be had; try again\n")
}
