//! How an external API is reached, and what may be asked of it.

use std::collections::BTreeSet;

use bartizan_base::{Name, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Status;

/// How the external API of the same name is reached: which operations of it there are. What is not named here cannot be called,
/// whatever policy says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiRouteSpec {
    /// Whether it may be called.
    #[serde(default)]
    pub status: Status,
    /// The upstream that its calls go to, under the credential that is declared there; where the API itself is declared with a
    /// `connection`, under the token of the account that the person, on whose behalf it is called, has connected, and under
    /// nothing else.
    pub upstream: Name,
    /// What can be asked of it, at most 500.
    pub operations: Vec<ApiOperation>,
    /// The most bytes of an answer; a longer one is refused whole.
    #[serde(default = "default_answer_bytes_max")]
    pub answer_bytes_max: u64,
    /// The media types that answers may have, without parameters.
    #[serde(default = "default_answer_types")]
    pub answer_types: BTreeSet<Text<100>>,
}

const fn default_answer_bytes_max() -> u64 {
    1 << 20
}

fn default_answer_types() -> BTreeSet<Text<100>> {
    "application/json".parse().into_iter().collect()
}

/// An operation of an external API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiOperation {
    /// Its name, as policies see it (`context.request.operation`).
    pub name: Name,
    /// The method.
    pub method: ApiMethod,
    /// The path below the upstream's address, such as `/repos/{owner}/{repo}`. A parameter is a whole segment.
    pub path: Text<500>,
    /// Parameters of the query that it takes; others are refused.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub query: BTreeSet<Text<100>>,
    /// What its arguments must be: a JSON Schema (2020-12) of an object that holds the parameters of path and query by name and,
    /// where there is one, the body as `body`. An operation without `body` in its `properties` takes none. References lead into
    /// the schema itself and nowhere else.
    #[serde(default = "any_object")]
    pub arguments: serde_json::Value,
}

fn any_object() -> serde_json::Value {
    serde_json::json!({"type": "object"})
}

/// A method of HTTP, of those that are brokered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ApiMethod {
    /// Read.
    Get,
    /// Do something that another time does something else.
    Post,
    /// Replace.
    Put,
    /// Change.
    Patch,
    /// Remove.
    Delete,
}

impl ApiMethod {
    /// Every method.
    pub const ALL: &[Self] = &[Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// Its name in HTTP.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}
