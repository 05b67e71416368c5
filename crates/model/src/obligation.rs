//! What enforcement must do for a permit to stand.

use std::collections::BTreeSet;
use std::fmt;

use bartizan_base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::detector::{Detector, Group, MaskBy};

/// The kinds of obligations, for what a door says it can apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObligationKind {
    /// [`Obligation::Cap`].
    Cap,
    /// [`Obligation::DoNotKeep`].
    DoNotKeep,
    /// [`Obligation::Keep`].
    Keep,
    /// [`Obligation::Redact`].
    Redact,
    /// [`Obligation::StripTools`].
    StripTools,
    /// [`Obligation::Watch`].
    Watch,
    /// [`Obligation::StripLinks`].
    StripLinks,
    /// [`Obligation::Hide`].
    Hide,
}

/// One duty of enforcement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Obligation {
    /// At most this many output tokens may be asked of the model.
    Cap {
        /// The bound, at least one.
        output_tokens_max: u64,
    },
    /// Neither prompt nor answer may be kept.
    DoNotKeep,
    /// Prompt and answer are kept in the vault, where they can be erased; without that nothing is sent or released.
    Keep,
    /// Matches are replaced, on the way in and on the way out, also across the chunks of a stream.
    Redact {
        /// What to look for.
        detectors: BTreeSet<Detector>,
        /// What stands in its place.
        #[serde(default, skip_serializing_if = "MaskBy::is_default")]
        by: MaskBy,
    },
    /// Tool definitions are taken out of the request.
    StripTools,
    /// The act and what comes of it are marked for detection.
    Watch,
    /// Addresses in the answer that lead elsewhere than to these hosts are taken out, those of images too, also across the
    /// chunks of a stream.
    StripLinks {
        /// The hosts whose addresses may stay.
        hosts: BTreeSet<Name>,
    },
    /// What comes back stays at the gateway; whoever asked gets a handle for it, which can be passed on and not be read.
    Hide,
}

impl Obligation {
    /// Replacing what these detectors find by their names.
    #[must_use]
    pub fn redact(detectors: impl IntoIterator<Item = Detector>) -> Self {
        Self::Redact { detectors: detectors.into_iter().collect(), by: MaskBy::default() }
    }

    /// The obligation's kind.
    #[must_use]
    pub const fn kind(&self) -> ObligationKind {
        match self {
            Self::Cap { .. } => ObligationKind::Cap,
            Self::DoNotKeep => ObligationKind::DoNotKeep,
            Self::Keep => ObligationKind::Keep,
            Self::Redact { .. } => ObligationKind::Redact,
            Self::StripTools => ObligationKind::StripTools,
            Self::Watch => ObligationKind::Watch,
            Self::StripLinks { .. } => ObligationKind::StripLinks,
            Self::Hide => ObligationKind::Hide,
        }
    }

