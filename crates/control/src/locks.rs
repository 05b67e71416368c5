//! Locks: somebody or something may not, for a while. The quickest thing to do when something goes wrong, and undone by itself.

use std::time::Duration;

use bartizan_base::{Text, Timestamp};
use bartizan_decide::Entities;
use bartizan_decide::lock::Lockable;
use bartizan_identify::Caller;
use bartizan_model::{Action, EntityRef, Label, Lock, LockId, Locked, Problem, ReasonCode, Tenant};
use bartizan_store::{Change, Row, RowKind, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Control, Done, Stopped, View};

/// How long a lock lasts for which nothing was said.
const LASTS: Duration = Duration::from_secs(24 * 3_600);
/// The longest a lock may last: whatever is locked, somebody can do without recovery keys after that.
const LASTS_MAX: Duration = Duration::from_secs(90 * 24 * 3_600);
/// How many there may be at once in a house: each is looked at on every ask.
const LOCKS_MAX: usize = 1_000;

/// A lock to be set.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockToSet {
    /// On what: `user/ann`, `agent/helper`, `group/contractors`, `model/big`, `tool/rm`, `tool_server/crm`, `upstream/provider`,
    /// `session/ses_…`, `run/NAME`, `label/health`, `label/restricted`, `tenant`.
    pub on: Locked,
    /// Why, for those who look at it.
    pub reason: Text<500>,
    /// Seconds it lasts; absent for a day, at most 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// Whom to ask, as it is told to those who are refused; absent for whoever sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Text<200>>,
}

/// A lock as it may be seen.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LockView {
    /// Its id.
    pub id: LockId,
    /// What it says.
    #[serde(flatten)]
    pub lock: Lock,
}

impl Control {
    /// Sets a lock. When this returns it holds at every door, and open streams of what it is on end within a second.
    ///
    /// # Errors
    /// When policy says no, there is nothing of that name, or whoever sets it would be under it themself.
    pub async fn add_lock(&self, caller: &Caller, to_set: &LockToSet) -> Result<Done<LockView>, Stopped> {
        let now = self.clock.now();
        let id = LockId::new(now, &*self.random);
        self.change(caller, Action::LockChange, to_set, |view, tenant| {
            let lasts = to_set.for_s.map_or(LASTS, Duration::from_secs);
            if lasts.is_zero() || lasts > LASTS_MAX {
                return Err(Problem::with_detail(
                    ReasonCode::Invalid,
                    "a lock lasts from a second to 90 days",
                ));
            }
            let subject = &caller.subject().principal;
            let kind = subject.kind.entity_type().to_lowercase();
            let ask = to_set.ask.clone().or_else(|| format!("{kind}/{}", subject.name).parse().ok());
            let lock = Lock {
                on: to_set.on.clone(),
                reason: to_set.reason.clone(),
                by: subject.id,
                ask: ask.ok_or_else(|| Problem::with_detail(ReasonCode::Invalid, "`ask` is missing"))?,
                since_us: now,
                until_us: now.saturating_add(lasts),
            };
            exists(&lock.on, view, tenant)?;
            // Whoever sets a lock is under none and stays so: thus there is always somebody who can release one.
            if holds_back(&lock, caller, view.deciding.entities(), now) {
                let detail = "you would be under it yourself; somebody who is not has to set it";
                return Err(Problem::with_detail(ReasonCode::Constitution, detail));
            }
            let mut changes = over(&view.state, tenant, now);
            if locks(&view.state, tenant).count() - changes.len() >= LOCKS_MAX {
                return Err(Problem::with_detail(
                    ReasonCode::Conflict,
                    format!("there are {LOCKS_MAX} locks already"),
                ));
            }
            let body = serde_json::to_string(&lock).map_err(|_| Problem::new(ReasonCode::Internal))?;
            let row = Row {
                tenant: tenant.clone(),
                kind: RowKind::Lock,
                id: id.to_string(),
                owner: String::new(),
                expires: Some(lock.until_us),
                version: 0,
                body,
            };
            changes.push(Change::PutRow { row, expect: None });
            Ok((changes, LockView { id, lock }))
        })
        .await
    }

