//! Rows to test with.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::directory::NodeSpec;
use bartizan_model::{Action, Document, KeyId, Principal, PrincipalId, PrincipalKind, Spec, Tenant};

use crate::{
    BundleRow, CandidateRow, Change, ClaimRow, EpochKind, EpochRow, Founding, KeyRow, Row, RowKind, SealedRow,
};

pub(super) fn tenant(name: &str) -> Tenant {
    Tenant(name.parse().unwrap())
}

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(super) const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

pub(super) fn claim() -> ClaimRow {
    ClaimRow { digest: Digest::of(b"claim"), expires: at(1_000) }
}

pub(super) fn founding() -> Founding {
    Founding {
        recovery: (2, vec!["one".to_owned(), "two".to_owned(), "three".to_owned()]),
        claim: claim(),
        documents: Vec::new(),
        bundle: None,
    }
}

/// A group; `text` makes versions of it differ.
pub(super) fn group(group: &str, text: &str) -> Document {
    let spec = NodeSpec { description: Some(text.parse().unwrap()), ..NodeSpec::default() };
    Document { name: name(group), principal: None, spec: Spec::Group(spec) }
}

pub(super) fn put(document: Document, expect: Option<u64>) -> Change {
    Change::PutDocument { document, expect }
}

pub(super) fn delete(group: &str, expect: u64) -> Change {
    Change::DeleteDocument { kind: "group".to_owned(), name: name(group), expect }
}

pub(super) fn key_id(number: u8) -> KeyId {
    KeyId::from_parts(at(u64::from(number)), [number; 10])
}

pub(super) fn key(of: &Tenant, number: u8) -> KeyRow {
    KeyRow {
        id: key_id(number),
        tenant: of.clone(),
        handle: format!("handle{number:06}"),
        digest: Digest::of(&[number]),
        principal: Principal {
            kind: PrincipalKind::Agent,
            name: name("bot"),
            id: PrincipalId::from_parts(at(5), [number; 10]),
        },
        // What a careless caller could send: quotes, a NUL, text beyond ASCII.
        label: "CI's \"main\" key; drop table keys --\u{0} é".to_owned(),
        scopes: (!number.is_multiple_of(2)).then(|| BTreeSet::from([Action::ModelInvoke, Action::ModelList])),
        created: at(10),
        expires: at(900),
        revoked: None,
        last_used: None,
    }
}

pub(super) fn epoch(of: &Tenant, kind: EpochKind, of_name: &str, not_before: u64) -> EpochRow {
    EpochRow { tenant: of.clone(), kind, name: name(of_name), not_before: at(not_before), revision: 0 }
}

/// A row beside the state.
pub(super) fn side_row(of: &Tenant, kind: RowKind, id: &str, owner: &str) -> Row {
    let (id, owner, body) = (id.to_owned(), owner.to_owned(), "{\"n\":\"'é\"}".to_owned());
    Row { tenant: of.clone(), kind, id, owner, expires: None, version: 1, body }
}

pub(super) fn sealed(of: &Tenant, of_name: &str, bytes: &[u8]) -> SealedRow {
    SealedRow { tenant: of.clone(), name: name(of_name), sealed: bytes.to_vec() }
}

pub(super) fn bundle(of: &Tenant, version: u64) -> BundleRow {
    let text = format!("permit (principal, action, resource); // {version} 'é' \u{0}");
    let files = BTreeMap::from([("b.cedar".to_owned(), format!("{text} tried"))]);
    // Every second one comes with a candidate.
    let candidate = version
        .is_multiple_of(2)
        .then(|| CandidateRow { digest: Digest::of(format!("tried {version}").as_bytes()), files });
    BundleRow {
        tenant: of.clone(),
        version,
        base: version.wrapping_sub(1),
        digest: Digest::of(text.as_bytes()),
        files: BTreeMap::from([("a.cedar".to_owned(), text), ("empty".to_owned(), String::new())]),
        candidate,
        signed: format!("{{\"signed\": {version}}}\n "),
    }
}
