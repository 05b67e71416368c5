//! A receipt: one entry, one proof, one checkpoint.

use std::path::Path;

use bartizan_base::{Digest, Timestamp};
use bartizan_ledger::{
    ENTRY_MAX, NOTE_MAX, Policy, ProofError, Receipt, ReceiptError, VerifierKey, Witnessed, WitnessedError,
    WitnessedReceipt, leaf_hash,
};

use crate::directory::{quorum, refusal};
use crate::file;
use crate::report::{Check, Fault, Reason, Report};

/// Verifies that the entry in the file `entry` is in the log of `key`, by the `.tlog-proof` in the file `receipt`.
#[must_use]
pub fn verify_receipt(receipt: &Path, entry: &Path, key: &VerifierKey) -> Report {
    verify_receipt_under(receipt, entry, key, None)
}

/// As [`verify_receipt`], and that its checkpoint is cosigned as `policy` demands. A witnessed receipt, which holds two
/// proofs, is taken as well and needs the policy: then it is the house's log of logs that must be cosigned.
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
        Ok(Proven { index, size, more }) => {
            report.size = size;
            let what = format!("entry {index} of {size} in {}", key.name());
            report.add(Check::new("receipt", what, None.into()));
            more.into_iter().for_each(|check| report.add(check));
        }
        Err(fault) => report.add(Check::new("receipt", "", Some(fault).into())),
    }
    report
}

/// What a receipt proves: its entry's place, and further checks that hold.
struct Proven {
    index: u64,
    size: u64,
    more: Vec<Check>,
}

fn check(
    receipt: &Path,
    entry: &Path,
    key: &VerifierKey,
    policy: Option<&Policy>,
    name: &str,
) -> Result<Proven, Fault> {
    // The notes within, and as much again for hashes, an application's extra data and what was told.
    let bytes = file::read_given(receipt, 4 * NOTE_MAX as u64)?;
    let entry = file::read_given(entry, ENTRY_MAX as u64)?;
    let text = str::from_utf8(&bytes).map_err(|_| Fault::new(name, Reason::NotAReceipt))?;
    let leaf = leaf_hash(&entry);
    if WitnessedReceipt::is_meant(text) {
        return check_witnessed(text, leaf, key, policy, name);
    }
    let receipt = Receipt::parse(text).map_err(|_| Fault::new(name, Reason::NotAReceipt))?;
    let index = receipt.index;
    match policy {
        None => {
            let checkpoint = receipt.verify(leaf, key).map_err(|error| not_proven(error, name, index))?;
            Ok(Proven { index, size: checkpoint.size, more: Vec::new() })
        }
        Some(policy) => match receipt.verify_under(leaf, key, policy) {
            Ok(cosigned) => {
                let size = cosigned.checkpoint.size;
                Ok(Proven { index, size, more: vec![quorum(&Ok(cosigned), name)] })
            }
            Err(ReceiptError::Proof(error)) => Err(not_proven(error, name, index)),
            Err(ReceiptError::Policy(refused)) => Err(refusal(&refused, name)),
        },
    }
}

fn check_witnessed(
    text: &str,
    leaf: Digest,
    key: &VerifierKey,
    policy: Option<&Policy>,
    name: &str,
) -> Result<Proven, Fault> {
    let policy = policy.ok_or_else(|| Fault::new(name, Reason::NoPolicy))?;
    let fault = |error: WitnessedError, receipt: Option<&WitnessedReceipt>| match error {
        WitnessedError::Shape => Fault::new(name, Reason::NotAReceipt),
        WitnessedError::Entry(error) => not_proven(error, name, receipt.map_or(0, |r| r.receipt.index)),
        WitnessedError::Told(ReceiptError::Policy(refused)) => refusal(&refused, name),
        WitnessedError::Nobody => Fault::new(name, Reason::Quorum).because(&WitnessedError::Nobody),
        other => Fault::new(name, Reason::NotTogether).because(other),
    };
    let receipt = WitnessedReceipt::parse(text).map_err(|error| fault(error, None))?;
    let proven = receipt.verify(leaf, key, policy).map_err(|error| fault(error, Some(&receipt)))?;
    let Witnessed { checkpoint, cosigned } = proven;
    let log_of_logs = &cosigned.checkpoint;
    let told = format!("entry {} of {} in {}", receipt.witnessed.index, log_of_logs.size, log_of_logs.origin);
    let who = cosigned.cosignatures.iter();
    let who: Vec<_> = who.map(|c| format!("{} at {}", c.name(), Timestamp::from_secs(c.time_s()))).collect();
    let witnesses = if who.len() == 1 { "witness" } else { "witnesses" };
    let answer =
        format!("the entry was in the log that {} {witnesses} cosigned: {}", who.len(), who.join(", "));
    let more = vec![Check::new("told", told, None.into()), Check::new("witnessed", answer, None.into())];
    Ok(Proven { index: receipt.receipt.index, size: checkpoint.size, more })
}

fn not_proven(error: ProofError, name: &str, index: u64) -> Fault {
    match error {
        ProofError::Checkpoint(error) => Fault::new(name, Reason::Checkpoint).because(error),
        error => Fault::new(name, Reason::NotIncluded).at(index).because(error),
    }
}
