//! Passwords (NIST SP 800-63B-4, 3.1.1): long rather than odd, never ones that everybody guesses, never changed for a calendar.

use bartizan_base::{Name, Timestamp};
use bartizan_control::{Done, Stopped};
use bartizan_model::{Action, AssuranceLevel, AuthenticatorId, Principal, Problem, ReasonCode, Tenant};
use bartizan_secret::Secret;
use bartizan_store::RowKind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use zxcvbn::Score;

use super::hasher::Hashed;
use super::session::Proven;
use super::step::Stage;
use super::throttle::Account;
use super::totp::TotpRow;
use super::{Entered, Login, SignedIn, Visitor, broken, person};
use crate::kept::{Held, Kept, Reach, find, keep, owner};

/// Characters of a password that stands alone.
const ALONE_MIN: usize = 15;
/// Characters of one that a second factor stands beside.
const BESIDE_MIN: usize = 8;
/// Characters that are taken at most. More than anybody types, and enough for any phrase.
const LONGEST: usize = 256;

/// A password as it is kept: under envelope encryption, since whoever has only the database shall have nothing to guess at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PasswordRow {
    pub(super) id: AuthenticatorId,
    pub(super) principal: Principal,
    /// The hash and its parameters, sealed, in base 64.
    sealed: String,
    /// Whether it is long enough to stand alone.
    pub(super) alone: bool,
    pub(super) created: Timestamp,
    pub(super) used: Option<Timestamp>,
}

impl Kept for PasswordRow {
    const KIND: RowKind = RowKind::Password;

    fn owner(&self) -> String {
        owner(&self.principal)
    }

    fn expires(&self) -> Option<Timestamp> {
        None
    }
}

/// What a right password leads to.
#[derive(Debug)]
pub enum PasswordAnswer {
    /// A session.
    Entered(Entered),
    /// A code is still missing: the sealed step to be sent back with it.
    Second(String),
}

/// How a password is judged before it is taken.
fn judge(password: &str, beside: bool, name: &str) -> Result<(), Problem> {
    let refused = |detail: String| Err(Problem::with_detail(ReasonCode::PasswordRefused, detail));
    let length = password.chars().count();
    let least = if beside { BESIDE_MIN } else { ALONE_MIN };
    if length < least {
        return refused(format!("it has {length} characters, and needs {least}"));
    }
    if length > LONGEST {
        return refused(format!("at most {LONGEST} characters are taken"));
    }
    let guesses = zxcvbn::zxcvbn(password, &[name, "bartizan"]);
    if guesses.score() < Score::Three {
        return refused("it is among those that are guessed first".to_owned());
    }
    Ok(())
}

impl Login {
    /// Looks at a name and a password.
    ///
    /// Unknown names, wrong passwords, people without one and people who may not come in all lead to the same answer by the
    /// same work: one budget, one row, one hash, one record.
    ///
    /// # Errors
    /// `login_failed`, `login_throttled`; or what policy says.
    pub async fn password(
        &self,
        visitor: &Visitor,
        name: &str,
        password: &Secret<String>,
    ) -> Result<PasswordAnswer, Stopped> {
        let tenant = self.home();
        let found = self.authority.control.house.view(&tenant).map(|view| person(&view, &tenant, name))?;
        let (account, failures) = self.begin_attempt(visitor, &tenant, name, found.as_ref()).await?;
        if password.expose().chars().count() > LONGEST {
            return Err(self.refuse(&tenant, ReasonCode::LoginFailed).await);
        }
        let id = found.as_ref().map_or_else(|| "nobody".to_owned(), |principal| principal.id.to_string());
        let held = find::<PasswordRow>(&*self.authority.rows, &id, self.now()).await?;
        let second = find::<TotpRow>(&*self.authority.rows, &id, self.now()).await?;
        let held = held.filter(|held| held.tenant == tenant);
        let hashed = held.as_ref().map(|held| self.open_hash(held)).transpose()?;
        let right = self.hasher.holds(password, hashed.as_ref()).await?;
        let (Some(principal), Some(held), true) = (found, held, right) else {
            return Err(self.refuse(&tenant, ReasonCode::LoginFailed).await);
        };
        if second.is_some() {
            // The attempt is not given back: a code is still to be guessed, from the same budget.
            let stage = Stage::Second { tenant, principal, failures };
            return Ok(PasswordAnswer::Second(self.seal_step(visitor, None, stage)?));
        }
        if !held.value.alone {
            return Err(self.refuse(&tenant, ReasonCode::LoginFailed).await);
        }
        let mut used = held.value.clone();
        used.used = Some(self.now());
        if hashed.is_some_and(|hashed| self.hasher.is_outdated(&hashed)) {
            used.sealed = self.seal_hash(&tenant, &principal, password).await?;
        }
        let change = held.replace(&used)?;
        let proven = Proven {
            tenant,
            principal,
            level: AssuranceLevel::Aal1,
            methods: vec![Name::literal("pwd")],
            via: None,
            at: None,
            reach: Reach::Full,
            failures,
            changes: vec![change],
        };
        let entered = self.enter(visitor, proven).await?;
        self.throttle.good(&account, &visitor.network());
        Ok(PasswordAnswer::Entered(entered))
    }

