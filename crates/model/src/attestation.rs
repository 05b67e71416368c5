//! Authenticators whose makers vouch for them: which roots are believed, and for which models.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bartizan_base::Text;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Status;

/// A maker's root certificate, and the models for which its word is taken (WebAuthn Level 3, 6.5; NIST SP 800-63B-4, 2.3).
/// Whoever logs in with such an authenticator, which no key leaves, is proven at level 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttestationSpec {
    /// Whether it is believed.
    #[serde(default)]
    pub status: Status,
    /// The certificate that attestations end at, as PEM.
    pub root: Text<8192>,
    /// The models, by their AAGUIDs; at least one.
    pub aaguids: BTreeSet<Aaguid>,
    /// Whether new passkeys are taken only of models that some document of this kind names. Those that are there stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub demanded: bool,
}

/// A model of authenticators: `2fc0579f-8113-47ea-b116-bb5a8db9202a`. Never the one of all zeros, by which authenticators say
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aaguid([u8; 16]);

/// The text is no AAGUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a model of authenticators is a UUID, not of zeros alone, such as `2fc0579f-8113-47ea-b116-bb5a8db9202a`"
)]
pub struct NotAnAaguid;

impl Aaguid {
    /// The model of these bytes; none for zeros.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for Aaguid {
    type Err = NotAnAaguid;

    fn from_str(text: &str) -> Result<Self, NotAnAaguid> {
        let mut parts = text.split('-');
        let long = [8, 4, 4, 4, 12].map(|long| parts.next().filter(|part| part.len() == long));
        if parts.next().is_some() {
            return Err(NotAnAaguid);
        }
        let digits: String = long.into_iter().collect::<Option<_>>().ok_or(NotAnAaguid)?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| pair.get(at).and_then(|b| char::from(*b).to_digit(16));
            let (high, low) = digit(0).zip(digit(1)).ok_or(NotAnAaguid)?;
            *byte = u8::try_from(high * 16 + low).map_err(|_| NotAnAaguid)?;
        }
        Self::from_bytes(bytes).ok_or(NotAnAaguid)
    }
}

impl fmt::Display for Aaguid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Aaguid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Aaguid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Aaguid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Aaguid {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Aaguid".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "uuid"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_written_as_it_was_read_and_never_nobody() {
        let text = "2fc0579f-8113-47ea-b116-bb5a8db9202a";
        let read: Aaguid = text.to_uppercase().parse().unwrap();
        assert_eq!(read.to_string(), text);
        assert_eq!(read.as_bytes().first(), Some(&0x2f));
        for bad in [
            "",
            "00000000-0000-0000-0000-000000000000",
            "2fc0579f811347eab116bb5a8db9202a",
            "2fc0579f-8113-47ea-b116-bb5a8db9202",
            "2fc0579f-8113-47ea-b116-bb5a8db9202a-",
            "2fc0579g-8113-47ea-b116-bb5a8db9202a",
            "+fc0579f-8113-47ea-b116-bb5a8db9202a",
            "2fc0579f-8113-47ea-b116-bb5a8db920é",
        ] {
            assert_eq!(bad.parse::<Aaguid>(), Err(NotAnAaguid), "{bad}");
        }
    }
}
