//! What changed between two sets of rules.

use std::collections::BTreeSet;

use cedar_policy::{Effect, Policy, PolicyId, PolicySet};

/// What a rule says, without id and annotations: effect, scope, conditions. Slow: the rule is read again from its text.
fn body(policy: &Policy) -> String {
    let Ok(mut est) = policy.to_json() else {
        // Two that cannot be compared are different.
        return format!("{}\n{policy}", policy.id());
    };
    if let Some(members) = est.as_object_mut() {
        members.remove("annotations");
    }
    est.to_string()
}

/// The rules of each set that are not in the other under the same name and in the same words, by what they say.
struct Apart<'p> {
    old: Vec<(String, &'p Policy)>,
    new: Vec<(String, &'p Policy)>,
}

impl<'p> Apart<'p> {
    fn of(old: &'p PolicySet, new: &'p PolicySet) -> Self {
        let apart = |set: &'p PolicySet, other: &PolicySet| {
            set.policies()
                .filter(|policy| !stands(policy, other))
                .map(|policy| (body(policy), policy))
                .collect()
        };
        Self { old: apart(old, new), new: apart(new, old) }
    }
}

/// Whether `set` has the same rule under the same name in the same words.
fn stands(policy: &Policy, set: &PolicySet) -> bool {
    set.policy(policy.id()).is_some_and(|twin| twin.to_string() == policy.to_string())
}

/// The rules of `set` that do not stand in `other` word for word.
pub(crate) fn unlike(set: &PolicySet, other: &PolicySet) -> PolicySet {
    let policies = set.policies().filter(|policy| !stands(policy, other)).cloned();
    // Rules of one set have different names.
    PolicySet::from_policies(policies).unwrap_or_default()
}

/// What changed: the rules of `old` that no rule of `new` says again, and the other way round. Names and annotations do not
/// count.
pub(crate) fn different(old: &PolicySet, new: &PolicySet) -> (BTreeSet<PolicyId>, BTreeSet<PolicyId>) {
    let apart = Apart::of(old, new);
    let only = |these: &[(String, &Policy)], those: &[(String, &Policy)]| {
        let said: BTreeSet<&str> = those.iter().map(|(body, _)| body.as_str()).collect();
        let unsaid = these.iter().filter(|(body, _)| !said.contains(body.as_str()));
        unsaid.map(|(_, policy)| policy.id().clone()).collect()
    };
    (only(&apart.old, &apart.new), only(&apart.new, &apart.old))
}

