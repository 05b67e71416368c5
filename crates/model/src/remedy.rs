//! What would lift a rule that forbids (DESIGN 4).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use bartizan_base::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AssuranceLevel, Detector, Obligation, Quorum, Wanted};

/// A remedy, as a bundle's `@remedy` annotation names it. Written ([`fmt::Display`]) in its canonical form: two clauses
/// mean the same if and only if they are written the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Enforcement can do it itself: the permit carries the obligation.
    Oblige(Obligation),
    /// The caller authenticates more surely or more recently.
    StepUp {
        /// At least this level.
        level: AssuranceLevel,
        /// At most this long ago; none if age does not matter.
        max_age: Option<Duration>,
    },
    /// The caller presents a credential that is bound to a key.
    BindDevice {
        /// By which of these; never empty.
        by: BTreeSet<BoundBy>,
    },
    /// The caller states a purpose.
    Justify {
        /// Which of these; any purpose if empty.
        purposes: BTreeSet<Text<500>>,
    },
    /// Others approve.
    Approve(Approval),
}

/// What others have to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// How many of whom.
    pub quorum: Quorum,
    /// Within which time the approval must be used.
    pub use_within: Duration,
}

/// What a credential can be bound by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoundBy {
    /// DPoP (RFC 9449).
    Dpop,
    /// Mutual TLS (RFC 8705).
    Mtls,
}

impl BoundBy {
    /// Every way.
    pub const ALL: &[Self] = &[Self::Dpop, Self::Mtls];

    /// The name in policies, the same as in `context.binding`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dpop => "dpop",
            Self::Mtls => "mtls",
        }
    }
}

impl Remedy {
    /// Whether whatever satisfies this clause surely satisfies `before` too. False where that cannot be shown: a change
    /// of a clause for which this is false counts as widening.
    #[must_use]
    pub fn is_at_least(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Oblige(now), Self::Oblige(before)) => now.is_at_least(before),
            (
                Self::StepUp { level, max_age },
                Self::StepUp { level: level_before, max_age: max_age_before },
            ) => {
                level >= level_before
                    && max_age.unwrap_or(Duration::MAX) <= max_age_before.unwrap_or(Duration::MAX)
            }
            (Self::BindDevice { by }, Self::BindDevice { by: before }) => by.is_subset(before),
            (Self::Justify { purposes }, Self::Justify { purposes: before }) => {
                before.is_empty() || (!purposes.is_empty() && purposes.is_subset(before))
            }
            (Self::Approve(now), Self::Approve(before)) => {
                now.quorum.is_at_least(&before.quorum) && now.use_within <= before.use_within
            }
            _ => false,
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
        match self {
            Self::Oblige(Obligation::Cap { output_tokens_max }) => {
                write!(f, "cap(output_tokens: {output_tokens_max})")
            }
            Self::Oblige(Obligation::DoNotKeep) => f.write_str("do_not_keep"),
            Self::Oblige(Obligation::Keep) => f.write_str("keep(content)"),
            Self::Oblige(Obligation::Hide) => f.write_str("hide"),
            Self::Oblige(Obligation::StripTools) => f.write_str("strip_tools"),
            Self::Oblige(Obligation::Watch) => f.write_str("watch"),
            Self::Oblige(Obligation::StripLinks { hosts }) if hosts.is_empty() => f.write_str("strip_links"),
            Self::Oblige(Obligation::StripLinks { hosts }) => {
                write!(f, "strip_links({})", list(&mut hosts.iter().map(|h| format!("\"{h}\""))))
            }
            Self::Oblige(Obligation::Redact { detectors, by }) => {
                let one = |detector: &Detector| match detector {
                    Detector::Custom(name) => format!("detector: \"{name}\""),
                    built_in => built_in.name().to_owned(),
                };
                write!(f, "redact({}", list(&mut detectors.iter().map(one)))?;
                if !by.is_default() {
                    write!(f, ", by: \"{}\"", by.name())?;
                }
                f.write_str(")")
            }
            Self::StepUp { level, max_age } => {
                write!(f, "step_up(level: {}", u8::from(*level))?;
                if let Some(age) = max_age {
                    write!(f, ", max_age: {}s", age.as_secs())?;
                }
                f.write_str(")")
            }
            Self::BindDevice { by } => {
                write!(f, "bind_device({})", list(&mut by.iter().map(|b| b.name().to_owned())))
            }
            Self::Justify { purposes } if purposes.is_empty() => f.write_str("justify"),
            Self::Justify { purposes } => {
                let quoted = |p: &Text<500>| format!("\"{}\"", p.as_str());
                write!(f, "justify(purposes: [{}])", list(&mut purposes.iter().map(quoted)))
            }
            Self::Approve(Approval { quorum, use_within }) => {
                write!(f, "approve({quorum}, use_within: {}s)", use_within.as_secs())
            }
        }
    }
}

