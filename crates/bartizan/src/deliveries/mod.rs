//! The deliveries and mirrors of this node: what runs is held against what is declared, every second.
//!
//! Each node serves its own ledger: its records, its position, its dead letters. What is kept lies in the data folder, in
//! `deliveries/TENANT/NAME`; a name that is declared anew goes on where it stopped.

mod entry;
#[cfg(feature = "s3")]
mod mirror;
mod sink;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bartizan_base::{Clock, Name, Random};
use bartizan_control::{Couriers, DeliveryView, LetterView};
use bartizan_deliver::{Cause, DeadLetters, LetterError};
use bartizan_enforce::Keeper;
use bartizan_model::{NodeId, Problem, ReasonCode, Spec, Status, Tenant};
use bartizan_record::Feed;
use bartizan_rt::Tasks;
use bartizan_store::State;
use bartizan_upstream::{Credentials, Upstreams};
use futures_util::future::{BoxFuture, join_all};

pub(crate) use entry::Key;
use entry::{Declared, Job, Running};
use sink::Outside;

/// Between two looks at what is declared.
const ROUND: Duration = Duration::from_secs(1);
/// How long a start may take.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// How long a dead letter that is sent again may take.
const RETRY_PATIENCE: Duration = Duration::from_secs(60);

/// What deliveries are made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) feed: Feed,
    pub(crate) credentials: Arc<dyn Credentials>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) node: NodeId,
    /// The data folder's `deliveries`.
    pub(crate) folder: PathBuf,
    /// Where files of records are written.
    pub(crate) files: PathBuf,
}

/// The deliveries and mirrors of this node.
#[derive(Debug)]
pub(crate) struct Deliveries {
    keeper: Arc<Keeper>,
    feed: Feed,
    credentials: Arc<dyn Credentials>,
    random: Arc<dyn Random>,
    outside: Outside,
    folder: PathBuf,
    files: PathBuf,
    jobs: Mutex<BTreeMap<Key, Job>>,
}

impl Deliveries {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { keeper, feed, credentials, upstreams, clock, random, node, folder, files } = parts;
        let outside = Outside { upstreams, clock, node };
        Self { keeper, feed, credentials, random, outside, folder, files, jobs: Mutex::default() }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<Key, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what runs to what is declared.
    async fn round(&self, tasks: &Tasks) {
        // While the state database does not answer, what was declared last goes on.
        let Ok(world) = self.keeper.current() else { return };
        let declared = declared(&world.state);
        let ending = self.end(&declared);
        for running in ending {
            running.ended().await;
        }
        let due = self.due(declared);
        // At the same time: a store that does not answer holds up nobody else.
        join_all(due.into_iter().map(|(key, declared)| self.start(key, declared, tasks))).await;
        self.count().await;
    }

    /// Ends what is not declared any more, or otherwise.
    fn end(&self, declared: &BTreeMap<Key, Declared>) -> Vec<Running> {
        let mut jobs = self.jobs();
        let mut ending = Vec::new();
        jobs.retain(|key, job| {
            let stays = declared.get(key) == Some(&job.declared);
            if !stays || !job.runs() {
                ending.extend(job.running.take());
            }
            stays
        });
        ending.iter().for_each(Running::request_end);
        ending
    }

    /// Notes what is declared and gives what is to be started now.
    fn due(&self, declared: BTreeMap<Key, Declared>) -> Vec<(Key, Declared)> {
        let mut jobs = self.jobs();
        let mut due = Vec::new();
        for (key, declared) in declared {
            let letters = self.letters(&key);
            let job = jobs.entry(key.clone()).or_insert_with(|| Job::new(declared.clone(), letters));
            if declared.status() == Status::Active && !job.runs() && job.is_due() {
                due.push((key, declared));
            }
        }
        due
    }

    async fn start(&self, key: Key, declared: Declared, tasks: &Tasks) {
        let opened = tokio::time::timeout(START_PATIENCE, self.open(&key, &declared, tasks)).await;
        let started = opened.unwrap_or_else(|_| Err(Cause::new("the destination does not answer")));
        let mut jobs = self.jobs();
        let Some(job) = jobs.get_mut(&key) else { return };
        match started {
            Ok(running) => {
                tracing::info!(kind = key.kind, name = %key.name, "a delivery has started");
                job.running = Some(running);
                job.stopped = None;
                job.failed_starts = 0;
            }
            Err(cause) => {
                if job.stopped.as_ref() != Some(&cause) {
                    tracing::warn!(kind = key.kind, name = %key.name, %cause, "a delivery cannot be started");
                }
                job.stopped = Some(cause);
                job.put_off();
            }
        }
    }

    async fn open(&self, key: &Key, declared: &Declared, tasks: &Tasks) -> Result<Running, Cause> {
        let credential = declared.credential().map(|name| {
            let found = self.credentials.credential(&key.tenant, name);
            found.ok_or_else(|| {
                Cause::new(format_args!("there is no credential `{name}`, or it does not open"))
            })
        });
        let credential = credential.transpose()?;
        match &declared.spec {
            Spec::Delivery(spec) => {
                let files = self.files.join(part(key.tenant.0.as_str())).join(part(key.name.as_str()));
                let sink = sink::open(spec, &key.name, files, credential, &self.outside).await?;
                let letters = self.letters(key);
                self.courier(key, spec, sink, letters, tasks).await
            }
            #[cfg(feature = "s3")]
            Spec::Mirror(spec) => {
                let secret = credential.ok_or_else(|| Cause::new("no credential is named"))?;
                let bucket = sink::bucket(&spec.store, secret, self.outside.upstreams.clone())?;
                Ok(self.mirror(key, bucket, Duration::from_secs(spec.interval_s.into()), tasks))
            }
            #[cfg(not(feature = "s3"))]
            Spec::Mirror(_) => Err(sink::absent("s3")),
            _ => Err(Cause::new("nothing that is delivered")),
        }
    }

