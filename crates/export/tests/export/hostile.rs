//! Entries that nobody should have written, and places that nothing can be written to.

use std::io::{self, Write};

use bartizan_base::json;
use bartizan_export::{ExportError, Exporter, Format, Placed, catalogue, ocsf};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use proptest::prelude::*;
use serde_json::Value;

use crate::world::export;

fn placed(entry: &[u8]) -> Placed {
    Placed::read(catalogue::ORIGIN.into(), 5, 6, entry)
}

/// Exports an entry in every format of lines, and holds what comes out against what every export promises.
fn survives(placed: &Placed) {
    for format in Format::ALL.iter().filter(|f| **f != Format::Parquet) {
        let out = export(*format, std::slice::from_ref(placed));
        let text = String::from_utf8(out).unwrap();
        assert_eq!((text.matches('\n').count(), text.ends_with('\n')), (1, true), "{format}: {text}");
        if *format != Format::Cef {
            let limits = json::Limits { bytes_max: 1 << 22, ..json::Limits::default() };
            assert!(json::parse(text.trim_end().as_bytes(), limits).is_ok(), "{format}: {text}");
            assert!(text.contains(&placed.leaf.to_string()));
        }
    }
    let event = ocsf::event(placed);
    assert_eq!(ocsf::check(&event), Ok(()));
    assert_eq!(event["raw_data"], placed.text());
}

/// The same for a table, of many entries at once: each file costs much.
fn survive_in_a_table(placed: &[Placed]) {
    let file = SerializedFileReader::new(bytes::Bytes::from(export(Format::Parquet, placed))).unwrap();
    let rows: Vec<_> = file.get_row_iter(None).unwrap().collect::<Result<_, _>>().unwrap();
    let raw: Vec<_> = rows.iter().map(|row| row.get_string(row.len() - 1).unwrap().as_str()).collect();
    assert_eq!(raw, placed.iter().map(Placed::text).collect::<Vec<_>>());
}

/// Every place in a document.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, v)| places(v, &format!("{at}/{name}"), out))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| places(v, &format!("{at}/{i}"), out));
        }
        _ => {}
    }
}

#[test]
fn a_record_with_anything_in_any_place_does_not_stop_an_export() {
    let strange = [
        Value::Null,
        Value::from("| = \\ \n\r\u{0}\u{2028}\u{202e}\u{1f600}"),
        Value::from("x".repeat(20_000)),
        Value::from(9_007_199_254_740_991_u64),
        Value::from(-1),
        Value::from(Vec::<Value>::new()),
    ];
    let mut tried = Vec::new();
    for example in catalogue::placed() {
        let Ok(value) = json::parse(example.text().as_bytes(), json::Limits::default()) else { continue };
        let mut all = Vec::new();
        places(&value, "", &mut all);
        // Every place with one strange thing, in turn: all of them with all would take long and say little more.
        for (at, thing) in all.iter().zip(strange.iter().cycle().skip(tried.len() % strange.len())) {
            let mut changed = value.clone();
            *changed.pointer_mut(at).unwrap() = thing.clone();
            tried.push(placed(&json::canonical(&changed).unwrap()));
        }
    }
    assert!(tried.len() > 1_000, "{}", tried.len());
    tried.iter().for_each(survives);
    survive_in_a_table(&tried);
}

#[test]
fn members_of_later_versions_are_kept_word_for_word() {
    let first = catalogue::placed().remove(0);
    let mut value: Value = serde_json::from_str(first.text()).unwrap();
    value["zz_later"] = "kept".into();
    let later = placed(&json::canonical(&value).unwrap());
    assert!(matches!(later.said(), bartizan_export::Said::Record(_)));
    for format in [Format::JsonLines, Format::Ocsf, Format::OtlpJson] {
        let out = String::from_utf8(export(format, std::slice::from_ref(&later))).unwrap();
        assert!(out.contains("zz_later"), "{format}");
    }
}

#[test]
fn an_unknown_kind_stands_whole_in_unmapped() {
    let entry = r#"{"ballot":["a",1],"kind":"vote","tenant":"t","time_us":1795161600000000,"v":7}"#;
    let event = ocsf::event(&placed(entry.as_bytes()));
    assert_eq!(event["unmapped"]["record"], serde_json::from_str::<Value>(entry).unwrap());
    assert_eq!(event["class_uid"], 0);
    assert_eq!(event["time"], 1_795_161_600_000_u64);
    assert_eq!(event["metadata"]["tenant_uid"], "t");
    assert_eq!(event["metadata"]["event_code"], "vote");
}

/// A disk that is full after so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let placed = catalogue::placed();
    for format in Format::ALL {
        let whole = export(*format, &placed).len();
        for room in (0..whole).step_by(whole / 20) {
            let tried = (|| -> Result<(), ExportError> {
                let mut exporter = Exporter::new(*format, Full(room))?;
                placed.iter().try_for_each(|p| exporter.write(p))?;
                exporter.finish().map(drop)
            })();
            assert!(tried.is_err(), "{format} with room for {room} of {whole} bytes");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_stop_an_export(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survives(&placed(&bytes));
        survive_in_a_table(&[placed(&bytes)]);
    }

    #[test]
    fn no_json_stops_an_export(kind in ".{0,12}", tenant in ".{0,12}", v in 0_u64..3, time in any::<u64>()) {
        let value = serde_json::json!({"kind": kind, "tenant": tenant, "v": v, "time_us": time, "event": kind});
        survives(&placed(value.to_string().as_bytes()));
        survives(&placed(&json::canonical(&value).unwrap()));
    }
}
