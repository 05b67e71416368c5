//! The measurements of one gateway.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Connection, post};
use crate::load::{self, Ask, Round, quantile_us};
use crate::process::Program;
use crate::report::Value;
use crate::rivals::Gateway;
use crate::{Error, PACE, PACE_MS, STREAM_EVENTS};

/// How long rounds last.
#[derive(Clone, Copy)]
pub struct Effort {
    pub warm_up: Duration,
    pub window: Duration,
    pub search_window: Duration,
    pub search_steps: u32,
}

impl Effort {
    pub const FULL: Self = Self {
        warm_up: Duration::from_secs(2),
        window: Duration::from_secs(10),
        search_window: Duration::from_secs(4),
        search_steps: 6,
    };
    pub const QUICK: Self = Self {
        warm_up: Duration::from_millis(500),
        window: Duration::from_secs(2),
        search_window: Duration::from_secs(1),
        search_steps: 3,
    };
}

/// How long a gateway may take until it answers.
const START: Duration = Duration::from_secs(90);
/// Below this, in requests a second, the open loops say nothing that the closed ones do not.
const OPEN_LOOPS_FROM: f64 = 1_500.0;
/// Requests a second of the open loop with a fixed rate.
const FIXED_RATE: f64 = 1_000.0;
/// Bounds on the 99th percentile, in milliseconds.
const BOUNDS_MS: [u32; 3] = [1, 5, 10];
const STREAMS: usize = 16;
const PACED_STREAMS: usize = 64;

/// Measures one kind of request alone: how many in a row and side by side, and what each takes.
pub async fn calls(gateway: &mut Gateway, ask: &Ask, effort: Effort) -> Result<Vec<Value>, Error> {
    await_ready(gateway, ask).await?;
    let mut values = Values::default();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for connections in [1, 32] {
        let costed = closed(gateway, ask, connections, effort).await;
        values.round(&format!("c{connections}"), &costed);
    }
    let errors = values.errors as f64;
    values.add("errors".into(), Some(errors), "");
    Ok(values.list)
}

/// Measures everything about one gateway.
pub async fn all(gateway: &mut Gateway, effort: Effort) -> Result<Vec<Value>, Error> {
    let plain = ask(gateway, false, "");
    await_ready(gateway, &plain).await?;
    let mut values = Values::default();
    let memory = |gateway: &Gateway| gateway.program.as_ref().map(Program::memory_mib);
    tokio::time::sleep(Duration::from_secs(1)).await;
    values.add_some("memory_idle", memory(gateway), "MiB");

    let one = closed(gateway, &plain, 1, effort).await;
    values.round("c1", &one);
    let many = closed(gateway, &plain, 32, effort).await;
    values.round("c32", &many);
    let most = closed(gateway, &plain, 256, effort).await;
    values.round("c256", &most);
    values.add_some("memory_loaded", memory(gateway), "MiB");

    if many.round.per_second() >= OPEN_LOOPS_FROM {
        let fixed = load::open(&plain, FIXED_RATE, 64, effort.window).await;
        values.latency("open_1k", &fixed);
        values.errors += fixed.errors;
        let rates = bounded_rates(&plain, many.round.per_second(), effort).await;
        for (bound, rate) in BOUNDS_MS.iter().zip(rates) {
            values.add(format!("rate_p99_{bound}ms"), rate, "1/s");
        }
    }
    streams(gateway, effort, &mut values).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    values.add_some("memory_after", memory(gateway), "MiB");
    let errors = values.errors as f64;
    values.add("errors".into(), Some(errors), "");
    Ok(values.list)
}

async fn streams(gateway: &Gateway, effort: Effort, values: &mut Values) {
    let burst = closed(gateway, &ask(gateway, true, ""), STREAMS, effort).await;
    values.errors += burst.round.errors;
    values.add("streams_per_second".into(), Some(burst.round.per_second()), "1/s");
    values.add_some("stream_cpu", burst.cpu_us_per(burst.round.answers), "us");
    values.add("stream_first_byte_p50".into(), quantile_us(&burst.round.first_byte, 0.5), "us");
    values.add("stream_first_byte_p99".into(), quantile_us(&burst.round.first_byte, 0.99), "us");

    // Events that come one by one, so that each is a piece of work of its own.
    let paced = closed(gateway, &ask(gateway, true, PACE), PACED_STREAMS, effort).await;
    values.errors += paced.round.errors;
    values.add_some("event_cpu", paced.cpu_us_per(paced.round.events), "us");
    let own = PACE_MS as f64 * 1_000.0;
    let first = quantile_us(&paced.round.first_byte, 0.5).map(|us| us - own);
    values.add("paced_first_byte_p50".into(), first, "us");
}

/// A measured round with the processor time that the gateway used for it.
struct Costed {
    round: Round,
    cpu_s: Option<f64>,
}

