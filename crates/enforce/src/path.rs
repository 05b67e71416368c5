//! The request path.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Clock, Digest, Name, Random, json};
use bartizan_decide::{Decided, Door, KeptAsk, Permit, Refused, Verdict};
use bartizan_identify::{Caller, Identified, Identifier, Presented};
use bartizan_keys::Sealer;
use bartizan_limits::{Activities, Noted, Tracks};
use bartizan_mask::Masker;
use bartizan_model::action::{ModelCall, ReadState};
use bartizan_model::directory::{Dialect, ModelSpec, UpstreamSpec};
use bartizan_model::record::{End, Kept, VerdictKind, What};
use bartizan_model::{
    Action, Ask, DecisionId, EntityRef, ObligationKind, Obligations, Problem, ReasonCode, RequestExtra,
    Situation, Target, Tenant,
};
use bartizan_record::{Ended, IntentRecorded, Receipt, Recorder};
use bartizan_store::Rows;
use bartizan_upstream::{Outbound, Upstreams};
use bartizan_vault::Vault;
use bartizan_wire::ModelRequest;
use bytes::Bytes;
use http::request::Parts as Head;
use http::{HeaderMap, Request};
use http_body::Body;

use crate::afterwards::Afterwards;
use crate::assess::assess;
use crate::doors::{self, Published};
use crate::fetch::Fetches;
use crate::keep::{Shelf, circumstances};
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::receive::receive;
use crate::release::{self, Watch};
use crate::reply::{self, Reply};
use crate::retrieve::Retrievals;
use crate::trace::{CallTrace, Traces};
use crate::world::{TenantWorld, World};

/// The enforcement point of the data plane.
#[derive(Debug)]
pub struct Gate {
    pub(crate) parts: Parts,
    door: Door,
    /// A list has neither prompt nor answer that the vault could take, so nothing is listed where that is demanded.
    pub(crate) list_door: Door,
    /// What was done lately, as policies see it.
    activities: Activities,
    pub(crate) retrieval: Retrievals,
    pub(crate) fetches: Fetches,
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
    /// The only way out.
    pub upstreams: Arc<Upstreams>,
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
    /// Where traces go, if anywhere.
    pub traces: Option<Arc<Traces>>,
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
}

