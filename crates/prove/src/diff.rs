//! What changed between two sets of rules.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Effect, Policy, PolicySet};

/// What a rule says, without id and annotations: effect, scope, conditions.
pub(crate) fn body(policy: &Policy) -> String {
    let Ok(mut est) = policy.to_json() else {
        // Two that cannot be compared are different.
        return format!("{}\n{policy}", policy.id());
    };
    if let Some(members) = est.as_object_mut() {
        members.remove("annotations");
    }
    est.to_string()
}

/// Every body of a set.
pub(crate) fn bodies(set: &PolicySet) -> BTreeSet<String> {
    set.policies().map(body).collect()
}

/// The rules of `new` whose remedies differ from those of the rule they stand for, and are not plainly stronger. Gone remedies
/// are stronger: less is offered. Any other difference is not known to be; so a changed detector set, quorum or deadline
/// has to be looked at by a person.
pub(crate) fn remedies_changed(old: &PolicySet, new: &PolicySet) -> Vec<String> {
    let mut by_body: BTreeMap<String, Vec<&Policy>> = BTreeMap::new();
    for policy in old.policies() {
        by_body.entry(body(policy)).or_default().push(policy);
    }
    let same = |a: &Policy, b: &Policy| clauses(a) == clauses(b);
    let gone: Vec<&Policy> = old.policies().filter(|policy| new.policy(policy.id()).is_none()).collect();
    let mut out: Vec<String> = new
        .policies()
        .filter(|policy| policy.effect() == Effect::Forbid && !clauses(policy).is_empty())
        .filter(|policy| match old.policy(policy.id()) {
            Some(before) => !same(before, policy),
            None => {
                // A rule under a new name may stand for one that is gone.
                let stood = by_body.get(&body(policy)).unwrap_or(&gone);
                !stood.is_empty() && !stood.iter().any(|before| same(before, policy))
            }
        })
        .map(|policy| policy.id().to_string())
        .collect();
    out.sort_unstable();
    out
}

/// The rules of `new` that bring remedies where there was no such rule.
pub(crate) fn remedies_added(old: &PolicySet, new: &PolicySet) -> Vec<String> {
    let before = bodies(old);
    let added = |p: &&Policy| old.policy(p.id()).is_none() && !before.contains(&body(p));
    let mut out: Vec<String> =
        new.policies().filter(|p| !clauses(p).is_empty()).filter(added).map(|p| p.id().to_string()).collect();
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
