//! Words and patterns of a tenant's own.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use bartizan_base::Name;
use bartizan_model::{Detector, DetectorSpec, OnCanary};
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::Look;

use crate::canary::{CANARIES_MAX, Canaries, LENGTH, Unusable};
use crate::find::{Kind, Raw, View};
use crate::fold::folded;

/// Words in one detector.
const WORDS_MAX: usize = 20_000;
/// Patterns in one detector.
const PATTERNS_MAX: usize = 64;
/// Bytes that one pattern may match.
const PATTERN_BYTES_MAX: usize = 256;
/// Bytes that a compiled pattern may take.
const PATTERN_SIZE_MAX: usize = 1 << 20;
/// Bytes around a match that decide whether it is one: the longest character.
const AROUND: usize = 4;

/// A detector of a tenant's own, compiled.
#[derive(Clone, Debug)]
pub struct Custom {
    what: Detector,
    words: Option<Arc<Words>>,
    patterns: Arc<[Pattern]>,
    canaries: Option<Arc<Canaries>>,
    on_canary: OnCanary,
}

#[derive(Debug)]
struct Words {
    all: AhoCorasick,
    /// In lower case and in order, to know what the end of a text may be the beginning of.
    sorted: Vec<Vec<u8>>,
    /// Of every two bytes a bit: whether a word begins with them. Most ends of texts are no beginning of anything.
    pairs: Box<[u64]>,
    longest: usize,
    whole: bool,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    longest: usize,
}

/// Why a detector cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustomError {
    /// Neither words nor patterns.
    #[error("a detector has words, patterns or canaries")]
    Empty,
    /// More than can be searched for.
    #[error("a detector has at most {WORDS_MAX} words, {PATTERNS_MAX} patterns and {CANARIES_MAX} canaries")]
    TooMany,
    /// A canary that is too short to be told from other texts, or too long. It is not repeated: it is no secret, but it works
    /// only as long as it stands nowhere else.
    #[error("a canary has {} to {} letters and digits of ASCII, and not much between them", LENGTH.start(), LENGTH.end())]
    Canary,
    /// A word of which nothing is left once it is folded, or that cannot be searched for.
    #[error("`{0}` is no word to search for")]
    Word(String),
    /// A pattern that is not a regular expression, or too large once compiled.
    #[error("`{pattern}` is not a regular expression that can be used: {why}")]
    Pattern {
        /// As it is written.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// A pattern that can match nothing, or any number of bytes.
    #[error("`{0}` must match 1 to {PATTERN_BYTES_MAX} bytes: write `{{1,64}}` instead of `+` or `*`")]
    Length(String),
    /// A pattern that asks where the text or a line begins or ends, which nobody knows of a text in pieces.
    #[error(
        "`{0}` asks for the beginning or end of a text or line; of what looks around, only `\\b` and `\\B` are taken"
    )]
    Anchor(String),
}

impl Custom {
    /// Compiles what is declared under `name`.
    ///
    /// # Errors
    /// What is wrong with it, with the word or pattern.
    pub fn compile(name: &Name, spec: &DetectorSpec) -> Result<Self, CustomError> {
        if spec.words.is_empty() && spec.patterns.is_empty() && spec.canaries.is_empty() {
            return Err(CustomError::Empty);
        }
        if spec.words.len() > WORDS_MAX
            || spec.patterns.len() > PATTERNS_MAX
            || spec.canaries.len() > CANARIES_MAX
        {
            return Err(CustomError::TooMany);
        }
        let words = if spec.words.is_empty() { None } else { Some(Arc::new(Words::compile(spec)?)) };
        let patterns: Result<Vec<_>, _> =
            spec.patterns.iter().map(|p| Pattern::compile(p.as_str())).collect();
        let canaries = if spec.canaries.is_empty() {
            None
        } else {
            let compiled = Canaries::compile(spec.canaries.iter().map(|canary| canary.as_str()));
            Some(Arc::new(compiled.map_err(|error| match error {
                Unusable::Length => CustomError::Canary,
                Unusable::Built(why) => CustomError::Word(why),
            })?))
        };
        let what = Detector::Custom(name.clone());
        Ok(Self { what, words, patterns: patterns?.into(), canaries, on_canary: spec.on_canary })
    }

    /// Its canaries, and what happens where one is found.
    pub(crate) fn canaries(&self) -> Option<(&Detector, &Arc<Canaries>, OnCanary)> {
        self.canaries.as_ref().map(|canaries| (&self.what, canaries, self.on_canary))
    }

    /// How many places of its own it keeps in a text.
    pub(crate) fn places(&self) -> usize {
        self.patterns.len() + 1
    }

    /// Searches from each place on, and moves it to where it is sure.
    pub(crate) fn find(&self, view: View<'_>, at: &mut [usize], out: &mut Vec<Raw>) {
        let Some((words_at, patterns_at)) = at.split_first_mut() else { return };
        *words_at = match &self.words {
            Some(words) => words.find(view, &self.what, *words_at, out),
            None => view.len(),
        };
        for (pattern, at) in self.patterns.iter().zip(patterns_at) {
            *at = pattern.find(view, &self.what, *at, out);
        }
    }
}

