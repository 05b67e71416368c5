//! Routes of the control API. The table feeds the dispatcher and the reference page.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Name, Timestamp, json};
use bartizan_control::{
    ApplyBundle, ApproveTools, Control, CreateKey, EpochToAdvance, ExportLedger, HoldToPlace, LockToSet,
    PlanPolicy, Reach, ReplayUnder, RollBack, SearchLedger, Stopped, SubjectRef, TryPolicy,
};
use bartizan_decide::Supposed;
use bartizan_identify::Caller;
use bartizan_model::{Document, Member, Problem, ReasonCode, Status};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts as Head;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answers::{acknowledged, created, exported, file, given, key, plain, same, told};
use crate::body::{Claim, Credential, Erase, Rotate};
use crate::door::{self, Published};
use crate::mount::{Arrived, Mount};

const BODY_MAX: usize = 18 << 20;
const BODY_PATIENCE: Duration = Duration::from_secs(30);
const LIMITS: json::Limits = json::Limits { bytes_max: BODY_MAX, depth_max: 32, nodes_max: 200_000 };

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; `{}` stands for one part, `**` at the end for one and more.
    pub path: &'static str,
    /// The action that policy is asked for.
    pub action: &'static str,
    /// What it does.
    pub meaning: &'static str,
    pub(crate) call: Call,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    Claim,
    Whoami,
    OpenApi,
    KeyList,
    KeyCreate,
    KeyRevoke,
    KeyRotate,
    ResourceList,
    ResourceApply,
    ResourceDelete,
    CredentialPut,
    UpstreamTest,
    ToolList,
    ToolApprove,
    DeliveryList,
    DeliveryLetters,
    DeliveryRetry,
    PolicyRead,
    PolicyApply,
    PolicyPlan,
    PolicyRollback,
    PolicyTrial,
    PolicyTry,
    PolicyDrop,
    PolicyExplain,
    PolicyReach,
    DecisionList,
    DecisionShow,
    DecisionProof,
    DecisionWitnessed,
    DecisionReplay,
    DecisionExplain,
    DecisionMaterial,
    ReplayUnder,
    Checkpoints,
    EntryProof,
    LogFile,
    LogSearch,
    LogExport,
    PeriodRemove,
    EpochAdvance,
    LockList,
    LockAdd,
    LockRelease,
    DirectoryDisable,
    DirectoryEnable,
    DecisionContent,
    ContentReveal,
    SubjectErase,
    HoldList,
    HoldPlace,
    HoldRelease,
    Erasures,
}

const fn route(
    method: &'static str,
    path: &'static str,
    action: &'static str,
    meaning: &'static str,
    call: Call,
) -> Route {
    Route { method, path, action, meaning, call }
}

