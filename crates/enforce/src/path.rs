//! The request path.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bartizan_base::{Clock, Digest, Name, Random, json};
use bartizan_child::{Children, OldServers};
use bartizan_decide::lock::Lockable;
use bartizan_decide::{Decided, Door, KeptAsk, Permit, Verdict};
use bartizan_identify::{Caller, Identified, Identifier, Presented};
use bartizan_keys::Sealer;
use bartizan_limits::{Activities, Noted, Tracks};
use bartizan_model::action::ModelCall;
use bartizan_model::directory::Dialect;
use bartizan_model::record::{End, Kept, VerdictKind};
use bartizan_model::{
    Action, Ask, DecisionId, EntityRef, ObligationKind, Obligations, Problem, ReasonCode, RunName, Situation,
    Target, Tenant,
};
use bartizan_record::{Ended, IntentRecorded, Receipt, Recorder};
use bartizan_rt::Tasks;
use bartizan_sandbox::Sandbox;
use bartizan_sql::Databases;
use bartizan_store::{Marks, Rows};
use bartizan_upstream::{Outbound, Upstreams};
use bartizan_vault::Vault;
use bartizan_wire::{Address, ModelRequest};
use bytes::Bytes;
use http::request::Parts as Head;
use http::{HeaderMap, Request};
use http_body::Body;

use crate::afterwards::Afterwards;
use crate::apis::Accounts;
use crate::assess::{assess, run};
use crate::cache::{self, Answers, CacheBounds, Filling, Looked};
use crate::doors::{self, Published};
use crate::fetch::Fetches;
use crate::handles::Handles;
use crate::keep::{Shelf, circumstances};
use crate::keeper::Keeper;
use crate::limits::{Demand, Limiter, Reservation};
use crate::locks::Locks;
use crate::masking::links;
use crate::metrics::Metrics;
use crate::prepare::{Came, Prepared};
use crate::receive::receive;
use crate::release::{self, Watch};
use crate::reply::Reply;
use crate::request::{action_of, forwarded_headers, oblige, passed_on, reach};
use crate::retrieve::Retrievals;
use crate::routing::{self, Health, Judged, Route};
use crate::scrub;
use crate::session::Session;
use crate::tools::Tools;
use crate::trace::{CallTrace, Traces};
use crate::world::{TenantWorld, World};

/// The enforcement point of the data plane.
#[derive(Debug)]
pub struct Gate {
    pub(crate) parts: Parts,
    pub(crate) door: Door,
    /// A list has neither prompt nor answer that the vault could take, so nothing is listed where that is demanded.
    pub(crate) list_door: Door,
    /// What was done lately, as policies see it.
    pub(crate) activities: Activities,
    locks: Locks,
    health: Health,
    pub(crate) retrieval: Retrievals,
    pub(crate) fetches: Fetches,
    /// Accounts that people have connected. Whoever keeps them holds this gate, so this does not hold them.
    accounts: OnceLock<Weak<dyn Accounts>>,
    /// Servers of tools and what is going on with them.
    pub(crate) tools: Tools,
    /// Results that are kept here.
    pub(crate) handles: Handles,
    /// Answers of models that are given again.
    pub(crate) answers: Arc<Answers>,
}

/// How often verification may ask for something that has to be fetched first.
const ROUNDS: usize = 4;

/// How many callers, agents and keys recent activity is counted of: in a few dozen megabytes as a rule.
const TRACKS_MAX: usize = 20_000;

