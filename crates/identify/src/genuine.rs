//! A token that was verified once: what must still hold each time it comes again, and what only this request tells.

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_jose::{Bound, Confirmation, Jkt, TimeRules, Times};
use bartizan_model::{Binding, Member, Principal, PrincipalKind, ReasonCode, Risk, RiskLevel};

use crate::caller::Caller;
use crate::directory::{Assessed, Directory};
use crate::epochs::{EpochKind, Issued, MarkKey};

/// A token whose signature, type, times and audience held, with everybody in it looked up. It holds nothing by which it could
/// be presented: only the digest of its text.
#[derive(Debug)]
pub(crate) struct Genuine {
    /// The caller as far as the token tells; what the request proves is added by [`Genuine::caller`].
    pub(crate) caller: Caller,
    pub(crate) source: Source,
    pub(crate) token: Digest,
    pub(crate) signer: Jkt,
    pub(crate) times: Times,
    pub(crate) bound_to: Option<Confirmation>,
    /// For whom it is: a token of one audience is never one of another.
    pub(crate) audience: String,
    pub(crate) issued: Issued,
    /// What it dies with.
    pub(crate) marks: Box<[MarkKey]>,
    /// The device that it says it was issued on.
    pub(crate) device: Option<Name>,
}

/// Who issued a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// We.
    Own,
    /// Somebody else, as they were declared when it was verified.
    Foreign { issuer: Name, iss: String, declared: Digest },
}

impl Genuine {
    /// Whether a fresh verification would come to the same, its signature given: times, keys, everybody in it, epochs. A few
    /// look-ups.
    pub(crate) fn stands(&self, directory: &Directory, rules: &TimeRules) -> bool {
        rules.check(&self.times).is_ok()
            && self.is_from_one_we_trust(directory, rules.now)
            && self.caller.members().all(|m| directory.is_alive(&self.caller.tenant, &m.principal, rules.now))
            && self.is_not_outlived(directory)
    }

    fn is_from_one_we_trust(&self, directory: &Directory, now: Timestamp) -> bool {
        match &self.source {
            Source::Own => directory
                .own()
                .and_then(|own| own.tenant_of(self.signer, now))
                .is_some_and(|tenant| *tenant == self.caller.tenant),
            Source::Foreign { iss, declared, .. } => {
                // An agent of the same name comes before a workload.
                let shadowed = |member: &Member| {
                    let Principal { kind, name, .. } = &member.principal;
                    *kind == PrincipalKind::Workload
                        && directory.is_known(&self.caller.tenant, PrincipalKind::Agent, name)
                };
                directory.issuer(iss).is_some_and(|issuer| issuer.fingerprint == *declared)
                    && !self.caller.actors.iter().any(shadowed)
            }
        }
    }

    /// Whether no epoch, no device taken out of use and no state that was set back has ended it.
    pub(crate) fn is_not_outlived(&self, directory: &Directory) -> bool {
        self.is_known_state(directory)
            && !directory.epochs().kill(&self.marks, self.issued)
            && self.device.as_ref().is_none_or(|name| directory.is_device_in_use(&self.caller.tenant, name))
    }

    /// Whether it was issued on a state that this node has seen.
    pub(crate) const fn is_known_state(&self, directory: &Directory) -> bool {
        match self.issued {
            Issued::Here { revision, .. } => revision <= directory.revision(),
            Issued::Elsewhere { .. } => true,
        }
    }

    /// The caller of a request that has proven `bound`: with its binding, its device, and how risky it looks by now.
    ///
    /// # Errors
    /// When the device that the request was proven by may not be used, or everything issued to it is dead.
    pub(crate) fn caller(&self, directory: &Directory, bound: Bound) -> Result<Caller, ReasonCode> {
        let mut caller = self.caller.clone();
        let proofs: &[Binding] = match bound {
            Bound::Bearer => &[],
            Bound::Key(key) => &[Binding::Dpop(*key.digest())],
            Bound::Certificate(x5t) => &[Binding::Mtls(*x5t.digest())],
            Bound::Both(key, x5t) => &[Binding::Dpop(*key.digest()), Binding::Mtls(*x5t.digest())],
        };
        let binding = proofs.first().copied().unwrap_or_default();
        let device = directory.device(&caller.tenant, proofs)?;
        if let Some(device) = device {
            let mark = MarkKey::of(&caller.tenant, EpochKind::Device, &device.name);
            if directory.epochs().kill(&[mark], self.issued) {
                return Err(ReasonCode::CredentialRevoked);
            }
        }
        let in_session = caller.session.and_then(|id| directory.risk(&caller.tenant, Assessed::Session(id)));
        // Only what does not look harmless is kept. Who comes in a session of ours was assessed when the token was issued.
        let harmless = Risk { level: RiskLevel::Low, score: 0, at: self.times.issued, reasons: Vec::new() };
        let base = match (caller.session, in_session) {
            (None, _) => None,
            (Some(_), None) => Some(&harmless),
            (Some(_), Some(found)) => Some(found),
        };
        let tenant = caller.tenant.clone();
        let members = std::iter::once((true, &mut caller.subject))
            .chain(caller.actors.iter_mut().map(|actor| (false, actor)));
        for (is_subject, member) in members {
            // One credential, one binding: it stands for all of them.
            member.binding = binding;
            member.device = device
                .filter(|device| {
                    proofs
                        .iter()
                        .any(|proof| directory.is_device_of(&tenant, device, *proof, &member.principal))
                })
                .cloned();
            let own = directory.risk(&tenant, Assessed::Principal(member.principal.id));
            let base = if is_subject { base } else { None };
            if let Some(risk) = own.into_iter().chain(base).max_by_key(|risk| (risk.level, risk.score)) {
                member.risk = risk.clone();
            }
        }
        Ok(caller)
    }
}
