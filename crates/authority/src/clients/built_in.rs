//! The client that comes with the product: our own command line. A native application (RFC 8252): public, answered on the
//! person's own machine, its tokens bound to a key that it makes at every login.

use bartizan_model::{COMMAND_LINE, GrantType, Spec, Tenant};
use bartizan_store::State;

use super::{Authentication, Client, Origin, epoch_name};

/// The path of the control API below the issuer's address: what the tokens of the command line are for.
pub const CONTROL_API: &str = "/api/v1";
/// Where it is answered; the port is free (RFC 8252, 7.3).
const REDIRECT: &str = "http://127.0.0.1/answer";
/// The most it may be given: what the control API asks for. Models and tools are called by other programs.
const SCOPES: [&str; 5] = ["offline_access", "house:read", "house:change", "content:read", "self:use"];

impl Client {
    /// The built-in client of that id. An administrator who declares one by its name, even disabled, has the say over it.
    #[must_use]
    pub fn built_in(state: &State, tenant: &Tenant, issuer: &str, id: &str) -> Option<Self> {
        if id != COMMAND_LINE {
            return None;
        }
        let declared = state.documents.iter().any(|(owner, document, _)| {
            owner == tenant && document.name.as_str() == id && matches!(document.spec, Spec::Client(_))
        });
        if declared {
            return None;
        }
        Some(Self {
            id: id.to_owned(),
            tenant: tenant.clone(),
            origin: Origin::BuiltIn,
            name: epoch_name(id),
            display: "Bartizan command line".to_owned(),
            redirects: [REDIRECT.to_owned()].into(),
            post_logout_redirects: [].into(),
            grants: [GrantType::AuthorizationCode, GrantType::DeviceCode, GrantType::RefreshToken].into(),
            scopes: SCOPES.map(str::to_owned).into(),
            resources: [format!("{issuer}{CONTROL_API}")].into(),
            serves: [].into(),
            authentication: Authentication::None,
            principal: None,
            bound: true,
            pushed: false,
        })
    }
}
