//! The command line as it is typed: the real program against a running house.

use std::process::{Command, Output};

use super::*;

/// Runs the program. Nothing of the tester's environment reaches it.
fn run(house: &House, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.env_clear().current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).args(arguments);
    command.env("BARTIZAN_CONTROL_URL", format!("http://{}", house.node.control));
    command.env("BARTIZAN_API_KEY", house.admin_key.expose());
    command.output().unwrap()
}

/// Runs the program, which must succeed, and returns what it printed.
fn ok(house: &House, arguments: &[&str]) -> String {
    let output = run(house, arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {out}{err}");
    out.into_owned()
}

fn json(house: &House, arguments: &[&str]) -> Value {
    serde_json::from_str(&ok(house, &[arguments, &["--output", "json"]].concat())).unwrap()
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_are_applied_and_mean_what_their_tests_say() {
    let house = House::new().await;
    let house = blocking(move || {
        ok(&house, &["resource", "apply", "examples/organisation.toml"]);
        assert!(ok(&house, &["policy", "test", "examples/policy"]).ends_with("7 passed, 0 failed\n"));
        ok(&house, &["policy", "check", "examples/policy"]);
        assert!(ok(&house, &["policy", "apply", "examples/policy"]).starts_with("in force: version 3"));
        let why = ok(&house, &["policy", "explain", "user/alice", "model:invoke", "gpt-4o-mini"]);
        assert!(why.starts_with("permitted") && why.contains("`model-users-use-models`"), "{why}");
        let why = ok(&house, &["policy", "explain", "user/mallory", "model:invoke", "gpt-4o-mini"]);
        assert!(why.starts_with("denied") && why.contains("no_matching_permit"), "{why}");
        house
    })
    .await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_fails_its_own_tests_is_not_put_in_force() {
    let house = House::new().await;
    let house = blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        std::fs::create_dir(folder.path().join("tests")).unwrap();
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/policy");
        std::fs::copy(format!("{example}/policy.cedar"), folder.path().join("policy.cedar")).unwrap();
        let tests = std::fs::read_to_string(format!("{example}/tests/models.toml")).unwrap();
        let wrong = tests.replacen("expect = \"deny\"", "expect = \"permit\"", 1);
        std::fs::write(folder.path().join("tests/models.toml"), wrong).unwrap();
        let before = ok(&house, &["decision", "list"]);
        assert_eq!(run(&house, &["policy", "test", path]).status.code(), Some(2));
        let refused = run(&house, &["policy", "apply", path]);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{error}");
        assert!(error.contains("1 of 7 tests fail") && error.contains("everybody else does not"), "{error}");
        assert_eq!(
            json(&house, &["policy", "explain", "user/alice", "model:invoke", "assistant"])
                .pointer("/explanation/verdict"),
            Some(&json!("permit")),
            "{before}"
        );
        house
    })
    .await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_decisions_and_the_log_are_worked_with_from_the_command_line() {
    let house = House::new().await;
    let house = blocking(move || {
        assert!(ok(&house, &["whoami"]).starts_with("user/ada"));
        let key = json(&house, &["key", "create", "user/alice", "--label", "laptop", "--life", "1h"]);
        let id = at(&key, "/id").to_owned();
        assert!(ok(&house, &["key", "list"]).contains(&id));
        let rotated = json(&house, &["key", "rotate", &id, "--overlap", "1m"]);
        assert_ne!(at(&rotated, "/text"), at(&key, "/text"));
        ok(&house, &["key", "revoke", at(&rotated, "/id")]);
        let decisions = json(&house, &["decision", "list", "--limit", "3"]);
        let decision = at(&decisions, "/0/record/id").to_owned();
        assert!(ok(&house, &["decision", "show", &decision]).contains("who: user/ada"));
        house
    })
    .await;
    // Ending the node seals everything, so a proof is asked for before, of something sealed already.
    let (house, proof) = blocking(move || {
        // Sealing follows within the interval; asking takes longer than that soon enough.
        let id = at(&json(&house, &["decision", "list"]), "/0/record/id").to_owned();
        let sealed = |_: &i32| json(&house, &["decision", "show", &id]).pointer("/sealed/1").is_some();
        assert!((0..500).any(|n| sealed(&n)), "never sealed");
        let files = tempfile::tempdir().unwrap();
        let entry = files.path().join("entry");
        let proof = ok(&house, &["log", "proof", &id, "--entry", entry.to_str().unwrap()]);
        std::fs::write(files.path().join("proof"), proof.trim_end_matches('\n').to_owned() + "\n").unwrap();
        assert!(ok(&house, &["log", "checkpoint"]).contains("default"));
        (house, (id, files))
    })
    .await;
    let folder = house.stop().await;
    let (id, files) = proof;
    let program = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_bartizan")).env_clear().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let log = log_folder(folder.path());
    let log = log.to_str().unwrap();
    let key = std::fs::read_to_string(format!("{log}/key.vkey")).unwrap();
    assert_eq!(program(&["log", "verify", log, "--key", &key]).0, Some(0));
    let all = program(&["log", "show", log]).1;
    assert!(all.lines().count() > 10 && all.lines().all(|l| serde_json::from_str::<Value>(l).is_ok()));
    assert!(all.contains(&id));
    let last = program(&["log", "tail", log, "--limit", "3"]).1;
    assert!(all.ends_with(&last) && last.lines().count() == 3);
    let (first, one) =
        (all.lines().nth(5).unwrap(), program(&["log", "show", log, "--from", "5", "--limit", "1"]).1);
    assert_eq!(one.trim_end(), first);
    let (proof, entry) = (files.path().join("proof"), files.path().join("entry"));
    let check = ["log", "check", proof.to_str().unwrap(), entry.to_str().unwrap(), "--key", &key];
    assert_eq!(program(&check).0, Some(0), "{}", program(&check).1);
    let mut bytes = std::fs::read(&entry).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&entry, bytes).unwrap();
    assert_eq!(program(&check).0, Some(1));
}

/// The folder of the one log there is.
pub(crate) fn log_folder(data: &Path) -> std::path::PathBuf {
    let mut queue = vec![data.to_owned()];
    loop {
        let path = queue.pop().unwrap();
        if path.join("checkpoint").exists() {
            return path;
        }
        queue.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()));
    }
}

#[test]
fn what_is_typed_wrong_is_told_with_the_way_forward_and_its_exit_code() {
    let program = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_bartizan")).env_clear().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = program(&["serve", "--set", "listeners.dta=127.0.0.1:0"]);
    assert!(code == Some(64) && error.contains("listeners.dta"), "{error}");
    let (code, error) = program(&["key", "list"]);
    assert!(code == Some(4) && error.contains("BARTIZAN_API_KEY"), "{error}");
    let (code, error) = program(&["key", "lst"]);
    assert!(code == Some(64) && error.contains("list"), "{error}");
    let (code, error) = program(&["policy", "check", "no/such/folder"]);
    assert!(code == Some(64) && error.contains("no/such/folder"), "{error}");
    let (code, error) = program(&["log", "show", "no/such/folder"]);
    assert!(code == Some(1) && error.contains("checkpoint"), "{error}");
    assert_eq!(program(&["completions", "bash"]).0, Some(0));
    assert_eq!(program(&["explain", "assurance_too_low"]).0, Some(0));
}
