use bartizan_ledger::{Appender, ReadError, ResumeError, Tile, empty_root};

use crate::world::MemoryLog;

#[test]
fn a_resumed_log_grows_exactly_as_the_one_that_never_stopped() {
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537] {
        let mut never_stopped = MemoryLog::of(size);
        let appender =
            Appender::resume(size, &never_stopped.appender.root(), &never_stopped).expect("a good log");
        let mut resumed = MemoryLog { files: never_stopped.files.clone(), appender };
        assert_eq!(resumed.appender.take_files(), [], "nothing has changed yet");
        resumed.grow_to(size + 300);
        never_stopped.grow_to(size + 300);
        assert_eq!(resumed.files, never_stopped.files);
        assert_eq!(resumed.appender.root(), never_stopped.appender.root());
    }
}

#[test]
fn files_written_beyond_the_checkpoint_do_not_hinder_resuming() {
    let log = MemoryLog::of(600);
    let root = MemoryLog::of(10).appender.root();
    // Partial files of the smaller size were never written; the full ones stand in.
    let resumed = Appender::resume(10, &root, &log).unwrap();
    assert_eq!((resumed.size(), resumed.root()), (10, root));
}

#[test]
fn a_log_is_not_resumed_under_another_root_or_size() {
    let log = MemoryLog::of(300);
    let root = log.appender.root();
    assert_eq!(Appender::resume(300, &empty_root(), &log).unwrap_err(), ResumeError::Root);
    assert_eq!(Appender::resume(0, &root, &log).unwrap_err(), ResumeError::Root);
    assert!(matches!(Appender::resume(301, &root, &log), Err(ResumeError::Read(ReadError::Missing(_)))));
}

#[test]
fn every_flipped_bit_and_every_missing_file_that_resuming_reads_is_noticed() {
    let log = MemoryLog::of(600);
    let root = log.appender.root();
    for path in ["tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/002.p/88"] {
        let tile: Tile = path.parse().unwrap();
        let mut missing = log.clone();
        missing.files.remove(&tile);
        assert_eq!(
            Appender::resume(600, &root, &missing).unwrap_err(),
            ResumeError::Read(ReadError::Missing(tile))
        );
        for at in (0..log.files[&tile].len()).step_by(13) {
            let mut flipped = log.clone();
            flipped.files.get_mut(&tile).unwrap()[at] ^= 1 << (at % 8);
            assert!(Appender::resume(600, &root, &flipped).is_err(), "{path} at {at}");
        }
    }
}
