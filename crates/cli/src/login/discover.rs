//! Finding the authority of a server: its control API says who issues tokens for it (RFC 9728), and that authority where its
//! endpoints are (RFC 8414).

use bartizan_base::Text;
use serde_json::Value;
use url::Url;

use super::{LoginError, Machine};
use crate::server::{Server, is_guarded};

/// The path of the control API, and that of its metadata.
const RESOURCE: &str = "/api/v1";
const RESOURCE_METADATA: &str = "/.well-known/oauth-protected-resource/api/v1";
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// Where things are at a server.
#[derive(Clone, Debug)]
pub(crate) struct Discovered {
    /// What tokens are for.
    pub(crate) resource: String,
    pub(crate) authorization: Url,
    pub(crate) token: Url,
    pub(crate) revocation: Url,
    pub(crate) device: Url,
}

impl Discovered {
    pub(crate) fn of(machine: &Machine, server: &Server) -> Result<Self, LoginError> {
        let resource = fetch(machine, server, RESOURCE_METADATA)?
            .ok_or_else(|| LoginError::NoAuthority(server.clone()))?;
        let named = text(&resource, "resource").unwrap_or_default();
        // To the letter (RFC 9728, 3.3): what is for another address is not for this one.
        if named != format!("{server}{RESOURCE}") {
            let named = named.strip_suffix(RESOURCE).unwrap_or(named);
            return Err(LoginError::OtherName { asked: server.clone(), named: Text::lossy(named) });
        }
        let broken = |what| LoginError::Metadata { server: server.clone(), what };
        // The authority is the server itself, so there is no second one whose answers could be mixed up with its.
        let issuers = resource.get("authorization_servers").and_then(Value::as_array);
        if !issuers.into_iter().flatten().any(|issuer| issuer.as_str() == Some(server.as_str())) {
            return Err(broken("its tokens come from somewhere else"));
        }
        let metadata = fetch(machine, server, METADATA)?
            .ok_or_else(|| broken("there is no metadata of its authority"))?;
        if text(&metadata, "issuer") != Some(server.as_str()) {
            return Err(broken("the metadata of its authority are those of another one"));
        }
        let listed = |name: &str, value: &str| {
            let all = metadata.get(name).and_then(Value::as_array);
            all.into_iter().flatten().any(|one| one.as_str() == Some(value))
        };
        if !listed("code_challenge_methods_supported", "S256") {
            return Err(broken("it does not know PKCE with S256"));
        }
        if metadata.get("authorization_response_iss_parameter_supported") != Some(&Value::Bool(true)) {
            return Err(broken("its answers do not say whom they are from"));
        }
        let at = |name: &'static str| {
            let url = text(&metadata, name).and_then(|text| Url::parse(text).ok()).filter(is_guarded);
            url.ok_or_else(|| broken(name))
        };
        Ok(Self {
            resource: named.to_owned(),
            authorization: at("authorization_endpoint")?,
            token: at("token_endpoint")?,
            revocation: at("revocation_endpoint")?,
            device: at("device_authorization_endpoint")?,
        })
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// A document of the server's; none if it has no such one.
fn fetch(machine: &Machine, server: &Server, path: &str) -> Result<Option<Value>, LoginError> {
    let unreachable = |error: ureq::Error| LoginError::Unreachable {
        server: server.to_string(),
        message: error.to_string(),
    };
    let mut answer = machine.agent.get(format!("{server}{path}")).call().map_err(unreachable)?;
    match answer.status().as_u16() {
        200 => {}
        // Without an authority there is nothing at these paths, and at unknown paths everybody is asked who they are.
        401 | 404 => return Ok(None),
        _ => return Err(LoginError::Metadata { server: server.clone(), what: "it answers with an error" }),
    }
    let body = answer.body_mut().read_to_string().map_err(unreachable)?;
    let foreign = || LoginError::Metadata { server: server.clone(), what: "no JSON; is this its address?" };
    serde_json::from_str(&body).map(Some).map_err(|_| foreign())
}