/// Every route.
pub const ROUTES: &[Route] = &[
    route("POST", "/api/v1/claim", "house:claim", "Redeem the first administrator's claim.", Call::Claim),
    route("GET", "/api/v1/whoami", "-", "Who the caller is taken for.", Call::Whoami),
    route("GET", "/api/v1/openapi.json", "-", "This API, described as OpenAPI 3.1.", Call::OpenApi),
    route("GET", "/api/v1/keys", "key:list", "List keys, never their texts.", Call::KeyList),
    route(
        "POST",
        "/api/v1/keys",
        "key:create",
        "Make a key; its text is in this answer only.",
        Call::KeyCreate,
    ),
    route("POST", "/api/v1/keys/{}/revoke", "key:revoke", "End a key now.", Call::KeyRevoke),
    route("POST", "/api/v1/keys/{}/rotate", "key:rotate", "Replace a key.", Call::KeyRotate),
    route("GET", "/api/v1/resources", "resource:read", "List declared things.", Call::ResourceList),
    route(
        "GET",
        "/api/v1/resources/{}",
        "resource:read",
        "List declared things of one kind.",
        Call::ResourceList,
    ),
    route("POST", "/api/v1/resources", "resource:apply", "Declare things, all or none.", Call::ResourceApply),
    route(
        "DELETE",
        "/api/v1/resources/{}/{}",
        "resource:apply",
        "Remove a declared thing.",
        Call::ResourceDelete,
    ),
    route(
        "PUT",
        "/api/v1/credentials/{}",
        "resource:apply",
        "Keep an upstream's credential, sealed.",
        Call::CredentialPut,
    ),
    route("POST", "/api/v1/upstreams/{}/test", "upstream:test", "Try an upstream.", Call::UpstreamTest),
    route(
        "GET",
        "/api/v1/tools/{}",
        "resource:read",
        "What a server of tools offers now, beside what is approved.",
        Call::ToolList,
    ),
    route(
        "POST",
        "/api/v1/tools/{}/approve",
        "resource:apply",
        "Approve definitions of tools and prompts, as they were looked at.",
        Call::ToolApprove,
    ),
    route(
        "GET",
        "/api/v1/deliveries",
        "resource:read",
        "How deliveries and mirrors are doing on this node.",
        Call::DeliveryList,
    ),
    route(
        "GET",
        "/api/v1/deliveries/{}/letters",
        "resource:read",
        "A delivery's dead letters on this node, the oldest first.",
        Call::DeliveryLetters,
    ),
    route(
        "POST",
        "/api/v1/deliveries/{}/letters/{}/retry",
        "delivery:retry",
        "Send a dead letter again; it goes once it is taken.",
        Call::DeliveryRetry,
    ),
    route("GET", "/api/v1/policy", "policy:read", "The bundle in force.", Call::PolicyRead),
    route("PUT", "/api/v1/policy", "policy:apply", "Put a bundle in force.", Call::PolicyApply),
    route(
        "POST",
        "/api/v1/policy/plan",
        "policy:test",
        "What putting a bundle in force would change; with `since_s` also of recorded decisions, under `decision:read`.",
        Call::PolicyPlan,
    ),
    route(
        "POST",
        "/api/v1/policy/rollback",
        "policy:apply",
        "Put the bundle of an earlier version in force again, as a new version.",
        Call::PolicyRollback,
    ),
    route(
        "GET",
        "/api/v1/policy/candidate",
        "policy:read",
        "How the candidate does beside the bundle in force, on this node.",
        Call::PolicyTrial,
    ),
    route(
        "PUT",
        "/api/v1/policy/candidate",
        "policy:apply",
        "Try a candidate as a shadow, or put it in force for some callers, or for all.",
        Call::PolicyTry,
    ),
    route(
        "DELETE",
        "/api/v1/policy/candidate",
        "policy:apply",
        "End what is tried, in one step.",
        Call::PolicyDrop,
    ),
    route(
        "POST",
        "/api/v1/policy/explain",
        "policy:test",
        "What would be decided, and why.",
        Call::PolicyExplain,
    ),
    route(
        "POST",
        "/api/v1/policy/reach",
        "policy:test",
        "Who can do something, on what, or what can be done: page by page, never cut short unsaid.",
        Call::PolicyReach,
    ),
    route(
        "GET",
        "/api/v1/decisions",
        "decision:read",
        "The latest decisions (`?limit=`).",
        Call::DecisionList,
    ),
    route(
        "GET",
        "/api/v1/decisions/{}",
        "decision:read",
        "One decision and how it ended.",
        Call::DecisionShow,
    ),
    route(
        "GET",
        "/api/v1/decisions/{}/replay",
        "decision:read",
        "Decide it again from what was kept, and compare bit for bit.",
        Call::DecisionReplay,
    ),
    route(
        "GET",
        "/api/v1/decisions/{}/explanation",
        "decision:read",
        "Why it came out as it did: rules for those who may read policy, personal values for those who may read content.",
        Call::DecisionExplain,
    ),
    route(
        "GET",
        "/api/v1/decisions/{}/material",
        "content:read",
        "Everything that it follows from, to decide it again elsewhere. Personal.",
        Call::DecisionMaterial,
    ),
    route(
        "POST",
        "/api/v1/decisions/replay",
        "decision:read",
        "Decide recorded decisions again under a draft: what comes out otherwise, by rule.",
        Call::ReplayUnder,
    ),
    route(
        "GET",
        "/api/v1/decisions/{}/proof",
        "ledger:read",
        "The proof that it is in the ledger.",
        Call::DecisionProof,
    ),
    route(
        "GET",
        "/api/v1/decisions/{}/proof/witnessed",
        "ledger:read",
        "The proof that it is in a log that witnesses have cosigned.",
        Call::DecisionWitnessed,
    ),
    route(
        "GET",
        "/api/v1/decisions/{}/content",
        "content:read",
        "What was kept of it in the vault, checked against the ledger.",
        Call::DecisionContent,
    ),
    route(
        "POST",
        "/api/v1/content/reveal",
        "content:read",
        "What tokens stand for that were put in the place of masked values.",
        Call::ContentReveal,
    ),
    route(
        "POST",
        "/api/v1/subjects/{}/{}/erase",
        "subject:erase",
        "Erase what the vault holds of somebody; by kind and name, or by `principal` and pseudonym.",
        Call::SubjectErase,
    ),
    route(
        "GET",
        "/api/v1/subjects/{}/{}/holds",
        "subject:hold",
        "The legal holds on somebody.",
        Call::HoldList,
    ),
    route(
        "PUT",
        "/api/v1/subjects/{}/{}/holds/{}",
        "subject:hold",
        "Place a legal hold: the data is kept until it is released.",
        Call::HoldPlace,
    ),
    route(
        "DELETE",
        "/api/v1/subjects/{}/{}/holds/{}",
        "subject:hold",
        "Release a legal hold.",
        Call::HoldRelease,
    ),
    route(
        "GET",
        "/api/v1/erasures",
        "subject:erase",
        "Every erasure, naming nobody: to be done again after a restore.",
        Call::Erasures,
    ),
    route("GET", "/api/v1/checkpoints", "ledger:read", "The latest checkpoints.", Call::Checkpoints),
    route(
        "POST",
        "/api/v1/log/search",
        "ledger:read",
        "Find entries of the ledger, page by page.",
        Call::LogSearch,
    ),
    route(
        "POST",
        "/api/v1/log/export",
        "ledger:export",
        "Take entries along as JSON lines, OCSF, CEF, OTLP or Parquet; `bartizan-next` says where to go on.",
        Call::LogExport,
    ),
    route(
        "DELETE",
        "/api/v1/log/{}",
        "ledger:remove",
        "Remove the log of a past period from this node, if its archive verifies and its retention is over.",
        Call::PeriodRemove,
    ),
    route(
        "GET",
        "/log/{}/{}/proof/{}",
        "ledger:read",
        "The proof that an entry is in a log, by its index.",
        Call::EntryProof,
    ),
    route(
        "GET",
        "/log/{}/{}/**",
        "ledger:read",
        "A log's checkpoint, tiles and entry bundles, as tlog-tiles (C2SP) serves them.",
        Call::LogFile,
    ),
    route(
        "POST",
        "/api/v1/epochs",
        "epoch:advance",
        "Everything issued up to now is dead.",
        Call::EpochAdvance,
    ),
    route("GET", "/api/v1/locks", "lock:change", "The locks that hold.", Call::LockList),
    route(
        "POST",
        "/api/v1/locks",
        "lock:change",
        "Lock somebody or something: it may not, at any door, until the lock ends or is released.",
        Call::LockAdd,
    ),
    route("DELETE", "/api/v1/locks/{}", "lock:change", "Release a lock.", Call::LockRelease),
    route(
        "POST",
        "/api/v1/directory/{}/{}/disable",
        "resource:apply",
        "Let somebody or something in no more; everything issued to it is dead.",
        Call::DirectoryDisable,
    ),
    route(
        "POST",
        "/api/v1/directory/{}/{}/enable",
        "resource:apply",
        "Let somebody or something in again, whoever disabled it.",
        Call::DirectoryEnable,
    ),
];

