//! Limits and budgets on the request path: reserved before anything leaves, settled when it is over, given back if nothing left.

mod demand;
mod fields;
#[cfg(test)]
mod tests;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bartizan_base::{Clock, Name, Timestamp};
use bartizan_identify::Caller;
use bartizan_limits::{Answer, Claim, Counter, Reserved, claim};
use bartizan_model::limit::Counted;
use bartizan_model::{DecisionId, EntityRef, LimitSpec, Problem, ReasonCode};
use bartizan_store::{CounterRow, Counters, StoreError};
use tokio::runtime::Handle;

use crate::world::TenantWorld;

pub(crate) use demand::Demand;
use demand::{claims, reason, used};
pub(crate) use fields::Fields;
use fields::{fields, seconds};

/// How long a place counts as taken without being heard of.
const PLACE_KEPT: Duration = Duration::from_secs(120);
/// How often places of calls that go on are heard of; see [`Limiter::renew`].
pub const RENEW_EVERY: Duration = Duration::from_secs(20);
/// Whoever finds all places taken waits so often and so long: one that has just ended may not have been told yet.
const PATIENCE: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(25), Duration::from_millis(120)];

/// Reserves from counts that all nodes share.
#[derive(Debug)]
pub struct Limiter {
    counters: Arc<dyn Counters>,
    clock: Arc<dyn Clock>,
    /// Places that are taken by calls of this node, by decision.
    live: Mutex<BTreeMap<String, Vec<String>>>,
}

/// A limit that must refuse did not.
#[derive(Debug, thiserror::Error)]
#[error("a limit of no {0} let something through")]
pub struct NotWired(&'static str);

/// What an effect took.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    /// Tokens of the request, if the upstream told.
    pub(crate) input: Option<u64>,
    /// Of those, how many the provider had kept.
    pub(crate) cached: u64,
    /// Tokens of the answer, if the upstream told.
    pub(crate) output: Option<u64>,
    /// Where it went.
    pub(crate) upstream: Option<Name>,
    /// When it was sent: its price is that of then.
    pub(crate) at: Timestamp,
}

impl Spent {
    /// Nothing: it never came to anything that costs.
    pub(crate) const fn nothing(at: Timestamp) -> Self {
        Self { input: Some(0), cached: 0, output: Some(0), upstream: None, at }
    }
}

/// What is reserved for one ask. Dropped without being settled it is given back: nothing was sent.
#[derive(Debug)]
#[must_use = "what is reserved is settled, or given back at once"]
pub(crate) struct Reservation {
    held: Option<Held>,
    /// How limits stand, for the answer.
    pub(crate) fields: Fields,
    /// The most tokens that the answer may have, where a hard limit counts them.
    pub(crate) output_most: Option<u64>,
}

#[derive(Debug)]
struct Held {
    limiter: Arc<Limiter>,
    world: TenantWorld,
    resource: EntityRef,
    hold: String,
    parts: Vec<(Reserved, Counted)>,
    at: Timestamp,
}

impl Reservation {
    /// Nothing is limited.
    pub(crate) const fn free() -> Self {
        Self { held: None, fields: Vec::new(), output_most: None }
    }

    /// Tells what was used; where that is not known (`None`), the estimate stays. Goes on by itself.
    pub(crate) fn settle(mut self, spent: Option<&Spent>) {
        if let Some(held) = self.held.take() {
            held.settle(spent);
        }
    }

    /// When it was reserved.
    pub(crate) fn at(&self) -> Timestamp {
        self.held.as_ref().map_or_else(Timestamp::default, |held| held.at)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let at = held.at;
            held.settle(Some(&Spent::nothing(at)));
        }
    }
}

impl Held {
    fn settle(self, spent: Option<&Spent>) {
        let Self { limiter, world, resource, hold, parts, .. } = self;
        limiter.live().remove(&hold);
        let settled: Vec<(Reserved, u64)> = parts
            .into_iter()
            .map(|(reserved, what)| {
                let used = match &reserved {
                    Reserved::Amount { amount, .. } => used(what, *amount, spent, &world, &resource),
                    Reserved::Place { .. } | Reserved::Nothing => 0,
                };
                (reserved, used)
            })
            // What stays as it was estimated needs no word.
            .filter(|(reserved, used)| match reserved {
                Reserved::Amount { amount, .. } => amount != used,
                Reserved::Place { .. } => true,
                Reserved::Nothing => false,
            })
            .collect();
        let Ok(runtime) = Handle::try_current() else { return };
        if settled.is_empty() {
            return;
        }
        runtime.spawn(async move {
            let keys = settled.iter().filter_map(|(reserved, _)| key_of(reserved)).collect();
            let work = move |counters: &mut BTreeMap<String, Counter>| {
                claim::settle(counters, &settled, &hold);
                (true, ())
            };
            if let Err(error) = limiter.with(keys, work).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "what was reserved stays so: it could not be settled"
                );
            }
        });
    }
}

