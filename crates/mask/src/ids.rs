//! National identity numbers. Each is taken only where its own rules hold; those whose check digit any ninth or eleventh
//! number passes are taken bare only beside a word that says what they are.

use bartizan_model::Detector;

use crate::check::{
    digits, is_day, is_day_of_some_century, luhn, mod11_10, number, part, verhoeff, weighted,
};

/// Something that could be an identity number: digits and upper-case letters, and how they were written.
pub(crate) struct Shape<'a> {
    /// All of it without what separates the groups.
    pub(crate) text: &'a [u8],
    /// The length of each group.
    pub(crate) groups: &'a [usize],
    /// Whether one of these words stands shortly before.
    pub(crate) near: &'a dyn Fn(&[&str]) -> bool,
}

impl Shape<'_> {
    fn grouped(&self, groups: &[usize]) -> bool {
        self.groups == groups
    }

    fn bare(&self) -> bool {
        self.groups.len() == 1
    }

    fn is_digits(&self, length: usize) -> bool {
        self.text.len() == length && self.text.iter().all(u8::is_ascii_digit)
    }

    fn letter(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied().filter(u8::is_ascii_uppercase)
    }

    fn number(&self, from: usize, to: usize) -> Option<u64> {
        part(self.text, from, to)
    }
}

