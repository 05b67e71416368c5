//! The door to documents: searching a corpus, and writing into it.
//!
//! Start at [`Gate::search_corpus`]: collections are asked for one by one, the policy on documents becomes part of the store's own
//! question, what comes back is decided on again, and only what is left counts. "Nothing there" and "nothing for you" are
//! one answer.

mod body;
mod embed;
mod recheck;
mod search;
mod write;

use std::sync::{Mutex, PoisonError};

use bartizan_base::{Digest, Name};
use bartizan_decide::Permit;
use bartizan_identify::Caller;
use bartizan_limits::{Activities, Noted, Track, Tracks};
use bartizan_model::asset::AssetSpec;
use bartizan_model::directory::Spec;
use bartizan_model::{
    Action, AskFacts, CorpusRouteSpec, EntityRef, Label, Operation, Problem, ReasonCode, Situation,
};
use bartizan_retrieve::Stores;
use bartizan_secret::Secret;

use crate::admit::{Going, Step};
use crate::limits::{Fields, Reservation};
use crate::path::{Gate, Parts, Stop};
use crate::reply::{self, Reply};
use crate::session::Session;
use crate::world::{TenantWorld, World};

pub(crate) use body::SearchAsked;
pub use write::Written;

/// How many callers are watched for searching too often, each in each corpus.
const PROBES_MAX: usize = 100_000;

/// What the door has of its own.
#[derive(Debug)]
pub(crate) struct Retrievals {
    stores: Stores,
    /// Searches by caller and corpus.
    probes: Activities,
    /// What rows are sealed under.
    key: Secret<[u8; 32]>,
}

impl Retrievals {
    pub(crate) fn new(parts: &Parts) -> Self {
        Self {
            stores: Stores::new(parts.upstreams.clone(), parts.clock.clone()),
            probes: Activities::new(PROBES_MAX, &*parts.random),
            key: parts.sealer.derive("rows of documents"),
        }
    }
}

/// One request to a corpus.
struct Scene<'a> {
    world: &'a World,
    tenant: &'a TenantWorld,
    caller: &'a Caller,
    situation: Situation,
    session: Session,
    corpus: Name,
    route: &'a CorpusRouteSpec,
    facts: AskFacts,
    body: Digest,
    /// What is reserved for the request, until it is answered.
    reserved: Mutex<Vec<Reservation>>,
}

impl Scene<'_> {
    /// Whose corpus it is, and where that lies.
    fn beside(&self) -> Vec<EntityRef> {
        let corpus = EntityRef::new(Name::literal("Corpus"), self.corpus.clone());
        let upstream = self.route.store.upstream();
        let upstream = upstream.map(|name| EntityRef::new(Name::literal("Upstream"), name.clone()));
        [corpus].into_iter().chain(upstream).collect()
    }

    /// How limits stand, for the answer.
    fn fields(&self) -> Fields {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.first_mut().map(|first| std::mem::take(&mut first.fields)).unwrap_or_default()
    }

    /// A declared collection of the corpus.
    fn collection(&self, name: &Name) -> Option<&AssetSpec> {
        let (_, document, _) = self.world.state.document(self.caller.tenant(), "collection", name)?;
        match &document.spec {
            Spec::Collection(spec) if spec.within.contains(&self.corpus) => Some(spec),
            _ => None,
        }
    }
}

/// A declared document.
fn declared<'w>(world: &'w World, caller: &Caller, name: &Name) -> Option<&'w AssetSpec> {
    let (_, document, _) = world.state.document(caller.tenant(), "document", name)?;
    match &document.spec {
        Spec::Document(spec) => Some(spec),
        _ => None,
    }
}

/// What the caller is told where there is nothing, or nothing for them.
fn nothing() -> Problem {
    Problem::new(ReasonCode::NotFound)
}

