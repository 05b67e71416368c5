//! What operators see of the request path. Names are stable; the reference page is generated from [`Metrics::register`].

use std::time::Duration;

use bartizan_model::record::VerdictKind;
use bartizan_model::{Action, OnCanary, ReasonCode};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Counters of the request path.
#[derive(Clone, Debug)]
pub struct Metrics {
    asks: Family<AskLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    redacted: Counter,
    open_streams: Gauge,
    given_up: Gauge,
    canaries: Family<CanaryLabels, Counter>,
    cached: Family<CacheLabels, Counter>,
    cache_answers: Gauge,
    cache_bytes: Gauge,
    before_upstream: Histogram,
    duration: Histogram,
}

/// A word of a closed list as a label's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Word(std::borrow::Cow<'static, str>);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_ref().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AskLabels {
    action: Word,
    verdict: Word,
    reason: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    direction: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    reason: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CanaryLabels {
    then: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    what: Word,
}

/// What became of an ask at the cache of answers, or of an answer there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cached {
    /// Given again.
    Given,
    /// Not there.
    Missed,
    /// Nothing for the cache.
    Aside,
    /// Waited for somebody who was fetching it.
    Waited,
    /// Kept.
    Stored,
    /// Too long to be kept.
    TooLong,
    /// Gone: too old, no room, or something in the house has changed.
    Dropped,
}

impl Cached {
    const fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Missed => "missed",
            Self::Aside => "aside",
            Self::Waited => "waited",
            Self::Stored => "stored",
            Self::TooLong => "too_long",
            Self::Dropped => "dropped",
        }
    }
}

impl Metrics {
    /// The counters, registered in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            asks: Family::default(),
            tokens: Family::default(),
            failures: Family::default(),
            redacted: Counter::default(),
            open_streams: Gauge::default(),
            given_up: Gauge::default(),
            canaries: Family::default(),
            cached: Family::default(),
            cache_answers: Gauge::default(),
            cache_bytes: Gauge::default(),
            before_upstream: Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 18)),
        };
        registry.register(
            "bartizan_asks",
            "Asks decided, by action, verdict and first reason",
            metrics.asks.clone(),
        );
        registry.register(
            "bartizan_tokens",
            "Tokens that upstreams counted, by direction",
            metrics.tokens.clone(),
        );
        registry.register(
            "bartizan_failures",
            "Permitted calls that failed, by reason",
            metrics.failures.clone(),
        );
        registry.register(
            "bartizan_redacted_matches",
            "Matches that were redacted",
            metrics.redacted.clone(),
        );
        registry.register(
            "bartizan_open_streams",
            "Answers that are being passed on",
            metrics.open_streams.clone(),
        );
        registry.register(
            "bartizan_activity_given_up",
            "Callers, agents and keys whose recent activity was given up for want of room; policies see none of theirs for a day",
            metrics.given_up.clone(),
        );
        registry.register(
            "bartizan_canaries",
            "Canaries that were found, by what happened then: block, watch",
            metrics.canaries.clone(),
        );
        registry.register(
            "bartizan_cache",
            "Answers of models that are given again, by what became of them: given, missed, aside, waited, stored, too_long, dropped",
            metrics.cached.clone(),
        );
        registry.register(
            "bartizan_cache_answers",
            "Answers that are kept to be given again",
            metrics.cache_answers.clone(),
        );
        registry.register("bartizan_cache_bytes", "Bytes of these answers", metrics.cache_bytes.clone());
        registry.register_with_unit(
            "bartizan_before_upstream",
            "From the end of a request to its forwarding: identify, decide, record",
            Unit::Seconds,
            metrics.before_upstream.clone(),
        );
        registry.register_with_unit(
            "bartizan_call",
            "From the end of a request to the end of its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        metrics
    }

    pub(crate) fn asked(&self, action: Option<Action>, verdict: VerdictKind, reason: Option<&ReasonCode>) {
        let labels = AskLabels {
            action: Word(action.map_or("unknown", Action::name).into()),
            verdict: Word(verdict.name().into()),
            // A tenant's own codes are one value, so that a bundle cannot blow up the number of series.
            reason: Word(match reason {
                None => "none".into(),
                Some(ReasonCode::Custom(_)) => "custom".into(),
                Some(reason) => reason.code(),
            }),
        };
        self.asks.get_or_create(&labels).inc();
    }

    pub(crate) fn activity_given_up(&self, tracks: u64) {
        self.given_up.set(i64::try_from(tracks).unwrap_or(i64::MAX));
    }

    pub(crate) fn canary(&self, then: OnCanary) {
        let then = match then {
            OnCanary::Block => "block",
            OnCanary::Watch => "watch",
        };
        self.canaries.get_or_create(&CanaryLabels { then: Word(then.into()) }).inc();
    }

    pub(crate) fn cached(&self, what: Cached, count: u64) {
        if count > 0 {
            self.cached.get_or_create(&CacheLabels { what: Word(what.name().into()) }).inc_by(count);
        }
    }

    pub(crate) fn cache_holds(&self, answers: usize, bytes: usize) {
        self.cache_answers.set(i64::try_from(answers).unwrap_or(i64::MAX));
        self.cache_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn forwarded(&self, after: Duration) {
        self.before_upstream.observe(after.as_secs_f64());
        self.open_streams.inc();
    }

    pub(crate) fn ended(
        &self,
        after: Duration,
        failure: Option<&ReasonCode>,
        redacted: u64,
        tokens: (Option<u64>, Option<u64>),
    ) {
        self.open_streams.dec();
        self.duration.observe(after.as_secs_f64());
        self.redacted.inc_by(redacted);
        for (direction, count) in [("input", tokens.0), ("output", tokens.1)] {
            if let Some(count) = count {
                self.tokens.get_or_create(&TokenLabels { direction: Word(direction.into()) }).inc_by(count);
            }
        }
        if let Some(reason) = failure {
            self.failures.get_or_create(&FailureLabels { reason: Word(reason.code()) }).inc();
        }
    }
}
