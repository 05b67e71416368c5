//! Refresh tokens: families that are kept as one row each.
//!
//! A token's text is the family's id, a proof of having belonged to the family, and a secret of 256 bits that changes with
//! every use. Of proof and secret only digests are kept. The next secret follows from the last one and from a number that is
//! drawn at its use and kept beside the digests: so a repetition within the grace window (several sessions of one program
//! share one stored token) gets the same successor, though nothing is kept that would let anybody else make it.
//!
//! A token of the family that is neither the present one nor within the window was copied: the whole family is withdrawn,
//! and with it what was issued under its grants. Texts that are no token of ours do nothing.

use std::time::Duration;

use bartizan_base::{Digest, Name, Random, Timestamp};
use bartizan_jose::Confirmation;
use bartizan_model::{FamilyId, Principal, ReasonCode};
use bartizan_secret::{Secret, constant_time_eq};
use bartizan_store::{Change, RowKind};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::clients::Bound;
use crate::issue::{BoundTo, Holder, Rights};
use crate::kept::{Kept, keep, owner};
use crate::oauth::{OauthCode, OauthError};

/// What every refresh token begins with, so that leak scanners know it.
pub const PREFIX: &str = "brt_";
/// How long a token that was used is answered with its successor.
pub const GRACE: Duration = Duration::from_secs(45);
/// How long a family lives whatever happens.
pub const ABSOLUTE: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long it lives unless it is used.
pub const IDLE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How often a family may rotate within the window: more is not how programs refresh.
const RECENT_MAX: usize = 16;

const ID_LEN: usize = 16;
const PROOF_LEN: usize = 16;
const SECRET_LEN: usize = 32;

/// A family of refresh tokens: one login of one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Family {
    /// Which.
    pub id: FamilyId,
    /// The client it belongs to.
    pub client: String,
    /// What stands for the client in epochs and records.
    pub client_name: Name,
    /// What its tokens may be used for.
    pub rights: Rights,
    /// Whether its tokens are used with the key that they are bound to and no other: of clients that prove nothing else.
    pub held: bool,
    /// SHA-256 of what every token of the family holds.
    proof: Digest,
    /// SHA-256 of the present token's secret.
    present: Digest,
    /// The tokens that were used within the window, the oldest first.
    recent: Vec<Used>,
    /// When it began.
    pub began: Timestamp,
    /// When it was used last.
    pub used: Timestamp,
    /// How often it was rotated.
    pub rotations: u64,
    /// When it was withdrawn: kept so that its tokens are known for what they are.
    pub withdrawn: Option<Timestamp>,
}

/// A token that was used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Used {
    /// SHA-256 of its secret.
    digest: Digest,
    /// What its successor follows from, beside its secret.
    number: Digest,
    /// When.
    at: Timestamp,
}

/// A refresh token as it was presented.
#[derive(Debug)]
pub(crate) struct Presented {
    pub(crate) family: FamilyId,
    proof: Secret<[u8; PROOF_LEN]>,
    secret: Secret<[u8; SECRET_LEN]>,
}

/// What a token of the family is worth now.
#[derive(Debug)]
pub(crate) enum Standing {
    /// The present one: it is rotated.
    Present {
        /// The family as it is to be kept.
        family: Box<Family>,
        /// The successor.
        text: Secret<String>,
    },
    /// One that was just used: it gets what its first use led to.
    Repeated {
        /// The present token.
        text: Secret<String>,
    },
    /// One that was used long ago, or something made of it.
    Reused,
    /// No token of the family.
    Foreign,
    /// Too many rotations in too short a time.
    Hasty,
}

impl Kept for Family {
    const KIND: RowKind = RowKind::Refresh;

    fn owner(&self) -> String {
        owner(&self.rights.get().subject)
    }

    fn expires(&self) -> Option<Timestamp> {
        // Also a withdrawn one is kept until then, so that its tokens are recognised.
        Some(self.rights.get().ends.min(self.used.saturating_add(IDLE)))
    }
}

impl Presented {
    /// Reads a token's text; none for what cannot be one of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?);
        let (id, rest) = bytes.split_first_chunk::<ID_LEN>()?;
        let (proof, secret) = rest.split_first_chunk::<PROOF_LEN>()?;
        let secret = <[u8; SECRET_LEN]>::try_from(secret).ok()?;
        Some(Self {
            family: FamilyId::from_bytes(*id)?,
            proof: Secret::new(*proof),
            secret: Secret::new(secret),
        })
    }

    fn write(family: FamilyId, proof: &[u8; PROOF_LEN], secret: &[u8; SECRET_LEN]) -> Secret<String> {
        let mut bytes = zeroize::Zeroizing::new([0; ID_LEN + PROOF_LEN + SECRET_LEN]);
        let parts = family.as_bytes().iter().chain(proof).chain(secret);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())))
    }
}

/// SHA-256 of a secret under a label, so that no digest stands for two things.
fn digest(label: &str, secret: &[u8]) -> Digest {
    Digest::of_parts(&[b"bartizan refresh ", label.as_bytes(), b"\0", secret])
}

