//! The scratch, as programs see it, and what is none of theirs.

use super::*;

/// `path_open` of `path` from the scratch, with `how` and every right.
fn open(path: &str, how: u32) -> Ending {
    let data = format!(r#"(data (i32.const 100) "{path}")"#);
    let len = path.len();
    gives(
        "",
        &data,
        &format!(
            "(call $open (i32.const 3) (i32.const 1) (i32.const 100) (i32.const {len}) (i32.const {how}) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 8))"
        ),
    )
}

#[test]
fn no_path_leads_out_of_the_scratch() {
    for path in ["..", "../x", "a/../../x", "/etc/passwd", "./../../../../etc/passwd"] {
        for how in [0, 1] {
            let ended = open(path, how);
            // NOTCAPABLE, or NOENT where the way up begins in a folder that is not there.
            assert!(matches!(ended, Ending::Exited(76 | 44)), "{path}: {ended:?}");
        }
    }
    for path in ["etc/passwd", "proc/self/environ", "dev/null", "Cargo.toml"] {
        assert_eq!(open(path, 0), Ending::Exited(44), "{path}: nothing of this machine is there");
    }
    assert_eq!(open("made", 1), Ending::Exited(0));
}

#[test]
fn nothing_but_the_scratch_is_given_and_no_link_is_made() {
    let prestat =
        r#"(import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))"#;
    assert_eq!(gives(prestat, "", "(call $prestat (i32.const 3) (i32.const 8))"), Ending::Exited(0));
    for fd in [0, 1, 2, 4, 5, 100, u32::MAX] {
        let asked = format!("(call $prestat (i32.const {fd}) (i32.const 8))");
        assert_eq!(gives(prestat, "", &asked), Ending::Exited(8), "{fd}");
    }
    let link = r#"(import "wasi_snapshot_preview1" "path_symlink" (func $link (param i32 i32 i32 i32 i32) (result i32)))"#;
    let data = r#"(data (i32.const 0) "/etc/passwd") (data (i32.const 20) "x")"#;
    let asked = "(call $link (i32.const 0) (i32.const 11) (i32.const 3) (i32.const 20) (i32.const 1))";
    assert_eq!(gives(link, data, asked), Ending::Exited(58));
}

#[test]
fn there_is_no_environment_and_there_are_no_sockets() {
    let sizes =
        r#"(import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))"#;
    let all = "(i32.add (call $sizes (i32.const 0) (i32.const 4)) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 4))))";
    assert_eq!(gives(sizes, r#"(data (i32.const 0) "\ff\ff\ff\ff\ff")"#, all), Ending::Exited(0));
    let send = r#"(import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))"#;
    for fd in 0..4 {
        let asked =
            format!("(call $send (i32.const {fd}) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8))");
        assert_eq!(gives(send, "", &asked), Ending::Exited(57));
    }
}

/// Fills a file, and ends with the error that stops it.
const FILL: &str = r#"(memory (export "memory") 2) (data (i32.const 0) "\40\00\00\00\e8\03\00\00") (data (i32.const 32) "big")
    (func (export "_start") (local $error i32)
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 3) (i32.const 1) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 16)))
        (loop $l
            (local.set $error (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br_if $l (i32.eqz (local.get $error))))
        (call $exit (local.get $error)))"#;

#[test]
fn a_scratch_holds_what_it_may_and_no_more() {
    let finished = run(&engine(), &given(bytes(FILL), bounds(), b"", &[("given", &[1; 500])])).unwrap();
    assert_eq!(finished.ended, Ending::Exited(51));
    assert_eq!(
        finished.files.values().map(Vec::len).sum::<usize>(),
        99_000,
        "and what was given is not told again"
    );
    // Room is not promised either, and a hole takes as much as what would lie in it.
    let sizes = r#"(import "wasi_snapshot_preview1" "fd_allocate" (func $allocate (param i32 i64 i64) (result i32)))"#;
    let opened = "(i32.add (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 16))";
    let asked = format!(
        "{opened} (call $allocate (i32.load (i32.const 16)) (i64.const 0) (i64.const 1099511627776)))"
    );
    assert_eq!(gives(sizes, r#"(data (i32.const 0) "f")"#, &asked), Ending::Exited(51));
}

#[test]
fn more_than_a_scratch_holds_is_not_begun_with() {
    let nothing = bytes(r#"(memory (export "memory") 1) (func (export "_start"))"#);
    let large = given(nothing.clone(), bounds(), b"", &[("a", &[0; 100_001])]);
    assert!(matches!(run(&engine(), &large), Err(RunError::TooMuch(100_000, 20))));
    let names: Vec<String> = (0..21).map(|n| format!("f{n}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert!(matches!(
        run(&engine(), &given(nothing.clone(), bounds(), b"", &many)),
        Err(RunError::TooMuch(..))
    ));
    let below = given(nothing.clone(), bounds(), b"", &[("a", b""), ("a/b", b"")]);
    assert!(matches!(run(&engine(), &below), Err(RunError::Twice(path)) if path == "a/b"));
    for path in ["../x", "/x", "a//b", "a/./b", "a/..", "", "a\\b", "a\0b", "x/".repeat(20).as_str()] {
        let files = [(path.to_owned(), Vec::new())].into();
        let made = Run::new(&runtime(bounds()), Program::Module(nothing.clone()), Vec::new(), files);
        assert!(matches!(made, Err(RunError::Path(_))), "{path:?}");
    }
}

/// Copies its input into the file `mine`, which must not be there.
const COPY: &str = r#"(memory (export "memory") 2) (data (i32.const 0) "\40\00\00\00\00\10\00\00") (data (i32.const 32) "mine")
    (func (export "_start")
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 4) (i32.const 5) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 16)) (then (unreachable)))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#;

#[test]
fn two_runs_at_once_or_one_after_the_other_do_not_see_each_other() {
    let (engine, module) = (engine(), bytes(COPY));
    let one = |n: u8| {
        let text = vec![n; 100 + usize::from(n)];
        let finished = run(&engine, &given(module.clone(), bounds(), &text, &[])).unwrap();
        assert_eq!(finished.ended, Ending::Exited(0));
        assert_eq!(finished.stdout, text);
        assert_eq!(finished.files, BTreeMap::from([("mine".to_owned(), text)]));
    };
    std::thread::scope(|scope| {
        (0..6).for_each(|n| {
            drop(scope.spawn({
                let one = &one;
                move || (0..5).for_each(|m| one(10 * n + m))
            }))
        })
    });
}
