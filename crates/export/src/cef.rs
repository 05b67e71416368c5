//! CEF: the Common Event Format, version 0.
//!
//! `CEF:0|Bartizan|Bartizan|RECORD VERSION|KIND|HEADLINE|SEVERITY|EXTENSION`. The extension uses the keys of the CEF
//! dictionary; what it has no key for stands under the custom keys with their labels. The record's own words are not
//! carried: CEF fields are too short for it. `cs2` is the leaf to find it by.

use bartizan_model::record::VERSION;

use crate::Placed;
use crate::facts::{Facts, joined};

/// The longest field of the header, in characters.
const HEADER_MAX: usize = 512;
/// The longest `msg` of the CEF dictionary, in characters.
const MESSAGE_MAX: usize = 1_023;
/// The longest custom text of the CEF dictionary, in characters.
const TEXT_MAX: usize = 4_000;

/// The line of a record, without the line feed.
#[must_use]
pub fn line(placed: &Placed) -> String {
    let facts = Facts::of(placed);
    let mut line = Line { out: "CEF:0".to_owned(), first: true };
    let version = VERSION.to_string();
    let severity = facts.severity.cef().to_string();
    for field in ["Bartizan", "Bartizan", &version, facts.kind_name, &facts.headline(), &severity] {
        line.header(field);
    }
    line.out.push('|');
    extension(&mut line, &facts);
    line.out
}

fn extension(line: &mut Line, facts: &Facts<'_>) {
    let placed = facts.placed;
    line.put("rt", facts.time.map(|t| t.as_micros() / 1_000));
    line.put("cat", Some(facts.kind_name));
    line.put("externalId", facts.decision);
    line.put("deviceExternalId", facts.record.map(|r| r.node));
    line.put("act", facts.action());
    line.put("outcome", facts.verdict.map(|v| v.name()).or(facts.end()).or(facts.event_name()));
    line.put("reason", some(joined(facts.reasons)));
    line.put("suid", facts.who.map(|w| w.subject));
    line.put("app", facts.what.map(|w| w.dialect.as_str()));
    line.put("destinationServiceName", facts.upstream());
    line.put("in", facts.what.map(|w| w.bytes));
    line.put("out", facts.outcome.map(|o| o.bytes));
    line.put("cnt", facts.refusal.map(|r| r.repeated.saturating_add(1)));
    line.custom("cs1", "log", Some(&*placed.origin));
    line.custom("cs2", "leaf", Some(placed.leaf));
    line.custom("cs3", "resource", facts.what.map(|w| &w.resource));
    line.custom("cs4", "policy", facts.grounds.map(|g| g.policy));
    line.custom("cs5", "rules", facts.grounds.and_then(|g| some(joined(&g.rules))));
    line.custom("cs6", "obligations", facts.obligations.and_then(|o| some(joined(o.iter()))));
    line.custom("cn1", "index", Some(placed.index));
    line.custom("cn2", "inputTokens", facts.outcome.and_then(|o| o.input_tokens));
    line.custom("cn3", "outputTokens", facts.outcome.and_then(|o| o.output_tokens));
    line.custom("flexNumber1", "tookMicroseconds", facts.outcome.map(|o| o.took_us));
    line.custom("flexString1", "tenant", facts.tenant);
    line.custom("flexString2", "key", facts.who.and_then(|w| w.key));
    line.put("msg", Some(cut(&facts.sentence(), MESSAGE_MAX)));
}

struct Line {
    out: String,
    first: bool,
}

impl Line {
    /// A field of the header: bars and backslashes are escaped, a line cannot be broken in it.
    fn header(&mut self, text: &str) {
        self.out.push('|');
        for c in text.chars().take(HEADER_MAX) {
            match c {
                '|' | '\\' => self.out.extend(['\\', c]),
                c if c.is_control() => self.out.push(' '),
                c => self.out.push(c),
            }
        }
    }

    /// A pair of the extension: backslashes, equals signs and line breaks are escaped, bars are not.
    fn put(&mut self, key: &str, value: Option<impl ToString>) {
        let Some(value) = value else { return };
        if !std::mem::take(&mut self.first) {
            self.out.push(' ');
        }
        self.out.push_str(key);
        self.out.push('=');
        for c in cut(&value.to_string(), TEXT_MAX).chars() {
            match c {
                '\\' | '=' => self.out.extend(['\\', c]),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                c if c.is_control() => self.out.push(' '),
                c => self.out.push(c),
            }
        }
    }

