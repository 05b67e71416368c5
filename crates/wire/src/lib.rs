//! Sans-IO parsers: OpenAI, Anthropic, SSE to asks.
