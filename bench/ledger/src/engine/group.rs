//! Group commit in front of anything: one thread takes whatever waits, makes it durable at once, and only then says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bartizan_bench::Error;
use tokio::sync::oneshot;

use super::BATCH_MAX;

/// A record on its way.
struct Entry {
    record: Vec<u8>,
    durable: oneshot::Sender<Result<(), String>>,
}

/// The queue and its thread.
pub struct Group {
    sender: Mutex<Option<Sender<Entry>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    batches: Arc<AtomicU64>,
}

impl Group {
    /// Starts the thread that makes batches durable by `commit`.
    pub fn start(
        commit: impl FnMut(&[Vec<u8>]) -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let (sender, receiver) = channel();
        let batches = Arc::new(AtomicU64::new(0));
        let counted = batches.clone();
        let thread = std::thread::Builder::new()
            .name("group-commit".into())
            .spawn(move || run(&receiver, &counted, commit))?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), batches })
    }

    /// Waits until `record` is durable.
    pub async fn append(&self, record: Vec<u8>) -> Result<(), Error> {
        let (durable, written) = oneshot::channel();
        {
            let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
            let sender = sender.as_ref().ok_or("the group commit has ended")?;
            sender.send(Entry { record, durable }).map_err(|_| "the group commit has ended")?;
        }
        Ok(written.await??)
    }

    /// How many batches were made durable.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Ends the thread, and with it whatever `commit` holds open.
    pub fn end(&self) -> Result<(), Error> {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map_or(Ok(()), |thread| thread.join().map_err(|_| "the group commit panicked".into()))
    }
}

fn run(
    entries: &Receiver<Entry>,
    batches: &AtomicU64,
    mut commit: impl FnMut(&[Vec<u8>]) -> Result<(), Error>,
) {
    loop {
        let first = match entries.try_recv() {
            Ok(first) => first,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                let Ok(first) = entries.recv() else { return };
                // Whoever runs on this core next may have more for this flush; the product does the same.
                std::thread::yield_now();
                first
            }
        };
        let (records, waiting): (Vec<_>, Vec<_>) = std::iter::once(first)
            .chain(entries.try_iter().take(BATCH_MAX - 1))
            .map(|entry| (entry.record, entry.durable))
            .unzip();
        let result = commit(&records).map_err(|error| error.to_string());
        batches.fetch_add(1, Ordering::Relaxed);
        for durable in waiting {
            // Whoever does not wait any more needs not be told.
            let _ = durable.send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_before_the_commit_and_everybody_is_told_of_its_failure() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        let group = Group::start(move |records| {
            if records.iter().any(|r| r == b"bad") {
                return Err("the medium is full".into());
            }
            kept.lock().unwrap().extend(records.to_vec());
            Ok(())
        })
        .unwrap();
        runtime.block_on(async {
            for n in 0_u8..50 {
                group.append(vec![n]).await.unwrap();
                assert_eq!(seen.lock().unwrap().len(), usize::from(n) + 1, "durable before it is told");
            }
            let error = group.append(b"bad".to_vec()).await.unwrap_err();
            assert_eq!(error.to_string(), "the medium is full");
            assert_eq!(group.batches(), 51);
            group.end().unwrap();
            assert!(group.append(vec![1]).await.is_err());
        });
    }
}
