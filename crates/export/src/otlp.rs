//! OpenTelemetry logs: `ExportLogsServiceRequest` in the JSON encoding of OTLP 1, as `/v1/logs` takes it.
//!
//! Attributes have the names of the GenAI and general semantic conventions where those have one, and `bartizan.…`
//! otherwise. 64-bit integers are texts and enumerations numbers, as the encoding demands. Records hold no trace
//! context, so none is given.

use bartizan_base::Timestamp;
use bartizan_model::record::VERSION;
use serde_json::{Value, json};

use crate::Placed;
use crate::facts::Facts;

/// Records that are on their way into one request.
#[derive(Debug, Default)]
pub struct Batch {
    /// Each resource with its records; the same one may come again.
    groups: Vec<(Vec<Value>, Vec<Value>)>,
    len: usize,
}

impl Batch {
    /// Adds a record.
    pub fn push(&mut self, placed: &Placed) {
        let facts = Facts::of(placed);
        let (resource, record) = (resource(&facts), log_record(&facts));
        match self.groups.last_mut() {
            Some((last, records)) if *last == resource => records.push(record),
            _ => self.groups.push((resource, vec![record])),
        }
        self.len += 1;
    }

    /// How many records it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The request; nothing is left in the batch.
    pub fn take(&mut self) -> Value {
        let groups = std::mem::take(self).groups.into_iter();
        let scope = json!({"name": "bartizan.record", "version": VERSION.to_string()});
        let resources: Vec<Value> = groups
            .map(|(resource, records)| {
                json!({
                    "resource": {"attributes": resource},
                    "scopeLogs": [{"scope": scope, "logRecords": records}],
                })
            })
            .collect();
        json!({"resourceLogs": resources})
    }
}

/// Who speaks: the process that wrote the record, for whom, in which log.
fn resource(facts: &Facts<'_>) -> Vec<Value> {
    let mut out = Attributes::default();
    out.text("service.name", Some("bartizan"));
    out.text("service.instance.id", facts.record.map(|r| r.node));
    out.text("bartizan.tenant", facts.tenant);
    out.text("bartizan.log.origin", Some(&*facts.placed.origin));
    out.0
}

fn log_record(facts: &Facts<'_>) -> Value {
    let (severity, severity_text) = facts.severity.otel();
    let nanos = u128::from(facts.time.map_or(0, Timestamp::as_micros)) * 1_000;
    json!({
        // The moment of collection is the collector's to say; ours is the one that was recorded.
        "timeUnixNano": nanos.to_string(),
        "observedTimeUnixNano": nanos.to_string(),
        "severityNumber": severity,
        "severityText": severity_text,
        "eventName": format!("bartizan.{}", facts.kind_name),
        "body": {"stringValue": facts.sentence()},
        "attributes": attributes(facts),
    })
}

