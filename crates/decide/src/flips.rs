//! Decisions that come out otherwise, counted by the rules that make them: in bounded memory, however many there are.

use std::collections::BTreeMap;

use bartizan_base::Name;
use bartizan_model::DecisionId;
use bartizan_model::record::VerdictKind;
use schemars::JsonSchema;
use serde::Serialize;

use crate::replay::Replayed;

/// Groups of flips that are told apart.
const GROUPS_MAX: usize = 1_000;
/// Decisions that are named of a group.
const EXAMPLES_MAX: usize = 5;

/// From what, to what, by which rules.
type Turned = (VerdictKind, VerdictKind, Vec<Name>);

/// Decisions that come out otherwise, by the rules that make them.
#[derive(Clone, Debug, Default)]
pub struct Flips {
    groups: BTreeMap<Turned, (u64, Vec<DecisionId>)>,
    ungrouped: u64,
}

/// Decisions that come out otherwise for the same rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FlipGroup {
    /// What came out.
    pub from: VerdictKind,
    /// What comes out now.
    pub to: VerdictKind,
    /// The rules that decide now; where none does, those that decided before.
    pub rules: Vec<Name>,
    /// How many.
    pub count: u64,
    /// Some of them.
    pub examples: Vec<DecisionId>,
}

impl Flips {
    /// Adds a decision; says whether it came out otherwise.
    pub fn add(&mut self, id: DecisionId, from: &Replayed, to: &Replayed) -> bool {
        if !from.flips(to) {
            return false;
        }
        let rules = if to.grounds.rules.is_empty() { &from.grounds.rules } else { &to.grounds.rules };
        let key = (from.verdict, to.verdict, rules.clone());
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            self.ungrouped += 1;
            return true;
        }
        let (count, examples) = self.groups.entry(key).or_default();
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(id);
        }
        true
    }

    /// How many came out otherwise.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.groups.values().map(|(count, _)| count).sum::<u64>() + self.ungrouped
    }

    /// How many did for which no group was left.
    #[must_use]
    pub const fn ungrouped(&self) -> u64 {
        self.ungrouped
    }

    /// The groups, the largest first.
    #[must_use]
    pub fn groups(&self) -> Vec<FlipGroup> {
        let groups = self.groups.iter().map(|((from, to, rules), (count, examples))| FlipGroup {
            from: *from,
            to: *to,
            rules: rules.clone(),
            count: *count,
            examples: examples.clone(),
        });
        let mut out: Vec<_> = groups.collect();
        out.sort_by_key(|group| std::cmp::Reverse(group.count));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::{Digest, Timestamp};
    use bartizan_model::Obligations;
    use bartizan_model::record::Grounds;

    fn outcome(verdict: VerdictKind, rules: &[String]) -> Replayed {
        let none = Digest::EMPTY;
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let engine = Name::literal("engine");
        Replayed {
            verdict,
            reasons: Vec::new(),
            offers: Vec::new(),
            obligations: Obligations::none(),
            grounds: Grounds { rules, policy: none, slice: none, context: none, engine },
        }
    }

    #[test]
    fn flips_are_grouped_by_rule_in_bounded_memory_and_none_is_lost_from_the_count() {
        let id = |n: u64| DecisionId::from_parts(Timestamp::from_secs(n), [0; 10]);
        let (permit, nobody) =
            (outcome(VerdictKind::Permit, &["p".to_owned()]), outcome(VerdictKind::Deny, &[]));
        let mut flips = Flips::default();
        assert!(!flips.add(id(0), &permit, &permit), "other digests alone are no flip");
        for n in 0..7 {
            assert!(flips.add(id(n), &permit, &nobody));
        }
        for n in 0..2_000 {
            flips.add(id(n), &permit, &outcome(VerdictKind::Deny, &[format!("f{n}")]));
        }
        let groups = flips.groups();
        assert_eq!((groups.len(), flips.count(), flips.ungrouped()), (GROUPS_MAX, 2_007, 1_001));
        // Where no rule decides any more, the ones that did are named.
        assert_eq!(
            (groups[0].rules[0].as_str(), groups[0].count, groups[0].examples.len()),
            ("p", 7, EXAMPLES_MAX)
        );
    }
}
