//! What policies see of the conditions of an ask, and what of it a rule looks at.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bartizan_base::Digest;
use bartizan_model::{AskFacts, Label};
use cedar_policy::{Context, RestrictedExpression};
use serde::Serialize;
use serde_json::Value;

/// The attributes of the schema's `Context`.
const ATTRIBUTES: [&str; 11] = [
    "approvals",
    "assurance",
    "binding",
    "network",
    "obligations",
    "purpose",
    "request",
    "risk",
    "role_in_chain",
    "session",
    "time",
];

/// Which attributes of the context a rule can look at. Making one costs more than most rules cost to evaluate, so only
/// those are made that a candidate can see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs(u16);

impl Needs {
    /// All of them.
    pub(crate) const ALL: Self = Self((1 << ATTRIBUTES.len()) - 1);

    /// What a policy in Cedar's JSON format looks at. Whatever is not plainly an access to one attribute needs all.
    pub(crate) fn of(policy: &Value) -> Self {
        match policy {
            Value::Object(node) => {
                if node.get("Var").is_some_and(|name| name == "context") {
                    return Self::ALL;
                }
                let one = [".", "has"].iter().find_map(|operator| attribute(node.get(*operator)?));
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

    fn has(self, name: &str) -> bool {
        ATTRIBUTES.iter().position(|known| *known == name).is_none_or(|at| self.0 & (1 << at) != 0)
    }
}

/// The attribute that `context.NAME` or `context has NAME` looks at.
fn attribute(access: &Value) -> Option<Needs> {
    if access.pointer("/left/Var")? != "context" {
        return None;
    }
    // `has a.b` names a path.
    let name = access.get("attr").map(|attr| attr.get(0).unwrap_or(attr))?.as_str()?;
    let at = ATTRIBUTES.iter().position(|known| *known == name);
    Some(at.map_or(Needs::ALL, |at| Needs(1 << at)))
}

/// The conditions of one member's evaluation, hashed into the record. The fields stand in the order of their names, which
/// makes their JSON canonical (RFC 8785) as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions<'a> {
    pub(crate) approvals: &'a BTreeSet<String>,
    /// Level and age in seconds.
    pub(crate) assurance: (u8, u64),
    pub(crate) binding: &'a str,
    pub(crate) network: Option<IpAddr>,
    pub(crate) now_s: u64,
    pub(crate) obligations: &'a BTreeSet<String>,
    pub(crate) purpose: Option<&'a str>,
    pub(crate) request: &'a AskFacts,
    pub(crate) risk: &'a str,
    pub(crate) role_in_chain: &'a str,
    pub(crate) session: &'a Label,
}

impl Conditions<'_> {
    /// The digest of the canonical JSON.
    pub(crate) fn digest(&self) -> Option<Digest> {
        Some(Digest::of(&serde_json::to_vec(self).ok()?))
    }

    /// The context with the attributes that are needed.
    pub(crate) fn context(&self, needs: Needs) -> Option<Context> {
        let mut pairs = Vec::with_capacity(ATTRIBUTES.len());
        for name in ATTRIBUTES {
            if needs.has(name)
                && let Some(value) = self.attribute(name)?
            {
                pairs.push((name.to_owned(), value));
            }
        }
        crate::inner::context(pairs)
    }

    /// One attribute; inside, nothing where an optional one is absent.
    fn attribute(&self, name: &str) -> Option<Option<RestrictedExpression>> {
        let long = |n: u64| RestrictedExpression::new_long(i64::try_from(n).unwrap_or(i64::MAX));
        let text = |t: &str| RestrictedExpression::new_string(t.to_owned());
        let set = |s: &BTreeSet<String>| RestrictedExpression::new_set(s.iter().map(|t| text(t)));
        let record = |pairs: Vec<(&str, RestrictedExpression)>| {
            RestrictedExpression::new_record(pairs.into_iter().map(|(n, e)| (n.to_owned(), e))).ok()
        };
        Some(match name {
            "approvals" => Some(set(self.approvals)),
            "assurance" => {
                let (level, age_s) = self.assurance;
                Some(record(vec![("level", long(level.into())), ("age_s", long(age_s))])?)
            }
            "binding" => Some(text(self.binding)),
            "network" => self.network.map(|ip| RestrictedExpression::new_ip(ip.to_string())),
            "obligations" => Some(set(self.obligations)),
            "purpose" => self.purpose.map(text),
            "request" => {
                let mut request = vec![
                    ("dialect", text(&self.request.dialect)),
                    (
                        "extras",
                        RestrictedExpression::new_set(self.request.extras.iter().map(|e| text(e.name()))),
                    ),
                    ("stream", RestrictedExpression::new_bool(self.request.stream)),
                    ("bytes", long(self.request.bytes)),
                    ("messages", long(self.request.messages)),
                    ("tools", long(self.request.tools)),
                ];
                request.extend(self.request.output_tokens_max.map(|n| ("output_tokens_max", long(n))));
                Some(record(request)?)
            }
            "risk" => Some(text(self.risk)),
            "role_in_chain" => Some(text(self.role_in_chain)),
            "session" => {
                let confidentiality = format!("{:?}", self.session.confidentiality).to_lowercase();
                let integrity = format!("{:?}", self.session.integrity).to_lowercase();
                Some(record(vec![
                    ("confidentiality", text(&confidentiality)),
                    ("integrity", text(&integrity)),
                ])?)
            }
            "time" => {
                // 1970-01-01 was a Thursday; Monday is 1.
                let weekday = (self.now_s / 86_400 + 3) % 7 + 1;
                Some(record(vec![
                    ("hour", long(self.now_s / 3_600 % 24)),
                    ("weekday", long(weekday)),
                    ("epoch_s", long(self.now_s)),
                ])?)
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::json;
    use bartizan_model::{Confidentiality, Integrity};
    use proptest::prelude::*;

    fn needs(text: &str) -> Needs {
        let policy: cedar_policy::Policy = text.parse().unwrap();
        Needs::of(&policy.to_json().unwrap())
    }

    fn only(names: &[&str]) -> Needs {
        let bit = |name: &&str| Needs(1 << ATTRIBUTES.iter().position(|a| a == name).unwrap());
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
            permit("[context.risk, context[\"binding\"]].contains(\"low\")"),
            only(&["binding", "risk"])
        );
        assert_eq!(permit("if true then context.network.isLoopback() else false"), only(&["network"]));
        for whole in ["context == {}", "{a: context}.a.risk == \"low\"", "context has unheard_of"] {
            assert_eq!(permit(whole), Needs::ALL, "{whole}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_conditions_are_canonical_as_they_are_written(
            texts in prop::collection::btree_set(".{0,8}", 0..3),
            purpose in prop::option::of("[ -~äé\u{1f600}]{0,12}"),
            (bytes, age, tokens) in (0_u64..1 << 50, any::<u32>(), prop::option::of(0_u64..1 << 40)),
            stream: bool,
            confidential: bool,
        ) {
            let extras = [bartizan_model::RequestExtra::Urls, bartizan_model::RequestExtra::Files].into();
            let request = AskFacts { bytes, stream, extras, output_tokens_max: tokens, dialect: "openai.chat".to_owned(), ..AskFacts::default() };
            let mut session = Label::bottom();
            if confidential {
                session.confidentiality = Confidentiality::Confidential;
                session.integrity = Integrity::Untrusted;
                session.categories = ["health".parse().unwrap(), "finance".parse().unwrap()].into();
            }
            let conditions = Conditions {
                approvals: &texts, assurance: (2, age.into()), binding: "none", network: Some([127, 0, 0, 1].into()), now_s: bytes,
                obligations: &texts, purpose: purpose.as_deref(), request: &request, risk: "low", role_in_chain: "subject", session: &session,
            };
            let canonical = json::canonical(&conditions).unwrap();
            prop_assert_eq!(String::from_utf8(serde_json::to_vec(&conditions).unwrap()), String::from_utf8(canonical));
        }
    }
}
