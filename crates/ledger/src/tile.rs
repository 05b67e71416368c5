//! Tiles and entry bundles after C2SP tlog-tiles.

use std::str::FromStr;

use bartizan_base::Digest;

/// Hashes in a full tile, and entries in a full bundle.
pub const ENTRIES_PER_BUNDLE: u64 = 256;

/// The longest entry that a bundle can hold, in bytes.
pub const ENTRY_MAX: usize = u16::MAX as usize;

const FULL: u16 = 256;

/// Levels above this one would need more than 2^64 entries.
const LEVEL_MAX: u8 = 7;

/// A resource of the log: a tile of hashes at a level, or a bundle of entries.
///
/// Hash `i` of level 0 is the leaf hash of entry `i`; hash `i` of the level above is the root over the full tile `i`
/// below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// The level of a tile of hashes; none for a bundle of entries.
    pub level: Option<u8>,
    /// Which of its level.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to 256.
    pub width: u16,
}

/// The text is not the path of a tile or bundle, or not its only spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile: `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`")]
pub struct PathError;

impl Tile {
    /// The tile or bundle `index` as a log of `size` entries has it; nothing if it has none.
    #[must_use]
    pub fn at(level: Option<u8>, index: u64, size: u64) -> Option<Self> {
        let start = index.checked_mul(ENTRIES_PER_BUNDLE)?;
        let inside = count_at(level, size).checked_sub(start).filter(|n| *n > 0)?.min(ENTRIES_PER_BUNDLE);
        Some(Self { level, index, width: u16::try_from(inside).ok()? })
    }

    /// Whether it is full and never changes again.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.width == FULL
    }

    /// The full one that replaces it once the log has grown.
    #[must_use]
    pub const fn full(self) -> Self {
        Self { width: FULL, ..self }
    }

    /// The path below the log's prefix.
    #[must_use]
    pub fn path(&self) -> String {
        let mut groups = vec![format!("{:03}", self.index % 1_000)];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1_000));
            rest /= 1_000;
        }
        groups.reverse();
        let level = self.level.map_or_else(|| "entries".to_owned(), |l| l.to_string());
        let partial = if self.is_full() { String::new() } else { format!(".p/{}", self.width) };
        format!("tile/{level}/{}{partial}", groups.join("/"))
    }

    /// Reads the hashes of a tile from the bytes of its file, or of that of the full tile in its place. Nothing if
    /// there are not exactly as many as that.
    #[must_use]
    pub fn hashes(&self, bytes: &[u8]) -> Option<Vec<Digest>> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if ![self.width, FULL].map(usize::from).contains(&hashes.len()) || !rest.is_empty() {
            return None;
        }
        Some(hashes.iter().take(self.width.into()).map(|hash| Digest::from_bytes(*hash)).collect())
    }
}

impl FromStr for Tile {
    type Err = PathError;

    /// Reads a path without leading slash. Each file has exactly one spelling; every other is refused.
    fn from_str(path: &str) -> Result<Self, PathError> {
        let parse = || {
            let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
            let level = match level {
                "entries" => None,
                level => Some(level.parse().ok().filter(|level| *level <= LEVEL_MAX)?),
            };
            let (groups, width) = match rest.split_once(".p/") {
                None => (rest, FULL),
                Some((groups, width)) => (groups, width.parse().ok().filter(|w| (1..FULL).contains(w))?),
            };
            let index = groups.split('/').try_fold(0_u64, |index, group| {
                index.checked_mul(1_000)?.checked_add(group.trim_start_matches('x').parse().ok()?)
            })?;
            Some(Self { level, index, width })
        };
        // Leading zeros, signs, superfluous groups: whatever is not our own spelling.
        parse().filter(|tile| tile.path() == path).ok_or(PathError)
    }
}

/// Every resource that a log of `size` entries serves in its last state: full tiles and the last partial one of each
/// level, then the bundles.
#[must_use]
pub fn tiles_for(size: u64) -> Vec<Tile> {
    tiles_added(0, size).collect()
}

/// The resources that a log of `new` entries has and one of `old` entries has not: what must be written when it grows.
/// In the order of [`tiles_for`].
pub fn tiles_added(old: u64, new: u64) -> impl Iterator<Item = Tile> {
    (0..=LEVEL_MAX).map(Some).chain([None]).flat_map(move |level| {
        let (before, after) = (count_at(level, old), count_at(level, new));
        let first = before / ENTRIES_PER_BUNDLE;
        let end = if after > before { after.div_ceil(ENTRIES_PER_BUNDLE) } else { first };
        (first..end).filter_map(move |index| Tile::at(level, index, new))
    })
}

/// How many hashes a level has, or how many entries there are, in a log of `size` entries.
pub(crate) fn count_at(level: Option<u8>, size: u64) -> u64 {
    size.checked_shr(8 * u32::from(level.unwrap_or(0))).unwrap_or(0)
}

/// Encodes entries as a bundle: each with its length as two bytes, big-endian. Nothing if one is longer than
/// [`ENTRY_MAX`].
#[must_use]
pub fn encode_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Some(out)
}

/// The entries of a bundle; none when it is cut, has bytes left over or holds more than a full one.
#[must_use]
pub fn bundle_entries(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut out = Vec::new();
    while !bundle.is_empty() {
        let (length, rest) = bundle.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        if out.len() == usize::from(FULL) {
            return None;
        }
        out.push(entry);
        bundle = rest;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_vector_of_70_000_entries() {
        let tiles = tiles_for(70_000);
        let count = |level| tiles.iter().filter(|t| t.level == Some(level)).count();
        assert_eq!([count(0), count(1), count(2), count(3)], [274, 2, 1, 0]);
        let last = |level| tiles.iter().rfind(|t| t.level == Some(level)).unwrap().width;
        assert_eq!([last(0), last(1), last(2)], [112, 17, 1]);
    }

    #[test]
    fn paths_follow_the_specification() {
        let path = |index, width| Tile { level: Some(2), index, width }.path();
        assert_eq!(path(1_234_067, 256), "tile/2/x001/x234/067");
        assert_eq!(path(5, 112), "tile/2/005.p/112");
        assert_eq!(Tile { level: None, index: 1_000, width: 256 }.path(), "tile/entries/x001/000");
    }

    #[test]
    fn bundles_round_trip_and_cut_ones_are_refused() {
        let bundle = encode_bundle([&b"one"[..], b"", b"three"]).unwrap();
        assert_eq!(bundle_entries(&bundle).unwrap(), [&b"one"[..], b"", b"three"]);
        assert!(bundle_entries(&bundle[..bundle.len() - 1]).is_none());
        assert!(encode_bundle([&vec![0; 65_536][..]]).is_none());
    }
}
