//! A client of the decision API (OpenID AuthZEN Authorization API 1.0) for applications that enforce policy themselves.
//!
//! ```no_run
//! use bartizan_client::{Client, Question};
//! # fn main() -> Result<(), bartizan_client::Error> {
//! let client = Client::new("https://gateway.example.com", "the workload's key".to_owned())?;
//! let question = Question::new(("user", "alice"), "read", ("record", "7"));
//! // Nothing but `true` lets her read: an error is no permit, nor is a permit under an obligation that is not applied.
//! let may = client.evaluate(&question)?.permits(|obligation| match obligation.own("redact") {
//!     Some(redaction) => redaction.get("detectors").is_some(), // … and then do it
//!     None => false,
//! });
//! # let _ = may; Ok(()) }
//! ```
//!
//! The calls block; each is one HTTP request. There is no retry: what is not answered is not permitted, and whether to
//! ask again is the application's to know.

#[cfg(feature = "tower")]
mod guard;

use std::fmt;
use std::time::Duration;

use bartizan_secret::Secret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[cfg(feature = "tower")]
pub use guard::{Guard, GuardLayer};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const ANSWER_MAX: u64 = 16 << 20;

/// Asks a decision point.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    key: Secret<String>,
    agent: ureq::Agent,
}

/// Why there is no answer. None of these is a permit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one.
    #[error("`{0}` is not an address such as `https://gateway.example.com`")]
    Address(String),
    /// The decision point could not be reached, or not in time.
    #[error("the decision point at {base} does not answer: {message}")]
    Unreachable {
        /// Where.
        base: String,
        /// What went wrong.
        message: String,
    },
    /// It refused to answer: the question is malformed, the key is not good, or policy does not let it ask.
    #[error("{code} (HTTP {status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The reason code, `unknown` where none was given.
        code: String,
        /// What it said.
        message: String,
    },
    /// The answer is not one of the specification.
    #[error("the answer is not one of the AuthZEN API: {0}")]
    Foreign(String),
}

/// May this subject do this to that resource?
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Question {
    subject: Entity,
    action: Action,
    resource: Entity,
    #[serde(skip_serializing_if = "Map::is_empty")]
    context: Map<String, Value>,
}

/// A subject or resource.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Entity {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    properties: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Action {
    name: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    properties: Map<String, Value>,
}

/// What was decided. To be let through, ask [`Answer::permits`].
#[must_use = "an answer that is not enforced is a hole"]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Answer {
    decision: bool,
    context: Context,
}

/// An answer is an object: a list of the same values in their order is none, whatever the reader would make of it.
impl TryFrom<Map<String, Value>> for Answer {
    type Error = serde_json::Error;

    fn try_from(mut members: Map<String, Value>) -> Result<Self, serde_json::Error> {
        let decision = serde_json::from_value(members.remove("decision").unwrap_or_default())?;
        let context =
            members.remove("context").map_or_else(|| Ok(Context::default()), serde_json::from_value)?;
        Ok(Self { decision, context })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Context {
    obligations: Vec<Obligation>,
    reasons: Vec<String>,
}

/// What must be done for an answer to stand (AuthZEN obligations profile).
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Obligation {
    /// Unique within its answer.
    pub id: String,
    /// A registered type, or `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What belongs to the type.
    #[serde(default)]
    pub properties: Map<String, Value>,
}

/// How far a batch is worked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Semantic {
    /// Every question.
    #[default]
    ExecuteAll,
    /// Up to the first that is denied.
    DenyOnFirstDeny,
    /// Up to the first that is permitted.
    PermitOnFirstPermit,
}

/// What a search found, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Ids of subjects or resources, or names of actions, in the order they came.
    pub results: Vec<String>,
}

impl Question {
    /// Of a subject and a resource, each as type and id.
    #[must_use]
    pub fn new(subject: (&str, &str), action: &str, resource: (&str, &str)) -> Self {
        let entity = |(kind, id): (&str, &str)| Entity {
            kind: kind.to_owned(),
            id: Some(id.to_owned()),
            properties: Map::new(),
        };
        Self {
            subject: entity(subject),
            action: Action { name: action.to_owned(), properties: Map::new() },
            resource: entity(resource),
            context: Map::new(),
        }
    }

    /// Says something of the subject. Whether it is believed is for the decision point to know.
    #[must_use]
    pub fn with_subject(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.subject.properties.insert(name.to_owned(), value.into());
        self
    }

