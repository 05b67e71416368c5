//! The thread that writes: takes what waits, seals it, and puts it on the disk in batches.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use bartizan_base::{Clock, Digest, Timestamp};
use bartizan_model::{PrincipalId, Tenant};
use bartizan_store::State;
use rusqlite::Connection;
use serde_json::Value;

use crate::file::{self, File, Kept, SlicesError};
use crate::keep::{Keep, Stats, sealed_for};
use crate::seal::Keys;

/// Decisions of one batch.
const BATCH_MAX: usize = 1_024;
/// How long the first of a batch waits for others: one sync serves them all.
const LINGER_US: u64 = 20_000;
/// Slices known to be on the disk.
const KNOWN_MAX: usize = 100_000;
/// Asks that go in one transaction.
const EXPIRE_MAX: u64 = 10_000;

/// What the thread is told.
pub(crate) enum Job {
    /// Keep this.
    Keep(Keep),
    /// Say when everything before is on the disk.
    Flush(SyncSender<()>),
    /// Somebody was erased.
    Forget(Tenant, PrincipalId),
    /// Let go what is too old or too much, and say when that is done.
    Tidy(Timestamp, SyncSender<()>),
}

pub(crate) struct Writer {
    pub(crate) file: File,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) keep_for: Duration,
    pub(crate) bytes_max: u64,
    pub(crate) known: HashSet<(Tenant, Digest)>,
}

impl Writer {
    /// Works until nobody can send any more.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let (mut batch, mut answers, mut tidy, mut forget) = (Vec::new(), Vec::new(), None, None);
            let mut take = |job: Job| match job {
                Job::Keep(keep) => {
                    batch.push(keep);
                    batch.len() < BATCH_MAX
                }
                Job::Flush(done) => {
                    answers.push(done);
                    false
                }
                Job::Forget(tenant, subject) => {
                    forget = Some((tenant, subject));
                    false
                }
                Job::Tidy(now, done) => {
                    answers.push(done);
                    tidy = Some(now);
                    false
                }
            };
            let mut more = take(first);
            let until = self.clock.monotonic_us().saturating_add(LINGER_US);
            while more {
                let left = until.saturating_sub(self.clock.monotonic_us());
                more = jobs.recv_timeout(Duration::from_micros(left)).is_ok_and(&mut take);
            }
            let began = self.clock.monotonic_us();
            self.keep_all(&batch);
            if let Some((tenant, subject)) = forget {
                self.known.clear();
                if let Err(error) = self.file.write(|connection| file::forget(connection, &tenant, subject)) {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "entities of an erased person stay unreadable"
                    );
                }
            }
            if let Some(now) = tidy
                && let Err(error) = self.tidy(now)
            {
                tracing::error!(error = &error as &dyn std::error::Error, "old slices could not be let go");
            }
            let worked = self.clock.monotonic_us().saturating_sub(began);
            self.stats.worked_us.fetch_add(worked, Relaxed);
            for done in answers {
                // Whoever does not wait any more does not need the answer.
                done.send(()).unwrap_or_default();
            }
        }
    }

    fn keep_all(&mut self, batch: &[Keep]) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        if let Err(error) = self.try_keep_all(batch) {
            // Nothing of it was committed, so nothing of it is known.
            self.known.clear();
            self.stats.lost.fetch_add(count, Relaxed);
            tracing::error!(
                error = &error as &dyn std::error::Error,
                count,
                "what replay needs was not kept"
            );
        } else {
            self.stats.kept.fetch_add(count, Relaxed);
        }
    }

    fn try_keep_all(&mut self, batch: &[Keep]) -> Result<(), SlicesError> {
        let (keys, known) = (&self.keys, &mut self.known);
        if known.len() > KNOWN_MAX {
            known.clear();
        }
        self.file.write(|connection| batch.iter().try_for_each(|keep| put(connection, keys, known, keep)))
    }

    fn tidy(&mut self, now: Timestamp) -> Result<(), SlicesError> {
        let age = u64::try_from(self.keep_for.as_micros()).unwrap_or(u64::MAX);
        let mut moment = Timestamp::from_micros(now.as_micros().saturating_sub(age));
        loop {
            while self.file.write(|connection| file::expire(connection, moment, EXPIRE_MAX))? > 0 {}
            self.file.write(file::collect)?;
            self.known.clear();
            let bytes = self.file.bytes()?;
            self.stats.bytes.store(bytes, Relaxed);
            if bytes <= self.bytes_max {
                break;
            }
            match file::oldest_tenth(self.file.connection())? {
                Some(later) => moment = later,
                None => break,
            }
        }
        self.file.shrink()
    }
}