    /// Takes an attempt out of the budgets, or refuses it.
    pub(super) async fn begin_attempt(
        &self,
        visitor: &Visitor,
        tenant: &Tenant,
        name: &str,
        found: Option<&Principal>,
    ) -> Result<(Account, u32), Stopped> {
        let known = found.and_then(|principal| self.known_browser(visitor, tenant, principal.id));
        let account = Account::new(&tenant.0, name, known);
        match self.throttle.begin(&account, &visitor.network(), self.now()) {
            Ok(failures) => Ok((account, failures)),
            Err(wait) => {
                let mut stopped = self.refuse(tenant, ReasonCode::LoginThrottled).await;
                stopped.problem.detail = format!("try again in {} seconds", wait.0.as_secs().max(1));
                Err(stopped)
            }
        }
    }

    /// Sets the password of whoever asks.
    ///
    /// # Errors
    /// When it is no good, the login is too old, or policy says no.
    pub async fn set_password(&self, who: &SignedIn, password: &Secret<String>) -> Result<Done<()>, Stopped> {
        self.demand_fresh(who).await?;
        let id = who.principal.id.to_string();
        let rows = &*self.authority.rows;
        let beside = find::<TotpRow>(rows, &id, self.now()).await?.is_some();
        judge(password.expose(), beside, &who.principal.name)?;
        let sealed = self.seal_hash(&who.tenant, &who.principal, password).await?;
        let now = self.now();
        let row = PasswordRow {
            id: AuthenticatorId::new(now, &*self.authority.control.random),
            principal: who.principal.clone(),
            sealed,
            alone: password.expose().chars().count() >= ALONE_MIN,
            created: now,
            used: None,
        };
        self.authority
            .control
            .change_with(
                &who.caller,
                Action::AuthenticatorChange,
                &("password", row.id),
                async |_, tenant| {
                    let present =
                        find::<PasswordRow>(rows, &id, now).await.map_err(|e| Stopped::from(e).problem)?;
                    let change = match present {
                        Some(held) => held.replace(&row),
                        None => keep(tenant, id.clone(), &row),
                    };
                    Ok((vec![change.map_err(|e| broken("a password cannot be kept", &e))?], ()))
                },
            )
            .await
    }

    async fn seal_hash(
        &self,
        tenant: &Tenant,
        principal: &Principal,
        password: &Secret<String>,
    ) -> Result<String, Stopped> {
        let control = &self.authority.control;
        let hashed = self.hasher.hash(password, &*control.random).await?;
        let text = serde_json::to_string(&hashed).map_err(|e| broken("a hash cannot be written", &e))?;
        let sealed = control.sealer.seal(&Secret::new(text), tenant, &place(principal)?, &*control.random);
        Ok(STANDARD_NO_PAD.encode(sealed.map_err(|e| broken("a hash cannot be sealed", &e))?))
    }

    fn open_hash(&self, held: &Held<PasswordRow>) -> Result<Hashed, Problem> {
        let bytes =
            STANDARD_NO_PAD.decode(&held.value.sealed).map_err(|e| broken("a password is no base 64", &e))?;
        let text = self.authority.control.sealer.open(&bytes, &held.tenant, &place(&held.value.principal)?);
        let text = text.map_err(|e| broken("a password cannot be opened", &e))?;
        serde_json::from_str(text.expose()).map_err(|e| broken("a password cannot be read", &e))
    }
}

fn place(principal: &Principal) -> Result<Name, Problem> {
    format!("login/password/{}", principal.id).parse().map_err(|e| broken("a place has no name", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(password: &str, beside: bool) -> bool {
        judge(password, beside, "alice").is_ok()
    }

    #[test]
    fn length_counts_in_characters_and_nothing_is_demanded_of_their_kinds() {
        assert!(ok("mistvogel quelle abendbrot", false));
        assert!(ok("ÄÖÜ ßñç 漢字 пример да", false), "any script");
        assert!(!ok("quelle7Abend!x", false), "fourteen do not stand alone");
        assert!(ok("quelle7Abend!x", true), "beside a second factor they do");
        assert!(!ok("qX7!zpw", true));
        assert!(ok(&"mistvogel quelle abendbrot ".repeat(9), false));
        assert!(!ok(&"mistvogel quelle abendbrot ".repeat(10), false));
    }

    #[test]
    fn attack_49_what_is_guessed_first_is_not_taken_however_long() {
        for bad in [
            "passwordpassword",
            "1234567890123456",
            "qwertyuiopasdfgh",
            "aaaaaaaaaaaaaaaaaaaa",
            "alicealicealice1",
        ] {
            assert!(!ok(bad, false), "{bad}");
            assert!(!ok(bad, true), "{bad}");
        }
    }
}
