//! Time-based one-time passwords (RFC 6238): a second factor, never the only one. Six digits, half a minute, SHA-1, as every
//! program for them understands.

use aws_lc_rs::hmac;
use bartizan_base::{Name, Timestamp};
use bartizan_control::{Done, Stopped};
use bartizan_model::{Action, AssuranceLevel, AuthenticatorId, Principal, Problem, ReasonCode};
use bartizan_secret::{Secret, constant_time_eq};
use bartizan_store::RowKind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use super::session::Proven;
use super::step::Stage;
use super::{Entered, Login, SignedIn, Visitor, broken};
use crate::kept::{Held, Kept, Reach, find, keep, owner};

const STEP_S: u64 = 30;
const SECRET_LEN: usize = 20;

/// The secret of codes as it is kept, with the last step that was used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TotpRow {
    pub(super) id: AuthenticatorId,
    pub(super) principal: Principal,
    /// The secret in base 32, sealed, in base 64.
    sealed: String,
    /// The last half minute of which a code was taken. An equal or earlier one is never taken again.
    last_step: u64,
    pub(super) created: Timestamp,
    pub(super) used: Option<Timestamp>,
}

impl Kept for TotpRow {
    const KIND: RowKind = RowKind::Totp;

    fn owner(&self) -> String {
        owner(&self.principal)
    }

    fn expires(&self) -> Option<Timestamp> {
        None
    }
}

/// A secret for codes, shown once.
#[derive(Debug)]
pub struct TotpOffer {
    /// The secret, in base 32, for typing.
    pub secret: Secret<String>,
    /// The same as an address that programs for codes understand.
    pub address: Secret<String>,
    /// The sealed step, to be sent back with the first code.
    pub step: String,
}

/// The code of a step (RFC 4226, 5.3).
fn code(secret: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag.last().copied().unwrap_or_default() & 0xf);
    let four =
        tag.get(offset..offset + 4).and_then(|four| <[u8; 4]>::try_from(four).ok()).unwrap_or_default();
    format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
}

