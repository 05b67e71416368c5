//! Exact things that a credential may be used for (RFC 9396): calls of one tool, an action on things named one by one.
//!
//! A credential with details may do only what one of them covers, within its scopes and never more than policy allows. What a
//! detail says beside the thing itself bounds it further: how often (`uses`), until when (`until`).

use std::collections::BTreeSet;

use bartizan_base::{Digest, Name, Timestamp, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{Action, AskFacts, DetailId, EntityPath, EntityRef};

/// The greatest whole number that every reader of JSON keeps exactly (RFC 7493, 2.2).
const EXACT_MAX: u64 = (1 << 53) - 1;
/// The same as a double.
const DOUBLE_MAX: f64 = 9_007_199_254_740_991.0;

/// One exact thing, and its bounds. Unknown members are refused: nobody may think that they bound anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Detail {
    /// What.
    pub what: Exactly,
    /// Its id: given by the authority when it is allowed, never taken from a request. By it uses are counted.
    pub id: Option<DetailId>,
    /// How often it may be done at most; none for no bound.
    pub uses: Option<u64>,
    /// Until when; none for no end of its own.
    pub until: Option<Timestamp>,
}

/// What exactly may be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Exactly {
    /// Calls of one tool; seeing that it is there goes with it.
    #[serde(rename = "bartizan_tool")]
    Tool {
        /// Which: `SERVER/TOOL`, as in the directory.
        tool: Name,
        /// With exactly these arguments; none for any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<Arguments>,
    },
    /// One action on things that are named one by one.
    #[serde(rename = "bartizan_action")]
    Action {
        /// Which.
        action: Action,
        /// On what: any of these, such as `Model::assistant`.
        resources: BTreeSet<EntityPath>,
    },
    /// The move of one deployment into an environment.
    #[serde(rename = "bartizan_deployment")]
    Deployment {
        /// Which, by its name in the directory.
        deployment: Name,
        /// Where to.
        environment: Name,
        /// Exactly this: the digest of its manifest.
        manifest: Digest,
    },
}

/// Arguments of a call, fixed.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Arguments {
    /// By SHA-256 of their canonical JSON (RFC 8785).
    Digest(Digest),
    /// As they are.
    These(Map<String, Value>),
}

/// How a detail covers an ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Covering {
    /// The arguments were fixed when it was allowed.
    pub exact: bool,
    /// How often it may be done, where that is bounded.
    pub uses_max: Option<u64>,
    /// What is to be counted before it is done.
    pub counts: Option<DetailUse>,
    /// Until when it may be done, where that is bounded.
    pub until: Option<Timestamp>,
}

/// One use of a detail that is bounded in number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetailUse {
    /// Of which.
    pub id: DetailId,
    /// How many there may be in all.
    pub most: u64,
    /// From when on nobody can use it any more.
    pub until: Timestamp,
}

/// A detail as it is offered to whoever lacks it: this very call, its arguments by their digest, or this action on this thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Wanted {
    /// The call of a tool.
    #[serde(rename = "bartizan_tool")]
    Tool {
        /// Which: `SERVER/TOOL`.
        tool: Name,
        /// SHA-256 of the canonical JSON of its arguments.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<Digest>,
    },
    /// Anything else.
    #[serde(rename = "bartizan_action")]
    Action {
        /// Which.
        action: Action,
        /// On what.
        resources: BTreeSet<EntityPath>,
    },
}

/// What makes a detail none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DetailError {
    /// Its type is unknown, or it is not of its type's form.
    #[error("a detail is of no known type, or not of its form")]
    Form,
    /// A bound that is none: no use at all, or no resource.
    #[error("`uses` and `resources` are at least one, and `until` a number of seconds since 1970")]
    Bound,
}

impl TryFrom<Map<String, Value>> for Detail {
    type Error = DetailError;

    fn try_from(mut members: Map<String, Value>) -> Result<Self, DetailError> {
        let number = |value: Option<Value>| match value {
            None => Ok(None),
            Some(value) => {
                let number = value.as_u64().filter(|n| (1..=EXACT_MAX).contains(n));
                number.map(Some).ok_or(DetailError::Bound)
            }
        };
        let uses = number(members.remove("uses"))?;
        let until = number(members.remove("until"))?.map(Timestamp::from_secs);
        let id = match members.remove("id") {
            None => None,
            Some(id) => Some(id.as_str().and_then(|id| id.parse().ok()).ok_or(DetailError::Form)?),
        };
        let what = serde_json::from_value(Value::Object(members)).map_err(|_| DetailError::Form)?;
        match &what {
            Exactly::Action { resources, .. } if resources.is_empty() => Err(DetailError::Bound),
            _ => Ok(Self { what, id, uses, until }),
        }
    }
}

