//! Keys and tokens, by what they begin with and what they are made of; and what stands behind words such as `password:`.
//!
//! Where an issuer documents a checksum it is not asked for, except in keys of this house: a token that was cut or mistyped is
//! still nothing to show around.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
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
        let Some(find) = FIND.as_ref() else { return view.len() };
        let mut marks: Vec<(usize, usize)> = find
            .find_overlapping_iter(view.rest(from))
            .map(|found| (from + found.start(), found.pattern().as_usize()))
            .filter(|(place, which)| {
                MARKS.get(*which).is_some_and(|mark| {
                    let written = view.part(*place, place + mark.text.len());
                    wanted.contains(&mark.what)
                        && (matches!(mark.form, Form::Named { .. }) || written == mark.text.as_bytes())
                })
            })
            .collect();
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
