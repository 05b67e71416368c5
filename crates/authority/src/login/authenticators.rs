//! What somebody proves themselves with, as they may see and remove it.

use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_control::{Done, Stopped};
use bartizan_model::{Action, AssuranceLevel, AuthenticatorId, Problem, ReasonCode};
use bartizan_store::Change;
use serde::Serialize;

use super::password::PasswordRow;
use super::recovery::RecoveryRow;
use super::session::FRESH;
use super::totp::TotpRow;
use super::{Attested, Login, SignedIn};
use crate::kept::{Held, Reach, find};

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthenticatorKind {
    /// A passkey.
    Passkey,
    /// A password.
    Password,
    /// Time-based codes.
    Totp,
    /// Recovery codes.
    Recovery,
}

/// Something that its owner proves themselves with.
#[derive(Clone, Debug, Serialize)]
pub struct AuthenticatorView {
    /// Which.
    pub id: AuthenticatorId,
    /// What kind.
    pub kind: AuthenticatorKind,
    /// What its owner calls it.
    pub label: String,
    /// When it was enrolled.
    pub created: Timestamp,
    /// When it was last used.
    pub used: Option<Timestamp>,
    /// What its maker vouched for, where the house asked for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attested: Option<Attested>,
}

/// All that somebody has.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) passkeys: Vec<Held<super::PasskeyRow>>,
    pub(super) password: Option<Held<PasswordRow>>,
    pub(super) totp: Option<Held<TotpRow>>,
    pub(super) recovery: Option<Held<RecoveryRow>>,
}

impl Owned {
    /// Whether they can prove themselves by two factors.
    fn is_strong(&self) -> bool {
        !self.passkeys.is_empty() || (self.totp.is_some() && self.password.is_some())
    }
}

impl Login {
    pub(super) async fn owned(&self, who: &SignedIn) -> Result<Owned, Stopped> {
        let (rows, id, now) = (&*self.authority.rows, who.principal.id.to_string(), self.now());
        Ok(Owned {
            passkeys: self.passkeys_of(who).await?,
            password: find(rows, &id, now).await?,
            totp: find(rows, &id, now).await?,
            recovery: find(rows, &id, now).await?,
        })
    }

    /// Refuses unless whoever asks was proven a moment ago, and by two factors where they have two. A session by an invitation or
    /// a recovery is short, and may enrol as long as it lives.
    pub(super) async fn demand_fresh(&self, who: &SignedIn) -> Result<(), Stopped> {
        if who.session.value.reach == Reach::Enrol {
            return Ok(());
        }
        let strong = self.owned(who).await?.is_strong();
        let level = if strong { AssuranceLevel::Aal2 } else { AssuranceLevel::Aal1 };
        self.demand(who, level, FRESH).await
    }

    /// Refuses unless whoever asks was proven at least this surely, at most `age` ago.
    ///
    /// # Errors
    /// `login_too_old`.
    pub async fn demand(&self, who: &SignedIn, level: AssuranceLevel, age: Duration) -> Result<(), Stopped> {
        if who.is_proven(level, age, self.now()) {
            return Ok(());
        }
        Err(self.authority.control.refuse_caller(&who.caller, ReasonCode::LoginTooOld).await)
    }

    /// What whoever asks can prove themselves with.
    ///
    /// # Errors
    /// When the state database does not answer.
    pub async fn authenticators(&self, who: &SignedIn) -> Result<Vec<AuthenticatorView>, Stopped> {
        let owned = self.owned(who).await?;
        let mut views: Vec<AuthenticatorView> = owned
            .passkeys
            .iter()
            .map(|held| {
                let row = &held.value;
                let kind = AuthenticatorKind::Passkey;
                AuthenticatorView {
                    id: row.id,
                    kind,
                    label: row.label.clone(),
                    created: row.created,
                    used: row.used,
                    attested: row.attested.clone(),
                }
            })
            .collect();
        views.sort_by_key(|view| view.created);
        views.extend(owned.password.map(|held| AuthenticatorView {
            id: held.value.id,
            kind: AuthenticatorKind::Password,
            label: "Password".to_owned(),
            created: held.value.created,
            used: held.value.used,
            attested: None,
        }));
        views.extend(owned.totp.map(|held| AuthenticatorView {
            id: held.value.id,
            kind: AuthenticatorKind::Totp,
            label: "Codes from an app".to_owned(),
            created: held.value.created,
            used: held.value.used,
            attested: None,
        }));
        views.extend(owned.recovery.map(|held| AuthenticatorView {
            id: held.value.id,
            kind: AuthenticatorKind::Recovery,
            label: format!("Recovery codes, {} left", held.value.codes.len()),
            created: held.value.created,
            used: None,
            attested: None,
        }));
        Ok(views)
    }

    /// Removes something that whoever asks proves themselves with. Not the last one: that would lock them out.
    ///
    /// # Errors
    /// When there is no such thing, it is the last, the login is too old, or policy says no.
    pub async fn remove_authenticator(
        &self,
        who: &SignedIn,
        id: AuthenticatorId,
    ) -> Result<Done<()>, Stopped> {
        self.demand_fresh(who).await?;
        self.authority
            .control
            .change_with(&who.caller, Action::AuthenticatorChange, &("remove", id), async |_, _| {
                let mut owned = self.owned(who).await.map_err(|stopped| stopped.problem)?;
                let mut changes: Vec<Change> = Vec::new();
                owned.passkeys.retain(|held| {
                    let it = held.value.id == id;
                    changes.extend(it.then(|| held.remove()));
                    !it
                });
                changes.extend(owned.password.take_if(|held| held.value.id == id).map(|held| held.remove()));
                changes.extend(owned.totp.take_if(|held| held.value.id == id).map(|held| held.remove()));
                changes.extend(owned.recovery.take_if(|held| held.value.id == id).map(|held| held.remove()));
                if changes.is_empty() {
                    return Err(Problem::with_detail(ReasonCode::NotFound, "you have nothing with that id"));
                }
                let by_password =
                    owned.password.as_ref().is_some_and(|held| held.value.alone || owned.totp.is_some());
                if owned.passkeys.is_empty() && !by_password {
                    return Err(Problem::with_detail(
                        ReasonCode::Conflict,
                        "what is left would not be enough to sign in; enrol something else first",
                    ));
                }
                Ok((changes, ()))
            })
            .await
    }
}
