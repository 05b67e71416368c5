//! Redaction of a stream, across the pieces that its texts come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bartizan_mask::{Masker, StreamMasker};
use bartizan_model::{Obligations, Problem};
use bartizan_wire::links::{LinkStream, Links};
use bartizan_wire::{FrameSplitter, PieceMasker, StreamRewriter};
use bytes::{Bytes, BytesMut};

use crate::release::Plan;

/// Masks one text of a stream and counts into what all of them share.
struct Piece {
    masker: StreamMasker,
    links: Option<LinkStream>,
    counted: u64,
    total: Arc<AtomicU64>,
}

impl Piece {
    fn count(&mut self) {
        let now = self.masker.count() + self.links.as_ref().map_or(0, LinkStream::count);
        self.total.fetch_add(now - self.counted, Ordering::Relaxed);
        self.counted = now;
    }
}

impl PieceMasker for Piece {
    fn feed(&mut self, piece: &str) -> String {
        let mut released = self.masker.feed(piece);
        if let Some(links) = &mut self.links {
            released = links.feed(&released);
        }
        self.count();
        released
    }

    fn finish(&mut self) -> String {
        let mut rest = self.masker.finish();
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

/// A text without the addresses that may not stay, and how many those were.
pub(crate) fn stripped(links: Option<&Links>, text: String) -> (String, u64) {
    match links {
        Some(links) => links.strip(&text),
        None => (text, 0),
    }
}

/// Redaction of a stream in progress.
pub(crate) struct Masking {
    splitter: FrameSplitter,
    rewriter: StreamRewriter<Piece>,
    masker: Masker,
    links: Option<Links>,
    redacted: Arc<AtomicU64>,
}

impl std::fmt::Debug for Masking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masking")
    }
}

impl Masking {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            splitter: FrameSplitter::default(),
            rewriter: StreamRewriter::new(plan.dialect),
            masker: Masker::new(&plan.obligations.detectors()),
            links: links(&plan.obligations),
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
                masker: StreamMasker::new(masker.clone()),
                links: links.clone().map(LinkStream::new),
                counted: 0,
                total: redacted.clone(),
            };
            let whole = |text: &str| {
                let masked = masker.mask(text);
                let (text, taken) = stripped(links.as_ref(), masked.text.into_owned());
                redacted.fetch_add(masked.count + taken, Ordering::Relaxed);
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

    /// Matches redacted so far, those of the request included.
    pub(crate) fn redacted(&self) -> u64 {
        self.redacted.load(Ordering::Relaxed)
    }
}
