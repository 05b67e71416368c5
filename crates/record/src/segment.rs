//! Segments of the write-ahead log: pre-allocated files of checked frames.
//!
//! Layout: a header of 64 bytes (magic, node, first sequence number, CRC-32C), then frames `length u32 | crc32c u32 |
//! sequence u64 | entry`, big-endian, then zeroes. The CRC covers sequence and entry.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bartizan_model::NodeId;

const MAGIC: &[u8; 8] = b"BTZWAL1\n";
/// Bytes of a segment's header.
pub(crate) const HEADER_LEN: usize = 64;
/// Bytes in front of an entry.
pub(crate) const FRAME_HEAD_LEN: usize = 16;

/// The disk as the write-ahead log sees it, so that tests can make it fail.
pub trait Disk: Debug + Send + Sync {
    /// Creates a file of `bytes` zeroes, durable together with its name.
    ///
    /// # Errors
    /// When there is no room or the disk fails; nothing is left behind then.
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn SegmentFile>>;
}

/// An open segment.
pub trait SegmentFile: Debug + Send {
    /// Writes at an offset.
    ///
    /// # Errors
    /// When the disk fails.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// When the disk fails. What was written since the last sync is then in an unknown state.
    fn sync(&mut self) -> io::Result<()>;
}

/// The machine's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn SegmentFile>> {
        let temporary = path.with_extension("new");
        let make = || -> io::Result<File> {
            let file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            // Real zeroes, not a hole: later syncs then change no metadata, and the room is there.
            let zeroes = vec![0_u8; 1 << 20];
            let mut at = 0;
            while at < bytes {
                let piece = zeroes
                    .get(..usize::try_from(bytes - at).unwrap_or(usize::MAX).min(zeroes.len()))
                    .unwrap_or(&zeroes);
                file.write_all_at(piece, at)?;
                at += piece.len() as u64;
            }
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            sync_folder(path)?;
            Ok(file)
        };
        make().map(|file| Box::new(RealFile(file)) as Box<dyn SegmentFile>).inspect_err(|_| {
            // Best effort: what stays is overwritten by the next attempt.
            fs::remove_file(&temporary).unwrap_or_default();
        })
    }
}

impl SegmentFile for RealFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Makes the names in the folder of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// The file of the segment that begins at `first`.
pub(crate) fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.seg"))
}

/// The segments of a folder by their first sequence number.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let first = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.strip_suffix(".seg"))
            .and_then(|n| n.parse().ok());
        if let Some(first) = first {
            out.push((first, path));
        }
    }
    out.sort();
    Ok(out)
}

pub(crate) fn header(node: NodeId, first: u64) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    let parts = MAGIC.iter().chain(node.as_bytes()).copied().chain(first.to_be_bytes());
    for (to, from) in out.iter_mut().zip(parts) {
        *to = from;
    }
    let crc = crc32c::crc32c(out.get(..32).unwrap_or_default());
    for (to, from) in out.iter_mut().skip(32).zip(crc.to_be_bytes()) {
        *to = from;
    }
    out
}

/// Appends the frame of one entry to `out`.
pub(crate) fn frame(out: &mut Vec<u8>, seq: u64, entry: &[u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&seq.to_be_bytes()), entry);
    out.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(entry);
}

/// What a segment holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The entries with their sequence numbers.
    pub(crate) entries: Vec<(u64, Vec<u8>)>,
    /// Bytes behind the last good frame that are not zero: a torn tail.
    pub(crate) torn: u64,
}

/// Why a segment cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The header is not one of ours, or of another node or place.
    Header,
    /// A bad frame has good ones behind it, or numbers do not follow each other: not a torn tail but damage.
    Middle(u64),
}

