//! Clients that publish a document about themselves at the address that is their id
//! (draft-ietf-oauth-client-id-metadata-document).

use std::collections::BTreeSet;

use bartizan_base::{Text, json};
use bartizan_jose::{Jwks, normal_uri};
use bartizan_model::{GrantType, Tenant};
use serde_json::{Map, Value};

use super::{Authentication, Client, Origin, epoch_name, redirect};
use crate::oauth::{IDENTITY, MetadataClients, OauthCode, OauthError};

/// The longest address that is taken as an id, in bytes.
const ID_MAX: usize = 256;
/// The most addresses for answers.
pub(super) const REDIRECTS_MAX: usize = 16;

const LIMITS: json::Limits = json::Limits { bytes_max: 5 << 10, depth_max: 8, nodes_max: 500 };

/// The address of a document, checked before anything is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The host, with the port where there is one.
    pub(super) host: String,
    /// Whether an administrator lets it be private.
    pub(super) private: bool,
}

impl Address {
    /// Reads an id as the address of a document: `https`, in normal form, with a path, without user, query and fragment; its
    /// host is trusted.
    pub(super) fn read(url: &str, trusted: &MetadataClients) -> Option<Self> {
        let rest = url.strip_prefix("https://")?;
        let (host, path) = rest.split_once('/')?;
        let fits =
            url.len() <= ID_MAX && !path.is_empty() && normal_uri(url)? == url && !url.contains(['?', '#']);
        let private = trusted.private_hosts.contains(host);
        (fits && (private || trusted.trusts(host))).then(|| Self { host: host.to_owned(), private })
    }
}

impl MetadataClients {
    fn trusts(&self, host: &str) -> bool {
        // An address by numbers, or another port, is nobody's name.
        let name = host.split('.').count() > 1
            && !host.contains([':', '['])
            && host
                .split('.')
                .next_back()
                .is_some_and(|top| top.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-'));
        let listed = |hosts: &BTreeSet<String>| {
            hosts.iter().any(|entry| {
                if entry.starts_with('.') { host.ends_with(entry.as_str()) } else { host == entry }
            })
        };
        name && self.hosts.as_ref().is_none_or(listed)
    }
}

/// Reads the document at `url`.
pub(super) fn read(
    url: &str,
    body: &[u8],
    tenant: &Tenant,
    trusted: &MetadataClients,
) -> Result<Client, OauthError> {
    let value =
        json::parse(body, LIMITS).map_err(|_| refuse("the client's document is no JSON within bounds"))?;
    let Value::Object(members) = value else { return Err(refuse("the client's document is no JSON object")) };
    if members.get("client_id").and_then(Value::as_str) != Some(url) {
        return Err(refuse("the document's client_id is not its address"));
    }
    let private = Address::read(url, trusted).is_some_and(|address| address.private);
    let mut client = describe(&members, url, tenant, &trusted.scopes)?;
    client.origin = Origin::Document;
    if let Authentication::KeysAt { url: keys, allow_private } = &mut client.authentication {
        *allow_private = private;
        Address::read(keys, trusted)
            .ok_or_else(|| refuse("jwks_uri is not an address that keys are fetched from"))?;
    }
    Ok(client)
}

pub(super) fn refuse(why: &str) -> OauthError {
    OauthError::new(OauthCode::InvalidClientMetadata, why)
}

/// What a client says about itself (RFC 7591, 2), held against what any such client may be. Unknown members are ignored.
pub(super) fn describe(
    members: &Map<String, Value>,
    id: &str,
    tenant: &Tenant,
    scopes_max: &BTreeSet<String>,
) -> Result<Client, OauthError> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let flag = |name: &str| members.get(name).and_then(Value::as_bool).unwrap_or_default();
    if members.contains_key("client_secret") || members.contains_key("client_secret_expires_at") {
        return Err(refuse("a client that describes itself holds no secret of its own choosing"));
    }
    let display = text("client_name")
        .filter(|name| !name.trim().is_empty())
        .ok_or_else(|| refuse("client_name is missing"))?;
    let redirects = addresses(members, "redirect_uris")?;
    if redirects.is_empty() {
        return Err(refuse("redirect_uris is missing"));
    }
    let grants = match members.get("grant_types") {
        None => [GrantType::AuthorizationCode].into(),
        Some(_) => list(members, "grant_types")?
            .iter()
            .filter_map(|name| GrantType::named(name))
            .filter(|grant| matches!(grant, GrantType::AuthorizationCode | GrantType::RefreshToken))
            .collect::<BTreeSet<_>>(),
    };
    if !grants.contains(&GrantType::AuthorizationCode) {
        return Err(refuse("grant_types without authorization_code"));
    }
    let most: BTreeSet<String> =
        scopes_max.iter().cloned().chain(IDENTITY.iter().map(|s| (*s).to_owned())).collect();
    let scopes = match text("scope") {
        None => most,
        Some(text) => text.split(' ').filter(|scope| most.contains(*scope)).map(str::to_owned).collect(),
    };
    Ok(Client {
        id: id.to_owned(),
        tenant: tenant.clone(),
        origin: Origin::Registered,
        name: epoch_name(id),
        display: Text::<100>::lossy(display).to_string(),
        redirects,
        post_logout_redirects: addresses(members, "post_logout_redirect_uris")?,
        grants,
        scopes,
        resources: BTreeSet::new(),
        authentication: authentication(members)?,
        principal: None,
        bound: flag("dpop_bound_access_tokens"),
        pushed: flag("require_pushed_authorization_requests"),
    })
}

