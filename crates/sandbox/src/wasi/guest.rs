//! The memory of a program, as host functions see it: nothing in it is believed.

use std::fmt;

use super::errno::Errno;

/// How many pieces one call reads or writes at once, as POSIX systems have it (`IOV_MAX`).
const PIECES_MAX: u32 = 1_024;

/// Ends a run from inside a host function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The program has ended itself.
    Exit(u32),
    /// It has written more than it may.
    Output,
    /// It has taken longer than it may.
    Time,
    /// Whoever asked has left.
    Gone,
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Halt {}

/// Why a host function gives nothing: an error for the program, or the end of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// An error.
    Errno(Errno),
    /// The end.
    Halt(Halt),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

/// The memory.
#[derive(Debug)]
pub(crate) struct Guest<'a>(pub(crate) &'a mut [u8]);

impl Guest<'_> {
    pub(crate) fn get(&self, at: u32, len: u32) -> Result<&[u8], Errno> {
        let (at, len) = (at as usize, len as usize);
        self.0.get(at..at.saturating_add(len)).ok_or(Errno::FAULT)
    }

    pub(crate) fn get_mut(&mut self, at: u32, len: u32) -> Result<&mut [u8], Errno> {
        let (at, len) = (at as usize, len as usize);
        self.0.get_mut(at..at.saturating_add(len)).ok_or(Errno::FAULT)
    }

    pub(crate) fn put(&mut self, at: u32, bytes: &[u8]) -> Result<(), Errno> {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::OVERFLOW)?;
        self.get_mut(at, len)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn put_u32(&mut self, at: u32, value: u32) -> Result<(), Errno> {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn put_u64(&mut self, at: u32, value: u64) -> Result<(), Errno> {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn u32(&self, at: u32) -> Result<u32, Errno> {
        let bytes = self.get(at, 4)?.try_into().map_err(|_| Errno::FAULT)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(crate) fn u64(&self, at: u32) -> Result<u64, Errno> {
        let bytes = self.get(at, 8)?.try_into().map_err(|_| Errno::FAULT)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn text(&self, at: u32, len: u32) -> Result<&str, Errno> {
        std::str::from_utf8(self.get(at, len)?).map_err(|_| Errno::ILSEQ)
    }

    /// The pieces of a call that reads or writes several at once, each where it lies and how long it is, and their length
    /// together.
    pub(crate) fn pieces(&self, at: u32, count: u32) -> Result<(Vec<(u32, u32)>, u64), Errno> {
        if count > PIECES_MAX {
            return Err(Errno::INVAL);
        }
        let (mut pieces, mut total) = (Vec::new(), 0_u64);
        for index in 0..count {
            let entry = at.checked_add(index * 8).ok_or(Errno::FAULT)?;
            let (place, len) = (self.u32(entry)?, self.u32(entry.checked_add(4).ok_or(Errno::FAULT)?)?);
            self.get(place, len)?;
            total += u64::from(len);
            pieces.push((place, len));
        }
        // What was done is told in 32 bits.
        if total > u64::from(u32::MAX) { Err(Errno::INVAL) } else { Ok((pieces, total)) }
    }
}
