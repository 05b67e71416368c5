//! A decision in words for a person and in data for a program.

use std::fmt;

use bartizan_base::Name;
use bartizan_model::record::VerdictKind;
use bartizan_model::{Obligations, Offer, ReasonCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::bundle::CompiledBundle;
use crate::verdict::Evidence;

/// A decision explained from its own evidence.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Explanation {
    /// What was decided.
    pub verdict: VerdictKind,
    /// Why, strongest first.
    pub reasons: Vec<ReasonCode>,
    /// What would help.
    pub offers: Vec<Offer>,
    /// Under which obligations it is permitted.
    pub obligations: Obligations,
    /// The rules.
    pub evidence: Evidence,
    /// The texts of the rules named, for those who may read policy.
    pub texts: Vec<(Name, String)>,
}

impl Explanation {
    pub(crate) fn new(
        verdict: VerdictKind,
        reasons: Vec<ReasonCode>,
        offers: Vec<Offer>,
        obligations: Obligations,
        evidence: Evidence,
        bundle: Option<&CompiledBundle>,
    ) -> Self {
        let named = |id: &Name| {
            evidence.forbids.contains(id) || evidence.permits.contains(id) || evidence.near.contains(id)
        };
        let rules = bundle.map_or(&[][..], |b| &b.rules);
        let texts = rules.iter().filter(|r| named(&r.id)).map(|r| (r.id.clone(), r.text.clone())).collect();
        Self { verdict, reasons, offers, obligations, evidence, texts }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[Name]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let verdict = match self.verdict {
            VerdictKind::Permit => "permitted",
            VerdictKind::StepUp => "needs a stronger login",
            VerdictKind::Justify => "needs a stated purpose",
            VerdictKind::Hold => "waits for approval",
            VerdictKind::Deny => "denied",
        };
        writeln!(f, "{verdict}")?;
        for reason in &self.reasons {
            writeln!(f, "  why: {reason}: {}", reason.meaning().trim())?;
        }
        for obligation in self.obligations.iter() {
            writeln!(f, "  under: {obligation}")?;
        }
        for offer in &self.offers {
            writeln!(f, "  would help: {}", words(offer))?;
        }
        for (label, names) in [
            ("permitted by", &self.evidence.permits),
            ("forbidden by", &self.evidence.forbids),
            ("forbidden by the constitution", &self.evidence.constitution),
            ("could not be evaluated", &self.evidence.erred),
            ("came close", &self.evidence.near),
        ] {
            if !names.is_empty() {
                writeln!(f, "  {label}: {}", list(names))?;
            }
        }
        for (id, text) in &self.texts {
            writeln!(f, "\n// {id}\n{text}")?;
        }
        Ok(())
    }
}

fn words(offer: &Offer) -> String {
    match offer {
        Offer::StepUp { level, max_age_s: None } => format!("log in at assurance level {level}"),
        Offer::StepUp { level, max_age_s: Some(age) } => {
            format!("log in at assurance level {level}, at most {age} seconds ago")
        }
        Offer::BindDevice { by } => {
            let by: Vec<&str> = by.iter().map(|b| b.name()).collect();
            format!("use a credential bound to a key ({})", by.join(" or "))
        }
        Offer::Justify { purposes } if purposes.is_empty() => "state a purpose".to_owned(),
        Offer::Justify { purposes } => {
            let all: Vec<String> = purposes.iter().map(|p| format!("`{}`", p.as_str())).collect();
            format!("state one of the purposes {}", all.join(", "))
        }
        Offer::Approve { any_of, use_within_s } => {
            format!("approval by {any_of}, used within {use_within_s} seconds")
        }
    }
}
