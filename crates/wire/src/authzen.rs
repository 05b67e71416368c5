//! The messages of the AuthZEN Authorization API 1.0 (OpenID), and of its obligations profile.
//!
//! Members that nobody here knows are ignored, as the specification demands; duplicate ones are refused.

use std::collections::BTreeMap;

use bartizan_base::json::{self, JsonError, Limits};
use bartizan_model::{Problem, ReasonCode};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Evaluations in one request.
pub const EVALUATIONS_MAX: usize = 1_000;
/// Results in one page of a search.
pub const PAGE_MAX: u32 = 1_000;

/// A subject or resource. In a search, the one that is looked for needs no `id`; one that stands there is ignored.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct Entity {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id within the type.
    #[serde(default)]
    pub id: Option<String>,
    /// What the enforcement point says of it.
    #[serde(default)]
    pub properties: Map<String, Value>,
    /// Members that the specification does not know: properties in its first drafts, without meaning now.
    #[serde(flatten)]
    pub beside: Map<String, Value>,
}

/// An action.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct Action {
    /// Its name.
    pub name: String,
    /// What the enforcement point says of it.
    #[serde(default)]
    pub properties: Map<String, Value>,
}

/// One question: may the subject do this to the resource?
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Who.
    pub subject: Entity,
    /// What.
    pub action: Action,
    /// On what.
    pub resource: Entity,
    /// Under which circumstances.
    pub context: Map<String, Value>,
}

/// How far a batch is worked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Semantic {
    /// Every evaluation.
    #[default]
    ExecuteAll,
    /// Up to the first that is denied.
    DenyOnFirstDeny,
    /// Up to the first that is permitted.
    PermitOnFirstPermit,
}

/// Several questions. One that is not whole is a problem of its own, not of the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// In the order of the request.
    pub items: Vec<Result<Evaluation, Problem>>,
    /// How far to go.
    pub semantic: Semantic,
}

/// A request to the evaluations endpoint: without a list it is a single evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluations {
    /// One.
    One(Box<Evaluation>),
    /// Several.
    Many(Batch),
}

/// What a search looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sought {
    /// Who may do this to that?
    Subject,
    /// To what may they do this?
    Resource,
    /// What may they do to that?
    Action,
}

/// A search. What is looked for stands there without meaning: its id, or for actions everything, is not to be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What is looked for.
    pub sought: Sought,
    /// Who; of the type looked for.
    pub subject: Entity,
    /// What; absent where actions are looked for.
    pub action: Option<Action>,
    /// On what; of the type looked for.
    pub resource: Entity,
    /// Under which circumstances.
    pub context: Map<String, Value>,
    /// Which part of the results.
    pub page: PageRequest,
}

/// Which part of the results is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PageRequest {
    /// Where to go on; empty for the beginning.
    pub token: String,
    /// How many at most; the rest comes with a token.
    pub limit: Option<u32>,
}

/// The answer to an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Answer {
    /// Whether it may happen.
    pub decision: bool,
    /// Why not, under which obligations, what would help.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
}

/// The answer to several.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Answers {
    /// In the order of the request.
    pub evaluations: Vec<Answer>,
}

/// The answer to a search.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Found {
    /// Where it goes on.
    pub page: Page,
    /// What was found, in a stable order.
    pub results: Vec<Value>,
}

/// Which part of the results this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Page {
    /// To be sent for the next part; empty at the end.
    pub next_token: String,
    /// How many are in this part.
    pub count: usize,
}

/// An obligation (AuthZEN obligations profile 1.0).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Obligation {
    /// Unique within its answer.
    pub id: String,
    /// A registered type, or `custom`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What belongs to the type.
    pub properties: BTreeMap<&'static str, Value>,
}

#[derive(Deserialize)]
struct Raw {
    subject: Option<Value>,
    action: Option<Value>,
    resource: Option<Value>,
    context: Option<Value>,
    evaluations: Option<Vec<Raw>>,
    #[serde(default)]
    options: Options,
    #[serde(default)]
    page: PageRequest,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    evaluations_semantic: Semantic,
}

/// Reads a request to the evaluation endpoint.
///
/// # Errors
/// When a required member is missing or something is not of its type.
pub fn evaluation(body: &[u8], limits: Limits) -> Result<Evaluation, Problem> {
    whole(read(body, limits)?)
}