    /// A custom key with its label.
    fn custom(&mut self, key: &str, label: &str, value: Option<impl ToString>) {
        if value.is_some() {
            self.put(key, value);
            self.put(&format!("{key}Label"), Some(label));
        }
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn cut(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a line back as the CEF specification tells a receiver to.
    fn read(line: &str) -> (Vec<String>, Vec<(String, String)>) {
        let mut fields = vec![String::new()];
        let mut chars = line.chars();
        while fields.len() < 8 {
            match chars.next().unwrap() {
                '\\' => fields.last_mut().unwrap().push(chars.next().unwrap()),
                '|' => fields.push(String::new()),
                c => fields.last_mut().unwrap().push(c),
            }
        }
        fields.pop();
        let rest: Vec<char> = chars.collect();
        let mut equals: Vec<usize> = Vec::new();
        let mut escaped = false;
        for (i, c) in rest.iter().enumerate() {
            match c {
                '\\' if !escaped => escaped = true,
                '=' if !escaped => equals.push(i),
                _ => escaped = false,
            }
        }
        let key_start = |at: usize| (0..at).rev().find(|i| rest[*i] == ' ').map_or(0, |i| i + 1);
        let mut pairs = Vec::new();
        for (n, at) in equals.iter().enumerate() {
            let end = equals.get(n + 1).map_or(rest.len(), |next| key_start(*next) - 1);
            let key: String = rest[key_start(*at)..*at].iter().collect();
            let mut value = String::new();
            let mut raw = rest[at + 1..end].iter();
            while let Some(c) = raw.next() {
                value.push(match (c, c == &'\\') {
                    (_, true) => match raw.next().unwrap() {
                        'n' => '\n',
                        'r' => '\r',
                        c => *c,
                    },
                    (c, false) => *c,
                });
            }
            pairs.push((key, value));
        }
        (fields, pairs)
    }

    #[test]
    fn fields_are_no_longer_than_the_dictionary_says() {
        let long = "=".repeat(30_000);
        let entry = serde_json::json!({"kind": long, "tenant": long, "v": 9});
        let entry = bartizan_base::json::canonical(&entry).unwrap();
        let (header, pairs) = read(&line(&Placed::read("log".into(), 1, 2, &entry)));
        assert_eq!(header[4].len(), HEADER_MAX);
        assert!(pairs.iter().all(|(_, value)| value.len() <= TEXT_MAX));
        assert!(pairs.iter().any(|(_, value)| value.len() == TEXT_MAX));
    }

    #[test]
    fn every_record_reads_back_with_its_place() {
        for placed in crate::catalogue::placed() {
            let (header, pairs) = read(&line(&placed));
            assert_eq!(header[..4], ["CEF:0", "Bartizan", "Bartizan", "1"]);
            let value = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
            assert_eq!(value("cs2"), Some(placed.leaf.to_string().as_str()));
            assert_eq!(value("cn1"), Some(placed.index.to_string().as_str()));
            assert_eq!(value("cs1"), Some(&*placed.origin));
            let keys: std::collections::BTreeSet<_> = pairs.iter().map(|(k, _)| k).collect();
            assert_eq!(keys.len(), pairs.len(), "a key stands twice");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_field(kind in ".{0,20}|[|=\\\\\n\r ]{0,8}", origin in ".{0,20}|[|=\\\\\n\r a]{0,8}") {
            let entry = serde_json::json!({"kind": kind, "tenant": origin, "v": 9}).to_string();
            let entry = bartizan_base::json::canonical(&serde_json::from_str::<serde_json::Value>(&entry).unwrap()).unwrap();
            let line = line(&Placed::read(origin.as_str().into(), 1, 2, &entry));
            prop_assert!(!line.contains(['\n', '\r']));
            let (header, pairs) = read(&line);
            let plain = |text: &str, keep: &[char]| -> String {
                text.chars().map(|c| if c.is_control() && !keep.contains(&c) { ' ' } else { c }).collect()
            };
            prop_assert_eq!(&header[4], &plain(&kind, &[]));
            let value = |key: &str| pairs.iter().find(|(k, _)| k == key).unwrap().1.clone();
            prop_assert_eq!(value("cs1"), plain(&origin, &['\n', '\r']));
            prop_assert_eq!(value("flexString1"), plain(&origin, &['\n', '\r']));
            prop_assert_eq!(value("cn1"), "1");
        }
    }
}
