//! How a corpus is reached: the store that holds its documents, beside the corpus that policies know.

use std::collections::BTreeMap;

use bartizan_base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::Status;

/// How the corpus of the same name is searched and written. What policies say of it is declared with the corpus, its
/// collections and its documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorpusRouteSpec {
    /// Whether it is reached at all.
    #[serde(default)]
    pub status: Status,
    /// Where the documents are.
    pub store: CorpusStore,
    /// How many numbers a vector has.
    pub dimensions: u32,
    /// How near vectors are to one another.
    #[serde(default)]
    pub metric: Metric,
    /// The model that turns texts into vectors, by the name that callers use; none where callers send vectors. Whoever searches or
    /// writes is asked for `model:embed` on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Name>,
    /// What callers may filter by, and get back: fields of the documents beside those that policies know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<Name, MetadataKind>,
    /// The most passages that a search gives, 1 to 100.
    #[serde(default = "k_max")]
    pub k_max: u32,
    /// The most passages that are decided on one by one, where policy cannot be asked of the store, 1 to 1,000.
    #[serde(default = "check_max")]
    pub check_max: u32,
    /// How often one caller may search the corpus within a minute.
    #[serde(default = "searches_per_minute")]
    pub searches_per_minute: u32,
    /// How old a document's access list may be, in seconds. What is older is not given to anybody.
    #[serde(default = "access_age_max_s")]
    pub access_age_max_s: u64,
    /// Whether rows that this house has not written are left out.
    #[serde(default = "yes")]
    pub signed: bool,
    /// Whether callers are told how near a passage is. Nearness tells what is in a passage to whoever asks often enough.
    #[serde(default)]
    pub scores: bool,
}

/// A store of vectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum CorpusStore {
    /// A table of PostgreSQL with the extension `vector`, 0.8 or later.
    Pgvector {
        /// The server.
        server: PostgresServer,
        /// The table, with its schema if it is not the first of the search path: letters, digits, underscores and one point.
        table: Name,
    },
    /// A collection of Chroma.
    Chroma {
        /// The upstream that is asked.
        upstream: Name,
        /// The tenant within Chroma.
        #[serde(default = "default_tenant")]
        tenant: Name,
        /// The database within Chroma.
        #[serde(default = "default_database")]
        database: Name,
        /// The collection's id, a UUID: names can change hands.
        collection: Name,
    },
    /// A collection of Qdrant.
    Qdrant {
        /// The upstream that is asked.
        upstream: Name,
        /// The collection.
        collection: Name,
        /// The vector's name, where points have several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vector: Option<Name>,
    },
    /// An index of OpenSearch with a field `embedding` of type `knn_vector`, of the engine Lucene or Faiss.
    Opensearch {
        /// The upstream that is asked.
        upstream: Name,
        /// The index.
        index: Name,
    },
}

/// A server of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresServer {
    /// Its host name or address.
    pub host: Name,
    /// Its port.
    #[serde(default = "postgres_port")]
    pub port: u16,
    /// The database.
    pub database: Name,
    /// The role that is logged in as. It needs rights on the table, and must not be its owner or a superuser.
    pub user: Name,
    /// The sealed credential that holds the role's password; none where the server asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Name>,
    /// Whether TLS is spoken, with the certificate checked against the host. Off is for private addresses alone.
    #[serde(default = "yes")]
    pub tls: bool,
    /// Whether the address may be private.
    #[serde(default)]
    pub allow_private: bool,
}

/// How near vectors are to one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// By angle.
    #[default]
    Cosine,
    /// By distance.
    Euclidean,
    /// By inner product, the greatest first.
    InnerProduct,
}

/// What a field of metadata holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetadataKind {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
}

impl CorpusStore {
    /// The upstream that is asked, of a store that speaks HTTP.
    #[must_use]
    pub const fn upstream(&self) -> Option<&Name> {
        match self {
            Self::Pgvector { .. } => None,
            Self::Chroma { upstream, .. }
            | Self::Qdrant { upstream, .. }
            | Self::Opensearch { upstream, .. } => Some(upstream),
        }
    }
}

