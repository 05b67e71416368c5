//! The form of a segment of the write-ahead log: how it is written, and what can be believed of it after a crash.
//!
//! A segment is a head, then batches, then whatever was in its file before: zeroes, or an earlier segment whose records are
//! sealed. All of it stands in sectors (`sector.rs`); head and batches begin with a sector of their own.
//!
//! ```text
//! head   magic 8 | node 16 | first sequence number u64 | leaf hash before it 32 | open intents' length u32 | crc32c u32
//!        open intents: decision 16 | tenant's length u8 | tenant
//! batch  frames
//! frame  length u16 | place in its batch u16 | crc32c u32 | sequence number u64 | leaf hash 32 | entry
//! ```
//!
//! The entry is covered by its leaf hash; the other 44 bytes of the frame's head, behind the checksum of the segment's
//! head, by the frame's checksum; numbers are big-endian. A batch is what was written and synced at once. A head is durable
//! before its segment has a name, so it is never torn.
//!
//! A crash can leave any of the sectors of the last batch; in place of the others there is what was there before, and their
//! stamps say so. So damage is told from a crash's torn tail: a sector that is needed and damaged, sectors that are whole
//! but hold no whole frame, or a sector of a later batch behind a missing one, is damage. And nothing of an earlier segment
//! is ever read as part of this one: it fits neither the stamps, nor the numbers, nor the checksum of the head.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bartizan_base::Digest;
use bartizan_ledger::{leaf_hash, leaf_hash_behind_zero};
use bartizan_model::{DecisionId, NodeId, Tenant};

use crate::sector::{self, CONTENT, SECTOR, Sector};

/// With the version of the form.
const MAGIC: &[u8; 8] = b"BTZWAL2\n";
/// What heads of every version begin with; the node stands at the same place in all of them.
const ANY_VERSION: &[u8; 6] = b"BTZWAL";
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
    /// The head's sectors, behind which the first batch begins; and the mark of the frames.
    pub(crate) fn encode(&self) -> (Vec<u8>, Mark) {
        let mut open = Vec::new();
        for (decision, tenant) in &self.open {
            open.extend_from_slice(decision.as_bytes());
            open.push(u8::try_from(tenant.0.len()).unwrap_or(u8::MAX));
            open.extend_from_slice(tenant.0.as_bytes());
        }
        let mut content = Vec::with_capacity(HEAD_LEN + open.len());
        content.extend_from_slice(MAGIC);
        content.extend_from_slice(self.node.as_bytes());
        content.extend_from_slice(&self.first.to_be_bytes());
        content.extend_from_slice(self.previous.as_bytes());
        content.extend_from_slice(&u32::try_from(open.len()).unwrap_or(u32::MAX).to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&content), &open);
        content.extend_from_slice(&crc.to_be_bytes());
        content.append(&mut open);
        let mut out = Vec::new();
        sector::lay(&mut out, self.first, &content);
        (out, Mark(crc))
    }

    /// Whether these are the bytes of a segment of another node than `node`, in whatever version.
    pub(crate) fn is_foreign(bytes: &[u8], node: NodeId) -> bool {
        let node_on = bytes.get(MAGIC.len()..).unwrap_or_default();
        bytes.starts_with(ANY_VERSION) && !node_on.starts_with(node.as_bytes())
    }

    /// Whether these are the bytes of a segment in the form of another version.
    fn is_of_another_version(bytes: &[u8]) -> bool {
        bytes.starts_with(ANY_VERSION) && !bytes.starts_with(MAGIC)
    }

    /// Reads the head of a segment of `node`; also says how many sectors it takes.
    fn decode(sectors: &[[u8; SECTOR]], node: NodeId) -> Option<(Self, usize, Mark)> {
        let Sector::Written { stamp, content } = sector::read(sectors.first()?) else { return None };
        let fixed = content.first_chunk::<HEAD_LEN>()?;
        let (covered, crc) = fixed.split_last_chunk::<4>()?;
        let (before, length) = covered.split_last_chunk::<4>()?;
        let (before, previous) = before.split_last_chunk::<32>()?;
        let (before, first) = before.split_last_chunk::<8>()?;
        let length = HEAD_LEN.checked_add(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let taken = length.div_ceil(CONTENT);
        let mut bytes = Vec::new();
        for sector in sectors.get(..taken)? {
            match sector::read(sector) {
                Sector::Written { stamp: same, content } if same == stamp => bytes.extend_from_slice(content),
                _ => return None,
            }
        }
        let open = bytes.get(HEAD_LEN..length)?;
        let (crc, first) = (u32::from_be_bytes(*crc), u64::from_be_bytes(*first));
        if before.strip_prefix(MAGIC)? != node.as_bytes()
            || first != stamp
            || crc32c::crc32c_append(crc32c::crc32c(covered), open) != crc
        {
            return None;
        }
        let (previous, open) = (Digest::from_bytes(*previous), decode_open(open)?);
        Some((Self { node, first, previous, open }, taken, Mark(crc)))
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

/// The bytes of a frame whose entry has `length`.
pub(crate) const fn frame_bytes(length: usize) -> usize {
    FRAME_HEAD_LEN + length
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
    // The frame's head is still zero.
    let leaf = leaf_hash_behind_zero(out.get(from - 1..).unwrap_or_default());
    let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
    if let Some(head) = out.get_mut(start..).and_then(|rest| rest.first_chunk_mut()) {
        *head = frame_head(mark, length, place, seq, &leaf);
    }
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
    /// Where its entry is, in [`Scan::content`].
    pub(crate) entry: Range<usize>,
}

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) head: Head,
    pub(crate) frames: Vec<Frame>,
    /// The content of the batches, without what is torn.
    pub(crate) content: Vec<u8>,
    /// The last batch of which a record is whole.
    pub(crate) last: Option<Last>,
    /// What a crash left of a batch that was never acknowledged, in the file.
    pub(crate) torn: Option<Range<usize>>,
}

