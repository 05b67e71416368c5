//! Whether answers of a model are given again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// For how long, and to whom, an answer of a model is given again to exactly the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheSpec {
    /// How old an answer may be, in seconds: from 1 to 86,400.
    pub max_age_s: u32,
    /// Among whom answers are shared.
    #[serde(default)]
    pub among: CacheAmong,
}

/// Among whom answers are shared. Whoever asks is decided on by themselves in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheAmong {
    /// Nobody: what a chain got under a credential, it gets again under that credential.
    #[default]
    Caller,
    /// All to whom the same rules permit the same under the same obligations, in sessions of the same label. They can find out
    /// what others of them asked lately, by how soon the answer comes.
    Entitlement,
}

impl CacheSpec {
    /// The oldest that an answer may become, in seconds.
    pub const AGE_MAX_S: u32 = 86_400;

    /// What is wrong with it, if anything is.
    #[must_use]
    pub const fn mistake(&self) -> Option<&'static str> {
        match self.max_age_s {
            1..=Self::AGE_MAX_S => None,
            _ => Some("`cache.max_age_s` is from 1 to 86400"),
        }
    }
}
