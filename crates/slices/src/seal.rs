//! Sealing under the keys of people. The keys lie in the vault, one a subject, made when it is first needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_base::{Name, Random, Timestamp};
use bartizan_keys::Sealer;
use bartizan_model::{DecisionId, PrincipalId, Tenant};
use bartizan_secret::Secret;
use bartizan_vault::{Field, Kind, Place, Vault};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::file::{Kept, SlicesError};

/// Subjects whose keys are held.
const HELD_MAX: usize = 10_000;

/// The keys of subjects, by the vault.
#[derive(Debug)]
pub(crate) struct Keys {
    vault: Vault,
    random: Arc<dyn Random>,
    held: Mutex<HashMap<(Tenant, PrincipalId), Arc<Sealer>>>,
    /// Whose keys were made since this was last asked.
    made: Mutex<Vec<PrincipalId>>,
}

/// What came of opening something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It is this.
    Bytes(Vec<u8>),
    /// The key of somebody in it is gone.
    Gone,
}

/// The place of a subject's key in the vault. No decision has this id: ids of decisions hold the moment they were made.
fn place(tenant: &Tenant, subject: PrincipalId) -> Place<'_> {
    Place { tenant, subject, decision: DecisionId::from_parts(Timestamp::from_micros(0), [0; 10]) }
}

fn field() -> Name {
    Name::literal("replay-key")
}

fn sealer(text: &str) -> Result<Arc<Sealer>, SlicesError> {
    let damaged = SlicesError::Damaged("a key for replay");
    let Ok(bytes) = STANDARD_NO_PAD.decode(text) else { return Err(damaged) };
    let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice()) else { return Err(damaged) };
    Ok(Arc::new(Sealer::new(Secret::new(key))))
}

impl Keys {
    pub(crate) fn new(vault: Vault, random: Arc<dyn Random>) -> Self {
        Self { vault, random, held: Mutex::default(), made: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<(Tenant, PrincipalId), Arc<Sealer>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the key of somebody who was erased: what is kept from now on is under a new one.
    pub(crate) fn forget(&self, tenant: &Tenant, subject: PrincipalId) {
        self.held().remove(&(tenant.clone(), subject));
    }

    /// The key as the vault has it now: never from memory, so that what was erased is not read.
    fn find(&self, tenant: &Tenant, subject: PrincipalId) -> Result<Option<Arc<Sealer>>, SlicesError> {
        let items = self.vault.get(&place(tenant, subject))?;
        let item = items.iter().find(|item| item.field == field());
        item.map(|item| sealer(item.value.expose())).transpose()
    }

    fn find_or_make(
        &self,
        tenant: &Tenant,
        subject: PrincipalId,
        now: Timestamp,
    ) -> Result<Arc<Sealer>, SlicesError> {
        let whose = (tenant.clone(), subject);
        if let Some(held) = self.held().get(&whose) {
            return Ok(held.clone());
        }
        let found = match self.find(tenant, subject)? {
            Some(found) => found,
            None => {
                let mut key = [0; 32];
                self.random.fill(&mut key);
                let text = Secret::new(STANDARD_NO_PAD.encode(key));
                let value = Field { name: &field(), kind: Kind::Replay, value: text.expose() };
                self.vault.put(&place(tenant, subject), &[value], now)?;
                self.made.lock().unwrap_or_else(PoisonError::into_inner).push(subject);
                sealer(text.expose())?
            }
        };
        let mut held = self.held();
        if held.len() >= HELD_MAX {
            held.clear();
        }
        held.insert(whose, found.clone());
        Ok(found)
    }

    /// Whose keys were made since this was last asked: if they had others before, those are gone.
    pub(crate) fn made(&self) -> Vec<PrincipalId> {
        std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Seals under the keys of all of `under`, the first innermost.
    pub(crate) fn seal(
        &self,
        tenant: &Tenant,
        name: &Name,
        plain: &[u8],
        under: Vec<PrincipalId>,
        now: Timestamp,
    ) -> Result<Kept, SlicesError> {
        let mut bytes = plain.to_vec();
        for subject in &under {
            let sealer = self.find_or_make(tenant, *subject, now)?;
            // The first layer holds JSON; what is around it holds bytes.
            let text = match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => STANDARD_NO_PAD.encode(error.into_bytes()),
            };
            let sealed = sealer.seal(&Secret::new(text), tenant, name, &*self.random);
            bytes = sealed.map_err(|_| SlicesError::Damaged("what is to be sealed"))?;
        }
        Ok(Kept { under, bytes })
    }

    /// Opens what was sealed for `name`.
    pub(crate) fn open(&self, tenant: &Tenant, name: &Name, kept: &Kept) -> Result<Opened, SlicesError> {
        let damaged = || SlicesError::Damaged("what was sealed");
        let mut bytes = kept.bytes.clone();
        for (layer, subject) in kept.under.iter().enumerate().rev() {
            let Some(sealer) = self.find(tenant, *subject)? else { return Ok(Opened::Gone) };
            let text = match sealer.open(&bytes, tenant, name) {
                Ok(text) => text,
                // A key made after an erasure opens nothing of before.
                Err(bartizan_keys::SealError::OtherKey) => return Ok(Opened::Gone),
                Err(_) => return Err(damaged()),
            };
            bytes = if layer == 0 {
                text.expose().as_bytes().to_vec()
            } else {
                STANDARD_NO_PAD.decode(text.expose()).map_err(|_| damaged())?
            };
        }
        Ok(Opened::Bytes(bytes))
    }
}