/// The step whose code this is: the present one or one of its neighbours, and later than the last that was used.
fn matching(secret: &[u8], given: &str, now: Timestamp, last: u64) -> Option<u64> {
    let present = now.as_secs() / STEP_S;
    let steps = [present.saturating_sub(1), present, present.saturating_add(1)];
    // All are computed, whichever fits.
    let fits =
        steps.map(|step| constant_time_eq(code(secret, step).as_bytes(), given.as_bytes()) && step > last);
    steps.into_iter().zip(fits).find_map(|(step, fits)| fits.then_some(step))
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Base 32 (RFC 4648, 6) without padding.
pub(super) fn base32(bytes: &[u8]) -> String {
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    let digits = bits.chunks(5).map(|five| five.iter().fold(0, |n, bit| n << 1 | bit) << (5 - five.len()));
    digits.map(|digit: u8| ALPHABET.get(usize::from(digit)).map_or('?', |c| char::from(*c))).collect()
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().map(|c| ALPHABET.iter().position(|a| *a == c)).collect::<Option<Vec<_>>>()?;
    let bits: Vec<u8> =
        digits.iter().flat_map(|d| (0..5).rev().map(move |bit| u8::from(d >> bit & 1 == 1))).collect();
    Some(bits.chunks_exact(8).map(|eight| eight.iter().fold(0, |n, bit| n << 1 | bit)).collect())
}

impl Login {
    /// Looks at a code, after a password was right.
    ///
    /// # Errors
    /// `login_failed`, `login_stale`, `login_throttled`; or what policy says.
    pub async fn second(&self, visitor: &Visitor, step: &str, given: &str) -> Result<Entered, Stopped> {
        let (stage, once) = match self.open_step(visitor, None, step) {
            Ok(opened) => opened,
            Err(reason) => return Err(self.refuse(&self.home(), reason).await),
        };
        let Stage::Second { tenant, principal, failures } = stage else {
            return Err(self.refuse(&self.home(), ReasonCode::LoginStale).await);
        };
        let (account, more) = self.begin_attempt(visitor, &tenant, &principal.name, Some(&principal)).await?;
        let held = find::<TotpRow>(&*self.authority.rows, &principal.id.to_string(), self.now()).await?;
        let used = match held {
            Some(held) => self.use_code(&held, given)?,
            None => None,
        };
        let Some(change) = used else { return Err(self.refuse(&tenant, ReasonCode::LoginFailed).await) };
        let proven = Proven {
            tenant,
            principal,
            level: AssuranceLevel::Aal2,
            methods: ["mfa", "otp", "pwd"].map(Name::literal).to_vec(),
            via: None,
            at: None,
            reach: Reach::Full,
            // The first factor's own attempt is none that failed.
            failures: failures.max(more.saturating_sub(1)),
            changes: vec![once, change],
        };
        let entered = self.enter(visitor, proven).await?;
        self.throttle.good(&account, &visitor.network());
        Ok(entered)
    }

    /// The change that uses a code up, if it is right.
    #[expect(clippy::result_large_err, reason = "an administrative answer, not a hot path")]
    fn use_code(&self, held: &Held<TotpRow>, given: &str) -> Result<Option<bartizan_store::Change>, Stopped> {
        let secret = self.open_secret(held)?;
        let given: String = given.chars().filter(|c| !c.is_whitespace()).collect();
        let Some(step) = matching(&secret, &given, self.now(), held.value.last_step) else { return Ok(None) };
        let used = TotpRow { last_step: step, used: Some(self.now()), ..held.value.clone() };
        Ok(Some(held.replace(&used)?))
    }

    /// Offers a secret for codes. It counts only when a code of it has come back.
    ///
    /// # Errors
    /// When the login is too old.
    pub async fn offer_totp(&self, visitor: &Visitor, who: &SignedIn) -> Result<TotpOffer, Stopped> {
        self.demand_fresh(who).await?;
        let mut secret = [0; SECRET_LEN];
        self.authority.control.random.fill(&mut secret);
        let secret = base32(&secret);
        let issuer: String = url::form_urlencoded::byte_serialize(self.host().as_bytes()).collect();
        let account: String = url::form_urlencoded::byte_serialize(who.principal.name.as_bytes()).collect();
        let address = format!("otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}");
        let stage = Stage::Totp { secret: secret.clone() };
        let step = self.seal_step(visitor, Some(who.session.value.id), stage)?;
        Ok(TotpOffer { secret: Secret::new(secret), address: Secret::new(address), step })
    }

    /// Keeps the secret of an offer whose first code came back.
    ///
    /// # Errors
    /// When the code is wrong, the offer is over, or policy says no.
    pub async fn confirm_totp(
        &self,
        visitor: &Visitor,
        who: &SignedIn,
        step: &str,
        given: &str,
    ) -> Result<Done<()>, Stopped> {
        self.demand_fresh(who).await?;
        let (stage, once) = self.open_step(visitor, Some(who.session.value.id), step)?;
        let Stage::Totp { secret } = stage else { return Err(ReasonCode::LoginStale.into()) };
        let bytes = from_base32(&secret).ok_or(ReasonCode::LoginStale)?;
        let now = self.now();
        let given: String = given.chars().filter(|c| !c.is_whitespace()).collect();
        let Some(last_step) = matching(&bytes, &given, now, 0) else {
            return Err(Problem::with_detail(
                ReasonCode::AuthenticatorRefused,
                "that is not the code of this moment",
            )
            .into());
        };
        let control = &self.authority.control;
        let sealed = control
            .sealer
            .seal(&Secret::new(secret), &who.tenant, &place(&who.principal)?, &*control.random)
            .map_err(|e| broken("a secret cannot be sealed", &e))?;
        let row = TotpRow {
            id: AuthenticatorId::new(now, &*control.random),
            principal: who.principal.clone(),
            sealed: STANDARD_NO_PAD.encode(sealed),
            last_step,
            created: now,
            used: None,
        };
        let id = who.principal.id.to_string();
        control
            .change_with(&who.caller, Action::AuthenticatorChange, &("totp", row.id), async |_, tenant| {
                let present = find::<TotpRow>(&*self.authority.rows, &id, now).await;
                let change = match present.map_err(|e| Stopped::from(e).problem)? {
                    Some(held) => held.replace(&row),
                    None => keep(tenant, id.clone(), &row),
                };
                Ok((vec![once, change.map_err(|e| broken("a secret cannot be kept", &e))?], ()))
            })
            .await
    }

    fn open_secret(&self, held: &Held<TotpRow>) -> Result<Vec<u8>, Problem> {
        let bytes =
            STANDARD_NO_PAD.decode(&held.value.sealed).map_err(|e| broken("a secret is no base 64", &e))?;
        let text = self.authority.control.sealer.open(&bytes, &held.tenant, &place(&held.value.principal)?);
        let text = text.map_err(|e| broken("a secret cannot be opened", &e))?;
        from_base32(text.expose()).ok_or_else(|| Problem::new(ReasonCode::Internal))
    }

    /// The host that people know us by.
    pub(super) fn host(&self) -> &str {
        self.authority.issuer.split_once("://").map_or("bartizan", |(_, rest)| rest)
    }
}

fn place(principal: &Principal) -> Result<Name, Problem> {
    format!("login/totp/{}", principal.id).parse().map_err(|e| broken("a place has no name", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC: &[u8] = b"12345678901234567890";

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn codes_are_those_of_rfc_6238_appendix_b() {
        for (seconds, expected) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(code(RFC, seconds / 30), expected.get(2..).unwrap(), "{seconds}");
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (plain, text) in
            [("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("fooba", "MZXW6YTB")]
        {
            assert_eq!(base32(plain.as_bytes()), text);
            assert_eq!(from_base32(text).unwrap(), plain.as_bytes());
        }
        assert!(from_base32("MZ1").is_none() && from_base32("mz").is_none());
    }

    #[test]
    fn attack_47_a_code_is_good_once_and_only_within_a_step() {
        let now = at(1_111_111_111);
        let present = now.as_secs() / 30;
        let step = matching(RFC, &code(RFC, present), now, 0).unwrap();
        assert_eq!(step, present);
        assert!(matching(RFC, &code(RFC, present), now, step).is_none(), "the same step again");
        assert!(
            matching(RFC, &code(RFC, present - 1), now, step).is_none(),
            "an older step after a newer one"
        );
        assert_eq!(matching(RFC, &code(RFC, present + 1), now, step), Some(present + 1));
        for drift in [-2_i64, 2, -10, 10] {
            let far = present.checked_add_signed(drift).unwrap();
            assert!(matching(RFC, &code(RFC, far), now, 0).is_none(), "{drift}");
        }
        for bad in ["", "000000", "05047", "0504711", "O50471"] {
            assert!(matching(RFC, bad, now, 0).is_none(), "{bad}");
        }
    }
}