/// For each rule whose change could permit something new by itself, the rules of `new` with that change alone: what such a set
/// permits, `new` permits too, unless another rule of it errs. What several changes permit only together is in none of them.
pub(crate) fn alone(old: &PolicySet, new: &PolicySet) -> Vec<(String, PolicySet)> {
    let (gone, come) = different(old, new);
    let forbids_gone: Vec<Policy> = gone
        .iter()
        .filter_map(|id| old.policy(id))
        .filter(|policy| policy.effect() == Effect::Forbid)
        // A changed rule stands under its name already.
        .map(|policy| policy.new_id(PolicyId::new(format!("{} (before)", policy.id()))))
        .collect();
    let comes = |policy: &&Policy| policy.effect() == Effect::Permit && come.contains(policy.id());
    let stays: Vec<&Policy> = new.policies().filter(|policy| !comes(policy)).collect();
    let set = |without: Option<usize>, with: Option<&Policy>| {
        let forbids = forbids_gone.iter().enumerate().filter(|(at, _)| Some(*at) != without).map(|(_, p)| p);
        let all = stays.iter().copied().chain(with).chain(forbids);
        PolicySet::from_policies(all.cloned()).ok()
    };
    let permits =
        new.policies().filter(comes).filter_map(|p| Some((p.id().to_string(), set(None, Some(p))?)));
    let forbids = gone.iter().filter(|id| old.policy(id).is_some_and(|p| p.effect() == Effect::Forbid));
    let forbids = forbids.enumerate().filter_map(|(at, id)| Some((id.to_string(), set(Some(at), None)?)));
    let mut out: Vec<(String, PolicySet)> = permits.chain(forbids).collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// The rules of `new` whose remedies differ from those of the rule they stand for, and are not plainly stronger. Gone remedies
/// are stronger: less is offered. Any other difference is not known to be; so a changed detector set, quorum or deadline
/// has to be looked at by a person.
pub(crate) fn remedies_changed(old: &PolicySet, new: &PolicySet) -> Vec<String> {
    let apart = Apart::of(old, new);
    let gone: Vec<&Policy> =
        apart.old.iter().map(|(_, p)| *p).filter(|p| new.policy(p.id()).is_none()).collect();
    let changed = |(said, policy): &&(String, &Policy)| {
        if clauses(policy).is_empty() {
            return false;
        }
        let same = |before: &&Policy| clauses(before) == clauses(policy);
        match old.policy(policy.id()) {
            Some(before) => !same(&before),
            None => {
                // A rule under a new name may stand for one that says the same, or for one that is gone.
                let twins: Vec<&Policy> =
                    apart.old.iter().filter(|(body, _)| body == said).map(|(_, p)| *p).collect();
                let stood = if twins.is_empty() { &gone } else { &twins };
                !stood.is_empty() && !stood.iter().any(same)
            }
        }
    };
    names(apart.new.iter().filter(changed))
}

/// The rules of `new` that bring remedies where there was no such rule.
pub(crate) fn remedies_added(old: &PolicySet, new: &PolicySet) -> Vec<String> {
    let apart = Apart::of(old, new);
    let before: BTreeSet<&str> = apart.old.iter().map(|(body, _)| body.as_str()).collect();
    let added = |(body, policy): &&(String, &Policy)| {
        !clauses(policy).is_empty() && old.policy(policy.id()).is_none() && !before.contains(body.as_str())
    };
    names(apart.new.iter().filter(added))
}

fn names<'p>(rules: impl Iterator<Item = &'p (String, &'p Policy)>) -> Vec<String> {
    let mut out: Vec<String> = rules.map(|(_, policy)| policy.id().to_string()).collect();
    out.sort_unstable();
    out
}

/// The clauses of a rule's remedy, in order, without the spaces that mean nothing. Spaces within quotes stay.
fn clauses(policy: &Policy) -> String {
    let mut quoted = false;
    let text = policy.annotation("remedy").unwrap_or_default();
    text.chars()
        .filter(|c| {
            quoted ^= *c == '"';
            quoted || !c.is_whitespace()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rules: &[(&str, &str)]) -> PolicySet {
        let policies = rules.iter().map(|(id, remedy)| {
            let remedy = if remedy.is_empty() { String::new() } else { format!("@remedy({remedy:?})") };
            let text = format!("{remedy} forbid (principal, action, resource) unless {{ context.{id} }};");
            Policy::parse(Some(cedar_policy::PolicyId::new(*id)), text).unwrap()
        });
        PolicySet::from_policies(policies).unwrap()
    }

    #[test]
    fn a_remedy_that_changes_in_any_way_but_going_is_a_change() {
        let old = set(&[("a", "approve(2, use_within: 30m)"), ("b", "")]);
        let changed = |rules: &[(&str, &str)]| remedies_changed(&old, &set(rules));
        assert!(changed(&[("a", "approve( 2,use_within:30m )"), ("b", "")]).is_empty());
        assert!(changed(&[("a", ""), ("b", "")]).is_empty());
        assert_eq!(changed(&[("a", "approve(1, use_within: 30m)"), ("b", "justify")]), ["a", "b"]);
        assert_eq!(changed(&[("a", "approve(2, use_within: 31m)")]), ["a"]);
        assert_eq!(changed(&[("a", "approve(2, use_within: 30m); justify")]), ["a"]);
        assert_eq!(changed(&[("a", "approve(2, role: \"a b\", use_within: 30m)")]), ["a"]);
    }

    #[test]
    fn a_new_rule_with_a_remedy_is_told_apart_from_a_changed_one() {
        let (old, new) = (set(&[("a", "justify")]), set(&[("a", "justify"), ("c", "justify")]));
        assert_eq!(remedies_added(&old, &new), ["c"]);
        assert!(remedies_changed(&old, &new).is_empty());
        // One that stands for a rule that is gone has to bring the same remedy.
        assert_eq!(remedies_changed(&old, &set(&[("c", "strip_tools")])), ["c"]);
        assert!(remedies_changed(&old, &set(&[("c", "justify")])).is_empty());
    }

    #[test]
    fn what_is_said_again_is_no_difference() {
        let set = |text: &str| text.parse::<PolicySet>().unwrap();
        let a = set(
            "permit (principal, action, resource); forbid (principal, action, resource) when { context.x };",
        );
        let b = set(
            "permit(principal,action,resource);\n@owner(\"o\") forbid (principal, action, resource) when { context.x };",
        );
        assert_eq!(different(&a, &b), Default::default());
        let renamed = b.policies().map(|p| p.new_id(PolicyId::new(format!("other-{}", p.id()))));
        assert_eq!(different(&a, &PolicySet::from_policies(renamed).unwrap()), Default::default());
        let c = set(
            "permit (principal, action, resource); forbid (principal, action, resource) when { context.y };",
        );
        let one = || BTreeSet::from([PolicyId::new("policy1")]);
        assert_eq!(different(&a, &c), (one(), one()));
        assert_eq!(different(&a, &PolicySet::new()).0.len(), 2);
    }

    #[test]
    fn each_change_stands_alone_beside_what_stays_and_what_forbade_before() {
        let set = |rules: &[(&str, &str)]| {
            let policies =
                rules.iter().map(|(id, text)| Policy::parse(Some(PolicyId::new(*id)), *text).unwrap());
            PolicySet::from_policies(policies).unwrap()
        };
        let permit = |x: u8| format!("permit (principal, action, resource) when {{ context.x > {x} }};");
        let forbid = |x: u8| format!("forbid (principal, action, resource) when {{ context.x > {x} }};");
        let old = set(&[("stays", &permit(0)), ("p", &permit(1)), ("f", &forbid(1)), ("g", &forbid(2))]);
        let new = set(&[("stays", &permit(0)), ("p", &permit(9)), ("q", &permit(3)), ("f", &forbid(7))]);
        let found = alone(&old, &new);
        let ids = |set: &PolicySet| set.policies().map(|p| p.id().to_string()).collect::<BTreeSet<_>>();
        let named = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let told: Vec<(&str, BTreeSet<String>)> =
            found.iter().map(|(id, set)| (id.as_str(), ids(set))).collect();
        assert_eq!(
            told,
            [
                ("f", named(&["stays", "f", "g (before)"])),
                ("g", named(&["stays", "f", "f (before)"])),
                ("p", named(&["stays", "p", "f", "f (before)", "g (before)"])),
                ("q", named(&["stays", "q", "f", "f (before)", "g (before)"])),
            ]
        );
        assert!(alone(&old, &old).is_empty());
    }

    #[test]
    fn bodies_know_nothing_of_ids_and_annotations_but_of_everything_else() {
        let parse =
            |id: &str, text: &str| Policy::parse(Some(cedar_policy::PolicyId::new(id)), text).unwrap();
        let a = parse("a", "@id(\"a\") permit (principal, action, resource) when { context.x > 1 };");
        let b = parse("b", "@owner(\"z\") permit(principal,action,resource)when{context.x>1};");
        assert_eq!(body(&a), body(&b));
        for other in [
            "forbid (principal, action, resource) when { context.x > 1 };",
            "permit (principal, action, resource) when { context.x > 2 };",
            "permit (principal is User, action, resource) when { context.x > 1 };",
            "permit (principal, action, resource) unless { context.x > 1 };",
        ] {
            assert_ne!(body(&a), body(&parse("a", other)), "{other}");
        }
    }
}
