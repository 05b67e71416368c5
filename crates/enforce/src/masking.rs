//! Redaction of a stream, across the pieces that its texts come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bartizan_mask::{Masker, TextMasker};
use bartizan_model::{Obligations, Problem};
use bartizan_wire::links::{LinkStream, Links};
use bartizan_wire::{FrameSplitter, Framing, PieceMasker, StreamRewriter};
use bytes::{Bytes, BytesMut};

use crate::mask::uncaught;
use crate::release::Plan;

/// Masks one text of a stream and counts into what all of them share.
struct Piece {
    masker: Option<TextMasker>,
    links: Option<LinkStream>,
    counted: u64,
    total: Arc<AtomicU64>,
}

impl Piece {
    fn count(&mut self) {
        let masked = self.masker.as_ref().map_or(0, TextMasker::count);
        let now = masked + self.links.as_ref().map_or(0, LinkStream::count);
        self.total.fetch_add(now - self.counted, Ordering::Relaxed);
        self.counted = now;
    }
}

impl PieceMasker for Piece {
    fn feed(&mut self, piece: &str) -> String {
        let mut released = match &mut self.masker {
            Some(masker) => masker.feed(piece),
            None => piece.to_owned(),
        };
        if let Some(links) = &mut self.links {
            released = links.feed(&released);
        }
        self.count();
        released
    }

    fn finish(&mut self) -> String {
        let mut rest = self.masker.as_mut().map(TextMasker::finish).unwrap_or_default();
        if let Some(links) = &mut self.links {
            rest = links.feed(&rest);
            rest.push_str(&links.finish());
        }
        self.count();
        rest
    }
}

/// What takes addresses out of an answer, if anything does.
pub(crate) fn links(obligations: &Obligations) -> Option<Links> {
    obligations.hosts().map(|hosts| Links::allowing(hosts.iter().map(|host| host.as_str())))
}

/// A text as it may be released; how many matches and addresses were taken out of it, and whether it is another one.
pub(crate) fn released(masker: Option<&Masker>, links: Option<&Links>, text: &str) -> (String, u64, bool) {
    let (mut out, mut count, mut changed) = (text.to_owned(), 0, false);
    if let Some(masker) = masker {
        let masked = masker.mask(text);
        (count, changed) = (masked.count, matches!(masked.text, std::borrow::Cow::Owned(_)));
        out = masked.text.into_owned();
    }
    if let Some(links) = links {
        let (text, taken) = links.strip(&out);
        (out, count, changed) = (text, count + taken, changed || taken > 0);
    }
    (out, count, changed)
}

/// Redaction of a stream in progress.
pub(crate) struct Masking {
    splitter: FrameSplitter,
    rewriter: StreamRewriter<Piece>,
    masker: Option<Masker>,
    links: Option<Links>,
    redacted: Arc<AtomicU64>,
}

impl std::fmt::Debug for Masking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masking")
    }
}

impl Masking {
    pub(crate) fn new(plan: &Plan, framing: Framing) -> Self {
        Self {
            splitter: FrameSplitter::new(framing),
            rewriter: StreamRewriter::new(plan.dialect, framing),
            masker: plan.masker.clone(),
            links: plan.links.clone(),
            redacted: Arc::new(AtomicU64::new(plan.redacted)),
        }
    }

    /// What may be released of the next piece.
    pub(crate) fn feed(&mut self, data: &[u8]) -> Result<Bytes, Problem> {
        self.splitter.feed(data);
        let mut out = BytesMut::new();
        while let Some(frame) = self.splitter.whole_frame()? {
            let (masker, links, redacted) = (&self.masker, &self.links, &self.redacted);
            let piece = || Piece {
                masker: masker.clone().map(TextMasker::new),
                links: links.clone().map(LinkStream::new),
                counted: 0,
                total: redacted.clone(),
            };
            let whole = |text: &str| {
                let (text, taken, _) = released(masker.as_ref(), links.as_ref(), text);
                redacted.fetch_add(taken, Ordering::Relaxed);
                text
            };
            let frames = self.rewriter.frame(&frame, piece, whole)?;
            frames.iter().for_each(|f| out.extend_from_slice(f));
        }
        Ok(out.freeze())
    }

    /// What was held back.
    pub(crate) fn finish(&mut self) -> Bytes {
        // A last frame without its closing line is not whole, so it is not released.
        self.rewriter.finish().concat().into()
    }

    /// Whether nothing was found that stops the answer.
    pub(crate) fn uncaught(&self) -> Result<(), Problem> {
        uncaught(self.masker.as_ref())
    }

    /// Whether no part of a frame is here whose rest is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.splitter.is_empty()
    }

    /// Matches redacted so far, those of the request included.
    pub(crate) fn redacted(&self) -> u64 {
        self.redacted.load(Ordering::Relaxed)
    }
}
