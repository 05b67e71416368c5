//! One declared delivery or mirror on this node.

use std::sync::{Arc, Mutex};

use bartizan_base::Name;
use bartizan_control::{DeliveryState, DeliveryView, LetterView};
use bartizan_deliver::{
    Cause, Config, Courier, DeadLetters, Health, Letter, Parts, Pulse, Sink, Source as _,
};
use bartizan_model::delivery::{Begin, DeliveryFormat, DeliverySpec, Destination};
use bartizan_model::{NodeId, Spec, Status, Tenant};
use bartizan_rt::{Shutdown, Tasks};

use super::source::{BYTES_MAX, FeedSource, Places, RECORDS_MAX};
use super::{Deliveries, sink};

/// How many dead letters are kept; once there are so many, the next waits, and everything behind it.
pub(super) const LETTERS_MAX: usize = 1_000;

/// Which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) tenant: Tenant,
    pub(crate) kind: &'static str,
    pub(crate) name: Name,
}

impl Key {
    pub(super) fn delivery(tenant: &Tenant, name: &Name) -> Self {
        Self { tenant: tenant.clone(), kind: "delivery", name: name.clone() }
    }
}

/// What is declared, with the ciphertext of its credential: another one makes another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Declared {
    pub(super) spec: Spec,
    pub(super) sealed: Option<Vec<u8>>,
}

impl Declared {
    pub(super) const fn status(&self) -> Status {
        match &self.spec {
            Spec::Delivery(spec) => spec.status,
            Spec::Mirror(spec) => spec.status,
            _ => Status::Disabled,
        }
    }

    pub(super) const fn credential(&self) -> Option<&Name> {
        match &self.spec {
            Spec::Delivery(spec) => spec.credential.as_ref(),
            Spec::Mirror(spec) => Some(&spec.credential),
            _ => None,
        }
    }
}

/// A declared thing and what runs of it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) declared: Declared,
    pub(super) running: Option<Running>,
    /// Why it could not be started.
    pub(super) stopped: Option<Cause>,
    /// How often in a row.
    pub(super) failed_starts: u32,
    /// How many rounds to wait before the next try.
    wait: u32,
    pub(super) letters: DeadLetters,
    pub(super) seen: Seen,
}

/// What runs.
#[derive(Debug)]
pub(super) struct Running {
    work: Work,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
enum Work {
    Courier {
        pulse: Pulse,
        sink: Arc<dyn Sink>,
        source: Arc<FeedSource>,
    },
    #[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "mirrors need the feature `s3`"))]
    Mirror(Arc<Mutex<Health>>),
}

/// What only the ledger and the disk know, looked at every second.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    behind: Option<u64>,
    dead_letters: u64,
}

/// How to find that out.
pub(super) struct Look {
    source: Option<(Arc<FeedSource>, Health)>,
    letters: DeadLetters,
}

impl Look {
    pub(super) async fn see(self) -> Seen {
        let mut seen = Seen::default();
        if let Some((source, health)) = self.source {
            seen.behind = source.behind(health.done.as_ref()).await.ok();
        }
        seen.dead_letters = self.letters.count().await.map_or(0, |n| u64::try_from(n).unwrap_or(u64::MAX));
        seen
    }
}

impl Running {
    pub(super) fn request_end(&self) {
        self.shutdown.request();
    }

    /// Waits for the end; what it holds is free then.
    pub(super) async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a delivery has broken off");
        }
    }

    pub(super) fn sink(&self) -> Option<Arc<dyn Sink>> {
        match &self.work {
            Work::Courier { sink, .. } => Some(sink.clone()),
            Work::Mirror(_) => None,
        }
    }

    fn health(&self) -> Health {
        match &self.work {
            Work::Courier { pulse, .. } => pulse.health(),
            Work::Mirror(health) => health.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
        }
    }
}

impl Job {
    pub(super) fn new(declared: Declared, letters: DeadLetters) -> Self {
        Self {
            declared,
            running: None,
            stopped: None,
            failed_starts: 0,
            wait: 0,
            letters,
            seen: Seen::default(),
        }
    }

    /// Waits longer after each failed start, up to a minute.
    pub(super) fn put_off(&mut self) {
        self.wait = 1_u32.checked_shl(self.failed_starts).unwrap_or(u32::MAX).min(60);
        self.failed_starts = self.failed_starts.saturating_add(1);
    }

