//! Tiles and entry bundles after C2SP tlog-tiles.

/// Hashes in a full tile, and entries in a full bundle.
pub const ENTRIES_PER_BUNDLE: u64 = 256;

/// A resource of the log: a tile of hashes at a level, or a bundle of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// The level of a tile of hashes; none for a bundle of entries.
    pub level: Option<u8>,
    /// Which of its level.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to 256.
    pub width: u16,
}

impl Tile {
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
        let partial = if u64::from(self.width) == ENTRIES_PER_BUNDLE {
            String::new()
        } else {
            format!(".p/{}", self.width)
        };
        format!("tile/{level}/{}{partial}", groups.join("/"))
    }
}

/// Every resource that a log of `size` entries serves in its last state: full tiles and the last partial one of each
/// level, then the bundles.
#[must_use]
pub fn tiles_for(size: u64) -> Vec<Tile> {
    let mut out = Vec::new();
    let mut at_level = size;
    let mut level = 0_u8;
    while at_level > 0 {
        out.extend(row(Some(level), at_level));
        at_level /= ENTRIES_PER_BUNDLE;
        level += 1;
    }
    out.extend(row(None, size));
    out
}

fn row(level: Option<u8>, count: u64) -> impl Iterator<Item = Tile> {
    let full = (0..count / ENTRIES_PER_BUNDLE).map(move |index| Tile { level, index, width: 256 });
    let rest = u16::try_from(count % ENTRIES_PER_BUNDLE).unwrap_or(0);
    let last = (rest > 0).then_some(Tile { level, index: count / ENTRIES_PER_BUNDLE, width: rest });
    full.chain(last)
}

/// Encodes entries as a bundle: each with its length as two bytes, big-endian.
///
/// Entries of more than 65,535 bytes cannot be written; the record schema keeps far below that.
#[must_use]
pub fn encode_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Some(out)
}

/// The entries of a bundle; none when it is cut or has bytes left over.
#[must_use]
pub fn bundle_entries(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut out = Vec::new();
    while !bundle.is_empty() {
        let (length, rest) = bundle.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
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
