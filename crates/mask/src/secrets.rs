//! Keys and tokens, by what they begin with and what they are made of; and what stands behind words such as `password:`.
//!
//! Where an issuer documents a checksum it is not asked for, except in keys of this house: a token that was cut or mistyped is
//! still nothing to show around.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use aho_corasick::packed::{self, Searcher};
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind, Span};
use bartizan_model::Detector;
use bartizan_secret::ApiKey;

use crate::find::{Kind, Raw, View, is_word};

/// The longest secret that is held at a time; of a longer one the rest is masked as it comes.
const SECRET_MAX: usize = 4_096;
/// The longest private key in PEM.
const PEM_MAX: usize = 8_192;
/// How far behind an access key a secret belongs to it.
const BESIDE_MAX: usize = 64;

/// What a secret is made of.
type Characters = fn(u8) -> bool;

/// How a secret is told from other text.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// Its beginning, then so many of these characters.
    Run {
        shortest: usize,
        of: fn(u8) -> bool,
    },
    /// A key of this house.
    Own,
    /// Three parts in base64url, the first a JSON object.
    Jwt,
    Pem,
    /// A word, `:` or `=`, and a value.
    Named {
        strict: bool,
    },
}

struct Mark {
    text: &'static str,
    what: Detector,
    form: Form,
}

const fn mark(text: &'static str, what: Detector, form: Form) -> Mark {
    Mark { text, what, form }
}

const fn alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

const fn base64url(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')
}

const fn token(b: u8) -> bool {
    base64url(b) || matches!(b, b'.')
}

const fn base64(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+' | b'=')
}

const fn run(shortest: usize, of: fn(u8) -> bool) -> Form {
    Form::Run { shortest, of }
}

/// Prefixes as the issuers document them (GitHub: "Token expiration and revocation"; AWS: "IAM identifiers"; Slack: "Token
/// types"; Stripe: "API keys"; Google: "API keys"; the others by their consoles), and the words of [`Form::Named`].
const MARKS: &[Mark] = &[
    mark("btz_", Detector::BartizanKey, Form::Own),
    mark("ghp_", Detector::GithubToken, run(36, alphanumeric)),
    mark("gho_", Detector::GithubToken, run(36, alphanumeric)),
    mark("ghu_", Detector::GithubToken, run(36, alphanumeric)),
    mark("ghs_", Detector::GithubToken, run(36, alphanumeric)),
    mark("ghr_", Detector::GithubToken, run(36, alphanumeric)),
    mark("github_pat_", Detector::GithubToken, run(36, is_word)),
    mark("AKIA", Detector::AwsKey, run(16, alphanumeric)),
    mark("ASIA", Detector::AwsKey, run(16, alphanumeric)),
    mark("ABIA", Detector::AwsKey, run(16, alphanumeric)),
    mark("ACCA", Detector::AwsKey, run(16, alphanumeric)),
    mark("xoxb-", Detector::SlackToken, run(10, base64url)),
    mark("xoxp-", Detector::SlackToken, run(10, base64url)),
    mark("xoxa-", Detector::SlackToken, run(10, base64url)),
    mark("xoxr-", Detector::SlackToken, run(10, base64url)),
    mark("xoxs-", Detector::SlackToken, run(10, base64url)),
    mark("xoxe.", Detector::SlackToken, run(10, token)),
    mark("xapp-", Detector::SlackToken, run(10, base64url)),
    mark("sk_live_", Detector::StripeKey, run(16, alphanumeric)),
    mark("sk_test_", Detector::StripeKey, run(16, alphanumeric)),
    mark("rk_live_", Detector::StripeKey, run(16, alphanumeric)),
    mark("rk_test_", Detector::StripeKey, run(16, alphanumeric)),
    mark("whsec_", Detector::StripeKey, run(24, base64)),
    mark("AIza", Detector::GoogleKey, run(35, base64url)),
    mark("ya29.", Detector::GoogleKey, run(20, token)),
    mark("GOCSPX-", Detector::GoogleKey, run(20, base64url)),
    mark("sk-ant-", Detector::AnthropicKey, run(20, base64url)),
    mark("sk-", Detector::OpenaiKey, run(32, base64url)),
    mark("npm_", Detector::NpmToken, run(36, alphanumeric)),
    mark("pypi-AgE", Detector::PypiToken, run(50, base64url)),
    mark("eyJ", Detector::Jwt, Form::Jwt),
    mark("-----BEGIN ", Detector::PrivateKey, Form::Pem),
    mark("password", Detector::Password, Form::Named { strict: false }),
    mark("passwort", Detector::Password, Form::Named { strict: false }),
    mark("passwd", Detector::Password, Form::Named { strict: false }),
    mark("passphrase", Detector::Password, Form::Named { strict: false }),
    mark("secret", Detector::Password, Form::Named { strict: true }),
    mark("api_key", Detector::Password, Form::Named { strict: true }),
    mark("api-key", Detector::Password, Form::Named { strict: true }),
    mark("apikey", Detector::Password, Form::Named { strict: true }),
    mark("access_key", Detector::Password, Form::Named { strict: true }),
    mark("private_key", Detector::Password, Form::Named { strict: true }),
    mark("token", Detector::Password, Form::Named { strict: true }),
];

