//! Texts as they are searched: characters that only look or count differently folded onto ASCII, invisible ones left out.
//! Every byte knows the character it came from, so what is masked is what was written.

/// Invisible characters in one run that are kept. Scripts need one or two; more are there to hide something or to make a
/// text heavy, and are dropped from it.
const INVISIBLE_MAX: usize = 8;

/// A text in the making of being searched.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// The folded bytes: valid UTF-8.
    pub(crate) bytes: Vec<u8>,
    /// Of each folded byte where in the original its character begins, and how long that is. Empty as long as the folded
    /// bytes are the original ones, but for a shift.
    at: Vec<(usize, u8)>,
    /// Where in the original the first folded byte is, while `at` is empty.
    shift: usize,
    /// Whether `at` is kept.
    placed: bool,
    /// The original, as far as it is still needed.
    original: String,
    invisible: usize,
}

enum Fold {
    Same,
    Gone,
    To(u8),
    Lower(char),
}

impl Folded {
    /// Forgets everything, and keeps the room for the next text.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.at.clear();
        self.original.clear();
        (self.shift, self.placed, self.invisible) = (0, false, 0);
    }

    /// Appends to the text.
    pub(crate) fn push(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let plain = ascii_length(rest.as_bytes());
            let (ascii, others) = rest.split_at_checked(plain).unwrap_or((rest, ""));
            self.push_ascii(ascii);
            let foreign = others.bytes().position(|b| b.is_ascii()).unwrap_or(others.len());
            let (foreign, after) = others.split_at_checked(foreign).unwrap_or((others, ""));
            foreign.chars().for_each(|c| self.push_char(c));
            rest = after;
        }
    }

    fn push_ascii(&mut self, ascii: &str) {
        if ascii.is_empty() {
            return;
        }
        let from = self.original.len();
        if self.bytes.is_empty() {
            self.shift = from;
            self.placed = false;
        }
        if self.placed {
            self.at.extend((from..from + ascii.len()).map(|at| (at, 1)));
        }
        self.bytes.extend_from_slice(ascii.as_bytes());
        self.original.push_str(ascii);
        self.invisible = 0;
    }

    /// From here on every place is kept.
    fn keep_places(&mut self) {
        if !self.placed {
            self.placed = true;
            let shift = self.shift;
            self.at.extend((0..self.bytes.len()).map(|place| (place + shift, 1)));
        }
    }

    fn push_char(&mut self, c: char) {
        let fold = fold(c);
        self.keep_places();
        if matches!(fold, Fold::Gone) {
            self.invisible += 1;
            if self.invisible <= INVISIBLE_MAX {
                self.original.push(c);
            }
            return;
        }
        self.invisible = 0;
        let (from, long) = (self.original.len(), u8::try_from(c.len_utf8()).unwrap_or(4));
        self.original.push(c);
        let mut buffer = [0; 4];
        let folded = match fold {
            Fold::To(byte) => {
                self.bytes.push(byte);
                1
            }
            Fold::Lower(c) => {
                let text = c.encode_utf8(&mut buffer);
                self.bytes.extend_from_slice(text.as_bytes());
                text.len()
            }
            Fold::Same | Fold::Gone => {
                let text = c.encode_utf8(&mut buffer);
                self.bytes.extend_from_slice(text.as_bytes());
                text.len()
            }
        };
        self.at.extend(std::iter::repeat_n((from, long), folded));
    }

    fn place(&self, place: usize) -> Option<(usize, u8)> {
        if self.placed {
            self.at.get(place).copied()
        } else {
            self.bytes.get(place).map(|_| (place + self.shift, 1))
        }
    }

    /// Where in the original the folded place begins; its end for the end.
    pub(crate) fn begin(&self, place: usize) -> usize {
        self.place(place).map_or(self.original.len(), |(at, _)| at)
    }

    /// Where in the original the character before the folded place ends.
    pub(crate) fn end(&self, place: usize) -> usize {
        place.checked_sub(1).and_then(|last| self.place(last)).map_or(0, |(at, long)| at + usize::from(long))
    }

    /// A part of the original.
    pub(crate) fn part(&self, from: usize, to: usize) -> &str {
        self.original.get(from..to).unwrap_or_default()
    }

    /// Bytes of the original that are still held.
    pub(crate) fn original_len(&self) -> usize {
        self.original.len()
    }

    /// Forgets the folded bytes before `keep_from` and the original before `original_from`, which is behind the last
    /// character boundary that can still be asked for. Gives how many folded bytes are gone.
    pub(crate) fn forget(&mut self, keep_from: usize, original_from: usize) {
        let gone = keep_from.min(self.bytes.len());
        self.bytes.drain(..gone);
        self.original.drain(..original_from);
        if self.placed {
            self.at.drain(..gone);
            self.at.iter_mut().for_each(|(at, _)| *at = at.saturating_sub(original_from));
        } else {
            self.shift = (self.shift + gone).saturating_sub(original_from);
        }
    }
}

