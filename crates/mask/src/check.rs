//! Check digits.

/// The digits of a text of digits and letters; letters are left out.
pub(crate) fn digits(text: &[u8]) -> Vec<u32> {
    text.iter().filter(|b| b.is_ascii_digit()).map(|b| u32::from(b - b'0')).collect()
}

/// Digits as a number; none where there are none or too many.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
}

/// A number of a part of a text, for dates.
pub(crate) fn part(text: &[u8], from: usize, to: usize) -> Option<u64> {
    number(text.get(from..to)?)
}

/// The sum of digits times weights.
pub(crate) fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(d, w)| d * w).sum()
}

/// ISO/IEC 7812-1 annex B (Luhn).
pub(crate) fn luhn(text: &[u8]) -> bool {
    let doubled = |d: u32| d * 2 / 10 + d * 2 % 10;
    let all = digits(text);
    let sum: u32 = all.iter().rev().enumerate().map(|(i, d)| if i % 2 == 0 { *d } else { doubled(*d) }).sum();
    sum.is_multiple_of(10)
}

/// The remainder of digits and letters (A = 10 … Z = 35) by 97, as in ISO/IEC 7064 MOD 97-10.
pub(crate) fn mod97(text: impl Iterator<Item = u8>) -> u32 {
    text.fold(0, |rest, b| match b {
        b'0'..=b'9' => (rest * 10 + u32::from(b - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter.to_ascii_uppercase().saturating_sub(b'A')) + 10) % 97,
    })
}

/// ISO/IEC 7064 MOD 11,10: the last digit checks the others.
pub(crate) fn mod11_10(text: &[u8]) -> bool {
    let all = digits(text);
    let Some((last, rest)) = all.split_last() else { return false };
    let product = rest.iter().fold(10, |product, d| {
        let sum = (d + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == *last
}

/// Verhoeff's check digit, by the dihedral group D5.
pub(crate) fn verhoeff(text: &[u8]) -> bool {
    const P: [[u32; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    // The product in D5, where 0 to 4 are rotations and 5 to 9 reflections.
    let product = |a: u32, b: u32| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b - 5) % 5,
        (false, true) => 5 + (a - 5 + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let permuted = |i: usize, d: u32| P.get(i % 8).and_then(|row| row.get(d as usize)).copied().unwrap_or(0);
    digits(text).iter().rev().enumerate().fold(0, |c, (i, d)| product(c, permuted(i, *d))) == 0
}

/// Whether such a day can be.
pub(crate) const fn is_day(year: u64, month: u64, day: u64) -> bool {
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => return false,
    };
    day >= 1 && day <= days
}

/// Whether such a day can be in some century.
pub(crate) const fn is_day_of_some_century(year: u64, month: u64, day: u64) -> bool {
    is_day(1900 + year, month, day) || is_day(2000 + year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_of_published_examples_hold_and_any_other_digit_breaks_them() {
        type Holds = fn(&[u8]) -> bool;
        let cases: [(Holds, &str); 4] = [
            (luhn, "4539578763621486"),
            (mod11_10, "86095742719"),
            (verhoeff, "2363"),
            (|t| mod97(t.iter().copied()) == 1, "3214282912345698765432161182"),
        ];
        for (holds, text) in cases {
            assert!(holds(text.as_bytes()), "{text}");
            for at in 0..text.len() {
                for digit in b'0'..=b'9' {
                    let mut other = text.as_bytes().to_vec();
                    other[at] = digit;
                    assert_eq!(holds(&other), other == text.as_bytes(), "{text} with {digit} at {at}");
                }
            }
        }
    }
}
