//! Rotation of signing keys: which key signs, which are published, and when the next one is needed.
//!
//! A key's whole life is fixed when it is made: published at P, signing from S until E, gone at G, with P before S by the
//! lead, and G after E by the longest life of a token plus twice the skew. All four are absolute, and what is asked of a key at a
//! moment is a pure function of them, so clocks may jump in either direction: whatever a token's times are, they lie
//! within the publication of its key. It holds as long as the plans are stored before they are used and are not forgotten
//! while the clock may still come back ([`Rotation::forget`]).

use std::time::Duration;

use bartizan_base::Timestamp;
use serde::{Deserialize, Serialize};

/// How many keys may be published before none is made on demand. Verifiers bound the sets that they read; so do we.
const PUBLISHED_MAX: usize = 16;

/// How keys follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    lead: Duration,
    period: Duration,
    slack: Duration,
    life_max: Duration,
    skew: Duration,
}

/// Why a schedule is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Keys would follow one another faster than verifiers learn of them.
    #[error("a key must sign for longer than it is published ahead, and that must not be zero")]
    Lead,
    /// Tokens would have no life.
    #[error("the longest life of a token must not be zero")]
    Life,
}

/// Why no key is made on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    /// A successor is published already and will sign soon.
    #[error("a new key is on its way already")]
    OnItsWay,
    /// More keys are published than verifiers should have to take.
    #[error("too many keys are published; wait for the oldest to go")]
    TooMany,
}

/// The life of one key. Stored, with the key, before the key is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPlan {
    /// The key's id.
    pub kid: String,
    /// From when it is published.
    #[serde(rename = "published_us")]
    pub published: Timestamp,
    /// From when it may sign.
    #[serde(rename = "signs_us")]
    pub signs: Timestamp,
    /// From when it signs no more, even where there is no other.
    #[serde(rename = "ends_us")]
    pub ends: Timestamp,
    /// From when it is not published any more.
    #[serde(rename = "gone_us")]
    pub gone: Timestamp,
    /// Whether it was withdrawn: it neither signs nor is it published, and its tokens are dead.
    #[serde(default)]
    pub withdrawn: bool,
}

/// Where a key stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Not published yet.
    Planned,
    /// Published, so that verifiers know it before it signs.
    Published,
    /// The one that signs.
    Signing,
    /// Published for the tokens that it signed.
    Retiring,
    /// Not published any more, or withdrawn.
    Gone,
}

/// The life that a new key must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewKey {
    signs: Timestamp,
    published: Timestamp,
}

/// What holds at a moment.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The key that signs. None only until the key that `needed` asks for was added.
    pub signing: Option<&'a KeyPlan>,
    /// The keys to publish, the one that signs among them.
    pub published: Vec<&'a KeyPlan>,
    /// A key to make, store and [`Rotation::add`] now.
    pub needed: Option<NewKey>,
    /// When to ask again at the latest.
    pub next: Timestamp,
}

/// The keys of an issuer and how they follow one another.
#[derive(Clone, Debug)]
pub struct Rotation {
    schedule: Schedule,
    keys: Vec<KeyPlan>,
}

