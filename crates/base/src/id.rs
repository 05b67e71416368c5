//! Typed identifiers: a prefix that says what it names, and a UUIDv7 (RFC 9562).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use uuid::Uuid;

use crate::random::Random;
use crate::time::Timestamp;

/// What an [`Id`] names. The list of kinds is closed: see [`kinds`].
pub trait IdKind: 'static {
    /// Three letters printed before the underscore.
    const PREFIX: &'static str;
}

/// An identifier of one kind, such as `dec_0193…`. Ids made later sort later.
pub struct Id<K> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

macro_rules! id_kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident $prefix:literal,)+) => {
        /// The kinds of identifiers. Add at the right alphabetical place; a prefix is never used again.
        pub mod kinds {
            $($(#[doc = $doc])+ #[derive(Clone, Copy, Debug)] pub enum $kind {}
            impl super::IdKind for $kind { const PREFIX: &'static str = $prefix; })+

            /// Every prefix with the kind's name, for the generated reference.
            pub const ALL: &[(&str, &str)] = &[$(($prefix, stringify!($kind)),)+];
        }
    };
}

id_kinds! {
    /// A demand for approval and its answers.
    Approval "apr",
    /// A passkey, password, one-time password or set of recovery codes of somebody.
    Authenticator "aut",
    /// A certificate that the house issued.
    Certificate "crt",
    /// The single-use claim of the first administrator.
    Claim "clm",
    /// An external account that somebody connected.
    Connection "con",
    /// A data key: personal data of one principal lies under it until it is destroyed.
    DataKey "dek",
    /// One decision, and the ask it answers.
    Decision "dec",
    /// An exact thing that somebody allowed.
    Detail "det",
    /// The erasure of a principal's personal data.
    Erasure "ers",
    /// A family of refresh tokens.
    Family "fam",
    /// What somebody allowed a client or agent to do in their name.
    Grant "grt",
    /// An API key.
    Key "key",
    /// A lock on somebody or something.
    Lock "lck",
    /// A running process of Bartizan.
    Node "nod",
    /// The pseudonym of a person, agent or workload in records.
    Principal "prn",
    /// A session, derived by us.
    Session "ses",
    /// A stream of security events.
    Stream "str",
    /// An access token (`jti`).
    Token "tok",
}

impl<K: IdKind> JsonSchema for Id<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        K::PREFIX.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": format!("^{}_", K::PREFIX)})
    }
}

impl<K: IdKind> Id<K> {
    /// A fresh id: 48 bits of milliseconds, 74 bits of randomness (RFC 9562, 5.7).
    #[must_use]
    pub fn new(now: Timestamp, random: &dyn Random) -> Self {
        let mut bytes = [0; 10];
        random.fill(&mut bytes);
        Self::from_parts(now, bytes)
    }

    /// The id of a given moment and randomness.
    #[must_use]
    pub fn from_parts(now: Timestamp, random: [u8; 10]) -> Self {
        Self {
            uuid: uuid::Builder::from_unix_timestamp_millis(now.as_micros() / 1_000, &random).into_uuid(),
            kind: PhantomData,
        }
    }

    /// The moment the id was made, in whole milliseconds; zero for an id that is not of version 7.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        let millis = self.uuid.get_timestamp().map_or(0, |t| {
            let (seconds, nanos) = t.to_unix();
            seconds.saturating_mul(1_000).saturating_add(u64::from(nanos / 1_000_000))
        });
        Timestamp::from_micros(millis.saturating_mul(1_000))
    }

    /// The id of these sixteen bytes; none unless they are a UUID of version 7.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let uuid = Uuid::from_bytes(bytes);
        (uuid.get_version_num() == 7).then_some(Self { uuid, kind: PhantomData })
    }

    /// The sixteen bytes of the UUID.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.uuid.as_bytes()
    }
}

// Derives would demand the bounds of `K`, which is never a value.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

impl<K: IdKind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", K::PREFIX, self.uuid.simple())
    }
}

impl<K: IdKind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an id of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of this kind is `{prefix}_` and 32 lower-case hexadecimal digits")]
pub struct IdError {
    prefix: &'static str,
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError { prefix: K::PREFIX };
        let digits =
            text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or(error.clone())?;
        if digits.len() != 32 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(error);
        }
        let uuid = Uuid::try_parse(digits).map_err(|_| error)?;
        Ok(Self { uuid, kind: PhantomData })
    }
}

impl<K: IdKind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Not by way of `Display`: every record of the ledger holds several.
        let mut text = [b'_'; 36];
        let (prefix, digits) = text.split_at_mut(4);
        for (to, from) in prefix.iter_mut().zip(K::PREFIX.bytes()) {
            *to = from;
        }
        self.uuid.simple().encode_lower(digits);
        serializer.serialize_str(std::str::from_utf8(&text).map_err(ser::Error::custom)?)
    }
}

impl<'de, K: IdKind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn id_round_trips_and_keeps_its_moment() {
        let now = Timestamp::from_micros(1_795_000_000_123_456);
        let id = Id::<kinds::Decision>::new(now, &SeededRandom::new(1));
        let text = id.to_string();
        assert!(text.starts_with("dec_"));
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(id.timestamp(), Timestamp::from_micros(1_795_000_000_123_000));
    }

    #[test]
    fn id_of_another_kind_or_shape_is_refused() {
        let key = Id::<kinds::Key>::new(Timestamp::from_micros(0), &SeededRandom::new(1)).to_string();
        assert!(key.parse::<Id<kinds::Decision>>().is_err());
        assert!(key.to_uppercase().parse::<Id<kinds::Key>>().is_err());
        assert!("key_".parse::<Id<kinds::Key>>().is_err());
    }

    #[test]
    fn prefixes_are_unique_sorted_by_kind_and_three_letters() {
        let mut prefixes: Vec<_> = kinds::ALL.iter().map(|(p, _)| *p).collect();
        assert!(prefixes.iter().all(|p| p.len() == 3));
        assert!(kinds::ALL.is_sorted_by_key(|(_, kind)| *kind));
        prefixes.sort_unstable();
        prefixes.dedup();
        assert_eq!(prefixes.len(), kinds::ALL.len());
    }
}
