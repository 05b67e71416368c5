//! The form of a segment of the write-ahead log: how it is written, and what can be believed of it after a crash.
//!
//! A segment is a head, then frames, then zeroes up to its size. Everything begins at a multiple of 16 bytes.
//!
//! ```text
//! head   magic 8 | node 16 | first sequence number u64 | leaf hash before it 32 | open intents' length u32 | crc32c u32
//!        open intents: decision 16 | tenant's length u8 | tenant
//! frame  length u16 | place in its batch u16 | crc32c u32 | sequence number u64 | leaf hash 32 | entry
//! ```
//!
//! The entry is covered by its leaf hash; the other 44 bytes of the frame's head, behind the checksum of the segment's
//! head, by the frame's checksum; numbers are big-endian. A batch is what was written and synced at once. Head and zeroes
//! are durable before the segment has its name, also where its file held an earlier segment: so a head is never torn, and
//! nothing of an earlier segment is left. A crash can leave of the last batch any part; what is missing is zero, while no
//! aligned 16 bytes of a whole frame are. So damage is told from a crash's torn tail: a frame in which nothing is missing
//! but which does not fit its hash, or a frame of a later batch behind a bad one, is damage.
//!
//! Should the disk have lied about the zeroes, or somebody have put old bytes back: a frame of another segment fits neither
//! this one's head, by its checksum, nor its numbers, and is never read as one of this segment.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bartizan_base::Digest;
use bartizan_ledger::leaf_hash;
use bartizan_model::{DecisionId, NodeId, Tenant};

/// With the version of the form.
const MAGIC: &[u8; 8] = b"BTZWAL2\n";
/// Everything begins at a multiple of this.
const UNIT: usize = 16;
/// The head without the open intents.
const HEAD_LEN: usize = 72;
const FRAME_HEAD_LEN: usize = 48;
/// Records in one batch at the most: the place of each must fit its frame.
pub(crate) const BATCH_MAX: usize = 1_024;

/// Intents that had no outcome when a segment began.
pub(crate) type Open = BTreeMap<DecisionId, Tenant>;

/// What ties frames to their segment: the checksum of its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u32);

/// How a segment begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) node: NodeId,
    /// The number of its first record.
    pub(crate) first: u64,
    /// The leaf hash of the record before; zeroes for the first of all.
    pub(crate) previous: Digest,
    /// Intents without outcome among the records before, so that segments can go once they are sealed.
    pub(crate) open: Open,
}

impl Head {
    /// The head's bytes, and with them where the first frame begins; and the mark of its frames.
    pub(crate) fn encode(&self) -> (Vec<u8>, Mark) {
        let mut open = Vec::new();
        for (decision, tenant) in &self.open {
            open.extend_from_slice(decision.as_bytes());
            open.push(u8::try_from(tenant.0.len()).unwrap_or(u8::MAX));
            open.extend_from_slice(tenant.0.as_bytes());
        }
        let mut out = Vec::with_capacity(HEAD_LEN + open.len() + UNIT);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(self.node.as_bytes());
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(self.previous.as_bytes());
        out.extend_from_slice(&u32::try_from(open.len()).unwrap_or(u32::MAX).to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &open);
        out.extend_from_slice(&crc.to_be_bytes());
        out.append(&mut open);
        pad(&mut out);
        (out, Mark(crc))
    }

    /// Whether these are the bytes of a segment of another node than `node`.
    pub(crate) fn is_foreign(bytes: &[u8], node: NodeId) -> bool {
        bytes.strip_prefix(MAGIC).is_some_and(|rest| !rest.starts_with(node.as_bytes()))
    }

    /// Reads the head of a segment of `node`; also says where the first frame begins.
    fn decode(bytes: &[u8], node: NodeId) -> Option<(Self, usize, Mark)> {
        let (fixed, rest) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let (covered, crc) = fixed.split_last_chunk::<4>()?;
        let (before, length) = covered.split_last_chunk::<4>()?;
        let (before, previous) = before.split_last_chunk::<32>()?;
        let (before, first) = before.split_last_chunk::<8>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let open = rest.get(..length)?;
        let crc = u32::from_be_bytes(*crc);
        if before.strip_prefix(MAGIC)? != node.as_bytes()
            || crc32c::crc32c_append(crc32c::crc32c(covered), open) != crc
        {
            return None;
        }
        let head = Self {
            node,
            first: u64::from_be_bytes(*first),
            previous: Digest::from_bytes(*previous),
            open: decode_open(open)?,
        };
        Some((head, (HEAD_LEN + length).next_multiple_of(UNIT), Mark(crc)))
    }
}

