//! What one small change costs in a directory of so many people, from the request to its answer.

use std::time::Instant;

use bartizan_bench::Error;
use bartizan_bench::load::quantile_us;
use bartizan_bench::report::Value;
use serde_json::json;

use crate::node::{Admin, Node};

/// People that are declared with one request.
const AT_ONCE: usize = 1_000;

/// Declares so many people, then changes one thing after the other: somebody's groups, somebody new over SCIM, a new key.
pub fn changes(admin: &Admin, node: &Node, people: usize, rounds: u32) -> Result<Vec<Value>, Error> {
    let groups: Vec<_> = (0..100)
        .map(|n| json!({"name": format!("g{n}"), "spec": {"kind": "group", "provisioned": true}}))
        .collect();
    admin.apply(&groups.into())?;
    let declared = Instant::now();
    for first in (0..people).step_by(AT_ONCE) {
        let last = people.min(first + AT_ONCE);
        let all: Vec<_> = (first..last).map(|n| person(n, n % 100)).collect();
        admin.apply(&all.into())?;
    }
    let declared = declared.elapsed().as_secs_f64();
    let mut out = vec![Value::new("declared_in".into(), Some(declared), "s")];
    let document = |n: u32| admin.apply(&json!([person(n as usize % people, 7 + n as usize % 90)]));
    out.extend(timed("document", node, rounds, document)?);
    out.extend(timed("scim", node, rounds, |n| admin.provision(&format!("new-{n}")))?);
    out.extend(timed("key", node, rounds, |_| admin.key().map(drop))?);
    Ok(out)
}

fn person(number: usize, group: usize) -> serde_json::Value {
    json!({"name": format!("person-{number}"), "spec": {"kind": "user", "groups": [format!("g{group}")]}})
}

fn timed(
    what: &str,
    node: &Node,
    rounds: u32,
    change: impl Fn(u32) -> Result<(), Error>,
) -> Result<Vec<Value>, Error> {
    change(0)?;
    let (before, mut took) = (node.cpu_s(), Vec::new());
    for n in 1..=rounds {
        let began = Instant::now();
        change(n)?;
        took.push(u64::try_from(began.elapsed().as_nanos())?);
    }
    let cpu = (node.cpu_s() - before) * 1e3 / f64::from(rounds);
    took.sort_unstable();
    let ms = |q| quantile_us(&took, q).map(|us| us / 1e3);
    Ok(vec![
        Value::new(format!("{what}_p50"), ms(0.5), "ms"),
        Value::new(format!("{what}_p99"), ms(0.99), "ms"),
        Value::new(format!("{what}_cpu"), Some(cpu), "ms"),
    ])
}
