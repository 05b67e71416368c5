//! Which of several upstreams a call goes to, and whether it may go to another one when the first does not take it.
//!
//! A call goes on to the next only while nothing can have happened: there was no connection, or the upstream said that it did not
//! take the call (429, 503, 529), before a byte of its answer was passed on. What may have had an effect is never sent twice.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bartizan_base::{Name, Random};
use bartizan_limits::breaker::Breaker;
use bartizan_model::directory::{ModelSpec, UpstreamSpec};
use bartizan_model::{ReasonCode, Tenant};
use bartizan_record::Running;
use bartizan_upstream::{Answer, SendError};

/// How many upstreams one call tries.
const WAYS_MAX: usize = 4;

/// A way a call can go.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) upstream: Name,
    pub(crate) upstream_model: Option<Name>,
    pub(crate) spec: UpstreamSpec,
    /// The most output tokens of the model.
    pub(crate) output_tokens_max: Option<u64>,
    weight: u32,
}

/// The ways that a model declares, those whose upstream is in use.
pub(crate) fn declared<'a>(
    model: &'a ModelSpec,
    upstreams: &'a BTreeMap<Name, UpstreamSpec>,
) -> impl Iterator<Item = Route> + 'a {
    let alone = model.routes.is_empty().then_some((&model.upstream, &model.upstream_model, 1));
    let several = model.routes.iter().map(|route| (&route.upstream, &route.upstream_model, route.weight));
    alone.into_iter().chain(several).filter_map(|(upstream, upstream_model, weight)| {
        Some(Route {
            upstream: upstream.clone(),
            upstream_model: upstream_model.clone(),
            spec: upstreams.get(upstream)?.clone(),
            output_tokens_max: model.output_tokens_max,
            weight,
        })
    })
}

/// The upstreams that a model declares, in use or not.
pub(crate) fn names(model: &ModelSpec) -> impl Iterator<Item = &Name> {
    std::iter::once(&model.upstream).chain(model.routes.iter().map(|route| &route.upstream))
}

/// What becomes of an attempt.
#[derive(Debug)]
pub(crate) enum Judged {
    /// It is the answer.
    Here(Result<Answer, SendError>),
    /// It was not taken: the effect to be told, why, and the status if there was one.
    Elsewhere(Running, ReasonCode, Option<u16>),
}

/// The health of upstreams, as this node sees it.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<BTreeMap<(Tenant, Name), Breaker>>);

impl Health {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Tenant, Name), Breaker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the ways in the order in which they are tried: by lot according to their weights, those of weight 0 after them as
    /// they are declared, and those that rest last of all. A way without an alternative is always tried.
    pub(crate) fn order(
        &self,
        tenant: &Tenant,
        mut ways: Vec<Route>,
        random: &dyn Random,
        now_us: u64,
    ) -> Vec<Route> {
        if ways.len() < 2 {
            return ways;
        }
        let mut ordered = Vec::new();
        while let Some(next) = draw(&ways, random) {
            ordered.push(ways.remove(next));
        }
        ordered.append(&mut ways);
        let mut breakers = self.lock();
        let mut sent = false;
        let (mut well, resting): (Vec<_>, Vec<_>) = ordered.into_iter().partition(|way| {
            let Some(breaker) = breakers.get_mut(&(tenant.clone(), way.upstream.clone())) else {
                return true;
            };
            // Only one that is tried first is sent ahead to see whether an upstream is well again.
            let may = !breaker.is_open() || (!sent && breaker.may_send(now_us));
            sent |= may;
            may
        });
        well.extend(resting);
        well.truncate(WAYS_MAX);
        well
    }

    /// Notes how an attempt went, and says whether the call may go `elsewhere`.
    pub(crate) fn judge(
        &self,
        (tenant, upstream): (&Tenant, &Name),
        sent: Result<Answer, SendError>,
        elsewhere: bool,
        now_us: u64,
    ) -> Judged {
        let status = sent.as_ref().ok().map(|answer| answer.status);
        let failure = sent.as_ref().err().map(|error| &error.reason);
        let ill = match (status, failure) {
            (Some(status), _) => status >= 500,
            (None, reason) => !matches!(reason, Some(ReasonCode::Internal | ReasonCode::EgressForbidden)),
        };
        {
            let mut breakers = self.lock();
            if ill {
                breakers.entry((tenant.clone(), upstream.clone())).or_default().failed(now_us);
            } else {
                breakers.remove(&(tenant.clone(), upstream.clone()));
            }
        }
        if !elsewhere || !was_not_taken(status, failure) {
            return Judged::Here(sent);
        }
        match sent {
            // Its body goes unread, and with it the connection.
            Ok(answer) => Judged::Elsewhere(answer.running, ReasonCode::UpstreamBusy, Some(answer.status)),
            Err(SendError { reason, running }) => Judged::Elsewhere(running, reason, None),
        }
    }
}

