//! Codes that people type (RFC 8628, 6.1): eight letters without vowels and without look-alikes, so that they spell nothing
//! and are read off one screen and typed on another.

use bartizan_base::{Digest, Random};

const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;

/// A new code: eight letters, each as likely as any other.
pub(super) fn draw(random: &dyn Random) -> String {
    let mut out = String::with_capacity(LENGTH);
    while out.len() < LENGTH {
        let mut byte = [0];
        random.fill(&mut byte);
        let [byte] = byte;
        // The largest multiple of twenty: above it, letters would not be equally likely.
        if let Some(letter) = LETTERS.get(usize::from(byte % 20)).filter(|_| byte < 240) {
            out.push(char::from(*letter));
        }
    }
    out
}

/// A code as it is shown: `BCDF-GHJK`.
pub(super) fn shown(code: &str) -> String {
    let (first, second) = code.split_at_checked(LENGTH / 2).unwrap_or((code, ""));
    format!("{first}-{second}")
}

/// What somebody has typed, as a code; none where it cannot be one. Small letters, spaces and dashes do not matter.
pub(super) fn typed(text: &str) -> Option<String> {
    let letters: String = text
        .chars()
        .filter(|c| !matches!(c, ' ' | '-' | '\u{2013}' | '\u{2014}'))
        .map(|c| c.to_ascii_uppercase())
        .take(LENGTH + 1)
        .collect();
    let fits = letters.len() == LENGTH && letters.bytes().all(|byte| LETTERS.contains(&byte));
    fits.then_some(letters)
}

/// What is kept of a code.
pub(super) fn digest(code: &str) -> Digest {
    Digest::of_parts(&[b"bartizan user code\0", code.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;

    #[test]
    fn codes_are_typed_in_many_ways_and_mean_the_same() {
        let random = SeededRandom::new(1);
        for _ in 0..200 {
            let code = draw(&random);
            assert_eq!(typed(&shown(&code)).as_ref(), Some(&code));
            assert_eq!(typed(&format!(" {} ", shown(&code).to_lowercase())).as_ref(), Some(&code));
        }
        for bad in ["", "BCDFGHJ", "BCDFGHJKL", "BCDFGHJA", "BCDFGHJ0", "BCDFGHJ\u{e9}"] {
            assert_eq!(typed(bad), None, "{bad}");
        }
    }

    #[test]
    fn attack_20_every_letter_of_a_code_is_as_likely_as_any_other() {
        let random = SeededRandom::new(2);
        let mut counts = [0_u32; 20];
        for _ in 0..5_000 {
            for letter in draw(&random).bytes() {
                counts[LETTERS.iter().position(|l| *l == letter).unwrap()] += 1;
            }
        }
        // 2,000 of each are expected; six standard deviations are about 260.
        assert!(counts.iter().all(|count| (1_740..2_260).contains(count)), "{counts:?}");
    }
}
