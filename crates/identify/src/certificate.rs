//! Callers who show the certificate of a workload (X.509-SVID) and nothing else.
//!
//! The handshake has proven that they hold its key, and nothing more. Of our own trust domain a certificate stands for whom the
//! house issued it to, as its row says; of another one, for whom a rule of federation says, once it was verified by the keys of
//! that trust domain. Both are looked up anew with every request.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bartizan_base::{Digest, Timestamp};
use bartizan_jose::X5t;
use bartizan_model::{
    Action, Assurance, AssuranceLevel, Binding, CredentialKind, Principal, PrincipalKind, ReasonCode, Risk,
    Tenant,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::caller::{Caller, Scopes};
use crate::directory::{Assessed, Directory, Federation, principal_mark};
use crate::epochs::{EpochKind, Issued, MarkKey};
use crate::ground::Ground;
use crate::own::{Refusal, member};
use crate::proven::Proof;
use crate::spiffe::{Purpose, SpiffeId, SvidError, TrustBundles, X509Svid, claimed_workload, verify_x509};
use crate::trust::{NeedBundle, NoBundle, Trust};

/// Certificates of ours that are remembered.
const KNOWN_MAX: usize = 50_000;
/// Rules of one trust domain that are tried for a certificate.
const RULES_MAX: usize = 16;

/// The certificates that a client has shown in the handshake of its connection, its own first: one that names a workload, and
/// whose key it holds. Nobody has verified yet who issued it. Only a listener makes one.
#[derive(Clone)]
pub struct WorkloadCertificate {
    chain: Arc<[CertificateDer<'static>]>,
    id: SpiffeId,
    thumbprint: X5t,
}

impl WorkloadCertificate {
    /// Those of a connection; none where the first names no workload, or there are more than fit.
    #[must_use]
    pub fn of_connection(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let id = claimed_workload(chain)?;
        let thumbprint = X5t::of_certificate(chain.first()?);
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        Some(Self { chain, id, thumbprint })
    }
}

impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkloadCertificate({})", self.thumbprint)
    }
}

/// A certificate that the house has issued. It is public itself; nothing secret is kept of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// Whom it names.
    pub principal: Principal,
    /// The name in it.
    pub spiffe: String,
    /// SHA-256 of it.
    pub thumbprint: Digest,
    /// What it may be used for here: what the credential could be used for that it was issued against.
    pub scopes: Scopes,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
}

impl IssuedCertificate {
    fn proof(&self, tenant: &Tenant) -> Proof {
        Proof {
            tenant: tenant.clone(),
            kind: self.principal.kind,
            name: self.principal.name.clone(),
            assurance: Assurance { level: AssuranceLevel::Aal1, at: self.issued, ..Assurance::default() },
            binding: Binding::Mtls(self.thumbprint),
            device: None,
            risk: Risk::default(),
            actors: Vec::new(),
            client: None,
            credential: CredentialKind::Certificate,
            scopes: self.scopes.clone(),
            issued: self.issued,
            expires: self.ends,
        }
    }
}

/// Why a certificate lets nobody in, or not yet.
#[derive(Debug)]
pub(crate) enum Missing {
    /// The keys of its trust domain are needed.
    Bundle(Box<NeedBundle>),
    /// What the house knows of the certificate is needed.
    Issued(X5t),
    /// It does not let anybody in.
    Refused(Box<Caller>, ReasonCode),
}

impl From<Refusal> for Missing {
    fn from((caller, reason): Refusal) -> Self {
        Self::Refused(caller, reason)
    }
}

fn nobody(tenant: Tenant, reason: ReasonCode) -> Missing {
    Missing::Refused(Box::new(Caller::anonymous(tenant)), reason)
}

/// What was learned about certificates.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    pub(crate) trust: Trust,
    issued: RwLock<HashMap<Digest, (Tenant, Arc<IssuedCertificate>)>>,
}

