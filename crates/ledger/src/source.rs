//! Where the files of a log come from.

use bartizan_base::Digest;

use crate::{Resource, Tile};

/// Reads the files of one log, wherever they lie.
///
/// Contract: the bytes of exactly that file, whole, or `None` when it is not there. Nothing else is trusted: what
/// is read is checked against a root by whoever asks, or says so.
pub trait Source {
    /// Why a file could not be read.
    type Error;

    /// The bytes of `resource`.
    ///
    /// # Errors
    /// When the file may be there but could not be read.
    fn read(&self, resource: Resource) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// Why a file of a log could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// The source failed.
    #[error("`{0}` could not be read")]
    Source(Resource, #[source] E),
    /// Neither the file is there nor the full one that may stand in its place.
    #[error("`{0}` is missing")]
    Missing(Resource),
    /// The file has the wrong length or form.
    #[error("`{0}` is malformed")]
    Malformed(Resource),
}

/// The bytes of `resource`, or of the full file in its place.
pub(crate) fn read_or_full<S: Source>(
    source: &S,
    resource: Resource,
) -> Result<Vec<u8>, ReadError<S::Error>> {
    for candidate in std::iter::once(resource).chain(resource.full()) {
        if let Some(bytes) = source.read(candidate).map_err(|error| ReadError::Source(candidate, error))? {
            return Ok(bytes);
        }
    }
    Err(ReadError::Missing(resource))
}

/// The hashes of `tile`.
pub(crate) fn read_hashes<S: Source>(source: &S, tile: Tile) -> Result<Vec<Digest>, ReadError<S::Error>> {
    let resource = Resource::Tile(tile);
    tile.hashes(&read_or_full(source, resource)?).ok_or(ReadError::Malformed(resource))
}