    /// The locks that hold.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn list_locks(&self, caller: &Caller) -> Result<Done<Vec<LockView>>, Stopped> {
        let now = self.clock.now();
        self.read(caller, Action::LockChange, &(), |view, tenant| {
            let read = |row: &Row| {
                let lock: Lock = serde_json::from_str(&row.body).ok()?;
                (now < lock.until_us).then_some(LockView { id: row.id.parse().ok()?, lock })
            };
            Ok(locks(&view.state, tenant).filter_map(read).collect())
        })
        .await
    }

    /// Releases a lock before its end.
    ///
    /// # Errors
    /// When policy says no, or there is no such lock.
    pub async fn release_lock(&self, caller: &Caller, id: LockId) -> Result<Done<()>, Stopped> {
        self.change(caller, Action::LockChange, &("release", id), |view, tenant| {
            let row = view.state.row(RowKind::Lock, &id.to_string()).filter(|row| row.tenant == *tenant);
            let row = row.ok_or_else(|| {
                Problem::with_detail(ReasonCode::NotFound, format!("there is no lock `{id}`"))
            })?;
            Ok((vec![Change::DeleteRow { kind: RowKind::Lock, id: row.id.clone(), expect: row.version }], ()))
        })
        .await
    }
}

fn locks<'a>(state: &'a State, tenant: &'a Tenant) -> impl Iterator<Item = &'a Row> {
    state.rows.iter().filter(move |row| row.kind == RowKind::Lock && row.tenant == *tenant)
}

/// What takes away locks that have ended.
fn over(state: &State, tenant: &Tenant, now: Timestamp) -> Vec<Change> {
    let ended = locks(state, tenant).filter(|row| row.expires.is_some_and(|end| end <= now));
    let gone = ended.map(|row| Change::DeleteRow { kind: row.kind, id: row.id.clone(), expect: row.version });
    gone.collect()
}

/// A lock with a slip of the pen in it would look as if it held.
fn exists(on: &Locked, view: &View, tenant: &Tenant) -> Result<(), Problem> {
    let Locked::Entity(entity) = on else { return Ok(()) };
    let mut documents = view.state.documents.iter().filter(|(of, ..)| of == tenant);
    if documents.any(|(_, document, _)| document.entity() == *entity) {
        return Ok(());
    }
    Err(Problem::with_detail(ReasonCode::NotFound, format!("nothing is declared as `{entity}`")))
}

/// Whether a lock is on somebody who works on the house itself: on them or a group of theirs, or on their session. Locks on a
/// tenant, a run or a label are for the doors.
fn holds_back(lock: &Lock, caller: &Caller, entities: &Entities, now: Timestamp) -> bool {
    let (resource, session) = (EntityRef::system(), Label::bottom());
    let ask = Lockable { caller, resource: &resource, beside: &[], run: None, session: &session };
    matches!(lock.on, Locked::Entity(_) | Locked::Session(_)) && ask.is_under(lock, entities, now)
}

/// What somebody under a lock can still do to the house: bring it back with the recovery keys, and take away what is theirs.
const fn is_free(action: Action) -> bool {
    matches!(
        action,
        Action::HouseClaim
            | Action::HouseRecover
            | Action::SessionEnd
            | Action::GrantWithdraw
            | Action::TokenRevoke
            | Action::KeyRevoke
    )
}

/// Why somebody may not work on the house now, if a lock is on them.
pub(crate) fn locked(view: &View, caller: &Caller, action: Action, now: Timestamp) -> Option<Problem> {
    if is_free(action) {
        return None;
    }
    locks(&view.state, caller.tenant()).find_map(|row| {
        // One that does not read is a lock on the doors; it must not keep anybody from mending it.
        let lock: Lock = serde_json::from_str(&row.body).ok()?;
        let held = holds_back(&lock, caller, view.deciding.entities(), now);
        held.then(|| {
            Problem::with_detail(ReasonCode::Locked, format!("until {}; ask {}", lock.until_us, lock.ask))
        })
    })
}
