//! Dead letters: batches that a receiver will not take, kept with the reason until somebody sends them again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use bartizan_base::json::{self, Limits};
use bartizan_base::{Digest, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, BatchId, Cause, DeliverError, Position, Sink};
use crate::durable::{blocking, create_folder, remove, replace};

/// The folder of one destination's dead letters: a file each, a line about it and then the body as it is.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    folder: PathBuf,
    letters_max: usize,
}

/// What a dead letter says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// The batch.
    pub id: BatchId,
    /// The first entry it covers.
    pub first: Position,
    /// The last entry it covers.
    pub last: Position,
    /// What the body is.
    pub media_type: String,
    /// How many records the body holds.
    pub records: u32,
    /// SHA-256 of the body.
    pub body: Digest,
    /// Why it was refused.
    pub cause: Cause,
    /// When.
    pub refused_us: Timestamp,
}

/// Why a dead letter was not kept, read or sent again.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The folder holds as many as it may.
    #[error("there are {0} dead letters, which is the most that are kept")]
    Full(usize),
    /// There is none of this id.
    #[error("there is no dead letter `{0}`")]
    Absent(BatchId),
    /// It is not what was written.
    #[error("the dead letter `{0}` is damaged")]
    Damaged(String),
    /// The disk fails.
    #[error("dead letters cannot be kept")]
    Io(#[from] io::Error),
    /// Sent again, and not taken again.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
}

const SUFFIX: &str = "letter";
const HEAD_MAX: u64 = 16 << 10;
const LIMITS: Limits = Limits { bytes_max: 16 << 10, depth_max: 4, nodes_max: 64 };

impl DeadLetters {
    /// The letters in `folder`, at most `letters_max`; once it is full a refused batch is not parked but waits, and everything
    /// behind it.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, letters_max: usize) -> Self {
        Self { folder: folder.into(), letters_max }
    }

    /// Keeps a batch; durable on return. The same batch again replaces itself.
    ///
    /// # Errors
    /// [`LetterError::Full`], [`LetterError::Io`].
    pub async fn park(&self, batch: &Batch, cause: &Cause, now: Timestamp) -> Result<(), LetterError> {
        let letter = Letter {
            id: batch.id(),
            first: batch.first().clone(),
            last: batch.last().clone(),
            media_type: batch.media_type.clone().into_owned(),
            records: batch.records,
            body: Digest::of(&batch.body),
            cause: cause.clone(),
            refused_us: now,
        };
        let head = serde_json::to_vec(&letter).map_err(io::Error::from)?;
        let (path, body) = (self.path(letter.id), batch.body.clone());
        if self.count().await? >= self.letters_max && !path.exists() {
            return Err(LetterError::Full(self.letters_max));
        }
        let folder = self.folder.clone();
        let write = move || {
            create_folder(&folder)?;
            replace(&path, &[&head, b"\n", &body])
        };
        Ok(blocking(write).await?)
    }

    /// How many there are.
    ///
    /// # Errors
    /// [`LetterError::Io`].
    pub async fn count(&self) -> Result<usize, LetterError> {
        let folder = self.folder.clone();
        Ok(blocking(move || names(&folder)).await?.len())
    }

    /// What they say about themselves, the oldest first.
    ///
    /// # Errors
    /// [`LetterError::Damaged`] names a file that is none, [`LetterError::Io`].
    pub async fn list(&self) -> Result<Vec<Letter>, LetterError> {
        let folder = self.folder.clone();
        let read = blocking(move || names(&folder)?.iter().map(|p| Ok((name(p), open(p)?.0))).collect());
        let heads: Vec<(String, Option<Letter>)> = read.await?;
        let mut letters = heads
            .into_iter()
            .map(|(name, letter)| letter.ok_or(LetterError::Damaged(name)))
            .collect::<Result<Vec<_>, _>>()?;
        letters.sort_by_key(|letter| letter.refused_us);
        Ok(letters)
    }

    /// The batch of a dead letter, with its body checked.
    ///
    /// # Errors
    /// [`LetterError::Absent`], [`LetterError::Damaged`], [`LetterError::Io`].
    pub async fn read(&self, id: BatchId) -> Result<Batch, LetterError> {
        let path = self.path(id);
        let read = blocking(move || {
            let (letter, mut rest) = open(&path)?;
            let mut body = Vec::new();
            rest.read_to_end(&mut body)?;
            Ok((letter, body))
        });
        let (letter, body) = read.await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LetterError::Absent(id),
            _ => LetterError::Io(error),
        })?;
        letter
            .and_then(|letter| restore(letter, body))
            .filter(|batch| batch.id() == id)
            .ok_or_else(|| LetterError::Damaged(id.to_string()))
    }

    /// Sends a dead letter again and lets go of it once it is taken.
    ///
    /// # Errors
    /// As for [`DeadLetters::read`]; [`LetterError::Deliver`] if it is not taken, and then it stays.
    pub async fn deliver(&self, id: BatchId, sink: &dyn Sink) -> Result<(), LetterError> {
        sink.deliver(&self.read(id).await?).await?;
        let path = self.path(id);
        Ok(blocking(move || remove(&path)).await?)
    }

    fn path(&self, id: BatchId) -> PathBuf {
        self.folder.join(id.to_string()).with_extension(SUFFIX)
    }
}

