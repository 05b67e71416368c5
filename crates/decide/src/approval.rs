//! What approvals are given for, and what is known of those that were given.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use bartizan_base::{Digest, Name, json};
use bartizan_model::Approval;

/// Approvals that one ask may need at once.
pub(crate) const HOLDS_OF_ASK_MAX: usize = 4;
/// Asks of one chain that may wait for approval at once.
pub(crate) const HOLDS_OF_CHAIN_MAX: u32 = 16;

/// One clause of one rule, for which an approval is given: the rule's id and a digest over it and the clause in its
/// canonical form. Policies name the rule (`context.approvals.contains("RULE-ID")`); the compiler puts this in its place,
/// so whatever evaluates, replays or proves a compiled bundle sees nothing else, and an approval given under one clause
/// is worth nothing under another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApprovalKey(String);

/// The text is no approval key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an approval key is written `RULE-ID#` and 32 hexadecimal digits")]
pub struct NotAKey;

impl ApprovalKey {
    pub(crate) fn of(rule: &Name, approval: &Approval) -> Self {
        let clause = format!("{}, use_within: {}s", approval.quorum, approval.use_within.as_secs());
        // Two texts always have a canonical form.
        let digest = Digest::of(&json::canonical(&(rule, clause)).unwrap_or_default());
        let mut key = format!("{rule}#");
        for byte in digest.as_bytes().iter().take(16) {
            // Writing to a text cannot fail.
            write!(key, "{byte:02x}").unwrap_or_default();
        }
        Self(key)
    }

    /// As policies and records see it. A rule's id holds no `#`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApprovalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ApprovalKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let (rule, digest) = text.split_once('#').ok_or(NotAKey)?;
        let hex = digest.len() == 32 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && rule.parse::<Name>().is_ok() { Ok(Self(text.to_owned())) } else { Err(NotAKey) }
    }
}

/// What the house itself knows of earlier answers to the chain that asks. It is no part of any ask and read from no
/// request: whoever holds a request cannot bring an approval along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Approvals given for this very ask, and still to be used.
    pub approvals: BTreeSet<ApprovalKey>,
    /// How many other asks of the chain wait for approval.
    pub holds: u32,
}

/// An approval that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What it is to be given for.
    pub key: ApprovalKey,
    /// By whom, and within which time it must be used.
    pub approval: Approval,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_names_rule_and_clause_and_reads_back() {
        let approval = |quorum: &str, seconds| Approval {
            quorum: quorum.parse().unwrap(),
            use_within: Duration::from_secs(seconds),
        };
        let (one, other) = (Name::literal("one"), Name::literal("other"));
        let keys: BTreeSet<ApprovalKey> = [
            (&one, approval("2", 60)),
            (&one, approval("2", 61)),
            (&one, approval("3", 60)),
            (&one, approval("2 of role \"a\"", 60)),
            (&other, approval("2", 60)),
        ]
        .iter()
        .map(|(rule, approval)| ApprovalKey::of(rule, approval))
        .collect();
        assert_eq!(keys.len(), 5);
        for key in keys {
            assert_eq!(key.as_str().parse(), Ok(key.clone()));
        }
        assert_eq!(
            ApprovalKey::of(&one, &approval("1 of role \"b\" and 1 of role \"a\"", 60)),
            ApprovalKey::of(&one, &approval("1 of role \"a\" and 1 of role \"b\"", 60)),
        );
        for text in [
            "one",
            "one#",
            "one#0123",
            "#0123456789abcdef0123456789abcdef",
            "a b#0123456789abcdef0123456789abcdef",
        ] {
            assert!(text.parse::<ApprovalKey>().is_err(), "{text}");
        }
    }
}