impl Certificates {
    /// Remembers a certificate of ours: what is said of it never changes.
    pub(crate) fn learn(&self, tenant: Tenant, issued: IssuedCertificate, now: Timestamp) {
        let mut all = self.issued.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KNOWN_MAX {
            all.retain(|_, (_, known)| now < known.ends);
            if all.len() >= KNOWN_MAX {
                all.clear();
            }
        }
        all.insert(issued.thumbprint, (tenant, Arc::new(issued)));
    }

    /// Who shows a certificate at a door that answers for `resources`. With `running` they were let in before: nothing is
    /// fetched to find out whether they still would be.
    pub(crate) fn caller(
        &self,
        directory: &Directory,
        shown: &WorkloadCertificate,
        resources: &[String],
        now: Timestamp,
        running: bool,
    ) -> Result<Caller, Missing> {
        let mut caller = if directory.domain() == Some(shown.id.domain()) {
            self.of_ours(directory, shown, now)?
        } else {
            self.of_others(directory, shown, resources, now, running)?
        };
        caller.ground = Ground::Certificate(Box::new((shown.clone(), resources.to_vec())));
        let tenant = caller.tenant.clone();
        let binding = caller.subject.binding;
        let device = match directory.device(&tenant, &[binding]) {
            Ok(device) => device,
            Err(reason) => return Err(Missing::Refused(Box::new(caller), reason)),
        };
        let mark = device.map(|device| MarkKey::of(&tenant, EpochKind::Device, &device.name));
        if directory.epochs().kill(mark.as_slice(), Issued::Elsewhere { at: caller.issued }) {
            return Err(Missing::Refused(Box::new(caller), ReasonCode::CredentialRevoked));
        }
        let is_of = |device: &&bartizan_model::Device| {
            directory.is_device_of(&tenant, device, binding, &caller.subject.principal)
        };
        let device = device.filter(is_of).cloned();
        caller.subject.device = device;
        if let Some(risk) = directory.risk(&tenant, Assessed::Principal(caller.subject.principal.id)) {
            caller.subject.risk = risk.clone();
        }
        Ok(caller)
    }

    /// One that names our own trust domain: worth what the house has written down when it issued exactly this one.
    fn of_ours(
        &self,
        directory: &Directory,
        shown: &WorkloadCertificate,
        now: Timestamp,
    ) -> Result<Caller, Missing> {
        let thumbprint = shown.thumbprint.digest();
        let known = self.issued.read().unwrap_or_else(PoisonError::into_inner).get(thumbprint).cloned();
        let Some((tenant, issued)) = known else { return Err(Missing::Issued(shown.thumbprint)) };
        if issued.spiffe != shown.id.as_str() {
            return Err(nobody(tenant, ReasonCode::CredentialUnknown));
        }
        if directory.is_withdrawn(thumbprint) {
            return Err(nobody(tenant, ReasonCode::CredentialRevoked));
        }
        let caller = issued.proof(&tenant).caller(directory, now)?;
        // Somebody declared anew under the name is another one.
        if caller.subject.principal.id != issued.principal.id {
            return Err(nobody(tenant, ReasonCode::PrincipalDisabled));
        }
        Ok(caller)
    }

