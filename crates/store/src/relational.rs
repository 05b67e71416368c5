//! The relational form that the SQL backends share: how rows become columns and what a column must hold to be read
//! back. Everything that does not read is `Corrupt`, with the row named.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::{Action, Document, KeyId, Principal, Tenant};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{
    BundleRow, CandidateRow, ClaimRow, EpochKind, EpochRow, KeyRow, Row, RowKind, State, StepColumns,
    StoreError,
};

/// The columns of an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumns {
    /// The id's text.
    pub id: String,
    /// The tenant's name.
    pub tenant: String,
    /// The public part of the key's text.
    pub handle: String,
    /// SHA-256 of the key's text, in hexadecimal.
    pub digest: String,
    /// What never changes, as JSON: principal, label, scopes.
    pub about: String,
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// Microseconds since the epoch.
    pub expires_us: i64,
    /// Microseconds since the epoch.
    pub revoked_us: Option<i64>,
    /// Microseconds since the epoch.
    pub last_used_us: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    principal: Principal,
    label: String,
    scopes: Option<BTreeSet<Action>>,
}

impl KeyColumns {
    /// The columns of `key`.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be written as JSON.
    pub fn of(key: &KeyRow) -> Result<Self, StoreError> {
        let about =
            About { principal: key.principal.clone(), label: key.label.clone(), scopes: key.scopes.clone() };
        Ok(Self {
            id: key.id.to_string(),
            tenant: key.tenant.to_string(),
            handle: key.handle.clone(),
            digest: key.digest.to_string(),
            about: to_json(&about)?,
            created_us: micros(key.created),
            expires_us: micros(key.expires),
            revoked_us: key.revoked.map(micros),
            last_used_us: key.last_used.map(micros),
        })
    }

    /// The key of these columns.
    ///
    /// # Errors
    /// `Corrupt` when a column does not read.
    pub fn read(self) -> Result<KeyRow, StoreError> {
        let what = format!("key {}", self.id);
        let About { principal, label, scopes } = from_json(&what, &self.about)?;
        Ok(KeyRow {
            id: parse::<KeyId>(&what, &self.id)?,
            tenant: tenant(&self.tenant)?,
            handle: self.handle,
            digest: digest(&what, &self.digest)?,
            principal,
            label,
            scopes,
            created: moment(&what, self.created_us)?,
            expires: moment(&what, self.expires_us)?,
            revoked: self.revoked_us.map(|us| moment(&what, us)).transpose()?,
            last_used: self.last_used_us.map(|us| moment(&what, us)).transpose()?,
        })
    }
}

/// The document of a row. Its JSON must say the kind and name that the row is found by.
///
/// # Errors
/// `Corrupt` when a column does not read, or the row and its JSON disagree.
pub fn document(
    tenant_name: &str,
    kind: &str,
    name: &str,
    body: &str,
    changed: i64,
) -> Result<(Tenant, Document, u64), StoreError> {
    let what = format!("{kind} `{name}`");
    let document: Document = from_json(&what, body)?;
    if document.spec.kind() != kind || document.name.as_str() != name {
        return Err(corrupt(&what, "its row and its content disagree"));
    }
    Ok((tenant(tenant_name)?, document, unsigned(&what, changed)?))
}

/// Revision, mark, recovery and claim, as a state without rows. `recovery` is how many keys are needed and the JSON of
/// their public halves; `claim` its digest and its end in microseconds.
///
/// # Errors
/// `Corrupt` when a column does not read.
pub fn installation(
    revision: i64,
    mark: Option<String>,
    recovery: Option<(i64, String)>,
    claim: Option<(String, i64)>,
) -> Result<State, StoreError> {
    let what = "installation";
    let recovery = recovery.map(|(needed, keys)| {
        let needed = u32::try_from(needed).map_err(|error| corrupt(what, error))?;
        Ok((needed, from_json(what, &keys)?))
    });
    let claim = claim
        .map(|(hex, expires)| Ok(ClaimRow { digest: digest(what, &hex)?, expires: moment(what, expires)? }));
    Ok(State {
        revision: unsigned(what, revision)?,
        mark: mark.map(|hex| digest(what, &hex)).transpose()?,
        recovery: recovery.transpose()?,
        claim: claim.transpose()?,
        ..State::default()
    })
}

