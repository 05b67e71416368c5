//! Conditions in a form that is evaluated where the values lie: no entities, no context and no request are made for it. Most
//! conditions compare a fact with a constant, and cost less by this than what the engine's evaluator takes to begin.
//!
//! It is never asked what is wrong: whatever it does not know, and whatever the engine would refuse, is left to the engine
//! ([`Plain::holds`] is none). So it can only be wrong where the engine has an answer, which tests compare (INV-SAME).

mod read;

use std::cell::OnceCell;

use cedar_policy::EntityUid;
use cedar_policy_core::ast::{
    EntityUID, ExtensionFunction, Literal, PartialValue, Pattern, Set, Value, ValueKind,
};
use smol_str::SmolStr;

use crate::context::Circumstances;
use crate::entities::Node;
use crate::needs::Needs;

pub(crate) use read::Told;

/// A condition.
#[derive(Clone, Debug)]
pub(crate) struct Plain(Op);

/// Whose attributes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Principal,
    Resource,
}

/// A place in the list of facts that conditions look at ([`Told`]).
type Place = usize;

#[derive(Clone, Debug)]
enum Op {
    Constant(Value),
    Entity(Who),
    Action,
    /// Something of the context.
    Fact(Place),
    /// Whether all of these are there; each is looked for only where those before it are.
    HasFacts(Box<[Place]>),
    Attribute(Who, SmolStr),
    HasAttribute(Who, SmolStr),
    Tag(Who, Box<Op>),
    HasTag(Who, Box<Op>),
    Member(Box<Op>, SmolStr),
    HasMember(Box<Op>, SmolStr),
    Not(Box<Op>),
    And(Box<Op>, Box<Op>),
    Or(Box<Op>, Box<Op>),
    If(Box<(Op, Op, Op)>),
    Equal(Box<Op>, Box<Op>),
    /// By number.
    Exactly(Who, u32),
    /// In one of these.
    Within(Who, Box<[u32]>),
    WithinOther(Who, Who),
    /// Of a type, by number.
    Is(Who, u32),
    Less(Box<Op>, Box<Op>),
    LessOrEqual(Box<Op>, Box<Op>),
    Calculated(Sum, Box<Op>, Box<Op>),
    Compared(Sets, Box<Op>, Box<Op>),
    Contains(Box<Op>, Box<Op>),
    IsEmpty(Box<Op>),
    Like(Box<Op>, Pattern),
    Call(&'static ExtensionFunction, Box<[Op]>),
}

#[derive(Clone, Copy, Debug)]
enum Sum {
    Add,
    Subtract,
    Multiply,
}

#[derive(Clone, Copy, Debug)]
enum Sets {
    All,
    Any,
}

/// What one evaluation can look at.
pub(crate) struct Sight<'s> {
    pub(crate) principal: (u32, &'s Node),
    pub(crate) resource: (u32, &'s Node),
    pub(crate) action: &'s EntityUid,
    told: &'s Told,
    circumstances: &'s dyn Circumstances,
    needs: Needs,
    facts: Vec<OnceCell<Option<Value>>>,
}

/// A value where it lies, or one that was just made.
enum Seen<'s> {
    Flag(bool),
    Number(i64),
    Entity(&'s EntityUID),
    Lying(&'s Value),
    Made(Value),
}

impl<'s> Sight<'s> {
    /// With what lies at the places of `told`, as far as `needs` says.
    pub(crate) fn new(
        (principal, action, resource): ((u32, &'s Node), &'s EntityUid, (u32, &'s Node)),
        (told, needs): (&'s Told, Needs),
        circumstances: &'s dyn Circumstances,
    ) -> Self {
        let facts = std::iter::repeat_with(OnceCell::new).take(told.len()).collect();
        Self { principal, resource, action, told, circumstances, needs, facts }
    }

    const fn of(&self, who: Who) -> (u32, &'s Node) {
        match who {
            Who::Principal => self.principal,
            Who::Resource => self.resource,
        }
    }

    /// What lies at a place; none within where it is absent.
    fn fact(&self, place: Place) -> Option<Option<&Value>> {
        let cell = self.facts.get(place)?;
        if let Some(known) = cell.get() {
            return Some(known.as_ref());
        }
        let (name, member) = self.told.at(place)?;
        let found = self.circumstances.fact(name, member, self.needs)?.map(super::Fact::into_value);
        Some(cell.get_or_init(|| found).as_ref())
    }
}

impl<'s> Seen<'s> {
    fn flag(&self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(*flag),
            Self::Number(_) | Self::Entity(_) => None,
            Self::Lying(value) => flag_of(value),
            Self::Made(value) => flag_of(value),
        }
    }

    fn number(&self) -> Option<i64> {
        match (self, self.kind()) {
            (Self::Number(number), _) | (_, Some(ValueKind::Lit(Literal::Long(number)))) => Some(*number),
            _ => None,
        }
    }

    /// The value where it is one of the engine's.
    const fn kind(&self) -> Option<&ValueKind> {
        match self {
            Self::Lying(value) => Some(&value.value),
            Self::Made(value) => Some(&value.value),
            Self::Flag(_) | Self::Number(_) | Self::Entity(_) => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self.kind()? {
            ValueKind::Lit(Literal::String(text)) => Some(text),
            _ => None,
        }
    }

    fn set(&self) -> Option<&Set> {
        match self.kind()? {
            ValueKind::Set(set) => Some(set),
            _ => None,
        }
    }

    /// As the engine has it.
    fn value(self) -> Value {
        match self {
            Self::Flag(flag) => Value::from(flag),
            Self::Number(number) => Value::from(number),
            Self::Entity(uid) => Value::from(uid.clone()),
            Self::Lying(value) => value.clone(),
            Self::Made(value) => value,
        }
    }

    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Flag(one), Self::Flag(other)) => one == other,
            (Self::Number(one), Self::Number(other)) => one == other,
            (Self::Entity(one), Self::Entity(other)) => one == other,
            (Self::Flag(flag), other) | (other, Self::Flag(flag)) => other.flag() == Some(*flag),
            (Self::Number(number), other) | (other, Self::Number(number)) => other.number() == Some(*number),
            (Self::Entity(uid), other) | (other, Self::Entity(uid)) => {
                matches!(other.kind(), Some(ValueKind::Lit(Literal::EntityUID(of))) if **of == **uid)
            }
            (one, other) => one.kind() == other.kind(),
        }
    }

    /// A member of a record; none within where it has none of that name.
    fn member(&self, name: &SmolStr) -> Option<Option<Value>> {
        match self.kind()? {
            ValueKind::Record(members) => Some(members.get(name).cloned()),
            _ => None,
        }
    }
}

const fn flag_of(value: &Value) -> Option<bool> {
    match value.value {
        ValueKind::Lit(Literal::Bool(flag)) => Some(flag),
        _ => None,
    }
}

impl Plain {
    /// What always holds.
    pub(super) fn always() -> Self {
        Self(Op::Constant(Value::from(true)))
    }

    /// Whether the condition holds; none where only the engine can tell.
    pub(crate) fn holds(&self, sight: &Sight<'_>) -> Option<bool> {
        self.0.see(sight)?.flag()
    }
}

impl Op {
    fn see<'s>(&'s self, sight: &'s Sight<'_>) -> Option<Seen<'s>> {
        let flag = |flag: bool| Some(Seen::Flag(flag));
        match self {
            Self::Constant(value) => Some(Seen::Lying(value)),
            Self::Entity(who) => Some(Seen::Entity(sight.of(*who).1.uid.as_ref())),
            Self::Action => Some(Seen::Entity(sight.action.as_ref())),
            Self::Fact(place) => Some(Seen::Lying(sight.fact(*place)??)),
            Self::HasFacts(places) => {
                for place in places {
                    if sight.fact(*place)?.is_none() {
                        return flag(false);
                    }
                }
                flag(true)
            }
            Self::Attribute(who, name) => Some(Seen::Lying(sight.of(*who).1.facts.attribute(name)?)),
            Self::HasAttribute(who, name) => flag(sight.of(*who).1.facts.attribute(name).is_some()),
            Self::Tag(who, name) => Some(Seen::Lying(sight.of(*who).1.facts.tag(name.see(sight)?.text()?)?)),
            Self::HasTag(who, name) => flag(sight.of(*who).1.facts.tag(name.see(sight)?.text()?).is_some()),
            Self::Member(of, name) => match of.see(sight)? {
                Seen::Lying(Value { value: ValueKind::Record(members), .. }) => {
                    Some(Seen::Lying(members.get(name)?))
                }
                other => other.member(name)?.map(Seen::Made),
            },
            Self::HasMember(of, name) => flag(of.see(sight)?.member(name)?.is_some()),
            Self::Not(of) => flag(!of.is_so(sight)?),
            Self::And(one, other) => flag(one.is_so(sight)? && other.is_so(sight)?),
            Self::Or(one, other) => flag(one.is_so(sight)? || other.is_so(sight)?),
            Self::If(parts) => {
                let (test, then, otherwise) = &**parts;
                if test.is_so(sight)? { then.see(sight) } else { otherwise.see(sight) }
            }
            Self::Equal(one, other) => flag(one.see(sight)?.equals(&other.see(sight)?)),
            Self::Exactly(who, id) => flag(sight.of(*who).0 == *id),
            Self::Within(who, ids) => flag(ids.iter().any(|id| sight.of(*who).1.is_in(*id))),
            Self::WithinOther(who, other) => flag(sight.of(*who).1.is_in(sight.of(*other).0)),
            Self::Is(who, kind) => flag(sight.of(*who).1.kind == *kind),
            Self::Less(one, other) => flag(one.number(sight)? < other.number(sight)?),
            Self::LessOrEqual(one, other) => flag(one.number(sight)? <= other.number(sight)?),
            Self::Calculated(sum, one, other) => {
                let (one, other) = (one.number(sight)?, other.number(sight)?);
                let made = match sum {
                    Sum::Add => one.checked_add(other),
                    Sum::Subtract => one.checked_sub(other),
                    Sum::Multiply => one.checked_mul(other),
                };
                made.map(Seen::Number)
            }
            Self::Compared(sets, one, other) => {
                let (one, other) = (one.see(sight)?, other.see(sight)?);
                let (one, other) = (one.set()?, other.set()?);
                flag(match sets {
                    Sets::All => other.is_subset(one),
                    Sets::Any => !one.is_disjoint(other),
                })
            }
            Self::Contains(one, other) => {
                let (set, item) = (one.see(sight)?, other.see(sight)?);
                flag(match &item {
                    Seen::Lying(value) => set.set()?.contains(value),
                    _ => set.set()?.contains(&item.value()),
                })
            }
            Self::IsEmpty(of) => flag(of.see(sight)?.set()?.is_empty()),
            Self::Like(of, pattern) => flag(pattern.wildcard_match(of.see(sight)?.text()?)),
            Self::Call(function, arguments) => {
                let seen = arguments.iter().map(|argument| Some(argument.see(sight)?.value()));
                match function.call(&seen.collect::<Option<Vec<_>>>()?) {
                    Ok(PartialValue::Value(value)) => Some(Seen::Made(value)),
                    Ok(PartialValue::Residual(_)) | Err(_) => None,
                }
            }
        }
    }

    fn is_so(&self, sight: &Sight<'_>) -> Option<bool> {
        self.see(sight)?.flag()
    }

    fn number(&self, sight: &Sight<'_>) -> Option<i64> {
        self.see(sight)?.number()
    }
}

#[cfg(test)]
impl Plain {
    /// What a careless hand could make of it: less is taken for not more, and the other way round.
    pub(crate) fn misread(self) -> Self {
        fn misread(op: Op) -> Op {
            let sub = |op: Box<Op>| Box::new(misread(*op));
            match op {
                Op::Less(one, other) => Op::LessOrEqual(one, other),
                Op::LessOrEqual(one, other) => Op::Less(one, other),
                Op::Not(of) => Op::Not(sub(of)),
                Op::And(one, other) => Op::And(sub(one), sub(other)),
                Op::Or(one, other) => Op::Or(sub(one), sub(other)),
                op => op,
            }
        }
        Self(misread(self.0))
    }
}
