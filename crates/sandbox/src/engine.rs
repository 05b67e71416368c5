//! The engine of WebAssembly, and one run in it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bartizan_base::{Clock, Digest, Timestamp};
use wasmtime::{Config, Instance, Linker, Module, OptLevel, RegallocAlgorithm, Store, Trap, UpdateDeadline};

use crate::bounds::Bounds;
use crate::run::{Ending, Finished, Program, Run, RunError};
use crate::runtime::{Accepts, Runtime};
use crate::wasi::{Halt, Host, Origin, Scratch, linker};

/// How often a program that runs is looked after.
const TICK: Duration = Duration::from_millis(10);
/// Modules of callers that are kept compiled.
const KEPT_MAX: usize = 16;
/// The program's own stack, in bytes: interpreters call themselves deeply.
const STACK: usize = 8 << 20;
/// What functions of ours need below it.
const HOST_STACK: usize = 2 << 20;

/// The engine, with what is compiled for it.
pub(crate) struct Engine {
    engine: wasmtime::Engine,
    linker: Linker<Host>,
    /// By digest, each compiled once: whoever comes while that goes on waits for it.
    compiled: Mutex<HashMap<Digest, Kept>>,
    clock: Arc<dyn Clock>,
    /// How many programs run, which wakes the thread that looks after them.
    running: Arc<AtomicUsize>,
    ticker: std::thread::Thread,
}

/// A module that is compiled, or going to be.
struct Kept {
    module: Arc<OnceLock<Result<Module, String>>>,
    /// Of a runtime: kept for good.
    ours: bool,
    used_us: u64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Not idle, so it looks for the engine, which is gone.
        self.running.fetch_add(1, Ordering::SeqCst);
        self.ticker.unpark();
    }
}

/// While it lives, a program runs.
struct Place<'a>(&'a Engine);

