//! Policy tests: tables of supposed asks and the verdicts they must get, as files of the bundle.
//!
//! ```toml
//! [[resource]]                # who and what there is, for this file alone
//! name = "alice"
//! spec = { kind = "user", roles = ["model-user"] }
//!
//! [[test]]
//! name = "a model user uses models"
//! ask = { principal = "user/alice", action = "model:invoke", resource = "gpt" }
//! expect = "permit"
//! rules = ["model-users-use-models"]
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_base::{Name, Timestamp};
use bartizan_model::record::VerdictKind;
use bartizan_model::{Action, Document, ReasonCode, Tenant};
use serde::{Deserialize, Serialize};

use crate::approval::Standing;
use crate::bundle::{Bundle, CompiledBundle};
use crate::engine::{Door, Snapshot};
use crate::entities::Entities;
use crate::explain::Explanation;
use crate::story::Reader;
use crate::suppose::Supposed;

/// One file of tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    resource: Vec<Document>,
    test: Vec<Test>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    ask: Supposed,
    expect: VerdictKind,
    /// Rules of which an approval is supposed to have been given.
    #[serde(default)]
    approved: BTreeSet<Name>,
    /// The first reason.
    reason: Option<ReasonCode>,
    /// The rules that decide.
    rules: Option<BTreeSet<Name>>,
    /// The obligations of a permit, as they are written in remedies.
    under: Option<BTreeSet<String>>,
}

/// How one test went.
#[derive(Clone, Debug, Serialize)]
pub struct Tested {
    /// The file.
    pub file: String,
    /// The test's name.
    pub name: String,
    /// What was asked for.
    pub action: Action,
    /// What differs from what was expected; empty for a test that passed.
    pub differences: Vec<String>,
    /// What was decided.
    pub explanation: Explanation,
}

/// What is wrong with a file of tests.
pub(crate) fn check(text: &str) -> Result<(), String> {
    read(text, None).map(|_| ())
}

/// The entities and tests of a file; what is of the bundle's own types only with the `bundle`.
fn read(text: &str, bundle: Option<&CompiledBundle>) -> Result<(Entities, Vec<Test>), String> {
    let table: Table = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
    Ok((Entities::build_for(&table.resource, bundle).map_err(|e| e.to_string())?, table.test))
}

impl CompiledBundle {
    /// Runs the tests of `bundle`, which this is compiled from, in the order of files and lines.
    #[must_use]
    pub fn test(self: &Arc<Self>, bundle: &Bundle, now: Timestamp) -> Vec<Tested> {
        let files = bundle.files.iter().filter(|(file, _)| is_test(file));
        let mut out = Vec::new();
        for (file, text) in files {
            // A bundle whose test files cannot be read does not compile.
            let Ok((entities, tests)) = read(text, Some(self)) else { continue };
            let snapshot = Snapshot::new(Some(self.clone()), Arc::new(entities));
            let misfits = || snapshot.misfits().iter().map(|misfit| format!("resource {misfit}"));
            out.extend(tests.iter().map(|test| {
                let mut tested = run(file, test, &snapshot, now);
                // A world that is not the one written proves nothing.
                tested.differences.extend(misfits());
                tested
            }));
        }
        out
    }
}

/// Whether a file of a bundle holds tests.
pub(crate) fn is_test(file: &str) -> bool {
    file.starts_with("tests/") && file.ends_with(".toml")
}

fn run(file: &str, test: &Test, snapshot: &Snapshot, now: Timestamp) -> Tested {
    let bundle = snapshot.bundle();
    let mut differences = Vec::new();
    let mut standing = Standing::default();
    for rule in &test.approved {
        match bundle.and_then(|bundle| bundle.approval_key(rule)) {
            Some(key) => drop(standing.approvals.insert(key.clone())),
            None => differences.push(format!("approved: no rule `{rule}` is lifted by approval")),
        }
    }
    let (tenant, door) = (Tenant::default_tenant(), Door::model_calls());
    let with = (&standing, Reader::CALLER);
    let explanation = snapshot.explain_supposed_standing(&test.ask, &tenant, now, &door, with);
    let evidence = &explanation.evidence;
    let deciding = [&evidence.constitution, &evidence.forbids, &evidence.permits];
    let rules: BTreeSet<Name> =
        deciding.into_iter().find(|rules| !rules.is_empty()).into_iter().flatten().cloned().collect();
    let under: BTreeSet<String> = explanation.obligations.iter().map(ToString::to_string).collect();
    let mut compare = |what: &str, same: bool, expected: String, found: String| {
        if !same {
            differences.push(format!("{what}: expected {expected}, found {found}"));
        }
    };
    let (expected, found) = (test.expect, explanation.verdict);
    compare("verdict", found == expected, expected.name().to_owned(), found.name().to_owned());
    if let Some(reason) = &test.reason {
        let found = explanation.reasons.first();
        let told = found.map_or_else(|| "none".to_owned(), |r| r.code().into_owned());
        compare("reason", found == Some(reason), reason.code().into_owned(), told);
    }
    if let Some(expected) = &test.rules {
        compare("rules", rules == *expected, list(expected), list(&rules));
    }
    if let Some(expected) = &test.under {
        compare("obligations", under == *expected, list(expected), list(&under));
    }
    let (file, name, action) = (file.to_owned(), test.name.clone(), test.ask.action);
    Tested { file, name, action, differences, explanation }
}

