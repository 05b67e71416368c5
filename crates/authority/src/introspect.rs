//! Asking whether a token is alive (RFC 7662): for services that cannot verify tokens of ours, and for clients about their own.

use bartizan_base::{Digest, Timestamp};
use bartizan_control::View;
use bartizan_jose::{Actor, Confirmation};
use bartizan_model::Action;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Authority;
use crate::clients::Authenticated;
use crate::grant::own_rights;
use crate::kept::{Held, find};
use crate::marks;
use crate::oauth::{Form, OauthError, write_scope};
use crate::own::Own;
use crate::refresh::{Family, Presented};

/// What is asked; its digest is recorded.
#[derive(Serialize)]
struct Asked<'a> {
    client: &'a str,
    token: Digest,
}

impl Authority {
    /// Says what a token is worth, to the service that it is for or the client that it was issued to. Everybody else gets the
    /// answer for a token that there is not.
    ///
    /// # Errors
    /// When the client proves nothing or is nobody of its own, or policy says no.
    pub async fn introspect(
        &self,
        client: &Authenticated,
        form: &Form,
    ) -> Result<Map<String, Value>, OauthError> {
        let asked = self.introspected(client, form).await;
        match asked {
            Ok(told) => Ok(told),
            Err(error) => Err(self.refused(error).await),
        }
    }

    async fn introspected(
        &self,
        client: &Authenticated,
        form: &Form,
    ) -> Result<Map<String, Value>, OauthError> {
        let text = form.need("token")?;
        let now = self.control.clock.now();
        let view = self.control.house.view(&self.settings.tenant)?;
        if !client.proven {
            return Err(OauthError::client());
        }
        let rights = own_rights(self, &view.state, client, now)?;
        let name = Some(&client.client.name);
        let caller = self.member_of(&rights, client.bound, name, Action::TokenIntrospect).await?;
        let asked = Asked { client: &client.client.id, token: Digest::of(text.as_bytes()) };
        let look = async |view: &View, _: &_| {
            let told = match self.own(view, text)? {
                Some(own) => self.of_access(client, &own),
                None => self.of_refresh(view, client, text, now).await?,
            };
            Ok(told.unwrap_or_else(inactive))
        };
        if client.used.is_empty() {
            return Ok(self.control.read_with(&caller, Action::TokenIntrospect, &asked, look).await?.value);
        }
        let used = client.used.clone();
        let work = async |view: &View, tenant: &_| Ok((used, look(view, tenant).await?));
        Ok(self.control.change_with(&caller, Action::TokenIntrospect, &asked, work).await?.value)
    }

    fn of_access(&self, client: &Authenticated, own: &Own) -> Option<Map<String, Value>> {
        let rights = own.rights.get();
        if !client.client.is_at(&own.audience) && client.client.id != own.client {
            return None;
        }
        // Alive is only what everybody in it is: as at the doors.
        self.is_somebody(&own.rights).then_some(())?;
        let claims = own.claims.claims();
        let mut out = active();
        let mut put = |name: &str, value: Value| {
            out.insert(name.to_owned(), value);
        };
        put(
            "token_type",
            (if claims.cnf.and_then(Confirmation::key).is_some() { "DPoP" } else { "Bearer" }).into(),
        );
        put("iss", claims.iss.as_str().into());
        put("sub", claims.sub.as_str().into());
        put("aud", own.audience.as_str().into());
        put("client_id", own.client.as_str().into());
        put("scope", write_scope(&rights.scopes).into());
        put("iat", claims.times.issued.as_secs().into());
        put("exp", claims.times.expires.as_secs().into());
        for (name, text) in [("jti", &claims.jti), ("acr", &claims.acr), ("sid", &claims.sid)] {
            if let Some(text) = text {
                put(name, text.as_str().into());
            }
        }
        if !claims.amr.is_empty() {
            put("amr", json!(claims.amr));
        }
        if let Some(at) = claims.auth_time {
            put("auth_time", at.as_secs().into());
        }
        if let Some(act) = chain(&claims.act) {
            put("act", act);
        }
        if let Some(cnf) = claims.cnf {
            put("cnf", cnf_json(cnf));
        }
        if !claims.authorization_details.is_empty() {
            put("authorization_details", claims.authorization_details.clone().into());
        }
        Some(out)
    }

    /// A refresh token is nobody's business but its client's.
    async fn of_refresh(
        &self,
        view: &View,
        client: &Authenticated,
        text: &str,
        now: Timestamp,
    ) -> Result<Option<Map<String, Value>>, bartizan_model::Problem> {
        let Some(family) = self.family_of(client, text, now).await.map_err(crate::grants::unread)? else {
            return Ok(None);
        };
        let (family, rights) = (&family.value, &family.value.rights);
        if family.withdrawn.is_some()
            || marks::alive(&view.state, rights, &client.client.name).is_err()
            || !self.is_somebody(rights)
        {
            return Ok(None);
        }
        let mut out = active();
        out.insert("client_id".to_owned(), family.client.as_str().into());
        out.insert("sub".to_owned(), family.subject().id.to_string().into());
        out.insert("scope".to_owned(), write_scope(&rights.get().scopes).into());
        out.insert("iat".to_owned(), family.began.as_secs().into());
        out.insert("exp".to_owned(), rights.get().ends.as_secs().into());
        Ok(Some(out))
    }

    /// The family of a refresh token that this client presents, and that may still be used in it.
    pub(crate) async fn family_of(
        &self,
        client: &Authenticated,
        text: &str,
        now: Timestamp,
    ) -> Result<Option<Held<Family>>, bartizan_store::StoreError> {
        let Some(token) = Presented::parse(text) else { return Ok(None) };
        let held = find::<Family>(&*self.rows, &token.family.to_string(), now).await?;
        Ok(held.filter(|held| {
            held.tenant == self.settings.tenant
                && held.value.client == client.client.id
                && held.value.is_member(&token)
        }))
    }

    /// Whether everybody in the chain may come in now.
    fn is_somebody(&self, rights: &crate::issue::Rights) -> bool {
        self.control
            .house
            .prove(&crate::issue::proof(rights, Action::TokenIntrospect, self.control.clock.now()))
            .is_ok_and(|caller| crate::issue::is_same(&caller, rights))
    }
}

/// The answer about every token that is not, or is somebody else's.
fn inactive() -> Map<String, Value> {
    Map::from_iter([("active".to_owned(), Value::Bool(false))])
}

fn active() -> Map<String, Value> {
    Map::from_iter([("active".to_owned(), Value::Bool(true))])
}

/// Actors, nested (RFC 8693, 4.1).
fn chain(actors: &[Actor]) -> Option<Value> {
    actors.iter().rev().fold(None, |inner: Option<Value>, actor| {
        let mut out = Map::from_iter([("sub".to_owned(), Value::from(actor.sub.as_str()))]);
        out.extend(inner.map(|inner| ("act".to_owned(), inner)));
        Some(Value::Object(out))
    })
}

fn cnf_json(to: Confirmation) -> Value {
    let mut out = Map::new();
    if let Some(key) = to.key() {
        out.insert("jkt".to_owned(), key.to_string().into());
    }
    if let Some(certificate) = to.certificate() {
        out.insert("x5t#S256".to_owned(), certificate.to_string().into());
    }
    Value::Object(out)
}