/// How many bytes of ASCII a text begins with. In steps that the processor takes at once.
fn ascii_length(bytes: &[u8]) -> usize {
    let (chunks, _) = bytes.as_chunks::<64>();
    let at = chunks.iter().take_while(|chunk| chunk.is_ascii()).count() * 64;
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|b| b.is_ascii()).count()
}

/// A text folded where it has to be, for words that texts are searched for.
pub(crate) fn folded(text: &str) -> Vec<u8> {
    let mut all = Folded::default();
    all.push(text);
    all.bytes
}

/// The character of ASCII that a character reads as, if any.
pub(crate) fn ascii_of(c: char) -> Option<u8> {
    if c.is_ascii() {
        return u8::try_from(c).ok();
    }
    match fold(c) {
        Fold::To(byte) => Some(byte),
        Fold::Lower(c) => u8::try_from(c).ok().filter(u8::is_ascii),
        Fold::Same | Fold::Gone => None,
    }
}

fn ascii(byte: u32) -> Fold {
    u8::try_from(byte).map_or(Fold::Same, Fold::To)
}

fn fold(c: char) -> Fold {
    let code = u32::from(c);
    match code {
        // Invisible: formats, joiners, variation selectors, tags (Unicode: Default_Ignorable_Code_Point).
        0xAD
        | 0x34F
        | 0x61C
        | 0x115F..=0x1160
        | 0x17B4..=0x17B5
        | 0x180B..=0x180F
        | 0x200B..=0x200F
        | 0x202A..=0x202E
        | 0x2060..=0x206F
        | 0x3164
        | 0xFE00..=0xFE0F
        | 0xFEFF
        | 0xFFA0
        | 0xE0000..=0xE0FFF => Fold::Gone,
        // Spaces that do not end a line.
        0xA0 | 0x1680 | 0x2000..=0x200A | 0x202F | 0x205F | 0x3000 => Fold::To(b' '),
        // Hyphens, dashes, minus.
        0x2010..=0x2015 | 0x2043 | 0x2212 | 0xFE58 | 0xFE63 => Fold::To(b'-'),
        0x2024 | 0x3002 | 0xFF61 | 0xFE52 => Fold::To(b'.'),
        0x2044 | 0x2215 => Fold::To(b'/'),
        0x2236 | 0xFE55 => Fold::To(b':'),
        0xFE6B => Fold::To(b'@'),
        0xFE62 => Fold::To(b'+'),
        // Full width.
        0xFF01..=0xFF5E => ascii(code - 0xFEE0),
        // Mathematical letters and digits, circled and superscript ones.
        0x1D400..=0x1D6A3 => match (code - 0x1D400) % 52 {
            upper @ 0..26 => ascii(u32::from(b'A') + upper),
            lower => ascii(u32::from(b'a') + lower - 26),
        },
        0x1D7CE..=0x1D7FF => ascii(u32::from(b'0') + (code - 0x1D7CE) % 10),
        0x24B6..=0x24CF => ascii(u32::from(b'A') + code - 0x24B6),
        0x24D0..=0x24E9 => ascii(u32::from(b'a') + code - 0x24D0),
        0x2460..=0x2468 => ascii(u32::from(b'1') + code - 0x2460),
        0x24EA | 0x2070 | 0x2080 => Fold::To(b'0'),
        0xB9 => Fold::To(b'1'),
        0xB2..=0xB3 => ascii(u32::from(b'2') + code - 0xB2),
        0x2074..=0x2079 => ascii(u32::from(b'4') + code - 0x2074),
        0x2081..=0x2089 => ascii(u32::from(b'1') + code - 0x2081),
        _ => digit(code).or_else(|| look_alike(c)).map_or_else(|| lower(c), Fold::To),
    }
}