/// Reads a request to the evaluations endpoint.
///
/// # Errors
/// When the request as a whole is not acceptable.
pub fn evaluations(body: &[u8], limits: Limits) -> Result<Evaluations, Problem> {
    let mut raw = read(body, limits)?;
    let items = raw.evaluations.take().unwrap_or_default();
    if items.is_empty() {
        return whole(raw).map(|one| Evaluations::One(Box::new(one)));
    }
    if items.len() > EVALUATIONS_MAX {
        return Err(malformed(format!("`evaluations` holds more than {EVALUATIONS_MAX}")));
    }
    let semantic = raw.options.evaluations_semantic;
    // A default replaces a missing member as a whole.
    let or = |own: Option<Value>, default: &Option<Value>| own.or_else(|| default.clone());
    let items = items.into_iter().map(|item| {
        whole(Raw {
            subject: or(item.subject, &raw.subject),
            action: or(item.action, &raw.action),
            resource: or(item.resource, &raw.resource),
            context: or(item.context, &raw.context),
            ..item
        })
    });
    Ok(Evaluations::Many(Batch { items: items.collect(), semantic }))
}

/// Reads a request to one of the search endpoints.
///
/// # Errors
/// When a required member is missing or something is not of its type.
pub fn search(sought: Sought, body: &[u8], limits: Limits) -> Result<Search, Problem> {
    let raw = read(body, limits)?;
    if raw.page.limit.is_some_and(|limit| limit == 0) {
        return Err(malformed("`page.limit` is at least 1"));
    }
    let entity = |name, value, of| {
        let entity: Entity = member(name, value)?;
        if sought != of { identified(name, entity) } else { Ok(entity) }
    };
    Ok(Search {
        sought,
        subject: entity("subject", raw.subject, Sought::Subject)?,
        action: match sought {
            Sought::Action => None,
            Sought::Subject | Sought::Resource => Some(action(raw.action)?),
        },
        resource: entity("resource", raw.resource, Sought::Resource)?,
        context: context(raw.context)?,
        page: raw.page,
    })
}

/// The bytes of an answer.
#[must_use]
pub fn body<T: Serialize>(answer: &T) -> Bytes {
    // Texts, numbers and lists only: always writable.
    Bytes::from(serde_json::to_vec(answer).unwrap_or_default())
}

/// The status and body of a problem. The API knows 400, 401, 403 and 500; what else there is keeps its own status where
/// that says more to a client.
#[must_use]
pub fn problem_body(problem: &Problem) -> (u16, Bytes) {
    let status = match problem.reason {
        ReasonCode::MediaTypeUnsupported => 400,
        _ => problem.reason.status(),
    };
    let value = serde_json::json!({
        "error": {"code": problem.reason.code(), "message": problem.message(), "decision": problem.decision}
    });
    (status, body(&value))
}

fn read(body: &[u8], limits: Limits) -> Result<Raw, Problem> {
    json::parse_as(body, limits).map_err(|error| {
        let reason = match error {
            JsonError::DuplicateKey(_) => ReasonCode::JsonDuplicateKey,
            JsonError::TooDeep(_) | JsonError::TooMany(_) => ReasonCode::JsonTooComplex,
            JsonError::TooLong(_) => ReasonCode::BodyTooLarge,
            _ => ReasonCode::BodyMalformed,
        };
        Problem::with_detail(reason, error.to_string())
    })
}

fn whole(raw: Raw) -> Result<Evaluation, Problem> {
    Ok(Evaluation {
        subject: identified("subject", member("subject", raw.subject)?)?,
        action: action(raw.action)?,
        resource: identified("resource", member("resource", raw.resource)?)?,
        context: context(raw.context)?,
    })
}

fn member<T: for<'de> Deserialize<'de>>(name: &str, value: Option<Value>) -> Result<T, Problem> {
    let value = value.ok_or_else(|| malformed(format!("`{name}` is missing")))?;
    serde_json::from_value(value).map_err(|error| malformed(format!("`{name}`: {error}")))
}

fn identified(name: &str, entity: Entity) -> Result<Entity, Problem> {
    if entity.id.is_none() { Err(malformed(format!("`{name}.id` is missing"))) } else { Ok(entity) }
}

fn action(value: Option<Value>) -> Result<Action, Problem> {
    member("action", value)
}

