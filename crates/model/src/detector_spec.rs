//! What a tenant looks for in texts beyond what is built in.

use bartizan_base::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::Status;

/// Words and patterns of a tenant's own, named in policies as `redact(detector: "NAME")`. A policy that names one that is not
/// declared, or is disabled, lets nothing through that would have to be searched for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetectorSpec {
    /// Whether it may be used.
    #[serde(default)]
    pub status: Status,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Text<500>>,
    /// Words and phrases, in any case and in any of their look-alike characters: at most 20,000 of at most 128 bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Text<128>>,
    /// Whether a word is only found where no letter or digit touches it.
    #[serde(default = "yes")]
    pub whole_words: bool,
    /// Regular expressions that match a bounded number of bytes: at most 64 of them, each for at most 256 bytes. Of what
    /// looks around, only `\b` and `\B` are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<Text<512>>,
    /// Canaries: texts that stand nowhere but where nobody has any business, at most 32, each of 12 to 64 letters and digits of
    /// ASCII and what stands between them. They are found in any case, with anything between their letters and digits, and in up
    /// to two layers of base64 or hexadecimal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<Text<128>>,
    /// What happens where a canary is found.
    #[serde(default, skip_serializing_if = "OnCanary::is_default")]
    pub on_canary: OnCanary,
}

/// What happens where a canary is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCanary {
    /// The text that holds it goes no further, nor does what follows.
    #[default]
    Block,
    /// It is told, and goes on.
    Watch,
}

impl OnCanary {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

const fn yes() -> bool {
    true
}
