//! What a record says, in the flat form that every rendering reads.

use std::slice;

use bartizan_base::Timestamp;
use bartizan_model::record::{Body, End, Grounds, Outcome, Record, Refusal, System, VerdictKind, What, Who};
use bartizan_model::{Action, DecisionId, Dialect, Obligations, Offer, ReasonCode, Target};
use serde_json::Value;

use crate::{Kind, Placed, Said, Severity};

/// The facts of a record. What it does not hold is absent; of a record that is not understood, only the members that
/// every version has are read.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) placed: &'a Placed,
    pub(crate) record: Option<&'a Record>,
    /// The kind's name; `unknown` if there is none to be read.
    pub(crate) kind_name: &'a str,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) severity: Severity,
    pub(crate) decision: Option<DecisionId>,
    pub(crate) who: Option<&'a Who>,
    pub(crate) what: Option<&'a What>,
    pub(crate) grounds: Option<&'a Grounds>,
    pub(crate) obligations: Option<&'a Obligations>,
    pub(crate) target: Option<&'a Target>,
    /// What was decided; of an outcome nothing.
    pub(crate) verdict: Option<VerdictKind>,
    /// Why it was refused or failed.
    pub(crate) reasons: &'a [ReasonCode],
    pub(crate) offers: &'a [Offer],
    pub(crate) refusal: Option<&'a Refusal>,
    pub(crate) outcome: Option<&'a Outcome>,
    pub(crate) event: Option<&'a System>,
}

impl<'a> Facts<'a> {
    pub(crate) fn of(placed: &'a Placed) -> Self {
        let nothing = Self {
            placed,
            record: None,
            kind_name: "unknown",
            tenant: None,
            time: None,
            severity: Severity::Low,
            decision: None,
            who: None,
            what: None,
            grounds: None,
            obligations: None,
            target: None,
            verdict: None,
            reasons: &[],
            offers: &[],
            refusal: None,
            outcome: None,
            event: None,
        };
        match placed.said() {
            Said::Record(record) => nothing.of_record(record),
            Said::Unknown(value) => Self {
                kind_name: value.get("kind").and_then(Value::as_str).unwrap_or("unknown"),
                tenant: value.get("tenant").and_then(Value::as_str),
                time: value.get("time_us").and_then(Value::as_u64).map(Timestamp::from_micros),
                ..nothing
            },
            Said::Text => nothing,
        }
    }

    fn of_record(self, record: &'a Record) -> Self {
        let kind = Kind::of(&record.body);
        let known = Self {
            record: Some(record),
            kind_name: kind.name(),
            tenant: Some(record.tenant.0.as_str()),
            time: Some(record.time_us),
            severity: Severity::of(&record.body),
            ..self
        };
        match &record.body {
            Body::Intent(intent) => Self {
                decision: Some(intent.id),
                who: Some(&intent.who),
                what: Some(&intent.what),
                grounds: Some(&intent.grounds),
                obligations: Some(&intent.obligations),
                target: Some(&intent.target),
                verdict: Some(VerdictKind::Permit),
                ..known
            },
            Body::Refusal(refusal) => Self {
                decision: Some(refusal.id),
                who: Some(&refusal.who),
                what: refusal.what.as_ref(),
                grounds: refusal.grounds.as_ref(),
                verdict: Some(refusal.verdict),
                reasons: &refusal.reasons,
                offers: &refusal.offers,
                refusal: Some(refusal),
                ..known
            },
            Body::Outcome(outcome) => Self {
                decision: Some(outcome.of),
                reasons: match &outcome.end {
                    End::Failed { reason } => slice::from_ref(reason),
                    End::Done | End::Abandoned | End::Unknown => &[],
                },
                outcome: Some(outcome),
                ..known
            },
            Body::System(event) => {
                // An erasure answers an ask, as an outcome does.
                let decision = if let System::Erased { of, .. }
                | System::Removed { of, .. }
                | System::DirectoryChanged { of, .. } = event
                {
                    Some(*of)
                } else {
                    None
                };
                Self { decision, event: Some(event), ..known }
            }
        }
    }

