//! What is found by its digits: cards, accounts, telephone numbers, national ids, IPv4 addresses, dates of birth.

use std::collections::BTreeSet;

use bartizan_model::Detector;

use crate::find::{Kind, Raw, View, is_word};
use crate::ids::{IDS, Shape};
use crate::numbers::{card, iban, is_birth_date, is_ipv4, one_kind_of_gap, phone};

/// The longest word that is looked into; a longer one is no number of anybody's.
const WORD_MAX: usize = 40;
/// Digits and letters of a match, over all its groups (an account number has 34).
const TEXT_MAX: usize = 40;
/// Digits of the shortest match: an IPv4 address.
pub(crate) const SHORTEST: usize = 4;
/// Bytes between two groups.
const GAP_MAX: usize = 3;

/// Groups of digits and letters, as they stand in the text.
pub(crate) struct Groups {
    /// From where up to where each goes.
    pub(crate) places: Vec<(usize, usize)>,
    /// All of them together, letters in upper case.
    pub(crate) text: Vec<u8>,
    pub(crate) lengths: Vec<usize>,
}

const fn is_gap(b: u8) -> bool {
    matches!(b, b' ' | b'.' | b'(' | b')' | b'/' | b'-')
}

pub(crate) fn find(view: View<'_>, wanted: &BTreeSet<Detector>, at: usize, out: &mut Vec<Raw>) -> usize {
    let mut from = at;
    while let Some(digit) = next_digit(view.rest(from)).map(|k| from + k) {
        let word = view.back(digit, WORD_MAX, is_word);
        if digit - word >= WORD_MAX {
            from = view.on(digit, usize::MAX, is_word);
            if view.is_open(from) {
                return view.len();
            }
            continue;
        }
        let lead = lead(view, word);
        // A short word of capitals may begin what the digits go on with: `AB 12 34 56 C`.
        let begins = [letters_before(view, word), Some(word)];
        let mut found = None;
        for begin in begins.into_iter().flatten() {
            match groups(view, begin) {
                None => return lead.min(begins.iter().flatten().copied().min().unwrap_or(word)).max(at),
                Some(groups) => {
                    found = found
                        .or_else(|| judge(view, wanted, if begin == word { lead } else { begin }, &groups));
                    if begin == word && found.is_none() {
                        // What is too long, or holds a `_`, is passed over as a whole.
                        let whole = || view.on(digit, usize::MAX, is_word);
                        from = groups.places.first().map_or_else(whole, |(_, end)| *end);
                    }
                }
            }
        }
        if let Some(raw) = found {
            from = raw.to.max(digit + 1);
            out.push(raw);
        }
    }
    if view.ends {
        return view.len();
    }
    let word = view.back(view.len(), WORD_MAX, is_word);
    let lead = lead(view, word);
    lead.min(letters_before(view, word).unwrap_or(lead)).max(from)
}

/// Where the next digit is. In steps that the processor takes at once, since most text has none.
fn next_digit(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let (chunks, _) = bytes.as_chunks::<32>();
    for chunk in chunks {
        if chunk.iter().fold(false, |any, b| any | b.is_ascii_digit()) {
            break;
        }
        at += 32;
    }
    bytes.get(at..)?.iter().position(u8::is_ascii_digit).map(|k| at + k)
}

/// Where a number begins whose first digits begin at `word`: with the `+` or `(` before it.
fn lead(view: View<'_>, word: usize) -> usize {
    view.back(word, 2, |b| matches!(b, b'+' | b'('))
}

/// The beginning of a word of one or two capitals directly before `word`, a space or hyphen between.
fn letters_before(view: View<'_>, word: usize) -> Option<usize> {
    let end = match view.before(word)? {
        b' ' | b'-' => word - 1,
        _ => return None,
    };
    let begin = view.back(end, 3, is_word);
    let capitals = view.part(begin, end).iter().all(u8::is_ascii_uppercase);
    let touched = view.before(begin).is_some_and(|b| matches!(b, b'.' | b'@' | b'-' | b'/'));
    (capitals && (1..=2).contains(&(end - begin)) && !touched).then_some(begin)
}

/// The groups from `begin` on, as many as a match could have. None while it is not known how they go on.
fn groups(view: View<'_>, begin: usize) -> Option<Groups> {
    let mut all = Groups { places: Vec::new(), text: Vec::new(), lengths: Vec::new() };
    let mut at = begin;
    loop {
        let end = view.on(at, WORD_MAX + 1, is_word);
        if view.is_open(end) && end - at <= WORD_MAX {
            return None;
        }
        let word = view.part(at, end);
        let fits = all.text.len() + word.len() <= TEXT_MAX
            && word.iter().all(u8::is_ascii_alphanumeric)
            && (all.places.is_empty()
                || word.iter().any(u8::is_ascii_digit)
                || (word.len() <= 4 && word.iter().all(u8::is_ascii_uppercase)));
        if !fits || word.is_empty() {
            return Some(all);
        }
        all.places.push((at, end));
        all.text.extend(word.iter().map(u8::to_ascii_uppercase));
        all.lengths.push(word.len());
        if all.text.len() == TEXT_MAX {
            return Some(all);
        }
        let next = view.on(end, GAP_MAX + 1, is_gap);
        if view.is_open(next) && next - end <= GAP_MAX {
            return None;
        }
        if next == end || next - end > GAP_MAX {
            return Some(all);
        }
        at = next;
    }
}

/// What the groups from the first on are, as far as it is looked for.
fn judge(view: View<'_>, wanted: &BTreeSet<Detector>, lead: usize, all: &Groups) -> Option<Raw> {
    let (begin, _) = *all.places.first()?;
    if all.text.len() < SHORTEST {
        return None;
    }
    let matched = |what: Detector, from: usize, groups: usize| {
        let to = all.places.get(groups.checked_sub(1)?)?.1;
        Some(Raw { from, to, what: Kind::Match(what) })
    };
    if wanted.contains(&Detector::Card)
        && let Some(groups) = card(view, all)
    {
        return matched(Detector::Card, begin, groups);
    }
    if wanted.contains(&Detector::Iban)
        && let Some(groups) = iban(all)
    {
        return matched(Detector::Iban, begin, groups);
    }
    let near = |words: &[&str]| view.follows(begin, words);
    let mut length = 0;
    for groups in 1..=all.lengths.len() {
        length += all.lengths.get(groups - 1)?;
        if length > 18 {
            break;
        }
        let (text, lengths) = (all.text.get(..length)?, all.lengths.get(..groups)?);
        let shape = Shape { text, groups: lengths, near: &near };
        for (what, shortest, longest, rule) in &IDS {
            if (*shortest..=*longest).contains(&length)
                && wanted.contains(what)
                && rule(&shape).unwrap_or(false)
                && one_kind_of_gap(view, all, groups)
            {
                return matched(what.clone(), begin, groups);
            }
        }
    }
    if wanted.contains(&Detector::BirthDate) && is_birth_date(view, all) {
        return matched(Detector::BirthDate, begin, 3);
    }
    if wanted.contains(&Detector::Ip) && is_ipv4(view, all) {
        return matched(Detector::Ip, begin, 4);
    }
    if wanted.contains(&Detector::Phone)
        && let Some(groups) = phone(view, lead, all)
    {
        return matched(Detector::Phone, lead, groups);
    }
    None
}
