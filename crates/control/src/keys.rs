//! API keys: made, seen, replaced, ended.

use std::collections::BTreeSet;
use std::time::Duration;

use bartizan_base::{Name, Timestamp};
use bartizan_decide::KeyNode;
use bartizan_identify::Caller;
use bartizan_model::{Action, EntityRef, KeyId, Principal, PrincipalKind, Problem, ReasonCode, Tenant};
use bartizan_secret::{ApiKey, Secret};
use bartizan_store::{Change, KeyRow, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Control, Done, Stopped};

/// The longest life of a key.
const LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// The life of a key for which none was asked.
const LIFE_DEFAULT: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a rotated key may overlap its successor at most.
const OVERLAP_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A key to be made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// For what kind of principal: `user`, `agent` or `workload`.
    pub principal_kind: PrincipalKind,
    /// For whom.
    pub principal: Name,
    /// What it is for, for people.
    #[serde(default)]
    pub label: String,
    /// The actions it may be used for; absent for no limit of its own.
    #[serde(default)]
    pub scopes: Option<BTreeSet<Action>>,
    /// Seconds it lives; absent for 90 days, at most 366 days.
    #[serde(default)]
    pub life_s: Option<u64>,
}

/// A key as it may be seen.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct KeyView {
    /// Its id.
    pub id: KeyId,
    /// The public part of its text.
    pub handle: String,
    /// Whom it stands for, such as `user/alice`.
    pub principal: String,
    /// What it is for.
    pub label: String,
    /// The actions it may be used for; absent for no limit of its own.
    pub scopes: Option<BTreeSet<Action>>,
    /// When it was made.
    pub created: String,
    /// When it ends.
    pub expires: String,
    /// When it was revoked.
    pub revoked: Option<String>,
    /// When it was last used, within a minute.
    pub last_used: Option<String>,
    /// `active`, `expired` or `revoked`.
    pub state: &'static str,
}

/// A key that was just made: the only time its text is seen.
#[derive(Debug)]
pub struct CreatedKey {
    /// What may be seen of it later.
    pub key: KeyView,
    /// Its text.
    pub text: Secret<String>,
}

impl Control {
    /// Makes a key.
    ///
    /// # Errors
    /// When policy says no, or the principal is unknown, or the life is too long.
    pub async fn create_key(
        &self,
        caller: &Caller,
        request: &CreateKey,
    ) -> Result<Done<CreatedKey>, Stopped> {
        let now = self.clock.now();
        self.change(caller, Action::KeyCreate, request, |view, tenant| {
            let principal = find_principal(&view.state, tenant, request.principal_kind, &request.principal)?;
            let life = request.life_s.map_or(LIFE_DEFAULT, Duration::from_secs);
            if life > LIFE_MAX || life.is_zero() {
                return Err(Problem::with_detail(
                    ReasonCode::Invalid,
                    "`life_s` must be from 1 second to 366 days",
                ));
            }
            if request.label.len() > 200 {
                return Err(Problem::with_detail(ReasonCode::Invalid, "`label` must be at most 200 bytes"));
            }
            let (row, created) = self.new_key(
                tenant,
                principal,
                request.label.clone(),
                request.scopes.clone(),
                now,
                now.saturating_add(life),
            );
            Ok((vec![Change::AddKey(row)], created))
        })
        .await
    }

