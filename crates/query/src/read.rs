//! Reading a query's text from left to right.

use crate::error::{Problem, QueryError};

/// The longest piece of a query that an error repeats, in characters.
const SHOWN_MAX: usize = 40;

/// What is left of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, rest: text }
    }

    /// Where the rest begins, in bytes.
    pub(crate) const fn at(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    pub(crate) fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    pub(crate) fn next(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Goes past `token` if it stands here.
    pub(crate) fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Goes past everything that is `wanted`, and gives it.
    pub(crate) fn take(&mut self, wanted: fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Goes past a keyword, in lower or upper case, if it stands here as a word of its own.
    pub(crate) fn eat_word(&mut self, keyword: &str) -> bool {
        let mut ahead = *self;
        let found = ahead.take(is_bare).eq_ignore_ascii_case(keyword) && ahead.next() != Some('*');
        if found {
            *self = ahead;
        }
        found
    }

    /// Goes past quoted text, and gives what it means.
    pub(crate) fn quoted(&mut self) -> Result<String, QueryError> {
        let at = self.at();
        let mut out = String::new();
        let mut chars = self.rest.chars();
        chars.next();
        loop {
            let rest = chars.as_str();
            match chars.next() {
                Some('"') => {
                    self.rest = chars.as_str();
                    return Ok(out);
                }
                Some('\\') => match chars.next() {
                    Some(c @ ('"' | '\\')) => out.push(c),
                    _ => {
                        return Err(QueryError {
                            at: self.text.len() - rest.len(),
                            problem: Problem::Escape,
                        });
                    }
                },
                Some(c) => out.push(c),
                None => return Err(QueryError { at, problem: Problem::OpenQuote }),
            }
        }
    }

    /// The error that something else than `expected` stands here.
    pub(crate) fn expected(&self, expected: &'static str) -> QueryError {
        let found =
            if self.rest.is_empty() { "the end".to_owned() } else { format!("`{}`", shown(self.rest)) };
        QueryError { at: self.at(), problem: Problem::Expected { expected, found } }
    }

    /// Refuses what clings to the end of a value or phrase: `a"b"` would be two things that look like one.
    pub(crate) fn ended(&self) -> Result<(), QueryError> {
        match self.next() {
            None | Some(')' | ',') => Ok(()),
            Some(c) if c.is_whitespace() => Ok(()),
            Some('*') => Err(QueryError { at: self.at(), problem: Problem::Wildcard }),
            Some(_) => Err(self.expected("a space, `)` or the end")),
        }
    }
}

/// As much of `text` as an error repeats. A query may be anybody's, such as that of a saved view: control characters are
/// spelled out, so that none reaches the terminal of whoever reads the error.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (place, c) in text.chars().enumerate() {
        if place >= SHOWN_MAX {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out
}

/// What names and words without quotes are made of.
pub(crate) fn is_bare(c: char) -> bool {
    is_value(c) && !matches!(c, ':' | '*')
}

/// What values without quotes are made of.
pub(crate) fn is_value(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '(' | ')' | ',' | '"' | '=' | '!' | '<' | '>')
}
