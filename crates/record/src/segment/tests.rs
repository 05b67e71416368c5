//! What a crash can leave of a segment, whatever its file held before, and what is damage.

use super::*;
use bartizan_base::Timestamp;
use proptest::prelude::*;

fn node() -> NodeId {
    NodeId::from_parts(Timestamp::from_secs(1), [1; 10])
}

fn head_from(first: u64) -> Head {
    Head { node: node(), first, previous: Digest::of(b"before"), open: Open::new() }
}

fn head() -> Head {
    head_from(5)
}

fn entry(seq: u64, length: usize) -> Vec<u8> {
    let mut entry = format!("{{\"seq\":{seq},\"text\":\"").into_bytes();
    entry.resize(entry.len() + length, b'x');
    entry.extend_from_slice(b"\"}");
    entry
}

/// A segment that begins with the record `first`, of batches of entries of the given lengths, on zeroes; also where each
/// batch begins, and where the last one ends.
fn segment_from(first: u64, batches: &[&[usize]]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mark) = head_from(first).encode();
    let mut begins = vec![bytes.len()];
    let mut seq = first;
    for batch in batches {
        let (mut frames, stamp) = (Vec::new(), seq);
        for (place, length) in batch.iter().enumerate() {
            let entry = entry(seq, *length);
            push_frame(&mut frames, mark, seq, u16::try_from(place).unwrap(), |out| out.extend(&entry));
            seq += 1;
        }
        sector::lay(&mut bytes, stamp, &frames);
        begins.push(bytes.len());
    }
    bytes.resize(bytes.len() + 2 * SECTOR, 0);
    (bytes, begins)
}

fn segment(batches: &[&[usize]]) -> (Vec<u8>, Vec<usize>) {
    segment_from(5, batches)
}

/// `new`, of which the first `durable` bytes and of the rest the sectors that `kept` says were written, over `old`.
fn written_over(old: &[u8], new: &[u8], durable: usize, kept: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut bytes = old.to_vec();
    bytes.resize(bytes.len().max(new.len()), 0);
    for (at, sector) in new.chunks(SECTOR).enumerate() {
        if at * SECTOR < durable || kept(at) {
            bytes[at * SECTOR..][..sector.len()].copy_from_slice(sector);
        }
    }
    bytes
}

/// Files as earlier segments have left them: none, one, and one over another, shorter and longer than what follows, also
/// with a head of several sectors.
fn earlier() -> Vec<Vec<u8>> {
    let zeroes = vec![0; 12 * SECTOR];
    let open = (0..60_u8)
        .map(|i| (DecisionId::from_parts(Timestamp::from_secs(9), [i; 10]), Tenant::default_tenant()))
        .collect();
    let (long_head, _) = Head { open, ..head_from(1) }.encode();
    assert!(long_head.len() >= 3 * SECTOR);
    let same_shape = segment_from(1, &[&[300], &[200, 700, 0, 300]]).0;
    let long = segment_from(1, &[&[500, 500], &[900], &[2_000]]).0;
    let short = segment_from(4, &[&[10]]).0;
    let short = &short[..short.len() - 2 * SECTOR];
    vec![
        zeroes.clone(),
        written_over(&zeroes, &same_shape, same_shape.len(), |_| true),
        written_over(&zeroes, &long, long.len(), |_| true),
        written_over(&long, short, short.len(), |_| true),
        written_over(&zeroes, &long_head, long_head.len(), |_| true),
        written_over(&same_shape, &long_head, SECTOR, |at| at % 2 == 0),
    ]
}

fn seqs(scan: &Scan) -> Vec<u64> {
    scan.frames.iter().map(|f| f.seq).collect()
}

#[test]
fn a_whole_segment_reads_back_with_its_head() {
    let (bytes, begins) = segment(&[&[10], &[600, 0]]);
    let scan = scan(&bytes, node()).unwrap();
    assert_eq!((seqs(&scan), &scan.torn, &scan.head), (vec![5, 6, 7], &None, &head()));
    assert_eq!(&scan.content[scan.frames[0].entry.clone()], entry(5, 10));
    assert_eq!(&scan.content[scan.frames[2].entry.clone()], entry(7, 0));
    let last = scan.last.unwrap();
    assert_eq!((last.first, last.at, last.content.end), (6, begins[1], scan.frames[2].entry.end));
}

