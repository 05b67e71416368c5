//! The mesh: a proxy asks whether a request may go to the service behind it.
//!
//! The proxy is believed what it has seen itself: the line of the request, where it came from, and, if it is configured so,
//! which certificate its client holds the key of. Who is asking is never the proxy's to say: the credential of its client is
//! verified here, as at every other door.

mod line;
mod routes;

use std::net::IpAddr;

use bartizan_base::{Digest, Name, json};
use bartizan_identify::{Caller, Place, Presented, WorkloadCertificate};
use bartizan_jose::X5t;
use bartizan_model::action::ReadState;
use bartizan_model::record::{End, VerdictKind};
use bartizan_model::{
    Action, Ask, AskFacts, DecisionId, EntityRef, Label, Principal, Problem, ReasonCode, Target, Tenant,
};
use bartizan_record::{Ended, Receipt};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::admit::Step;
use crate::path::{Gate, Stop};
use crate::reply;
use crate::scrub::PASSING;
use crate::world::World;
use line::{Line, Unclear};

/// What the headers that we set for services begin with. A caller's own are never passed on.
pub const OWN_HEADERS: &str = "x-bartizan-";
/// The header in which the credential of a mutual TLS connection is told on by proxies.
const CLIENT_CERTIFICATE: &str = "x-forwarded-client-cert";

/// A request that a proxy asks about, as the proxy has seen it.
#[derive(Debug)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// `https` or `http`; none where the proxy does not say, which counts as `https`.
    pub scheme: Option<String>,
    /// The host that it routes by, with its port if there was one.
    pub authority: String,
    /// Path and query, as the client wrote them.
    pub target: String,
    /// The headers of the client.
    pub headers: HeaderMap,
    /// The body.
    pub content: Content,
    /// Where the client is.
    pub network: Option<IpAddr>,
    /// The certificates that the client has shown in its handshake with the proxy, its own first. Only of a proxy that is
    /// configured to be believed about that.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The one route that the proxy's configuration wants to be decided by.
    pub route: Option<String>,
}

/// What is seen of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: the proxy does not show it.
    Unseen,
    /// All of it. JSON is read strictly.
    Whole(Bytes),
}

/// What the proxy is told.
#[derive(Debug)]
pub enum Checked {
    /// The request may go on, changed as said.
    Permitted(Box<Permitted>),
    /// It ends here, with this answer to the client.
    Refused(Box<Refusal>),
}

/// A request that may go on. Made only of an intent that is durable in the ledger.
#[derive(Debug)]
pub struct Permitted {
    /// The decision.
    pub decision: DecisionId,
    /// Its receipt.
    pub receipt: Receipt,
    /// In which tenant.
    pub tenant: Tenant,
    /// Who asks.
    pub subject: Principal,
    /// Who acts for them, the nearest first.
    pub actors: Vec<Principal>,
    /// The origin of the service: scheme, host and port.
    pub origin: String,
    /// The label of what the service gives.
    pub label: Label,
    /// Headers of the client that the service must not see.
    pub remove: Vec<String>,
}

/// An answer to the client.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub reason: ReasonCode,
    /// The status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body: why, and what would help, as JSON.
    pub body: Bytes,
}

impl Gate {
    /// Decides about a request that a proxy asks about.
    pub async fn check_mesh(&self, asked: Asked) -> Checked {
        match self.try_check(&asked).await {
            Ok(permitted) => Checked::Permitted(Box::new(permitted)),
            Err((stop, action)) => Checked::Refused(Box::new(self.refusal(&stop, action))),
        }
    }

