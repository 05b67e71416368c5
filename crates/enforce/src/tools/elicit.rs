//! Asking the person at a client for what would lift a refusal.
//!
//! A rule with the remedy `justify` wants a purpose. Where a client can put a form before somebody, it is asked for there and then
//! (`elicitation/create`; in revision 2026-07-28 by `input_required`), and the call is decided anew, from the beginning, with what
//! was stated: the same as if it had come in the header. Nothing else can be had by a word: for a surer login people are sent to a
//! page of ours ([`super::step_up`]), and an approval is another person's.

use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Digest, Text};
use bartizan_identify::Caller;
use bartizan_model::{Offer, Problem, ReasonCode};
use bartizan_record::Receipt;
use bartizan_wire::Node;
use bartizan_wire::mcp::{META_CAPABILITIES, Message, error_words, event_of, request_words};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, once};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};

use super::clients::{Asked, Client, fills_forms};
use super::hear::streamed;
use super::step_up::STEP_UP;
use super::visit::Visit;
use crate::path::Stop;
use crate::reply::{self, BrokenOff, Reply, ReplyBody};
use crate::world::World;

/// What our question is called among those of servers.
const PURPOSE: &str = "bartizan/purpose";
/// What a state begins with that holds what is ours beside the server's own.
const CARRIED: &str = "bartizan.purpose.";
/// What is ours of what a client answers.
const OURS: [&str; 2] = [PURPOSE, STEP_UP];
/// How long somebody may think about it.
const PATIENCE_TICKS: u32 = 1_500;
/// How often it is looked whether they may still be asked.
const TICK: Duration = Duration::from_millis(400);

/// What was had in an earlier round, and the state that the server wants to see again.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Carried {
    /// A purpose that was stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    /// What a surer login was asked for by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step_up: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

