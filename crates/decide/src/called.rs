//! A call of a tool as the tool's own action sees it: with the arguments that its schema types, and their sizes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bartizan_base::{Digest, Name};
use bartizan_model::{Action, AskFacts, EntityRef, ReasonCode};
use cedar_policy::EntityUid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bundle::CompiledBundle;
use crate::describe::uid;
use crate::inner::Fact;
use crate::servers::{ServerError, ServerWords, Tool, namespace_of};

/// The tools that a bundle knows.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// By the resource that each is: `server/tool`.
    known: HashMap<String, Arc<Tool>>,
    /// Those that rules speak of and that are not, or not any more, as the rules take them to be. They cannot be asked for:
    /// a rule on them was set aside.
    dead: BTreeSet<EntityUid>,
}

/// What a tool's own action is asked with.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) uid: EntityUid,
    pub(crate) arguments: Option<Fact>,
    pub(crate) sizes: Option<Fact>,
    /// The digest of the definition that the arguments were read by.
    pub(crate) definition: Digest,
}

/// The definition of a tool as it was when a call of it was decided; none where the tool could not be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeptTool {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) definition: Option<Value>,
}

impl Tools {
    pub(crate) fn of<'a>(
        servers: &'a [ServerWords],
        disabled: &[(Name, String)],
        dead: BTreeSet<EntityUid>,
    ) -> Self {
        let fit = |words: &&'a ServerWords| disabled.iter().all(|(name, _)| name != words.server());
        let tools = servers.iter().filter(fit).flat_map(|words| words.tools());
        Self { known: tools.map(|tool| (tool.resource.clone(), tool.clone())).collect(), dead }
    }

    /// Notes tools that cannot be asked for.
    pub(crate) fn bury(&mut self, mut dead: BTreeSet<EntityUid>) {
        self.dead.append(&mut dead);
    }

    /// The tools that cannot be asked for.
    pub(crate) fn dead(&self) -> impl Iterator<Item = &EntityUid> {
        self.dead.iter()
    }

    /// The resources of tools, by their actions.
    pub(crate) fn resources(&self) -> HashMap<&EntityUid, &str> {
        self.known.values().map(|tool| (&tool.uid, tool.resource.as_str())).collect()
    }
}

/// Server and tool of a resource.
fn parts(resource: &EntityRef) -> Option<(&str, &str)> {
    if resource.kind.as_str() != "Tool" { None } else { resource.name.split_once('/') }
}

impl CompiledBundle {
    /// What a call of a tool is asked with, where its server's words are known; none for everything else, which is asked for
    /// as the house's own action.
    ///
    /// # Errors
    /// When the tool cannot be asked for, or its arguments are not what it declares.
    pub(crate) fn called(
        &self,
        action: Action,
        resource: &EntityRef,
        facts: &AskFacts,
    ) -> Result<Option<Called>, ReasonCode> {
        if action != Action::ToolCall {
            return Ok(None);
        }
        let Some(tool) = self.tool(resource)? else { return Ok(None) };
        let (mut arguments, mut sizes) = (None, None);
        if let Some(shape) = &tool.shape {
            let nothing = Map::new();
            let given = facts.arguments.as_ref().unwrap_or(&nothing);
            arguments = Some(shape.members(given).map_err(|_| ReasonCode::ToolArgumentsInvalid)?);
            sizes = Some(shape.sizes_of(given));
        }
        Ok(Some(Called { uid: tool.uid.clone(), arguments, sizes, definition: tool.digest }))
    }

    /// The tool that a resource is, if its words are known.
    ///
    /// # Errors
    /// When it cannot be asked for.
    fn tool(&self, resource: &EntityRef) -> Result<Option<&Arc<Tool>>, ReasonCode> {
        let Some((server, name)) = parts(resource) else { return Ok(None) };
        if self.disabled.iter().any(|(disabled, _)| disabled.as_str() == server) {
            return Err(ReasonCode::ToolUnusable);
        }
        let known = self.tools.known.get(resource.name.as_str());
        if known.is_none() && !self.tools.dead.is_empty() {
            let action = uid(&format!("{}::Action", namespace_of(server)), name);
            if action.is_some_and(|action| self.tools.dead.contains(&action)) {
                return Err(ReasonCode::ToolUnusable);
            }
        }
        Ok(known)
    }

    /// What of a call has to be kept to decide it again: the definition that it was decided by.
    pub(crate) fn keeping(&self, action: Action, resource: &EntityRef) -> Option<KeptTool> {
        if action != Action::ToolCall {
            return None;
        }
        match self.tool(resource) {
            Ok(tool) => tool.map(|tool| KeptTool { definition: Some(tool.definition.clone()) }),
            Err(_) => Some(KeptTool { definition: None }),
        }
    }
}

impl KeptTool {
    /// The words that a call of `resource` was decided by.
    pub(crate) fn words(&self, resource: &EntityRef) -> Option<ServerWords> {
        let server: Name = parts(resource)?.0.parse().ok()?;
        let unusable = |why| ServerWords::unusable(&server, &why);
        Some(match &self.definition {
            Some(definition) => {
                ServerWords::of(&server, std::slice::from_ref(definition)).unwrap_or_else(unusable)
            }
            None => unusable(ServerError::Unreadable("it could not be asked for".to_owned())),
        })
    }
}
