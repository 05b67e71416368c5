//! Answers of models that are given again to exactly the same request. What is saved is the call of the model, nothing else: each
//! ask is decided, limited and recorded by itself, and what comes back enters its session.

mod answers;
mod filling;
mod key;

use std::sync::Arc;
use std::time::Duration;

use bartizan_decide::Permit;
use bartizan_identify::Caller;
use bartizan_model::action::ModelCall;
use bartizan_model::directory::Dialect;
use bartizan_model::record::{End, VerdictKind};
use bartizan_model::{CacheAmong, CacheSpec, EntityRef, ObligationKind, Target};
use bartizan_record::Ended;
use bartizan_wire::ModelRequest;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::Full;

use crate::limits::Spent;
use crate::metrics::Cached;
use crate::path::{Call, Gate, Stop};
use crate::reply::{self, Reply, ReplyBody};
use crate::request::{action_of, forwarded_headers};
use crate::routing;
use crate::session::Session;
use crate::trace::CallTrace;
use crate::world::{TenantWorld, World};

pub use answers::CacheBounds;
pub(crate) use answers::{Answers, Flight};
use answers::{Found, Kept, Wanted};
pub(crate) use filling::Filling;
use key::Key;

/// How an answer came about, as RFC 9211 says it.
const STATUS: &str = "cache-status";
/// How long somebody waits for what somebody else is fetching.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A call for which an answer is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought<'a> {
    pub(crate) revision: u64,
    pub(crate) tenant: &'a TenantWorld,
    pub(crate) caller: &'a Caller,
    pub(crate) session: &'a Session,
    pub(crate) permit: &'a Permit<ModelCall>,
    pub(crate) dialect: Dialect,
    pub(crate) request: &'a ModelRequest,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) output_most: Option<u64>,
}

/// What the cache has to say to a call.
#[derive(Debug)]
pub(crate) enum Looked {
    /// It goes out; what comes back may be kept. With what is told of that.
    Out(Option<Box<Filling>>, Option<String>),
    /// There is an answer, of this age in microseconds.
    There(Arc<Kept>, u64),
    /// Somebody else is fetching it.
    Behind(Flight),
}

/// What whoever asks says about caches (RFC 9111, 5.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    /// `no-store`: neither looked for nor kept.
    Aside,
    /// `max-age`, in microseconds; 0 for `no-cache`.
    Within(u64),
}

fn said(headers: &HeaderMap) -> Said {
    let mut all = Said::Nothing;
    for value in headers.get_all(CACHE_CONTROL) {
        // What cannot be read may be the strictest of all.
        let Ok(value) = value.to_str() else { return Said::Aside };
        for directive in value.split(',').map(str::trim) {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            let within = match name.trim().to_ascii_lowercase().as_str() {
                "no-store" => return Said::Aside,
                "no-cache" => 0,
                "max-age" => {
                    let seconds = argument.trim().trim_matches('"').parse::<u32>().unwrap_or(0);
                    u64::from(seconds).saturating_mul(1_000_000)
                }
                _ => continue,
            };
            all = match all {
                Said::Within(before) => Said::Within(before.min(within)),
                _ => Said::Within(within),
            };
        }
    }
    all
}

