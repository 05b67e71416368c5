//! What changes mean: the reference model, and what every backend computes with.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::{Document, KeyId, Tenant};

use crate::feed::{self, StepColumns};
use crate::{
    BundleRow, Change, ClaimRow, EpochKind, EpochRow, Founding, Index, KeyRow, ROW_BODY_MAX, ROW_NAME_MAX,
    Row, RowKind, SealedRow, State, StoreError,
};

/// What becomes of a row through a set of changes. To be stored in order, in one transaction with the new revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The document now reads so, last changed at this revision.
    Document(Tenant, Document, u64),
    /// The document is gone.
    DeleteDocument(Tenant, String, Name),
    /// The key is new or now reads so.
    Key(KeyRow),
    /// The epoch is new or now reads so.
    Epoch(EpochRow),
    /// The sealed credential is new or now reads so.
    Sealed(SealedRow),
    /// The bundle is in force.
    Bundle(BundleRow),
    /// The row is new or now reads so.
    Row(Row),
    /// The row is gone.
    DeleteRow(RowKind, String),
    /// The claim is used up.
    ClaimUsed,
}

/// What comes of a set of changes.
#[derive(Debug)]
pub struct Applied {
    /// What is to be stored.
    pub writes: Vec<Write>,
    /// The step that other holders of the state follow by, where the revision moved.
    pub step: Option<StepColumns>,
}

/// Which rows a set of changes has to see. A backend loads these and may load more of the tenant's, but of keys
/// those of every tenant: handles and digests are unique across tenants, because the tenant is found by them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Documents by kind and name.
    pub documents: BTreeSet<(String, Name)>,
    /// Keys by id.
    pub key_ids: BTreeSet<KeyId>,
    /// Keys by the public part of their text.
    pub key_handles: BTreeSet<String>,
    /// Keys by the digest of their text.
    pub key_digests: BTreeSet<Digest>,
    /// Epochs by kind and name.
    pub epochs: BTreeSet<(EpochKind, Name)>,
    /// Whether the bundle in force is among them.
    pub bundle: bool,
    /// Rows beside the state by kind and id, of any tenant.
    pub rows: BTreeSet<(RowKind, String)>,
}

impl Touched {
    /// The rows that `changes` have to see.
    #[must_use]
    pub fn by(changes: &[Change]) -> Self {
        let mut touched = Self::default();
        for change in changes {
            touched.add(change);
        }
        touched
    }

    fn add(&mut self, change: &Change) {
        match change {
            Change::PutDocument { document, .. } => {
                self.documents.insert((document.spec.kind().to_owned(), document.name.clone()));
            }
            Change::DeleteDocument { kind, name, .. } => {
                self.documents.insert((kind.clone(), name.clone()));
            }
            Change::AddKey(key) => {
                self.key_ids.insert(key.id);
                self.key_handles.insert(key.handle.clone());
                self.key_digests.insert(key.digest);
            }
            Change::RevokeKey { id, .. } | Change::ShortenKey { id, .. } => {
                self.key_ids.insert(*id);
            }
            Change::AdvanceEpoch(epoch) => {
                self.epochs.insert((epoch.kind, epoch.name.clone()));
            }
            Change::PutBundle { .. } => self.bundle = true,
            Change::PutRow { row, .. } => {
                self.rows.insert((row.kind, row.id.clone()));
            }
            Change::DeleteRow { kind, id, .. } => {
                self.rows.insert((*kind, id.clone()));
            }
            // The claim comes with the revision; sealed credentials are replaced unseen.
            Change::UseClaim { .. } | Change::PutSealed(_) => {}
        }
    }
}

/// Whether a log's checkpoint `(size, root)` may be replaced: it only grows, and one size has one root for ever.
#[must_use]
pub fn checkpoint_may_follow(old: Option<(u64, Digest)>, new: (u64, Digest)) -> bool {
    old.is_none_or(|old| new.0 > old.0 || new == old)
}

