//! Rows: passages of documents, with what policies know of the document.

use std::collections::BTreeSet;

use bartizan_base::{Digest, Name};
use bartizan_model::asset::AssetSpec;
use bartizan_model::{
    Confidentiality, CorpusRouteSpec, CorpusStore, Integrity, MetadataKind, Status, Tenant,
};
use serde_json::{Map, Value, json};

use crate::layout::{
    ACCESS_SEAL, BODY, CHUNK, COLLECTION, CONTENT_SEAL, ID, NEEDED, OPTIONAL, SETS, SYNCED, TENANT, marker,
    metadata,
};
use crate::seal::Seals;

/// Who may see a document, as its source last told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// The document.
    pub id: Name,
    /// What policies know of it; within exactly one collection.
    pub spec: AssetSpec,
    /// Everything that it lies in, sorted, as filters name it.
    pub above: Vec<String>,
    /// When the source said so, in milliseconds since 1970.
    pub synced_ms: u64,
}

/// A passage of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// Its number within the document, from 0.
    pub chunk: u32,
    /// Its text.
    pub text: String,
    /// Fields that the route declares.
    pub metadata: Map<String, Value>,
}

/// A passage to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The passage.
    pub passage: Passage,
    /// What it is found by.
    pub vector: Vec<f32>,
}

/// A row that a store gave: a claim, until its seals were looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Whose.
    pub tenant: Tenant,
    /// The key within the store, where it has one of its own.
    pub key: Option<String>,
    /// Who may see it.
    pub access: Access,
    /// The passage.
    pub passage: Passage,
    /// How near it is, as the store counts.
    pub score: Option<f64>,
    content_seal: String,
    access_seal: String,
}

impl Access {
    /// The collection that it is in.
    #[must_use]
    pub fn collection(&self) -> Option<&Name> {
        self.spec.within.first()
    }

    /// What a row keeps of it. Absent values are none at all, or null where `nulls`: for stores in which what is not named stays.
    pub(crate) fn fields(&self, (style, nulls): (Style, bool)) -> Map<String, Value> {
        let spec = &self.spec;
        let optional = |name: Option<&Name>| name.map(|name| json!(name));
        let mut out = Map::new();
        let mut put = |name: &str, value: Option<Value>, marked: bool| {
            if marked && style == Style::Payload {
                out.insert(marker(name), json!(value.is_some()));
            }
            // No store of payloads tells an empty list from none, so it is none and the marker says the rest.
            let value = value.filter(|v| style == Style::Table || v.as_array().is_none_or(|v| !v.is_empty()));
            match value {
                Some(value) => drop(out.insert(name.to_owned(), value)),
                None if nulls || style == Style::Table => drop(out.insert(name.to_owned(), Value::Null)),
                None => {}
            }
        };
        let status = if spec.status == Status::Active { "active" } else { "disabled" };
        put("status", Some(json!(status)), false);
        put("sensitivity", Some(json!(spec.sensitivity)), false);
        put("confidentiality", Some(json!(spec.confidentiality.name())), false);
        put("integrity", Some(json!(spec.integrity.name())), false);
        put("categories", Some(json!(spec.categories)), true);
        put("ancestors", Some(json!(self.above)), true);
        put("environment", optional(spec.environment.as_ref()), true);
        put("project", optional(spec.project.as_ref()), true);
        put("owner", optional(spec.owner.as_ref()), true);
        put("digest", spec.digest.map(|digest| json!(digest)), true);
        let list = |names: &BTreeSet<Name>| (!names.is_empty()).then(|| json!(names));
        put("readers", list(&spec.readers), true);
        put("reader_groups", list(&spec.reader_groups), true);
        put(SYNCED, Some(json!(self.synced_ms)), false);
        out
    }

    /// The same with the seal over it.
    pub(crate) fn sealed(&self, seals: &Seals<'_>, how: (Style, bool)) -> Map<String, Value> {
        let mut out = self.fields(how);
        out.insert(ACCESS_SEAL.to_owned(), json!(seals.access(self)));
        out
    }
}

/// How a store keeps rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Columns of a table: NULL where there is nothing, arrays may be empty.
    Table,
    /// Keys of a payload, with markers.
    Payload,
}

impl Style {
    pub(crate) const fn of(store: &CorpusStore) -> Self {
        match store {
            CorpusStore::Pgvector { .. } => Self::Table,
            CorpusStore::Chroma { .. } | CorpusStore::Qdrant { .. } | CorpusStore::Opensearch { .. } => {
                Self::Payload
            }
        }
    }
}

