//! Why the vault did not do it.

use std::io;
use std::path::{Path, PathBuf};

use bartizan_base::Name;
use bartizan_keys::SealError;
use bartizan_model::ReasonCode;
use rusqlite::ErrorCode;

/// Why the vault did not do it. No message holds a value, a key, or who is concerned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The disk or the database cannot do it now; nothing was acknowledged.
    #[error("the vault cannot be used now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file of the vault cannot be used.
    #[error("`{}` cannot be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the machine said.
        #[source]
        source: io::Error,
    },
    /// The database is damaged, of another program, or of a newer version.
    #[error("the vault's database is not as it should be: {0}")]
    Database(String),
    /// It does not open: changed, cut, or moved from another tenant, subject, decision or field.
    #[error("{0} in the vault does not open: it was changed, cut or moved")]
    Broken(&'static str),
    /// Sealed under a key-encryption key that is not this one.
    #[error("the vault is sealed under another key-encryption key")]
    OtherKey,
    /// There is no such payload at this place: never put, erased, or expired.
    #[error("there is no such payload")]
    Absent,
    /// A value of this name was already put for the decision; commitments stand in a leaf and do not change.
    #[error("the decision has a value of that name already")]
    Taken,
    /// Longer than the vault takes.
    #[error("the value is longer than {max} bytes")]
    TooLarge {
        /// The most it takes, in bytes.
        max: u64,
    },
    /// A legal hold keeps the data.
    #[error("the legal hold `{hold}` keeps the data")]
    Held {
        /// The hold's name; the first by name where there are several.
        hold: Name,
    },
    /// The subject was erased while the payload was written or read; nothing was kept.
    #[error("the subject was erased meanwhile")]
    Erased,
    /// The reader of a payload to be kept, or the writer of one to be shown, failed.
    #[error("the payload's other end failed")]
    OtherEnd(#[source] io::Error),
    /// The cryptographic library refused.
    #[error("the value could not be sealed")]
    Refused,
}

impl VaultError {
    /// The reason code it is told by.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::Absent => ReasonCode::NotFound,
            Self::TooLarge { .. } => ReasonCode::ObligationFailed,
            Self::Held { .. } => ReasonCode::LegalHold,
            Self::Unavailable(_)
            | Self::File { .. }
            | Self::Database(_)
            | Self::Broken(_)
            | Self::OtherKey
            | Self::Taken
            | Self::Erased
            | Self::OtherEnd(_)
            | Self::Refused => ReasonCode::VaultUnavailable,
        }
    }
}

/// Sorts an error of the database: it cannot now, it is damaged, or a value is there already.
pub(crate) fn sort(error: rusqlite::Error) -> VaultError {
    match error.sqlite_error_code() {
        // `Unknown` is SQLite's generic error: a table or column that should be there is not.
        Some(
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::TypeMismatch
            | ErrorCode::ConstraintViolation
            | ErrorCode::Unknown,
        )
        | None => VaultError::Database(error.to_string()),
        Some(_) => VaultError::Unavailable(Box::new(error)),
    }
}

/// As [`sort`], where the one constraint that the statement can break is that the value is new.
pub(crate) fn sort_insert(error: rusqlite::Error) -> VaultError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => VaultError::Taken,
        _ => sort(error),
    }
}

/// What the sealer of data keys said.
pub(crate) fn sort_seal(error: SealError) -> VaultError {
    match error {
        SealError::OtherKey => VaultError::OtherKey,
        SealError::Format | SealError::Broken => VaultError::Broken("a data key"),
        SealError::Refused => VaultError::Refused,
    }
}

pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> VaultError {
    let path = path.to_owned();
    move |source| VaultError::File { path, source }
}