impl Change {
    /// Whether every node has to hear of it.
    #[must_use]
    pub const fn moves_revision(&self) -> bool {
        match self {
            Self::PutRow { row, .. } => row.kind.is_loaded(),
            Self::DeleteRow { kind, .. } => kind.is_loaded(),
            _ => true,
        }
    }

    /// Whether it may take something away from somebody, so that it is acknowledged only when no node decides on what was
    /// before it. A document may in many ways: by its status, its members, what it lacks now.
    #[must_use]
    pub const fn may_take_away(&self) -> bool {
        match self {
            Self::AddKey(_) | Self::UseClaim { .. } => false,
            Self::PutRow { row, expect } => {
                row.kind.is_loaded() && (expect.is_some() || !matches!(row.kind, RowKind::SigningKey))
            }
            _ => self.moves_revision(),
        }
    }
}

impl State {
    /// Whether there is an installation.
    #[must_use]
    pub const fn is_founded(&self) -> bool {
        self.revision != 0
    }

    /// Creates the installation, at revision 1, and says which rows that writes beside recovery and claim.
    ///
    /// # Errors
    /// `Conflict` when there is one.
    pub fn found(&mut self, founding: Founding) -> Result<Vec<Write>, StoreError> {
        if self.revision != 0 {
            return conflict("the installation exists already");
        }
        let mut writes = Vec::new();
        for (tenant, document) in founding.documents {
            writes.push(Write::Document(tenant, document, 1));
        }
        writes.extend(founding.bundle.map(Write::Bundle));
        let mark = feed::founded(&founding.recovery, &founding.claim, &writes)?;
        self.revision = 1;
        self.mark = Some(mark);
        self.recovery = Some(founding.recovery);
        self.claim = Some(founding.claim);
        writes.iter().for_each(|write| self.write(write));
        Ok(writes)
    }

    /// Applies a set of changes to `tenant` and says which rows that writes, and what others follow by. On an error nothing has
    /// changed.
    ///
    /// # Errors
    /// `Conflict` names the first change that does not fit, and why.
    pub fn apply(&mut self, tenant: &Tenant, changes: &[Change]) -> Result<Applied, StoreError> {
        if self.revision == 0 {
            return conflict("there is no installation yet");
        }
        let mut next = self.clone();
        if changes.is_empty() || changes.iter().any(Change::moves_revision) {
            next.revision += 1;
        }
        let writes: Vec<Write> = changes.iter().map(|c| next.step(tenant, c)).collect::<Result<_, _>>()?;
        let moved = next.revision != self.revision;
        let step = moved.then(|| StepColumns::of(self.mark, next.revision, &writes)).transpose()?;
        if let Some(step) = &step {
            next.mark = Some(step.mark);
        }
        *self = next;
        Ok(Applied { writes, step })
    }

    /// Takes in what was written.
    pub(crate) fn write(&mut self, write: &Write) {
        match write {
            Write::Document(tenant, document, changed) => {
                self.declare(tenant, document.clone(), *changed);
            }
            Write::DeleteDocument(tenant, kind, name) => self.suppose_gone(tenant, kind, name),
            Write::Key(key) => drop(self.keys.put(key.clone(), key_order)),
            Write::Epoch(epoch) => {
                self.index.mark(epoch);
                self.epochs.put(epoch.clone(), epoch_order);
            }
            Write::Sealed(sealed) => drop(self.sealed.put(sealed.clone(), sealed_order)),
            Write::Bundle(bundle) => drop(self.bundles.put(bundle.clone(), bundle_order)),
            Write::Row(row) => drop(self.rows.put(row.clone(), row_order)),
            Write::DeleteRow(kind, id) => {
                self.rows.remove(|row| (row.kind, row.id.as_str()).cmp(&(*kind, id)));
            }
            Write::ClaimUsed => self.claim = None,
        }
    }

    /// The state as if a thing were declared so; for whoever asks what would be.
    pub fn suppose(&mut self, tenant: &Tenant, document: Document) {
        self.declare(tenant, document, 0);
    }