    async fn try_check(&self, asked: &Asked) -> Result<Permitted, (Stop, Option<Action>)> {
        let early = |stop| (stop, None);
        let world = self.parts.keeper.current().map_err(|reason| early(Stop::from(reason)))?;
        let line = Line::read(&asked.method, &asked.authority, &asked.target, &asked.headers);
        let presented = self.shown(&world, asked, line.as_ref().ok()).await.map_err(early)?;
        let caller = self.identify(&world, &presented).await.map_err(early)?;
        let line =
            line.map_err(|unclear: Unclear| Problem::with_detail(ReasonCode::RequestLineRefused, unclear));
        let line = self.or_refuse(&caller, None, line).await.map_err(early)?;
        let declared = world.tenants.get(caller.tenant()).map(|tenant| tenant.mesh_routes.clone());
        let declared = declared.unwrap_or_default();
        let found = routes::find(&declared, &line, asked.route.as_deref());
        let found = self.or_refuse(&caller, None, found).await.map_err(early)?;
        let action = found.route.action;
        let decided = self.decide_mesh(&world, &caller, asked, &line, &found).await;
        let (decision, receipt, label) = decided.map_err(|stop| (stop, Some(action)))?;
        Ok(Permitted {
            decision,
            receipt,
            tenant: caller.tenant().clone(),
            subject: caller.subject().principal.clone(),
            actors: caller.actors().iter().map(|member| member.principal.clone()).collect(),
            origin: origin(asked, &line.authority),
            label,
            remove: removed(&asked.headers, found.route.pass_credentials),
        })
    }

    async fn decide_mesh(
        &self,
        world: &World,
        caller: &Caller,
        asked: &Asked,
        line: &Line,
        found: &routes::Found<'_>,
    ) -> Result<(DecisionId, Receipt, Label), Stop> {
        let content = facts(asked, self.parts.bounds.body);
        let (facts, body) = self.or_refuse(caller, None, content).await?;
        let (situation, session) = self.assessed(caller, asked.network, &asked.headers).await?;
        let id = self.new_id();
        let ask = Ask::<ReadState>::new(id, found.route.action, found.resource.clone(), facts, body);
        let (permit, tenant) = self.decide(world, caller, ask, &situation, &PASSING).await?;
        let method = line.method.as_bytes();
        let wanted = asked.target.as_bytes();
        let same = Digest::of_parts(&[method, line.authority.as_bytes(), wanted, body.as_bytes()]);
        let run = session.run();
        // The proxy does not say when the request has ended.
        let step = Step { world, caller, situation: &situation, run, beside: &[], same, ends: false };
        self.admit(&permit, &step).await?.settle(None);
        self.counted(&session.tracks(caller), &permit);
        // The permit is for this request and no other.
        let answer = json!({
            "decision": id, "route": found.name, "method": line.method, "authority": line.authority,
            "target": Digest::of(asked.target.as_bytes()), "body": body
        });
        let target = Target::Answer {
            asked: 1,
            permitted: 1,
            body: Digest::of(&json::canonical(&answer).unwrap_or_default()),
            policy: tenant.policy.bundle().map_or(Digest::EMPTY, |bundle| bundle.digest()),
        };
        let label = label_of(world, caller.tenant(), &found.resource);
        // What the service answers goes past us, so it counts as having entered before the request goes on.
        let intent = self.intend_labelled(permit, target, None, &session, &label).await?;
        let (receipt, running) = (intent.receipt().clone(), intent.begin());
        self.parts.metrics.asked(Some(found.route.action), VerdictKind::Permit, None);
        running.finish(Ended::new(End::Done));
        Ok((id, receipt, label))
    }

    /// What the client presents, at a place that is the service's own where a route names its host outright.
    async fn shown(&self, world: &World, asked: &Asked, line: Option<&Line>) -> Result<Presented, Stop> {
        let service = line.filter(|line| serves(world, &line.host));
        let resources = || {
            let own = service.map(|line| origin(asked, &line.authority));
            own.into_iter().chain([self.parts.published.base.clone()]).collect::<Vec<_>>()
        };
        let place = || Place {
            resources: resources(),
            method: asked.method.clone(),
            uri: line.map_or_else(String::new, |l| format!("{}{}", origin(asked, &l.authority), l.path)),
            certificate: asked.certificates.first().map(|der| X5t::of_certificate(der)),
        };
        let values = |name: &'static str| asked.headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
        let presented =
            Presented::at(values(AUTHORIZATION.as_str()), values("x-api-key"), values("dpop"), place);
        match presented {
            Ok(presented) => {
                let workload = WorkloadCertificate::of_connection(&asked.certificates);
                Ok(presented.or_certificate(workload.as_ref(), resources))
            }
            Err(reason) => {
                let nobody = Caller::anonymous(Tenant::default_tenant());
                Err(self.refuse_early(&nobody, None, Problem::new(reason)).await)
            }
        }
    }

