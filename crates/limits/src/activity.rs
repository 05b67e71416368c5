//! Recent activity: requests, tokens, cost, refusals, exports and different resources within the last minute, hour and day, by
//! caller, agent, key and session.
//!
//! Advisory: each process counts for itself and begins with nothing. What is counted is never told too low: a window covers
//! its length and up to one part of it more ([`WINDOWS`]), and somebody whose counts were given up for want of room is told as
//! unknown until a day has passed ([`Activities::read`]). Different resources alone are estimated, beyond
//! `EXACT_MAX`.
//!
//! Time is the node's monotonic clock in microseconds, so a wall clock that is set forward or back changes nothing here.

mod buckets;
mod sample;
mod tracked;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bartizan_base::Random;
use bartizan_model::record::Who;
use bartizan_model::{Activity, EntityRef, KeyId, PrincipalId, PrincipalKind, Windows};

use tracked::Tracked;

/// Length and number of parts of the windows: a minute, an hour, a day. In microseconds.
pub const WINDOWS: [(u64, u64); 3] = [(60_000_000, 12), (3_600_000_000, 12), (86_400_000_000, 24)];
/// A day, after which nothing that was done counts any more.
const DAY_US: u64 = 86_400_000_000;
/// Locks, so that asks of different callers do not wait for one another.
const SHARDS: usize = 16;

/// Who or what is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Track {
    /// The subject of asks.
    Caller(PrincipalId),
    /// The agent that asks.
    Agent(PrincipalId),
    /// The key presented.
    Key(KeyId),
    /// The session, by an id that the house made.
    Session([u8; 16]),
}

/// Everybody whom one ask counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    /// The agent that asks, where one does.
    pub agent: Option<Track>,
    /// The subject; nobody where nobody was proven.
    pub caller: Option<Track>,
    /// The key.
    pub key: Option<Track>,
    /// The session.
    pub session: Option<Track>,
}

impl Tracks {
    /// The tracks of a caller. The agent is the outermost actor, or a subject that is one itself.
    #[must_use]
    pub fn of(who: &Who) -> Self {
        let itself = (who.subject_kind == PrincipalKind::Agent).then_some(who.subject);
        Self {
            agent: who.actors.first().copied().or(itself).map(Track::Agent),
            caller: (who.subject_kind != PrincipalKind::Anonymous).then_some(Track::Caller(who.subject)),
            key: who.key.map(Track::Key),
            session: None,
        }
    }

    fn all(&self) -> impl Iterator<Item = Track> {
        [self.agent, self.caller, self.key, self.session].into_iter().flatten()
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted<'a> {
    /// Asks that were permitted.
    pub requests: u64,
    /// Asks that were refused.
    pub denials: u64,
    /// Asks that take something out of the house.
    pub exports: u64,
    /// Tokens in and out.
    pub tokens: u64,
    /// Millionths of the currency.
    pub cost_micro: u64,
    /// What was asked for.
    pub resource: Option<&'a EntityRef>,
}

/// The counts of everybody who was active lately, in bounded memory: at most a given number of tracks, each of at most about
/// 9 kB and mostly far less.
#[derive(Debug)]
pub struct Activities {
    shards: Vec<Mutex<Shard>>,
    shard_max: usize,
    seed: u64,
    given_up: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    tracks: HashMap<Track, Tracked>,
    /// Until when somebody was active whose counts were given up, if anybody was.
    given_up_until: Option<u64>,
}

impl Activities {
    /// Counts for at most about `tracks_max` tracks.
    #[must_use]
    pub fn new(tracks_max: usize, random: &dyn Random) -> Self {
        let mut seed = [0; 8];
        random.fill(&mut seed);
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            shard_max: tracks_max.div_ceil(SHARDS).max(1),
            seed: u64::from_be_bytes(seed),
            given_up: AtomicU64::new(0),
        }
    }

    /// Counts what was done.
    pub fn note(&self, tracks: &Tracks, now_us: u64, noted: &Noted<'_>) {
        // With a seed, so that nobody can choose names that are sampled alike.
        let resource = noted.resource.map(|resource| self.hash(resource));
        for track in tracks.all() {
            let Some(mut shard) = self.shard(&track) else { continue };
            self.make_room(&mut shard, &track, now_us);
            let unknown_before = shard.unknown_at(now_us);
            let tracked = shard.tracks.entry(track).or_insert_with(|| Tracked::new(now_us, unknown_before));
            tracked.note(now_us, noted, resource);
        }
    }

    /// What was done lately. A track is absent where there is none, and where its counts may have been given up within the
    /// last day: then nobody knows, and it must not look as if nothing was done.
    #[must_use]
    pub fn read(&self, tracks: &Tracks, now_us: u64) -> Activity {
        let read = |track: Option<Track>| track.and_then(|track| self.read_one(&track, now_us));
        Activity {
            agent: read(tracks.agent),
            caller: read(tracks.caller),
            key: read(tracks.key),
            session: read(tracks.session),
        }
    }

    fn read_one(&self, track: &Track, now_us: u64) -> Option<Windows> {
        let mut shard = self.shard(track)?;
        let unknown = shard.unknown_at(now_us);
        match shard.tracks.get_mut(track) {
            Some(tracked) => tracked.read(now_us),
            None => (!unknown).then(Windows::default),
        }
    }

    /// How many tracks were given up for want of room since the start: an alarm when it grows.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// How many tracks there are.
    #[must_use]
    pub fn tracked(&self) -> usize {
        self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).tracks.len()).sum()
    }

    fn hash(&self, of: &(impl std::hash::Hash + ?Sized)) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        of.hash(&mut hasher);
        hasher.finish()
    }

    fn shard(&self, track: &Track) -> Option<MutexGuard<'_, Shard>> {
        let at = usize::try_from(self.hash(track) % SHARDS as u64).ok()?;
        self.shards.get(at).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes room for a new track: first of those who did nothing for a day, then, a sixteenth at once, of those who were
    /// active longest ago.
    fn make_room(&self, shard: &mut Shard, track: &Track, now_us: u64) {
        if shard.tracks.len() < self.shard_max || shard.tracks.contains_key(track) {
            return;
        }
        shard.tracks.retain(|_, tracked| now_us.saturating_sub(tracked.last_us()) <= DAY_US);
        if shard.tracks.len() < self.shard_max {
            return;
        }
        let mut lasts: Vec<u64> = shard.tracks.values().map(Tracked::last_us).collect();
        let (_, until, _) = lasts.select_nth_unstable(self.shard_max / 16);
        let until = *until;
        let before = shard.tracks.len();
        shard.tracks.retain(|_, tracked| tracked.last_us() > until);
        shard.given_up_until = shard.given_up_until.max(Some(until));
        self.given_up.fetch_add((before - shard.tracks.len()) as u64, Ordering::Relaxed);
    }
}

impl Shard {
    /// Whether somebody who is not here may have been given up and still have counts.
    fn unknown_at(&self, now_us: u64) -> bool {
        // The longest window covers a part more than its length.
        let reach = DAY_US + DAY_US / 24;
        self.given_up_until.is_some_and(|until| now_us.saturating_sub(until) <= reach)
    }
}

#[cfg(test)]
mod tests;
