//! From the engine's expressions to the plain form. What has no plain form is none, and with it the whole condition.

use cedar_policy_core::ast::{
    BinaryOp, Expr, ExprKind, Literal, PartialValue, UnaryOp, Value, ValueKind, Var,
};
use cedar_policy_core::extensions::Extensions;
use smol_str::SmolStr;

use super::{Op, Place, Plain, Sets, Sum, Who};
use crate::entities::Names;

/// How deep a condition may be nested; the engine looks after its stack for what is deeper.
const DEPTH_MAX: usize = 48;
/// How many facts the conditions of a bundle may look at; what goes beyond is left to the engine.
const FACTS_MAX: usize = 64;

/// The facts of the context that the plain conditions of a bundle look at: an attribute, or one member of it.
#[derive(Debug, Default)]
pub(crate) struct Told(Vec<(SmolStr, Option<SmolStr>)>);

impl Told {
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn at(&self, place: Place) -> Option<(&str, Option<&str>)> {
        self.0.get(place).map(|(name, member)| (name.as_str(), member.as_deref()))
    }

    fn place(&mut self, name: &SmolStr, member: Option<&SmolStr>) -> Option<Place> {
        if let Some(known) = self.0.iter().position(|(n, m)| n == name && m.as_ref() == member) {
            return Some(known);
        }
        let place = self.0.len();
        (place < FACTS_MAX).then(|| self.0.push((name.clone(), member.cloned())))?;
        Some(place)
    }
}

impl Plain {
    /// The plain form of a condition, with entities by their numbers; what it looks at of the context is noted in `told`.
    pub(crate) fn of(expression: &Expr, names: &Names, told: &mut Told) -> Option<Self> {
        Reader { names, told }.read(expression, DEPTH_MAX).map(Self)
    }
}

struct Reader<'a> {
    names: &'a Names,
    told: &'a mut Told,
}

