//! An entry of the ledger with its place.

use std::sync::Arc;

use bartizan_base::{Digest, json};
use bartizan_model::record::{Record, VERSION};
use serde_json::Value;

/// The longest entry, in bytes: what a bundle can hold (tlog-tiles).
const ENTRY_MAX: usize = 65_535;

/// A sealed entry and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The log's name.
    pub origin: Arc<str>,
    /// The entry's index in the log, from 0.
    pub index: u64,
    /// The hash of the entry as a leaf of the tree (RFC 6962, 2.1).
    pub leaf: Digest,
    /// The size of the signed checkpoint that the entry was held against.
    pub verified_size: u64,
    /// The entry, word for word.
    text: String,
    said: Said,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A record that this version knows.
    Record(Box<Record>),
    /// Canonical JSON of another version or kind.
    Unknown(Value),
    /// Not canonical JSON.
    Text,
}

impl Placed {
    /// Reads `entry`, the `index`th of the log `origin`, held against a checkpoint over `verified_size` entries. What is
    /// not understood is kept: an export never stops at a record of a later version.
    #[must_use]
    pub fn read(origin: Arc<str>, index: u64, verified_size: u64, entry: &[u8]) -> Self {
        let limits = json::Limits { bytes_max: ENTRY_MAX, ..json::Limits::default() };
        let value = json::parse(entry, limits).ok();
        // Only canonical JSON can stand inside of other JSON and still be hashed by whoever reads that.
        let value = value.filter(|v| json::canonical(v).is_ok_and(|canonical| canonical == entry));
        let said = match value {
            None => Said::Text,
            Some(value) if value.get("v").and_then(Value::as_u64) != Some(VERSION.into()) => {
                Said::Unknown(value)
            }
            Some(value) => match serde_json::from_value(value.clone()) {
                Ok(record) => Said::Record(Box::new(record)),
                Err(_) => Said::Unknown(value),
            },
        };
        Self {
            origin,
            index,
            leaf: Digest::of_parts(&[&[0], entry]),
            verified_size,
            text: String::from_utf8_lossy(entry).into_owned(),
            said,
        }
    }

    /// The entry, word for word; bytes that are not UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says.
    #[must_use]
    pub const fn said(&self) -> &Said {
        &self.said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entry: &[u8]) -> Placed {
        Placed::read("log.example/default/2026q4".into(), 7, 9, entry)
    }

    #[test]
    fn the_leaf_is_the_one_of_the_tree() {
        for entry in [&b""[..], b"{}", b"\xff"] {
            assert_eq!(read(entry).leaf, bartizan_ledger::leaf_hash(entry));
        }
    }

    #[test]
    fn what_is_not_understood_is_kept_as_far_as_it_can_be_hashed_again() {
        for unknown in [r#"{"kind":"vote","v":1}"#, r#"{"kind":"intent","v":2}"#, "[]", "7"] {
            assert!(matches!(read(unknown.as_bytes()).said(), Said::Unknown(_)), "{unknown}");
            assert_eq!(read(unknown.as_bytes()).text(), unknown);
        }
        let long = format!("\"{}\"", "x".repeat(ENTRY_MAX));
        for text in ["", "{", r#"{"v":1,"kind":"x"}"#, r#"{"a":1,"a":1}"#, "9007199254740993", &long] {
            assert_eq!(read(text.as_bytes()).said(), &Said::Text, "{text:.20}");
            assert_eq!(read(text.as_bytes()).text(), text);
        }
    }
}
