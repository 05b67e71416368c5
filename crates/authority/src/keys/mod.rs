//! The keys that the authority signs with.
//!
//! They lie in loaded rows: every node sees the same keys at the same revision, opens the private halves with the house's
//! key-encryption key and follows the same plan ([`bartizan_jose::Rotation`]). A key is published before it signs for as long
//! as others may keep a set, and until the last token under it is over; so rotation needs no moment of silence.

mod ring;

use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_control::{Done, Stopped, View};
use bartizan_identify::{Caller, Identifier};
use bartizan_jose::{Algorithm, Jwks, KeptKey, KeyState, Rotation, Schedule, SigningKey};
use bartizan_model::{Action, Problem, ReasonCode, Tenant};
use bartizan_store::{Change, Row, RowKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use ring::{Ring, Rings};

use crate::Authority;

/// How long others may keep our set of keys: a key is published for so long before it signs.
pub const JWKS_AGE: Duration = Duration::from_secs(24 * 3_600);
/// How long a key signs until the next one does.
const PERIOD: Duration = Duration::from_secs(30 * 24 * 3_600);
/// The longest life of a token that we sign.
pub(crate) const TOKEN_LIFE_MAX: Duration = Duration::from_secs(3_600);
/// How far clocks may differ.
const SKEW: Duration = Duration::from_secs(60);
/// How long a key that is gone is remembered, so that a clock set back does not bring another one under its plan.
const MEMORY: Duration = Duration::from_secs(366 * 24 * 3_600);

/// An order to replace the keys before their time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateKeys {
    /// The present keys must not be trusted any more: their tokens are dead at once, and a new key signs at once.
    pub compromised: bool,
}

/// A signing key as it may be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SigningKeyView {
    /// Its id in tokens: the thumbprint of its public half (RFC 7638).
    pub kid: String,
    /// Its one algorithm.
    pub algorithm: String,
    /// `planned`, `published`, `signing`, `retiring` or `gone`.
    pub state: String,
    /// From when it is published.
    pub published: String,
    /// From when it signs.
    pub signs: String,
    /// From when it signs no more.
    pub ends: String,
    /// From when it is not published any more.
    pub gone: String,
    /// Whether it was withdrawn.
    pub withdrawn: bool,
}

/// How keys follow one another.
fn schedule() -> Result<Schedule, Problem> {
    Schedule::new(JWKS_AGE, PERIOD, TOKEN_LIFE_MAX, SKEW).map_err(|error| {
        tracing::error!(%error, "the schedule of signing keys is broken");
        Problem::new(ReasonCode::Internal)
    })
}

impl Authority {
    /// The set of keys that tokens are verified by (RFC 7517), as it is published.
    ///
    /// # Errors
    /// When the state is too old to say, or a key cannot be read.
    pub fn jwks(&self) -> Result<Jwks, Problem> {
        let view = self.control.house.view(&self.settings.tenant).map_err(Problem::new)?;
        let ring = self.ring(&view)?;
        KeptKey::published(ring.keys(), self.control.clock.now()).map_err(|error| {
            tracing::error!(%error, "a published signing key cannot be read");
            Problem::new(ReasonCode::Internal)
        })
    }

    /// Makes the key that is due, and forgets those that have long been gone. To be called at the start and every minute, on
    /// any number of nodes: one of them makes the key, the others find it.
    ///
    /// # Errors
    /// When it cannot be recorded or kept. The present key signs on for a while.
    pub async fn tend_keys(&self) -> Result<(), Stopped> {
        let tenant = &self.settings.tenant;
        let view = self.control.house.view(tenant)?;
        if self.due(&view, tenant)?.is_empty() {
            return Ok(());
        }
        let house = Identifier::house(tenant.clone());
        let tended = self
            .control
            .change_with(&house, Action::IdentityChange, &"tend the signing keys", async |view, tenant| {
                Ok((self.due(view, tenant)?, ()))
            })
            .await;
        match tended {
            // Another node was quicker: its key comes with the next look at the state.
            Err(stopped) if stopped.problem.reason == ReasonCode::Conflict => Ok(()),
            other => other.map(drop),
        }
    }

    /// Replaces the keys before their time: by one that signs as soon as everybody can know it, or at once where the present
    /// ones must not be trusted any more.
    ///
    /// # Errors
    /// When policy says no, or a successor is on its way already.
    pub async fn rotate_keys(
        &self,
        caller: &Caller,
        order: &RotateKeys,
    ) -> Result<Done<Vec<SigningKeyView>>, Stopped> {
        self.control
            .change_with(
                caller,
                Action::IdentityChange,
                &("rotate the signing keys", order),
                async |view, tenant| {
                    let ring = self.ring(view)?;
                    let now = self.control.clock.now();
                    let mut rotation = Rotation::new(schedule()?, ring.plans());
                    let mut changes = Vec::new();
                    let mut seen: Vec<_> = ring.keys().cloned().collect();
                    if order.compromised {
                        for (held, key) in ring.held().iter().zip(&mut seen) {
                            rotation.withdraw(&key.plan.kid);
                            key.plan.withdrawn = true;
                            changes.push(put(tenant, held.id.clone(), key, Some(held.version))?);
                        }
                    }
                    let new = rotation
                        .demand(now)
                        .map_err(|error| Problem::with_detail(ReasonCode::Conflict, error.to_string()))?;
                    let (key, change) = self.make(tenant, &ring, &mut rotation, new)?;
                    seen.push(key);
                    changes.push(change);
                    Ok((changes, views(&seen, &rotation, now)))
                },
            )
            .await
    }

