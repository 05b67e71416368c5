//! The keys a node lives by: a folder of its own for them, envelope encryption of credentials, the offline recovery
//! keys, the claim of the first administrator, and the certificate it shows.
//!
//! Small on purpose: this crate is meant to be read whole by whoever audits the product.

mod claim;
mod clients;
mod folder;
mod mutual;
mod policy;
mod printed;
mod pseudonym;
mod recovery;
mod seal;
mod tls;

pub use claim::ClaimToken;
pub use clients::Shown;
pub use folder::{KeyFolder, KeyFolderError};
pub use mutual::{MutualFiles, MutualTls};
pub use policy::{
    AuthorKey, AuthorPublic, AuthorSignature, Authored, Base, Candidate, PolicySignatureError, PolicySigner,
    PolicyVerifier, Stage, Statement,
};
pub use printed::PrintedError;
pub use pseudonym::Pseudonyms;
pub use recovery::{RecoveryKey, RecoverySet};
pub use seal::{SealError, Sealer};
pub use tls::{ServerTls, TlsError};
