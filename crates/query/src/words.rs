//! Text as words: what quoted text is held against.

use std::fmt;

/// Stands between the values in the text of an entry, so that no phrase reaches from one
/// into the next. Neither letter nor digit, so it is never part of a word.
pub const BARRIER: char = '¶';

/// Words that stand next to each other, in this order, in one text value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phrase {
    words: String,
    prefix: bool,
}

impl Phrase {
    /// The phrase of the words in `text`; the last may go on if `prefix`. None if there are no words.
    #[must_use]
    pub fn of(text: &str, prefix: bool) -> Option<Self> {
        let mut words = String::new();
        push(&mut words, text);
        (!words.is_empty()).then_some(Self { words, prefix })
    }

    /// The words in lower case, with one space between them.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Whether the last word may go on.
    #[must_use]
    pub const fn is_prefix(&self) -> bool {
        self.prefix
    }

    /// How long the last word is, in characters.
    pub(crate) fn last_len(&self) -> usize {
        self.words.rsplit(' ').next().map_or(0, |word| word.chars().count())
    }

    /// Whether `text`, made by [`joined`], holds the phrase.
    pub(crate) fn stands_in(&self, text: &str) -> bool {
        let end = if self.prefix { "" } else { " " };
        text.contains(&format!(" {}{end}", self.words))
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"{}", self.words, if self.prefix { "*" } else { "" })
    }
}

/// The words of all `values`, a [`BARRIER`] around each value and a space around everything.
pub(crate) fn joined<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let mut out = format!(" {BARRIER} ");
    for value in values {
        let before = out.len();
        push(&mut out, value);
        if out.len() > before {
            out.extend([' ', BARRIER, ' ']);
        }
    }
    out
}

/// Appends the words of `text`. A word is a run of letters and digits (Unicode), in lower case.
///
/// Characters are put in lower case one by one and only then told apart: so the words of words are the same words.
fn push(out: &mut String, text: &str) {
    let (start, mut gap) = (out.len(), false);
    for c in text.chars().flat_map(char::to_lowercase) {
        if !c.is_alphanumeric() {
            gap = true;
            continue;
        }
        if gap && out.len() > start {
            out.push(' ');
        }
        gap = false;
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<String> {
        Phrase::of(text, false).map(|phrase| phrase.words)
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        assert_eq!(words("GPT-4o, assurance_too_low!"), Some("gpt 4o assurance too low".to_owned()));
        assert_eq!(words("  Ünïcode  名前 "), Some("ünïcode 名前".to_owned()));
        assert_eq!(words("-- _ ¶ \u{0}"), None);
    }

    #[test]
    fn the_words_of_words_are_the_same_words_for_every_character() {
        for c in '\0'..=char::MAX {
            let Some(once) = words(&format!("{c}x{c}")) else { continue };
            assert_eq!(words(&once), Some(once.clone()), "{c:?}");
        }
    }

    #[test]
    fn a_phrase_stands_within_one_value_only() {
        let text = joined(["red fox", "--", "brown dog 4"].into_iter());
        let stands = |phrase: &str, prefix| Phrase::of(phrase, prefix).unwrap().stands_in(&text);
        assert!(stands("Red fox", false) && stands("brown dog", false) && stands("fox", false));
        assert!(!stands("fox brown", false) && !stands("dog red", false) && !stands("fo", false));
        assert!(stands("brown do", true) && !stands("rown", true) && !stands("fox br", true));
    }
}
