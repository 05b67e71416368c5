//! Releasing an answer: passed on as it comes, redacted whole, or redacted across the pieces of a stream; and always under
//! watch, so that a stream ends within a second of what permitted it.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bartizan_base::{Digest, Name};
use bartizan_identify::Caller;
use bartizan_limits::Tracks;
use bartizan_mask::Masker;
use bartizan_model::action::ModelCall;
use bartizan_model::directory::Dialect;
use bartizan_model::record::End;
use bartizan_model::{Action, Ask, AskFacts, DecisionId, EntityRef, Problem, ReasonCode, RunName, Situation};
use bartizan_record::Receipt;
use bartizan_upstream::{Answer, AnswerBody, SendError};
use bartizan_wire::links::Links;
use bartizan_wire::{
    FrameSplitter, Framing, USAGE, Usage, answer_texts, error_event, frame_usage, splice, usage_of,
};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Interval, MissedTickBehavior};

use crate::cache::Filling;
use crate::keep::{Answered, Keeping, Shelf};
use crate::limits::{Fields, Reservation};
use crate::mask::uncaught;
use crate::masking::{Masking, released};
use crate::path::{Gate, Stop};
use crate::reply::{self, BrokenOff, Reply, ReplyBody};
use crate::tally::{Stored, Tally};
use crate::trace::CallTrace;
use crate::world::World;

/// How often an open stream asks whether it may go on.
const WATCH_EVERY: Duration = Duration::from_millis(400);
/// Bytes of an answer kept to read its usage from.
const USAGE_TAIL_MAX: usize = 1 << 20;

/// What is to be done with an answer.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) dialect: Dialect,
    /// What masks the answer, if anything is to be masked.
    pub(crate) masker: Option<Masker>,
    /// What takes addresses out of it, if any may not stay.
    pub(crate) links: Option<Links>,
    /// Matches redacted in the request.
    pub(crate) redacted: u64,
    pub(crate) began_us: u64,
    pub(crate) decision: DecisionId,
    /// Where the answer is kept, if it is to be.
    pub(crate) keep: Option<Answered>,
    /// Whom the call counts for.
    pub(crate) tracks: Tracks,
    /// What is reserved for it under limits.
    pub(crate) reserved: Option<Reservation>,
    /// How those stand, for the answer.
    pub(crate) fields: Fields,
    /// Where it was sent.
    pub(crate) upstream: Name,
    /// Where it may be kept to be given again.
    pub(crate) filling: Option<Box<Filling>>,
}

/// What an open stream was permitted on, to ask again while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    gate: Arc<Gate>,
    caller: Caller,
    action: Action,
    resource: EntityRef,
    facts: AskFacts,
    body: Digest,
    situation: Situation,
    run: Option<RunName>,
    upstream: EntityRef,
    revision: u64,
}

impl Watch {
    pub(crate) fn new(
        gate: Arc<Gate>,
        caller: &Caller,
        ask: &Ask<ModelCall>,
        situation: Situation,
        world: &World,
        run: Option<RunName>,
    ) -> Self {
        Self {
            gate,
            caller: caller.clone(),
            action: ask.action,
            resource: ask.resource.clone(),
            facts: ask.facts.clone(),
            body: ask.body,
            situation,
            run,
            upstream: EntityRef::system(),
            revision: world.state.revision,
        }
    }

    /// The same while it is at `upstream`.
    pub(crate) fn at(&self, upstream: &Name) -> Self {
        Self { upstream: EntityRef::new(Name::literal("Upstream"), upstream.clone()), ..self.clone() }
    }

    /// Whether the stream must end now: the lease ran out, the credential died, or policy says no by now.
    fn must_end(&mut self) -> bool {
        let Ok(world) = self.gate.parts.keeper.current() else { return true };
        let Some(caller) = self.gate.verify_again(&world, &self.caller) else { return true };
        if world.state.revision == self.revision {
            return false;
        }
        let ask =
            Ask::new(self.gate.new_id(), self.action, self.resource.clone(), self.facts.clone(), self.body);
        let beside = (std::slice::from_ref(&self.upstream), self.run.as_ref());
        let permitted = self.gate.still_permitted(&world, &caller, ask, &self.situation, beside);
        if permitted {
            self.revision = world.state.revision;
        }
        !permitted
    }
}

