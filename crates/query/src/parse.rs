//! From text to a query. The grammar stands in `grammar.md`, which is a part of the reference page.

use std::str::FromStr;

use crate::error::{Problem, QueryError};
use crate::field::Field;
use crate::read::{Reader, is_bare, is_value, shown};
use crate::tree::{Condition, Node, Pattern, Query, Test};
use crate::value::{self, Operator};
use crate::words::Phrase;

/// The longest query, in bytes.
pub const TEXT_MAX: usize = 4_096;
/// How deep parentheses may nest.
pub const DEPTH_MAX: usize = 32;
/// How many conditions, values of lists and phrases a query may hold in all.
pub const TERMS_MAX: usize = 100;

/// How long the beginning of a word must be: shorter ones would stand for most of the ledger.
const BEGINNING_MIN: usize = 2;

impl FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        if text.len() > TEXT_MAX {
            return Err(QueryError { at: TEXT_MAX, problem: Problem::TooLong(TEXT_MAX) });
        }
        if text.trim().is_empty() {
            return Ok(Self::everything());
        }
        let mut parser = Parser { reader: Reader::new(text), depth: 0, terms: 0 };
        let node = parser.any()?;
        match parser.reader.next() {
            None => Ok(Self::new(node)),
            Some(_) => Err(parser.reader.expected("a field, text, `(` or the end")),
        }
    }
}

struct Parser<'a> {
    reader: Reader<'a>,
    depth: usize,
    terms: usize,
}