/// Decimal digits of other scripts (Unicode: general category Nd), by the code point of their zero.
fn digit(code: u32) -> Option<u8> {
    const ZEROS: [u32; 20] = [
        0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50,
        0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810,
    ];
    let zero = ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code))?;
    u8::try_from(code - zero).ok().map(|digit| b'0' + digit)
}

/// Letters of other scripts that are drawn like Latin ones (Unicode TR 39, the ones of Cyrillic and Greek).
fn look_alike(c: char) -> Option<u8> {
    const PAIRS: [(char, u8); 58] = [
        ('а', b'a'),
        ('е', b'e'),
        ('о', b'o'),
        ('р', b'p'),
        ('с', b'c'),
        ('у', b'y'),
        ('х', b'x'),
        ('і', b'i'),
        ('ј', b'j'),
        ('ѕ', b's'),
        ('ԁ', b'd'),
        ('ԛ', b'q'),
        ('ԝ', b'w'),
        ('һ', b'h'),
        ('ӏ', b'l'),
        ('ɡ', b'g'),
        ('ı', b'i'),
        ('ѵ', b'v'),
        ('А', b'A'),
        ('В', b'B'),
        ('Е', b'E'),
        ('К', b'K'),
        ('М', b'M'),
        ('Н', b'H'),
        ('О', b'O'),
        ('Р', b'P'),
        ('С', b'C'),
        ('Т', b'T'),
        ('У', b'Y'),
        ('Х', b'X'),
        ('І', b'I'),
        ('Ј', b'J'),
        ('Ѕ', b'S'),
        ('Ԛ', b'Q'),
        ('Ԝ', b'W'),
        ('Ӏ', b'I'),
        ('Α', b'A'),
        ('Β', b'B'),
        ('Ε', b'E'),
        ('Ζ', b'Z'),
        ('Η', b'H'),
        ('Ι', b'I'),
        ('Κ', b'K'),
        ('Μ', b'M'),
        ('Ν', b'N'),
        ('Ο', b'O'),
        ('Ρ', b'P'),
        ('Τ', b'T'),
        ('Υ', b'Y'),
        ('Χ', b'X'),
        ('ο', b'o'),
        ('ν', b'v'),
        ('ι', b'i'),
        ('α', b'a'),
        ('ρ', b'p'),
        ('υ', b'u'),
        ('ϲ', b'c'),
        ('ϳ', b'j'),
    ];
    if !(0x131..0x52F).contains(&u32::from(c)) {
        return None;
    }
    PAIRS.iter().find(|(from, _)| *from == c).map(|(_, to)| *to)
}

fn lower(c: char) -> Fold {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(l), None) if l != c && l.len_utf8() == c.len_utf8() => Fold::Lower(l),
        _ => Fold::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_is_searched_alike_and_keeps_its_place() {
        for (text, expected) in [
            ("plain", "plain"),
            ("４１１１\u{2011}1111", "4111-1111"),
            ("a\u{200b}n\u{2060}n＠x．org", "ann@x.org"),
            ("аnn@ехample", "ann@example"),
            ("٤١١١", "4111"),
            ("𝟜𝟙", "41"),
            ("𝐀𝐛", "Ab"),
            ("Größe ÄÖ", "größe äö".replace('g', "G").as_str()),
            ("日本", "日本"),
        ] {
            assert_eq!(String::from_utf8(folded(text)).unwrap(), expected);
        }
        let mut folded = Folded::default();
        folded.push("é\u{200b}＠x");
        assert_eq!((folded.begin(2), folded.end(3)), (5, 8));
        assert_eq!(folded.part(5, 8), "＠");
    }

    #[test]
    fn a_flood_of_invisible_characters_is_dropped() {
        let mut folded = Folded::default();
        folded.push(&format!("a{}b", "\u{200b}".repeat(10_000)));
        assert_eq!(folded.bytes, b"ab");
        assert_eq!(folded.original_len(), 2 + 3 * INVISIBLE_MAX);
    }
}