pub(crate) type Answer = Response<Full<Bytes>>;

/// The control API.
#[derive(Clone, Debug)]
pub struct Api {
    control: Control,
    mounts: Vec<Arc<dyn Mount>>,
    published: Option<Published>,
}

impl Api {
    /// The API in front of `control`.
    #[must_use]
    pub const fn new(control: Control) -> Self {
        Self { control, mounts: Vec::new(), published: None }
    }

    /// The same with parts that answer for paths of their own; the first that takes a path answers.
    #[must_use]
    pub fn with(self, mounts: Vec<Arc<dyn Mount>>) -> Self {
        Self { mounts, ..self }
    }

    /// The same under the address of our own authority: its tokens hold here.
    #[must_use]
    pub fn published(self, published: Option<Published>) -> Self {
        Self { published, ..self }
    }

    /// Answers a request.
    pub async fn answer<B>(&self, request: Request<B>, peer: SocketAddr) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(mount) = self.mounts.iter().find(|mount| mount.takes(request.uri().path())) else {
            return self.answer_own(request).await;
        };
        let (head, body) = request.into_parts();
        let proven = door::is_proven(&head.headers);
        let mut answer = match collect(body, mount.body_max()).await {
            Ok(body) => mount.answer(Arrived { head, body, peer }).await,
            Err(problem) => told(&problem.into()),
        };
        // Whoever proves possession finds the nonce for the next proof at every path, also where they lacked one.
        if proven {
            door::next_nonce(answer.headers_mut(), self.control.house.proof_nonce());
        }
        answer
    }

    async fn answer_own<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (method, path) = (request.method(), request.uri().path());
        if let Some(metadata) = self.published.as_ref().and_then(|p| p.metadata(method, path)) {
            return plain(200, &metadata);
        }
        let proven = door::is_proven(request.headers());
        let action = find(method.as_str(), path).ok().map(|(route, _)| route.action);
        let mut answer = match self.try_answer(request).await {
            Ok(answer) => answer,
            Err(stopped) => {
                let mut answer = told(&stopped);
                door::challenge(self.published.as_ref(), answer.headers_mut(), &stopped.problem, action);
                answer
            }
        };
        if proven {
            door::next_nonce(answer.headers_mut(), self.control.house.proof_nonce());
        }
        answer
    }

    async fn try_answer<B>(&self, request: Request<B>) -> Result<Answer, Stopped>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let found = find(head.method.as_str(), head.uri.path());
        if let Ok((Route { call: Call::Claim, .. }, _)) = found {
            return self.claim(&receive(&head.headers, body).await?).await;
        }
        // Whoever is not known learns nothing about paths.
        let caller = self.identify(&head).await?;
        let (route, parts) = found?;
        let body = receive(&head.headers, body).await?;
        self.call(route.call, &caller, &parts, head.uri.query().unwrap_or_default(), &body).await
    }

    async fn identify(&self, head: &Head) -> Result<Caller, Stopped> {
        door::identify(&self.control, self.published.as_ref(), head).await
    }

    async fn claim(&self, body: &[u8]) -> Result<Answer, Stopped> {
        let request: Claim = read(body)?;
        let done = self.control.redeem_claim(&request.claim, &request.name).await?;
        let value = json!({"name": done.value.name, "key": key(&done.value.key)});
        Ok(given(&done, &value))
    }

    async fn call(
        &self,
        call: Call,
        caller: &Caller,
        parts: &[&str],
        query: &str,
        body: &[u8],
    ) -> Result<Answer, Stopped> {
        let control = &self.control;
        let part = |at: usize| parts.get(at).copied().unwrap_or_default();
        let name = |at: usize| part(at).parse::<Name>().map_err(|_| Problem::new(ReasonCode::NotFound));
        let id = || part(0).parse().map_err(|_| Problem::new(ReasonCode::NotFound));
        let decision = || part(0).parse().map_err(|_| Problem::new(ReasonCode::NotFound));
        Ok(match call {
            Call::Claim => return Err(ReasonCode::NotFound.into()),
            Call::Whoami => plain(200, &whoami(caller)),
            Call::OpenApi => plain(200, &crate::openapi()),
            Call::KeyList => same(&control.list_keys(caller).await?),
            Call::KeyCreate => created(&control.create_key(caller, &read::<CreateKey>(body)?).await?),
            Call::KeyRevoke => acknowledged(&control.revoke_key(caller, id()?).await?),
            Call::KeyRotate => {
                let overlap = Duration::from_secs(read::<Rotate>(body)?.overlap_s);
                created(&control.rotate_key(caller, id()?, overlap).await?)
            }
            Call::ResourceList => same(&control.list_documents(caller, parts.first().copied()).await?),
            Call::ResourceApply => {
                same(&control.apply_documents(caller, &read::<Vec<Document>>(body)?).await?)
            }
            Call::ResourceDelete => same(&control.delete_document(caller, part(0), &name(1)?).await?),
            Call::CredentialPut => {
                same(&control.put_credential(caller, &name(0)?, &read::<Credential>(body)?.credential).await?)
            }
            Call::UpstreamTest => {
                let done = control.test_upstream(caller, &name(0)?).await?;
                let value = json!({"status": done.value.status, "took_us": done.value.took_us});
                given(&done, &value)
            }
            Call::ToolList => same(&control.list_tools(caller, &name(0)?).await?),
            Call::ToolApprove => {
                same(&control.approve_tools(caller, &name(0)?, &read::<ApproveTools>(body)?).await?)
            }
            Call::DeliveryList => same(&control.list_deliveries(caller).await?),
            Call::DeliveryLetters => same(&control.list_letters(caller, &name(0)?).await?),
            Call::DeliveryRetry => same(&control.retry_letter(caller, &name(0)?, part(1)).await?),
            Call::PolicyRead => same(&control.policy(caller).await?),
            Call::PolicyApply => same(&control.apply_bundle(caller, &read::<ApplyBundle>(body)?).await?),
            Call::PolicyReach => same(&control.reach(caller, &read::<Reach>(body)?).await?),
            Call::PolicyPlan => same(&control.plan_policy(caller, &read::<PlanPolicy>(body)?).await?),
            Call::PolicyRollback => same(&control.roll_back(caller, &read::<RollBack>(body)?).await?),
            Call::PolicyTrial => same(&control.policy_trial(caller).await?),
            Call::PolicyTry => same(&control.try_policy(caller, &read::<TryPolicy>(body)?).await?),
            Call::PolicyDrop => same(&control.drop_candidate(caller).await?),
            Call::DecisionReplay => same(&control.replay_decision(caller, decision()?).await?),
            Call::DecisionExplain => same(&control.explain_decision(caller, decision()?).await?),
            Call::DecisionMaterial => same(&control.replay_material(caller, decision()?).await?),
            Call::ReplayUnder => same(&control.replay_under(caller, &read::<ReplayUnder>(body)?).await?),
            Call::PolicyExplain => {
                let done = control.explain(caller, &read::<Supposed>(body)?).await?;
                let value = json!({"explanation": done.value, "text": done.value.to_string()});
                given(&done, &value)
            }
            Call::DecisionList => {
                let limit =
                    query.split('&').find_map(|q| q.strip_prefix("limit=")).map_or(Ok(20), str::parse);
                let limit = limit.map_err(|_| {
                    Problem::with_detail(ReasonCode::BodyMalformed, "`limit` is a whole number")
                })?;
                same(&control.latest_decisions(caller, limit).await?)
            }
            Call::DecisionShow => same(&control.find_decision(caller, decision()?).await?),
            Call::DecisionProof => {
                let done = control.prove_decision(caller, decision()?).await?;
                let value = json!({"proof": done.value.0, "entry": done.value.1});
                given(&done, &value)
            }
            Call::DecisionWitnessed => {
                let done = control.prove_witnessed(caller, decision()?).await?;
                let value = json!({"proof": done.value.0, "entry": done.value.1});
                given(&done, &value)
            }
            Call::Checkpoints => same(&control.checkpoints(caller).await?),
            Call::EntryProof => {
                let index = part(2).parse().map_err(|_| Problem::new(ReasonCode::NotFound))?;
                let done = control.prove_entry(caller, part(0), part(1), index).await?;
                let value = json!({"proof": done.value.0, "entry": done.value.1});
                given(&done, &value)
            }
            Call::LogSearch => same(&control.search_ledger(caller, &read::<SearchLedger>(body)?).await?),
            Call::LogExport => exported(control.export_ledger(caller, &read::<ExportLedger>(body)?).await?),
            Call::PeriodRemove => same(&control.remove_period(caller, part(0)).await?),
            Call::LogFile => {
                let path = parts.get(2..).unwrap_or_default().join("/");
                file(control.log_file(caller, part(0), part(1), &path).await?)
            }
            Call::DecisionContent => same(&control.read_content(caller, decision()?).await?),
            Call::ContentReveal => same(&control.reveal_tokens(caller, &read(body)?).await?),
            Call::SubjectErase => {
                let basis = read::<Erase>(body)?.basis;
                same(&control.erase_subject(caller, &subject(part(0), part(1))?, basis).await?)
            }
            Call::HoldList => same(&control.list_holds(caller, &subject(part(0), part(1))?).await?),
            Call::HoldPlace => {
                let (whose, hold) = (subject(part(0), part(1))?, read::<HoldToPlace>(body)?);
                same(&control.hold_subject(caller, &whose, &name(2)?, &hold).await?)
            }
            Call::HoldRelease => {
                same(&control.release_hold(caller, &subject(part(0), part(1))?, &name(2)?).await?)
            }
            Call::Erasures => same(&control.list_erasures(caller).await?),
            Call::DirectoryDisable => {
                same(&control.set_standing(caller, part(0), &name(1)?, Status::Disabled).await?)
            }
            Call::DirectoryEnable => {
                same(&control.set_standing(caller, part(0), &name(1)?, Status::Active).await?)
            }
            Call::LockList => same(&control.list_locks(caller).await?),
            Call::LockAdd => acknowledged(&control.add_lock(caller, &read::<LockToSet>(body)?).await?),
            Call::LockRelease => {
                let id = part(0).parse().map_err(|_| Problem::new(ReasonCode::NotFound))?;
                same(&control.release_lock(caller, id).await?)
            }
            Call::EpochAdvance => {
                acknowledged(&control.advance_epoch(caller, &read::<EpochToAdvance>(body)?).await?)
            }
        })
    }
}

