//! How people prove who they are, and what is remembered of it: passkeys first, a password with a time-based code second,
//! recovery codes for the worst day, other providers where there are some.
//!
//! Nobody unproven writes to the state database: what a login has reached so far travels with its browser, sealed (`step`),
//! and failed attempts are counted in memory (`throttle`). Every login that succeeds is an ask of its own
//! (`session:authenticate`), with its risk as a fact for policy; every one that fails is recorded as refused.

mod attestation;
mod authenticators;
mod cookies;
mod device;
mod federated;
mod hasher;
mod invitation;
mod passkey;
mod password;
mod recovery;
pub mod risk;
mod session;
mod sessions;
mod step;
mod step_up;
mod throttle;
mod totp;
pub mod upstream;
mod visitor;

use std::sync::Arc;
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_control::{Stopped, View};
use bartizan_identify::{Caller, StepUps};
use bartizan_keys::Sealer;
use bartizan_model::{Principal, PrincipalKind, Problem, ReasonCode, Spec, Tenant};

use crate::Authority;
use crate::login::hasher::Hasher;
use crate::login::passkey::Passkeys;
use crate::login::risk::Signals;
use crate::login::throttle::Throttle;

pub use attestation::Attested;
pub use authenticators::{AuthenticatorKind, AuthenticatorView};
pub use hasher::Cost;
pub use invitation::Invited;
pub use passkey::{PasskeyOptions, PasskeyRow};
pub use password::PasswordAnswer;
pub use recovery::{RecoveryAnswer, RecoveryPending};
pub use session::{Entered, SignedIn};
pub use sessions::SessionView;
pub(crate) use sessions::ended;
pub use totp::TotpOffer;
pub use visitor::{SetCookie, Visitor};

/// What can be set about logging in.
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// What a guess at a password costs.
    pub cost: Cost,
    /// How long a recovery waits before it takes effect.
    pub recovery_wait: Duration,
}

impl Default for LoginSettings {
    fn default() -> Self {
        Self { cost: Cost::default(), recovery_wait: Duration::from_secs(24 * 3_600) }
    }
}

/// Logging in, and what belongs to it.
#[derive(Debug)]
pub struct Login {
    /// The use cases it is one of.
    pub authority: Authority,
    settings: LoginSettings,
    hasher: Hasher,
    throttle: Throttle,
    passkeys: Option<Passkeys>,
    known: Sealer,
    signals: Arc<dyn Signals>,
    providers: Option<Arc<dyn upstream::Providers>>,
    book: upstream::Book,
    step_ups: Option<Arc<StepUps>>,
}

impl Login {
    /// Logging in at `authority`.
    ///
    /// Passkeys need a host name: where the issuer's host is a bare address, there are none.
    #[must_use]
    pub fn new(authority: Authority, settings: LoginSettings, signals: Arc<dyn Signals>) -> Self {
        let passkeys = Passkeys::new(&authority.issuer);
        if passkeys.is_none() {
            tracing::warn!(issuer = &*authority.issuer, "no passkeys: they need an issuer with a host name");
        }
        let known = authority.control.sealer.derived("known browsers");
        let hasher = Hasher::new(settings.cost, &*authority.control.random);
        Self {
            authority,
            settings,
            hasher,
            throttle: Throttle::default(),
            passkeys,
            known,
            signals,
            providers: None,
            book: upstream::Book::default(),
            step_ups: None,
        }
    }

    /// The same with a way to other providers.
    #[must_use]
    pub fn with_providers(mut self, providers: Arc<dyn upstream::Providers>) -> Self {
        self.providers = Some(providers);
        self
    }

    /// The same with questions of doors to people to prove themselves more surely.
    #[must_use]
    pub fn with_step_ups(mut self, step_ups: Arc<StepUps>) -> Self {
        self.step_ups = Some(step_ups);
        self
    }

    /// Whether there are passkeys at all.
    #[must_use]
    pub const fn has_passkeys(&self) -> bool {
        self.passkeys.is_some()
    }

    /// How often a password was hashed: the same for every attempt that is looked at.
    #[must_use]
    pub fn hashes(&self) -> u64 {
        self.hasher.runs()
    }

    /// What forms carry, and the cookie to be set where the visit begins with this page.
    #[must_use]
    pub fn greet(&self, visitor: &Visitor) -> (String, Option<SetCookie>) {
        match visitor.form_token() {
            Some(token) => (token, None),
            None => visitor::new_visit(&*self.authority.control.random),
        }
    }

    /// Whether a form was sent by one of our own pages.
    #[must_use]
    pub fn is_own_form(&self, visitor: &Visitor, token: &str) -> bool {
        visitor.is_own_form(&self.authority.issuer, token)
    }

    /// Records that somebody who is not proven was refused, and says so.
    ///
    /// The record names nobody: that somebody typed a name proves nothing about its owner.
    pub async fn refuse(&self, tenant: &Tenant, reason: ReasonCode) -> Stopped {
        self.authority.control.refuse_caller(&Caller::anonymous(tenant.clone()), reason).await
    }

    fn now(&self) -> Timestamp {
        self.authority.control.clock.now()
    }

    /// Whose people log in here: one issuer, one organisation.
    fn home(&self) -> Tenant {
        self.authority.settings.tenant.clone()
    }
}

/// The person who is called `name`. Looks at everybody, whether found or not.
fn person(view: &View, tenant: &Tenant, name: &str) -> Option<Principal> {
    let people = view.state.documents.iter().filter(|(t, document, _)| {
        t == tenant && matches!(document.spec, Spec::User(_)) && document.name.as_str() == name
    });
    people
        .filter_map(|(_, d, _)| {
            Some(Principal { kind: PrincipalKind::User, name: d.name.clone(), id: d.principal? })
        })
        .fold(None, |_, found| Some(found))
}

/// Something of ours does not work.
fn broken(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "{what}");
    Problem::new(ReasonCode::Internal)
}
