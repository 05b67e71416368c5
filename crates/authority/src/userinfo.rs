//! What an application learns about the person (OpenID Connect Core, 5.3).

use std::time::Duration;

use bartizan_jose::{Confirmation, DpopProof, DpopRules, NonceRule, Presentation, Scheme};
use bartizan_model::{Action, ReasonCode};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value};

use crate::Authority;
use crate::clients::{Bound, PeerCertificate, epoch_name, use_up};
use crate::issue::BoundTo;
use crate::oauth::{OauthCode, OauthError};

impl Authority {
    /// The claims about the person in whose name the token of the request was issued. `uri` is the endpoint's own address.
    ///
    /// # Errors
    /// `invalid_token`, `insufficient_scope`, what RFC 9449 says of proofs.
    pub async fn userinfo(
        &self,
        method: &str,
        uri: &str,
        headers: &HeaderMap,
        certificate: Option<&PeerCertificate>,
    ) -> Result<Map<String, Value>, OauthError> {
        let invalid = || OauthError::new(OauthCode::InvalidToken, "no token of ours, or it is dead");
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let header = match (all.next(), all.next()) {
            (Some(header), None) => header.to_str().map_err(|_| invalid())?,
            (None, _) => return Err(invalid().because(ReasonCode::CredentialMissing)),
            _ => return Err(invalid().because(ReasonCode::CredentialAmbiguous)),
        };
        let (scheme, token) = header.split_once(' ').ok_or_else(invalid)?;
        let view = self.control.house.view(&self.settings.tenant)?;
        let now = self.control.clock.now();
        let own = self.own(&view, token)?.ok_or_else(invalid)?;
        let rights = own.rights.get();
        let mut proofs = headers.get_all("dpop").iter();
        let proven = match (scheme.to_ascii_lowercase().as_str(), proofs.next(), proofs.next()) {
            ("bearer", None, _) => None,
            ("dpop", Some(proof), None) => {
                let rules = DpopRules {
                    method,
                    uri,
                    now,
                    age_max: Duration::from_secs(60),
                    skew: Duration::from_secs(30),
                    access_token: Some(token),
                    nonce: NonceRule::Off,
                };
                let refuse =
                    |e: &dyn std::error::Error| OauthError::new(OauthCode::InvalidDpopProof, e.to_string());
                let proof = proof.to_str().map_err(|e| refuse(&e))?;
                Some(DpopProof::verify(proof, &rules).map_err(|e| refuse(&e))?)
            }
            _ => return Err(invalid()),
        };
        let how = Presentation {
            scheme: proven.as_ref().map_or(Scheme::Bearer, Scheme::Dpop),
            certificate: certificate.map(|c| c.thumbprint),
        };
        let bound_to = rights.binding.map(|BoundTo(to)| to);
        Confirmation::check(bound_to, own.claims.digest(), &how).map_err(|_| invalid())?;
        if !rights.scopes.contains("openid") {
            return Err(OauthError::new(OauthCode::InsufficientScope, "the token is not for openid"));
        }
        let bound = Bound {
            key: proven.as_ref().map(bartizan_jose::ProvenKey::key),
            certificate: certificate.map(|c| c.thumbprint),
        };
        let name = epoch_name(&own.client);
        let caller = self.member_of(&own.rights, bound, Some(&name), Action::TokenIntrospect).await?;
        let used = proven.map(|key| use_up(&rights.tenant, key.replay())).transpose()?;
        let mut about = about(rights);
        about.insert("sub".to_owned(), rights.subject.id.to_string().into());
        let ask = "userinfo";
        let done = match used {
            None => {
                self.control.read_with(&caller, Action::TokenIntrospect, &ask, async |_, _| Ok(about)).await?
            }
            Some(used) => {
                let work =
                    async |_: &bartizan_control::View, _: &bartizan_model::Tenant| Ok((vec![used], about));
                self.control.change_with(&caller, Action::TokenIntrospect, &ask, work).await?
            }
        };
        Ok(done.value)
    }
}

/// What is said about the subject of rights, as their scopes allow.
pub(crate) fn about(rights: &crate::issue::Root) -> Map<String, Value> {
    let mut out = Map::new();
    if rights.scopes.contains("profile") {
        out.insert("preferred_username".to_owned(), rights.subject.name.as_str().into());
    }
    out
}