/// The secret that follows. All parts have fixed lengths, and the outcome is as hard to guess as the secret it follows from.
fn successor(secret: &[u8; SECRET_LEN], number: &Digest) -> Secret<[u8; SECRET_LEN]> {
    let next = Digest::of_parts(&[b"bartizan refresh successor\0", secret, number.as_bytes()]);
    Secret::new(*next.as_bytes())
}

fn draw<const N: usize>(random: &dyn Random) -> Secret<[u8; N]> {
    let mut bytes = zeroize::Zeroizing::new([0; N]);
    random.fill(bytes.as_mut_slice());
    Secret::new(*bytes)
}

impl Family {
    /// A new family for `rights`, its first token and the change that keeps it.
    pub(crate) fn begin(
        id: FamilyId,
        client: &Holder,
        rights: &Rights,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<(Secret<String>, Change), OauthError> {
        let (proof, secret) = (draw::<PROOF_LEN>(random), draw::<SECRET_LEN>(random));
        let family = Self {
            id,
            client: client.id.clone(),
            client_name: client.name.clone(),
            rights: rights.clone().used_by(id).until(now.saturating_add(ABSOLUTE)),
            held: client.public,
            proof: digest("proof", proof.expose()),
            present: digest("secret", secret.expose()),
            recent: Vec::new(),
            began: now,
            used: now,
            rotations: 0,
            withdrawn: None,
        };
        let change = keep(&rights.get().tenant, id.to_string(), &family)?;
        Ok((Presented::write(id, proof.expose(), secret.expose()), change))
    }

    /// What a token is worth at `now`.
    pub(crate) fn hold(&self, token: &Presented, now: Timestamp, random: &dyn Random) -> Standing {
        let same = |a: &Digest, b: &Digest| constant_time_eq(a.as_bytes(), b.as_bytes());
        if !same(&digest("proof", token.proof.expose()), &self.proof) {
            return Standing::Foreign;
        }
        let shown = digest("secret", token.secret.expose());
        if same(&shown, &self.present) {
            return self.rotate(token, now, random);
        }
        // The one whose successor's successor is the present one: follow them all.
        let fresh = |used: &Used| now < used.at.saturating_add(GRACE);
        let Some(place) = self.recent.iter().position(|used| same(&used.digest, &shown) && fresh(used))
        else {
            return Standing::Reused;
        };
        let mut secret = token.secret.clone();
        for used in self.recent.iter().skip(place) {
            secret = successor(secret.expose(), &used.number);
        }
        if !same(&digest("secret", secret.expose()), &self.present) {
            return Standing::Reused;
        }
        Standing::Repeated { text: Presented::write(self.id, token.proof.expose(), secret.expose()) }
    }

    fn rotate(&self, token: &Presented, now: Timestamp, random: &dyn Random) -> Standing {
        let mut recent: Vec<_> =
            self.recent.iter().copied().filter(|used| now < used.at.saturating_add(GRACE)).collect();
        if recent.len() >= RECENT_MAX {
            return Standing::Hasty;
        }
        let number = Digest::from_bytes(*draw::<32>(random).expose());
        let next = successor(token.secret.expose(), &number);
        recent.push(Used { digest: self.present, number, at: now });
        let family = Self {
            present: digest("secret", next.expose()),
            recent,
            used: now,
            rotations: self.rotations.saturating_add(1),
            ..self.clone()
        };
        let text = Presented::write(self.id, token.proof.expose(), next.expose());
        Standing::Present { family: Box::new(family), text }
    }

    /// The same, withdrawn.
    pub(crate) fn ended(&self, now: Timestamp) -> Self {
        Self { withdrawn: Some(self.withdrawn.unwrap_or(now)), recent: Vec::new(), ..self.clone() }
    }

    /// Whether whoever presents a token holds the key that it is bound to, where it is held to that.
    pub(crate) fn is_held_by(&self, bound: Bound) -> bool {
        let Some(BoundTo(to)) = self.rights.get().binding else { return true };
        match bound.confirmation() {
            None => false,
            Some(_) if !self.held => true,
            Some(shown) => covers(to, shown),
        }
    }

    /// Who stands behind it.
    #[must_use]
    pub const fn subject(&self) -> &Principal {
        &self.rights.get().subject
    }
}

/// Whether `shown` proves everything that `wanted` names.
fn covers(wanted: Confirmation, shown: Confirmation) -> bool {
    wanted.key().is_none_or(|key| shown.key() == Some(key))
        && wanted.certificate().is_none_or(|x5t| shown.certificate() == Some(x5t))
}

/// Too many rotations.
pub(crate) fn hasty() -> OauthError {
    OauthError::new(OauthCode::TemporarilyUnavailable, "the token is refreshed too often; wait a minute")
        .because(ReasonCode::Busy)
}

#[cfg(test)]
#[path = "refresh_tests.rs"]
mod tests;