impl From<Detail> for Map<String, Value> {
    fn from(detail: Detail) -> Self {
        let mut members = match serde_json::to_value(&detail.what) {
            Ok(Value::Object(members)) => members,
            _ => Self::new(),
        };
        let mut put = |name: &str, value: Option<Value>| {
            members.extend(value.map(|value| (name.to_owned(), value)));
        };
        put("id", detail.id.map(|id| id.to_string().into()));
        put("uses", detail.uses.map(Into::into));
        put("until", detail.until.map(|until| until.as_secs().into()));
        members
    }
}

impl Detail {
    /// Reads one as tokens and requests hold it; none for what is no detail of ours.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        serde_json::from_value(value.clone()).ok()
    }

    /// As tokens and answers hold it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        Value::Object(self.clone().into())
    }

    /// How it covers `action` on `resource` at `now`; none where it does not. What is bounded in number and could not be counted
    /// covers nothing.
    #[must_use]
    pub fn covers(
        &self,
        (action, resource): (Action, &EntityRef),
        facts: &AskFacts,
        now: Timestamp,
    ) -> Option<Covering> {
        if self.until.is_some_and(|until| now >= until) {
            return None;
        }
        let exact = self.what.covers((action, resource), facts)?;
        let does = !matches!((&self.what, action), (Exactly::Tool { .. }, Action::ToolList));
        let counts = match self.uses.filter(|_| does) {
            None => None,
            Some(most) => Some(DetailUse { id: self.id?, most, until: self.until? }),
        };
        Some(Covering { exact, uses_max: self.uses, counts, until: self.until })
    }

    /// Whether it lets nothing be done that `other` does not: the same thing or less, under the same id.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.id == other.id && self.is_no_more_than(other)
    }

    /// The same, whoever allowed it.
    #[must_use]
    pub fn is_no_more_than(&self, other: &Self) -> bool {
        self.what.is_within(&other.what)
            && other.uses.is_none_or(|most| self.uses.is_some_and(|uses| uses <= most))
            && other.until.is_none_or(|end| self.until.is_some_and(|until| until <= end))
    }
}

/// The best of several details for an ask: one that needs no counting before one that does, and of these one that fixes the
/// arguments.
#[must_use]
pub fn covering(
    details: &[Detail],
    asked: (Action, &EntityRef),
    facts: &AskFacts,
    now: Timestamp,
) -> Option<Covering> {
    let all = details.iter().filter_map(|detail| detail.covers(asked, facts, now));
    all.min_by_key(|covering| (covering.counts.is_some(), !covering.exact))
}

impl Exactly {
    /// Every type, as metadata names them.
    pub const TYPES: &'static [&'static str] = &["bartizan_tool", "bartizan_action", "bartizan_deployment"];

    /// Whether it covers an ask, and if so whether the arguments are fixed.
    fn covers(&self, (action, resource): (Action, &EntityRef), facts: &AskFacts) -> Option<bool> {
        match self {
            Self::Tool { tool, arguments } => {
                let is_it = resource.kind.as_str() == "Tool" && *resource.name == **tool;
                match (action, arguments) {
                    (Action::ToolCall, None) if is_it => Some(false),
                    (Action::ToolCall, Some(fixed)) if is_it => {
                        fixed.are(facts.arguments.as_ref()).then_some(true)
                    }
                    // Nothing is done by it.
                    (Action::ToolList, _) if is_it => Some(arguments.is_some()),
                    _ => None,
                }
            }
            Self::Action { action: allowed, resources } => {
                (action == *allowed && resources.iter().any(|one| one.entity() == *resource)).then_some(false)
            }
            // No ask says yet which manifest is moved where, so none is covered.
            Self::Deployment { .. } => None,
        }
    }

    fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tool { tool, arguments }, Self::Tool { tool: of, arguments: fixed }) => {
                tool == of && fixed.as_ref().is_none_or(|fixed| arguments.as_ref() == Some(fixed))
            }
            (Self::Action { action, resources }, Self::Action { action: of, resources: most }) => {
                action == of && !resources.is_empty() && resources.is_subset(most)
            }
            (one, other) => one == other,
        }
    }
}

impl Wanted {
    /// What has to be allowed for an ask. None where it cannot be named.
    #[must_use]
    pub fn of((action, resource): (Action, &EntityRef), facts: &AskFacts) -> Option<Self> {
        if action == Action::ToolCall && resource.kind.as_str() == "Tool" {
            let tool = resource.name.parse().ok()?;
            let arguments = match &facts.arguments {
                None => None,
                Some(arguments) => Some(Digest::of(&canonical(arguments)?)),
            };
            return Some(Self::Tool { tool, arguments });
        }
        let resource = EntityPath { kind: resource.kind.parse().ok()?, name: resource.name.clone() };
        Some(Self::Action { action, resources: [resource].into() })
    }

