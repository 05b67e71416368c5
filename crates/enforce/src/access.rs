//! The decision API: applications ask what policy says, and enforce it themselves (OpenID AuthZEN 1.0).
//!
//! Asking is an ask of its own: the application is identified, policy says whether it may ask at all, and the answer leaves
//! only once its digest is durable in the ledger.

use std::net::IpAddr;

use bartizan_base::{Digest, Name, Timestamp, json};
use bartizan_decide::{Advice, Advising, AskedEntity, AskedOf, Door, Seek, Snapshot};
use bartizan_identify::Caller;
use bartizan_limits::Tracks;
use bartizan_model::action::ReadState;
use bartizan_model::record::{End, VerdictKind};
use bartizan_model::{
    Action, Ask, AskFacts, EnforcementPointSpec, EntityRef, ObligationKind, Problem, ReasonCode, Target,
    Tenant,
};
use bartizan_record::Ended;
use bartizan_secret::Secret;
use bartizan_wire::authzen::{
    self, Answer, Answers, Entity, Evaluation, Evaluations, Found, Obligation, PAGE_MAX, Page, Search,
    Semantic, Sought,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, HOST, HeaderValue};
use http::{HeaderMap, Request};
use http_body::Body;
use serde_json::{Map, Value, json};

use crate::keep::{Keeping, circumstances};
use crate::path::{Entering, Gate, PublicUrl, Stop};
use crate::reply::{self, Reply};
use crate::world::TenantWorld;

/// What an application may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One decision.
    Evaluation,
    /// Several.
    Evaluations,
    /// Who, or what, or on what.
    Search(Sought),
}

/// The header by which a request is found again; an application's own is echoed.
const REQUEST_ID: &str = "x-request-id";
/// Obligation types that answers can carry.
const SUPPORTED: [&str; 1] = ["custom"];
/// Results of a page that says no limit.
const PAGE_DEFAULT: u32 = 100;

/// What is answered, and what the ledger says of it.
struct Told {
    body: Bytes,
    asked: u64,
    permitted: u64,
}

impl Access {
    /// Every endpoint with its path.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Evaluation, "/access/v1/evaluation"),
        (Self::Evaluations, "/access/v1/evaluations"),
        (Self::Search(Sought::Subject), "/access/v1/search/subject"),
        (Self::Search(Sought::Resource), "/access/v1/search/resource"),
        (Self::Search(Sought::Action), "/access/v1/search/action"),
    ];

    fn path(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("", |(_, path)| path)
    }

    const fn action(self) -> Action {
        match self {
            Self::Evaluation | Self::Evaluations => Action::AccessEvaluate,
            Self::Search(_) => Action::AccessSearch,
        }
    }
}

/// The metadata of the decision point at `base` (AuthZEN 1.0, section 9), which has no slash at its end.
fn metadata(base: &str) -> Bytes {
    let path = |endpoint: Access| format!("{base}{}", endpoint.path());
    authzen::body(&json!({
        "policy_decision_point": base,
        "access_evaluation_endpoint": path(Access::Evaluation),
        "access_evaluations_endpoint": path(Access::Evaluations),
        "search_subject_endpoint": path(Access::Search(Sought::Subject)),
        "search_resource_endpoint": path(Access::Search(Sought::Resource)),
        "search_action_endpoint": path(Access::Search(Sought::Action)),
        "supported_obligations": SUPPORTED,
    }))
}

impl Gate {
    /// An application's question, from its bytes to the answer.
    pub async fn answer_access<B>(&self, access: Access, request: Request<B>, peer: Option<IpAddr>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let echoed = request.headers().get(REQUEST_ID).filter(|value| value.len() <= 256).cloned();
        let mut reply = match self.try_access(access, request, peer).await {
            Ok(reply) => reply,
            Err(stop) => self.access_problem(access, &stop),
        };
        if let Some(echoed) = echoed {
            reply.headers_mut().insert(REQUEST_ID, echoed);
        }
        reply
    }

