//! `bartizan policy prove`, as people call it: built with the feature `proofs`, and with cvc5 installed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bartizan::config::{Config, Raw};
use bartizan::{Founded, Machine, Node, found};
use bartizan_cli::Client;
use bartizan_secret::Secret;
use serde_json::{Value, json};
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

/// A house of which this is the whole policy, and its administrator.
async fn house(folder: &TempDir, policy: &str) -> (Node, Client, String) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
    let mut flags = vec![("data.folder", folder.path().join("data").display().to_string())];
    for listener in ["listeners.data", "listeners.control", "listeners.operations"] {
        flags.push((listener, "127.0.0.1:0".to_owned()));
    }
    let config = Config::resolve(&Raw::load(None, &Vec::new(), &flags).unwrap()).unwrap();
    let Founded { claim, .. } = found(&config, "2/3").await.unwrap();
    let machine = Machine { prover: Some(env!("CARGO_BIN_EXE_bartizan").into()), ..Machine::default() };
    let node = Node::start_on(&config, machine).await.unwrap();
    let (control, policy) = (format!("http://{}", node.control), policy.to_owned());
    let admin = tokio::task::spawn_blocking(move || {
        let body = json!({"claim": claim.expose(), "name": "ada"});
        let claimed = Client::new(&control, None).call("POST", "/api/v1/claim", Some(&body)).unwrap();
        let key = claimed.pointer("/key/text").and_then(Value::as_str).unwrap().to_owned();
        let admin = Client::new(&control, Some(Secret::new(key.clone())));
        let version = admin
            .call("GET", "/api/v1/policy", None)
            .map_or(0, |p| p.pointer("/version").and_then(Value::as_u64).unwrap());
        let bundle = json!({"files": {"policy.cedar": policy}, "expect": version});
        admin.call("PUT", "/api/v1/policy", Some(&bundle)).unwrap();
        (admin, key)
    });
    let (admin, key) = admin.await.unwrap();
    (node, admin, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_whether_its_bundle_permits_anything_new_with_a_test_for_each() {
    let folder = TempDir::new().unwrap();
    let (node, admin, key) = house(&folder, OLD).await;
    let control = format!("http://{}", node.control);
    let work = move || {
        let plan = |policy: &str, prove_s: Option<u64>| {
            let body = json!({"files": {"policy.cedar": policy}, "prove_s": prove_s});
            admin.call("POST", "/api/v1/policy/plan", Some(&body)).unwrap()
        };
        let narrowed = plan(&OLD.replace("level >= 3", "level >= 4"), None);
        assert_eq!(narrowed["proof"]["outcome"], "proven", "{narrowed:#}");
        assert!(narrowed["proof"]["solver"].as_str().unwrap().starts_with("cvc5 "), "{narrowed:#}");
        assert!(!narrowed["proof"]["assumptions"].as_array().unwrap().is_empty());
        // Forms alone do not know that; the proof does.
        assert_eq!(
            (&narrowed["difference"]["rules"][0]["widens"], &narrowed["difference"]["widens"]),
            (&json!("no"), &json!("no"))
        );
        let unasked = plan(&OLD.replace("level >= 3", "level >= 4"), Some(0));
        assert_eq!((&unasked["proof"], &unasked["difference"]["widens"]), (&Value::Null, &json!("unproven")));

        let widened = OLD
            .replace("resource.environment == \"production\"", "resource.environment == \"prod\"")
            + "@id(\"agents-list\") permit (principal is Agent, action == Action::\"model:list\", resource);";
        let found = plan(&widened, Some(45));
        let rules: Vec<_> =
            found["proof"]["new_permits"].as_array().unwrap().iter().map(|p| p["rule"].as_str()).collect();
        assert_eq!(found["proof"]["outcome"], "refuted", "{found:#}");
        assert_eq!(rules, [Some("agents-list"), Some("production-is-for-the-sure")], "{found:#}");
        assert_eq!(found["difference"]["widens"], "yes");
        // Each comes with a policy test that passes with what is in force and fails with what is planned.
        for permit in found["proof"]["new_permits"].as_array().unwrap() {
            assert!(permit["words"].as_str().unwrap().contains(" may `"), "{permit:#}");
            let test = permit["test"].as_str().unwrap_or_else(|| panic!("{permit:#}"));
            for (name, rules, expected) in [("old", OLD, 0), ("new", widened.as_str(), 2)] {
                let at = bundle(&folder, name, rules, "");
                fs::create_dir_all(Path::new(&at).join("tests")).unwrap();
                fs::write(Path::new(&at).join("tests/found.toml"), test).unwrap();
                assert_eq!(bartizan(&["policy", "test", &at]).status.code(), Some(expected), "{test}");
            }
        }
        let at = bundle(&folder, "draft", &widened, "");
        let _ = fs::remove_dir_all(Path::new(&at).join("invariants"));
        let told = Command::new(env!("CARGO_BIN_EXE_bartizan"))
            .args(["policy", "plan", &at, "--prove", "45s"])
            .env("BARTIZAN_CONTROL_URL", &control)
            .env("BARTIZAN_API_KEY", &key)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        for part in
            ["proof: something new is permitted", "by `agents-list`", "[[test]]", "widens as a whole: yes"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap();
    drop(node);
}