/// The longest beginning.
const MARK_MAX: usize = 11;

/// Words are found in any case; of beginnings the case is looked at once they are found.
static FIND: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .match_kind(MatchKind::Standard)
        .kind(Some(AhoCorasickKind::DFA))
        .ascii_case_insensitive(true)
        .build(MARKS.iter().map(|mark| mark.text))
        .ok()
});

/// From how many bytes on it pays to look for parts of beginnings first.
const HINTS_FROM: usize = 256;
/// Bytes of such a part.
const HINT: usize = 3;

/// Parts of beginnings that are rare in other texts. They are looked for many bytes at a time, where the processor can; then
/// what stands around one is looked at.
#[derive(Debug)]
struct Hints {
    find: Searcher,
    /// Of each part the beginnings that hold it, and how far behind their own beginning.
    of: Vec<Vec<(usize, usize)>>,
}

/// None where the processor cannot.
static HINTS: LazyLock<Option<Hints>> = LazyLock::new(Hints::new);

impl Hints {
    fn new() -> Option<Self> {
        // Parts that many share, first; of the others, what is rarest in prose.
        let shared = ["ass", "ecr", "api", "_ke", "oke", "xox", "k_l", "k_t", "sk-"];
        let rare = |window: &[u8]| -> u32 {
            let one = |b: &u8| match b {
                b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b'h' => 3,
                b'a'..=b'z' => 2,
                _ => 0,
            };
            window.iter().map(one).sum()
        };
        let mut parts: BTreeMap<Vec<u8>, Vec<(usize, usize)>> = BTreeMap::new();
        for (which, mark) in MARKS.iter().enumerate() {
            let text = mark.text.as_bytes();
            let known = shared.iter().find_map(|part| mark.text.find(part));
            let rarest =
                || (0..=text.len().saturating_sub(HINT)).min_by_key(|at| text.get(*at..at + HINT).map(rare));
            let at = known.or_else(rarest)?;
            let part = text.get(at..at + HINT)?;
            for written in
                if matches!(mark.form, Form::Named { .. }) { cases(part) } else { vec![part.to_vec()] }
            {
                parts.entry(written).or_default().push((which, at));
            }
        }
        let mut builder = packed::Config::new().match_kind(packed::MatchKind::LeftmostFirst).builder();
        let find = builder.extend(parts.keys()).build()?;
        Some(Self { find, of: parts.into_values().collect() })
    }

