//! A receipt: one entry, one proof, one checkpoint.

use std::path::Path;

use bartizan_ledger::{
    ENTRY_MAX, NOTE_MAX, Policy, ProofError, Receipt, ReceiptError, VerifierKey, leaf_hash,
};

use crate::directory::{quorum, refusal};
use crate::file;
use crate::report::{Check, Fault, Reason, Report};

/// Verifies that the entry in the file `entry` is in the log of `key`, by the `.tlog-proof` in the file `receipt`.
#[must_use]
pub fn verify_receipt(receipt: &Path, entry: &Path, key: &VerifierKey) -> Report {
    verify_receipt_under(receipt, entry, key, None)
}

/// As [`verify_receipt`], and that its checkpoint is cosigned as `policy` demands.
#[must_use]
pub fn verify_receipt_under(
    receipt: &Path,
    entry: &Path,
    key: &VerifierKey,
    policy: Option<&Policy>,
) -> Report {
    let mut report = Report { origin: key.name().to_owned(), ..Report::default() };
    let name = receipt.display().to_string();
    match check(receipt, entry, key, policy, &name) {
        Ok((index, size, cosigned)) => {
            report.size = size;
            let what = format!("entry {index} of {size} in {}", key.name());
            report.add(Check::new("receipt", what, None.into()));
            if let Some(check) = cosigned {
                report.add(check);
            }
        }
        Err(fault) => report.add(Check::new("receipt", "", Some(fault).into())),
    }
    report
}

fn check(
    receipt: &Path,
    entry: &Path,
    key: &VerifierKey,
    policy: Option<&Policy>,
    name: &str,
) -> Result<(u64, u64, Option<Check>), Fault> {
    // The note within, and as much again for hashes and an application's extra data.
    let bytes = file::read_given(receipt, 2 * NOTE_MAX as u64)?;
    let entry = file::read_given(entry, ENTRY_MAX as u64)?;
    let text = str::from_utf8(&bytes).map_err(|_| Fault::new(name, Reason::NotAReceipt))?;
    let receipt = Receipt::parse(text).map_err(|_| Fault::new(name, Reason::NotAReceipt))?;
    let failed = |error| match error {
        ProofError::Checkpoint(error) => Fault::new(name, Reason::Checkpoint).because(error),
        error => Fault::new(name, Reason::NotIncluded).at(receipt.index).because(error),
    };
    let leaf = leaf_hash(&entry);
    match policy {
        None => {
            let checkpoint = receipt.verify(leaf, key).map_err(failed)?;
            Ok((receipt.index, checkpoint.size, None))
        }
        Some(policy) => match receipt.verify_under(leaf, key, policy) {
            Ok(cosigned) => {
                let size = cosigned.checkpoint.size;
                Ok((receipt.index, size, Some(quorum(&Ok(cosigned), name))))
            }
            Err(ReceiptError::Proof(error)) => Err(failed(error)),
            Err(ReceiptError::Policy(refused)) => Err(refusal(&refused, name)),
        },
    }
}