/// Where the last batch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    /// The number of its first record.
    pub(crate) first: u64,
    /// Where it begins in the file.
    pub(crate) at: usize,
    /// Its whole records, in [`Scan::content`].
    pub(crate) content: Range<usize>,
}

/// Why a segment cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// The head does not fit its checksum, or is of another node.
    #[error("its head is damaged or of another node")]
    Head,
    /// Another version of this program wrote it, or the version is damaged.
    #[error("it has the form of another version")]
    Version,
    /// A frame is neither whole nor explained by a crash.
    #[error("the record {0} is damaged")]
    Frame(u64),
}

/// Reads a segment of `node` from its beginning to the last whole record.
pub(crate) fn scan(bytes: &[u8], node: NodeId) -> Result<Scan, Damage> {
    let sectors = bytes.as_chunks::<SECTOR>().0;
    if Head::is_of_another_version(bytes) {
        return Err(Damage::Version);
    }
    let (head, mut at, mark) = Head::decode(sectors, node).ok_or(Damage::Head)?;
    let first = head.first;
    let mut scan = Scan { head, frames: Vec::new(), content: Vec::new(), last: None, torn: None };
    let mut next = first;
    let mut cut = None;
    while cut.is_none() {
        let start = scan.content.len();
        let taken = take_batch(sectors.get(at..).unwrap_or_default(), next, &mut scan.content);
        if taken == 0 {
            break;
        }
        let batch = next;
        let (end, is_cut) = read_frames(&mut scan, mark, start, &mut next)?;
        scan.content.truncate(end);
        if end > start {
            scan.last = Some(Last { first: batch, at: at * SECTOR, content: start..end });
        }
        if is_cut {
            let kept = end - start;
            let from = at * SECTOR + kept / CONTENT * SECTOR + kept % CONTENT;
            scan.torn = Some(from..(at + taken) * SECTOR);
            cut = Some(batch);
        }
        at += taken;
    }
    if sectors.get(at).is_some_and(|sector| sector::read(sector) == Sector::Damaged) {
        // It is the one that is needed next: of a batch that was acknowledged, for all that is known.
        return Err(Damage::Frame(next));
    }
    // What is left behind is of the batch that is cut; else of the last one, if that ended with a sector, or of the next.
    let last = scan.last.as_ref().map_or(next, |last| last.first);
    let batches = cut.map_or([last, next], |cut| [cut, cut]);
    if let Some(end) = left_behind(sectors, at, first, batches).ok_or(Damage::Frame(next))? {
        let from = scan.torn.as_ref().map_or(at * SECTOR, |torn| torn.start);
        scan.torn = Some(from..end);
    }
    Ok(scan)
}

