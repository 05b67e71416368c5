//! Sending the person at a client to log in more surely, where that is what a refusal wants.
//!
//! A rule with the remedy `step_up` wants a surer login. Where a client can open a link for somebody (elicitation by URL, 2025-11-25;
//! in 2026-07-28 by `input_required`), they are sent to a page of ours, and the call is decided anew, from the beginning, as soon as the
//! very person in whose name it is has proven themselves there ([`StepUps`]). What they prove holds for this call. Clients that cannot
//! are told by the challenge, as before.

use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Digest, Name};
use bartizan_identify::{Answered, Caller, Link, StepUps, Wanted};
use bartizan_model::{AssuranceLevel, Offer, Problem};
use bartizan_wire::mcp::{META_CAPABILITIES, Message, event_of, notification_words, request_words};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, once};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::clients::{Asked, opens_links};
use super::elicit::{Waiting, every_tick};
use super::hear::streamed;
use super::visit::Visit;
use crate::path::{Gate, Stop};
use crate::reply::{self, BrokenOff, Reply};

/// What our question is called among those of servers.
pub(super) const STEP_UP: &str = "bartizan/step-up";
/// For how many ticks a request of revision 2026-07-28 waits for an answer before it is told to come again.
const TICKS: u32 = 40;

/// The login that would do, if that is all there is to it.
fn wanted(problem: &Problem) -> Option<(AssuranceLevel, Option<Duration>)> {
    match problem.offers.as_slice() {
        [Offer::StepUp { level, max_age_s }] => {
            Some((AssuranceLevel::try_from(*level).ok()?, max_age_s.map(Duration::from_secs)))
        }
        _ => None,
    }
}

/// A question that nobody waits for any more is taken back.
struct Open {
    step_ups: Arc<StepUps>,
    link: Link,
    by: Digest,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.step_ups.forget(self.link.id);
    }
}

/// Whether the person at the client has said that they will not.
fn declined(message: &Message) -> bool {
    let answer = message.param("inputResponses").and_then(|all| all.member(STEP_UP));
    let action = answer.and_then(|answer| answer.member("action")).and_then(|action| message.text(action));
    answer.is_some() && action.as_deref() != Some("accept")
}

impl Gate {
    /// Questions to people to prove themselves more surely, for the pages where they answer.
    #[must_use]
    pub fn step_ups(&self) -> Arc<StepUps> {
        self.tools.step_ups.clone()
    }
}

impl Visit {
    /// Who asks for what: in revision 2026-07-28 the same call again is the same, elsewhere each is one of its own.
    fn asked_by(&self) -> Digest {
        let once = if self.revision.is_stateless() { String::new() } else { self.gate.new_id().to_string() };
        let params: Vec<_> = ["name", "uri", "arguments"]
            .iter()
            .map(|name| self.message.param(name).map_or("", |node| self.message.raw(node)))
            .collect();
        let place = self.endpoint.one().map(Name::as_str).unwrap_or_default();
        let words = [self.message.method(), place, &*once].into_iter().chain(params);
        let parts: Vec<Digest> = words.map(|word| Digest::of(word.as_bytes())).collect();
        let head: [&[u8]; 2] = [b"step-up by\0", self.session.as_bytes()];
        let all: Vec<&[u8]> =
            head.into_iter().chain(parts.iter().map(|part| part.as_bytes().as_slice())).collect();
        Digest::of_parts(&all)
    }

    /// Asks for the login that a refusal wants, where that can be done. None where it is to be refused, or asked for something else.
    pub(super) fn asks_for_login(self: &Arc<Self>, stop: &Stop) -> Option<Reply> {
        let (level, max_age) = wanted(&stop.problem).filter(|_| !self.caller.is_lifted())?;
        let issuer = self.gate.parts.published.issuer.clone()?;
        let client = self.client.clone().filter(|_| !self.revision.is_stateless());
        let can = match &client {
            Some(client) => client.opens_links(),
            None => {
                let can = self.message.meta(META_CAPABILITIES).and_then(|can| can.member("elicitation"));
                let can = can.and_then(|can| serde_json::from_str::<Value>(self.message.raw(can)).ok());
                self.revision.is_stateless() && can.as_ref().is_some_and(opens_links)
            }
        };
        if !can || declined(&self.message) {
            return None;
        }
        let what = self.message.param_text("name").or_else(|| self.message.param_text("uri"));
        let what: String = what.unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
        let place = self.endpoint.one().map(|one| format!("{one}: ")).unwrap_or_default();
        let wanted =
            Wanted { level, max_age, what: format!("{place}{what}"), decision: stop.problem.decision };
        let (by, now) = (self.asked_by(), self.gate.parts.clock.now());
        let step_ups = self.gate.step_ups();
        let random = &*self.gate.parts.random;
        let link = step_ups.ask(&self.caller, by, wanted, (&self.world.directory, now), random)?;
        let url = format!("{}/step-up/{}", issuer.trim_end_matches('/'), link.secret.expose());
        let params = json!({
            "mode": "url", "elicitationId": link.id.to_string(), "url": url,
            "message": format!("`{what}` needs a surer login. Open the link only if you have asked for this yourself."),
        });
        let Some(client) = client else {
            let asked = json!({STEP_UP: {"method": "elicitation/create", "params": params}});
            let state = self.carried(Some(link.id), self.server_state());
            let result = format!(
                "{{\"resultType\":\"input_required\",\"inputRequests\":{asked},\"requestState\":{state}}}"
            );
            let recorded = stop.problem.decision.zip(stop.receipt.as_ref());
            return Some(self.result(&result, recorded));
        };
        let open = Open { step_ups, link, by };
        let id = self.gate.new_id().to_string();
        let (sender, answer) = oneshot::channel();
        if !client.ask(&id, Asked::House(sender)) {
            return None;
        }
        let waiting = Waiting { client, id };
        let members: Vec<_> = ["mode", "elicitationId", "url", "message"]
            .into_iter()
            .filter_map(|name| Some((name, params.get(name)?.to_string())))
            .collect();
        let question = event_of(&request_words(&waiting.id, "elicitation/create", &members));
        let stopped = Stop { problem: stop.problem.clone(), receipt: stop.receipt.clone() };
        let visit = self.clone();
        let rest = once(async move { visit.after_login(waiting, answer, open, stopped).await }).flatten();
        let mut reply = streamed(once(async move { Ok(question) }).chain(rest));
        let decision = stop.problem.decision.unwrap_or_else(|| self.gate.new_id());
        reply::mark(reply.headers_mut(), decision, stop.receipt.as_ref());
        Some(reply)
    }

