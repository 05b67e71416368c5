//! Releasing a connection's token to the exit, and renewing it: once at a time, on every node together, since a provider that
//! sees one refresh token twice ends them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Name, Timestamp};
use bartizan_control::{Stopped, View};
use bartizan_identify::{Caller, Proof, Scopes};
use bartizan_model::{
    Action, Binding, ConnectionId, ConnectionProviderSpec, PrincipalKind, Problem, ReasonCode, Risk, Tenant,
};
use bartizan_upstream::Released;

use super::{ConnectError, Connection, Connections, LIFE, failed, flow, provider};
use crate::kept::{Held, find};

/// A token that ends sooner is renewed first.
const MARGIN: Duration = Duration::from_secs(30);
/// How long a node has for renewing before another one may.
const LEASE: Duration = Duration::from_secs(30);
/// How long one that waits for another node sleeps, and how often.
const WAIT: Duration = Duration::from_millis(100);
const WAITS_MAX: u32 = 100;

/// Which connections this node is renewing.
#[derive(Clone, Debug, Default)]
pub(super) struct Refreshing(Arc<Mutex<HashMap<ConnectionId, Arc<tokio::sync::Mutex<()>>>>>);

impl Refreshing {
    fn slot(&self, id: ConnectionId) -> Arc<tokio::sync::Mutex<()>> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody waits for.
        slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        slots.entry(id).or_default().clone()
    }
}

impl Connections {
    /// The token for the exit, of exactly the person, agent and client program behind this call. `caller` is whoever calls the
    /// tool, already permitted to.
    ///
    /// # Errors
    /// `ConnectionNeeded` when they have not connected it, or it is over.
    pub async fn release(&self, caller: &Caller, name: &Name) -> Result<Released, Stopped> {
        let now = self.now();
        let tenant = caller.tenant().clone();
        let held = self.of(caller, name).await?;
        if !renewable(&held.value, now) {
            return self.released(caller, &tenant, &held.value);
        }
        let slot = self.refreshing.slot(held.value.id);
        // Whoever waits here finds the work done.
        let _alone = slot.lock().await;
        self.renewed(caller, name, &tenant).await
    }

    /// After a `401` with this very token: renews it even where it seems to be good, unless somebody has done so since.
    ///
    /// # Errors
    /// As for [`Connections::release`].
    pub async fn release_anew(
        &self,
        caller: &Caller,
        name: &Name,
        used: &Released,
    ) -> Result<Released, Stopped> {
        let tenant = caller.tenant().clone();
        let held = self.of(caller, name).await?;
        let slot = self.refreshing.slot(held.value.id);
        let _alone = slot.lock().await;
        let held = self.of(caller, name).await?;
        if held.value.renewed > used.since() {
            return self.released(caller, &tenant, &held.value);
        }
        self.renew(caller, &tenant, held).await
    }

    async fn renewed(&self, caller: &Caller, name: &Name, tenant: &Tenant) -> Result<Released, Stopped> {
        for _ in 0..WAITS_MAX {
            let held = self.of(caller, name).await?;
            let now = self.now();
            if !renewable(&held.value, now) {
                return self.released(caller, tenant, &held.value);
            }
            if held.value.renewing.is_none_or(|until| until <= now) {
                match self.renew(caller, tenant, held).await {
                    // Another node was quicker.
                    Err(stopped) if stopped.problem.reason == ReasonCode::Conflict => {}
                    result => return result,
                }
            }
            tokio::time::sleep(WAIT).await;
        }
        Err(ReasonCode::UpstreamTimeout.into())
    }

    /// The connection of exactly this chain. Chains longer than a person and one agent have none.
    async fn of(&self, caller: &Caller, name: &Name) -> Result<Held<Connection>, Stopped> {
        let needed = || Stopped::from(ReasonCode::ConnectionNeeded);
        let agent = match caller.actors() {
            [] => None,
            [one] => Some(&one.principal),
            _ => return Err(needed()),
        };
        let user = &caller.subject().principal;
        if user.kind != PrincipalKind::User || caller.is_supposed() {
            return Err(needed());
        }
        let found = self.present(caller.tenant(), user, name, agent, caller.client()).await?;
        found.into_iter().find(|held| !held.value.over).ok_or_else(needed)
    }

    #[expect(clippy::result_large_err, reason = "an administrative answer, not a hot path")]
    fn released(&self, caller: &Caller, tenant: &Tenant, held: &Connection) -> Result<Released, Stopped> {
        let control = &self.authority.control;
        let view = control.house.view(tenant)?;
        // As the provider is declared now: switched off, or moved elsewhere, what was given is of no use.
        let spec = provider(&view, tenant, &held.provider)?;
        if moved(&spec, held) {
            return Err(ReasonCode::ConnectionNeeded.into());
        }
        // Dead with the person: disabled, or everything that they were issued declared dead since.
        let proof = self.proof(caller, held);
        control.house.prove(&proof).map_err(|(_, reason)| Stopped::from(reason))?;
        let token = held.access(control, tenant)?;
        let members = (held.user.id, held.agent.as_ref().map(|a| a.id));
        let released = Released::new(token, &spec.resource, spec.allow_private, members, held.renewed);
        released.ok_or_else(|| ReasonCode::EgressForbidden.into())
    }

