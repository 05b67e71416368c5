//! What the tests share.

use bartizan_export::{Exporter, Format, Placed};

/// The whole export of some records.
pub(crate) fn export(format: Format, placed: &[Placed]) -> Vec<u8> {
    let mut exporter = Exporter::new(format, Vec::new()).unwrap();
    placed.iter().for_each(|p| exporter.write(p).unwrap());
    exporter.finish().unwrap()
}