/// Who the caller is taken for, and by what.
fn whoami(caller: &Caller) -> Value {
    let Member { principal, assurance, binding, device, .. } = caller.subject();
    let actors: Vec<_> = caller.actors().iter().map(|actor| &actor.principal.name).collect();
    json!({
        "tenant": caller.tenant(), "kind": principal.kind, "name": principal.name, "principal": principal.id,
        "actors": actors, "credential": caller.credential(), "key": caller.key(), "client": caller.client(),
        "session": caller.session(), "grant": caller.grant(), "binding": binding.name(), "device": device,
        "assurance": u8::from(assurance.level), "methods": assurance.methods,
        // Of a key nobody logged in.
        "authenticated": (assurance.at != Timestamp::default()).then(|| assurance.at.to_string()),
        "scopes": caller.scopes().words(), "authorization_details": caller.details(), "expires": caller.expires().to_string(),
    })
}

/// Somebody, as a path names them: `user/alice`, or `principal/prn_…`.
fn subject(kind: &str, name: &str) -> Result<SubjectRef, Problem> {
    let text = if kind == "principal" { name.to_owned() } else { format!("{kind}/{name}") };
    text.parse().map_err(|_| Problem::new(ReasonCode::NotFound))
}

/// The route of a request with the parts that `{}` stands for.
#[expect(clippy::result_large_err, reason = "an administrative answer, not a hot path")]
fn find<'a>(method: &str, path: &'a str) -> Result<(Route, Vec<&'a str>), Stopped> {
    let mut known = false;
    for route in ROUTES {
        let given: Vec<_> = path.split('/').collect();
        let pattern: Vec<_> = route.path.split('/').collect();
        let (pattern, open) = pattern
            .split_last()
            .filter(|(last, _)| **last == "**")
            .map_or((&*pattern, false), |(_, head)| (head, true));
        let length = if open { given.len() > pattern.len() } else { given.len() == pattern.len() };
        let fits = length && pattern.iter().zip(&given).all(|(p, g)| *p == "{}" && !g.is_empty() || p == g);
        if fits && route.method == method {
            let named =
                given.iter().enumerate().filter(|(at, _)| pattern.get(*at).is_none_or(|p| *p == "{}"));
            return Ok((*route, named.map(|(_, part)| *part).collect()));
        }
        known |= fits;
    }
    Err(if known { ReasonCode::MethodNotAllowed } else { ReasonCode::NotFound }.into())
}