    fn declare(&mut self, tenant: &Tenant, document: Document, revision: u64) {
        let is = document.clone();
        let was = self.documents.put((tenant.clone(), document, revision), document_order);
        self.index.note(tenant, was.as_deref().map(|(_, was, _)| was), Some(&is));
    }

    /// The state as if a thing were not declared; for whoever asks what would be.
    pub fn suppose_gone(&mut self, tenant: &Tenant, kind: &str, name: &Name) {
        let was = self.documents.remove(|row| by_name(row, tenant, kind, name));
        self.index.note(tenant, was.as_deref().map(|(_, was, _)| was), None);
    }

    /// A declared thing with the revision of its last change.
    #[must_use]
    pub fn document(&self, tenant: &Tenant, kind: &str, name: &Name) -> Option<&(Tenant, Document, u64)> {
        self.documents.find(|row| by_name(row, tenant, kind, name))
    }

    /// The declared things of a tenant and kind, with the revisions of their last changes.
    pub fn of_kind(&self, tenant: &Tenant, kind: &str) -> impl Iterator<Item = &(Tenant, Document, u64)> {
        let key = |row: &(Tenant, Document, u64)| (&row.0, row.1.spec.kind()).cmp(&(tenant, kind));
        self.documents.tail(move |row| key(row).is_lt()).take_while(move |row| key(row).is_eq())
    }

    /// A key, of any tenant.
    #[must_use]
    pub fn key_by_id(&self, id: KeyId) -> Option<&KeyRow> {
        self.keys.find(|key| key.id.cmp(&id))
    }

    /// A row beside the state, of any tenant.
    #[must_use]
    pub fn row(&self, kind: RowKind, id: &str) -> Option<&Row> {
        self.rows.find(|row| (row.kind, row.id.as_str()).cmp(&(kind, id)))
    }

    /// The mark of an epoch.
    #[must_use]
    pub fn epoch(&self, tenant: &Tenant, kind: EpochKind, name: &Name) -> Option<&EpochRow> {
        self.epochs.find(|row| (&row.tenant, row.kind, &row.name).cmp(&(tenant, kind, name)))
    }

    /// Notes when keys were last used; a key that is unknown or was used later already is passed over.
    pub fn touch_keys(&mut self, uses: &[(KeyId, Timestamp)]) {
        for (id, at) in uses {
            if let Some(mut key) = self.key_by_id(*id).cloned() {
                key.last_used = key.last_used.max(Some(*at));
                self.keys.put(key, key_order);
            }
        }
    }

    /// Puts rows into the order in which every backend gives them (by tenant, kind and name; keys by id), and makes the index.
    pub fn sort(&mut self) {
        self.documents.sort_by(document_order);
        self.keys.sort_by(key_order);
        self.epochs.sort_by(epoch_order);
        self.sealed.sort_by(sealed_order);
        self.bundles.sort_by(bundle_order);
        self.rows.sort_by(row_order);
        let mut index = Index::default();
        self.documents.iter().for_each(|(tenant, document, _)| index.note(tenant, None, Some(document)));
        self.epochs.iter().for_each(|epoch| index.mark(epoch));
        self.index = index;
    }

    /// What a change writes, on the state as the changes before it left it; takes it in.
    fn step(&mut self, tenant: &Tenant, change: &Change) -> Result<Write, StoreError> {
        let write = match change {
            Change::PutDocument { document, expect } => self.put_document(tenant, document, *expect),
            Change::DeleteDocument { kind, name, expect } => {
                self.delete_document(tenant, kind, name, *expect)
            }
            Change::AddKey(key) => self.add_key(tenant, key),
            Change::RevokeKey { id, at } => self.revoke_key(tenant, *id, *at),
            Change::ShortenKey { id, expires } => self.shorten_key(tenant, *id, *expires),
            Change::AdvanceEpoch(epoch) => self.advance_epoch(tenant, epoch),
            Change::PutSealed(sealed) => {
                own(tenant, &sealed.tenant)?;
                Ok(Write::Sealed(sealed.clone()))
            }
            Change::PutBundle { bundle } => self.put_bundle(tenant, bundle),
            Change::UseClaim { digest, now } => self.use_claim(*digest, *now),
            Change::PutRow { row, expect } => self.put_row(tenant, row, *expect),
            Change::DeleteRow { kind, id, expect } => self.delete_row(tenant, *kind, id, *expect),
        }?;
        self.write(&write);
        Ok(write)
    }