    fn place(&self, key: &Key) -> PathBuf {
        self.folder.join(part(key.tenant.0.as_str())).join(part(key.name.as_str()))
    }

    fn letters(&self, key: &Key) -> DeadLetters {
        DeadLetters::new(self.place(key).join("letters"), entry::LETTERS_MAX)
    }

    /// Looks at what only the disk and the ledger know.
    async fn count(&self) {
        let looks: Vec<_> = self.jobs().iter().map(|(key, job)| (key.clone(), job.look())).collect();
        for (key, look) in looks {
            let seen = look.see().await;
            if let Some(job) = self.jobs().get_mut(&key) {
                job.seen = seen;
            }
        }
    }

    /// Every job with how it is doing, for metrics.
    pub(crate) fn views(&self) -> Vec<(Tenant, DeliveryView)> {
        let jobs = self.jobs();
        jobs.iter().map(|(key, job)| (key.tenant.clone(), job.view(key, self.outside.node))).collect()
    }
}

/// Does that until the end.
pub(crate) fn follow(tasks: &Tasks, deliveries: Arc<Deliveries>) {
    let shutdown = tasks.shutdown().clone();
    let spawner = tasks.clone();
    tasks.spawn("deliveries", async move {
        while !shutdown.is_requested() {
            tokio::select! {
                () = shutdown.requested() => {}
                () = async {
                    deliveries.round(&spawner).await;
                    tokio::time::sleep(ROUND).await;
                } => {}
            }
        }
    });
}

/// What is declared in every house.
fn declared(state: &State) -> BTreeMap<Key, Declared> {
    let sealed = |tenant: &Tenant, name: &Name| {
        let row = state.sealed.iter().find(|row| row.tenant == *tenant && row.name == *name);
        row.map(|row| row.sealed.clone())
    };
    let documents =
        state.documents.iter().filter(|(_, d, _)| matches!(d.spec, Spec::Delivery(_) | Spec::Mirror(_)));
    documents
        .map(|(tenant, document, _)| {
            let key = Key { tenant: tenant.clone(), kind: document.spec.kind(), name: document.name.clone() };
            let mut declared = Declared { spec: document.spec.clone(), sealed: None };
            declared.sealed = declared.credential().and_then(|name| sealed(tenant, name));
            (key, declared)
        })
        .collect()
}

/// A name as one part of a path: names may hold `/` and `..`, paths of ours may not.
fn part(name: &str) -> PathBuf {
    let mut out = String::new();
    for (place, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && place > 0) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Path::new(&out).to_owned()
}

fn no_such(name: &Name) -> Problem {
    Problem::with_detail(ReasonCode::NotFound, format!("no delivery is called `{name}`"))
}

fn unreadable(error: &LetterError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "a dead letter cannot be read");
    Problem::with_detail(ReasonCode::Internal, error.to_string())
}

impl Couriers for Deliveries {
    fn absent_feature(&self, spec: &Spec) -> Option<&'static str> {
        sink::absent_feature(spec)
    }

    fn list(&self, tenant: &Tenant) -> Vec<DeliveryView> {
        self.views().into_iter().filter(|(whose, _)| whose == tenant).map(|(_, view)| view).collect()
    }

    fn letters<'a>(
        &'a self,
        tenant: &'a Tenant,
        name: &'a Name,
    ) -> BoxFuture<'a, Result<Vec<LetterView>, Problem>> {
        Box::pin(async move {
            let found = self.jobs().get(&Key::delivery(tenant, name)).map(|job| job.letters.clone());
            let letters = found.ok_or_else(|| no_such(name))?;
            let letters = letters.list().await.map_err(|e| unreadable(&e))?;
            Ok(letters.iter().map(entry::letter).collect())
        })
    }

    fn retry<'a>(
        &'a self,
        tenant: &'a Tenant,
        name: &'a Name,
        letter: &'a str,
    ) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            let found = {
                let jobs = self.jobs();
                let job = jobs.get(&Key::delivery(tenant, name)).ok_or_else(|| no_such(name))?;
                job.running.as_ref().and_then(Running::sink).map(|sink| (job.letters.clone(), sink))
            };
            let absent = || {
                let detail = format!("`{name}` has no dead letter `{letter}`");
                Problem::with_detail(ReasonCode::NotFound, detail)
            };
            let id = letter.parse().map_err(|_| absent())?;
            let Some((letters, sink)) = found else {
                let detail = format!("`{name}` does not run");
                return Err(Problem::with_detail(ReasonCode::DeliveryRefused, detail));
            };
            let sent = tokio::time::timeout(RETRY_PATIENCE, letters.deliver(id, &*sink)).await;
            match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(LetterError::Absent(_))) => Err(absent()),
                Ok(Err(LetterError::Deliver(error))) => {
                    Err(Problem::with_detail(ReasonCode::DeliveryRefused, error.cause().to_string()))
                }
                Ok(Err(error)) => Err(unreadable(&error)),
                Err(_) => Err(Problem::with_detail(ReasonCode::DeliveryRefused, "no answer in time")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_folder_or_shares_one() {
        let names = ["..", ".", "a/b", "a_b", "a%2Fb", "/etc", "A", "a..b", "a:b@c+d"];
        let mut parts: Vec<PathBuf> = names.iter().map(|name| part(name)).collect();
        for part in &parts {
            assert_eq!(part.components().count(), 1, "{}", part.display());
            assert!(matches!(part.components().next(), Some(std::path::Component::Normal(_))));
        }
        parts.sort();
        parts.dedup();
        assert_eq!(parts.len(), names.len());
    }
}
