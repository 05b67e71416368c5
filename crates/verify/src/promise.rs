//! A promise: what the house has signed when it acknowledged a record, held against what its log holds.

use std::path::Path;

use bartizan_base::Digest;
use bartizan_ledger::{Promise, Tile, TileSource as _, VerifierKey};

use crate::directory::{Demand, verify_log};
use crate::report::{Check, Fault, Faults, Reason, Report};
use crate::source::FolderSource;

/// Verifies the header `bartizan-receipt`, that is `origin;node;number;leaf hash;promise`: that the holder of `key` has
/// promised the record. With a log folder, which is verified as a whole, also that the log holds it: where it does not, the
/// header is the proof that the promise was broken.
#[must_use]
pub fn verify_promise(header: &str, key: &VerifierKey, folder: Option<&Path>) -> Report {
    let name = "bartizan-receipt";
    let mut report = match folder {
        Some(folder) => verify_log(folder, &Demand { key, old: None, policy: None, growing: true }),
        None => Report { origin: key.name().to_owned(), ..Report::default() },
    };
    let leaf = match promised(header.trim(), key) {
        Ok(leaf) => leaf,
        Err(reason) => {
            report.add(Check::new("promise", "", Some(Fault::new(name, reason)).into()));
            return report;
        }
    };
    report.add(Check::new("promise", format!("signed by {}", key.name()), Faults::default()));
    let Some(folder) = folder else { return report };
    let kept = match find(folder, report.size, leaf) {
        Ok(Some(index)) => Check::new("kept", format!("it is entry {index}"), Faults::default()),
        Ok(None) => Check::new("kept", "", Some(Fault::new(name, Reason::PromiseBroken)).into()),
        Err(fault) => Check::new("kept", "", Some(fault).into()),
    };
    report.add(kept);
    report
}

/// The leaf hash that was promised.
fn promised(header: &str, key: &VerifierKey) -> Result<Digest, Reason> {
    let mut parts = header.splitn(5, ';');
    let mut next = || parts.next().ok_or(Reason::NotAPromise);
    let (origin, _node, _number, leaf, promise) = (next()?, next()?, next()?, next()?, next()?);
    // A log's name ends in the tenant and the period; what comes before is the house's own.
    let family = origin.rsplitn(3, '/').nth(2).ok_or(Reason::NotAPromise)?;
    let leaf: Digest = leaf.parse().map_err(|_| Reason::NotAPromise)?;
    let promise: Promise = promise.parse().map_err(|_| Reason::NotAPromise)?;
    if origin != key.name() {
        return Err(Reason::UnknownLog);
    }
    promise.verify(leaf, family, key).map_err(|_| Reason::PromiseUnsigned)?;
    Ok(leaf)
}

/// The place of `leaf` among the first `size` entries.
fn find(folder: &Path, size: u64, leaf: Digest) -> Result<Option<u64>, Fault> {
    let source = FolderSource { folder, size };
    let mut start = 0;
    while let Some(tile) = Tile::at(Some(0), start / 256, size).filter(|_| start < size) {
        let bytes = source.read(tile)?.ok_or_else(|| Fault::new(tile.path(), Reason::Missing))?;
        let place = bytes.chunks_exact(32).position(|hash| hash == leaf.as_bytes());
        if let Some(place) = place {
            return Ok(Some(start + place as u64));
        }
        start += 256;
    }
    Ok(None)
}
