//! Locks on the request path: looked for on every ask, and again while streams run.

use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::Timestamp;
use bartizan_decide::Entities;
use bartizan_decide::lock::Lockable;
use bartizan_model::{Lock, Problem, ReasonCode, Tenant};
use bartizan_store::{RowKind, State};

/// The locks of a state, read once.
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<(u64, Arc<Read>)>);

/// Each with whose house it is; one that does not read is a lock on everything.
type Read = Vec<(Tenant, Option<Lock>)>;

impl Locks {
    fn of(&self, state: &State) -> Arc<Read> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != state.revision {
            let rows = state.rows.iter().filter(|row| row.kind == RowKind::Lock);
            let read = rows.map(|row| {
                let lock = serde_json::from_str(&row.body);
                if let Err(error) = &lock {
                    tracing::error!(row = row.id, %error, "a lock is not readable; its tenant is locked");
                }
                (row.tenant.clone(), lock.ok())
            });
            *kept = (state.revision, Arc::new(read.collect()));
        }
        kept.1.clone()
    }

    /// Whether anything is locked: then what is asked for is looked at.
    pub(crate) fn check(
        &self,
        state: &State,
        entities: &Entities,
        ask: &Lockable<'_>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let read = self.of(state);
        let mut own = read.iter().filter(|(tenant, _)| tenant == ask.caller.tenant());
        let found = own.find(|(_, lock)| lock.as_ref().is_none_or(|lock| ask.is_under(lock, entities, now)));
        match found {
            None => Ok(()),
            Some((_, None)) => Err(Problem::new(ReasonCode::Locked)),
            Some((_, Some(lock))) => {
                let detail = format!("until {}; ask {}", lock.until_us, lock.ask);
                Err(Problem::with_detail(ReasonCode::Locked, detail))
            }
        }
    }
}
