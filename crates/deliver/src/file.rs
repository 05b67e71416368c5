//! Records as lines in files of a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bartizan_base::{Clock, Name, Timestamp};

use crate::batch::{Batch, Cause, DeliverError, Sink};
use crate::durable::{blocking, create_folder, sync_folder_of};

/// How files are written.
#[derive(Clone, Debug)]
pub struct FileConfig {
    /// Where they lie. One sink at a time has the folder.
    pub folder: PathBuf,
    /// What their names begin with; a slash in it is not one of a path.
    pub prefix: Name,
    /// A file that is at least so long is followed by a new one, in bytes.
    pub bytes_max: u64,
    /// A file that is at least so old is followed by a new one.
    pub age_max: Duration,
}

/// Appends JSON lines to files called `PREFIX-NUMBER-TIME.jsonl`; the one with the highest number grows. A batch lies in one file
/// and is synced before it counts as delivered. Other programs may take away every file but the newest.
#[derive(Debug)]
pub struct FileSink {
    config: FileConfig,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<Option<Open>>>,
    /// Held open: the lock goes with it.
    _lock: File,
}

/// Why a folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FileSinkError {
    /// Another one writes there.
    #[error("{0}: another destination or process writes its files there")]
    Taken(PathBuf),
    /// The folder cannot be made or opened.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file that grows.
#[derive(Debug)]
struct Open {
    file: File,
    number: u64,
    began: Timestamp,
    /// Everything below is whole lines, synced.
    length: u64,
}

/// A file by its name.
struct Named {
    path: PathBuf,
    number: u64,
    began: Timestamp,
}

