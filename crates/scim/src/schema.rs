//! What an attribute is (RFC 7643, 2 and 7).

use serde_json::{Value, json};

/// The type of an attribute's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A moment (RFC 3339).
    DateTime,
    /// An address of something: another resource, or anything.
    Reference,
    /// Sub-attributes.
    Complex,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::DateTime => "dateTime",
            Self::Reference => "reference",
            Self::Complex => "complex",
        }
    }
}

/// Who may set an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// We alone.
    ReadOnly,
    /// The client, at any time.
    ReadWrite,
    /// The client, when the value is made.
    Immutable,
}

/// An attribute of a schema. Built by `const` calls, so that a schema is a table that reads like one.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Its name, as it is written in answers.
    pub name: &'static str,
    /// What its values are.
    pub kind: Type,
    /// Whether it holds several.
    pub many: bool,
    /// Whether a resource must have it.
    pub required: bool,
    /// Whether case matters when it is compared.
    pub exact: bool,
    /// Who may set it.
    pub mutability: Mutability,
    /// Whether it is in every answer, whatever the client asks for.
    pub always: bool,
    /// Whether no two resources may have the same.
    pub unique: bool,
    /// What a reference may point to.
    pub refers: &'static [&'static str],
    /// Values that are usual.
    pub usual: &'static [&'static str],
    /// The parts of a complex attribute.
    pub parts: &'static [Self],
    /// What it is.
    pub description: &'static str,
}

impl Attribute {
    const fn of(name: &'static str, kind: Type, description: &'static str) -> Self {
        Self {
            name,
            kind,
            many: false,
            required: false,
            exact: false,
            mutability: Mutability::ReadWrite,
            always: false,
            unique: false,
            refers: &[],
            usual: &[],
            parts: &[],
            description,
        }
    }

    pub(crate) const fn text(name: &'static str, description: &'static str) -> Self {
        Self::of(name, Type::String, description)
    }

    pub(crate) const fn flag(name: &'static str, description: &'static str) -> Self {
        Self::of(name, Type::Boolean, description)
    }

    pub(crate) const fn integer(name: &'static str, description: &'static str) -> Self {
        Self::of(name, Type::Integer, description)
    }

    pub(crate) const fn moment(name: &'static str, description: &'static str) -> Self {
        Self { exact: true, ..Self::of(name, Type::DateTime, description) }
    }

    pub(crate) const fn reference(
        name: &'static str,
        refers: &'static [&'static str],
        description: &'static str,
    ) -> Self {
        Self { exact: true, refers, ..Self::of(name, Type::Reference, description) }
    }

    pub(crate) const fn complex(
        name: &'static str,
        parts: &'static [Self],
        description: &'static str,
    ) -> Self {
        Self { parts, ..Self::of(name, Type::Complex, description) }
    }

    pub(crate) const fn many(self) -> Self {
        Self { many: true, ..self }
    }

    pub(crate) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub(crate) const fn exact(self) -> Self {
        Self { exact: true, ..self }
    }

    pub(crate) const fn always(self) -> Self {
        Self { always: true, ..self }
    }

    pub(crate) const fn unique(self) -> Self {
        Self { unique: true, ..self }
    }

    pub(crate) const fn ours(self) -> Self {
        Self { mutability: Mutability::ReadOnly, ..self }
    }

    pub(crate) const fn immutable(self) -> Self {
        Self { mutability: Mutability::Immutable, ..self }
    }

    pub(crate) const fn usual(self, usual: &'static [&'static str]) -> Self {
        Self { usual, ..self }
    }

    /// The part of a complex attribute with that name, in any case.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&'static Self> {
        self.parts.iter().find(|part| part.name.eq_ignore_ascii_case(name))
    }

    /// As `/Schemas` shows it (RFC 7643, 7).
    #[must_use]
    pub fn described(&self) -> Value {
        let mutability = match self.mutability {
            Mutability::ReadOnly => "readOnly",
            Mutability::ReadWrite => "readWrite",
            Mutability::Immutable => "immutable",
        };
        let mut out = json!({
            "name": self.name,
            "type": self.kind.name(),
            "multiValued": self.many,
            "description": self.description,
            "required": self.required,
            "caseExact": self.exact,
            "mutability": mutability,
            "returned": if self.always { "always" } else { "default" },
            "uniqueness": if self.unique { "server" } else { "none" },
        });
        if let Some(members) = out.as_object_mut() {
            if !self.refers.is_empty() {
                members.insert("referenceTypes".to_owned(), json!(self.refers));
            }
            if !self.usual.is_empty() {
                members.insert("canonicalValues".to_owned(), json!(self.usual));
            }
            if self.kind == Type::Complex {
                let parts: Vec<Value> = self.parts.iter().map(Self::described).collect();
                members.insert("subAttributes".to_owned(), parts.into());
            }
        }
        out
    }
}

/// A schema: attributes under a URN.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The URN.
    pub id: &'static str,
    /// What it is called.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Its attributes.
    pub attributes: &'static [Attribute],
}

impl Schema {
    /// The attribute with that name, in any case.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        self.attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
    }
}

/// A type of resource. Two are the same if their names are.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name: `User`, `Group`.
    pub name: &'static str,
    /// Its path below the root: `/Users`.
    pub endpoint: &'static str,
    /// What it is.
    pub description: &'static str,
    /// Its own schema.
    pub schema: &'static Schema,
    /// Schemas that it may have beside.
    pub extensions: &'static [&'static Schema],
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Kind {}

/// What every resource has (RFC 7643, 3.1).
pub(crate) const COMMON: &[Attribute] = &[
    Attribute::text("id", "What we call it, for ever and nothing else.").exact().ours().always().unique(),
    Attribute::text("externalId", "What the client calls it.").exact(),
    Attribute::complex(
        "meta",
        &[
            Attribute::text("resourceType", "Its type.").exact().ours(),
            Attribute::moment("created", "When it was made.").ours(),
            Attribute::moment("lastModified", "When it was last changed.").ours(),
            Attribute::reference("location", &["uri"], "Where it is.").ours(),
            Attribute::text("version", "Its entity tag.").exact().ours(),
        ],
        "What we know about it.",
    )
    .ours(),
    Attribute::reference("schemas", &["uri"], "The schemas it uses.").many().ours().always(),
];

impl Kind {
    /// A common attribute, or one of its own schema, by name in any case.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        let common = COMMON.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name));
        common.or_else(|| self.schema.attribute(name))
    }

    /// The extension with that URN, in any case.
    #[must_use]
    pub fn extension(&self, urn: &str) -> Option<&'static Schema> {
        self.extensions.iter().copied().find(|schema| schema.id.eq_ignore_ascii_case(urn))
    }
}