    /// The keys, also those that are gone, never their private halves.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn list_keys(&self, caller: &Caller) -> Result<Done<Vec<SigningKeyView>>, Stopped> {
        self.control
            .read_with(caller, Action::IdentityRead, &"the signing keys", async |view, _| {
                let ring = self.ring(view)?;
                let rotation = Rotation::new(schedule()?, ring.plans());
                let keys: Vec<_> = ring.keys().cloned().collect();
                Ok(views(&keys, &rotation, self.control.clock.now()))
            })
            .await
    }

    /// The key that signs now.
    pub(crate) fn signer(&self, view: &View) -> Result<std::sync::Arc<SigningKey>, Problem> {
        let rotation_key = |ring: &Ring| {
            let rotation = Rotation::new(schedule().ok()?, ring.plans());
            let kid = rotation.at(self.control.clock.now()).signing?.kid.clone();
            ring.signer(&kid)
        };
        rotation_key(&*self.ring(view)?).ok_or_else(|| {
            tracing::error!("no signing key is in force");
            Problem::new(ReasonCode::Busy)
        })
    }

    /// The keys of a view, opened once for as long as their rows stay as they are.
    pub(crate) fn ring(&self, view: &View) -> Result<std::sync::Arc<Ring>, Problem> {
        self.issuing.rings.of(&view.state, &self.settings.tenant, &self.control.sealer)
    }

    /// What has to be changed now.
    fn due(&self, view: &View, tenant: &Tenant) -> Result<Vec<Change>, Problem> {
        let ring = self.ring(view)?;
        let now = self.control.clock.now();
        let mut rotation = Rotation::new(schedule()?, ring.plans());
        let old = rotation.forget(now, MEMORY);
        let mut changes: Vec<_> = ring
            .held()
            .iter()
            .zip(ring.keys())
            .filter(|(_, key)| old.contains(&key.plan.kid))
            .map(|(held, _)| Change::DeleteRow {
                kind: RowKind::SigningKey,
                id: held.id.clone(),
                expect: held.version,
            })
            .collect();
        if let Some(new) = rotation.at(now).needed {
            changes.push(self.make(tenant, &ring, &mut rotation, new)?.1);
        }
        Ok(changes)
    }

    /// A new key. Its row is numbered, so that of two nodes that make one at the same time only one succeeds.
    fn make(
        &self,
        tenant: &Tenant,
        ring: &Ring,
        rotation: &mut Rotation,
        new: bartizan_jose::NewKey,
    ) -> Result<(KeptKey, Change), Problem> {
        let broken = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "a signing key could not be made");
            Problem::new(ReasonCode::Internal)
        };
        let key = SigningKey::generate(Algorithm::Ed25519, &*self.control.random).map_err(|e| broken(&e))?;
        let plan = rotation.add(key.kid(), new);
        let sealed =
            ring::seal(&self.control.sealer, tenant, &key, &*self.control.random).map_err(|e| broken(&e))?;
        let kept = KeptKey { plan, jwk: key.public().to_json(), sealed };
        let change = put(tenant, ring.next_id(), &kept, None)?;
        Ok((kept, change))
    }
}

fn put(tenant: &Tenant, id: String, key: &KeptKey, expect: Option<u64>) -> Result<Change, Problem> {
    let body = serde_json::to_string(key).map_err(|_| Problem::new(ReasonCode::Internal))?;
    let row = Row {
        tenant: tenant.clone(),
        kind: RowKind::SigningKey,
        id,
        owner: String::new(),
        expires: None,
        version: 0,
        body,
    };
    Ok(Change::PutRow { row, expect })
}

fn views(keys: &[KeptKey], rotation: &Rotation, now: Timestamp) -> Vec<SigningKeyView> {
    let state = |kid: &str| match rotation.state(kid, now) {
        Some(KeyState::Planned) => "planned",
        Some(KeyState::Published) => "published",
        Some(KeyState::Signing) => "signing",
        Some(KeyState::Retiring) => "retiring",
        Some(KeyState::Gone) | None => "gone",
    };
    // The newest key signs, so a key ends where the next one begins, whatever was planned when it was made.
    let ends = |key: &KeptKey| {
        let later = keys
            .iter()
            .map(|other| &other.plan)
            .filter(|other| !other.withdrawn && other.signs > key.plan.signs);
        later.map(|other| other.signs).min().map_or(key.plan.ends, |next| next.min(key.plan.ends))
    };
    let seen = |key: &KeptKey| SigningKeyView {
        kid: key.plan.kid.clone(),
        algorithm: key.jwk.get("alg").and_then(|alg| alg.as_str()).unwrap_or_default().to_owned(),
        state: state(&key.plan.kid).to_owned(),
        published: key.plan.published.to_string(),
        signs: key.plan.signs.to_string(),
        ends: ends(key).to_string(),
        gone: key.plan.gone.to_string(),
        withdrawn: key.plan.withdrawn,
    };
    keys.iter().map(seen).collect()
}