/// What the gate is made of.
#[derive(Debug)]
pub struct Parts {
    /// What is in force.
    pub keeper: Arc<Keeper>,
    /// Who is asking.
    pub identifier: Arc<Identifier>,
    /// The ledger's writer.
    pub recorder: Recorder,
    /// What there may be how much of.
    pub limiter: Arc<Limiter>,
    /// The only way out.
    pub upstreams: Arc<Upstreams>,
    /// Servers of tools that run as children; none where no commands are configured.
    pub children: Option<Arc<Children>>,
    /// Old servers of tools, which keep a line open; none for a house without.
    pub old_servers: Option<Arc<OldServers>>,
    /// The way out to databases; none for a house without.
    pub databases: Option<Arc<Databases>>,
    /// Where code is run; none for a house without.
    pub sandbox: Option<Arc<Sandbox>>,
    /// What follows decisions.
    pub afterwards: Arc<Afterwards>,
    /// Where content is kept that policy wants kept; without, a permit that demands it is denied.
    pub vault: Option<Vault>,
    /// What operators see.
    pub metrics: Metrics,
    /// Seals places in lists of results.
    pub sealer: Arc<Sealer>,
    /// The data plane's address as others know it.
    pub public: PublicUrl,
    /// The same as a protected resource: what tokens must be for.
    pub published: Published,
    /// Where the house has written down which certificates it issued.
    pub rows: Arc<dyn Rows>,
    /// What has entered sessions, known to every node.
    pub marks: Arc<dyn Marks>,
    /// Where traces go, if anywhere.
    pub traces: Option<Arc<Traces>>,
    /// Where work goes on that outlives a connection.
    pub tasks: Tasks,
    /// Bounds on what callers and upstreams may send.
    pub bounds: Bounds,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub random: Arc<dyn Random>,
}

/// The data plane's address as others know it, without a slash at its end.
#[derive(Clone, Debug)]
pub enum PublicUrl {
    /// As it is configured.
    Is(String),
    /// The host that is asked at, under this scheme.
    Asked {
        /// `http` or `https`.
        scheme: &'static str,
    },
}

/// Bounds on what callers and upstreams may send.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of a request's body.
    pub body: json::Limits,
    /// Within which a body must have arrived.
    pub body_timeout: Duration,
    /// Bytes of an answer that is held whole to be redacted.
    pub answer_bytes_max: usize,
    /// Of answers that are kept to be given again.
    pub cache: CacheBounds,
}

/// A request that ends here.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) problem: Problem,
    pub(crate) receipt: Option<Receipt>,
}

/// A model call that is permitted, on its way to one upstream or another.
pub(crate) struct Call {
    pub(crate) dialect: Dialect,
    pub(crate) caller: Caller,
    pub(crate) request: ModelRequest,
    head: Head,
    pub(crate) situation: Situation,
    pub(crate) session: Session,
    pub(crate) run: Option<RunName>,
    began_us: u64,
    tracks: Tracks,
    watch: Watch,
    /// Until whoever releases the answer has it.
    pub(crate) reserved: Option<Reservation>,
    /// Where the answer may be kept to be given again.
    filling: Option<Box<Filling>>,
    /// What is told of that.
    told: Option<(&'static str, String)>,
}

/// A request whose caller is known.
pub(crate) struct Entering<B> {
    /// What is in force while it is looked at.
    pub(crate) world: Arc<World>,
    pub(crate) caller: Caller,
    pub(crate) head: Head,
    pub(crate) body: B,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self { problem, receipt: None }
    }
}

impl From<ReasonCode> for Stop {
    fn from(reason: ReasonCode) -> Self {
        Problem::new(reason).into()
    }
}