/// Turns what came back into the answer to the caller.
pub(crate) async fn answer(
    gate: &Arc<Gate>,
    sent: Result<Answer, SendError>,
    mut plan: Plan,
    watch: Watch,
    receipt: Receipt,
    trace: &mut CallTrace,
) -> Result<Reply, Stop> {
    let mut tally = Tally::new(gate.clone(), &mut plan, trace.take());
    let answer = match sent {
        Ok(answer) => answer,
        Err(SendError { reason, running }) => {
            tally.running = Some(running);
            tally.end(End::Failed { reason: reason.clone() });
            return Err(Stop { problem: Problem::new(reason).of(plan.decision), receipt: Some(receipt) });
        }
    };
    tally.running = Some(answer.running);
    tally.status = Some(answer.status);
    let redact = plan.masker.is_some() || plan.links.is_some();
    let media = answer.headers.get("content-type").map(http::HeaderValue::as_bytes).unwrap_or_default();
    let framing = Framing::of(plan.dialect, media);
    let from = (plan.decision, &plan.upstream);
    let filling = plan
        .filling
        .take()
        .and_then(|filling| filling.begun(from, (answer.status, &answer.headers), framing));
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut reply = if (redact || plan.keep.is_some()) && framing.is_none() {
        match whole(gate, answer.body, &plan, &mut tally).await {
            Ok(body) => {
                if let Some(mut filling) = filling
                    && filling.feed(&body)
                {
                    filling.done(tally.redacted);
                }
                http::Response::new(ReplyBody::Full(Full::new(body)))
            }
            Err(problem) => {
                tally.end(End::Failed { reason: problem.reason.clone() });
                return Err(Stop { problem: problem.of(plan.decision), receipt: Some(receipt) });
            }
        }
    } else {
        let most = gate.parts.bounds.answer_bytes_max;
        let cut = framing.unwrap_or_default();
        tally.keeping = plan.keep.clone().map(|answered| Keeping::stream(answered, most, cut));
        // Messages with checksums are passed on whole and right or not at all.
        let masking = (redact || framing == Some(Framing::Messages)).then(|| Masking::new(&plan, cut));
        http::Response::new(ReplyBody::Guarded(Box::new(Guarded::new(
            answer.body,
            watch,
            tally,
            masking,
            (framing, filling),
            plan.decision,
        ))))
    };
    *reply.status_mut() = status;
    *reply.headers_mut() = answer.headers;
    reply::tell(reply.headers_mut(), &plan.fields);
    reply::mark(reply.headers_mut(), plan.decision, Some(&receipt));
    Ok(reply)
}

/// Holds an answer whole, redacts it and keeps it, as the plan says, and tells its end. What cannot be read or kept is not
/// released.
async fn whole(gate: &Gate, body: AnswerBody, plan: &Plan, tally: &mut Tally) -> Result<Bytes, Problem> {
    let most = gate.parts.bounds.answer_bytes_max;
    let most = if plan.keep.is_some() { Shelf::bytes_max(most) } else { most };
    let all = collect(body, most).await?;
    tally.usage = usage_of(plan.dialect, &all);
    let released = redact(&all, plan, tally)?;
    let length = released.len() as u64;
    if let Some(answered) = &plan.keep {
        tally.keeping = Some(Keeping::whole(answered.clone(), &released));
        let stored = tally.keep_and_end(End::Done, length).await;
        stored.unwrap_or(Err(ReasonCode::ShuttingDown)).map_err(Problem::new)?;
    } else {
        tally.bytes = length;
        tally.end(End::Done);
    }
    Ok(released)
}

