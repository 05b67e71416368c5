//! Filters (RFC 7644, 3.4.2.2): read into a tree, bounded in length, depth and number of comparisons.

use serde_json::{Number, Value};

use crate::error::{ScimError, ScimType};
use crate::lex::{Token, tokens};
use crate::path::Target;
use crate::schema::{Kind, Type};

/// How deep brackets and negations may nest.
const DEPTH_MAX: usize = 16;
/// Comparisons of one filter at the most.
const TERMS_MAX: usize = 64;

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Equal.
    Eq,
    /// Not equal: no value is.
    Ne,
    /// Contains.
    Co,
    /// Starts with.
    Sw,
    /// Ends with.
    Ew,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
}

impl Compare {
    const ALL: &[(&str, Self)] = &[
        ("eq", Self::Eq),
        ("ne", Self::Ne),
        ("co", Self::Co),
        ("sw", Self::Sw),
        ("ew", Self::Ew),
        ("gt", Self::Gt),
        ("ge", Self::Ge),
        ("lt", Self::Lt),
        ("le", Self::Le),
    ];

    fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, compare)| *compare)
    }
}

/// A filter, resolved against the schema.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Both hold.
    And(Box<Self>, Box<Self>),
    /// One holds.
    Or(Box<Self>, Box<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// There is a value.
    Present(Target),
    /// A value compares so.
    Compare(Target, Compare, Value),
    /// One and the same value of the attribute fits the filter.
    Within(Target, Box<Self>),
}

impl Filter {
    /// Reads a filter for resources of `kind`.
    ///
    /// # Errors
    /// `invalidFilter`: it is not one, names what is not there, compares what cannot be compared, or is too large.
    pub fn parse(kind: &Kind, text: &str) -> Result<Self, ScimError> {
        let words = tokens(text).map_err(wrong)?;
        Reader { scope: Scope::Kind(*kind), words: &words, terms: 0 }.whole()
    }

    /// The comparisons of a filter that only joins equalities by `and`: what a value must be to fit it.
    #[must_use]
    pub fn equalities(&self) -> Option<Vec<(Target, &Value)>> {
        match self {
            Self::Compare(target, Compare::Eq, value) => Some(vec![(*target, value)]),
            Self::And(left, right) => {
                let mut both = left.equalities()?;
                both.extend(right.equalities()?);
                Some(both)
            }
            _ => None,
        }
    }
}

fn wrong(what: &str) -> ScimError {
    ScimError::new(ScimType::InvalidFilter, format!("the filter is wrong: {what}"))
}

/// What names mean.
#[derive(Clone, Copy)]
enum Scope {
    /// Attributes of a type of resource.
    Kind(Kind),
    /// Parts of an attribute.
    Parts(Target),
}

/// Reads words, one by one.
pub(crate) struct Reader<'a> {
    scope: Scope,
    words: &'a [Token],
    terms: usize,
}

impl<'a> Reader<'a> {
    /// Reads what stands in brackets after an attribute.
    pub(crate) const fn within(target: Target, words: &'a [Token]) -> Self {
        Reader { scope: Scope::Parts(target), words, terms: 0 }
    }

    /// The filter that all the words make.
    pub(crate) fn whole(mut self) -> Result<Filter, ScimError> {
        let filter = self.or(0)?;
        if self.words.is_empty() { Ok(filter) } else { Err(wrong("there is something after its end")) }
    }

    fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let fits =
            matches!(self.words.first(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        if fits {
            self.next();
        }
        fits
    }

    fn or(&mut self, depth: usize) -> Result<Filter, ScimError> {
        let mut left = self.and(depth)?;
        while self.takes("or") {
            left = Filter::Or(Box::new(left), Box::new(self.and(depth)?));
        }
        Ok(left)
    }

    fn and(&mut self, depth: usize) -> Result<Filter, ScimError> {
        let mut left = self.term(depth)?;
        while self.takes("and") {
            left = Filter::And(Box::new(left), Box::new(self.term(depth)?));
        }
        Ok(left)
    }

    fn term(&mut self, depth: usize) -> Result<Filter, ScimError> {
        self.terms += 1;
        if depth >= DEPTH_MAX || self.terms > TERMS_MAX {
            return Err(wrong("it is too deep or too large"));
        }
        let negated =
            matches!(self.words, [Token::Word(word), Token::Open, ..] if word.eq_ignore_ascii_case("not"));
        if negated {
            self.next();
            return Ok(Filter::Not(Box::new(self.term(depth + 1)?)));
        }
        match self.next() {
            Some(Token::Open) => {
                let inner = self.or(depth + 1)?;
                match self.next() {
                    Some(Token::Close) => Ok(inner),
                    _ => Err(wrong("a `(` without its `)`")),
                }
            }
            Some(Token::Word(name)) => self.expression(name, depth),
            _ => Err(wrong("an attribute is missing")),
        }
    }

    fn expression(&mut self, name: &str, depth: usize) -> Result<Filter, ScimError> {
        let target = self.resolve(name).ok_or_else(|| wrong("it names an attribute that is not there"))?;
        if matches!(self.words.first(), Some(Token::From)) {
            return self.bracket(target, depth);
        }
        match self.next() {
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("pr") => Ok(Filter::Present(target)),
            Some(Token::Word(word)) => {
                let compare = Compare::named(word).ok_or_else(|| wrong("an operator that is not one"))?;
                let value = self.value()?;
                comparison(target.compared(), compare, value)
            }
            _ => Err(wrong("an operator is missing")),
        }
    }

    fn bracket(&mut self, target: Target, depth: usize) -> Result<Filter, ScimError> {
        let filtered = target.part.is_none() && target.attribute.kind == Type::Complex;
        if !filtered || matches!(self.scope, Scope::Parts(_)) {
            return Err(wrong("a `[` after what has no parts"));
        }
        self.next();
        let outer = std::mem::replace(&mut self.scope, Scope::Parts(target));
        let inner = self.or(depth + 1)?;
        self.scope = outer;
        match self.next() {
            Some(Token::To) => Ok(Filter::Within(target, Box::new(inner))),
            _ => Err(wrong("a `[` without its `]`")),
        }
    }

    fn resolve(&self, name: &str) -> Option<Target> {
        match self.scope {
            Scope::Kind(kind) => Target::parse(&kind, name),
            Scope::Parts(target) => Some(Target { part: Some(target.attribute.part(name)?), ..target }),
        }
    }

    fn value(&mut self) -> Result<Value, ScimError> {
        let unknown = || wrong("a value that is neither text, number, `true`, `false` nor `null`");
        match self.next() {
            Some(Token::Text(text)) => Ok(Value::String(text.clone())),
            Some(Token::Word(word)) if word == "true" => Ok(Value::Bool(true)),
            Some(Token::Word(word)) if word == "false" => Ok(Value::Bool(false)),
            Some(Token::Word(word)) if word == "null" => Ok(Value::Null),
            Some(Token::Word(word)) => {
                serde_json::from_str::<Number>(word).map(Value::Number).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }
}

/// Values of an attribute's type alone are compared with it, and only in ways that mean something.
fn comparison(target: Target, compare: Compare, value: Value) -> Result<Filter, ScimError> {
    let leaf = target.leaf();
    let equality = matches!(compare, Compare::Eq | Compare::Ne);
    let ordered = !matches!(compare, Compare::Co | Compare::Sw | Compare::Ew);
    let fits = match (&value, leaf.kind) {
        (Value::Null, _) | (Value::Bool(_), Type::Boolean) => equality,
        (Value::String(_), Type::String | Type::Reference) => true,
        (Value::String(text), Type::DateTime) => {
            ordered && bartizan_base::Timestamp::parse_rfc3339(text).is_ok()
        }
        (Value::Number(_), Type::Integer) => ordered,
        // Some clients write `"True"`.
        (Value::String(text), Type::Boolean) => {
            let flag = Value::Bool(text.eq_ignore_ascii_case("true"));
            let known = text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
            if equality && known {
                return Ok(Filter::Compare(target, compare, flag));
            }
            false
        }
        _ => false,
    };
    if fits {
        Ok(Filter::Compare(target, compare, value))
    } else {
        Err(wrong("the attribute cannot be compared with that in that way"))
    }
}