impl Gate {
    /// A gate made of `parts`.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let door = Door::model_calls();
        let door = if parts.vault.is_some() { door } else { door.without(ObligationKind::Keep) };
        let list_door = door.clone().without(ObligationKind::Keep);
        let activities = Activities::new(TRACKS_MAX, &*parts.random);
        let (locks, tools) = (Locks::default(), Tools::new(&parts));
        let retrieval = Retrievals::new(&parts);
        let (clock, tasks) = (parts.clock.clone(), parts.tasks.clone());
        let answers = Arc::new(Answers::new(parts.bounds.cache, clock, tasks, parts.metrics.clone()));
        Self {
            parts,
            door,
            list_door,
            activities,
            locks,
            health: Health::default(),
            fetches: Fetches::default(),
            accounts: OnceLock::new(),
            tools,
            handles: Handles::default(),
            retrieval,
            answers,
        }
    }

    /// Names who keeps the accounts that people have connected; the first who is named stays.
    pub fn with_accounts(&self, accounts: &Arc<dyn Accounts>) {
        self.accounts.get_or_init(|| Arc::downgrade(accounts));
    }

    pub(crate) fn accounts(&self) -> Option<Arc<dyn Accounts>> {
        self.accounts.get()?.upgrade()
    }

    /// What this enforcement point can do to an ask for `action`.
    #[must_use]
    pub fn door(&self, action: Action) -> &Door {
        match action {
            Action::ModelList => &self.list_door,
            // Definitions are pinned: they are told as they were approved, or not at all.
            Action::ToolList => &scrub::PASSING,
            Action::ToolCall => &scrub::HIDING,
            _ => &self.door,
        }
    }

    /// A model call, from the bytes of the request to the first byte of the answer.
    pub async fn call_model<B>(
        self: &Arc<Self>,
        dialect: Dialect,
        request: Request<B>,
        peer: Option<IpAddr>,
    ) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let path = request.uri().path().to_owned();
        let mut trace = CallTrace::begin(self.parts.traces.as_ref(), dialect, request.headers());
        match self.try_call(dialect, request, peer, &mut trace).await {
            Ok(reply) => reply,
            Err(stop) => {
                trace.refused(&stop.problem);
                self.answer_problem(dialect, &path, Some(action_of(dialect)), &stop)
            }
        }
    }

    async fn try_call<B>(
        self: &Arc<Self>,
        dialect: Dialect,
        request: Request<B>,
        peer: Option<IpAddr>,
        trace: &mut CallTrace,
    ) -> Result<Reply, Stop>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        trace.step("identify");
        let Entering { mut world, mut caller, head, body } = self.enter(request).await?;
        trace.step("receive");
        let body = self.take(&caller, &head, body).await?;
        let began_us = self.parts.clock.monotonic_us();
        let request = Address::read(head.uri.path(), head.uri.query())
            .and_then(|address| bartizan_wire::parse_request(address, body, self.parts.bounds.body));
        let request = self.or_refuse(&caller, None, request).await?;
        trace.step("decide");
        let run = self.or_refuse(&caller, None, run(&head.headers)).await?;
        let came = Came { dialect, request: &request, head: &head, peer, run: run.as_ref() };
        let prepared = self.prepare(&mut world, &mut caller, &came).await?;
        let Prepared { session, situation, watch, permit, routes, tracks, reserved, looked } = prepared;
        let mut call = Call {
            dialect,
            caller,
            request,
            head,
            situation,
            session,
            run,
            began_us,
            tracks,
            watch,
            reserved: Some(reserved),
            filling: None,
            told: None,
        };
        match looked {
            Looked::There(kept, age) => {
                return self.give_again(&world, &mut call, permit, (&kept, age), trace).await;
            }
            Looked::Out(filling, status) => (call.filling, call.told) = (filling, cache::told(status)),
            Looked::Behind(_) => return Err(ReasonCode::Internal.into()),
        }
        let mut ways = routes.len();
        let mut first = Some(permit);
        for mut route in routes {
            ways -= 1;
            let tried = if let Some(permit) = first.take() {
                self.try_route(&world, &mut call, permit, route, ways > 0, trace).await?
            } else {
                // Where the one before did not take it, the next is an ask of its own, by what holds now: that may have taken long.
                let world = self.parts.keeper.current()?;
                let Some(caller) = self.verify_again(&world, &call.caller) else {
                    let problem = Problem::new(ReasonCode::CredentialRevoked);
                    return Err(self.refuse_early(&call.caller, None, problem).await);
                };
                call.caller = caller;
                let ask = self.model_ask(dialect, &call.request);
                let (permit, tenant) =
                    self.decide(&world, &call.caller, ask, &call.situation, &self.door).await?;
                match tenant.upstreams.get(&route.upstream) {
                    Some(spec) if tenant.models.contains_key(call.request.model()) => {
                        route.spec = spec.clone()
                    }
                    _ if ways > 0 => continue,
                    _ => {
                        let problem = Problem::new(ReasonCode::ModelNotFound);
                        return Err(self.refuse_permitted(&call.caller, &permit, problem).await);
                    }
                }
                self.try_route(&world, &mut call, permit, route, ways > 0, trace).await?
            };
            if let Some(reply) = tried {
                return Ok(reply);
            }
        }
        Err(ReasonCode::Internal.into())
    }

    /// Sends a call one way. None where that way is closed or did not take it, and there is another one.
    async fn try_route(
        self: &Arc<Self>,
        world: &World,
        call: &mut Call,
        permit: Permit<ModelCall>,
        route: Route,
        elsewhere: bool,
        trace: &mut CallTrace,
    ) -> Result<Option<Reply>, Stop> {
        let Call { dialect, caller, request, head, situation, run, began_us, tracks, .. } = &*call;
        let (dialect, id, Route { upstream, upstream_model, spec, .. }) = (*dialect, permit.id(), route);
        let beside = [EntityRef::new(Name::literal("Upstream"), upstream.clone())];
        if let Some(problem) =
            self.lock_on(world, caller, &permit.what().resource, situation, (&beside, run.as_ref()))
        {
            if elsewhere {
                return Ok(None);
            }
            return Err(self.refuse_permitted(caller, &permit, problem).await);
        }
        let obligations = permit.obligations().clone();
        let output_most = call.reserved.as_ref().and_then(|reserved| reserved.output_most);
        let maskers = match world.tenants.get(caller.tenant()) {
            Some(tenant) => self.maskers(tenant, caller.tenant(), &obligations),
            None => Err(Problem::new(ReasonCode::PolicyMissing)),
        };
        let maskers = self.or_refuse(caller, Some(id), maskers).await?;
        let masked = maskers.as_ref().map(|maskers| &maskers.request);
        let body = oblige(request, upstream_model.as_ref(), &obligations, (output_most, masked));
        let (body, redacted) = self.or_refuse(caller, Some(id), body).await?;
        let (kept, keep) = match self.shelf(caller, id, &obligations) {
            None => (None, None),
            Some(shelf) => {
                trace.step("keep");
                let putting = shelf.put_prompt(body.clone(), circumstances(situation, &head.headers));
                let kept = self.or_refuse(caller, Some(id), putting.await).await?;
                let answered = (shelf, kept.prompt.clone());
                (Some(kept), Some(answered))
            }
        };
        let path = request.target(upstream_model.as_ref());
        trace.step("record");
        let target = Target::post(upstream.clone(), path.clone(), Digest::of(&body));
        let gives = call.session.answered();
        let intent = self.intend_labelled(permit, target, kept, &call.session, &gives).await?;
        let receipt = intent.receipt().clone();
        self.parts.metrics.asked(Some(action_of(dialect)), VerdictKind::Permit, None);
        self.parts.metrics.forwarded(self.since(*began_us));
        let outbound = Outbound::post(path, body, forwarded_headers(&head.headers, dialect));
        let outbound = Outbound { passed_on: passed_on(dialect), ..outbound };
        trace.call(dialect, request.model(), &upstream, id);
        let sent = self.parts.upstreams.send(intent, &spec, outbound).await;
        let key = (caller.tenant(), &upstream);
        let sent = match self.health.judge(key, sent, elsewhere, self.parts.clock.monotonic_us()) {
            Judged::Elsewhere(running, reason, status) => {
                let end = End::Failed { reason: reason.clone() };
                self.parts.metrics.ended(self.since(*began_us), Some(&reason), 0, (None, None));
                running.finish(Ended { status, ..ended(end) });
                return Ok(None);
            }
            Judged::Here(sent) => sent,
        };
        let (began_us, tracks) = (*began_us, *tracks);
        let mut reserved = call.reserved.take();
        let mut fields =
            reserved.as_mut().map(|reserved| std::mem::take(&mut reserved.fields)).unwrap_or_default();
        fields.extend(call.told.take());
        let watch = call.watch.at(&upstream);
        let plan = release::Plan {
            dialect,
            masker: maskers.map(|maskers| maskers.answer),
            links: links(&obligations),
            redacted,
            began_us,
            decision: id,
            keep,
            tracks,
            reserved,
            fields,
            upstream,
            filling: call.filling.take(),
        };
        release::answer(self, sent, plan, watch, receipt, trace).await.map(Some)
    }

    pub(crate) async fn presented(&self, world: &World, head: &Head) -> Result<Presented, Stop> {
        match doors::presented(&self.parts.published, head) {
            Ok(presented) => Ok(presented),
            Err(reason) => {
                let tenant =
                    world.state.bundles.first().map_or_else(Tenant::default_tenant, |b| b.tenant.clone());
                Err(self.refuse_early(&Caller::anonymous(tenant), None, Problem::new(reason)).await)
            }
        }
    }

    /// A request that comes in: by what is in force now, from somebody who is known. Its body is not read yet.
    pub(crate) async fn enter<B>(&self, request: Request<B>) -> Result<Entering<B>, Stop> {
        let (head, body) = request.into_parts();
        let world = self.parts.keeper.current()?;
        let presented = self.presented(&world, &head).await?;
        let caller = self.identify(&world, &presented).await?;
        Ok(Entering { world, caller, head, body })
    }

    /// The body of a request, whole and within its bounds.
    pub(crate) async fn take<B>(&self, caller: &Caller, head: &Head, body: B) -> Result<Bytes, Stop>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let bounds = self.parts.bounds;
        let body = receive(&head.headers, body, bounds.body.bytes_max, bounds.body_timeout).await;
        self.or_refuse(caller, None, body).await
    }

    /// Who is asking. An issuer's keys are fetched at most once a request.
    pub(crate) async fn identify(&self, world: &World, presented: &Presented) -> Result<Caller, Stop> {
        match self.verify(world, presented).await {
            Ok(caller) => Ok(caller),
            Err((caller, reason)) => Err(self.refuse_early(&caller, None, Problem::new(reason)).await),
        }
    }

    /// Verifies what was presented, fetching an issuer's keys where they are needed. An error carries the caller as far
    /// as known, for the record.
    ///
    /// # Errors
    /// The reason the credential does not hold.
    pub async fn verify(&self, world: &World, presented: &Presented) -> Result<Caller, (Caller, ReasonCode)> {
        for _ in 0..ROUNDS {
            match self.parts.identifier.identify(&world.directory, presented, self.parts.clock.now()) {
                Identified::Caller(caller) => {
                    self.parts.keeper.used(caller.key(), self.parts.clock.now());
                    return Ok(*caller);
                }
                Identified::Refused { caller, reason } => return Err((*caller, reason)),
                Identified::NeedKeys(issuer) => self.fetch_keys(world, &issuer).await,
                Identified::NeedBundle(need) => self.fetch_bundle(world, &need).await,
                Identified::NeedCertificate(thumbprint) => {
                    let found = self.find_certificate(thumbprint).await;
                    found.map_err(|reason| (Caller::anonymous(Tenant::default_tenant()), reason))?;
                }
            }
        }
        Err((Caller::anonymous(Tenant::default_tenant()), ReasonCode::IssuerKeysUnavailable))
    }

    /// Somebody who was let in, by what holds now: for streams that are open already. Nothing is fetched for them.
    pub(crate) fn verify_again(&self, world: &World, caller: &Caller) -> Option<Caller> {
        self.parts.identifier.again(&world.directory, caller, self.parts.clock.now())
    }

    // --- decide --------------------------------------------------------------------------------------------------

    pub(crate) fn new_id(&self) -> DecisionId {
        DecisionId::new(self.parts.clock.now(), &*self.parts.random)
    }

    pub(crate) fn model_ask(&self, dialect: Dialect, request: &ModelRequest) -> Ask<ModelCall> {
        let resource = EntityRef::new(Name::literal("Model"), request.model().clone());
        Ask::new(self.new_id(), action_of(dialect), resource, request.facts().clone(), request.digest())
    }

    /// Under which conditions, with what the caller did lately and what has entered their session: read once, before this ask
    /// counts itself.
    pub(crate) async fn assess(
        &self,
        caller: &Caller,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<Situation, Stop> {
        self.assessed(caller, peer, headers).await.map(|(situation, _)| situation)
    }

    /// The same, with the session: for doors from which something enters it.
    pub(crate) async fn assessed(
        &self,
        caller: &Caller,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<(Situation, Session), Stop> {
        let run = self.or_refuse(caller, None, run(headers)).await?;
        let session = self.session(caller, run.as_ref()).await?;
        let situation = self.assess_in(&session, caller, peer, headers).await?;
        Ok((situation, session))
    }

    /// The same in a session that is known already.
    pub(crate) async fn assess_in(
        &self,
        session: &Session,
        caller: &Caller,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<Situation, Stop> {
        let situation = self.assess_apart(&session.tracks(caller), caller, peer, headers).await?;
        Ok(session.situation(situation))
    }

    /// The same of what belongs to no session, since nothing enters one by it.
    pub(crate) async fn assess_apart(
        &self,
        tracks: &Tracks,
        caller: &Caller,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<Situation, Stop> {
        let assessed = assess(self.parts.clock.now(), peer, headers);
        let mut situation = self.or_refuse(caller, None, assessed).await?;
        let activity = self.activities.read(tracks, self.parts.clock.monotonic_us());
        situation.activity = Some(Arc::new(activity));
        Ok(situation)
    }

    /// Counts an ask that is permitted. Before it is recorded: what comes next, at the same time, must see it.
    pub(crate) fn counted<O: bartizan_model::Operation>(&self, tracks: &Tracks, permit: &Permit<O>) {
        let what = permit.what();
        let noted = Noted {
            requests: 1,
            exports: what.action.is_export().into(),
            resource: Some(&what.resource),
            ..Noted::default()
        };
        self.activities.note(tracks, self.parts.clock.monotonic_us(), &noted);
        self.parts.metrics.activity_given_up(self.activities.given_up());
    }

    /// Counts the tokens of a call that has ended.
    pub(crate) fn spent(&self, tracks: &Tracks, tokens: u64) {
        let noted = Noted { tokens, ..Noted::default() };
        self.activities.note(tracks, self.parts.clock.monotonic_us(), &noted);
    }

    pub(crate) async fn decide<'w, O: bartizan_model::Operation>(
        &self,
        world: &'w World,
        caller: &Caller,
        ask: Ask<O>,
        situation: &Situation,
        door: &Door,
    ) -> Result<(Permit<O>, &'w TenantWorld), Stop> {
        let Some(tenant) = world.tenants.get(caller.tenant()) else {
            return Err(self
                .refuse_early(caller, Some(ask.id), Problem::new(ReasonCode::PolicyMissing))
                .await);
        };
        let policy = tenant.policy_for(caller);
        let kept =
            self.parts.afterwards.wanted(tenant).then(|| {
                KeptAsk::of(caller, ask.action, &ask.resource, &ask.facts, situation, door).by(policy)
            });
        let verdict = policy.decide(caller, ask, situation, door).verdict;
        let decided = kept.and_then(|kept| Decided::new(caller.tenant(), &verdict, kept, policy));
        let follow = |decided| self.parts.afterwards.decided(decided, tenant, &world.state);
        match verdict {
            Verdict::Permit(permit) => {
                self.unlocked(world, caller, &permit, situation, (&[], None)).await?;
                decided.into_iter().for_each(follow);
                Ok((permit, tenant))
            }
            Verdict::StepUp(refused)
            | Verdict::Justify(refused)
            | Verdict::Hold(refused)
            | Verdict::Deny(refused) => {
                let (stop, own) = self.refuse_once(refused).await;
                // A flood of equal refusals is counted in one record; there is nothing to replay of the others.
                decided.into_iter().filter(|_| own).for_each(follow);
                Err(stop)
            }
        }
    }

    /// Whether what was permitted would still be permitted: for streams that are open while the world changes.
    pub(crate) fn still_permitted(
        &self,
        world: &World,
        caller: &Caller,
        ask: Ask<ModelCall>,
        situation: &Situation,
        (beside, run): (&[EntityRef], Option<&RunName>),
    ) -> bool {
        world.tenants.get(caller.tenant()).is_some_and(|tenant| {
            if self.lock_on(world, caller, &ask.resource, situation, (beside, run)).is_some() {
                return false;
            }
            let policy = tenant.policy_for(caller);
            matches!(policy.decide(caller, ask, situation, &self.door).verdict, Verdict::Permit(_))
        })
    }

    /// Refuses what is under a lock: who asks, what for, and what is known beside that, such as the upstream and the run.
    pub(crate) async fn unlocked<O: bartizan_model::Operation>(
        &self,
        world: &World,
        caller: &Caller,
        permit: &Permit<O>,
        situation: &Situation,
        (beside, run): (&[EntityRef], Option<&RunName>),
    ) -> Result<(), Stop> {
        match self.lock_on(world, caller, &permit.what().resource, situation, (beside, run)) {
            None => Ok(()),
            Some(problem) => Err(self.refuse_permitted(caller, permit, problem).await),
        }
    }

    pub(crate) fn lock_on(
        &self,
        world: &World,
        caller: &Caller,
        resource: &EntityRef,
        situation: &Situation,
        (beside, run): (&[EntityRef], Option<&RunName>),
    ) -> Option<Problem> {
        let tenant = world.tenants.get(caller.tenant())?;
        let lockable = Lockable { caller, resource, beside, run, session: &situation.session };
        let now = self.parts.clock.now();
        self.locks.check(&world.state, tenant.policy.entities(), &lockable, now).err()
    }

    /// Reserves what an ask may take of what is limited, before it is recorded. What is reserved is settled by whoever tells the
    /// end of the effect, and given back where it is dropped before that.
    pub(crate) async fn reserve<O: bartizan_model::Operation>(
        &self,
        tenant: &TenantWorld,
        caller: &Caller,
        permit: &Permit<O>,
        demand: &Demand<'_>,
    ) -> Result<Reservation, Stop> {
        match self.parts.limiter.reserve(tenant, caller, permit.id(), demand).await {
            Ok(reserved) => Ok(reserved),
            Err(problem) => Err(self.refuse_permitted(caller, permit, problem).await),
        }
    }

    /// Proves at the start that limits are asked; see [`Limiter`].
    ///
    /// # Errors
    /// When one that must refuse does not.
    pub async fn prove_limits(&self) -> Result<(), crate::limits::NotWired> {
        self.parts.limiter.prove(self.new_id()).await
    }

    /// The ways a call can go, the one to try first at the front.
    pub(crate) async fn routes(
        &self,
        tenant: &TenantWorld,
        request: &ModelRequest,
        dialect: Dialect,
        permit: &Permit<ModelCall>,
        caller: &Caller,
    ) -> Result<Vec<Route>, Stop> {
        let problem = match tenant.models.get(request.model()) {
            Some(model) if model.dialects.contains(&dialect.declared()) => {
                let mut problem = Problem::new(ReasonCode::ModelNotFound);
                let mut ways = Vec::new();
                for way in routing::declared(model, &tenant.upstreams) {
                    match reach(request, model, &way.spec) {
                        Ok(()) => ways.push(way),
                        Err(why) => problem = why,
                    }
                }
                let now_us = self.parts.clock.monotonic_us();
                let ordered = self.health.order(caller.tenant(), ways, &*self.parts.random, now_us);
                if !ordered.is_empty() {
                    return Ok(ordered);
                }
                problem
            }
            Some(_) => Problem::new(ReasonCode::DialectUnsupported),
            None => Problem::new(ReasonCode::ModelNotFound),
        };
        Err(self.refuse_early(caller, Some(permit.id()), problem).await)
    }

    // --- keep ----------------------------------------------------------------------------------------------------

    /// Where the content of a call is kept, if its permit demands that.
    pub(crate) fn shelf(
        &self,
        caller: &Caller,
        decision: DecisionId,
        obligations: &Obligations,
    ) -> Option<Shelf> {
        if !obligations.contains(ObligationKind::Keep) {
            return None;
        }
        // The door registers the obligation only where there is a vault, so no permit gets by here without one.
        let vault = self.parts.vault.clone()?;
        Some(Shelf::new(vault, caller, decision, self.parts.clock.clone()))
    }

    // --- record --------------------------------------------------------------------------------------------------

    pub(crate) async fn intend<O: bartizan_model::Operation>(
        &self,
        permit: Permit<O>,
        target: Target,
        kept: Option<Kept>,
    ) -> Result<IntentRecorded<O>, Stop> {
        let id = permit.id();
        let permit = self.use_up(permit).await?;
        self.parts.recorder.intend_keeping(permit, target, kept).await.map_err(|error| {
            tracing::error!(%error, "an intent could not be recorded; nothing was forwarded");
            Problem::new(error.reason()).of(id).into()
        })
    }

    pub(crate) fn since(&self, began_us: u64) -> Duration {
        Duration::from_micros(self.parts.clock.monotonic_us().saturating_sub(began_us))
    }
}

pub(crate) fn ended(end: End) -> Ended {
    Ended { end, ..Ended::default() }
}
