//! What servers of tools offer, and what of it is approved.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::{Digest, Name, Text};
use bartizan_decide::ServerWords;
use bartizan_identify::Caller;
use bartizan_model::action::ToolCall;
use bartizan_model::asset::AssetSpec;
use bartizan_model::tool_route::{PROMPT_PREFIX, is_tool_name};
use bartizan_model::{
    Action, Document, Problem, ReasonCode, Spec, Target, Tenant, ToolRouteSpec, ToolWordsSpec,
};
use bartizan_record::IntentRecorded;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::directory::{Plainly, Redeclare};
use crate::resources::find;
use crate::turn::Turn;
use crate::{Control, Done, Stopped, View};

/// Decides and records each message that asking a server takes.
pub trait ToolAsks: std::fmt::Debug + Send + Sync {
    /// An intent to send something to `target`.
    fn ask(&self, target: Target) -> BoxFuture<'_, Result<IntentRecorded<ToolCall>, Stopped>>;
}

/// Something that a server offers, as it defines it now.
#[derive(Clone, Debug)]
pub struct Offered {
    /// What it is pinned under: the name of a tool, that of a prompt after `prompt:`.
    pub pin: String,
    /// SHA-256 of its canonical form.
    pub digest: Digest,
    /// It.
    pub definition: Value,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolStanding {
    /// It is defined as it was approved.
    Approved,
    /// It is defined otherwise than it was approved, and blocked.
    Changed,
    /// Nobody has approved it yet, so it is blocked.
    New,
    /// It was approved, and the server does not offer it any more.
    Gone,
    /// It cannot be served under that name.
    Unusable,
}

/// Something that a server offers or offered.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ToolView {
    /// The name of a tool, that of a prompt after `prompt:`.
    pub name: String,
    /// How it stands.
    pub standing: ToolStanding,
    /// SHA-256 of its canonical form (RFC 8785) as the server gives it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The digest that was approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved: Option<Digest>,
    /// What the server says of it now. It is the server's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<Value>,
}

/// Definitions to approve, each as it was looked at.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveTools {
    /// The digest of each, by its name.
    pub tools: BTreeMap<String, Digest>,
}

/// The asks of somebody who administers servers.
#[derive(Debug)]
struct Administering<'a> {
    control: &'a Control,
    caller: &'a Caller,
    server: &'a Name,
}

impl ToolAsks for Administering<'_> {
    fn ask(&self, target: Target) -> BoxFuture<'_, Result<IntentRecorded<ToolCall>, Stopped>> {
        Box::pin(async move {
            let asked = self.control.ask::<ToolCall>(self.caller, Action::UpstreamTest, &self.server, target);
            asked.await.map(|Turn { intent, .. }| intent)
        })
    }
}

impl Control {
    /// What a server offers now, beside what of it was approved.
    ///
    /// # Errors
    /// When policy says no, there is no such server, or it does not answer.
    pub async fn list_tools(&self, caller: &Caller, server: &Name) -> Result<Done<Vec<ToolView>>, Stopped> {
        let asks = Administering { control: self, caller, server };
        let offered = self.house.tools_offered(caller, server, &asks).await?;
        self.read(caller, Action::ResourceRead, &("tools", server), |view, tenant| {
            Ok(standings(offered, route(view, tenant, server)?))
        })
        .await
    }

    /// Approves definitions as they were looked at. What the server defines otherwise by now is not approved, and then nothing is.
    /// What is approved for the first time is declared as a tool of the server, with the labels of the server.
    ///
    /// # Errors
    /// When policy says no, there is no such server, it does not answer, or a definition is another one by now.
    pub async fn approve_tools(
        &self,
        caller: &Caller,
        server: &Name,
        approve: &ApproveTools,
    ) -> Result<Done<Vec<ToolView>>, Stopped> {
        let asks = Administering { control: self, caller, server };
        let offered = self.house.tools_offered(caller, server, &asks).await?;
        let work = |view: &View, tenant: &Tenant| {
            let route = route(view, tenant, server)?;
            let mut next = route.clone();
            let mut put = Vec::new();
            for (name, digest) in &approve.tools {
                let now = offered.iter().find(|one| one.pin == *name);
                let now = now.ok_or_else(|| {
                    Problem::with_detail(ReasonCode::NotFound, format!("the server offers no `{name}`"))
                })?;
                if now.digest != *digest {
                    let detail = format!("`{name}` is defined otherwise by now; look at it again");
                    return Err(Problem::with_detail(ReasonCode::Conflict, detail));
                }
                let pin: Text<128> = name.parse().map_err(|_| unusable(name))?;
                let declared: Name = format!("{server}/{name}").parse().map_err(|_| unusable(name))?;
                next.pins.insert(pin, *digest);
                if find(&view.state, tenant, "tool", &declared).is_none() {
                    put.push(tool_of(view, tenant, server, declared));
                }
            }
            put.push(words(server, &next, &offered));
            let spec = Spec::ToolRoute(next);
            put.push(Document { name: server.clone(), principal: None, spec });
            Ok(Redeclare { put, ..Redeclare::default() })
        };
        let request = ("approve tools", server, &approve.tools);
        let done = self.change_directory(caller, Action::ResourceApply, &request, &Plainly(work)).await?;
        let after = done.value.0.iter().find_map(|(document, _)| match &document.spec {
            Spec::ToolRoute(route) => Some(route.clone()),
            _ => None,
        });
        Ok(done.map(|_| after.map(|route| standings(offered, &route)).unwrap_or_default()))
    }
}

