//! What is kept, and what can happen to it.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::shared::Sorted;
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::{Action, Document, KeyId, Principal, Tenant};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Index, Row, RowKind};

/// The whole state at one revision. Copies share what they have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Grows by one with every applied set of changes, but for those that only change rows that are not loaded
    /// ([`crate::RowKind::is_loaded`]); 0 before the founding.
    pub revision: u64,
    /// What it came from: a digest over every change since there is one ([`crate::Step`]). None before the founding, and for a
    /// database that has not changed since a version that kept none.
    pub mark: Option<Digest>,
    /// Declared things with the revision of their last change.
    pub documents: Sorted<(Tenant, Document, u64)>,
    /// API keys, also revoked and expired ones.
    pub keys: Sorted<KeyRow>,
    /// "Not before" marks.
    pub epochs: Sorted<EpochRow>,
    /// Sealed credentials of upstreams: ciphertext only.
    pub sealed: Sorted<SealedRow>,
    /// The bundle in force, by tenant.
    pub bundles: Sorted<BundleRow>,
    /// Public halves of the offline recovery keys, and how many of them are needed.
    pub recovery: Option<(u32, Vec<String>)>,
    /// The claim of the first administrator, while it is open.
    pub claim: Option<ClaimRow>,
    /// Rows of loaded kinds; while changes are worked out, also the others that they have to see.
    pub rows: Sorted<Row>,
    /// What is found otherwise than by its name. Kept by whatever changes the state, and made anew by [`State::sort`].
    pub index: Index,
}

/// An API key as it is kept: never its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// Whose house.
    pub tenant: Tenant,
    /// The public part of its text.
    pub handle: String,
    /// SHA-256 of its text.
    pub digest: Digest,
    /// Whom it stands for.
    pub principal: Principal,
    /// What it is for, for people.
    pub label: String,
    /// The actions it may be used for; none for no limit of its own.
    pub scopes: Option<BTreeSet<Action>>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// When it was last used, within a minute; advisory, and as of when the state was loaded ([`crate::Store::last_used`]).
    pub last_used: Option<Timestamp>,
}

/// What an epoch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EpochKind {
    /// A principal, by name with its kind: `user/alice`.
    Principal,
    /// An issuer, by name.
    Issuer,
    /// Everything of the tenant.
    Tenant,
    /// A session and everything issued in it, by its id.
    Session,
    /// A grant and everything issued under it, by its id.
    Grant,
    /// A client program, by its name in the directory or the digest of its address.
    Client,
    /// A device, by name.
    Device,
}

/// Everything issued to this before the mark is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Whose house.
    pub tenant: Tenant,
    /// About what kind of thing.
    pub kind: EpochKind,
    /// Which.
    pub name: Name,
    /// The mark. It never goes back.
    pub not_before: Timestamp,
    /// The revision of the last change that moved the mark or meant to; a store sets it. Our own tokens say on which revision they were issued,
    /// so that no two clocks are compared for them.
    pub revision: u64,
}

/// A credential for an upstream, under envelope encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRow {
    /// Whose house.
    pub tenant: Tenant,
    /// Its name in upstream documents.
    pub name: Name,
    /// The ciphertext with everything needed to open it but the key-encryption key.
    pub sealed: Vec<u8>,
}

/// What policy is in force: a bundle, perhaps with a candidate beside it, as one signed version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRow {
    /// Whose house.
    pub tenant: Tenant,
    /// Grows with every change of policy, for ever.
    pub version: u64,
    /// The version that it follows; 0 for none.
    pub base: u64,
    /// Digest of the bundle's canonical form.
    pub digest: Digest,
    /// Its files by relative path.
    pub files: BTreeMap<String, String>,
    /// A bundle that is tried beside it, or in force for some.
    pub candidate: Option<CandidateRow>,
    /// The exact signed bytes that say all this (`bartizan-keys`).
    pub signed: String,
}

/// The content of a candidate; what it is for is said by the signed bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateRow {
    /// Digest of its canonical form.
    pub digest: Digest,
    /// Its files by relative path.
    pub files: BTreeMap<String, String>,
}

/// A single-use claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// SHA-256 of its text.
    pub digest: Digest,
    /// When it ends.
    pub expires: Timestamp,
}

/// One change. A set of changes is applied whole or not at all.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Declares a thing, or declares it anew.
    PutDocument {
        /// The thing.
        document: Document,
        /// The revision of its last change as the author knew it; none to demand that it is new.
        expect: Option<u64>,
    },
    /// Removes a declared thing.
    DeleteDocument {
        /// Its kind's name.
        kind: String,
        /// Its name.
        name: Name,
        /// The revision of its last change as the author knew it.
        expect: u64,
    },
    /// Adds a key.
    AddKey(KeyRow),
    /// Ends a key: from `at` on it is dead. An earlier end is kept.
    RevokeKey {
        /// Which.
        id: KeyId,
        /// From when.
        at: Timestamp,
    },
    /// Moves a key's end to an earlier moment (rotation with overlap).
    ShortenKey {
        /// Which.
        id: KeyId,
        /// The new end; a later one than before is a conflict.
        expires: Timestamp,
    },
    /// Moves an epoch forward. A mark never goes back; its revision moves in any case.
    AdvanceEpoch(EpochRow),
    /// Keeps a sealed credential, replacing one of the same name.
    PutSealed(SealedRow),
    /// Puts a bundle in force.
    PutBundle {
        /// The bundle; its base must be the present version, its version above that.
        bundle: BundleRow,
    },
    /// Puts a row beside the state, or replaces it.
    PutRow {
        /// The row; its version is set by the store.
        row: Row,
        /// The version that it replaces; none to demand that there is none, not even an expired one.
        expect: Option<u64>,
    },
    /// Removes a row beside the state.
    DeleteRow {
        /// What it is.
        kind: RowKind,
        /// Which.
        id: String,
        /// The version as the author knew it.
        expect: u64,
    },
    /// Uses up the first administrator's claim; a claim that is absent, other or expired is a conflict.
    UseClaim {
        /// SHA-256 of its text.
        digest: Digest,
        /// The present moment.
        now: Timestamp,
    },
}

/// What an installation begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct Founding {
    /// Public halves of the recovery keys, and how many are needed.
    pub recovery: (u32, Vec<String>),
    /// The claim of the first administrator.
    pub claim: ClaimRow,
    /// What is declared from the first day.
    pub documents: Vec<(Tenant, Document)>,
    /// The bundle to begin with, of version 1.
    pub bundle: Option<BundleRow>,
}