fn decode_open(mut bytes: &[u8]) -> Option<Open> {
    let mut out = Open::new();
    while !bytes.is_empty() {
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (length, rest) = rest.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let text: String = id.iter().map(|b| format!("{b:02x}")).collect();
        let decision = format!("dec_{text}").parse().ok()?;
        out.insert(decision, Tenant(std::str::from_utf8(name).ok()?.parse().ok()?));
        bytes = rest;
    }
    Some(out)
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(UNIT), 0);
}

/// What a frame of an entry of at most `length` bytes takes up at the most.
pub(crate) const fn frame_bytes_max(length: usize) -> usize {
    FRAME_HEAD_LEN + length + UNIT
}

/// Appends the frame of the entry that `write` appends to `out`; gives where the entry is, and its leaf hash. The caller
/// keeps entries within `ENCODED_MAX` and batches within [`BATCH_MAX`].
pub(crate) fn push_frame(
    out: &mut Vec<u8>,
    mark: Mark,
    seq: u64,
    place: u16,
    write: impl FnOnce(&mut Vec<u8>),
) -> (Range<usize>, Digest) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD_LEN]);
    let from = out.len();
    write(out);
    let entry = from..out.len();
    let leaf = leaf_hash(out.get(entry.clone()).unwrap_or_default());
    let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
    if let Some(head) = out.get_mut(start..).and_then(|rest| rest.first_chunk_mut()) {
        *head = frame_head(mark, length, place, seq, &leaf);
    }
    pad(out);
    (entry, leaf)
}

fn frame_head(mark: Mark, length: u16, place: u16, seq: u64, leaf: &Digest) -> [u8; FRAME_HEAD_LEN] {
    let mut head = [0; FRAME_HEAD_LEN];
    let [l0, l1, p0, p1, c0, c1, c2, c3, rest @ ..] = &mut head;
    ([*l0, *l1], [*p0, *p1]) = (length.to_be_bytes(), place.to_be_bytes());
    let (number, hash) = rest.split_at_mut(8);
    number.copy_from_slice(&seq.to_be_bytes());
    hash.copy_from_slice(leaf.as_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(mark.0, &[*l0, *l1, *p0, *p1]), rest);
    [*c0, *c1, *c2, *c3] = crc.to_be_bytes();
    head
}

/// The file of the segment that begins at `first`.
pub(crate) fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.seg"))
}

/// The first sequence number that a segment's file name tells.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    name.strip_suffix(".seg").filter(|n| n.len() == 20)?.parse().ok()
}

/// One record of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) seq: u64,
    pub(crate) leaf: Digest,
    /// The number of the first record in the same batch.
    pub(crate) batch: u64,
    /// Where the frame is.
    pub(crate) at: Range<usize>,
    /// Where its entry is.
    pub(crate) entry: Range<usize>,
}

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) head: Head,
    pub(crate) frames: Vec<Frame>,
    /// What a crash left of a batch that was never acknowledged.
    pub(crate) torn: Option<Range<usize>>,
}

/// Why a segment cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// The head does not fit its checksum, or is of another node.
    #[error("its head is damaged or of another node")]
    Head,
    /// A frame is neither whole nor explained by a crash.
    #[error("the record {0} is damaged")]
    Frame(u64),
}

/// What stands at a place where a frame may begin.
enum Found<'a> {
    Whole(Frame),
    /// The head is whole; the entry is cut off or does not fit its hash.
    BadEntry {
        frame: Frame,
        bytes: &'a [u8],
    },
    BadHead,
    Nothing,
}

