//! Whatever is plainly valid, the engine's validator takes without an error and without a warning.

use std::collections::BTreeSet;

use cedar_policy::{Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, Validator};

use super::Typing;
use crate::evaluate::LEVEL;

/// Types that differ in what they have, actions that differ in their contexts, a type of which every entity is listed.
const WORDS: &str = r#"
entity Org; entity Kind enum ["low", "high"];
entity Team in [Org];
entity Person in [Team] { age: Long, boss?: Person, status: String };
entity Robot in [Team] { owner: Person, status: String };
entity Folder in [Folder] { status: String };
entity File in [Folder] { owner: Person, secret: Bool, kind: Kind, share: { with: Person, until?: Long } };
entity Host { owner: Robot, address: ipaddr } tags String;
type Plain = { level: Long, purpose?: String, where: { address: ipaddr, by?: Person } };
action use; action look in [use];
action read in [look] appliesTo { principal: [Person, Robot], resource: [File, Folder], context: Plain };
action write in [use] appliesTo { principal: [Person, Robot], resource: File, context: Plain };
action ping appliesTo { principal: Robot, resource: Host, context: { hops: Long, level: String } };
action own appliesTo { principal: Person, resource: [Kind, Person, Robot, Host], context: Plain };
namespace N { action peek in [Action::"look"] appliesTo { principal: Robot, resource: File, context: { level: Long } }; }
"#;

const ACTIONS: [&str; 9] = [
    "action",
    "action == Action::\"read\"",
    "action == Action::\"write\"",
    "action == Action::\"ping\"",
    "action == Action::\"own\"",
    "action in Action::\"use\"",
    "action in Action::\"look\"",
    "action in [Action::\"read\", Action::\"ping\"]",
    "action in [Action::\"own\", Action::\"use\"]",
];

const PRINCIPALS: [&str; 7] = [
    "",
    " == Person::\"a\"",
    " == Robot::\"a\"",
    " in Team::\"a\"",
    " in Org::\"a\"",
    " is Person",
    " is Robot in Team::\"a\"",
];

const RESOURCES: [&str; 8] = [
    "",
    " == File::\"a\"",
    " == Host::\"a\"",
    " == Kind::\"low\"",
    " in Folder::\"a\"",
    " in Team::\"a\"",
    " is File",
    " is File in Folder::\"a\"",
];

/// Scopes that are wrong, or impossible for most.
const ODD: [&str; 8] = [
    " == Team::\"a\"",
    " == Kind::\"middle\"",
    " == Persn::\"a\"",
    " in Action::\"use\"",
    " == Person::\"p\u{430}ul\"",
    " is Person in Folder::\"a\"",
    " is Host",
    " in File::\"a\"",
];

const ODD_ACTIONS: [&str; 5] = [
    "action == N::Action::\"peek\"",
    "action == Action::\"look\"",
    "action == Action::\"raed\"",
    "action in [Action::\"own\", Action::\"gone\"]",
    "action in []",
];

/// Valid somewhere, everywhere or nowhere.
const ATOMS: [&str; 50] = [
    "principal.status == \"on\"",
    "principal.age > 17",
    "principal.owner.age > 17",
    "principal.owner.boss.age > 17",
    "principal has boss && principal.boss.age > 17",
    "principal has boss && principal.boss has boss && principal.boss.boss.age > 17",
    "principal has boss.status",
    "principal has boss.boss.status",
    "principal has boss",
    "principal.boss.age > 17",
    "principal is Robot && principal.owner.age > 17",
    "principal is Person && principal.age > 17",
    "principal in Team::\"a\"",
    "principal in Folder::\"a\"",
    "principal in resource",
    "principal == resource",
    "principal == resource.owner",
    "principal.owner == Person::\"a\"",
    "resource.owner == principal",
    "resource.owner.status == \"on\"",
    "resource.owner.owner.status == \"on\"",
    "resource.secret",
    "!resource.secret",
    "resource.kind == Kind::\"low\"",
    "resource.kind == Kind::\"none\"",
    "resource.share.with.age > 3",
    "resource.share.with has boss && resource.share.with.boss.age > 3",
    "resource has share.until && resource.share.until > 3",
    "resource has share.with.status",
    "resource.address.isLoopback()",
    "resource.hasTag(\"k\") && resource.getTag(\"k\") == \"v\"",
    "resource.getTag(\"k\") == \"v\"",
    "resource.owner.hasTag(\"k\")",
    "resource.status like \"a*\"",
    "resource in Folder::\"a\"",
    "context.level > 1",
    "context.level == \"1\"",
    "context.hops < 3",
    "context has purpose && context.purpose == \"x\"",
    "context.purpose == \"x\"",
    "context.where.address.isInRange(ip(\"10.0.0.0/8\"))",
    "context.where.address.isInRange(ip(\"10.0.0.0/99\"))",
    "context has where.by.status",
    "context.where has by && context.where.by.age > 3",
    "action == Action::\"read\"",
    "action in Action::\"use\" && principal.status == \"on\"",
    "Person::\"a\".age > 3",
    "(if principal is Person then principal else resource.owner).age > 3",
    "{ who: principal }.who has status",
    "\"s\u{430}y\" == principal.status",
];

struct Dice(u64);