impl<'a> Place<'a> {
    fn take(engine: &'a Engine) -> Self {
        engine.running.fetch_add(1, Ordering::SeqCst);
        engine.ticker.unpark();
        Self(engine)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ticks while something runs, in a thread of its own: what counts the time of programs must not wait for anything of theirs.
fn ticker(engine: &wasmtime::EngineWeak, running: &Weak<AtomicUsize>) {
    loop {
        let Some(count) = running.upgrade() else { return };
        let idle = count.load(Ordering::SeqCst) == 0;
        drop(count);
        if idle {
            std::thread::park();
            continue;
        }
        std::thread::sleep(TICK);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.consume_fuel(true).epoch_interruption(true);
    // The engine holds the one against the other, though nothing here is asynchronous.
    config.max_wasm_stack(STACK).async_stack_size(STACK + HOST_STACK);
    // Where numbers that are none look different by machine, the same run would not come out the same.
    config.cranelift_nan_canonicalization(true).wasm_relaxed_simd(false);
    config.wasm_memory64(false).wasm_multi_memory(false);
    // Nobody reads where a program of somebody else went wrong.
    config.wasm_backtrace_max_frames(None).native_unwind_info(false).generate_address_map(false);
    if cfg!(debug_assertions) {
        // A compiler that is not optimised itself takes minutes to optimise a large program.
        config
            .cranelift_opt_level(OptLevel::None)
            .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    }
    config
}

impl Engine {
    pub(crate) fn open(clock: Arc<dyn Clock>) -> Result<Arc<Self>, String> {
        let told = |error: wasmtime::Error| error.to_string();
        let engine = wasmtime::Engine::new(&config()).map_err(told)?;
        let linker = linker(&engine).map_err(told)?;
        let running = Arc::new(AtomicUsize::new(0));
        let (weak, count) = (engine.weak(), Arc::downgrade(&running));
        let thread = std::thread::Builder::new().name("code-ticks".to_owned());
        let thread = thread.spawn(move || ticker(&weak, &count)).map_err(|error| error.to_string())?;
        let ticker = thread.thread().clone();
        Ok(Arc::new(Self { engine, linker, compiled: Mutex::default(), clock, running, ticker }))
    }

    #[cfg(test)]
    pub(crate) fn with(&self, add: impl FnOnce(&mut Linker<Host>)) -> Arc<Self> {
        let engine = Self::open(self.clock.clone()).unwrap();
        let mut engine = Arc::into_inner(engine).unwrap();
        add(&mut engine.linker);
        Arc::new(engine)
    }

    /// Compiles the module of a runtime.
    pub(crate) fn prepare(&self, runtime: &Runtime) -> Result<(), RunError> {
        match (runtime.spec.accepts, runtime.spec.digest) {
            (Accepts::Source, Some(digest)) => self.module(digest, &runtime.module, true).map(drop),
            _ => Ok(()),
        }
    }

    /// A module, compiled.
    fn module(&self, digest: Digest, bytes: &[u8], ours: bool) -> Result<Module, RunError> {
        let now = self.clock.monotonic_us();
        let slot = {
            let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
            if !compiled.contains_key(&digest) {
                let theirs = compiled.iter().filter(|(_, kept)| !kept.ours);
                let (count, oldest) = (theirs.clone().count(), theirs.min_by_key(|(_, kept)| kept.used_us));
                if let Some(oldest) = oldest.map(|(digest, _)| *digest).filter(|_| count >= KEPT_MAX) {
                    compiled.remove(&oldest);
                }
            }
            let kept =
                compiled.entry(digest).or_insert_with(|| Kept { module: Arc::default(), ours, used_us: now });
            kept.used_us = now;
            kept.module.clone()
        };
        let module = slot.get_or_init(|| self.compile(bytes));
        module.clone().map_err(RunError::Unfit)
    }

    fn compile(&self, bytes: &[u8]) -> Result<Module, String> {
        // As text it would be another language, which nobody has approved.
        let module = Module::from_binary(&self.engine, bytes);
        let module = module.map_err(|error| format!("this is no module that is run here: {error:#}"))?;
        let nobody = Origin {
            now: Timestamp::from_secs(0),
            seed: Digest::EMPTY,
            arguments: Vec::new(),
            stdin: Vec::new(),
        };
        let mut store = Store::new(&self.engine, Host::new(nobody, Scratch::new(0, 0), &Bounds::default()));
        for import in module.imports() {
            if self.linker.get_by_import(&mut store, &import).is_none() {
                let (of, name) = (plain(import.module()), plain(import.name()));
                return Err(format!("the module imports `{of}.{name}`, which is not given to code here"));
            }
        }
        Ok(module)
    }

    /// Runs a program to its end, on a thread whose stack is as large as the program's may become.
    ///
    /// # Errors
    /// When there is nothing that could be run; what goes wrong in a run is how it ended.
    pub(crate) fn run(
        &self,
        run: &Run,
        now: Timestamp,
        decision: &str,
        gone: &Arc<AtomicBool>,
    ) -> Result<Finished, RunError> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("code".to_owned()).stack_size(STACK + HOST_STACK);
            let spawned = thread.spawn_scoped(scope, || self.run_here(run, now, decision, gone));
            let spawned =
                spawned.map_err(|error| RunError::Unfit(format!("no thread can be had: {error}")))?;
            spawned.join().unwrap_or_else(|fault| std::panic::resume_unwind(fault))
        })
    }

    fn run_here(
        &self,
        run: &Run,
        now: Timestamp,
        decision: &str,
        gone: &Arc<AtomicBool>,
    ) -> Result<Finished, RunError> {
        let spec = &run.runtime.spec;
        let module = match (&run.program, spec.digest) {
            (Program::Module(bytes), _) => self.module(run.program.digest(), bytes, false)?,
            (Program::Source(_), Some(digest)) => self.module(digest, &run.runtime.module, true)?,
            (Program::Source(_), None) => return Err(RunError::Kind("a `module`")),
        };
        let origin = Origin {
            now,
            seed: Digest::of_parts(&[run.digest().as_bytes(), decision.as_bytes()]),
            arguments: spec.arguments.clone(),
            stdin: run.stdin.clone(),
        };
        let host = Host::new(origin, lay(run)?, &spec.bounds);
        let mut store = Store::new(&self.engine, host);
        store.limiter(|host| host);
        let unfit = |error: wasmtime::Error| RunError::Unfit(format!("{error:#}"));
        store.set_fuel(spec.bounds.fuel).map_err(unfit)?;
        let _place = Place::take(self);
        let (clock, gone) = (self.clock.clone(), gone.clone());
        let ends_us = clock.monotonic_us().saturating_add(spec.bounds.time_ms.saturating_mul(1_000));
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if gone.load(Ordering::Relaxed) {
                Err(wasmtime::Error::new(Halt::Gone))
            } else if clock.monotonic_us() >= ends_us {
                Err(wasmtime::Error::new(Halt::Time))
            } else {
                Ok(UpdateDeadline::Continue(1))
            }
        });
        let done = self.linker.instantiate(&mut store, &module);
        let done = done.and_then(|instance| enter(&mut store, &instance, &spec.entry));
        let left = store.get_fuel().unwrap_or_default();
        let host = store.into_data();
        let ended = match done {
            Ok(Called::Ended(code)) => Ending::Exited(code),
            Ok(Called::Nothing) => {
                return Err(RunError::Unfit(format!(
                    "the module has no function `{}` to begin with",
                    plain(&spec.entry)
                )));
            }
            Err(error) => ending(&error, host.refused),
        };
        let Host { stdout, stderr, scratch, .. } = host;
        let files = scratch.changed();
        Ok(Finished { ended, stdout, stderr, files, fuel: spec.bounds.fuel.saturating_sub(left) })
    }
}

