//! What a call costs, and how its end is told: exactly once, and not before its content is kept.

use std::sync::Arc;

use bartizan_base::Name;
use bartizan_limits::Tracks;
use bartizan_model::record::End;
use bartizan_model::{PayloadRef, ReasonCode};
use bartizan_record::{Ended, Running};
use bartizan_wire::Usage;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::keep::Keeping;
use crate::limits::{Reservation, Spent};
use crate::path::Gate;
use crate::release::Plan;
use crate::trace::CallTrace;

/// Resolves when content was kept and the end told, or with why it was not kept.
pub(crate) type Stored = JoinHandle<Result<(), ReasonCode>>;

/// Counts what an effect costs and tells its end exactly once.
#[derive(Debug)]
pub(crate) struct Tally {
    gate: Arc<Gate>,
    pub(crate) running: Option<Running>,
    pub(crate) status: Option<u16>,
    /// Released to the caller.
    pub(crate) bytes: u64,
    pub(crate) usage: Usage,
    pub(crate) redacted: u64,
    began_us: u64,
    trace: CallTrace,
    /// What was released, where it must be kept before the end is told.
    pub(crate) keeping: Option<Keeping>,
    kept: Option<PayloadRef>,
    tracks: Tracks,
    /// What is reserved under limits, until the end is told.
    reserved: Option<Reservation>,
    upstream: Name,
}

impl Tally {
    pub(crate) fn new(gate: Arc<Gate>, plan: &mut Plan, trace: CallTrace) -> Self {
        Self {
            gate,
            running: None,
            status: None,
            bytes: 0,
            usage: Usage::default(),
            redacted: plan.redacted,
            began_us: plan.began_us,
            trace,
            keeping: None,
            kept: None,
            tracks: plan.tracks,
            reserved: plan.reserved.take(),
            upstream: plan.upstream.clone(),
        }
    }

    pub(crate) fn end(&mut self, end: End) {
        let Some(running) = self.running.take() else { return };
        let failure = match &end {
            End::Failed { reason } => Some(reason.clone()),
            End::Done | End::Abandoned | End::Unknown => None,
        };
        let tokens = (self.usage.input, self.usage.output);
        if let Some(reserved) = self.reserved.take() {
            let spent = self.spent(failure.as_ref(), &reserved);
            reserved.settle(spent.as_ref());
        }
        self.trace.ended(&end, self.status, tokens);
        let spent = tokens.0.unwrap_or(0).saturating_add(tokens.1.unwrap_or(0));
        self.gate.spent(&self.tracks, spent);
        self.gate.parts.metrics.ended(
            self.gate.since(self.began_us),
            failure.as_ref(),
            self.redacted,
            tokens,
        );
        running.finish(Ended {
            end,
            status: self.status,
            bytes: self.bytes,
            input_tokens: tokens.0,
            output_tokens: tokens.1,
            redacted: self.redacted,
            kept: self.kept.take(),
            given: None,
        });
    }

    /// What it took, as far as that is known. A provider charges nothing for what it refused, and nothing that never came to it.
    fn spent(&self, failure: Option<&ReasonCode>, reserved: &Reservation) -> Option<Spent> {
        let Usage { input, cached, output } = self.usage;
        let unsent = matches!(failure, Some(ReasonCode::UpstreamUnreachable | ReasonCode::EgressForbidden));
        let refused = self.status.is_some_and(|status| status >= 400);
        if input.is_none() && output.is_none() {
            return (unsent || refused).then(|| Spent::nothing(reserved.at()));
        }
        let upstream = Some(self.upstream.clone());
        Some(Spent { input, cached: cached.unwrap_or(0), output, upstream, at: reserved.at() })
    }

    /// Keeps what was released, then tells the end; of `last` bytes that are released only then. This goes on whether
    /// anybody waits for it or not. Must be called within the runtime.
    pub(crate) fn keep_and_end(&mut self, end: End, last: u64) -> Stored {
        Self::store(&Handle::current(), self.take(), end, last)
    }

    fn store(runtime: &Handle, mut tally: Self, end: End, last: u64) -> Stored {
        runtime.spawn_blocking(move || match tally.keeping.take().map_or(Ok(None), Keeping::put) {
            Ok(kept) => {
                tally.kept = kept;
                tally.bytes += last;
                tally.end(end);
                Ok(())
            }
            Err(reason) => {
                tally.end(End::Failed { reason: reason.clone() });
                Err(reason)
            }
        })
    }

    /// All that is left to be told; what stays here tells nothing any more.
    fn take(&mut self) -> Self {
        Self {
            gate: self.gate.clone(),
            running: self.running.take(),
            status: self.status,
            bytes: self.bytes,
            usage: self.usage,
            redacted: self.redacted,
            began_us: self.began_us,
            trace: self.trace.take(),
            keeping: self.keeping.take(),
            kept: self.kept.take(),
            tracks: self.tracks,
            reserved: self.reserved.take(),
            upstream: self.upstream.clone(),
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        // Who goes away in the middle does not take what was released out of the vault's reach.
        if self.running.is_some()
            && self.keeping.is_some()
            && let Ok(runtime) = Handle::try_current()
        {
            drop(Self::store(&runtime, self.take(), End::Abandoned, 0));
        }
        self.end(End::Abandoned);
    }
}
