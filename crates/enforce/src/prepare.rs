//! What stands between a request that was read and its way out: session, conditions, decision, limits, and whether there is an
//! answer already.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_base::Digest;
use bartizan_decide::Permit;
use bartizan_identify::Caller;
use bartizan_limits::Tracks;
use bartizan_model::action::ModelCall;
use bartizan_model::directory::Dialect;
use bartizan_model::{Problem, ReasonCode, RunName, Situation};
use bartizan_wire::ModelRequest;
use http::request::Parts as Head;

use crate::cache::{Flight, Looked, PATIENCE, Sought};
use crate::limits::{Demand, Reservation};
use crate::path::{Gate, Stop};
use crate::release::Watch;
use crate::request::estimate;
use crate::routing::Route;
use crate::session::Session;
use crate::world::World;

/// A request to a model, read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) request: &'a ModelRequest,
    pub(crate) head: &'a Head,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) run: Option<&'a RunName>,
}

/// A call that may go out, or be answered here.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) session: Session,
    pub(crate) situation: Situation,
    pub(crate) watch: Watch,
    pub(crate) permit: Permit<ModelCall>,
    pub(crate) routes: Vec<Route>,
    pub(crate) tracks: Tracks,
    pub(crate) reserved: Reservation,
    pub(crate) looked: Looked,
}

impl Gate {
    /// Prepares a call. Where somebody else is fetching the same answer it waits for that once, and then everything is looked at
    /// anew, by what holds then.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        world: &mut Arc<World>,
        caller: &mut Caller,
        came: &Came<'_>,
    ) -> Result<Prepared, Stop> {
        let flight = match self.prepare_once(world, caller, came, true).await? {
            Ok(prepared) => return Ok(prepared),
            Err(flight) => flight,
        };
        flight.over(PATIENCE).await;
        *world = self.parts.keeper.current()?;
        let Some(again) = self.verify_again(world, caller) else {
            let problem = Problem::new(ReasonCode::CredentialRevoked);
            return Err(self.refuse_early(caller, None, problem).await);
        };
        *caller = again;
        self.prepare_once(world, caller, came, false).await?.map_err(|_| ReasonCode::Internal.into())
    }

    /// The same, or whom to wait for. An ask that waited was counted before.
    async fn prepare_once(
        self: &Arc<Self>,
        world: &World,
        caller: &Caller,
        came: &Came<'_>,
        may_wait: bool,
    ) -> Result<Result<Prepared, Flight>, Stop> {
        let Came { dialect, request, head, peer, run } = *came;
        let session = self.session(caller, run).await?;
        let mut situation = self.assess_in(&session, caller, peer, &head.headers).await?;
        // Where a prompt comes from nobody can tell.
        situation.session = session.answered();
        let ask = self.model_ask(dialect, request);
        let watch = Watch::new(self.clone(), caller, &ask, situation.clone(), world, run.cloned());
        let (permit, tenant) = self.decide(world, caller, ask, &situation, &self.door).await?;
        let routes = self.routes(tenant, request, dialect, &permit, caller).await?;
        let tracks = session.tracks(caller);
        if may_wait {
            self.counted(&tracks, &permit);
        }
        let resource = permit.what().resource.clone();
        let demand = Demand {
            resource: &resource,
            upstreams: routes.iter().map(|route| &route.upstream).collect(),
            estimate: estimate(dialect, request, permit.obligations(), routes.first()),
            digest: Digest::of_parts(&[resource.to_string().as_bytes(), request.digest().as_bytes()]),
            run,
            ends: true,
        };
        let reserved = self.reserve(tenant, caller, &permit, &demand).await?;
        let sought = Sought {
            revision: world.state.revision,
            tenant,
            caller,
            session: &session,
            permit: &permit,
            dialect,
            request,
            headers: &head.headers,
            output_most: reserved.output_most,
        };
        match self.given_before(&sought, may_wait) {
            // What was reserved is given back: whoever waits asks for it again.
            Looked::Behind(flight) => Ok(Err(flight)),
            looked => {
                Ok(Ok(Prepared { session, situation, watch, permit, routes, tracks, reserved, looked }))
            }
        }
    }
}
