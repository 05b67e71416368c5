//! Enemies of the sandbox, each a module of its own.

mod files;
mod hostile;
mod limits;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bartizan_base::{Name, Timestamp};
use bartizan_rt::SystemClock;

use crate::bounds::Bounds;
use crate::engine::Engine;
use crate::run::{Ending, Finished, Program, Run, RunError};
use crate::runtime::{Accepts, Runtime, RuntimeSpec};

/// What every module below begins with.
const HEAD: &str = r#"
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
"#;

fn engine() -> Arc<Engine> {
    Engine::open(Arc::new(SystemClock::new())).unwrap()
}

/// Bounds that keep the tests short.
fn bounds() -> Bounds {
    Bounds {
        fuel: 20_000_000,
        time_ms: 60_000,
        memory_bytes: 4 << 20,
        table_entries: 1_000,
        output_bytes: 10_000,
        scratch_bytes: 100_000,
        scratch_entries: 20,
        ..Bounds::default()
    }
}

fn runtime(bounds: Bounds) -> Runtime {
    let spec = RuntimeSpec {
        accepts: Accepts::Module,
        file: None,
        digest: None,
        approved: None,
        arguments: vec!["program".to_owned(), "two words".to_owned()],
        entry: "_start".to_owned(),
        source: "source".to_owned(),
        bounds,
    };
    Runtime { name: Name::literal("wasm"), spec, module: Arc::default() }
}

/// The bytes of a module whose functions begin with `HEAD`.
fn bytes(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {HEAD} {text})")).unwrap()
}

fn given(module: Vec<u8>, bounds: Bounds, stdin: &[u8], files: &[(&str, &[u8])]) -> Run {
    let files = files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect();
    Run::new(&runtime(bounds), Program::Module(module), stdin.to_vec(), files).unwrap()
}

fn run(engine: &Engine, run: &Run) -> Result<Finished, RunError> {
    engine.run(run, Timestamp::from_secs(1_000), "dec_1", &Arc::default())
}

/// How a module ends.
fn ends_within(text: &str, bounds: Bounds) -> Ending {
    run(&engine(), &given(bytes(text), bounds, b"", &[])).unwrap().ended
}

fn ends(text: &str) -> Ending {
    ends_within(text, bounds())
}

/// Why a module is not run at all.
fn refused(module: Vec<u8>) -> String {
    run(&engine(), &given(module, bounds(), b"", &[])).unwrap_err().to_string()
}

/// A program whose end is what `expression` gives.
fn gives(imports: &str, data: &str, expression: &str) -> Ending {
    ends(&format!(
        r#"{imports} (memory (export "memory") 1) {data} (func (export "_start") (call $exit {expression}))"#
    ))
}
