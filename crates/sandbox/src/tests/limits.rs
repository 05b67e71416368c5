//! More than a run may take.

use std::sync::atomic::Ordering;

use super::*;

const LOOP: &str = r#"(memory (export "memory") 1) (func (export "_start") (loop $l (br $l)))"#;

#[test]
fn an_endless_loop_ends_by_what_it_executes_or_by_time() {
    assert_eq!(ends(LOOP), Ending::Fuel);
    assert_eq!(ends_within(LOOP, Bounds { fuel: 1 << 50, time_ms: 30, ..bounds() }), Ending::Time);
}

#[test]
fn a_module_that_loops_before_it_begins_ends_all_the_same() {
    let text =
        r#"(memory (export "memory") 1) (func $f (loop $l (br $l))) (start $f) (func (export "_start"))"#;
    assert_eq!(ends(text), Ending::Fuel);
    assert_eq!(ends_within(text, Bounds { fuel: 1 << 50, time_ms: 30, ..bounds() }), Ending::Time);
}

#[test]
fn a_run_whose_caller_has_left_ends() {
    let (engine, gone) = (engine(), Arc::new(AtomicBool::new(false)));
    let bounds = Bounds { fuel: 1 << 50, time_ms: 600_000, ..bounds() };
    let endless = given(bytes(LOOP), bounds, b"", &[]);
    gone.store(true, Ordering::Relaxed);
    assert_eq!(engine.run(&endless, Timestamp::from_secs(1), "dec_1", &gone).unwrap().ended, Ending::Time);
}

#[test]
fn memory_beyond_the_bound_is_not_had_at_once_or_little_by_little() {
    let all = r#"(memory (export "memory") 65536) (func (export "_start"))"#;
    assert_eq!(ends(all), Ending::Memory);
    let grow = |end: &str| {
        format!(
            r#"(memory (export "memory") 1)
               (func (export "_start") (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) {end})"#
        )
    };
    assert_eq!(ends(&grow("(unreachable)")), Ending::Memory);
    // Whoever can do without goes on.
    assert_eq!(ends(&grow("(call $exit (memory.size))")), Ending::Exited(64));
}

#[test]
fn tables_do_not_multiply() {
    assert_eq!(
        ends(r#"(memory (export "memory") 1) (table 1001 funcref) (func (export "_start"))"#),
        Ending::Memory
    );
    let two =
        r#"(memory (export "memory") 1) (table 600 funcref) (table 600 funcref) (func (export "_start"))"#;
    assert_eq!(ends(two), Ending::Memory, "it is the bound of all of them");
    let grow = r#"(memory (export "memory") 1) (table $t 1 funcref)
        (func (export "_start") (loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1)))) (unreachable))"#;
    assert_eq!(ends(grow), Ending::Memory);
    let many = "(table 1 funcref)".repeat(9);
    let many = format!(r#"(memory (export "memory") 1) {many} (func (export "_start"))"#);
    assert!(!matches!(ends(&many), Ending::Exited(_)), "nor many small ones");
}

#[test]
fn a_program_that_calls_itself_without_end_is_stopped() {
    let text =
        r#"(memory (export "memory") 1) (func $f (call $f) (call $f)) (func (export "_start") (call $f))"#;
    assert!(matches!(ends(text), Ending::Trap(why) if why.contains("stack")));
}

/// Writes its first page to a descriptor without end.
fn writes(fd: u32) -> String {
    format!(
        r#"(memory (export "memory") 2) (data (i32.const 0) "\10\00\00\00\e8\03\00\00")
           (func (export "_start") (loop $l (drop (call $write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l)))"#
    )
}

#[test]
fn output_without_end_is_cut_at_its_bound_whichever_way_it_goes() {
    for fd in [1, 2] {
        let finished = run(&engine(), &given(bytes(&writes(fd)), bounds(), b"", &[])).unwrap();
        assert_eq!(finished.ended, Ending::Output);
        assert_eq!(finished.stdout.len() + finished.stderr.len(), 10_000);
    }
}

#[test]
fn what_is_done_for_a_program_counts_as_if_it_did_it() {
    let random = r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "memory") 16)
        (func (export "_start") (loop $l (drop (call $random (i32.const 0) (i32.const 1000000))) (br $l)))"#;
    let finished = run(&engine(), &given(bytes(random), bounds(), b"", &[])).unwrap();
    assert_eq!((finished.ended, finished.fuel), (Ending::Fuel, bounds().fuel));
    let sleep = r#"(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
        (memory (export "memory") 1) (func (export "_start") (loop $l (drop (call $yield)) (br $l)))"#;
    assert_eq!(ends(sleep), Ending::Fuel);
}

/// Sleeps an hour, and gives the difference in seconds.
pub(super) const SLEEP: &str = r#"
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $before i64)
        (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 200)))
        (local.set $before (i64.load (i32.const 200)))
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (if (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)) (then (unreachable)))
        (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 200)))
        (call $exit (i32.wrap_i64 (i64.div_u (i64.sub (i64.load (i32.const 200)) (local.get $before)) (i64.const 1000000000)))))"#;

#[test]
fn sleeping_takes_no_time_and_no_thread() {
    assert_eq!(ends_within(SLEEP, Bounds { time_ms: 10_000, ..bounds() }), Ending::Exited(3_600));
}