    /// What this decision point can do, for whoever asks.
    #[must_use]
    pub fn access_metadata(&self, headers: &HeaderMap) -> Reply {
        let base = match &self.parts.public {
            PublicUrl::Is(url) => url.clone(),
            PublicUrl::Asked { scheme } => {
                let host = headers.get(HOST).and_then(|v| v.to_str().ok()).unwrap_or("localhost");
                format!("{scheme}://{host}")
            }
        };
        let mut answer = reply::json(200, metadata(&base));
        // It can name the host that was asked at, so nobody may keep it for others.
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    async fn try_access<B>(
        &self,
        access: Access,
        request: Request<B>,
        peer: Option<IpAddr>,
    ) -> Result<Reply, Stop>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Entering { world, caller, head, body } = self.enter(request).await?;
        let body = self.take(&caller, &head, body).await?;
        let now = self.parts.clock.now();
        // Nothing enters a session by an answer about what policy says.
        let situation = self.assess_apart(&Tracks::of(&caller.who()), &caller, peer, &head.headers).await?;
        let facts =
            AskFacts { dialect: "authzen".to_owned(), bytes: body.len() as u64, ..AskFacts::default() };
        let id = self.new_id();
        let ask = Ask::<ReadState>::new(id, access.action(), EntityRef::system(), facts, Digest::of(&body));
        let (permit, tenant) = self.decide(&world, &caller, ask, &situation, &self.access_door()).await?;
        self.counted(&Tracks::of(&caller.who()), &permit);
        let told = self.work(access, &body, &caller, tenant, now);
        let told = self.or_refuse(&caller, Some(id), told).await?;
        let mut keeping = None;
        let mut kept = None;
        if let Some(shelf) = self.shelf(&caller, id, permit.obligations()) {
            let putting = shelf.put_prompt(body, circumstances(&situation, &head.headers));
            let put = self.or_refuse(&caller, Some(id), putting.await).await?;
            keeping = Some(Keeping::whole((shelf, put.prompt.clone()), &told.body));
            kept = Some(put);
        }
        let target = Target::Answer {
            asked: told.asked,
            permitted: told.permitted,
            body: Digest::of(&told.body),
            policy: tenant.policy.bundle().map_or(Digest::EMPTY, |bundle| bundle.digest()),
        };
        let intent = self.intend(permit, target, kept).await?;
        let (receipt, running) = (intent.receipt().clone(), intent.begin());
        self.parts.metrics.asked(Some(access.action()), VerdictKind::Permit, None);
        let output = match keeping {
            None => Ok(None),
            Some(keeping) => tokio::task::spawn_blocking(move || keeping.put())
                .await
                .unwrap_or(Err(ReasonCode::ShuttingDown)),
        };
        let kept = match output {
            Ok(kept) => kept,
            Err(reason) => {
                running.finish(Ended::new(End::Failed { reason: reason.clone() }));
                return Err(Stop { problem: Problem::new(reason).of(id), receipt: Some(receipt) });
            }
        };
        running.finish(Ended { bytes: told.body.len() as u64, kept, ..Ended::new(End::Done) });
        let mut answer = reply::json(200, told.body);
        reply::mark(answer.headers_mut(), id, Some(&receipt));
        Ok(answer)
    }

    /// What this door can do: keep questions and answers, where there is a vault.
    fn access_door(&self) -> Door {
        Door::new(self.parts.vault.iter().map(|_| ObligationKind::Keep).collect())
    }

    fn work(
        &self,
        access: Access,
        body: &[u8],
        caller: &Caller,
        tenant: &TenantWorld,
        now: Timestamp,
    ) -> Result<Told, Problem> {
        let limits = self.parts.bounds.body;
        let point = tenant.enforcement_point(caller);
        let (policy, advising) = (&tenant.policy, tenant.policy.advising(&point, now));
        let advisor = Advisor { policy, advising, point: &point, now };
        match access {
            Access::Evaluation => {
                let answer = advisor.answer(authzen::evaluation(body, limits)?);
                Ok(told(&answer, 1, u64::from(answer.decision)))
            }
            Access::Evaluations => match authzen::evaluations(body, limits)? {
                Evaluations::One(one) => {
                    let answer = advisor.answer(*one);
                    Ok(told(&answer, 1, u64::from(answer.decision)))
                }
                Evaluations::Many(batch) => {
                    let answers = Answers { evaluations: advisor.batch(batch) };
                    let permitted = answers.evaluations.iter().filter(|answer| answer.decision).count();
                    Ok(told(&answers, answers.evaluations.len() as u64, permitted as u64))
                }
            },
            Access::Search(sought) => {
                let search = authzen::search(sought, body, limits)?;
                let found = self.search(search, &advisor, caller.tenant())?;
                Ok(told(&found, 1, found.results.len() as u64))
            }
        }
    }