    fn put_document(
        &self,
        tenant: &Tenant,
        document: &Document,
        expect: Option<u64>,
    ) -> Result<Write, StoreError> {
        let kind = document.spec.kind();
        let changed = self.document(tenant, kind, &document.name).map(|(_, _, revision)| *revision);
        expected(kind, &document.name, expect, changed)?;
        Ok(Write::Document(tenant.clone(), document.clone(), self.revision))
    }

    fn delete_document(
        &self,
        tenant: &Tenant,
        kind: &str,
        name: &Name,
        expect: u64,
    ) -> Result<Write, StoreError> {
        let changed = self.document(tenant, kind, name).map(|(_, _, revision)| *revision);
        expected(kind, name, Some(expect), changed)?;
        Ok(Write::DeleteDocument(tenant.clone(), kind.to_owned(), name.clone()))
    }

    fn add_key(&self, tenant: &Tenant, key: &KeyRow) -> Result<Write, StoreError> {
        own(tenant, &key.tenant)?;
        if self.keys.iter().any(|k| k.id == key.id || k.handle == key.handle || k.digest == key.digest) {
            return conflict("the key exists already");
        }
        Ok(Write::Key(key.clone()))
    }

    fn revoke_key(&self, tenant: &Tenant, id: KeyId, at: Timestamp) -> Result<Write, StoreError> {
        let mut key = self.key(tenant, id)?.clone();
        key.revoked = Some(key.revoked.map_or(at, |earlier| earlier.min(at)));
        Ok(Write::Key(key))
    }

    fn shorten_key(&self, tenant: &Tenant, id: KeyId, expires: Timestamp) -> Result<Write, StoreError> {
        let mut key = self.key(tenant, id)?.clone();
        if expires > key.expires {
            return conflict(format!("key {id} ends earlier already"));
        }
        key.expires = expires;
        Ok(Write::Key(key))
    }

    /// A key of another tenant answers like one that does not exist.
    fn key(&self, tenant: &Tenant, id: KeyId) -> Result<&KeyRow, StoreError> {
        let key = self.key_by_id(id).filter(|key| key.tenant == *tenant);
        key.ok_or_else(|| StoreError::Conflict(format!("there is no key {id}")))
    }

    fn advance_epoch(&self, tenant: &Tenant, epoch: &EpochRow) -> Result<Write, StoreError> {
        own(tenant, &epoch.tenant)?;
        let present = self.epoch(tenant, epoch.kind, &epoch.name);
        let not_before = present.map_or(epoch.not_before, |e| e.not_before.max(epoch.not_before));
        // The revision moves in any case: whoever was quicker may only have had a clock that goes before ours, and what was
        // issued since then is to be dead as well.
        Ok(Write::Epoch(EpochRow { revision: self.revision, not_before, ..epoch.clone() }))
    }

    fn put_row(&self, tenant: &Tenant, row: &Row, expect: Option<u64>) -> Result<Write, StoreError> {
        own(tenant, &row.tenant)?;
        if row.id.is_empty()
            || row.id.len().max(row.owner.len()) > ROW_NAME_MAX
            || row.body.len() > ROW_BODY_MAX
        {
            return conflict(format!("a {} is too large, or has no id", row.kind.name()));
        }
        let version = match (self.row_of(tenant, row.kind, &row.id)?, expect) {
            (None, None) => 1,
            (Some(present), Some(expect)) if present == expect => present + 1,
            (Some(_), None) => return conflict(format!("the {} exists already", row.kind.name())),
            (None, Some(_)) => return conflict(format!("there is no such {}", row.kind.name())),
            (Some(_), Some(_)) => {
                return conflict(format!("the {} was changed since it was read", row.kind.name()));
            }
        };
        Ok(Write::Row(Row { version, ..row.clone() }))
    }

