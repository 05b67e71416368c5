//! What a caller may know of: approved, unchanged, permitted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bartizan_base::Name;
use bartizan_decide::Verdict;
use bartizan_model::action::ReadState;
use bartizan_model::asset::AssetSpec;
use bartizan_model::tool_route::TOOL_SEPARATOR;
use bartizan_model::{Action, EntityRef, Label, ReasonCode};
use bartizan_wire::mcp::LABEL;
use serde_json::json;

use super::line::{Definition, DefinitionKind};
use super::visit::{Candidate, Endpoint, Visit};
use crate::path::Stop;
use crate::reply::Reply;

/// The label of what something gives.
pub(super) fn label_of(asset: &AssetSpec) -> Label {
    Label {
        categories: asset.categories.clone(),
        confidentiality: asset.confidentiality,
        integrity: asset.integrity,
    }
}

impl Visit {
    /// A list, made of what the servers say now.
    pub(super) async fn list(self: &Arc<Self>, kind: DefinitionKind) -> Result<Reply, Stop> {
        let candidates = self.candidates(kind);
        let own = if kind == DefinitionKind::Tool { self.own() } else { Vec::new() };
        if candidates.is_empty() && own.is_empty() {
            return self.empty_list(kind).await;
        }
        let known = if own.is_empty() { self.sieve(&candidates).await? } else { self.sift(&candidates).0 };
        let mut of_servers: BTreeMap<&Name, Vec<&Candidate>> = BTreeMap::new();
        for one in &known {
            of_servers.entry(&one.server).or_default().push(one);
        }
        let (mut items, mut label, mut last) = (Vec::new(), Label::bottom(), None);
        let (mut failed, mut stopped) = (BTreeMap::new(), None);
        let has_own = !own.is_empty();
        if has_own {
            items.extend(own.iter().map(|tool| tool.definition.clone()));
            last = Some(self.own_recorded(own).await?);
        }
        for (server, known) in &of_servers {
            match self.list_of(server, kind, known).await {
                Ok((found, of_them, recorded)) => {
                    items.extend(found);
                    label = label.join(&of_them);
                    last = recorded.or(last);
                }
                Err(stop) => {
                    failed.insert((*server).clone(), stop.problem.reason.code().into_owned());
                    stopped = Some(stop);
                }
            }
        }
        // A server that cannot be asked is told of: what it offers is not nothing (litellm 37497).
        if let Some(stop) = stopped
            && failed.len() == of_servers.len()
            && !has_own
        {
            return Err(stop);
        }
        let mut meta = json!({LABEL: label});
        if let (false, Some(meta)) = (failed.is_empty(), meta.as_object_mut()) {
            meta.insert("bartizan/failed".to_owned(), json!(failed));
        }
        let result = self.list_words(kind, &items, &meta.to_string());
        Ok(self.result(&result, last.as_ref().map(|(decision, receipt)| (*decision, receipt))))
    }

    /// Nothing of the kind is served here; still only for those who may know of something here.
    async fn empty_list(&self, kind: DefinitionKind) -> Result<Reply, Stop> {
        let all = [DefinitionKind::Tool, DefinitionKind::Prompt, DefinitionKind::Resource];
        let candidates: Vec<_> = all.into_iter().flat_map(|kind| self.candidates(kind)).collect();
        let (_, (decision, receipt)) = self.known_here(&candidates).await?;
        let result = self.list_words(kind, &[], &json!({LABEL: Label::bottom()}).to_string());
        Ok(self.result(&result, Some((decision, &receipt))))
    }

    fn list_words(&self, kind: DefinitionKind, items: &[String], meta: &str) -> String {
        let member = kind.member();
        let complete = if self.revision.is_stateless() {
            ",\"resultType\":\"complete\",\"ttlMs\":0,\"cacheScope\":\"private\""
        } else {
            ""
        };
        format!("{{\"{member}\":[{}],\"_meta\":{meta}{complete}}}", items.join(","))
    }

    async fn list_of(
        &self,
        server: &Name,
        kind: DefinitionKind,
        known: &[&Candidate],
    ) -> Result<Listed, Stop> {
        let (Some(part), Some(last)) = (self.part(), known.last()) else {
            return Err(ReasonCode::PolicyMissing.into());
        };
        let facts = self.facts(None);
        let errand = self.errand(server, Action::ToolList, &last.entity, &facts);
        errand.decide().await?;
        let line = self.line(server, &errand).ok_or(ReasonCode::ToolNotFound)?;
        let all = match line.list(kind).await {
            // It has forgotten us: begin again, once.
            Err(stop) if stop.problem.reason == ReasonCode::ToolSessionLost => line.list(kind).await?,
            all => all?,
        };
        let names: BTreeMap<&str, &EntityRef> =
            known.iter().map(|one| (one.name.as_str(), &one.entity)).collect();
        let (mut items, mut label, mut blocked) = (Vec::new(), Label::bottom(), BTreeSet::new());
        for one in &all {
            let entity = match kind {
                DefinitionKind::Tool | DefinitionKind::Prompt => {
                    let Some(entity) = names.get(one.name.as_str()) else { continue };
                    if line.route.pins.get(one.pin().as_str()) != Some(&one.digest) {
                        blocked.insert(one.name.as_str());
                        continue;
                    }
                    *entity
                }
                DefinitionKind::Resource if !self.may_see(&last.entity, &one.name) => continue,
                DefinitionKind::Resource | DefinitionKind::Template => &last.entity,
            };
            let asset = entity.name.parse::<Name>().ok().and_then(|name| part.tools.get(&name));
            label = label.join(&asset.map(label_of).unwrap_or_default());
            items.push(self.as_named(server, one));
        }
        if !blocked.is_empty() {
            tracing::warn!(%server, ?blocked, "defined otherwise than approved, so not listed");
        }
        Ok((items, label, errand.last()))
    }

    /// Whether a resource may be known of: by the same decision as reading it, with its address as a fact (ContextForge 6015).
    fn may_see(&self, entity: &EntityRef, uri: &str) -> bool {
        let arguments = [("uri".to_owned(), json!(uri))].into_iter().collect();
        let ask = self.ask::<ReadState>(Action::ToolList, entity, self.facts(Some(arguments)));
        self.part().is_some_and(|part| {
            let policy = part.policy_for(&self.caller);
            let door = self.gate.door(Action::ToolList);
            let verdict = policy.decide(&self.caller, ask, &self.situation, door).verdict;
            matches!(verdict, Verdict::Permit(_))
        })
    }

    /// A definition under the name that it has here.
    fn as_named(&self, server: &Name, one: &Definition) -> String {
        let (from, to) = one.place;
        let (Some(before), Some(after)) = (one.raw.get(..from), one.raw.get(to..)) else {
            return one.raw.clone();
        };
        match self.endpoint {
            Endpoint::One(_) => one.raw.clone(),
            Endpoint::All => {
                format!("{before}{}{after}", json!(format!("{server}{TOOL_SEPARATOR}{}", one.name)))
            }
        }
    }
}

type Listed = (Vec<String>, Label, Option<(bartizan_model::DecisionId, bartizan_record::Receipt)>);