/// Why a call has nothing to do with the cache, if it has not.
fn aside(sought: &Sought<'_>) -> Option<&'static str> {
    let facts = sought.request.facts();
    let obligations = sought.permit.obligations();
    if facts.tools > 0 {
        // What a model is given tools for may have effects each time.
        Some("tools")
    } else if !facts.extras.is_empty() {
        Some("extras")
    } else if !sought.request.unknown_members().is_empty() {
        Some("unknown-members")
    } else if obligations.contains(ObligationKind::DoNotKeep) {
        Some("not-to-be-kept")
    } else if obligations.contains(ObligationKind::Keep) {
        // What is kept for the record is under somebody's key and can be erased.
        Some("kept-in-the-vault")
    } else if said(sought.headers) == Said::Aside {
        Some("no-store")
    } else {
        None
    }
}

impl Gate {
    /// Looks for an answer to a permitted call; waits for nobody where it is said so.
    pub(crate) fn given_before(&self, sought: &Sought<'_>, may_wait: bool) -> Looked {
        let model = sought.tenant.models.get(sought.request.model());
        let Some((model, cache)) = model.and_then(|model| Some((model, model.cache?))) else {
            return Looked::Out(None, None);
        };
        let metrics = &self.parts.metrics;
        if let Some(why) = aside(sought) {
            metrics.cached(Cached::Aside, 1);
            let fwd = if why == "no-store" { "request" } else { "bypass" };
            return Looked::Out(None, Some(format!("Bartizan; fwd={fwd}; detail={why}")));
        }
        let label = sought.session.answered();
        let grounds = sought.permit.grounds();
        let key = Key {
            tenant: sought.caller.tenant(),
            session: (cache.among == CacheAmong::Caller).then(|| sought.session.identity()),
            rules: &grounds.rules,
            policy: grounds.policy,
            obligations: sought.permit.obligations(),
            revision: sought.revision,
            label: &label,
            model: sought.request.model(),
            spec: model,
            upstreams: routing::names(model)
                .filter_map(|name| sought.tenant.upstreams.get_key_value(name))
                .collect(),
            headers: forwarded_headers(sought.headers, sought.dialect),
            output_most: sought.output_most,
            request: sought.request.sameness(),
        };
        let Some(key) = key.digest() else { return Looked::Out(None, None) };
        let within_us = match said(sought.headers) {
            Said::Within(within) => Some(within),
            Said::Nothing | Said::Aside => None,
        };
        let (out, told) =
            match self.answers.look(Wanted { key, revision: sought.revision, within_us, may_wait }) {
                Found::Kept(kept) => {
                    let age = self.answers.now_us().saturating_sub(kept.at_us);
                    return Looked::There(kept, age);
                }
                Found::Behind(flight) => {
                    metrics.cached(Cached::Waited, 1);
                    return Looked::Behind(flight);
                }
                Found::Lead(lead) => {
                    let age = u64::from(cache.max_age_s.min(CacheSpec::AGE_MAX_S)).saturating_mul(1_000_000);
                    (Some(Box::new(Filling::new(lead, label, age))), within_us)
                }
                Found::Alone => (None, within_us),
            };
        metrics.cached(Cached::Missed, 1);
        let fwd = if told.is_some() { "request" } else { "miss" };
        Looked::Out(out, Some(format!("Bartizan; fwd={fwd}")))
    }

    /// Gives an answer again: recorded before, entering the session of whoever gets it, at no cost of an upstream.
    pub(crate) async fn give_again(
        &self,
        world: &World,
        call: &mut Call,
        permit: Permit<ModelCall>,
        (kept, age_us): (&Kept, u64),
        trace: &mut CallTrace,
    ) -> Result<Reply, Stop> {
        let id = permit.id();
        let from = [EntityRef::new(bartizan_base::Name::literal("Upstream"), kept.upstream.clone())];
        self.unlocked(world, &call.caller, &permit, &call.situation, (&from, call.run.as_ref())).await?;
        trace.step("record");
        let target = Target::Cached { of: kept.of, body: kept.digest };
        let gives = call.session.answered().join(&kept.label);
        let intent = self.intend_labelled(permit, target, None, &call.session, &gives).await?;
        let (receipt, running) = (intent.receipt().clone(), intent.begin());
        self.parts.metrics.asked(Some(action_of(call.dialect)), VerdictKind::Permit, None);
        self.parts.metrics.cached(Cached::Given, 1);
        let mut fields = Vec::new();
        if let Some(mut reserved) = call.reserved.take() {
            fields = std::mem::take(&mut reserved.fields);
            let nothing = Spent::nothing(reserved.at());
            reserved.settle(Some(&nothing));
        }
        trace.call(call.dialect, call.request.model(), "cache", id);
        trace.ended(&End::Done, Some(200), (None, None));
        running.finish(Ended {
            status: Some(200),
            bytes: kept.body.len() as u64,
            redacted: kept.redacted,
            ..Ended::new(End::Done)
        });
        let left = kept.until_us.saturating_sub(kept.at_us).saturating_sub(age_us) / 1_000_000;
        fields.push((STATUS, format!("Bartizan; hit; ttl={left}")));
        let mut answer = Response::new(ReplyBody::Full(Full::new(kept.body.clone())));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, kept.content_type.clone());
        headers.insert(AGE, HeaderValue::from(age_us / 1_000_000));
        reply::tell(headers, &fields);
        reply::mark(headers, id, Some(&receipt));
        Ok(answer)
    }
}

/// What is told of an answer that was fetched.
pub(crate) fn told(status: Option<String>) -> Option<(&'static str, String)> {
    status.map(|status| (STATUS, status))
}

#[cfg(test)]
mod tests;