fn list<T: ToString>(items: &BTreeSet<T>) -> String {
    format!("[{}]", items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = r#"@id("all") permit (principal in Role::"model-user", action in Action::"model:use", resource);
@id("masked") @reason("personal_data") @remedy("redact(pii)")
forbid (principal, action, resource) unless { context.obligations.contains("redact:pii") };"#;
    const WORLD: &str = r#"
[[resource]]
name = "alice"
spec = { kind = "user", roles = ["model-user"] }
[[resource]]
name = "gpt"
spec = { kind = "model", upstream = "openai", dialects = ["openai.chat"], environment = "development" }
"#;

    fn test(table: &str) -> Result<Vec<Tested>, String> {
        let files =
            [("a.cedar".to_owned(), RULE.to_owned()), ("tests/a.toml".to_owned(), format!("{WORLD}{table}"))];
        let bundle = Bundle { files: files.into() };
        let compiled = CompiledBundle::compile(&bundle).map_err(|e| e.to_string())?;
        Ok(Arc::new(compiled).test(&bundle, Timestamp::from_secs(1_800_000_000)))
    }

    fn differences(rest: &str) -> Vec<String> {
        let ask = r#"{ principal = "user/alice", action = "model:invoke", resource = "gpt" }"#;
        let tested = test(&format!("[[test]]\nname = \"t\"\nask = {ask}\n{rest}")).unwrap();
        assert_eq!(tested.len(), 1);
        tested.into_iter().flat_map(|t| t.differences).collect()
    }

    #[test]
    fn a_test_passes_only_if_everything_it_names_is_so() {
        let detectors = "redact:pii";
        let under = |text: &str| format!("expect = \"permit\"\nunder = [\"{text}\"]");
        assert_eq!(differences(&under(detectors)), Vec::<String>::new());
        assert_eq!(
            differences("expect = \"deny\"\nreason = \"personal_data\"\nrules = [\"all\"]\nunder = []"),
            [
                "verdict: expected deny, found permit".to_owned(),
                "reason: expected personal_data, found none".to_owned(),
                "rules: expected [all], found [masked]".to_owned(),
                format!("obligations: expected [], found [{detectors}]"),
            ]
        );
    }

    #[test]
    fn a_test_supposes_recent_activity_and_a_world_that_does_not_fit_fails() {
        let rule = r#"@id("slow") forbid (principal, action, resource)
            unless { context has activity.caller && context.activity.caller.hour.requests < 3 };"#;
        let schema = "entity Todo { done: Bool };";
        let run = |table: &str| {
            let files = [
                ("a.cedar", format!("{RULE}\n{rule}")),
                ("schema/a.cedarschema", schema.to_owned()),
                ("tests/a.toml", format!("{WORLD}{table}")),
            ];
            let bundle = Bundle { files: files.map(|(name, text)| (name.to_owned(), text)).into() };
            let compiled = Arc::new(CompiledBundle::compile(&bundle).unwrap());
            let tested = compiled.test(&bundle, Timestamp::from_secs(1_800_000_000));
            tested.into_iter().flat_map(|t| t.differences).collect::<Vec<_>>()
        };
        let ask = |requests: u64, expect: &str| {
            let activity = format!("activity = {{ caller = {{ hour = {{ requests = {requests} }} }} }}");
            format!(
                "[[test]]\nname = \"t\"\nexpect = \"{expect}\"\nask = {{ principal = \"user/alice\", action = \"model:invoke\", resource = \"gpt\", {activity} }}\n"
            )
        };
        assert_eq!(run(&ask(2, "permit")), Vec::<String>::new());
        assert_eq!(run(&ask(3, "deny")), Vec::<String>::new());
        let todo = |done: &str| {
            format!(
                "[[resource]]\nname = \"t\"\nspec = {{ kind = \"entity\", type = \"Todo\", id = \"any text\", attributes = {{ done = {done} }} }}\n"
            )
        };
        assert_eq!(run(&format!("{}{}", todo("true"), ask(2, "permit"))), Vec::<String>::new());
        let told = run(&format!("{}{}", todo("1"), ask(2, "permit")));
        assert!(matches!(told.as_slice(), [one] if one.contains("done")), "{told:?}");
    }

    #[test]
    fn a_table_with_a_slip_is_refused_with_the_bundle() {
        for slip in [
            "[[test]]\nname = \"t\"\nexpect = \"permit\"",
            "[[test]]\nname = \"t\"\nexpct = \"permit\"\nask = { principal = \"user/alice\", action = \"model:invoke\", resource = \"gpt\" }",
            "[[test]]\nname = \"t\"\nexpect = \"permit\"\nask = { principal = \"alice\", action = \"model:invoke\", resource = \"gpt\" }",
            "[[test]]\nname = \"t\"\nexpect = \"permit\"\nask = { principal = \"user/alice\", action = \"model:invoke\", resource = \"gpt\", assurance = 9 }",
            "[[test]]\nname = \"t\"\nexpect = \"permit\"\nask = { principal = \"user/alice\", action = \"model:invoke\", resource = \"gpt\", at = \"noon\" }",
        ] {
            let error = test(slip).unwrap_err();
            assert!(error.starts_with("tests/a.toml: "), "{slip}: {error}");
        }
    }
}
