//! Commitments: what a leaf holds instead of a personal value.

use bartizan_base::{Name, Random};
use bartizan_model::Commitment;
use bartizan_secret::{Secret, constant_time_eq};

use crate::crypt::{self, Key};

/// What opens the commitments of one record's group of fields: 32 random bytes, kept in the vault with the values and
/// destroyed with them. Whoever has it can try values for every field of the group, so it is shown with all or none.
#[derive(Clone, Debug)]
pub struct Opening(Key);

impl Opening {
    /// A fresh one, for one record and group of fields.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        Self(crypt::generate(random))
    }

    /// One that was read back.
    #[must_use]
    pub const fn from_key(key: Secret<[u8; 32]>) -> Self {
        Self(key)
    }

    /// The 32 bytes, for an auditor who checks a leaf without us.
    #[must_use]
    pub const fn key(&self) -> &Secret<[u8; 32]> {
        &self.0
    }

    /// Commits to `value` as the value of `field`.
    #[must_use]
    pub fn commit(&self, field: &Name, value: &str) -> Commitment {
        // Names hold no zero byte, so the border between name and value is certain.
        Commitment::from_mac(crypt::mac(&self.0, &[field.as_bytes(), &[0], value.as_bytes()]))
    }

    /// Whether `commitment` was made to `value` as the value of `field`. Takes the same time wherever they differ.
    #[must_use]
    pub fn opens(&self, commitment: &Commitment, field: &Name, value: &str) -> bool {
        constant_time_eq(self.commit(field, value).mac().as_bytes(), commitment.mac().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;

    #[test]
    fn a_commitment_is_the_hmac_that_the_page_describes() {
        // Computed by another implementation: HMAC-SHA256(32 bytes of 0x0b, "ip" || 0 || "192.0.2.1").
        let opening = Opening::from_key(Secret::new([0x0b; 32]));
        let commitment = opening.commit(&Name::literal("ip"), "192.0.2.1");
        assert_eq!(
            commitment.to_string(),
            "hmac-sha256:b31ab65c2b63e8f9b35e9bf1a20f63bf9dfb6c1ca2068cca1163a346631d4b40"
        );
    }

    #[test]
    fn a_commitment_opens_for_its_key_field_and_value_only() {
        let random = SeededRandom::new(1);
        let (one, two) = (Opening::generate(&random), Opening::generate(&random));
        let (ip, agent) = (Name::literal("ip"), Name::literal("user_agent"));
        let commitment = one.commit(&ip, "192.0.2.1");
        assert!(one.opens(&commitment, &ip, "192.0.2.1"));
        assert!(!one.opens(&commitment, &ip, "192.0.2.2"));
        assert!(!one.opens(&commitment, &agent, "192.0.2.1"));
        assert!(!two.opens(&commitment, &ip, "192.0.2.1"), "equal values in two records do not look equal");
        assert_ne!(one.commit(&Name::literal("a"), "b\0c"), one.commit(&Name::literal("ab"), "\0c"));
        assert_eq!(format!("{one:?}"), "Opening(Secret(…))");
    }
}
