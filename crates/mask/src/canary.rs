//! Canaries: texts that stand nowhere but where nobody has any business, so that whoever sends or says one has been there. They
//! are looked for however they are dressed: in any case, with anything between their letters and digits, in base64 or
//! hexadecimal, in up to two layers of these, under up to two layers of percent signs or backslashes.
//!
//! Nothing is decoded but those escapes: what the encodings of a canary look like is known beforehand, so a text is read once,
//! in linear time, and in pieces as well as whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::fold::ascii_of;

/// Letters and digits of a canary.
pub(crate) const LENGTH: std::ops::RangeInclusive<usize> = 12..=64;
/// Canaries in one detector.
pub(crate) const CANARIES_MAX: usize = 32;
/// Layers of percent signs or backslashes.
const ESCAPES: usize = 2;

/// Canaries, compiled.
#[derive(Debug)]
pub(crate) struct Canaries {
    /// Of letters and digits alone, in lower case.
    folded: NFA,
    /// Of the characters of base64 alone.
    base64: NFA,
    /// Where both begin.
    begin: (StateID, StateID),
}

/// Why one cannot be looked for.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// Too short, too long, or other characters than ASCII's.
    Length,
    /// For the automaton.
    Built(String),
}

impl Canaries {
    pub(crate) fn compile<'a>(all: impl Iterator<Item = &'a str>) -> Result<Self, Unusable> {
        let (mut folded, mut base64) = (BTreeSet::new(), BTreeSet::new());
        for canary in all {
            let canary = canary.trim();
            let core = kept(canary.as_bytes(), folded_byte);
            if !canary.is_ascii() || !LENGTH.contains(&core.len()) || canary.len() > 2 * LENGTH.end() {
                return Err(Unusable::Length);
            }
            folded.insert(core);
            let written = [canary.to_owned(), canary.to_ascii_lowercase(), canary.to_ascii_uppercase()];
            for text in BTreeSet::from(written) {
                for (layer, encoded) in encodings(text.as_bytes()) {
                    for (outer, twice) in encodings(&encoded) {
                        insert(outer, &twice, &mut folded, &mut base64);
                    }
                    insert(layer, &encoded, &mut folded, &mut base64);
                }
            }
        }
        let (folded, base64) = (automaton(&folded)?, automaton(&base64)?);
        let begin =
            |nfa: &NFA| nfa.start_state(Anchored::No).map_err(|error| Unusable::Built(error.to_string()));
        let begin = (begin(&folded)?, begin(&base64)?);
        Ok(Self { folded, base64, begin })
    }
}

#[derive(Clone, Copy)]
enum Layer {
    Base64,
    Hex,
}

fn insert(layer: Layer, encoded: &[u8], folded: &mut BTreeSet<Vec<u8>>, base64: &mut BTreeSet<Vec<u8>>) {
    match layer {
        Layer::Base64 => base64.insert(kept(encoded, base64_byte)),
        Layer::Hex => folded.insert(kept(encoded, folded_byte)),
    };
}

/// What of an encoding of something that holds `text` is the same wherever in it the text stands.
fn encodings(text: &[u8]) -> Vec<(Layer, Vec<u8>)> {
    let hex: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
    let upper = hex.to_ascii_uppercase();
    let mut all = vec![(Layer::Hex, hex.into_bytes()), (Layer::Hex, upper.into_bytes())];
    for before in 0..3_usize {
        let standing: Vec<u8> = std::iter::repeat_n(0, before).chain(text.iter().copied()).collect();
        let encoded = STANDARD_NO_PAD.encode(&standing).into_bytes();
        // Six bits are a character: those that what stands before or behind has a part in are left out.
        let (from, to) = ((before * 8).div_ceil(6), standing.len() * 8 / 6);
        let known = encoded.get(from..to).unwrap_or_default().to_vec();
        // The other alphabet, where it is seen from a layer further out.
        let url: Vec<u8> = known
            .iter()
            .map(|b| match b {
                b'+' => b'-',
                b'/' => b'_',
                b => *b,
            })
            .collect();
        if url != known {
            all.push((Layer::Base64, url));
        }
        all.push((Layer::Base64, known));
    }
    all
}

fn automaton(patterns: &BTreeSet<Vec<u8>>) -> Result<NFA, Unusable> {
    let built = |error: aho_corasick::BuildError| Unusable::Built(error.to_string());
    NFA::builder().match_kind(MatchKind::Standard).build(patterns).map_err(built)
}

