//! What has entered sessions: the join of the labels of everything that was given to each (DESIGN 6).
//!
//! A mark only rises, but for what is written by a recorded endorsement. It is found by a session that the house derives, shared
//! by all nodes, and lasts as long as the session is used and [`MARK_LIFE`] beyond.

use std::fmt::Debug;
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_model::{DecisionId, Label, PrincipalId, Tenant};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{Change, Row, RowKind, Rows, Store, StoreError, Warrant};

/// How long a session that nothing enters any more keeps its mark.
pub const MARK_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// How often a join is tried again that somebody else's came in between of.
const TRIES: usize = 16;

/// Proof that something was decided and recorded by which data may enter a session. `record` implements it for its
/// `IntentRecorded` of every kind; it unlocks marks, and nothing else of the state.
pub trait Entrance: Debug + Send + Sync {
    /// Whose house.
    fn tenant(&self) -> &Tenant;
    /// The decision behind it.
    fn decision(&self) -> DecisionId;
}

/// A session, as far as marks need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its id, which the house derives.
    pub id: String,
    /// Its subject.
    pub of: PrincipalId,
    /// What it begins with.
    pub origin: Label,
}

/// What is known of a session that something has entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The join of everything that has entered it, since it was last endorsed.
    pub label: Label,
    /// When the first of it did.
    pub opened: Timestamp,
    /// The decision by which it came to be what it is.
    pub decision: DecisionId,
}

impl Mark {
    /// What a row says.
    ///
    /// # Errors
    /// `Corrupt` when it is no mark.
    pub fn of(row: &Row) -> Result<Self, StoreError> {
        serde_json::from_str(&row.body)
            .map_err(|error| StoreError::Corrupt(format!("what has entered session {}: {error}", row.id)))
    }

    /// As a row of `tenant`, alive from `now` on.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be written as JSON.
    pub fn row(&self, tenant: &Tenant, id: &str, of: PrincipalId, now: Timestamp) -> Result<Row, StoreError> {
        Ok(Row {
            tenant: tenant.clone(),
            kind: RowKind::SessionLabel,
            id: id.to_owned(),
            owner: of.to_string(),
            expires: Some(now.saturating_add(MARK_LIFE)),
            version: 1,
            body: serde_json::to_string(self).map_err(|error| StoreError::Corrupt(error.to_string()))?,
        })
    }
}

/// Marks of sessions.
///
/// Contract: what an `Ok` of a join acknowledges is durable, and every later reading on any node sees it.
pub trait Marks: Debug + Send + Sync {
    /// The mark of a session; none where nothing has entered it, or nothing within [`MARK_LIFE`].
    fn mark<'a>(
        &'a self,
        tenant: &'a Tenant,
        id: &'a str,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Option<Mark>, StoreError>>;

    /// Joins what is about to enter a session into its mark, and says what that is now.
    fn join<'a>(
        &'a self,
        entrance: &'a dyn Entrance,
        session: &'a Marked,
        gives: &'a Label,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Label, StoreError>>;
}

/// An entrance, as the proof that changing a mark needs.
#[derive(Debug)]
pub struct Entering<'w>(&'w dyn Entrance);

impl Warrant for Entering<'_> {
    fn tenant(&self) -> &Tenant {
        self.0.tenant()
    }

    fn decision(&self) -> DecisionId {
        self.0.decision()
    }
}

/// A row, if it is of this house and not over.
fn alive(tenant: &Tenant, row: Option<&Row>, now: Timestamp) -> Result<Option<Mark>, StoreError> {
    let Some(row) = row else { return Ok(None) };
    if row.tenant != *tenant {
        return Err(StoreError::Corrupt(format!("session {} is of another house", row.id)));
    }
    if row.expires.is_some_and(|end| end <= now) { Ok(None) } else { Mark::of(row).map(Some) }
}

impl<S> Marks for S
where
    S: Rows + for<'w> Store<Entering<'w>>,
{
    fn mark<'a>(
        &'a self,
        tenant: &'a Tenant,
        id: &'a str,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Option<Mark>, StoreError>> {
        async move {
            let row = self.row(RowKind::SessionLabel, id).await?;
            alive(tenant, row.as_ref(), now)
        }
        .boxed()
    }

    fn join<'a>(
        &'a self,
        entrance: &'a dyn Entrance,
        session: &'a Marked,
        gives: &'a Label,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Label, StoreError>> {
        async move {
            let tenant = entrance.tenant();
            let mut last = None;
            for _ in 0..TRIES {
                let row = self.row(RowKind::SessionLabel, &session.id).await?;
                let before = alive(tenant, row.as_ref(), now)?;
                let label = before.as_ref().map_or(&session.origin, |mark| &mark.label).join(gives);
                let is_new = match &before {
                    None => label != session.origin,
                    Some(mark) => mark.label != label,
                };
                // In use, so it goes on: told only now and then.
                let soon_over = row
                    .as_ref()
                    .and_then(|row| row.expires)
                    .is_some_and(|end| end.saturating_since(now) < MARK_LIFE / 2);
                if !(is_new || before.is_some() && soon_over) {
                    return Ok(label);
                }
                let opened = before.map_or(now, |mark| mark.opened);
                let mark = Mark { label, opened, decision: entrance.decision() };
                let change = Change::PutRow {
                    row: mark.row(tenant, &session.id, session.of, now)?,
                    expect: row.map(|row| row.version),
                };
                match self.apply(&Entering(entrance), vec![change]).await {
                    Ok(_) => return Ok(mark.label),
                    Err(StoreError::Conflict(what)) => last = Some(what),
                    Err(error) => return Err(error),
                }
            }
            Err(StoreError::Conflict(last.unwrap_or_default()))
        }
        .boxed()
    }
}
