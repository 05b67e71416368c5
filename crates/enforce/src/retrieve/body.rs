//! What callers send.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::{Digest, Name, Timestamp, json};
use bartizan_model::{Confidentiality, Integrity, Problem, ReasonCode, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Collections that one search may name.
pub(super) const COLLECTIONS_MAX: usize = 8;
/// Bytes of a query's text.
const QUERY_MAX: usize = 8_192;
/// Passages of a document.
pub(super) const PASSAGES_MAX: usize = 256;
/// People, and groups, on an access list.
const READERS_MAX: usize = 500;

/// A search, as it is asked for. Who asks, and in whose house, is never part of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchAsked {
    /// What is looked for, in words.
    #[serde(default)]
    pub query: Option<String>,
    /// What is looked for, as a vector.
    #[serde(default)]
    pub vector: Option<Vec<f32>>,
    /// How many passages at most; those of the route if not said.
    #[serde(default)]
    pub k: Option<u32>,
    /// In which collections; in all that the caller may search if not said.
    #[serde(default)]
    pub collections: BTreeSet<Name>,
    /// What the metadata must be like.
    #[serde(default, rename = "where")]
    pub filter: Option<Value>,
}

impl SearchAsked {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not one.
    pub(crate) fn read(body: &[u8], limits: json::Limits) -> Result<Self, Problem> {
        read::<Self>(body, limits)?.checked()
    }

    /// What is the same where the same is looked for again.
    pub(super) fn same(&self) -> Digest {
        let Self { query, vector, k, collections, filter } = self;
        Digest::of(&json::canonical(&(query, vector, k, collections, filter)).unwrap_or_default())
    }

    fn checked(self) -> Result<Self, Problem> {
        let text = self.query.as_ref();
        if text.is_some() == self.vector.is_some() {
            return Err(malformed("either `query` or `vector`"));
        }
        if text.is_some_and(|text| text.trim().is_empty() || text.len() > QUERY_MAX) {
            return Err(malformed("`query` is a text of 1 to 8,192 bytes"));
        }
        if self.collections.len() > COLLECTIONS_MAX {
            return Err(malformed("`collections` names at most 8"));
        }
        if self.k == Some(0) {
            return Err(malformed("`k` is at least 1"));
        }
        Ok(self)
    }
}

/// A document to be written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentAsked {
    pub(super) collection: Name,
    pub(super) passages: Vec<PassageAsked>,
    #[serde(default)]
    pub(super) source_time: Option<String>,
    #[serde(default)]
    pub(super) confidentiality: Option<Confidentiality>,
    #[serde(default)]
    pub(super) integrity: Option<Integrity>,
    #[serde(default)]
    pub(super) categories: Option<BTreeSet<Name>>,
    #[serde(default)]
    pub(super) sensitivity: Option<Name>,
    #[serde(default)]
    pub(super) environment: Option<Name>,
    #[serde(default)]
    pub(super) project: Option<Name>,
    #[serde(default)]
    pub(super) owner: Option<Name>,
    #[serde(default)]
    pub(super) readers: BTreeSet<Name>,
    #[serde(default)]
    pub(super) reader_groups: BTreeSet<Name>,
}

/// A passage to be written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PassageAsked {
    pub(super) text: String,
    #[serde(default)]
    pub(super) vector: Option<Vec<f32>>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, Value>,
}

/// An access list to be written. What is not said is empty: it is the whole list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessAsked {
    pub(super) collection: Name,
    pub(super) source_time: String,
    #[serde(default)]
    pub(super) status: Status,
    #[serde(default)]
    pub(super) owner: Option<Name>,
    #[serde(default)]
    pub(super) readers: BTreeSet<Name>,
    #[serde(default)]
    pub(super) reader_groups: BTreeSet<Name>,
}

impl DocumentAsked {
    pub(super) fn read(body: &[u8], limits: json::Limits) -> Result<Self, Problem> {
        let asked: Self = read(body, limits)?;
        if !(1..=PASSAGES_MAX).contains(&asked.passages.len()) {
            return Err(malformed("`passages` is a list of 1 to 256"));
        }
        if asked.passages.iter().any(|p| p.text.trim().is_empty() || p.text.contains('\0')) {
            return Err(malformed("the `text` of a passage is not empty and has no zero byte"));
        }
        readers(&asked.readers, &asked.reader_groups)?;
        Ok(asked)
    }
}

impl AccessAsked {
    pub(super) fn read(body: &[u8], limits: json::Limits) -> Result<Self, Problem> {
        let asked: Self = read(body, limits)?;
        readers(&asked.readers, &asked.reader_groups)?;
        Ok(asked)
    }
}

/// When the source said what it says, in milliseconds; `now` if it does not say. Not from the future: that would stay fresh for too
/// long.
pub(super) fn source_time(said: Option<&str>, now: Timestamp) -> Result<u64, Problem> {
    let said = match said {
        None => now,
        Some(text) => Timestamp::parse_rfc3339(text)
            .map_err(|_| malformed("`source_time` is a moment as RFC 3339 writes it"))?,
    };
    if said > now {
        return Err(malformed("`source_time` lies in the future"));
    }
    Ok(said.as_micros() / 1_000)
}

fn readers(people: &BTreeSet<Name>, groups: &BTreeSet<Name>) -> Result<(), Problem> {
    if people.len() > READERS_MAX || groups.len() > READERS_MAX {
        return Err(malformed("an access list has at most 500 people and 500 groups"));
    }
    Ok(())
}

fn read<T: DeserializeOwned>(body: &[u8], limits: json::Limits) -> Result<T, Problem> {
    json::parse_as(body, limits).map_err(|error| malformed(&error.to_string()))
}

pub(super) fn malformed(why: &str) -> Problem {
    Problem::with_detail(ReasonCode::BodyMalformed, why)
}