fn restore(letter: Letter, body: Vec<u8>) -> Option<Batch> {
    if Digest::of(&body) != letter.body {
        return None;
    }
    Batch::new(letter.first, letter.last, letter.media_type, Bytes::from(body), letter.records).ok()
}

fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|e| e.path()));
    paths.filter(|p| p.as_ref().map_or(true, |p| p.extension() == Some(OsStr::new(SUFFIX)))).collect()
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The line about a letter, none if it is not one, and what follows it.
fn open(path: &Path) -> io::Result<(Option<Letter>, BufReader<File>)> {
    let mut file = BufReader::new(File::open(path)?);
    let mut head = Vec::new();
    (&mut file).take(HEAD_MAX).read_until(b'\n', &mut head)?;
    Ok((json::parse_as(&head, LIMITS).ok(), file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, batch};

    fn letters(folder: &tempfile::TempDir) -> DeadLetters {
        DeadLetters::new(folder.path().join("dead"), 2)
    }

    fn now(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[tokio::test]
    async fn a_letter_is_listed_with_its_reason_and_leaves_once_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let letters = letters(&folder);
        let (one, two) = (batch(0, 4), batch(5, 9));
        letters.park(&two, &Cause::new("status 413"), now(9)).await.unwrap();
        letters.park(&one, &Cause::new("status 422"), now(8)).await.unwrap();
        let listed = letters.list().await.unwrap();
        let told: Vec<_> = listed.iter().map(|l| (l.id, l.cause.to_string(), l.last.index)).collect();
        assert_eq!(told, [(one.id(), "status 422".into(), 4), (two.id(), "status 413".into(), 9)]);

        let sink = Script::of([Err(DeliverError::refused("still no")), Ok(())]);
        assert!(matches!(letters.deliver(one.id(), &sink).await, Err(LetterError::Deliver(_))));
        assert_eq!(letters.count().await.unwrap(), 2);
        letters.deliver(one.id(), &sink).await.unwrap();
        assert_eq!(sink.taken(), std::slice::from_ref(&one));
        assert_eq!(letters.list().await.unwrap().len(), 1);
        assert!(matches!(letters.deliver(one.id(), &sink).await, Err(LetterError::Absent(_))));
    }

    #[tokio::test]
    async fn a_full_folder_takes_no_more_but_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let letters = letters(&folder);
        let cause = Cause::new("no");
        for batch in [batch(0, 0), batch(1, 1), batch(0, 0)] {
            letters.park(&batch, &cause, now(1)).await.unwrap();
        }
        assert!(matches!(letters.park(&batch(2, 2), &cause, now(1)).await, Err(LetterError::Full(2))));
    }

    #[tokio::test]
    async fn every_damage_to_a_letter_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let letters = letters(&folder);
        let batch = batch(0, 4);
        letters.park(&batch, &Cause::new("no"), now(1)).await.unwrap();
        let path = letters.path(batch.id());
        let whole = fs::read(&path).unwrap();
        let read = async || letters.read(batch.id()).await;
        assert_eq!(read().await.unwrap(), batch);
        for length in [0, 1, 40, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(read().await, Err(LetterError::Damaged(_))), "cut to {length}");
        }
        let body = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        let other =
            String::from_utf8(whole.clone()).unwrap().replace("\"index\":4", "\"index\":3").into_bytes();
        let mut flipped = whole.clone();
        flipped[body] ^= 1;
        for damaged in [flipped, other, [whole, b"x".to_vec()].concat()] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(read().await, Err(LetterError::Damaged(_))));
        }
    }
}
