//! The keys of federated trust domains, as they were last fetched.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::ReasonCode;

use crate::directory::{Directory, Federation};
use crate::spiffe::{BundleError, TrustBundle, TrustBundles, TrustDomain};

/// How long a bundle is used that could not be fetched anew.
const AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How soon a bundle is fetched anew that says nothing about it (SPIFFE Trust Domain and Bundle, 4.1.1), and the bounds of what it
/// may say.
const REFRESH: Duration = Duration::from_secs(300);
const REFRESH_MIN: Duration = Duration::from_secs(30);
/// Between two attempts while the last good one is used.
const GAP: Duration = Duration::from_secs(30);

/// The bundle of a trust domain that has to be fetched: as a rule of the directory says, never as a certificate does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedBundle {
    /// The rule, with everything that is declared of it.
    pub rule: Digest,
    /// Whose bundle.
    pub domain: TrustDomain,
    /// Where it is.
    pub url: String,
    /// Whether that address may be private.
    pub allow_private: bool,
}

/// Why there is no bundle to verify by.
#[derive(Debug)]
pub(crate) enum NoBundle {
    /// It should be fetched.
    Fetch(Box<NeedBundle>),
    /// It should have been by now.
    Refused(ReasonCode),
}

/// What was learned, by rule: one that is declared otherwise is another one.
#[derive(Debug, Default)]
pub(crate) struct Trust(RwLock<HashMap<Digest, Learned>>);

#[derive(Debug)]
struct Learned {
    domain: TrustDomain,
    bundles: Arc<TrustBundles>,
    sequence: Option<u64>,
    refresh: Duration,
    learned: Timestamp,
    asked: Timestamp,
}

impl Learned {
    fn is_fresh(&self, now: Timestamp) -> bool {
        now.saturating_since(self.learned) <= AGE_MAX
    }

    fn is_due(&self, now: Timestamp) -> bool {
        now.saturating_since(self.learned) >= self.refresh && now.saturating_since(self.asked) >= GAP
    }
}

impl Trust {
    /// Takes a bundle as the trust domain publishes it.
    ///
    /// # Errors
    /// [`BundleError`]; the last good one stays, also where what came is older.
    pub(crate) fn learn(
        &self,
        directory: &Directory,
        need: &NeedBundle,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), BundleError> {
        let bundle = TrustBundle::parse(need.domain.clone(), bytes)?;
        let (sequence, refresh) = (bundle.sequence(), bundle.refresh().unwrap_or(REFRESH));
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = all.get(&need.rule).filter(|known| known.is_fresh(now)).and_then(|known| known.sequence);
        if before.is_some_and(|before| sequence.is_none_or(|sequence| sequence < before)) {
            return Err(BundleError::Older);
        }
        // Rules that are gone take what was learned by them along.
        all.retain(|rule, known| directory.is_declared(rule, &known.domain));
        let learned = Learned {
            domain: need.domain.clone(),
            bundles: Arc::new([bundle].into_iter().collect()),
            sequence,
            refresh: refresh.clamp(REFRESH_MIN, AGE_MAX),
            learned: now,
            asked: now,
        };
        all.insert(need.rule, learned);
        Ok(())
    }

    /// The bundle of a rule. Where it is due, whoever comes first is sent to fetch it, and the others go on with the last one, as
    /// does what is `running` already.
    pub(crate) fn of(
        &self,
        rule: &Federation,
        now: Timestamp,
        running: bool,
    ) -> Result<Arc<TrustBundles>, NoBundle> {
        if let Some(given) = &rule.given {
            return Ok(given.clone());
        }
        let need = || {
            NoBundle::Fetch(Box::new(NeedBundle {
                rule: rule.fingerprint,
                domain: rule.domain.clone(),
                url: rule.spec.jwks_url.clone(),
                allow_private: rule.spec.allow_private,
            }))
        };
        {
            let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let Some(known) = all.get(&rule.fingerprint) else { return Err(need()) };
            if known.is_fresh(now) && (running || !known.is_due(now)) {
                return Ok(known.bundles.clone());
            }
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&rule.fingerprint) {
            None => Err(need()),
            Some(known) if known.is_due(now) => {
                known.asked = now;
                Err(need())
            }
            Some(known) if known.is_fresh(now) => Ok(known.bundles.clone()),
            Some(_) => Err(NoBundle::Refused(ReasonCode::IssuerKeysUnavailable)),
        }
    }
}
