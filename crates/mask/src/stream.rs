//! Masking a text that comes in pieces.

use crate::detect::{Masker, SEGMENT_MAX, Segment, TOO_LONG, has_digit, in_run, run_len};

/// Masks pieces of one text. What could still become part of a match is held back, about 512 bytes at the most; ordinary
/// prose is held for the length of its last word.
#[derive(Debug)]
pub struct StreamMasker {
    masker: Masker,
    held: String,
    /// The run in progress is too long and was replaced already; the rest of it is dropped as it comes.
    dropping: bool,
    count: u64,
}

impl StreamMasker {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(masker: Masker) -> Self {
        Self { masker, held: String::new(), dropping: false, count: 0 }
    }

    /// Takes the next piece and gives what can be released.
    pub fn feed(&mut self, piece: &str) -> String {
        let mut piece = piece;
        if self.dropping {
            piece = piece.trim_start_matches(in_run);
            self.dropping = piece.is_empty();
        }
        self.held.push_str(piece);
        let mut out = String::new();
        while let Some(segment) = self.complete() {
            self.release(segment, &mut out);
        }
        if run_len(&self.held) > SEGMENT_MAX {
            out.push_str(TOO_LONG);
            self.count += 1;
            self.held.clear();
            self.dropping = true;
        }
        out
    }

    /// Ends the text and gives the rest.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        while !self.held.is_empty() {
            self.release(Segment::first(&self.held), &mut out);
        }
        self.dropping = false;
        out
    }

    /// How many matches there were so far.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The first segment, if nothing that may follow can change where it ends.
    fn complete(&self) -> Option<Segment> {
        if self.held.is_empty() {
            return None;
        }
        let segment = Segment::first(&self.held);
        if !self.held.starts_with(in_run) {
            return Some(segment);
        }
        let rest = self.held.get(segment.length..).filter(|rest| !rest.is_empty())?;
        if segment.too_long {
            return Some(segment);
        }
        let last_run = self.held.get(..segment.length)?.rsplit(' ').next()?;
        match rest.strip_prefix(' ') {
            // A number may go on after one space: decided once the next run shows a digit, ends, or is too long.
            Some(next) if has_digit(last_run) => {
                let run = run_len(next);
                let open = run == next.len() && run <= SEGMENT_MAX && !has_digit(next);
                (!open).then_some(segment)
            }
            _ => Some(segment),
        }
    }

    fn release(&mut self, segment: Segment, out: &mut String) {
        self.count += self.masker.segment(&self.held, segment, out);
        self.held.drain(..segment.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_model::Detector;
    use proptest::prelude::*;

    fn masker() -> Masker {
        Masker::new(&Detector::ALL.iter().copied().collect())
    }

    fn in_pieces(text: &str, cuts: &[usize]) -> (String, usize) {
        let mut stream = StreamMasker::new(masker());
        let mut out = String::new();
        let mut held_max = 0;
        let mut from = 0;
        for cut in cuts.iter().copied().chain([text.len()]) {
            if cut >= from && text.is_char_boundary(cut) {
                out.push_str(&stream.feed(text.get(from..cut).unwrap()));
                held_max = held_max.max(stream.held.len());
                from = cut;
            }
        }
        out.push_str(&stream.finish());
        (out, held_max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn pieces_give_what_the_whole_gives(
            parts in proptest::collection::vec(prop_oneof![
                Just("ann@mail.example".to_owned()), Just("4111 1111 1111 1111".to_owned()), Just("+49 30 901820".to_owned()),
                Just(" ".to_owned()), Just("é".to_owned()), "[a-z0-9 .,@()+-]{0,12}", Just("x".repeat(300)), Just("1 ".repeat(200)),
                Just("\n".to_owned())
            ], 0..8),
            cuts in proptest::collection::vec(0_usize..2_000, 0..20),
        ) {
            let text = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|c| *c <= text.len()).collect();
            cuts.sort_unstable();
            let (out, _) = in_pieces(&text, &cuts);
            prop_assert_eq!(out, masker().mask(&text).text.into_owned());
        }

        #[test]
        fn byte_by_byte_gives_what_the_whole_gives(text in "[a-c0-9 .@+-]{0,60}") {
            let cuts: Vec<usize> = (0..text.len()).collect();
            prop_assert_eq!(in_pieces(&text, &cuts).0, masker().mask(&text).text.into_owned());
        }
    }

    #[test]
    fn prose_is_released_word_by_word_and_little_is_held() {
        let mut stream = StreamMasker::new(masker());
        assert_eq!(stream.feed("The quick bro"), "The quick ");
        assert_eq!(stream.feed("wn fox"), "brown ");
        assert_eq!(stream.finish(), "fox");
        let text = "a".repeat(100_000);
        let cuts: Vec<usize> = (0..text.len()).step_by(10).collect();
        assert!(in_pieces(&text, &cuts).1 <= 2 * SEGMENT_MAX);
    }

    #[test]
    fn a_match_split_over_pieces_is_masked() {
        let mut stream = StreamMasker::new(masker());
        let mut out = String::new();
        for piece in ["mail ", "an", "n@ma", "il.exa", "mple", " or 41", "11 1111 ", "1111 11", "11 ok"] {
            out.push_str(&stream.feed(piece));
        }
        out.push_str(&stream.finish());
        assert_eq!(out, "mail [email] or [card] ok");
        assert_eq!(stream.count(), 2);
    }
}
