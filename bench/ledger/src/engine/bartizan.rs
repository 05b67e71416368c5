//! Bartizan's recorder through its public ways: encoding, queue, write-ahead log, and the sealing of a running node, once
//! a second into bundles, tiles and a signed checkpoint that is swapped in the state database.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bartizan_base::{Clock, Digest};
use bartizan_bench::Error;
use bartizan_decide::{Permit, Refused};
use bartizan_model::action::ModelCall;
use bartizan_model::record::End;
use bartizan_model::{DecisionId, NodeId, PrincipalId, Target};
use bartizan_record::{Config, DataFolder, Ended, RealDisk, Recorder};
use bartizan_rt::{SystemRandom, Tasks};
use bartizan_secret::Secret;
use bartizan_store_sqlite::SqliteStore;

use super::{Engine, at_least};
use crate::house::{House, padded};

/// Between two seals: the product's own setting.
const SEAL_INTERVAL: Duration = Duration::from_secs(1);

/// What the names of the logs begin with, and the key that signs them.
pub const ORIGIN: &str = "bench.bartizan.internal/log";
pub const SEED: [u8; 32] = [7; 32];

/// What is recorded.
pub enum Way {
    /// Refusals as `decide` makes them, each of another subject, so that no flood is counted instead of written: one record
    /// of [`super::RECORD_BYTES`], acknowledged when durable. Comparable record by record.
    Refusals(Refusals),
    /// Intents for permits that `decide` has made beforehand, each with its outcome: two records for an append, of which
    /// the first is waited for. What a model call costs.
    Intents { house: Box<House>, permits: Mutex<Vec<Permit<ModelCall>>> },
}

impl Way {
    /// Refusals.
    pub fn refusals(house: &House, clock: &dyn Clock, node: NodeId) -> Result<Self, Error> {
        let each = |_| {
            let refused = padded(house.refused(clock.now(), decision(clock, 0))?, node)?;
            Ok::<_, Error>(Mutex::new(Some(refused)))
        };
        Ok(Self::Refusals(Refusals((0..PLACES).map(each).collect::<Result<_, _>>()?)))
    }

    /// Intents, with `count` permits in stock. Beyond, each is decided when it is needed, and its cost counts.
    pub fn intents(house: House, clock: &dyn Clock, count: u64) -> Result<Self, Error> {
        let permits: Result<Vec<_>, Error> =
            (0..count).map(|number| house.permit(clock.now(), decision(clock, u64::MAX - number))).collect();
        Ok(Self::Intents { house: Box::new(house), permits: Mutex::new(permits?) })
    }
}

/// At the most so many append at once.
const PLACES: u64 = 256;

/// A refusal for each writer, which is handed over as `decide` hands it over: neither made nor copied for the append, just
/// as the records of the other engines are but a handful of instructions. Only who is refused, and in which decision, is new.
pub struct Refusals(Vec<Mutex<Option<Refused>>>);

impl Refusals {
    fn place(&self, number: u64) -> Result<MutexGuard<'_, Option<Refused>>, Error> {
        // Writers count in steps of their number, so that none of them comes to another's place.
        let place = usize::try_from(number % PLACES)?;
        Ok(self.0.get(place).ok_or("no such place")?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A recorder at work.
pub struct Ledger {
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    way: Way,
    tasks: Tasks,
    /// Held as long as the recorder writes.
    _folder: DataFolder,
}

impl Ledger {
    /// Opens the data folder, as the product does at its start; ready to record on return.
    pub async fn open(folder: &Path, clock: Arc<dyn Clock>, node: NodeId, way: Way) -> Result<Self, Error> {
        let locked = DataFolder::lock(folder)?;
        let store = Arc::new(SqliteStore::open(&folder.join("state.db"))?);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let config = Config::new(folder.to_owned(), node, ORIGIN.to_owned(), Secret::new(SEED), version);
        let recorder = Recorder::open(config, clock.clone(), Arc::new(RealDisk), store).await?;
        Ok(Self { recorder, clock, way, tasks: Tasks::new(), _folder: locked })
    }

    /// Seals as a running node does.
    pub fn seal_every_second(&self) {
        let (recorder, shutdown) = (self.recorder.clone(), self.tasks.shutdown().clone());
        self.tasks.spawn("seal", async move { recorder.seal_every(SEAL_INTERVAL, &shutdown).await });
    }

    /// Seals whatever is durable, and gives how many entries the logs then have.
    pub async fn seal(&self) -> Result<u64, Error> {
        self.recorder.seal_now().await?;
        Ok(self.recorder.sealed_sizes().values().sum())
    }

    /// Entries of the published logs.
    pub fn sealed(&self) -> u64 {
        self.recorder.sealed_sizes().values().sum()
    }
}

/// A node that is new now.
pub fn new_node(clock: &dyn Clock) -> NodeId {
    NodeId::new(clock.now(), &SystemRandom::new())
}

fn decision(clock: &dyn Clock, number: u64) -> DecisionId {
    DecisionId::from_parts(clock.now(), distinct(number))
}

fn distinct(number: u64) -> [u8; 10] {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [a, b, c, d, e, f, g, h, 0, 0]
}

impl Engine for Ledger {
    async fn append(&self, number: u64) -> Result<(), Error> {
        let now = self.clock.now();
        match &self.way {
            Way::Refusals(refused) => {
                let taken = refused.place(number)?.take();
                let mut own = taken.ok_or("two writers append the same refusal")?;
                own.id = DecisionId::from_parts(now, distinct(number));
                own.who.subject = PrincipalId::from_parts(now, distinct(number));
                self.recorder.refused(&own).await?;
                *refused.place(number)? = Some(own);
            }
            Way::Intents { house, permits } => {
                let stock = permits.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let permit = match stock {
                    Some(permit) => permit,
                    None => house.permit(now, decision(&*self.clock, number))?,
                };
                let target = Target::Upstream {
                    upstream: house.upstream(),
                    path: "/v1/chat/completions".to_owned(),
                    body: Digest::from_bytes([0x5a; 32]),
                };
                let intent = self.recorder.intend(permit, target).await?;
                intent.begin().finish(Ended { status: Some(200), bytes: 364, ..Ended::new(End::Done) });
            }
        }
        Ok(())
    }

    /// Batches of the write-ahead log; the seals of each second come on top.
    async fn syncs(&self) -> Result<Option<u64>, Error> {
        Ok(Some(self.recorder.stats().syncs.load(Relaxed)))
    }

    /// Closes, and looks whether everything that was acknowledged is sealed and nothing was counted instead of written.
    async fn check(&self, acknowledged: u64) -> Result<(), Error> {
        self.tasks.shutdown().request();
        self.recorder.close().await;
        let stats = self.recorder.stats();
        if stats.coalesced.load(Relaxed) > 0 {
            return Err("refusals were counted instead of written".into());
        }
        let each = if matches!(self.way, Way::Intents { .. }) { 2 } else { 1 };
        at_least(stats.sealed.load(Relaxed), acknowledged * each)?;
        at_least(self.sealed(), acknowledged * each)
    }
}
