//! Sessions: begun by a login, found by their cookie.

use std::time::Duration;

use bartizan_base::{Name, Timestamp};
use bartizan_control::Stopped;
use bartizan_identify::{Caller, Proof, Scopes};
use bartizan_model::{
    Action, Assurance, AssuranceLevel, Binding, CredentialKind, Principal, PrincipalId, Problem, ReasonCode,
    Risk, SessionId, Tenant,
};
use bartizan_secret::constant_time_eq;
use bartizan_store::{Change, RowKind};
use serde::Serialize;

use super::risk::{Facts, Habit, assess};
use super::visitor::{SetCookie, Ticket};
use super::{Login, Visitor, broken};
use crate::authorize::Person;
use crate::kept::{Held, Kept, Reach, Session, find, keep};

/// For how long a proof is fresh enough for dangerous acts.
pub(super) const FRESH: Duration = Duration::from_secs(10 * 60);
/// How long a session lives that is only for enrolling.
const ENROL_LIFE: Duration = Duration::from_secs(20 * 60);
/// How often a login is tried again when another one of the same person was quicker.
const TRIES: usize = 4;

/// How long a session lives at most, and how long unused (NIST SP 800-63B-4, 2.2.3 and 2.3.3: a day and an hour at AAL2, twelve
/// hours and a quarter of an hour at AAL3; a weaker login lives no longer than a stronger one).
const fn life(level: AssuranceLevel) -> (Duration, Duration) {
    match level {
        AssuranceLevel::Aal3 => (Duration::from_secs(12 * 3_600), Duration::from_secs(15 * 60)),
        AssuranceLevel::None
        | AssuranceLevel::Aal1
        | AssuranceLevel::Aal2
        | AssuranceLevel::Aal2PhishingResistant => {
            (Duration::from_secs(24 * 3_600), Duration::from_secs(3_600))
        }
    }
}

impl Kept for Habit {
    const KIND: RowKind = RowKind::Habit;

    fn owner(&self) -> String {
        String::new()
    }

    fn expires(&self) -> Option<Timestamp> {
        None
    }
}

/// Somebody who has just proven themselves.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) tenant: Tenant,
    pub(super) principal: Principal,
    pub(super) level: AssuranceLevel,
    pub(super) methods: Vec<Name>,
    pub(super) via: Option<Name>,
    /// When, where it was not just now.
    pub(super) at: Option<Timestamp>,
    pub(super) reach: Reach,
    pub(super) failures: u32,
    /// What changes with the login: a counter, a step used up, a link.
    pub(super) changes: Vec<Change>,
}

/// A login that succeeded.
#[derive(Debug)]
pub struct Entered {
    /// The session.
    pub session: SessionId,
    /// What it may be used for.
    pub reach: Reach,
    /// How risky it looked.
    pub risk: Risk,
    /// Cookies to be set.
    pub cookies: Vec<SetCookie>,
}

/// Somebody with a session.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Whose house.
    pub tenant: Tenant,
    /// Who.
    pub principal: Principal,
    /// The session, as it is kept.
    pub session: Held<Session>,
    /// Who asks, in this session.
    pub caller: Caller,
}

impl SignedIn {
    /// The same as the authorization endpoint knows people; none in a session that is only for enrolling.
    #[must_use]
    pub fn person(&self) -> Option<Person> {
        let session = &self.session.value;
        (session.reach == Reach::Full)
            .then(|| Person { session: session.clone(), caller: self.caller.clone() })
    }

    /// Whether they were proven at least this surely, and at most `age` ago. What RFC 9470 asks for by `acr_values` and `max_age`.
    #[must_use]
    pub fn is_proven(&self, level: AssuranceLevel, age: Duration, now: Timestamp) -> bool {
        let assurance = &self.session.value.assurance;
        assurance.level >= level && now.saturating_since(assurance.at) <= age
    }
}

#[derive(Serialize)]
struct LoginRequest<'a> {
    methods: &'a [Name],
    level: AssuranceLevel,
    via: Option<&'a Name>,
    risk: &'a Risk,
    reach: Reach,
}