fn authentication(members: &Map<String, Value>) -> Result<Authentication, OauthError> {
    let method = members.get("token_endpoint_auth_method").map_or(Some("none"), Value::as_str);
    match (method, members.get("jwks"), members.get("jwks_uri")) {
        (Some("none"), ..) => Ok(Authentication::None),
        (Some("private_key_jwt"), Some(Value::Object(keys)), None) => {
            Jwks::parse(&serde_json::to_vec(keys).unwrap_or_default())
                .map_err(|_| refuse("jwks is not a set of public keys"))?;
            Ok(Authentication::Keys(keys.clone()))
        }
        (Some("private_key_jwt"), None, Some(Value::String(url))) => {
            Ok(Authentication::KeysAt { url: url.clone(), allow_private: false })
        }
        (Some("private_key_jwt"), ..) => Err(refuse("private_key_jwt needs either jwks or jwks_uri")),
        _ => Err(refuse("token_endpoint_auth_method is neither none nor private_key_jwt")),
    }
}

fn list(members: &Map<String, Value>, name: &str) -> Result<Vec<String>, OauthError> {
    let malformed = || refuse(&format!("{name} is not a list of texts"));
    match members.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => {
            values.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(malformed)).collect()
        }
        Some(_) => Err(malformed()),
    }
}