/// What policies know of the arguments of a server's tools: those that are approved as they are defined now. One that makes no words
/// is asked for without arguments.
fn words(server: &Name, route: &ToolRouteSpec, offered: &[Offered]) -> Document {
    let pinned = |one: &&Offered| route.pins.get(one.pin.as_str()) == Some(&one.digest);
    let usable = |one: &&Offered| ServerWords::of(server, std::slice::from_ref(&one.definition)).is_ok();
    let tools =
        offered.iter().filter(|one| !one.pin.starts_with(PROMPT_PREFIX)).filter(pinned).filter(usable);
    let tools: Vec<Value> = tools.map(|one| one.definition.clone()).collect();
    // All of them can be too much together.
    let all = ServerWords::of(server, &tools).is_ok();
    let spec = ToolWordsSpec { tools: if all { tools } else { Vec::new() }, ..ToolWordsSpec::default() };
    Document { name: server.clone(), principal: None, spec: Spec::ToolWords(spec) }
}

fn unusable(name: &str) -> Problem {
    Problem::with_detail(ReasonCode::Invalid, format!("`{name}` cannot be served under that name"))
}

fn route<'v>(view: &'v View, tenant: &Tenant, server: &Name) -> Result<&'v ToolRouteSpec, Problem> {
    let found = find(&view.state, tenant, "tool_route", server);
    match found.map(|(document, _)| &document.spec) {
        Some(Spec::ToolRoute(route)) => Ok(route),
        _ => Err(Problem::with_detail(ReasonCode::NotFound, format!("no tool_route is called `{server}`"))),
    }
}

/// A tool that is approved for the first time: what it gives is what the server gives, until somebody declares it otherwise.
fn tool_of(view: &View, tenant: &Tenant, server: &Name, name: Name) -> Document {
    let found = find(&view.state, tenant, "tool_server", server);
    let of = match found.map(|(document, _)| &document.spec) {
        Some(Spec::ToolServer(asset)) => asset.clone(),
        _ => AssetSpec::default(),
    };
    let within = BTreeSet::from([server.clone()]);
    let asset = AssetSpec {
        within,
        status: bartizan_model::Status::Active,
        connection: None,
        digest: None,
        description: None,
        ..of
    };
    Document { name, principal: None, spec: Spec::Tool(asset) }
}

fn standings(offered: Vec<Offered>, route: &ToolRouteSpec) -> Vec<ToolView> {
    let mut out = Vec::new();
    let names: BTreeSet<String> = offered.iter().map(|one| one.pin.clone()).collect();
    for Offered { pin, digest, definition } in offered {
        let approved = route.pins.get(pin.as_str()).copied();
        let standing = match approved {
            _ if !is_tool_name(pin.strip_prefix(PROMPT_PREFIX).unwrap_or(&pin)) => ToolStanding::Unusable,
            None => ToolStanding::New,
            Some(approved) if approved == digest => ToolStanding::Approved,
            Some(_) => ToolStanding::Changed,
        };
        let (digest, definition) = (Some(digest), Some(definition));
        out.push(ToolView { name: pin, standing, digest, approved, definition });
    }
    for (pin, approved) in route.pins.iter().filter(|(pin, _)| !names.contains(pin.as_str())) {
        let (name, approved) = (pin.to_string(), Some(*approved));
        out.push(ToolView { name, standing: ToolStanding::Gone, digest: None, approved, definition: None });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}
