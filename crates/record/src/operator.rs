//! The operator's log: a log of logs. It holds the checkpoints of all tenants' logs, so that witnesses cosign one small log
//! that says nothing about anybody, and a tenant's log that was rolled back with its lock store stands against it.

use std::collections::BTreeMap;

use bartizan_base::Digest;
use bartizan_ledger::ENTRIES_PER_BUNDLE;
use bartizan_model::Tenant;
use bartizan_model::record::{Body, Record, System};

use crate::intent::RecordError;
use crate::log::{LogError, TreeHead};
use crate::period::LogId;
use crate::recorder::Recorder;
use crate::sealed::{ReadError, SealedLog};

/// How far every log had come, by its name.
pub(crate) type Told = BTreeMap<String, TreeHead>;

/// What the operator's log says last about each log of `origins`.
pub(crate) fn told_last(log: &SealedLog, origins: &[String]) -> Result<Told, ReadError> {
    let mut told = Told::new();
    for bundle in (0..log.bundles()).rev() {
        for entry in log.bundle(bundle)?.iter().rev() {
            let Ok(record) = serde_json::from_slice::<Record>(entry) else { continue };
            if let Body::System(System::Checkpoint { origin, size, root }) = record.body {
                told.entry(origin).or_insert((size, root));
            }
        }
        if origins.iter().all(|origin| told.contains_key(origin)) {
            break;
        }
    }
    Ok(told)
}

/// What the first `size` entries of the operator's log say last about the log `origin`.
pub(crate) fn told_within(log: &SealedLog, size: u64, origin: &str) -> Result<Option<TreeHead>, ReadError> {
    for bundle in (0..size.div_ceil(ENTRIES_PER_BUNDLE)).rev() {
        let places = bundle * ENTRIES_PER_BUNDLE..size;
        for (_, entry) in places.zip(log.bundle(bundle)?).collect::<Vec<_>>().iter().rev() {
            let Ok(Record { body: Body::System(event), .. }) = serde_json::from_slice(entry) else {
                continue;
            };
            if let System::Checkpoint { origin: of, size, root } = event
                && of == origin
            {
                return Ok(Some((size, root)));
            }
        }
    }
    Ok(None)
}

/// Whether `log` begins with what the operator's log says about it.
pub(crate) fn stands(log: &SealedLog, origin: &str, (size, root): TreeHead) -> Result<(), LogError> {
    let rollback = || LogError::Rollback { origin: origin.to_owned(), size };
    let root_then: Option<Digest> = if size > log.size { None } else { log.root_at(size).ok() };
    if root_then == Some(root) { Ok(()) } else { Err(rollback()) }
}

impl Recorder {
    /// Records in the operator's log how far the other logs have come since it was told last.
    ///
    /// # Errors
    /// When it could not be made durable; the next call tells it.
    pub async fn tell_operator(&self) -> Result<(), RecordError> {
        let mut told = self.inner.told.lock().await;
        for (id, origin, head) in self.published_heads() {
            if id == LogId::operator() || told.get(&*origin) == Some(&head) {
                continue;
            }
            let (size, root) = head;
            let event = System::Checkpoint { origin: origin.to_string(), size, root };
            self.write(&Tenant::operator(), Body::System(event)).await?;
            told.insert(origin.to_string(), head);
        }
        Ok(())
    }
}