    fn refusal(&self, stop: &Stop, action: Option<Action>) -> Refusal {
        let problem = &stop.problem;
        let decision = problem.decision.unwrap_or_else(|| self.new_id());
        let mut headers = HeaderMap::new();
        reply::mark(&mut headers, decision, stop.receipt.as_ref());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.challenge(&mut headers, problem, "/", action);
        let body = json!({"error": {
            "code": problem.reason.code(),
            "message": problem.message(),
            "bartizan": {"reason": problem.reason.code(), "decision": decision, "remedies": problem.offers}
        }});
        Refusal {
            reason: problem.reason.clone(),
            status: problem.reason.status(),
            headers,
            body: body.to_string().into(),
        }
    }
}

/// The label of what a service gives: that of the declared thing which requests to it are on. What nobody declared is restricted and
/// untrusted.
fn label_of(world: &World, tenant: &Tenant, resource: &EntityRef) -> Label {
    let kind = kind_of(resource.kind.as_str());
    let named = resource.name.parse::<Name>().ok();
    let declared = named.as_ref().and_then(|name| world.state.document(tenant, &kind, name));
    let asset = declared.and_then(|(_, document, _)| document.spec.asset());
    asset.map_or_else(Label::default, |(asset, _)| Label {
        confidentiality: asset.confidentiality,
        categories: asset.categories.clone(),
        integrity: asset.integrity,
    })
}

