//! Claims that several profiles share: audiences, times, chains of actors.

use std::time::Duration;

use bartizan_base::Timestamp;
use serde_json::{Map, Value, json};

use crate::reader::Reader;
use crate::token::TokenError;

/// How deep a chain of actors may be.
pub const ACTORS_MAX: usize = 4;
/// The most that clocks may be taken to differ. A larger skew in rules counts as this.
pub const SKEW_MAX: Duration = Duration::from_secs(60);

/// For whom a token is: a text or a list in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// One, written as a text.
    One(String),
    /// A list; never empty.
    Many(Vec<String>),
}

impl Audience {
    /// Whether `audience` is among them.
    #[must_use]
    pub fn contains(&self, audience: &str) -> bool {
        self.iter().any(|a| a == audience)
    }

    /// Whether it is `audience` alone, written as a text: what RFC 7523's revision asks against injected audiences.
    #[must_use]
    pub fn is_exactly(&self, audience: &str) -> bool {
        matches!(self, Self::One(one) if one == audience)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many.as_slice(),
        }
        .iter()
        .map(String::as_str)
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::One(one) => one.as_str().into(),
            Self::Many(many) => many.as_slice().into(),
        }
    }
}

/// When a token holds. Written in whole seconds; a fraction of a second is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it was issued.
    pub issued: Timestamp,
    /// Before this it does not hold, where the issuer says.
    pub not_before: Option<Timestamp>,
    /// From this on it does not hold.
    pub expires: Timestamp,
}

/// Against what times are held.
#[derive(Clone, Copy, Debug)]
pub struct TimeRules {
    /// The moment of the check.
    pub now: Timestamp,
    /// How far the issuer's clock may be off; at most [`SKEW_MAX`].
    pub skew: Duration,
    /// How long a token may hold in all, from its issue to its end.
    pub life_max: Duration,
}

impl TimeRules {
    /// How far clocks are taken to differ.
    #[must_use]
    pub fn skew(&self) -> Duration {
        self.skew.min(SKEW_MAX)
    }

    /// Checks `times`.
    ///
    /// # Errors
    /// `Expired`, `NotYetValid` or `TooLongLived`.
    pub fn check(&self, times: &Times) -> Result<(), TokenError> {
        if self.now >= times.expires.saturating_add(self.skew()) {
            return Err(TokenError::Expired);
        }
        self.check_past(times.issued)?;
        times.not_before.map_or(Ok(()), |moment| self.check_past(moment))?;
        if times.expires.saturating_since(times.issued) > self.life_max || times.expires < times.issued {
            return Err(TokenError::TooLongLived);
        }
        Ok(())
    }

    /// Checks that `moment` is not in the future.
    pub(crate) fn check_past(&self, moment: Timestamp) -> Result<(), TokenError> {
        let future = moment > self.now.saturating_add(self.skew());
        if future { Err(TokenError::NotYetValid) } else { Ok(()) }
    }
}

/// Who acts for the subject (RFC 8693, 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub sub: String,
    /// Whose name that is, where it is not the token's issuer.
    pub iss: Option<String>,
    /// Through which client program.
    pub client_id: Option<String>,
}

impl Actor {
    /// An actor known to the token's issuer.
    #[must_use]
    pub fn named(sub: impl Into<String>) -> Self {
        Self { sub: sub.into(), iss: None, client_id: None }
    }

    /// Whether `other` is the same party, in a token that `issuer` issues.
    #[must_use]
    pub fn is_same(&self, other: &Self, issuer: &str) -> bool {
        self.sub == other.sub
            && self.iss.as_deref().unwrap_or(issuer) == other.iss.as_deref().unwrap_or(issuer)
    }

    /// Reads one actor, and leaves what it holds of earlier ones in `claims`.
    pub(crate) fn read(claims: &mut Reader) -> Result<Self, TokenError> {
        Ok(Self {
            sub: claims.text("sub")?,
            iss: claims.text_opt("iss")?,
            client_id: claims.text_opt("client_id")?,
        })
    }

    /// Reads a chain, outermost first.
    pub(crate) fn read_chain(claims: &mut Reader) -> Result<Vec<Self>, TokenError> {
        let mut out = Vec::new();
        let mut next = claims.object_opt("act")?;
        while let Some(members) = next {
            if out.len() == ACTORS_MAX {
                return Err(TokenError::ChainTooLong);
            }
            let mut actor = Reader::new(members);
            out.push(Self::read(&mut actor)?);
            next = actor.object_opt("act")?;
        }
        Ok(out)
    }

    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("sub".to_owned(), self.sub.as_str().into());
        put(&mut out, "iss", self.iss.as_deref());
        put(&mut out, "client_id", self.client_id.as_deref());
        out
    }

    pub(crate) fn write_chain(chain: &[Self], into: &mut Map<String, Value>) {
        let nested = chain.iter().rev().fold(None, |inner: Option<Value>, actor| {
            let mut members = actor.to_json();
            members.extend(inner.map(|inner| ("act".to_owned(), inner)));
            Some(Value::Object(members))
        });
        put(into, "act", nested);
    }
}

/// Writes a claim that is there.
pub(crate) fn put(into: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        into.insert(name.to_owned(), value.into());
    }
}

/// Writes a list that is not empty.
pub(crate) fn put_list(into: &mut Map<String, Value>, name: &str, list: &[String]) {
    put(into, name, (!list.is_empty()).then(|| Value::from(list)));
}

pub(crate) fn put_times(into: &mut Map<String, Value>, times: &Times) {
    put(into, "iat", Some(times.issued.as_secs()));
    put(into, "nbf", times.not_before.map(Timestamp::as_secs));
    put(into, "exp", Some(times.expires.as_secs()));
}

/// A claim set that starts with `others`, so that they cannot replace what the profile writes.
pub(crate) fn start(others: &Map<String, Value>, iss: &str) -> Map<String, Value> {
    let mut out = others.clone();
    out.insert("iss".to_owned(), json!(iss));
    out
}
