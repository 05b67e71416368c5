//! The condition of a rule: what is left of it when its scope is known to match.

use cedar_policy::{EntityTypeName, EntityUid, Policy};
use cedar_policy_core::ast::{BinaryOp, Expr, ExprBuilder, ExprKind, Literal, Var};
use cedar_policy_core::expr_builder::ExprBuilder as _;
use std::sync::Arc;

use super::plain::{Plain, Told};
use crate::entities::Names;

/// A rule's `when` and `unless`; nothing where it has none.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    expression: Option<Expr>,
    pub(crate) reads: Reads,
}

/// What of the entities a condition can look at. Making them costs more than most conditions cost to evaluate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Attributes of principal and resource, or anything about them.
    pub(crate) entities: bool,
    /// What something is in.
    pub(crate) above: bool,
    /// What attributes name.
    pub(crate) pointed: bool,
}

impl Reads {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            entities: self.entities || other.entities,
            above: self.above || other.above,
            pointed: self.pointed || other.pointed,
        }
    }

    fn of(expression: &Expr) -> Self {
        let mut reads = Self::default();
        for part in expression.subexpressions() {
            match part.expr_kind() {
                ExprKind::Var(Var::Principal | Var::Action | Var::Resource) => reads.entities = true,
                ExprKind::Lit(Literal::EntityUID(_)) => reads.entities = true,
                ExprKind::BinaryApp { op: BinaryOp::In, arg1, .. } => {
                    (reads.entities, reads.above) = (true, true);
                    reads.pointed |= !is_plain(arg1);
                }
                ExprKind::BinaryApp { op: BinaryOp::GetTag | BinaryOp::HasTag, arg1, .. } => {
                    reads.pointed |= !is_plain(arg1);
                }
                ExprKind::GetAttr { expr, .. } | ExprKind::HasAttr { expr, .. } => {
                    reads.pointed |= !is_plain(expr) && !is_of_context(expr);
                }
                // `has a.b` may pass through an entity.
                ExprKind::ExtHasAttr { expr, .. } => reads.pointed |= !is_of_context(expr),
                _ => {}
            }
        }
        reads
    }
}

/// A variable itself: nothing is looked up to reach it.
fn is_plain(expression: &Expr) -> bool {
    matches!(expression.expr_kind(), ExprKind::Var(_))
}

/// Something within the context, which is there whole. What a context names is looked at apart.
fn is_of_context(expression: &Expr) -> bool {
    match expression.expr_kind() {
        ExprKind::Var(var) => *var == Var::Context,
        ExprKind::GetAttr { expr, .. } => is_of_context(expr),
        _ => false,
    }
}

/// Something that must hold before anything else of a condition is looked at, and that a scope could say too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Conjunct {
    /// The principal, or the resource, is of a type.
    Is(Of, EntityTypeName),
    /// It is this one.
    Exactly(Of, EntityUid),
    /// It is in this one.
    Within(Of, EntityUid),
}

/// Whose place a conjunct speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Principal,
    Resource,
}

impl Condition {
    pub(crate) fn of(policy: &Policy) -> Self {
        let inner: &cedar_policy_core::ast::Policy = policy.as_ref();
        let expression = inner.non_scope_constraints().map(bare);
        let reads = expression.as_ref().map_or_else(Reads::default, Reads::of);
        Self { expression, reads }
    }

    /// The condition in the form that needs nothing made for it, where it has one.
    pub(crate) fn plain(&self, names: &Names, told: &mut Told) -> Option<Plain> {
        let Some(expression) = &self.expression else { return Some(Plain::always()) };
        Plain::of(expression, names, told)
    }

    pub(super) const fn expression(&self) -> Option<&Expr> {
        self.expression.as_ref()
    }

    /// What leads the condition and could stand in the scope. When one of these is false, so is the condition, and nothing
    /// after it is evaluated, so nothing can err.
    pub(crate) fn leading(&self) -> Vec<Conjunct> {
        let mut out = Vec::new();
        if let Some(expression) = &self.expression {
            lead(expression, &mut out);
        }
        out
    }
}

/// Whether all of `expression` could stand in the scope; what leads it is put into `out`.
fn lead(expression: &Expr, out: &mut Vec<Conjunct>) -> bool {
    if let ExprKind::And { left, right } = expression.expr_kind() {
        return lead(left, out) && lead(right, out);
    }
    let conjunct = match expression.expr_kind() {
        ExprKind::Is { expr, entity_type } => {
            whose(expr).map(|of| Conjunct::Is(of, entity_type.clone().into()))
        }
        ExprKind::BinaryApp { op, arg1, arg2 } => match (op, whose(arg1), arg2.expr_kind()) {
            (BinaryOp::Eq, Some(of), ExprKind::Lit(Literal::EntityUID(uid))) => {
                Some(Conjunct::Exactly(of, uid.as_ref().clone().into()))
            }
            (BinaryOp::In, Some(of), ExprKind::Lit(Literal::EntityUID(uid))) => {
                Some(Conjunct::Within(of, uid.as_ref().clone().into()))
            }
            _ => None,
        },
        _ => None,
    };
    let found = conjunct.is_some();
    out.extend(conjunct);
    found
}

fn whose(expression: &Expr) -> Option<Of> {
    match expression.expr_kind() {
        ExprKind::Var(Var::Principal) => Some(Of::Principal),
        ExprKind::Var(Var::Resource) => Some(Of::Resource),
        _ => None,
    }
}

/// The same expression without places in a source text, which the engine would copy into every value on its way.
fn bare(expression: &Expr) -> Expr {
    let sub = |inner: &Arc<Expr>| Arc::new(bare(inner));
    let kind = match expression.expr_kind() {
        ExprKind::If { test_expr, then_expr, else_expr } => {
            ExprKind::If { test_expr: sub(test_expr), then_expr: sub(then_expr), else_expr: sub(else_expr) }
        }
        ExprKind::And { left, right } => ExprKind::And { left: sub(left), right: sub(right) },
        ExprKind::Or { left, right } => ExprKind::Or { left: sub(left), right: sub(right) },
        ExprKind::UnaryApp { op, arg } => ExprKind::UnaryApp { op: *op, arg: sub(arg) },
        ExprKind::BinaryApp { op, arg1, arg2 } => {
            ExprKind::BinaryApp { op: *op, arg1: sub(arg1), arg2: sub(arg2) }
        }
        ExprKind::ExtensionFunctionApp { fn_name, args } => ExprKind::ExtensionFunctionApp {
            fn_name: fn_name.clone(),
            args: Arc::new(args.iter().map(bare).collect()),
        },
        ExprKind::GetAttr { expr, attr } => ExprKind::GetAttr { expr: sub(expr), attr: attr.clone() },
        ExprKind::HasAttr { expr, attr } => ExprKind::HasAttr { expr: sub(expr), attr: attr.clone() },
        ExprKind::Like { expr, pattern } => ExprKind::Like { expr: sub(expr), pattern: pattern.clone() },
        ExprKind::Is { expr, entity_type } => {
            ExprKind::Is { expr: sub(expr), entity_type: entity_type.with_loc(None) }
        }
        ExprKind::Set(items) => ExprKind::Set(Arc::new(items.iter().map(bare).collect())),
        ExprKind::Record(members) => ExprKind::Record(Arc::new(
            members.iter().map(|(name, value)| (name.clone(), bare(value))).collect(),
        )),
        kind => kind.clone(),
    };
    ExprBuilder::new().with_expr_kind(kind)
}