impl Costed {
    fn cpu_us_per(&self, count: u64) -> Option<f64> {
        (count > 0).then_some(())?;
        self.cpu_s.map(|seconds| seconds * 1e6 / count as f64)
    }
}

async fn closed(gateway: &Gateway, ask: &Ask, connections: usize, effort: Effort) -> Costed {
    let cpu = || gateway.cpu_s();
    let (before, after) = (Cell::new(None), Cell::new(None));
    let (start, end) = (|| before.set(cpu()), || after.set(cpu()));
    let round = load::closed(ask, connections, effort.warm_up, effort.window, start, end).await;
    let cpu_s = before.get().zip(after.get()).map(|(before, after)| after - before);
    Costed { round, cpu_s }
}

/// For each bound the highest rate found whose 99th percentile stays within it, with nothing lost.
async fn bounded_rates(ask: &Ask, capacity: f64, effort: Effort) -> Vec<Option<f64>> {
    let mut seen: Vec<(f64, Option<f64>)> = Vec::new();
    let mut rates = Vec::new();
    for bound in BOUNDS_MS {
        let limit = f64::from(bound) * 1_000.0;
        let holds = |p99: &Option<f64>| p99.is_some_and(|us| us <= limit);
        for _ in 0..effort.search_steps {
            // What is known already from the other bounds narrows the search.
            let low = seen.iter().filter(|(_, p99)| holds(p99)).map(|(r, _)| *r).fold(0.0, f64::max);
            let failing = seen.iter().filter(|(rate, p99)| !holds(p99) && *rate > low).map(|(r, _)| *r);
            let high = failing.fold(capacity * 1.2, f64::min);
            if high - low < capacity * 0.02 {
                break;
            }
            let rate = (low + high) / 2.0;
            let round = load::open(ask, rate, 256, effort.search_window).await;
            let p99 = if round.errors == 0 { quantile_us(&round.latency, 0.99) } else { None };
            seen.push((rate, p99));
        }
        let best = seen.iter().filter(|(_, p99)| holds(p99)).map(|(rate, _)| *rate).fold(0.0, f64::max);
        rates.push((best > 0.0).then_some(best));
    }
    rates
}

/// A request of about 400 bytes.
fn ask(gateway: &Gateway, stream: bool, mark: &str) -> Ask {
    let system = "You are a helpful assistant of the accounting department. Answer briefly, in plain words, and say so \
                  when you do not know. Never guess a number.";
    let question = "Summarise in one sentence what changed between the two last quarters, and name the cost centre with \
                    the largest difference.";
    let mut body = json!({
        "model": gateway.model,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": format!("{question}{mark}")}],
    });
    if stream && let Some(members) = body.as_object_mut() {
        members.insert("stream".into(), true.into());
    }
    let request = post("/v1/chat/completions", &gateway.headers, &body.to_string());
    // Gateways may add or drop an event of their own, so not every one is demanded.
    let events = if stream { STREAM_EVENTS - 2 } else { 0 };
    Ask { address: gateway.address, request: Arc::from(request), events, bytes: 0 }
}

async fn await_ready(gateway: &mut Gateway, ask: &Ask) -> Result<(), Error> {
    let limit = Instant::now() + START;
    let mut last = "no connection".to_owned();
    while Instant::now() < limit {
        if gateway.program.as_mut().is_some_and(|program| !program.runs()) {
            return Err("it ended instead of starting; see its log".into());
        }
        if let Ok(mut connection) = Connection::open(ask.address).await {
            let answer = tokio::time::timeout(Duration::from_secs(20), connection.call(&ask.request)).await;
            match answer {
                Ok(Ok(answer)) if ask.is_answered_by(&answer) => return Ok(()),
                Ok(Ok(answer)) => last = format!("status {}, {} bytes", answer.status, answer.bytes),
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "no answer".to_owned(),
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(format!("it does not answer as it should: {last}").into())
}

#[derive(Default)]
struct Values {
    list: Vec<Value>,
    errors: u64,
}

impl Values {
    fn add(&mut self, metric: String, value: Option<f64>, unit: &'static str) {
        self.list.push(Value::new(metric, value, unit));
    }

    /// Only what there is: the model itself has no costs that count.
    fn add_some(&mut self, metric: &str, value: Option<f64>, unit: &'static str) {
        if value.is_some() {
            self.add(metric.to_owned(), value, unit);
        }
    }

    fn round(&mut self, case: &str, costed: &Costed) {
        self.errors += costed.round.errors;
        self.add(format!("requests_per_second_{case}"), Some(costed.round.per_second()), "1/s");
        self.add_some(&format!("request_cpu_{case}"), costed.cpu_us_per(costed.round.answers), "us");
        self.latency(case, &costed.round);
    }

    fn latency(&mut self, case: &str, round: &Round) {
        self.add(format!("latency_p50_{case}"), quantile_us(&round.latency, 0.5), "us");
        self.add(format!("latency_p99_{case}"), quantile_us(&round.latency, 0.99), "us");
    }
}