impl FileSink {
    /// Takes the folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`FileSinkError`].
    pub fn open(config: FileConfig, clock: Arc<dyn Clock>) -> Result<Self, FileSinkError> {
        let path = config.folder.join("lock");
        let failed = |source| FileSinkError::Io { path: path.clone(), source };
        create_folder(&config.folder).map_err(failed)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { config, clock, state: Arc::default(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FileSinkError::Taken(config.folder)),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliverError> {
        if batch.media_type != Batch::JSON_LINES || !batch.body.ends_with(b"\n") {
            return Err(DeliverError::refused("files take whole JSON lines alone"));
        }
        let (config, state, body) = (self.config.clone(), Arc::clone(&self.state), batch.body.clone());
        let now = self.clock.now();
        let write = move || {
            // A writer that was given up may still be at it; the lock makes this one wait.
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let written = append(&config, &mut state, now, &body);
            if written.is_err() {
                // What is on the disk now is unknown: the next try looks at it afresh.
                *state = None;
            }
            written
        };
        blocking(write).await.map_err(|error| DeliverError::retry(Cause::chain(&error)))
    }
}

fn append(config: &FileConfig, state: &mut Option<Open>, now: Timestamp, body: &[u8]) -> io::Result<()> {
    let mut open = match state.take() {
        Some(open) => open,
        None => match newest(config)? {
            Some(named) => resume(&named)?,
            None => create(config, 1, now)?,
        },
    };
    let full = open.length >= config.bytes_max || now.saturating_since(open.began) >= config.age_max;
    if full && open.length > 0 {
        open = create(config, open.number.saturating_add(1), now)?;
    }
    let open = state.insert(open);
    open.file.write_all(body)?;
    open.file.sync_data()?;
    open.length = open.length.saturating_add(u64::try_from(body.len()).unwrap_or(u64::MAX));
    Ok(())
}

/// Opens a file that was begun earlier, without the torn line that a crash may have left at its end.
fn resume(named: &Named) -> io::Result<Open> {
    const PIECE: usize = 64 << 10;
    let file = OpenOptions::new().read(true).append(true).open(&named.path)?;
    let whole = file.metadata()?.len();
    let mut length = whole;
    let mut piece = vec![0; PIECE];
    while length > 0 {
        let size = usize::try_from(length).unwrap_or(PIECE).min(PIECE);
        let start = length - u64::try_from(size).unwrap_or_default();
        let bytes = piece.get_mut(..size).unwrap_or_default();
        file.read_exact_at(bytes, start)?;
        if let Some(end) = bytes.iter().rposition(|b| *b == b'\n') {
            length = start + u64::try_from(end + 1).unwrap_or_default();
            break;
        }
        length = start;
    }
    if length < whole {
        tracing::warn!(bytes = whole - length, "half a line at the end of a file was cut off after a crash");
        file.set_len(length)?;
    }
    // Also what a process that died has written but not synced.
    file.sync_all()?;
    Ok(Open { file, number: named.number, began: named.began, length })
}

fn create(config: &FileConfig, number: u64, now: Timestamp) -> io::Result<Open> {
    let path = config.folder.join(format!("{}-{number:010}-{now}.jsonl", safe(&config.prefix)));
    let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
    sync_folder_of(&path)?;
    Ok(Open { file, number, began: now, length: 0 })
}

fn newest(config: &FileConfig) -> io::Result<Option<Named>> {
    let mut newest: Option<Named> = None;
    for entry in fs::read_dir(&config.folder)? {
        let path = entry?.path();
        if let Some(named) = parse(&path, &safe(&config.prefix))
            && newest.as_ref().is_none_or(|n| n.number < named.number)
        {
            newest = Some(named);
        }
    }
    Ok(newest)
}

fn parse(path: &Path, prefix: &str) -> Option<Named> {
    let rest = path.file_name()?.to_str()?.strip_prefix(prefix)?.strip_prefix('-')?;
    let (number, time) = rest.strip_suffix(".jsonl")?.split_once('-')?;
    let began = Timestamp::parse_rfc3339(time).ok()?;
    Some(Named { path: path.to_owned(), number: number.parse().ok()?, began })
}

fn safe(prefix: &Name) -> String {
    prefix.as_str().replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::batch;
    use bartizan_base::time::ManualClock;

    struct World {
        folder: tempfile::TempDir,
        clock: Arc<ManualClock>,
    }

    impl World {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_795_161_600)));
            Self { folder: tempfile::tempdir().unwrap(), clock }
        }

        fn open(&self) -> Result<FileSink, FileSinkError> {
            let config = FileConfig {
                folder: self.folder.path().join("out"),
                prefix: "records/all".parse().unwrap(),
                bytes_max: 60,
                age_max: Duration::from_secs(3_600),
            };
            FileSink::open(config, self.clock.clone())
        }

        fn files(&self) -> Vec<(String, String)> {
            let mut files: Vec<_> = fs::read_dir(self.folder.path().join("out"))
                .unwrap()
                .map(|e| e.unwrap().path())
                .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
                .map(|p| {
                    (p.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&p).unwrap())
                })
                .collect();
            files.sort();
            files
        }
    }

    fn lines(range: std::ops::RangeInclusive<u64>) -> String {
        range.map(|n| format!("{{\"n\":{n}}}\n")).collect()
    }

    #[tokio::test]
    async fn files_turn_over_by_size_and_age_and_no_batch_is_split() {
        let world = World::new();
        let sink = world.open().unwrap();
        sink.deliver(&batch(0, 4)).await.unwrap();
        sink.deliver(&batch(5, 9)).await.unwrap();
        sink.deliver(&batch(10, 10)).await.unwrap();
        world.clock.advance(Duration::from_secs(3_600));
        sink.deliver(&batch(11, 11)).await.unwrap();
        let files = world.files();
        let contents: Vec<_> = files.iter().map(|(_, c)| c.clone()).collect();
        assert_eq!(contents, [lines(0..=9), lines(10..=10), lines(11..=11)]);
        assert_eq!(files[0].0, "records_all-0000000001-2026-11-20T08:00:00.000Z.jsonl");
        assert_eq!(files[2].0, "records_all-0000000003-2026-11-20T09:00:00.000Z.jsonl");
    }

    #[tokio::test]
    async fn the_newest_file_grows_on_after_a_restart_also_with_the_clock_set_back() {
        let world = World::new();
        world.open().unwrap().deliver(&batch(0, 9)).await.unwrap();
        world.clock.set_wall(Timestamp::from_secs(1_000_000_000));
        let sink = world.open().unwrap();
        sink.deliver(&batch(10, 10)).await.unwrap();
        drop(sink);
        world.open().unwrap().deliver(&batch(11, 11)).await.unwrap();
        let contents: Vec<_> = world.files().into_iter().map(|(_, c)| c).collect();
        assert_eq!(contents, [lines(0..=9), lines(10..=11)]);
    }

    #[tokio::test]
    async fn a_torn_line_is_cut_off_at_every_length_before_more_is_written() {
        let whole = lines(0..=2);
        for length in 0..=whole.len() {
            let world = World::new();
            world.open().unwrap().deliver(&batch(0, 2)).await.unwrap();
            let path = world.folder.path().join("out").join(&world.files()[0].0);
            OpenOptions::new().write(true).open(&path).unwrap().set_len(length as u64).unwrap();
            world.open().unwrap().deliver(&batch(3, 3)).await.unwrap();
            let kept = whole.as_bytes()[..length].iter().filter(|b| **b == b'\n').count();
            let kept: String = whole.split_inclusive('\n').take(kept).collect();
            assert_eq!(world.files()[0].1, kept + &lines(3..=3), "{length}");
        }
    }

    #[tokio::test]
    async fn a_long_torn_line_is_cut_off_too() {
        let world = World::new();
        world.open().unwrap().deliver(&batch(0, 0)).await.unwrap();
        let path = world.folder.path().join("out").join(&world.files()[0].0);
        let torn = format!("{}{}", lines(0..=0), "x".repeat(200_000));
        fs::write(&path, torn).unwrap();
        world.open().unwrap().deliver(&batch(1, 1)).await.unwrap();
        assert_eq!(world.files()[0].1, lines(0..=1));
    }

    #[tokio::test]
    async fn half_lines_and_other_media_are_refused_and_the_folder_has_one_writer() {
        let world = World::new();
        let sink = world.open().unwrap();
        assert!(matches!(world.open(), Err(FileSinkError::Taken(_))));
        let [mut other, mut half] = [batch(0, 0), batch(0, 0)];
        other.media_type = "application/json".into();
        half.body = bytes::Bytes::from_static(b"{}");
        for bad in [other, half] {
            assert!(matches!(sink.deliver(&bad).await, Err(DeliverError::Refused { .. })));
        }
        assert!(world.files().is_empty());
    }

    #[tokio::test]
    async fn a_folder_that_fails_is_tried_again_and_serves_once_it_is_back() {
        let world = World::new();
        let sink = world.open().unwrap();
        let (folder, away) = (world.folder.path().join("out"), world.folder.path().join("away"));
        fs::rename(&folder, &away).unwrap();
        assert!(matches!(sink.deliver(&batch(0, 0)).await, Err(DeliverError::Retry { .. })));
        fs::rename(&away, &folder).unwrap();
        sink.deliver(&batch(0, 0)).await.unwrap();
        assert_eq!(world.files()[0].1, lines(0..=0));
    }
}
