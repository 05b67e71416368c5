//! What is wrong with a query, and where.

/// Why a text is not a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at byte {at})")]
pub struct QueryError {
    /// Where it begins, in bytes from the start of the text.
    pub at: usize,
    /// What it is.
    pub problem: Problem,
}

/// What is wrong with a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Longer than the limit in bytes.
    #[error("a query has at most {0} bytes")]
    TooLong(usize),
    /// Parentheses nested deeper than the limit.
    #[error("parentheses nest at most {0} deep")]
    TooDeep(usize),
    /// More conditions, values and phrases than the limit.
    #[error("a query has at most {0} conditions, values and phrases")]
    TooMany(usize),
    /// Something else stands here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What should stand here.
        expected: &'static str,
        /// What does, shortened.
        found: String,
    },
    /// No field has that name.
    #[error("there is no field `{name}`{}; to look for text, put it in quotes", meant(near.as_deref()))]
    UnknownField {
        /// What was written, shortened.
        name: String,
        /// The field that was meant, perhaps.
        near: Option<String>,
    },
    /// A value that the field cannot have.
    #[error("`{value}` is not a value of `{field}`: expected {expected}{}", meant(near.as_deref()))]
    NotAValue {
        /// The field.
        field: &'static str,
        /// What was written, shortened.
        value: String,
        /// What its values are.
        expected: &'static str,
        /// The word that was meant, perhaps.
        near: Option<String>,
    },
    /// A comparison of a field whose values have no order.
    #[error("the values of `{0}` have no order: use `:` or `!=`")]
    NotOrdered(&'static str),
    /// A comparison with something else than one value.
    #[error("`{0}` is followed by one value, not by a list, range or wildcard")]
    OneValue(&'static str),
    /// A range that no value can lie in.
    #[error("no value of `{0}` lies in this range")]
    EmptyRange(&'static str),
    /// A wildcard that is not the last character.
    #[error("a wildcard stands at the end only; put `*` in quotes to mean the character")]
    Wildcard,
    /// Text without any letter or digit.
    #[error("text is looked for by its words, and this has no letter or digit")]
    NoWords,
    /// The beginning of a word is too short to look for.
    #[error("the beginning of a word has at least {0} letters or digits")]
    ShortBeginning(usize),
    /// A quote that is not closed.
    #[error("this quote is not closed")]
    OpenQuote,
    /// A backslash before something else than a quote or a backslash.
    #[error("within quotes, `\\` stands before `\"` or `\\` only")]
    Escape,
}

fn meant(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}
