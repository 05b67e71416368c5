//! How much a run may take.

use serde::Deserialize;

/// Bounds of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// What may be executed, in instructions of WebAssembly; what is done for the program counts too.
    pub fuel: u64,
    /// Milliseconds from its first instruction to its last.
    pub time_ms: u64,
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// Entries of all of its tables.
    pub table_entries: u64,
    /// Bytes of standard output and standard error together.
    pub output_bytes: u64,
    /// Bytes of everything in the scratch together.
    pub scratch_bytes: u64,
    /// Files and folders in the scratch.
    pub scratch_entries: u64,
    /// Bytes of a module that a caller sends.
    pub module_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            fuel: 50_000_000_000,
            time_ms: 10_000,
            memory_bytes: 256 << 20,
            table_entries: 100_000,
            output_bytes: 1 << 20,
            scratch_bytes: 16 << 20,
            scratch_entries: 512,
            module_bytes: 2 << 20,
        }
    }
}

impl Bounds {
    /// What of them is no bound: the name of the setting, and the least and the most it can be.
    pub(crate) fn misfit(&self) -> Option<(&'static str, u64, u64)> {
        const LARGEST: u64 = 1 << 30;
        let all = [
            ("fuel", self.fuel, 1_000, 1 << 50),
            ("time_ms", self.time_ms, 1, 600_000),
            ("memory_bytes", self.memory_bytes, 1 << 16, 4 * LARGEST),
            ("table_entries", self.table_entries, 1, 10_000_000),
            ("output_bytes", self.output_bytes, 1, LARGEST),
            ("scratch_bytes", self.scratch_bytes, 1, LARGEST),
            ("scratch_entries", self.scratch_entries, 1, 100_000),
            ("module_bytes", self.module_bytes, 8, 64 << 20),
        ];
        let misfit = all.into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value));
        misfit.map(|(name, _, least, most)| (name, least, most))
    }
}
