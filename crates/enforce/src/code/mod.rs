//! The door to the sandbox: `POST /code/{runtime}`.
//!
//! What runs code stands in the configuration; what is run comes from the caller, who is decided on with its size, its digest and
//! the files beside it. What comes back steers nothing, whatever the code says of itself, and is as confidential as what the
//! session has seen: the code may have been given all of that.

mod answer;
mod sent;

use std::net::IpAddr;
use std::sync::LazyLock;

use bartizan_base::{Digest, Name};
use bartizan_decide::Door;
use bartizan_model::action::CodeRun;
use bartizan_model::record::{End, VerdictKind};
use bartizan_model::{Action, Ask, AskFacts, EntityRef, ObligationKind, Problem, ReasonCode, Target};
use bartizan_record::Ended;
use bartizan_sandbox::{Answered, Failed, Run, Sandbox};
use bytes::Bytes;
use http::Request;
use http_body::Body;

use crate::admit::{Going, Step};
use crate::path::{Entering, Gate, Stop};
use crate::reply::{self, Reply};

use answer::Shown;
use sent::Sent;

/// What paths of this door begin with.
pub const PREFIX: &str = "/code/";

/// What this door can do for a permit to stand: redact what code gives. It keeps nothing of it.
static DOOR: LazyLock<Door> = LazyLock::new(|| {
    Door::new([ObligationKind::DoNotKeep, ObligationKind::Redact, ObligationKind::Watch].into())
});

impl Gate {
    /// Code for `runtime`, from the bytes of the request to what it gave.
    pub async fn run_code<B>(&self, runtime: &str, request: Request<B>, peer: Option<IpAddr>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let path = request.uri().path().to_owned();
        match self.try_run_code(runtime, request, peer).await {
            Ok(reply) => reply,
            Err(stop) => self.problem_reply(&path, Some(Action::CodeRun), &stop),
        }
    }

    async fn try_run_code<B>(
        &self,
        runtime: &str,
        request: Request<B>,
        peer: Option<IpAddr>,
    ) -> Result<Reply, Stop>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Entering { world, caller, head, body } = self.enter(request).await?;
        let body = self.take(&caller, &head, body).await?;
        let began_us = self.parts.clock.monotonic_us();
        let sent = self.or_refuse(&caller, None, Sent::read(&body, self.parts.bounds.body)).await?;
        let name = runtime.parse::<Name>().map_err(|_| unknown());
        let name = self.or_refuse(&caller, None, name).await?;
        let (situation, session) = self.assessed(&caller, peer, &head.headers).await?;
        let facts = AskFacts {
            bytes: body.len() as u64,
            code: Some(sent.facts()),
            dialect: sent.dialect().to_owned(),
            ..AskFacts::default()
        };
        let (id, resource) = (self.new_id(), EntityRef::new(Name::literal("Environment"), name.clone()));
        let ask = Ask::<CodeRun>::new(id, Action::CodeRun, resource.clone(), facts, Digest::of(&body));
        // Policy first: what runs code here is told only to those who may run some.
        let (permit, tenant) = self.decide(&world, &caller, ask, &situation, &DOOR).await?;
        let maskers = self.maskers(tenant, caller.tenant(), permit.obligations());
        let maskers = self.or_refuse(&caller, Some(id), maskers).await?;
        let run = self.or_refuse(&caller, Some(id), self.prepared(&name, sent)).await?;
        let (sandbox, run) = run;
        let (world, caller, situation) = (&world, &caller, &situation);
        let same = Digest::of(&body);
        let step = Step { world, caller, situation, run: session.run(), beside: &[], same, ends: true };
        let reserved = self.admit(&permit, &step).await?;
        let going = Going::new(&step, &resource);
        self.counted(&session.tracks(caller), &permit);
        let gives = session.answered();
        let target = Target::Direct { name, body: run.digest() };
        let intent = self.intend_labelled(permit, target, None, &session, &gives).await?;
        let receipt = intent.receipt().clone();
        self.parts.metrics.asked(Some(Action::CodeRun), VerdictKind::Permit, None);
        self.parts.metrics.forwarded(self.since(began_us));
        let stopped = |problem: Problem| Stop { problem: problem.of(id), receipt: Some(receipt.clone()) };
        let answered = tokio::select! {
            answered = sandbox.run(intent, run) => answered,
            () = going.until_over(self) => return Err(stopped(Problem::new(ReasonCode::StreamEnded))),
        };
        let Answered { finished, running } = match answered {
            Ok(answered) => answered,
            Err(Failed { reason, detail, running }) => {
                running.finish(Ended::new(End::Failed { reason: reason.clone() }));
                return Err(stopped(Problem::with_detail(reason, detail)));
            }
        };
        let reason = finished.ended.reason();
        let shown = if going.holds(self) {
            Shown::new(finished, maskers.as_ref().map(|maskers| &maskers.answer), id)
        } else {
            Err(Problem::new(ReasonCode::StreamEnded))
        };
        match shown {
            Err(problem) => {
                running.finish(Ended::new(End::Failed { reason: problem.reason.clone() }));
                Err(stopped(problem))
            }
            Ok(Shown { status, body, redacted }) => {
                let end = reason.map_or(End::Done, |reason| End::Failed { reason });
                running.finish(Ended { bytes: body.len() as u64, redacted, ..Ended::new(end) });
                let mut answer = reply::json(status, body);
                reply::mark(answer.headers_mut(), id, Some(&receipt));
                reply::label(answer.headers_mut(), &gives);
                reply::tell(answer.headers_mut(), &reserved.fields);
                Ok(answer)
            }
        }
    }

    /// What is run, and where.
    fn prepared(&self, name: &Name, sent: Sent) -> Result<(&Sandbox, Run), Problem> {
        if !bartizan_sandbox::BUILT_IN {
            let detail =
                "runs of code are not built into this program: it was built without the feature `code`";
            return Err(Problem::with_detail(ReasonCode::FeatureAbsent, detail));
        }
        let sandbox = self.parts.sandbox.as_deref().ok_or_else(unknown)?;
        let runtime = sandbox.runtime(name).ok_or_else(unknown)?;
        let Sent { program, stdin, files } = sent;
        let run = Run::new(runtime, program, stdin, files);
        let run = run.map_err(|error| Problem::with_detail(ReasonCode::CodeRefused, error.to_string()))?;
        Ok((sandbox, run))
    }
}

const fn unknown() -> Problem {
    Problem::new(ReasonCode::CodeRuntimeUnknown)
}
