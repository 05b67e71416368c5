//! Labels of data and their join (DESIGN 6).

use std::collections::BTreeSet;

use bartizan_base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may read it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Confidentiality {
    /// Anybody.
    Public,
    /// The organisation.
    Internal,
    /// Those who need it.
    Confidential,
    /// Named people. The default for data nobody labelled.
    #[default]
    Restricted,
}

impl Confidentiality {
    /// The name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Confidential => "confidential",
            Self::Restricted => "restricted",
        }
    }
}

impl Integrity {
    /// The name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Untrusted => "untrusted",
        }
    }
}

/// Whether it may steer an act.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Integrity {
    /// From a source we answer for.
    Trusted,
    /// From anywhere else. The default.
    #[default]
    Untrusted,
}

/// Confidentiality with categories, and integrity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Of which categories, such as `health`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub categories: BTreeSet<Name>,
    /// How confidential.
    pub confidentiality: Confidentiality,
    /// How trustworthy.
    pub integrity: Integrity,
}

impl Label {
    /// The label of an empty session: nothing entered it yet.
    #[must_use]
    pub const fn bottom() -> Self {
        Self {
            confidentiality: Confidentiality::Public,
            categories: BTreeSet::new(),
            integrity: Integrity::Trusted,
        }
    }

    /// The same, as untrusted.
    #[must_use]
    pub fn untrusted(self) -> Self {
        Self { integrity: Integrity::Untrusted, ..self }
    }

    /// The label of data made from both: never lower than either.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self {
            confidentiality: self.confidentiality.max(other.confidentiality),
            categories: self.categories.union(&other.categories).cloned().collect(),
            integrity: self.integrity.max(other.integrity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label() -> impl Strategy<Value = Label> {
        let confidentiality = prop_oneof![
            Just(Confidentiality::Public),
            Just(Confidentiality::Internal),
            Just(Confidentiality::Confidential),
            Just(Confidentiality::Restricted)
        ];
        let integrity = prop_oneof![Just(Integrity::Trusted), Just(Integrity::Untrusted)];
        (confidentiality, proptest::collection::btree_set("[a-c]", 0..3), integrity).prop_map(
            |(c, names, i)| Label {
                confidentiality: c,
                categories: names.iter().map(|n| n.parse().unwrap()).collect(),
                integrity: i,
            },
        )
    }

    proptest! {
        /// INV-LABEL at its root: a join is an upper bound, and the least one.
        #[test]
        fn inv_label_join_is_commutative_idempotent_and_never_lower(a in label(), b in label(), c in label()) {
            let ab = a.join(&b);
            prop_assert_eq!(&ab, &b.join(&a));
            prop_assert_eq!(&a.join(&a), &a);
            prop_assert_eq!(&ab.join(&c), &a.join(&b.join(&c)));
            prop_assert_eq!(&Label::bottom().join(&a), &a);
            prop_assert!(ab.confidentiality >= a.confidentiality && ab.integrity >= a.integrity);
            prop_assert!(ab.categories.is_superset(&a.categories));
        }
    }
}
