//! Events from others: verified, taken once, held against our directory, and turned into marks and standings by an ask like
//! any other. RFC 8935 says how they are sent, RFC 8417 and SSF 1.0 what they look like.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_control::View;
use bartizan_identify::{Caller, Proof, Scopes};
use bartizan_jose::{EventClaims, EventRules, Jws, TimeRules, TokenError, Verified, verify};
use bartizan_model::directory::{IssuerSpec, Status};
use bartizan_model::{
    Action, Assurance, AssuranceLevel, Binding, CredentialKind, EventSource, PrincipalKind, Problem,
    ReasonCode, Risk, SessionId, Spec, Tenant,
};
use bartizan_store::{RowKind, StoreError};
use serde::Serialize;

use super::Signals;
use super::effect::Ground;
use super::event::{self, Happened};
use super::subject::About;
use crate::clients::use_up;
use crate::kept::{Session, find};

/// How old an event may be: senders try for a while.
const AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How far clocks may differ.
const SKEW: Duration = Duration::from_secs(60);
/// Events of one sender in a minute.
const STORM: u32 = 600;
/// Events in one token.
const EVENTS_MAX: usize = 16;

/// Why an event token is not taken (RFC 8935, 2.4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Not an event token, or one that cannot be read.
    #[error("{0}")]
    Request(&'static str),
    /// Its key is not one of the issuer's, or did not sign it.
    #[error("no key of the issuer signed it")]
    Key,
    /// Nobody whom we take events from.
    #[error("the issuer is not one that events are taken from")]
    Issuer,
    /// It is meant for somebody else.
    #[error("it is for another audience")]
    Audience,
    /// Policy does not permit the sender to tell us.
    #[error("the sender may not send events")]
    Access,
    /// Too many of them; try again later.
    #[error("too many events; try again later")]
    Storm,
    /// We cannot at the moment.
    #[error("try again later")]
    Unavailable,
}

impl NotTaken {
    /// The error code; none where it is not the sender's error.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Request(_) => Some("invalid_request"),
            Self::Key => Some("invalid_key"),
            Self::Issuer => Some("invalid_issuer"),
            Self::Audience => Some("invalid_audience"),
            Self::Access => Some("access_denied"),
            Self::Storm | Self::Unavailable => None,
        }
    }
}

impl From<TokenError> for NotTaken {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Issuer => Self::Issuer,
            TokenError::Audience => Self::Audience,
            TokenError::Type => Self::Request("its type is not secevent+jwt"),
            TokenError::Expired => Self::Request("it is too old"),
            TokenError::NotYetValid => Self::Request("it is of the future"),
            TokenError::Jws(_) => Self::Key,
            _ => Self::Request("a claim is missing, of the wrong form, or must not be there"),
        }
    }
}

/// Who sent it, by what was declared.
struct Sender {
    name: Name,
    spec: IssuerSpec,
    source: EventSource,
}

/// What the ledger commits to.
#[derive(Serialize)]
struct Told<'a> {
    issuer: &'a Name,
    jti: &'a str,
    token: Digest,
    events: Vec<&'a str>,
}

