//! What a bundle changes: rules by id and canonical form, schemas by theirs, and whether that widens what is permitted.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::{Digest, Name, json};
use cedar_policy::SchemaFragment;
use schemars::JsonSchema;
use serde::Serialize;

use crate::bundle::{Bundle, CompiledBundle, Rule};

/// Whether a change permits something that was not permitted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Widens {
    /// It only forbids more, or says the same.
    No,
    /// Nobody has proven that it does not: it counts as if it did.
    Unproven,
    /// It does, or can.
    Yes,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It says something else, remedies included.
    Changed,
}

/// A rule that changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RuleChange {
    /// Its id.
    pub id: Name,
    /// What became of it.
    pub became: Became,
    /// Whether it permits or forbids now, or did before it went.
    pub effect: &'static str,
    /// Whether that widens what is permitted.
    pub widens: Widens,
    /// Its text before.
    pub before: Option<String>,
    /// Its text after.
    pub after: Option<String>,
}

/// What a bundle changes.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Difference {
    /// Rules that are not what they were, by id.
    pub rules: Vec<RuleChange>,
    /// Schema files that are not what they were, by name.
    pub schemas: Vec<String>,
    /// The time zone before and after, where it changed: hours and days mean something else in every rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<(String, String)>,
    /// Whether it all widens what is permitted.
    pub widens: Widens,
}

impl Difference {
    /// Takes in what a prover found about the conditions and remedies of both bundles. Of another vocabulary or zone it knows
    /// nothing, so with those the change stays as it is.
    pub fn proven(&mut self, found: Proven) {
        match found {
            Proven::PermitsMore => self.widens = Widens::Yes,
            Proven::NothingNew if self.schemas.is_empty() && self.zone.is_none() => {
                self.widens = Widens::No;
                self.rules.iter_mut().for_each(|rule| rule.widens = Widens::No);
            }
            Proven::NothingNew => {}
        }
    }
}

/// What a prover found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proven {
    /// No ask is permitted that was not.
    NothingNew,
    /// Some ask is, and the engine has confirmed it.
    PermitsMore,
}

/// A rule as it is compared: everything that decides, without what is said for people.
fn form(rule: &Rule) -> Option<Digest> {
    let mut est = rule.policy.to_json().ok()?;
    if let Some(annotations) = est.get_mut("annotations").and_then(|a| a.as_object_mut()) {
        annotations.retain(|name, _| matches!(name.as_str(), "id" | "reason" | "remedy"));
    }
    let remedies: Vec<String> = rule.remedies.iter().map(|remedy| format!("{remedy:?}")).collect();
    json::canonical(&(est, remedies)).ok().map(|bytes| Digest::of(&bytes))
}

/// What `after` changes of `before`, which is nothing for the first bundle.
#[must_use]
pub fn difference(
    before: (&Bundle, Option<&CompiledBundle>),
    after: (&Bundle, &CompiledBundle),
) -> Difference {
    let old: BTreeMap<&Name, &Rule> =
        before.1.iter().flat_map(|b| &b.rules).map(|rule| (&rule.id, &**rule)).collect();
    let new: BTreeMap<&Name, &Rule> = after.1.rules.iter().map(|rule| (&rule.id, &**rule)).collect();
    let ids: BTreeSet<&Name> = old.keys().chain(new.keys()).copied().collect();
    let mut rules = Vec::new();
    for id in ids {
        let (was, is) = (old.get(id).copied(), new.get(id).copied());
        let (became, widens) = match (was, is) {
            (None, Some(rule)) => (Became::Added, if rule.forbids { Widens::No } else { Widens::Yes }),
            (Some(rule), None) => (Became::Removed, if rule.forbids { Widens::Yes } else { Widens::No }),
            // Most rules of two versions are the same one.
            (Some(was), Some(is)) if std::ptr::eq(was, is) => continue,
            (Some(was), Some(is)) if form(was).is_none() || form(was) != form(is) => {
                (Became::Changed, Widens::Unproven)
            }
            _ => continue,
        };
        let Some(rule) = is.or(was) else { continue };
        rules.push(RuleChange {
            id: id.clone(),
            became,
            effect: if rule.forbids { "forbid" } else { "permit" },
            widens,
            before: was.map(|rule| rule.text.clone()),
            after: is.map(|rule| rule.text.clone()),
        });
    }
    let schemas = changed_schemas(before.0, after.0);
    let zones = before.1.map(|before| (before.zone.name(), after.1.zone.name()));
    let zone = zones.filter(|(was, is)| was != is).map(|(was, is)| (was.to_owned(), is.to_owned()));
    // Another vocabulary or zone can change what every rule means.
    let words = if schemas.is_empty() && zone.is_none() { Widens::No } else { Widens::Unproven };
    let widens = rules.iter().map(|rule| rule.widens).fold(words, Ord::max);
    Difference { rules, schemas, zone, widens }
}

