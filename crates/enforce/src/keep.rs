//! Keeping what was said: the prompt before it leaves, the answer before its end is released, both in the vault.
//!
//! The vault blocks on the disk, so it is worked with on threads where that is allowed.

use std::sync::Arc;

use bartizan_base::{Clock, Name};
use bartizan_identify::Caller;
use bartizan_model::record::Kept;
use bartizan_model::{DecisionId, PayloadRef, PrincipalId, Problem, ReasonCode, Situation, Tenant};
use bartizan_vault::{Field, Kind, PAYLOAD_MAX, Place, Vault, VaultError};
use bartizan_wire::{FrameSplitter, Framing};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::USER_AGENT;

/// The place in the vault where one call's content goes.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    vault: Vault,
    tenant: Tenant,
    subject: PrincipalId,
    decision: DecisionId,
    clock: Arc<dyn Clock>,
}

/// Where an answer goes, and the prompt that it belongs to.
pub(crate) type Answered = (Shelf, PayloadRef);

/// A circumstance of an ask: what it is called, what kind of data it is, its value.
type Circumstance = (Name, Kind, String);

/// The circumstances of an ask that are kept with it; those that there are.
pub(crate) fn circumstances(situation: &Situation, headers: &HeaderMap) -> Vec<Circumstance> {
    let agent = headers.get(USER_AGENT).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let all = [
        ("network", Kind::Network, situation.network.map(|ip| ip.to_string())),
        ("user_agent", Kind::UserAgent, agent),
        ("purpose", Kind::Purpose, situation.purpose.as_deref().map(str::to_owned)),
    ];
    all.into_iter().filter_map(|(name, kind, value)| Some((Name::literal(name), kind, value?))).collect()
}

impl Shelf {
    pub(crate) fn new(vault: Vault, caller: &Caller, decision: DecisionId, clock: Arc<dyn Clock>) -> Self {
        let subject = caller.subject().principal.id;
        Self { vault, tenant: caller.tenant().clone(), subject, decision, clock }
    }

    fn place(&self) -> Place<'_> {
        Place { tenant: &self.tenant, subject: self.subject, decision: self.decision }
    }

    /// Keeps the prompt as it goes out, and the circumstances. Durable on return.
    ///
    /// Where the intent cannot be recorded afterwards, what was kept stays without a leaf until its subject is erased or it
    /// expires: nobody finds it, since nothing names it.
    ///
    /// # Errors
    /// When it could not be kept: then nothing may leave.
    pub(crate) async fn put_prompt(
        &self,
        body: Bytes,
        circumstances: Vec<Circumstance>,
    ) -> Result<Kept, Problem> {
        let shelf = self.clone();
        match tokio::task::spawn_blocking(move || shelf.put_all(&body, &circumstances)).await {
            Ok(Ok(kept)) => Ok(kept),
            Ok(Err(error)) => Err(Problem::new(told(&error))),
            Err(_) => Err(Problem::new(ReasonCode::ShuttingDown)),
        }
    }

    fn put_all(&self, body: &[u8], circumstances: &[Circumstance]) -> Result<Kept, VaultError> {
        let fields: Vec<_> =
            circumstances.iter().map(|(name, kind, value)| Field { name, kind: *kind, value }).collect();
        let now = self.clock.now();
        let committed = self.vault.put(&self.place(), &fields, now)?.into_iter().collect();
        let prompt = Name::literal("prompt");
        let prompt = self.vault.put_payload(&self.place(), &prompt, Kind::Prompt, &mut &*body, now)?;
        Ok(Kept { prompt, committed })
    }

    /// Keeps what is or will be released of the answer to `prompt`. Blocks; durable on return.
    ///
    /// # Errors
    /// When it could not be kept, also since its subject was erased meanwhile: then the end is not released.
    fn put_output(&self, prompt: &PayloadRef, mut released: &[u8]) -> Result<PayloadRef, ReasonCode> {
        let (output, now) = (Name::literal("output"), self.clock.now());
        self.vault
            .put_payload_after(prompt, &self.place(), &output, Kind::Output, &mut released, now)
            .map_err(|error| told(&error))
    }

    /// The longest answer that is kept, in bytes, where answers are held up to `most`.
    pub(crate) fn bytes_max(most: usize) -> usize {
        usize::try_from(PAYLOAD_MAX).unwrap_or(usize::MAX).min(most)
    }
}

/// The particulars are for the log, not for the caller.
fn told(error: &VaultError) -> ReasonCode {
    tracing::error!(error = error as &dyn std::error::Error, "content could not be kept");
    error.reason()
}

