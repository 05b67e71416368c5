//! Searching.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use bartizan_base::Name;
use bartizan_decide::RowsQuestion;
use bartizan_filter::{Filter, Plan, Refused, Tree};
use bartizan_identify::Caller;
use bartizan_model::action::Retrieval;
use bartizan_model::record::{End, Given, VerdictKind};
use bartizan_model::{
    Action, Ask, CorpusRouteSpec, CorpusStore, DecisionId, EntityRef, Label, Metric, Obligations, Problem,
    ReasonCode, Situation, Target,
};
use bartizan_record::{Ended, Receipt, Running};
use bartizan_retrieve::{Grammar, Row, Seals, Search, Step, Stores, grammar, metadata_filter, place};
use bytes::Bytes;
use http::Request;
use http_body::Body;
use serde_json::{Map, Value, json};

use super::body::{COLLECTIONS_MAX, SearchAsked, malformed};
use super::embed::is_vector;
use super::recheck::Recheck;
use super::{Scene, answered, hidden, nothing};
use crate::admit::Going;
use crate::limits::Fields;
use crate::path::{Entering, Gate, Stop};
use crate::reply::Reply;
use crate::scrub::{DOOR, Scrub, Way};
use crate::session::Session;
use crate::world::World;

/// The decision of an answer, and its receipt.
pub(super) type Marks = (DecisionId, Receipt);

/// What a search gave.
#[derive(Debug)]
pub(crate) struct Found {
    /// The passages, the nearest first, as they are told.
    pub(crate) body: Value,
    /// The join of the labels of their documents.
    pub(crate) label: Label,
    /// The decision to look up, and its receipt.
    pub(super) marks: Marks,
    /// How limits stand.
    pub(crate) fields: Fields,
}

impl Found {
    /// The decision, and its receipt.
    pub(crate) const fn marks(&self) -> (DecisionId, &Receipt) {
        (self.marks.0, &self.marks.1)
    }
}

/// What one collection gave.
struct Collected {
    collection: Name,
    obligations: Obligations,
    scrub: Scrub,
    going: Going,
    rows: Vec<Row>,
    /// Rows of the store that were none.
    broken: u64,
    running: Running,
    status: Option<u16>,
}

impl Gate {
    /// `POST /retrieve/{corpus}`.
    pub async fn retrieve<B>(&self, corpus: &str, request: Request<B>, peer: Option<IpAddr>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let path = request.uri().path().to_owned();
        let tried = async {
            let Entering { world, caller, head, body } = self.enter(request).await?;
            let body = self.take(&caller, &head, body).await?;
            let asked = SearchAsked::read(&body, self.parts.bounds.body);
            let asked = self.or_refuse(&caller, None, asked).await?;
            let scene = self.assessed(&caller, peer, &head.headers).await?;
            self.search_corpus((&world, &caller), scene, corpus, (asked, &body)).await
        };
        match tried.await {
            Ok(found) => answered(&found.body, &found.label, &found.marks, &found.fields),
            Err(stop) => self.retrieval_problem(&path, Action::CollectionRetrieve, &stop),
        }
    }