/// Takes the sectors at the beginning of `sectors` that belong to the batch which begins with the number `first`.
fn take_batch(sectors: &[[u8; SECTOR]], first: u64, content: &mut Vec<u8>) -> usize {
    let mut taken = 0;
    for sector in sectors {
        match sector::read(sector) {
            Sector::Written { stamp, content: piece } if stamp == first => content.extend_from_slice(piece),
            _ => break,
        }
        taken += 1;
    }
    taken
}

/// Reads the frames of the batch whose sectors' content begins at `start`; gives where the last whole one ends, and whether
/// sectors behind it are missing.
fn read_frames(scan: &mut Scan, mark: Mark, start: usize, next: &mut u64) -> Result<(usize, bool), Damage> {
    let mut at = start;
    for place in 0..=u16::MAX {
        let rest = scan.content.get(at..).unwrap_or_default();
        if rest.len() < CONTENT && rest.iter().all(|b| *b == 0) {
            // A frame has a length, so its head is not zero; what fills up the last sector is.
            return Ok((at, false));
        }
        let Some((head, behind)) = rest.split_first_chunk::<FRAME_HEAD_LEN>() else { return Ok((at, true)) };
        let (length, leaf) = decode_frame(head, mark, place, *next).ok_or(Damage::Frame(*next))?;
        let Some(entry) = behind.get(..length) else { return Ok((at, true)) };
        if leaf_hash(entry) != leaf {
            return Err(Damage::Frame(*next));
        }
        let from = at + FRAME_HEAD_LEN;
        at = from + length;
        scan.frames.push(Frame { seq: *next, leaf, entry: from..at });
        *next += 1;
    }
    Err(Damage::Frame(*next))
}

/// The length of the entry and the leaf hash, if this is the head of the record `seq` at `place` of its batch.
fn decode_frame(head: &[u8; FRAME_HEAD_LEN], mark: Mark, place: u16, seq: u64) -> Option<(usize, Digest)> {
    let (_, leaf) = head.split_last_chunk::<32>()?;
    let leaf = Digest::from_bytes(*leaf);
    let length = u16::from_be_bytes(*head.first_chunk::<2>()?);
    (frame_head(mark, length, place, seq, &leaf) == *head).then_some((usize::from(length), leaf))
}

/// Where that ends which a crash can have left from the sector `at` on: sectors of one of `batches`. None if there are any
/// of another.
#[expect(clippy::option_option, reason = "damage and nothing are not the same")]
fn left_behind(sectors: &[[u8; SECTOR]], at: usize, first: u64, batches: [u64; 2]) -> Option<Option<usize>> {
    let (mut end, mut of) = (None, None);
    for (place, sector) in sectors.iter().enumerate().skip(at) {
        match sector::read(sector) {
            Sector::Written { stamp, .. } if stamp >= first => {
                if !batches.contains(&stamp) || *of.get_or_insert(stamp) != stamp {
                    // The batch before had been synced when this one was written.
                    return None;
                }
                end = Some((place + 1) * SECTOR);
            }
            // Of an earlier segment, never used, or never used and damaged since.
            Sector::Written { .. } | Sector::Blank | Sector::Damaged => {}
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests;
