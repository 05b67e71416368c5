//! What doctor says about the vault of a stopped node.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn doctor_opens_everything_that_is_kept_and_says_when_something_does_not_open() {
    let kept = Kept::new().await;
    let (_, _, id) = kept.chat(&kept.house.alice.1, &format!("say: {MARK}")).await;
    kept.record(id).await;
    let folder = kept.house.stop().await;
    let doctor = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.env_clear().args(["doctor", "--data-folder", folder.path().to_str().unwrap()]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, out) = doctor();
    assert!(code == Some(0) && out.contains("3 subjects, 6 values and 2 payloads open"), "{out}");
    let mut queue = vec![folder.path().join("vault")];
    let file = loop {
        let path = queue.pop().unwrap();
        if path.is_file() {
            break path;
        }
        queue.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
    };
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (code, out) = doctor();
    assert!(code == Some(1) && !out.contains("payloads open"), "{out}");
}
