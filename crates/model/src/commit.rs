//! What a leaf says about something that it does not hold: a commitment to a value, a reference to a payload.
//!
//! Data only. Making and checking commitments is the vault's, which alone has the keys.

use std::fmt;
use std::str::FromStr;

use bartizan_base::Digest;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::DataKeyId;

const PREFIX: &str = "hmac-sha256:";

/// A commitment to one personal field: HMAC-SHA256 (RFC 2104) over the field's name, a zero byte and its value, under 32
/// random bytes that lie with the value. Without them nothing can be guessed, so it may stay after an erasure. Written
/// `hmac-sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commitment(Digest);

/// A prompt or output that lies in the vault, sealed, as a leaf names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PayloadRef {
    /// SHA-256 of the sealed file.
    pub sha256: Digest,
    /// The sealed file's length in bytes.
    pub bytes: u64,
    /// The data key under which it was sealed. Once that is destroyed, nobody reads it.
    pub key: DataKeyId,
}

/// The text is not a commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a commitment is `hmac-sha256:` and 64 lower-case hexadecimal digits")]
pub struct CommitmentError;

// === impl Commitment ===

impl Commitment {
    /// A commitment computed elsewhere.
    #[must_use]
    pub const fn from_mac(mac: Digest) -> Self {
        Self(mac)
    }

    /// The 32 bytes of the HMAC.
    #[must_use]
    pub const fn mac(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl FromStr for Commitment {
    type Err = CommitmentError;

    fn from_str(text: &str) -> Result<Self, CommitmentError> {
        let digits = text.strip_prefix(PREFIX).ok_or(CommitmentError)?;
        digits.parse().map(Self).map_err(|_| CommitmentError)
    }
}

impl Serialize for Commitment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Commitment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Commitment {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Commitment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^hmac-sha256:[0-9a-f]{64}$",
            "description": "A commitment to a personal field whose value and key lie in the vault."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_is_written_with_its_algorithm_and_read_back() {
        let commitment = Commitment::from_mac(Digest::of(b"abc"));
        let text = "hmac-sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(commitment.to_string(), text);
        assert_eq!(text.parse(), Ok(commitment));
        let json = serde_json::to_string(&commitment).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Commitment>(&json).unwrap(), commitment);
    }

    #[test]
    fn another_algorithm_case_or_length_is_refused() {
        let digits = "a".repeat(64);
        for text in [
            digits.clone(),
            format!("sha256:{digits}"),
            format!("hmac-sha512:{digits}"),
            format!("HMAC-SHA256:{digits}"),
            format!("hmac-sha256:{}", "A".repeat(64)),
            format!("hmac-sha256:{digits}a"),
            "hmac-sha256:".to_owned(),
        ] {
            assert_eq!(text.parse::<Commitment>(), Err(CommitmentError), "{text}");
            assert!(serde_json::from_str::<Commitment>(&format!("\"{text}\"")).is_err());
        }
    }
}
