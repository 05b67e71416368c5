//! Writing into a corpus: documents, their access lists, and taking them out.
//!
//! Whoever writes must be permitted `document:write` both on what is there and on what will be there, so that nobody takes a
//! document over by calling it public. Each step to the store is an ask with a record of its own, and a document is
//! acknowledged as written or gone only once searches see it so.

use std::net::IpAddr;
use std::sync::PoisonError;

use bartizan_base::{Digest, Name, json as canonical};
use bartizan_decide::Verdict;
use bartizan_filter::Pushdown;
use bartizan_model::action::Retrieval;
use bartizan_model::asset::AssetSpec;
use bartizan_model::record::{End, VerdictKind};
use bartizan_model::{Action, Ask, EntityRef, Label, Obligations, Problem, ReasonCode};
use bartizan_record::Ended;
use bartizan_retrieve::{
    Access, Entry, Failed, Grammar, Passage, Reached, Row, Seals, Step, Stores, at, grammar,
};
use bytes::Bytes;
use http::Request;
use http_body::Body;
use serde_json::{Map, Value, json};

use super::body::{AccessAsked, DocumentAsked, PASSAGES_MAX, malformed, source_time};
use super::embed::is_vector;
use super::recheck::Recheck;
use super::search::{Marks, stopped};
use super::{Scene, answered, declared, hidden, nothing};
use crate::limits::Fields;
use crate::path::{Entering, Gate, Stop};
use crate::reply::Reply;
use crate::scrub::{DOOR, passes};

/// What is to be done to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// `PUT /retrieve/{corpus}/documents/{id}`: it is written, in the place of what was there.
    Document,
    /// `PUT /retrieve/{corpus}/documents/{id}/access`: its access list is.
    Access,
    /// `DELETE /retrieve/{corpus}/documents/{id}?collection=…`: it is taken out.
    Gone,
}

/// A document in its place.
struct Place<'a> {
    scene: &'a Scene<'a>,
    words: &'a (dyn Grammar + Send + Sync),
    seals: &'a Seals<'a>,
    id: &'a Name,
    collection: &'a Name,
}

