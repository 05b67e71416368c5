//! The keys of one revision, opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Name, Random};
use bartizan_jose::{Algorithm, KeptKey, KeyPlan, SigningKey};
use bartizan_keys::{SealError, Sealer};
use bartizan_model::{Problem, ReasonCode, Tenant};
use bartizan_secret::Secret;
use bartizan_store::{Row, RowKind, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Where a key was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The id of its row.
    pub(crate) id: String,
    /// The version of its row.
    pub(crate) version: u64,
}

/// The keys of one revision.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    held: Vec<Place>,
    keys: Vec<KeptKey>,
    signers: HashMap<String, Arc<SigningKey>>,
}

/// The keys as they were opened last.
#[derive(Debug, Default)]
pub(crate) struct Rings(Mutex<Arc<Ring>>);

impl Rings {
    /// The keys of `state`.
    pub(crate) fn of(&self, state: &State, tenant: &Tenant, sealer: &Sealer) -> Result<Arc<Ring>, Problem> {
        let rows = || state.rows.iter().filter(|r| r.kind == RowKind::SigningKey && r.tenant == *tenant);
        let present = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let same = |(place, row): (&Place, &Row)| place.version == row.version && place.id == row.id;
        if present.held.len() == rows().count() && present.held.iter().zip(rows()).all(same) {
            return Ok(present);
        }
        let ring = Arc::new(Ring::open(rows(), tenant, sealer)?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ring.clone();
        Ok(ring)
    }
}

impl Ring {
    fn open<'a>(
        rows: impl Iterator<Item = &'a Row>,
        tenant: &Tenant,
        sealer: &Sealer,
    ) -> Result<Self, Problem> {
        let mut ring = Self::default();
        for row in rows {
            let key: KeptKey = serde_json::from_str(&row.body).map_err(|error| {
                tracing::error!(%error, row = row.id, "a signing key's row cannot be read");
                Problem::new(ReasonCode::Internal)
            })?;
            // One that does not open does not sign; tokens under it are still verified.
            match open(sealer, tenant, &key) {
                Some(signer) => {
                    ring.signers.insert(key.plan.kid.clone(), Arc::new(signer));
                }
                None => tracing::error!(kid = key.plan.kid, "a signing key does not open"),
            }
            ring.held.push(Place { id: row.id.clone(), version: row.version });
            ring.keys.push(key);
        }
        Ok(ring)
    }

    /// Where each key was read, in the order of the keys.
    pub(crate) fn held(&self) -> &[Place] {
        &self.held
    }

    /// The keys, the oldest first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &KeptKey> {
        self.keys.iter()
    }

    /// Their plans.
    pub(crate) fn plans(&self) -> Vec<KeyPlan> {
        self.keys.iter().map(|key| key.plan.clone()).collect()
    }

    /// A key that signs.
    pub(crate) fn signer(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.signers.get(kid).cloned()
    }

    /// The id of the next key's row.
    pub(crate) fn next_id(&self) -> String {
        let last =
            self.held.iter().filter_map(|place| place.id.parse::<u64>().ok()).max().unwrap_or_default();
        format!("{:08}", last.saturating_add(1))
    }
}

/// Where the private half is sealed for.
fn place(kid: &str) -> Option<Name> {
    format!("signing-key:{kid}").parse().ok()
}

/// The private half, sealed, in base64url.
pub(crate) fn seal(
    sealer: &Sealer,
    tenant: &Tenant,
    key: &SigningKey,
    random: &dyn Random,
) -> Result<String, SealError> {
    let text = Secret::new(URL_SAFE_NO_PAD.encode(key.private().expose()));
    let sealed = sealer.seal(&text, tenant, &place(key.kid()).ok_or(SealError::Refused)?, random)?;
    Ok(URL_SAFE_NO_PAD.encode(sealed))
}

fn open(sealer: &Sealer, tenant: &Tenant, key: &KeptKey) -> Option<SigningKey> {
    let sealed = URL_SAFE_NO_PAD.decode(&key.sealed).ok()?;
    let text = sealer.open(&sealed, tenant, &place(&key.plan.kid)?).ok()?;
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.expose()).ok()?);
    let private = Secret::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?);
    let algorithm = key.public().ok()?.algorithm();
    let signer = SigningKey::from_private(algorithm, private).ok()?;
    (signer.kid() == key.plan.kid && algorithm == Algorithm::Ed25519).then_some(signer)
}