/// Whether nothing can have happened at the upstream.
const fn was_not_taken(status: Option<u16>, failure: Option<&ReasonCode>) -> bool {
    matches!(status, Some(429 | 503 | 529)) || matches!(failure, Some(ReasonCode::UpstreamUnreachable))
}

/// One of those that have a weight, by lot.
fn draw(ways: &[Route], random: &dyn Random) -> Option<usize> {
    let sum: u64 = ways.iter().map(|way| u64::from(way.weight)).sum();
    if sum == 0 {
        return None;
    }
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    let mut lot = u64::from_le_bytes(bytes) % sum;
    ways.iter().position(|way| {
        let weight = u64::from(way.weight);
        let here = lot < weight;
        lot = lot.saturating_sub(weight);
        here && weight > 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;

    fn ways(weights: &[(&str, u32)]) -> Vec<Route> {
        let spec: UpstreamSpec = serde_json::from_str(r#"{"base_url": "https://a.example"}"#).unwrap();
        let way = |(name, weight): &(&str, u32)| Route {
            upstream: name.parse().unwrap(),
            upstream_model: None,
            spec: spec.clone(),
            output_tokens_max: None,
            weight: *weight,
        };
        weights.iter().map(way).collect()
    }

    fn names(ways: &[Route]) -> Vec<String> {
        ways.iter().map(|way| way.upstream.to_string()).collect()
    }

    #[test]
    fn calls_go_by_weight_and_to_those_without_one_only_after_the_others() {
        let (health, random, tenant) = (Health::default(), SeededRandom::new(3), Tenant::default_tenant());
        let mut first = BTreeMap::<String, u32>::new();
        for _ in 0..2_000 {
            let order = names(&health.order(&tenant, ways(&[("spare", 0), ("a", 3), ("b", 1)]), &random, 0));
            assert_eq!((order.len(), order[2].as_str()), (3, "spare"));
            *first.entry(order[0].clone()).or_default() += 1;
        }
        assert!((1_400..1_600).contains(&first["a"]) && first["a"] + first["b"] == 2_000, "{first:?}");
    }

    #[test]
    fn one_that_rests_is_tried_last_and_sent_to_again_when_its_rest_is_over() {
        let (health, random, tenant) = (Health::default(), SeededRandom::new(3), Tenant::default_tenant());
        let of = |name: &str| (tenant.clone(), name.parse::<Name>().unwrap());
        for _ in 0..bartizan_limits::breaker::FAILURES_MAX {
            health.lock().entry(of("a")).or_default().failed(0);
        }
        let order = |now| names(&health.order(&tenant, ways(&[("a", 1), ("b", 0)]), &random, now));
        assert_eq!(order(1), ["b", "a"]);
        assert_eq!(order(10_000_000), ["a", "b"], "one is sent ahead");
        assert_eq!(order(10_000_000), ["b", "a"], "and the others wait for what becomes of it");
        assert_eq!(names(&health.order(&tenant, ways(&[("a", 1)]), &random, 10_000_000)), ["a"]);
    }

    #[test]
    fn nothing_that_may_have_had_an_effect_is_sent_twice() {
        for status in [200, 400, 401, 403, 404, 408, 409, 500, 501, 502, 504] {
            assert!(!was_not_taken(Some(status), None), "{status}");
        }
        for reason in ReasonCode::ALL.iter().filter(|reason| **reason != ReasonCode::UpstreamUnreachable) {
            assert!(!was_not_taken(None, Some(reason)), "{reason}");
        }
        assert!([429, 503, 529].iter().all(|status| was_not_taken(Some(*status), None)));
        assert!(was_not_taken(None, Some(&ReasonCode::UpstreamUnreachable)));
    }
}
