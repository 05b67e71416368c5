//! The first authenticator: by a link that an administrator hands over, good once and for three days.

use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_control::{Done, Stopped};
use bartizan_identify::Caller;
use bartizan_model::{Action, AssuranceLevel, Principal, Problem, ReasonCode};
use bartizan_secret::Secret;
use bartizan_store::RowKind;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::session::Proven;
use super::{Entered, Login, Visitor, broken, person};
use crate::kept::{Kept, Reach, find, keep, owner};

const LIFE: Duration = Duration::from_secs(3 * 24 * 3_600);

/// An invitation as it is kept, under the digest of its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct InvitationRow {
    principal: Principal,
    ends: Timestamp,
}

impl Kept for InvitationRow {
    const KIND: RowKind = RowKind::Invitation;

    fn owner(&self) -> String {
        owner(&self.principal)
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.ends)
    }
}

/// An invitation that was made: the only time its link is seen.
#[derive(Debug)]
pub struct Invited {
    /// The link.
    pub link: Secret<String>,
    /// Until when it is good.
    pub ends: Timestamp,
}

fn row_id(secret: &str) -> String {
    Digest::of_parts(&[b"bartizan invitation v1\0", secret.as_bytes()]).to_string()
}

impl Login {
    /// Invites a person to enrol an authenticator: their first one, or one after all others are lost. What they have stays.
    ///
    /// # Errors
    /// When policy says no, or nobody is called so.
    pub async fn invite(&self, caller: &Caller, name: &Name) -> Result<Done<Invited>, Stopped> {
        let control = &self.authority.control;
        let mut bytes = [0; 32];
        control.random.fill(&mut bytes);
        let secret = URL_SAFE_NO_PAD.encode(bytes);
        let ends = self.now().saturating_add(LIFE);
        let link = Secret::new(format!("{}/login/invited/{secret}", self.authority.issuer));
        control
            .change_with(caller, Action::IdentityChange, &("invite", name), async |view, tenant| {
                let principal = person(view, tenant, name).ok_or_else(|| {
                    Problem::with_detail(ReasonCode::NotFound, format!("no user is called `{name}`"))
                })?;
                let put = keep(tenant, row_id(&secret), &InvitationRow { principal, ends });
                let put = put.map_err(|e| broken("an invitation cannot be kept", &e))?;
                Ok((vec![put], Invited { link, ends }))
            })
            .await
    }

    /// Who is invited by the secret of a link, without using it up: previews of links open them too.
    ///
    /// # Errors
    /// When the state database does not answer.
    pub async fn invited(&self, secret: &str) -> Result<Option<Principal>, Stopped> {
        let held = find::<InvitationRow>(&*self.authority.rows, &row_id(secret), self.now()).await?;
        Ok(held.map(|held| held.value.principal))
    }

    /// Uses an invitation up, and begins a session in which authenticators can be enrolled and nothing else done.
    ///
    /// # Errors
    /// `invitation_invalid`; or what policy says.
    pub async fn accept(&self, visitor: &Visitor, secret: &str) -> Result<Entered, Stopped> {
        let held = find::<InvitationRow>(&*self.authority.rows, &row_id(secret), self.now()).await?;
        let Some(held) = held else {
            return Err(self.refuse(&self.home(), ReasonCode::InvitationInvalid).await);
        };
        let proven = Proven {
            tenant: held.tenant.clone(),
            principal: held.value.principal.clone(),
            level: AssuranceLevel::Aal1,
            methods: vec![Name::literal("invitation")],
            via: None,
            at: None,
            reach: Reach::Enrol,
            failures: 0,
            changes: vec![held.remove()],
        };
        self.enter(visitor, proven).await
    }
}
