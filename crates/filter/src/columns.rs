//! Where a store keeps what rules look at. Named by the door that asks the store, which answers for the rows being so.

use std::collections::BTreeMap;

use crate::value::Field;

/// How the values of a column are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Booleans; in SQLite 0 and 1.
    Bool,
    /// Whole numbers of 64 bits.
    Long,
    /// Texts, in the bytes of the entity's attribute. In OpenSearch `keyword` without normalizer and without `ignore_above`.
    Text,
    /// Entities, as [`Entity::text`](crate::Entity::text) writes them.
    Entity,
    /// Entities of one type, by their id alone.
    EntityOf(String),
    /// Moments and spans, as whole milliseconds (moments: since 1970 UTC).
    Milliseconds,
    /// Decimals, as whole ten-thousandths.
    TenThousandths,
    /// Moments, as PostgreSQL's `timestamptz(3)`.
    Timestamp,
    /// Decimals, as PostgreSQL's `numeric(19, 4)`.
    Numeric,
    /// Addresses and networks, as PostgreSQL's `inet`.
    Address,
}

impl Kind {
    /// What the column holds, in words.
    pub(crate) const fn noun(&self) -> &'static str {
        match self {
            Self::Bool => "truth values",
            Self::Long => "numbers",
            Self::Text => "texts",
            Self::Entity | Self::EntityOf(_) => "entities",
            Self::Milliseconds => "milliseconds",
            Self::TenThousandths | Self::Numeric => "decimals",
            Self::Timestamp => "moments",
            Self::Address => "addresses",
        }
    }
}

/// A name that is not one of a column.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the name of a column: letters, digits and underscores, in parts joined by points")]
pub struct BadName(String);

/// A column of a table, or a key of a store's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    name: String,
    kind: Kind,
    set: bool,
    marker: Option<String>,
    absent: bool,
    filled: bool,
}

impl Column {
    /// A column with at most one value a row. In a name with points, PostgreSQL and SQLite read a table's alias, Qdrant and
    /// OpenSearch an inner object, Chroma nothing.
    ///
    /// # Errors
    /// [`BadName`], when a part of the name is anything but letters, digits and underscores, or begins with a digit.
    pub fn new(name: &str, kind: Kind) -> Result<Self, BadName> {
        let good = |part: &str| {
            part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && part.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        };
        if !name.split('.').all(good) {
            return Err(BadName(name.to_owned()));
        }
        let name = name.to_owned();
        Ok(Self { name, kind, set: false, marker: None, absent: false, filled: false })
    }

    /// The same, holding sets: an array in PostgreSQL and vector stores, a JSON array in SQLite.
    #[must_use]
    pub const fn set(mut self) -> Self {
        self.set = true;
        self
    }

    /// The rows say in the boolean column `marker` whether there is a value: `true` where there is, `false` where there is none.
    /// Needed where a store cannot be asked that. Ignored by SQL.
    ///
    /// # Errors
    /// [`BadName`], as [`Column::new`].
    pub fn marked_by(mut self, marker: &str) -> Result<Self, BadName> {
        self.marker = Some(Self::new(marker, Kind::Bool)?.name);
        Ok(self)
    }

    /// A row without the value has no such attribute for certain; it was not just never filled in. Without this nothing
    /// missing matches, also no rule that asks for its absence.
    #[must_use]
    pub const fn missing_is_absent(mut self) -> Self {
        self.absent = true;
        self
    }

    /// Every row has a value here, and the store sees to that (`NOT NULL`, or the only program that writes). Stores which cannot
    /// ask for presence rely on it.
    #[must_use]
    pub const fn always_filled(mut self) -> Self {
        self.filled = true;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How values are stored.
    #[must_use]
    pub const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whether the column holds sets.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.set
    }

    pub(crate) fn marker(&self) -> Option<&str> {
        self.marker.as_deref()
    }

    pub(crate) const fn is_missing_absent(&self) -> bool {
        self.absent
    }

    pub(crate) const fn is_filled(&self) -> bool {
        self.filled
    }
}

/// Which column of a store holds which field of the rows.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    fields: BTreeMap<Field, Column>,
    assured: Vec<Field>,
}

impl Columns {
    /// No column at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// With the row's entity id in `column`.
    #[must_use]
    pub fn id(self, column: Column) -> Self {
        self.with(Field::Id, column)
    }

    /// With all the row's ancestors, direct and indirect, in `column`: a set of [`Kind::Entity`].
    #[must_use]
    pub fn ancestors(self, column: Column) -> Self {
        self.with(Field::Ancestors, column)
    }

    /// With the attribute at `path`, such as `meta.level`, in `column`.
    #[must_use]
    pub fn attribute(self, path: &str, column: Column) -> Self {
        self.with(Field::Attribute(path.split('.').map(str::to_owned).collect()), column)
    }

    /// With the tag `name` in `column`.
    #[must_use]
    pub fn tag(self, name: &str, column: Column) -> Self {
        self.with(Field::Tag(name.to_owned()), column)
    }

    /// With any field in `column`.
    #[must_use]
    pub fn with(mut self, field: Field, column: Column) -> Self {
        self.fields.insert(field, column);
        self
    }

    /// Every row has the attribute at `path`, though no column holds it: a record, or what is too large for the store.
    #[must_use]
    pub fn assured(mut self, path: &str) -> Self {
        self.assured.push(Field::Attribute(path.split('.').map(str::to_owned).collect()));
        self
    }

    pub(crate) fn of(&self, field: &Field) -> Option<&Column> {
        self.fields.get(field)
    }

    pub(crate) fn is_assured(&self, field: &Field) -> bool {
        self.assured.contains(field)
    }
}
