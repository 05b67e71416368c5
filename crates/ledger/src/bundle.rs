//! Entry bundles: each entry with its length in two bytes before it (tlog-tiles).

/// The longest entry a bundle can hold, in bytes.
pub const ENTRY_MAX: usize = u16::MAX as usize;

/// The entry is longer than [`ENTRY_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry has at most 65,535 bytes")]
pub struct EntryTooLong;

/// The bytes are not a sequence of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry bundle breaks off in the middle of an entry")]
pub struct BundleError;

/// Appends `entry` to the bytes of a bundle.
///
/// # Errors
/// [`EntryTooLong`]; the bundle is left as it was.
pub fn encode_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), EntryTooLong> {
    let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle, one after the other, without copying. After an error there is nothing more.
pub fn entries(bundle: &[u8]) -> impl Iterator<Item = Result<&[u8], BundleError>> {
    let mut rest = bundle;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((entry, after)) = split_entry(rest) else {
            rest = &[];
            return Some(Err(BundleError));
        };
        rest = after;
        Some(Ok(entry))
    })
}

fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