impl Dice {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        of[usize::try_from(self.0 >> 33).unwrap() % of.len()]
    }

    fn condition(&mut self, depth: u32) -> String {
        let (a, b) = if depth == 0 || self.one(&[0, 1, 2]) == 0 {
            return format!("({})", self.one(&ATOMS));
        } else {
            (self.condition(depth - 1), self.condition(depth - 1))
        };
        match self.one(&[0, 1, 2, 3, 4]) {
            0 => format!("({a} && {b})"),
            1 => format!("({a} || {b})"),
            2 => format!("!{a}"),
            3 => format!("(if {a} then {b} else false)"),
            _ => a,
        }
    }

    fn rule(&mut self) -> String {
        let odd = self.one(&[0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        let (principal, resource) = (self.one(&PRINCIPALS), self.one(&RESOURCES));
        let action = self.one(&ACTIONS);
        let (principal, action, resource) = match odd {
            1 => (self.one(&ODD), action, resource),
            2 => (principal, self.one(&ODD_ACTIONS), resource),
            3 => (principal, action, self.one(&ODD)),
            _ => (principal, action, resource),
        };
        let effect = self.one(&["permit", "forbid"]);
        let condition = match self.one(&[0, 1, 1, 2, 2, 3]) {
            0 => String::new(),
            1 => format!(" unless {{ {} }}", self.condition(0)),
            depth => format!(" when {{ {} }}", self.condition(depth - 2)),
        };
        format!("{effect} (principal{principal}, {action}, resource{resource}){condition};")
    }
}

fn schema() -> Schema {
    Schema::from_schema_fragments([SchemaFragment::from_cedarschema_str(WORDS).unwrap().0]).unwrap()
}

fn policy(text: &str) -> Policy {
    Policy::parse(Some(PolicyId::new("r")), text).unwrap_or_else(|e| panic!("{text}\n{e:?}"))
}

/// What the validator says; nothing of a valid rule. Kinds of errors and warnings, in order.
fn said(validator: &Validator, policy: &Policy) -> BTreeSet<String> {
    let set = PolicySet::from_policies([policy.clone()]).unwrap();
    let result = validator.validate_with_level(&set, ValidationMode::Strict, LEVEL);
    let kind = |told: String| told.split(['(', ' ']).next().unwrap_or_default().to_owned();
    let errors = result.validation_errors().map(|error| kind(format!("{error:?}")));
    errors.chain(result.validation_warnings().map(|warning| kind(format!("{warning:?}")))).collect()
}

#[test]
fn whatever_is_plainly_valid_the_validator_takes_without_a_word() {
    let schema = schema();
    let (validator, mut typing) = (Validator::new(schema.clone()), Typing::new(&schema, LEVEL));
    let (mut kinds, mut plain, mut valid, mut wrong) = (BTreeSet::new(), 0, 0, 0);
    let mut dice = Dice(11);
    for _ in 0..2_500 {
        let text = dice.rule();
        let policy = policy(&text);
        let said = said(&validator, &policy);
        let found = typing.is_plainly_valid(&policy);
        assert!(!found || said.is_empty(), "{text}\n{said:?}");
        // What is remembered of other rules changes nothing.
        assert_eq!(found, Typing::new(&schema, LEVEL).is_plainly_valid(&policy), "{text}");
        plain += usize::from(found);
        valid += usize::from(said.is_empty());
        wrong += usize::from(!said.is_empty());
        kinds.extend(said);
    }
    // The test means something: all sorts of rules are wrong, and most valid ones are plainly so.
    assert!(kinds.len() >= 12 && valid > 300 && wrong > 1_000, "{kinds:?} {valid} {wrong}");
    assert!(plain * 10 > valid * 9, "{plain} of {valid}");
}

#[test]
fn the_same_condition_is_looked_at_again_where_the_scope_lets_others_in() {
    let schema = schema();
    let mut typing = Typing::new(&schema, LEVEL);
    let mut plain = |scope: &str| {
        typing.is_plainly_valid(&policy(&format!("permit ({scope}) when {{ principal.age > 17 }};")))
    };
    assert!(plain("principal == Person::\"a\", action, resource"));
    assert!(plain("principal == Person::\"b\", action, resource"));
    assert!(!plain("principal, action, resource"), "robots have no age");
    assert!(!plain("principal in Team::\"a\", action, resource"), "robots are in teams too");
    assert!(plain("principal in Team::\"a\", action == Action::\"own\", resource"), "robots own nothing");
    assert!(!plain("principal == Robot::\"a\", action, resource"));
}

#[test]
fn ids_count_where_the_words_list_them() {
    let schema = schema();
    let mut typing = Typing::new(&schema, LEVEL);
    let mut plain = |id: &str| {
        let scope = format!("principal, action == Action::\"own\", resource == Kind::\"{id}\"");
        typing.is_plainly_valid(&policy(&format!("permit ({scope});")))
    };
    assert!(plain("low") && plain("high") && !plain("middle"));
    let mut action = |id: &str| {
        typing
            .is_plainly_valid(&policy(&format!("permit (principal, action == Action::\"{id}\", resource);")))
    };
    assert!(action("own") && !action("owm") && !action("use"), "a group is never asked for");
}

#[test]
fn under_words_that_are_not_complete_nothing_is_plain() {
    let text =
        "entity Person; external entity File; action read appliesTo { principal: Person, resource: Person };";
    let Ok((fragment, _)) = SchemaFragment::from_cedarschema_str(text) else { return };
    let schema = Schema::from_schema_fragments([fragment]).unwrap();
    assert!(!Typing::new(&schema, LEVEL).is_plainly_valid(&policy("permit (principal, action, resource);")));
}
