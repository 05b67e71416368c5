//! Values: from what was written to what a field's values are held against.

use std::borrow::Cow;
use std::ops::Bound;

use bartizan_base::Timestamp;

use crate::error::Problem;
use crate::field::{Field, Type};
use crate::quantity::{NUMBER_MAX, Quantity, is_date};
use crate::read::{Reader, shown};
use crate::tree::Pattern;

/// How alike a name must be to be the one that was meant, 0 to 1 (Jaro-Winkler).
const ALIKE: f64 = 0.8;
/// One day less one microsecond: a date is the whole day.
const REST_OF_DAY_US: u64 = 86_400_000_000 - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Is,
    IsNot,
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Operator {
    /// The longer ones first.
    const WRITTEN: &[(&'static str, Self)] = &[
        ("!=", Self::IsNot),
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        (">", Self::Above),
        ("<", Self::Below),
        (":", Self::Is),
        ("=", Self::Is),
    ];

    /// Goes past an operator, if one stands here.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Self::WRITTEN.iter().find(|(symbol, _)| reader.eat(symbol)).map(|(_, operator)| *operator)
    }

    pub(crate) fn symbol(self) -> &'static str {
        Self::WRITTEN.iter().find(|(_, operator)| *operator == self).map_or("", |(symbol, _)| *symbol)
    }
}

/// A value without quotes: a wildcard at its end and ranges mean something.
pub(crate) fn bare(field: Field, text: &str) -> Result<Pattern, Problem> {
    if text == "*" {
        return Ok(Pattern::Present);
    }
    if field.value_type().is_ordered() {
        return ordered(field, text);
    }
    let (text, prefix) = text.strip_suffix('*').map_or((text, false), |text| (text, true));
    if text.contains('*') { Err(Problem::Wildcard) } else { textual(field, text, prefix) }
}

/// A value in quotes: every character is meant as it stands.
pub(crate) fn quoted(field: Field, text: &str, prefix: bool) -> Result<Pattern, Problem> {
    match (field.value_type().is_ordered(), prefix) {
        (true, true) => Err(Problem::Wildcard),
        (true, false) => ordered(field, text),
        (false, _) => textual(field, text, prefix),
    }
}

/// The value of a comparison.
pub(crate) fn compared(field: Field, operator: Operator, text: &str) -> Result<Pattern, Problem> {
    if text.contains("..") || text.contains('*') {
        return Err(Problem::OneValue(operator.symbol()));
    }
    let (first, last) = quantity(field, text)?;
    let empty = Problem::EmptyRange(field.name());
    let (from, to) = match (operator, first, last) {
        // Whole numbers: what lies above one is at least the next.
        (Operator::Above, _, Quantity::Number(n)) if n < NUMBER_MAX => {
            (Bound::Included(Quantity::Number(n + 1)), Bound::Unbounded)
        }
        (Operator::Below, Quantity::Number(n), _) if n > 0 => {
            (Bound::Unbounded, Bound::Included(Quantity::Number(n - 1)))
        }
        (Operator::Above | Operator::Below, Quantity::Number(_), _) => return Err(empty),
        (Operator::Above, _, last) => (Bound::Excluded(last), Bound::Unbounded),
        (Operator::Below, first, _) => (Bound::Unbounded, Bound::Excluded(first)),
        (Operator::AtLeast, first, _) => (Bound::Included(first), Bound::Unbounded),
        (Operator::AtMost, _, last) => (Bound::Unbounded, Bound::Included(last)),
        (Operator::Is | Operator::IsNot, first, last) => (Bound::Included(first), Bound::Included(last)),
    };
    Ok(Pattern::Range(from, to))
}

fn ordered(field: Field, text: &str) -> Result<Pattern, Problem> {
    let Some((from, to)) = text.split_once("..") else {
        let (first, last) = quantity(field, text)?;
        if matches!(first, Quantity::Ago(_)) {
            // Exactly so long ago, to the microsecond, is never what is meant.
            return Err(not_a_value(field, text, "a date or a range; for the time since then, `since:`"));
        }
        return Ok(Pattern::Range(Bound::Included(first), Bound::Included(last)));
    };
    let side = |text: &str| {
        if text.is_empty() { Ok(None) } else { quantity(field, text).map(Some) }
    };
    let (from, to) = (side(from)?.map(|(first, _)| first), side(to)?.map(|(_, last)| last));
    match (from, to) {
        (None, None) => Err(not_a_value(field, text, field.value_type().expected())),
        (Some(Quantity::Number(from)), Some(Quantity::Number(to))) if from > to => {
            Err(Problem::EmptyRange(field.name()))
        }
        (Some(Quantity::At(from)), Some(Quantity::At(to))) if from > to => {
            Err(Problem::EmptyRange(field.name()))
        }
        (Some(Quantity::Ago(from)), Some(Quantity::Ago(to))) if from < to => {
            Err(Problem::EmptyRange(field.name()))
        }
        (from, to) => Ok(Pattern::Range(bound(from), bound(to))),
    }
}

fn bound(quantity: Option<Quantity>) -> Bound<Quantity> {
    quantity.map_or(Bound::Unbounded, Bound::Included)
}

/// The first and the last quantity that `text` means: they differ for dates only.
fn quantity(field: Field, text: &str) -> Result<(Quantity, Quantity), Problem> {
    let value_type = field.value_type();
    let first =
        Quantity::parse(text, value_type).ok_or_else(|| not_a_value(field, text, value_type.expected()))?;
    let last = match first {
        Quantity::At(start) if is_date(text) => {
            Quantity::At(Timestamp::from_micros(start.as_micros().saturating_add(REST_OF_DAY_US)))
        }
        other => other,
    };
    Ok((first, last))
}

fn textual(field: Field, text: &str, prefix: bool) -> Result<Pattern, Problem> {
    let value_type = field.value_type();
    let fits = match (value_type, prefix) {
        (Type::Word, false) => field.has_word(text),
        (Type::Word, true) => field.has_word_with(text),
        (Type::Id(kind), _) => match text.strip_prefix(kind).and_then(|rest| rest.strip_prefix('_')) {
            Some(digits) => is_hex(digits, 32, prefix),
            None => prefix && format!("{kind}_").starts_with(text),
        },
        (Type::Digest, _) => is_hex(text, 64, prefix),
        (Type::Name | Type::Number | Type::Bytes | Type::Duration | Type::Time, _) => true,
    };
    if fits {
        return Ok(if prefix { Pattern::Prefix(text.to_owned()) } else { Pattern::Exact(text.to_owned()) });
    }
    Err(Problem::NotAValue {
        field: field.name(),
        value: shown(text),
        expected: value_type.expected(),
        near: nearest(text, field.words().into_iter()),
    })
}

fn is_hex(text: &str, digits: usize, prefix: bool) -> bool {
    (text.len() == digits || prefix && text.len() < digits)
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn not_a_value(field: Field, text: &str, expected: &'static str) -> Problem {
    Problem::NotAValue { field: field.name(), value: shown(text), expected, near: None }
}

/// The name among `names` that is most like `text`, if one is like it.
pub(crate) fn nearest(text: &str, names: impl Iterator<Item = Cow<'static, str>>) -> Option<String> {
    let text = text.to_ascii_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&text, &name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name.into_owned())
}
