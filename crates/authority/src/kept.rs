//! What is kept beside the state, by type: each knows its kind of row, whom it belongs to and when it is over.

use std::collections::BTreeSet;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::{Assurance, GrantId, Principal, Risk, SessionId, Tenant};
use bartizan_store::{Change, Row, RowKind, Rows, StoreError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Rows that are read at once where all are looked through.
const PAGE: usize = 200;

/// Something that is kept in rows of one kind.
pub trait Kept: Serialize + DeserializeOwned + Send {
    /// Which kind.
    const KIND: RowKind;

    /// To whom or what it belongs, for lists; empty for nobody. Of a principal: [`owner`].
    fn owner(&self) -> String;

    /// From when on it counts as absent.
    fn expires(&self) -> Option<Timestamp>;
}

/// How rows name a principal as their owner.
#[must_use]
pub fn owner(principal: &Principal) -> String {
    principal.id.to_string()
}

/// Something kept, as it was read.
#[derive(Clone, Debug)]
pub struct Held<T> {
    /// Whose house.
    pub tenant: Tenant,
    /// Its id.
    pub id: String,
    /// The version of its row.
    pub version: u64,
    /// What it is.
    pub value: T,
}

impl<T: Kept> Held<T> {
    /// The row as what it is.
    pub(crate) fn read(row: Row) -> Result<Self, StoreError> {
        let value = serde_json::from_str(&row.body)
            .map_err(|e| StoreError::Corrupt(format!("a {}: {e}", row.kind.name())))?;
        Ok(Self { tenant: row.tenant, id: row.id, version: row.version, value })
    }

    /// The change that puts `value` in its place, if nobody was quicker.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be written as JSON.
    pub fn replace(&self, value: &T) -> Result<Change, StoreError> {
        put(&self.tenant, self.id.clone(), value, Some(self.version))
    }

    /// The change that removes it, if nobody was quicker. This is how something is used once.
    #[must_use]
    pub fn remove(&self) -> Change {
        Change::DeleteRow { kind: T::KIND, id: self.id.clone(), expect: self.version }
    }
}

/// The change that keeps something new.
///
/// # Errors
/// `Corrupt` when it cannot be written as JSON.
pub fn keep<T: Kept>(tenant: &Tenant, id: impl Into<String>, value: &T) -> Result<Change, StoreError> {
    put(tenant, id.into(), value, None)
}

fn put<T: Kept>(tenant: &Tenant, id: String, value: &T, expect: Option<u64>) -> Result<Change, StoreError> {
    let body = serde_json::to_string(value)
        .map_err(|e| StoreError::Corrupt(format!("a {} cannot be written: {e}", T::KIND.name())))?;
    let row = Row {
        tenant: tenant.clone(),
        kind: T::KIND,
        id,
        owner: value.owner(),
        expires: value.expires(),
        version: 0,
        body,
    };
    Ok(Change::PutRow { row, expect })
}

/// What is kept under an id, unless it is over.
///
/// # Errors
/// When the state database does not answer, or holds something unreadable.
pub async fn find<T: Kept>(rows: &dyn Rows, id: &str, now: Timestamp) -> Result<Option<Held<T>>, StoreError> {
    let row = rows.row(T::KIND, id).await?.filter(|row| row.expires.is_none_or(|end| now < end));
    row.map(Held::read).transpose()
}

/// What belongs to `owner` and is not over, at most `limit`, by id.
///
/// # Errors
/// When the state database does not answer, or holds something unreadable.
pub async fn find_of<T: Kept>(
    rows: &dyn Rows,
    tenant: &Tenant,
    owner: &str,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<Held<T>>, StoreError> {
    let found = rows.rows_of(tenant, T::KIND, owner, "", limit).await?;
    found.into_iter().filter(|row| row.expires.is_none_or(|end| now < end)).map(Held::read).collect()
}

/// Of everything that belongs to `owner` and is not over: the one that `better` puts above all others, if it `fits`. Reads as
/// many pages as there are, so that what somebody has much of is not lost behind the first of it.
///
/// # Errors
/// When the state database does not answer, or holds something unreadable.
pub(crate) async fn best_of<T: Kept>(
    rows: &dyn Rows,
    tenant: &Tenant,
    owner: &str,
    now: Timestamp,
    fits: impl Fn(&Held<T>) -> bool,
    better: impl Fn(&T, &T) -> bool,
) -> Result<Option<Held<T>>, StoreError> {
    let (mut best, mut after) = (None::<Held<T>>, String::new());
    loop {
        let page = rows.rows_of(tenant, T::KIND, owner, &after, PAGE).await?;
        let full = page.len() >= PAGE;
        for row in page {
            after.clone_from(&row.id);
            if row.expires.is_some_and(|end| now >= end) {
                continue;
            }
            let held = Held::read(row)?;
            if fits(&held) && best.as_ref().is_none_or(|best| better(&held.value, &best.value)) {
                best = Some(held);
            }
        }
        if !full {
            return Ok(best);
        }
    }
}

/// Somebody's login. Its id is a [`SessionId`]; the cookie is that id and a secret, of which only the digest is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// SHA-256 of the secret part of the cookie.
    pub secret: Digest,
    /// Who.
    pub principal: Principal,
    /// How surely, and when: of the latest proof.
    pub assurance: Assurance,
    /// When it began.
    pub began: Timestamp,
    /// When it ends whatever happens.
    pub ends: Timestamp,
    /// When it ends unless it is used.
    pub idle_ends: Timestamp,
    /// The program it was begun with, as it calls itself, shortened: for people.
    pub agent: String,
    /// From which network it was begun, shortened to what people recognise.
    pub network: String,
    /// The device in the directory whose key it is bound to.
    pub device: Option<Name>,
    /// How risky it looked when it was last assessed.
    pub risk: Risk,
    /// What it may be used for.
    #[serde(default)]
    pub reach: Reach,
}

/// What a session may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Whatever policy allows.
    #[default]
    Full,
    /// To enrol authenticators, and nothing else: it was begun by an invitation or a recovery, which prove too little for more.
    /// No grant may be given in it and no token issued.
    Enrol,
}