pub(super) fn every_tick() -> Interval {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

/// The purpose that a message of revision 2026-07-28 answers with.
pub(super) fn stated(message: &Message) -> Option<Text<500>> {
    if let Some(answer) = message.param("inputResponses").and_then(|all| all.member(PURPOSE)) {
        return accepted(message, answer);
    }
    text(&carried(message)?.purpose?)
}

/// What a form was answered with.
fn accepted(message: &Message, answer: &Node) -> Option<Text<500>> {
    let action = answer.member("action").and_then(|action| message.text(action))?;
    let purpose = answer.member("content")?.member("purpose")?;
    (action == "accept").then(|| text(&message.text(purpose)?)).flatten()
}

fn text(purpose: &str) -> Option<Text<500>> {
    let purpose = purpose.trim();
    (!purpose.is_empty()).then(|| purpose.parse().ok()).flatten()
}

/// What a surer login was asked for by in an earlier round.
pub(super) fn asked_for_login(message: &Message) -> Option<Digest> {
    carried(message)?.step_up
}

fn carried(message: &Message) -> Option<Carried> {
    let state = message.param_text("requestState")?;
    let bytes = BASE64.decode(state.strip_prefix(CARRIED)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Answers to what a server has asked, and its state, each as JSON: without what was for us.
pub(super) fn passed_on(message: &Message) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if let Some(answers) = message.param("inputResponses") {
        let raw = match answers {
            Node::Object(members, _) if members.iter().any(|(name, _)| OURS.contains(&name.as_str())) => {
                let others = members.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
                let others: Vec<_> =
                    others.map(|(name, answer)| format!("{}:{}", json!(name), message.raw(answer))).collect();
                (!others.is_empty()).then(|| format!("{{{}}}", others.join(",")))
            }
            answers => Some(message.raw(answers).to_owned()),
        };
        out.extend(raw.map(|raw| ("inputResponses", raw)));
    }
    let state = match carried(message) {
        Some(carried) => carried.state.map(|state| json!(state).to_string()),
        None => message.param("requestState").map(|state| message.raw(state).to_owned()),
    };
    out.extend(state.map(|state| ("requestState", state)));
    out
}

/// The state of a server, as JSON, with what is ours beside it, so that it need not be asked for again.
pub(super) fn carry(purpose: Option<&Text<500>>, step_up: Option<Digest>, state: Option<String>) -> String {
    let carried = Carried { purpose: purpose.map(|purpose| purpose.as_str().to_owned()), step_up, state };
    let bytes = serde_json::to_vec(&carried).unwrap_or_default();
    json!(format!("{CARRIED}{}", BASE64.encode(bytes))).to_string()
}

/// The purposes that would do, if that is all there is to it; none of them named where any would.
fn purposes(problem: &Problem) -> Option<Vec<&str>> {
    match problem.offers.as_slice() {
        [Offer::Justify { purposes }] => Some(purposes.iter().map(Text::as_str).collect()),
        _ => None,
    }
}

/// Takes the question back when nobody waits for an answer.
pub(super) struct Waiting {
    pub(super) client: Arc<Client>,
    pub(super) id: String,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.client.answered(&self.id);
    }
}

impl Visit {
    /// What is ours of a state: what was had for this call, to be told again in its next round.
    pub(super) fn carried(&self, step_up: Option<Digest>, state: Option<String>) -> String {
        carry(self.situation.purpose.as_ref().filter(|_| self.elicited), step_up, state)
    }

    /// The state that the server wants to see again.
    pub(super) fn server_state(&self) -> Option<String> {
        match carried(&self.message) {
            Some(carried) => carried.state,
            None => self.message.param_text("requestState").map(std::borrow::Cow::into_owned),
        }
    }

    /// Asks for the login or the purpose that a refusal wants, where that can be done; otherwise it is refused.
    pub(super) async fn elicit(self: &Arc<Self>, stop: Stop) -> Result<Reply, Stop> {
        let asks = matches!(self.message.method(), "tools/call" | "prompts/get" | "resources/read");
        if let Some(asked) = asks.then(|| self.asks_for_login(&stop)).flatten() {
            return Ok(asked);
        }
        let Some(purposes) = purposes(&stop.problem).filter(|_| asks && !self.elicited) else {
            return Err(stop);
        };
        let form = self.form(&purposes);
        if self.revision.is_stateless() {
            let can = self.message.meta(META_CAPABILITIES).and_then(|can| can.member("elicitation"));
            let can = can.and_then(|can| serde_json::from_str::<Value>(self.message.raw(can)).ok());
            if !can.as_ref().is_some_and(fills_forms) {
                return Err(stop);
            }
            let asked = json!({PURPOSE: {"method": "elicitation/create", "params": form}});
            let mut result = format!("{{\"resultType\":\"input_required\",\"inputRequests\":{asked}");
            if let Some(kept) = self.kept_login() {
                result.push_str(&format!(
                    ",\"requestState\":{}",
                    self.carried(Some(kept), self.server_state())
                ));
            }
            result.push('}');
            let recorded = stop.problem.decision.zip(stop.receipt.as_ref());
            return Ok(self.result(&result, recorded));
        }
        let Some(client) = self.client.clone().filter(|client| client.fills_forms()) else {
            return Err(stop);
        };
        let id = self.gate.new_id().to_string();
        let (sender, answer) = oneshot::channel();
        if !client.ask(&id, Asked::House(sender)) {
            return Err(stop);
        }
        let waiting = Waiting { client, id };
        let members: Vec<_> = ["message", "requestedSchema"]
            .into_iter()
            .filter_map(|name| Some((name, form.get(name)?.to_string())))
            .collect();
        let question = event_of(&request_words(&waiting.id, "elicitation/create", &members));
        let (decision, receipt) = (stop.problem.decision, stop.receipt.clone());
        let visit = self.clone();
        let rest = once(async move { visit.after(waiting, answer, stop).await }).flatten();
        let mut reply = streamed(once(async move { Ok(question) }).chain(rest));
        let decision = decision.unwrap_or_else(|| self.gate.new_id());
        reply::mark(reply.headers_mut(), decision, receipt.as_ref());
        Ok(reply)
    }

    /// What is put before a person.
    fn form(&self, purposes: &[&str]) -> Value {
        let what = self.message.param_text("name").or_else(|| self.message.param_text("uri"));
        let what: String = what.unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect();
        let mut purpose = json!({"type": "string", "title": "Purpose", "minLength": 1, "maxLength": 500});
        if let (false, Some(purpose)) = (purposes.is_empty(), purpose.as_object_mut()) {
            purpose.insert("enum".to_owned(), json!(purposes));
        }
        json!({
            "mode": "form", "message": format!("`{what}` is done for a stated purpose only. It is kept with the decision."),
            "requestedSchema": {"type": "object", "properties": {"purpose": purpose}, "required": ["purpose"]},
        })
    }

    /// What follows once somebody has answered.
    async fn after(
        self: Arc<Self>,
        waiting: Waiting,
        answer: oneshot::Receiver<Message>,
        stop: Stop,
    ) -> BoxStream<'static, Result<Bytes, BrokenOff>> {
        let stated = self.answer_of(answer).await;
        drop(waiting);
        let replied = match stated {
            Some(purpose) => self.again(purpose).await,
            None => Err(stop),
        };
        self.told(replied).await
    }

    /// A reply as the rest of a stream that was begun already.
    pub(super) async fn told(
        &self,
        replied: Result<Reply, Stop>,
    ) -> BoxStream<'static, Result<Bytes, BrokenOff>> {
        match replied.map(http::Response::into_body) {
            Ok(ReplyBody::Full(whole)) => {
                let whole = whole.collect().await.map(http_body_util::Collected::to_bytes);
                once(async move { whole.map(|whole| event_of(&whole)).map_err(Into::into) }).boxed()
            }
            Ok(body) => body.into_data_stream().boxed(),
            Err(stop) => {
                let event = event_of(&self.refused(&stop.problem, stop.receipt.as_ref()));
                once(async move { Ok(event) }).boxed()
            }
        }
    }

    fn refused(&self, problem: &Problem, receipt: Option<&Receipt>) -> Bytes {
        let receipt = receipt.map(ToString::to_string);
        error_words(self.message.id(), problem, receipt.as_deref(), &Value::Null)
    }

    /// The purpose that is answered, as long as whoever asked may be asked.
    async fn answer_of(&self, mut answer: oneshot::Receiver<Message>) -> Option<Text<500>> {
        let mut every = every_tick();
        for _ in 0..PATIENCE_TICKS {
            tokio::select! {
                message = &mut answer => {
                    let message = message.ok()?;
                    return message.result().and_then(|result| accepted(&message, result));
                }
                _ = every.tick() => {
                    let world = self.gate.parts.keeper.current().ok()?;
                    self.gate.verify_again(&world, &self.caller)?;
                }
            }
        }
        None
    }

    /// The same ask once more, by what holds now, for `purpose`.
    async fn again(&self, purpose: Text<500>) -> Result<Reply, Stop> {
        let world = self.gate.parts.keeper.current()?;
        let Some(caller) = self.gate.verify_again(&world, &self.caller) else {
            let problem = Problem::new(ReasonCode::CredentialRevoked);
            return Err(self.gate.refuse_early(&self.caller, None, problem).await);
        };
        self.anew(world, caller, Some(purpose)).await
    }

    /// The same ask once more, by what holds now, by a caller who was proven more surely.
    pub(super) async fn again_as(&self, caller: Caller) -> Result<Reply, Stop> {
        let world = self.gate.parts.keeper.current()?;
        self.anew(world, caller, None).await
    }

    async fn anew(
        &self,
        world: Arc<World>,
        caller: Caller,
        purpose: Option<Text<500>>,
    ) -> Result<Reply, Stop> {
        let (mut situation, entered) =
            self.gate.assessed(&caller, self.from.peer, &self.from.headers).await?;
        let elicited = self.elicited || purpose.is_some();
        if elicited {
            situation.purpose = purpose.or_else(|| self.situation.purpose.clone());
        }
        let visit = Self { world, caller, situation, entered, elicited, ..self.clone() };
        // Apart: whoever waits for a person holds none of it meanwhile.
        Box::pin(Arc::new(visit).call()).await
    }
}