async fn collect(mut body: AnswerBody, most: usize) -> Result<Bytes, Problem> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| Problem::new(e.reason()))?.into_data() else { continue };
        if all.len() + data.len() > most {
            return Err(Problem::with_detail(
                ReasonCode::ObligationFailed,
                "the answer is too long to be redacted or kept",
            ));
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

fn redact(all: &Bytes, plan: &Plan, tally: &mut Tally) -> Result<Bytes, Problem> {
    if plan.masker.is_none() && plan.links.is_none() {
        return Ok(all.clone());
    }
    let mut edits = Vec::new();
    for (place, text) in answer_texts(all)? {
        let (text, taken, changed) = released(plan.masker.as_ref(), plan.links.as_ref(), &text);
        if changed {
            tally.redacted += taken;
            edits.push((place, serde_json::Value::from(text).to_string()));
        }
    }
    uncaught(plan.masker.as_ref())?;
    Ok(splice(all, edits))
}

/// An answer on its way to the caller.
#[derive(Debug)]
pub struct Guarded {
    body: AnswerBody,
    watch: Watch,
    every: Interval,
    tally: Tally,
    masking: Option<Masking>,
    dialect: Dialect,
    /// How the answer is told apart where it is a stream.
    framing: Option<Framing>,
    /// Messages with checksums, to read usage from.
    frames: FrameSplitter,
    decision: DecisionId,
    /// The end of the answer, for its usage.
    tail: BytesMut,
    /// What was released, where it may be kept to be given again.
    filling: Option<Filling>,
    phase: Phase,
}

/// How far an answer is.
#[derive(Debug)]
enum Phase {
    /// More may come.
    Open,
    /// Nothing more is released before what was released is kept.
    Storing(Stored, Last),
    /// Nothing comes any more.
    Over,
}

/// What is released last.
#[derive(Debug)]
enum Last {
    /// The end of the answer.
    End(Bytes),
    /// Why there is none.
    Failure(Problem),
}

impl Guarded {
    fn new(
        body: AnswerBody,
        watch: Watch,
        tally: Tally,
        masking: Option<Masking>,
        (framing, filling): (Option<Framing>, Option<Filling>),
        decision: DecisionId,
    ) -> Self {
        let mut every = tokio::time::interval(WATCH_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        every.reset();
        let dialect = watch.facts.dialect.as_str();
        let dialect =
            Dialect::ALL.iter().copied().find(|d| d.name() == dialect).unwrap_or(Dialect::OpenAiChat);
        Self {
            body,
            watch,
            every,
            tally,
            masking,
            dialect,
            framing,
            frames: FrameSplitter::new(framing.unwrap_or_default()),
            decision,
            tail: BytesMut::new(),
            filling,
            phase: Phase::Open,
        }
    }

    /// Notes what a piece says about usage: whole frames of a stream, the end of a whole answer.
    fn note(&mut self, data: &[u8]) {
        if self.framing == Some(Framing::Messages) {
            self.frames.feed(data);
            // What is not right is refused where it is passed on.
            while let Ok(Some(frame)) = self.frames.whole_frame() {
                self.used(frame_usage(self.dialect, Framing::Messages, &frame));
            }
        } else if self.framing.is_some() {
            if memchr::memmem::find(data, USAGE).is_none() && self.tail.is_empty() {
                return;
            }
            // A frame can come in pieces, so what holds the word is kept until its lines are whole.
            self.tail.extend_from_slice(data);
            while let Some(end) = memchr::memchr(b'\n', &self.tail) {
                let line = self.tail.split_to(end + 1);
                if let Some(json) = line.strip_prefix(b"data:") {
                    self.used(usage_of(self.dialect, json.trim_ascii()));
                }
            }
            if self.tail.len() > USAGE_TAIL_MAX {
                self.tail.clear();
            }
        } else if self.tail.len() + data.len() <= USAGE_TAIL_MAX {
            self.tail.extend_from_slice(data);
        }
    }

    fn used(&mut self, usage: Usage) {
        let known = &mut self.tally.usage;
        known.input = usage.input.or(known.input);
        known.cached = usage.cached.or(known.cached);
        known.output = usage.output.or(known.output);
    }

    fn release(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.tally.bytes += data.len() as u64;
        self.fill(&data);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn fill(&mut self, released: &[u8]) {
        if self.filling.as_mut().is_some_and(|filling| !filling.feed(released)) {
            self.filling = None;
        }
    }

    /// Ends with a problem, once what was released before is kept, where that is demanded.
    fn fail(
        &mut self,
        reason: ReasonCode,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let problem = Problem::new(reason.clone()).of(self.decision);
        self.filling = None;
        if self.tally.keeping.is_some() {
            let stored = self.tally.keep_and_end(End::Failed { reason }, 0);
            self.phase = Phase::Storing(stored, Last::Failure(problem));
            return self.poll_stored(cx);
        }
        self.tally.end(End::Failed { reason });
        self.say(&problem)
    }

    /// Says a problem in the words of the stream where it has words for it, else by breaking off.
    fn say(&mut self, problem: &Problem) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.phase = Phase::Over;
        if self.framing.is_some() {
            return self.release(error_event(self.dialect, problem));
        }
        Poll::Ready(Some(Err(BrokenOff)))
    }

    /// Releases the last of the answer once all of it is kept; if it cannot be, says so instead.
    fn poll_stored(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Phase::Storing(stored, _) = &mut self.phase else { return Poll::Ready(None) };
        let stored = std::task::ready!(Pin::new(stored).poll(cx));
        let Phase::Storing(_, last) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Poll::Ready(None);
        };
        match (stored.unwrap_or(Err(ReasonCode::ShuttingDown)), last) {
            (Ok(()), Last::End(end)) if end.is_empty() => Poll::Ready(None),
            (Ok(()), Last::End(end)) => Poll::Ready(Some(Ok(Frame::data(end)))),
            (Ok(()), Last::Failure(problem)) => self.say(&problem),
            (Err(reason), _) => self.say(&Problem::new(reason).of(self.decision)),
        }
    }

    fn count(&mut self) {
        if let Some(masking) = &self.masking {
            self.tally.redacted = masking.redacted();
        }
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let cut_off = self.masking.as_ref().is_some_and(|masking| !masking.is_whole());
        if cut_off && self.framing == Some(Framing::Messages) {
            return self.fail(ReasonCode::UpstreamTruncated, cx);
        }
        if self.framing.is_none() {
            self.tally.usage = usage_of(self.dialect, &self.tail);
        }
        let rest = self.masking.as_mut().map(Masking::finish).unwrap_or_default();
        self.count();
        if let Some(Err(problem)) = self.masking.as_ref().map(Masking::uncaught) {
            return self.fail(problem.reason, cx);
        }
        if let Some(keeping) = &mut self.tally.keeping {
            return match keeping.finish(&rest) {
                Ok(end) => {
                    let stored = self.tally.keep_and_end(End::Done, end.len() as u64);
                    self.phase = Phase::Storing(stored, Last::End(end));
                    self.poll_stored(cx)
                }
                Err(problem) => self.fail(problem.reason, cx),
            };
        }
        self.phase = Phase::Over;
        self.tally.bytes += rest.len() as u64;
        self.fill(&rest);
        if let Some(filling) = self.filling.take().filter(|_| !cut_off) {
            filling.done(self.tally.redacted);
        }
        self.tally.end(End::Done);
        if rest.is_empty() { Poll::Ready(None) } else { Poll::Ready(Some(Ok(Frame::data(rest)))) }
    }

    /// What of the next piece may be released: redacted, and not the end of what must be kept first.
    fn pass(&mut self, data: Bytes) -> Result<Bytes, ReasonCode> {
        let data = match &mut self.masking {
            Some(masking) => {
                let released = masking.feed(&data).map_err(|_| ReasonCode::ObligationFailed)?;
                masking.uncaught().map_err(|problem| problem.reason)?;
                released
            }
            None => data,
        };
        match &mut self.tally.keeping {
            Some(keeping) => keeping.feed(&data).map_err(|problem| problem.reason),
            None => Ok(data),
        }
    }
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        match this.phase {
            Phase::Open => {}
            Phase::Storing(..) => return this.poll_stored(cx),
            Phase::Over => return Poll::Ready(None),
        }
        while this.every.poll_tick(cx).is_ready() {
            if this.watch.must_end() {
                return this.fail(ReasonCode::StreamEnded, cx);
            }
        }
        loop {
            match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    this.note(&data);
                    match this.pass(data) {
                        Ok(released) if released.is_empty() => {}
                        Ok(released) => return this.release(released),
                        Err(reason) => return this.fail(reason, cx),
                    }
                }
                Some(Err(error)) => return this.fail(error.reason(), cx),
                None => return this.finish(cx),
            }
        }
    }
}