impl Schedule {
    /// A schedule: keys are published `lead` ahead (no less than verifiers keep a set), follow one another every `period`,
    /// and sign tokens that hold at most `life_max`, with clocks that differ by at most `skew`. A key that is not followed in
    /// time goes on signing for twice the lead.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn new(
        lead: Duration,
        period: Duration,
        life_max: Duration,
        skew: Duration,
    ) -> Result<Self, ScheduleError> {
        if lead.is_zero() || period <= lead {
            return Err(ScheduleError::Lead);
        }
        if life_max.is_zero() {
            return Err(ScheduleError::Life);
        }
        Ok(Self { lead, period, slack: lead.saturating_mul(2), life_max, skew })
    }

    /// The life of a key that signs from `signs` on.
    fn plan(&self, kid: String, new: NewKey) -> KeyPlan {
        let ends = new.signs.saturating_add(self.period).saturating_add(self.slack);
        let gone = ends.saturating_add(self.life_max).saturating_add(self.skew).saturating_add(self.skew);
        KeyPlan { kid, published: new.published, signs: new.signs, ends, gone, withdrawn: false }
    }

    /// A key that is published at once and signs when verifiers know it.
    fn ahead(&self, now: Timestamp) -> NewKey {
        NewKey { signs: now.saturating_add(self.lead), published: self.tolerant(now) }
    }

    /// A key that signs at once, because there is none. Verifiers fetch the set anew for an id they do not know.
    fn at_once(&self, now: Timestamp) -> NewKey {
        NewKey { signs: now, published: self.tolerant(now) }
    }

    /// A moment so early that a clock set back within the skew still finds the key published.
    fn tolerant(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(
            now.as_micros().saturating_sub(u64::try_from(self.skew.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

impl KeyPlan {
    /// Whether the key is in the published set.
    #[must_use]
    pub fn is_published(&self, now: Timestamp) -> bool {
        !self.withdrawn && self.published <= now && now < self.gone
    }

    fn may_sign(&self, now: Timestamp) -> bool {
        !self.withdrawn && self.signs <= now && now < self.ends
    }
}

impl Rotation {
    /// The rotation of the keys that were stored.
    #[must_use]
    pub const fn new(schedule: Schedule, keys: Vec<KeyPlan>) -> Self {
        Self { schedule, keys }
    }

    /// All keys, in the order in which they were added.
    #[must_use]
    pub fn keys(&self) -> &[KeyPlan] {
        &self.keys
    }

    /// What holds at `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Plan<'_> {
        let signing = self.signing(now);
        let published = self.keys.iter().filter(|k| k.is_published(now)).collect();
        let due = signing.map(|k| self.due(k));
        let needed = match due {
            None => Some(self.schedule.at_once(now)),
            Some(due) if due <= now && self.successor(now).is_none() => Some(self.schedule.ahead(now)),
            Some(_) => None,
        };
        let turns =
            self.keys.iter().filter(|k| !k.withdrawn).flat_map(|k| [k.published, k.signs, k.ends, k.gone]);
        let next = turns.chain(due).filter(|turn| *turn > now).min().unwrap_or(Timestamp::MAX);
        Plan { signing, published, needed, next }
    }

    /// Where the key `kid` stands at `now`; none if there is no such key.
    #[must_use]
    pub fn state(&self, kid: &str, now: Timestamp) -> Option<KeyState> {
        let key = self.keys.iter().find(|k| k.kid == kid)?;
        Some(if key.withdrawn || now >= key.gone {
            KeyState::Gone
        } else if now < key.published {
            KeyState::Planned
        } else if now < key.signs {
            KeyState::Published
        } else if self.signing(now) == Some(key) {
            KeyState::Signing
        } else {
            KeyState::Retiring
        })
    }

    /// Adds the key that was asked for, and gives its plan to be stored with it before anything else is done. An id that is
    /// known already is left as it is.
    pub fn add(&mut self, kid: &str, new: NewKey) -> KeyPlan {
        if let Some(known) = self.keys.iter().find(|k| k.kid == kid) {
            return known.clone();
        }
        let plan = self.schedule.plan(kid.to_owned(), new);
        self.keys.push(plan.clone());
        plan
    }

    /// Rotation on demand: the life of a key that follows the present one as soon as verifiers know it. The present one stays
    /// published until the end that it was given; a key that must not be trusted any more is withdrawn instead.
    ///
    /// # Errors
    /// [`DemandError`], so that asking often does not pile up keys.
    pub fn demand(&self, now: Timestamp) -> Result<NewKey, DemandError> {
        if self.signing(now).is_none() {
            return Ok(self.schedule.at_once(now));
        }
        if self.successor(now).is_some() {
            return Err(DemandError::OnItsWay);
        }
        if self.keys.iter().filter(|k| k.is_published(now)).count() >= PUBLISHED_MAX {
            return Err(DemandError::TooMany);
        }
        Ok(self.schedule.ahead(now))
    }

    /// Withdraws a key that must not be trusted any more: from now on its tokens are dead. [`Rotation::at`] asks for another
    /// one where none is left to sign.
    pub fn withdraw(&mut self, kid: &str) {
        for key in self.keys.iter_mut().filter(|k| k.kid == kid) {
            key.withdrawn = true;
        }
    }

    /// Forgets keys that have been gone for `memory`, and gives their ids. A clock that jumped ahead by more than `memory` and
    /// comes back finds them missing, so `memory` should be long: what is kept is a public key and five numbers.
    pub fn forget(&mut self, now: Timestamp, memory: Duration) -> Vec<String> {
        let (old, kept) =
            std::mem::take(&mut self.keys).into_iter().partition(|k| k.gone.saturating_add(memory) <= now);
        self.keys = kept;
        let old: Vec<KeyPlan> = old;
        old.into_iter().map(|k| k.kid).collect()
    }

    /// The newest key that may sign.
    fn signing(&self, now: Timestamp) -> Option<&KeyPlan> {
        self.keys.iter().filter(|k| k.may_sign(now)).max_by_key(|k| k.signs)
    }

    /// A key that is published and will sign. One from a time when the clock was ahead is not published yet.
    fn successor(&self, now: Timestamp) -> Option<&KeyPlan> {
        self.keys.iter().find(|k| now < k.signs && k.is_published(now))
    }

    /// When the successor of `key` must be there.
    fn due(&self, key: &KeyPlan) -> Timestamp {
        let Schedule { lead, period, .. } = self.schedule;
        key.signs.saturating_add(period.saturating_sub(lead))
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
