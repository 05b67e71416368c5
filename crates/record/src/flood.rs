//! A flood of equal refusals is counted, not written: it cannot buy the disk.

use std::collections::HashMap;

use bartizan_base::Timestamp;
use bartizan_model::record::Refusal;
use bartizan_model::{KeyId, PrincipalId, ReasonCode, Tenant};

/// Equal refusals written in full within one window.
const WRITTEN_MAX: u64 = 20;
/// The window, in microseconds.
const WINDOW_US: u64 = 1_000_000;
/// Different kinds of refusals watched at once; beyond, everything is written.
const KINDS_MAX: usize = 4_096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    tenant: Tenant,
    subject: PrincipalId,
    key: Option<KeyId>,
    reason: Option<ReasonCode>,
    resource: Option<String>,
}

#[derive(Debug)]
struct Window {
    since: Timestamp,
    written: u64,
    suppressed: u64,
    last: Refusal,
}

/// Watches refusals.
#[derive(Debug, Default)]
pub(crate) struct Floods {
    windows: HashMap<Kind, Window>,
}

impl Floods {
    /// Whether this refusal is to be written; if not, it was counted.
    pub(crate) fn admit(&mut self, tenant: &Tenant, refusal: &Refusal, now: Timestamp) -> bool {
        let kind = Kind {
            tenant: tenant.clone(),
            subject: refusal.who.subject,
            key: refusal.who.key,
            reason: refusal.reasons.first().cloned(),
            resource: refusal.what.as_ref().map(|w| w.resource.to_string()),
        };
        if let Some(window) = self.windows.get_mut(&kind) {
            if window.written < WRITTEN_MAX {
                window.written += 1;
                return true;
            }
            window.suppressed += 1;
            window.last = refusal.clone();
            return false;
        }
        if self.windows.len() < KINDS_MAX {
            self.windows
                .insert(kind, Window { since: now, written: 1, suppressed: 0, last: refusal.clone() });
        }
        true
    }

    /// Closes windows that are over (all of them with `all`) and gives the counts to be written.
    pub(crate) fn close(&mut self, now: Timestamp, all: bool) -> Vec<(Tenant, Refusal)> {
        let mut out = Vec::new();
        self.windows.retain(|kind, window| {
            // A clock set back must not keep a window open for ever.
            let over = all
                || now < window.since
                || now.saturating_since(window.since).as_micros() >= u128::from(WINDOW_US);
            if over && window.suppressed > 0 {
                out.push((
                    kind.tenant.clone(),
                    Refusal { repeated: window.suppressed, ..window.last.clone() },
                ));
            }
            !over
        });
        out
    }
}