/// Reads a segment of `node` from its beginning to the last whole record.
pub(crate) fn scan(bytes: &[u8], node: NodeId) -> Result<Scan, Damage> {
    let (head, mut at, mark) = Head::decode(bytes, node).ok_or(Damage::Head)?;
    let mut frames: Vec<Frame> = Vec::new();
    let mut next = head.first;
    while let Found::Whole(frame) = found_at(bytes, mark, at) {
        if frame.seq != next || frame.batch < frames.last().map_or(head.first, |f| f.batch) {
            return Err(Damage::Frame(next));
        }
        at = frame.at.end;
        next += 1;
        frames.push(frame);
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let torn = match rest.iter().rposition(|b| *b != 0) {
        None => None,
        Some(last) => {
            check_torn(bytes, mark, at, next)?;
            Some(at..(at + last + 1).next_multiple_of(UNIT).min(bytes.len()))
        }
    };
    Ok(Scan { head, frames, torn })
}

/// Whether everything from `at` on, where the record `next` should stand, is what a crash leaves of one batch.
fn check_torn(bytes: &[u8], mark: Mark, at: usize, next: u64) -> Result<(), Damage> {
    let explained = match found_at(bytes, mark, at) {
        Found::Nothing => true,
        Found::BadEntry { bytes, .. } => has_missing_unit(bytes),
        Found::BadHead => {
            bytes.get(at..).is_some_and(|b| has_missing_unit(b.get(..FRAME_HEAD_LEN).unwrap_or(b)))
        }
        Found::Whole(_) => false,
    };
    if !explained {
        return Err(Damage::Frame(next));
    }
    for place in (at..bytes.len()).step_by(UNIT) {
        if let Found::Whole(frame) | Found::BadEntry { frame, .. } = found_at(bytes, mark, place)
            && frame.batch > next
        {
            // The batch of `next` had been synced before this one was written.
            return Err(Damage::Frame(next));
        }
    }
    Ok(())
}

fn has_missing_unit(bytes: &[u8]) -> bool {
    bytes.chunks(UNIT).any(|unit| unit.iter().all(|b| *b == 0))
}

fn found_at(bytes: &[u8], mark: Mark, at: usize) -> Found<'_> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some((head, behind)) = rest.split_first_chunk::<FRAME_HEAD_LEN>() else { return Found::Nothing };
    if head.iter().all(|b| *b == 0) {
        return Found::Nothing;
    }
    let [l0, l1, p0, p1, _, _, _, _, number @ ..] = head;
    let (Some((number, _)), Some((_, leaf))) =
        (number.split_first_chunk::<8>(), head.split_last_chunk::<32>())
    else {
        return Found::BadHead;
    };
    let (length, place) = (u16::from_be_bytes([*l0, *l1]), u16::from_be_bytes([*p0, *p1]));
    let (seq, leaf) = (u64::from_be_bytes(*number), Digest::from_bytes(*leaf));
    let place_in_batch = u64::from(place);
    if frame_head(mark, length, place, seq, &leaf) != *head || place_in_batch > seq {
        return Found::BadHead;
    }
    let length = usize::from(length);
    let start = at + FRAME_HEAD_LEN;
    let frame = Frame {
        seq,
        leaf,
        batch: seq - place_in_batch,
        at: at..(start + length).next_multiple_of(UNIT),
        entry: start..start + length,
    };
    match behind.get(..length) {
        Some(entry) if leaf_hash(entry) == frame.leaf => Found::Whole(frame),
        Some(entry) => Found::BadEntry { frame, bytes: entry },
        None => Found::BadHead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::Timestamp;
    use proptest::prelude::*;

    fn node() -> NodeId {
        NodeId::from_parts(Timestamp::from_secs(1), [1; 10])
    }

    fn head() -> Head {
        Head { node: node(), first: 5, previous: Digest::of(b"before"), open: Open::new() }
    }

    fn entry(seq: u64, length: usize) -> Vec<u8> {
        let mut entry = format!("{{\"seq\":{seq},\"text\":\"").into_bytes();
        entry.resize(entry.len() + length, b'x');
        entry.extend_from_slice(b"\"}");
        entry
    }

    /// A segment of batches of entries of the given lengths; also where each batch begins, and where the last one ends.
    fn segment(batches: &[&[usize]]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mark) = head().encode();
        let mut begins = vec![bytes.len()];
        let mut seq = 5;
        for batch in batches {
            for (place, length) in batch.iter().enumerate() {
                let entry = entry(seq, *length);
                push_frame(&mut bytes, mark, seq, u16::try_from(place).unwrap(), |out| out.extend(&entry));
                seq += 1;
            }
            begins.push(bytes.len());
        }
        bytes.resize(bytes.len().next_multiple_of(512) + 512, 0);
        (bytes, begins)
    }

    fn seqs(scan: &Scan) -> Vec<u64> {
        scan.frames.iter().map(|f| f.seq).collect()
    }

    #[test]
    fn a_whole_segment_reads_back_with_its_head() {
        let (bytes, _) = segment(&[&[10], &[600, 0]]);
        let scan = scan(&bytes, node()).unwrap();
        assert_eq!((seqs(&scan), scan.torn, scan.head), (vec![5, 6, 7], None, head()));
        assert_eq!(scan.frames.iter().map(|f| f.batch).collect::<Vec<_>>(), [5, 6, 6]);
        assert_eq!(&bytes[scan.frames[0].entry.clone()], entry(5, 10));
    }

    #[test]
    fn open_intents_stand_in_the_head() {
        let open: Open = (0..40_u8)
            .map(|i| (DecisionId::from_parts(Timestamp::from_secs(9), [i; 10]), Tenant::default_tenant()))
            .collect();
        let head = Head { open, ..head() };
        let (bytes, mark) = head.encode();
        assert_eq!(Head::decode(&bytes, node()), Some((head, bytes.len(), mark)));
    }

    #[test]
    fn every_subset_of_lost_sectors_of_the_last_batch_is_a_torn_tail() {
        let (whole, begins) = segment(&[&[300], &[200, 700, 0, 300]]);
        let (start, end) = (begins[1], begins[2]);
        let sectors: Vec<usize> = (start / 512..=(end - 1) / 512).collect();
        for kept in 0..1_u32 << sectors.len() {
            let mut bytes = whole.clone();
            for (bit, sector) in sectors.iter().enumerate() {
                if kept & 1 << bit == 0 {
                    let from = (sector * 512).max(start);
                    bytes[from..((sector + 1) * 512).min(end)].fill(0);
                }
            }
            let scan = scan(&bytes, node()).unwrap();
            assert_eq!(scan.frames[0].seq, 5, "{kept:b}");
            assert!(seqs(&scan).is_sorted());
            if bytes == whole {
                assert_eq!((seqs(&scan).len(), &scan.torn), (5, &None));
            } else {
                let end = scan.frames.last().unwrap().at.end;
                assert_eq!(bytes[end..].iter().any(|b| *b != 0), scan.torn.is_some(), "{kept:b}");
            }
        }
    }

    #[test]
    fn a_lost_batch_before_a_later_one_is_damage() {
        let (whole, begins) = segment(&[&[300], &[200, 700], &[10]]);
        for lost in [begins[0]..begins[1], begins[1]..begins[2], begins[1]..begins[1] + 16] {
            let mut bytes = whole.clone();
            bytes[lost].fill(0);
            assert!(matches!(scan(&bytes, node()), Err(Damage::Frame(5 | 6))));
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_or_changes_nothing() {
        let (whole, _) = segment(&[&[40], &[20, 100]]);
        let good = scan(&whole, node()).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(scan) = scan(&bytes, node()) {
                // Padding and the zeroes behind the last record are nobody's.
                assert_eq!((scan.head, scan.frames), (good.head.clone(), good.frames.clone()), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_segment_of_another_node_is_refused() {
        let other = NodeId::from_parts(Timestamp::from_secs(1), [2; 10]);
        let (bytes, _) = segment(&[&[1]]);
        assert_eq!(scan(&bytes, other), Err(Damage::Head));
        assert_eq!(scan(&[], node()), Err(Damage::Head));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..800) {
            let (mut segment, _) = segment(&[&[40], &[20, 100]]);
            for (place, byte) in segment.iter_mut().skip(at).zip(&bytes) {
                *place = *byte;
            }
            let _ = scan(&segment, node());
            let _ = scan(&bytes, node());
        }
    }
}