impl Words {
    fn compile(spec: &DetectorSpec) -> Result<Self, CustomError> {
        let mut sorted = Vec::with_capacity(spec.words.len());
        for word in &spec.words {
            let folded = folded(word.as_str().trim()).to_ascii_lowercase();
            if folded.is_empty() {
                return Err(CustomError::Word(word.to_string()));
            }
            sorted.push(folded);
        }
        sorted.sort_unstable();
        sorted.dedup();
        let all = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .build(&sorted)
            .map_err(|error| CustomError::Word(error.to_string()))?;
        let longest = sorted.iter().map(Vec::len).max().unwrap_or(0);
        let mut pairs = vec![0; 1 << 10].into_boxed_slice();
        for (place, bit) in sorted.iter().filter_map(|word| pair(word)) {
            if let Some(bits) = pairs.get_mut(place) {
                *bits |= bit;
            }
        }
        Ok(Self { all, sorted, pairs, longest, whole: spec.whole_words })
    }

    fn find(&self, view: View<'_>, what: &Detector, at: usize, out: &mut Vec<Raw>) -> usize {
        let touched = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || !b.is_ascii());
        let mut sure = view.len();
        let mut all = Vec::new();
        for found in self.all.find_overlapping_iter(view.rest(at)) {
            let (from, to) = (at + found.start(), at + found.end());
            if self.whole && view.is_open(to) {
                // The next character may go on with the word.
                sure = sure.min(from);
            } else if !(self.whole && (touched(view.before(from)) || touched(view.at(to)))) {
                all.push(Raw { from, to, what: Kind::Match(what.clone()) });
            }
        }
        if !view.ends {
            sure = sure.min(self.begun(view));
        }
        // What begins behind it is found again once it is sure.
        out.extend(all.into_iter().filter(|raw| raw.from < sure));
        sure.max(at)
    }

    /// The first place from which the end of the text may be the beginning of a word.
    fn begun(&self, view: View<'_>) -> usize {
        let longest = (self.longest.saturating_sub(1)).min(view.len());
        let tail = view.part(view.len() - longest, view.len()).to_ascii_lowercase();
        let may = |n: &usize| {
            let end = tail.get(tail.len() - n..).unwrap_or_default();
            let begins =
                |(place, bit): (usize, u64)| self.pairs.get(place).is_some_and(|bits| bits & bit != 0);
            if pair(end).is_some_and(|pair| !begins(pair)) {
                return false;
            }
            let next = self.sorted.partition_point(|word| word.as_slice() < end);
            self.sorted.get(next).is_some_and(|word| word.starts_with(end))
        };
        view.len() - (1..=longest).rev().find(may).unwrap_or(0)
    }
}

/// Where the bit of the two bytes is that a text begins with.
fn pair(text: &[u8]) -> Option<(usize, u64)> {
    let [first, second, ..] = text else { return None };
    let number = usize::from(*first) << 8 | usize::from(*second);
    Some((number >> 6, 1 << (number & 63)))
}

impl Pattern {
    fn compile(pattern: &str) -> Result<Self, CustomError> {
        let wrong = |why: String| CustomError::Pattern { pattern: pattern.to_owned(), why };
        let syntax = regex_syntax::parse(pattern).map_err(|error| wrong(brief(&error.to_string())))?;
        let properties = syntax.properties();
        let around = [Look::WordAscii, Look::WordAsciiNegate, Look::WordUnicode, Look::WordUnicodeNegate];
        if properties.look_set().iter().any(|look| !around.contains(&look)) {
            return Err(CustomError::Anchor(pattern.to_owned()));
        }
        let longest = properties.maximum_len().filter(|n| *n <= PATTERN_BYTES_MAX);
        let (Some(longest), Some(1..)) = (longest, properties.minimum_len()) else {
            return Err(CustomError::Length(pattern.to_owned()));
        };
        let regex = RegexBuilder::new(pattern)
            .size_limit(PATTERN_SIZE_MAX)
            .dfa_size_limit(PATTERN_SIZE_MAX)
            .build()
            .map_err(|error| wrong(brief(&error.to_string())))?;
        Ok(Self { regex, longest })
    }

    fn find(&self, view: View<'_>, what: &Detector, at: usize, out: &mut Vec<Raw>) -> usize {
        // Whether a match begins at a place is decided once everything is known that it could reach.
        let mut sure = if view.ends { view.len() } else { view.len().saturating_sub(self.longest + AROUND) };
        while sure > 0 && view.at(sure).is_some_and(|b| b & 0xC0 == 0x80) {
            sure -= 1;
        }
        let mut from = at;
        while let Some(found) = self.regex.find_at(view.bytes, from) {
            if found.start() >= sure && !view.ends {
                break;
            }
            out.push(Raw { from: found.start(), to: found.end(), what: Kind::Match(what.clone()) });
            from = found.end();
        }
        sure.max(from)
    }
}

/// The last line of a message: of an error in a pattern the one that says what it is.
fn brief(message: &str) -> String {
    message.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}
