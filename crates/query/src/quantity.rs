//! Numbers, sizes, durations and moments: how they are written, and their exact canonical form.

use std::fmt;

use bartizan_base::Timestamp;

use crate::field::Type;

/// The greatest number in a query and in a record: what every JSON reader keeps exactly.
pub(crate) const NUMBER_MAX: u64 = (1 << 53) - 1;

/// A value that has an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// A number, in the unit of its field.
    Number(u64),
    /// A moment.
    At(Timestamp),
    /// So many microseconds before the moment at which the query is answered.
    Ago(u64),
}

impl Quantity {
    /// The number it is held against, when the query is answered at `now`.
    #[must_use]
    pub fn at(self, now: Timestamp) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::At(moment) => moment.as_micros(),
            Self::Ago(micros) => now.as_micros().saturating_sub(micros),
        }
    }

    /// Reads a value of an ordered type.
    pub(crate) fn parse(text: &str, value_type: Type) -> Option<Self> {
        match value_type {
            Type::Number => scaled(text, NUMBERS).map(Self::Number),
            Type::Bytes => scaled(text, SIZES).map(Self::Number),
            Type::Duration => scaled(text, DURATIONS).map(Self::Number),
            Type::Time => moment(text),
            Type::Word | Type::Name | Type::Id(_) | Type::Digest => None,
        }
    }

    /// Writes the value so that [`Quantity::parse`] reads the same.
    pub(crate) fn write(self, f: &mut fmt::Formatter<'_>, value_type: Type) -> fmt::Result {
        match self {
            Self::Number(micros) if value_type == Type::Duration => duration(f, micros),
            Self::Number(number) => write!(f, "{number}"),
            Self::Ago(micros) => duration(f, micros),
            Self::At(moment) => {
                let rest = moment.as_micros() % 1_000;
                let text = moment.to_string();
                match text.strip_suffix('Z') {
                    Some(millis) if rest > 0 => write!(f, "{millis}{rest:03}Z"),
                    _ => f.write_str(&text),
                }
            }
        }
    }
}

type Units = &'static [(&'static str, u64)];

const NUMBERS: Units = &[("", 1), ("k", 1_000), ("m", 1_000_000)];
const SIZES: Units = &[
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
];
/// A duration has a unit: a bare number would be read as seconds by one and as microseconds by the next. The first
/// six are those of the canonical form, the longest first.
const DURATIONS: Units = &[
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
    ("µs", 1),
    ("w", 7 * 86_400_000_000),
];

fn scaled(text: &str, units: Units) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.to_lowercase();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor).filter(|number| *number <= NUMBER_MAX)
}

/// Whether a moment is written as a whole day; everything longer has a time of day.
pub(crate) const fn is_date(text: &str) -> bool {
    text.len() == "2026-11-20".len()
}

fn moment(text: &str) -> Option<Quantity> {
    if text.eq_ignore_ascii_case("now") {
        return Some(Quantity::Ago(0));
    }
    let written = if is_date(text) {
        Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z"))
    } else {
        Timestamp::parse_rfc3339(text)
    };
    written.map(Quantity::At).ok().or_else(|| scaled(text, DURATIONS).map(Quantity::Ago))
}

fn duration(f: &mut fmt::Formatter<'_>, micros: u64) -> fmt::Result {
    let exact = |(_, factor): &&(&str, u64)| micros.is_multiple_of(*factor) && micros > 0;
    match DURATIONS.iter().take(6).find(exact) {
        Some((unit, factor)) => write!(f, "{}{unit}", micros / factor),
        None => f.write_str("0s"),
    }
}

/// A quantity and the type of its field, to be shown.
pub(crate) struct Shown(pub(crate) Quantity, pub(crate) Type);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_mean_what_they_say() {
        let read = |text, value_type| Quantity::parse(text, value_type);
        assert_eq!(read("64k", Type::Bytes), Some(Quantity::Number(64_000)));
        assert_eq!(read("2KiB", Type::Bytes), Some(Quantity::Number(2_048)));
        assert_eq!(read("250ms", Type::Duration), Some(Quantity::Number(250_000)));
        assert_eq!(read("2w", Type::Time), Some(Quantity::Ago(1_209_600_000_000)));
        assert_eq!(
            read("2026-11-20", Type::Time),
            Timestamp::parse_rfc3339("2026-11-20T00:00:00Z").ok().map(Quantity::At)
        );
        for (text, value_type) in [
            ("5", Type::Duration),
            ("5s", Type::Number),
            ("-5", Type::Number),
            ("+5", Type::Number),
            ("1e3", Type::Number),
            ("", Type::Bytes),
            ("k", Type::Bytes),
            ("9007199254740992", Type::Number),
            ("99999999999999999999", Type::Number),
            ("9007199254741m", Type::Number),
            ("1969-12-31", Type::Time),
            ("2026-13-01", Type::Time),
            ("2026-11-20T08:00:00", Type::Time),
        ] {
            assert_eq!(read(text, value_type), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(micros in 0_u64..=NUMBER_MAX, coarse in 0_u64..2_000) {
            for quantity in [
                Quantity::Ago(micros),
                Quantity::Ago(coarse * 1_800_000_000),
                Quantity::At(Timestamp::from_micros(micros)),
                Quantity::At(Timestamp::from_micros(coarse * 86_400_000_000)),
            ] {
                let text = Shown(quantity, Type::Time).to_string();
                prop_assert_eq!(Quantity::parse(&text, Type::Time), Some(quantity), "{}", text);
            }
            for value_type in [Type::Number, Type::Bytes, Type::Duration] {
                let quantity = Quantity::Number(micros);
                let text = Shown(quantity, value_type).to_string();
                prop_assert_eq!(Quantity::parse(&text, value_type), Some(quantity), "{}", text);
            }
        }
    }
}
