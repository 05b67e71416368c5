//! Where the tiles and bundles of a log come from.

use bartizan_base::Digest;

use crate::tile::Tile;

/// Reads the tiles and bundles of one log, wherever they lie.
///
/// Contract: the bytes of exactly that file, whole, or `None` when it is not there. Nothing else is trusted: what is
/// read is checked against a root by whoever asks, or says so.
pub trait TileSource {
    /// Why a file could not be read.
    type Error;

    /// The bytes of `tile`.
    ///
    /// # Errors
    /// When the file may be there but could not be read.
    fn read(&self, tile: Tile) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// Why a tile or bundle could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// The source failed.
    #[error("`{path}` could not be read", path = .0.path())]
    Source(Tile, #[source] E),
    /// Neither it is there nor the full one that may stand in its place.
    #[error("`{path}` is missing", path = .0.path())]
    Missing(Tile),
    /// It has the wrong length or form.
    #[error("`{path}` is malformed", path = .0.path())]
    Malformed(Tile),
}

/// The bytes of `tile`, or of the full one in its place.
pub(crate) fn read_or_full<S: TileSource>(source: &S, tile: Tile) -> Result<Vec<u8>, ReadError<S::Error>> {
    for candidate in [Some(tile), Some(tile.full()).filter(|full| *full != tile)].into_iter().flatten() {
        if let Some(bytes) = source.read(candidate).map_err(|error| ReadError::Source(candidate, error))? {
            return Ok(bytes);
        }
    }
    Err(ReadError::Missing(tile))
}

/// The hashes of `tile`.
pub(crate) fn read_hashes<S: TileSource>(source: &S, tile: Tile) -> Result<Vec<Digest>, ReadError<S::Error>> {
    tile.hashes(&read_or_full(source, tile)?).ok_or(ReadError::Malformed(tile))
}
