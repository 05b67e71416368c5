//! Recovery codes, for somebody who has lost everything else. A recovery is weaker than any login, so it waits, everybody who is
//! still signed in sees it and can stop it, and all that it leads to is enrolling something new.

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_control::{Done, Stopped};
use bartizan_identify::{Proof, Scopes};
use bartizan_model::{
    Action, Assurance, AssuranceLevel, AuthenticatorId, Binding, CredentialKind, Principal, ReasonCode, Risk,
};
use bartizan_secret::{Secret, constant_time_eq};
use bartizan_store::RowKind;
use serde::{Deserialize, Serialize};

use super::session::Proven;
use super::totp::base32;
use super::{Entered, Login, SignedIn, Visitor, broken, person};
use crate::kept::{Held, Kept, Reach, find, keep, owner};

const CODES: usize = 10;
/// 100 bits: a plain hash is enough to keep it by.
const CODE_LEN: usize = 13;
const CODE_DIGITS: usize = 20;

/// Recovery codes as they are kept: by their digests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RecoveryRow {
    pub(super) id: AuthenticatorId,
    pub(super) principal: Principal,
    pub(super) codes: Vec<Digest>,
    pub(super) created: Timestamp,
    pending: Option<Pending>,
}

/// A recovery that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pending {
    code: Digest,
    shown: RecoveryPending,
}

/// A recovery that waits, as its owner is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecoveryPending {
    /// When it was begun.
    pub begun: Timestamp,
    /// When it takes effect.
    pub ready: Timestamp,
    /// With which program.
    pub agent: String,
    /// From which network.
    pub network: String,
}

impl Kept for RecoveryRow {
    const KIND: RowKind = RowKind::Recovery;

    fn owner(&self) -> String {
        owner(&self.principal)
    }

    fn expires(&self) -> Option<Timestamp> {
        None
    }
}

/// What a right recovery code leads to.
#[derive(Debug)]
pub enum RecoveryAnswer {
    /// It was begun, or waits still; the same code is good from then on.
    Waits(Timestamp),
    /// A session for enrolling.
    Entered(Entered),
}

fn digest(code: &str) -> Digest {
    let digits: String =
        code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
    Digest::of_parts(&[b"bartizan recovery code v1\0", digits.as_bytes()])
}

impl Login {
    /// Makes new recovery codes for whoever asks; the old ones are dead. This is the only time they are seen.
    ///
    /// # Errors
    /// When the login is too old or policy says no.
    pub async fn make_recovery_codes(&self, who: &SignedIn) -> Result<Done<Vec<Secret<String>>>, Stopped> {
        self.demand_fresh(who).await?;
        let control = &self.authority.control;
        let now = self.now();
        let codes: Vec<Secret<String>> = (0..CODES)
            .map(|_| {
                let mut bytes = [0; CODE_LEN];
                control.random.fill(&mut bytes);
                let digits: Vec<char> = base32(&bytes).chars().take(CODE_DIGITS).collect();
                let groups: Vec<String> = digits.chunks(5).map(|five| five.iter().collect()).collect();
                Secret::new(groups.join("-"))
            })
            .collect();
        let row = RecoveryRow {
            id: AuthenticatorId::new(now, &*control.random),
            principal: who.principal.clone(),
            codes: codes.iter().map(|code| digest(code.expose())).collect(),
            created: now,
            pending: None,
        };
        let id = who.principal.id.to_string();
        control
            .change_with(
                &who.caller,
                Action::AuthenticatorChange,
                &("recovery codes", row.id),
                async |_, tenant| {
                    let present = find::<RecoveryRow>(&*self.authority.rows, &id, now).await;
                    let change = match present.map_err(|e| Stopped::from(e).problem)? {
                        Some(held) => held.replace(&row),
                        None => keep(tenant, id.clone(), &row),
                    };
                    Ok((vec![change.map_err(|e| broken("recovery codes cannot be kept", &e))?], codes))
                },
            )
            .await
    }

