//! Records rendered for the outside: pure functions from an entry of the ledger and its place to the formats that others
//! read. Nothing is added about anybody that the record does not hold, and nothing is lost: every format but CEF, whose fields
//! are too short, carries the entry word for word, so that a receiver can hash it and look for it in the tree.
//!
//! | format | follows |
//! |---|---|
//! | JSON lines | canonical JSON (RFC 8785) in the envelope of [`json_lines`] |
//! | OCSF | Open Cybersecurity Schema Framework 1.8.0, one event a line |
//! | CEF | ArcSight Common Event Format, version 0, one event a line |
//! | OTLP | `ExportLogsServiceRequest` in the JSON encoding of OTLP 1, one request a line |
//! | Parquet | one flat table, see [`parquet::COLUMNS`] |

pub mod catalogue;
pub mod cef;
mod exporter;
mod facts;
mod format;
pub mod json_lines;
mod kind;
pub mod ocsf;
pub mod otlp;
pub mod parquet;
mod placed;
mod severity;

pub use exporter::{ExportError, Exporter};
pub use format::{Format, UnknownFormat};
pub use kind::Kind;
pub use placed::{Placed, Said};
pub use severity::Severity;
