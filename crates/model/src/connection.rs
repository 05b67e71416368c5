//! Where people can connect external accounts: who guards a resource outside, and what we are there.

use std::collections::BTreeSet;

use bartizan_base::{Name, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::Status;

/// A resource outside whose owner lets people act there through us. Tool servers and APIs name it as their `connection`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionProviderSpec {
    /// Whether accounts may be connected and used.
    #[serde(default)]
    pub status: Status,
    /// What people are shown; the name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<Text<100>>,
    /// The address of what is used, such as `https://tools.example.com/mcp`: the tokens are for it (RFC 8707) and are sent to
    /// nothing else.
    pub resource: String,
    /// The issuer of its tokens, to the letter; as the resource itself says (RFC 9728) if absent. Stated, no other is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What we are at the issuer.
    pub client: OutsideClient,
    /// What is asked for at first; what the resource asks for if empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<Text<256>>,
    /// The most that is ever asked for, also where the resource wants more; none for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes_max: Option<BTreeSet<Text<256>>>,
    /// Whether its addresses may be private or loopback, and may then be `http`.
    #[serde(default)]
    pub allow_private: bool,
}

/// What we are at somebody else's authorization server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum OutsideClient {
    /// Registered there beforehand.
    Registered {
        /// The client's id there.
        client_id: Text<1024>,
        /// How it proves what it is.
        #[serde(default)]
        authentication: OutsideAuthentication,
        /// Which sealed credential holds its secret.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credential: Option<Name>,
    },
    /// By the document about us that we publish (client identifier metadata document).
    Document,
}

/// How we prove what we are at somebody else's token endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutsideAuthentication {
    /// Not at all: the proof key of the code is what counts.
    #[default]
    None,
    /// The secret in the `Authorization` header.
    ClientSecretBasic,
    /// The secret in the body.
    ClientSecretPost,
}