    fn delete_row(&self, tenant: &Tenant, kind: RowKind, id: &str, expect: u64) -> Result<Write, StoreError> {
        match self.row_of(tenant, kind, id)? {
            Some(version) if version == expect => {}
            Some(_) => return conflict(format!("the {} was changed since it was read", kind.name())),
            None => return conflict(format!("there is no such {}", kind.name())),
        }
        Ok(Write::DeleteRow(kind, id.to_owned()))
    }

    /// The version of a row. One of another tenant is a conflict that says nothing of it: ids are random.
    fn row_of(&self, tenant: &Tenant, kind: RowKind, id: &str) -> Result<Option<u64>, StoreError> {
        match self.row(kind, id) {
            Some(row) if row.tenant != *tenant => conflict(format!("there is no such {}", kind.name())),
            row => Ok(row.map(|row| row.version)),
        }
    }

    fn put_bundle(&self, tenant: &Tenant, bundle: &BundleRow) -> Result<Write, StoreError> {
        own(tenant, &bundle.tenant)?;
        let present = self.bundles.iter().find(|b| b.tenant == *tenant).map_or(0, |b| b.version);
        if bundle.base != present || bundle.version <= present {
            return conflict(format!(
                "bundle version {} on version {} does not follow version {present}, which is in force",
                bundle.version, bundle.base
            ));
        }
        Ok(Write::Bundle(bundle.clone()))
    }

    fn use_claim(&self, digest: Digest, now: Timestamp) -> Result<Write, StoreError> {
        match &self.claim {
            Some(ClaimRow { digest: open, expires }) if *open == digest && now < *expires => {
                Ok(Write::ClaimUsed)
            }
            // One answer for all: whoever guesses learns nothing.
            _ => conflict("the claim is not open: it was used, has run out, or is another"),
        }
    }
}

fn conflict<T>(message: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Conflict(message.into()))
}

/// INV-TENANT: a row that names another tenant than the warrant's is refused.
fn own(tenant: &Tenant, named: &Tenant) -> Result<(), StoreError> {
    if tenant == named { Ok(()) } else { conflict("the change names another tenant than its decision") }
}

fn expected(kind: &str, name: &Name, expect: Option<u64>, changed: Option<u64>) -> Result<(), StoreError> {
    match (expect, changed) {
        (None, None) => Ok(()),
        (Some(expect), Some(changed)) if expect == changed => Ok(()),
        (None, Some(_)) => conflict(format!("{kind} `{name}` exists already")),
        (Some(_), None) => conflict(format!("there is no {kind} `{name}`")),
        (Some(_), Some(changed)) => {
            conflict(format!("{kind} `{name}` was changed since it was read, at revision {changed}"))
        }
    }
}

fn by_name(row: &(Tenant, Document, u64), tenant: &Tenant, kind: &str, name: &Name) -> Ordering {
    (&row.0, row.1.spec.kind(), &row.1.name).cmp(&(tenant, kind, name))
}

fn document_order(a: &(Tenant, Document, u64), b: &(Tenant, Document, u64)) -> Ordering {
    (&a.0, a.1.spec.kind(), &a.1.name).cmp(&(&b.0, b.1.spec.kind(), &b.1.name))
}

fn key_order(a: &KeyRow, b: &KeyRow) -> Ordering {
    a.id.cmp(&b.id)
}

fn epoch_order(a: &EpochRow, b: &EpochRow) -> Ordering {
    (&a.tenant, a.kind, &a.name).cmp(&(&b.tenant, b.kind, &b.name))
}

fn sealed_order(a: &SealedRow, b: &SealedRow) -> Ordering {
    (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name))
}

fn row_order(a: &Row, b: &Row) -> Ordering {
    (a.kind, &a.id).cmp(&(b.kind, &b.id))
}

fn bundle_order(a: &BundleRow, b: &BundleRow) -> Ordering {
    a.tenant.cmp(&b.tenant)
}