    /// Says something of the action.
    #[must_use]
    pub fn with_action(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.action.properties.insert(name.to_owned(), value.into());
        self
    }

    /// Says something of the resource.
    #[must_use]
    pub fn with_resource(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.resource.properties.insert(name.to_owned(), value.into());
        self
    }

    /// Says something of the circumstances.
    #[must_use]
    pub fn with_context(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.context.insert(name.to_owned(), value.into());
        self
    }
}

impl Answer {
    /// Whether it may happen, where `apply` applies an obligation and says whether it did. Every obligation is applied that
    /// can be, also one that stands beside another which cannot; one that cannot makes the answer no.
    pub fn permits(&self, mut apply: impl FnMut(&Obligation) -> bool) -> bool {
        let done: Vec<bool> = self.context.obligations.iter().map(&mut apply).collect();
        self.decision && done.iter().all(|done| *done)
    }

    /// Whether it may happen, for an application that applies no obligations.
    #[must_use]
    pub fn permits_plainly(&self) -> bool {
        self.permits(|_| false)
    }

    /// Why not: reason codes, strongest first.
    #[must_use]
    pub fn reasons(&self) -> &[String] {
        &self.context.reasons
    }
}

impl Obligation {
    /// The obligation in Bartizan's own words, where it is of the kind `kind` (`redact`, `cap` …).
    #[must_use]
    pub fn own(&self, kind: &str) -> Option<&Map<String, Value>> {
        let ours = self.kind == "custom" && self.properties.get("vendor")? == "bartizan";
        let own = self.properties.get("obligation")?.as_object()?;
        (ours && own.get("kind")? == kind).then_some(own)
    }
}

impl Client {
    /// A client of the decision point at `base`, asking with the key of a workload.
    ///
    /// # Errors
    /// When `base` is not an address.
    pub fn new(base: &str, key: String) -> Result<Self, Error> {
        let trimmed = base.trim_end_matches('/');
        let is_address = trimmed
            .parse::<http::Uri>()
            .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        if !is_address {
            return Err(Error::Address(base.to_owned()));
        }
        // Where the application has not chosen a provider of cryptography for its process, ours is it.
        rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .build();
        Ok(Self { base: trimmed.to_owned(), key: Secret::new(key), agent: config.into() })
    }

    /// Asks one question.
    ///
    /// # Errors
    /// When there is no answer, which is no permit.
    pub fn evaluate(&self, question: &Question) -> Result<Answer, Error> {
        self.post("/access/v1/evaluation", question)
    }

    /// Asks several questions at once; the answers stand in their order, fewer of them where `semantic` stops early.
    ///
    /// # Errors
    /// When there is no answer, or more answers than questions.
    pub fn evaluate_all(&self, questions: &[Question], semantic: Semantic) -> Result<Vec<Answer>, Error> {
        #[derive(Deserialize)]
        struct Answers {
            evaluations: Vec<Answer>,
        }
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let body = json!({"evaluations": questions, "options": {"evaluations_semantic": semantic}});
        let Answers { evaluations } = self.post("/access/v1/evaluations", &body)?;
        let complete = semantic != Semantic::ExecuteAll || evaluations.len() == questions.len();
        if !complete || evaluations.len() > questions.len() {
            return Err(Error::Foreign("it does not have as many answers as there are questions".to_owned()));
        }
        Ok(evaluations)
    }

    /// Everybody of the subject's type who may do what `question` says; the subject's id in it means nothing.
    ///
    /// # Errors
    /// When there is no answer, or it has no end.
    pub fn subjects(&self, question: &Question) -> Result<Found, Error> {
        let mut question = question.clone();
        question.subject.id = None;
        self.search("subject", &json!(question), "id")
    }

    /// Everything of the resource's type that `question` may be said of; the resource's id in it means nothing.
    ///
    /// # Errors
    /// When there is no answer, or it has no end.
    pub fn resources(&self, question: &Question) -> Result<Found, Error> {
        let mut question = question.clone();
        question.resource.id = None;
        self.search("resource", &json!(question), "id")
    }

    /// Every action that the subject may do to the resource; the action in `question` means nothing.
    ///
    /// # Errors
    /// When there is no answer, or it has no end.
    pub fn actions(&self, question: &Question) -> Result<Found, Error> {
        let mut body = json!(question);
        if let Some(members) = body.as_object_mut() {
            members.remove("action");
        }
        self.search("action", &body, "name")
    }