    /// One of another trust domain: who it is, the first rule says that it fits, under the keys which that rule names.
    fn of_others(
        &self,
        directory: &Directory,
        shown: &WorkloadCertificate,
        resources: &[String],
        now: Timestamp,
        running: bool,
    ) -> Result<Caller, Missing> {
        let rules: Vec<_> = directory.federations_of(shown.id.domain()).take(RULES_MAX).collect();
        let Some(first) = rules.first() else {
            return Err(nobody(Tenant::default_tenant(), ReasonCode::TokenIssuerUnknown));
        };
        let mut reason = ReasonCode::CredentialUnknown;
        let mut found: Option<Caller> = None;
        for rule in &rules {
            if found.as_ref().is_some_and(|caller| caller.tenant == rule.tenant) {
                continue;
            }
            // A certificate comes without a client: what is for certain ones is not for it.
            let who = rule.spec.who(shown.id.as_str(), |_| None).filter(|_| rule.spec.clients.is_empty());
            let Some(who) =
                who.filter(|who| matches!(who.kind, PrincipalKind::Agent | PrincipalKind::Workload))
            else {
                continue;
            };
            if !rule.spec.resources.is_empty()
                && !resources.iter().any(|resource| rule.spec.resources.contains(resource))
            {
                reason = ReasonCode::TokenAudienceMismatch;
                continue;
            }
            let bundle = match self.trust.of(rule, now, running) {
                Ok(bundle) => bundle,
                Err(NoBundle::Fetch(need)) => return Err(Missing::Bundle(need)),
                Err(NoBundle::Refused(why)) => {
                    reason = why;
                    continue;
                }
            };
            match verified(shown, &bundle, now) {
                Ok(svid) => {
                    let caller = federated(directory, rule, &svid, &who.kind, &who.name, now)?;
                    if found.as_ref().is_some_and(|other| other.tenant != caller.tenant) {
                        // Two houses know it: which one is meant, nothing says.
                        return Err(nobody(Tenant::default_tenant(), ReasonCode::CredentialAmbiguous));
                    }
                    found = found.or(Some(caller));
                }
                Err(why) => reason = why,
            }
        }
        found.ok_or_else(|| nobody(first.tenant.clone(), reason))
    }
}

fn verified(
    shown: &WorkloadCertificate,
    bundles: &TrustBundles,
    now: Timestamp,
) -> Result<X509Svid, ReasonCode> {
    verify_x509(&shown.chain, bundles, Purpose::Client, now).map_err(|error| match error {
        SvidError::Time => ReasonCode::CredentialExpired,
        SvidError::UnknownDomain | SvidError::Untrusted | SvidError::Token(_) => {
            ReasonCode::CredentialUnknown
        }
        SvidError::Malformed | SvidError::Names | SvidError::Id(_) | SvidError::Use => {
            ReasonCode::CredentialMalformed
        }
    })
}

/// Whom a verified certificate of another trust domain stands for.
fn federated(
    directory: &Directory,
    rule: &Federation,
    svid: &X509Svid,
    kind: &PrincipalKind,
    name: &bartizan_base::Name,
    now: Timestamp,
) -> Result<Caller, Missing> {
    let tenant = &rule.tenant;
    let principal =
        directory.active(tenant, *kind, name, now).map_err(|reason| nobody(tenant.clone(), reason))?;
    let marks = [
        principal_mark(&principal).map(|name| (EpochKind::Principal, name)),
        Some((EpochKind::Tenant, tenant.0.clone())),
        Some((EpochKind::Issuer, rule.name.clone())),
    ];
    let marks: Vec<_> = marks.iter().flatten().map(|(kind, name)| MarkKey::of(tenant, *kind, name)).collect();
    let assurance = Assurance {
        level: AssuranceLevel::Aal1.min(rule.spec.assurance(None)),
        methods: Vec::new(),
        at: svid.issued.min(now),
        via: Some(rule.name.clone()),
    };
    let mut subject = member(principal, assurance);
    subject.binding = Binding::Mtls(*svid.thumbprint.digest());
    let caller = Caller {
        subject,
        credential: CredentialKind::Certificate,
        issuer: Some(rule.name.clone()),
        scopes: Scopes::Only(
            rule.spec.scopes.iter().flat_map(|scope| Action::in_scope(scope.as_str())).collect(),
        ),
        issued: svid.issued,
        expires: svid.expires,
        ..Caller::anonymous(tenant.clone())
    };
    if directory.epochs().kill(&marks, Issued::Elsewhere { at: svid.issued }) {
        return Err(Missing::Refused(Box::new(caller), ReasonCode::CredentialRevoked));
    }
    Ok(caller)
}

#[cfg(test)]
mod tests;
