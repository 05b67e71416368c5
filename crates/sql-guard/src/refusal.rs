//! Why a statement is not run.

use std::fmt;

use sqlparser::tokenizer::Span;

/// Where in a statement, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The character in that line.
    pub column: u64,
}

impl Place {
    /// Where a span begins; none where the parser does not know.
    pub(crate) fn of(span: Span) -> Option<Self> {
        (span.start.line > 0).then_some(Self { line: span.start.line, column: span.start.column })
    }
}

/// What is wrong with a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Longer, deeper or wider than is looked at.
    #[error("it is too large: {0}")]
    TooLarge(&'static str),
    /// Not a statement at all.
    #[error("it cannot be read: {0}")]
    Syntax(String),
    /// More than one statement, or none.
    #[error("it must be exactly one statement")]
    NotOne,
    /// Not a query.
    #[error("only queries are run")]
    NotAQuery,
    /// Something that is not on the list.
    #[error("{0} is not supported here")]
    NotAllowed(&'static str),
    /// No such table, or none that is declared.
    #[error("there is no table `{0}` here")]
    Table(String),
    /// No such column, or none that is declared.
    #[error("there is no column `{0}` here")]
    Column(String),
    /// A name that could mean several things.
    #[error("`{0}` could mean several things: write where it is from")]
    Ambiguous(String),
    /// A function that is not allowed.
    #[error("the function `{0}` may not be called here")]
    Function(String),
    /// A function with another number of arguments.
    #[error("`{0}` takes another number of arguments")]
    Arguments(String),
    /// A parameter without a value, or a value without a parameter.
    #[error("the parameter `{0}` has no value, or is not used")]
    Parameter(String),
    /// A value that its parameter cannot take.
    #[error("the parameter `{0}` takes another type")]
    ParameterType(String),
}

/// A statement that is not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// Where, if that is known.
    pub at: Option<Place>,
}

impl Refusal {
    pub(crate) fn at(why: Why, span: Span) -> Self {
        Self { why, at: Place::of(span) }
    }
}

impl From<Why> for Refusal {
    fn from(why: Why) -> Self {
        Self { why, at: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)?;
        self.at.map_or(Ok(()), |at| write!(f, " (line {}, character {})", at.line, at.column))
    }
}

/// A name as it is shown: cut, without what could confuse a reader.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(63).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
