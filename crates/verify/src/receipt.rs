//! A receipt: one entry, one proof, one checkpoint.

use std::path::Path;

use bartizan_ledger::{ENTRY_MAX, NOTE_MAX, ProofError, Receipt, VerifierKey, leaf_hash};

use crate::file;
use crate::report::{Check, Fault, Reason, Report};

/// Verifies that the entry in the file `entry` is in the log of `key`, by the `.tlog-proof` in the file `receipt`.
#[must_use]
pub fn verify_receipt(receipt: &Path, entry: &Path, key: &VerifierKey) -> Report {
    let mut report = Report { origin: key.name().to_owned(), ..Report::default() };
    match check(receipt, entry, key) {
        Ok((index, size)) => {
            report.size = size;
            let what = format!("entry {index} of {size} in {}", key.name());
            report.add(Check::new("receipt", what, None.into()));
        }
        Err(fault) => report.add(Check::new("receipt", "", Some(fault).into())),
    }
    report
}

fn check(receipt: &Path, entry: &Path, key: &VerifierKey) -> Result<(u64, u64), Fault> {
    let name = receipt.display().to_string();
    // The note within, and as much again for hashes and an application's extra data.
    let bytes = file::read_given(receipt, 2 * NOTE_MAX as u64)?;
    let entry = file::read_given(entry, ENTRY_MAX as u64)?;
    let text = str::from_utf8(&bytes).map_err(|_| Fault::new(&*name, Reason::NotAReceipt))?;
    let receipt = Receipt::parse(text).map_err(|_| Fault::new(&*name, Reason::NotAReceipt))?;
    match receipt.verify(leaf_hash(&entry), key) {
        Ok(checkpoint) => Ok((receipt.index, checkpoint.size)),
        Err(ProofError::Checkpoint(error)) => Err(Fault::new(name, Reason::Checkpoint).because(error)),
        Err(error) => Err(Fault::new(name, Reason::NotIncluded).at(receipt.index).because(error)),
    }
}
