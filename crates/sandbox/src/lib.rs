//! The sandbox for code that a model wrote: WebAssembly within bounds, and no way out.
//!
//! A program is given its arguments, what is to be read on its standard input, and a scratch of its own; it gives back what it
//! wrote and how it ended. It has no network, no environment, no file of this machine, no clock and no randomness of ours: the
//! scratch lives in memory beside the program and goes with it, time is counted in what the program has executed, and random
//! bytes are derived from what is run. So the same run comes out the same, whoever looks.
//!
//! What runs the code, a *runtime*, stands in the configuration alone, fixed by its digest. Nothing is run but against an
//! `IntentRecorded` for exactly it.

mod bounds;
mod run;
mod runtime;
mod sandbox;

#[cfg(feature = "code")]
mod engine;
#[cfg(feature = "code")]
mod wasi;

#[cfg(test)]
#[cfg(feature = "code")]
mod tests;

pub use bounds::Bounds;
pub use run::{Ending, Finished, Program, Run, RunError};
pub use runtime::{Accepts, Runtime, RuntimeError, RuntimeSpec};
pub use sandbox::{Answered, Failed, OpenError, Sandbox, Settings};

/// Whether this program was built with the engine.
pub const BUILT_IN: bool = cfg!(feature = "code");