    /// Whether fulfilling this fulfils `other` too.
    #[must_use]
    pub fn is_at_least(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cap { output_tokens_max: a }, Self::Cap { output_tokens_max: b }) => a <= b,
            (Self::Redact { detectors: a, by: by_a }, Self::Redact { detectors: b, by: by_b }) => {
                a.is_superset(b) && by_a >= by_b
            }
            (Self::StripLinks { hosts: a }, Self::StripLinks { hosts: b }) => a.is_subset(b),
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for Obligation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cap { output_tokens_max } => write!(f, "cap:output_tokens:{output_tokens_max}"),
            Self::DoNotKeep => f.write_str("do_not_keep"),
            Self::Keep => f.write_str("keep:content"),
            Self::Redact { detectors, by } => {
                // Groups by their names: what belongs to them stands in records.
                let mut rest = detectors.clone();
                let mut names = Vec::new();
                for group in Group::ALL.iter().rev() {
                    let members = group.members();
                    if rest.is_superset(&members) {
                        rest.retain(|detector| !members.contains(detector));
                        names.push(group.name().to_owned());
                    }
                }
                names.extend(rest.iter().map(ToString::to_string));
                write!(f, "redact:{}", names.join(","))?;
                if by.is_default() { Ok(()) } else { write!(f, ";by:{}", by.name()) }
            }
            Self::Hide => f.write_str("hide"),
            Self::StripTools => f.write_str("strip_tools"),
            Self::Watch => f.write_str("watch"),
            Self::StripLinks { hosts } => {
                f.write_str("strip_links")?;
                for (i, host) in hosts.iter().enumerate() {
                    write!(f, "{}{host}", if i == 0 { ":" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

/// A set of obligations in which equal kinds have been united: detectors joined, caps at their minimum, hosts only where all
/// let them stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Obligations(BTreeSet<Obligation>);

impl Obligations {
    /// No obligations.
    #[must_use]
    pub const fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// Adds one, uniting it with what is there: the result never demands less than before.
    pub fn add(&mut self, obligation: Obligation) {
        let united = match (self.0.iter().find(|o| o.kind() == obligation.kind()).cloned(), obligation) {
            (Some(Obligation::Cap { output_tokens_max: a }), Obligation::Cap { output_tokens_max: b }) => {
                Obligation::Cap { output_tokens_max: a.min(b) }
            }
            (
                Some(Obligation::Redact { detectors: a, by: by_a }),
                Obligation::Redact { detectors: b, by: by_b },
            ) => Obligation::Redact { detectors: &a | &b, by: by_a.max(by_b) },
            (Some(Obligation::StripLinks { hosts: a }), Obligation::StripLinks { hosts: b }) => {
                Obligation::StripLinks { hosts: a.intersection(&b).cloned().collect() }
            }
            (_, new) => new,
        };
        self.0.retain(|o| o.kind() != united.kind());
        self.0.insert(united);
    }

    /// The smallest output cap, if any.
    #[must_use]
    pub fn output_tokens_max(&self) -> Option<u64> {
        self.0.iter().find_map(|o| match o {
            Obligation::Cap { output_tokens_max } => Some(*output_tokens_max),
            _ => None,
        })
    }

    /// What to redact; empty for nothing.
    #[must_use]
    pub fn detectors(&self) -> BTreeSet<Detector> {
        self.0
            .iter()
            .find_map(|o| match o {
                Obligation::Redact { detectors, .. } => Some(detectors.clone()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// What stands in the place of what is redacted.
    #[must_use]
    pub fn mask_by(&self) -> MaskBy {
        let by = |o: &Obligation| if let Obligation::Redact { by, .. } = o { Some(*by) } else { None };
        self.0.iter().find_map(by).unwrap_or_default()
    }

    /// The hosts whose addresses may stay in an answer; none where all may.
    #[must_use]
    pub fn hosts(&self) -> Option<&BTreeSet<Name>> {
        self.0.iter().find_map(|o| match o {
            Obligation::StripLinks { hosts } => Some(hosts),
            _ => None,
        })
    }

    /// Whether an obligation of this kind is among them.
    #[must_use]
    pub fn contains(&self, kind: ObligationKind) -> bool {
        self.0.iter().any(|o| o.kind() == kind)
    }

    /// Whether no door could apply all of them: content cannot be kept and not kept.
    #[must_use]
    pub fn contradict(&self) -> bool {
        self.contains(ObligationKind::Keep) && self.contains(ObligationKind::DoNotKeep)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The obligations in a stable order.
    pub fn iter(&self) -> impl Iterator<Item = &Obligation> {
        self.0.iter()
    }
}

impl FromIterator<Obligation> for Obligations {
    fn from_iter<I: IntoIterator<Item = Obligation>>(items: I) -> Self {
        let mut all = Self::none();
        items.into_iter().for_each(|o| all.add(o));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniting_keeps_the_stricter_of_each_kind() {
        let all: Obligations = [
            Obligation::Cap { output_tokens_max: 100 },
            Obligation::redact([Detector::Email]),
            Obligation::Cap { output_tokens_max: 50 },
            Obligation::redact([Detector::Card]),
            Obligation::Cap { output_tokens_max: 70 },
        ]
        .into_iter()
        .collect();
        assert_eq!(all.output_tokens_max(), Some(50));
        assert_eq!(all.detectors(), [Detector::Email, Detector::Card].into());
        assert_eq!(
            all.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["cap:output_tokens:50", "redact:email,card"]
        );
        let hosts = |names: &[&str]| Obligation::StripLinks {
            hosts: names.iter().map(|n| n.parse().unwrap()).collect(),
        };
        let united: Obligations =
            [hosts(&["a.example", "b.example"]), hosts(&["b.example"])].into_iter().collect();
        assert_eq!(united.iter().next().map(ToString::to_string).as_deref(), Some("strip_links:b.example"));
        assert!(
            hosts(&[]).is_at_least(&hosts(&["a.example"])) && !hosts(&["a.example"]).is_at_least(&hosts(&[]))
        );
    }

    #[test]
    fn what_makes_up_a_group_is_called_by_its_name() {
        let written =
            |all: &[&[Detector]]| Obligation::redact(all.iter().copied().flatten().cloned()).to_string();
        let (ids, pii) = (Vec::from_iter(Group::NationalIds.members()), Vec::from_iter(Group::Pii.members()));
        assert_eq!(written(&[&pii, &[Detector::Jwt]]), "redact:pii,jwt");
        assert_eq!(written(&[&ids, &[Detector::Email]]), "redact:national_ids,email");
        assert_eq!(written(&[&[Detector::Iban, Detector::Card]]), "redact:financial");
        assert_eq!(written(&[&ids[1..]]).split(',').count(), ids.len() - 1);
    }

    #[test]
    fn what_is_masked_in_several_ways_is_masked_in_the_strictest() {
        let by = |by| Obligation::Redact { detectors: [Detector::Email].into(), by };
        let all: Obligations =
            [by(MaskBy::TokenReturned), by(MaskBy::Hash), by(MaskBy::Token)].into_iter().collect();
        assert_eq!(all.mask_by(), MaskBy::Hash);
        assert_eq!(all.iter().map(ToString::to_string).collect::<Vec<_>>(), ["redact:email;by:hash"]);
        assert!(by(MaskBy::Name).is_at_least(&by(MaskBy::Token)));
        assert!(!by(MaskBy::TokenReturned).is_at_least(&by(MaskBy::Token)));
        let old: Obligation = serde_json::from_str(r#"{"kind":"redact","detectors":["email"]}"#).unwrap();
        assert_eq!(old, by(MaskBy::Name), "as records before said it");
        assert_eq!(serde_json::to_string(&old).unwrap(), r#"{"kind":"redact","detectors":["email"]}"#);
    }

    #[test]
    fn keeping_and_not_keeping_contradict_each_other_and_nothing_else_does() {
        let all = |items: &[Obligation]| items.iter().cloned().collect::<Obligations>();
        let (keep, not) = (Obligation::Keep, Obligation::DoNotKeep);
        assert!(all(&[keep.clone(), Obligation::StripTools, not.clone()]).contradict());
        assert!(!all(&[keep.clone(), Obligation::Cap { output_tokens_max: 1 }]).contradict());
        assert!(!all(&[not]).contradict());
        assert_eq!(keep.to_string(), "keep:content");
    }
}
