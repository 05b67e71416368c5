//! What remedies would make true, and what they ask of whom (DESIGN 4).

use std::collections::BTreeSet;
use std::time::Duration;

use bartizan_model::record::VerdictKind;
use bartizan_model::{AssuranceLevel, Member, Obligations, Offer, PrincipalKind, Remedy};

use crate::bundle::Rule;
use crate::remedy::facts;

/// Facts that remedies would make, per evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) obligations: BTreeSet<String>,
    pub(crate) approvals: BTreeSet<String>,
    pub(crate) step_up: Option<(AssuranceLevel, Option<Duration>)>,
    pub(crate) purpose: bool,
}

/// Whether `member` can bring `remedy` about: only people log in again.
pub(crate) fn can(member: &Member, remedy: &Remedy) -> bool {
    !matches!(remedy, Remedy::StepUp { .. }) || member.principal.kind == PrincipalKind::User
}

pub(crate) const fn strength(remedy: &Remedy) -> VerdictKind {
    match remedy {
        Remedy::Oblige(_) => VerdictKind::Permit,
        Remedy::StepUp { .. } => VerdictKind::StepUp,
        Remedy::Justify => VerdictKind::Justify,
        Remedy::Approve { .. } => VerdictKind::Hold,
    }
}

/// Adds what `remedy` would make true and what it asks of whom.
pub(crate) fn apply(
    rule: &Rule,
    remedy: &Remedy,
    applied: &mut Applied,
    obligations: &mut Obligations,
    offers: &mut Vec<Offer>,
) -> VerdictKind {
    match remedy {
        Remedy::Oblige(obligation) => {
            obligations.add(obligation.clone());
            // From the united set, so that two partial redactions count as what they are together.
            applied.obligations.extend(obligations.iter().flat_map(facts));
        }
        Remedy::StepUp { level, max_age } => {
            let (level_before, age_before) = applied.step_up.unwrap_or((AssuranceLevel::None, None));
            let age = match (age_before, *max_age) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let both = (level_before.max(*level), age);
            applied.step_up = Some(both);
            offers.retain(|o| !matches!(o, Offer::StepUp { .. }));
            offers.push(Offer::StepUp { level: both.0.into(), max_age_s: both.1.map(|d| d.as_secs()) });
        }
        Remedy::Justify => {
            applied.purpose = true;
            offers.push(Offer::Justify);
        }
        Remedy::Approve { count, role, use_within } => {
            applied.approvals.insert(rule.id.to_string());
            offers.push(Offer::Approve {
                count: *count,
                role: role.clone(),
                use_within_s: use_within.as_secs(),
            });
        }
    }
    strength(remedy)
}
