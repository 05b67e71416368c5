//! What waits for the disk: bounded, and with room kept for the outcome of everything that was permitted.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_model::{DecisionId, Tenant};
use tokio::sync::oneshot;

use crate::core::OutcomeSlot;
use crate::encode::Encoded;
use crate::flood::First;
use crate::intent::{Receipt, RecordError, Running};
use crate::segment::BATCH_MAX;

/// How long outcomes wait for a flush that is needed anyway. A crash in that time tells them as unknown.
const OUTCOMES_WAIT: Duration = Duration::from_millis(5);
/// So many outcomes wait for nobody.
const OUTCOMES_MAX: usize = 256;

/// A record on its way, without its number.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) tenant: Tenant,
    pub(crate) time: Timestamp,
    pub(crate) encoded: Encoded,
    pub(crate) about: About,
    pub(crate) ack: Ack,
}

/// Which decision a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// It permits; an outcome will follow.
    Intent(DecisionId),
    Refusal(DecisionId),
    Outcome(DecisionId),
    System,
}

/// Who is told once the record is durable.
#[derive(Debug)]
pub(crate) enum Ack {
    /// One who may then begin. Whoever drops what is sent tells `Abandoned`: also the channel, when nobody waits any more.
    Begin { began_us: u64, slot: OutcomeSlot, reply: oneshot::Sender<Result<Running, RecordError>> },
    /// One who waits.
    One(oneshot::Sender<Result<Receipt, RecordError>>),
    /// The first of equal refusals; if they become a flood, many wait for it.
    Many(Arc<First>),
    /// Nobody: the outcome of an intent, whose room it holds until it is written.
    Outcome(OutcomeSlot),
}

impl Ack {
    /// Tells that the record was not made durable.
    pub(crate) fn refuse(self, error: RecordError) {
        // Whoever does not wait any more needs not be told.
        match self {
            Self::Begin { reply, .. } => drop(reply.send(Err(error))),
            Self::One(reply) => drop(reply.send(Err(error))),
            Self::Many(first) => first.tell(Err(error)),
            Self::Outcome(_) => {
                tracing::error!(%error, "an outcome could not be recorded; the next start tells it as unknown");
            }
        }
    }
}

/// The queue between all senders and the one writer.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    waiting: Condvar,
    /// Records that may wait, outcomes not counted.
    records_max: usize,
}

#[derive(Debug, Default)]
struct State {
    drafts: Vec<Draft>,
    /// How many of them are no outcomes.
    bounded: usize,
    /// The writer waits to be woken.
    asleep: bool,
    /// The writer is to look again at what it could not write.
    nudged: bool,
    /// New records are refused; outcomes still come through.
    closing: bool,
    /// Nothing comes through any more, for this reason.
    ended: Option<RecordError>,
}