    fn search(&self, search: Search, advisor: &Advisor<'_>, tenant: &Tenant) -> Result<Found, Problem> {
        let seek = match search.sought {
            Sought::Subject => Seek::Subjects,
            Sought::Resource => Seek::Resources,
            Sought::Action => Seek::Actions,
        };
        let limit = search.page.limit.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX) as usize;
        let token = search.page.token.clone();
        let kind = match search.sought {
            Sought::Subject => Some(search.subject.kind.clone()),
            Sought::Resource => Some(search.resource.kind.clone()),
            Sought::Action => None,
        };
        let asked = advisor.sought_of(search);
        // A page is a page of this search of this application: nothing else may go on from it.
        let question = json!([
            format!("{seek:?}"),
            asked.subject.kind,
            asked.subject.id,
            asked.subject.properties,
            asked.action,
            asked.resource.kind,
            asked.resource.id,
            asked.resource.properties,
            asked.context,
            advisor.point
        ]);
        let of = Digest::of(&json::canonical(&question).unwrap_or_default());
        let after = if token.is_empty() { None } else { Some(self.open_page(&token, of, tenant)?) };
        let found = advisor.policy.search(seek, &asked, advisor.point, advisor.now, after.as_deref(), limit);
        let next_token =
            found.more_after.map_or_else(|| Ok(String::new()), |after| self.seal_page(&after, of, tenant))?;
        let result = |name: String| match &kind {
            Some(kind) => json!({"type": kind, "id": name}),
            None => json!({"name": name}),
        };
        let results: Vec<Value> = found.results.into_iter().map(result).collect();
        Ok(Found { page: Page { next_token, count: results.len() }, results })
    }

    /// A place in the results, sealed, since it can name what the asker may not know of.
    fn seal_page(&self, after: &str, of: Digest, tenant: &Tenant) -> Result<String, Problem> {
        let text = Secret::new(format!("{of} {after}"));
        let sealed = self.parts.sealer.seal(&text, tenant, &page_place(), &*self.parts.random);
        sealed.map(|bytes| BASE64.encode(bytes)).map_err(|_| Problem::new(ReasonCode::Internal))
    }

    fn open_page(&self, token: &str, of: Digest, tenant: &Tenant) -> Result<String, Problem> {
        let opened = BASE64.decode(token).ok();
        let opened = opened.and_then(|bytes| self.parts.sealer.open(&bytes, tenant, &page_place()).ok());
        let after = opened.and_then(|text| {
            let (question, after) = text.expose().split_once(' ')?;
            (question == of.to_string()).then(|| after.to_owned())
        });
        let detail = "`page.token` is not one of this search; begin again without it";
        after.ok_or_else(|| Problem::with_detail(ReasonCode::BodyMalformed, detail))
    }
}

impl Gate {
    fn access_problem(&self, access: Access, stop: &Stop) -> Reply {
        let (status, body) = authzen::problem_body(&stop.problem);
        let mut answer = reply::json(status, body);
        let decision = stop.problem.decision.unwrap_or_else(|| self.new_id());
        reply::mark(answer.headers_mut(), decision, stop.receipt.as_ref());
        self.challenge(answer.headers_mut(), &stop.problem, access.path(), Some(access.action()));
        answer
    }
}

impl TenantWorld {
    /// What the application behind `caller` is believed. One that is not declared is believed nothing.
    fn enforcement_point(&self, caller: &Caller) -> EnforcementPointSpec {
        let workload = &caller.subject().principal.name;
        self.points.get(workload).cloned().unwrap_or_else(|| EnforcementPointSpec::of(workload.clone()))
    }
}

