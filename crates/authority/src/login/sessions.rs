//! The sessions of somebody, as they see them: listed, and ended with everything that was issued in them.

use bartizan_base::Timestamp;
use bartizan_control::{Done, Stopped};
use bartizan_model::{Action, Assurance, Problem, ReasonCode, Risk, SessionId};
use bartizan_store::{Change, EpochKind, State};
use serde::Serialize;

use super::{Login, SignedIn};
use crate::kept::{Held, Session, find_of, owner};
use crate::marks;

/// Sessions of one person that are looked at.
const MANY: usize = 500;

/// A session as its owner may see it.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    /// Which.
    pub id: SessionId,
    /// Whether it is the one that asks.
    pub is_this: bool,
    /// When it began.
    pub began: Timestamp,
    /// When it ends at the latest.
    pub ends: Timestamp,
    /// The program.
    pub agent: String,
    /// The network.
    pub network: String,
    /// How they were proven.
    pub assurance: Assurance,
    /// How risky it looked.
    pub risk: Risk,
}

impl Login {
    /// The sessions of whoever asks, the latest first.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn sessions(&self, who: &SignedIn) -> Result<Done<Vec<SessionView>>, Stopped> {
        let (now, this) = (self.now(), who.session.value.id);
        let rows = &*self.authority.rows;
        self.authority
            .control
            .read_with(&who.caller, Action::SessionList, &(), async |_, tenant| {
                let found = find_of::<Session>(rows, tenant, &owner(&who.principal), MANY, now).await;
                let found = found.map_err(|e| Stopped::from(e).problem)?;
                let mut views: Vec<SessionView> = found
                    .into_iter()
                    .map(|held| SessionView {
                        id: held.value.id,
                        is_this: held.value.id == this,
                        began: held.value.began,
                        ends: held.value.ends,
                        agent: held.value.agent,
                        network: held.value.network,
                        assurance: held.value.assurance,
                        risk: held.value.risk,
                    })
                    .collect();
                views.sort_by_key(|view| std::cmp::Reverse(view.began));
                Ok(views)
            })
            .await
    }

    /// Ends a session of whoever asks, and everything issued in it.
    ///
    /// # Errors
    /// When policy says no, or they have no such session.
    pub async fn end_session(&self, who: &SignedIn, id: SessionId) -> Result<Done<()>, Stopped> {
        self.end(who, &("one", id), |session| session.id == id, true).await
    }

    /// Ends all sessions of whoever asks but the present one, and everything issued in them.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn end_other_sessions(&self, who: &SignedIn) -> Result<Done<()>, Stopped> {
        let this = who.session.value.id;
        self.end(who, &("all but", this), |session| session.id != this, false).await
    }

    async fn end(
        &self,
        who: &SignedIn,
        request: &(impl Serialize + Sync),
        which: impl Fn(&Session) -> bool,
        must: bool,
    ) -> Result<Done<()>, Stopped> {
        let now = self.now();
        let rows = &*self.authority.rows;
        self.authority
            .control
            .change_with(&who.caller, Action::SessionEnd, request, async |view, tenant| {
                let found = find_of::<Session>(rows, tenant, &owner(&who.principal), MANY, now).await;
                let found = found.map_err(|e| Stopped::from(e).problem)?;
                let mut changes = Vec::new();
                for held in found.iter().filter(|held| which(&held.value)) {
                    changes.extend(ended(&view.state, held, now)?);
                }
                if must && changes.is_empty() {
                    return Err(Problem::with_detail(ReasonCode::NotFound, "no such session"));
                }
                Ok((changes, ()))
            })
            .await
    }
}

/// The changes that end a session: its row goes, and what was issued in it is dead.
pub(crate) fn ended(state: &State, held: &Held<Session>, now: Timestamp) -> Result<[Change; 2], Problem> {
    let id = held.value.id.to_string();
    Ok([held.remove(), marks::advance(state, &held.tenant, (EpochKind::Session, &id), now)?])
}
