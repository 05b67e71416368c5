//! Building the event of a record.

use bartizan_base::Timestamp;
use bartizan_model::record::{End, System, VerdictKind, Who};
use bartizan_model::{CredentialKind, EntityRef, ObligationKind, PrincipalKind, ReasonCode};
use serde_json::{Map, Value, json};

use super::{Activity, Class};
use crate::facts::Facts;
use crate::{Placed, Said};

/// The version of the schema.
const SCHEMA: &str = "1.8.0";
const PRODUCT: &str = "Bartizan";

/// The event of a record.
#[must_use]
pub fn event(placed: &Placed) -> Value {
    let facts = Facts::of(placed);
    let activity = Activity::of(placed.said());
    let mut event = Event(Map::new());
    base(&mut event, &facts, activity);
    match activity.class {
        Class::BaseEvent => {}
        Class::Authentication => authentication(&mut event, &facts),
        Class::EntityManagement => entity_management(&mut event, &facts),
        Class::ApplicationLifecycle => lifecycle(&mut event, &facts),
        Class::ApiActivity => api_activity(&mut event, &facts),
        Class::ApplicationError => {}
    }
    let mut profiles = Vec::new();
    if security_control(&mut event, &facts) {
        profiles.push("security_control");
    }
    if activity.class == Class::ApiActivity && ai_operation(&mut event, &facts) {
        profiles.push("ai_operation");
    }
    event.put("metadata", Some(metadata(&facts, &profiles)));
    event.put("unmapped", Some(unmapped(&facts)));
    Value::Object(event.0)
}

/// Members of an event or of an object in it; what is absent is left out.
struct Event(Map<String, Value>);