fn context(value: Option<Value>) -> Result<Map<String, Value>, Problem> {
    value.map_or_else(|| Ok(Map::new()), |value| member("context", Some(value)))
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::with_detail(ReasonCode::BodyMalformed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LIMITS: Limits = Limits { bytes_max: 1 << 20, depth_max: 16, nodes_max: 100_000 };

    fn one(value: &Value) -> Result<Evaluation, Problem> {
        evaluation(value.to_string().as_bytes(), LIMITS)
    }

    fn many(value: &Value) -> Result<Evaluations, Problem> {
        evaluations(value.to_string().as_bytes(), LIMITS)
    }

    fn base() -> Value {
        json!({"subject": {"type": "user", "id": "a"}, "action": {"name": "read"}, "resource": {"type": "r", "id": "1"}})
    }

    #[test]
    fn an_evaluation_needs_who_what_and_on_what_and_ignores_what_it_does_not_know() {
        let mut value = base();
        value["future"] = json!({"nested": [1]});
        value["subject"]["identity"] = json!("x");
        assert_eq!(one(&value).unwrap().subject.id.as_deref(), Some("a"));
        for missing in ["subject", "action", "resource"] {
            let mut value = base();
            value.as_object_mut().unwrap().remove(missing);
            let problem = one(&value).unwrap_err();
            assert_eq!(problem.reason, ReasonCode::BodyMalformed);
            assert!(problem.detail.contains(missing), "{problem:?}");
        }
        for (place, wrong) in [
            ("/subject/type", json!(null)),
            ("/subject/id", json!(null)),
            ("/subject/id", json!(7)),
            ("/subject", json!("alice")),
            ("/subject/properties", json!([])),
            ("/action/name", json!(123)),
            ("/resource/id", json!(null)),
        ] {
            let mut value = base();
            *value.pointer_mut(place).unwrap_or(&mut json!(null)) = wrong.clone();
            if place == "/subject/properties" {
                value["subject"]["properties"] = wrong;
            }
            assert!(one(&value).is_err(), "{place}");
        }
        let mut value = base();
        value["context"] = json!("now");
        assert!(one(&value).is_err());
        let twice = br#"{"subject":{"type":"user","id":"a","id":"b"},"action":{"name":"r"},"resource":{"type":"r","id":"1"}}"#;
        assert_eq!(evaluation(twice, LIMITS).unwrap_err().reason, ReasonCode::JsonDuplicateKey);
        assert_eq!(evaluation(b"", LIMITS).unwrap_err().reason, ReasonCode::BodyMalformed);
    }

    #[test]
    fn a_batch_takes_missing_members_whole_from_its_defaults() {
        let mut value = base();
        value["resource"]["properties"] = json!({"status": "active"});
        value["evaluations"] =
            json!([{}, {"resource": {"type": "r", "id": "2"}}, {"subject": {"type": "user"}}]);
        value["options"] = json!({"evaluations_semantic": "deny_on_first_deny", "other": 1});
        let Evaluations::Many(batch) = many(&value).unwrap() else { panic!("a batch") };
        assert_eq!(batch.semantic, Semantic::DenyOnFirstDeny);
        let first = batch.items[0].as_ref().unwrap();
        assert_eq!(first.resource.properties["status"], "active");
        let second = batch.items[1].as_ref().unwrap();
        assert!(second.resource.properties.is_empty(), "members are not merged");
        assert!(batch.items[2].is_err());
    }

    #[test]
    fn without_a_list_a_batch_is_one_evaluation() {
        for list in [json!(null), json!([])] {
            let mut value = base();
            value["evaluations"] = list;
            assert!(matches!(many(&value).unwrap(), Evaluations::One(_)));
        }
        let mut value = base();
        value["evaluations"] = json!(vec![json!({}); EVALUATIONS_MAX + 1]);
        assert!(many(&value).is_err());
        value["evaluations"] = json!([{}]);
        value["options"] = json!({"evaluations_semantic": "perhaps"});
        assert!(many(&value).is_err());
    }

    #[test]
    fn a_search_needs_everything_but_what_it_looks_for() {
        let ask = |sought, value: Value| search(sought, value.to_string().as_bytes(), LIMITS);
        let subject = json!({"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "r", "id": "1"}});
        assert!(ask(Sought::Subject, subject.clone()).is_ok());
        assert!(ask(Sought::Resource, subject.clone()).is_err());
        assert!(ask(Sought::Action, subject).is_err());
        let action = json!({"subject": {"type": "user", "id": "a"}, "resource": {"type": "r", "id": "1"}, "page": {"limit": 2, "token": "t"}});
        let found = ask(Sought::Action, action.clone()).unwrap();
        assert_eq!((found.page.limit, &*found.page.token, found.action), (Some(2), "t", None));
        assert!(ask(Sought::Subject, action.clone()).is_err());
        let mut nothing = action;
        nothing["page"] = json!({"limit": 0});
        assert!(ask(Sought::Action, nothing).is_err());
    }
}
