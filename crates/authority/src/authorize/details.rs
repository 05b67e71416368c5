//! What exactly is asked for (RFC 9396): the call of one tool, the move of one deployment.

use bartizan_base::{Digest, Name, json};
use bartizan_model::Tenant;
use bartizan_store::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::oauth::{OauthCode, OauthError};

/// The types that are known.
pub(crate) const TYPES: &[&str] = &["bartizan_tool", "bartizan_deployment"];

const LIMITS: json::Limits = json::Limits { bytes_max: 16 << 10, depth_max: 8, nodes_max: 500 };
/// The most details in one request: more than a person can read is no consent.
const COUNT_MAX: usize = 10;

/// One thing, exactly. Unknown members are refused: nobody may think that they limit anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(crate) enum Detail {
    /// Calls of one tool.
    #[serde(rename = "bartizan_tool")]
    Tool {
        /// Which, by its name in the directory.
        tool: Name,
        /// With exactly these arguments: SHA-256 of their canonical JSON (RFC 8785).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<Digest>,
    },
    /// The move of one deployment into an environment.
    #[serde(rename = "bartizan_deployment")]
    Deployment {
        /// Which, by its name in the directory.
        deployment: Name,
        /// Where to.
        environment: Name,
        /// Exactly this: the digest of its manifest.
        manifest: Digest,
    },
}

/// Reads the parameter `authorization_details`. What it names must be declared.
pub(super) fn read(text: &str, state: &State, tenant: &Tenant) -> Result<Vec<Value>, OauthError> {
    let refuse = |why: &str| OauthError::new(OauthCode::InvalidAuthorizationDetails, why);
    let value = json::parse(text.as_bytes(), LIMITS)
        .map_err(|_| refuse("authorization_details is no JSON within bounds"))?;
    let Value::Array(all) = value else { return Err(refuse("authorization_details is no list")) };
    if all.is_empty() || all.len() > COUNT_MAX {
        return Err(refuse("authorization_details holds nothing, or too much"));
    }
    let declared = |kind: &str, name: &Name| {
        state
            .documents
            .iter()
            .any(|(owner, d, _)| owner == tenant && d.spec.kind() == kind && d.name == *name)
    };
    all.into_iter()
        .map(|value| {
            let detail: Detail = serde_json::from_value(value)
                .map_err(|_| refuse("a detail is of no known type, or not of its form"))?;
            let known = match &detail {
                Detail::Tool { tool, .. } => declared("tool", tool),
                Detail::Deployment { deployment, environment, .. } => {
                    declared("deployment", deployment) && declared("environment", environment)
                }
            };
            if !known {
                return Err(refuse("a detail names something that is not there"));
            }
            serde_json::to_value(&detail).map_err(|_| refuse("a detail is not of its form"))
        })
        .collect()
}

/// A detail in words, for people.
pub(super) fn in_words(value: &Value) -> String {
    match serde_json::from_value(value.clone()) {
        Ok(Detail::Tool { tool, arguments: None }) => format!("call the tool {tool}"),
        Ok(Detail::Tool { tool, arguments: Some(digest) }) => {
            format!("call the tool {tool} with the arguments of digest {digest}, and no others")
        }
        Ok(Detail::Deployment { deployment, environment, manifest }) => {
            format!(
                "move the deployment {deployment} into {environment}, exactly as in the manifest {manifest}"
            )
        }
        // Only what was read before is shown.
        Err(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_model::{Document, Spec};

    fn state() -> State {
        let document = |name: &'static str, spec| {
            (Tenant::default_tenant(), Document { name: Name::literal(name), principal: None, spec }, 1)
        };
        let documents = vec![
            document("mail", Spec::Tool(Default::default())),
            document("shop", Spec::Deployment(Default::default())),
            document("production", Spec::Environment(Default::default())),
        ];
        State { documents: documents.into(), ..State::default() }
    }

    fn read(text: &str) -> Result<Vec<Value>, OauthError> {
        super::read(text, &state(), &Tenant::default_tenant())
    }

    #[test]
    fn details_are_exact_and_said_in_words() {
        let digest = "ab".repeat(32);
        let text = format!(
            r#"[{{"type":"bartizan_tool","tool":"mail","arguments":"{digest}"}},
                {{"type":"bartizan_deployment","deployment":"shop","environment":"production","manifest":"{digest}"}}]"#
        );
        let details = read(&text).unwrap();
        let words: Vec<_> = details.iter().map(in_words).collect();
        assert!(
            words[0].contains("the tool mail with the arguments")
                && words[1].contains("shop into production")
        );
    }

    #[test]
    fn what_is_unknown_or_would_seem_to_limit_is_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            "[1]",
            r#"[{"tool":"mail"}]"#,
            r#"[{"type":"payment"}]"#,
            r#"[{"type":"bartizan_tool","tool":"absent"}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail","amount_max":10}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail","tool":"mail"}]"#,
            r#"[{"type":"bartizan_tool","tool":"mail","arguments":"x"}]"#,
            r#"[{"type":"bartizan_deployment","deployment":"shop","environment":"production"}]"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let many = format!("[{}]", [r#"{"type":"bartizan_tool","tool":"mail"}"#; 11].join(","));
        assert!(read(&many).is_err());
        let other: Tenant = Tenant(Name::literal("other"));
        assert!(super::read(r#"[{"type":"bartizan_tool","tool":"mail"}]"#, &state(), &other).is_err());
    }
}
