//! Tiles and entry bundles of tlog-tiles: what there is at which size, and its path.

use std::fmt;
use std::str::FromStr;

use bartizan_base::Digest;

/// How many hashes a full tile holds, and how many entries a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// The size of a hash in a tile, in bytes.
pub(crate) const HASH_LEN: usize = 32;

/// Levels above this one would need more than 2^64 leaves.
const LEVEL_MAX: u8 = 7;

/// A tile of hashes: 256 of them (or fewer, at the right edge) of one level of the tree.
///
/// Hash `i` of level 0 is the leaf hash of entry `i`; hash `i` of level `l` is the root over full tile `i` of level
/// `l - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

/// A bundle of entries: 256 of them, or fewer at the right edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bundle {
    index: u64,
    width: u16,
}

/// A file of a log, named by its path under the log's prefix, as it is served and as it lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `checkpoint`
    Checkpoint,
    /// `tile/<L>/<N>[.p/<W>]`
    Tile(Tile),
    /// `tile/entries/<N>[.p/<W>]`
    Entries(Bundle),
}

/// The text is not the path of a file of a log, or not its only spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a path of a log: `checkpoint`, `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`")]
pub struct PathError;

// === impl Tile ===

impl Tile {
    /// The tile `index` of `level` as it is in a tree of `size` leaves; nothing if that tree has none.
    #[must_use]
    pub fn at(level: u8, index: u64, size: u64) -> Option<Self> {
        let hashes = hashes_at(level, size)?;
        Some(Self { level, index, width: width_at(index, hashes)? })
    }

    /// The level, 0 to 7; 0 holds leaf hashes.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.level
    }

    /// The place in the level, from the left.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// How many hashes it holds, 1 to 256.
    #[must_use]
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it holds all its 256 hashes and never changes again.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }

    /// Every tile of a tree of `size` leaves, level by level; the last of a level may be partial.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        Self::added(0, size)
    }

    /// The tiles that a tree of `new` leaves has and one of `old` leaves has not, level by level: what must be
    /// written when a log grows.
    pub fn added(old: u64, new: u64) -> impl Iterator<Item = Self> {
        (0..=LEVEL_MAX).flat_map(move |level| {
            let (before, after) = (hashes_at(level, old).unwrap_or(0), hashes_at(level, new).unwrap_or(0));
            added_blocks(before, after).map(move |(index, width)| Self { level, index, width })
        })
    }

    /// Reads the hashes of this tile from the bytes of its file, or of that of the full tile in its place. Nothing
    /// if there are not as many as that.
    #[must_use]
    pub fn hashes(self, bytes: &[u8]) -> Option<Vec<Digest>> {
        let (hashes, rest) = bytes.as_chunks::<HASH_LEN>();
        let fits = hashes.len() == usize::from(self.width) || hashes.len() == usize::from(TILE_WIDTH);
        if !fits || !rest.is_empty() {
            return None;
        }
        Some(hashes.iter().take(usize::from(self.width)).map(|hash| Digest::from_bytes(*hash)).collect())
    }
}

// === impl Bundle ===

impl Bundle {
    /// The bundle `index` as it is in a log of `size` entries; nothing if that log has none.
    #[must_use]
    pub fn at(index: u64, size: u64) -> Option<Self> {
        Some(Self { index, width: width_at(index, size)? })
    }

    /// The place, from the left: the bundle holds the entries from `256 * index` on.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// How many entries it holds, 1 to 256.
    #[must_use]
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it holds all its 256 entries and never changes again.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }

    /// Every bundle of a log of `size` entries; the last may be partial.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        Self::added(0, size)
    }

    /// The bundles that a log of `new` entries has and one of `old` entries has not.
    pub fn added(old: u64, new: u64) -> impl Iterator<Item = Self> {
        added_blocks(old, new).map(|(index, width)| Self { index, width })
    }

    /// The tile of level 0 that holds the leaf hashes of these entries.
    #[must_use]
    pub const fn leaves(self) -> Tile {
        Tile { level: 0, index: self.index, width: self.width }
    }
}

// === impl Resource ===