fn changed_schemas(before: &Bundle, after: &Bundle) -> Vec<String> {
    let schema = |file: &str| file.ends_with(".cedarschema");
    // Canonical, so that spaces and comments count for nothing.
    let form = |bundle: &Bundle, file: &str| {
        let text = bundle.files.get(file)?;
        let (fragment, _) = SchemaFragment::from_cedarschema_str(text).ok()?;
        json::canonical(&fragment.to_json_value().ok()?).ok()
    };
    let files: BTreeSet<&String> =
        before.files.keys().chain(after.files.keys()).filter(|file| schema(file)).collect();
    files.into_iter().filter(|file| form(before, file) != form(after, file)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(files: &[(&str, &str)]) -> (Bundle, CompiledBundle) {
        let files = files.iter().map(|(f, t)| ((*f).to_owned(), (*t).to_owned())).collect();
        let bundle = Bundle { files };
        let compiled = CompiledBundle::compile(&bundle).unwrap();
        (bundle, compiled)
    }

    fn compare(before: &str, after: &str) -> Difference {
        let (before, after) = (bundle(&[("a.cedar", before)]), bundle(&[("b.cedar", after)]));
        difference((&before.0, Some(&before.1)), (&after.0, &after.1))
    }

    const PERMIT: &str = r#"@id("p") permit (principal, action == Action::"model:invoke", resource);"#;
    const FORBID: &str = r#"@id("f") forbid (principal, action == Action::"model:invoke", resource) when { context has risk && context.risk.level == "high" };"#;

    #[test]
    fn files_order_spaces_comments_and_words_for_people_are_no_change() {
        let moved = format!("// moved\n@description(\"said\")\n{FORBID}\n\n{PERMIT}");
        let difference = compare(&format!("{PERMIT}\n{FORBID}"), &moved);
        assert!(difference.rules.is_empty() && difference.widens == Widens::No, "{difference:?}");
    }

    #[test]
    fn what_widens_is_said_and_what_is_not_proven_counts_as_if() {
        let both = format!("{PERMIT}\n{FORBID}");
        let one = |before: &str, after: &str| {
            let difference = compare(before, after);
            assert_eq!(difference.rules.len(), 1, "{difference:?}");
            assert_eq!(difference.widens, difference.rules[0].widens);
            (difference.rules[0].id.to_string(), difference.rules[0].became, difference.widens)
        };
        assert_eq!(one(FORBID, &both), ("p".to_owned(), Became::Added, Widens::Yes));
        assert_eq!(one(&both, FORBID), ("p".to_owned(), Became::Removed, Widens::No));
        assert_eq!(one(PERMIT, &both), ("f".to_owned(), Became::Added, Widens::No));
        assert_eq!(one(&both, PERMIT), ("f".to_owned(), Became::Removed, Widens::Yes));
        let milder = both.replace("\"high\"", "\"medium\"");
        assert_eq!(one(&both, &milder), ("f".to_owned(), Became::Changed, Widens::Unproven));
    }

    #[test]
    fn another_remedy_or_reason_is_another_rule() {
        let rule = |remedy: &str| {
            format!(
                "@id(\"f\") @reason(\"approval_required\") @remedy(\"approve({remedy}, use_within: 5m)\") forbid (principal, action, resource) unless {{ context.approvals.contains(\"f\") }};"
            )
        };
        let difference = compare(&rule("2"), &rule("1"));
        assert_eq!((difference.rules.len(), difference.widens), (1, Widens::Unproven));
        assert!(compare(&rule("2"), &rule("2")).rules.is_empty());
        assert_eq!(compare(&rule("2"), &rule("2").replace("approval_required", "forbidden")).rules.len(), 1);
    }

    #[test]
    fn a_schema_that_says_something_else_is_named_and_proves_nothing() {
        let schema = "entity Ward;";
        let before = bundle(&[("a.cedar", PERMIT), ("schema/a.cedarschema", schema)]);
        for (text, changed) in [("// same\nentity   Ward;", 0), ("entity Ward; entity Bed;", 1)] {
            let after = bundle(&[("a.cedar", PERMIT), ("schema/a.cedarschema", text)]);
            let difference = difference((&before.0, Some(&before.1)), (&after.0, &after.1));
            assert_eq!(difference.schemas.len(), changed);
            assert_eq!(difference.widens, if changed == 0 { Widens::No } else { Widens::Unproven });
        }
    }
    #[test]
    fn another_zone_is_a_change_that_nobody_has_proven_harmless() {
        let zoned = |zone: &str| bundle(&[("a.cedar", PERMIT), ("bundle.toml", &format!("zone = {zone:?}"))]);
        let (before, after) = (bundle(&[("a.cedar", PERMIT)]), zoned("Europe/Berlin"));
        let mut found = difference((&before.0, Some(&before.1)), (&after.0, &after.1));
        assert_eq!(found.zone, Some(("UTC".to_owned(), "Europe/Berlin".to_owned())));
        assert_eq!((found.rules.len(), found.widens), (0, Widens::Unproven));
        found.proven(Proven::NothingNew);
        assert_eq!(found.widens, Widens::Unproven, "the proof knows nothing of clocks");
        let utc = zoned("UTC");
        assert_eq!(difference((&before.0, Some(&before.1)), (&utc.0, &utc.1)).zone, None);
    }

    #[test]
    fn a_proof_settles_what_forms_cannot_and_a_counterexample_what_they_hoped() {
        let both = format!("{PERMIT}\n{FORBID}");
        let milder = both.replace("\"high\"", "\"medium\"");
        let mut found = compare(&both, &milder);
        found.proven(Proven::NothingNew);
        assert_eq!((found.widens, found.rules[0].widens), (Widens::No, Widens::No));
        let mut found = compare(&both, &milder);
        found.proven(Proven::PermitsMore);
        assert_eq!((found.widens, found.rules[0].widens), (Widens::Yes, Widens::Unproven));
        // Beside another vocabulary the proof is about something else.
        let before = bundle(&[("a.cedar", PERMIT)]);
        let after = bundle(&[("a.cedar", PERMIT), ("schema/a.cedarschema", "entity Ward;")]);
        let mut found = difference((&before.0, Some(&before.1)), (&after.0, &after.1));
        found.proven(Proven::NothingNew);
        assert_eq!(found.widens, Widens::Unproven);
    }
}