impl Entry {
    /// Everything that a row keeps, but for the vector.
    pub(crate) fn fields(
        &self,
        access: &Access,
        seals: &Seals<'_>,
        route: &CorpusRouteSpec,
    ) -> Map<String, Value> {
        let style = Style::of(&route.store);
        let mut out = access.sealed(seals, (style, false));
        let collection = access.collection().map(|name| json!(name)).unwrap_or_default();
        let own = [
            (ID, json!(access.id)),
            (TENANT, json!(seals.tenant())),
            (COLLECTION, collection),
            (CHUNK, json!(self.passage.chunk)),
            (BODY, json!(self.passage.text)),
            (CONTENT_SEAL, json!(seals.content(access, &self.passage))),
        ];
        out.extend(own.map(|(name, value)| (name.to_owned(), value)));
        for name in route.metadata.keys() {
            let (column, value) = (metadata(name), self.passage.metadata.get(name.as_str()).cloned());
            if style == Style::Payload {
                out.insert(marker(&column), json!(value.is_some()));
            }
            match (value, style) {
                (Some(value), _) => drop(out.insert(column, value)),
                (None, Style::Table) => drop(out.insert(column, Value::Null)),
                (None, Style::Payload) => {}
            }
        }
        out
    }
}

impl Row {
    /// Reads what a store gave. None for whatever is not exactly a row: nothing is guessed of what decides about access.
    #[must_use]
    pub fn read(fields: &Map<String, Value>, score: Option<f64>, route: &CorpusRouteSpec) -> Option<Self> {
        let present = |name: &str| fields.get(name).filter(|value| !value.is_null());
        let text = |name: &str| present(name)?.as_str();
        let name = |key: &str| text(key)?.parse::<Name>().ok();
        // Absent, or of the right kind.
        let optional = |key: &str| match present(key) {
            None => Some(None),
            Some(_) => name(key).map(Some),
        };
        let list = |key: &str| match present(key) {
            None => Some(Vec::new()),
            Some(list) => list.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        };
        let names = |key: &str| {
            list(key)?.into_iter().map(|text: String| text.parse().ok()).collect::<Option<BTreeSet<Name>>>()
        };
        let [status, sensitivity, confidentiality, integrity] = NEEDED;
        let [categories, ancestors, readers, reader_groups] = SETS;
        let [environment, project, owner, digest] = OPTIONAL;
        let spec = AssetSpec {
            status: match text(status)? {
                "active" => Status::Active,
                "disabled" => Status::Disabled,
                _ => return None,
            },
            within: [name(COLLECTION)?].into(),
            project: optional(project)?,
            environment: optional(environment)?,
            owner: optional(owner)?,
            sensitivity: name(sensitivity)?,
            confidentiality: match text(confidentiality)? {
                "public" => Confidentiality::Public,
                "internal" => Confidentiality::Internal,
                "confidential" => Confidentiality::Confidential,
                "restricted" => Confidentiality::Restricted,
                _ => return None,
            },
            integrity: match text(integrity)? {
                "trusted" => Integrity::Trusted,
                "untrusted" => Integrity::Untrusted,
                _ => return None,
            },
            categories: names(categories)?,
            readers: names(readers)?,
            reader_groups: names(reader_groups)?,
            digest: match present(digest) {
                None => None,
                Some(text) => Some(text.as_str()?.parse::<Digest>().ok()?),
            },
            ..AssetSpec::default()
        };
        let mut above = list(ancestors)?;
        above.sort_unstable();
        let mut told = Map::new();
        for (field, kind) in &route.metadata {
            if let Some(value) = present(&metadata(field)) {
                kind.fits(value).then_some(())?;
                told.insert(field.to_string(), value.clone());
            }
        }
        Some(Self {
            tenant: Tenant(name(TENANT)?),
            key: None,
            access: Access { id: name(ID)?, spec, above, synced_ms: present(SYNCED)?.as_u64()? },
            passage: Passage {
                chunk: u32::try_from(present(CHUNK)?.as_u64()?).ok()?,
                text: text(BODY)?.to_owned(),
                metadata: told,
            },
            score,
            content_seal: text(CONTENT_SEAL).unwrap_or_default().to_owned(),
            access_seal: text(ACCESS_SEAL).unwrap_or_default().to_owned(),
        })
    }

    /// Whether this house wrote the row as it is.
    #[must_use]
    pub fn is_sealed_by(&self, seals: &Seals<'_>) -> bool {
        seals.tenant() == &self.tenant
            && seals.holds_access(&self.access, &self.access_seal)
            && seals.holds_content(&self.access, &self.passage, &self.content_seal)
    }
}

/// What may stand in a field of metadata.
pub(crate) trait Fits {
    /// Whether a value does.
    fn fits(&self, value: &Value) -> bool;
}

impl Fits for MetadataKind {
    fn fits(&self, value: &Value) -> bool {
        match self {
            Self::Text => value.as_str().is_some_and(|text| text.len() <= 1_024 && !text.contains('\0')),
            Self::Number => value.as_i64().is_some(),
            Self::Flag => value.is_boolean(),
        }
    }
}

/// Whether metadata is as the route declares it: no other fields, each of its kind.
#[must_use]
pub fn fits_metadata(told: &Map<String, Value>, route: &CorpusRouteSpec) -> bool {
    told.iter().all(|(name, value)| {
        route.metadata.iter().any(|(field, kind)| field.as_str() == name && kind.fits(value))
    })
}