/// The scratch as the program finds it.
fn lay(run: &Run) -> Result<Scratch, RunError> {
    let bounds = &run.runtime.spec.bounds;
    let mut scratch = Scratch::new(bounds.scratch_bytes, bounds.scratch_entries);
    let source = match &run.program {
        Program::Source(text) => Some((run.runtime.spec.source.as_str(), text.as_bytes())),
        Program::Module(_) => None,
    };
    let files = run.files.iter().map(|(path, content)| (path.as_str(), content.as_slice()));
    for (path, content) in source.into_iter().chain(files) {
        scratch.lay(path, content).map_err(|errno| {
            if errno == crate::wasi::NO_ROOM {
                RunError::TooMuch(bounds.scratch_bytes, bounds.scratch_entries)
            } else {
                RunError::Twice(path.to_owned())
            }
        })?;
    }
    Ok(scratch)
}

/// What came of calling a module's first function.
enum Called {
    Ended(i32),
    Nothing,
}

/// Calls the function that a program begins with.
fn enter(store: &mut Store<Host>, instance: &Instance, entry: &str) -> wasmtime::Result<Called> {
    if entry == "_start" {
        return match instance.get_typed_func::<(), ()>(&mut *store, entry) {
            Ok(start) => start.call(&mut *store, ()).map(|()| Called::Ended(0)),
            Err(_) => Ok(Called::Nothing),
        };
    }
    // A library: it is made ready, and its function is given the arguments as C gives them to `main`.
    let main = instance.get_typed_func::<(u32, u32), i32>(&mut *store, entry);
    let malloc = instance.get_typed_func::<u32, u32>(&mut *store, "malloc");
    let (Ok(main), Ok(malloc), Some(memory)) = (main, malloc, instance.get_memory(&mut *store, "memory"))
    else {
        return Ok(Called::Nothing);
    };
    if let Ok(ready) = instance.get_typed_func::<(), ()>(&mut *store, "_initialize") {
        ready.call(&mut *store, ())?;
    }
    let (count, bytes) = store.data().argument_sizes();
    let places = (count + 1) * 4;
    let at = malloc.call(&mut *store, places.saturating_add(bytes))?;
    let (guest, host) = memory.data_and_store_mut(&mut *store);
    if at == 0 || !host.lay_arguments(guest, at, at.saturating_add(places)) {
        return Err(Trap::MemoryOutOfBounds.into());
    }
    main.call(&mut *store, (count, at)).map(Called::Ended)
}

fn ending(error: &wasmtime::Error, refused: bool) -> Ending {
    if let Some(halt) = error.downcast_ref::<Halt>() {
        return match halt {
            Halt::Exit(code) => Ending::Exited(code.cast_signed()),
            Halt::Output => Ending::Output,
            Halt::Time | Halt::Gone => Ending::Time,
        };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Ending::Fuel,
        Some(Trap::Interrupt) => Ending::Time,
        // What it was not given it has missed.
        _ if refused => Ending::Memory,
        Some(trap) => Ending::Trap(trap.to_string()),
        None => Ending::Trap(plain(&error.to_string())),
    }
}

/// Words of others, of bounded length and without control characters.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