    /// Every beginning from `from` on, in any case.
    fn marks(&self, view: View<'_>, from: usize, out: &mut Vec<(usize, usize)>) {
        let mut at = from;
        while let Some(found) = self.find.find_in(view.bytes, Span { start: at, end: view.len() }) {
            for (which, behind) in self.of.get(found.pattern().as_usize()).into_iter().flatten() {
                let Some(place) = found.start().checked_sub(*behind).filter(|place| *place >= from) else {
                    continue;
                };
                let text = MARKS.get(*which).map_or(&b""[..], |mark| mark.text.as_bytes());
                if view.part(place, place + text.len()).eq_ignore_ascii_case(text) {
                    out.push((place, *which));
                }
            }
            at = found.start() + 1;
        }
    }
}

/// A part in every case.
fn cases(part: &[u8]) -> Vec<Vec<u8>> {
    part.iter().fold(vec![Vec::new()], |all, b| {
        let both = BTreeSet::from([b.to_ascii_lowercase(), b.to_ascii_uppercase()]);
        all.iter().flat_map(|begun| both.iter().map(|b| [begun.as_slice(), &[*b]].concat())).collect()
    })
}

/// Finds secrets, and remembers where a long one goes on.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// From where on what kind of secret goes on, in which characters.
    goes_on: Option<(usize, Detector, Characters)>,
}

/// What is at a mark.
enum Found {
    Nothing,
    /// More must be known.
    Open,
    /// From where up to where, and in which characters it goes on if it was cut.
    Secret(usize, usize, Option<fn(u8) -> bool>),
}

impl Secrets {
    pub(crate) fn forget(&mut self, gone: usize) {
        if let Some((at, ..)) = &mut self.goes_on {
            *at = at.saturating_sub(gone);
        }
    }

    pub(crate) fn find(
        &mut self,
        view: View<'_>,
        wanted: &BTreeSet<Detector>,
        at: usize,
        out: &mut Vec<Raw>,
    ) -> usize {
        let mut from = at;
        while let Some((begin, what, of)) = self.goes_on.clone() {
            let stop = view.on(begin, SECRET_MAX, of);
            if view.is_open(stop) && stop - begin < SECRET_MAX {
                return begin;
            }
            if stop > begin {
                out.push(Raw { from: begin, to: stop, what: Kind::Match(what.clone()) });
            }
            self.goes_on = (stop - begin == SECRET_MAX).then_some((stop, what, of));
            from = from.max(stop);
        }
        let mut marks = Vec::new();
        match (HINTS.as_ref(), FIND.as_ref()) {
            (Some(hints), _) if view.len().saturating_sub(from) >= HINTS_FROM => {
                hints.marks(view, from, &mut marks)
            }
            (_, Some(find)) => marks.extend(
                find.find_overlapping_iter(view.rest(from))
                    .map(|found| (from + found.start(), found.pattern().as_usize())),
            ),
            (_, None) => return view.len(),
        }
        marks.retain(|(place, which)| {
            MARKS.get(*which).is_some_and(|mark| {
                let written = view.part(*place, place + mark.text.len());
                wanted.contains(&mark.what)
                    && (matches!(mark.form, Form::Named { .. }) || written == mark.text.as_bytes())
            })
        });
        marks.sort_unstable();
        for (place, which) in marks {
            let Some(mark) = MARKS.get(which) else { continue };
            // What was found already is not looked into again.
            if place < from {
                continue;
            }
            match look(view, place, mark) {
                Found::Nothing => {}
                Found::Open => return place,
                Found::Secret(begin, end, cut) => {
                    out.push(Raw { from: begin, to: end, what: Kind::Match(mark.what.clone()) });
                    from = from.max(if matches!(mark.form, Form::Named { .. }) { place + 1 } else { end });
                    if let Some(of) = cut {
                        self.goes_on = Some((end, mark.what.clone(), of));
                        return self.find(view, wanted, end, out);
                    }
                }
            }
        }
        if view.ends { view.len() } else { begun(view).max(from) }
    }
}

/// Where a mark may have begun at the end of what is known.
fn begun(view: View<'_>) -> usize {
    let tail = view.part(view.len().saturating_sub(MARK_MAX - 1), view.len());
    let begins = |n: &usize| {
        let tail = tail.get(tail.len() - n..).unwrap_or_default();
        MARKS.iter().any(|m| m.text.as_bytes().get(..*n).is_some_and(|t| t.eq_ignore_ascii_case(tail)))
    };
    view.len() - (1..=tail.len()).rev().find(begins).unwrap_or(0)
}

