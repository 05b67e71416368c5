//! Tests in PostgreSQL.
//!
//! Texts are compared under `COLLATE "C"`, that is byte by byte, whatever the collation or type (`citext`) of the column; an index that
//! should serve must have that collation. A comparison with NULL is NULL, and nothing stands above it that would turn that
//! into true.

use chrono::{DateTime, Datelike as _, SecondsFormat};

use crate::columns::{Column, Kind};
use crate::lower::{Op, Scalar};
use crate::sql::{SqlValue, Values, quoted};

pub(crate) struct Postgres<'a>(pub(crate) &'a mut Values);

impl Postgres<'_> {
    pub(crate) fn test(&mut self, column: &Column, op: &Op<'_>) -> Result<String, String> {
        let name = quoted(column.name());
        let it = operand(column);
        let proper = proper(column);
        let and =
            |test: String| proper.as_ref().map_or_else(|| test.clone(), |p| format!("({test} AND {p})"));
        Ok(match op {
            Op::Present => and(format!("{name} IS NOT NULL")),
            Op::Absent => format!("{name} IS NULL"),
            Op::In(list) => {
                let test = match list.as_slice() {
                    [one] => format!("{it} = {}", self.one(column, one)?),
                    many => format!("{it} = ANY({})", self.many(column, many)?),
                };
                and(test)
            }
            Op::NotIn(list) => {
                let test = match list.as_slice() {
                    [one] => format!("{it} <> {}", self.one(column, one)?),
                    many => format!("{it} <> ALL({})", self.many(column, many)?),
                };
                and(test)
            }
            Op::Order(relation, value) => {
                and(format!("{it} {} {}", relation.sign(), self.one(column, value)?))
            }
            Op::Against(relation, other) => {
                let test = format!("{it} {} {}", relation.sign(), operand(other));
                let tests = [Some(test), proper.clone(), self::proper(other)];
                format!("({})", tests.into_iter().flatten().collect::<Vec<_>>().join(" AND "))
            }
            Op::Like(pattern) | Op::NotLike(pattern) => {
                let written = pattern.written("%", |c, out| {
                    if matches!(c, '%' | '_' | '\\') {
                        out.push('\\');
                    }
                    out.push(c);
                });
                let not = if matches!(op, Op::Like(_)) { "" } else { "NOT " };
                format!("{it} {not}LIKE {}::text ESCAPE '\\'", self.0.bind(SqlValue::Text(written)))
            }
            // An array with a NULL in it is no set: what the NULL stands for is not known.
            Op::HoldsAny(list) => format!("{it} && {}", self.many(column, list)?),
            Op::HoldsNone(list) => and(format!("NOT ({it} && {})", self.many(column, list)?)),
            Op::HoldsAll(list) => format!("{it} @> {}", self.many(column, list)?),
            Op::LacksOne(list) => and(format!("NOT ({it} @> {})", self.many(column, list)?)),
            Op::Within(list) => and(format!("{it} <@ {}", self.many(column, list)?)),
            Op::NotWithin(list) => and(format!("NOT ({it} <@ {})", self.many(column, list)?)),
            Op::Empty => format!("cardinality({name}) = 0"),
            Op::NotEmpty => and(format!("cardinality({name}) > 0")),
            Op::InNetworks(networks) => {
                let tests: Vec<_> = networks.iter().map(|n| self.in_network(&name, &n.to_string())).collect();
                format!("({})", tests.join(" OR "))
            }
            Op::OutsideNetworks(networks) => {
                let tests: Vec<_> = networks
                    .iter()
                    .map(|n| format!("NOT ({})", self.in_network(&name, &n.to_string())))
                    .collect();
                format!("({})", tests.join(" AND "))
            }
        })
    }

    fn in_network(&mut self, name: &str, network: &str) -> String {
        format!("{name} <<= {}::text::inet", self.0.bind(SqlValue::Text(network.to_owned())))
    }

    /// A placeholder for one value, with its type.
    fn one(&mut self, column: &Column, value: &Scalar) -> Result<String, String> {
        let (value, kind) = match (column.kind(), value) {
            (Kind::Timestamp, Scalar::Int(at)) => (SqlValue::Text(moment(*at)?), "::text::timestamptz"),
            (Kind::Numeric, Scalar::Text(text)) => (SqlValue::Text(text.clone()), "::text::numeric"),
            (Kind::Address, Scalar::Text(text)) => (SqlValue::Text(text.clone()), "::text::inet"),
            (_, Scalar::Bool(value)) => (SqlValue::Bool(*value), "::bool"),
            (_, Scalar::Int(value)) => (SqlValue::Int(*value), "::int8"),
            (_, Scalar::Text(text)) => (SqlValue::Text(text.clone()), "::text"),
        };
        Ok(format!("{}{kind}", self.0.bind(value)))
    }

    /// A placeholder for several values, with its type.
    fn many(&mut self, column: &Column, list: &[Scalar]) -> Result<String, String> {
        let mut ints = Vec::new();
        let mut texts = Vec::new();
        for value in list {
            match (column.kind(), value) {
                (Kind::Timestamp, Scalar::Int(at)) => texts.push(moment(*at)?),
                (_, Scalar::Int(value)) => ints.push(*value),
                (_, Scalar::Text(text)) => texts.push(text.clone()),
                (_, Scalar::Bool(_)) => return Err("truth values are not asked for in lists".to_owned()),
            }
        }
        if texts.is_empty() {
            return Ok(format!("{}::int8[]", self.0.bind(SqlValue::Ints(ints))));
        }
        let cast = match column.kind() {
            Kind::Timestamp => "::text[]::timestamptz[]",
            Kind::Numeric => "::text[]::numeric[]",
            Kind::Address => "::text[]::inet[]",
            _ => "::text[]",
        };
        Ok(format!("{}{cast}", self.0.bind(SqlValue::Texts(texts))))
    }
}

/// The column in comparisons.
fn operand(column: &Column) -> String {
    let name = quoted(column.name());
    match (column.kind(), column.is_set()) {
        (Kind::Text | Kind::Entity | Kind::EntityOf(_), false) => format!("({name}::text COLLATE \"C\")"),
        (Kind::Text | Kind::Entity | Kind::EntityOf(_), true) => format!("({name}::text[] COLLATE \"C\")"),
        (Kind::Long, true) => format!("{name}::int8[]"),
        _ => name,
    }
}

/// What keeps out values that Cedar does not have.
fn proper(column: &Column) -> Option<String> {
    let name = quoted(column.name());
    if column.is_set() {
        return Some(format!("array_position({name}, NULL) IS NULL"));
    }
    match column.kind() {
        Kind::Timestamp => Some(format!("isfinite({name})")),
        // Neither NaN, which is greater than every number, nor infinity.
        Kind::Numeric => Some(format!("{name} BETWEEN -922337203685477.5808 AND 922337203685477.5807")),
        _ => None,
    }
}

/// A moment as PostgreSQL reads it, in the years that it and everybody else write alike.
fn moment(at: i64) -> Result<String, String> {
    DateTime::from_timestamp_millis(at)
        .filter(|moment| (1..=9999).contains(&moment.year()))
        .map(|moment| moment.to_rfc3339_opts(SecondsFormat::Millis, true))
        .ok_or_else(|| "a moment lies outside of the years 1 to 9999".to_owned())
}