/// An answer on its way out: collected as it is released, and its end waits until all of it is kept.
#[derive(Debug)]
pub(crate) struct Keeping {
    shelf: Shelf,
    prompt: PayloadRef,
    released: BytesMut,
    most: usize,
    /// Gives whole frames only, so that the end of a stream is recognised however its bytes come.
    splitter: FrameSplitter,
    /// From the frame on that says that the stream is over.
    held: BytesMut,
    ended: bool,
}

impl Keeping {
    /// Keeps a stream of events up to `answer_bytes_max` bytes.
    pub(crate) fn stream((shelf, prompt): Answered, answer_bytes_max: usize, framing: Framing) -> Self {
        Self {
            shelf,
            prompt,
            released: BytesMut::new(),
            most: Shelf::bytes_max(answer_bytes_max),
            splitter: FrameSplitter::new(framing),
            held: BytesMut::new(),
            ended: false,
        }
    }

    /// Keeps an answer that is here whole.
    pub(crate) fn whole(answered: Answered, body: &[u8]) -> Self {
        Self { released: body.into(), ..Self::stream(answered, usize::MAX, Framing::Events) }
    }

    /// What of the next piece of a stream may be released now.
    ///
    /// # Errors
    /// When the answer becomes too long to be kept, or a frame is too long to be read.
    pub(crate) fn feed(&mut self, data: &Bytes) -> Result<Bytes, Problem> {
        self.splitter.feed(data);
        let mut out = BytesMut::new();
        while let Some(frame) = self.splitter.whole_frame()? {
            self.ended |= ends_stream(&frame);
            let (more, held) = if self.ended { (&mut self.held, 0) } else { (&mut out, self.held.len()) };
            more.extend_from_slice(&frame);
            let length = more.len() + held;
            self.within_bounds(length)?;
        }
        self.released.extend_from_slice(&out);
        Ok(out.freeze())
    }

    /// The end of the answer, with what redaction held back: to be released once it is kept.
    ///
    /// # Errors
    /// When the answer is too long to be kept.
    pub(crate) fn finish(&mut self, rest: &[u8]) -> Result<Bytes, Problem> {
        let mut end = std::mem::take(&mut self.held);
        end.extend_from_slice(&std::mem::take(&mut self.splitter).rest());
        end.extend_from_slice(rest);
        self.within_bounds(end.len())?;
        self.released.extend_from_slice(&end);
        Ok(end.freeze())
    }

    /// Whether so much more than was released can be kept.
    fn within_bounds(&self, more: usize) -> Result<(), Problem> {
        if self.released.len().saturating_add(more) <= self.most {
            return Ok(());
        }
        Err(Problem::with_detail(ReasonCode::ObligationFailed, "the answer is too long to be kept"))
    }

    /// Keeps what was released. Blocks. None where nothing was.
    pub(crate) fn put(self) -> Result<Option<PayloadRef>, ReasonCode> {
        if self.released.is_empty() {
            return Ok(None);
        }
        self.shelf.put_output(&self.prompt, &self.released).map(Some)
    }
}

/// Whether a frame says that nothing follows: OpenAI's `[DONE]`, or the last event of Anthropic's messages and OpenAI's
/// responses. A stream that says it otherwise ends with its connection, which waits in any case.
fn ends_stream(frame: &[u8]) -> bool {
    const LAST: [&[u8]; 4] =
        [b"message_stop", b"response.completed", b"response.incomplete", b"response.failed"];
    frame.split(|b| *b == b'\n').any(|line| {
        let value = |name: &[u8]| Some(line.strip_prefix(name)?.strip_prefix(b":")?.trim_ascii());
        value(b"data") == Some(b"[DONE]") || value(b"event").is_some_and(|event| LAST.contains(&event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_frame_of_every_dialect_is_known_and_words_about_it_are_not() {
        for last in [
            "data: [DONE]\n\n",
            "data:[DONE]\r\n\r\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            "event: response.completed\ndata: {}\n\n",
        ] {
            assert!(ends_stream(last.as_bytes()), "{last}");
        }
        for more in [
            "data: {\"choices\":[{\"delta\":{\"content\":\"data: [DONE]\"}}]}\n\n",
            "event: content_block_delta\ndata: {\"text\":\"event: message_stop\"}\n\n",
            "event: message_stopped\n\n",
            ": message_stop\n\n",
        ] {
            assert!(!ends_stream(more.as_bytes()), "{more}");
        }
    }
}
