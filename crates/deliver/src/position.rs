//! How far a destination has come, kept across restarts.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bartizan_base::json::{self, Limits};
use serde::{Deserialize, Serialize};

use crate::batch::Position;
use crate::durable::{blocking, create_folder, replace};

/// How far a destination has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last entry that is delivered, or lies in a dead letter.
    pub done: Option<Position>,
    /// The last entry of the batch behind it that may have been tried: it is tried with the same range again, so that it keeps
    /// its id.
    pub trying: Option<Position>,
}

/// Keeps the progress of one destination.
///
/// Contract: what [`Positions::store`] answered `Ok` to is what [`Positions::load`] gives after a crash of process or machine;
/// after an error it is that or what was there before. One courier uses it at a time.
#[async_trait]
pub trait Positions: Debug + Send + Sync {
    /// What was stored last; the beginning if nothing was.
    ///
    /// # Errors
    /// When it cannot be read or is damaged: never the beginning by mistake.
    async fn load(&self) -> io::Result<Progress>;

    /// Stores it durably.
    ///
    /// # Errors
    /// When it may not be durable.
    async fn store(&self, progress: &Progress) -> io::Result<()>;
}

/// Progress in a file of its own.
#[derive(Clone, Debug)]
pub struct FilePositions {
    path: PathBuf,
}

/// The file: nothing in it may be left out, so that no damage reads as the beginning.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u32,
    #[serde(deserialize_with = "Option::deserialize")]
    done: Option<Position>,
    #[serde(deserialize_with = "Option::deserialize")]
    trying: Option<Position>,
}

const VERSION: u32 = 1;
const LIMITS: Limits = Limits { bytes_max: 16 << 10, depth_max: 4, nodes_max: 16 };

impl FilePositions {
    /// The progress kept at `path`; its folder is made when it is needed.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

fn load(path: &Path) -> io::Result<Progress> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Progress::default()),
        Err(error) => return Err(error),
    };
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let stored: Stored = json::parse_as(&bytes, LIMITS).map_err(|e| invalid(e.to_string()))?;
    if stored.v != VERSION {
        return Err(invalid(format!("written by another version, {}", stored.v)));
    }
    Ok(Progress { done: stored.done, trying: stored.trying })
}

#[async_trait]
impl Positions for FilePositions {
    async fn load(&self) -> io::Result<Progress> {
        let path = self.path.clone();
        blocking(move || load(&path)).await
    }

    async fn store(&self, progress: &Progress) -> io::Result<()> {
        let path = self.path.clone();
        let Progress { done, trying } = progress.clone();
        let bytes = serde_json::to_vec(&Stored { v: VERSION, done, trying })?;
        blocking(move || {
            if let Some(folder) = path.parent() {
                create_folder(folder)?;
            }
            replace(&path, &[&bytes])
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn progress_survives_and_a_damaged_file_is_not_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deliver/siem.json");
        let positions = FilePositions::new(&path);
        assert_eq!(positions.load().await.unwrap(), Progress::default());
        let at = |index| Some(Position { origin: "log.example/default/2026q4".into(), index });
        let progress = Progress { done: at(41), trying: at(52) };
        positions.store(&progress).await.unwrap();
        assert_eq!(FilePositions::new(&path).load().await.unwrap(), progress);
        // A process that was killed while it wrote leaves the other name behind.
        std::fs::write(path.with_extension("new"), b"{\"do").unwrap();
        assert_eq!(positions.load().await.unwrap(), progress);
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], b"", b"{}", b"{\"v\":1,\"done\":null}", b"[]"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(positions.load().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