fn look(view: View<'_>, place: usize, mark: &Mark) -> Found {
    let begins = !view.before(place).is_some_and(|b| b.is_ascii_alphanumeric());
    let body = place + mark.text.len();
    match mark.form {
        Form::Run { shortest, of } if begins => {
            let stop = view.on(body, SECRET_MAX, of);
            if view.is_open(stop) && stop - body < SECRET_MAX {
                return Found::Open;
            }
            if stop - body < shortest {
                return Found::Nothing;
            }
            if mark.what == Detector::AwsKey {
                return beside(view, place, stop);
            }
            Found::Secret(place, stop, (stop - body == SECRET_MAX).then_some(of))
        }
        Form::Own if begins => {
            let stop = place + ApiKey::LEN;
            if view.is_open(stop) {
                return Found::Open;
            }
            let text = std::str::from_utf8(view.part(place, stop)).unwrap_or_default();
            match text.parse::<ApiKey>() {
                Ok(_) => Found::Secret(place, stop, None),
                Err(_) => Found::Nothing,
            }
        }
        Form::Jwt if begins => jwt(view, place),
        Form::Pem => pem(view, place),
        Form::Named { strict } => named(view, body, strict),
        Form::Run { .. } | Form::Own | Form::Jwt => Found::Nothing,
    }
}

/// The secret of an AWS access key is 40 characters of base64; where it stands near behind the key, both go as one.
fn beside(view: View<'_>, place: usize, key: usize) -> Found {
    let mut at = key;
    let mut end = key;
    while at < key + BESIDE_MAX {
        let begin = at + view.rest(at).iter().take_while(|b| !base64(**b)).count();
        let stop = view.on(begin, 41, base64);
        if view.is_open(stop) && begin < key + BESIDE_MAX {
            return Found::Open;
        }
        if begin < key + BESIDE_MAX && stop - begin == 40 {
            end = stop;
            break;
        }
        at = stop.max(at + 1);
    }
    Found::Secret(place, end, None)
}

fn jwt(view: View<'_>, place: usize) -> Found {
    let stop = view.on(place, SECRET_MAX, token);
    if view.is_open(stop) && stop - place < SECRET_MAX {
        return Found::Open;
    }
    let text = view.part(place, stop);
    let cut = stop - place == SECRET_MAX;
    let parts: Vec<&[u8]> = text.split(|b| *b == b'.').collect();
    let whole = matches!(parts.as_slice(), [head, body, ..] if head.len() >= 10 && body.len() >= 4);
    if !whole && !cut {
        return Found::Nothing;
    }
    Found::Secret(place, stop, cut.then_some(token))
}

fn pem(view: View<'_>, place: usize) -> Found {
    let known = view.part(place, place + PEM_MAX);
    let head = known.get(..48).unwrap_or(known);
    if memchr::memmem::find(head, b"PRIVATE KEY").is_none() {
        // What the line begins with may still be on its way.
        return if head.len() < 48 && !view.ends && !head.contains(&b'\n') {
            Found::Open
        } else {
            Found::Nothing
        };
    }
    let end = memchr::memmem::find(known, b"-----END ").and_then(|end| {
        let line = known.get(end + 9..)?;
        memchr::memmem::find(line.get(..48).unwrap_or(line), b"-----").map(|close| end + 9 + close + 5)
    });
    match end {
        Some(end) => Found::Secret(place, place + end, None),
        None if known.len() < PEM_MAX && !view.ends => Found::Open,
        // What does not end is not shown either.
        None => Found::Secret(place, place + known.len(), None),
    }
}

