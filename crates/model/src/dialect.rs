//! The wire formats that models are asked in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The wire formats a model is asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Dialect {
    /// `POST /v1/chat/completions` (OpenAI).
    #[serde(rename = "openai.chat")]
    OpenAiChat,
    /// `POST /v1/responses` (OpenAI).
    #[serde(rename = "openai.responses")]
    OpenAiResponses,
    /// `POST /v1/embeddings` (OpenAI).
    #[serde(rename = "openai.embeddings")]
    OpenAiEmbeddings,
    /// `POST /v1/messages` (Anthropic).
    #[serde(rename = "anthropic.messages")]
    AnthropicMessages,
    /// `POST /v1/messages/count_tokens` (Anthropic): spoken by whatever speaks messages.
    #[serde(rename = "anthropic.count_tokens")]
    AnthropicCountTokens,
    /// `POST /openai/deployments/{deployment}/chat/completions` (Azure OpenAI).
    #[serde(rename = "azure.chat")]
    AzureChat,
    /// `POST /openai/deployments/{deployment}/completions` (Azure OpenAI).
    #[serde(rename = "azure.completions")]
    AzureCompletions,
    /// `POST /openai/deployments/{deployment}/embeddings` (Azure OpenAI).
    #[serde(rename = "azure.embeddings")]
    AzureEmbeddings,
    /// `POST /model/{modelId}/converse` and `/converse-stream` (Amazon Bedrock).
    #[serde(rename = "bedrock.converse")]
    BedrockConverse,
    /// `POST /model/{modelId}/invoke` and `/invoke-with-response-stream` (Amazon Bedrock), with Anthropic's messages in them.
    #[serde(rename = "bedrock.invoke")]
    BedrockInvoke,
    /// `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent` (Gemini).
    #[serde(rename = "gemini.generate")]
    GeminiGenerate,
    /// `POST /v1beta/models/{model}:embedContent` and `:batchEmbedContents` (Gemini).
    #[serde(rename = "gemini.embed")]
    GeminiEmbed,
    /// `POST /v1beta/models/{model}:countTokens` (Gemini): spoken by whatever generates.
    #[serde(rename = "gemini.count_tokens")]
    GeminiCountTokens,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: &[Self] = &[
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::OpenAiEmbeddings,
        Self::AnthropicMessages,
        Self::AnthropicCountTokens,
        Self::AzureChat,
        Self::AzureCompletions,
        Self::AzureEmbeddings,
        Self::BedrockConverse,
        Self::BedrockInvoke,
        Self::GeminiGenerate,
        Self::GeminiEmbed,
        Self::GeminiCountTokens,
    ];

    /// The name in configuration, policies and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai.chat",
            Self::OpenAiResponses => "openai.responses",
            Self::OpenAiEmbeddings => "openai.embeddings",
            Self::AnthropicMessages => "anthropic.messages",
            Self::AnthropicCountTokens => "anthropic.count_tokens",
            Self::AzureChat => "azure.chat",
            Self::AzureCompletions => "azure.completions",
            Self::AzureEmbeddings => "azure.embeddings",
            Self::BedrockConverse => "bedrock.converse",
            Self::BedrockInvoke => "bedrock.invoke",
            Self::GeminiGenerate => "gemini.generate",
            Self::GeminiEmbed => "gemini.embed",
            Self::GeminiCountTokens => "gemini.count_tokens",
        }
    }

    /// The dialect that a model declares for it: whatever speaks messages counts their tokens.
    #[must_use]
    pub const fn declared(self) -> Self {
        match self {
            Self::AnthropicCountTokens => Self::AnthropicMessages,
            Self::GeminiCountTokens => Self::GeminiGenerate,
            other => other,
        }
    }

    /// The path it is spoken at, here and at the upstream (below its base URL's origin and prefix); with braces where the address names
    /// the model, or what to do with it.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::OpenAiChat => "/v1/chat/completions",
            Self::OpenAiResponses => "/v1/responses",
            Self::OpenAiEmbeddings => "/v1/embeddings",
            Self::AnthropicMessages => "/v1/messages",
            Self::AnthropicCountTokens => "/v1/messages/count_tokens",
            Self::AzureChat => "/openai/deployments/{deployment}/chat/completions",
            Self::AzureCompletions => "/openai/deployments/{deployment}/completions",
            Self::AzureEmbeddings => "/openai/deployments/{deployment}/embeddings",
            Self::BedrockConverse => "/model/{model}/{converse}",
            Self::BedrockInvoke => "/model/{model}/{invoke}",
            Self::GeminiGenerate => "/v1beta/models/{model}:{generate}",
            Self::GeminiEmbed => "/v1beta/models/{model}:{embed}",
            Self::GeminiCountTokens => "/v1beta/models/{model}:countTokens",
        }
    }

    /// Whose format it is and what is asked in it, in the words of OpenTelemetry's GenAI conventions.
    #[must_use]
    pub const fn conventions(self) -> (&'static str, &'static str) {
        match self {
            Self::OpenAiChat | Self::OpenAiResponses => ("openai", "chat"),
            Self::OpenAiEmbeddings => ("openai", "embeddings"),
            Self::AnthropicMessages => ("anthropic", "chat"),
            Self::AnthropicCountTokens => ("anthropic", "count_tokens"),
            Self::AzureChat => ("azure.ai.openai", "chat"),
            Self::AzureCompletions => ("azure.ai.openai", "text_completion"),
            Self::AzureEmbeddings => ("azure.ai.openai", "embeddings"),
            Self::BedrockConverse | Self::BedrockInvoke => ("aws.bedrock", "chat"),
            Self::GeminiGenerate => ("gcp.gemini", "generate_content"),
            Self::GeminiEmbed => ("gcp.gemini", "embeddings"),
            Self::GeminiCountTokens => ("gcp.gemini", "count_tokens"),
        }
    }
}
