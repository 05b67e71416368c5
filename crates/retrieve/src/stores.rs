//! The way to the stores: for what was recorded, and for nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_base::{Clock, Name, json};
use bartizan_model::action::Retrieval;
use bartizan_model::directory::UpstreamSpec;
use bartizan_model::{CorpusRouteSpec, CorpusStore, ReasonCode, Target};
use bartizan_record::{IntentRecorded, Running};
use bartizan_upstream::{Carries, Outbound, Upstreams};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use crate::connect::Pool;
use crate::step::Step;

/// The most bytes of a store's answer.
const ANSWER_MAX: usize = 32 << 20;

/// The stores of documents.
#[derive(Debug)]
pub struct Stores {
    upstreams: Arc<Upstreams>,
    clock: Arc<dyn Clock>,
    pool: Pool,
}

/// A store's answer.
#[derive(Debug)]
pub struct Reached {
    /// It.
    pub answer: Value,
    /// Its status, where it spoke HTTP.
    pub status: Option<u16>,
    /// The effect, to be told how it ended.
    pub running: Running,
}

/// A store gave nothing.
#[derive(Debug)]
pub struct Failed {
    /// Why, as it may be told.
    pub reason: ReasonCode,
    /// Its status, where it spoke HTTP.
    pub status: Option<u16>,
    /// The effect, to be told how it ended.
    pub running: Running,
}

impl Stores {
    /// Stores that are reached through `upstreams`.
    #[must_use]
    pub fn new(upstreams: Arc<Upstreams>, clock: Arc<dyn Clock>) -> Self {
        Self { upstreams, clock, pool: Pool::default() }
    }

    /// Where a step to the corpus goes, for the record of its intent.
    #[must_use]
    pub fn target(corpus: &Name, route: &CorpusRouteSpec, step: &Step) -> Target {
        match (step, route.store.upstream()) {
            (Step::Http { method, path, .. }, Some(upstream)) => Target::Upstream {
                method: method.to_string().into(),
                upstream: upstream.clone(),
                path: path.clone(),
                body: step.digest(),
            },
            _ => Target::Direct { name: corpus.clone(), body: step.digest() },
        }
    }

    /// Does what the intent was recorded for: this step, at this corpus.
    ///
    /// # Errors
    /// With the running effect, so that its end can be told. What the store says of its troubles goes to the log alone.
    pub async fn run(
        &self,
        intent: IntentRecorded<Retrieval>,
        (corpus, route): (&Name, &CorpusRouteSpec),
        upstreams: &BTreeMap<Name, UpstreamSpec>,
        step: Step,
    ) -> Result<Reached, Failed> {
        let fits = *intent.target() == Self::target(corpus, route, &step);
        match (step, &route.store) {
            (Step::Sql { statements, reads }, CorpusStore::Pgvector { server, .. }) => {
                let in_time = self.clock.now() < intent.expires();
                let password = server.credential.as_ref().map(|name| self.upstreams.password(&intent, name));
                let tenant = intent.tenant().clone();
                let running = intent.begin();
                if !fits || !in_time {
                    tracing::error!(
                        fits,
                        in_time,
                        "a step that is not the recorded one was stopped at the exit"
                    );
                    return Err(Failed { reason: ReasonCode::Internal, status: None, running });
                }
                if let Some(None) = password {
                    return Err(Failed { reason: ReasonCode::UpstreamUnreachable, status: None, running });
                }
                let password = password.flatten();
                let asked = (statements.as_slice(), reads);
                match self.pool.run(&self.upstreams, (&tenant, server), password.as_ref(), asked).await {
                    Ok(answer) => Ok(Reached { answer, status: None, running }),
                    Err(reason) => Err(Failed { reason, status: None, running }),
                }
            }
            (Step::Http { method, path, body, media }, store) => {
                let spec = store.upstream().and_then(|name| upstreams.get(name));
                let Some(spec) = spec.filter(|_| fits) else {
                    return Err(Failed {
                        reason: ReasonCode::Internal,
                        status: None,
                        running: intent.begin(),
                    });
                };
                let mut headers = HeaderMap::new();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
                headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
                let outbound =
                    Outbound { method, path, body, headers, carries: Carries::Own, passed_on: &[] };
                self.over_http(intent, spec, outbound).await
            }
            (Step::Sql { .. }, _) => {
                Err(Failed { reason: ReasonCode::Internal, status: None, running: intent.begin() })
            }
        }
    }

    async fn over_http(
        &self,
        intent: IntentRecorded<Retrieval>,
        spec: &UpstreamSpec,
        outbound: Outbound,
    ) -> Result<Reached, Failed> {
        let sent = self.upstreams.send(intent, spec, outbound).await;
        let answer = sent.map_err(|e| Failed { reason: e.reason, status: None, running: e.running })?;
        let (status, running) = (Some(answer.status), answer.running);
        let body = match Limited::new(answer.body, ANSWER_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                tracing::warn!(%error, "the answer of a store of documents broke off");
                return Err(Failed { reason: ReasonCode::UpstreamTruncated, status, running });
            }
        };
        if !(200..300).contains(&answer.status) {
            let said: String = String::from_utf8_lossy(&body).chars().take(500).collect();
            tracing::warn!(status = answer.status, said, "a store of documents refused");
            return Err(Failed { reason: ReasonCode::UpstreamInvalid, status, running });
        }
        let limits = json::Limits { bytes_max: ANSWER_MAX, depth_max: 32, nodes_max: 4_000_000 };
        match json::parse(&body, limits) {
            Ok(answer) => Ok(Reached { answer, status, running }),
            Err(error) => {
                tracing::warn!(%error, "a store of documents gave no JSON");
                Err(Failed { reason: ReasonCode::UpstreamInvalid, status, running })
            }
        }
    }
}
