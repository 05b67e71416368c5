//! Bodies that only the API knows.

use bartizan_base::Name;
use bartizan_model::record::ErasureBasis;
use bartizan_secret::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// The first administrator's claim.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    /// The claim, as `bartizan init` printed it.
    #[schemars(with = "String")]
    pub(crate) claim: Secret<String>,
    /// The administrator's name.
    pub(crate) name: Name,
}

/// How a key is replaced.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotate {
    /// Seconds that the old key lives on.
    pub(crate) overlap_s: u64,
}

/// What an upstream demands.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credential {
    /// The credential; never given out again.
    #[schemars(with = "String")]
    pub(crate) credential: Secret<String>,
}

/// On what ground somebody is erased.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erase {
    /// The ground, as the GDPR has them in Article 17(1).
    pub(crate) basis: ErasureBasis,
}