#[cfg(test)]
mod tests {
    use bartizan_base::json::Limits;

    use super::*;

    fn message(params: &Value) -> Message {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        Message::read(Bytes::from(body.to_string()), Limits::default()).unwrap()
    }

    #[test]
    fn only_an_accepted_form_states_a_purpose_and_it_does_not_go_to_the_server() {
        let answers = |answer: Value| {
            message(
                &json!({"inputResponses": {PURPOSE: answer, "theirs": {"action": "accept"}}, "requestState": "s"}),
            )
        };
        let good = answers(json!({"action": "accept", "content": {"purpose": " incident 7 "}}));
        assert_eq!(stated(&good).unwrap().as_str(), "incident 7");
        let theirs = ("inputResponses", r#"{"theirs":{"action":"accept"}}"#.to_owned());
        assert_eq!(passed_on(&good), [theirs, ("requestState", "\"s\"".to_owned())]);
        for bad in [
            json!({"action": "decline", "content": {"purpose": "x"}}),
            json!({"action": "cancel"}),
            json!({"action": "accept", "content": {}}),
            json!({"action": "accept", "content": {"purpose": "  "}}),
            json!({"action": "accept", "content": {"purpose": 7}}),
            json!({"action": "accept", "content": {"purpose": "x".repeat(501)}}),
            json!("accept"),
        ] {
            assert_eq!(stated(&answers(bad.clone())), None, "{bad}");
        }
        let ours = message(&json!({"inputResponses": {PURPOSE: {"action": "decline"}}}));
        assert!(passed_on(&ours).is_empty(), "nothing is left for the server");
    }

    #[test]
    fn a_purpose_goes_along_with_the_servers_state_through_its_rounds() {
        for state in [Some("of the server \u{7}".to_owned()), None] {
            let carried = carry(Some(&"why".parse().unwrap()), None, state.clone());
            let carried: String = serde_json::from_str(&carried).unwrap();
            let next = message(&json!({"inputResponses": {"q": {}}, "requestState": carried}));
            assert_eq!(stated(&next).unwrap().as_str(), "why");
            let state = state.map(|state| ("requestState", json!(state).to_string()));
            let expected: Vec<_> =
                [("inputResponses", "{\"q\":{}}".to_owned())].into_iter().chain(state).collect();
            assert_eq!(passed_on(&next), expected);
        }
        for forged in ["bartizan.purpose.", "bartizan.purpose.@@", "bartizan.purpose.e30"] {
            assert_eq!(stated(&message(&json!({"requestState": forged}))), None);
        }
    }

    #[test]
    fn nothing_but_a_purpose_alone_is_asked_for() {
        let justify = Offer::Justify { purposes: ["a", "b"].map(|p| p.parse().unwrap()).into() };
        let step_up = Offer::StepUp { level: 3, max_age_s: None };
        let problem = |offers: &[Offer]| Problem {
            offers: offers.to_vec(),
            ..Problem::new(ReasonCode::JustificationRequired)
        };
        assert_eq!(purposes(&problem(std::slice::from_ref(&justify))), Some(vec!["a", "b"]));
        assert_eq!(purposes(&problem(&[])), None);
        assert_eq!(purposes(&problem(std::slice::from_ref(&step_up))), None);
        assert_eq!(purposes(&problem(&[justify, step_up])), None);
    }
}