/// A refusal as it may be told: who is refused for what a thing is must not learn that there is such a thing. What would help is
/// told, and so is what has nothing to do with the thing.
fn hidden(mut stop: Stop) -> Stop {
    let own = matches!(stop.problem.reason, ReasonCode::ScopeInsufficient | ReasonCode::PolicyMissing);
    if stop.problem.reason.status() == 403 && stop.problem.offers.is_empty() && !own {
        stop.problem = Problem { decision: stop.problem.decision, ..nothing() };
    }
    stop
}

impl Gate {
    /// Lets a step of the request begin, under locks and limits. It takes one place, however many steps it has; `same` says what is the
    /// same where the same is asked again.
    async fn begun<O: Operation>(
        &self,
        scene: &Scene<'_>,
        permit: &Permit<O>,
        same: Digest,
    ) -> Result<Going, Stop> {
        let ends = scene.reserved.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let beside = scene.beside();
        let (world, caller, situation, run) =
            (scene.world, scene.caller, &scene.situation, scene.session.run());
        let step = Step { world, caller, situation, run, beside: &beside, same, ends };
        let reserved = self.admit(permit, &step).await?;
        scene.reserved.lock().unwrap_or_else(PoisonError::into_inner).push(reserved);
        Ok(Going::new(&step, &permit.what().resource))
    }

    /// The request's scene; whoever names a corpus that is not reached is told that there is none.
    async fn scene<'a>(
        &self,
        (world, caller): (&'a World, &'a Caller),
        corpus: &str,
        (situation, session, body): (Situation, Session, &[u8]),
    ) -> Result<Scene<'a>, Stop> {
        let tenant = world.tenants.get(caller.tenant());
        let found = corpus.parse::<Name>().ok().and_then(|corpus| {
            let tenant = tenant?;
            Some((tenant, tenant.corpora.get(&corpus)?, corpus))
        });
        let Some((tenant, route, corpus)) = found else {
            return Err(self.refuse_early(caller, None, nothing()).await);
        };
        let facts =
            AskFacts { dialect: "retrieve".to_owned(), bytes: body.len() as u64, ..AskFacts::default() };
        let (body, reserved) = (Digest::of(body), Mutex::default());
        Ok(Scene { world, tenant, caller, situation, session, corpus, route, facts, body, reserved })
    }

    /// Counts a search, and refuses one too many: whoever may ask at will finds out by nearness what a passage says.
    async fn probed(&self, scene: &Scene<'_>) -> Result<(), Stop> {
        let who = scene.caller.subject().principal.id;
        let of = Digest::of_parts(&[who.to_string().as_bytes(), b"\n", scene.corpus.as_bytes()]);
        let mut id = [0; 16];
        id.iter_mut().zip(of.as_bytes()).for_each(|(to, from)| *to = *from);
        let tracks = Tracks { session: Some(Track::Session(id)), ..Tracks::default() };
        // Counted before it is read, so that of searches at the same moment none is overlooked.
        let now = self.parts.clock.monotonic_us();
        self.retrieval.probes.note(&tracks, now, &Noted { requests: 1, ..Noted::default() });
        let counted = self.retrieval.probes.read(&tracks, now).session;
        let most = u64::from(scene.route.searches_per_minute);
        if counted.is_some_and(|windows| windows.minute.requests > most) {
            return Err(self
                .refuse_early(scene.caller, None, Problem::new(ReasonCode::SearchesTooMany))
                .await);
        }
        Ok(())
    }

    fn retrieval_problem(&self, path: &str, action: Action, stop: &Stop) -> Reply {
        let dialect = bartizan_model::Dialect::OpenAiChat;
        self.answer_problem(dialect, path, Some(action), stop)
    }
}

/// An answer with its decision, receipt and label.
fn answered(
    body: &serde_json::Value,
    label: &Label,
    (id, receipt): &search::Marks,
    fields: &[(&'static str, String)],
) -> Reply {
    let mut answer = reply::json(200, body.to_string().into());
    reply::mark(answer.headers_mut(), *id, Some(receipt));
    reply::label(answer.headers_mut(), label);
    reply::tell(answer.headers_mut(), fields);
    answer
}
