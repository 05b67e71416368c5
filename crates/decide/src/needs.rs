//! What of the context a rule looks at. Making an attribute costs more than most rules cost to evaluate, so only those are
//! made that a candidate can see.

use serde_json::Value;

/// The attributes that are made or left out one by one. Those of `activity` are large, so its members are too.
const NAMES: [&str; 22] = [
    "activity",
    "activity.agent",
    "activity.caller",
    "activity.key",
    "activity.session",
    "approvals",
    "arguments",
    "assurance",
    "binding",
    "delegation",
    "details",
    "device",
    "grant",
    "network",
    "obligations",
    "purpose",
    "request",
    "risk",
    "role_in_chain",
    "session",
    "sizes",
    "time",
];

/// Which attributes of the context a rule can look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs(u32);

impl Needs {
    /// All of them.
    pub(crate) const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// What a policy in Cedar's JSON format looks at. Whatever is not plainly an access to one attribute needs all.
    pub(crate) fn of(policy: &Value) -> Self {
        match policy {
            Value::Object(node) => {
                if node.get("Var").is_some_and(|name| name == "context") {
                    return Self::ALL;
                }
                let one = [(".", true), ("has", false)].into_iter().find_map(|(operator, is_value)| {
                    Some(Self::of_path(&path(node.get(operator)?)?, is_value))
                });
                one.unwrap_or_else(|| node.values().map(Self::of).fold(Self::default(), Self::and))
            }
            Value::Array(items) => items.iter().map(Self::of).fold(Self::default(), Self::and),
            _ => Self::default(),
        }
    }

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn has(self, name: &str) -> bool {
        NAMES.iter().position(|known| *known == name).is_none_or(|at| self.0 & (1 << at) != 0)
    }

    /// What `context.PATH` looks at as a value, or `context has PATH` for its presence.
    fn of_path(path: &[&str], is_value: bool) -> Self {
        let one = |name: &str| NAMES.iter().position(|known| *known == name).map(|at| Self(1 << at));
        let needs = match path {
            ["activity"] if is_value => {
                NAMES.iter().filter(|n| n.starts_with("activity")).filter_map(|n| one(n)).reduce(Self::and)
            }
            ["activity", member, ..] => {
                one("activity").zip(one(&format!("activity.{member}"))).map(|(a, b)| a.and(b))
            }
            [name, ..] => one(name),
            [] => None,
        };
        needs.unwrap_or(Self::ALL)
    }
}

/// The path of attributes that an access begins at `context`.
fn path(access: &Value) -> Option<Vec<&str>> {
    let left = access.get("left")?;
    let mut path = match left.get(".") {
        Some(inner) => path(inner)?,
        None if left.get("Var")? == "context" => Vec::new(),
        None => return None,
    };
    match access.get("attr")? {
        // `has a.b` names a path.
        Value::Array(names) => path.extend(names.iter().filter_map(Value::as_str)),
        name => path.push(name.as_str()?),
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::CONTEXT;

    fn needs(text: &str) -> Needs {
        let policy: cedar_policy::Policy = text.parse().unwrap();
        Needs::of(&policy.to_json().unwrap())
    }

    fn only(names: &[&str]) -> Needs {
        let bit = |name: &&str| Needs(1 << NAMES.iter().position(|a| a == name).unwrap());
        names.iter().map(bit).fold(Needs::default(), Needs::and)
    }

    #[test]
    fn a_rule_needs_what_it_looks_at_and_everything_where_that_is_not_plain() {
        let permit =
            |condition: &str| needs(&format!("permit (principal, action, resource) when {{ {condition} }};"));
        assert_eq!(needs("permit (principal, action, resource);"), Needs::default());
        assert_eq!(
            permit("context.assurance.level > 2 && context.time.hour < 8"),
            only(&["assurance", "time"])
        );
        assert_eq!(permit("context has purpose && resource.environment == \"x\""), only(&["purpose"]));
        assert_eq!(permit("context has assurance.level"), only(&["assurance"]));
        assert_eq!(
            permit("[context.purpose, context[\"binding\"]].contains(\"low\")"),
            only(&["binding", "purpose"])
        );
        assert_eq!(
            permit("if true then context.network.address.isLoopback() else false"),
            only(&["network"])
        );
        let caller = only(&["activity", "activity.caller"]);
        assert_eq!(
            permit("context has activity.caller && context.activity.caller.hour.requests < 9"),
            caller
        );
        assert_eq!(permit("context.activity has caller"), caller);
        assert_eq!(permit("context has activity"), only(&["activity"]));
        let whole = ["activity", "activity.agent", "activity.caller", "activity.key", "activity.session"];
        assert_eq!(permit("context.activity == context.activity"), only(&whole));
        for whole in [
            "context == {}",
            "{a: context}.a.risk == \"low\"",
            "context has unheard_of",
            "context has activity.other",
        ] {
            assert_eq!(permit(whole), Needs::ALL, "{whole}");
        }
    }

    #[test]
    fn every_attribute_of_the_context_can_be_left_out() {
        for fact in CONTEXT.iter().filter(|f| !f.name.contains('.') || f.kind == "Windows") {
            assert!(NAMES.contains(&fact.name), "{}", fact.name);
        }
        assert!(NAMES.is_sorted());
    }
}