/// The kind under which things of an entity type are declared: `ToolServer` as `tool_server`.
fn kind_of(entity_type: &str) -> String {
    let mut out = String::new();
    for c in entity_type.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Whether some route names this very host: then tokens may be for it.
fn serves(world: &World, host: &str) -> bool {
    let routes = world.tenants.values().flat_map(|tenant| tenant.mesh_routes.values());
    routes.flat_map(|route| &route.hosts).any(|p| p.is_exact() && p.matches(host).is_some())
}

fn origin(asked: &Asked, authority: &str) -> String {
    let scheme = if asked.scheme.as_deref() == Some("http") { "http" } else { "https" };
    format!("{scheme}://{authority}")
}

/// What the client says that the service must not hear: headers that are ours to set, and the credential.
fn removed(headers: &HeaderMap, pass_credentials: bool) -> Vec<String> {
    let credential = |name: &str| {
        matches!(name, "authorization" | "x-api-key" | "dpop" | CLIENT_CERTIFICATE) && !pass_credentials
    };
    let names = headers.keys().map(HeaderName::as_str);
    let out = names.filter(|name| name.replace('_', "-").starts_with(OWN_HEADERS) || credential(name));
    out.map(str::to_owned).collect()
}

/// Facts of the request and the digest of its body.
fn facts(asked: &Asked, limits: json::Limits) -> Result<(AskFacts, Digest), Problem> {
    let mut facts = AskFacts { dialect: "mesh".to_owned(), ..AskFacts::default() };
    let Content::Whole(body) = &asked.content else { return Ok((facts, Digest::EMPTY)) };
    if body.len() > limits.bytes_max {
        let detail = format!("at most {} bytes are taken", limits.bytes_max);
        return Err(Problem::with_detail(ReasonCode::BodyTooLarge, detail));
    }
    facts.bytes = body.len() as u64;
    if !body.is_empty() && is_json(&asked.headers)? {
        if asked.headers.contains_key(CONTENT_ENCODING) {
            return Err(Problem::new(ReasonCode::MediaTypeUnsupported));
        }
        // Two readers of the same bytes must not see two values.
        let value = json::parse(body, limits).map_err(|error| {
            let reason = match error {
                json::JsonError::DuplicateKey(_) => ReasonCode::JsonDuplicateKey,
                json::JsonError::TooDeep(_) | json::JsonError::TooMany(_) => ReasonCode::JsonTooComplex,
                _ => ReasonCode::BodyMalformed,
            };
            Problem::with_detail(reason, error.to_string())
        })?;
        facts.arguments = match value {
            Value::Object(members) => Some(members),
            _ => None,
        };
    }
    Ok((facts, Digest::of(body)))
}

fn is_json(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let one = match (types.next(), types.next()) {
        (None, _) => return Ok(false),
        (Some(one), None) => one,
        (Some(_), Some(_)) => {
            return Err(Problem::with_detail(ReasonCode::HeaderInvalid, "`content-type` stands twice"));
        }
    };
    // Some proxies join what stands twice.
    let text = one.to_str().ok().filter(|text| !text.contains(','));
    let text = text
        .ok_or_else(|| Problem::with_detail(ReasonCode::HeaderInvalid, "`content-type` is not one type"))?;
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Ok(essence == "application/json" || essence.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&str, &str)], body: &str) -> Asked {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        Asked {
            method: "POST".to_owned(),
            scheme: None,
            authority: "shop.example".to_owned(),
            target: "/".to_owned(),
            headers: map,
            content: Content::Whole(Bytes::copy_from_slice(body.as_bytes())),
            network: None,
            certificates: Vec::new(),
            route: None,
        }
    }

    const LIMITS: json::Limits = json::Limits { bytes_max: 100, depth_max: 5, nodes_max: 20 };

    #[test]
    fn lesson_ghsa_4gph_2hhr_5mwg_json_that_two_readers_see_differently_is_refused() {
        let reason =
            |headers: &[(&str, &str)], body: &str| facts(&asked(headers, body), LIMITS).map_err(|p| p.reason);
        let json = [("content-type", "Application/JSON; charset=utf-8")];
        assert_eq!(reason(&json, r#"{"a":1,"a":2}"#).unwrap_err(), ReasonCode::JsonDuplicateKey);
        assert_eq!(reason(&json, "[[[[[[1]]]]]]").unwrap_err(), ReasonCode::JsonTooComplex);
        assert_eq!(reason(&json, "{").unwrap_err(), ReasonCode::BodyMalformed);
        assert_eq!(reason(&[], &"x".repeat(101)).unwrap_err(), ReasonCode::BodyTooLarge);
        let twice = [("content-type", "text/plain"), ("content-type", "application/json")];
        assert_eq!(reason(&twice, "{}").unwrap_err(), ReasonCode::HeaderInvalid);
        let joined = [("content-type", "text/plain,application/json")];
        assert_eq!(reason(&joined, "{}").unwrap_err(), ReasonCode::HeaderInvalid);
        let packed = [("content-type", "application/json"), ("content-encoding", "gzip")];
        assert_eq!(reason(&packed, "{}").unwrap_err(), ReasonCode::MediaTypeUnsupported);
        let (facts, digest) = reason(&json, r#"{"a":1}"#).unwrap();
        assert_eq!((facts.bytes, digest), (7, Digest::of(br#"{"a":1}"#)));
        assert_eq!(facts.arguments.unwrap().get("a"), Some(&json!(1)));
    }

    #[test]
    fn labels_are_looked_up_under_the_kind_of_every_asset() {
        use bartizan_model::Spec;
        for spec in [
            Spec::ToolServer,
            Spec::Tool,
            Spec::Corpus,
            Spec::Collection,
            Spec::Document,
            Spec::Database,
            Spec::Table,
            Spec::Column,
            Spec::Api,
            Spec::Deployment,
            Spec::Artifact,
            Spec::Manifest,
        ] {
            let spec = spec(bartizan_model::asset::AssetSpec::default());
            assert_eq!(kind_of(spec.entity_type()), spec.kind());
        }
    }

    #[test]
    fn headers_of_ours_and_credentials_are_taken_out_however_they_are_written() {
        let headers = asked(
            &[
                ("x-bartizan-identity", "x"),
                ("X_Bartizan_Subject", "root"),
                ("x-bartizan_receipt", "x"),
                ("authorization", "Bearer x"),
                ("x-api-key", "x"),
                ("x-forwarded-client-cert", "Hash=x"),
                ("accept", "x"),
            ],
            "",
        )
        .headers;
        let sorted = |pass| {
            let mut out = removed(&headers, pass);
            out.sort();
            out
        };
        assert_eq!(sorted(true), ["x-bartizan-identity", "x-bartizan_receipt", "x_bartizan_subject"]);
        assert_eq!(sorted(false).len(), 6);
        assert!(!sorted(false).contains(&"accept".to_owned()));
    }
}
