//! Messages against a reader written strictly after the grammar of RFC 5424, section 6: it is ours, not a foreign program. A real
//! receiver is met in `tests/syslog.rs`.

use super::*;
use crate::batch::Position;
use bytes::Bytes;
use proptest::prelude::*;

type Parameters = Vec<(String, String)>;

#[derive(Debug, PartialEq)]
struct Parsed {
    priority: u8,
    fields: [String; 5],
    element: String,
    parameters: Parameters,
    text: String,
}

/// Reads a message; nothing that the grammar does not allow passes.
fn parse(bytes: &[u8]) -> Option<Parsed> {
    let all = std::str::from_utf8(bytes).ok()?;
    let (priority, rest) = all.strip_prefix('<')?.split_once(">1 ")?;
    let priority: u8 = priority.parse().ok().filter(|p| *p <= 191)?;
    let mut rest = rest;
    let mut fields = [const { String::new() }; 5];
    for (field, max) in fields.iter_mut().zip([32, 255, 48, 128, 32]) {
        let (value, after) = rest.split_once(' ')?;
        if value.is_empty() || value.len() > max || !value.bytes().all(|b| (33..=126).contains(&b)) {
            return None;
        }
        (*field, rest) = (value.to_owned(), after);
    }
    if fields[0] != "-" {
        Timestamp::parse_rfc3339(&fields[0]).ok()?;
    }
    let mut chars = rest.strip_prefix('[')?.chars();
    let mut element = String::new();
    let mut parameters = Parameters::new();
    let mut last = chars.next()?;
    while last != ' ' && last != ']' {
        element.push(last);
        last = chars.next()?;
    }
    while last == ' ' {
        let mut name = String::new();
        loop {
            match chars.next()? {
                '=' => break,
                c if c.is_ascii_graphic() && !matches!(c, '"' | ']') => name.push(c),
                _ => return None,
            }
        }
        if name.is_empty() || name.len() > 32 || chars.next()? != '"' {
            return None;
        }
        let mut value = String::new();
        loop {
            match chars.next()? {
                '"' => break,
                ']' => return None,
                '\\' => match chars.next()? {
                    c @ ('"' | '\\' | ']') => value.push(c),
                    _ => return None,
                },
                c => value.push(c),
            }
        }
        parameters.push((name, value));
        last = chars.next()?;
    }
    (last == ']' && chars.next()? == ' ').then(|| Parsed {
        priority,
        fields,
        element,
        parameters,
        text: chars.collect(),
    })
}

fn of(origin: &str, lines: &str, records: u32) -> Batch {
    let at = |index| Position { origin: origin.into(), index };
    let last = u64::from(records) + 6;
    Batch::new(at(7), at(last), Batch::JSON_LINES, Bytes::from(lines.to_owned()), records).unwrap()
}

fn header() -> Header {
    Header::new(SyslogFacility::Audit, "gate-1.example", None).unwrap()
}

fn get<'a>(parsed: &'a Parsed, name: &str) -> Option<&'a str> {
    parsed.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

const REFUSAL: &str = r#"{"id":"dec_1","kind":"refusal","seq":42,"tenant":"default","time_us":1795161600123000,"verdict":"deny"}"#;

#[test]
fn a_record_is_a_message_with_its_fields_as_structured_data() {
    let batch = of("log.example", &format!("{{\"kind\":\"intent\"}}\n{REFUSAL}\n"), 2);
    let messages = header().messages(&batch, 8_192).unwrap();
    let expected = format!(
        "<108>1 2026-11-20T08:00:00.123Z gate-1.example bartizan - refusal [bartizan@32473 batch=\"{}\" \
         origin=\"log.example\" tenant=\"default\" id=\"dec_1\" verdict=\"deny\" seq=\"42\" index=\"8\"] {REFUSAL}",
        batch.id()
    );
    assert_eq!(String::from_utf8(messages[1].clone()).unwrap(), expected);
    assert!(messages[0].starts_with(b"<110>1 - gate-1.example bartizan - intent [bartizan@32473 "));
}