type Rule = fn(&Shape<'_>) -> Option<bool>;

/// Each with the lengths it can have.
pub(crate) static IDS: [(Detector, usize, usize, Rule); 19] = [
    (Detector::FrNir, 15, 15, fr_nir),
    (Detector::CnRic, 18, 18, cn_ric),
    (Detector::ItCodiceFiscale, 16, 16, it_codice_fiscale),
    (Detector::ChAhv, 13, 13, ch_ahv),
    (Detector::InAadhaar, 12, 12, in_aadhaar),
    (Detector::NoFnr, 11, 11, no_fnr),
    (Detector::BrCpf, 11, 11, br_cpf),
    (Detector::BeNrn, 11, 11, be_nrn),
    (Detector::TrTckn, 11, 11, tr_tckn),
    (Detector::DeTaxId, 11, 11, de_tax_id),
    (Detector::PlPesel, 11, 11, pl_pesel),
    (Detector::FiHetu, 10, 11, fi_hetu),
    (Detector::SePersonnummer, 10, 12, se_personnummer),
    (Detector::UkNhs, 10, 10, uk_nhs),
    (Detector::EsDni, 9, 9, es_dni),
    (Detector::UkNino, 9, 9, uk_nino),
    (Detector::UsSsn, 9, 9, us_ssn),
    (Detector::NlBsn, 9, 9, nl_bsn),
    (Detector::CaSin, 9, 9, ca_sin),
];

/// SSA, Program Operations Manual RM 10201.035: area not 000, 666 or 9xx, group not 00, serial not 0000. It has no check
/// digit, so it is written 3-2-4 or named.
fn us_ssn(s: &Shape<'_>) -> Option<bool> {
    let (area, group, serial) = (s.number(0, 3)?, s.number(3, 5)?, s.number(5, 9)?);
    let possible = !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0;
    let named = || s.bare() && (s.near)(&["ssn", "social security", "sozialversicherung us"]);
    Some(s.is_digits(9) && possible && (s.grouped(&[3, 2, 4]) || named()))
}

/// Bundeszentralamt für Steuern: eleven digits, not beginning with 0; of the first ten one occurs twice or three times and
/// no other more than once; the last is the check digit of ISO/IEC 7064 MOD 11,10.
fn de_tax_id(s: &Shape<'_>) -> Option<bool> {
    if !s.is_digits(11) || s.text.first() == Some(&b'0') {
        return Some(false);
    }
    let first = s.text.get(..10)?;
    let counts = (b'0'..=b'9').map(|d| first.iter().filter(|b| **b == d).count());
    let repeated: Vec<usize> = counts.filter(|n| *n > 1).collect();
    let layout = s.bare() || s.grouped(&[2, 3, 3, 3]);
    Some(layout && matches!(repeated.as_slice(), [2 | 3]) && mod11_10(s.text))
}

/// INSEE: sex, year, month, department (2A and 2B count as 19 and 18), commune, order, and 97 less the remainder by 97.
fn fr_nir(s: &Shape<'_>) -> Option<bool> {
    let mut text = s.text.to_vec();
    let corsica = match text.get(5..7)? {
        b"2A" => Some(*b"19"),
        b"2B" => Some(*b"18"),
        _ => None,
    };
    if let (Some(number), Some(place)) = (corsica, text.get_mut(5..7)) {
        place.copy_from_slice(&number);
    }
    let month = part(&text, 3, 5)?;
    let ok = matches!(text.first()?, b'1'..=b'4' | b'7' | b'8')
        && matches!(month, 1..=12 | 20 | 30..=42 | 50..=99);
    Some(ok && part(&text, 13, 15)? == 97 - number(text.get(..13)?)? % 97)
}

/// Ministerio del Interior: eight digits, or X, Y, Z for 0, 1, 2 and seven, and a letter by the remainder by 23.
fn es_dni(s: &Shape<'_>) -> Option<bool> {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let mut text = s.text.get(..8)?.to_vec();
    let first = text.first_mut()?;
    *first = match *first {
        b'X' => b'0',
        b'Y' => b'1',
        b'Z' => b'2',
        other => other,
    };
    let rest = usize::try_from(number(&text)? % 23).ok()?;
    Some(s.letter(8)? == *LETTERS.get(rest)?)
}

/// Decreto ministeriale 23 dicembre 1976: six letters, year, month letter, day, place, and a check letter. Digits may be
/// replaced by letters where two people would have the same (omocodia).
fn it_codice_fiscale(s: &Shape<'_>) -> Option<bool> {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    const NUMERIC: [usize; 7] = [6, 7, 9, 10, 12, 13, 14];
    if !s.bare() {
        return Some(false);
    }
    let fits = s.text.iter().enumerate().all(|(i, b)| {
        if NUMERIC.contains(&i) {
            b.is_ascii_digit() || b"LMNPQRSTUV".contains(b)
        } else {
            b.is_ascii_uppercase()
        }
    });
    let month = b"ABCDEHLMPRST".contains(s.text.get(8)?);
    let value = |b: u8| u32::from(if b.is_ascii_digit() { b - b'0' } else { b.wrapping_sub(b'A') });
    let sum: u32 = s
        .text
        .iter()
        .take(15)
        .enumerate()
        .map(|(i, b)| {
            let value = value(*b);
            if i % 2 == 0 { ODD.get(value as usize).copied().unwrap_or(0) } else { value }
        })
        .sum();
    Some(fits && month && u32::from(s.letter(15)? - b'A') == sum % 26)
}

/// Rijksdienst voor Identiteitsgegevens: the eleven test, the last digit counting minus one.
fn nl_bsn(s: &Shape<'_>) -> Option<bool> {
    let d = digits(s.text);
    let sum = weighted(&d, &[9, 8, 7, 6, 5, 4, 3, 2]);
    let holds = s.is_digits(9) && sum > 0 && sum % 11 == *d.get(8)?;
    let named = || (s.near)(&["bsn", "burgerservice", "sofinummer", "sofi-nummer"]);
    Some(holds && (s.grouped(&[4, 2, 3]) || named()))
}

/// HMRC, National Insurance Manual NIM39110: two letters, six digits, a letter from A to D. No check digit.
fn uk_nino(s: &Shape<'_>) -> Option<bool> {
    let (first, second) = (s.letter(0)?, s.letter(1)?);
    let prefix = !b"DFIQUV".contains(&first)
        && !b"DFIOQUV".contains(&second)
        && ![*b"BG", *b"GB", *b"KN", *b"NK", *b"NT", *b"TN", *b"ZZ"].contains(&[first, second]);
    s.number(2, 8)?;
    let layout = s.bare() || s.grouped(&[2, 2, 2, 2, 1]) || s.grouped(&[2, 6, 1]);
    Some(prefix && layout && matches!(s.letter(8)?, b'A'..=b'D'))
}

/// NHS Data Dictionary: weights 10 to 2, eleven less the remainder by 11.
fn uk_nhs(s: &Shape<'_>) -> Option<bool> {
    let d = digits(s.text);
    let check = 11 - weighted(&d, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    let holds = s.is_digits(10) && check % 11 == *d.get(9)? && check != 10;
    Some(holds && (s.grouped(&[3, 3, 4]) || (s.near)(&["nhs", "health service", "patient"])))
}

/// Ministerstwo Cyfryzacji: birth date with the century in the month, weights 1, 3, 7, 9.
fn pl_pesel(s: &Shape<'_>) -> Option<bool> {
    let (year, month, day) = (s.number(0, 2)?, s.number(2, 4)?, s.number(4, 6)?);
    let century = [1900, 2000, 2100, 2200, 1800].get(usize::try_from(month / 20).ok()?)?;
    let sum = weighted(&digits(s.text), &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    Some(s.is_digits(11) && s.bare() && is_day(century + year, month % 20, day) && sum.is_multiple_of(10))
}

/// Skatteverket, SKV 704: birth date (day plus 60 for a coordination number), three digits, check digit by Luhn.
fn se_personnummer(s: &Shape<'_>) -> Option<bool> {
    let short = match s.text.len() {
        10 => s.text,
        12 if matches!(s.text.get(..2)?, b"19" | b"20") => s.text.get(2..)?,
        _ => return Some(false),
    };
    let (year, month, day) = (part(short, 0, 2)?, part(short, 2, 4)?, part(short, 4, 6)?);
    let day = if day > 60 { day - 60 } else { day };
    let split = s.grouped(&[6, 4]) || s.grouped(&[8, 4]) || (s.bare() && s.text.len() == 12);
    let layout = split || (s.bare() && (s.near)(&["personnummer", "personal number", "pnr"]));
    Some(s.is_digits(s.text.len()) && layout && is_day_of_some_century(year, month, day) && luhn(short))
}

/// Zentrale Ausgleichsstelle: 756, nine digits, check digit of EAN-13.
fn ch_ahv(s: &Shape<'_>) -> Option<bool> {
    let sum = weighted(&digits(s.text), &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
    let layout = s.bare() || s.grouped(&[3, 4, 4, 2]);
    Some(s.is_digits(13) && layout && s.text.starts_with(b"756") && sum.is_multiple_of(10))
}

/// Receita Federal: two check digits by 11, of nine and of ten digits; not all digits the same.
fn br_cpf(s: &Shape<'_>) -> Option<bool> {
    let d = digits(s.text);
    let check = |weights: &[u32]| weighted(&d, weights) * 10 % 11 % 10;
    let same = s.text.iter().all(|b| Some(b) == s.text.first());
    let layout = s.bare() || s.grouped(&[3, 3, 3, 2]);
    Some(
        s.is_digits(11)
            && layout
            && !same
            && check(&[10, 9, 8, 7, 6, 5, 4, 3, 2]) == *d.get(9)?
            && check(&[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) == *d.get(10)?,
    )
}

/// UIDAI: twelve digits, not beginning with 0 or 1, check digit by Verhoeff.
fn in_aadhaar(s: &Shape<'_>) -> Option<bool> {
    let layout = s.grouped(&[4, 4, 4]) || (s.bare() && (s.near)(&["aadhaar", "aadhar", "uidai"]));
    Some(s.is_digits(12) && layout && *s.text.first()? >= b'2' && verhoeff(s.text))
}

/// Arrêté royal du 3 avril 1984: birth date, order, 97 less the remainder by 97, of those born from 2000 on with a 2 before.
fn be_nrn(s: &Shape<'_>) -> Option<bool> {
    let (year, month, day) = (s.number(0, 2)?, s.number(2, 4)?, s.number(4, 6)?);
    let (base, check) = (s.number(0, 9)?, s.number(9, 11)?);
    let holds = 97 - base % 97 == check || 97 - (2_000_000_000 + base) % 97 == check;
    // Month and day can be 0 where they are not known; such numbers are not looked for.
    let layout = s.bare() || s.grouped(&[2, 2, 2, 3, 2]) || s.grouped(&[6, 3, 2]);
    Some(s.is_digits(11) && layout && is_day_of_some_century(year, month, day) && holds)
}

/// Skatteetaten: birth date (day plus 40 for a D-number), three digits, two check digits by 11.
fn no_fnr(s: &Shape<'_>) -> Option<bool> {
    let d = digits(s.text);
    let (day, month, year) = (s.number(0, 2)?, s.number(2, 4)?, s.number(4, 6)?);
    let day = if day > 40 { day - 40 } else { day };
    let layout = s.bare() || s.grouped(&[6, 5]);
    Some(
        s.is_digits(11)
            && layout
            && is_day_of_some_century(year, month, day)
            && weighted(&d, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]).is_multiple_of(11)
            && weighted(&d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11),
    )
}

/// Digi- ja väestötietovirasto: birth date, a sign for the century, three digits, a letter or digit by the remainder by 31.
fn fi_hetu(s: &Shape<'_>) -> Option<bool> {
    const SIGNS: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    let (date, rest) = match s.text.len() {
        10 if s.grouped(&[6, 4]) => s.text.split_at_checked(6)?,
        11 if s.bare() && b"ABCDEFUVWXY".contains(s.text.get(6)?) => (s.text.get(..6)?, s.text.get(7..)?),
        _ => return Some(false),
    };
    let (day, month, year) = (part(date, 0, 2)?, part(date, 2, 4)?, part(date, 4, 6)?);
    let base = number(date)? * 1_000 + part(rest, 0, 3)?;
    let sign = SIGNS.get(usize::try_from(base % 31).ok()?)?;
    Some(is_day_of_some_century(year, month, day) && rest.get(3)? == sign)
}

/// GB 11643: place, birth date, order, check sign of ISO/IEC 7064 MOD 11-2.
fn cn_ric(s: &Shape<'_>) -> Option<bool> {
    let (year, month, day) = (s.number(6, 10)?, s.number(10, 12)?, s.number(12, 14)?);
    s.number(0, 17)?;
    let d = digits(s.text.get(..17)?);
    let sum = weighted(&d, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
    let sign = b"10X98765432".get((sum % 11) as usize)?;
    Some(s.bare() && (1850..2100).contains(&year) && is_day(year, month, day) && s.text.get(17)? == sign)
}

/// Nüfus ve Vatandaşlık İşleri: eleven digits, not beginning with 0, two check digits.
fn tr_tckn(s: &Shape<'_>) -> Option<bool> {
    let d = digits(s.text);
    let odd: u32 = d.iter().take(9).step_by(2).sum();
    let even: u32 = d.iter().take(8).skip(1).step_by(2).sum();
    let ten: u32 = d.iter().take(10).sum();
    let holds = (odd * 7 + 90 - even) % 10 == *d.get(9)? && ten % 10 == *d.get(10)?;
    Some(s.is_digits(11) && s.bare() && s.text.first() != Some(&b'0') && holds)
}

/// Employment and Social Development Canada: nine digits, not beginning with 0 or 8, check digit by Luhn.
fn ca_sin(s: &Shape<'_>) -> Option<bool> {
    let named = || s.bare() && (s.near)(&["sin", "social insurance", "assurance sociale"]);
    let first = !matches!(s.text.first()?, b'0' | b'8');
    Some(s.is_digits(9) && first && luhn(s.text) && (s.grouped(&[3, 3, 3]) || named()))
}
