//! Expressions of the residual that are values already.

use std::str::FromStr as _;
use std::sync::LazyLock;

use cedar_policy::pst::{BinaryOp, EntityUID, Expr, Literal, UnaryOp};
use cedar_policy::{Context, Entities, EntityUid, EvalResult, Expression, Request, eval_expression};

use crate::value::{Decimal, Entity, Network, Value};

/// The entity of a literal.
pub(crate) fn entity(uid: &EntityUID) -> Entity {
    Entity { kind: uid.ty.to_string(), id: uid.eid.to_string() }
}

/// The value of `expr`, if it is one.
pub(crate) fn value(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::Literal(Literal::Bool(b)) => Some(Value::Bool(*b)),
        Expr::Literal(Literal::Long(n)) => Some(Value::Long(*n)),
        Expr::Literal(Literal::String(text)) => Some(Value::Text(text.to_string())),
        Expr::Literal(Literal::EntityUID(uid)) => Some(Value::Entity(entity(uid))),
        // The engine writes moments in several ways, so it also reads them.
        Expr::UnaryOp { op: UnaryOp::Datetime, expr: inner } if is_literal(inner) => moment(expr),
        Expr::BinaryOp { op: BinaryOp::Offset, left, right } => match (value(left)?, value(right)?) {
            (Value::Datetime(at), Value::Duration(span)) => at.checked_add(span).map(Value::Datetime),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOp::Duration, expr: inner } if is_literal(inner) => {
            milliseconds(&format!("{expr}.toMilliseconds()")).map(Value::Duration)
        }
        Expr::UnaryOp { op: UnaryOp::Decimal, expr: inner } => {
            Decimal::parse(text(inner)?).map(Value::Decimal)
        }
        Expr::UnaryOp { op: UnaryOp::Ip, expr: inner } => Network::parse(text(inner)?).map(Value::Address),
        _ => None,
    }
}

/// The elements of `expr`, if it is a set of values.
pub(crate) fn values(expr: &Expr) -> Option<Vec<Value>> {
    let Expr::Set(items) = expr else { return None };
    let mut out = items.iter().map(|item| value(item)).collect::<Option<Vec<_>>>()?;
    out.sort();
    out.dedup();
    Some(out)
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(Literal::String(text)) => Some(text),
        _ => None,
    }
}

fn is_literal(expr: &Expr) -> bool {
    text(expr).is_some()
}

fn moment(expr: &Expr) -> Option<Value> {
    milliseconds(&format!("{expr}.durationSince(datetime(\"1970-01-01\")).toMilliseconds()"))
        .map(Value::Datetime)
}

/// Lets the engine evaluate a closed expression to a number.
fn milliseconds(closed: &str) -> Option<i64> {
    static NOBODY: LazyLock<Option<Request>> = LazyLock::new(|| {
        let uid = EntityUid::from_str("Nobody::\"\"").ok()?;
        Request::new(uid.clone(), uid.clone(), uid, Context::empty(), None).ok()
    });
    let expression = Expression::from_str(closed).ok()?;
    match eval_expression(NOBODY.as_ref()?, &Entities::empty(), &expression).ok()? {
        EvalResult::Long(value) => Some(value),
        _ => None,
    }
}
