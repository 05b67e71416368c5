//! What is no program, or wants to be more than one.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bartizan_base::Digest;
use proptest::prelude::*;

use super::*;
use crate::runtime::RuntimeError;

#[test]
fn what_is_not_given_is_refused_at_once_and_by_name() {
    for (import, named) in [
        (r#"(import "env" "connect" (func))"#, "env.connect"),
        (r#"(import "wasi_snapshot_preview1" "sock_open" (func (param i32 i32) (result i32)))"#, "sock_open"),
        (r#"(import "wasi:sockets/tcp@0.2.0" "connect" (func))"#, "wasi:sockets/tcp@0.2.0.connect"),
        (r#"(import "env" "memory" (memory 1))"#, "env.memory"),
        (
            r#"(import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#,
            "wasi_unstable.fd_write",
        ),
        (r#"(import "env" "a\n\1b[31mb" (func))"#, "env.a[31mb"),
    ] {
        let module = wat::parse_str(format!(r#"(module {import} (func (export "_start")))"#)).unwrap();
        let told = refused(module);
        assert!(told.contains(named) && told.contains("not given") && !told.contains('\n'), "{told}");
    }
    // By name, but with other types.
    let module = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i64))) (func (export "_start")))"#;
    let module = given(wat::parse_str(module).unwrap(), bounds(), b"", &[]);
    assert!(!matches!(run(&engine(), &module), Ok(Finished { ended: Ending::Exited(_), .. })));
}

#[test]
fn what_is_no_module_or_has_nothing_to_begin_with_is_refused() {
    for bad in [&b""[..], b"\0asm", b"(module)", b"#!/bin/sh", b"\0asm\x0d\0\x01\0"] {
        assert!(refused(bad.to_vec()).contains("no module"), "{bad:?}");
    }
    assert!(refused(bytes(r#"(memory (export "memory") 1)"#)).contains("_start"));
    assert!(
        refused(bytes(r#"(memory (export "memory") 1) (global (export "_start") i32 (i32.const 1))"#))
            .contains("_start")
    );
    // Sixty-four bit memories, shared ones, and more than one of them are not had.
    for memory in ["(memory i64 1)", "(memory 1 1 shared)", "(memory 1) (memory 1)"] {
        assert!(
            refused(bytes(&format!(r#"{memory} (func (export "_start"))"#))).contains("no module"),
            "{memory}"
        );
    }
}

#[test]
fn a_module_without_memory_of_its_own_is_given_nothing() {
    let text = r#"(func (export "_start") (if (i32.ne (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 21)) (then (unreachable))))"#;
    assert_eq!(ends(text), Ending::Exited(0));
}

#[test]
fn a_fault_of_ours_ends_one_run_and_no_other() {
    let engine = engine().with(|linker| {
        linker.func_wrap("test", "fault", || -> () { panic!("a fault of ours") }).map(drop).unwrap();
    });
    let module = r#"(import "test" "fault" (func $fault)) (memory (export "memory") 1) (func (export "_start") (call $fault))"#;
    let fault = given(bytes(module), bounds(), b"", &[]);
    assert!(catch_unwind(AssertUnwindSafe(|| run(&engine, &fault))).is_err());
    let plain = given(bytes(r#"(memory (export "memory") 1) (func (export "_start"))"#), bounds(), b"", &[]);
    assert_eq!(run(&engine, &plain).unwrap().ended, Ending::Exited(0));
}

#[test]
fn the_same_run_comes_out_the_same_and_another_decision_has_other_random_bytes() {
    let text = r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "\10\00\00\00\40\00\00\00")
        (func (export "_start") (drop (call $random (i32.const 16) (i32.const 64))) (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#;
    let (engine, run) = (engine(), given(bytes(text), bounds(), b"", &[]));
    let with = |decision: &str| engine.run(&run, Timestamp::from_secs(7), decision, &Arc::default()).unwrap();
    assert_eq!(with("dec_1"), with("dec_1"));
    assert_ne!(with("dec_1").stdout, with("dec_2").stdout);
    assert_eq!(with("dec_1").stdout.len(), 64);
}

#[test]
fn a_library_is_given_its_arguments_as_c_gives_them() {
    // Its function gives the first letter of its second argument.
    let text = r#"(memory (export "memory") 1) (global $at (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $at (i32.const 1024)))
        (func (export "malloc") (param i32) (result i32) (global.get $at))
        (func (export "main") (param $count i32) (param $places i32) (result i32)
            (if (i32.or (i32.ne (local.get $count) (i32.const 2)) (i32.load (i32.add (local.get $places) (i32.const 8)))) (then (unreachable)))
            (i32.load8_u (i32.load (i32.add (local.get $places) (i32.const 4)))))"#;
    let mut run = given(bytes(text), bounds(), b"", &[]);
    run.runtime.spec.entry = "main".to_owned();
    assert_eq!(super::run(&engine(), &run).unwrap().ended, Ending::Exited(i32::from(b't')));
    run.program = Program::Module(bytes(&text.replace("i32.const 1024", "i32.const 65530")));
    assert!(
        matches!(super::run(&engine(), &run).unwrap().ended, Ending::Trap(_)),
        "no room where it says there is"
    );
}

#[test]
fn a_runtime_is_the_file_that_is_meant_or_none() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"another one").unwrap();
    let name = Name::literal("python");
    let mut spec = runtime(bounds()).spec;
    (spec.accepts, spec.file, spec.digest) =
        (Accepts::Source, Some(file.path().into()), Some(Digest::of(b"the one")));
    assert!(matches!(spec.open(&name), Err(RuntimeError::Other { .. })));
    spec.digest = Some(Digest::of(b"another one"));
    assert_eq!(*spec.open(&name).unwrap().module, *b"another one");
    spec.file = Some("/nowhere/python.wasm".into());
    assert!(matches!(spec.open(&name), Err(RuntimeError::Unreadable { .. })));
    spec.digest = None;
    assert!(matches!(spec.open(&name), Err(RuntimeError::Fileless)));
}

#[test]
fn only_modules_that_are_approved_and_small_enough_are_taken() {
    let module = bytes(r#"(memory (export "memory") 1) (func (export "_start"))"#);
    let mut runtime = runtime(bounds());
    let take = |runtime: &Runtime, program| Run::new(runtime, program, Vec::new(), BTreeMap::new());
    runtime.spec.approved = Some([Digest::of(b"another")].into());
    assert!(matches!(take(&runtime, Program::Module(module.clone())), Err(RunError::Unapproved(_))));
    runtime.spec.approved = Some([Digest::of(&module)].into());
    assert!(take(&runtime, Program::Module(module.clone())).is_ok());
    assert!(matches!(take(&runtime, Program::Source("1".to_owned())), Err(RunError::Kind(_))));
    runtime.spec.bounds.module_bytes = 8;
    assert!(matches!(take(&runtime, Program::Module(module.clone())), Err(RunError::TooLarge(8))));
    runtime.spec.accepts = Accepts::Source;
    assert!(matches!(take(&runtime, Program::Module(module)), Err(RunError::Kind(_))));
}

#[test]
fn everything_that_a_program_is_given_is_in_what_is_recorded() {
    let base = given(b"a".to_vec(), bounds(), b"in", &[("f", b"x")]);
    let mut others = vec![
        given(b"b".to_vec(), bounds(), b"in", &[("f", b"x")]),
        given(b"a".to_vec(), bounds(), b"on", &[("f", b"x")]),
        given(b"a".to_vec(), bounds(), b"in", &[("g", b"x")]),
        given(b"a".to_vec(), bounds(), b"in", &[("f", b"y")]),
        given(b"a".to_vec(), bounds(), b"in", &[]),
    ];
    let mut change = |change: fn(&mut Runtime)| {
        let mut other = base.clone();
        change(&mut other.runtime);
        others.push(other);
    };
    change(|runtime| runtime.name = Name::literal("other"));
    change(|runtime| runtime.spec.arguments = vec!["program".to_owned()]);
    change(|runtime| runtime.spec.digest = Some(Digest::of(b"module")));
    change(|runtime| runtime.spec.entry = "main".to_owned());
    for other in others {
        assert_ne!(base.digest(), other.digest(), "{other:?}");
    }
    assert_eq!(base.digest(), base.clone().digest());
    assert!(!format!("{base:?}").contains("in\""), "what is run is not shown");
}

/// Every function of the interface with the types of what it takes.
const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// A number that is likely to hurt.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..12,
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        Just(65_536),
        Just(65_535),
        Just(1 << 40),
        0_u64..70_000,
        any::<u64>()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is called with whatever, it is an error for the program or the end of its run, and within its bounds.
    #[test]
    fn every_function_takes_everything(
        calls in prop::collection::vec((0..FUNCTIONS.len(), prop::collection::vec(number(), 9)), 1..20),
        data in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (mut imports, mut body) = (String::new(), String::new());
        for (index, (name, types)) in FUNCTIONS.iter().enumerate() {
            let types: Vec<&str> = types.chars().map(|c| if c == 'i' { "i32" } else { "i64" }).collect();
            imports += &format!(r#"(import "wasi_snapshot_preview1" "{name}" (func $f{index} (param {}) (result i32)))"#, types.join(" "));
        }
        for (function, numbers) in calls {
            let given = FUNCTIONS[function].1.chars().zip(numbers).map(|(kind, n)| match kind {
                'i' => format!("(i32.const {})", n & 0xffff_ffff),
                _ => format!("(i64.const {})", n.cast_signed()),
            });
            body += &format!("(drop (call $f{function} {}))", given.collect::<Vec<_>>().join(" "));
        }
        let data: String = data.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let module = wat::parse_str(format!(r#"(module {imports} (memory (export "memory") 1) (data (i32.const 0) "{data}") (func (export "_start") {body}))"#)).unwrap();
        let finished = run(&engine(), &given(module, bounds(), b"input", &[("in/f", b"content")])).unwrap();
        prop_assert!(finished.stdout.len() + finished.stderr.len() <= 10_000);
        prop_assert!(finished.files.values().map(Vec::len).sum::<usize>() <= 100_000 && finished.files.len() <= 20);
        prop_assert!(finished.files.keys().all(|path| crate::run::is_place(path)));
        prop_assert!(finished.fuel <= bounds().fuel);
    }

    /// A module that somebody has damaged is refused or runs within its bounds.
    #[test]
    fn damaged_modules_do_no_harm(at in 8_usize..400, with in any::<u8>(), cut in any::<bool>()) {
        let mut module = bytes(super::limits::SLEEP);
        let at = at % module.len();
        module[at] = with;
        if cut { module.truncate(at) }
        if let Ok(finished) = run(&engine(), &given(module, bounds(), b"", &[])) {
            prop_assert!(finished.fuel <= bounds().fuel);
        }
    }

    /// Nor does what was never one.
    #[test]
    fn random_bytes_are_no_module(rest in prop::collection::vec(any::<u8>(), 0..64)) {
        let module: Vec<u8> = b"\0asm\x01\0\0\0".iter().copied().chain(rest).collect();
        drop(run(&engine(), &given(module, bounds(), b"", &[])));
    }
}
