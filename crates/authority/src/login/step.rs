//! What a login has reached so far, as its browser carries it: sealed, for a few minutes, bound to the browser (and to the
//! session, where there is one), and good once. So nobody unproven fills the state database, and any node can go on.

use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::{Principal, ReasonCode, SessionId, Tenant};
use bartizan_secret::Secret;
use bartizan_store::{Change, RowKind, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Login, Visitor, broken};
use crate::kept::{self, Kept};

/// How long a step may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5 * 60);
const DAY_US: u64 = 86_400 * 1_000_000;

/// A step that was begun.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub(super) enum Stage {
    /// A passkey was asked for.
    Passkey {
        /// What the verifier remembers.
        state: Value,
    },
    /// The password was right; a code is missing.
    Second {
        /// Whose house.
        tenant: Tenant,
        /// Whose password.
        principal: Principal,
        /// How many attempts failed before.
        failures: u32,
    },
    /// A passkey is to be enrolled.
    Enrol {
        /// What the verifier remembers.
        state: Value,
    },
    /// A passkey is to be enrolled for which its maker vouches.
    EnrolAttested {
        /// What the verifier remembers, but for the roots.
        state: Value,
    },
    /// A secret for codes was shown; it counts when a code of it comes back.
    Totp {
        /// The secret, in base 32.
        secret: String,
    },
    /// Somebody was sent to another provider.
    Upstream {
        /// Its name.
        provider: Name,
        /// What comes back in the ID token. What comes back in the address is this step itself.
        nonce: String,
        /// The PKCE verifier.
        verifier: String,
        /// Where to go afterwards.
        onward: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    visit: Digest,
    session: Option<SessionId>,
    made: Timestamp,
    #[serde(flatten)]
    stage: Stage,
}

/// Something that was used, and is not taken again.
#[derive(Debug, Serialize, Deserialize)]
struct Used {
    until: Timestamp,
}

impl Kept for Used {
    const KIND: RowKind = RowKind::Used;

    fn owner(&self) -> String {
        String::new()
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.until)
    }
}

fn place() -> Name {
    Name::literal("login/step")
}

impl Login {
    /// Seals a step for this browser.
    pub(super) fn seal_step(
        &self,
        visitor: &Visitor,
        session: Option<SessionId>,
        stage: Stage,
    ) -> Result<String, ReasonCode> {
        let made = self.now();
        let visit = visitor.bound_to().ok_or(ReasonCode::RequestForged)?;
        let text = serde_json::to_string(&Sealed { visit, session, made, stage })
            .map_err(|e| broken("a step cannot be written", &e).reason)?;
        let control = &self.authority.control;
        // A key for every day: visitors are many, and the nonces of one key are not.
        let sealer = control.sealer.derived(&purpose(made.as_micros() / DAY_US));
        let sealed = sealer.seal(&Secret::new(text), &self.home(), &place(), &*control.random);
        sealed.map(|s| URL_SAFE_NO_PAD.encode(s)).map_err(|e| broken("a step cannot be sealed", &e).reason)
    }

    /// Opens a step, if it is of this browser, this session and not over. With the change that makes it good once.
    pub(super) fn open_step(
        &self,
        visitor: &Visitor,
        session: Option<SessionId>,
        sealed: &str,
    ) -> Result<(Stage, Change), ReasonCode> {
        let stale = ReasonCode::LoginStale;
        let now = self.now();
        let bytes = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| stale.clone())?;
        let today = now.as_micros() / DAY_US;
        let opened = [today, today.saturating_sub(1)].iter().find_map(|day| {
            let sealer = self.authority.control.sealer.derived(&purpose(*day));
            sealer.open(&bytes, &self.home(), &place()).ok()
        });
        let opened = opened.ok_or(stale.clone())?;
        let step: Sealed = serde_json::from_str(opened.expose()).map_err(|_| stale.clone())?;
        let over = now.saturating_since(step.made) > PATIENCE;
        if over || visitor.bound_to() != Some(step.visit) || step.session != session {
            return Err(stale);
        }
        let once = once(&self.home(), "login step", &bytes, now.saturating_add(PATIENCE + PATIENCE));
        Ok((step.stage, once.map_err(|e| broken("a step cannot be used up", &e).reason)?))
    }
}

/// The change that uses something up; it conflicts when it was used before.
pub(super) fn once(
    tenant: &Tenant,
    what: &str,
    bytes: &[u8],
    until: Timestamp,
) -> Result<Change, StoreError> {
    let id = Digest::of_parts(&[what.as_bytes(), b"\0", bytes]);
    kept::keep(tenant, format!("login:{id}"), &Used { until })
}

fn purpose(day: u64) -> String {
    format!("login steps of day {day}")
}
