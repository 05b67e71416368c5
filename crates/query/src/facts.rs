//! The facts of an entry: what queries are held against, and what an index stores. One projection for both.

use bartizan_base::json::{self, JsonError, Limits};
use bartizan_model::record::{Body, End, Grounds, Record, System, What, Who};
use bartizan_model::{CredentialKind, PrincipalKind, ReasonCode, Target};
use serde_json::Value as Json;

use crate::field::Field;
use crate::quantity::NUMBER_MAX;
use crate::words;

/// The longest entry of a log, in bytes (tlog-tiles).
const ENTRY_MAX: usize = 65_535;

/// One value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a field whose values are text.
    Text(String),
    /// Of a field whose values have an order; never above 2^53 - 1.
    Number(u64),
}

/// What can be asked about one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    values: Vec<(Field, Value)>,
    text: String,
}

impl Facts {
    /// Reads an entry, at its `place` (origin and index) if it is sealed.
    ///
    /// # Errors
    /// When the entry is not a record that this version understands.
    pub fn read(entry: &[u8], place: Option<(&str, u64)>) -> Result<(Record, Self), JsonError> {
        let document = json::parse(entry, Limits { bytes_max: ENTRY_MAX, ..Limits::default() })?;
        let text = words::joined(strings(&document).into_iter());
        let record: Record =
            serde_json::from_value(document).map_err(|error| JsonError::Shape(error.to_string()))?;
        let mut facts = Self { values: Vec::with_capacity(24), text };
        facts.add_record(&record);
        if let Some((origin, index)) = place {
            facts.text(Field::Origin, origin);
            facts.number(Field::Index, index);
        }
        Ok((record, facts))
    }

    /// The values of a field; most have one at most.
    pub fn values(&self, field: Field) -> impl Iterator<Item = &Value> {
        self.values.iter().filter(move |(of, _)| *of == field).map(|(_, value)| value)
    }

    /// The words of all text in the entry, known fields or not: each value between
    /// [`BARRIER`](crate::BARRIER)s, with single spaces around everything.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.text
    }

    fn text(&mut self, field: Field, value: impl Into<String>) {
        self.values.push((field, Value::Text(value.into())));
    }

    fn number(&mut self, field: Field, value: u64) {
        self.values.push((field, Value::Number(value.min(NUMBER_MAX))));
    }

    fn add_record(&mut self, record: &Record) {
        self.text(Field::Node, record.node.to_string());
        self.number(Field::Seq, record.seq);
        self.number(Field::Time, record.time_us.as_micros());
        match &record.body {
            Body::Intent(intent) => {
                self.text(Field::Kind, "intent");
                self.text(Field::Verdict, "permit");
                self.text(Field::Decision, intent.id.to_string());
                self.add_who(&intent.who);
                self.add_what(&intent.what);
                self.add_grounds(&intent.grounds);
                self.text(Field::Target, target(&intent.target));
            }
            Body::Refusal(refusal) => {
                self.text(Field::Kind, "refusal");
                self.text(Field::Verdict, refusal.verdict.name());
                self.text(Field::Decision, refusal.id.to_string());
                refusal.reasons.iter().for_each(|reason| self.add_reason(reason));
                self.number(Field::Repeated, refusal.repeated);
                self.add_who(&refusal.who);
                refusal.what.iter().for_each(|what| self.add_what(what));
                refusal.grounds.iter().for_each(|grounds| self.add_grounds(grounds));
            }
            Body::Outcome(outcome) => {
                self.text(Field::Kind, "outcome");
                self.text(Field::Decision, outcome.of.to_string());
                self.text(Field::End, outcome.end.name());
                if let End::Failed { reason } = &outcome.end {
                    self.add_reason(reason);
                }
                outcome.status.iter().for_each(|status| self.number(Field::Status, u64::from(*status)));
                self.number(Field::Bytes, outcome.bytes);
                let counted = [outcome.input_tokens, outcome.output_tokens];
                let total = counted.iter().flatten().copied().reduce(u64::saturating_add);
                total.iter().for_each(|tokens| self.number(Field::Tokens, *tokens));
                self.number(Field::Redacted, outcome.redacted);
                self.number(Field::Took, outcome.took_us);
            }
            Body::System(system) => {
                self.text(Field::Kind, "system");
                self.text(Field::Event, system.name());
                if let System::Erased { of, .. }
                | System::Removed { of, .. }
                | System::DirectoryChanged { of, .. } = system
                {
                    self.text(Field::Decision, of.to_string());
                }
            }
        }
    }

    fn add_who(&mut self, who: &Who) {
        self.text(Field::Subject, who.subject.to_string());
        self.text(Field::SubjectKind, being(who.subject_kind));
        who.actors.iter().for_each(|actor| self.text(Field::Actor, actor.to_string()));
        self.text(Field::Credential, credential(who.credential));
        who.key.iter().for_each(|key| self.text(Field::Key, key.to_string()));
        who.issuer.iter().for_each(|issuer| self.text(Field::Issuer, issuer.as_str()));
        self.number(Field::Assurance, u64::from(who.assurance));
    }

    fn add_what(&mut self, what: &What) {
        self.text(Field::Action, what.action.name());
        self.text(Field::Resource, what.resource.name.as_str());
        self.text(Field::ResourceType, what.resource.kind.as_str());
        self.text(Field::Dialect, what.dialect.as_str());
        self.number(Field::Bytes, what.bytes);
    }

    fn add_grounds(&mut self, grounds: &Grounds) {
        grounds.rules.iter().for_each(|rule| self.text(Field::Rule, rule.as_str()));
        self.text(Field::Policy, grounds.policy.to_string());
    }

    fn add_reason(&mut self, reason: &ReasonCode) {
        self.text(Field::Reason, reason.code());
    }
}