impl Signals {
    /// Takes an event token. One that was taken before is as good as taken, and does nothing.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn receive(&self, text: &str) -> Result<(), NotTaken> {
        let tenant = self.authority.settings.tenant.clone();
        let control = &self.authority.control;
        let view = control.house.view(&tenant).map_err(|_| NotTaken::Unavailable)?;
        let verified = self.verified(&view, text).await;
        let (sender, claims) = match verified {
            Ok(verified) => verified,
            Err((reason, not_taken)) => {
                control.refuse_caller(&Caller::anonymous(tenant), reason).await;
                return Err(not_taken);
            }
        };
        let now = control.clock.now();
        self.storms.pass(&sender.name, now)?;
        let (about, happened) = self.read(&sender.spec, &claims)?;
        let caller = match control.house.prove(&proof(&tenant, &sender.source, &claims, now)) {
            Ok(caller) => caller,
            Err((caller, reason)) => {
                control.refuse_caller(&caller, reason).await;
                return Err(NotTaken::Access);
            }
        };
        let told = Told {
            issuer: &sender.name,
            jti: &claims.jti,
            token: claims.digest(),
            events: claims.events.keys().map(String::as_str).collect(),
        };
        let gone = |error: StoreError| Problem::new(error.reason());
        let replay = claims.replay(&rules_of_time(now));
        // Once more where somebody else changed the same meanwhile.
        for _ in 0..2 {
            let work = async |view: &View, tenant: &Tenant| {
                if self
                    .authority
                    .rows
                    .row(RowKind::Used, &replay.id.to_string())
                    .await
                    .map_err(gone)?
                    .is_some()
                {
                    return Err(Problem::with_detail(ReasonCode::Conflict, "the event was taken before"));
                }
                let own = &*self.authority.issuer;
                let session = self.session(about.as_ref(), tenant, now).await?;
                let ground = Ground { state: &view.state, tenant, spec: &sender.spec, own, session, now };
                let mut changes = vec![use_up(tenant, replay).map_err(gone)?];
                if let Some(about) = &about {
                    changes.extend(ground.changes(about, &happened)?);
                }
                Ok((changes, ()))
            };
            match control.change_with(&caller, Action::SignalSend, &told, work).await {
                Ok(_) => return Ok(()),
                Err(stopped) if stopped.problem.reason == ReasonCode::Conflict => {
                    let used = self.authority.rows.row(RowKind::Used, &replay.id.to_string()).await;
                    if used.map_err(|_| NotTaken::Unavailable)?.is_some() {
                        return Ok(());
                    }
                }
                Err(stopped) if stopped.problem.reason.status() >= 500 => return Err(NotTaken::Unavailable),
                Err(_) => return Err(NotTaken::Access),
            }
        }
        Err(NotTaken::Unavailable)
    }

    /// The session of ours that an event names.
    async fn session(
        &self,
        about: Option<&About>,
        tenant: &Tenant,
        now: Timestamp,
    ) -> Result<Option<SessionId>, Problem> {
        let Some(id) = about.and_then(About::session) else { return Ok(None) };
        let found = find::<Session>(&*self.authority.rows, &id.to_string(), now).await;
        let found = found.map_err(|error| Problem::new(error.reason()))?;
        Ok(found.filter(|session| session.tenant == *tenant).map(|_| id))
    }

    /// Who sent it and what it says, if its signature, type, issuer, audience and time hold.
    async fn verified(
        &self,
        view: &View,
        text: &str,
    ) -> Result<(Sender, Verified<EventClaims>), (ReasonCode, NotTaken)> {
        let malformed = (ReasonCode::CredentialMalformed, NotTaken::Request("it is not a signed token"));
        let jws = Jws::parse(text).map_err(|_| malformed.clone())?;
        let issuer = jws.claimed_issuer().ok_or(malformed)?;
        let tenant = &self.authority.settings.tenant;
        let sender =
            sender(view, tenant, &issuer).ok_or((ReasonCode::TokenIssuerUnknown, NotTaken::Issuer))?;
        let now = self.authority.control.clock.now();
        let rules = EventRules {
            issuer: &sender.spec.issuer,
            audience: &sender.source.audience,
            time: rules_of_time(now),
        };
        let mut outcome = Err(NotTaken::Unavailable);
        for again in [false, true] {
            let Some(keys) = self.keys.of(&*self.outside, &sender.spec, now, again).await else { break };
            outcome = verify::<EventClaims>(&jws, &keys, &rules).map_err(NotTaken::from);
            if !matches!(outcome, Err(NotTaken::Key)) {
                break;
            }
        }
        outcome.map(|claims| (sender, claims)).map_err(|not_taken| {
            let reason = match &not_taken {
                NotTaken::Audience => ReasonCode::TokenAudienceMismatch,
                NotTaken::Key => ReasonCode::TokenSignatureInvalid,
                NotTaken::Unavailable => ReasonCode::StateUnavailable,
                _ => ReasonCode::CredentialMalformed,
            };
            (reason, not_taken)
        })
    }

    /// Whom it is about, and what happened.
    fn read(
        &self,
        spec: &IssuerSpec,
        claims: &EventClaims,
    ) -> Result<(Option<About>, Vec<Happened>), NotTaken> {
        let malformed = |_| NotTaken::Request("an event or its subject cannot be read");
        if claims.events.len() > EVENTS_MAX {
            return Err(NotTaken::Request("too many events in one token"));
        }
        let about = claims.sub_id.as_ref().map(About::read).transpose().map_err(malformed)?;
        if about.as_ref().is_some_and(|about| about.is_foreign(spec, &self.authority.issuer)) {
            return Err(NotTaken::Request("its subject is of another issuer"));
        }
        let mut happened = Vec::new();
        for (uri, event) in &claims.events {
            let event = event.as_object().ok_or(NotTaken::Request("an event is not an object"))?;
            happened.extend(event::read(uri, event).map_err(malformed)?);
        }
        Ok((about, happened))
    }
}

