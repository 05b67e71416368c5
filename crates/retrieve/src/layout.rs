//! Where a row keeps what: columns of a table, keys of a payload. The same names everywhere (docs/retrieval.md).

use bartizan_filter::{BadName, Column, Columns, Field, Kind};
use bartizan_model::{CorpusRouteSpec, CorpusStore, MetadataKind};

pub(crate) const ID: &str = "id";
pub(crate) const CHUNK: &str = "chunk";
pub(crate) const TENANT: &str = "tenant";
pub(crate) const COLLECTION: &str = "collection";
pub(crate) const BODY: &str = "body";
pub(crate) const SYNCED: &str = "synced_ms";
pub(crate) const CONTENT_SEAL: &str = "content_seal";
pub(crate) const ACCESS_SEAL: &str = "access_seal";
pub(crate) const EMBEDDING: &str = "embedding";

/// What policies know and every document has.
pub(crate) const NEEDED: [&str; 4] = ["status", "sensitivity", "confidentiality", "integrity"];
/// Sets: those that every document has, and access lists.
pub(crate) const SETS: [&str; 4] = ["categories", "ancestors", "readers", "reader_groups"];
/// What a document need not have.
pub(crate) const OPTIONAL: [&str; 4] = ["environment", "project", "owner", "digest"];

/// The column of a field of metadata.
pub(crate) fn metadata(name: &str) -> String {
    format!("m_{name}")
}

/// The key that says whether there is a value.
pub(crate) fn marker(name: &str) -> String {
    format!("has_{name}")
}

/// A field of a row that policies do not see.
pub(crate) fn own(name: &str) -> Field {
    // No tag: documents have none, so no rule can mean this.
    Field::Tag(format!("row:{name}"))
}

/// The columns of a corpus.
///
/// # Errors
/// When a field of metadata has no name that a column can have; the route was checked for that.
pub(crate) fn columns(route: &CorpusRouteSpec) -> Result<Columns, BadName> {
    // In a table it is for the table to say; elsewhere this house is the only writer.
    let filled = |column: Column| match route.store {
        CorpusStore::Pgvector { .. } => column,
        CorpusStore::Chroma { .. } | CorpusStore::Qdrant { .. } | CorpusStore::Opensearch { .. } => {
            column.always_filled()
        }
    };
    let text = |name: &str| Column::new(name, Kind::Text);
    let optional = |name: &str, kind: Kind| {
        Column::new(name, kind)
            .and_then(|column| column.marked_by(&marker(name)))
            .map(Column::missing_is_absent)
    };
    let of = |kind: &str| Kind::EntityOf(kind.to_owned());
    let mut columns = Columns::none()
        .id(filled(Column::new(ID, of("Document"))?))
        .ancestors(Column::new("ancestors", Kind::Entity)?.set().marked_by(&marker("ancestors"))?)
        .attribute("categories", text("categories")?.set().marked_by(&marker("categories"))?)
        .attribute("environment", optional("environment", Kind::Text)?)
        .attribute("digest", optional("digest", Kind::Text)?)
        .attribute("owner", optional("owner", of("User"))?)
        .attribute("readers", optional("readers", of("User"))?.set())
        .attribute("reader_groups", optional("reader_groups", of("Group"))?.set())
        .with(own(TENANT), filled(text(TENANT)?))
        .with(own(COLLECTION), filled(text(COLLECTION)?))
        .with(own(ID), filled(text(ID)?))
        .with(own(SYNCED), filled(Column::new(SYNCED, Kind::Long)?));
    for name in NEEDED {
        columns = columns.attribute(name, filled(text(name)?));
    }
    for (name, kind) in &route.metadata {
        let kind = match kind {
            MetadataKind::Text => Kind::Text,
            MetadataKind::Number => Kind::Long,
            MetadataKind::Flag => Kind::Bool,
        };
        let column = metadata(name);
        columns = columns.with(own(&column), Column::new(&column, kind)?.marked_by(&marker(&column))?);
    }
    Ok(columns)
}
