//! Values of the context, made as the evaluator keeps them: the engine's own way reads them as expressions first, and the names of
//! its extension functions with a parser, which takes longer than most decisions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use cedar_policy::{Context, EntityUid, RestrictedExpression};
use cedar_policy_core::ast::{self, Name, RestrictedExpr, Value, ValueKind};
use cedar_policy_core::evaluator::RestrictedEvaluator;
use cedar_policy_core::extensions::Extensions;
use smol_str::SmolStr;

/// A value.
#[derive(Clone, Debug)]
pub(crate) struct Fact(Value);

impl Fact {
    /// A whole number; one that the engine cannot hold is the greatest that it can.
    pub(crate) fn long(number: u64) -> Self {
        Self(Value::from(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    pub(crate) fn whole(number: i64) -> Self {
        Self(Value::from(number))
    }

    pub(crate) fn text(text: &str) -> Self {
        Self(Value::from(SmolStr::new(text)))
    }

    pub(crate) fn flag(flag: bool) -> Self {
        Self(Value::from(flag))
    }

    pub(crate) fn entity(uid: EntityUid) -> Self {
        Self(Value::from(ast::EntityUID::from(uid)))
    }

    pub(crate) fn entities(uids: impl IntoIterator<Item = EntityUid>) -> Self {
        Self(Value::set(uids.into_iter().map(|uid| Value::from(ast::EntityUID::from(uid))), None))
    }

    /// What an expression without variables says; none where that is an error.
    pub(crate) fn read(expression: &RestrictedExpression) -> Option<Self> {
        let evaluator = RestrictedEvaluator::new(Extensions::all_available());
        let expression: &RestrictedExpr = expression.as_ref();
        evaluator.interpret(expression.as_borrowed()).ok().map(Self)
    }

    pub(crate) fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Self {
        Self(Value::set(items.into_iter().map(|item| Value::from(SmolStr::new(item.as_ref()))), None))
    }

    pub(crate) fn set(items: Vec<Self>) -> Self {
        Self(Value::set(items.into_iter().map(|item| item.0), None))
    }

    /// A record of members whose names somebody else has chosen.
    pub(crate) fn named(members: Vec<(SmolStr, Self)>) -> Self {
        let members: BTreeMap<SmolStr, Value> =
            members.into_iter().map(|(name, fact)| (name, fact.0)).collect();
        Self(Value::record_arc(Arc::new(members), None))
    }

    pub(crate) fn record<const N: usize>(members: [(&'static str, Self); N]) -> Self {
        Self::members(members.into_iter().collect())
    }

    /// A record of these members, each of which `make` makes; none where one cannot be made.
    pub(crate) fn made(names: &[&'static str], make: impl Fn(&str) -> Option<Self>) -> Option<Self> {
        names.iter().map(|name| Some((*name, make(name)?))).collect::<Option<_>>().map(Self::members)
    }

    /// A member of a record; none within where it has none of that name, none at all where it is no record.
    pub(crate) fn member(&self, name: &str) -> Option<Option<Self>> {
        match &self.0.value {
            ValueKind::Record(members) => Some(members.get(name).cloned().map(Self)),
            _ => None,
        }
    }

    pub(super) fn into_value(self) -> Value {
        self.0
    }

    /// A record of members of which some may be absent.
    pub(crate) fn members(members: Vec<(&'static str, Self)>) -> Self {
        let members: BTreeMap<SmolStr, Value> =
            members.into_iter().map(|(name, fact)| (SmolStr::new_static(name), fact.0)).collect();
        Self(Value::record_arc(Arc::new(members), None))
    }

    pub(crate) fn address(address: IpAddr) -> Option<Self> {
        static IP: LazyLock<Option<Name>> = LazyLock::new(|| Name::parse_unqualified_name("ip").ok());
        extension(&IP, &address.to_string())
    }

    /// A moment, as RFC 3339 without fractions.
    pub(crate) fn moment(text: &str) -> Option<Self> {
        static DATETIME: LazyLock<Option<Name>> =
            LazyLock::new(|| Name::parse_unqualified_name("datetime").ok());
        extension(&DATETIME, text)
    }
}

/// What an extension function makes of a text.
fn extension(function: &Option<Name>, argument: &str) -> Option<Fact> {
    let argument = RestrictedExpr::val(SmolStr::new(argument));
    let call = RestrictedExpr::call_extension_fn(function.clone()?, [argument]);
    let evaluator = RestrictedEvaluator::new(Extensions::all_available());
    evaluator.interpret(call.as_borrowed()).ok().map(Fact)
}

/// An attribute of a context that is made already; none within where it is absent.
pub(crate) fn attribute(context: &Context, name: &str) -> Option<Option<Fact>> {
    match AsRef::<ast::Context>::as_ref(context) {
        ast::Context::Value(values) => Some(values.get(name).cloned().map(Fact)),
        ast::Context::RestrictedResidual(_) => None,
    }
}

/// A context made of its attributes.
pub(crate) fn context(attributes: Vec<(&'static str, Fact)>) -> Context {
    let values: BTreeMap<SmolStr, Value> =
        attributes.into_iter().map(|(name, fact)| (SmolStr::new_static(name), fact.0)).collect();
    Context::from(ast::Context::Value(Arc::new(values)))
}

#[cfg(test)]
mod tests {
    use cedar_policy::RestrictedExpression as Expression;

    use super::*;

    #[test]
    fn a_context_is_the_one_that_the_engine_would_make() {
        let text = |t: &str| Expression::new_string(t.to_owned());
        let record = |members: Vec<(&str, Expression)>| {
            Expression::new_record(members.into_iter().map(|(n, e)| (n.to_owned(), e))).unwrap()
        };
        let expressions = vec![
            ("text", text("some text")),
            ("long", Expression::new_long(7)),
            ("greatest", Expression::new_long(i64::MAX)),
            ("flag", Expression::new_bool(true)),
            ("ip", Expression::new_ip("10.1.2.3")),
            ("ip6", Expression::new_ip("2001:db8::1")),
            ("at", Expression::new_datetime("2026-11-21T18:00:00Z")),
            ("set", Expression::new_set([text("b"), text("a"), text("b")])),
            ("empty", Expression::new_set([])),
            ("record", record(vec![("in", record(vec![("n", Expression::new_long(1))])), ("a", text("x"))])),
        ];
        let engines = Context::from_pairs(expressions.into_iter().map(|(n, e)| (n.to_owned(), e))).unwrap();
        let ours = context(vec![
            ("text", Fact::text("some text")),
            ("long", Fact::long(7)),
            ("greatest", Fact::long(u64::MAX)),
            ("flag", Fact::flag(true)),
            ("ip", Fact::address("10.1.2.3".parse().unwrap()).unwrap()),
            ("ip6", Fact::address("2001:db8::1".parse().unwrap()).unwrap()),
            ("at", Fact::moment("2026-11-21T18:00:00Z").unwrap()),
            ("set", Fact::texts(["b", "a", "b"])),
            ("empty", Fact::texts::<&str>([])),
            ("record", Fact::record([("in", Fact::record([("n", Fact::long(1))])), ("a", Fact::text("x"))])),
        ]);
        let (ours, engines): (&ast::Context, &ast::Context) = (ours.as_ref(), engines.as_ref());
        assert_eq!(ast::PartialValue::from(ours.clone()), ast::PartialValue::from(engines.clone()));
        assert_eq!(ours.to_json_value().unwrap(), engines.to_json_value().unwrap());
        // What the engine refuses is refused.
        assert!(Fact::moment("nonsense").is_none());
    }
}