#[test]
fn open_intents_stand_in_the_head() {
    let open: Open = (0..40_u8)
        .map(|i| (DecisionId::from_parts(Timestamp::from_secs(9), [i; 10]), Tenant::default_tenant()))
        .collect();
    let head = Head { open, ..head() };
    let (bytes, mark) = head.encode();
    let sectors = bytes.as_chunks::<SECTOR>().0;
    assert_eq!(Head::decode(sectors, node()), Some((head, sectors.len(), mark)));
    assert_eq!(Head::decode(&sectors[..1], node()), None);
}

#[test]
fn every_subset_of_lost_sectors_of_the_last_batch_is_a_torn_tail_whatever_was_there_before() {
    let (whole, begins) = segment(&[&[300], &[200, 700, 0, 300]]);
    let (start, end) = (begins[1], begins[2]);
    let sectors = (end - start) / SECTOR;
    for (nth, old) in earlier().iter().enumerate() {
        for kept in 0..1_u32 << sectors {
            let is_kept = |at: usize| kept & 1 << (at - start / SECTOR) != 0;
            let bytes = written_over(old, &whole[..end], start, is_kept);
            let what = format!("{kept:b} over {nth}");
            let scan = scan(&bytes, node()).unwrap_or_else(|e| panic!("{what}: {e}"));
            // In order, of this segment, and whole.
            assert_eq!(seqs(&scan), (5..5 + scan.frames.len() as u64).collect::<Vec<_>>(), "{what}");
            for (frame, length) in scan.frames.iter().zip([300, 200, 700, 0, 300]) {
                assert_eq!(scan.content[frame.entry.clone()], entry(frame.seq, length), "{what}");
            }
            let all = kept.count_ones() as usize == sectors;
            assert!(if all { scan.frames.len() == 5 } else { (1..5).contains(&scan.frames.len()) }, "{what}");
            assert_eq!(scan.torn.is_some(), kept != 0 && !all, "{what}");
        }
    }
}

#[test]
fn whole_batches_of_earlier_segments_behind_the_end_are_never_read() {
    let (whole, begins) = segment(&[&[300], &[10]]);
    let good = scan(&whole, node()).unwrap();
    for old in earlier() {
        // Nothing of what follows the end was written: not the zeroes either.
        let bytes = written_over(&old, &whole[..begins[2]], begins[2], |_| true);
        assert_eq!(scan(&bytes, node()).unwrap(), good);
    }
    // Put where a batch should begin, also under the stamp and numbers that are due.
    let (foreign, from) = segment_from(7, &[&[300], &[10]]);
    let mut bytes = whole;
    bytes.truncate(begins[2]);
    bytes.extend_from_slice(&foreign[from[0]..]);
    assert_eq!(scan(&bytes, node()), Err(Damage::Frame(7)), "of another segment");
}

#[test]
fn a_lost_batch_before_a_later_one_is_damage() {
    let (whole, begins) = segment(&[&[300], &[200, 700], &[10]]);
    for old in earlier() {
        for lost in [begins[0]..begins[1], begins[1]..begins[2], begins[1]..begins[1] + SECTOR] {
            let is_kept = |at: usize| !lost.contains(&(at * SECTOR));
            let bytes = written_over(&old, &whole, begins[0], is_kept);
            assert!(matches!(scan(&bytes, node()), Err(Damage::Frame(5 | 6))));
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_or_changes_nothing() {
    let (whole, begins) = segment(&[&[40], &[20, 100]]);
    let good = scan(&whole, node()).unwrap();
    for old in earlier().into_iter().step_by(2) {
        let end = begins[2];
        let whole = written_over(&old, &whole[..end], end, |_| true);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match scan(&bytes, node()) {
                // What is behind the last record is nobody's.
                Ok(scan) => assert!(bit / 8 >= end && scan == good, "bit {bit}"),
                Err(_) => assert!(bit / 8 < end + SECTOR, "bit {bit}"),
            }
        }
    }
}

#[test]
fn a_segment_of_another_node_is_refused() {
    let other = NodeId::from_parts(Timestamp::from_secs(1), [2; 10]);
    let (bytes, _) = segment(&[&[1]]);
    assert_eq!(scan(&bytes, other), Err(Damage::Head));
    assert_eq!(scan(&[], node()), Err(Damage::Head));
    assert!(Head::is_foreign(&bytes, other) && !Head::is_foreign(&bytes, node()));
    let mut earlier = bytes;
    earlier[6] = b'1';
    assert_eq!(scan(&earlier, node()), Err(Damage::Version));
    assert!(Head::is_foreign(&earlier, other) && !Head::is_foreign(&earlier, node()));
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
