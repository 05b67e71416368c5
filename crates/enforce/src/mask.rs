//! What masks the texts of a call, by the obligations of its permit.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_keys::Pseudonyms;
use bartizan_mask::{Masker, Replace};
use bartizan_model::{Detector, MaskBy, Obligations, OnCanary, Problem, ReasonCode, Tenant};
use bartizan_secret::Secret;

use crate::metrics::Metrics;
use crate::path::Gate;
use crate::world::TenantWorld;

/// What masks a call: its request, and then its answer.
#[derive(Clone, Debug)]
pub(crate) struct CallMaskers {
    pub(crate) request: Masker,
    pub(crate) answer: Masker,
}

/// Refuses what a canary was found in that stops it.
pub(crate) fn uncaught(masker: Option<&Masker>) -> Result<(), Problem> {
    if masker.is_some_and(Masker::is_caught) { Err(Problem::new(ReasonCode::CanaryFound)) } else { Ok(()) }
}

/// Values that a request held, by the tokens that stand for them.
type Issued = Arc<Mutex<HashMap<String, Secret<String>>>>;

/// Hashes or tokens in the place of matches.
#[derive(Debug)]
struct Pseudonymous {
    names: Pseudonyms,
    by: MaskBy,
    issued: Issued,
    /// Whether tokens that were made for this very request give back their value. Those of others never do, whoever
    /// presents them.
    returns: bool,
    told: Told,
}

/// Who is told of canaries.
#[derive(Clone, Debug)]
struct Told {
    metrics: Metrics,
    tenant: Tenant,
}

impl Replace for Pseudonymous {
    fn replace(&self, detector: &Detector, value: &str, out: &mut String) {
        let kind = detector.to_string();
        match self.by {
            MaskBy::Token | MaskBy::TokenReturned => {
                if let Ok(token) = self.names.token(&kind, value) {
                    out.push_str(&token);
                    if self.by == MaskBy::TokenReturned && !self.returns {
                        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
                        issued.insert(token, Secret::new(value.to_owned()));
                    }
                    return;
                }
                // A token that cannot be made leads back to nothing, but masks all the same.
                out.push_str(&format!("[{}]", detector.name()));
            }
            MaskBy::Hash => out.push_str(&format!("[{}:{}]", detector.name(), self.names.hash(&kind, value))),
            MaskBy::Name => out.push_str(&format!("[{}]", detector.name())),
        }
    }

    fn sighted(&self, detector: &Detector, then: OnCanary) {
        let Told { metrics, tenant } = &self.told;
        metrics.canary(then);
        let (tenant, detector) = (tenant.0.as_str(), detector.name());
        tracing::warn!(tenant, detector, blocked = then == OnCanary::Block, "a canary was found");
    }

    fn reveal(&self, token: &str) -> Option<String> {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.get(token).filter(|_| self.returns).map(|value| value.expose().clone())
    }
}

impl Gate {
    /// What masks a call under these obligations; none if nothing is to be masked.
    ///
    /// # Errors
    /// When a detector is not declared, or disabled: then nothing is sent or released.
    pub(crate) fn maskers(
        &self,
        world: &TenantWorld,
        tenant: &Tenant,
        obligations: &Obligations,
    ) -> Result<Option<CallMaskers>, Problem> {
        self.maskers_of(world, tenant, &obligations.detectors(), obligations.mask_by())
    }

    /// The same for these detectors.
    pub(crate) fn maskers_of(
        &self,
        world: &TenantWorld,
        tenant: &Tenant,
        detectors: &BTreeSet<Detector>,
        by: MaskBy,
    ) -> Result<Option<CallMaskers>, Problem> {
        if detectors.is_empty() {
            return Ok(None);
        }
        let masker = Masker::new(detectors, &world.detectors)
            .map_err(|error| Problem::with_detail(ReasonCode::ObligationFailed, error.to_string()))?;
        if by == MaskBy::Name && !masker.looks_for_canaries() {
            return Ok(Some(CallMaskers { request: masker.clone(), answer: masker }));
        }
        let issued = Issued::default();
        let how = |returns| {
            let names = self.parts.sealer.pseudonyms(tenant);
            let told = Told { metrics: self.parts.metrics.clone(), tenant: tenant.clone() };
            Arc::new(Pseudonymous { names, by, issued: issued.clone(), returns, told })
        };
        let answer = masker.clone().replacing(how(true));
        Ok(Some(CallMaskers { request: masker.replacing(how(false)), answer }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;
    use bartizan_keys::Sealer;

    fn maskers(by: MaskBy) -> CallMaskers {
        let mut key = [0; 32];
        bartizan_base::Random::fill(&SeededRandom::new(1), &mut key);
        let sealer = Sealer::new(Secret::new(key));
        let masker = Masker::new(&[Detector::Email, Detector::Card].into(), &Default::default()).unwrap();
        let issued = Issued::default();
        let how = |returns| {
            let names = sealer.pseudonyms(&Tenant::default_tenant());
            let metrics = Metrics::register(&mut Default::default());
            let told = Told { metrics, tenant: Tenant::default_tenant() };
            Arc::new(Pseudonymous { names, by, issued: issued.clone(), returns, told })
        };
        CallMaskers { request: masker.clone().replacing(how(false)), answer: masker.replacing(how(true)) }
    }

    #[test]
    fn a_hash_is_the_same_for_the_same_value_and_is_not_masked_again() {
        let CallMaskers { request, answer } = maskers(MaskBy::Hash);
        let masked = request.mask("a@b.co, a@b.co, c@d.co").text.into_owned();
        let parts: Vec<&str> = masked.split(", ").collect();
        assert!(parts[0] == parts[1] && parts[1] != parts[2] && parts[0].starts_with("[email:"), "{masked}");
        assert_eq!(answer.mask(&masked).text, masked);
    }

    #[test]
    fn a_token_of_this_request_comes_back_in_its_answer_and_no_other_does() {
        let CallMaskers { request, answer } = maskers(MaskBy::TokenReturned);
        let masked = request.mask("write to a@b.co, not to 4111 1111 1111 1111").text.into_owned();
        assert!(masked.starts_with("write to tok_") && !masked.contains("a@b"), "{masked}");
        assert_eq!(request.mask(&masked).text, masked, "on the way in nothing is given back");
        assert_eq!(answer.mask(&masked).text, "write to a@b.co, not to 4111 1111 1111 1111");
        assert_eq!(maskers(MaskBy::TokenReturned).answer.mask(&masked).text, masked, "of another request");
        let own = answer.mask("the model knows x@y.org").text.into_owned();
        assert!(own.starts_with("the model knows tok_"));
        assert_eq!(answer.mask(&own).text, own, "what the caller did not send is not given back");
        let CallMaskers { request, answer } = maskers(MaskBy::Token);
        let masked = request.mask("a@b.co").text.into_owned();
        assert_eq!(answer.mask(&masked).text, masked);
    }
}