impl Gate {
    /// Does `what` to the document `id` of a corpus.
    pub async fn write_document<B>(
        &self,
        what: Written,
        (corpus, id): (&str, &str),
        request: Request<B>,
        peer: Option<IpAddr>,
    ) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let path = request.uri().path().to_owned();
        match self.try_write(what, (corpus, id), request, peer).await {
            Ok((body, label, marks, fields)) => answered(&body, &label, &marks, &fields),
            Err(stop) => self.retrieval_problem(&path, Action::DocumentWrite, &stop),
        }
    }

    async fn try_write<B>(
        &self,
        what: Written,
        (corpus, id): (&str, &str),
        request: Request<B>,
        peer: Option<IpAddr>,
    ) -> Result<(Value, Label, Marks, Fields), Stop>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Entering { world, caller, head, body } = self.enter(request).await?;
        let body = match what {
            // Not every program sends a body with it, so nothing of one is looked at.
            Written::Gone => Bytes::new(),
            Written::Document | Written::Access => self.take(&caller, &head, body).await?,
        };
        let (situation, session) = self.assessed(&caller, peer, &head.headers).await?;
        let now = situation.now;
        let scene = self.scene((&world, &caller), corpus, (situation, session, &body)).await?;
        let id = id.parse::<Name>().map_err(|_| {
            malformed("a document's id has 1 to 128 characters out of letters, digits and `. _ - : / @ +`")
        });
        let id = self.or_refuse(&caller, None, id).await?;
        let words = grammar(scene.route).ok_or(ReasonCode::Internal)?;
        let seals = Seals::new(&self.retrieval.key, caller.tenant(), &scene.corpus);
        let limits = self.parts.bounds.body;
        let (body, label, marks) = match what {
            Written::Document => {
                let asked = self.or_refuse(&caller, None, DocumentAsked::read(&body, limits)).await?;
                let synced = source_time(asked.source_time.as_deref(), now);
                let synced = self.or_refuse(&caller, None, synced).await?;
                let collection = asked.collection.clone();
                let place =
                    Place { scene: &scene, words: &*words, seals: &seals, id: &id, collection: &collection };
                self.put(&place, asked, synced).await
            }
            Written::Access => {
                let asked = self.or_refuse(&caller, None, AccessAsked::read(&body, limits)).await?;
                let synced =
                    self.or_refuse(&caller, None, source_time(Some(&asked.source_time), now)).await?;
                let collection = asked.collection.clone();
                let place =
                    Place { scene: &scene, words: &*words, seals: &seals, id: &id, collection: &collection };
                self.put_access(&place, asked, synced).await
            }
            Written::Gone => {
                let query = head.uri.query().and_then(|query| query.strip_prefix("collection="));
                let collection = query.and_then(|name| name.parse::<Name>().ok());
                let collection = collection.ok_or_else(|| malformed("`?collection=` names the collection"));
                let collection = self.or_refuse(&caller, None, collection).await?;
                let place =
                    Place { scene: &scene, words: &*words, seals: &seals, id: &id, collection: &collection };
                self.take_out(&place).await
            }
        }?;
        Ok((body, label, marks, scene.fields()))
    }

    async fn put(
        &self,
        place: &Place<'_>,
        asked: DocumentAsked,
        synced_ms: u64,
    ) -> Result<(Value, Label, Marks), Stop> {
        let scene = place.scene;
        let spec = self.spec_of(place, &asked).await?;
        let there = self.look(place, &spec).await?;
        let (rows, mut marks) = there;
        if rows.iter().any(|row| row.access.synced_ms > synced_ms) {
            return Err(self
                .refuse_early(scene.caller, Some(marks.0), Problem::new(ReasonCode::Conflict))
                .await);
        }
        let entries = self.entries(place, asked).await?;
        let laid = scene.tenant.policy_for(scene.caller).lay(place.id, &spec);
        let above = laid.map(|laid| laid.above().to_vec()).unwrap_or_default();
        let access = Access { id: place.id.clone(), spec, above, synced_ms };
        let own = at(scene.caller.tenant(), place.collection, place.id, None);
        let removed = Self::compiled(place.words.remove(&own))?;
        let added = place.words.add(&access, &entries, place.seals);
        // In one transaction where there are some; else what was there is gone before what comes is there, never both.
        let steps = match (removed, added) {
            (Some(Step::Sql { statements: mut first, .. }), Step::Sql { statements: then, .. }) => {
                first.extend(then);
                vec![Step::Sql { statements: first, reads: false }]
            }
            (removed, added) => removed.filter(|_| !rows.is_empty()).into_iter().chain([added]).collect(),
        };
        for step in steps {
            marks = self.change(place, &access.spec, step).await?;
        }
        let label = Self::label_of(place, &access.spec);
        let body = json!({"document": place.id, "collection": place.collection, "passages": entries.len()});
        Ok((body, label, marks))
    }

    async fn put_access(
        &self,
        place: &Place<'_>,
        asked: AccessAsked,
        synced_ms: u64,
    ) -> Result<(Value, Label, Marks), Stop> {
        let (scene, before) = (place.scene, self.inherited(place).await?);
        let (rows, marks) = self.look(place, &before).await?;
        let Some(row) = rows.first() else {
            return Err(self.refuse_early(scene.caller, Some(marks.0), nothing()).await);
        };
        if rows.iter().any(|row| row.access.synced_ms > synced_ms) {
            return Err(self
                .refuse_early(scene.caller, Some(marks.0), Problem::new(ReasonCode::Conflict))
                .await);
        }
        let AccessAsked { collection: _, source_time: _, status, owner, readers, reader_groups } = asked;
        let spec = AssetSpec { status, owner, readers, reader_groups, ..row.access.spec.clone() };
        let laid = scene.tenant.policy_for(scene.caller).lay(place.id, &spec);
        let above = laid.map(|laid| laid.above().to_vec()).unwrap_or_default();
        let access = Access { id: place.id.clone(), spec, above, synced_ms };
        let own = at(scene.caller.tenant(), place.collection, place.id, Some(synced_ms));
        let keys: Vec<String> = rows.iter().filter_map(|row| row.key.clone()).collect();
        let step = Self::compiled(place.words.rewrite(&own, &keys, &access, place.seals))?;
        let Some(step) = step else { return Err(ReasonCode::Internal.into()) };
        let marks = self.change(place, &access.spec, step).await?;
        let label = Self::label_of(place, &access.spec);
        Ok((json!({"document": place.id, "collection": place.collection}), label, marks))
    }

    async fn take_out(&self, place: &Place<'_>) -> Result<(Value, Label, Marks), Stop> {
        let before = self.inherited(place).await?;
        let (rows, marks) = self.look(place, &before).await?;
        let Some(row) = rows.first() else {
            return Err(self.refuse_early(place.scene.caller, Some(marks.0), nothing()).await);
        };
        let own = at(place.scene.caller.tenant(), place.collection, place.id, None);
        let Some(step) = Self::compiled(place.words.remove(&own))? else {
            return Err(ReasonCode::Internal.into());
        };
        let marks = self.change(place, &row.access.spec, step).await?;
        Ok((json!({"document": place.id, "collection": place.collection}), Label::bottom(), marks))
    }

    /// What is there: rows that this house wrote, each of which the caller may change; or the answer for nothing there. `before` is
    /// what the document is taken for until that is known.
    async fn look(&self, place: &Place<'_>, before: &AssetSpec) -> Result<(Vec<Row>, Marks), Stop> {
        let scene = place.scene;
        let own = at(scene.caller.tenant(), place.collection, place.id, None);
        let most = u32::try_from(PASSAGES_MAX).unwrap_or(u32::MAX).saturating_add(1);
        let Some(step) = Self::compiled(place.words.look(&own, most))? else {
            return Err(ReasonCode::Internal.into());
        };
        let (reached, marks) = self.step(place, before, step).await?;
        let found = place.words.rows(&reached.answer);
        let Some((rows, _)) = found else {
            let Reached { status, running, .. } = reached;
            let failed = Failed { reason: ReasonCode::UpstreamInvalid, status, running };
            return Err(stopped(failed, marks.0, &marks.1));
        };
        // A row that is not ours gives nobody a right and takes none.
        let ours = |row: &Row| !scene.route.signed || row.is_sealed_by(place.seals);
        let rows: Vec<Row> = rows.into_iter().filter(ours).collect();
        let may = |row: &Row| {
            let recheck = Recheck {
                world: scene.world,
                policy: scene.tenant.policy_for(scene.caller),
                caller: scene.caller,
                situation: &scene.situation,
                facts: &scene.facts,
                applied: &Obligations::none(),
                door: &DOOR,
                seals: None,
                collection: place.collection,
                told_ms: (0, u64::MAX),
            };
            recheck.may(Action::DocumentWrite, place.id, &row.access.spec).is_some()
        };
        if !rows.iter().all(may) {
            let end = End::Failed { reason: ReasonCode::NoMatchingPermit };
            reached.running.finish(Ended { status: reached.status, ..Ended::new(end) });
            return Err(self.refuse_early(scene.caller, Some(marks.0), nothing()).await);
        }
        reached.running.finish(Ended { status: reached.status, ..Ended::default() });
        Ok((rows, marks))
    }

    /// A change of the store that must be whole.
    async fn change(&self, place: &Place<'_>, spec: &AssetSpec, step: Step) -> Result<Marks, Stop> {
        let (reached, marks) = self.step(place, spec, step).await?;
        let Reached { answer, status, running } = reached;
        if !place.words.done(&answer) {
            let failed = Failed { reason: ReasonCode::UpstreamInvalid, status, running };
            return Err(stopped(failed, marks.0, &marks.1));
        }
        running.finish(Ended { status, ..Ended::default() });
        Ok(marks)
    }

    /// One step to the store: decided on the document as `spec` says, or as it is declared; recorded; done.
    async fn step(&self, place: &Place<'_>, spec: &AssetSpec, step: Step) -> Result<(Reached, Marks), Stop> {
        let scene = place.scene;
        let resource = EntityRef::new(Name::literal("Document"), place.id.clone());
        let (facts, body) = (scene.facts.clone(), scene.body);
        let ask = Ask::<Retrieval>::new(self.new_id(), Action::DocumentWrite, resource, facts, body);
        let id = ask.id;
        let policy = scene.tenant.policy_for(scene.caller);
        let door = &*DOOR;
        let permit = match policy.lay(place.id, spec) {
            None => {
                let decided = self.decide(scene.world, scene.caller, ask, &scene.situation, door).await;
                decided.map_err(hidden)?.0
            }
            Some(row) => match policy.decide_row(scene.caller, ask, &scene.situation, door, &row).verdict {
                Verdict::Permit(permit) => permit,
                Verdict::StepUp(refused)
                | Verdict::Justify(refused)
                | Verdict::Hold(refused)
                | Verdict::Deny(refused) => return Err(hidden(self.refuse(refused).await)),
            },
        };
        if !passes(permit.obligations()) {
            // What is written cannot be masked afterwards.
            let problem = Problem::new(ReasonCode::ObligationUnsupported);
            return Err(self.refuse_early(scene.caller, Some(id), problem).await);
        }
        let target = Stores::target(&scene.corpus, scene.route, &step);
        // The steps to the store are one act on the document.
        if scene.reserved.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.begun(scene, &permit, scene.body).await?;
        } else {
            let beside = scene.beside();
            let locked = (beside.as_slice(), scene.session.run());
            self.unlocked(scene.world, scene.caller, &permit, &scene.situation, locked).await?;
        }
        self.counted(&scene.session.tracks(scene.caller), &permit);
        let intent = self.intend(permit, target, None).await?;
        let receipt = intent.receipt().clone();
        self.parts.metrics.asked(Some(Action::DocumentWrite), VerdictKind::Permit, None);
        let corpus = (&scene.corpus, scene.route);
        let ran = self.retrieval.stores.run(intent, corpus, &scene.tenant.upstreams, step).await;
        Ok((ran.map_err(|failed| stopped(failed, id, &receipt))?, (id, receipt)))
    }

    /// What a document of the collection is taken for while nothing is known of it: like the collection itself.
    async fn inherited(&self, place: &Place<'_>) -> Result<AssetSpec, Stop> {
        let found = place.scene.collection(place.collection).filter(|_| Self::fits_declared(place));
        let Some(collection) = found else {
            return Err(self.refuse_early(place.scene.caller, None, nothing()).await);
        };
        Ok(AssetSpec {
            status: collection.status,
            within: [place.collection.clone()].into(),
            project: collection.project.clone(),
            environment: collection.environment.clone(),
            sensitivity: collection.sensitivity.clone(),
            confidentiality: collection.confidentiality,
            integrity: collection.integrity,
            categories: collection.categories.clone(),
            ..AssetSpec::default()
        })
    }

    /// A document that is declared is written where it is declared to be.
    fn fits_declared(place: &Place<'_>) -> bool {
        let spec = declared(place.scene.world, place.scene.caller, place.id);
        spec.is_none_or(|spec| spec.within.contains(place.collection))
    }

    /// What policies will know of the document: as it is declared, or as it is said, and for the rest like its collection. Its
    /// passages have no labels of their own.
    async fn spec_of(&self, place: &Place<'_>, asked: &DocumentAsked) -> Result<AssetSpec, Stop> {
        let inherited = self.inherited(place).await?;
        if let Some(spec) = declared(place.scene.world, place.scene.caller, place.id) {
            return Ok(AssetSpec { within: inherited.within, ..spec.clone() });
        }
        let content: Vec<Value> = asked.passages.iter().map(|p| json!([p.text, p.metadata])).collect();
        let content = canonical::canonical(&content).map_err(|_| ReasonCode::Internal)?;
        Ok(AssetSpec {
            confidentiality: asked.confidentiality.unwrap_or(inherited.confidentiality),
            integrity: asked.integrity.unwrap_or(inherited.integrity),
            categories: asked.categories.clone().unwrap_or(inherited.categories),
            sensitivity: asked.sensitivity.clone().unwrap_or(inherited.sensitivity),
            environment: asked.environment.clone().or(inherited.environment),
            project: asked.project.clone().or(inherited.project),
            owner: asked.owner.clone(),
            readers: asked.readers.clone(),
            reader_groups: asked.reader_groups.clone(),
            digest: Some(Digest::of(&content)),
            ..inherited
        })
    }

    fn label_of(place: &Place<'_>, spec: &AssetSpec) -> Label {
        declared(place.scene.world, place.scene.caller, place.id).unwrap_or(spec).label()
    }

    /// The passages with their vectors: those that were sent, or those of the route's model.
    async fn entries(&self, place: &Place<'_>, asked: DocumentAsked) -> Result<Vec<Entry>, Stop> {
        let (scene, dimensions) = (place.scene, place.scene.route.dimensions as usize);
        let made = if asked.passages.iter().any(|passage| passage.vector.is_none()) {
            let texts: Vec<&str> = asked.passages.iter().map(|passage| passage.text.as_str()).collect();
            self.embed(scene, &texts).await?.into_iter().map(Some).collect()
        } else {
            vec![None; asked.passages.len()]
        };
        let mut out = Vec::with_capacity(asked.passages.len());
        for ((chunk, passage), made) in (0..).zip(asked.passages).zip(made) {
            let told: Map<String, Value> = passage.metadata.into_iter().collect();
            let vector = passage.vector.or(made).filter(|vector| is_vector(vector, dimensions));
            let known = bartizan_retrieve::fits_metadata(&told, scene.route);
            let (Some(vector), true) = (vector, known) else {
                let problem =
                    malformed("a passage's `vector` or `metadata` is not as the corpus declares it");
                return Err(self.refuse_early(scene.caller, None, problem).await);
            };
            out.push(Entry { passage: Passage { chunk, text: passage.text, metadata: told }, vector });
        }
        Ok(out)
    }

    /// A step that names nothing but a place; it can always be asked.
    fn compiled(asked: Result<Pushdown<Step>, bartizan_filter::Refused>) -> Result<Option<Step>, ReasonCode> {
        match asked {
            Ok(Pushdown::Never) => Ok(None),
            Ok(Pushdown::Query { query, .. }) => Ok(Some(query)),
            Err(refused) => {
                tracing::error!(because = ?refused.because, "a place in a store could not be named");
                Err(ReasonCode::Internal)
            }
        }
    }
}
