use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bartizan_ledger::{Receipt, Tile, TileSource, prove_inclusion};

use crate::world::{Log, entry, key};

pub(crate) fn run(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, .. } =
        Command::new(env!("CARGO_BIN_EXE_bartizan-verify")).args(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

impl TileSource for Log {
    type Error = std::io::Error;

    fn read(&self, tile: Tile) -> std::io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(&tile.path())) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            result => result.map(Some),
        }
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_good_log_exits_0_and_tells_line_by_line() {
    let mut log = Log::of(200);
    let old = tempfile::NamedTempFile::new().unwrap();
    fs::write(old.path(), log.checkpoint()).unwrap();
    log.grow_to(257);
    let folder = log.folder.path().to_owned();
    let key = key().to_string();
    let (code, out) = run(&["log", text(&folder), "--key", &key, "--old", old.path().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(
        out,
        "ok   checkpoint: signed by log.example/default/2026q4, 257 entries\n\
         ok   folder: 8 files\n\
         ok   entries: 257 read\n\
         ok   records: 257 are canonical JSON\n\
         ok   tiles: 4 compared with the entries\n\
         ok   root: the entries give the signed root\n\
         ok   history: extends the older checkpoint of 200 entries\n"
    );
}

#[test]
fn a_bad_log_exits_1_and_names_file_and_entry_in_text_and_json() {
    let log = Log::of(257);
    log.change("tile/0/000", |bytes| bytes[32 * 7] ^= 1);
    let folder = log.folder.path().to_owned();
    let key = key().to_string();
    let (code, out) = run(&["log", text(&folder), "--key", &key]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains("FAIL tiles: tile/0/000 holds other hashes than the entries give, first at entry 7\n"),
        "{out}"
    );
    let (code, out) = run(&["log", text(&folder), "--key", &key, "--output", "json"]);
    assert_eq!(code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["ok"], false);
    let tiles = report["checks"].as_array().unwrap().iter().find(|check| check["about"] == "tiles").unwrap();
    assert_eq!(tiles["faults"], serde_json::json!([{ "file": "tile/0/000", "entry": 7, "reason": "tile" }]));
}

#[test]
fn wrong_arguments_exit_64() {
    let log = Log::of(1);
    let folder = log.folder.path().to_owned();
    let key = key().to_string();
    for args in [
        &[][..],
        &["log"],
        &["log", text(&folder)],
        &["log", text(&folder), "--key", "no key"],
        &["log", text(&folder), "--key", &key, "--output", "xml"],
        &["log", text(&folder), "--key", &key, "--old", "/nonexistent/checkpoint"],
        &["log", text(&folder), "--key", &key, "--policy", "/nonexistent/policy"],
        // Any file of the log is no policy.
        &["log", text(&folder), "--key", &key, "--policy", text(&folder.join("checkpoint"))],
        &["receipt", "file", "--key", &key],
        &["compare", text(&folder), "--key", &key],
        &["monitor", text(&folder), "--key", &key],
    ] {
        assert_eq!(run(args).0, Some(64), "{args:?}");
    }
    assert_eq!(run(&["--help"]).0, Some(0));
}

#[test]
fn a_receipt_holds_for_its_entry_and_for_no_other() {
    let log = Log::of(300);
    let proof = prove_inclusion(&log, 300, 123).unwrap();
    let checkpoint = String::from_utf8(log.checkpoint()).unwrap();
    let receipt = Receipt { index: 123, proof, checkpoint, extra: None };
    let folder = tempfile::tempdir().unwrap();
    let (file, good, bad) =
        (folder.path().join("a.tlog-proof"), folder.path().join("good"), folder.path().join("bad"));
    fs::write(&file, receipt.text()).unwrap();
    fs::write(&good, entry(123)).unwrap();
    fs::write(&bad, entry(124)).unwrap();
    let key = key().to_string();
    let verify = |file: &PathBuf, entry: &PathBuf| {
        run(&["receipt", text(file), "--entry", text(entry), "--key", &key])
    };
    let (code, out) = verify(&file, &good);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "ok   receipt: entry 123 of 300 in log.example/default/2026q4\n")
    );
    let (code, out) = verify(&file, &bad);
    assert_eq!(code, Some(1));
    assert!(out.contains("does not lead from the entry"), "{out}");
    assert_eq!(verify(&good, &good).0, Some(1), "not a receipt");
    assert_eq!(verify(&folder.path().join("none"), &good).0, Some(1));
    fs::write(&file, receipt.text().replace("index 123", "index 124")).unwrap();
    assert_eq!(verify(&file, &good).0, Some(1));
}