    /// Searches a corpus for a caller: over HTTP, and as a tool.
    ///
    /// Each collection is an ask of its own, with a record and an outcome of its own.
    pub(crate) async fn search_corpus(
        &self,
        (world, caller): (&World, &Caller),
        (situation, session): (Situation, Session),
        corpus: &str,
        (asked, body): (SearchAsked, &[u8]),
    ) -> Result<Found, Stop> {
        let scene = self.scene((world, caller), corpus, (situation, session, body)).await?;
        let same = asked.same();
        self.probed(&scene).await?;
        let filter = match &asked.filter {
            None => Ok(Tree::Always),
            Some(told) => metadata_filter(told, scene.route).map_err(|e| malformed(&e.to_string())),
        };
        let filter = self.or_refuse(caller, None, filter).await?;
        let words = grammar(scene.route).ok_or(ReasonCode::Internal)?;
        let k = asked.k.unwrap_or(10).min(scene.route.k_max);
        let mut vector = match asked.vector {
            Some(vector) if !is_vector(&vector, scene.route.dimensions as usize) => {
                let problem = malformed(
                    "`vector` is a list of numbers, as many as the corpus has dimensions, not all zero",
                );
                return Err(self.refuse_early(caller, None, problem).await);
            }
            given => given,
        };
        let mut collected = Vec::new();
        let mut marks = None;
        for collection in self.collections(&scene, asked.collections).await? {
            let resource = EntityRef::new(Name::literal("Collection"), collection.clone());
            let action = Action::CollectionRetrieve;
            let ask = Ask::<Retrieval>::new(self.new_id(), action, resource, scene.facts.clone(), scene.body);
            let id = ask.id;
            let decided = self.decide(world, caller, ask, &scene.situation, &DOOR).await;
            let (permit, _) = decided.map_err(hidden)?;
            let scrub = self.scrub(scene.tenant, caller.tenant(), permit.obligations());
            let scrub = self.or_refuse(caller, Some(id), scrub).await?;
            // Only now, so that nobody has a model work on what they may not search.
            let near = match (&vector, &asked.query) {
                (Some(near), _) => near.clone(),
                (None, Some(text)) => {
                    let made = self.embed(&scene, &[text]).await?.pop().ok_or(ReasonCode::Internal)?;
                    vector.insert(made).clone()
                }
                (None, None) => return Err(ReasonCode::Internal.into()),
            };
            // After that call has given its place back: this is one beside it, not one around it.
            let going = self.begun(&scene, &permit, same).await?;
            let question = Asked { filter: &filter, vector: &near, k };
            let planned = self.plan(&scene, &*words, &collection, permit.obligations(), &question);
            let step = self.or_refuse(caller, Some(id), planned).await?;
            let target = match &step {
                None => Target::House,
                Some(step) => Stores::target(&scene.corpus, scene.route, step),
            };
            self.counted(&scene.session.tracks(caller), &permit);
            let obligations = permit.obligations().clone();
            let intent = self.intend(permit, target, None).await?;
            let receipt = intent.receipt().clone();
            marks.get_or_insert_with(|| (id, receipt.clone()));
            self.parts.metrics.asked(Some(action), VerdictKind::Permit, None);
            // Nothing can match, so nobody is asked; the answer is the one for nothing there.
            let (rows, broken, running, status) = match step {
                None => (Vec::new(), 0, intent.begin(), None),
                Some(step) => {
                    let corpus = (&scene.corpus, scene.route);
                    let ran = self.retrieval.stores.run(intent, corpus, &scene.tenant.upstreams, step).await;
                    let reached = ran.map_err(|failed| stopped(failed, id, &receipt))?;
                    let Some((rows, broken)) = words.rows(&reached.answer) else {
                        let (reason, status) = (ReasonCode::UpstreamInvalid, reached.status);
                        let failed = bartizan_retrieve::Failed { reason, status, running: reached.running };
                        return Err(stopped(failed, id, &receipt));
                    };
                    (rows, broken, reached.running, reached.status)
                }
            };
            collected.push(Collected {
                collection,
                obligations,
                scrub,
                going,
                rows,
                broken,
                running,
                status,
            });
        }
        let Some(marks) = marks else { return Err(self.refuse_early(caller, None, nothing()).await) };
        self.give(&scene, collected, k as usize, marks).await.map_err(|stop| *stop)
    }

    /// The collections to be searched: those named, or all of the corpus that the caller may search. Whether a name is none, or none of
    /// this corpus, is told like a refusal.
    async fn collections(
        &self,
        scene: &Scene<'_>,
        named: std::collections::BTreeSet<Name>,
    ) -> Result<Vec<Name>, Stop> {
        if !named.is_empty() {
            if named.iter().any(|name| scene.collection(name).is_none()) {
                return Err(self.refuse_early(scene.caller, None, nothing()).await);
            }
            return Ok(named.into_iter().collect());
        }
        let question = RowsQuestion {
            caller: scene.caller,
            action: Action::CollectionRetrieve,
            rows: "Collection",
            facts: &scene.facts,
            situation: &scene.situation,
            applied: &Obligations::none(),
        };
        let policy = scene.tenant.policy_for(scene.caller);
        let all = scene.world.state.of_kind(scene.caller.tenant(), "collection");
        let may = |name: &&Name| {
            let resource = EntityRef::new(Name::literal("Collection"), (*name).clone());
            scene.collection(name).is_some() && policy.would_permit(&question, &resource, &DOOR)
        };
        Ok(all.map(|(_, document, _)| &document.name).filter(may).take(COLLECTIONS_MAX).cloned().collect())
    }

