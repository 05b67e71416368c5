//! The claim of the first administrator: shown once, used once, good for a while.

use std::str::FromStr;

use bartizan_base::{Digest, Random};
use bartizan_secret::Secret;

use crate::printed::{self, PrintedError};

const PREFIX: &str = "btzc_";

/// A well-formed claim. Whether it is open is the store's to say, by its digest.
#[derive(Clone, Debug)]
pub struct ClaimToken(Secret<[u8; 32]>);

impl ClaimToken {
    /// A new claim.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        Self(printed::generate(random))
    }

    /// The whole claim, `btzc_…`, to be shown once to the one who installs.
    #[must_use]
    pub fn text(&self) -> Secret<String> {
        printed::print(PREFIX, &self.0)
    }

    /// What is stored and looked up: the SHA-256 of the whole text. A plain hash is enough, since the secret has
    /// 256 random bits; there is nothing to guess.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.text().expose().as_bytes())
    }

    /// Whether `text` claims to be a claim of ours, well-formed or not.
    #[must_use]
    pub fn has_prefix(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
}

impl FromStr for ClaimToken {
    type Err = PrintedError;

    fn from_str(text: &str) -> Result<Self, PrintedError> {
        printed::parse(PREFIX, text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;

    #[test]
    fn a_claim_is_found_by_the_digest_of_its_text_and_never_printed() {
        let random = SeededRandom::new(3);
        let (claim, other) = (ClaimToken::generate(&random), ClaimToken::generate(&random));
        let text = claim.text();
        assert!(ClaimToken::has_prefix(text.expose()));
        let read: ClaimToken = text.expose().parse().unwrap();
        assert_eq!(read.digest(), claim.digest());
        assert_eq!(read.digest(), Digest::of(text.expose().as_bytes()));
        assert_ne!(other.digest(), claim.digest());
        assert_eq!(format!("{claim:?}"), "ClaimToken(Secret(…))");
    }
}