fn kept(bytes: &[u8], keep: fn(u8) -> Option<u8>) -> Vec<u8> {
    bytes.iter().filter_map(|byte| keep(*byte)).collect()
}

const fn folded_byte(b: u8) -> Option<u8> {
    if b.is_ascii_alphanumeric() { Some(b.to_ascii_lowercase()) } else { None }
}

/// One of base64's characters, of either alphabet.
const fn base64_byte(b: u8) -> Option<u8> {
    match b {
        b'+' | b'-' => Some(b'+'),
        b'/' | b'_' => Some(b'/'),
        b if b.is_ascii_alphanumeric() => Some(b),
        _ => None,
    }
}

/// A search in a text that comes in pieces.
#[derive(Debug)]
pub(crate) struct Scan {
    canaries: Arc<Canaries>,
    /// As it is written, and then as it reads with so many layers of escapes taken off. Only the first until an escape comes.
    readings: Vec<Reading>,
    found: bool,
}

#[derive(Clone, Debug)]
struct Reading {
    folded: StateID,
    base64: StateID,
    escapes: Vec<Escape>,
}

impl Scan {
    pub(crate) fn new(canaries: Arc<Canaries>) -> Self {
        let readings =
            vec![Reading { folded: canaries.begin.0, base64: canaries.begin.1, escapes: Vec::new() }];
        Self { canaries, readings, found: false }
    }

    /// Whether one has been found up to the end of this piece.
    pub(crate) fn feed(&mut self, piece: &str) -> bool {
        if self.found {
            return true;
        }
        if let Some(first) = self.readings.first().filter(|_| self.readings.len() == 1).cloned()
            && piece.bytes().any(|b| matches!(b, b'%' | b'\\'))
        {
            // Up to here all of them read the same.
            let with = |layers| Reading { escapes: vec![Escape::default(); layers], ..first.clone() };
            self.readings.extend((1..=ESCAPES).map(with));
        }
        let canaries = &self.canaries;
        let mut found = false;
        for reading in &mut self.readings {
            for c in piece.chars() {
                let Some(byte) = ascii_of(c) else { continue };
                let Reading { folded, base64, escapes } = &mut *reading;
                unescape(escapes, byte, &mut |byte| {
                    for (state, nfa, keep) in [
                        (&mut *folded, &canaries.folded, folded_byte as fn(u8) -> Option<u8>),
                        (&mut *base64, &canaries.base64, base64_byte),
                    ] {
                        if let Some(byte) = keep(byte) {
                            *state = nfa.next_state(Anchored::No, *state, byte);
                            found |= nfa.is_match(*state);
                        }
                    }
                });
            }
        }
        self.found = found;
        found
    }
}

/// An escape in progress: `%41`, `\x41`, `\u0041`; of `\n` and its like nothing is left.
#[derive(Clone, Debug, Default)]
struct Escape {
    held: Vec<u8>,
}

fn unescape(layers: &mut [Escape], byte: u8, out: &mut dyn FnMut(u8)) {
    match layers.split_first_mut() {
        None => out(byte),
        Some((layer, rest)) => layer.take(byte, &mut |byte| unescape(rest, byte, out)),
    }
}

impl Escape {
    fn take(&mut self, byte: u8, out: &mut dyn FnMut(u8)) {
        if self.held.is_empty() && !matches!(byte, b'%' | b'\\') {
            out(byte);
            return;
        }
        self.held.push(byte);
        let (from, length) = match self.held.as_slice() {
            [b'%' | b'\\'] => return,
            [b'\\', b'n' | b'r' | b't' | b'b' | b'f'] => {
                self.held.clear();
                return;
            }
            [b'%', ..] => (1, 2),
            [b'\\', b'x', ..] => (2, 2),
            [b'\\', b'u', ..] => (2, 4),
            _ => (1, 0),
        };
        let digits = self.held.get(from..).unwrap_or_default();
        if length > 0 && digits.iter().all(u8::is_ascii_hexdigit) {
            if digits.len() < length {
                return;
            }
            let text = std::str::from_utf8(digits).unwrap_or_default();
            let code = u32::from_str_radix(text, 16).unwrap_or(0);
            self.held.clear();
            let c = char::from_u32(code);
            if let Some(byte) = c.and_then(ascii_of) {
                out(byte);
            }
            return;
        }
        // No escape after all: as it is written, and what ended it is looked at anew.
        let last = self.held.pop();
        std::mem::take(&mut self.held).into_iter().for_each(&mut *out);
        if let Some(last) = last {
            self.take(last, out);
        }
    }
}
