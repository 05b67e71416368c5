//! Identifiers, by the case rules of their dialect.

use bartizan_base::Name;
use bartizan_model::database_route::IDENTIFIER_MAX;
use sqlparser::ast::Ident;

use crate::refusal::{Refusal, Why, shown};

/// Which dialect's rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Unquoted names are folded to lower case, quoted ones are as they are.
    Postgres,
    /// Case does not matter, quoted or not.
    Sqlite,
}

impl Rules {
    /// A name of the statement, as it is compared.
    pub(crate) fn folded(self, ident: &Ident) -> Result<String, Refusal> {
        let text = &ident.value;
        let refused = |what| Err(Refusal::at(Why::NotAllowed(what), ident.span));
        if text.is_empty() || text.len() > IDENTIFIER_MAX || text.chars().any(char::is_control) {
            return refused("a name that is empty, longer than 63 bytes or holds control characters");
        }
        match (self, ident.quote_style) {
            (Self::Postgres, None) if !text.is_ascii() => {
                refused("a name of other characters than ASCII without quotes")
            }
            (Self::Postgres, None) => Ok(text.to_ascii_lowercase()),
            (Self::Postgres, Some('"')) => Ok(text.clone()),
            (Self::Sqlite, None | Some('"' | '`' | '[')) => Ok(text.to_ascii_lowercase()),
            (_, Some(_)) => refused("a name in such quotes"),
        }
    }

    /// A declared name, as it is compared.
    pub(crate) fn declared(self, name: &Name) -> String {
        match self {
            Self::Postgres => name.to_string(),
            Self::Sqlite => name.as_str().to_ascii_lowercase(),
        }
    }

    /// Where tables are that say nothing else.
    pub(crate) fn default_schema(self) -> Name {
        Name::literal(match self {
            Self::Postgres => "public",
            Self::Sqlite => "main",
        })
    }
}

/// The name as it is shown in a refusal.
pub(crate) fn written(parts: &[Ident]) -> String {
    shown(&parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join("."))
}
