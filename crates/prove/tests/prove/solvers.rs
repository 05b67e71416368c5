//! Solvers that are absent, broken, slow, or lie; workers that die. None of them makes anything proven.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::common::*;
use bartizan_prove::{Answer, Limits, Outcome, Overall, Prover, Question, Why, find_solver};

/// A script that says it is cvc5, and then does `rest` with what it is told.
fn script(folder: &Path, name: &str, rest: &str) -> PathBuf {
    let path = folder.join(name);
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'This is cvc5 version 9.9'; exit 0; fi\n{rest}\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn widened() -> Question {
    let widened = A.replace("&& context.mfa }", "}");
    Question::NothingNew { old: rules(A), new: rules(&widened) }
}

fn through(solver: PathBuf) -> Answer {
    ask_with(&with_solver(Ok(solver)).with_limits(quick()), &widened())
}

/// Answers every `check-sat` with the next word of a list, the last one forever.
fn saying(words: &str) -> String {
    format!(
        "set -- {words}\nPATH=/usr/bin:/bin\nwhile read -r line; do case \"$line\" in *check-sat*) echo \"$1\"; [ $# -gt 1 ] && shift;; \
         *get-model*) echo '('; echo ')';; esac; done"
    )
}

#[test]
fn without_a_solver_nothing_is_known() {
    let answer = ask_with(&with_solver(find_solver(Some(Path::new("/nowhere/cvc5")))), &widened());
    assert!(unavailable(&answer).contains("/nowhere/cvc5"), "{answer}");
    assert_eq!(answer.overall(), Overall::Unavailable);
    assert!(answer.solver.is_none());
    assert!(unavailable(&through("/nowhere/cvc5".into())).contains("does not start"));
    // Every subject is unavailable, not only the first.
    let question = Question::NeverErrs { rules: rules(A) };
    let answer = ask_with(&with_solver(Err("none".to_owned())), &question);
    assert_eq!(answer.findings.len(), 4);
    assert!(answer.findings.iter().all(|f| matches!(f.outcome, Outcome::Unavailable { .. })));
}

#[test]
fn a_solver_that_always_says_the_same_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    for (name, words) in [
        ("sat", "sat"),
        ("unsat", "unsat"),
        ("unknown", "unknown"),
        ("garbage", "'(error \"x\")'"),
        ("first", "unsat unsat"),
    ] {
        let answer = through(script(folder.path(), name, &saying(words)));
        assert!(unavailable(&answer).contains("known"), "{name}: {answer}");
    }
}

#[test]
fn a_program_that_is_no_solver_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    assert!(unavailable(&through("/bin/true".into())).contains("is not cvc5"));
    assert!(unavailable(&through("/bin/cat".into())).contains("is not cvc5"));
    for (name, rest) in
        [("dies", "exit 1"), ("mute", "exec cat > /dev/null"), ("chatty", "yes"), ("killed", "kill -9 $$")]
    {
        let rest = format!("PATH=/usr/bin:/bin\n{rest}");
        let limits = Limits { wall_ms: 3_000, ..quick() };
        let answer =
            ask_with(&with_solver(Ok(script(folder.path(), name, &rest))).with_limits(limits), &widened());
        assert!(!unavailable(&answer).is_empty(), "{name}");
    }
}

/// The real solver for the first queries, whatever `rest` does later. It cannot tell which query is the last of the known ones,
/// but the counterexample of a claim that does not hold is fetched with `get-model`, and that is asked there once.
fn turning(rest: &str) -> String {
    let real = find_solver(None).unwrap();
    format!("PATH=/usr/bin:/bin\nsed -u '/get-model/q' | {} --lang smt\n{rest}", real.display())
}

#[test]
fn a_counterexample_that_the_engine_does_not_confirm_refutes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // After the known questions: every claim fails, with an empty model.
    let answer = through(script(folder.path(), "liar", &turning(&saying("sat"))));
    let (why, detail) = not_proven(&answer);
    assert_eq!(why, Why::Unknown, "{detail}");
}

/// What is documented: whoever replaces the solver by one that means to deceive gets any proof. So the answer names its path.
#[test]
fn a_solver_that_knows_the_known_and_then_lies_is_believed_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = script(folder.path(), "deceiver", &turning(&saying("unsat")));
    let answer = through(path.clone());
    proven(&answer);
    let solver = answer.solver.unwrap();
    assert_eq!((solver.path, solver.version.as_str()), (path, "cvc5 version 9.9"));
}

