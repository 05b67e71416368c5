//! Texts become vectors by a declared model: a model call of its own, by the same caller, decided and recorded like any other.

use std::sync::PoisonError;

use bartizan_base::{Digest, Name, json};
use bartizan_model::directory::Dialect;
use bartizan_model::record::{End, VerdictKind};
use bartizan_model::{Action, EntityRef, Problem, ReasonCode, Target};
use bartizan_record::{Ended, Running};
use bartizan_upstream::Outbound;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use super::Scene;
use crate::limits::{Demand, Spent};
use crate::path::{Gate, Stop};
use crate::request::{estimate, oblige};
use crate::routing::Route;

/// The most bytes of the vectors of one call.
const VECTORS_MAX: usize = 64 << 20;

impl Gate {
    /// The vectors of `texts`, by the model that the route names.
    pub(super) async fn embed(&self, scene: &Scene<'_>, texts: &[&str]) -> Result<Vec<Vec<f32>>, Stop> {
        let Some(model) = &scene.route.model else {
            let detail = "this corpus is searched and written with a `vector`: it has no model";
            let problem = Problem::with_detail(ReasonCode::BodyMalformed, detail);
            return Err(self.refuse_early(scene.caller, None, problem).await);
        };
        let (caller, dialect) = (scene.caller, Dialect::OpenAiEmbeddings);
        let body = Bytes::from(json!({"model": model, "input": texts}).to_string());
        let request = bartizan_wire::parse_request(dialect, body, self.parts.bounds.body);
        let request = self.or_refuse(caller, None, request).await?;
        let ask = self.model_ask(dialect, &request);
        let id = ask.id;
        // Nothing of it can be kept here, so it is denied where that is demanded.
        let decided = self.decide(scene.world, caller, ask, &scene.situation, &self.list_door).await;
        let (permit, tenant) = decided?;
        // One way alone: another one is another ask.
        let route = self.routes(tenant, &request, dialect, &permit, caller).await?.into_iter().next();
        let route = route.ok_or_else(|| Problem::new(ReasonCode::ModelNotFound));
        let route = self.or_refuse(caller, Some(id), route).await?;
        let Route { upstream, upstream_model, spec, .. } = &route;
        let resource = permit.what().resource.clone();
        let tracks = scene.session.tracks(caller);
        self.counted(&tracks, &permit);
        let demand = Demand {
            resource: &resource,
            upstreams: vec![upstream],
            estimate: estimate(dialect, &request, permit.obligations(), Some(&route)),
            digest: Digest::of_parts(&[resource.to_string().as_bytes(), request.digest().as_bytes()]),
            run: scene.session.run(),
            // Within a step that has a place it takes none of its own.
            ends: scene.reserved.lock().unwrap_or_else(PoisonError::into_inner).is_empty(),
        };
        let locked =
            (&[EntityRef::new(Name::literal("Upstream"), upstream.clone())][..], scene.session.run());
        self.unlocked(scene.world, caller, &permit, &scene.situation, locked).await?;
        let reserved = self.reserve(tenant, caller, &permit, &demand).await?;
        let maskers = self.maskers(tenant, caller.tenant(), permit.obligations());
        let maskers = self.or_refuse(caller, Some(id), maskers).await?;
        let masked = maskers.as_ref().map(|maskers| &maskers.request);
        let limited = (reserved.output_most, masked);
        let obliged = oblige(&request, upstream_model.as_ref(), permit.obligations(), limited);
        let (body, redacted) = self.or_refuse(caller, Some(id), obliged).await?;
        let path = dialect.path().to_owned();
        let target = Target::post(upstream.clone(), path.clone(), Digest::of(&body));
        let intent = self.intend(permit, target, None).await?;
        let receipt = intent.receipt().clone();
        self.parts.metrics.asked(Some(Action::ModelEmbed), VerdictKind::Permit, None);
        let failed = |running: Running, status: Option<u16>, reason: ReasonCode| {
            running.finish(Ended { status, redacted, ..Ended::new(End::Failed { reason: reason.clone() }) });
            Stop { problem: Problem::new(reason).of(id), receipt: Some(receipt.clone()) }
        };
        let sent =
            self.parts.upstreams.send(intent, spec, Outbound::post(path, body, HeaderMap::new())).await;
        let answer = sent.map_err(|e| failed(e.running, None, e.reason))?;
        let (status, running) = (Some(answer.status), answer.running);
        let body = Limited::new(answer.body, VECTORS_MAX).collect().await.map(|body| body.to_bytes());
        let told = body.ok().filter(|_| answer.status == 200).and_then(|body| {
            let limits = json::Limits { bytes_max: VECTORS_MAX, depth_max: 8, nodes_max: 8_000_000 };
            json::parse(&body, limits).ok()
        });
        let dimensions = scene.route.dimensions as usize;
        let read = told.as_ref().and_then(|told| vectors(told, texts.len(), dimensions));
        let Some(vectors) = read else {
            return Err(failed(running, status, ReasonCode::UpstreamInvalid));
        };
        let tokens = told.as_ref().and_then(|told| told.pointer("/usage/prompt_tokens")?.as_u64());
        self.spent(&tracks, tokens.unwrap_or(0));
        let spent = Spent {
            input: tokens,
            cached: 0,
            output: Some(0),
            upstream: Some(upstream.clone()),
            at: reserved.at(),
        };
        reserved.settle(Some(&spent).filter(|spent| spent.input.is_some()));
        running.finish(Ended { status, redacted, input_tokens: tokens, ..Ended::default() });
        Ok(vectors)
    }
}