/// What may be asked for in a session that is only for enrolling.
fn scopes(reach: Reach) -> Scopes {
    match reach {
        Reach::Full => Scopes::All,
        Reach::Enrol => Scopes::Only(
            [
                Action::SessionAuthenticate,
                Action::SessionList,
                Action::SessionEnd,
                Action::AuthenticatorChange,
            ]
            .into(),
        ),
    }
}

impl Login {
    /// Makes a caller of somebody whose principal is still the one that was meant: a name that was given away again is not.
    pub(super) fn prove(&self, proof: &Proof, id: PrincipalId) -> Result<Caller, (Box<Caller>, ReasonCode)> {
        let caller = self.authority.control.house.prove(proof)?;
        if caller.subject().principal.id == id {
            Ok(caller)
        } else {
            Err((Box::new(Caller::anonymous(proof.tenant.clone())), ReasonCode::CredentialUnknown))
        }
    }

    /// Begins a session for somebody who was just proven, or lifts the one they have. The cookie is always a new one.
    pub(super) async fn enter(&self, visitor: &Visitor, proven: Proven) -> Result<Entered, Stopped> {
        let present = self.present(visitor).await?.filter(|held| {
            held.value.principal.id == proven.principal.id
                && held.tenant == proven.tenant
                && held.value.reach == Reach::Full
                && proven.reach == Reach::Full
        });
        let mut last = None;
        for _ in 0..TRIES {
            let before =
                find::<Habit>(&*self.authority.rows, &proven.principal.id.to_string(), self.now()).await?;
            let version = before.as_ref().map(|held| held.version);
            match self.try_enter(visitor, &proven, present.as_ref(), before).await {
                Err(stopped) if stopped.problem.reason == ReasonCode::Conflict => {
                    let after =
                        find::<Habit>(&*self.authority.rows, &proven.principal.id.to_string(), self.now())
                            .await?;
                    last = Some(stopped);
                    if after.map(|held| held.version) == version {
                        break;
                    }
                }
                other => return other,
            }
        }
        // Nobody else logged in meanwhile: what was used up, was used before.
        let stale = Problem::new(ReasonCode::LoginStale);
        Err(last
            .map_or_else(|| stale.clone().into(), |l| Stopped { problem: stale.clone(), receipt: l.receipt }))
    }

    async fn try_enter(
        &self,
        visitor: &Visitor,
        proven: &Proven,
        present: Option<&Held<Session>>,
        habit: Option<Held<Habit>>,
    ) -> Result<Entered, Stopped> {
        let control = &self.authority.control;
        let now = self.now();
        let network = visitor.network();
        let place = self.signals.place(visitor.address);
        let findings = self.signals.findings(&proven.tenant, &proven.principal);
        let facts = Facts {
            now,
            browser_known: self.known_browser(visitor, &proven.tenant, proven.principal.id).is_some(),
            network: &network,
            place: place.as_ref(),
            failures: proven.failures,
            findings: &findings,
        };
        let rule = habit.as_ref().map(|held| held.value.clone()).unwrap_or_default();
        let risk = assess(&rule, &facts);
        let mut methods = proven.methods.clone();
        methods.sort();
        let assurance =
            Assurance { level: proven.level, methods, at: proven.at.unwrap_or(now), via: proven.via.clone() };
        let (longest, idle) = match proven.reach {
            Reach::Full => life(proven.level),
            Reach::Enrol => (ENROL_LIFE, ENROL_LIFE),
        };
        let id = present.map_or_else(|| SessionId::new(now, &*control.random), |held| held.value.id);
        let ticket = Ticket::generate(id, &*control.random);
        let session = Session {
            id,
            secret: ticket.digest(),
            principal: proven.principal.clone(),
            assurance,
            began: present.map_or(now, |held| held.value.began),
            ends: now.saturating_add(longest),
            idle_ends: now.saturating_add(idle),
            agent: visitor.agent.to_string(),
            network: network.clone(),
            device: present.and_then(|held| held.value.device.clone()),
            risk,
            reach: proven.reach,
        };
        let proof = proof(&proven.tenant, &session, CredentialKind::Login);
        let caller = match self.prove(&proof, proven.principal.id) {
            Ok(caller) => caller,
            // Whoever is disabled hears what everybody hears.
            Err((caller, reason)) => {
                let mut stopped = control.refuse_caller(&caller, reason).await;
                stopped.problem = Problem::new(ReasonCode::LoginFailed);
                return Err(stopped);
            }
        };
        let assurance = &session.assurance;
        let request = LoginRequest {
            methods: &assurance.methods,
            level: assurance.level,
            via: assurance.via.as_ref(),
            risk: &session.risk,
            reach: session.reach,
        };
        control
            .change_with(&caller, Action::SessionAuthenticate, &request, async |_, tenant| {
                let mut changes = proven.changes.clone();
                changes.push(
                    match present {
                        Some(held) => held.replace(&session),
                        None => keep(tenant, id.to_string(), &session),
                    }
                    .map_err(|e| broken("a session cannot be kept", &e))?,
                );
                if session.reach == Reach::Full {
                    let after = rule.clone().after(&facts);
                    let change = match &habit {
                        Some(held) => held.replace(&after),
                        None => keep(tenant, proven.principal.id.to_string(), &after),
                    };
                    changes.push(change.map_err(|e| broken("a habit cannot be kept", &e))?);
                }
                Ok((changes, ()))
            })
            .await?;
        self.throttle.forgive(&proven.tenant.0, &proven.principal.name);
        Ok(Entered {
            session: id,
            reach: session.reach,
            risk: session.risk.clone(),
            cookies: self.cookies(&ticket, &session),
        })
    }