    /// What the store is asked; none where no row can match. The policy is part of the question, beside tenant, collection, freshness
    /// and the caller's own filter. What of it cannot be asked is decided on row by row, up to a bound, and never left out.
    fn plan(
        &self,
        scene: &Scene<'_>,
        words: &(dyn Grammar + Send + Sync),
        collection: &Name,
        applied: &Obligations,
        asked: &Asked<'_>,
    ) -> Result<Option<Step>, Problem> {
        let question = RowsQuestion {
            caller: scene.caller,
            action: Action::DocumentRead,
            rows: "Document",
            facts: &scene.facts,
            situation: &scene.situation,
            applied,
        };
        let policy = scene.tenant.policy_for(scene.caller);
        let oldest = oldest_ms(scene.situation.now, scene.route);
        let around = [place(scene.caller.tenant(), collection, oldest), asked.filter.clone()];
        let bound = NonZeroUsize::new(scene.route.check_max as usize).unwrap_or(NonZeroUsize::MIN);
        let search =
            |filter: &Filter, limit: u32| words.search(&Search { filter, vector: asked.vector, limit });
        // A few more than asked for, since a row can fail the second look.
        let limit = asked.k.saturating_add(asked.k.max(8));
        let plan = match policy.filter(&question, &DOOR) {
            Ok(filter) => {
                let all = Tree::all(around.iter().cloned().chain([filter]));
                Plan::new(search(&all, limit), bound)
            }
            Err(error) => Plan::without(&error, bound),
        };
        match plan {
            Plan::Never => Ok(None),
            Plan::Filter { query, .. } => Ok(Some(query)),
            Plan::CheckEach { because, .. } => {
                tracing::debug!(?because, corpus = %scene.corpus, "rows are decided on one by one");
                let compiled = search(&Tree::all(around), scene.route.check_max);
                match compiled {
                    Ok(bartizan_filter::Pushdown::Never) => Ok(None),
                    Ok(bartizan_filter::Pushdown::Query { query, .. }) => Ok(Some(query)),
                    Err(Refused { .. }) => Err(malformed("`where` cannot be asked of this corpus")),
                }
            }
        }
    }

    /// Looks at every row again, by what is in force now, and gives the nearest of those that pass.
    async fn give(
        &self,
        scene: &Scene<'_>,
        collected: Vec<Collected>,
        k: usize,
        marks: Marks,
    ) -> Result<Found, Box<Stop>> {
        let ended = || {
            let problem = Problem::new(ReasonCode::StreamEnded).of(marks.0);
            Box::new(Stop { problem, receipt: Some(marks.1.clone()) })
        };
        let world = self.parts.keeper.current().map_err(|reason| Box::new(Stop::from(reason)))?;
        let caller = self.verify_again(&world, scene.caller).ok_or_else(ended)?;
        if collected.iter().any(|one| one.going.is_locked(self, &world, &caller)) {
            return Err(ended());
        }
        let policy = world.tenants.get(caller.tenant()).ok_or_else(ended)?.policy_for(&caller);
        let situation = bartizan_model::Situation { now: self.parts.clock.now(), ..scene.situation.clone() };
        let seals = Seals::new(&self.retrieval.key, caller.tenant(), &scene.corpus);
        let now_ms = situation.now.as_micros() / 1_000;
        let mut passed = Vec::new();
        for (place, one) in collected.iter().enumerate() {
            let recheck = Recheck {
                world: &world,
                policy,
                caller: &caller,
                situation: &situation,
                facts: &scene.facts,
                applied: &one.obligations,
                door: &DOOR,
                seals: scene.route.signed.then_some(&seals),
                collection: &one.collection,
                told_ms: (oldest_ms(situation.now, scene.route), now_ms),
            };
            passed.extend(one.rows.iter().filter_map(|row| Some((place, row, recheck.passes(row)?))));
        }
        let dropped: Vec<u64> = collected
            .iter()
            .enumerate()
            .map(|(n, one)| {
                let kept = passed.iter().filter(|(place, ..)| *place == n).count();
                one.broken.saturating_add(one.rows.len().saturating_sub(kept) as u64)
            })
            .collect();
        passed.sort_by(|(_, a, _), (_, b, _)| nearer(scene.route, a.score, b.score));
        passed.truncate(k);
        let label = passed.iter().fold(Label::bottom(), |all, (_, _, label)| all.join(label));
        if let Some(one) = collected.first()
            && let Err(reason) = self.entered(&one.running, &scene.session, &label).await
        {
            for one in collected {
                let end = End::Failed { reason: reason.clone() };
                one.running.finish(Ended { status: one.status, ..Ended::new(end) });
            }
            let problem = Problem::new(reason).of(marks.0);
            return Err(Box::new(Stop { problem, receipt: Some(marks.1) }));
        }
        let mut redacted = vec![0; collected.len()];
        let mut told = Vec::new();
        for (place, row, _) in &passed {
            let Some(one) = collected.get(*place) else { continue };
            let (value, count) = shown(row, scene.route, &one.scrub);
            if let Some(all) = redacted.get_mut(*place) {
                *all += count;
            }
            told.push(value);
        }
        let given: Vec<Given> = dropped
            .iter()
            .enumerate()
            .map(|(n, dropped)| {
                let of = passed.iter().filter(|(place, ..)| *place == n);
                Given::of(of.map(|(_, row, _)| &row.access.id), *dropped)
            })
            .collect();
        let body = json!({ "passages": told });
        let bytes = body.to_string().len() as u64;
        for ((one, given), redacted) in collected.into_iter().zip(given).zip(redacted) {
            let ended = Ended { status: one.status, bytes, redacted, given: Some(given), ..Ended::default() };
            one.running.finish(ended);
        }
        Ok(Found { body, label, marks, fields: scene.fields() })
    }
}

