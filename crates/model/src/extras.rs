//! What a request reaches for beside the text it carries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a request makes a provider do or touch beside answering the text it carries. All are refused unless the model
/// declares that it accepts them; policies see them under `context.request.extras` and can refuse them further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestExtra {
    /// Work that goes on when the connection has ended, out of reach of a revocation.
    Background,
    /// Files kept at the provider, by id.
    Files,
    /// Tools that the provider runs: web search, code, its own file search.
    HostedTools,
    /// State kept at the provider: earlier responses, conversations, stored prompts, containers. Never accepted, because
    /// whose it is cannot be told yet.
    ProviderState,
    /// Tool servers that the provider connects to.
    RemoteTools,
    /// That the provider keeps the exchange.
    Storage,
    /// Addresses that the provider fetches.
    Urls,
}

impl RequestExtra {
    /// Every one.
    pub const ALL: &[Self] = &[
        Self::Background,
        Self::Files,
        Self::HostedTools,
        Self::ProviderState,
        Self::RemoteTools,
        Self::Storage,
        Self::Urls,
    ];

    /// The name in declarations, policies and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Files => "files",
            Self::HostedTools => "hosted_tools",
            Self::ProviderState => "provider_state",
            Self::RemoteTools => "remote_tools",
            Self::Storage => "storage",
            Self::Urls => "urls",
        }
    }
}