impl CorpusRouteSpec {
    /// What is wrong with it, in words.
    ///
    /// # Errors
    /// The first thing that could never work, or that would be another thing in the store than it looks like.
    pub fn check(&self) -> Result<(), &'static str> {
        if !(1..=16_000).contains(&self.dimensions) {
            return Err("`dimensions` is a number from 1 to 16,000");
        }
        if !(1..=100).contains(&self.k_max) || !(1..=1_000).contains(&self.check_max) {
            return Err("`k_max` is a number from 1 to 100, `check_max` one from 1 to 1,000");
        }
        if self.searches_per_minute == 0 || self.access_age_max_s == 0 {
            return Err("`searches_per_minute` and `access_age_max_s` are greater than 0");
        }
        if self.metadata.len() > 32 || !self.metadata.keys().all(|name| is_word(name) && name.len() <= 40) {
            return Err("`metadata` has at most 32 fields: letters, digits and underscores, at most 40");
        }
        let segment = |name: &Name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match &self.store {
            CorpusStore::Pgvector { server, table } => {
                if table.split('.').count() > 2 || !table.split('.').all(is_word) {
                    return Err(
                        "`table` is a name of letters, digits and underscores, with one point at most",
                    );
                }
                if !server.tls && !server.allow_private {
                    return Err("without `tls` only a private address can be reached (`allow_private`)");
                }
                Ok(())
            }
            CorpusStore::Chroma { tenant, database, collection, .. } => {
                let plain = [tenant, database, collection].into_iter().all(segment);
                if plain { Ok(()) } else { Err("a name in a path has letters, digits and `. _ -` alone") }
            }
            CorpusStore::Qdrant { collection: name, .. } | CorpusStore::Opensearch { index: name, .. } => {
                // A name such as `_all` would be something else.
                if segment(name) && !name.starts_with(['_', '-', '.']) {
                    Ok(())
                } else {
                    Err("a name in a path has letters, digits and `. _ -`, and begins with a letter or digit")
                }
            }
        }
    }
}

/// Whether it can be an identifier in every store.
fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
}

const fn k_max() -> u32 {
    20
}

const fn check_max() -> u32 {
    200
}

const fn searches_per_minute() -> u32 {
    60
}

const fn access_age_max_s() -> u64 {
    86_400
}

const fn postgres_port() -> u16 {
    5_432
}

const fn yes() -> bool {
    true
}

fn default_tenant() -> Name {
    Name::literal("default_tenant")
}

fn default_database() -> Name {
    Name::literal("default_database")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn checked(store: &Value, more: &Value) -> Result<(), String> {
        let mut spec = json!({"store": store, "dimensions": 3});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec: CorpusRouteSpec = serde_json::from_value(spec).map_err(|e| e.to_string())?;
        spec.check().map_err(str::to_owned)
    }

    #[test]
    fn names_that_would_be_something_else_in_the_store_are_refused() {
        let table = |table: &str| {
            let server = json!({"host": "db.example", "database": "d", "user": "u"});
            checked(&json!({"type": "pgvector", "server": server, "table": table}), &json!({}))
        };
        assert_eq!(table("rag.chunks"), Ok(()));
        for wrong in ["a.b.c", "chunks:x", "1st", "a..b", "a-b"] {
            assert!(table(wrong).is_err(), "{wrong}");
        }
        let index =
            |name: &str| checked(&json!({"type": "opensearch", "upstream": "u", "index": name}), &json!({}));
        assert_eq!(index("docs-2026"), Ok(()));
        for wrong in ["_all", "a/_delete_by_query", "docs:x", "../x", ".hidden", "a+b"] {
            assert!(index(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_without_tls_is_a_private_one() {
        let with = |tls: bool, allow_private: bool| {
            let server = json!({"host": "db", "database": "d", "user": "u", "tls": tls, "allow_private": allow_private});
            checked(&json!({"type": "pgvector", "server": server, "table": "t"}), &json!({}))
        };
        assert!(with(true, false).is_ok() && with(false, true).is_ok());
        assert!(with(false, false).is_err());
    }

    #[test]
    fn bounds_that_bound_nothing_are_refused() {
        let store = json!({"type": "qdrant", "upstream": "q", "collection": "c"});
        assert_eq!(checked(&store, &json!({})), Ok(()));
        for wrong in [
            json!({"dimensions": 0}),
            json!({"k_max": 0}),
            json!({"k_max": 101}),
            json!({"check_max": 100_000}),
            json!({"searches_per_minute": 0}),
            json!({"access_age_max_s": 0}),
            json!({"metadata": {"a.b": "text"}}),
            json!({"metadata": {"year": "date"}}),
            json!({"unknown": 1}),
        ] {
            assert!(checked(&store, &wrong).is_err(), "{wrong}");
        }
    }
}