    /// Looks at a recovery code: begins the recovery, says how long it waits, or lets in for enrolling.
    ///
    /// # Errors
    /// `login_failed`, `login_throttled`; or what policy says.
    pub async fn recover(
        &self,
        visitor: &Visitor,
        name: &str,
        code: &Secret<String>,
    ) -> Result<RecoveryAnswer, Stopped> {
        let tenant = self.home();
        let found = self.authority.control.house.view(&tenant).map(|view| person(&view, &tenant, name))?;
        let (account, failures) = self.begin_attempt(visitor, &tenant, name, found.as_ref()).await?;
        let id = found.as_ref().map_or_else(|| "nobody".to_owned(), |principal| principal.id.to_string());
        let held =
            find::<RecoveryRow>(&*self.authority.rows, &id, self.now()).await?.filter(|h| h.tenant == tenant);
        let given = digest(code.expose());
        let right = held.as_ref().is_some_and(|held| {
            // All are compared.
            held.value.codes.iter().filter(|c| constant_time_eq(c.as_bytes(), given.as_bytes())).count() > 0
        });
        let (Some(principal), Some(held), true) = (found, held, right) else {
            return Err(self.refuse(&tenant, ReasonCode::LoginFailed).await);
        };
        let now = self.now();
        let answer = match held.value.pending.as_ref().filter(|pending| pending.code == given) {
            Some(pending) if now < pending.shown.ready => Ok(RecoveryAnswer::Waits(pending.shown.ready)),
            Some(_) => {
                let mut after = held.value.clone();
                after.codes.retain(|c| *c != given);
                after.pending = None;
                let proven = Proven {
                    tenant,
                    principal,
                    level: AssuranceLevel::Aal1,
                    methods: vec![Name::literal("recovery")],
                    via: None,
                    at: None,
                    reach: Reach::Enrol,
                    failures,
                    changes: vec![held.replace(&after)?],
                };
                self.enter(visitor, proven).await.map(RecoveryAnswer::Entered)
            }
            None => self.begin_recovery(visitor, &principal, &held, given).await.map(RecoveryAnswer::Waits),
        };
        if answer.is_ok() {
            self.throttle.good(&account, &visitor.network());
        }
        answer
    }

    async fn begin_recovery(
        &self,
        visitor: &Visitor,
        principal: &Principal,
        held: &Held<RecoveryRow>,
        code: Digest,
    ) -> Result<Timestamp, Stopped> {
        let now = self.now();
        let ready = now.saturating_add(self.settings.recovery_wait);
        let proof = Proof {
            tenant: held.tenant.clone(),
            kind: principal.kind,
            name: principal.name.clone(),
            assurance: Assurance {
                level: AssuranceLevel::Aal1,
                methods: vec![Name::literal("recovery")],
                at: now,
                via: None,
            },
            binding: Binding::None,
            device: None,
            risk: Risk::default(),
            actors: Vec::new(),
            client: None,
            credential: CredentialKind::Login,
            scopes: Scopes::Only([Action::SessionAuthenticate].into()),
            issued: now,
            expires: ready,
        };
        let control = &self.authority.control;
        let caller = match self.prove(&proof, principal.id) {
            Ok(caller) => caller,
            Err((caller, reason)) => {
                control.refuse_caller(&caller, reason).await;
                return Err(ReasonCode::LoginFailed.into());
            }
        };
        let shown = RecoveryPending {
            begun: now,
            ready,
            agent: visitor.agent.to_string(),
            network: visitor.network(),
        };
        let after = RecoveryRow { pending: Some(Pending { code, shown }), ..held.value.clone() };
        let request = ("recovery", held.value.id);
        let change = held.replace(&after)?;
        control
            .change_with(&caller, Action::SessionAuthenticate, &request, async |_, _| {
                Ok((vec![change], ready))
            })
            .await
            .map(|done| done.value)
    }

    /// The recovery of whoever asks that waits, if there is one: they are told on every page until it is over.
    ///
    /// # Errors
    /// When the state database does not answer.
    pub async fn pending_recovery(&self, who: &SignedIn) -> Result<Option<RecoveryPending>, Stopped> {
        let held =
            find::<RecoveryRow>(&*self.authority.rows, &who.principal.id.to_string(), self.now()).await?;
        Ok(held.and_then(|held| held.value.pending).map(|pending| pending.shown))
    }

    /// Stops a recovery that waits. Its code is dead.
    ///
    /// # Errors
    /// When there is none, or policy says no.
    pub async fn stop_recovery(&self, who: &SignedIn) -> Result<Done<()>, Stopped> {
        let (now, id) = (self.now(), who.principal.id.to_string());
        self.authority
            .control
            .change_with(&who.caller, Action::AuthenticatorChange, &("stop recovery", now), async |_, _| {
                let held = find::<RecoveryRow>(&*self.authority.rows, &id, now).await;
                let held = held.map_err(|e| Stopped::from(e).problem)?;
                let held = held.ok_or(ReasonCode::NotFound).map_err(bartizan_model::Problem::new)?;
                let mut after = held.value.clone();
                let Some(pending) = after.pending.take() else {
                    return Err(bartizan_model::Problem::new(ReasonCode::NotFound));
                };
                after.codes.retain(|c| *c != pending.code);
                let change = held.replace(&after).map_err(|e| broken("recovery codes cannot be kept", &e))?;
                Ok((vec![change], ()))
            })
            .await
    }
}