impl Queue {
    pub(crate) fn new(records_max: usize) -> Self {
        Self { state: Mutex::default(), waiting: Condvar::new(), records_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a draft; they are written in the order in which they come. Outcomes are never refused for want of room: their
    /// number is bounded by that of the intents.
    ///
    /// # Errors
    /// When the queue is full or has ended.
    pub(crate) fn push(&self, draft: Draft) -> Result<(), RecordError> {
        let bounded = !matches!(draft.about, About::Outcome(_));
        let state = self.state();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        if state.closing && bounded {
            return Err(RecordError::Closed);
        }
        if bounded && state.bounded >= self.records_max {
            return Err(RecordError::QueueFull);
        }
        // An outcome that finds others waiting comes along with them.
        let wakes = bounded || state.drafts.is_empty();
        self.add(state, draft, wakes);
        Ok(())
    }

    /// Adds a draft and wakes the writer, if it sleeps and is to be woken.
    fn add(&self, mut state: MutexGuard<'_, State>, draft: Draft, wakes: bool) {
        state.bounded += usize::from(!matches!(draft.about, About::Outcome(_)));
        state.drafts.push(draft);
        let wakes = wakes && std::mem::take(&mut state.asleep);
        drop(state);
        if wakes {
            self.waiting.notify_one();
        }
    }

    /// Adds several drafts at once, so that they become one batch.
    #[cfg(test)]
    pub(crate) fn push_together(&self, drafts: Vec<Draft>) {
        let mut state = self.state();
        state.bounded += drafts.len();
        state.drafts.extend(drafts);
        drop(state);
        self.waiting.notify_one();
    }

    /// Waits for drafts and takes at most a batch of them; an empty batch when nudged; none once the queue has ended. What
    /// comes next is collected in the memory of `empty`.
    ///
    /// Nobody waits for an outcome, so outcomes alone wait a moment for an intent whose flush they can share.
    pub(crate) fn pull(&self, mut empty: Vec<Draft>) -> Option<Vec<Draft>> {
        let mut state = self.state();
        let mut patience = OUTCOMES_WAIT;
        let mut slept = false;
        loop {
            let pressing = state.bounded > 0
                || state.nudged
                || state.closing
                || state.ended.is_some()
                || state.drafts.len() >= OUTCOMES_MAX;
            if pressing && slept && !state.drafts.is_empty() {
                // Whoever runs on this core next may have more for this flush.
                slept = false;
                drop(state);
                std::thread::yield_now();
                state = self.state();
                continue;
            }
            if (!state.drafts.is_empty() && (pressing || patience.is_zero())) || state.nudged {
                state.nudged = false;
                let count = state.drafts.len().min(BATCH_MAX);
                empty.extend(state.drafts.drain(count..));
                let batch = std::mem::replace(&mut state.drafts, empty);
                state.bounded = if state.drafts.is_empty() {
                    0
                } else {
                    state.drafts.iter().filter(|d| !matches!(d.about, About::Outcome(_))).count()
                };
                return Some(batch);
            }
            if state.ended.is_some() {
                return None;
            }
            slept = true;
            state.asleep = true;
            if state.drafts.is_empty() {
                state = self.waiting.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.asleep = false;
            } else {
                let (again, timeout) =
                    self.waiting.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
                state = again;
                state.asleep = false;
                if timeout.timed_out() {
                    patience = Duration::ZERO;
                }
            }
        }
    }

    /// How many wait.
    pub(crate) fn depth(&self) -> usize {
        self.state().drafts.len()
    }

    /// Lets the writer try again what it could not write.
    pub(crate) fn nudge(&self) {
        self.state().nudged = true;
        self.waiting.notify_one();
    }

    /// Refuses new records from now on. Outcomes and the last word go through until [`Queue::end`].
    pub(crate) fn begin_closing(&self) {
        self.state().closing = true;
        self.waiting.notify_one();
    }

    /// Adds one draft although the queue is closing.
    pub(crate) fn push_last(&self, draft: Draft) -> Result<(), RecordError> {
        let state = self.state();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        self.add(state, draft, true);
        Ok(())
    }

    /// Lets the writer finish what waits and end; everything later is refused with `reason`. The first reason stays.
    pub(crate) fn end(&self, reason: RecordError) {
        self.state().ended.get_or_insert(reason);
        self.waiting.notify_all();
    }

    /// Takes out everything that waits, to be refused.
    pub(crate) fn drain(&self) -> Vec<Draft> {
        let mut state = self.state();
        state.bounded = 0;
        state.drafts.drain(..).collect()
    }

    /// Why nothing comes through any more.
    pub(crate) fn ended(&self) -> Option<RecordError> {
        self.state().ended.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Core;
    use crate::tests::{clock, config, id};
    use bartizan_model::record::{Body, End, Outcome, System};

    fn core(queue_max: usize) -> Arc<Core> {
        Arc::new(Core::new(&crate::Config { queue_max, ..config() }, clock()))
    }

    fn system(core: &Arc<Core>) -> Result<(), RecordError> {
        let tenant = Tenant::default_tenant();
        core.submit(
            &tenant,
            core.clock.now(),
            &Body::System(System::Initialised),
            Ack::One(oneshot::channel().0),
        )
    }

    fn outcome(core: &Arc<Core>, n: u64) {
        let (end, none) = (End::Done, None);
        let outcome = Outcome {
            of: id(n),
            end,
            status: none,
            bytes: 0,
            input_tokens: None,
            output_tokens: None,
            redacted: 0,
            took_us: 0,
            kept: None,
            given: None,
        };
        core.submit_outcome(&Tenant::default_tenant(), outcome, core.reserve_always());
    }

    fn abouts(batch: &[Draft]) -> Vec<About> {
        batch.iter().map(|d| d.about).collect()
    }

    #[test]
    fn inv_deny_a_full_queue_refuses_at_once_and_still_takes_outcomes() {
        let core = core(2);
        assert_eq!((system(&core), system(&core)), (Ok(()), Ok(())));
        assert_eq!(system(&core), Err(RecordError::QueueFull));
        outcome(&core, 1);
        assert_eq!(system(&core), Err(RecordError::QueueFull));
        let batch = core.queue.pull(Vec::new()).unwrap();
        assert_eq!(abouts(&batch), [About::System, About::System, About::Outcome(id(1))]);
        assert_eq!(system(&core), Ok(()), "the room is free again");
        assert_eq!(core.stats.refused.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[test]
    fn what_waits_at_the_end_is_still_given_out_and_nothing_later() {
        let core = core(8);
        system(&core).unwrap();
        core.queue.begin_closing();
        assert_eq!(system(&core), Err(RecordError::Closed));
        outcome(&core, 2);
        core.queue.end(RecordError::Closed);
        core.queue.end(RecordError::NoRoom);
        outcome(&core, 3);
        assert_eq!(abouts(&core.queue.pull(Vec::new()).unwrap()), [About::System, About::Outcome(id(2))]);
        assert!(core.queue.pull(Vec::new()).is_none());
        assert_eq!(core.queue.ended(), Some(RecordError::Closed), "the first reason stays");
    }

    #[test]
    fn batches_are_bounded_and_keep_the_order() {
        let core = core(10_000);
        for n in 0..2_500 {
            outcome(&core, n);
        }
        let mut seen = Vec::new();
        while core.queue.depth() > 0 {
            let batch = core.queue.pull(Vec::new()).unwrap();
            assert!(batch.len() <= BATCH_MAX);
            seen.extend(abouts(&batch));
        }
        assert!(seen.into_iter().eq((0..2_500).map(|n| About::Outcome(id(n)))));
    }
}