fn key_of(reserved: &Reserved) -> Option<String> {
    match reserved {
        Reserved::Amount { key, .. } | Reserved::Place { key } => Some(key.clone()),
        Reserved::Nothing => None,
    }
}

impl Limiter {
    /// Limits over these counts.
    #[must_use]
    pub fn new(counters: Arc<dyn Counters>, clock: Arc<dyn Clock>) -> Self {
        Self { counters, clock, live: Mutex::default() }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on counts while nobody else may touch them.
    async fn with<T: Send + 'static>(
        &self,
        keys: BTreeSet<String>,
        work: impl FnOnce(&mut BTreeMap<String, Counter>) -> (bool, T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = Box::new(move |rows: &mut BTreeMap<String, CounterRow>| {
            let read = |(key, row): (&String, &CounterRow)| {
                let counter =
                    serde_json::from_str(&row.body).map_err(|e| StoreError::Corrupt(e.to_string()))?;
                Ok((key.clone(), counter))
            };
            let mut counters: BTreeMap<String, Counter> = match rows.iter().map(read).collect() {
                Ok(counters) => counters,
                Err(error) => {
                    drop(tell.send(Err(error)));
                    return false;
                }
            };
            let (keep, value) = work(&mut counters);
            if keep {
                for (key, counter) in counters {
                    let expires = counter.kept();
                    let body = serde_json::to_string(&counter).unwrap_or_default();
                    rows.insert(key, CounterRow { body, expires });
                }
            }
            drop(tell.send(Ok(value)));
            keep
        });
        self.counters.work(keys, work).await?;
        told.await.unwrap_or_else(|_| Err(StoreError::Corrupt("a count was not worked on".to_owned())))
    }

    async fn claim(&self, claims: Vec<Claim>, hold: String, now: Timestamp) -> Result<Answer, StoreError> {
        let keys = claim::keys(&claims).into_iter().collect();
        let until = now.saturating_add(PLACE_KEPT);
        let work = move |counters: &mut BTreeMap<String, Counter>| {
            let answer = claim::claim(counters, &claims, &hold, now, until);
            (answer.reserved.is_some(), answer)
        };
        self.with(keys, work).await
    }

    /// Reserves what an ask may take, or says why not.
    ///
    /// # Errors
    /// A hard limit that it does not fit, or that cannot be asked.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        world: &TenantWorld,
        caller: &Caller,
        id: DecisionId,
        demand: &Demand<'_>,
    ) -> Result<Reservation, Problem> {
        if world.limits.is_empty() {
            return Ok(Reservation::free());
        }
        let now = self.clock.now();
        let all = claims(world, caller, demand, now)
            .map_err(|(limit, reason)| Problem::with_detail(reason, format!("limit `{limit}`")))?;
        if all.is_empty() {
            return Ok(Reservation::free());
        }
        let hold = id.to_string();
        let mut waits = PATIENCE.iter();
        let answer = loop {
            let just: Vec<Claim> = all.iter().map(|(claim, _)| claim.clone()).collect();
            let answer = match self.claim(just, hold.clone(), now).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "limits cannot be counted");
                    return if all.iter().any(|(claim, _)| claim.hard) {
                        Err(Problem::new(ReasonCode::LimitUnavailable))
                    } else {
                        Ok(Reservation::free())
                    };
                }
            };
            let only_places = refusing(&all, &answer).all(|(what, _)| what == Counted::Concurrency);
            match waits.next() {
                Some(wait) if answer.reserved.is_none() && only_places => tokio::time::sleep(*wait).await,
                _ => break answer,
            }
        };
        let told = fields(&all, &answer.standings);
        for ((claim, what), standing) in
            all.iter().zip(&answer.standings).filter(|((c, _), s)| s.over && !c.hard)
        {
            tracing::warn!(limit = %claim.limit, what = what.name(), used = standing.used, "a soft limit is exceeded");
        }
        let Some(reserved) = answer.reserved else {
            return Err(refusal(world, &all, &answer, told));
        };
        let places: Vec<String> =
            reserved.iter().filter(|r| matches!(r, Reserved::Place { .. })).filter_map(key_of).collect();
        if !places.is_empty() {
            self.live().insert(hold.clone(), places);
        }
        let counts_output = |what| matches!(what, Counted::Tokens | Counted::TokensOut | Counted::Cost);
        let capped = all.iter().any(|(claim, what)| claim.hard && counts_output(*what));
        Ok(Reservation {
            held: Some(Held {
                limiter: self.clone(),
                world: world.clone(),
                resource: demand.resource.clone(),
                hold,
                parts: reserved.into_iter().zip(all.iter().map(|(_, what)| *what)).collect(),
                at: now,
            }),
            fields: told,
            output_most: capped.then_some(demand.estimate.output),
        })
    }

    /// Proves that what is reserved goes through here: a limit of nothing must refuse, counts or no counts (litellm#26672: a limiter
    /// that was made and never asked).
    ///
    /// # Errors
    /// When an ask that may not be was let through.
    pub(crate) async fn prove(self: &Arc<Self>, id: DecisionId) -> Result<(), NotWired> {
        let caller = Caller::anonymous(bartizan_model::Tenant::default_tenant());
        for what in [Counted::Requests, Counted::Tokens, Counted::Cost, Counted::Repeats] {
            let spec = LimitSpec {
                status: bartizan_model::Status::Active,
                what,
                most: 0,
                window: Some(bartizan_model::limit::Window::Minute),
                sliding: false,
                zone: None,
                only: bartizan_model::limit::Only::default(),
                per: BTreeSet::new(),
                hard: true,
            };
            let limits = Arc::new(BTreeMap::from([(Name::literal("start-up"), spec)]));
            let world = TenantWorld { limits, ..TenantWorld::empty() };
            let estimate = bartizan_limits::Tokens { input: 1, cached: 0, output: 1 };
            let resource = EntityRef::new(Name::literal("Model"), Name::literal("start-up"));
            let demand = Demand {
                resource: &resource,
                upstreams: Vec::new(),
                estimate,
                digest: bartizan_base::Digest::EMPTY,
                run: None,
                ends: true,
            };
            if self.reserve(&world, &caller, id, &demand).await.is_ok() {
                return Err(NotWired(what.name()));
            }
        }
        Ok(())
    }

    /// Says that the calls of this node whose places are taken still go on. To be called every [`RENEW_EVERY`].
    pub async fn renew(self: &Arc<Self>) {
        let live: Vec<(String, Vec<String>)> =
            self.live().iter().map(|(hold, keys)| (hold.clone(), keys.clone())).collect();
        let until = self.clock.now().saturating_add(PLACE_KEPT);
        let mut of_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (hold, keys) in live {
            for key in keys {
                of_key.entry(key).or_default().push(hold.clone());
            }
        }
        for (key, holds) in of_key {
            let of = key.clone();
            let limiter = self.clone();
            let work = move |counters: &mut BTreeMap<String, Counter>| {
                let counter = counters.entry(of).or_default();
                // One that has ended since is told of here before it is told of there, so it is not taken again.
                let live = limiter.live();
                holds
                    .iter()
                    .filter(|hold| live.contains_key(*hold))
                    .for_each(|hold| counter.renew(hold, until));
                (true, ())
            };
            if let Err(error) = self.with([key].into(), work).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "places of calls that go on could not be renewed"
                );
            }
        }
        let swept = self.counters.sweep_counters(self.clock.now(), 1_000).await;
        if let Err(error) = swept {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "counts that are over could not be swept"
            );
        }
    }
}

