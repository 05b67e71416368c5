//! Locks: a scoped, expiring "may not", set by a person or a response.

use std::fmt;
use std::str::FromStr;

use bartizan_base::{Name, Text, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::resource::EntityPath;
use crate::{Confidentiality, EntityRef, Label, PrincipalId, SessionId};

/// What a lock is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locked {
    /// Every door of the tenant; those who run the house can still do so.
    Tenant,
    /// Whoever or whatever is this or belongs to it: `User::ann`, `Agent::helper`, `Group::contractors`, `Tool::delete_all`,
    /// `ToolServer::crm`, `Model::big`, `Upstream::provider`, `Environment::production`.
    Entity(EntityRef),
    /// What happens in this session, and nothing else of the same person.
    Session(SessionId),
    /// What names this run.
    Run(RunName),
    /// Sessions that something of this category entered.
    Category(Name),
    /// Sessions that something at least so confidential entered.
    Confidentiality(Confidentiality),
}

/// What a caller calls a run.
pub type RunName = Text<128>;

/// A lock, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// On what.
    pub on: Locked,
    /// Why, for those who look at it.
    pub reason: Text<500>,
    /// Who set it.
    pub by: PrincipalId,
    /// Whom to ask, as it is told to those who are refused.
    pub ask: Text<200>,
    /// When it was set.
    pub since_us: Timestamp,
    /// When it ends by itself.
    pub until_us: Timestamp,
}

/// Words for the entity types that can be written in front of a `/`, as elsewhere on the command line.
const WORDS: [(&str, &str); 14] = [
    ("user", "User"),
    ("agent", "Agent"),
    ("workload", "Workload"),
    ("group", "Group"),
    ("project", "Project"),
    ("environment", "Environment"),
    ("upstream", "Upstream"),
    ("model", "Model"),
    ("tool_server", "ToolServer"),
    ("tool", "Tool"),
    ("corpus", "Corpus"),
    ("collection", "Collection"),
    ("database", "Database"),
    ("api", "Api"),
];

impl Locked {
    /// Whether a session of this label is locked.
    #[must_use]
    pub fn covers_label(&self, label: &Label) -> bool {
        match self {
            Self::Category(category) => label.categories.contains(category),
            Self::Confidentiality(least) => label.confidentiality >= *least,
            Self::Tenant | Self::Entity(_) | Self::Session(_) | Self::Run(_) => false,
        }
    }
}

/// The text says nothing that can be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a lock is on `tenant`, `user/ann`, `agent/…`, `group/…`, `model/…`, `tool/…`, `tool_server/…`, `upstream/…`, \
     `session/ses_…`, `run/…`, `label/CATEGORY`, `label/LEVEL`, or any entity of the policy such as `Tool::\"x\"`"
)]
pub struct NotLockable;

impl FromStr for Locked {
    type Err = NotLockable;

    fn from_str(text: &str) -> Result<Self, NotLockable> {
        if text == "tenant" {
            return Ok(Self::Tenant);
        }
        if text.contains("::") {
            return text
                .parse::<EntityPath>()
                .map(|path| Self::Entity(path.entity()))
                .map_err(|_| NotLockable);
        }
        let (word, name) = text.split_once('/').ok_or(NotLockable)?;
        if name.is_empty() {
            return Err(NotLockable);
        }
        match word {
            "session" => name.parse().map(Self::Session).map_err(|_| NotLockable),
            "run" => name.parse().map(Self::Run).map_err(|_| NotLockable),
            "label" => {
                let level = serde_json::from_value(serde_json::Value::from(name));
                level
                    .map(Self::Confidentiality)
                    .or_else(|_| name.parse().map(Self::Category))
                    .map_err(|_| NotLockable)
            }
            word => {
                let kind = WORDS.iter().find(|(known, _)| *known == word).ok_or(NotLockable)?.1;
                let name = name.parse().map_err(|_| NotLockable)?;
                Ok(Self::Entity(EntityRef { kind: Name::literal(kind), name }))
            }
        }
    }
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant => f.write_str("tenant"),
            Self::Entity(entity) => match WORDS.iter().find(|(_, kind)| entity.kind.as_str() == *kind) {
                Some((word, _)) if !entity.name.contains("::") => write!(f, "{word}/{}", entity.name),
                _ => write!(f, "{entity}"),
            },
            Self::Session(id) => write!(f, "session/{id}"),
            Self::Run(name) => write!(f, "run/{name}"),
            Self::Category(name) => write!(f, "label/{name}"),
            Self::Confidentiality(level) => write!(f, "label/{}", level.name()),
        }
    }
}

impl Serialize for Locked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Locked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Locked {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Locked".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": "`tenant`, `user/ann`, `agent/…`, `group/…`, `model/…`, `tool/…`, `session/ses_…`, `run/…`, `label/…`, or an entity of the policy."})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_is_read_as_it_is_written() {
        let session = SessionId::from_parts(Timestamp::from_secs(1), [1; 10]);
        for text in [
            "tenant".to_owned(),
            "user/ann".into(),
            "tool_server/crm".into(),
            "label/health".into(),
            "label/restricted".into(),
            "run/nightly 7".into(),
            "Shop::Order::\"7\"".into(),
            format!("session/{session}"),
        ] {
            let read: Locked = text.parse().unwrap();
            let written = read.to_string();
            assert_eq!(written.parse(), Ok(read), "{text} → {written}");
        }
        assert_eq!("Tool::rm".parse::<Locked>(), "tool/rm".parse());
        assert_eq!("label/restricted".parse(), Ok(Locked::Confidentiality(Confidentiality::Restricted)));
        for bad in ["", "ann", "user/", "session/x", "planet/earth", "a::", "label/"] {
            assert!(bad.parse::<Locked>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_is_covered_by_its_categories_and_by_what_is_less_confidential() {
        let label =
            |c| Label { confidentiality: c, categories: [Name::literal("health")].into(), ..Label::bottom() };
        let locked = |text: &str| text.parse::<Locked>().unwrap();
        assert!(locked("label/health").covers_label(&label(Confidentiality::Public)));
        assert!(!locked("label/finance").covers_label(&label(Confidentiality::Public)));
        assert!(locked("label/confidential").covers_label(&label(Confidentiality::Restricted)));
        assert!(!locked("label/confidential").covers_label(&label(Confidentiality::Internal)));
    }
}