    /// The upstream that a permitted call goes to.
    pub(crate) fn upstream(&self) -> Option<&'a str> {
        match self.target? {
            Target::Upstream { upstream, .. } => Some(upstream.as_str()),
            Target::Direct { .. } | Target::House | Target::Cached { .. } | Target::Answer { .. } => None,
        }
    }

    /// The model asked for.
    pub(crate) fn model(&self) -> Option<&'a str> {
        let resource = &self.what?.resource;
        (resource.kind.as_str() == "Model").then(|| resource.name.as_str())
    }

    /// Whose dialect was spoken with a model, and for what, in the words of the GenAI conventions: `openai` and `chat`. A
    /// provider can only be told by its format there; which one was really called is the upstream.
    pub(crate) fn spoken(&self) -> Option<(&'static str, &'static str)> {
        let spoken = &self.what?.dialect;
        Dialect::ALL.iter().find(|d| d.name() == spoken).map(|dialect| dialect.conventions())
    }

    /// The record in a few words that repeat: what happened, without of what or why.
    pub(crate) fn headline(&self) -> String {
        let ask = self.what.map_or("a request", |what| what.action.name());
        match (self.verdict, self.outcome, self.event) {
            (Some(verdict), _, _) => format!("{}: {ask}", verdict.name()),
            (_, Some(outcome), _) => format!("outcome: {}", outcome.end.name()),
            (_, _, Some(event)) => format!("system: {}", event.name()),
            (None, None, None) => "a record that this version does not know".to_owned(),
        }
    }

    /// The record in one sentence.
    pub(crate) fn sentence(&self) -> String {
        let mut out = self.headline();
        if let Some(what) = self.what {
            out.push_str(&format!(" on {}", what.resource));
        }
        if !self.reasons.is_empty() {
            out.push_str(&format!(" ({})", joined(self.reasons)));
        }
        match self.event {
            Some(System::Started { version }) => out.push_str(&format!(", version {version}")),
            Some(System::TailCut { bytes }) => out.push_str(&format!(", {bytes} bytes")),
            Some(System::Recovered { what }) => out.push_str(&format!(", {what}")),
            Some(System::PolicyRejected { bundle, reason }) => {
                out.push_str(&bundle.map_or_else(String::new, |bundle| format!(", bundle {bundle}")));
                out.push_str(&reason.as_ref().map_or_else(String::new, |reason| format!(", {reason}")));
            }
            Some(System::DecisionMismatch { bundle, rules, .. }) => {
                let rules: Vec<&str> = rules.iter().map(AsRef::as_ref).collect();
                out.push_str(&format!(", bundle {bundle}, rules [{}]", rules.join(", ")));
            }
            Some(System::PolicyCompared { candidate, compared, flips }) => {
                out.push_str(&format!(", candidate {candidate}, {flips} of {compared} decisions differ"));
            }
            Some(System::ReplayChecked { same, differing, not_replayable }) => {
                out.push_str(&format!(
                    ", {same} same, {differing} differing, {not_replayable} not replayable"
                ));
            }
            Some(System::Checkpoint { origin, size, .. } | System::Removed { origin, size, .. }) => {
                out.push_str(&format!(", {origin}, {size} entries"));
            }
            Some(System::Unwitnessed { size, seconds }) => {
                out.push_str(&format!(", for {seconds} s, last at {size} entries"));
            }
            Some(System::Erased { items, payloads, .. } | System::Expired { items, payloads }) => {
                out.push_str(&format!(", {items} values, {payloads} payloads"));
            }
            Some(System::DirectoryChanged { changes, .. }) => {
                out.push_str(&format!(", {} entries", changes.len()));
            }
            Some(System::Reapplied { erasures }) => out.push_str(&format!(", {erasures} erasures")),
            Some(System::Stopped | System::Initialised) | None => {}
        }
        out
    }

    /// How a permitted thing ended, by name.
    pub(crate) fn end(&self) -> Option<&'static str> {
        self.outcome.map(|outcome| outcome.end.name())
    }

    /// What the house says about itself, by name.
    pub(crate) fn event_name(&self) -> Option<&'static str> {
        self.event.map(System::name)
    }

    /// The action asked for.
    pub(crate) fn action(&self) -> Option<Action> {
        self.what.map(|what| what.action)
    }
}

/// A list in one text, with a space in between: no name, code or id holds one.
pub(crate) fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}