impl Resource {
    /// The full file that may stand in this one's place once the log has grown; nothing for those that are whole.
    #[must_use]
    pub const fn full(self) -> Option<Self> {
        match self {
            Self::Tile(tile) if !tile.is_full() => Some(Self::Tile(Tile { width: TILE_WIDTH, ..tile })),
            Self::Entries(bundle) if !bundle.is_full() => {
                Some(Self::Entries(Bundle { width: TILE_WIDTH, ..bundle }))
            }
            Self::Checkpoint | Self::Tile(_) | Self::Entries(_) => None,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Tile(tile) => {
                write!(f, "tile/{}/", tile.level)?;
                write_block(f, tile.index, tile.width)
            }
            Self::Entries(bundle) => {
                f.write_str("tile/entries/")?;
                write_block(f, bundle.index, bundle.width)
            }
        }
    }
}

impl FromStr for Resource {
    type Err = PathError;

    /// Reads a path without leading slash. Each file has exactly one spelling; every other is refused.
    fn from_str(path: &str) -> Result<Self, PathError> {
        let resource = match path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')) {
            None if path == "checkpoint" => Self::Checkpoint,
            None => return Err(PathError),
            Some(("entries", block)) => {
                let (index, width) = parse_block(block)?;
                Self::Entries(Bundle { index, width })
            }
            Some((level, block)) => {
                let level = level.parse().ok().filter(|level| *level <= LEVEL_MAX).ok_or(PathError)?;
                let (index, width) = parse_block(block)?;
                Self::Tile(Tile { level, index, width })
            }
        };
        // Leading zeros, plus signs, superfluous groups: whatever is not our own spelling.
        if resource.to_string() == path { Ok(resource) } else { Err(PathError) }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Resource::Tile(*self).fmt(f)
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Resource::Entries(*self).fmt(f)
    }
}

// === arithmetic ===

/// How many hashes level `level` has in a tree of `size` leaves; nothing for levels no tree has.
pub(crate) const fn hashes_at(level: u8, size: u64) -> Option<u64> {
    if level > LEVEL_MAX { None } else { Some(size >> (8 * level)) }
}

/// How many of `count` items lie in block `index`; nothing if none.
fn width_at(index: u64, count: u64) -> Option<u16> {
    let start = index.checked_mul(u64::from(TILE_WIDTH))?;
    let inside = count.checked_sub(start).filter(|n| *n > 0)?.min(u64::from(TILE_WIDTH));
    u16::try_from(inside).ok()
}

/// The blocks, by index and width, that are there with `after` items and were not with `before`.
fn added_blocks(before: u64, after: u64) -> impl Iterator<Item = (u64, u16)> {
    let block = u64::from(TILE_WIDTH);
    let blocks = if after > before { before / block..after.div_ceil(block) } else { 0..0 };
    blocks.filter_map(move |index| Some((index, width_at(index, after)?)))
}

fn write_block(f: &mut fmt::Formatter<'_>, index: u64, width: u16) -> fmt::Result {
    write_index(f, index / 1000)?;
    write!(f, "{:03}", index % 1000)?;
    if width < TILE_WIDTH { write!(f, ".p/{width}") } else { Ok(()) }
}

fn write_index(f: &mut fmt::Formatter<'_>, rest: u64) -> fmt::Result {
    if rest == 0 {
        return Ok(());
    }
    write_index(f, rest / 1000)?;
    write!(f, "x{:03}/", rest % 1000)
}

fn parse_block(text: &str) -> Result<(u64, u16), PathError> {
    let (groups, width) = match text.split_once(".p/") {
        None => (text, TILE_WIDTH),
        Some((groups, width)) => {
            let width = width.parse().ok().filter(|w| (1..TILE_WIDTH).contains(w)).ok_or(PathError)?;
            (groups, width)
        }
    };
    let index = groups.split('/').try_fold(0_u64, |index, group| {
        let digits: u64 = group.trim_start_matches('x').parse().ok()?;
        index.checked_mul(1000)?.checked_add(digits)
    });
    Ok((index.ok_or(PathError)?, width))
}
