//! How the stores of the tests keep rows.

use bartizan_filter::{Column, Columns, Kind};
use serde_json::{Map, Value as Json, json};

use super::{Row, SHAPES, Stored, text};

/// Which conventions a store follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Postgres,
    Sqlite,
    Vector,
}

/// What is known of a row that lacks a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// A marker says it, in vector stores.
    Marked,
    /// It has no such attribute.
    Certain,
    /// Nothing.
    Unknown,
}

/// The columns of every field.
pub(crate) fn columns(style: Style, absence: Absence) -> Columns {
    let finish = |column: Column| match absence {
        Absence::Marked => {
            let marker = format!("has_{}", column.name());
            column.marked_by(&marker).expect("a name")
        }
        Absence::Certain => column.missing_is_absent(),
        Absence::Unknown => column,
    };
    let mut columns = Columns::none()
        .id(Column::new("id", Kind::EntityOf("Doc".to_owned())).expect("a name").always_filled())
        .ancestors(finish(Column::new("ancestors", Kind::Entity).expect("a name").set()))
        .assured("meta");
    let mut dice = super::Dice(0);
    for shape in SHAPES {
        let sample = (shape.make)(&mut dice);
        let column = Column::new(shape.column, kind(&sample, style)).expect("a name");
        let is_set = matches!(sample, Stored::Texts(_) | Stored::Ints(_) | Stored::Entities(..));
        let column = finish(if is_set { column.set() } else { column });
        columns = match shape.path.strip_prefix('#') {
            Some(tag) => columns.tag(tag, column),
            None => columns.attribute(shape.path, column),
        };
    }
    columns
}

fn kind(sample: &Stored, style: Style) -> Kind {
    match sample {
        Stored::Bool(_) => Kind::Bool,
        Stored::Int(_) | Stored::Ints(_) => Kind::Long,
        Stored::Text(_) | Stored::Texts(_) => Kind::Text,
        // Both ways to name an entity.
        Stored::Entity("User", _) | Stored::Entities("User", _) => Kind::EntityOf("User".to_owned()),
        Stored::Entity(..) | Stored::Entities(..) => Kind::Entity,
        Stored::Moment(_) if style == Style::Postgres => Kind::Timestamp,
        Stored::Moment(_) => Kind::Milliseconds,
        Stored::Decimal(_) if style == Style::Postgres => Kind::Numeric,
        Stored::Decimal(_) => Kind::TenThousandths,
        Stored::Address(_) => Kind::Address,
    }
}

/// A value as JSON.
pub(crate) fn json_of(value: &Stored) -> Json {
    let entity = |kind: &str, id: &str| if kind == "User" { id.to_owned() } else { text(kind, id) };
    match value {
        Stored::Bool(value) => json!(value),
        Stored::Int(value) | Stored::Moment(value) | Stored::Decimal(value) => json!(value),
        Stored::Text(text) | Stored::Address(text) => json!(text),
        Stored::Entity(kind, id) => json!(entity(kind, id)),
        Stored::Texts(values) => json!(values),
        Stored::Ints(values) => json!(values),
        Stored::Entities(kind, ids) => json!(ids.iter().map(|id| entity(kind, id)).collect::<Vec<_>>()),
    }
}

/// The row as a payload: with markers; what is missing is null in some rows, and not there in others.
pub(crate) fn payload(row: &Row, nulls: bool) -> Map<String, Json> {
    let mut out = Map::new();
    out.insert("id".to_owned(), json!(row.id));
    if row.placed {
        out.insert("ancestors".to_owned(), json!(row.ancestors));
    }
    out.insert("has_ancestors".to_owned(), json!(row.placed));
    for shape in SHAPES {
        let value = row.values.get(shape.path);
        out.insert(format!("has_{}", shape.column), json!(value.is_some()));
        match value {
            Some(value) => drop(out.insert(shape.column.to_owned(), json_of(value))),
            None if nulls => drop(out.insert(shape.column.to_owned(), Json::Null)),
            None => {}
        }
    }
    out
}
