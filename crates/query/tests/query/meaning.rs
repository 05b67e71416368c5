//! What queries mean, on records as they stand in a log.

use bartizan_base::{Timestamp, json};
use bartizan_query::{Facts, Field, Query, Type, Value, samples};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const NOW: &str = "2026-11-20T12:00:00Z";

fn id(prefix: &str, last: u8) -> String {
    format!("{prefix}_0199000000007000800000000000{last:04x}")
}

fn who(actors: &[u8]) -> Json {
    let actors: Vec<_> = actors.iter().map(|n| id("prn", *n)).collect();
    json!({"subject": id("prn", 1), "subject_kind": "user", "actors": actors, "credential": "api_key",
           "key": id("key", 1), "assurance": 2})
}

fn entry(at: &str, body: &Json) -> Vec<u8> {
    let time = Timestamp::parse_rfc3339(at).unwrap().as_micros();
    let mut record = json!({"v": 1, "tenant": "default", "node": id("nod", 1), "seq": 7, "time_us": time});
    record.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    json::canonical(&record).unwrap()
}

fn refusal() -> Vec<u8> {
    let what = json!({"action": "model:invoke", "resource": {"type": "Model", "name": "gpt-4o"},
                      "dialect": "openai.chat", "bytes": 2_000, "body": "0".repeat(64)});
    let grounds = json!({"rules": ["contractors-see-masked-data", "no-weekends"], "policy": "ab".repeat(32),
                         "slice": "0".repeat(64), "context": "0".repeat(64), "engine": "cedar-4.14"});
    let body = json!({"kind": "refusal", "id": id("dec", 1), "who": who(&[2, 3]), "what": what,
                      "verdict": "deny", "reasons": ["personal_data", "custom:red-zone"], "grounds": grounds});
    entry("2026-11-20T11:00:00Z", &body)
}

fn outcome() -> Vec<u8> {
    let body = json!({"kind": "outcome", "of": id("dec", 2), "end": {"how": "failed", "reason": "stream_ended"},
                      "status": 404, "bytes": 10, "input_tokens": 30, "output_tokens": 12, "took_us": 2_500_000});
    entry("2026-11-19T11:59:59.999999Z", &body)
}

fn found(text: &str, entry: &[u8]) -> bool {
    let (_, facts) = Facts::read(entry, Some(("log.example/default/2026q4", 41))).unwrap();
    let query: Query = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    query.matches(&facts, Timestamp::parse_rfc3339(NOW).unwrap())
}

#[track_caller]
fn assert_found(entry: &[u8], found_by: &[&str], missed_by: &[&str]) {
    for text in found_by {
        assert!(found(text, entry), "not found: {text}");
    }
    for text in missed_by {
        assert!(!found(text, entry), "found: {text}");
    }
}

#[test]
fn values_are_held_against_every_value_of_the_field() {
    let (subject, second) = (format!("subject:{}", id("prn", 1)), format!("actor:{}", id("prn", 3)));
    assert_found(
        &refusal(),
        &[
            "",
            "kind:refusal",
            "verdict:(hold, deny)",
            "reason:personal_data reason:custom:red-zone",
            "reason:custom:*",
            "action:model:*",
            "resource:gpt-4o",
            "resource:gpt*",
            "resource_type:Model",
            &subject,
            &second,
            "actor:prn_0199*",
            "rule:no-weekends",
            "policy:abab*",
            "assurance<=2 assurance>1",
            "bytes:1k..2k",
            "seq:7",
            "index:41",
            "origin:log.example/default/2026q4",
            "repeated:0",
            "credential:api_key",
        ],
        &[
            "kind:intent",
            "verdict:hold",
            "resource:gpt",
            "resource:GPT-4o",
            "subject:prn_019b*",
            "bytes>2000",
            "policy:ac*",
            "index>41",
            "dialect:openai",
            "-kind:refusal",
            "(kind:intent or verdict:hold)",
        ],
    );
}

#[test]
fn fields_that_are_absent_hold_no_condition_not_even_a_negative_one() {
    assert_found(
        &refusal(),
        &["-status:200", "not status:*", "-issuer:*", "key:*", "reason!=forbidden", "-took>0s"],
        &["status!=200", "status:*", "issuer!=x", "end!=(done, failed)", "reason!=personal_data", "took>=0s"],
    );
    assert_found(&outcome(), &["status!=200", "-kind:refusal"], &["status!=404", "verdict:*", "subject:*"]);
}

#[test]
fn outcomes_answer_by_how_they_ended_and_what_they_cost() {
    let decision = format!("decision:{}", id("dec", 2));
    assert_found(
        &outcome(),
        &[&decision, "end:failed reason:stream_ended", "tokens:42", "took>2s took<=2500ms", "redacted:0"],
        &["tokens>42", "took>2500ms", "end:done", "reason:forbidden"],
    );
}

