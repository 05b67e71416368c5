//! The ways to servers of tools, by what is declared of each: streamable HTTP, the HTTP+SSE of old servers, children of this node.

use std::sync::Arc;

use bartizan_base::{Digest, Name};
use bartizan_child::{Children, OldServers, Served};
use bartizan_model::action::ToolCall;
use bartizan_model::directory::UpstreamSpec;
use bartizan_model::tool_route::ToolTransport;
use bartizan_model::{ReasonCode, Tenant, ToolRouteSpec};
use bartizan_record::IntentRecorded;
use bartizan_upstream::SendError;
use futures_util::future::BoxFuture;
use futures_util::stream::StreamExt as _;

use super::http::HttpServers;
use super::{Conversation, Outgoing, ToolServers};
use crate::keeper::Keeper;

/// Every way there is.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) keeper: Arc<Keeper>,
    pub(super) http: HttpServers,
    pub(super) old: Option<Arc<OldServers>>,
    pub(super) children: Option<Arc<Children>>,
}

impl Reach {
    fn route(
        &self,
        tenant: &Tenant,
        server: &Name,
    ) -> Result<(ToolRouteSpec, Option<UpstreamSpec>), ReasonCode> {
        let world = self.keeper.current()?;
        let part = world.tenants.get(tenant).ok_or(ReasonCode::PolicyMissing)?;
        let route = part.tool_routes.get(server).ok_or(ReasonCode::ToolNotFound)?;
        let upstream = route.upstream.as_ref().and_then(|name| part.upstreams.get(name));
        Ok((route.clone(), upstream.cloned()))
    }

    async fn send(
        &self,
        intent: IntentRecorded<ToolCall>,
        outgoing: Outgoing<'_>,
    ) -> Result<Conversation, SendError> {
        let refuse = |intent: IntentRecorded<ToolCall>, reason| SendError { reason, running: intent.begin() };
        let (route, upstream) = match self.route(intent.tenant(), outgoing.server) {
            Ok(found) => found,
            Err(reason) => return Err(refuse(intent, reason)),
        };
        let (server, session) = (outgoing.server, outgoing.session);
        let conversation = if let Some(served) = served(server, &route) {
            let Some(children) = &self.children else {
                return Err(refuse(intent, ReasonCode::CommandUnknown));
            };
            children.exchange(intent, served, session, outgoing.message).await?
        } else if route.transport == ToolTransport::Sse {
            let (Some(old), Some(spec)) = (&self.old, upstream) else {
                return Err(refuse(intent, ReasonCode::UpstreamUnreachable));
            };
            old.exchange(intent, &spec, server, (session, outgoing.carries), outgoing.message).await?
        } else {
            return self.http.exchange(intent, outgoing).await;
        };
        let bartizan_child::Conversation { messages, running } = conversation;
        let messages = messages.map(|message| message.map_err(bartizan_child::Broken::reason)).boxed();
        Ok(Conversation { messages, status: None, running })
    }
}

/// The child that a server is, where it is one.
fn served<'a>(server: &'a Name, route: &'a ToolRouteSpec) -> Option<Served<'a>> {
    let command = route.command.as_ref()?;
    Some(Served { server, command, keeps_state: !route.shared })
}

impl ToolServers for Reach {
    fn exchange<'a>(
        &'a self,
        intent: IntentRecorded<ToolCall>,
        outgoing: Outgoing<'a>,
    ) -> BoxFuture<'a, Result<Conversation, SendError>> {
        Box::pin(self.send(intent, outgoing))
    }

    fn forget(&self, tenant: &Tenant, server: &Name, session: Digest) {
        self.http.forget(tenant, server, session);
        if let (Some(children), Ok((route, _))) = (&self.children, self.route(tenant, server))
            && let Some(served) = served(server, &route)
        {
            children.end(tenant, served, session);
        }
    }
}
