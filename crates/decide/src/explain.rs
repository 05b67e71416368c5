//! A decision in words for a person and in data for a program.

use std::fmt;

use bartizan_base::Name;
use bartizan_model::record::VerdictKind;
use bartizan_model::{Obligations, Offer, ReasonCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::bundle::CompiledBundle;
use crate::judged::Judged;
use crate::story::{MemberStory, RuleOutcome};
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
    /// Member by member, rule by rule, for those who may read policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub members: Vec<MemberStory>,
    /// What would change the verdict, for those who may read policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub changes: Vec<Change>,
    /// Whether there is more that could change it than was looked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(default)]
    pub changes_incomplete: bool,
}

/// One thing that would change a verdict. That it would change it alone is not said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Change {
    /// Fulfil what is offered.
    Remedy {
        /// In words.
        text: String,
    },
    /// A condition of a permit that did not hold.
    Attribute {
        /// The permit.
        #[schemars(with = "String")]
        rule: Name,
        /// The member it failed for.
        member: String,
        /// The condition; `not:` before one that must not hold.
        condition: String,
        /// What it saw.
        seen: Vec<crate::story::Seen>,
    },
    /// A role or group that a permit asks for.
    Membership {
        /// The permit.
        #[schemars(with = "String")]
        rule: Name,
        /// The member that lacks it.
        member: String,
        /// What is lacking, as policies name it.
        of: String,
    },
}

impl Explanation {
    pub(crate) fn new(judged: Judged, bundle: Option<&CompiledBundle>) -> Self {
        let Judged { verdict, reasons, offers, obligations, evidence, .. } = judged;
        let named = |id: &Name| {
            evidence.forbids.contains(id) || evidence.permits.contains(id) || evidence.near.contains(id)
        };
        let rules = bundle.map_or(&[][..], |b| &b.rules);
        let texts = rules.iter().filter(|r| named(&r.id)).map(|r| (r.id.clone(), r.text.clone())).collect();
        let (members, changes, changes_incomplete) = (Vec::new(), Vec::new(), false);
        Self { verdict, reasons, offers, obligations, evidence, texts, members, changes, changes_incomplete }
    }

    /// Adds the tree, and what follows from it.
    pub(crate) fn tell(&mut self, members: Vec<MemberStory>, lacking: Vec<Change>, incomplete: bool) {
        self.changes = self.offers.iter().map(|offer| Change::Remedy { text: words(offer) }).collect();
        if self.verdict != VerdictKind::Permit {
            for member in &members {
                let near = member.rules.iter().filter(|rule| rule.outcome == RuleOutcome::Near);
                let failed =
                    near.flat_map(|rule| rule.clauses.iter().filter(|c| c.failed()).map(move |c| (rule, c)));
                self.changes.extend(failed.map(|(rule, clause)| Change::Attribute {
                    rule: rule.id.clone(),
                    member: member.member.clone(),
                    condition: if clause.kind == "when" {
                        clause.text.clone()
                    } else {
                        format!("not: {}", clause.text)
                    },
                    seen: clause.values.clone(),
                }));
            }
            self.changes.extend(lacking);
            self.changes_incomplete = incomplete;
        }
        self.members = members;
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[Name]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let verdict = match self.verdict {
            VerdictKind::Permit => "permitted",
            VerdictKind::StepUp => "needs a stronger or bound credential",
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
        self.members.iter().try_for_each(|member| tell_member(f, member))?;
        for change in &self.changes {
            match change {
                // Said above.
                Change::Remedy { .. } => {}
                Change::Attribute { rule, condition, .. } => {
                    writeln!(f, "  would change it: {condition} (`{rule}`)")?
                }
                Change::Membership { rule, member, of } => {
                    writeln!(f, "  would change it: {member} in {of} (`{rule}`)")?;
                }
            }
        }
        if self.changes_incomplete {
            writeln!(f, "  and more may: not every rule was looked at")?;
        }
        for (id, text) in &self.texts {
            writeln!(f, "\n// {id}\n{text}")?;
        }
        Ok(())
    }
}

fn tell_member(f: &mut fmt::Formatter<'_>, member: &MemberStory) -> fmt::Result {
    writeln!(f, "  {} {}", member.role, member.member)?;
    for rule in &member.rules {
        let by = rule.owner.as_ref().map_or_else(String::new, |owner| format!(" ({owner})"));
        writeln!(f, "    `{}` {}{by}", rule.id, rule.outcome)?;
        if let Some(description) = &rule.description {
            writeln!(f, "      {description}")?;
        }
        for clause in &rule.clauses {
            let holds = match clause.holds {
                Some(true) => "holds",
                Some(false) => "does not hold",
                None => "could not be evaluated",
            };
            writeln!(f, "      {} {} — {holds}", clause.kind, clause.text)?;
            for seen in &clause.values {
                writeln!(f, "        {} is {}", seen.of, seen.value)?;
            }
        }
    }
    Ok(())
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
        Offer::Authorize { .. } => "get a token for exactly this".to_owned(),
        Offer::Approve { any_of, use_within_s } => {
            format!("approval by {any_of}, used within {use_within_s} seconds")
        }
    }
}