fn attributes(facts: &Facts<'_>) -> Vec<Value> {
    let mut out = Attributes::default();
    out.text("gen_ai.operation.name", facts.spoken().map(|(_, operation)| operation));
    out.text("gen_ai.provider.name", facts.spoken().map(|(provider, _)| provider));
    out.text("gen_ai.request.model", facts.model());
    out.integer("gen_ai.usage.input_tokens", facts.outcome.and_then(|o| o.input_tokens));
    out.integer("gen_ai.usage.output_tokens", facts.outcome.and_then(|o| o.output_tokens));
    out.text("error.type", facts.reasons.first());
    out.integer("http.request.body.size", facts.what.map(|w| w.bytes));
    out.integer("http.response.status_code", facts.outcome.and_then(|o| o.status).map(u64::from));
    out.text("user.id", facts.who.map(|w| w.subject));

    out.text("bartizan.decision", facts.decision);
    out.text("bartizan.action", facts.action());
    out.text("bartizan.resource", facts.what.map(|w| &w.resource));
    out.text("bartizan.dialect", facts.what.map(|w| w.dialect.as_str()));
    out.text("bartizan.upstream", facts.upstream());
    out.text("bartizan.verdict", facts.verdict.map(|v| v.name()));
    out.texts("bartizan.reasons", facts.reasons);
    out.texts("bartizan.rules", facts.grounds.map(|g| &g.rules).into_iter().flatten());
    out.text("bartizan.policy", facts.grounds.map(|g| g.policy));
    out.texts("bartizan.obligations", facts.obligations.into_iter().flat_map(|o| o.iter()));
    out.texts("bartizan.actors", facts.who.map(|w| &w.actors).into_iter().flatten());
    out.text("bartizan.key", facts.who.and_then(|w| w.key));
    out.integer("bartizan.assurance", facts.who.map(|w| w.assurance.into()));
    out.integer("bartizan.repeated", facts.refusal.map(|r| r.repeated));
    out.text("bartizan.end", facts.end());
    out.integer("bartizan.bytes_out", facts.outcome.map(|o| o.bytes));
    out.integer("bartizan.redacted", facts.outcome.map(|o| o.redacted));
    out.integer("bartizan.took_us", facts.outcome.map(|o| o.took_us));
    out.text("bartizan.event", facts.event_name());

    out.integer("bartizan.log.index", Some(facts.placed.index));
    out.text("bartizan.log.leaf", Some(facts.placed.leaf));
    out.integer("bartizan.log.verified_size", Some(facts.placed.verified_size));
    out.text("log.record.original", Some(facts.placed.text()));
    out.0
}

#[derive(Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn text(&mut self, key: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0.push(json!({"key": key, "value": {"stringValue": value.to_string()}}));
        }
    }

    fn integer(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            // An `int64` of the protocol; numbers in records are below 2^53.
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            self.0.push(json!({"key": key, "value": {"intValue": value.to_string()}}));
        }
    }

    fn texts(&mut self, key: &str, values: impl IntoIterator<Item = impl ToString>) {
        let values: Vec<Value> =
            values.into_iter().map(|value| json!({"stringValue": value.to_string()})).collect();
        if !values.is_empty() {
            self.0.push(json!({"key": key, "value": {"arrayValue": {"values": values}}}));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::catalogue;

    #[test]
    fn every_record_stands_once_under_its_resource_with_its_place() {
        let placed = catalogue::placed();
        let mut batch = Batch::default();
        placed.iter().for_each(|p| batch.push(p));
        assert_eq!(batch.len(), placed.len());
        let request = batch.take();
        assert!(batch.is_empty());
        let mut leaves = Vec::new();
        for group in request["resourceLogs"].as_array().unwrap() {
            for record in group["scopeLogs"][0]["logRecords"].as_array().unwrap() {
                let attributes = record["attributes"].as_array().unwrap();
                let keys: BTreeSet<_> = attributes.iter().map(|a| a["key"].as_str().unwrap()).collect();
                assert_eq!(keys.len(), attributes.len(), "a key stands twice");
                let text = |key: &str| {
                    let found = attributes.iter().find(|a| a["key"] == key).unwrap();
                    found["value"]["stringValue"].as_str().unwrap().to_owned()
                };
                assert!(record["timeUnixNano"].is_string());
                leaves.push((text("bartizan.log.leaf"), text("log.record.original")));
            }
        }
        let expected: Vec<_> = placed.iter().map(|p| (p.leaf.to_string(), p.text().to_owned())).collect();
        assert_eq!(leaves, expected);
    }

    #[test]
    fn records_of_different_nodes_and_tenants_are_not_mixed() {
        let entry = |tenant: &str| {
            let value = json!({"kind": "vote", "tenant": tenant, "v": 9});
            let entry = bartizan_base::json::canonical(&value).unwrap();
            Placed::read("log".into(), 0, 1, &entry)
        };
        let mut batch = Batch::default();
        for tenant in ["a", "a", "b", "a"] {
            batch.push(&entry(tenant));
        }
        let request = batch.take();
        let groups = request["resourceLogs"].as_array().unwrap();
        let sizes: Vec<_> =
            groups.iter().map(|g| g["scopeLogs"][0]["logRecords"].as_array().unwrap().len()).collect();
        assert_eq!(sizes, [2, 1, 1]);
    }
}
