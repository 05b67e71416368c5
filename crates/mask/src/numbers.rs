//! What groups of digits are: cards, accounts, days, addresses of machines, telephone numbers.

use crate::check::{is_day, luhn, mod97, number};
use crate::digits::Groups;
use crate::find::View;

/// What stands between two groups.
fn gap<'a>(view: View<'a>, all: &Groups, at: usize) -> Option<&'a [u8]> {
    Some(view.part(all.places.get(at)?.1, all.places.get(at + 1)?.0))
}

/// Whether the first `groups` are separated by one byte each, other than a bracket. Kinds may differ: `756.9217-08`.
pub(crate) fn one_kind_of_gap(view: View<'_>, all: &Groups, groups: usize) -> bool {
    (1..groups).all(|at| matches!(gap(view, all, at - 1), Some([b' ' | b'.' | b'-' | b'/'])))
}

/// How many groups are a card number: digits in one piece or in groups over single spaces or hyphens; by brand and length,
/// the check digit last.
pub(crate) fn card(view: View<'_>, all: &Groups) -> Option<usize> {
    let mut length = 0;
    let mut best = None;
    for (at, group) in all.lengths.iter().enumerate() {
        if at > 0 && !matches!(gap(view, all, at - 1), Some([b' ' | b'-'])) {
            break;
        }
        length += group;
        let text = all.text.get(..length)?;
        if length > 19 || !text.iter().all(u8::is_ascii_digit) {
            break;
        }
        if length >= 12 && is_brand(text) && luhn(text) {
            best = Some(at + 1);
        }
    }
    best
}

/// Issuer ranges and lengths of the large schemes (ISO/IEC 7812; the schemes' own tables of ranges).
fn is_brand(text: &[u8]) -> bool {
    let first = |n: usize| text.get(..n).and_then(number).unwrap_or(0);
    match text.len() {
        12 => matches!(first(2), 50 | 56..=58),
        13 => first(1) == 4 || matches!(first(2), 50 | 56..=58),
        14 => matches!(first(3), 300..=305 | 309) || matches!(first(2), 36 | 38 | 39),
        15 => matches!(first(2), 34 | 37) || matches!(first(4), 1800 | 2131),
        16 => {
            first(1) == 4
                || matches!(first(2), 51..=55 | 50 | 56..=65 | 67)
                || matches!(first(4), 2221..=2720 | 3528..=3589 | 2200..=2204)
                || matches!(first(2), 30 | 36 | 38 | 39)
        }
        17..=19 => first(1) == 4 || matches!(first(2), 50 | 56..=65 | 67 | 35),
        _ => false,
    }
}

/// Lengths of account numbers by country (SWIFT, IBAN Registry).
const IBAN: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// How many groups are an account number (ISO 13616): the country's length, and check digits that hold.
pub(crate) fn iban(all: &Groups) -> Option<usize> {
    let country = all.text.get(..2)?;
    let (_, length) = IBAN.iter().find(|(code, _)| code.as_slice() == country)?;
    let mut so_far = 0;
    let groups = all.lengths.iter().position(|n| {
        so_far += n;
        so_far >= *length
    })?;
    let text = all.text.get(..*length).filter(|_| so_far == *length)?;
    let digits = text.get(2..4)?.iter().all(u8::is_ascii_digit);
    let turned = text.iter().skip(4).chain(text.iter().take(4)).copied();
    (digits && mod97(turned) == 1).then_some(groups + 1)
}

/// Whether the first three groups are a day, in one of the usual orders, separated alike.
fn is_date(view: View<'_>, all: &Groups) -> bool {
    let value = |at: usize| {
        let (from, to) = *all.places.get(at)?;
        number(view.part(from, to))
    };
    let (Some(a), Some(b), Some(c)) = (value(0), value(1), value(2)) else { return false };
    let alike = matches!(
        (gap(view, all, 0), gap(view, all, 1)),
        (Some([x @ (b'.' | b'-' | b'/')]), Some([y])) if x == y
    );
    alike
        && match all.lengths.as_slice() {
            [4, 1 | 2, 1 | 2, ..] => is_day(a, b, c),
            [1 | 2, 1 | 2, 4, ..] => is_day(c, b, a) || is_day(c, a, b),
            _ => false,
        }
}

pub(crate) fn is_birth_date(view: View<'_>, all: &Groups) -> bool {
    const WORDS: &[&str] = &[
        "born",
        "birth",
        "dob",
        "d.o.b",
        "geb.",
        "geboren",
        "geburt",
        "né le",
        "née le",
        "naissance",
        "nacimiento",
        "nacido",
        "nacida",
        "nato il",
        "nata il",
        "nascita",
        "nascimento",
        "geboorte",
        "född",
        "urodz",
    ];
    let begin = all.places.first().map_or(0, |(begin, _)| *begin);
    is_date(view, all) && view.follows(begin, WORDS)
}

/// Whether the first four groups are an IPv4 address in dotted decimal, as one writes it: no group with a leading zero,
/// nothing that goes on with a point.
pub(crate) fn is_ipv4(view: View<'_>, all: &Groups) -> bool {
    let byte = |at: usize| {
        let (from, to) = *all.places.get(at)?;
        let text = view.part(from, to);
        number(text).filter(|n| *n < 256 && (text.len() == 1 || text.first() != Some(&b'0')))
    };
    let four = (0..4).all(|at| byte(at).is_some()) && (0..3).all(|at| gap(view, all, at) == Some(b"."));
    let goes_on = gap(view, all, 3) == Some(b".");
    let begin = all.places.first().map_or(0, |(begin, _)| *begin);
    let within = view.before(begin) == Some(b'.');
    four && !goes_on && !within
}

/// How many groups are a telephone number: 7 to 15 digits that begin with `+`, `00`, `0` and an area or `(`, or stand in
/// groups of 3-3-4.
pub(crate) fn phone(view: View<'_>, lead: usize, all: &Groups) -> Option<usize> {
    let (begin, end) = *all.places.first()?;
    let signed = lead < begin;
    if !signed && is_date(view, all) {
        return None;
    }
    // `.5` and `0.5` are no numbers to be called.
    let opens = signed || (view.at(begin) == Some(b'0') && end - begin >= 2);
    let mut length = 0;
    let mut best = None;
    for (at, group) in all.lengths.iter().enumerate() {
        length += group;
        if length > 15 || !all.text.get(..length)?.iter().all(u8::is_ascii_digit) {
            break;
        }
        let national = matches!(all.lengths.get(..=at)?, [3, 3, 4] | [1, 3, 3, 4]);
        if length >= 7 && (opens || national) {
            best = Some(at + 1);
        }
    }
    best
}