/// A remedy as it is offered to a caller: in data, and complete enough to act on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "remedy")]
pub enum Offer {
    /// Log in again, more surely (RFC 9470).
    StepUp {
        /// The level to reach, 1 to 4.
        level: u8,
        /// How old the login may be, in seconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_age_s: Option<u64>,
    },
    /// Present a credential that is bound to a key.
    BindDevice {
        /// By one of these.
        by: BTreeSet<BoundBy>,
    },
    /// State a purpose and ask again.
    Justify {
        /// One of these; any purpose if absent.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        #[schemars(with = "BTreeSet<String>")]
        purposes: BTreeSet<Text<500>>,
    },
    /// Wait for approval.
    Approve {
        /// How many of whom: one of the alternatives, in it every share, nobody counted twice.
        any_of: Quorum,
        /// Seconds within which the approval must be used.
        use_within_s: u64,
    },
    /// Get a token for exactly this, by one of these `authorization_details` (RFC 9396).
    Authorize {
        /// What to ask the authority for; more may be asked for.
        authorization_details: Vec<Wanted>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step_up(level: AssuranceLevel, seconds: Option<u64>) -> Remedy {
        Remedy::StepUp { level, max_age: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn a_clause_is_at_least_another_only_if_all_that_satisfies_it_satisfies_the_other() {
        let purposes =
            |all: &[&str]| Remedy::Justify { purposes: all.iter().map(|p| p.parse().unwrap()).collect() };
        let redact = |all: &[Detector]| Remedy::Oblige(Obligation::redact(all.iter().cloned()));
        let cap = |output_tokens_max| Remedy::Oblige(Obligation::Cap { output_tokens_max });
        let bind = |all: &[BoundBy]| Remedy::BindDevice { by: all.iter().copied().collect() };
        let approve = |quorum: &str, seconds| {
            Remedy::Approve(Approval {
                quorum: quorum.parse().unwrap(),
                use_within: Duration::from_secs(seconds),
            })
        };
        // Each of these is strictly stronger than the next beside it.
        let chains = [
            vec![
                step_up(AssuranceLevel::Aal3, Some(60)),
                step_up(AssuranceLevel::Aal2, Some(60)),
                step_up(AssuranceLevel::Aal2, None),
            ],
            vec![purposes(&["a"]), purposes(&["a", "b"]), purposes(&[])],
            vec![redact(Detector::ALL), redact(&[Detector::Card])],
            vec![cap(10), cap(20)],
            vec![bind(&[BoundBy::Mtls]), bind(BoundBy::ALL)],
            vec![approve("3", 60), approve("2", 60), approve("2", 90)],
        ];
        for chain in &chains {
            for (i, one) in chain.iter().enumerate() {
                for (j, other) in chain.iter().enumerate() {
                    assert_eq!(one.is_at_least(other), i <= j, "{one} against {other}");
                }
            }
        }
        for (i, a) in chains.iter().flatten().enumerate() {
            let alike = |b: &Remedy| std::mem::discriminant(a) == std::mem::discriminant(b);
            for b in chains.iter().flatten().skip(i).filter(|b| !alike(b)) {
                assert!(!a.is_at_least(b) && !b.is_at_least(a), "{a} and {b} cannot be compared");
            }
        }
        assert!(!cap(1).is_at_least(&redact(&[Detector::Card])));
    }
}
