//! The least that recording costs: one file laid out on the medium beforehand, group commit, `fdatasync`. No checksums,
//! no order to recover, no tree.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bartizan_bench::Error;

use super::group::Group;
use super::{Engine, RECORD_BYTES, record};

/// Bytes that are written with zeroes first and then round and round.
const FILE_BYTES: u64 = 256 << 20;

pub struct BareFile {
    path: PathBuf,
    group: Group,
}

impl BareFile {
    pub fn start(folder: &Path) -> Result<Self, Error> {
        Self::start_with(folder, FILE_BYTES)
    }

    fn start_with(folder: &Path, size: u64) -> Result<Self, Error> {
        let path = folder.join("bare");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let zeroes = vec![0; 1 << 20];
        for at in (0..size).step_by(zeroes.len()) {
            file.write_all_at(&zeroes, at)?;
        }
        file.sync_all()?;
        let mut place = 0;
        let mut bytes = Vec::new();
        let group = Group::start(move |records| {
            bytes.clear();
            records.iter().for_each(|record| bytes.extend_from_slice(record));
            place = write_round(&file, &bytes, place, size)?;
            Ok(file.sync_data()?)
        })?;
        Ok(Self { path, group })
    }
}

/// Writes `bytes` at `place` of a file that begins anew where it ends; gives the place behind them.
fn write_round(file: &File, bytes: &[u8], place: u64, size: u64) -> Result<u64, Error> {
    let room = usize::try_from(size - place)?.min(bytes.len());
    let (end, beginning) = bytes.split_at(room);
    file.write_all_at(end, place)?;
    file.write_all_at(beginning, 0)?;
    Ok((place + bytes.len() as u64) % size)
}

impl Engine for BareFile {
    async fn append(&self, number: u64) -> Result<(), Error> {
        self.group.append(record(number)).await
    }

    async fn syncs(&self) -> Result<Option<u64>, Error> {
        Ok(Some(self.group.batches()))
    }

    /// As many whole records as were acknowledged, or as the file has room for.
    async fn check(&self, acknowledged: u64) -> Result<(), Error> {
        self.group.end()?;
        let file = std::fs::read(&self.path)?;
        let slots = file.chunks_exact(RECORD_BYTES);
        let expected = acknowledged.min(slots.len() as u64);
        let whole = |slot: &[u8]| {
            let number = slot.first_chunk::<8>().map(|number| u64::from_be_bytes(*number));
            number.is_some_and(|number| slot == record(number))
        };
        super::at_least(slots.filter(|slot| whole(slot)).count() as u64, expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_again_also_round_the_end_and_lost_ones_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bare = BareFile::start_with(folder.path(), 1 << 20).unwrap();
            for number in 0..1_500 {
                bare.append(number).await.unwrap();
            }
            bare.check(1_500).await.unwrap();
            assert_eq!(bare.syncs().await.unwrap(), Some(1_500));
            let file = OpenOptions::new().write(true).open(&bare.path).unwrap();
            file.write_all_at(b"x", 700 * 1_024 + 500).unwrap();
            assert!(bare.check(1_500).await.unwrap_err().to_string().contains("1023 are there"));
        });
    }

    #[test]
    fn a_batch_that_passes_the_end_goes_on_at_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("round");
        let file = File::create_new(&path).unwrap();
        assert_eq!(write_round(&file, b"abcdef", 6, 8).unwrap(), 4);
        assert_eq!(write_round(&file, b"gh", 4, 8).unwrap(), 6);
        assert_eq!(std::fs::read(&path).unwrap(), b"cdefghab");
    }
}
