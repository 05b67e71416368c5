//! Registration over the protocol (RFC 7591), where it is switched on: by somebody who may do `client:register`, whose
//! credential is the initial access token.

use bartizan_base::Digest;
use bartizan_identify::Caller;
use bartizan_model::{Action, Problem, ReasonCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::document::{describe, refuse};
use super::registry::{KeptClient, Registry, row_id};
use super::{Authentication, Client};
use crate::kept::{find_of, keep, owner};
use crate::oauth::{OauthCode, OauthError, write_scope};

/// How many clients one principal may have registered.
const OWNED_MAX: usize = 100;

/// A client that was registered.
#[derive(Debug)]
pub struct Registered {
    /// As it is kept.
    pub client: Client,
    /// The answer (RFC 7591, 3.2.1).
    pub answer: Value,
}

#[derive(Serialize)]
struct Ask<'a> {
    client: &'a str,
    name: &'a str,
    redirect_uris: Vec<&'a str>,
}

impl Registry {
    /// Registers a client on behalf of `caller`, who answers for it.
    ///
    /// # Errors
    /// `invalid_client_metadata`, `invalid_redirect_uri`, or what policy says.
    pub async fn register(
        &self,
        caller: &Caller,
        metadata: &Map<String, Value>,
    ) -> Result<Registered, OauthError> {
        let authority = &self.authority;
        if !authority.settings.registration {
            return Err(OauthError::new(OauthCode::AccessDenied, "clients do not register themselves here"));
        }
        let (now, tenant) = (authority.control.clock.now(), &authority.settings.tenant);
        if caller.tenant() != tenant {
            return Err(OauthError::new(
                OauthCode::AccessDenied,
                "this authority serves another organisation",
            ));
        }
        let mut random = [0; 16];
        authority.control.random.fill(&mut random);
        let digits = Digest::of(&random).to_string();
        let id = format!("cli_{}", digits.get(..32).unwrap_or(&digits));
        let client = describe(metadata, &id, tenant, &authority.settings.default_scopes)?;
        if matches!(client.authentication, Authentication::KeysAt { .. }) {
            return Err(refuse("a client that registers sends its keys along as jwks"));
        }
        let by = owner(&caller.subject().principal);
        let ask = Ask {
            client: &id,
            name: &client.display,
            redirect_uris: client.redirects.iter().map(String::as_str).collect(),
        };
        let kept = KeptClient { client: client.clone(), by: by.clone(), at: now };
        let rows = &*authority.rows;
        authority
            .control
            .change_with(caller, Action::ClientRegister, &ask, async |_, tenant| {
                let problem = |e: bartizan_store::StoreError| Problem::new(e.reason());
                let present =
                    find_of::<KeptClient>(rows, tenant, &by, OWNED_MAX, now).await.map_err(problem)?;
                if present.len() >= OWNED_MAX {
                    let detail = format!("nobody registers more than {OWNED_MAX} clients");
                    return Err(Problem::with_detail(ReasonCode::Conflict, detail));
                }
                Ok((vec![keep(tenant, row_id(tenant, &id), &kept).map_err(problem)?], ()))
            })
            .await?;
        Ok(Registered { answer: answer(&client, now.as_secs()), client })
    }
}

fn answer(client: &Client, issued: u64) -> Value {
    let mut out = json!({
        "client_id": client.id,
        "client_id_issued_at": issued,
        "client_name": client.display,
        "redirect_uris": client.redirects,
        "grant_types": client.grants.iter().map(|g| g.name()).collect::<Vec<_>>(),
        "response_types": ["code"],
        "scope": write_scope(&client.scopes),
        "token_endpoint_auth_method": if client.is_public() { "none" } else { "private_key_jwt" },
        "dpop_bound_access_tokens": client.bound,
        "require_pushed_authorization_requests": client.pushed,
    });
    if let (Authentication::Keys(keys), Some(out)) = (&client.authentication, out.as_object_mut()) {
        out.insert("jwks".to_owned(), Value::Object(keys.clone()));
    }
    out
}
