//! A copy of the ledger's tiles that anybody can be given to read: tiles are created and never changed, the checkpoint moves by
//! comparing and setting.

use bytes::Bytes;
use object_store::{Error, ObjectStoreExt as _, PutMode, UpdateVersion};

use crate::batch::Cause;

use super::{Bucket, Created, S3Error, Written};

/// A mirror of one log in a bucket.
#[derive(Clone, Debug)]
pub struct Mirror(Bucket);

/// What became of an object that was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was created.
    Created,
    /// The same bytes were there already.
    AlreadyThere,
}

/// Which state of an object was read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(UpdateVersion);

/// Why the mirror was not changed.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Another object is there: the mirror and the log are not of one history. Never overwritten.
    #[error("the mirror holds something else at `{path}`")]
    Diverged {
        /// Where.
        path: String,
    },
    /// Somebody else moved it since it was read.
    #[error("`{path}` was moved by somebody else")]
    Moved {
        /// Which.
        path: String,
    },
    /// The store did not do it; trying again is safe.
    #[error("the mirror's store did not do it: {0}")]
    Store(Cause),
}

impl Mirror {
    /// The mirror in `bucket`, below its prefix.
    ///
    /// # Errors
    /// As for [`Bucket::check`].
    pub async fn open(bucket: Bucket) -> Result<Self, S3Error> {
        bucket.check().await?;
        Ok(Self(bucket))
    }

    /// Creates the object `path`, such as `tile/0/x001/234`.
    ///
    /// # Errors
    /// [`MirrorError::Diverged`] if other bytes are there, [`MirrorError::Store`].
    pub async fn put_new(&self, path: &str, bytes: Bytes) -> Result<Put, MirrorError> {
        match self.0.create(&self.0.path(path), &bytes).await {
            Ok(Created::Now) => Ok(Put::Created),
            Ok(Created::Before) => Ok(Put::AlreadyThere),
            Ok(Created::Other) => Err(MirrorError::Diverged { path: path.to_owned() }),
            Err(error) => Err(store(&error)),
        }
    }

    /// The object `path` with its version; none if there is none.
    ///
    /// # Errors
    /// [`MirrorError::Store`].
    pub async fn read(&self, path: &str) -> Result<Option<(Bytes, Version)>, MirrorError> {
        let found = match self.0.store.get(&self.0.path(path)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(store(&error)),
        };
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(|e| store(&e))?;
        Ok(Some((bytes, Version(version))))
    }

    /// Moves the object `path`, such as `checkpoint`, from the version `from` to `bytes`; from none, it is created. If it holds these
    /// bytes already, as after an answer that got lost, that is well.
    ///
    /// # Errors
    /// [`MirrorError::Moved`], [`MirrorError::Store`].
    pub async fn advance(
        &self,
        path: &str,
        bytes: Bytes,
        from: Option<Version>,
    ) -> Result<Version, MirrorError> {
        let mode = from.map_or(PutMode::Create, |Version(version)| PutMode::Update(version));
        match self.0.write(&self.0.path(path), bytes.clone(), mode).await {
            Ok(Written::Now(version)) => Ok(Version(version)),
            Ok(Written::Not) => match self.read(path).await? {
                Some((there, version)) if there == bytes => Ok(version),
                Some(_) | None => Err(MirrorError::Moved { path: path.to_owned() }),
            },
            Err(error) => Err(store(&error)),
        }
    }
}

fn store(error: &Error) -> MirrorError {
    MirrorError::Store(Cause::chain(error))
}
