//! What finders have in common.

use bartizan_model::Detector;

/// A text as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) bytes: &'a [u8],
    /// Nothing follows.
    pub(crate) ends: bool,
}

/// A match: folded bytes from where up to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) what: Kind,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something to be masked.
    Match(Detector),
    /// A token of ours, from which the value may come back.
    Token,
}

impl<'a> View<'a> {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn at(&self, place: usize) -> Option<u8> {
        self.bytes.get(place).copied()
    }

    pub(crate) fn before(&self, place: usize) -> Option<u8> {
        self.at(place.checked_sub(1)?)
    }

    pub(crate) fn part(&self, from: usize, to: usize) -> &'a [u8] {
        self.bytes.get(from..to.min(self.bytes.len())).unwrap_or_default()
    }

    pub(crate) fn rest(&self, from: usize) -> &'a [u8] {
        self.bytes.get(from..).unwrap_or_default()
    }

    /// Where the run of such bytes that ends before `place` begins, at most `most` bytes back.
    pub(crate) fn back(&self, place: usize, most: usize, is: impl Fn(u8) -> bool) -> usize {
        let run = self.part(place.saturating_sub(most), place).iter().rev().take_while(|b| is(**b)).count();
        place - run
    }

    /// Where the run of such bytes that begins at `place` ends, at most `most` bytes on.
    pub(crate) fn on(&self, place: usize, most: usize, is: impl Fn(u8) -> bool) -> usize {
        place + self.rest(place).iter().take(most).take_while(|b| is(**b)).count()
    }

    /// Whether more could follow what ends at `place`.
    pub(crate) fn is_open(&self, place: usize) -> bool {
        place >= self.len() && !self.ends
    }

    /// Whether one of `words`, which are lower case, stands shortly before `place`. What was masked already is a border, so
    /// that masking again finds nothing new.
    pub(crate) fn follows(&self, place: usize, words: &[&str]) -> bool {
        let near = self.part(place.saturating_sub(NEAR), place);
        let near = near.iter().rposition(|b| *b == b']').and_then(|at| near.get(at..)).unwrap_or(near);
        let near = near.to_ascii_lowercase();
        words.iter().any(|word| memchr::memmem::find(&near, word.as_bytes()).is_some())
    }
}

/// How near a word has to be to say what a number is.
const NEAR: usize = 48;

/// What words are made of.
pub(crate) const fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}
