//! Authenticators whose makers vouch for them (WebAuthn Level 3, 6.5): asked for where somebody wants it or the house demands
//! it, believed up to the roots and models that are declared, and only for keys that no authenticator copies.

use std::collections::BTreeSet;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{Aaguid, AttestationSpec, ReasonCode, Spec, Status, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use webauthn_rs::prelude::{
    AttestationCaList, AttestationCaListBuilder, AttestationMetadata, AttestedPasskey, Uuid,
};
use x509_parser::pem::parse_x509_pem;

use super::Login;

/// What a maker has vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attested {
    /// The model.
    pub aaguid: Aaguid,
    /// SHA-256 of the root certificate that the chain ended at.
    pub root: Digest,
    /// When it was verified.
    pub at: Timestamp,
}

/// A root that is believed, for some models.
#[derive(Debug)]
struct Root {
    digest: Digest,
    aaguids: BTreeSet<Aaguid>,
    list: AttestationCaList,
}

/// What is believed at this moment.
#[derive(Debug, Default)]
pub(super) struct Roots {
    each: Vec<Root>,
    /// Whether no other authenticators are taken.
    pub(super) demanded: bool,
}

impl Roots {
    /// What `specs` say. A root that cannot be read vouches for nothing; what it demands, it demands all the same.
    pub(super) fn of<'a>(specs: impl Iterator<Item = &'a AttestationSpec>) -> Self {
        let mut out = Self::default();
        for spec in specs.filter(|spec| spec.status == Status::Active) {
            out.demanded |= spec.demanded;
            match root(spec) {
                Some(root) => out.each.push(root),
                None => tracing::error!("the root of an attestation cannot be read"),
            }
        }
        out
    }

    /// Whether nothing is believed.
    pub(super) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// All of them, as the verifier takes them.
    pub(super) fn list(&self) -> AttestationCaList {
        let mut all = AttestationCaList::default();
        self.each.iter().for_each(|root| all.union(&root.list));
        all
    }

    /// What vouches for a key whose attestation was verified. It was held against all the roots together: here against each with
    /// its own models, so that one maker's root never vouches for another's.
    pub(super) fn vouch(&self, key: &AttestedPasskey, now: Timestamp) -> Option<Attested> {
        let (AttestationMetadata::Packed { aaguid } | AttestationMetadata::Tpm { aaguid, .. }) =
            &key.attestation().metadata
        else {
            return None;
        };
        let aaguid = Aaguid::from_bytes(*aaguid.as_bytes())?;
        let mut able = self.each.iter().filter(|root| root.aaguids.contains(&aaguid));
        let root = able.find(|root| key.verify_attestation(&root.list).is_ok())?;
        Some(Attested { aaguid, root: root.digest, at: now })
    }

    /// Whether what was believed once is believed still: models are taken out when they turn out to be weak.
    pub(super) fn stand_by(&self, attested: &Attested) -> bool {
        self.each.iter().any(|root| root.digest == attested.root && root.aaguids.contains(&attested.aaguid))
    }
}

fn root(spec: &AttestationSpec) -> Option<Root> {
    let (_, pem) = parse_x509_pem(spec.root.as_bytes()).ok()?;
    let mut list = AttestationCaListBuilder::new();
    for aaguid in &spec.aaguids {
        let device = Uuid::from_bytes(*aaguid.as_bytes());
        list.insert_device_der(&pem.contents, device, aaguid.to_string(), Default::default()).ok()?;
    }
    let list = list.build();
    (!list.is_empty()).then(|| Root {
        digest: Digest::of(&pem.contents),
        aaguids: spec.aaguids.clone(),
        list,
    })
}

impl Login {
    /// What is believed of makers at this moment.
    pub(super) fn roots(&self, tenant: &Tenant) -> Result<Roots, ReasonCode> {
        let view = self.authority.control.house.view(tenant)?;
        let specs = view.state.documents.iter().filter_map(|(owner, document, _)| match &document.spec {
            Spec::Attestation(spec) if owner == tenant => Some(spec),
            _ => None,
        });
        Ok(Roots::of(specs))
    }

    /// Whether an authenticator that its maker vouches for can be enrolled here, and whether no other can.
    #[must_use]
    pub fn takes_attested(&self, tenant: &Tenant) -> (bool, bool) {
        let roots = self.roots(tenant).unwrap_or_default();
        (self.has_passkeys() && !roots.is_empty(), roots.demanded)
    }
}

/// What the verifier remembers, without the roots: those in force when the answer comes count.
pub(super) fn without_roots(mut state: Value) -> Value {
    if let Some(members) = state.as_object_mut() {
        members.remove(ROOTS);
    }
    state
}

/// The same with the roots in force.
pub(super) fn with_roots(mut state: Value, roots: &Roots) -> Result<Value, serde_json::Error> {
    let list = serde_json::to_value(roots.list())?;
    if let Some(members) = state.as_object_mut() {
        members.insert(ROOTS.to_owned(), list);
    }
    Ok(state)
}

/// What the library calls them.
const ROOTS: &str = "ca_list";