impl Kept for Session {
    const KIND: RowKind = RowKind::Session;

    fn owner(&self) -> String {
        owner(&self.principal)
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.ends.min(self.idle_ends))
    }
}

/// What somebody allowed a client, and perhaps an agent, to do in their name. Its id is a [`GrantId`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Which.
    pub id: GrantId,
    /// In whose name.
    pub principal: Principal,
    /// The client program: the name of a `client` document, a `cli_…` that registered itself, or the address of a metadata
    /// document. Of one for an agent it may be empty: for whichever program the agent runs as.
    pub client: String,
    /// The agent that may act, where it is for one.
    pub agent: Option<Principal>,
    /// The scopes, as they were shown.
    pub scopes: BTreeSet<String>,
    /// The resources (RFC 8707) it may be used at.
    pub resources: BTreeSet<String>,
    /// What exactly, where it was asked for so (RFC 9396).
    pub details: Vec<Value>,
    /// The session it was given in; it ends with it unless it was given for longer (`offline_access`).
    pub session: Option<SessionId>,
    /// How surely they were proven when they gave it, and when.
    pub assurance: Assurance,
    /// When it was given.
    pub given: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// How many tokens may come of it at most; none for no bound.
    pub uses_max: Option<u64>,
    /// How many tokens came of it. Counted exactly where there is a bound.
    pub uses: u64,
    /// When it was withdrawn: kept for people to see until it ends.
    pub withdrawn: Option<Timestamp>,
}

impl Grant {
    /// The same, withdrawn.
    pub(crate) fn ended(&self, now: Timestamp) -> Self {
        Self { withdrawn: Some(self.withdrawn.unwrap_or(now)), ..self.clone() }
    }
}

impl Kept for Grant {
    const KIND: RowKind = RowKind::Grant;

    fn owner(&self) -> String {
        owner(&self.principal)
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.ends)
    }
}
