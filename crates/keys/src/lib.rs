//! Keys in files: the ledger's signing key, envelope encryption, recovery keys, TLS.

mod folder;
mod recovery;
mod sealer;

pub use folder::{KeyError, KeyFolder};
pub use recovery::{RecoveryError, RecoveryKey, verify_quorum};
pub use sealer::{SealError, Sealer};
