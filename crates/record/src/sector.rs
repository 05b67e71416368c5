//! What segments are made of: sectors of 512 bytes, each of which says with which batch it was written.
//!
//! A disk writes a sector whole or not at all, and a segment's sectors are written once each. So a file can be used again
//! as it is: a sector of an earlier segment says so itself, and what is neither blank nor whole is damaged, not torn.
//!
//! ```text
//! sector  content 500 | stamp u64 | crc32c of the 508 bytes before u32
//! ```
//!
//! The stamp is the number of the first record of the batch, and numbers only grow: whatever is stamped below a segment's
//! first number was there before it. Numbers are big-endian; a sector of zeroes is blank.

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;
/// Bytes of content in a sector.
pub(crate) const CONTENT: usize = 500;

/// What a sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sector<'a> {
    /// Nothing was ever written.
    Blank,
    /// What was written, and the first number of its batch.
    Written { stamp: u64, content: &'a [u8; CONTENT] },
    /// Neither.
    Damaged,
}

/// How many bytes of sectors `length` bytes of content take.
pub(crate) const fn bytes_for(length: usize) -> usize {
    length.div_ceil(CONTENT) * SECTOR
}

/// Appends the sectors of `content` to `out`; the last one is filled up with zeroes.
pub(crate) fn lay(out: &mut Vec<u8>, stamp: u64, content: &[u8]) {
    out.reserve(bytes_for(content.len()));
    for piece in content.chunks(CONTENT) {
        let start = out.len();
        out.extend_from_slice(piece);
        out.resize(start + CONTENT, 0);
        out.extend_from_slice(&stamp.to_be_bytes());
        let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_be_bytes());
    }
}

/// Reads a sector.
pub(crate) fn read(sector: &[u8; SECTOR]) -> Sector<'_> {
    let whole = || {
        let (covered, crc) = sector.split_last_chunk::<4>()?;
        let (content, stamp) = covered.split_last_chunk::<8>()?;
        let written =
            Sector::Written { stamp: u64::from_be_bytes(*stamp), content: content.try_into().ok()? };
        (crc32c::crc32c(covered) == u32::from_be_bytes(*crc)).then_some(written)
    };
    match whole() {
        Some(written) => written,
        None if sector.iter().all(|b| *b == 0) => Sector::Blank,
        None => Sector::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_of_any_length_reads_back_and_every_changed_bit_shows() {
        for length in [1, 499, 500, 501, 1_700] {
            let content: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let mut laid = Vec::new();
            lay(&mut laid, 7, &content);
            assert_eq!(laid.len(), bytes_for(length));
            let mut back = Vec::new();
            for sector in laid.as_chunks::<SECTOR>().0 {
                let Sector::Written { stamp: 7, content } = read(sector) else { panic!("not whole") };
                back.extend_from_slice(content);
                for bit in 0..SECTOR * 8 {
                    let mut changed = *sector;
                    changed[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(read(&changed), Sector::Damaged, "bit {bit}");
                }
            }
            assert_eq!(back[..length], content);
            assert!(back[length..].iter().all(|b| *b == 0));
        }
        assert_eq!(read(&[0; SECTOR]), Sector::Blank);
    }
}
