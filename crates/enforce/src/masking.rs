//! Redaction of a stream, across the pieces that its texts come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bartizan_mask::{Masker, TextMasker};
use bartizan_model::Problem;
use bartizan_wire::{FrameSplitter, PieceMasker, StreamRewriter};
use bytes::{Bytes, BytesMut};

use crate::release::Plan;

/// Masks one text of a stream and counts into what all of them share.
struct Piece {
    masker: TextMasker,
    counted: u64,
    total: Arc<AtomicU64>,
}

impl Piece {
    fn count(&mut self) {
        let now = self.masker.count();
        self.total.fetch_add(now - self.counted, Ordering::Relaxed);
        self.counted = now;
    }
}

impl PieceMasker for Piece {
    fn feed(&mut self, piece: &str) -> String {
        let released = self.masker.feed(piece);
        self.count();
        released
    }

    fn finish(&mut self) -> String {
        let rest = self.masker.finish();
        self.count();
        rest
    }
}

/// Redaction of a stream in progress.
pub(crate) struct Masking {
    splitter: FrameSplitter,
    rewriter: StreamRewriter<Piece>,
    masker: Masker,
    redacted: Arc<AtomicU64>,
}

impl std::fmt::Debug for Masking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masking")
    }
}

impl Masking {
    pub(crate) fn new(plan: &Plan, masker: Masker) -> Self {
        Self {
            splitter: FrameSplitter::default(),
            rewriter: StreamRewriter::new(plan.dialect),
            masker,
            redacted: Arc::new(AtomicU64::new(plan.redacted)),
        }
    }

    /// What may be released of the next piece.
    pub(crate) fn feed(&mut self, data: &[u8]) -> Result<Bytes, Problem> {
        self.splitter.feed(data);
        let mut out = BytesMut::new();
        while let Some(frame) = self.splitter.whole_frame()? {
            let (masker, redacted) = (&self.masker, &self.redacted);
            let piece =
                || Piece { masker: TextMasker::new(masker.clone()), counted: 0, total: redacted.clone() };
            let whole = |text: &str| {
                let masked = masker.mask(text);
                redacted.fetch_add(masked.count, Ordering::Relaxed);
                masked.text.into_owned()
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