/// A value behind a word: after the rest of the word, quotes and spaces, `:` or `=`.
fn named(view: View<'_>, word: usize, strict: bool) -> Found {
    let rest = view.on(word, 24, base64url);
    let quote = view.on(rest, 3, |b| matches!(b, b'"' | b'\'' | b' ' | b'\\'));
    let sign = view.on(quote, 3, |b| matches!(b, b':' | b'=' | b'>'));
    if sign == quote && !view.is_open(quote) {
        return Found::Nothing;
    }
    let begin = view.on(sign, 4, |b| matches!(b, b'"' | b'\'' | b' ' | b'\\'));
    let stop = view.on(begin, SECRET_MAX, is_value);
    if view.is_open(stop) && stop - begin < SECRET_MAX {
        return Found::Open;
    }
    if sign == quote {
        return Found::Nothing;
    }
    let cut = stop - begin == SECRET_MAX;
    // A sentence ends with a point; a value rarely does.
    let to = if view.before(stop) == Some(b'.') && !cut { stop - 1 } else { stop };
    if looks_secret(view.part(begin, to.max(begin)), strict) {
        Found::Secret(begin, to, cut.then_some(is_value))
    } else {
        Found::Nothing
    }
}

const fn is_value(b: u8) -> bool {
    b.is_ascii_graphic()
        && !matches!(
            b,
            b'"' | b'\'' | b'`' | b',' | b';' | b'<' | b'>' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'\\'
        )
}

/// Whether a value is unlike a word: by kinds of characters; strictly also by length and by how evenly they are spread.
fn looks_secret(value: &[u8], strict: bool) -> bool {
    let has = |is: fn(&u8) -> bool| usize::from(value.iter().any(is));
    let digits = has(u8::is_ascii_digit);
    let kinds =
        digits + has(u8::is_ascii_lowercase) + has(u8::is_ascii_uppercase) + has(u8::is_ascii_punctuation);
    if !strict {
        return value.len() >= 6 && kinds >= 2;
    }
    value.len() >= 16 && digits == 1 && kinds >= 2 && entropy(value) > 3.0
}

/// Shannon's entropy of the bytes, in bits a byte.
fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let length = f64::from(u32::try_from(value.len()).unwrap_or(u32::MAX));
    counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / length).map(|p| -p * p.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_hints(text: &str, from: usize) -> Option<Vec<(usize, usize)>> {
        let mut found = Vec::new();
        HINTS.as_ref()?.marks(View { bytes: text.as_bytes(), ends: true }, from, &mut found);
        found.sort_unstable();
        Some(found)
    }

    fn by_automaton(text: &str, from: usize) -> Vec<(usize, usize)> {
        let find = FIND.as_ref().unwrap().find_overlapping_iter(text.as_bytes().get(from..).unwrap());
        let mut found: Vec<_> = find.map(|m| (from + m.start(), m.pattern().as_usize())).collect();
        found.sort_unstable();
        // In the wrong case a beginning that is no word is nothing to either.
        found.retain(|(place, which)| {
            let mark = &MARKS[*which];
            matches!(mark.form, Form::Named { .. })
                || text.get(*place..place + mark.text.len()) == Some(mark.text)
        });
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn looking_for_parts_first_finds_every_beginning_that_the_automaton_finds(
            parts in prop::collection::vec((prop::sample::select(MARKS.iter().map(|m| m.text).collect::<Vec<_>>()), 0..3_u8, "[ -~é]{0,9}"), 0..40),
            from in 0..40_usize,
        ) {
            let mut text = "the quick brown fox ".repeat(3);
            for (mark, case, between) in parts {
                text.push_str(&match case { 0 => mark.to_owned(), 1 => mark.to_ascii_uppercase(), _ => mark.to_ascii_lowercase() });
                text.push_str(&between);
            }
            if let Some(found) = by_hints(&text, from) {
                let exact = |(place, which): &(usize, usize)| {
                    let mark = &MARKS[*which];
                    matches!(mark.form, Form::Named { .. }) || text.get(*place..place + mark.text.len()) == Some(mark.text)
                };
                let found: Vec<_> = found.into_iter().filter(exact).collect();
                prop_assert_eq!(found, by_automaton(&text, from));
            }
        }
    }
}
