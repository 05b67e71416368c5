//! Detection, segment by segment.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use bartizan_model::Detector;
use regex::Regex;

/// The longest segment that is searched, in bytes. An e-mail address has at most 254 (RFC 5321), a number far less.
/// A longer run without a break is replaced whole: what cannot be searched is not released.
pub(crate) const SEGMENT_MAX: usize = 256;

/// What replaces a run that is too long to be searched.
pub(crate) const TOO_LONG: &str = "[long]";

/// Masks e-mail addresses, telephone numbers and payment card numbers.
///
/// A text falls into *segments*: runs of the ASCII characters that matches are made of (letters, digits and
/// `. _ % + - @ ( ) /`), where runs that hold a digit are joined over single spaces, since numbers are written so. No match
/// crosses a segment's border.
///
/// Recognised are: e-mail addresses; card numbers of 13 to 19 digits, in one piece or in groups separated by spaces or
/// hyphens, whose check digit holds (ISO/IEC 7812); telephone numbers of 7 to 15 digits that begin with `+`, `00`, `0` or `(`,
/// or are grouped as 3-3-4 digits. Dates and plain identifiers are left alone.
#[derive(Clone, Debug)]
pub struct Masker {
    detectors: BTreeSet<Detector>,
}

/// A masked text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked<'a> {
    /// The text, matches replaced by `[email]`, `[phone]`, `[card]`.
    pub text: Cow<'a, str>,
    /// How many matches there were.
    pub count: u64,
}

impl Masker {
    /// A masker for these detectors.
    #[must_use]
    pub fn new(detectors: &BTreeSet<Detector>) -> Self {
        Self { detectors: detectors.clone() }
    }

    /// Masks a whole text.
    #[must_use]
    pub fn mask<'a>(&self, text: &'a str) -> Masked<'a> {
        if !text.bytes().any(|b| b == b'@' || b.is_ascii_digit()) && !has_long_run(text) {
            return Masked { text: Cow::Borrowed(text), count: 0 };
        }
        let mut out = String::with_capacity(text.len());
        let mut count = 0;
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|r| !r.is_empty()) {
            let segment = Segment::first(rest);
            count += self.segment(rest, segment, &mut out);
            at += segment.length;
        }
        if count == 0 {
            Masked { text: Cow::Borrowed(text), count }
        } else {
            Masked { text: Cow::Owned(out), count }
        }
    }

    /// Masks the first segment of `text` into `out`.
    pub(crate) fn segment(&self, text: &str, segment: Segment, out: &mut String) -> u64 {
        if segment.too_long {
            out.push_str(TOO_LONG);
            return 1;
        }
        let segment = text.get(..segment.length).unwrap_or(text);
        let mut found: Vec<(Range<usize>, Detector)> = Vec::new();
        for detector in [Detector::Email, Detector::Card, Detector::Phone] {
            if self.detectors.contains(&detector) {
                for range in matches(detector, segment) {
                    if !found.iter().any(|(f, _)| f.start < range.end && range.start < f.end) {
                        found.push((range, detector));
                    }
                }
            }
        }
        found.sort_by_key(|(range, _)| range.start);
        let mut from = 0;
        for (range, detector) in &found {
            out.push_str(segment.get(from..range.start).unwrap_or_default());
            out.push('[');
            out.push_str(detector.name());
            out.push(']');
            from = range.end;
        }
        out.push_str(segment.get(from..).unwrap_or_default());
        found.len() as u64
    }
}

/// Whether a match can contain the character.
pub(crate) const fn in_run(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '@' | '(' | ')' | '/')
}

fn has_long_run(text: &str) -> bool {
    text.len() > SEGMENT_MAX && text.split(|c| !in_run(c)).any(|run| run.len() > SEGMENT_MAX)
}

/// The first segment of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// Its length in bytes.
    pub(crate) length: usize,
    /// Whether it is longer than can be searched: a run of more than [`SEGMENT_MAX`] bytes, or numbers that go on beyond
    /// that when joined.
    pub(crate) too_long: bool,
}

impl Segment {
    /// The segment at the beginning of `text`, which is not empty.
    pub(crate) fn first(text: &str) -> Self {
        if !text.starts_with(in_run) {
            return Self { length: text.find(in_run).unwrap_or(text.len()), too_long: false };
        }
        let mut length = run_len(text);
        if length > SEGMENT_MAX {
            return Self { length, too_long: true };
        }
        let mut numeric = has_digit(text);
        while numeric {
            let Some(next) =
                text.get(length..).and_then(|rest| rest.strip_prefix(' ')).filter(|r| r.starts_with(in_run))
            else {
                break;
            };
            numeric = has_digit(next);
            if numeric && length + 1 + run_len(next) > SEGMENT_MAX {
                return Self { length, too_long: true };
            }
            if numeric {
                length += 1 + run_len(next);
            }
        }
        Self { length, too_long: false }
    }
}