impl Parser<'_> {
    /// `all { "or" all }`; leaves the reader behind any space.
    fn any(&mut self) -> Result<Node, QueryError> {
        let mut parts = vec![self.all()?];
        while self.reader.eat_word("or") {
            parts.push(self.all()?);
        }
        Ok(Node::any(parts))
    }

    /// `one { [ "and" ] one }`; leaves the reader behind any space.
    fn all(&mut self) -> Result<Node, QueryError> {
        let mut parts = vec![self.one()?];
        loop {
            self.reader.skip_space();
            let mut ahead = self.reader;
            if matches!(ahead.next(), None | Some(')')) || ahead.eat_word("or") {
                return Ok(Node::all(parts));
            }
            self.reader.eat_word("and");
            parts.push(self.one()?);
        }
    }

    /// `{ "not" | "-" } ( group | condition | text )`.
    fn one(&mut self) -> Result<Node, QueryError> {
        let mut negated = false;
        loop {
            self.reader.skip_space();
            if !self.reader.eat("-") && !self.reader.eat_word("not") {
                break;
            }
            negated = !negated;
        }
        let node = match self.reader.next() {
            Some('(') => self.group()?,
            Some('"') => {
                let at = self.reader.at();
                let text = self.reader.quoted()?;
                self.phrase(at, &text)?
            }
            _ => self.word()?,
        };
        Ok(if negated { node.not() } else { node })
    }

    fn group(&mut self) -> Result<Node, QueryError> {
        let at = self.reader.at();
        self.reader.eat("(");
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(QueryError { at, problem: Problem::TooDeep(DEPTH_MAX) });
        }
        let node = self.any()?;
        if !self.reader.eat(")") {
            return Err(self.reader.expected("`)`"));
        }
        self.depth -= 1;
        Ok(node)
    }

    /// A condition, or a word that is looked for.
    fn word(&mut self) -> Result<Node, QueryError> {
        let at = self.reader.at();
        let word = self.reader.take(is_bare);
        let mut ahead = self.reader;
        ahead.skip_space();
        match Operator::read(&mut ahead) {
            Some(operator) if !word.is_empty() => {
                self.reader = ahead;
                self.condition(at, word, operator).map(Node::Field)
            }
            _ if word.is_empty() => Err(self.reader.expected("a field, text or `(`")),
            _ => {
                // The keywords end here as words: `and or` is a slip, not a search for "or".
                if ["and", "or"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
                    && self.reader.next() != Some('*')
                {
                    let found = format!("`{}`", shown(word));
                    let problem = Problem::Expected { expected: "a field, text or `(`", found };
                    return Err(QueryError { at, problem });
                }
                self.phrase(at, word)
            }
        }
    }

    fn phrase(&mut self, at: usize, text: &str) -> Result<Node, QueryError> {
        self.count(at)?;
        let prefix = self.reader.eat("*");
        let phrase = Phrase::of(text, prefix).ok_or(QueryError { at, problem: Problem::NoWords })?;
        if prefix && phrase.last_len() < BEGINNING_MIN {
            return Err(QueryError { at, problem: Problem::ShortBeginning(BEGINNING_MIN) });
        }
        self.reader.ended()?;
        Ok(Node::Text(phrase))
    }

    fn condition(&mut self, at: usize, name: &str, operator: Operator) -> Result<Condition, QueryError> {
        let (field, operator) = match (name.to_ascii_lowercase().as_str(), operator) {
            ("since", Operator::Is) => (Field::Time, Operator::AtLeast),
            ("until", Operator::Is) => (Field::Time, Operator::Below),
            ("since" | "until", _) => return Err(self.reader.expected("`:` after `since` and `until`")),
            (name, operator) => (Field::find(name).ok_or_else(|| unknown_field(at, name))?, operator),
        };
        self.reader.skip_space();
        let test = match operator {
            Operator::Is => Test::Some(self.patterns(field)?),
            Operator::IsNot => Test::None(self.patterns(field)?),
            comparison => Test::Some(vec![self.comparison(at, field, comparison)?]),
        };
        Ok(Condition { field, test })
    }

    /// One value, or a list of them in parentheses.
    fn patterns(&mut self, field: Field) -> Result<Vec<Pattern>, QueryError> {
        if !self.reader.eat("(") {
            let pattern = self.pattern(field)?;
            self.reader.ended()?;
            return Ok(vec![pattern]);
        }
        let mut patterns = Vec::new();
        loop {
            self.reader.skip_space();
            patterns.push(self.pattern(field)?);
            self.reader.skip_space();
            if self.reader.eat(")") {
                return Ok(patterns);
            }
            if !self.reader.eat(",") {
                return Err(self.reader.expected("`,` or `)`"));
            }
        }
    }

    fn pattern(&mut self, field: Field) -> Result<Pattern, QueryError> {
        let at = self.reader.at();
        self.count(at)?;
        let pattern = if self.reader.next() == Some('"') {
            let text = self.reader.quoted()?;
            let prefix = self.reader.eat("*");
            value::quoted(field, &text, prefix)
        } else {
            match self.reader.take(is_value) {
                "" => return Err(self.reader.expected("a value")),
                text => value::bare(field, text),
            }
        };
        pattern.map_err(|problem| QueryError { at, problem })
    }

    fn comparison(&mut self, at: usize, field: Field, operator: Operator) -> Result<Pattern, QueryError> {
        if !field.value_type().is_ordered() {
            return Err(QueryError { at, problem: Problem::NotOrdered(field.name()) });
        }
        let at = self.reader.at();
        self.count(at)?;
        let text = match self.reader.next() {
            Some('"') => self.reader.quoted()?,
            Some('(') => return Err(QueryError { at, problem: Problem::OneValue(operator.symbol()) }),
            _ => self.reader.take(is_value).to_owned(),
        };
        if text.is_empty() {
            return Err(self.reader.expected("a value"));
        }
        self.reader.ended()?;
        value::compared(field, operator, &text).map_err(|problem| QueryError { at, problem })
    }

    const fn count(&mut self, at: usize) -> Result<(), QueryError> {
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(QueryError { at, problem: Problem::TooMany(TERMS_MAX) });
        }
        Ok(())
    }
}

fn unknown_field(at: usize, name: &str) -> QueryError {
    let names = Field::ALL.iter().map(|field| field.name()).chain(["since", "until"]);
    let near = value::nearest(name, names.map(Into::into));
    QueryError { at, problem: Problem::UnknownField { name: shown(name), near } }
}