#[test]
fn a_long_message_is_cut_at_a_character_and_says_so() {
    let line = format!("{{\"kind\":\"intent\",\"x\":\"{}\"}}", "é".repeat(400));
    let batch = of("log.example", &format!("{line}\n"), 1);
    let whole = header().messages(&batch, 8_192).unwrap().remove(0);
    assert_eq!(header().messages(&batch, whole.len()).unwrap().remove(0), whole);
    for max in [whole.len() - 1, 400, 401, 300] {
        let message = header().messages(&batch, max).unwrap().remove(0);
        assert!(message.len() <= max && message.len() + 1 >= max, "{max}");
        let parsed = parse(&message).unwrap();
        assert_eq!(get(&parsed, "cut"), Some(line.len().to_string().as_str()));
        assert!(line.starts_with(&parsed.text));
    }
    assert!(matches!(header().messages(&batch, 100), Err(DeliverError::Refused { .. })));
}

#[test]
fn lines_that_are_not_json_or_utf_8_are_refused() {
    for body in [&b"{}\nnot json\n"[..], b"\xff\n"] {
        let mut batch = of("log.example", "", 1);
        batch.body = Bytes::copy_from_slice(body);
        assert!(matches!(header().messages(&batch, 8_192), Err(DeliverError::Refused { .. })));
    }
}

#[test]
fn a_host_name_that_would_break_the_header_is_refused() {
    for bad in ["", "a b", "a\nb", "é", &"x".repeat(256)] {
        assert_eq!(Header::new(SyslogFacility::Auth, bad, None).unwrap_err(), HeaderError);
    }
    let local = Header::new(SyslogFacility::Local7, "h", Some(1)).unwrap();
    let message = local.messages(&of("o", "{}\n", 1), 8_192).unwrap().remove(0);
    let parsed = parse(&message).unwrap();
    assert_eq!((parsed.priority, parsed.element.as_str()), (23 * 8 + 6, "bartizan@1"));
}

proptest! {
    #[test]
    fn whatever_a_record_holds_the_message_is_well_formed_and_holds_it(
        tenant in any::<String>(), kind in any::<String>(), origin in any::<String>(),
        time in any::<u64>(), max in 600_usize..9_000,
    ) {
        let record = serde_json::json!({"tenant": tenant, "kind": kind, "time_us": time, "seq": 3}).to_string();
        let batch = of(&origin, &format!("{record}\n"), 1);
        if let Ok(mut messages) = header().messages(&batch, max) {
            prop_assert_eq!(messages.len(), 1);
            let message = messages.remove(0);
            prop_assert!(message.len() <= max);
            let parsed = parse(&message).expect("it is well-formed");
            prop_assert_eq!(get(&parsed, "tenant"), Some(tenant.as_str()));
            prop_assert_eq!(get(&parsed, "origin"), Some(origin.as_str()));
            match get(&parsed, "cut") {
                None => prop_assert_eq!(parsed.text, record),
                Some(length) => {
                    prop_assert_eq!(length, record.len().to_string());
                    prop_assert!(record.starts_with(&parsed.text));
                }
            }
        }
    }
}

#[test]
fn a_record_in_an_envelope_and_an_event_that_is_not_json_are_messages_too() {
    let line = format!("{{\"index\":41,\"origin\":\"log.example\",\"record\":{REFUSAL}}}");
    let parsed = |batch: &Batch| parse(&header().messages(batch, 8_192).unwrap()[0]).unwrap();
    // Two entries are covered and one is here: the place comes from the envelope.
    let mut batch = of("log.example", &format!("{line}\n"), 2);
    batch.records = 1;
    let message = parsed(&batch);
    assert_eq!((message.priority, message.fields[0].as_str()), (108, "2026-11-20T08:00:00.123Z"));
    assert_eq!((get(&message, "tenant"), get(&message, "index")), (Some("default"), Some("41")));
    assert_eq!(message.text, line);

    batch.body = Bytes::from_static(b"{\"class_uid\":6003,\"time\":1795161600123}\n");
    assert_eq!(parsed(&batch).fields[0], "2026-11-20T08:00:00.123Z");
    batch.body = Bytes::from_static(b"CEF:0|Bartizan|Bartizan|1|refusal|x|5|\n");
    batch.media_type = "text/plain; charset=utf-8".into();
    assert_eq!(parsed(&batch).text, "CEF:0|Bartizan|Bartizan|1|refusal|x|5|");
}
