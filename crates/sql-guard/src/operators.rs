//! Signs and types, from the parser's to ours.

use bartizan_model::database_route::SqlType;
use sqlparser::ast::{BinaryOperator, DataType, TimezoneInfo, UnaryOperator};

use crate::names::Rules;

pub(crate) fn binary(rules: Rules, operator: &BinaryOperator) -> Option<&'static str> {
    Some(match operator {
        BinaryOperator::Plus => "+",
        BinaryOperator::Minus => "-",
        BinaryOperator::Multiply => "*",
        BinaryOperator::Divide => "/",
        BinaryOperator::Modulo => "%",
        BinaryOperator::StringConcat => "||",
        BinaryOperator::Eq => "=",
        BinaryOperator::NotEq => "<>",
        BinaryOperator::Lt => "<",
        BinaryOperator::Gt => ">",
        BinaryOperator::LtEq => "<=",
        BinaryOperator::GtEq => ">=",
        BinaryOperator::And => "AND",
        BinaryOperator::Or => "OR",
        BinaryOperator::Arrow if rules == Rules::Postgres => "->",
        BinaryOperator::LongArrow if rules == Rules::Postgres => "->>",
        _ => return None,
    })
}

pub(crate) const fn unary(operator: UnaryOperator) -> Option<&'static str> {
    Some(match operator {
        UnaryOperator::Minus => "-",
        UnaryOperator::Plus => "+",
        UnaryOperator::Not => "NOT",
        _ => return None,
    })
}

/// The type of a cast. Lengths and precisions are none of ours: a cast that cuts would be one that hides.
pub(crate) fn cast(rules: Rules, kind: &DataType) -> Option<SqlType> {
    let found = match kind {
        DataType::Text | DataType::Varchar(None) | DataType::CharacterVarying(None) => SqlType::Text,
        DataType::Int(None)
        | DataType::Integer(None)
        | DataType::BigInt(None)
        | DataType::SmallInt(None)
        | DataType::Int2(None)
        | DataType::Int4(None)
        | DataType::Int8(None) => SqlType::Integer,
        DataType::Real | DataType::Float4 | DataType::Float8 | DataType::DoublePrecision => SqlType::Number,
        DataType::Numeric(sqlparser::ast::ExactNumberInfo::None)
        | DataType::Decimal(sqlparser::ast::ExactNumberInfo::None) => SqlType::Decimal,
        DataType::Bool | DataType::Boolean => SqlType::Boolean,
        DataType::Date => SqlType::Date,
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Timestamp,
        DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => SqlType::Timestamptz,
        DataType::Interval { fields: None, precision: None } => SqlType::Interval,
        DataType::Uuid => SqlType::Uuid,
        DataType::JSONB => SqlType::Json,
        DataType::Bytea => SqlType::Bytes,
        _ => return None,
    };
    let in_sqlite = matches!(found, SqlType::Text | SqlType::Integer | SqlType::Number | SqlType::Decimal);
    (rules == Rules::Postgres || in_sqlite).then_some(found)
}