async fn collect<B>(body: B, bytes_max: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = tokio::time::timeout(BODY_PATIENCE, Limited::new(body, bytes_max).collect()).await;
    let collected = collected.map_err(|_| Problem::new(ReasonCode::BodyTimeout))?;
    Ok(collected.map_err(|_| Problem::new(ReasonCode::BodyTooLarge))?.to_bytes())
}

async fn receive<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bytes = collect(body, BODY_MAX).await?;
    let json = headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    if bytes.is_empty() || json { Ok(bytes) } else { Err(Problem::new(ReasonCode::MediaTypeUnsupported)) }
}

pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    json::parse_as(body, LIMITS).map_err(|error| {
        let reason = match &error {
            json::JsonError::DuplicateKey(_) => ReasonCode::JsonDuplicateKey,
            json::JsonError::TooDeep(_) | json::JsonError::TooMany(_) => ReasonCode::JsonTooComplex,
            json::JsonError::TooLong(_) => ReasonCode::BodyTooLarge,
            json::JsonError::Syntax(_) | json::JsonError::Shape(_) => ReasonCode::BodyMalformed,
        };
        Problem::with_detail(reason, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_with_their_parts_and_nothing_else_is() {
        let (route, parts) = find("DELETE", "/api/v1/resources/model/gpt").unwrap();
        assert_eq!((route.action, parts), ("resource:apply", vec!["model", "gpt"]));
        assert_eq!(find("PATCH", "/api/v1/keys").unwrap_err().problem.reason, ReasonCode::MethodNotAllowed);
        for path in
            ["/", "/api/v1/keys/", "/api/v1/keys//revoke", "/api/v1/../v1/keys", "/api/v1/decisions/a/b/c"]
        {
            assert_eq!(find("GET", path).unwrap_err().problem.reason, ReasonCode::NotFound, "{path}");
        }
    }

    #[test]
    fn every_route_names_an_action_there_is() {
        for route in ROUTES.iter().filter(|r| r.action != "-") {
            assert!(route.action.parse::<bartizan_model::Action>().is_ok(), "{}", route.path);
        }
    }
}