/// All text values of a document, in its order; names of members are not values.
fn strings(document: &Json) -> Vec<&str> {
    let (mut out, mut open) = (Vec::new(), vec![document]);
    while let Some(value) = open.pop() {
        match value {
            Json::String(text) => out.push(text.as_str()),
            Json::Array(items) => open.extend(items.iter().rev()),
            Json::Object(members) => open.extend(members.values().rev()),
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }
    out
}

// The words of the closed fields. A new variant does not compile until it has one, and a test holds them against how
// records are written.

pub(crate) const KINDS: &[&str] = &["intent", "refusal", "outcome", "system"];
pub(crate) const VERDICTS: &[&str] = &["permit", "step_up", "justify", "hold", "deny"];
pub(crate) const BEINGS: &[&str] = &["anonymous", "user", "agent", "workload"];
pub(crate) const CREDENTIALS: &[&str] = &[
    "none",
    "api_key",
    "access_token",
    "claim",
    "recovery",
    "login",
    "session",
    "client",
    "certificate",
    "event",
    "house",
];
pub(crate) const ENDS: &[&str] = &["done", "abandoned", "failed", "unknown"];
pub(crate) const EVENTS: &[&str] = &[
    "started",
    "stopped",
    "tail_cut",
    "recovered",
    "initialised",
    "checkpoint",
    "unwitnessed",
    "policy_rejected",
    "decision_mismatch",
    "erased",
    "expired",
    "reapplied",
    "removed",
    "directory_changed",
    "policy_compared",
    "replay_checked",
];

const fn being(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Anonymous => "anonymous",
        PrincipalKind::User => "user",
        PrincipalKind::Agent => "agent",
        PrincipalKind::Workload => "workload",
    }
}

const fn credential(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::None => "none",
        CredentialKind::ApiKey => "api_key",
        CredentialKind::AccessToken => "access_token",
        CredentialKind::Claim => "claim",
        CredentialKind::Recovery => "recovery",
        CredentialKind::Login => "login",
        CredentialKind::Session => "session",
        CredentialKind::Client => "client",
        CredentialKind::Certificate => "certificate",
        CredentialKind::Event => "event",
        CredentialKind::House => "house",
    }
}

fn target(target: &Target) -> &str {
    match target {
        Target::Upstream { upstream, .. } => upstream,
        Target::Direct { name, .. } => name,
        Target::House => "house",
        Target::Cached { .. } => "cache",
        Target::Answer { .. } => "asker",
    }
}
