//! Where the rules of a bundle are written.

use std::ops::Range;
use std::sync::Arc;

use cedar_policy::Policy;

use crate::bundle::Rule;
use crate::diagnostic::{BundleError, statements, within};

/// The place of one statement.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    file: &'a str,
    text: &'a str,
    span: Range<usize>,
    /// On which line it begins, from 1.
    line: usize,
}

impl<'a> Place<'a> {
    /// The statements of a file, and whether there is something after the last one that is none.
    pub(super) fn all(file: &'a str, text: &'a str) -> (Vec<Self>, bool) {
        let (spans, rest) = statements(text);
        let (mut from, mut line) = (0, 1);
        let place = |span: Range<usize>| {
            let between = text.as_bytes().get(from..span.start).unwrap_or_default();
            line += between.iter().filter(|byte| **byte == b'\n').count();
            from = span.start;
            Self { file, text, span, line }
        };
        (spans.into_iter().map(place).collect(), rest)
    }

    /// What stands there.
    pub(super) fn words(&self) -> &'a str {
        self.text.get(self.span.clone()).unwrap_or_default()
    }

    /// A message about `part` of the statement, a text that stands in it.
    pub(super) fn about(&self, part: &str, message: impl Into<String>) -> BundleError {
        self.message(within(self.text, &self.span, part), message)
    }

    /// A message about a part of the statement, in bytes from its beginning; about `otherwise`, a text that stands in it, where
    /// there is no such part.
    pub(super) fn about_span(
        &self,
        part: Option<Range<usize>>,
        otherwise: &str,
        message: impl Into<String>,
    ) -> BundleError {
        let moved = part.map(|part| part.start + self.span.start..part.end + self.span.start);
        match moved.filter(|part| part.end <= self.span.end) {
            Some(part) => self.message(part, message),
            None => self.about(otherwise, message),
        }
    }

    fn message(&self, span: Range<usize>, message: impl Into<String>) -> BundleError {
        BundleError::after(self.file, self.text, (self.span.start, self.line), span, message)
    }
}

/// A rule with the place where it is written.
pub(crate) struct Placed<'a> {
    pub(super) place: Place<'a>,
    pub(crate) rule: Arc<Rule>,
    /// As it is written, with the places of its parts, for messages. None for a rule that was taken over: nothing is wrong
    /// with it.
    pub(super) written: Option<Policy>,
}

impl Placed<'_> {
    /// A message about `part` of the rule, a text that stands in it.
    pub(crate) fn about(&self, part: &str, message: &str) -> BundleError {
        self.place.about(part, format!("`{}`: {message}", self.rule.id))
    }
}