/// Policy, asked for one application.
struct Advisor<'a> {
    policy: &'a Snapshot,
    /// The same, for all questions of this call.
    advising: Advising<'a>,
    point: &'a EnforcementPointSpec,
    now: Timestamp,
}

impl Advisor<'_> {
    fn answer(&self, evaluation: Evaluation) -> Answer {
        // An application that says what it can apply is taken at its word (obligations profile, section 8).
        let declared = evaluation.context.get("supported_obligations").and_then(Value::as_array);
        let can = declared.is_none_or(|kinds| SUPPORTED.iter().all(|kind| kinds.contains(&json!(kind))));
        let advice = self.advising.advise(&self.asked_of(evaluation));
        let mut context = Map::new();
        if advice.permits() && !advice.obligations.is_empty() {
            if !can {
                context.insert("reasons".to_owned(), json!([ReasonCode::ObligationUnsupported]));
                return Answer { decision: false, context };
            }
            context.insert("obligations".to_owned(), json!(obligations(&advice)));
        }
        if !advice.permits() {
            context.insert("reasons".to_owned(), json!(advice.reasons));
            if let Some(detail) = &advice.detail {
                context.insert("error".to_owned(), json!({"status": 400, "message": detail}));
            }
        }
        Answer { decision: advice.permits(), context }
    }

    fn batch(&self, batch: authzen::Batch) -> Vec<Answer> {
        let mut out = Vec::with_capacity(batch.items.len());
        for item in batch.items {
            let answer = match item {
                Ok(evaluation) => self.answer(evaluation),
                Err(problem) => {
                    let error = json!({"status": 400, "message": problem.detail});
                    let context =
                        [("reasons".to_owned(), json!([problem.reason])), ("error".to_owned(), error)];
                    Answer { decision: false, context: context.into_iter().collect() }
                }
            };
            let last = match batch.semantic {
                Semantic::ExecuteAll => false,
                Semantic::DenyOnFirstDeny => !answer.decision,
                Semantic::PermitOnFirstPermit => answer.decision,
            };
            out.push(answer);
            if last {
                break;
            }
        }
        out
    }

    fn entity(&self, entity: Entity) -> AskedEntity {
        let mut properties = entity.properties;
        if self.point.flat_properties {
            for (name, value) in entity.beside {
                properties.entry(name).or_insert(value);
            }
        }
        AskedEntity { kind: entity.kind, id: entity.id.unwrap_or_default(), properties }
    }

    fn asked_of(&self, evaluation: Evaluation) -> AskedOf {
        AskedOf {
            subject: self.entity(evaluation.subject),
            action: evaluation.action.name,
            action_properties: evaluation.action.properties,
            resource: self.entity(evaluation.resource),
            context: evaluation.context,
        }
    }

    /// The question of a search, without what stands in the place of what is looked for.
    fn sought_of(&self, search: Search) -> AskedOf {
        let nameless = |found: Entity| AskedEntity { kind: found.kind, ..AskedEntity::default() };
        let (action, action_properties) =
            search.action.map(|action| (action.name, action.properties)).unwrap_or_default();
        AskedOf {
            subject: match search.sought {
                Sought::Subject => nameless(search.subject),
                Sought::Resource | Sought::Action => self.entity(search.subject),
            },
            action,
            action_properties,
            resource: match search.sought {
                Sought::Resource => nameless(search.resource),
                Sought::Subject | Sought::Action => self.entity(search.resource),
            },
            context: search.context,
        }
    }
}

/// Obligations of ours are of no registered type: `custom`, with what to do in our own words.
fn obligations(advice: &Advice) -> Vec<Obligation> {
    let numbered = advice.obligations.iter().enumerate();
    let one = |(at, obligation): (usize, &bartizan_model::Obligation)| Obligation {
        id: format!("obl-{}", at + 1),
        kind: "custom",
        properties: [("vendor", json!("bartizan")), ("obligation", json!(obligation))].into(),
    };
    numbered.map(one).collect()
}

fn told<T: serde::Serialize>(answer: &T, asked: u64, permitted: u64) -> Told {
    Told { body: authzen::body(answer), asked, permitted }
}

fn page_place() -> Name {
    Name::literal("access.page")
}