/// The vectors of an answer, in the order of the texts; none unless there is exactly one for each, of the right length.
fn vectors(told: &Value, texts: usize, dimensions: usize) -> Option<Vec<Vec<f32>>> {
    let data = told.get("data")?.as_array()?;
    let mut out: Vec<Option<Vec<f32>>> = vec![None; texts];
    for one in data {
        let place = usize::try_from(one.get("index")?.as_u64()?).ok()?;
        let numbers: Vec<f32> =
            one.get("embedding")?.as_array()?.iter().map(number).collect::<Option<_>>()?;
        let slot = out.get_mut(place).filter(|slot| slot.is_none())?;
        *slot = Some(numbers).filter(|numbers| is_vector(numbers, dimensions));
    }
    out.into_iter().collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a vector's numbers are single precision in every store")]
fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|number| number as f32)
}

/// Whether a store takes it: of the right length, finite, and not all zero, which has no angle.
pub(super) fn is_vector(vector: &[f32], dimensions: usize) -> bool {
    vector.len() == dimensions && vector.iter().all(|n| n.is_finite()) && vector.iter().any(|n| *n != 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_must_have_exactly_one_vector_for_each_text() {
        let one = |index: u64, of: &[f32]| json!({"index": index, "embedding": of});
        let told = |data: Vec<Value>| vectors(&json!({ "data": data }), 2, 2);
        assert_eq!(
            told(vec![one(1, &[3.0, 4.0]), one(0, &[1.0, 2.0])]),
            Some(vec![vec![1.0, 2.0], vec![3.0, 4.0]])
        );
        assert_eq!(told(vec![one(0, &[1.0, 2.0])]), None, "one is missing");
        assert_eq!(told(vec![one(0, &[1.0, 2.0]), one(0, &[1.0, 2.0])]), None, "one stands twice");
        assert_eq!(told(vec![one(0, &[1.0, 2.0]), one(2, &[1.0, 2.0])]), None, "one too many");
        assert_eq!(told(vec![one(0, &[1.0, 2.0]), one(1, &[1.0])]), None, "too short");
        assert_eq!(told(vec![one(0, &[1.0, 2.0]), one(1, &[0.0, 0.0])]), None, "nowhere");
    }
}
