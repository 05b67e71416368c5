//! Sets of changes that wait for the file are applied together: one transaction and one sync for all of them.

use std::sync::{Arc, Mutex, PoisonError};

use bartizan_model::Tenant;
use bartizan_store::{
    Applied, Change, Row, STEP_BYTES_KEPT, STEPS_CLEARED, STEPS_KEPT, State, StepColumns, StoreError,
    Touched, Write, relational,
};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use crate::error::{sort, unavailable};
use crate::known::{Known, Name};
use crate::read;
use crate::store::{execute, store};

/// How many sets one transaction takes at the most, so that nobody waits long behind others.
const BATCH_MAX: usize = 128;

/// Sets of changes that wait. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<Mutex<Vec<Job>>>);

#[derive(Debug)]
struct Job {
    tenant: Tenant,
    changes: Vec<Change>,
    answer: oneshot::Sender<Result<u64, StoreError>>,
}

/// What became of a set of changes.
#[derive(Debug)]
struct Done {
    revision: u64,
    /// Rows beside the state as they are from the commit on.
    rows: Vec<(Name, Option<Row>)>,
}

/// What stopped a whole batch, told to each of its sets.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
struct Shared(Arc<str>);

impl Waiting {
    /// Lets a set of changes wait, for the next who works off what waits.
    pub(crate) fn put(
        &self,
        tenant: Tenant,
        changes: Vec<Change>,
    ) -> oneshot::Receiver<Result<u64, StoreError>> {
        let (answer, answered) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Job { tenant, changes, answer });
        answered
    }

    /// Applies what waits, or nothing where another has done so meanwhile. Each set is answered by itself.
    ///
    /// # Errors
    /// None of its own: whatever fails is told to the sets that it stopped.
    pub(crate) fn work_off(&self, connection: &mut Connection, known: &Known) -> Result<(), StoreError> {
        loop {
            let batch: Vec<Job> = {
                let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let many = waiting.len().min(BATCH_MAX);
                waiting.drain(..many).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            let (waiting, results) = match together(connection, &batch) {
                Ok(results) => {
                    let told = |result: Result<Done, StoreError>| {
                        result.map(|done| {
                            done.rows.into_iter().for_each(|(name, row)| known.put(name, row));
                            done.revision
                        })
                    };
                    (batch, results.into_iter().map(told).collect::<Vec<_>>())
                }
                Err(error) => {
                    known.clear();
                    let text: Arc<str> = whole(&error).into();
                    let corrupt = matches!(error, StoreError::Corrupt(_));
                    let told = |_: &Job| {
                        Err(if corrupt {
                            StoreError::Corrupt(text.to_string())
                        } else {
                            unavailable(Shared(text.clone()))
                        })
                    };
                    let results = batch.iter().map(told).collect();
                    (batch, results)
                }
            };
            for (job, result) in waiting.into_iter().zip(results) {
                // Whoever asked may have gone; what was applied stays.
                drop(job.answer.send(result));
            }
        }
    }
}

fn whole(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable(source) => source.to_string(),
        other => other.to_string(),
    }
}

/// All of a batch in one transaction that holds the write lock from its beginning; a set that does not fit leaves no trace.
fn together(connection: &mut Connection, batch: &[Job]) -> Result<Vec<Result<Done, StoreError>>, StoreError> {
    let mut transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sort)?;
    let mut results = Vec::with_capacity(batch.len());
    for job in batch {
        results.push(one(&mut transaction, job)?);
    }
    transaction.commit().map_err(sort)?;
    Ok(results)
}

/// One set in a savepoint of its own. The outer error is one after which the transaction cannot go on.
fn one(transaction: &mut Transaction<'_>, job: &Job) -> Result<Result<Done, StoreError>, StoreError> {
    let point = transaction.savepoint().map_err(sort)?;
    match apply(&point, &job.tenant, &job.changes) {
        Ok(done) => point.commit().map(|()| Ok(done)).map_err(sort),
        Err(error @ StoreError::Unavailable(_)) => Err(error),
        // Its own affair: what it wrote goes with the savepoint.
        Err(error) => Ok(Err(error)),
    }
}

fn apply(connection: &Connection, tenant: &Tenant, changes: &[Change]) -> Result<Done, StoreError> {
    let mut state: State = read::slice(connection, tenant, &Touched::by(changes))?;
    let Applied { writes, step } = state.apply(tenant, changes)?;
    let mut rows = Vec::new();
    for write in writes {
        match &write {
            Write::Row(row) => rows.push(((row.kind, row.id.clone()), Some(row.clone()))),
            Write::DeleteRow(kind, id) => rows.push(((*kind, id.clone()), None)),
            _ => {}
        }
        store(connection, write)?;
    }
    if let Some(step) = step {
        keep(connection, &step)?;
    }
    Ok(Done { revision: state.revision, rows })
}

/// Moves the revision, and keeps what led to it for others to follow.
fn keep(connection: &Connection, step: &StepColumns) -> Result<(), StoreError> {
    let (revision, mark) = (relational::signed(step.revision)?, step.mark.to_string());
    execute(connection, "update installation set revision = ?1, mark = ?2", params![revision, mark])?;
    if step.is_kept() {
        let size = relational::signed(step.body.len() as u64)?;
        execute(
            connection,
            "insert into steps (revision, mark, follows, upto, body) values (?1, ?2, ?3, \
             coalesce((select upto from steps order by revision desc limit 1), 0) + ?4, ?5)",
            params![revision, mark, step.follows.map(|mark| mark.to_string()), size, step.body],
        )?;
    }
    if step.revision.is_multiple_of(STEPS_CLEARED) {
        let kept = relational::signed(STEPS_KEPT)?;
        execute(connection, "delete from steps where revision <= ?1 - ?2", [revision, kept])?;
        let bytes = relational::signed(STEP_BYTES_KEPT)?;
        execute(
            connection,
            "delete from steps where upto <= (select upto from steps order by revision desc limit 1) - ?1",
            [bytes],
        )?;
    }
    Ok(())
}
