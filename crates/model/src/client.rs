//! Client programs of the authority: what may ask for tokens, and how it proves what it is.

use std::collections::BTreeSet;

use bartizan_base::{Digest, Name, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::PrincipalKind;
use crate::directory::Status;

/// The `client_id` of our own command line. Every authority knows it without anybody declaring it.
pub const COMMAND_LINE: &str = "bartizan-cli";

/// By what a client comes to a token (RFC 6749 and what extends it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GrantType {
    /// A person allowed it in a browser (RFC 6749, 4.1).
    #[serde(rename = "authorization_code")]
    AuthorizationCode,
    /// A refresh token (RFC 6749, 6).
    #[serde(rename = "refresh_token")]
    RefreshToken,
    /// The client for itself (RFC 6749, 4.4).
    #[serde(rename = "client_credentials")]
    ClientCredentials,
    /// A token for another one (RFC 8693).
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange")]
    TokenExchange,
    /// A person allowed it on another device (RFC 8628).
    #[serde(rename = "urn:ietf:params:oauth:grant-type:device_code")]
    DeviceCode,
    /// Another issuer's word (RFC 7523).
    #[serde(rename = "urn:ietf:params:oauth:grant-type:jwt-bearer")]
    JwtBearer,
}

impl GrantType {
    /// Every one.
    pub const ALL: &[Self] = &[
        Self::AuthorizationCode,
        Self::RefreshToken,
        Self::ClientCredentials,
        Self::TokenExchange,
        Self::DeviceCode,
        Self::JwtBearer,
    ];

    /// The value of `grant_type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
        }
    }

    /// The one of that value.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|grant| grant.name() == name)
    }
}

/// A client program. Its `client_id` is the name of the document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSpec {
    /// Whether it may ask for tokens.
    pub status: Status,
    /// What people are shown; the name if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<Text<100>>,
    /// Where answers may be sent, to the letter; of `http://127.0.0.1` and `http://[::1]` the port is free (RFC 8252, 7.3).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub redirect_uris: BTreeSet<String>,
    /// Where the browser may be sent after logging out, to the letter.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub post_logout_redirect_uris: BTreeSet<String>,
    /// By what it may come to tokens.
    pub grant_types: BTreeSet<GrantType>,
    /// The most it may be given: actions, groups of actions, `openid`, `profile`, `email`, `offline_access`.
    pub scopes: BTreeSet<Name>,
    /// The addresses it may have tokens for (RFC 8707); none for all that the authority issues for.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub resources: BTreeSet<String>,
    /// The addresses that it answers at: tokens for them it may ask about (RFC 7662) and exchange (RFC 8693).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub serves: BTreeSet<String>,
    /// How it proves what it is.
    pub authentication: ClientAuthentication,
    /// Who it is when it acts for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalRef>,
    /// Whether its tokens must be bound to a key of its own (DPoP or mutual TLS).
    pub bound_tokens: bool,
    /// Whether it must push its authorization requests (RFC 9126).
    pub pushed_requests: bool,
}

impl Default for ClientSpec {
    fn default() -> Self {
        Self {
            status: Status::default(),
            display: None,
            redirect_uris: BTreeSet::new(),
            post_logout_redirect_uris: BTreeSet::new(),
            grant_types: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
            scopes: BTreeSet::new(),
            resources: BTreeSet::new(),
            serves: BTreeSet::new(),
            authentication: ClientAuthentication::default(),
            principal: None,
            bound_tokens: false,
            pushed_requests: false,
        }
    }
}

/// A principal of the directory, by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalRef {
    /// What kind of being.
    pub kind: PrincipalKind,
    /// Which.
    pub name: Name,
}

/// How a client proves what it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientAuthentication {
    /// Not at all: a program on somebody's own machine.
    #[default]
    None,
    /// By a secret (`client_secret_basic`, `client_secret_post`).
    ClientSecret {
        /// SHA-256 of the secret, which has at least 32 random characters; two while it is replaced.
        digests: BTreeSet<Digest>,
    },
    /// By an assertion signed with its key (`private_key_jwt`, RFC 7523).
    PrivateKeyJwt {
        /// Its public keys (RFC 7517).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jwks: Option<Map<String, Value>>,
        /// Where its public keys are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jwks_uri: Option<String>,
        /// Whether that address may be private or loopback.
        #[serde(default)]
        allow_private: bool,
    },
    /// By a certificate of an authority that the listener trusts (`tls_client_auth`, RFC 8705, 2.1). Exactly one of the names.
    TlsClientAuth {
        /// The subject, as RFC 4514 writes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject_dn: Option<String>,
        /// A DNS name among the alternative names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san_dns: Option<String>,
        /// An address among the alternative names, such as a SPIFFE ID.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san_uri: Option<String>,
    },
    /// By a certificate of its own (`self_signed_tls_client_auth`, RFC 8705, 2.2).
    SelfSignedTlsClientAuth {
        /// SHA-256 of each certificate's DER.
        certificates: BTreeSet<Digest>,
    },
}