/// A request that ends here.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) problem: Problem,
    pub(crate) receipt: Option<Receipt>,
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
        let retrieval = Retrievals::new(&parts);
        Self { parts, door, list_door, activities, retrieval, fetches: Fetches::default() }
    }

    /// What this enforcement point can do to an ask for `action`.
    #[must_use]
    pub const fn door(&self, action: Action) -> &Door {
        match action {
            Action::ModelList => &self.list_door,
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
        let mut trace = CallTrace::begin(self.parts.traces.as_ref(), dialect, request.headers());
        match self.try_call(dialect, request, peer, &mut trace).await {
            Ok(reply) => reply,
            Err(stop) => {
                trace.refused(&stop.problem);
                self.answer_problem(dialect, dialect.path(), Some(action_of(dialect)), &stop)
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
        let Entering { world, caller, head, body } = self.enter(request).await?;
        trace.step("receive");
        let body = self.take(&caller, &head, body).await?;
        let began_us = self.parts.clock.monotonic_us();
        let request = bartizan_wire::parse_request(dialect, body, self.parts.bounds.body);
        let request = self.or_refuse(&caller, None, request).await?;
        trace.step("decide");
        let situation = self.assess(&caller, peer, &head.headers).await?;
        let ask = self.model_ask(dialect, &request);
        let id = ask.id;
        let watch = Watch::new(self.clone(), &caller, &ask, situation.clone(), &world);
        let (permit, tenant) = self.decide(&world, &caller, ask, &situation, &self.door).await?;
        let (route, upstream, spec) = self.route(tenant, &request, dialect, &permit, &caller).await?;
        let obligations = permit.obligations().clone();
        let (body, redacted) =
            self.or_refuse(&caller, Some(id), oblige(&request, &route, &obligations)).await?;
        let (kept, keep) = match self.shelf(&caller, id, &obligations) {
            None => (None, None),
            Some(shelf) => {
                trace.step("keep");
                let putting = shelf.put_prompt(body.clone(), circumstances(&situation, &head.headers));
                let kept = self.or_refuse(&caller, Some(id), putting.await).await?;
                let answered = (shelf, kept.prompt.clone());
                (Some(kept), Some(answered))
            }
        };
        let path = dialect.path().to_owned();
        trace.step("record");
        let target =
            Target::Upstream { upstream: upstream.clone(), path: path.clone(), body: Digest::of(&body) };
        let tracks = Tracks::of(&caller.who());
        self.counted(&tracks, &permit);
        let intent = self.intend(permit, target, kept).await?;
        let receipt = intent.receipt().clone();
        self.parts.metrics.asked(Some(action_of(dialect)), VerdictKind::Permit, None);
        self.parts.metrics.forwarded(self.since(began_us));
        let outbound = Outbound::post(path, body, forwarded_headers(&head.headers, dialect));
        trace.call(dialect, request.model(), &upstream, id);
        let plan = release::Plan { dialect, obligations, redacted, began_us, decision: id, keep, tracks };
        let sent = self.parts.upstreams.send(intent, &spec, outbound).await;
        release::answer(self, sent, plan, watch, receipt, trace).await
    }

    /// The models a caller may know of.
    pub async fn list_models(
        self: &Arc<Self>,
        head: &Head,
        one: Option<&str>,
        peer: Option<IpAddr>,
    ) -> Reply {
        let anthropic = head.headers.contains_key("anthropic-version");
        let dialect = if anthropic { Dialect::AnthropicMessages } else { Dialect::OpenAiChat };
        match self.try_list(head, one, peer, anthropic).await {
            Ok(reply) => reply,
            Err(stop) => self.answer_problem(dialect, head.uri.path(), Some(Action::ModelList), &stop),
        }
    }

    async fn try_list(
        &self,
        head: &Head,
        one: Option<&str>,
        peer: Option<IpAddr>,
        anthropic: bool,
    ) -> Result<Reply, Stop> {
        let world = self.parts.keeper.current()?;
        let presented = self.presented(&world, head).await?;
        let caller = self.identify(&world, &presented).await?;
        let situation = self.assess(&caller, peer, &head.headers).await?;
        let tenant = world.tenants.get(caller.tenant());
        let ask = |name: &Name| {
            let facts = bartizan_model::AskFacts { dialect: "list".to_owned(), ..Default::default() };
            let resource = EntityRef::new(Name::literal("Model"), name.clone());
            Ask::<ReadState>::new(self.new_id(), Action::ModelList, resource, facts, Digest::of(b""))
        };
        if let Some(one) = one {
            let name: Name = one.parse().map_err(|_| ReasonCode::ModelNotFound)?;
            let (permit, tenant) =
                self.decide(&world, &caller, ask(&name), &situation, &self.list_door).await?;
            let id = permit.id();
            self.counted(&Tracks::of(&caller.who()), &permit);
            let intent = self.intend(permit, Target::House, None).await?;
            let (receipt, running) = (intent.receipt().clone(), intent.begin());
            if !tenant.models.contains_key(&name) {
                running.finish(ended(End::Failed { reason: ReasonCode::ModelNotFound }));
                return Err(Stop {
                    problem: Problem::new(ReasonCode::ModelNotFound).of(id),
                    receipt: Some(receipt),
                });
            }
            running.finish(ended(End::Done));
            let mut answer = reply::json(200, bartizan_wire::model_body(anthropic, &name));
            reply::mark(answer.headers_mut(), id, Some(&receipt));
            return Ok(answer);
        }
        // Each model is an ask of its own; what may not be known of is left out. The list as a whole is recorded once, as
        // the last permitted ask, or as a refusal where nothing is permitted.
        let mut names = Vec::new();
        let mut recorded = None;
        let mut refused = None;
        let mut last = None;
        for name in tenant.iter().flat_map(|t| t.models.keys()) {
            let Some(tenant) = tenant else { continue };
            let policy = tenant.policy_for(&caller);
            let verdict = policy.decide(&caller, ask(name), &situation, &self.list_door).verdict;
            // What replay needs of the one that will be recorded: the last of its kind.
            let follows = || {
                let ask = ask(name);
                let door = &self.list_door;
                let kept = KeptAsk::of(&caller, ask.action, &ask.resource, &ask.facts, &situation, door);
                Decided::new(caller.tenant(), &verdict, kept, policy)
            };
            let is_permit = matches!(verdict, Verdict::Permit(_));
            if self.parts.afterwards.wanted(tenant) && (is_permit || recorded.is_none()) {
                last = follows();
            }
            match verdict {
                Verdict::Permit(permit) => {
                    names.push(name.clone());
                    recorded = Some(permit);
                }
                Verdict::StepUp(r) | Verdict::Justify(r) | Verdict::Hold(r) | Verdict::Deny(r) => {
                    refused = Some(r)
                }
            }
        }
        if let Some((decided, tenant)) = last.zip(tenant) {
            self.parts.afterwards.decided(decided, tenant, &world.state);
        }
        let Some(permit) = recorded else {
            return match refused {
                Some(refused) => Err(self.refuse(Refused { discoverable: true, ..refused }).await),
                None => {
                    Err(self.refuse_early(&caller, None, Problem::new(ReasonCode::NoMatchingPermit)).await)
                }
            };
        };
        let id = permit.id();
        self.counted(&Tracks::of(&caller.who()), &permit);
        let intent = self.intend(permit, Target::House, None).await?;
        let (receipt, running) = (intent.receipt().clone(), intent.begin());
        running.finish(ended(End::Done));
        let mut answer = reply::json(200, bartizan_wire::models_body(anthropic, &names));
        reply::mark(answer.headers_mut(), id, Some(&receipt));
        Ok(answer)
    }

    /// The answer to a path there is nothing at: only for those who are known, so that paths cannot be probed for.
    pub async fn no_such_path(&self, head: &Head, reason: ReasonCode) -> Reply {
        let stop = match self.try_nothing(head, reason).await {
            Ok(stop) | Err(stop) => stop,
        };
        self.answer_problem(Dialect::OpenAiChat, head.uri.path(), None, &stop)
    }

    async fn try_nothing(&self, head: &Head, reason: ReasonCode) -> Result<Stop, Stop> {
        let world = self.parts.keeper.current()?;
        let presented = self.presented(&world, head).await?;
        let caller = self.identify(&world, &presented).await?;
        Ok(self.refuse_early(&caller, None, Problem::new(reason)).await)
    }

    // --- identify ------------------------------------------------------------------------------------------------

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

    /// Under which conditions, with what the caller did lately: read once, before this ask counts itself.
    pub(crate) async fn assess(
        &self,
        caller: &Caller,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<Situation, Stop> {
        let assessed = assess(self.parts.clock.now(), peer, headers);
        let mut situation = self.or_refuse(caller, None, assessed).await?;
        let tracks = Tracks::of(&caller.who());
        let activity = self.activities.read(&tracks, self.parts.clock.monotonic_us());
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
        let kept = self
            .parts
            .afterwards
            .wanted(tenant)
            .then(|| KeptAsk::of(caller, ask.action, &ask.resource, &ask.facts, situation, door));
        let verdict = policy.decide(caller, ask, situation, door).verdict;
        let decided = kept.and_then(|kept| Decided::new(caller.tenant(), &verdict, kept, policy));
        let follow = |decided| self.parts.afterwards.decided(decided, tenant, &world.state);
        match verdict {
            Verdict::Permit(permit) => {
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
    ) -> bool {
        world.tenants.get(caller.tenant()).is_some_and(|tenant| {
            let policy = tenant.policy_for(caller);
            matches!(policy.decide(caller, ask, situation, &self.door).verdict, Verdict::Permit(_))
        })
    }

    pub(crate) async fn route(
        &self,
        tenant: &TenantWorld,
        request: &ModelRequest,
        dialect: Dialect,
        permit: &Permit<ModelCall>,
        caller: &Caller,
    ) -> Result<(ModelSpec, Name, UpstreamSpec), Stop> {
        let found =
            tenant.models.get(request.model()).and_then(|m| Some((m, tenant.upstreams.get(&m.upstream)?)));
        let problem = match found {
            Some((model, upstream)) if model.dialects.contains(&dialect.declared()) => {
                match reach(request, model, upstream) {
                    Ok(()) => return Ok((model.clone(), model.upstream.clone(), upstream.clone())),
                    Err(problem) => problem,
                }
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
        self.parts.recorder.intend_keeping(permit, target, kept).await.map_err(|error| {
            tracing::error!(%error, "an intent could not be recorded; nothing was forwarded");
            Problem::new(error.reason()).of(id).into()
        })
    }

    /// Records a refusal and words it for the caller.
    pub(crate) async fn refuse(&self, refused: Refused) -> Stop {
        self.refuse_once(refused).await.0
    }

    /// The same, with whether it has a record of its own.
    async fn refuse_once(&self, refused: Refused) -> (Stop, bool) {
        let problem = refused.problem();
        self.parts.metrics.asked(
            refused.what.as_ref().map(|w| w.action),
            refused.verdict,
            refused.reasons.first(),
        );
        let resource = refused.what.as_ref().map(|what| &what.resource);
        let noted = Noted { denials: 1, resource, ..Noted::default() };
        self.activities.note(&Tracks::of(&refused.who), self.parts.clock.monotonic_us(), &noted);
        match self.parts.recorder.refused_once(&refused).await {
            Ok((receipt, own)) => (Stop { problem, receipt: Some(receipt) }, own),
            Err(error) => {
                tracing::error!(%error, "a refusal could not be recorded");
                (Problem::new(error.reason()).of(refused.id).into(), false)
            }
        }
    }

    /// Refuses before or beside policy: an unknown credential, a malformed body, a route that leads nowhere.
    pub(crate) async fn refuse_early(
        &self,
        caller: &Caller,
        id: Option<DecisionId>,
        problem: Problem,
    ) -> Stop {
        let refused = Refused {
            id: id.unwrap_or_else(|| self.new_id()),
            tenant: caller.tenant().clone(),
            who: caller.who(),
            what: None::<What>,
            verdict: VerdictKind::Deny,
            reasons: vec![problem.reason.clone()],
            offers: Vec::new(),
            holds: Vec::new(),
            grounds: None,
            discoverable: true,
        };
        let id = refused.id;
        let stop = self.refuse(refused).await;
        // What could not be recorded is told as that; everything else as what it is.
        if stop.problem.reason == problem.reason { Stop { problem: problem.of(id), ..stop } } else { stop }
    }

    pub(crate) async fn or_refuse<T>(
        &self,
        caller: &Caller,
        id: Option<DecisionId>,
        result: Result<T, Problem>,
    ) -> Result<T, Stop> {
        match result {
            Ok(value) => Ok(value),
            Err(problem) => Err(self.refuse_early(caller, id, problem).await),
        }
    }

    // --- answer --------------------------------------------------------------------------------------------------

    pub(crate) fn answer_problem(
        &self,
        dialect: Dialect,
        path: &str,
        action: Option<Action>,
        stop: &Stop,
    ) -> Reply {
        let (status, body) = bartizan_wire::error_body(dialect, &stop.problem);
        let mut answer = reply::json(status, body);
        let decision = stop.problem.decision.unwrap_or_else(|| self.new_id());
        reply::mark(answer.headers_mut(), decision, stop.receipt.as_ref());
        self.challenge(answer.headers_mut(), &stop.problem, path, action);
        answer
    }

    pub(crate) fn since(&self, began_us: u64) -> Duration {
        Duration::from_micros(self.parts.clock.monotonic_us().saturating_sub(began_us))
    }
}

const fn action_of(dialect: Dialect) -> Action {
    match dialect {
        Dialect::OpenAiEmbeddings => Action::ModelEmbed,
        Dialect::OpenAiChat
        | Dialect::OpenAiResponses
        | Dialect::AnthropicMessages
        | Dialect::AnthropicCountTokens => Action::ModelInvoke,
    }
}

/// What a request reaches for must be accepted by the model, and what nobody knows must be inert at the upstream: a
/// field of tomorrow could do anything.
fn reach(request: &ModelRequest, model: &ModelSpec, upstream: &UpstreamSpec) -> Result<(), Problem> {
    let accepted =
        |extra: &RequestExtra| *extra != RequestExtra::ProviderState && model.accepts.contains(extra);
    if let Some(extra) = request.facts().extras.iter().find(|extra| !accepted(extra)) {
        let detail = format!("this model does not accept `{}`", extra.name());
        return Err(Problem::with_detail(ReasonCode::RequestExtraRefused, detail));
    }
    let inert = |name: &String| upstream.inert_fields.contains(name.as_str());
    match request.unknown_members().iter().find(|name| !inert(name)) {
        None => Ok(()),
        Some(name) => {
            let shown: String = name.chars().take(40).collect();
            let detail = format!("`{shown}` is not known here");
            Err(Problem::with_detail(ReasonCode::RequestFieldUnknown, detail))
        }
    }
}

/// Applies the obligations of a permit to the request and names the model as the upstream knows it.
pub(crate) fn oblige(
    request: &ModelRequest,
    route: &ModelSpec,
    obligations: &Obligations,
) -> Result<(Bytes, u64), Problem> {
    let mut edits = request.edits();
    if let Some(upstream_model) = &route.upstream_model {
        edits.set_model(upstream_model);
    }
    if let Some(most) = obligations.output_tokens_max() {
        edits.cap_output(most);
    }
    if !request.facts().extras.contains(&RequestExtra::Storage) {
        edits.forbid_storage();
    }
    if obligations.contains(ObligationKind::StripTools) {
        edits.strip_tools();
    }
    let detectors = obligations.detectors();
    let mut redacted = 0;
    if !detectors.is_empty() {
        if request.has_opaque_parts() {
            let detail = "parts that are not text cannot be redacted";
            return Err(Problem::with_detail(ReasonCode::ObligationFailed, detail));
        }
        let masker = Masker::new(&detectors);
        for (place, text) in request.texts() {
            let masked = masker.mask(&text);
            if masked.count > 0 {
                redacted += masked.count;
                edits.replace_text(place, &masked.text);
            }
        }
    }
    Ok((edits.apply(), redacted))
}

/// The headers that pass on to an upstream: a closed list, and never a credential.
fn forwarded_headers(headers: &HeaderMap, dialect: Dialect) -> HeaderMap {
    let names: &[&'static str] = match dialect {
        Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => {
            &["anthropic-version", "anthropic-beta", "accept"]
        }
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::OpenAiEmbeddings => {
            &["openai-beta", "accept"]
        }
    };
    let mut out = HeaderMap::new();
    for name in names {
        if let Some(value) = headers.get(*name) {
            out.insert(*name, value.clone());
        }
    }
    out
}

fn ended(end: End) -> Ended {
    Ended { end, ..Ended::default() }
}
