//! What has entered sessions, and lowering it: an endorsement is a person's word that what a session was given may steer an act,
//! or may be read more widely. Nothing else lowers a label.

use std::sync::Arc;

use bartizan_base::{Text, Timestamp};
use bartizan_identify::Caller;
use bartizan_model::{Action, DecisionId, Label, PrincipalId, PrincipalKind, Problem, ReasonCode};
use bartizan_store::{Change, Mark, Row, RowKind, Rows, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Control, Done, Stopped};

/// Sessions that are listed at once.
const LISTED_MAX: usize = 1_000;

/// A session that something has entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionLabelView {
    /// Its id.
    pub session: String,
    /// Whose, by pseudonym.
    pub of: PrincipalId,
    /// The join of what has entered it.
    #[schemars(with = "serde_json::Value")]
    pub label: Label,
    /// When the first of it did.
    pub opened_us: Timestamp,
    /// Until when that is known, if nothing more enters.
    pub expires_us: Option<Timestamp>,
    /// The decision by which it came to be what it is.
    pub decision: DecisionId,
    /// Grows with each change: what an endorsement must have seen.
    pub version: u64,
}

/// An endorsement.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndorseSession {
    /// The session's id.
    pub session: String,
    /// The version that was looked at. Whatever has entered since then was not endorsed.
    pub version: u64,
    /// The label from now on; in no part higher than the present one.
    #[schemars(with = "serde_json::Value")]
    pub label: Label,
    /// What was looked at, and why it may be so.
    pub reason: Text<500>,
}

/// The labels of sessions, for those who look after them.
#[derive(Clone, Debug)]
pub struct SessionLabels {
    /// Asks, records and changes.
    pub control: Control,
    /// Where they lie.
    pub rows: Arc<dyn Rows>,
}

impl SessionLabels {
    /// Sessions that something has entered, by id.
    ///
    /// # Errors
    /// When policy says no, or the state database does not answer.
    pub async fn list(&self, caller: &Caller) -> Result<Done<Vec<SessionLabelView>>, Stopped> {
        let now = self.control.clock.now();
        let request = "labels of sessions";
        self.control
            .read_with(caller, Action::IdentityRead, &request, async |_, tenant| {
                let found =
                    self.rows.rows(tenant, RowKind::SessionLabel, "", LISTED_MAX).await.map_err(failed)?;
                found.iter().filter(|row| is_alive(row, now)).map(view).collect()
            })
            .await
    }

    /// Lowers a session's label, on record.
    ///
    /// # Errors
    /// When policy says no, no person asks by themselves, there is no such session, more has entered since it was looked at,
    /// or the label would rise.
    pub async fn endorse(
        &self,
        caller: &Caller,
        request: &EndorseSession,
    ) -> Result<Done<SessionLabelView>, Stopped> {
        let now = self.control.clock.now();
        self.control
            .change_with(caller, Action::SessionEndorse, request, async |_, tenant| {
                // No agent endorses, neither for itself nor in somebody's name.
                if caller.subject().principal.kind != PrincipalKind::User || !caller.actors().is_empty() {
                    let detail = "only a person endorses, and by themselves";
                    return Err(Problem::with_detail(ReasonCode::Forbidden, detail));
                }
                let row = self.rows.row(RowKind::SessionLabel, &request.session).await.map_err(failed)?;
                let row = row.filter(|row| row.tenant == *tenant && is_alive(row, now));
                let row = row.ok_or_else(|| Problem::new(ReasonCode::NotFound))?;
                if row.version != request.version {
                    let detail = "more has entered the session since it was looked at";
                    return Err(Problem::with_detail(ReasonCode::Conflict, detail));
                }
                let before = Mark::of(&row).map_err(failed)?;
                if before.label.join(&request.label) != before.label {
                    let detail = "an endorsement only lowers a label";
                    return Err(Problem::with_detail(ReasonCode::Invalid, detail));
                }
                let of: PrincipalId = row.owner.parse().map_err(|_| Problem::new(ReasonCode::Internal))?;
                let mark = Mark { label: request.label.clone(), ..before };
                let after = mark.row(tenant, &row.id, of, now).map_err(failed)?;
                let seen = view(&Row { version: row.version + 1, ..after.clone() })?;
                Ok((vec![Change::PutRow { row: after, expect: Some(row.version) }], seen))
            })
            .await
    }
}

fn is_alive(row: &Row, now: Timestamp) -> bool {
    row.expires.is_none_or(|end| end > now)
}

fn view(row: &Row) -> Result<SessionLabelView, Problem> {
    let Mark { label, opened, decision } = Mark::of(row).map_err(failed)?;
    Ok(SessionLabelView {
        session: row.id.clone(),
        of: row.owner.parse().map_err(|_| Problem::new(ReasonCode::Internal))?,
        label,
        opened_us: opened,
        expires_us: row.expires,
        decision,
        version: row.version,
    })
}

fn failed(error: StoreError) -> Problem {
    Stopped::from(error).problem
}
