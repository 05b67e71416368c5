//! What expressions of a residual look like.

use cedar_policy::pst::{BinaryOp, Expr, UnaryOp, Var};

use crate::constant;
use crate::value::{Field, Network, Value};

/// The operands of a chain of one operator, from the left.
pub(crate) fn chain<'e>(expr: &'e Expr, op: BinaryOp, out: &mut Vec<&'e Expr>) {
    let mut left = vec![expr];
    while let Some(expr) = left.pop() {
        match expr {
            Expr::BinaryOp { op: other, left: first, right } if *other == op => {
                left.push(right);
                left.push(first);
            }
            _ => out.push(expr),
        }
    }
}

/// The path of attributes from the resource to `expr`.
pub(crate) fn path(expr: &Expr) -> Option<Vec<String>> {
    let mut path = Vec::new();
    let mut expr = expr;
    while let Expr::GetAttr { expr: inner, attr } = expr {
        path.push(attr.to_string());
        expr = inner;
    }
    path.reverse();
    matches!(expr, Expr::Var(Var::Resource)).then_some(path)
}

/// The attribute or tag of the resource that `expr` is.
pub(crate) fn field_of(expr: &Expr) -> Option<Field> {
    if let Expr::BinaryOp { op: BinaryOp::GetTag, left, right } = expr
        && let (Some([]), Some(Value::Text(name))) = (path(left).as_deref(), constant::value(right))
    {
        return Some(Field::Tag(name));
    }
    path(expr).filter(|path| !path.is_empty()).map(Field::Attribute)
}

/// The networks that a question about the kind of an address stands for.
pub(crate) fn networks(op: UnaryOp) -> Option<Vec<Network>> {
    let names: &[&str] = match op {
        UnaryOp::IsIPv4 => &["0.0.0.0/0"],
        UnaryOp::IsIPV6 => &["::/0"],
        UnaryOp::IsLoopback => &["127.0.0.0/8", "::1"],
        UnaryOp::IsMulticast => &["224.0.0.0/4", "ff00::/8"],
        _ => return None,
    };
    names.iter().map(|name| Network::parse(name)).collect()
}

/// Why a condition has no translation, in words.
pub(crate) fn why(expr: &Expr) -> &'static str {
    match expr {
        Expr::BinaryOp { op: BinaryOp::In, .. } => {
            "it needs the ancestors of an entity that are not known here"
        }
        Expr::BinaryOp { op: BinaryOp::GetTag | BinaryOp::HasTag, .. } => {
            "it names a tag by something else than a text, or another entity's"
        }
        Expr::GetAttr { .. } => "it looks at an entity other than the resource",
        _ => "no store is asked to compute this",
    }
}