    /// Sees every key of the house, never their texts.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn list_keys(&self, caller: &Caller) -> Result<Done<Vec<KeyView>>, Stopped> {
        let now = self.clock.now();
        self.read_with(caller, Action::KeyList, &(), async |view, tenant| {
            // No revision moves when a key is used, so the state in force does not know it.
            let used = self.store.last_used(tenant).await.map_err(|error| Stopped::from(error).problem)?;
            let keys = view.state.keys.iter().filter(|k| k.tenant == *tenant);
            let told = |key: &KeyRow| KeyView {
                last_used: used.get(&key.id).map(ToString::to_string),
                ..seen(key, now)
            };
            Ok(keys.map(told).collect())
        })
        .await
    }

    /// Ends a key now.
    ///
    /// # Errors
    /// When policy says no or there is no such key.
    pub async fn revoke_key(&self, caller: &Caller, id: KeyId) -> Result<Done<KeyView>, Stopped> {
        let now = self.clock.now();
        let key = self.known_key(caller, id).await?;
        self.change_of(caller, Action::KeyRevoke, key, &id, |view, tenant| {
            let mut row = find_key(&view.state, tenant, id)?.clone();
            row.revoked = Some(row.revoked.unwrap_or(now));
            Ok((vec![Change::RevokeKey { id, at: now }], seen(&row, now)))
        })
        .await
    }

    /// Makes a successor with the same rights and life, and lets the old key end after `overlap`.
    ///
    /// # Errors
    /// When policy says no, there is no such key, it has ended already, or the overlap is too long.
    pub async fn rotate_key(
        &self,
        caller: &Caller,
        id: KeyId,
        overlap: Duration,
    ) -> Result<Done<CreatedKey>, Stopped> {
        let now = self.clock.now();
        let key = self.known_key(caller, id).await?;
        self.change_of(caller, Action::KeyRotate, key, &(id, overlap.as_secs()), |view, tenant| {
            let old = find_key(&view.state, tenant, id)?;
            if old.revoked.is_some() || old.expires <= now {
                return Err(Problem::with_detail(
                    ReasonCode::Conflict,
                    "the key has ended already; create a new one",
                ));
            }
            if overlap > OVERLAP_MAX {
                return Err(Problem::with_detail(ReasonCode::Invalid, "the overlap must be at most 7 days"));
            }
            let expires = now.saturating_add(old.expires.saturating_since(old.created));
            let (row, created) = self.new_key(
                tenant,
                old.principal.clone(),
                old.label.clone(),
                old.scopes.clone(),
                now,
                expires,
            );
            let end = now.saturating_add(overlap).min(old.expires);
            Ok((vec![Change::AddKey(row), Change::ShortenKey { id, expires: end }], created))
        })
        .await
    }

    /// The entity of a key. That there is none is told to those who may see keys; nobody else learns which there are.
    async fn known_key(&self, caller: &Caller, id: KeyId) -> Result<EntityRef, Stopped> {
        let view = self.house.view_for(caller)?;
        if find_key(&view.state, caller.tenant(), id).is_err() {
            self.read(caller, Action::KeyList, &id, |view, tenant| {
                find_key(&view.state, tenant, id).map(|_| ())
            })
            .await?;
        }
        Ok(KeyNode::entity(id))
    }

    pub(crate) fn new_key(
        &self,
        tenant: &Tenant,
        principal: Principal,
        label: String,
        scopes: Option<BTreeSet<Action>>,
        created: Timestamp,
        expires: Timestamp,
    ) -> (KeyRow, CreatedKey) {
        let key = ApiKey::generate(&*self.random);
        let row = KeyRow {
            id: KeyId::new(created, &*self.random),
            tenant: tenant.clone(),
            handle: key.handle().to_string(),
            digest: key.digest(),
            principal,
            label,
            scopes,
            created,
            expires,
            revoked: None,
            last_used: None,
        };
        let created = CreatedKey { key: seen(&row, created), text: key.text().clone() };
        (row, created)
    }
}

fn find_principal(
    state: &State,
    tenant: &Tenant,
    kind: PrincipalKind,
    name: &Name,
) -> Result<Principal, Problem> {
    state
        .document(tenant, &kind.entity_type().to_lowercase(), name)
        .and_then(|(_, document, _)| document.principal)
        .map(|id| Principal { kind, name: name.clone(), id })
        .ok_or_else(|| {
            Problem::with_detail(
                ReasonCode::NotFound,
                format!("no {} is called `{name}`", kind.entity_type().to_lowercase()),
            )
        })
}

fn find_key<'a>(state: &'a State, tenant: &Tenant, id: KeyId) -> Result<&'a KeyRow, Problem> {
    state
        .key_by_id(id)
        .filter(|key| key.tenant == *tenant)
        .ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, format!("no key has the id `{id}`")))
}

fn seen(row: &KeyRow, now: Timestamp) -> KeyView {
    KeyView {
        id: row.id,
        handle: row.handle.clone(),
        principal: format!("{}/{}", row.principal.kind.entity_type().to_lowercase(), row.principal.name),
        label: row.label.clone(),
        scopes: row.scopes.clone(),
        created: row.created.to_string(),
        expires: row.expires.to_string(),
        revoked: row.revoked.map(|t| t.to_string()),
        last_used: row.last_used.map(|t| t.to_string()),
        state: if row.revoked.is_some() {
            "revoked"
        } else if row.expires <= now {
            "expired"
        } else {
            "active"
        },
    }
}