    /// How it would cover what it is wanted for.
    #[must_use]
    pub const fn covering(&self) -> Covering {
        let exact = matches!(self, Self::Tool { arguments: Some(_), .. });
        Covering { exact, uses_max: None, counts: None, until: None }
    }
}

impl Arguments {
    /// Their digest; none for such as have no canonical form that tells them from others.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Digest(digest) => Some(*digest),
            Self::These(arguments) => canonical(arguments).map(|text| Digest::of(&text)),
        }
    }

    /// Whether a call has them. None sent is an empty object.
    fn are(&self, sent: Option<&Map<String, Value>>) -> bool {
        let nothing = Map::new();
        let sent = canonical(sent.unwrap_or(&nothing)).map(|text| Digest::of(&text));
        sent.is_some() && sent == self.digest()
    }
}

impl PartialEq for Arguments {
    fn eq(&self, other: &Self) -> bool {
        let own = self.digest();
        own.is_some() && own == other.digest()
    }
}

impl Eq for Arguments {}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Digest(digest) => digest.serialize(serializer),
            Self::These(arguments) => arguments.serialize(serializer),
        }
    }
}

/// The canonical JSON of arguments. The canonical form takes numbers for doubles: beyond what these keep exactly, two calls
/// that differ would look alike, so there is none.
fn canonical(arguments: &Map<String, Value>) -> Option<Vec<u8>> {
    fn is_exact(value: &Value) -> bool {
        match value {
            Value::Number(number) => {
                let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
                let double = || number.as_f64().is_some_and(|n| n.fract() != 0.0 || n.abs() <= DOUBLE_MAX);
                whole.map_or_else(double, |whole| whole <= EXACT_MAX)
            }
            Value::Array(items) => items.iter().all(is_exact),
            Value::Object(members) => members.values().all(is_exact),
            _ => true,
        }
    }
    if arguments.values().all(is_exact) { json::canonical(arguments).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[expect(clippy::needless_pass_by_value, reason = "what is asked reads better so")]
    fn detail(value: Value) -> Detail {
        Detail::read(&value).unwrap_or_else(|| panic!("{value}"))
    }

    fn tool(name: &'static str) -> EntityRef {
        EntityRef::new(Name::literal("Tool"), Name::literal(name))
    }

    #[expect(clippy::needless_pass_by_value, reason = "what is asked reads better so")]
    fn with(arguments: Value) -> AskFacts {
        AskFacts { arguments: arguments.as_object().cloned(), ..AskFacts::default() }
    }

    fn id(n: u8) -> DetailId {
        DetailId::from_parts(NOW, [n; 10])
    }

    #[test]
    fn a_detail_reads_back_as_it_is_written() {
        let digest = "ab".repeat(32);
        for value in [
            json!({"type": "bartizan_tool", "tool": "mail/send"}),
            json!({"type": "bartizan_tool", "tool": "mail/send", "arguments": {"to": ["a"]}, "uses": 2, "until": 1_800_000_100}),
            json!({"type": "bartizan_tool", "tool": "mail/send", "arguments": digest, "id": id(1).to_string()}),
            json!({"type": "bartizan_action", "action": "model:invoke", "resources": ["Model::assistant"]}),
            json!({"type": "bartizan_deployment", "deployment": "shop", "environment": "production", "manifest": digest}),
        ] {
            assert_eq!(detail(value.clone()).to_json(), value);
        }
    }

    #[test]
    fn what_would_seem_to_bound_something_and_does_not_is_no_detail() {
        let tool = json!({"type": "bartizan_tool", "tool": "mail/send"});
        let more = |name: &str, value: Value| {
            let mut all = tool.clone();
            all[name] = value;
            all
        };
        for bad in [
            json!({"tool": "mail/send"}),
            json!({"type": "payment"}),
            more("amount_max", 10.into()),
            more("uses", 0.into()),
            more("uses", (-1).into()),
            more("uses", 1.5.into()),
            more("uses", Value::Null),
            more("until", "tomorrow".into()),
            more("until", 0.into()),
            more("id", "grt_x".into()),
            more("arguments", json!([1])),
            more("arguments", "x".into()),
            more("resources", json!(["Model::x"])),
            json!({"type": "bartizan_action", "action": "model:invoke", "resources": []}),
            json!({"type": "bartizan_action", "action": "model:everything", "resources": ["Model::x"]}),
        ] {
            assert_eq!(Detail::read(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_tool_is_that_tool_with_those_arguments_and_its_listing() {
        let any = detail(json!({"type": "bartizan_tool", "tool": "mail/send"}));
        let fixed = json!({"type": "bartizan_tool", "tool": "mail/send", "arguments": {"to": "a", "n": 1}});
        let fixed = detail(fixed);
        let (call, list) = (Action::ToolCall, Action::ToolList);
        let covers = |detail: &Detail, action, resource: &EntityRef, facts: &AskFacts| {
            detail.covers((action, resource), facts, NOW).map(|covering| covering.exact)
        };
        let nothing = AskFacts::default();
        assert_eq!(covers(&any, call, &tool("mail/send"), &with(json!({"to": "b"}))), Some(false));
        assert_eq!(covers(&any, call, &tool("mail/read"), &nothing), None);
        assert_eq!(covers(&any, Action::ToolList, &tool("mail/send"), &nothing), Some(false));
        assert_eq!(covers(&any, Action::ModelInvoke, &tool("mail/send"), &nothing), None);
        let other = EntityRef::new(Name::literal("ToolServer"), Name::literal("mail/send"));
        assert_eq!(covers(&any, call, &other, &nothing), None);
        // However they are written.
        let same: Value = serde_json::from_str(r#"{"n":1.0,"to":"\u0061"}"#).unwrap();
        assert_eq!(covers(&fixed, call, &tool("mail/send"), &with(same)), Some(true));
        assert_eq!(covers(&fixed, list, &tool("mail/send"), &nothing), Some(true));
        for other in
            [json!({}), json!({"to": "a"}), json!({"to": "a", "n": 2}), json!({"to": "a", "n": 1, "x": null})]
        {
            assert_eq!(covers(&fixed, call, &tool("mail/send"), &with(other.clone())), None, "{other}");
        }
        assert_eq!(covers(&fixed, call, &tool("mail/send"), &nothing), None);
        let none = detail(json!({"type": "bartizan_tool", "tool": "mail/send", "arguments": {}}));
        assert_eq!(covers(&none, call, &tool("mail/send"), &nothing), Some(true));
    }

    #[test]
    fn numbers_that_readers_of_json_confuse_fix_nothing() {
        for text in ["9007199254740993", "-9007199254740993", "100000000000000000000000", "1e300"] {
            let sent: Value = serde_json::from_str(&format!(r#"{{"a":[{{"b":{text}}}]}}"#)).unwrap();
            let sent = sent.as_object().unwrap();
            assert!(Wanted::of((Action::ToolCall, &tool("a/b")), &with(json!(sent))).is_none(), "{text}");
            assert!(!Arguments::These(sent.clone()).are(Some(sent)), "{text}");
        }
    }

    #[test]
    fn an_action_is_on_the_things_that_are_named() {
        let one = detail(
            json!({"type": "bartizan_action", "action": "api:call", "resources": ["Api::crm", "Api::erp"]}),
        );
        let api = |name| EntityRef::new(Name::literal("Api"), Name::literal(name));
        let covers = |action, resource: &EntityRef| {
            one.covers((action, resource), &AskFacts::default(), NOW).is_some()
        };
        assert!(covers(Action::ApiCall, &api("crm")) && covers(Action::ApiCall, &api("erp")));
        assert!(!covers(Action::ApiCall, &api("other")) && !covers(Action::ModelInvoke, &api("crm")));
    }

    #[test]
    fn what_is_bounded_is_over_at_its_end_and_counted_by_its_id() {
        let bounded =
            json!({"type": "bartizan_tool", "tool": "mail/send", "uses": 3, "until": NOW.as_secs() + 10});
        let later = Timestamp::from_secs(NOW.as_secs() + 10);
        let mut one = detail(bounded);
        let covers =
            |one: &Detail, action, now| one.covers((action, &tool("mail/send")), &AskFacts::default(), now);
        // Without an id nobody could count.
        assert_eq!(covers(&one, Action::ToolCall, NOW), None);
        one.id = Some(id(1));
        let counts = DetailUse { id: id(1), most: 3, until: later };
        assert_eq!(covers(&one, Action::ToolCall, NOW).unwrap().counts, Some(counts));
        assert_eq!(covers(&one, Action::ToolList, NOW).unwrap().counts, None);
        assert_eq!(covers(&one, Action::ToolCall, later), None);
        // What is not bounded is taken first, then what fixes more.
        let free = detail(json!({"type": "bartizan_tool", "tool": "mail/send"}));
        let best =
            |all: &[Detail]| covering(all, (Action::ToolCall, &tool("mail/send")), &AskFacts::default(), NOW);
        assert_eq!(best(&[one.clone(), free]).unwrap().counts, None);
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn what_is_demanded_covers_what_was_refused() {
        let long = with(json!({"text": "x".repeat(2_000)}));
        for (action, resource, facts) in [
            (Action::ToolCall, tool("mail/send"), with(json!({"to": "a"}))),
            (Action::ToolCall, tool("mail/send"), AskFacts::default()),
            (Action::ToolCall, tool("mail/send"), long),
            (
                Action::ModelInvoke,
                EntityRef::new(Name::literal("Model"), Name::literal("m")),
                AskFacts::default(),
            ),
        ] {
            let wanted = Wanted::of((action, &resource), &facts).unwrap();
            let detail = detail(serde_json::to_value(&wanted).unwrap());
            assert_eq!(detail.covers((action, &resource), &facts, NOW), Some(wanted.covering()));
            assert_eq!(Detail::read(&detail.to_json()).as_ref(), Some(&detail));
        }
    }

    fn any_detail() -> impl Strategy<Value = Detail> {
        let names = prop::sample::select(vec!["a/x", "a/y", "b/x"]);
        let arguments =
            prop::sample::select(vec![None, Some(json!({})), Some(json!({"n": 1})), Some(json!({"n": 2}))]);
        let tools = (names, arguments).prop_map(|(name, arguments)| {
            let arguments = arguments.and_then(|a| a.as_object().cloned()).map(Arguments::These);
            Exactly::Tool { tool: Name::literal(name), arguments }
        });
        let things =
            prop::collection::btree_set(prop::sample::select(vec!["Tool::a/x", "Tool::b/x", "Api::c"]), 1..3);
        let actions = (prop::sample::select(vec![Action::ToolCall, Action::ApiCall]), things).prop_map(
            |(action, things)| Exactly::Action {
                action,
                resources: things.iter().map(|one| one.parse().unwrap()).collect(),
            },
        );
        let bound = || prop::option::of(1_u64..4);
        (prop_oneof![tools, actions], bound(), bound(), 0_u8..2).prop_map(|(what, uses, until, n)| {
            let until = until.map(|n| Timestamp::from_secs(NOW.as_secs() + n));
            Detail { what, id: Some(id(n)), uses, until }
        })
    }

    /// Something in part like `other`, so that the one is often within the other.
    fn alike(mut one: Detail, other: &Detail, likeness: u8) -> Detail {
        if likeness & 1 != 0 {
            one.what = other.what.clone();
        }
        if let (true, Exactly::Action { resources, .. }) = (likeness & 2 != 0, &mut one.what) {
            *resources = resources.iter().take(1).cloned().collect();
        }
        if let (true, Exactly::Tool { arguments, .. }) = (likeness & 2 != 0, &mut one.what) {
            arguments.get_or_insert_with(|| Arguments::These(Map::new()));
        }
        if likeness & 4 != 0 {
            (one.id, one.uses, one.until) = (other.id, other.uses, other.until);
        }
        one
    }

    proptest! {
        #[test]
        fn inv_narrow_what_is_within_covers_nothing_that_the_other_does_not(
            one in any_detail(), other in any_detail(), likeness in 0_u8..8, at in 0_u64..5, n in 0_u8..4,
        ) {
            let now = Timestamp::from_secs(NOW.as_secs() + at);
            let facts = match n { 0 => AskFacts::default(), n => with(json!({"n": n})) };
            prop_assert!(one.is_within(&one));
            let one = alike(one, &other, likeness);
            if !one.is_within(&other) {
                return Ok(());
            }
            for resource in [tool("a/x"), tool("a/y"), tool("b/x"), EntityRef::new(Name::literal("Api"), Name::literal("c"))] {
                for action in [Action::ToolCall, Action::ToolList, Action::ApiCall] {
                    let asked = (action, &resource);
                    // What has a bound in number, and no end by which its count could be forgotten, covers nothing.
                    let Some(own) = one.covers(asked, &facts, now) else { continue };
                    let Some(of) = other.covers(asked, &facts, now) else {
                        prop_assert!(other.uses.is_some() && other.until.is_none());
                        continue;
                    };
                    prop_assert!(of.counts.is_none_or(|of| own.counts.is_some_and(|own| own.id == of.id && own.most <= of.most)));
                    prop_assert!(of.until.is_none_or(|of| own.until.is_some_and(|own| own <= of)));
                    prop_assert!(own.exact || !of.exact);
                }
            }
        }
    }
}
