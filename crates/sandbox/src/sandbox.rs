//! The exit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bartizan_base::{Clock, Name};
use bartizan_model::action::CodeRun;
use bartizan_model::{ReasonCode, Target};
use bartizan_record::{IntentRecorded, Running};
use tokio::sync::Semaphore;

use crate::run::{Finished, Run, RunError};
use crate::runtime::{Runtime, RuntimeError, RuntimeSpec};

/// What the sandbox is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What runs code, by name.
    pub runtimes: BTreeMap<Name, RuntimeSpec>,
    /// Runs at once; more are refused.
    pub runs_max: usize,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The sandbox.
#[derive(Debug)]
pub struct Sandbox {
    runtimes: BTreeMap<Name, Runtime>,
    places: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    #[cfg(feature = "code")]
    engine: Arc<crate::engine::Engine>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A runtime is not as it is declared.
    #[error("code.runtimes.{name}")]
    Runtime {
        /// Which.
        name: Name,
        /// Why.
        #[source]
        source: RuntimeError,
    },
    /// The engine does not start.
    #[error("the engine of WebAssembly: {0}")]
    Engine(String),
}

/// What a run gave, and the effect, to be told how it ended.
#[derive(Debug)]
pub struct Answered {
    /// What.
    pub finished: Finished,
    /// The effect.
    pub running: Running,
}

/// Nothing was run.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub reason: ReasonCode,
    /// More of it, as far as the caller may know.
    pub detail: String,
    /// The effect.
    pub running: Running,
}

/// Ends a run whose caller has left.
struct Left(Arc<AtomicBool>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Sandbox {
    /// Reads what the runtimes are; waits for files.
    ///
    /// # Errors
    /// When one is not as it is declared.
    pub fn open(settings: Settings) -> Result<Arc<Self>, OpenError> {
        let Settings { runtimes, runs_max, clock } = settings;
        let open = |(name, spec): (Name, RuntimeSpec)| match spec.open(&name) {
            Ok(runtime) => Ok((name, runtime)),
            Err(source) => Err(OpenError::Runtime { name, source }),
        };
        Ok(Arc::new(Self {
            runtimes: runtimes.into_iter().map(open).collect::<Result<_, _>>()?,
            places: Arc::new(Semaphore::new(runs_max)),
            #[cfg(feature = "code")]
            engine: crate::engine::Engine::open(clock.clone()).map_err(OpenError::Engine)?,
            clock,
        }))
    }

    /// A runtime by its name.
    #[must_use]
    pub fn runtime(&self, name: &Name) -> Option<&Runtime> {
        self.runtimes.get(name)
    }

    /// Compiles the modules of the runtimes, so that the first who runs something need not wait for that; waits itself.
    pub fn warm(&self) {
        #[cfg(feature = "code")]
        for (name, runtime) in &self.runtimes {
            if let Err(error) = self.engine.prepare(runtime) {
                tracing::error!(%error, %name, "a runtime cannot be run");
            }
        }
    }

    /// Runs what the intent was recorded for, and nothing else: its target and digest must be those of `run`, and it must not have
    /// run out. Whoever stops waiting ends the run.
    ///
    /// # Errors
    /// With the running effect, so that its end can be told.
    pub async fn run(&self, intent: IntentRecorded<CodeRun>, run: Run) -> Result<Answered, Failed> {
        let fits = matches!(intent.target(), Target::Direct { name, body } if *name == run.runtime.name && *body == run.digest());
        let in_time = self.clock.now() < intent.expires();
        let running = intent.begin();
        if !fits || !in_time {
            tracing::error!(fits, in_time, "code that is not the recorded one was stopped at the exit");
            return Err(Failed { reason: ReasonCode::Internal, detail: String::new(), running });
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            let detail = "as much code as may is running here".to_owned();
            return Err(Failed { reason: ReasonCode::Busy, detail, running });
        };
        let left = Left(Arc::default());
        let (gone, decision) = (left.0.clone(), running.decision().to_string());
        let work = self.work(run, decision, gone);
        let worked = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        let done = worked.await;
        drop(left);
        match done {
            Ok(Ok(finished)) => Ok(Answered { finished, running }),
            Ok(Err(Unrun { reason, detail })) => Err(Failed { reason, detail, running }),
            Err(error) => {
                tracing::error!(%error, "a run of code has ended in a fault of ours");
                Err(Failed { reason: ReasonCode::Internal, detail: String::new(), running })
            }
        }
    }

    #[cfg(feature = "code")]
    fn work(
        &self,
        run: Run,
        decision: String,
        gone: Arc<AtomicBool>,
    ) -> impl FnOnce() -> Result<Finished, Unrun> + Send + 'static {
        let (engine, now) = (self.engine.clone(), self.clock.now());
        move || engine.run(&run, now, &decision, &gone).map_err(Unrun::from)
    }

    #[cfg(not(feature = "code"))]
    #[expect(clippy::unused_self, reason = "as with the engine")]
    fn work(
        &self,
        _: Run,
        _: String,
        _: Arc<AtomicBool>,
    ) -> impl FnOnce() -> Result<Finished, Unrun> + Send + 'static {
        || Err(Unrun { reason: ReasonCode::FeatureAbsent, detail: ABSENT.to_owned() })
    }
}

#[cfg(not(feature = "code"))]
const ABSENT: &str = "this program was built without the feature `code`";

/// Why a program was not run.
#[derive(Debug)]
struct Unrun {
    reason: ReasonCode,
    detail: String,
}

impl From<RunError> for Unrun {
    fn from(error: RunError) -> Self {
        Self { reason: ReasonCode::CodeRefused, detail: error.to_string() }
    }
}
