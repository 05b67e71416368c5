//! The operations listener: health, readiness and metrics, for a private network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bartizan_base::Timestamp;
use bartizan_control::DeliveryView;
use bartizan_enforce::{Afterwards, Keeper, Metrics};
use bartizan_record::Recorder;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use prometheus_client::registry::Registry;

use crate::deliveries::Deliveries;
use crate::witnesses::Witnesses;

/// Health, readiness and metrics.
#[derive(Clone, Debug)]
pub(crate) struct Operations {
    pub(crate) registry: Arc<Registry>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) recorder: Recorder,
    pub(crate) witnesses: Option<Arc<Witnesses>>,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) afterwards: Arc<Afterwards>,
    pub(crate) replay_differing: Arc<AtomicU64>,
}

/// What is counted elsewhere and read when it is asked for.
struct Read {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Operations) -> u64,
}

const READ: &[Read] = &[
    Read {
        name: "bartizan_record_records",
        kind: "counter",
        help: "Records that were made durable",
        value: |o| o.recorder.stats().records.load(Relaxed),
    },
    Read {
        name: "bartizan_record_syncs",
        kind: "counter",
        help: "Flushes of the write-ahead log; records by flushes is the batch",
        value: |o| o.recorder.stats().syncs.load(Relaxed),
    },
    Read {
        name: "bartizan_record_bytes",
        kind: "counter",
        help: "Bytes written to the write-ahead log",
        value: |o| o.recorder.stats().bytes.load(Relaxed),
    },
    Read {
        name: "bartizan_record_queue",
        kind: "gauge",
        help: "Records that wait for the disk",
        value: |o| o.recorder.queue_depth() as u64,
    },
    Read {
        name: "bartizan_record_refused",
        kind: "counter",
        help: "Records refused for want of room in the queue",
        value: |o| o.recorder.stats().refused.load(Relaxed),
    },
    Read {
        name: "bartizan_record_sealed",
        kind: "counter",
        help: "Records sealed into a tree",
        value: |o| o.recorder.stats().sealed.load(Relaxed),
    },
    Read {
        name: "bartizan_record_unwitnessed_seconds",
        kind: "gauge",
        help: "For how long no quorum of witnesses has cosigned; 0 without a witness policy. An alarm above 600",
        value: |o| o.witnesses.as_ref().map_or(0, |w| w.unwitnessed_s()),
    },
    Read {
        name: "bartizan_state_revision",
        kind: "gauge",
        help: "The revision of the state in force",
        value: |o| o.keeper.revision(),
    },
    Read {
        name: "bartizan_bundles_rejected",
        kind: "counter",
        help: "Policy bundles refused when the state was loaded; the last good one stayed. An alarm when it grows",
        value: |o| o.keeper.bundles_rejected(),
    },
    Read {
        name: "bartizan_declared_misfits",
        kind: "gauge",
        help: "Declared things that policies do not see, because they do not fit the schema in force. An alarm above 0",
        value: |o| o.keeper.misfits() as u64,
    },
    Read {
        name: "bartizan_policy_candidate_flips",
        kind: "gauge",
        help: "Decisions that come out otherwise under the candidates that are tried",
        value: |o| o.afterwards.flips(),
    },
    Read {
        name: "bartizan_replay_differing",
        kind: "counter",
        help: "Recorded decisions that did not come out again when they were checked. An alarm above 0",
        value: |o| o.replay_differing.load(Relaxed),
    },
    Read {
        name: "bartizan_slices_lost",
        kind: "counter",
        help: "Decisions of which what replay needs was not kept: the disk did not keep up, or failed",
        value: |o| o.afterwards.slices().map_or(0, |s| s.stats().lost.load(Relaxed)),
    },
    Read {
        name: "bartizan_slices_bytes",
        kind: "gauge",
        help: "Bytes of what replay needs, at the last tidying",
        value: |o| o.afterwards.slices().map_or(0, |s| s.stats().bytes.load(Relaxed)),
    },
    Read {
        name: "bartizan_decision_mismatches",
        kind: "counter",
        help: "Decisions of the index that all rules would have made otherwise (INV-SAME). An alarm above 0",
        value: |o| o.keeper.shadow().mismatches(),
    },
    Read {
        name: "bartizan_decisions_compared",
        kind: "counter",
        help: "Evaluations that were done again by all rules, one decision in a thousand",
        value: |o| o.keeper.shadow().checked(),
    },
    Read {
        name: "bartizan_decisions_not_compared",
        kind: "counter",
        help: "Evaluations that were sampled and dropped because too many waited",
        value: |o| o.keeper.shadow().dropped(),
    },
];

