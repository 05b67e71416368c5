//! Paths to attributes (RFC 7644, 3.10), resolved against the schema when they are read: a path that exists leads somewhere.

use std::fmt;

use crate::error::{ScimError, ScimType};
use crate::filter::{Filter, Reader};
use crate::lex::{Token, tokens};
use crate::schema::{Attribute, Kind, Schema, Type};

/// An attribute of a type of resource, or a part of one.
#[derive(Clone, Copy)]
pub struct Target {
    /// The extension that it belongs to; none for common attributes and those of the type's own schema.
    pub extension: Option<&'static Schema>,
    /// The attribute.
    pub attribute: &'static Attribute,
    /// The part of it, if only that is meant.
    pub part: Option<&'static Attribute>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = self.extension {
            write!(f, "{}:", schema.id)?;
        }
        f.write_str(self.attribute.name)?;
        self.part.map_or(Ok(()), |part| write!(f, ".{}", part.name))
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        let name = |schema: Option<&'static Schema>| schema.map(|schema| schema.id);
        (name(self.extension), self.attribute.name, self.part.map(|part| part.name))
            == (name(other.extension), other.attribute.name, other.part.map(|part| part.name))
    }
}

impl Target {
    /// What `text` names in a resource of `kind`.
    ///
    /// # Errors
    /// `None` of it is known.
    pub fn parse(kind: &Kind, text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("urn:") {
            let own = kind.schema.id.to_ascii_lowercase();
            if let Some(rest) = lower.strip_prefix(&own).and_then(|rest| rest.strip_prefix(':')) {
                return Self::named(None, rest, |name| kind.schema.attribute(name));
            }
            return kind.extensions.iter().copied().find_map(|schema| {
                let rest = lower.strip_prefix(&schema.id.to_ascii_lowercase())?.strip_prefix(':')?;
                Self::named(Some(schema), rest, |name| schema.attribute(name))
            });
        }
        Self::named(None, text, |name| kind.attribute(name))
    }

    fn named(
        extension: Option<&'static Schema>,
        text: &str,
        find: impl FnOnce(&str) -> Option<&'static Attribute>,
    ) -> Option<Self> {
        let (name, part) = match text.split_once('.') {
            None => (text, None),
            Some((name, part)) => (name, Some(part)),
        };
        let attribute = find(name)?;
        let part = match part {
            None => None,
            Some(part) => Some(attribute.part(part)?),
        };
        Some(Self { extension, attribute, part })
    }

    /// What is compared: of a complex attribute that is named as a whole, its `value`.
    pub(crate) fn compared(self) -> Self {
        if self.part.is_none() && self.attribute.kind == Type::Complex {
            return Self { part: self.attribute.part("value"), ..self };
        }
        self
    }

    /// The attribute or part that holds the value.
    pub(crate) fn leaf(&self) -> &'static Attribute {
        self.part.unwrap_or(self.attribute)
    }
}

/// The path of a patch.
#[derive(Clone, Debug)]
pub enum Path {
    /// An extension as a whole.
    Extension(&'static Schema),
    /// An attribute or a part.
    Attribute(Target),
    /// Some values of an attribute: `emails[type eq "work"]`, or a part of those.
    Values {
        /// The attribute; its part is the one after the bracket.
        target: Target,
        /// Which values.
        filter: Filter,
    },
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// `invalidPath`.
    pub fn parse(kind: &Kind, text: &str) -> Result<Self, ScimError> {
        let wrong = |what: &str| ScimError::new(ScimType::InvalidPath, format!("the path is wrong: {what}"));
        if let Some(schema) = kind.extension(text.trim()) {
            return Ok(Self::Extension(schema));
        }
        let words = tokens(text).map_err(wrong)?;
        let unknown = || wrong("it names no attribute");
        match words.as_slice() {
            [Token::Word(name)] => Target::parse(kind, name).map(Self::Attribute).ok_or_else(unknown),
            [Token::Word(name), Token::From, inner @ .., Token::To] => {
                let target = Target::parse(kind, name).ok_or_else(unknown)?;
                Self::values(target, inner)
            }
            [Token::Word(name), Token::From, inner @ .., Token::To, Token::Word(part)] => {
                let target = Target::parse(kind, name).ok_or_else(unknown)?;
                let part = part.strip_prefix('.').and_then(|part| target.attribute.part(part));
                let part = part.ok_or_else(unknown)?;
                match Self::values(target, inner)? {
                    Self::Values { target, filter } => {
                        Ok(Self::Values { target: Target { part: Some(part), ..target }, filter })
                    }
                    other => Ok(other),
                }
            }
            _ => Err(wrong("it is neither an attribute nor `attribute[filter].part`")),
        }
    }

    fn values(target: Target, inner: &[Token]) -> Result<Self, ScimError> {
        if target.part.is_some() || !target.attribute.many || target.attribute.kind != Type::Complex {
            let detail = "the path is wrong: only attributes with several values are filtered";
            return Err(ScimError::new(ScimType::InvalidPath, detail));
        }
        let filter = Reader::within(target, inner)
            .whole()
            .map_err(|error| ScimError { kind: Some(ScimType::InvalidPath), ..error })?;
        Ok(Self::Values { target, filter })
    }
}
