//! `bartizan policy prove`, as people call it: built with the feature `proofs`, and with cvc5 installed.
#![cfg(feature = "proofs")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const OLD: &str = r#"
@id("administrators") permit (principal in Role::"administrator", action in [Action::"house:change", Action::"house:read"], resource);
@id("model-users") permit (principal in Role::"model-user", action in Action::"model:use", resource);
@id("production-is-for-the-sure") forbid (principal, action in Action::"model:use", resource)
  when { resource.environment == "production" } unless { context.assurance.level >= 3 };
"#;

const INVARIANTS: &str = r#"
@id("agents-change-nothing") @because("Agents can be talked into anything.")
forbid (principal is Agent, action in Action::"house:change", resource);
"#;

fn bundle(folder: &TempDir, name: &str, rules: &str, invariants: &str) -> String {
    let at = folder.path().join(name);
    fs::create_dir_all(at.join("invariants")).unwrap();
    fs::write(at.join("policy.cedar"), rules).unwrap();
    if !invariants.is_empty() {
        fs::write(at.join("invariants/house.cedar"), invariants).unwrap();
    }
    at.display().to_string()
}

fn bartizan(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bartizan")).args(arguments).env_remove("CVC5").output().unwrap()
}

fn prove(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = bartizan(&[&["policy", "prove", "--output", "json"], arguments].concat());
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code(), value)
}

#[test]
fn a_narrowed_bundle_is_proven_and_keeps_its_invariants() {
    let folder = TempDir::new().unwrap();
    let old = bundle(&folder, "old", OLD, "");
    let narrowed = OLD.replace("level >= 3", "level >= 4");
    let new = bundle(&folder, "new", &narrowed, INVARIANTS);
    let (code, value) = prove(&["--new", &new, "--old", &old]);
    assert_eq!((code, &value["overall"]), (Some(0), &Value::from("proven")), "{value:#}");
    let questions: Vec<_> =
        value["answers"].as_array().unwrap().iter().map(|a| a["question"].clone()).collect();
    assert_eq!(questions, ["nothing_new", "never_permits", "never_errs"]);
    // The constitution is part of it: the bundle alone would let an agent with the role do it.
    assert_eq!(value["answers"][1]["findings"][0]["about"], "agents-change-nothing");
    let (code, _) = prove(&["--new", &new, "--old", &old, "--question", "equivalent"]);
    assert_eq!(code, Some(2));
    // Invariants are no rules: the bundle is checked and tested as if they were not there.
    assert_eq!(bartizan(&["policy", "check", &new]).status.code(), Some(0));
}

#[test]
fn a_widened_bundle_is_refuted_with_a_policy_test_that_fails_with_it_alone() {
    let folder = TempDir::new().unwrap();
    let old = bundle(&folder, "old", OLD, "");
    let widened = OLD.replace("resource.environment == \"production\"", "resource.environment == \"prod\"");
    let new = bundle(&folder, "new", &widened, "");
    let (code, value) = prove(&["--new", &new, "--old", &old, "--question", "nothing-new"]);
    assert_eq!(code, Some(2), "{value:#}");
    let finding = &value["answers"][0]["findings"][0];
    let words = finding["counterexample"]["words"].as_str().unwrap();
    assert!(words.contains("permitted now by `model-users`"), "{words}");
    assert!(words.contains("`production-is-for-the-sure` forbids it before and not now"), "{words}");
    assert!(words.contains("resource.environment is \"production\""), "{words}");
    let test = finding["policy_test"].as_str().unwrap_or_else(|| panic!("{value:#}"));
    for (bundle, expected) in [(&old, 0), (&new, 2)] {
        let tests = Path::new(bundle).join("tests");
        fs::create_dir_all(&tests).unwrap();
        fs::write(tests.join("counterexample.toml"), test).unwrap();
        let output = bartizan(&["policy", "test", bundle]);
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{test}\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    let output = bartizan(&["policy", "prove", "--new", &new, "--old", &old]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("refuted") && text.contains("[[test]]") && text.contains("assumed: "), "{text}");
}

#[test]
fn a_broken_invariant_is_refuted_with_a_policy_test() {
    let folder = TempDir::new().unwrap();
    let invariants = r#"@id("no-production") @because("It is not ready.")
forbid (principal, action in Action::"model:use", resource) when { resource.environment == "production" };"#;
    let new = bundle(&folder, "new", OLD, invariants);
    let (code, value) = prove(&["--new", &new, "--question", "never-permits"]);
    assert_eq!(code, Some(2), "{value:#}");
    let finding = &value["answers"][0]["findings"][0];
    assert_eq!(finding["counterexample"]["context"]["assurance"]["level"], 3);
    assert!(finding["policy_test"].as_str().unwrap().contains("expect = \"deny\""), "{value:#}");
}

#[test]
fn without_a_solver_the_answer_is_unavailable_and_no_success() {
    let folder = TempDir::new().unwrap();
    let new = bundle(&folder, "new", OLD, "");
    let (code, value) = prove(&["--new", &new, "--old", &new, "--solver", "/nowhere/cvc5"]);
    assert_eq!((code, &value["overall"]), (Some(1), &Value::from("unavailable")), "{value:#}");
    let output = bartizan(&["policy", "prove", "--new", &new, "--question", "never-permits"]);
    assert_eq!(output.status.code(), Some(3), "there are no invariants");
    fs::create_dir_all(Path::new(&new).join("invariants")).unwrap();
    fs::write(Path::new(&new).join("invariants/a.cedar"), "@id(\"a\") forbid (principal, action, resource);")
        .unwrap();
    assert_eq!(
        bartizan(&["policy", "prove", "--new", &new, "--question", "never-permits"]).status.code(),
        Some(3)
    );
}