fn put(
    connection: &Connection,
    keys: &Keys,
    known: &mut HashSet<(Tenant, Digest)>,
    keep: &Keep,
) -> Result<(), SlicesError> {
    let Keep { tenant, decision, ask, slice, .. } = keep;
    let now = decision.timestamp();
    let plain = serde_json::to_vec(&**ask).map_err(|_| SlicesError::Damaged("an ask"))?;
    // Everybody who asked; nobody in particular has a pseudonym as well.
    let under: BTreeSet<PrincipalId> = ask.members().map(|m| m.principal.id).collect();
    let name = sealed_for("ask", decision);
    let sealed = keys.seal(tenant, &name, &plain, under.into_iter().collect(), now)?;
    for subject in keys.made() {
        known.clear();
        file::forget(connection, tenant, subject)?;
    }
    let whose = (tenant.clone(), *slice);
    if !known.contains(&whose) {
        if !file::has_slice(connection, tenant, *slice)? {
            put_slice(connection, keys, keep, now)?;
        }
        known.insert(whose);
    }
    file::put_ask(connection, tenant, *decision, *slice, &sealed)
}

fn put_slice(connection: &Connection, keys: &Keys, keep: &Keep, now: Timestamp) -> Result<(), SlicesError> {
    let Keep { tenant, ask, snapshot, slice, state, .. } = keep;
    let mut all = BTreeSet::new();
    for member in ask.members() {
        // Where one does not exist, nothing was evaluated and the slice is empty.
        let documents = snapshot.entities().slice_documents(&member.principal.entity(), &ask.resource);
        for (node, document) in documents.into_iter().flatten() {
            if all.insert(node) && !file::has_node(connection, tenant, node)? {
                let under = people_in(&document, tenant, state)?;
                let kept = if under.is_empty() {
                    Kept { under, bytes: document }
                } else {
                    keys.seal(tenant, &sealed_for("node", &node), &document, under, now)?
                };
                file::put_node(connection, tenant, node, &kept)?;
            }
        }
    }
    file::put_slice(connection, tenant, *slice, &all.into_iter().collect::<Vec<_>>())
}

/// The people whom an entity is or names, by pseudonym. Those whom nobody can find in the directory have none.
fn people_in(document: &[u8], tenant: &Tenant, state: &State) -> Result<Vec<PrincipalId>, SlicesError> {
    let value: Value = serde_json::from_slice(document).map_err(|_| SlicesError::Damaged("an entity"))?;
    let mut found = BTreeSet::new();
    named(&value, &mut |kind, name| {
        if kind == "User" {
            let document = state
                .documents
                .find(|(t, d, _)| (t, d.spec.kind(), d.name.as_str()).cmp(&(tenant, "user", name)));
            found.extend(document.and_then(|(_, d, _)| d.principal));
        }
    });
    Ok(found.into_iter().collect())
}

/// Every reference to an entity in Cedar's JSON, wherever it stands.
fn named(value: &Value, tell: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Object(members) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            if let (Some(kind), Some(id)) = (text("type"), text("id")) {
                tell(kind, id);
            }
            members.values().for_each(|v| named(v, tell));
        }
        Value::Array(items) => items.iter().for_each(|v| named(v, tell)),
        _ => {}
    }
}
