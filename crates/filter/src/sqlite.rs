//! Tests in SQLite, whose columns hold values of any type: each test also says of which type the value must be. Sets and lists are
//! JSON arrays.

use crate::columns::{Column, Kind};
use crate::lower::{Op, Scalar};
use crate::sql::{SqlValue, Values, quoted};

pub(crate) struct Sqlite<'a>(pub(crate) &'a mut Values);

impl Sqlite<'_> {
    pub(crate) fn test(&mut self, column: &Column, op: &Op<'_>) -> Result<String, String> {
        if matches!(column.kind(), Kind::Timestamp | Kind::Numeric | Kind::Address) {
            return Err(format!("SQLite has no type for {}", column.kind().noun()));
        }
        let name = quoted(column.name());
        if column.is_set() {
            return self.set(&name, column, op);
        }
        let kind = if is_text(column) { "text" } else { "integer" };
        let proper = format!("typeof({name}) = '{kind}'");
        Ok(match op {
            Op::Present => proper,
            Op::Absent => format!("{name} IS NULL"),
            Op::In(list) => format!("({proper} AND {})", self.listed(&name, list)?),
            Op::NotIn(list) => format!("({proper} AND NOT {})", self.listed(&name, list)?),
            Op::Order(relation, value) => {
                format!("({proper} AND {name} {} {})", relation.sign(), self.one(value))
            }
            Op::Against(relation, other) => {
                let other = quoted(other.name());
                let sign = relation.sign();
                format!("({proper} AND typeof({other}) = '{kind}' AND {name} {sign} {other} COLLATE BINARY)")
            }
            Op::Like(pattern) | Op::NotLike(pattern) => {
                // GLOB and not LIKE: that one takes `A` and `a` for the same letter. It ends at a zero byte, so texts must have none.
                let written = pattern.written("*", |c, out| match c {
                    '*' | '?' | '[' => out.extend(['[', c, ']']),
                    c => out.push(c),
                });
                let not = if matches!(op, Op::Like(_)) { "" } else { "NOT " };
                let place = self.0.bind(SqlValue::Text(written));
                format!("({proper} AND instr({name}, char(0)) = 0 AND {name} {not}GLOB {place})")
            }
            _ => return Err("a test of sets was asked of one value".to_owned()),
        })
    }

    fn set(&mut self, name: &str, column: &Column, op: &Op<'_>) -> Result<String, String> {
        // Whatever is no JSON is no set; asking JSON functions about it would fail the whole query.
        let json = format!("CASE WHEN json_valid({name}) THEN {name} END");
        let kind = if is_text(column) { "text" } else { "integer" };
        let items = |test: &str| format!("EXISTS (SELECT 1 FROM json_each({json}) AS e WHERE {test})");
        let is_set = format!("json_type({json}) = 'array'");
        let pure = format!("{is_set} AND NOT {}", items(&format!("e.type <> '{kind}'")));
        let held = |place: &str| {
            format!(
                "(SELECT count(DISTINCT e.value) FROM json_each({json}) AS e WHERE e.type = '{kind}' AND e.value IN {place})"
            )
        };
        Ok(match op {
            Op::Present => format!("({pure})"),
            Op::Absent => format!("{name} IS NULL"),
            Op::HoldsAny(values) => {
                let place = self.list(values)?;
                format!("({is_set} AND {})", items(&format!("e.type = '{kind}' AND e.value IN {place}")))
            }
            Op::HoldsNone(values) => {
                let place = self.list(values)?;
                format!("({pure} AND NOT {})", items(&format!("e.value IN {place}")))
            }
            Op::HoldsAll(values) => {
                let place = self.list(values)?;
                format!("({is_set} AND {} = {})", held(&place), values.len())
            }
            Op::LacksOne(values) => {
                let place = self.list(values)?;
                format!("({pure} AND {} < {})", held(&place), values.len())
            }
            Op::Within(values) => {
                let place = self.list(values)?;
                format!("({pure} AND NOT {})", items(&format!("e.value NOT IN {place}")))
            }
            Op::NotWithin(values) => {
                let place = self.list(values)?;
                format!("({pure} AND {})", items(&format!("e.value NOT IN {place}")))
            }
            Op::Empty => format!("({is_set} AND json_array_length({json}) = 0)"),
            Op::NotEmpty => format!("({pure} AND json_array_length({json}) > 0)"),
            _ => return Err("a test of one value was asked of a set".to_owned()),
        })
    }

    fn listed(&mut self, name: &str, list: &[Scalar]) -> Result<String, String> {
        Ok(match list {
            [one] => format!("({name} = {} COLLATE BINARY)", self.one(one)),
            many => format!("({name} COLLATE BINARY IN {})", self.list(many)?),
        })
    }

    fn one(&mut self, value: &Scalar) -> String {
        self.0.bind(match value {
            Scalar::Bool(value) => SqlValue::Int(i64::from(*value)),
            Scalar::Int(value) => SqlValue::Int(*value),
            Scalar::Text(text) => SqlValue::Text(text.clone()),
        })
    }

    /// A list in one placeholder, so that its length has no limit.
    fn list(&mut self, values: &[Scalar]) -> Result<String, String> {
        let json: Vec<serde_json::Value> = values
            .iter()
            .map(|value| match value {
                Scalar::Bool(value) => i64::from(*value).into(),
                Scalar::Int(value) => (*value).into(),
                Scalar::Text(text) => text.as_str().into(),
            })
            .collect();
        let text = serde_json::to_string(&json).map_err(|e| e.to_string())?;
        Ok(format!("(SELECT value FROM json_each({}))", self.0.bind(SqlValue::Text(text))))
    }
}

const fn is_text(column: &Column) -> bool {
    matches!(column.kind(), Kind::Text | Kind::Entity | Kind::EntityOf(_))
}
