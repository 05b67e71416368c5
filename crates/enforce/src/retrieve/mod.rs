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

use bartizan_base::{Digest, Name};
use bartizan_decide::Door;
use bartizan_identify::Caller;
use bartizan_limits::{Activities, Noted, Track, Tracks};
use bartizan_model::asset::AssetSpec;
use bartizan_model::directory::Spec;
use bartizan_model::{
    Action, AskFacts, CorpusRouteSpec, Label, ObligationKind, Problem, ReasonCode, Situation,
};
use bartizan_retrieve::Stores;
use bartizan_secret::Secret;

use crate::path::{Gate, Parts, Stop};
use crate::reply::{self, Reply};
use crate::world::{TenantWorld, World};

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
    door: Door,
}

impl Retrievals {
    pub(crate) fn new(parts: &Parts) -> Self {
        Self {
            stores: Stores::new(parts.upstreams.clone(), parts.clock.clone()),
            probes: Activities::new(PROBES_MAX, &*parts.random),
            key: parts.sealer.derive("rows of documents"),
            // Passages can be redacted; nothing of an answer is kept here.
            door: Door::new([ObligationKind::Redact].into()),
        }
    }
}

/// One request to a corpus.
struct Scene<'a> {
    world: &'a World,
    tenant: &'a TenantWorld,
    caller: &'a Caller,
    situation: Situation,
    corpus: Name,
    route: &'a CorpusRouteSpec,
    facts: AskFacts,
    body: Digest,
}

impl Scene<'_> {
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
    /// The request's scene; whoever names a corpus that is not reached is told that there is none.
    async fn scene<'a>(
        &self,
        (world, caller): (&'a World, &'a Caller),
        corpus: &str,
        (situation, body): (Situation, &[u8]),
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
        Ok(Scene { world, tenant, caller, situation, corpus, route, facts, body: Digest::of(body) })
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
fn answered(body: &serde_json::Value, label: &Label, (id, receipt): &search::Marks) -> Reply {
    let mut answer = reply::json(200, body.to_string().into());
    reply::mark(answer.headers_mut(), *id, Some(receipt));
    reply::label(answer.headers_mut(), label);
    answer
}
