//! The keys of those who send us events: fetched once, fetched again for a key that is new, and not more than once a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_jose::Jwks;
use bartizan_model::directory::IssuerSpec;
use tokio::sync::Mutex;

use super::Outside;

/// How long keys are taken as they were fetched.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long they are taken where nothing newer can be fetched.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Between two attempts for one issuer.
const PAUSE: Duration = Duration::from_secs(60);

/// Keys by the address that they are at.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<HashMap<String, Known>>);

#[derive(Clone, Debug)]
struct Known {
    keys: Option<(Arc<Jwks>, Timestamp)>,
    tried: Timestamp,
}

impl Keys {
    /// The keys of an issuer; with `again`, newer ones than were just seen not to do.
    pub(super) async fn of(
        &self,
        outside: &dyn Outside,
        spec: &IssuerSpec,
        now: Timestamp,
        again: bool,
    ) -> Option<Arc<Jwks>> {
        let mut all = self.0.lock().await;
        let known = all.get(&spec.jwks_url).cloned();
        let age = |at: Timestamp| now.saturating_since(at);
        let held = known.as_ref().and_then(|known| known.keys.clone());
        let fresh = held.as_ref().is_some_and(|(_, at)| age(*at) < FRESH) && !again;
        let resting = known.is_some_and(|known| age(known.tried) < PAUSE);
        let kept = held.filter(|(_, at)| age(*at) < KEPT);
        if fresh || resting {
            return kept.map(|(keys, _)| keys);
        }
        let fetched = outside.keys(&spec.jwks_url, spec.allow_private).await;
        let read = fetched.ok().and_then(|fetched| Jwks::parse(&fetched).ok()).map(Arc::new);
        if read.is_none() {
            tracing::warn!(issuer = spec.issuer, "the keys of a sender of events could not be fetched");
        }
        let keys = read.map(|keys| (keys, now)).or(kept);
        all.insert(spec.jwks_url.clone(), Known { keys: keys.clone(), tried: now });
        keys.map(|(keys, _)| keys)
    }
}
