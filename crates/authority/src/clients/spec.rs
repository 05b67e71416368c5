//! Clients that an administrator declared.

use bartizan_base::Name;
use bartizan_model::{ClientAuthentication, ClientSpec, Spec, Status, Tenant};
use bartizan_store::State;

use super::{Authentication, Client, Origin, TlsName, epoch_name};

impl Client {
    /// The client of that name in the directory, if it is in use and can be used as it is declared.
    #[must_use]
    pub fn declared(state: &State, tenant: &Tenant, id: &str) -> Option<Self> {
        state.documents.iter().find_map(|(owner, document, _)| match &document.spec {
            Spec::Client(spec) if owner == tenant && document.name.as_str() == id => {
                Self::of_spec(tenant, &document.name, spec)
            }
            _ => None,
        })
    }

    fn of_spec(tenant: &Tenant, name: &Name, spec: &ClientSpec) -> Option<Self> {
        if spec.status != Status::Active {
            return None;
        }
        Some(Self {
            id: name.to_string(),
            tenant: tenant.clone(),
            origin: Origin::Declared,
            name: epoch_name(name),
            display: spec.display.as_ref().map_or_else(|| name.to_string(), ToString::to_string),
            redirects: spec.redirect_uris.clone(),
            post_logout_redirects: spec.post_logout_redirect_uris.clone(),
            grants: spec.grant_types.clone(),
            scopes: spec.scopes.iter().map(ToString::to_string).collect(),
            resources: spec.resources.clone(),
            authentication: Authentication::of_spec(&spec.authentication)?,
            principal: spec.principal.clone(),
            bound: spec.bound_tokens,
            pushed: spec.pushed_requests,
        })
    }
}

impl Authentication {
    /// None where it is declared in a way that says nothing or two things: such a client cannot come in.
    fn of_spec(spec: &ClientAuthentication) -> Option<Self> {
        Some(match spec {
            ClientAuthentication::None => Self::None,
            ClientAuthentication::ClientSecret { digests } => Self::Secret(digests.clone()),
            ClientAuthentication::PrivateKeyJwt { jwks: Some(jwks), jwks_uri: None, .. } => {
                Self::Keys(jwks.clone())
            }
            ClientAuthentication::PrivateKeyJwt { jwks: None, jwks_uri: Some(url), allow_private } => {
                Self::KeysAt { url: url.clone(), allow_private: *allow_private }
            }
            ClientAuthentication::PrivateKeyJwt { .. } => return None,
            ClientAuthentication::TlsClientAuth { subject_dn, san_dns, san_uri } => {
                Self::Tls(match (subject_dn, san_dns, san_uri) {
                    (Some(name), None, None) => TlsName::Subject(name.clone()),
                    (None, Some(name), None) => TlsName::Dns(name.clone()),
                    (None, None, Some(name)) => TlsName::Uri(name.clone()),
                    _ => return None,
                })
            }
            ClientAuthentication::SelfSignedTlsClientAuth { certificates } => {
                Self::Certificates(certificates.clone())
            }
        })
    }
}
