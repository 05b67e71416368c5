//! What a program finds of a system: WASI preview 1 (`wasi_snapshot_preview1`, WebAssembly System Interface, legacy snapshot 01),
//! of which nothing reaches this machine.
//!
//! Own, and not the engine's implementation on the host's files, since the scratch is to be bounded in bytes, to vanish with
//! the run whatever happens, and to have no way out that a mistake could open: there is no host file behind it.

mod errno;
mod fds;
mod guest;
mod host;
mod link;
mod scratch;

pub(crate) use guest::Halt;
pub(crate) use host::{Host, Origin};
pub(crate) use link::linker;
pub(crate) use scratch::Scratch;

/// The scratch is full.
pub(crate) const NO_ROOM: errno::Errno = errno::Errno::NOSPC;