/// The hard limits that say no, with how they stand.
fn refusing<'a>(
    claims: &'a [(Claim, Counted)],
    answer: &'a Answer,
) -> impl Iterator<Item = (Counted, (&'a Claim, &'a bartizan_limits::Standing))> {
    let all =
        claims.iter().zip(&answer.standings).filter(|((claim, _), standing)| claim.hard && standing.over);
    all.map(|((claim, what), standing)| (*what, (claim, standing)))
}

fn refusal(world: &TenantWorld, claims: &[(Claim, Counted)], answer: &Answer, told: Fields) -> Problem {
    let mut over: Vec<_> = refusing(claims, answer).map(|(_, both)| both).collect();
    // The one that is longest in the way is the one to tell of; one that it never fits before all others.
    over.sort_by_key(|(_, standing)| std::cmp::Reverse(standing.reset_us.unwrap_or(u64::MAX)));
    let Some((claim, standing)) = over.first() else { return Problem::new(ReasonCode::Internal) };
    let reason = world.limits.get(&claim.limit).map_or(ReasonCode::RateLimited, reason);
    let detail = match (&claim.of, standing.reset_us) {
        (bartizan_limits::Of::Amount { amount, .. }, None) if *amount > claim.most => {
            format!(
                "limit `{}` would never let this through: it may take {amount} of {}",
                claim.limit, claim.most
            )
        }
        _ => format!("limit `{}` of {}", claim.limit, claim.most),
    };
    let mut problem = Problem::with_detail(reason, detail);
    problem.fields = told;
    if let Some(us) = standing.reset_us {
        problem.fields.push(("retry-after", seconds(us).max(1).to_string()));
    }
    problem
}
