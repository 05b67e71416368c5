//! What kind of personal data a value is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of personal data a value is; retention is set by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Where a request came from: addresses, ports, names of hosts.
    Network,
    /// The program that a request came from.
    UserAgent,
    /// The purpose that was stated.
    Purpose,
    /// What was sent to a model.
    Prompt,
    /// What a model answered.
    Output,
    /// Other words of people: justifications, comments.
    FreeText,
    /// The key under which lies what replay needs. It goes with its subject, not by age.
    Replay,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Network,
        Self::UserAgent,
        Self::Purpose,
        Self::Prompt,
        Self::Output,
        Self::FreeText,
        Self::Replay,
    ];

    /// The name in the database and in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::UserAgent => "user_agent",
            Self::Purpose => "purpose",
            Self::Prompt => "prompt",
            Self::Output => "output",
            Self::FreeText => "free_text",
            Self::Replay => "replay",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_the_name_that_it_is_serialised_as() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!(Kind::from_name("Network"), None);
    }
}
