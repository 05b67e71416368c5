//! A simulated model: speaks the OpenAI and Anthropic APIs, knows nothing.
