//! Masking a plain text that comes in pieces.

use crate::BEFORE;
use crate::find::{Kind, Raw, View};
use crate::fold::Folded;
use crate::masker::{Masker, Places};

/// Masks pieces of one plain text. What could still become part of a match is held back: the last word of prose; about 150
/// bytes of a number or address; a dictionary's longest word and a pattern's longest match; a key or token as long as it
/// goes on, 8 KiB at the most.
#[derive(Debug)]
pub(crate) struct Plain {
    masker: Masker,
    text: Folded,
    places: Places,
    /// Found, but not yet passed by every finder.
    found: Vec<Raw>,
    /// Up to where the original was released or masked.
    released: usize,
    count: u64,
    /// Tokens that gave their value back.
    revealed: u64,
}

impl Plain {
    /// A text that stands behind `context`, which is not part of it: words there say what numbers here are.
    pub(crate) fn new(masker: Masker, context: &str) -> Self {
        let mut text = Folded::default();
        text.push(context);
        let places = Places::new(&masker.plan, text.bytes.len());
        let released = text.original_len();
        Self { masker, text, places, found: Vec::new(), released, count: 0, revealed: 0 }
    }

    /// Begins anew behind another `context`, in the room of the text before.
    pub(crate) fn begin(&mut self, context: &str) {
        self.text.clear();
        self.text.push(context);
        self.places.begin(self.text.bytes.len());
        self.found.clear();
        self.released = self.text.original_len();
        (self.count, self.revealed) = (0, 0);
    }

    /// Takes what is the last of a text: it is looked at when the text is ended.
    pub(crate) fn feed_last(&mut self, piece: &str) {
        self.text.push(piece);
    }

    pub(crate) fn feed(&mut self, piece: &str, out: &mut String) {
        self.text.push(piece);
        self.go(false, out);
    }

    pub(crate) fn finish(&mut self, out: &mut String) {
        self.go(true, out);
        let rest = self.text.part(self.released, self.text.original_len());
        out.push_str(rest);
        self.released = self.text.original_len();
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Tokens that gave their value back so far.
    pub(crate) const fn revealed(&self) -> u64 {
        self.revealed
    }

    /// Bytes that are known but not yet released.
    pub(crate) fn held(&self) -> usize {
        self.text.original_len() - self.released.min(self.text.original_len())
    }

    fn go(&mut self, ends: bool, out: &mut String) {
        let view = View { bytes: &self.text.bytes, ends };
        let sure = self.places.advance(&self.masker.plan, view, &mut self.found);
        // What begins first counts, of those the longest; tokens of ours before everything else.
        self.found.sort_by_key(|raw| (raw.from, raw.what != Kind::Token, std::cmp::Reverse(raw.to)));
        let ready = self.found.iter().take_while(|raw| raw.from < sure || ends).count();
        for raw in self.found.drain(..ready) {
            let (from, to) = (self.text.begin(raw.from).max(self.released), self.text.end(raw.to));
            if to <= from {
                continue;
            }
            out.push_str(self.text.part(self.released, from));
            let value = self.text.part(from, to);
            self.released = to;
            match &raw.what {
                Kind::Match(detector) => {
                    self.count += 1;
                    self.masker.how.replace(detector, value, out);
                }
                Kind::Token => match self.masker.how.reveal(value) {
                    Some(clear) => {
                        self.revealed += 1;
                        out.push_str(&clear);
                    }
                    None => out.push_str(value),
                },
            }
        }
        let sure_in_original = self.text.begin(sure);
        if sure_in_original > self.released {
            out.push_str(self.text.part(self.released, sure_in_original));
            self.released = sure_in_original;
        }
        let gone = sure.saturating_sub(BEFORE);
        if gone >= BEFORE || ends {
            // Before the places that may still be asked for, also where a match went beyond them.
            let original = self.text.begin(gone).min(self.released);
            self.text.forget(gone, original);
            self.released -= original;
            self.places.forget(gone);
            for raw in &mut self.found {
                raw.from = raw.from.saturating_sub(gone);
                raw.to = raw.to.saturating_sub(gone);
            }
        }
    }
}