/// The columns of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleColumns {
    /// The tenant's name.
    pub tenant: String,
    /// Its version.
    pub version: i64,
    /// The version it follows.
    pub base: i64,
    /// The bundle's digest, in hexadecimal.
    pub digest: String,
    /// The bundle's files, as JSON.
    pub files: String,
    /// The candidate's digest, in hexadecimal.
    pub candidate_digest: Option<String>,
    /// The candidate's files, as JSON.
    pub candidate_files: Option<String>,
    /// The exact signed bytes.
    pub signed: String,
}

impl BundleColumns {
    /// The columns' names, in the order of the members above.
    pub const NAMES: &'static str =
        "tenant, version, base, digest, files, candidate_digest, candidate_files, signed";

    /// The columns of `bundle`.
    ///
    /// # Errors
    /// `Conflict` for a version beyond what SQL holds; `Corrupt` when it cannot be written as JSON.
    pub fn of(bundle: &BundleRow) -> Result<Self, StoreError> {
        let candidate = bundle.candidate.as_ref();
        Ok(Self {
            tenant: bundle.tenant.to_string(),
            version: signed(bundle.version)?,
            base: signed(bundle.base)?,
            digest: bundle.digest.to_string(),
            files: to_json(&bundle.files)?,
            candidate_digest: candidate.map(|c| c.digest.to_string()),
            candidate_files: candidate.map(|c| to_json(&c.files)).transpose()?,
            signed: bundle.signed.clone(),
        })
    }

    /// The bundle of these columns.
    ///
    /// # Errors
    /// `Corrupt` when a column does not read.
    pub fn read(self) -> Result<BundleRow, StoreError> {
        let what = format!("bundle {} of `{}`", self.version, self.tenant);
        let candidate = match (self.candidate_digest, self.candidate_files) {
            (None, None) => None,
            (Some(hex), Some(files)) => {
                Some(CandidateRow { digest: digest(&what, &hex)?, files: from_json(&what, &files)? })
            }
            _ => return Err(corrupt(&what, "half a candidate")),
        };
        Ok(BundleRow {
            tenant: tenant(&self.tenant)?,
            version: unsigned(&what, self.version)?,
            base: unsigned(&what, self.base)?,
            digest: digest(&what, &self.digest)?,
            files: from_json(&what, &self.files)?,
            candidate,
            signed: self.signed,
        })
    }
}

/// The checkpoint of a row.
///
/// # Errors
/// `Corrupt` when a column does not read.
pub fn checkpoint(log: &str, size: i64, root: &str) -> Result<(u64, Digest), StoreError> {
    let what = format!("checkpoint of `{log}`");
    Ok((unsigned(&what, size)?, digest(&what, root)?))
}

/// The epoch of a row.
///
/// # Errors
/// `Corrupt` when a column does not read.
pub fn epoch(
    tenant_name: &str,
    kind: &str,
    name: &str,
    not_before_us: i64,
    revision: i64,
) -> Result<EpochRow, StoreError> {
    let what = format!("epoch {kind} `{name}`");
    let kind = match kind {
        "principal" => EpochKind::Principal,
        "issuer" => EpochKind::Issuer,
        "tenant" => EpochKind::Tenant,
        "session" => EpochKind::Session,
        "grant" => EpochKind::Grant,
        "client" => EpochKind::Client,
        "device" => EpochKind::Device,
        _ => return Err(corrupt(&what, "unknown kind")),
    };
    Ok(EpochRow {
        tenant: tenant(tenant_name)?,
        kind,
        not_before: moment(&what, not_before_us)?,
        revision: unsigned(&what, revision)?,
        name: parse::<Name>(&what, name)?,
    })
}

/// The column of an epoch's kind.
#[must_use]
pub const fn epoch_kind(kind: EpochKind) -> &'static str {
    match kind {
        EpochKind::Principal => "principal",
        EpochKind::Issuer => "issuer",
        EpochKind::Tenant => "tenant",
        EpochKind::Session => "session",
        EpochKind::Grant => "grant",
        EpochKind::Client => "client",
        EpochKind::Device => "device",
    }
}

/// The columns of a row beside the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowColumns {
    /// The kind's name.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// The tenant's name.
    pub tenant: String,
    /// To whom it belongs.
    pub owner: String,
    /// Microseconds since the epoch.
    pub expires_us: Option<i64>,
    /// Its version.
    pub version: i64,
    /// Its body.
    pub body: String,
}

impl RowColumns {
    /// The columns' names, in order.
    pub const NAMES: &str = "kind, id, tenant, owner, expires_us, version, body";