impl Reader<'_> {
    fn read(&mut self, expression: &Expr, depth: usize) -> Option<Op> {
        let depth = depth.checked_sub(1)?;
        Some(match expression.expr_kind() {
            ExprKind::Lit(literal) => Op::Constant(Value::new(literal.clone(), None)),
            ExprKind::Var(Var::Principal) => Op::Entity(Who::Principal),
            ExprKind::Var(Var::Resource) => Op::Entity(Who::Resource),
            ExprKind::Var(Var::Action) => Op::Action,
            ExprKind::If { test_expr, then_expr, else_expr } => Op::If(Box::new((
                self.read(test_expr, depth)?,
                self.read(then_expr, depth)?,
                self.read(else_expr, depth)?,
            ))),
            ExprKind::And { left, right } => Op::And(self.sub(left, depth)?, self.sub(right, depth)?),
            ExprKind::Or { left, right } => Op::Or(self.sub(left, depth)?, self.sub(right, depth)?),
            ExprKind::UnaryApp { op: UnaryOp::Not, arg } => Op::Not(self.sub(arg, depth)?),
            ExprKind::UnaryApp { op: UnaryOp::IsEmpty, arg } => Op::IsEmpty(self.sub(arg, depth)?),
            ExprKind::BinaryApp { op, arg1, arg2 } => self.binary(*op, arg1, arg2, depth)?,
            ExprKind::GetAttr { expr, attr } => self.attribute(expr, attr, depth)?,
            ExprKind::HasAttr { expr, attr } => self.has(expr, std::slice::from_ref(attr), depth)?,
            ExprKind::ExtHasAttr { expr, attrs } => {
                self.has(expr, &attrs.iter().cloned().collect::<Vec<_>>(), depth)?
            }
            ExprKind::Like { expr, pattern } => Op::Like(self.sub(expr, depth)?, pattern.clone()),
            ExprKind::Is { expr, entity_type } => {
                Op::Is(who(expr)?, self.names.kind(&entity_type.clone().into()))
            }
            ExprKind::Set(items) => {
                let items = items.iter().map(|item| self.constant(item, depth));
                Op::Constant(Value::set(items.collect::<Option<Vec<_>>>()?, None))
            }
            ExprKind::ExtensionFunctionApp { fn_name, args } => {
                let function = Extensions::all_available().func(fn_name).ok()?;
                let args = args.iter().map(|arg| self.read(arg, depth)).collect::<Option<Box<[Op]>>>()?;
                let constants: Option<Vec<Value>> = args.iter().map(constant).collect();
                match constants {
                    // Read once instead of with every ask.
                    Some(constants) => match function.call(&constants).ok()? {
                        PartialValue::Value(value) => Op::Constant(value.with_maybe_source_loc(None)),
                        PartialValue::Residual(_) => return None,
                    },
                    None => Op::Call(function, args),
                }
            }
            _ => return None,
        })
    }

    fn sub(&mut self, expression: &Expr, depth: usize) -> Option<Box<Op>> {
        self.read(expression, depth).map(Box::new)
    }

    fn constant(&mut self, expression: &Expr, depth: usize) -> Option<Value> {
        constant(&self.read(expression, depth)?)
    }

    fn binary(&mut self, op: BinaryOp, one: &Expr, other: &Expr, depth: usize) -> Option<Op> {
        if op == BinaryOp::In {
            return self.within(one, other, depth);
        }
        if let (BinaryOp::Eq, Some(who), ExprKind::Lit(Literal::EntityUID(uid))) =
            (op, who(one), other.expr_kind())
        {
            return Some(Op::Exactly(who, self.names.of(&uid.as_ref().clone().into())?));
        }
        if let BinaryOp::GetTag | BinaryOp::HasTag = op {
            let (who, tag) = (who(one)?, self.sub(other, depth)?);
            return Some(if op == BinaryOp::GetTag { Op::Tag(who, tag) } else { Op::HasTag(who, tag) });
        }
        let (one, other) = (self.sub(one, depth)?, self.sub(other, depth)?);
        Some(match op {
            BinaryOp::Eq => Op::Equal(one, other),
            BinaryOp::Less => Op::Less(one, other),
            BinaryOp::LessEq => Op::LessOrEqual(one, other),
            BinaryOp::Add => Op::Calculated(Sum::Add, one, other),
            BinaryOp::Sub => Op::Calculated(Sum::Subtract, one, other),
            BinaryOp::Mul => Op::Calculated(Sum::Multiply, one, other),
            BinaryOp::Contains => Op::Contains(one, other),
            BinaryOp::ContainsAll => Op::Compared(Sets::All, one, other),
            BinaryOp::ContainsAny => Op::Compared(Sets::Any, one, other),
            BinaryOp::In | BinaryOp::GetTag | BinaryOp::HasTag => return None,
        })
    }

    fn within(&mut self, one: &Expr, other: &Expr, depth: usize) -> Option<Op> {
        let inner = who(one)?;
        if let Some(outer) = who(other) {
            return Some(Op::WithinOther(inner, outer));
        }
        let number = |value: &Value| match &value.value {
            ValueKind::Lit(Literal::EntityUID(uid)) => self.names.of(&uid.as_ref().clone().into()),
            _ => None,
        };
        let value = constant(&Reader { names: self.names, told: self.told }.read(other, depth)?)?;
        let ids = match &value.value {
            ValueKind::Set(set) => set.iter().map(number).collect::<Option<Box<[u32]>>>()?,
            _ => Box::from([number(&value)?]),
        };
        Some(Op::Within(inner, ids))
    }

    fn attribute(&mut self, of: &Expr, name: &SmolStr, depth: usize) -> Option<Op> {
        if let Some(who) = who(of) {
            return Some(Op::Attribute(who, name.clone()));
        }
        match of.expr_kind() {
            ExprKind::Var(Var::Context) => self.told.place(name, None).map(Op::Fact),
            ExprKind::GetAttr { expr, attr } if is_context(expr) => {
                self.told.place(attr, Some(name)).map(Op::Fact)
            }
            _ => Some(Op::Member(self.sub(of, depth)?, name.clone())),
        }
    }

    fn has(&mut self, of: &Expr, path: &[SmolStr], depth: usize) -> Option<Op> {
        if is_context(of) {
            let places = match path {
                [name] => [self.told.place(name, None)?].into(),
                [name, member] => [self.told.place(name, None)?, self.told.place(name, Some(member))?].into(),
                _ => return None,
            };
            return Some(Op::HasFacts(places));
        }
        let [name] = path else { return None };
        if let Some(who) = who(of) {
            return Some(Op::HasAttribute(who, name.clone()));
        }
        match of.expr_kind() {
            ExprKind::GetAttr { expr, attr } if is_context(expr) => {
                // An attribute that is absent has no members to ask for; that is for the engine to tell.
                let whole = self.told.place(attr, None)?;
                Some(Op::HasMember(Box::new(Op::Fact(whole)), name.clone()))
            }
            _ => Some(Op::HasMember(self.sub(of, depth)?, name.clone())),
        }
    }
}

fn constant(op: &Op) -> Option<Value> {
    match op {
        Op::Constant(value) => Some(value.clone()),
        _ => None,
    }
}

fn who(expression: &Expr) -> Option<Who> {
    match expression.expr_kind() {
        ExprKind::Var(Var::Principal) => Some(Who::Principal),
        ExprKind::Var(Var::Resource) => Some(Who::Resource),
        _ => None,
    }
}

fn is_context(expression: &Expr) -> bool {
    matches!(expression.expr_kind(), ExprKind::Var(Var::Context))
}
