//! Parts that a test scripts.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Batch, DeliverError, Position, Positions, Progress, Sink, Source, SourceError, Want};

pub(crate) fn at(index: u64) -> Position {
    Position { origin: "log.example/default/2026q4".into(), index }
}

/// A batch of `{"n":INDEX}` for every index from `first` to `last`.
pub(crate) fn batch(first: u64, last: u64) -> Batch {
    let body: String = (first..=last).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let records = u32::try_from(last - first + 1).unwrap();
    Batch::new(at(first), at(last), Batch::JSON_LINES, Bytes::from(body), records).unwrap()
}

/// A log that grows.
#[derive(Debug, Default)]
pub(crate) struct Log(pub(crate) Mutex<u64>);

#[async_trait]
impl Source for Log {
    async fn next(&self, want: &Want) -> Result<Option<Batch>, SourceError> {
        let size = *self.0.lock().unwrap();
        let first = want.after.as_ref().map_or(0, |p| p.index + 1);
        let last = want.until.as_ref().map_or(size.min(first + u64::from(want.records_max)), |p| p.index + 1);
        Ok((first < last).then(|| batch(first, last - 1)))
    }

    async fn behind(&self, after: Option<&Position>) -> Result<u64, SourceError> {
        Ok(*self.0.lock().unwrap() - after.map_or(0, |p| p.index + 1))
    }
}

/// Answers as scripted, then takes everything; keeps what it took.
#[derive(Debug, Default)]
pub(crate) struct Script {
    answers: Mutex<VecDeque<Result<(), DeliverError>>>,
    seen: Mutex<Vec<(Batch, bool)>>,
}

impl Script {
    pub(crate) fn of(answers: impl IntoIterator<Item = Result<(), DeliverError>>) -> Self {
        Self { answers: Mutex::new(answers.into_iter().collect()), seen: Mutex::default() }
    }

    pub(crate) fn taken(&self) -> Vec<Batch> {
        self.seen.lock().unwrap().iter().filter(|(_, ok)| *ok).map(|(b, _)| b.clone()).collect()
    }

    pub(crate) fn tried(&self) -> Vec<Batch> {
        self.seen.lock().unwrap().iter().map(|(b, _)| b.clone()).collect()
    }
}

#[async_trait]
impl Sink for Script {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliverError> {
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Ok(()));
        self.seen.lock().unwrap().push((batch.clone(), answer.is_ok()));
        answer
    }
}

/// Progress in memory. `fail` counts down; at zero a store fails, before or after it was written.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) stored: Mutex<Progress>,
    pub(crate) fail: Mutex<Vec<(u32, bool)>>,
    stores: Mutex<u32>,
}

#[async_trait]
impl Positions for Memory {
    async fn load(&self) -> io::Result<Progress> {
        Ok(self.stored.lock().unwrap().clone())
    }

    async fn store(&self, progress: &Progress) -> io::Result<()> {
        let number = {
            let mut stores = self.stores.lock().unwrap();
            *stores += 1;
            *stores
        };
        let fault = self.fail.lock().unwrap().iter().find(|(n, _)| *n == number).map(|(_, written)| *written);
        if fault != Some(false) {
            *self.stored.lock().unwrap() = progress.clone();
        }
        fault.map_or(Ok(()), |_| Err(io::Error::from(io::ErrorKind::StorageFull)))
    }
}