    /// The columns of `row`.
    ///
    /// # Errors
    /// `Corrupt` when its version is too large.
    pub fn of(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            kind: row.kind.name().to_owned(),
            version: signed(row.version)?,
            tenant: row.tenant.to_string(),
            expires_us: row.expires.map(micros),
            id: row.id,
            owner: row.owner,
            body: row.body,
        })
    }

    /// The row of these columns.
    ///
    /// # Errors
    /// `Corrupt` when a column does not read.
    pub fn read(self) -> Result<Row, StoreError> {
        let what = format!("a {}", self.kind);
        let known = RowKind::ALL.iter().copied().find(|kind| kind.name() == self.kind);
        Ok(Row {
            kind: known.ok_or_else(|| corrupt(&what, "unknown kind"))?,
            tenant: tenant(&self.tenant)?,
            version: unsigned(&what, self.version)?,
            expires: self.expires_us.map(|us| moment(&what, us)).transpose()?,
            id: self.id,
            owner: self.owner,
            body: self.body,
        })
    }
}

/// The kinds of rows that are loaded with the state, as a list of SQL texts; the names are constants of this crate.
#[must_use]
pub fn loaded_kinds() -> String {
    let loaded = RowKind::ALL.iter().filter(|kind| kind.is_loaded());
    loaded.map(|kind| format!("'{}'", kind.name())).collect::<Vec<_>>().join(", ")
}

/// When a key was last used.
///
/// # Errors
/// `Corrupt` when a column does not read.
pub fn last_used(id: &str, at_us: i64) -> Result<(KeyId, Timestamp), StoreError> {
    let what = format!("key {id}");
    Ok((parse::<KeyId>(&what, id)?, moment(&what, at_us)?))
}

/// The step of a row.
///
/// # Errors
/// `Corrupt` when a column does not read.
pub fn step(
    revision: i64,
    mark: &str,
    follows: Option<String>,
    body: String,
) -> Result<StepColumns, StoreError> {
    let what = format!("the step to revision {revision}");
    Ok(StepColumns {
        revision: unsigned(&what, revision)?,
        mark: digest(&what, mark)?,
        follows: follows.map(|hex| digest(&what, &hex)).transpose()?,
        body,
    })
}

/// A tenant's column.
///
/// # Errors
/// `Corrupt` when it is not a name.
pub fn tenant(column: &str) -> Result<Tenant, StoreError> {
    parse::<Name>("tenant", column).map(Tenant)
}

/// A name's column.
///
/// # Errors
/// `Corrupt` when it is not a name.
pub fn name(column: &str) -> Result<Name, StoreError> {
    parse::<Name>("name", column)
}

/// A digest's column.
///
/// # Errors
/// `Corrupt` when it is not a digest.
pub fn digest(what: &str, column: &str) -> Result<Digest, StoreError> {
    parse::<Digest>(what, column)
}

/// A column of JSON.
///
/// # Errors
/// `Corrupt` when it does not read as `T`.
pub fn from_json<T: DeserializeOwned>(what: &str, column: &str) -> Result<T, StoreError> {
    serde_json::from_str(column).map_err(|error| corrupt(what, error))
}

/// The JSON of a column.
///
/// # Errors
/// `Corrupt` when `value` cannot be written as JSON.
pub fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt("a value", error))
}

/// A moment's column.
///
/// # Errors
/// `Corrupt` when it lies before the epoch.
pub fn moment(what: &str, column: i64) -> Result<Timestamp, StoreError> {
    unsigned(what, column).map(Timestamp::from_micros)
}

/// The column of a moment. Exact: [`Timestamp::MAX`] is far below the largest integer of SQL.
#[must_use]
pub fn micros(moment: Timestamp) -> i64 {
    i64::try_from(moment.as_micros()).unwrap_or(i64::MAX)
}

/// The column of a number that counts something.
///
/// # Errors
/// `Conflict` when it is beyond what SQL integers hold.
pub fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Conflict(format!("{number} is beyond 2^63")))
}

/// The number in a column that counts something.
///
/// # Errors
/// `Corrupt` when it is negative.
pub fn unsigned(what: &str, column: i64) -> Result<u64, StoreError> {
    u64::try_from(column).map_err(|_| corrupt(what, "a number is negative"))
}

fn parse<T: FromStr<Err: Display>>(what: &str, column: &str) -> Result<T, StoreError> {
    column.parse().map_err(|error| corrupt(what, error))
}

fn corrupt(what: &str, why: impl Display) -> StoreError {
    StoreError::Corrupt(format!("{what}: {why}"))
}
