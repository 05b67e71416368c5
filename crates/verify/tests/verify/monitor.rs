use std::fs;
use std::path::PathBuf;

use bartizan_base::Timestamp;
use bartizan_ledger::{Policy, encode_bundle};
use bartizan_verify::{Reason, Report, Watch, monitor};
use tempfile::TempDir;

use crate::command::{run, text};
use crate::compare::proves_two_histories;
use crate::world::{Log, entry, faults, key, other_key};

const HOUR_US: u64 = 3_600_000_000;

/// When the first record was written.
const BEGAN_US: u64 = 1_790_000_000_000_000;

fn record(node: &str, seq: u64, rest: &str) -> Vec<u8> {
    format!("{{{rest}\"node\":\"{node}\",\"seq\":{seq},\"time_us\":{}}}", BEGAN_US + seq).into_bytes()
}

fn plain(index: u64) -> Vec<u8> {
    record("n1", index + 1, "\"kind\":\"system\",")
}

struct Watched {
    log: Log,
    folder: TempDir,
}

impl Watched {
    fn of(size: u64) -> Self {
        let mut watched = Self { log: Log::of(0), folder: tempfile::tempdir().unwrap() };
        watched.log.grow_with(size, plain);
        watched
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn run(&self) -> Report {
        self.run_at(BEGAN_US)
    }

    fn run_at(&self, now_us: u64) -> Report {
        self.watch(now_us, false, None)
    }

    fn watch(&self, now_us: u64, shared_nodes: bool, policy: Option<&Policy>) -> Report {
        let now = Timestamp::from_micros(now_us);
        let watch = Watch { key: &key(), state: &self.state(), policy, shared_nodes, now };
        monitor(self.log.folder.path(), &watch)
    }

    /// Runs, and demands that what it says does not change what is remembered.
    fn refused(&self) -> Report {
        let before = fs::read(self.state()).ok();
        let report = self.run();
        assert!(!report.ok, "{report}");
        assert_eq!(fs::read(self.state()).ok(), before, "the state stays\n{report}");
        report
    }
}

#[test]
fn each_run_goes_on_from_the_last_at_every_border() {
    let sizes = [0, 0, 1, 2, 255, 256, 257, 257, 511, 512, 700, 1_300, 66_000];
    let mut watched = Watched::of(0);
    let mut before = 0;
    for size in sizes {
        watched.log.grow_with(size, plain);
        let report = watched.run();
        assert!(report.ok, "{before} to {size}:\n{report}");
        let told = format!("entries: {} new", size - before);
        assert!(report.checks.iter().any(|check| check.what == told), "{report}");
        before = size;
    }
    assert!(!watched.folder.path().join("state.new").exists());
}

#[test]
fn earlier_partial_files_may_have_gone_meanwhile() {
    let mut watched = Watched::of(300);
    assert!(watched.run().ok);
    watched.log.grow_with(400, plain);
    for partials in ["tile/0/001.p/44", "tile/entries/001.p/44"] {
        fs::remove_file(watched.log.path(partials)).unwrap();
    }
    assert!(watched.run().ok);
    watched.log.grow_with(600, plain);
    for partials in ["tile/0/001.p", "tile/entries/001.p"] {
        fs::remove_dir_all(watched.log.path(partials)).unwrap();
    }
    assert!(watched.run().ok);
}

#[test]
fn a_rolled_back_log_is_noticed_even_if_all_its_files_were_rolled_back() {
    let mut watched = Watched::of(700);
    assert!(watched.run().ok);
    watched.log = Watched::of(300).log;
    let report = watched.refused();
    assert_eq!(faults(&report), [("history", "checkpoint", None, Reason::RolledBack)]);
    let evidence = report.evidence.unwrap();
    assert_eq!((evidence.a.unwrap().size, evidence.b.unwrap().size), (700, 300));
    // Whoever had not watched sees a good log.
    let fresh = Watched { folder: tempfile::tempdir().unwrap(), log: watched.log };
    assert!(fresh.run().ok);
}

#[test]
fn a_rewritten_history_is_noticed_though_it_is_signed_and_whole() {
    let mut watched = Watched::of(300);
    assert!(watched.run().ok);
    for (size, fork) in [(300, 299), (300, 0), (700, 0), (700, 299)] {
        let mut log = Log::of(0);
        log.grow_with(size, |index| {
            if index == fork { record("n1", index + 1, "\"kind\":\"forged\",") } else { plain(index) }
        });
        watched.log = log;
        let report = watched.refused();
        assert_eq!(faults(&report), [("history", "checkpoint", None, Reason::Rewritten)]);
        // Others need not believe the monitor.
        let evidence = serde_json::to_value(&report).unwrap()["evidence"].take();
        assert_eq!(evidence["verdict"], "forked");
        proves_two_histories(&evidence);
    }
    // What was seen before still goes on.
    let mut log = Log::of(0);
    log.grow_with(700, plain);
    watched.log = log;
    assert!(watched.run().ok);
}

#[test]
fn any_new_file_flipped_cut_or_gone_is_noticed() {
    let mut watched = Watched::of(300);
    assert!(watched.run().ok);
    let before = watched.log.files();
    watched.log.grow_with(700, plain);
    for name in watched.log.files() {
        if before.contains(&name) && name != "checkpoint" {
            continue;
        }
        let path = watched.log.path(&name);
        let good = fs::read(&path).unwrap();
        // In a file that began before, what was verified then is not read again.
        let new = if name == "tile/entries/001" || name == "tile/0/001" { good.len() * 3 / 4 } else { 0 };
        for at in [new, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            watched.refused();
        }
        for bad in [&good[..good.len() - 1], &[]] {
            fs::write(&path, bad).unwrap();
            watched.refused();
        }
        fs::remove_file(&path).unwrap();
        watched.refused();
        fs::write(&path, good).unwrap();
    }
    assert!(watched.run().ok, "everything was put back");
}

#[test]
fn entries_and_tiles_changed_together_are_caught_by_the_root() {
    let mut watched = Watched::of(0);
    watched.log.grow_with(3, plain);
    let mut forged = Log::of(0);
    forged.grow_with(3, |index| plain(index + 1));
    for name in ["tile/entries/000.p/3", "tile/0/000.p/3"] {
        fs::copy(forged.path(name), watched.log.path(name)).unwrap();
    }
    assert!(faults(&watched.refused()).contains(&("root", "checkpoint", None, Reason::Root)));
}

#[test]
fn entries_that_are_no_records_are_told() {
    let mut watched = Watched::of(2);
    watched.log.grow_with(3, entry);
    watched.log.grow_with(4, |_| b"{ }".to_vec());
    let report = watched.refused();
    assert_eq!(
        faults(&report),
        [
            ("records", "tile/entries/000.p/4", Some(2), Reason::NotARecord),
            ("records", "tile/entries/000.p/4", Some(3), Reason::NotCanonical),
        ]
    );
    let too_many = encode_bundle([&b"{}"[..]; 257]).unwrap();
    fs::write(watched.log.path("tile/entries/000.p/4"), too_many).unwrap();
    assert!(faults(&watched.refused()).contains(&(
        "entries",
        "tile/entries/000.p/4",
        Some(0),
        Reason::Bundle
    )));
}

#[test]
fn a_number_that_is_missing_or_used_again_is_told_at_every_run_from_then_on() {
    let mut watched = Watched::of(5);
    assert!(watched.run().ok);
    // After 5 come 8 (two are lost), 9, and 9 again.
    let next = [8, 9, 9];
    let at = |index: u64| next[usize::try_from(index - 5).unwrap()];
    watched.log.grow_with(8, |index| record("n1", at(index), "\"kind\":\"system\","));
    let expected = [
        ("sequence", "entries", Some(5), Reason::Sequence),
        ("sequence", "entries", Some(7), Reason::Sequence),
    ];
    let report = watched.run();
    assert_eq!(faults(&report), expected);
    assert!(report.to_string().contains("(node n1: 8 where 6 was due)"), "{report}");
    // The log goes on, and so does the monitor; what was lost stays lost.
    watched.log.grow_with(10, |index| record("n1", index + 2, "\"kind\":\"system\","));
    let report = watched.run();
    assert_eq!(faults(&report), expected);
    assert!(report.checks.iter().any(|check| check.what == "entries: 2 new"), "{report}");
    assert!(!watched.run().ok);
}

#[test]
fn each_node_has_numbers_of_its_own_and_may_begin_anywhere() {
    let mut watched = Watched::of(3);
    watched.log.grow_with(9, |index| {
        let (node, seq) = if index % 2 == 0 { ("n1", index / 2 + 3) } else { ("n2", 70 + index / 2) };
        record(node, seq, "\"kind\":\"system\",")
    });
    // n2 begins at 71; n1 goes on with 5 where 4 was due.
    assert_eq!(faults(&watched.run()), [("sequence", "entries", Some(4), Reason::Sequence)]);
}

#[test]
fn numbers_of_shared_nodes_may_skip_but_not_fall() {
    let mut watched = Watched::of(0);
    let at = [5, 9, 30, 30, 2];
    watched
        .log
        .grow_with(5, |index| record("n1", at[usize::try_from(index).unwrap()], "\"kind\":\"system\","));
    let report = watched.watch(BEGAN_US, true, None);
    let entries: Vec<_> = faults(&report).iter().map(|fault| fault.2).collect();
    assert_eq!(entries, [Some(3), Some(4)], "{report}");
}

#[test]
fn intents_without_outcome_are_told_after_an_hour_across_runs() {
    let mut watched = Watched::of(0);
    let event = |index: u64| match index {
        0 => record("n1", 1, "\"id\":\"dec_a\",\"kind\":\"intent\","),
        1 => record("n1", 2, "\"id\":\"dec_b\",\"kind\":\"intent\","),
        2 => format!(
            "{{\"kind\":\"outcome\",\"node\":\"n1\",\"of\":\"dec_a\",\"seq\":3,\"time_us\":{BEGAN_US}}}"
        )
        .into_bytes(),
        _ => format!(
            "{{\"kind\":\"outcome\",\"node\":\"n1\",\"of\":\"dec_b\",\"seq\":4,\"time_us\":{BEGAN_US}}}"
        )
        .into_bytes(),
    };
    watched.log.grow_with(2, event);
    let told = |report: &Report| {
        assert!(report.ok, "{report}");
        let notes = report.notes.iter().filter(|note| note.contains("has had no outcome"));
        notes.map(|note| note.split(' ').nth(2).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told(&watched.run_at(BEGAN_US + 1 + HOUR_US)), [] as [&str; 0], "not longer than an hour");
    assert_eq!(told(&watched.run_at(BEGAN_US + 2 + HOUR_US)), ["dec_a"]);
    watched.log.grow_with(3, event);
    assert_eq!(told(&watched.run_at(BEGAN_US + 3 * HOUR_US)), ["dec_b"]);
    assert_eq!(told(&watched.run_at(BEGAN_US + 9 * HOUR_US)), ["dec_b"], "nothing new, still open");
    watched.log.grow_with(4, event);
    assert_eq!(told(&watched.run_at(BEGAN_US + 9 * HOUR_US)), [] as [&str; 0]);
}

#[test]
fn many_open_intents_are_counted() {
    let mut watched = Watched::of(0);
    watched.log.grow_with(300, |index| {
        record("n1", index + 1, &format!("\"id\":\"dec_{index}\",\"kind\":\"intent\","))
    });
    let report = watched.run_at(BEGAN_US + 2 * HOUR_US);
    assert_eq!(report.notes.last().unwrap(), "290 further intents have had no outcome");
    assert!(
        report.notes.contains(
            &"the intent dec_0 at entry 0 has had no outcome since 2026-09-21T14:13:20.000Z".to_owned()
        ),
        "{report}"
    );
}

#[test]
fn a_state_that_is_not_one_is_refused_and_never_replaced() {
    let watched = Watched::of(300);
    assert!(watched.run().ok);
    let good = fs::read(watched.state()).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let other = text.replace(&key().to_string(), &other_key().to_string());
    let edited = text.replacen("\\n300\\n", "\\n200\\n", 1);
    assert_ne!(text, edited);
    for bad in [
        String::new(),
        "{}".to_owned(),
        text.replace("\"v\":1", "\"v\":2"),
        text.replace("{\"breaks\"", "{\"more\":1,\"breaks\""),
        text.replace("\"nodes\":{", "\"nodes\":{\"n1\":1,"),
        String::from_utf8(good[..good.len() / 2].to_vec()).unwrap(),
        other,
        edited,
    ] {
        assert_ne!(bad, text);
        fs::write(watched.state(), &bad).unwrap();
        let report = watched.refused();
        assert!(matches!(report.checks[0].faults[0].reason, Reason::State | Reason::Checkpoint), "{report}");
        assert_eq!(report.checks[0].about, "state");
    }
    fs::write(watched.state(), &good).unwrap();
    assert!(watched.run().ok);
    assert_eq!(fs::read(watched.state()).unwrap(), good, "nothing new changes nothing");
}

#[test]
fn a_run_cut_off_while_writing_leaves_the_old_state() {
    let mut watched = Watched::of(300);
    assert!(watched.run().ok);
    // What a killed run leaves: a half-written file beside the state.
    fs::write(watched.folder.path().join("state.new"), b"{\"v\":1,\"che").unwrap();
    watched.log.grow_with(301, plain);
    let report = watched.run();
    assert!(report.ok, "{report}");
    assert!(!watched.folder.path().join("state.new").exists());
    assert!(watched.run().checks.iter().any(|check| check.what == "state: 301 entries were verified before"));
}

#[test]
fn a_state_that_cannot_be_written_is_a_fault() {
    let watched = Watched::of(3);
    fs::create_dir(watched.folder.path().join("state.new")).unwrap();
    let report = watched.run();
    assert_eq!(faults(&report).last().unwrap().3, Reason::Unwritten, "{report}");
    assert!(!report.ok && !watched.state().exists());
}

#[test]
fn what_another_key_has_signed_or_a_quorum_has_not_does_not_move_the_state() {
    let mut watched = Watched::of(3);
    assert!(watched.run().ok);
    watched.log.grow_with(4, plain);
    let before = fs::read(watched.state()).unwrap();
    let witness = bartizan_ledger::Cosigner::from_seed("w", &[9; 32]).unwrap();
    let policy = Policy::parse(format!("witness w {}\nquorum w\n", witness.verifier()).as_bytes()).unwrap();
    let report = watched.watch(BEGAN_US, false, Some(&policy));
    assert_eq!(faults(&report), [("quorum", "checkpoint", None, Reason::Quorum)]);
    assert_eq!(fs::read(watched.state()).unwrap(), before);
    watched.log.change("checkpoint", |note| note[0] ^= 1);
    assert_eq!(faults(&watched.refused()), [("checkpoint", "checkpoint", None, Reason::Checkpoint)]);
}

#[test]
fn the_command_remembers_from_run_to_run() {
    let mut watched = Watched::of(300);
    let (key, state) = (key().to_string(), watched.state());
    let folder = watched.log.folder.path().to_owned();
    let args = ["monitor", text(&folder), "--state", text(&state), "--key", &key];
    let (code, out) = run(&args);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.ends_with("note there was no state: the log is taken as it is now\n"), "{out}");
    watched.log.grow_with(301, plain);
    let (code, out) = run(&args);
    assert_eq!(code, Some(0));
    assert_eq!(
        out,
        "ok   state: 300 entries were verified before\n\
         ok   checkpoint: signed by log.example/default/2026q4, 301 entries\n\
         ok   history: extends the 300 entries verified before\n\
         ok   entries: 1 new\n\
         ok   records: 1 are canonical records\n\
         ok   tiles: 1 compared with the entries\n\
         ok   root: the entries give the signed root\n\
         ok   sequence: the numbers of each node are consecutive\n"
    );
    let older = Watched::of(299);
    let older_folder = older.log.folder.path().to_owned();
    let (code, out) = run(&["monitor", text(&older_folder), "--state", text(&state), "--key", &key]);
    assert_eq!(code, Some(1));
    assert!(out.contains("the log was rolled back (301 entries were verified, now there are 299)"), "{out}");
}
