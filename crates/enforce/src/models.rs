//! The models that a caller may know of, and paths that there are none at.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_base::{Digest, Name};
use bartizan_decide::{Decided, KeptAsk, Refused, Verdict};
use bartizan_limits::Tracks;
use bartizan_model::action::ReadState;
use bartizan_model::directory::Dialect;
use bartizan_model::record::End;
use bartizan_model::{Action, Ask, EntityRef, Problem, ReasonCode, Target};
use http::request::Parts as Head;

use crate::path::{Gate, Stop, ended};
use crate::reply::{self, Reply};

impl Gate {
    /// The models a caller may know of.
    pub async fn list_models(
        self: &Arc<Self>,
        head: &Head,
        one: Option<&str>,
        peer: Option<IpAddr>,
    ) -> Reply {
        let anthropic = head.headers.contains_key("anthropic-version");
        let dialect = if anthropic { Dialect::AnthropicMessages } else { Dialect::OpenAiChat };
        match self.try_list(head, one, peer, anthropic).await {
            Ok(reply) => reply,
            Err(stop) => self.answer_problem(dialect, head.uri.path(), Some(Action::ModelList), &stop),
        }
    }

    async fn try_list(
        &self,
        head: &Head,
        one: Option<&str>,
        peer: Option<IpAddr>,
        anthropic: bool,
    ) -> Result<Reply, Stop> {
        let world = self.parts.keeper.current()?;
        let presented = self.presented(&world, head).await?;
        let caller = self.identify(&world, &presented).await?;
        let situation = self.assess(&caller, peer, &head.headers).await?;
        let tenant = world.tenants.get(caller.tenant());
        let ask = |name: &Name| {
            let facts = bartizan_model::AskFacts { dialect: "list".to_owned(), ..Default::default() };
            let resource = EntityRef::new(Name::literal("Model"), name.clone());
            Ask::<ReadState>::new(self.new_id(), Action::ModelList, resource, facts, Digest::of(b""))
        };
        if let Some(one) = one {
            let name: Name = one.parse().map_err(|_| ReasonCode::ModelNotFound)?;
            let (permit, tenant) =
                self.decide(&world, &caller, ask(&name), &situation, &self.list_door).await?;
            let id = permit.id();
            self.counted(&Tracks::of(&caller.who()), &permit);
            let intent = self.intend(permit, Target::House, None).await?;
            let (receipt, running) = (intent.receipt().clone(), intent.begin());
            if !tenant.models.contains_key(&name) {
                running.finish(ended(End::Failed { reason: ReasonCode::ModelNotFound }));
                return Err(Stop {
                    problem: Problem::new(ReasonCode::ModelNotFound).of(id),
                    receipt: Some(receipt),
                });
            }
            running.finish(ended(End::Done));
            let mut answer = reply::json(200, bartizan_wire::model_body(anthropic, &name));
            reply::mark(answer.headers_mut(), id, Some(&receipt));
            return Ok(answer);
        }
        // A lock on whoever asks; which of the models are locked is no secret.
        if let Some(problem) = self.lock_on(&world, &caller, &EntityRef::system(), &situation, (&[], None)) {
            return Err(self.refuse_early(&caller, None, problem).await);
        }
        // Each model is an ask of its own; what may not be known of is left out. The list as a whole is recorded once, as
        // the last permitted ask, or as a refusal where nothing is permitted.
        let mut names = Vec::new();
        let mut recorded = None;
        let mut refused = None;
        let mut last = None;
        for name in tenant.iter().flat_map(|t| t.models.keys()) {
            let Some(tenant) = tenant else { continue };
            let policy = tenant.policy_for(&caller);
            let verdict = policy.decide(&caller, ask(name), &situation, &self.list_door).verdict;
            // What replay needs of the one that will be recorded: the last of its kind.
            let follows = || {
                let ask = ask(name);
                let door = &self.list_door;
                let kept = KeptAsk::of(&caller, ask.action, &ask.resource, &ask.facts, &situation, door);
                Decided::new(caller.tenant(), &verdict, kept, policy)
            };
            let is_permit = matches!(verdict, Verdict::Permit(_));
            if self.parts.afterwards.wanted(tenant) && (is_permit || recorded.is_none()) {
                last = follows();
            }
            match verdict {
                Verdict::Permit(permit) => {
                    names.push(name.clone());
                    recorded = Some(permit);
                }
                Verdict::StepUp(r) | Verdict::Justify(r) | Verdict::Hold(r) | Verdict::Deny(r) => {
                    refused = Some(r)
                }
            }
        }
        if let Some((decided, tenant)) = last.zip(tenant) {
            self.parts.afterwards.decided(decided, tenant, &world.state);
        }
        let Some(permit) = recorded else {
            return match refused {
                Some(refused) => Err(self.refuse(Refused { discoverable: true, ..refused }).await),
                None => {
                    Err(self.refuse_early(&caller, None, Problem::new(ReasonCode::NoMatchingPermit)).await)
                }
            };
        };
        let id = permit.id();
        self.counted(&Tracks::of(&caller.who()), &permit);
        let intent = self.intend(permit, Target::House, None).await?;
        let (receipt, running) = (intent.receipt().clone(), intent.begin());
        running.finish(ended(End::Done));
        let mut answer = reply::json(200, bartizan_wire::models_body(anthropic, &names));
        reply::mark(answer.headers_mut(), id, Some(&receipt));
        Ok(answer)
    }

    /// The answer to a path there is nothing at: only for those who are known, so that paths cannot be probed for.
    pub async fn no_such_path(&self, head: &Head, reason: ReasonCode) -> Reply {
        let stop = match self.try_nothing(head, reason).await {
            Ok(stop) | Err(stop) => stop,
        };
        self.answer_problem(Dialect::OpenAiChat, head.uri.path(), None, &stop)
    }

    async fn try_nothing(&self, head: &Head, reason: ReasonCode) -> Result<Stop, Stop> {
        let world = self.parts.keeper.current()?;
        let presented = self.presented(&world, head).await?;
        let caller = self.identify(&world, &presented).await?;
        Ok(self.refuse_early(&caller, None, Problem::new(reason)).await)
    }

    // --- identify ------------------------------------------------------------------------------------------------
}