fn addresses(members: &Map<String, Value>, name: &str) -> Result<BTreeSet<String>, OauthError> {
    let all = list(members, name)?;
    if all.len() > REDIRECTS_MAX || !all.iter().all(|uri| redirect::is_acceptable(uri)) {
        return Err(OauthError::new(
            OauthCode::InvalidRedirectUri,
            format!("{name} holds an address that is not taken"),
        ));
    }
    Ok(all.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const URL: &str = "https://app.example/client";

    fn trusted() -> MetadataClients {
        MetadataClients { scopes: ["model:use".to_owned()].into(), ..MetadataClients::default() }
    }

    fn document(change: impl FnOnce(&mut Map<String, Value>)) -> Result<Client, OauthError> {
        let mut members = json!({
            "client_id": URL,
            "client_name": "An app",
            "redirect_uris": ["https://app.example/cb", "http://localhost/cb"],
        });
        change(members.as_object_mut().unwrap());
        read(URL, &serde_json::to_vec(&members).unwrap(), &Tenant::default_tenant(), &trusted())
    }

    fn put(name: &str, value: Value) -> impl FnOnce(&mut Map<String, Value>) {
        move |members| {
            members.insert(name.to_owned(), value);
        }
    }

    #[test]
    fn a_document_describes_a_public_client_that_gets_no_more_than_the_house_gives_such() {
        let client = document(put("scope", json!("openid model:use key:create"))).unwrap();
        assert!(client.is_public() && !client.is_identified());
        assert_eq!(client.scopes, ["model:use".to_owned(), "openid".to_owned()].into());
        let client =
            document(put("grant_types", json!(["authorization_code", "client_credentials"]))).unwrap();
        assert_eq!(client.grants, [GrantType::AuthorizationCode].into());
    }

    #[test]
    fn attack_34_an_id_is_a_plain_https_address_of_a_public_name() {
        assert!(Address::read(URL, &trusted()).is_some());
        for bad in [
            "http://app.example/client",
            "https://app.example",
            "https://app.example/",
            "https://app.example/client?x",
            "https://app.example/client#x",
            "https://user@app.example/client",
            "https://app.example:8443/client",
            "https://app.example:443/client",
            "https://APP.example/client",
            "https://app.example/a/../client",
            "https://app.example/%63lient",
            "https://127.0.0.1/client",
            "https://10.0.0.1/client",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/client",
            "https://[::ffff:127.0.0.1]/client",
            "https://[fd00::1]/client",
            "https://2130706433/client",
            "https://0x7f.0.0.1/client",
            "https://0x7f000001/client",
            "https://localhost/client",
            "https://ex\u{e4}mple.example/client",
            "file:///etc/passwd",
            "javascript:alert(1)",
        ] {
            assert_eq!(Address::read(bad, &trusted()), None, "{bad}");
        }
        assert_eq!(Address::read(&format!("https://app.example/{}", "x".repeat(300)), &trusted()), None);
    }

    #[test]
    fn attack_34_only_listed_hosts_are_asked_where_there_is_a_list_and_only_they_may_be_private() {
        let listed = MetadataClients {
            hosts: Some(["app.example".to_owned(), ".corp.example".to_owned()].into()),
            private_hosts: ["127.0.0.1:8443".to_owned()].into(),
            ..trusted()
        };
        let private = |url: &str| Address::read(url, &listed).map(|a| a.private);
        assert_eq!(private("https://app.example/c"), Some(false));
        assert_eq!(private("https://a.corp.example/c"), Some(false));
        assert_eq!(private("https://127.0.0.1:8443/c"), Some(true));
        for other in [
            "https://evil.example/c",
            "https://corp.example.evil.example/c",
            "https://evilapp.example/c",
            "https://127.0.0.1:8444/c",
        ] {
            assert_eq!(private(other), None, "{other}");
        }
    }

    #[test]
    fn attack_36_a_document_with_a_secret_or_another_id_is_refused() {
        for (name, value) in [
            ("client_secret", json!("s")),
            ("client_secret_expires_at", json!(0)),
            ("token_endpoint_auth_method", json!("client_secret_basic")),
            ("token_endpoint_auth_method", json!("client_secret_post")),
            ("token_endpoint_auth_method", json!("client_secret_jwt")),
            ("token_endpoint_auth_method", json!(null)),
            ("client_id", json!("https://app.example/client/")),
            ("client_id", json!("https://app.example/Client")),
            ("client_id", json!("https://evil.example/client")),
            ("client_id", json!([URL])),
            ("client_name", json!("")),
            ("redirect_uris", json!([])),
            ("redirect_uris", json!("https://app.example/cb")),
            ("redirect_uris", json!(["javascript:alert(1)"])),
            ("redirect_uris", json!(["http://app.example/cb"])),
            ("grant_types", json!(["client_credentials"])),
        ] {
            assert!(document(put(name, value.clone())).is_err(), "{name}: {value}");
        }
        for name in ["client_id", "client_name", "redirect_uris"] {
            assert!(document(|members| drop(members.remove(name))).is_err(), "{name}");
        }
        for body in [&b"[]"[..], b"", b"\"x\"", b"{\"client_id\":1,\"client_id\":1}"] {
            assert!(read(URL, body, &Tenant::default_tenant(), &trusted()).is_err());
        }
    }

    #[test]
    fn attack_34_keys_are_fetched_from_where_documents_are() {
        let keys = |url: &str| {
            document(|members| {
                put("token_endpoint_auth_method", json!("private_key_jwt"))(members);
                put("jwks_uri", json!(url))(members);
            })
        };
        assert!(keys("https://app.example/jwks").is_ok());
        for bad in [
            "http://app.example/jwks",
            "https://169.254.169.254/jwks",
            "https://app.example:22/jwks",
            "https://localhost/x",
        ] {
            assert!(keys(bad).is_err(), "{bad}");
        }
    }
}