impl Event {
    fn put(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    /// A value as text.
    fn text(&mut self, name: &str, value: Option<impl ToString>) {
        self.put(name, value.map(|v| v.to_string()));
    }
}

/// What every class has.
fn base(event: &mut Event, facts: &Facts<'_>, activity: Activity) {
    let class = activity.class;
    let (category, category_name) = class.category();
    let (severity, severity_name) = facts.severity.ocsf();
    let (status, status_name) = status(facts);
    let time = facts.time.map_or(0, millis);
    event.put("activity_id", Some(activity.id));
    event.put("activity_name", Some(activity.name));
    event.put("category_name", Some(category_name));
    event.put("category_uid", Some(category));
    event.put("class_name", Some(class.caption()));
    event.put("class_uid", Some(class.uid()));
    event.put("type_name", Some(format!("{}: {}", class.caption(), activity.name)));
    event.put("type_uid", Some(class.uid() * 100 + u32::from(activity.id)));
    event.put("severity", Some(severity_name));
    event.put("severity_id", Some(severity));
    event.put("status", Some(status_name));
    event.put("status_id", Some(status));
    event.text("status_code", facts.reasons.first());
    event.text("status_detail", facts.reasons.first().map(|r| r.meaning().trim()));
    event.put("time", Some(time));
    event.put("timezone_offset", Some(0));
    event.put("message", Some(facts.sentence()));
    event.put("raw_data", Some(facts.placed.text()));
    if let Some(outcome) = facts.outcome {
        let took = outcome.took_us / 1_000;
        event.put("duration", Some(took));
        event.put("start_time", Some(time.saturating_sub(took)));
        event.put("end_time", Some(time));
    }
    if let Some(refusal) = facts.refusal.filter(|r| r.repeated > 0) {
        event.put("count", Some(refusal.repeated.saturating_add(1)));
    }
}

const fn millis(time: Timestamp) -> u64 {
    time.as_micros() / 1_000
}

/// `status_id` and its caption. Of a permitted ask it is not known yet how it will end.
fn status(facts: &Facts<'_>) -> (u8, &'static str) {
    match (facts.refusal, facts.outcome.map(|o| &o.end), facts.event) {
        (Some(_), _, _) | (_, Some(End::Failed { .. }), _) => (2, "Failure"),
        (_, Some(End::Done), _) => (1, "Success"),
        (_, Some(End::Abandoned), _) => (99, "Abandoned"),
        (
            _,
            _,
            Some(
                System::PolicyRejected { .. } | System::DecisionMismatch { .. } | System::Unwitnessed { .. },
            ),
        ) => (2, "Failure"),
        (_, _, Some(System::ReplayChecked { differing: 1.., .. })) => (2, "Failure"),
        (_, _, Some(_)) => (1, "Success"),
        _ => (0, "Unknown"),
    }
}

fn metadata(facts: &Facts<'_>, profiles: &[&str]) -> Value {
    let placed = facts.placed;
    let mut out = Event(Map::new());
    out.put("version", Some(SCHEMA));
    out.put("product", Some(json!({"name": PRODUCT, "vendor_name": PRODUCT})));
    if !profiles.is_empty() {
        out.put("profiles", Some(json!(profiles)));
    }
    out.text("uid", Some(placed.leaf));
    out.put("log_name", Some(&*placed.origin));
    out.put("log_provider", Some(PRODUCT));
    out.text("log_version", facts.record.map(|r| r.v));
    out.put("sequence", Some(placed.index));
    out.put("event_code", Some(facts.kind_name));
    out.text("correlation_uid", facts.decision);
    out.put("tenant_uid", facts.tenant);
    Value::Object(out.0)
}

/// What the schema has no place for. Of what is not understood, everything.
fn unmapped(facts: &Facts<'_>) -> Value {
    let mut out = Event(Map::new());
    out.put("verified_size", Some(facts.placed.verified_size));
    if let Said::Unknown(value) = facts.placed.said() {
        out.put("record", Some(value.clone()));
    }
    out.text("node", facts.record.map(|r| r.node));
    out.put("seq", facts.record.map(|r| r.seq));
    if let Some(who) = facts.who {
        out.put("assurance", Some(who.assurance));
        out.put("actors", some(who.actors.iter().map(ToString::to_string)));
    }
    if let Some(what) = facts.what {
        out.put("bytes_in", Some(what.bytes));
        out.text("body", Some(what.body));
    }
    if let Some(grounds) = facts.grounds {
        out.text("slice", Some(grounds.slice));
        out.text("context", Some(grounds.context));
        out.text("engine", Some(&grounds.engine));
    }
    out.put("obligations", facts.obligations.and_then(|o| some(o.iter().map(ToString::to_string))));
    out.put("reasons", some(facts.reasons.iter().map(ToString::to_string)));
    out.put("offers", some(facts.offers.iter().filter_map(|offer| serde_json::to_value(offer).ok())));
    if let Some(outcome) = facts.outcome {
        out.put("end", facts.end());
        out.put("bytes_out", Some(outcome.bytes));
        out.put("redacted", Some(outcome.redacted));
    }
    Value::Object(out.0)
}

fn some<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> Option<Vec<Value>> {
    let items: Vec<Value> = items.into_iter().map(Into::into).collect();
    (!items.is_empty()).then_some(items)
}

fn api_activity(event: &mut Event, facts: &Facts<'_>) {
    event.put("actor", Some(actor(facts)));
    event.put("src_endpoint", Some(source(facts)));
    let mut api = Event(Map::new());
    api.put("operation", Some(facts.action().map_or(facts.kind_name, |a| a.name())));
    api.put("service", facts.what.map(|w| json!({"name": w.dialect})));
    api.put("request", facts.decision.map(|d| json!({"uid": d.to_string()})));
    api.put("response", response(facts));
    event.put("api", Some(Value::Object(api.0)));
    event.put("resources", facts.what.map(|w| json!([resource(&w.resource)])));
    event.put("dst_endpoint", facts.upstream().map(|name| json!({"svc_name": name})));
}

/// How the API answered: our refusal, or the upstream.
fn response(facts: &Facts<'_>) -> Option<Value> {
    let refused = facts.refusal.and_then(|r| r.reasons.first()).map(ReasonCode::status);
    let status = facts.outcome.and_then(|o| o.status).or(refused);
    let reason = facts.reasons.first();
    if status.is_none() && reason.is_none() {
        return None;
    }
    let mut out = Event(Map::new());
    out.put("code", status);
    out.text("error", reason);
    out.text("error_message", reason.map(|r| r.meaning().trim()));
    Some(Value::Object(out.0))
}

fn resource(resource: &EntityRef) -> Value {
    json!({"name": resource.name.as_str(), "type": resource.kind.as_str(), "uid": resource.to_string()})
}

/// Who asked; for what the house says itself, the process that says it.
fn actor(facts: &Facts<'_>) -> Value {
    let mut out = Event(Map::new());
    match facts.who {
        Some(who) => {
            out.put("user", Some(user(who)));
            out.put("idp", who.issuer.as_ref().map(|i| json!({"name": i.as_str()})));
            // Of a chain the one that stands nearest to us; all of it is in `unmapped`.
            out.text("app_uid", who.actors.last());
        }
        None => {
            out.put("app_name", Some(PRODUCT));
            out.text("app_uid", facts.record.map(|r| r.node));
        }
    }
    Value::Object(out.0)
}

fn user(who: &Who) -> Value {
    let (type_id, kind) = match who.subject_kind {
        PrincipalKind::Anonymous => (0, "Unknown"),
        PrincipalKind::User => (1, "User"),
        PrincipalKind::Agent => (99, "Agent"),
        PrincipalKind::Workload => (4, "Service"),
    };
    let mut out = Event(Map::new());
    out.text("uid", Some(who.subject));
    out.put("type", Some(kind));
    out.put("type_id", Some(type_id));
    out.put(
        "programmatic_credentials",
        who.key.map(|key| json!([{"uid": key.to_string(), "type": "API key"}])),
    );
    Value::Object(out.0)
}

/// Where it came from, as far as a record tells: the pseudonym of the one nearest to us.
fn source(facts: &Facts<'_>) -> Value {
    match (facts.who, facts.record) {
        (Some(who), _) => json!({"uid": who.actors.last().unwrap_or(&who.subject).to_string()}),
        (None, Some(record)) => json!({"uid": record.node.to_string(), "svc_name": PRODUCT}),
        (None, None) => json!({"svc_name": PRODUCT}),
    }
}

fn authentication(event: &mut Event, facts: &Facts<'_>) {
    event.put("user", facts.who.map(user));
    event.put("service", Some(json!({"name": PRODUCT})));
    event.put("src_endpoint", Some(source(facts)));
    event.put("is_remote", Some(true));
    let (protocol, name) = match facts.who.map(|w| w.credential) {
        None | Some(CredentialKind::None) => (0, "Unknown"),
        Some(CredentialKind::AccessToken) => (6, "OAUTH 2.0"),
        Some(CredentialKind::ApiKey) => (99, "API key"),
        Some(CredentialKind::Claim) => (99, "Claim"),
        Some(CredentialKind::Recovery) => (99, "Recovery keys"),
        Some(CredentialKind::Login) => (99, "Authenticator"),
        Some(CredentialKind::Session) => (99, "Session"),
        Some(CredentialKind::Client) => (99, "Client credential"),
        Some(CredentialKind::Certificate) => (99, "Certificate"),
        Some(CredentialKind::Event) => (99, "Security event"),
        Some(CredentialKind::House) => (99, "The house itself"),
    };
    event.put("auth_protocol", Some(name));
    event.put("auth_protocol_id", Some(protocol));
}

/// What was changed: the record names the house as the resource, the action which part of it.
fn entity_management(event: &mut Event, facts: &Facts<'_>) {
    let house = EntityRef::system();
    let resource = facts.what.map_or(&house, |w| &w.resource);
    let (type_id, kind) = match facts.action().and_then(|a| a.name().split(':').next()).unwrap_or("house") {
        "policy" => (5, "Policy"),
        noun => (99, noun),
    };
    let mut entity = Event(Map::new());
    entity.put("name", Some(resource.name.as_str()));
    entity.put("type", Some(kind));
    entity.put("type_id", Some(type_id));
    entity.text("uid", Some(resource));
    event.put("entity", Some(Value::Object(entity.0)));
    event.put("actor", Some(actor(facts)));
    event.put("src_endpoint", Some(source(facts)));
}

fn lifecycle(event: &mut Event, facts: &Facts<'_>) {
    let mut app = Event(Map::new());
    app.put("name", Some(PRODUCT));
    app.put("vendor_name", Some(PRODUCT));
    app.text("uid", facts.record.map(|r| r.node));
    if let Some(System::Started { version }) = facts.event {
        app.put("version", Some(version.as_str()));
    }
    event.put("app", Some(Value::Object(app.0)));
}

/// The profile of what was decided; says whether it applies.
fn security_control(event: &mut Event, facts: &Facts<'_>) -> bool {
    let cut_off = facts.outcome.is_some() && facts.reasons.first() == Some(&ReasonCode::StreamEnded);
    let (action, disposition) = match facts.verdict {
        Some(VerdictKind::Permit) if changes_content(facts) => ((4, "Modified"), (1, "Allowed")),
        Some(VerdictKind::Permit) => ((1, "Allowed"), (1, "Allowed")),
        Some(VerdictKind::StepUp | VerdictKind::Justify) => ((2, "Denied"), (23, "Challenge")),
        Some(VerdictKind::Hold) => ((2, "Denied"), (14, "Delayed")),
        Some(VerdictKind::Deny) => ((2, "Denied"), (2, "Blocked")),
        None if cut_off => ((2, "Denied"), (24, "Access Revoked")),
        None => return false,
    };
    event.put("action_id", Some(action.0));
    event.put("action", Some(action.1));
    event.put("disposition_id", Some(disposition.0));
    event.put("disposition", Some(disposition.1));
    if let Some(grounds) = facts.grounds {
        let policy = grounds.policy.to_string();
        let decision = facts.verdict.map_or("deny", VerdictKind::name);
        let rules = grounds.rules.iter();
        event.put(
            "authorizations",
            some(rules.map(
                |rule| json!({"decision": decision, "policy": {"name": rule.as_str(), "uid": rule.as_str()}}),
            )),
        );
        event.put("policy", Some(json!({"name": "policy bundle", "uid": policy})));
    }
    true
}

fn changes_content(facts: &Facts<'_>) -> bool {
    let changing = [
        ObligationKind::Cap,
        ObligationKind::Redact,
        ObligationKind::StripTools,
        ObligationKind::StripLinks,
        ObligationKind::Hide,
    ];
    facts.obligations.is_some_and(|o| changing.iter().any(|kind| o.contains(*kind)))
}

/// The profile of what was asked of a model; says whether it applies.
fn ai_operation(event: &mut Event, facts: &Facts<'_>) -> bool {
    let model = facts.model().zip(facts.spoken());
    event.put("ai_model", model.map(|(name, (provider, _))| json!({"name": name, "ai_provider": provider})));
    let tokens = facts.outcome.map(|o| (o.input_tokens, o.output_tokens));
    let counted = tokens.filter(|(input, output)| input.is_some() || output.is_some());
    if let Some((input, output)) = counted {
        let mut context = Event(Map::new());
        context.put("service", Some(json!({"name": PRODUCT})));
        context.text("uid", facts.decision);
        context.put("prompt_tokens", input);
        context.put("completion_tokens", output);
        context.put("total_tokens", input.zip(output).map(|(i, o)| i.saturating_add(o)));
        event.put("message_context", Some(Value::Object(context.0)));
    }
    model.is_some() || counted.is_some()
}
