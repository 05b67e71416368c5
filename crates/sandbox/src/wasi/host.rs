//! What belongs to one run, and to no other.

use bartizan_base::{Digest, Timestamp};
use wasmtime::ResourceLimiter;

use super::fds::Fds;
use super::guest::{Guest, Halt, Stop};
use super::scratch::Scratch;
use crate::bounds::Bounds;

/// What a call into the host costs, in fuel, beside what it moves.
const CALL: u64 = 200;
/// How many bytes are moved for one of it.
const BYTES: u64 = 16;
/// At what programs begin to count the time since they do not know when.
const BEGAN_NS: u64 = 1_000_000_000;

/// What a run begins with.
#[derive(Debug)]
pub(crate) struct Origin {
    /// When it was decided on: the only time that it is told.
    pub(crate) now: Timestamp,
    /// From what its random bytes are derived.
    pub(crate) seed: Digest,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Its standard input.
    pub(crate) stdin: Vec<u8>,
}

/// The state of a run.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) origin: Origin,
    pub(crate) scratch: Scratch,
    pub(crate) fds: Fds,
    pub(crate) stdin_at: usize,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    output_left: u64,
    memory_max: u64,
    table_left: u64,
    /// Something that was wanted beyond the bounds was not given.
    pub(crate) refused: bool,
    fuel: u64,
    /// What is left of it, as of the call that goes on.
    pub(crate) fuel_left: u64,
    /// What the call that goes on has cost.
    pub(crate) cost: u64,
    /// For how long it has slept, which takes no time.
    pub(crate) slept_ns: u64,
    random: (u64, Vec<u8>),
}

impl Host {
    pub(crate) fn new(origin: Origin, scratch: Scratch, bounds: &Bounds) -> Self {
        Self {
            origin,
            scratch,
            fds: Fds::new(),
            stdin_at: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            output_left: bounds.output_bytes,
            memory_max: bounds.memory_bytes,
            table_left: bounds.table_entries,
            refused: false,
            fuel: bounds.fuel,
            fuel_left: bounds.fuel,
            cost: 0,
            slept_ns: 0,
            random: (0, Vec::new()),
        }
    }

    /// Begins a call; `left` is what may be executed yet.
    pub(crate) fn called(&mut self, left: u64) {
        (self.fuel_left, self.cost) = (left, CALL);
    }

    /// Counts bytes that are moved for the program.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.cost = self.cost.saturating_add(bytes / BYTES);
    }

    /// The time since the program began, in nanoseconds: one for each instruction, and what it has slept.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        self.fuel.saturating_sub(self.fuel_left).saturating_add(self.slept_ns)
    }

    /// What a clock shows; none for one that there is not.
    pub(crate) fn clock(&self, id: u32) -> Option<u64> {
        match id {
            0 => Some(self.origin.now.as_micros().saturating_mul(1_000).saturating_add(self.elapsed_ns())),
            1 => Some(BEGAN_NS.saturating_add(self.elapsed_ns())),
            2 | 3 => Some(self.elapsed_ns() - self.slept_ns),
            _ => None,
        }
    }

    /// Random bytes: SHA-256 over the seed and a count.
    pub(crate) fn random(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.random.1.is_empty() {
                let block = Digest::of_parts(&[self.origin.seed.as_bytes(), &self.random.0.to_be_bytes()]);
                self.random.0 += 1;
                self.random.1.extend_from_slice(block.as_bytes());
            }
            *byte = self.random.1.pop().unwrap_or_default();
        }
    }

    /// Takes what the program writes, as far as it may.
    pub(crate) fn output(&mut self, error: bool, bytes: &[u8]) -> Result<(), Stop> {
        let most = usize::try_from(self.output_left).unwrap_or(usize::MAX).min(bytes.len());
        let to = if error { &mut self.stderr } else { &mut self.stdout };
        to.extend_from_slice(bytes.get(..most).unwrap_or_default());
        self.output_left -= most as u64;
        if most < bytes.len() { Err(Halt::Output.into()) } else { Ok(()) }
    }

    /// Writes the arguments, or their sizes, as C has them.
    pub(crate) fn arguments(
        &self,
        guest: &mut Guest<'_>,
        mut places: u32,
        mut texts: u32,
    ) -> Result<(), Stop> {
        for argument in &self.origin.arguments {
            guest.put_u32(places, texts)?;
            guest.put(texts, argument.as_bytes())?;
            let end = texts.saturating_add(u32::try_from(argument.len()).unwrap_or(u32::MAX));
            guest.put(end, &[0])?;
            (places, texts) = (places.saturating_add(4), end.saturating_add(1));
        }
        Ok(())
    }

    /// The same from outside of a call, ending with a null as C has it. Whether there was room.
    pub(crate) fn lay_arguments(&self, memory: &mut [u8], places: u32, texts: u32) -> bool {
        let mut guest = Guest(memory);
        let (count, _) = self.argument_sizes();
        let laid = self.arguments(&mut guest, places, texts);
        laid.is_ok() && guest.put_u32(places.saturating_add(count * 4), 0).is_ok()
    }

    /// How many arguments there are, and bytes of them with their ends.
    pub(crate) fn argument_sizes(&self) -> (u32, u32) {
        let bytes: usize = self.origin.arguments.iter().map(|argument| argument.len() + 1).sum();
        let small = |n| u32::try_from(n).unwrap_or(u32::MAX);
        (small(self.origin.arguments.len()), small(bytes))
    }
}

impl ResourceLimiter for Host {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired as u64 <= self.memory_max;
        self.refused |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = (desired as u64).saturating_sub(current as u64);
        let fits = more <= self.table_left;
        if fits {
            self.table_left -= more;
        }
        self.refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        8
    }
}