/// What is told about each delivery and mirror, by tenant, kind and name.
struct Each {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&DeliveryView) -> u64,
}

const EACH_DELIVERY: &[Each] = &[
    Each {
        name: "bartizan_delivery_lag_entries",
        kind: "gauge",
        help: "Sealed entries of the ledger that have not gone out yet, by `tenant`, `kind` and `name`. An alarm when it grows",
        value: |view| view.behind,
    },
    Each {
        name: "bartizan_delivery_last_success_seconds",
        kind: "gauge",
        help: "When something last went out, in seconds since 1970; 0 for not since the start",
        value: |view| {
            let at = view.last_success.as_deref().and_then(|at| Timestamp::parse_rfc3339(at).ok());
            at.map_or(0, |at| at.as_secs())
        },
    },
    Each {
        name: "bartizan_delivery_failures",
        kind: "counter",
        help: "What failed since the delivery was started",
        value: |view| view.failures,
    },
    Each {
        name: "bartizan_delivery_dead_letters",
        kind: "gauge",
        help: "Batches that the receiver would not take. An alarm above 0",
        value: |view| view.dead_letters,
    },
];

impl Operations {
    pub(crate) fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let (status, text) = match path {
            "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => match (self.keeper.current(), self.recorder.failure().is_some()) {
                (Ok(_), false) => (StatusCode::OK, "ready\n".to_owned()),
                (Err(reason), _) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
                (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "record_unavailable\n".to_owned()),
            },
            "/metrics" => (StatusCode::OK, self.metrics()),
            _ => (StatusCode::NOT_FOUND, "there are /healthz, /readyz, /metrics\n".to_owned()),
        };
        let mut answer = Response::new(Full::new(Bytes::from(text)));
        *answer.status_mut() = status;
        answer
    }

    fn metrics(&self) -> String {
        let end = "# EOF\n";
        let text = encoded(&self.registry);
        let mut out = text.strip_suffix(end).unwrap_or(&text).to_owned();
        for Read { name, kind, help, value } in READ {
            let total = if *kind == "counter" { "_total" } else { "" };
            out.push_str(&format!(
                "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name}{total} {}\n",
                value(self)
            ));
        }
        let views = self.deliveries.views();
        for Each { name, kind, help, value } in EACH_DELIVERY.iter().filter(|_| !views.is_empty()) {
            let total = if *kind == "counter" { "_total" } else { "" };
            out.push_str(&format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n"));
            for (tenant, view) in &views {
                // Names need no escape: they hold no quote, backslash or line feed.
                out.push_str(&format!(
                    "{name}{total}{{tenant=\"{}\",kind=\"{}\",name=\"{}\"}} {}\n",
                    tenant.0,
                    view.kind,
                    view.name,
                    value(view)
                ));
            }
        }
        out + end
    }
}

fn encoded(registry: &Registry) -> String {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => text,
        Err(_) => String::new(),
    }
}

/// Every metric: name, kind, meaning. For the reference page.
#[must_use]
pub fn metrics_reference() -> Vec<(String, String, String)> {
    let mut registry = Registry::default();
    let _metrics = Metrics::register(&mut registry);
    let text = encoded(&registry);
    let kinds: std::collections::BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let registered = helps.map(|(name, help)| {
        let kind = kinds.get(name).copied().unwrap_or_default();
        (name.to_owned(), kind.to_owned(), help.to_owned())
    });
    let read = READ.iter().map(|r| (r.name.to_owned(), r.kind.to_owned(), format!("{}.", r.help)));
    let each = EACH_DELIVERY.iter().map(|e| (e.name.to_owned(), e.kind.to_owned(), format!("{}.", e.help)));
    registered.chain(read).chain(each).collect()
}
