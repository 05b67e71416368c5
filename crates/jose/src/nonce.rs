//! Nonces for proofs (RFC 9449, 8 and 9) that need no store: a message authentication code over the time.

use std::time::Duration;

use aws_lc_rs::hmac;
use bartizan_base::Timestamp;
use bartizan_secret::{Secret, constant_time_eq};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Makes and accepts nonces. All nodes of a house share the secret; a nonce is accepted in its own period and the next.
#[derive(Debug)]
pub struct Nonces {
    secret: Secret<[u8; 32]>,
    period: Duration,
}

impl Nonces {
    /// Nonces of a secret that is used for nothing else. `period` is taken as at least a second.
    #[must_use]
    pub fn new(secret: Secret<[u8; 32]>, period: Duration) -> Self {
        Self { secret, period: period.max(Duration::from_secs(1)) }
    }

    /// The nonce to hand out now.
    #[must_use]
    pub fn current(&self, now: Timestamp) -> String {
        self.of(self.step(now))
    }

    /// Whether `nonce` is one of ours and fresh. A node whose clock is a little ahead may have made it.
    #[must_use]
    pub fn accepts(&self, nonce: &str, now: Timestamp) -> bool {
        let step = self.step(now);
        [Some(step), step.checked_sub(1), step.checked_add(1)]
            .into_iter()
            .flatten()
            .fold(false, |found, step| found | constant_time_eq(self.of(step).as_bytes(), nonce.as_bytes()))
    }

    fn step(&self, now: Timestamp) -> u64 {
        let period = u64::try_from(self.period.as_micros()).unwrap_or(u64::MAX);
        now.as_micros().checked_div(period).unwrap_or_default()
    }

    fn of(&self, step: u64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.expose());
        let tag = hmac::sign(&key, &step.to_be_bytes());
        URL_SAFE_NO_PAD.encode(tag.as_ref())
    }
}