    /// Whether it is to be tried in this round.
    pub(super) const fn is_due(&mut self) -> bool {
        self.wait = self.wait.saturating_sub(1);
        self.wait == 0
    }

    pub(super) fn runs(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.task.is_finished())
    }

    pub(super) fn look(&self) -> Look {
        let source = self.running.as_ref().and_then(|running| match &running.work {
            Work::Courier { source, .. } => Some((source.clone(), running.health())),
            Work::Mirror(_) => None,
        });
        Look { source, letters: self.letters.clone() }
    }

    pub(super) fn view(&self, key: &Key, node: NodeId) -> DeliveryView {
        let health = self.running.as_ref().map(Running::health).unwrap_or_default();
        let failing = self.stopped.as_ref().or(health.failing.as_ref()).map(ToString::to_string);
        let state = match (self.declared.status(), &failing) {
            (Status::Disabled | Status::Retired, _) => DeliveryState::Disabled,
            (Status::Active, Some(_)) => DeliveryState::Failing,
            (Status::Active, None) => DeliveryState::Running,
        };
        DeliveryView {
            kind: key.kind,
            name: key.name.clone(),
            node,
            state,
            behind: self.seen.behind.unwrap_or(health.behind),
            done: health.done.map(|at| (at.origin.to_string(), at.index)),
            records: health.records,
            last_success: health.last_success.map(|at| at.to_string()),
            failures: health.failures,
            failing,
            dead_letters: self.seen.dead_letters,
        }
    }
}

pub(super) fn letter(letter: &Letter) -> LetterView {
    LetterView {
        id: letter.id.to_string(),
        origin: letter.first.origin.to_string(),
        first: letter.first.index,
        last: letter.last.index,
        records: letter.records,
        cause: letter.cause.to_string(),
        refused: letter.refused_us.to_string(),
    }
}

impl Deliveries {
    /// Starts a courier from the feed to `sink`.
    pub(super) async fn courier(
        &self,
        key: &Key,
        spec: &DeliverySpec,
        sink: Arc<dyn Sink>,
        letters: DeadLetters,
        tasks: &Tasks,
    ) -> Result<Running, Cause> {
        let query = spec.query.as_ref().map(|query| query.as_str().parse()).transpose();
        let held = Arc::default();
        let source = Arc::new(FeedSource {
            feed: self.feed.clone(),
            tenant: key.tenant.clone(),
            format: sink::format(spec.format),
            query: query.map_err(Cause::new)?,
            single: spec.format == DeliveryFormat::OtlpJson
                && matches!(spec.destination, Destination::Http(_)),
            clock: self.outside.clock.clone(),
            held: Arc::clone(&held),
        });
        let places = Places::new(&self.place(key), held);
        if spec.from == Begin::Now {
            places.begin(source.end()).await.map_err(Cause::new)?;
        }
        let parts = Parts {
            source: source.clone(),
            sink: sink.clone(),
            positions: Arc::new(places),
            letters,
            clock: self.outside.clock.clone(),
            random: self.random.clone(),
        };
        let config = Config { records_max: RECORDS_MAX, bytes_max: BYTES_MAX, ..Config::default() };
        let shutdown = tasks.shutdown().child();
        let courier = Courier::new(parts, config, shutdown.clone());
        let pulse = courier.pulse();
        let task = tasks.spawn("delivery", courier.run());
        Ok(Running { work: Work::Courier { pulse, sink, source }, shutdown, task })
    }

    /// Starts a mirror.
    #[cfg(feature = "s3")]
    pub(super) fn mirror(
        &self,
        key: &Key,
        bucket: bartizan_deliver::Bucket,
        every: std::time::Duration,
        tasks: &Tasks,
    ) -> Running {
        let (shutdown, health) = (tasks.shutdown().child(), Arc::default());
        let mirroring = super::mirror::Mirroring {
            feed: self.feed.clone(),
            tenant: key.tenant.clone(),
            bucket,
            every,
            clock: self.outside.clock.clone(),
            health: Arc::clone(&health),
            shutdown: shutdown.clone(),
        };
        let task = tasks.spawn("mirror", mirroring.run());
        Running { work: Work::Mirror(health), shutdown, task }
    }
}
