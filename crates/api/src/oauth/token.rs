//! The endpoints that client programs come to themselves: tokens, and requests that are pushed.

use bartizan_authority::clients::{Authenticated, Client, Request};
use bartizan_authority::grant;
use bartizan_authority::oauth::{Form, OauthCode, OauthError};
use bartizan_model::GrantType;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::{Answer, Oauth, answer, certificate};
use crate::mount::Arrived;

impl Oauth {
    pub(super) async fn token(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let authority = self.desk.registry().authority();
        let form = body(arrived)?;
        let named = form.need("grant_type")?;
        let grant = GrantType::named(named)
            .filter(|grant| *grant == GrantType::AuthorizationCode || self.offered.grants.contains(grant))
            .ok_or_else(|| {
                OauthError::new(OauthCode::UnsupportedGrantType, "grant_type is none of those offered")
            })?;
        let agreed = match grant {
            GrantType::AuthorizationCode => {
                grant::agreed(authority, &form, authority.control.clock.now()).await?
            }
            _ => None,
        };
        let client = self.authenticated(arrived, &form, "/oauth/token", agreed).await?;
        let form = self.spelled(&form)?;
        let form =
            if grant == GrantType::ClientCredentials { self.meant(form, &client.client)? } else { form };
        let given = match grant {
            GrantType::AuthorizationCode => grant::code(authority, &client, &form).await?,
            GrantType::RefreshToken => grant::refresh(authority, &client, &form).await?,
            GrantType::ClientCredentials => grant::client_credentials(authority, &client, &form).await?,
            GrantType::TokenExchange => grant::exchange(authority, &client, &form).await?,
            GrantType::DeviceCode => grant::device(authority, &client, &form).await?,
            GrantType::JwtBearer => grant::jwt_bearer(self.desk.registry(), &client, &form).await?,
        };
        Ok(answer::secret(&given.to_json()))
    }

    pub(super) async fn push(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let form = body(arrived)?;
        // A client that is known by its document may come here before anybody has agreed to anything.
        let registry = self.desk.registry();
        let present = match form.get("client_id").filter(|id| id.starts_with("https:")) {
            Some(id) => Some(registry.find(id).await?),
            None => None,
        };
        let client = self.authenticated(arrived, &form, "/oauth/par", present).await?;
        Ok(answer::private(StatusCode::CREATED, &self.desk.push(&client, &form).await?))
    }

    /// The client that sent a request to `path`. Whoever is none is recorded before they are told.
    pub(super) async fn authenticated(
        &self,
        arrived: &Arrived,
        form: &Form,
        path: &str,
        agreed: Option<Client>,
    ) -> Result<Authenticated, OauthError> {
        let registry = self.desk.registry();
        let authority = registry.authority();
        let uri = format!("{}{path}", authority.issuer);
        let certificate = certificate(arrived);
        let request = Request {
            headers: &arrived.head.headers,
            form,
            uri: &uri,
            certificate: certificate.as_ref(),
            now: authority.control.clock.now(),
        };
        match registry.authenticate(&request, agreed).await {
            Ok(client) => Ok(client),
            Err(error) if error.code == OauthCode::UseDpopNonce => Err(error),
            Err(error) => Err(authority.refused(error).await),
        }
    }

    /// The same with the address that is meant, where a client that asks for itself names none.
    fn meant(&self, form: Form, client: &Client) -> Result<Form, OauthError> {
        let named = ["resource", "audience"].iter().any(|name| form.get(name).is_some());
        match self.desk.registry().authority().default_resource(client) {
            Some(usual) if !named => {
                let usual = ("resource".to_owned(), usual.to_owned());
                let pairs = form.pairs().map(|(name, value)| (name.to_owned(), value.to_owned()));
                Ok(Form::of(pairs.chain([usual]))?)
            }
            _ => Ok(form),
        }
    }

    /// Addresses that tokens are asked for, in the spelling of the house (RFC 8707).
    pub(super) fn spelled(&self, form: &Form) -> Result<Form, OauthError> {
        let authority = self.desk.registry().authority();
        let unknown = || OauthError::new(OauthCode::InvalidTarget, "a resource is unknown");
        let pairs = form.pairs().map(|(name, value)| {
            let value = match name {
                "resource" | "audience" if !value.is_empty() => {
                    authority.resource(value).ok_or_else(unknown)?
                }
                _ => value,
            };
            Ok((name.to_owned(), value.to_owned()))
        });
        Ok(Form::of(pairs.collect::<Result<Vec<_>, OauthError>>()?)?)
    }
}

/// The parameters of a request that holds none in its address: what stands there ends up in logs.
pub(super) fn body(arrived: &Arrived) -> Result<Form, OauthError> {
    if arrived.head.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(OauthError::request("parameters stand in the body, not in the address"));
    }
    form(arrived)
}

/// The parameters of a body.
pub(super) fn form(arrived: &Arrived) -> Result<Form, OauthError> {
    let kind = arrived.head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(OauthError::request("the body is application/x-www-form-urlencoded"));
    }
    Ok(Form::parse(&arrived.body)?)
}