    /// The session of a request's cookie, if its secret is right and it is not over.
    async fn present(&self, visitor: &Visitor) -> Result<Option<Held<Session>>, Stopped> {
        let Some(ticket) = &visitor.ticket else { return Ok(None) };
        let held = find::<Session>(&*self.authority.rows, &ticket.id.to_string(), self.now()).await?;
        let right =
            |held: &Held<Session>| constant_time_eq(held.value.secret.as_bytes(), ticket.digest().as_bytes());
        Ok(held.filter(right))
    }

    /// Who is there, by the session's cookie. Judged anew each time: whoever was disabled, or whose session was ended, is not.
    ///
    /// # Errors
    /// When the state database does not answer, or what is known is too old.
    pub async fn signed_in(&self, visitor: &Visitor) -> Result<Option<SignedIn>, Stopped> {
        let Some(mut held) = self.present(visitor).await? else { return Ok(None) };
        let session = &held.value;
        let proof = proof(&held.tenant, session, CredentialKind::Session);
        let caller = match self.prove(&proof, session.principal.id) {
            Ok(caller) => caller,
            Err((_, ReasonCode::SnapshotStale)) => return Err(ReasonCode::SnapshotStale.into()),
            Err(_) => return Ok(None),
        };
        self.prolong(&mut held, &caller).await;
        Ok(Some(SignedIn {
            tenant: held.tenant.clone(),
            principal: held.value.principal.clone(),
            session: held,
            caller,
        }))
    }

    /// Moves the end of an unused session away, now and then. If that fails, it ends a little earlier.
    async fn prolong(&self, held: &mut Held<Session>, caller: &Caller) {
        let (now, session) = (self.now(), &held.value);
        if session.reach == Reach::Enrol {
            return;
        }
        let idle = life(session.assurance.level).1;
        if session.idle_ends.saturating_since(now) > idle / 4 * 3 {
            return;
        }
        let longer = Session { idle_ends: now.saturating_add(idle).min(session.ends), ..session.clone() };
        let request = ("prolong", session.id);
        let changed = self.authority.control.change_with(
            caller,
            Action::SessionAuthenticate,
            &request,
            async |_, _| {
                let change = held.replace(&longer).map_err(|e| broken("a session cannot be kept", &e))?;
                Ok((vec![change], ()))
            },
        );
        if changed.await.is_ok() {
            held.value = longer;
            held.version += 1;
        }
    }
}

fn proof(tenant: &Tenant, session: &Session, credential: CredentialKind) -> Proof {
    Proof {
        tenant: tenant.clone(),
        kind: session.principal.kind,
        name: session.principal.name.clone(),
        assurance: session.assurance.clone(),
        binding: Binding::None,
        device: None,
        risk: session.risk.clone(),
        actors: Vec::new(),
        client: None,
        credential,
        scopes: scopes(session.reach),
        issued: session.began,
        expires: session.ends.min(session.idle_ends),
    }
}