    /// What follows once the person has logged in, or will not.
    async fn after_login(
        self: Arc<Self>,
        waiting: Waiting,
        answer: oneshot::Receiver<Message>,
        open: Open,
        stop: Stop,
    ) -> BoxStream<'static, Result<Bytes, BrokenOff>> {
        let proven = self.proven(answer, &open).await;
        drop(waiting);
        let id = open.link.id;
        drop(open);
        let Some(caller) = proven else { return self.told(Err(stop)).await };
        let id = json!(id.to_string()).to_string();
        let complete =
            event_of(&notification_words("notifications/elicitation/complete", &[("elicitationId", id)]));
        let rest = self.told(self.again_as(caller).await).await;
        once(async move { Ok(complete) }).chain(rest).boxed()
    }

    /// The caller as surely proven as was wanted, as soon as they are and as long as they may be asked.
    async fn proven(&self, answer: oneshot::Receiver<Message>, open: &Open) -> Option<Caller> {
        let mut every = every_tick();
        let mut answer = Some(answer);
        loop {
            let said = async {
                match &mut answer {
                    Some(answer) => answer.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = said => {
                    answer = None;
                    let message = message.ok()?;
                    let action = message.result().and_then(|result| result.member("action"));
                    if action.and_then(|action| message.text(action)).as_deref() != Some("accept") {
                        return None;
                    }
                }
                _ = every.tick() => match self.login_of(open.link.id, open.by)? {
                    Answered::Waiting => {}
                    Answered::Proven(caller) => return Some(*caller),
                    Answered::Gone => return None,
                }
            }
        }
    }

    /// Keeps the login of this call for its next round, where it was asked for.
    pub(super) fn kept_login(&self) -> Option<Digest> {
        let at = self.gate.parts.clock.now();
        self.gate.tools.step_ups.keep(&self.caller, self.asked_by(), at, &*self.gate.parts.random)
    }

    fn login_of(&self, id: Digest, by: Digest) -> Option<Answered> {
        let world = self.gate.parts.keeper.current().ok()?;
        let caller = self.gate.verify_again(&world, &self.caller)?;
        let now = self.gate.parts.clock.now();
        Some(self.gate.tools.step_ups.answered((id, by), &caller, (&world.directory, now)))
    }

    /// The same ask by a caller who was proven more surely in an earlier round, if this is the round after that.
    pub(super) async fn with_login(self: Arc<Self>) -> Arc<Self> {
        let Some(id) = self.asked_for.filter(|_| self.revision.is_stateless()) else { return self };
        if declined(&self.message) {
            self.gate.tools.step_ups.forget(id);
            return self;
        }
        let by = self.asked_by();
        let mut every = every_tick();
        for _ in 0..TICKS {
            every.tick().await;
            match self.login_of(id, by) {
                Some(Answered::Waiting) => {}
                Some(Answered::Proven(caller)) => {
                    return Arc::new(Self { caller: *caller, ..(*self).clone() });
                }
                Some(Answered::Gone) | None => return self,
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_model::ReasonCode;

    #[test]
    fn nothing_but_a_surer_login_alone_is_asked_for() {
        let problem = |offers: &[Offer]| Problem {
            offers: offers.to_vec(),
            ..Problem::new(ReasonCode::AssuranceTooLow)
        };
        let step_up = Offer::StepUp { level: 3, max_age_s: Some(900) };
        let justify = Offer::Justify { purposes: [].into() };
        let found = wanted(&problem(std::slice::from_ref(&step_up)));
        let level = AssuranceLevel::try_from(3).unwrap();
        assert_eq!(found, Some((level, Some(Duration::from_secs(900)))));
        assert_eq!(wanted(&problem(&[])), None);
        assert_eq!(wanted(&problem(&[justify, step_up])), None);
        assert_eq!(wanted(&problem(&[Offer::StepUp { level: 9, max_age_s: None }])), None);
    }
}
