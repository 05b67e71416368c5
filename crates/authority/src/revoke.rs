//! Ending tokens (RFC 7009). A token takes with it what it can be renewed by and what was issued with it.

use bartizan_base::Digest;
use bartizan_model::{Action, ReasonCode};
use bartizan_store::EpochKind;
use serde::Serialize;

use crate::Authority;
use crate::clients::Authenticated;
use crate::grant::end;
use crate::kept::find;
use crate::marks;
use crate::oauth::{Form, OauthCode, OauthError};
use crate::own::Own;
use crate::refresh::Family;

/// What is asked; its digest is recorded.
#[derive(Serialize)]
struct Asked<'a> {
    client: &'a str,
    token: Digest,
}

impl Authority {
    /// Ends a token of the client's own, and what came of the same login. Everything else, whether it is unknown or somebody
    /// else's, is answered as if it had been done (RFC 7009, 2.2): nobody learns what there is.
    ///
    /// # Errors
    /// When nothing is named, when what is named cannot be ended by itself, or the state database does not answer.
    pub async fn revoke(&self, client: &Authenticated, form: &Form) -> Result<(), OauthError> {
        match self.revoked(client, form).await {
            Ok(true) => Ok(()),
            // Recorded, and not told.
            Ok(false) => {
                self.refused(OauthError::grant()).await;
                Ok(())
            }
            Err(error) => Err(self.refused(error).await),
        }
    }

    async fn revoked(&self, client: &Authenticated, form: &Form) -> Result<bool, OauthError> {
        let text = form.need("token")?;
        let now = self.control.clock.now();
        if let Some(family) = self.family_of(client, text, now).await? {
            if family.value.withdrawn.is_none() {
                end(self, &client.client, family, "its client is done with it").await?;
            }
            return Ok(true);
        }
        let view = self.control.house.view(&self.settings.tenant)?;
        let own = self.own(&view, text)?.filter(|own| own.client == client.client.id);
        let Some(own) = own else { return Ok(false) };
        if let Some(family) = own.rights.get().family {
            let held = find::<Family>(&*self.rows, &family.to_string(), now).await?;
            if let Some(held) = held.filter(|held| held.value.withdrawn.is_none()) {
                end(self, &client.client, held, "its client is done with a token of it").await?;
                return Ok(true);
            }
        }
        self.end_access(client, &own, text).await?;
        Ok(true)
    }

    /// Ends what was issued under the grant that an access token came from. One that came from none cannot be told from others
    /// of its client, and ends by itself within minutes.
    async fn end_access(&self, client: &Authenticated, own: &Own, text: &str) -> Result<(), OauthError> {
        let rights = own.rights.get();
        let name = match (rights.family, rights.grants.first()) {
            (Some(family), _) => family.to_string(),
            (None, Some(grant)) => grant.to_string(),
            (None, None) => {
                let kind = OauthError::new(
                    OauthCode::UnsupportedTokenType,
                    "this access token cannot be ended by itself; it is over within minutes",
                );
                return Err(kind.because(ReasonCode::Invalid));
            }
        };
        let caller =
            self.member_of(&own.rights, client.bound, Some(&client.client.name), Action::TokenRevoke).await?;
        let asked = Asked { client: &client.client.id, token: Digest::of(text.as_bytes()) };
        let now = self.control.clock.now();
        self.control
            .change_with(&caller, Action::TokenRevoke, &asked, async |view, tenant| {
                Ok((vec![marks::advance(&view.state, tenant, (EpochKind::Grant, &name), now)?], ()))
            })
            .await?;
        Ok(())
    }
}
