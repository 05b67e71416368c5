//! Single values out of a content that nobody has read: `POST /handles/extract`.
//!
//! What is asked for is fixed before anything is looked at: which places of the content, and a schema that leaves no room for words.
//! So the content can get a value wrong, and cannot say what is to be done. A rule that permits `handle:extract` says that such a
//! value may be trusted; it stays as confidential as the content. The decision is the record of that: by which rule, for whom, of
//! which source, under which schema.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bartizan_base::{Digest, Name, json};
use bartizan_model::action::ReadState;
use bartizan_model::record::{End, VerdictKind};
use bartizan_model::{Action, Ask, AskFacts, EntityRef, Integrity, Label, Problem, ReasonCode, Target};
use bartizan_record::Ended;
use bartizan_wire::Constrained;
use bytes::Bytes;
use http::Request;
use http_body::Body;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::given::Handed;
use super::store::Content;
use crate::admit::{Going, Step};
use crate::path::{Entering, Gate, Stop};
use crate::reply::{self, Reply};
use crate::scrub::PASSING;

/// Where it is asked for.
pub const PATH: &str = "/handles/extract";
/// How it is done: nothing is guessed, each value stands at a place of its own.
const DIALECT: &str = "extract.pointer";

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The handle.
    handle: String,
    /// What the value must be.
    schema: Value,
    /// Where each field of it stands: JSON pointers (RFC 6901); of a content that is no JSON, "" is all of it.
    from: BTreeMap<String, String>,
}

impl Asked {
    fn read(body: &[u8], limits: json::Limits) -> Result<Self, Problem> {
        json::parse_as(body, limits).map_err(|error| {
            let reason = match error {
                json::JsonError::DuplicateKey(_) => ReasonCode::JsonDuplicateKey,
                json::JsonError::TooDeep(_) | json::JsonError::TooMany(_) => ReasonCode::JsonTooComplex,
                json::JsonError::TooLong(_) => ReasonCode::BodyTooLarge,
                _ => ReasonCode::BodyMalformed,
            };
            Problem::with_detail(reason, error.to_string())
        })
    }

    /// The schema, if it leaves no room for words and each of its fields is said to stand somewhere.
    fn constrained(&self) -> Result<Constrained, Problem> {
        let refused = |detail: String| Problem::with_detail(ReasonCode::ExtractionRefused, detail);
        let schema = Constrained::new(&self.schema).map_err(|error| refused(error.to_string()))?;
        let told: BTreeSet<&str> = self.from.keys().map(String::as_str).collect();
        if told != schema.names().collect() {
            let detail = "`from` says for exactly the fields of the schema where they stand";
            return Err(refused(detail.to_owned()));
        }
        Ok(schema)
    }

    /// The value, if it is what the schema says. Of one that is not, nothing is told.
    fn value(&self, schema: &Constrained, content: &Content) -> Option<Value> {
        let text = content.text.expose();
        let whole = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
        let field = |(name, place): (&String, &String)| Some((name.clone(), whole.pointer(place)?.clone()));
        let value = Value::Object(self.from.iter().map(field).collect::<Option<Map<_, _>>>()?);
        schema.fits(&value).then_some(value)
    }
}

impl Gate {
    /// A value out of a content that is kept here.
    pub async fn extract<B>(&self, request: Request<B>, peer: Option<IpAddr>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match self.try_extract(request, peer).await {
            Ok(reply) => reply,
            Err(stop) => self.problem_reply(PATH, Some(Action::HandleExtract), &stop),
        }
    }

    async fn try_extract<B>(&self, request: Request<B>, peer: Option<IpAddr>) -> Result<Reply, Stop>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Entering { world, caller, head, body } = self.enter(request).await?;
        let body = self.take(&caller, &head, body).await?;
        let asked = self.or_refuse(&caller, None, Asked::read(&body, self.parts.bounds.body)).await?;
        let schema = self.or_refuse(&caller, None, asked.constrained()).await?;
        let (situation, session) = self.assessed(&caller, peer, &head.headers).await?;
        let content = self.content(&world, &caller, (&situation, &session), &asked.handle);
        let content = self.or_refuse(&caller, None, content).await?;
        let facts = AskFacts {
            bytes: body.len() as u64,
            dialect: DIALECT.to_owned(),
            handles: Some(Handed::new(std::slice::from_ref(&content), &session).facts),
            operation: Some(schema.digest().to_string()),
            ..AskFacts::default()
        };
        let id = self.new_id();
        let ask =
            Ask::<ReadState>::new(id, Action::HandleExtract, EntityRef::system(), facts, Digest::of(&body));
        let (permit, _) = self.decide(&world, &caller, ask, &situation, &PASSING).await?;
        let beside = [content.source.clone()];
        let step = Step {
            world: &world,
            caller: &caller,
            situation: &situation,
            run: session.run(),
            beside: &beside,
            same: Digest::of(&body),
            ends: true,
        };
        let reserved = self.admit(&permit, &step).await?;
        let going = Going::new(&step, &permit.what().resource);
        self.counted(&session.tracks(&caller), &permit);
        // The permit is the endorsement: of what the value may steer, and not of who may read it.
        let gives = Label { integrity: Integrity::Trusted, ..content.label.clone() };
        let shape = json::canonical(&(&asked.schema, &asked.from)).unwrap_or_default();
        let committed = Digest::of_parts(&[content.text.expose().as_bytes(), &shape]);
        let target = Target::Direct { name: Name::literal("handles"), body: committed };
        let intent = self.intend_labelled(permit, target, None, &session, &gives).await?;
        let receipt = intent.receipt().clone();
        let running = intent.begin();
        self.parts.metrics.asked(Some(Action::HandleExtract), VerdictKind::Permit, None);
        let value = asked.value(&schema, &content).ok_or(ReasonCode::ExtractionRefused);
        let value = value.and_then(|v| if going.holds(self) { Ok(v) } else { Err(ReasonCode::StreamEnded) });
        let value = match value {
            Ok(value) => value,
            Err(reason) => {
                running.finish(Ended::new(End::Failed { reason: reason.clone() }));
                return Err(Stop { problem: Problem::new(reason).of(id), receipt: Some(receipt) });
            }
        };
        let told = Bytes::from(json!({"value": value, "label": gives}).to_string());
        running.finish(Ended { bytes: told.len() as u64, ..Ended::new(End::Done) });
        let mut reply = reply::json(200, told);
        reply::mark(reply.headers_mut(), id, Some(&receipt));
        reply::label(reply.headers_mut(), &gives);
        reply::tell(reply.headers_mut(), &reserved.fields);
        Ok(reply)
    }
}
