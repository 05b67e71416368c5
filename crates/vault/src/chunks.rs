//! Payload files: sealed in chunks, so that no payload is ever whole in memory.
//!
//! | bytes | what |
//! |---|---|
//! | 5 | `btzv`, version 1 |
//! | 32 | salt |
//! | each chunk | 65,536 bytes and a tag of 16; the last one is shorter, at least its tag |
//!
//! AES-256-GCM under a key of the file's own: HMAC-SHA256 of the subject's data key over a label and the salt. The nonce is
//! the chunk's number and whether it is the last (the STREAM construction, Hoang et al. 2015), so chunks that are cut off,
//! swapped or repeated do not open. The associated data is the payload's place.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::digest::{Context, SHA256};
use bartizan_base::{Digest, Random};
use bartizan_secret::Secret;
use zeroize::Zeroizing;

use crate::VaultError;
use crate::crypt::{self, Key, TAG_LEN};

const HEAD: &[u8; 5] = b"btzv\x01";
const SALT_LEN: usize = 32;
const CHUNK: usize = 64 * 1024;

const BROKEN: VaultError = VaultError::Broken("a payload");

/// Seals what `source` gives, up to `max` bytes, into `file`, durably. Answers SHA-256 and length of the file.
pub(crate) fn seal(
    source: &mut dyn Read,
    file: &mut File,
    key: &Key,
    bound: &[u8],
    max: u64,
    random: &dyn Random,
) -> Result<(Digest, u64), VaultError> {
    let mut salt = [0; SALT_LEN];
    random.fill(&mut salt);
    let key = file_key(key, &salt)?;
    let mut out = Hashed { file, context: Context::new(&SHA256), length: 0 };
    out.write(HEAD)?;
    out.write(&salt)?;
    let mut chunk = Zeroizing::new(Vec::with_capacity(CHUNK + TAG_LEN));
    let (mut number, mut total) = (0_u32, 0_u64);
    loop {
        chunk.clear();
        // Exactly one chunk at most, so the buffer never grows and leaves a copy behind.
        (&mut *source).take(CHUNK as u64).read_to_end(&mut chunk).map_err(VaultError::OtherEnd)?;
        let length = chunk.len();
        total = total.saturating_add(length as u64);
        if total > max {
            return Err(VaultError::TooLarge { max });
        }
        let is_last = length < CHUNK;
        key.seal_in_place_append_tag(nonce(number, is_last), Aad::from(bound), &mut *chunk)
            .map_err(|_| VaultError::Refused)?;
        out.write(&chunk)?;
        if is_last {
            break;
        }
        number = number.checked_add(1).ok_or(VaultError::TooLarge { max })?;
    }
    out.file.sync_all().map_err(unavailable)?;
    let digest = finish(out.context);
    Ok((digest, out.length))
}

/// Opens a file of that digest and length into `sink`. Nothing is written before the whole file was hashed. Answers how many bytes were written.
pub(crate) fn open(
    file: &mut File,
    expected: (Digest, u64),
    key: &Key,
    bound: &[u8],
    sink: &mut dyn Write,
) -> Result<u64, VaultError> {
    let mut chunk = Zeroizing::new(Vec::with_capacity(CHUNK + TAG_LEN));
    let mut context = Context::new(&SHA256);
    let mut length = 0_u64;
    loop {
        fill(file, &mut chunk, CHUNK)?;
        if chunk.is_empty() {
            break;
        }
        context.update(&chunk);
        length += chunk.len() as u64;
    }
    if (finish(context), length) != expected {
        return Err(BROKEN);
    }
    file.rewind().map_err(unavailable)?;
    fill(file, &mut chunk, HEAD.len() + SALT_LEN)?;
    let salt =
        chunk.strip_prefix(HEAD).and_then(|salt| <&[u8; SALT_LEN]>::try_from(salt).ok()).ok_or(BROKEN)?;
    let key = file_key(key, salt)?;
    let (mut number, mut total) = (0_u32, 0_u64);
    loop {
        fill(file, &mut chunk, CHUNK + TAG_LEN)?;
        let is_last = chunk.len() < CHUNK + TAG_LEN;
        let plain =
            key.open_in_place(nonce(number, is_last), Aad::from(bound), &mut chunk).map_err(|_| BROKEN)?;
        sink.write_all(plain).map_err(VaultError::OtherEnd)?;
        total += plain.len() as u64;
        if is_last {
            return Ok(total);
        }
        number = number.checked_add(1).ok_or(BROKEN)?;
    }
}

/// Reads up to `length` bytes: fewer only at the end of the file.
fn fill(file: &mut File, chunk: &mut Vec<u8>, length: usize) -> Result<(), VaultError> {
    chunk.clear();
    file.take(length as u64).read_to_end(chunk).map(|_| ()).map_err(unavailable)
}

fn unavailable(error: io::Error) -> VaultError {
    VaultError::Unavailable(Box::new(error))
}

fn file_key(key: &Key, salt: &[u8; SALT_LEN]) -> Result<LessSafeKey, VaultError> {
    let derived = crypt::mac(key, &[b"bartizan vault payload key v1\0", salt]);
    crypt::aead(&Secret::new(*derived.as_bytes()))
}

fn nonce(number: u32, is_last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    let (_, tail) = nonce.split_at_mut(NONCE_LEN - 5);
    let number = number.to_be_bytes();
    tail.iter_mut().zip(number.iter().chain([&u8::from(is_last)])).for_each(|(to, from)| *to = *from);
    Nonce::assume_unique_for_key(nonce)
}

fn finish(context: Context) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Digest::from_bytes(out)
}

/// Writes and hashes.
struct Hashed<'a> {
    file: &'a mut File,
    context: Context,
    length: u64,
}

impl Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), VaultError> {
        self.file.write_all(bytes).map_err(unavailable)?;
        self.context.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}
