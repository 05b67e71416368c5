//! What goes wrong, as it is told to the one who asked.

use crate::{DecisionId, Offer, ReasonCode};

/// A refusal or failure for the caller's eyes: nothing in it may be secret. Each surface writes it in its dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Why.
    pub reason: ReasonCode,
    /// The particular place or value; empty when the reason says it all.
    pub detail: String,
    /// The decision to look up.
    pub decision: Option<DecisionId>,
    /// What would help.
    pub offers: Vec<Offer>,
    /// Header fields of the answer that say more: when to try again, how limits stand.
    pub fields: Vec<(&'static str, String)>,
}

impl Problem {
    /// A problem that needs no further words.
    #[must_use]
    pub const fn new(reason: ReasonCode) -> Self {
        Self { reason, detail: String::new(), decision: None, offers: Vec::new(), fields: Vec::new() }
    }

    /// A problem at a particular place.
    #[must_use]
    pub fn with_detail(reason: ReasonCode, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::new(reason) }
    }

    /// The same, naming the decision.
    #[must_use]
    pub const fn of(mut self, decision: DecisionId) -> Self {
        self.decision = Some(decision);
        self
    }

    /// The message for a person: meaning, particulars, way forward.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = self.reason.meaning().trim().to_owned();
        if !self.detail.is_empty() {
            text.pop();
            text.push_str(": ");
            text.push_str(&self.detail);
            text.push('.');
        }
        text.push(' ');
        text.push_str(self.reason.way_forward());
        text
    }
}