    /// Renews, in two recorded steps: one that says who does it, so that no other node does, and one with what came of it.
    async fn renew(
        &self,
        caller: &Caller,
        tenant: &Tenant,
        held: Held<Connection>,
    ) -> Result<Released, Stopped> {
        let now = self.now();
        let control = &self.authority.control;
        let proof = self.proof(caller, &held.value);
        let owner = match control.house.prove(&proof) {
            Ok(owner) => owner,
            Err((owner, reason)) => return Err(control.refuse_caller(&owner, reason).await),
        };
        let id = held.value.id;
        let lease = Connection { renewing: Some(now.saturating_add(LEASE)), ..held.value.clone() };
        let claim = async |_: &View, _: &Tenant| Ok((vec![held.replace(&lease).map_err(failed)?], ()));
        let ask = ("renew", id);
        control.change_with(&owner, Action::ConnectionChange, &ask, async |v, t| claim(v, t).await).await?;
        let work = async |view: &View, tenant: &Tenant| {
            let found =
                find::<Connection>(&*self.authority.rows, &id.to_string(), now).await.map_err(failed)?;
            let held = found.ok_or_else(|| Problem::new(ReasonCode::ConnectionNeeded))?;
            match self.next(view, tenant, &held.value, now).await {
                Ok(next) => Ok((vec![held.replace(&next).map_err(failed)?], Ok(next))),
                // The provider has ended it: nobody tries again with what is dead.
                Err(ConnectError::Refused(code)) if code == "invalid_grant" => {
                    let over = Connection { over: true, renewing: None, ..held.value.clone() };
                    Ok((
                        vec![held.replace(&over).map_err(failed)?],
                        Err(Problem::new(ReasonCode::ConnectionNeeded)),
                    ))
                }
                // Whoever comes next may try at once.
                Err(error) => {
                    let free = Connection { renewing: None, ..held.value.clone() };
                    Ok((vec![held.replace(&free).map_err(failed)?], Err(Problem::from(error))))
                }
            }
        };
        let ask = ("renewed", id);
        let done = control
            .change_with(&owner, Action::ConnectionChange, &ask, async |v, t| work(v, t).await)
            .await?;
        let next = done.value.map_err(Stopped::from)?;
        self.released(caller, tenant, &next)
    }

    async fn next(
        &self,
        view: &View,
        tenant: &Tenant,
        held: &Connection,
        now: Timestamp,
    ) -> Result<Connection, ConnectError> {
        let control = &self.authority.control;
        let spec = provider(view, tenant, &held.provider).map_err(|_| ConnectError::Client)?;
        let client = self.client(view, tenant, &spec, &held.sent.server).map_err(|_| ConnectError::Client)?;
        // A refresh token is the client's that it was given to, and of the issuer that gave it.
        if client.id != held.sent.client_id || moved(&spec, held) {
            return Err(ConnectError::Issuer);
        }
        let token = held.refresh(control, tenant).map_err(|_| ConnectError::Client)?;
        let Some(token) = token else { return Err(ConnectError::Refused("invalid_grant".to_owned())) };
        let bounds = (spec.allow_private, now);
        let tokens = flow::refresh(&*self.outside, &held.sent, &client, &token, bounds).await?;
        held.clone().renew(control, tenant, &tokens, now).map_err(|_| ConnectError::Client)
    }

    /// The person, as of when they connected it: what they were issued then is dead if they have been declared so since.
    fn proof(&self, caller: &Caller, held: &Connection) -> Proof {
        Proof {
            tenant: caller.tenant().clone(),
            kind: held.user.kind,
            name: held.user.name.clone(),
            assurance: caller.subject().assurance.clone(),
            binding: Binding::None,
            device: None,
            risk: Risk::default(),
            actors: Vec::new(),
            client: held.client.clone(),
            credential: caller.credential(),
            scopes: Scopes::Only([Action::ConnectionChange].into()),
            issued: held.connected,
            expires: held.connected.saturating_add(LIFE),
        }
    }
}

/// Whether the provider is now declared to be elsewhere: what was given there is of no use.
fn moved(spec: &ConnectionProviderSpec, held: &Connection) -> bool {
    spec.issuer.as_ref().is_some_and(|issuer| *issuer != held.sent.server.issuer)
        || !super::outside::is_within(&spec.resource, &held.sent.resource)
}

/// Whether a token is to be renewed before it is used: it ends soon, and there is something to renew it with.
fn renewable(held: &Connection, now: Timestamp) -> bool {
    held.access_ends.is_some_and(|end| end <= now.saturating_add(MARGIN))
}
