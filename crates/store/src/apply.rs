//! What changes mean: one pure function that every backend shares, so that they cannot differ.

use bartizan_base::Timestamp;
use bartizan_model::{Document, KeyId, Tenant};

use crate::{Change, ClaimRow, EpochRow, Founding, KeyRow, State, StoreError};

fn conflict<T>(what: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Conflict(what.into()))
}

impl State {
    /// Whether the installation was founded.
    #[must_use]
    pub const fn is_founded(&self) -> bool {
        self.recovery.is_some()
    }

    /// Founds the installation.
    ///
    /// # Errors
    /// `Conflict` when there is one.
    pub fn found(&mut self, founding: Founding) -> Result<(), StoreError> {
        if self.is_founded() {
            return conflict("the installation exists already");
        }
        self.recovery = Some(founding.recovery);
        self.claim = Some(founding.claim);
        self.documents = founding.documents.into_iter().map(|(t, d)| (t, d, 1)).collect();
        self.bundles = founding.bundle.into_iter().collect();
        self.revision = 1;
        Ok(())
    }

    /// Applies a set of changes to `tenant`'s part, whole or not at all.
    ///
    /// # Errors
    /// `Conflict`; the state is then unchanged.
    pub fn apply(&mut self, tenant: &Tenant, changes: &[Change]) -> Result<(), StoreError> {
        let mut next = self.clone();
        next.revision += 1;
        for change in changes {
            next.change(tenant, change)?;
        }
        *self = next;
        Ok(())
    }

    fn change(&mut self, tenant: &Tenant, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::PutDocument { document, expect } => self.put_document(tenant, document, *expect),
            Change::DeleteDocument { kind, name, expect } => {
                let at = self
                    .documents
                    .iter()
                    .position(|(t, d, _)| t == tenant && d.spec.kind() == kind && d.name == *name);
                match at {
                    Some(at) if self.documents.get(at).is_some_and(|(.., r)| r == expect) => {
                        self.documents.remove(at);
                        Ok(())
                    }
                    _ => conflict(format!("{kind} `{name}` has changed or is gone")),
                }
            }
            Change::AddKey(row) => {
                same_tenant(tenant, &row.tenant)?;
                if self.keys.iter().any(|k| k.id == row.id || k.digest == row.digest) {
                    return conflict("a key of that id or text exists already");
                }
                self.keys.push(row.clone());
                Ok(())
            }
            Change::RevokeKey { id, at } => {
                let key = self.key(tenant, *id)?;
                key.revoked = Some(key.revoked.map_or(*at, |r| r.min(*at)));
                Ok(())
            }
            Change::ShortenKey { id, expires } => {
                let key = self.key(tenant, *id)?;
                if *expires > key.expires {
                    return conflict("a key's end only moves to an earlier moment");
                }
                key.expires = *expires;
                Ok(())
            }
            Change::AdvanceEpoch(row) => self.advance(tenant, row),
            Change::PutSealed(row) => {
                same_tenant(tenant, &row.tenant)?;
                self.sealed.retain(|s| !(s.tenant == row.tenant && s.name == row.name));
                self.sealed.push(row.clone());
                Ok(())
            }
            Change::PutBundle { bundle } => {
                same_tenant(tenant, &bundle.tenant)?;
                let present = self.bundles.iter().find(|b| b.tenant == *tenant).map_or(0, |b| b.version);
                if bundle.version != present + 1 {
                    return conflict(format!("the bundle in force has version {present}"));
                }
                self.bundles.retain(|b| b.tenant != *tenant);
                self.bundles.push(bundle.clone());
                Ok(())
            }
            Change::UseClaim { digest, now } => match &self.claim {
                Some(ClaimRow { digest: open, expires }) if open == digest && *expires > *now => {
                    self.claim = None;
                    Ok(())
                }
                _ => conflict("there is no such open claim"),
            },
        }
    }

    fn put_document(
        &mut self,
        tenant: &Tenant,
        document: &Document,
        expect: Option<u64>,
    ) -> Result<(), StoreError> {
        let (kind, name) = (document.spec.kind(), &document.name);
        let at = self
            .documents
            .iter()
            .position(|(t, d, _)| t == tenant && d.spec.kind() == kind && d.name == *name);
        let present = at.and_then(|at| self.documents.get(at)).map(|(.., r)| *r);
        if present != expect {
            return conflict(format!("{kind} `{name}` has changed since it was read"));
        }
        let row = (tenant.clone(), document.clone(), self.revision);
        match at.and_then(|at| self.documents.get_mut(at)) {
            Some(place) => *place = row,
            None => self.documents.push(row),
        }
        Ok(())
    }

    fn advance(&mut self, tenant: &Tenant, row: &EpochRow) -> Result<(), StoreError> {
        same_tenant(tenant, &row.tenant)?;
        let place = self
            .epochs
            .iter_mut()
            .find(|e| e.tenant == row.tenant && e.kind == row.kind && e.name == row.name);
        match place {
            Some(epoch) => epoch.not_before = epoch.not_before.max(row.not_before),
            None => self.epochs.push(row.clone()),
        }
        Ok(())
    }

    fn key(&mut self, tenant: &Tenant, id: KeyId) -> Result<&mut KeyRow, StoreError> {
        self.keys
            .iter_mut()
            .find(|k| k.tenant == *tenant && k.id == id)
            .ok_or_else(|| StoreError::Conflict(format!("no key `{id}`")))
    }

    /// Notes when keys were last used.
    pub fn touch(&mut self, uses: &[(KeyId, Timestamp)]) {
        for (id, at) in uses {
            if let Some(key) = self.keys.iter_mut().find(|k| k.id == *id) {
                key.last_used = Some(key.last_used.map_or(*at, |t| t.max(*at)));
            }
        }
    }
}

fn same_tenant(of: &Tenant, row: &Tenant) -> Result<(), StoreError> {
    if of == row { Ok(()) } else { conflict("a change never touches another tenant") }
}