#[test]
fn a_solver_that_hangs_is_killed_with_its_process_group() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pid");
    let rest = format!("echo $$ > {}\nPATH=/usr/bin:/bin\nwhile :; do sleep 1; done", mark.display());
    let limits = Limits { wall_ms: 2_500, ..quick() };
    let answer =
        ask_with(&with_solver(Ok(script(folder.path(), "hang", &rest))).with_limits(limits), &widened());
    assert!(unavailable(&answer).contains("longer than 2500 ms"), "{answer}");
    assert!((2_400_000..10_000_000).contains(&answer.took_us), "{}", answer.took_us);
    let pid = fs::read_to_string(mark).unwrap();
    let gone = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    for _ in 0..50 {
        if gone() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the solver is still running");
}

#[test]
fn a_question_too_hard_for_its_time_is_not_proven() {
    let folder = tempfile::tempdir().unwrap();
    let hang = turning("while :; do sleep 1; done");
    let limits = Limits { wall_ms: 3_000, ..quick() };
    let answer =
        ask_with(&with_solver(Ok(script(folder.path(), "late", &hang))).with_limits(limits), &widened());
    assert_eq!(not_proven(&answer).0, Why::Timeout);
    // The same within the solver: multiplication that it cannot do in a millisecond.
    let limits = Limits { query_ms: 1, ..quick() };
    let answer = ask_with(&prover().with_limits(limits), &widened());
    assert!(!matches!(answer.findings[0].outcome, Outcome::Proven), "{answer}");
}

#[test]
fn what_was_found_before_a_worker_died_stays_found() {
    let folder = tempfile::tempdir().unwrap();
    // A worker that tells one subject and dies.
    let found = r#"{"found":{"about":"network","found":"proven","environments":[],"queries":1}}"#;
    let ready = r#"{"ready":{"version":"cvc5 version 9.9"}}"#;
    let path = script(
        folder.path(),
        "worker",
        &format!("read -r task\necho '{ready}'\necho '{found}'\nkill -SEGV $$"),
    );
    let prover = Prover::new(path, Vec::new(), find_solver(None)).with_limits(quick());
    let answer = ask_with(&prover, &Question::NeverErrs { rules: rules(A) });
    for finding in &answer.findings {
        match &finding.outcome {
            Outcome::Proven => assert_eq!(finding.about, "network"),
            Outcome::NotProven { why: Why::TooLarge, .. } => assert_ne!(finding.about, "network"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_worker_that_talks_nonsense_dies_or_says_nothing_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ready = r#"{"ready":{"version":"cvc5 version 9.9"}}"#;
    let proven = r#"{"found":{"about":"","found":"proven","environments":[],"queries":1}}"#;
    let world = r#"{"principal":"User::\"x\"","action":"Action::\"invoke\"","resource":"Model::\"m\"","context":{},"entities":[]}"#;
    let refuted =
        format!(r#"{{"found":{{"about":"","found":{{"refuted":{world}}},"environments":[],"queries":1}}}}"#);
    for (name, rest) in [
        ("silent", "exec cat > /dev/null".to_owned()),
        ("early", "exit 0".to_owned()),
        ("killed", "kill -9 $$".to_owned()),
        ("garbage", "echo hello".to_owned()),
        ("unready", format!("echo '{proven}'; echo '\"done\"'")),
        ("empty", format!("echo '{ready}'; echo '\"done\"'")),
        ("half", format!("echo '{ready}'; printf '%s' '{}'", proven.get(..40).unwrap())),
        (
            "other",
            format!(
                "echo '{ready}'; echo '{}'; echo '\"done\"'",
                proven.replace("\"about\":\"\"", "\"about\":\"x\"")
            ),
        ),
        ("false", format!("echo '{ready}'; echo '{refuted}'; echo '\"done\"'")),
        ("endless", "yes x".to_owned()),
    ] {
        let path = script(folder.path(), name, &format!("PATH=/usr/bin:/bin\nread -r task\n{rest}"));
        let limits = Limits { wall_ms: 3_000, ..quick() };
        let prover = Prover::new(path, Vec::new(), find_solver(None)).with_limits(limits);
        let answer = ask_with(&prover, &widened());
        assert!(
            matches!(answer.findings[0].outcome, Outcome::NotProven { .. } | Outcome::Unavailable { .. }),
            "{name}: {answer}"
        );
    }
    let missing = Prover::new("/nowhere/worker".into(), Vec::new(), find_solver(None));
    assert!(unavailable(&ask_with(&missing, &widened())).contains("does not start"));
}

#[test]
fn memory_and_stack_are_bounded() {
    let small = Limits { memory_bytes: 64 << 20, stack_bytes: 32 << 20, ..quick() };
    let answer = ask_with(&prover().with_limits(small), &widened());
    assert!(!matches!(answer.findings[0].outcome, Outcome::Proven), "{answer}");
    let no_stack = Limits { memory_bytes: 64 << 20, ..quick() };
    let answer = ask_with(&prover().with_limits(no_stack), &widened());
    assert!(!matches!(answer.findings[0].outcome, Outcome::Proven), "{answer}");
}