    /// All pages of a search.
    fn search(&self, endpoint: &str, body: &Value, name: &str) -> Result<Found, Error> {
        #[derive(Deserialize)]
        struct Part {
            results: Vec<Value>,
            #[serde(default)]
            page: Page,
        }
        #[derive(Default, Deserialize)]
        struct Page {
            #[serde(default)]
            next_token: String,
        }
        let mut found = Found::default();
        let mut token = String::new();
        loop {
            let mut body = body.clone();
            if let Some(members) = body.as_object_mut() {
                members.insert("page".to_owned(), json!({"token": token, "limit": 1_000}));
            }
            let part: Part = self.post(&format!("/access/v1/search/{endpoint}"), &body)?;
            for result in part.results {
                let id = result.get(name).and_then(Value::as_str);
                found
                    .results
                    .push(id.ok_or_else(|| Error::Foreign("a result without a name".to_owned()))?.to_owned());
            }
            if part.page.next_token.is_empty() {
                return Ok(found);
            }
            if part.page.next_token == token {
                return Err(Error::Foreign("a page that goes on with itself".to_owned()));
            }
            token = part.page.next_token;
        }
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let unreachable = |error: &dyn fmt::Display| Error::Unreachable {
            base: self.base.clone(),
            message: error.to_string(),
        };
        let body = serde_json::to_string(body).map_err(|e| Error::Foreign(e.to_string()))?;
        let request = http::Request::post(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.key.expose()))
            .header("content-type", "application/json")
            .body(body)
            .map_err(|_| Error::Address(self.base.clone()))?;
        let mut answer = self.agent.run(request).map_err(|e| unreachable(&e))?;
        let status = answer.status().as_u16();
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX)
            .read_to_string()
            .map_err(|e| unreachable(&e))?;
        if status == 200 {
            return serde_json::from_str(&text).map_err(|e| Error::Foreign(e.to_string()));
        }
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        let member = |name: &str| told.pointer(&format!("/error/{name}")).and_then(Value::as_str);
        Err(Error::Refused {
            status,
            code: member("code").unwrap_or("unknown").to_owned(),
            message: member("message").unwrap_or("the decision point refused to answer").to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(value: Value) -> Answer {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_a_yes_whose_every_obligation_is_applied_is_a_permit() {
        let obligation = json!({"id": "obl-1", "type": "custom", "properties": {"vendor": "bartizan", "obligation": {"kind": "redact", "detectors": ["email"]}}});
        let other = json!({"id": "obl-2", "type": "notification", "properties": {}});
        let with = |decision: bool, all: &[&Value]| {
            answer(json!({"decision": decision, "context": {"obligations": all}}))
        };
        let redacts = |o: &Obligation| o.own("redact").is_some();
        assert!(answer(json!({"decision": true})).permits_plainly());
        assert!(!answer(json!({"decision": false})).permits(|_| true));
        assert!(with(true, &[&obligation]).permits(redacts));
        assert!(!with(true, &[&obligation]).permits_plainly());
        assert!(!with(true, &[&obligation, &other]).permits(redacts));
        assert!(!with(false, &[&obligation]).permits(redacts));
        let mut seen = Vec::new();
        with(true, &[&other, &obligation]).permits(|o| {
            seen.push(o.id.clone());
            redacts(o)
        });
        assert_eq!(seen, ["obl-2", "obl-1"], "what can be applied is applied, whatever else there is");
    }

    #[test]
    fn what_is_no_decision_is_no_answer() {
        for value in [
            json!({}),
            json!({"decision": "true"}),
            json!({"decision": 1}),
            json!([true]),
            json!({"decision": true, "context": {"obligations": [{"id": "x"}]}}),
        ] {
            assert!(serde_json::from_value::<Answer>(value.clone()).is_err(), "{value}");
        }
    }

    #[test]
    fn an_address_is_one_and_the_key_is_not_shown() {
        for bad in ["", "gateway", "ftp://gateway", "https://", "file:///etc"] {
            assert!(matches!(Client::new(bad, "k".to_owned()), Err(Error::Address(_))), "{bad}");
        }
        let client = Client::new("https://gateway.example.com/", "secret-key".to_owned()).unwrap();
        assert!(!format!("{client:?}").contains("secret-key"));
    }

    #[test]
    fn a_decision_point_that_is_not_there_permits_nothing() {
        let client = Client::new("http://127.0.0.1:1", "k".to_owned()).unwrap();
        let asked = client.evaluate(&Question::new(("user", "a"), "read", ("record", "1")));
        assert!(matches!(asked, Err(Error::Unreachable { .. })));
    }
}