fn rules_of_time(now: Timestamp) -> TimeRules {
    TimeRules { now, skew: SKEW, life_max: AGE_MAX }
}

/// The issuer in the directory that events of `issuer` are taken from.
fn sender(view: &View, tenant: &Tenant, issuer: &str) -> Option<Sender> {
    let documents = view.state.documents.iter().filter(|(of, ..)| of == tenant);
    documents
        .filter_map(|(_, document, _)| {
            let Spec::Issuer(spec) = &document.spec else { return None };
            let source = spec.events.clone()?;
            let is_it = spec.status == Status::Active && spec.issuer == issuer;
            is_it.then(|| Sender { name: document.name.clone(), spec: spec.clone(), source })
        })
        .next()
}

/// The sender as a caller: the workload that was declared for it, for this one act.
fn proof(tenant: &Tenant, source: &EventSource, claims: &EventClaims, now: Timestamp) -> Proof {
    Proof {
        tenant: tenant.clone(),
        kind: PrincipalKind::Workload,
        name: source.sender.clone(),
        assurance: Assurance {
            level: AssuranceLevel::Aal1,
            methods: Vec::new(),
            at: claims.issued,
            via: None,
        },
        binding: Binding::None,
        device: None,
        risk: Risk::default(),
        actors: Vec::new(),
        client: None,
        credential: CredentialKind::Event,
        scopes: Scopes::Only([Action::SignalSend].into()),
        issued: claims.issued,
        expires: now.saturating_add(SKEW),
    }
}

/// How many events came from whom in the present minute.
#[derive(Debug, Default)]
pub(super) struct Storms(Mutex<HashMap<Name, (u64, u32)>>);

impl Storms {
    fn pass(&self, sender: &Name, now: Timestamp) -> Result<(), NotTaken> {
        let minute = now.as_micros() / 60_000_000;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(sender.clone()).or_default();
        if count.0 != minute {
            *count = (minute, 0);
        }
        count.1 = count.1.saturating_add(1);
        if count.1 > STORM { Err(NotTaken::Storm) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_52_a_storm_of_events_is_held_off_and_hits_nobody_else() {
        let (storms, now) = (Storms::default(), Timestamp::from_secs(600));
        let (loud, quiet) = (Name::literal("loud"), Name::literal("quiet"));
        let taken = (0..2 * STORM).filter(|_| storms.pass(&loud, now).is_ok()).count();
        assert_eq!(taken, STORM as usize);
        assert_eq!(storms.pass(&quiet, now), Ok(()));
        assert_eq!(storms.pass(&loud, now.saturating_add(Duration::from_secs(60))), Ok(()));
    }

    #[test]
    fn whoever_sends_learns_what_is_wrong_by_the_codes_of_the_specification() {
        for (error, code) in [
            (TokenError::Issuer, "invalid_issuer"),
            (TokenError::Audience, "invalid_audience"),
            (TokenError::Type, "invalid_request"),
            (TokenError::Claim("exp"), "invalid_request"),
        ] {
            assert_eq!(NotTaken::from(error).code(), Some(code));
        }
        assert_eq!((NotTaken::Storm.code(), NotTaken::Unavailable.code()), (None, None));
    }
}