/// Reads a segment that should begin at `first`.
pub(crate) fn scan(bytes: &[u8], node: NodeId, first: u64) -> Result<Scan, Damage> {
    let (head, mut rest) = bytes.split_at_checked(HEADER_LEN).ok_or(Damage::Header)?;
    if head.iter().all(|b| *b == 0) && rest.iter().all(|b| *b == 0) {
        // Created, but the crash came before the header: nothing was ever acknowledged from it.
        return Ok(Scan::default());
    }
    if head != header(node, first) {
        return Err(Damage::Header);
    }
    let mut out = Scan::default();
    let mut next = first;
    while let Some((entry, behind)) = good_frame(rest, next) {
        out.entries.push((next, entry.to_vec()));
        next += 1;
        rest = behind;
    }
    let last = rest.iter().rposition(|b| *b != 0).map_or(0, |at| at as u64 + 1);
    if last > 0 && (1..rest.len()).any(|at| rest.get(at..).is_some_and(|tail| any_good_frame(tail, next))) {
        return Err(Damage::Middle(next));
    }
    out.torn = last;
    Ok(out)
}

fn good_frame(bytes: &[u8], seq: u64) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD_LEN>()?;
    let [a, b, c, d, e, f, g, h, number @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    if length == 0 || u64::from_be_bytes(number) != seq {
        return None;
    }
    let (entry, behind) = rest.split_at_checked(length)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&number), entry);
    (crc == u32::from_be_bytes([e, f, g, h])).then_some((entry, behind))
}

/// Whether a later frame begins exactly here. Cheap to refuse: the sequence number must be near.
fn any_good_frame(bytes: &[u8], after: u64) -> bool {
    let Some((head, _)) = bytes.split_first_chunk::<FRAME_HEAD_LEN>() else { return false };
    let [.., a, b, c, d, e, f, g, h] = *head;
    let seq = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    seq > after && seq - after < 1 << 20 && good_frame(bytes, seq).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::Timestamp;

    fn node() -> NodeId {
        NodeId::from_parts(Timestamp::from_secs(1), [1; 10])
    }

    fn segment(entries: &[&[u8]]) -> Vec<u8> {
        let mut bytes = header(node(), 5).to_vec();
        for (seq, entry) in (5..).zip(entries) {
            frame(&mut bytes, seq, entry);
        }
        bytes.resize(bytes.len() + 100, 0);
        bytes
    }

    #[test]
    fn a_whole_segment_reads_back() {
        let scan = scan(&segment(&[b"one", b"two"]), node(), 5).unwrap();
        assert_eq!(scan.entries, [(5, b"one".to_vec()), (6, b"two".to_vec())]);
        assert_eq!(scan.torn, 0);
    }

    #[test]
    fn a_torn_last_frame_is_a_tail_and_everything_before_it_stands() {
        let whole = segment(&[b"one", b"two-two-two"]);
        let start = HEADER_LEN + FRAME_HEAD_LEN + 3;
        for keep in 1..FRAME_HEAD_LEN + 10 {
            let mut torn = whole.clone();
            torn[start + keep..].fill(0);
            let scan = scan(&torn, node(), 5).unwrap();
            assert_eq!(scan.entries, [(5, b"one".to_vec())], "{keep}");
        }
    }

    #[test]
    fn a_bad_frame_before_good_ones_is_damage_not_a_tail() {
        let whole = segment(&[b"one", b"two", b"three"]);
        for at in HEADER_LEN..HEADER_LEN + FRAME_HEAD_LEN + 3 {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            assert_eq!(scan(&bad, node(), 5), Err(Damage::Middle(5)), "byte {at}");
        }
    }

    #[test]
    fn a_segment_of_another_node_or_place_is_refused() {
        let other = NodeId::from_parts(Timestamp::from_secs(1), [2; 10]);
        assert_eq!(scan(&segment(&[b"one"]), other, 5), Err(Damage::Header));
        assert_eq!(scan(&segment(&[b"one"]), node(), 6), Err(Damage::Header));
        assert_eq!(scan(&[0; 200], node(), 5), Ok(Scan::default()));
    }
}