/// What is asked of one collection.
struct Asked<'a> {
    filter: &'a Filter,
    vector: &'a [f32],
    k: u32,
}

/// The oldest access list that still counts, in milliseconds.
pub(super) fn oldest_ms(now: bartizan_base::Timestamp, route: &CorpusRouteSpec) -> u64 {
    let age = Duration::from_secs(route.access_age_max_s).as_millis();
    (now.as_micros() / 1_000).saturating_sub(u64::try_from(age).unwrap_or(u64::MAX))
}

/// A step that failed, told and recorded.
pub(super) fn stopped(failed: bartizan_retrieve::Failed, id: DecisionId, receipt: &Receipt) -> Stop {
    let reason = failed.reason;
    failed
        .running
        .finish(Ended { status: failed.status, ..Ended::new(End::Failed { reason: reason.clone() }) });
    Stop { problem: Problem::new(reason).of(id), receipt: Some(receipt.clone()) }
}

/// Which of two is nearer, as the store counts.
fn nearer(route: &CorpusRouteSpec, a: Option<f64>, b: Option<f64>) -> Ordering {
    let less_is_nearer = match &route.store {
        CorpusStore::Pgvector { .. } | CorpusStore::Chroma { .. } => true,
        CorpusStore::Qdrant { .. } => route.metric == Metric::Euclidean,
        CorpusStore::Opensearch { .. } => false,
    };
    match (a, b) {
        (Some(a), Some(b)) if less_is_nearer => a.total_cmp(&b),
        (Some(a), Some(b)) => b.total_cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// A passage as it is told, and how much of it was redacted.
fn shown(row: &Row, route: &CorpusRouteSpec, scrub: &Scrub) -> (Value, u64) {
    let mut count = 0;
    let mut clean = |value: Value| {
        let (value, found) = scrub.value(value, Way::Back);
        count += found;
        value
    };
    let metadata = row.passage.metadata.iter().map(|(name, value)| (name.clone(), clean(value.clone())));
    let metadata: Map<String, Value> = metadata.collect();
    let mut told = json!({
        "document": row.access.id,
        "collection": row.access.collection(),
        "chunk": row.passage.chunk,
        "text": clean(json!(row.passage.text)),
        "metadata": metadata,
    });
    if let Some((members, score)) = told.as_object_mut().zip(row.score).filter(|_| route.scores) {
        members.insert("score".to_owned(), json!(score));
    }
    (told, count)
}