pub(crate) fn run_len(text: &str) -> usize {
    text.find(|c| !in_run(c)).unwrap_or(text.len())
}

/// Whether the run at the beginning of `text` holds a digit, as far as it is searched.
pub(crate) fn has_digit(text: &str) -> bool {
    text.bytes().take(run_len(text).min(SEGMENT_MAX)).any(|b| b.is_ascii_digit())
}

fn matches(detector: Detector, segment: &str) -> Vec<Range<usize>> {
    static EMAIL: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"[A-Za-z0-9._%+\-]+@[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?\.[A-Za-z]{2,}").ok()
    });
    static DIGITS: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"[0-9](?:[ \-]?[0-9]){12,18}").ok());
    static PHONE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"[+(]*[0-9](?:[ .()/\-]{0,3}[0-9]){6,14}").ok());
    let (expression, accept): (_, fn(&str, Range<usize>) -> bool) = match detector {
        Detector::Email => (&EMAIL, |_, _| true),
        Detector::Card => (&DIGITS, is_card),
        Detector::Phone => (&PHONE, is_phone),
    };
    let found = expression.as_ref().map(|e| e.find_iter(segment).map(|m| m.range()).collect::<Vec<_>>());
    found.unwrap_or_default().into_iter().filter(|range| accept(segment, range.clone())).collect()
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// Whether letters or digits touch the range, so that it is part of something longer.
fn embedded(segment: &str, range: &Range<usize>) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    word(segment.get(..range.start).and_then(|s| s.chars().next_back()))
        || word(segment.get(range.end..).and_then(|s| s.chars().next()))
}

fn is_card(segment: &str, range: Range<usize>) -> bool {
    let digits = digits(segment.get(range.clone()).unwrap_or_default());
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| if i % 2 == 0 { *d } else { d * 2 / 10 + d * 2 % 10 })
        .sum();
    !embedded(segment, &range)
        && sum.is_multiple_of(10)
        && digits.first().is_some_and(|d| (2..=6).contains(d))
}

fn is_phone(segment: &str, range: Range<usize>) -> bool {
    let text = segment.get(range.clone()).unwrap_or_default();
    let count = digits(text).len();
    let groups: Vec<usize> =
        text.split(|c: char| !c.is_ascii_digit()).map(str::len).filter(|n| *n > 0).collect();
    let opens = text.starts_with(['+', '(', '0']);
    let national = matches!(groups.as_slice(), [3, 3, 4] | [1, 3, 3, 4]);
    let date = matches!(groups.as_slice(), [4, 2, 2] | [2, 2, 4] | [1 | 2, 1 | 2, 4] | [4, 2, 2, ..])
        && !text.starts_with('+');
    !embedded(segment, &range) && (7..=15).contains(&count) && !date && (opens || national)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(text: &str) -> String {
        Masker::new(&Detector::ALL.iter().copied().collect()).mask(text).text.into_owned()
    }

    #[test]
    fn personal_data_is_masked() {
        for (text, expected) in [
            ("write to ann.lee+x@mail.example.org, please", "write to [email], please"),
            ("{\"to\":\"a@b.co\"}", "{\"to\":\"[email]\"}"),
            ("card 4111 1111 1111 1111.", "card [card]."),
            ("card 4111-1111-1111-1111", "card [card]"),
            ("5555555555554444", "[card]"),
            ("call +49 30 901820 now", "call [phone] now"),
            ("call (212) 555-0188", "call [phone]"),
            ("call 212-555-0188", "call [phone]"),
            ("tel. 030/901820", "tel. [phone]"),
            ("ünïcode é@b.example", "ünïcode é@b.example"),
        ] {
            assert_eq!(mask(text), expected);
        }
    }

    #[test]
    fn dates_versions_ids_and_wrong_check_digits_stay() {
        for text in [
            "2026-11-20",
            "20.11.2026",
            "v1.2.3",
            "order 12345678",
            "4111 1111 1111 1112",
            "key_0193abc1234567",
            "10 20 30",
            "192.168.1.1",
            "no at sign",
            "a@b",
            "@",
            "3.14159265",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn a_run_too_long_to_search_is_not_released() {
        let long = "a".repeat(300);
        assert_eq!(mask(&format!("x {long}@b.example y")), "x [long] y");
        assert_eq!(mask(&format!("{long} y")), "[long] y");
    }

    #[test]
    fn masking_twice_is_masking_once() {
        let once = mask("a@b.example 4111 1111 1111 1111 +49 30 901820");
        assert_eq!(mask(&once), once);
    }
}