#[test]
fn moments_are_held_against_the_moment_of_the_question() {
    // One microsecond more than a day ago.
    assert_found(
        &outcome(),
        &["until:24h", "since:25h", "time<24h", "time:2026-11-19", "until:2026-11-20"],
        &["since:24h", "time>=24h", "time:2026-11-20", "since:2026-11-20", "time:24h..1h", "time>2026-11-19"],
    );
    assert_found(&refusal(), &["since:1h", "time<=1h", "time:2h..1h", "until:now"], &["until:1h", "time>1h"]);
}

#[test]
fn text_is_looked_for_in_every_value_but_not_in_names_of_members() {
    assert_found(
        &refusal(),
        &[
            "\"Contractors SEE masked\"",
            "gpt-4o",
            "\"4o\"",
            "openai",
            "contr*",
            "\"see mas\"*",
            "\"red zone\"",
            "user",
        ],
        &["contractor", "\"masked contractors\"", "\"data no\"", "assurance", "\"gpt 4\"", "2000"],
    );
    // Members that this version does not know are searched too.
    let known = refusal();
    let mut newer: Json = serde_json::from_slice(&known).unwrap();
    newer.as_object_mut().unwrap().insert("later".into(), json!([{"deep": "Ünknown words"}]));
    assert_found(&json::canonical(&newer).unwrap(), &["\"ünknown words\" kind:refusal"], &["deep"]);
}

#[test]
fn entries_that_are_no_records_have_no_facts() {
    let good = refusal();
    let doubled = String::from_utf8(good.clone()).unwrap().replacen('{', "{\"kind\":\"intent\",", 1);
    for bad in [&b""[..], b"{}", b"\xff", &good[..good.len() - 1], doubled.as_bytes(), &vec![b'['; 70_000]] {
        assert!(Facts::read(bad, None).is_err());
    }
    let unknown = String::from_utf8(good).unwrap().replace("model:invoke", "model:dream");
    assert!(Facts::read(unknown.as_bytes(), None).is_err());
}

proptest! {
    #[test]
    fn facts_are_of_the_field_s_type_and_words_are_of_its_list(entry in samples::entry()) {
        let (_, facts) = Facts::read(&entry, Some(("log", 1))).unwrap();
        for field in Field::ALL {
            for value in facts.values(*field) {
                match value {
                    Value::Number(_) => prop_assert!(field.value_type().is_ordered(), "{field:?}"),
                    Value::Text(text) => {
                        prop_assert!(!field.value_type().is_ordered(), "{field:?}");
                        // What stands in a record can be asked for as it stands.
                        let query = format!("{}:\"{}\"", field.name(), text.replace('\\', "\\\\").replace('"', "\\\""));
                        let query: Query = query.parse().unwrap();
                        prop_assert!(query.matches(&facts, Timestamp::default()));
                    }
                }
            }
        }
    }

    #[test]
    fn words_of_closed_fields_are_those_that_records_are_written_with(entry in samples::entry()) {
        let json: Json = serde_json::from_slice(&entry).unwrap();
        let (_, facts) = Facts::read(&entry, None).unwrap();
        for (field, pointers) in [
            (Field::Kind, &["/kind"][..]),
            (Field::Verdict, &["/verdict"]),
            (Field::SubjectKind, &["/who/subject_kind"]),
            (Field::Credential, &["/who/credential"]),
            (Field::Action, &["/what/action"]),
            (Field::Decision, &["/id", "/of"]),
            (Field::End, &["/end/how"]),
            (Field::Event, &["/event"]),
        ] {
            prop_assert!(!matches!(field.value_type(), Type::Number));
            if let Some(written) = pointers.iter().find_map(|pointer| json.pointer(pointer)?.as_str()) {
                let value = Value::Text(written.to_owned());
                prop_assert_eq!(facts.values(field).collect::<Vec<_>>(), vec![&value]);
            }
        }
    }

    #[test]
    fn negation_is_the_opposite_and_joining_is_what_it_says(
        entry in samples::entry(), a in samples::query(), b in samples::query(),
    ) {
        let (_, facts) = Facts::read(&entry, None).unwrap();
        let now = Timestamp::from_micros(samples::NOW_US);
        let Ok(_) = (format!("({a}) ({b})")).parse::<Query>() else { return Ok(()) };
        let holds = |text: String| text.parse::<Query>().unwrap().matches(&facts, now);
        let (left, right) = (holds(a.clone()), holds(b.clone()));
        prop_assert_eq!(holds(format!("-({a})")), !left);
        prop_assert_eq!(holds(format!("({a}) and ({b})")), left && right);
        prop_assert_eq!(holds(format!("({a}) or ({b})")), left || right);
    }
}
