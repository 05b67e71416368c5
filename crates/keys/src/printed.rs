//! Secrets that people carry: a prefix that scanners for leaked secrets find, and a checksum against slips.
//!
//! The form is the prefix and 48 characters of unpadded base64url (RFC 4648, section 5): 32 secret bytes and the first
//! four of a SHA-256 over prefix and secret. Four bytes of a hash tell nothing about 256 random bits.

use bartizan_base::{Digest, Random};
use bartizan_secret::{Secret, constant_time_eq};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

const SECRET_LEN: usize = 32;
const CHECKSUM_LEN: usize = 4;
const LEN: usize = SECRET_LEN + CHECKSUM_LEN;

/// The text is not a secret of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrintedError {
    /// Other prefix, length or characters.
    #[error("the text is not `{0}` followed by 48 letters, digits, `-` and `_`")]
    Shape(&'static str),
    /// The checksum does not fit the rest.
    #[error("the checksum does not hold; the text was mistyped")]
    Checksum,
}

/// Thirty-two fresh random bytes.
pub(crate) fn generate(random: &dyn Random) -> Secret<[u8; SECRET_LEN]> {
    let mut bytes = Zeroizing::new([0; SECRET_LEN]);
    random.fill(&mut *bytes);
    Secret::new(*bytes)
}

/// The text form.
pub(crate) fn print(prefix: &'static str, secret: &Secret<[u8; SECRET_LEN]>) -> Secret<String> {
    let mut bytes = Zeroizing::new([0; LEN]);
    let (body, sum) = bytes.split_at_mut(SECRET_LEN);
    body.copy_from_slice(secret.expose());
    sum.copy_from_slice(&checksum(prefix, secret.expose()));
    // Room for all of it at once: a growing string would leave copies behind.
    let mut text = String::with_capacity(prefix.len() + LEN.div_ceil(3) * 4);
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
    Secret::new(text)
}

/// Reads the text form.
pub(crate) fn parse(prefix: &'static str, text: &str) -> Result<Secret<[u8; SECRET_LEN]>, PrintedError> {
    let shape = PrintedError::Shape(prefix);
    let encoded = text.strip_prefix(prefix).ok_or(shape)?;
    let mut bytes = Zeroizing::new([0; LEN]);
    match URL_SAFE_NO_PAD.decode_slice(encoded, &mut *bytes) {
        Ok(LEN) => {}
        _ => return Err(shape),
    }
    let (body, sum) = bytes.split_first_chunk::<SECRET_LEN>().ok_or(shape)?;
    if !constant_time_eq(&checksum(prefix, body), sum) {
        return Err(PrintedError::Checksum);
    }
    Ok(Secret::new(*body))
}

fn checksum(prefix: &str, secret: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest = Digest::of_parts(&[prefix.as_bytes(), secret]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn printed_secrets_are_read_back(seed in any::<u64>()) {
            let secret = generate(&SeededRandom::new(seed));
            let text = print("btzr_", &secret);
            prop_assert_eq!(text.expose().len(), 53);
            prop_assert!(parse("btzr_", text.expose()).unwrap() == secret);
        }

        #[test]
        fn a_slip_of_the_pen_is_noticed(seed in any::<u64>(), at in 5_usize..53, to in "[A-Za-z0-9_-]") {
            let text = print("btzr_", &generate(&SeededRandom::new(seed)));
            let mut slipped = text.expose().clone();
            slipped.replace_range(at..=at, &to);
            prop_assert_eq!(parse("btzr_", &slipped).is_ok(), slipped == *text.expose());
        }

        #[test]
        fn any_text_is_refused_without_panic(text in ".{0,60}") {
            prop_assert!(parse("btzr_", &text).is_err());
            let prefixed = format!("btzr_{text}");
            prop_assert!(parse("btzr_", &prefixed).is_err());
        }
    }

    #[test]
    fn a_secret_of_another_kind_cut_or_padded_is_refused() {
        let text = print("btzr_", &generate(&SeededRandom::new(1)));
        let text = text.expose();
        assert_eq!(parse("btzc_", text).unwrap_err(), PrintedError::Shape("btzc_"));
        assert_eq!(parse("btzc_", &text.replace("btzr_", "btzc_")).unwrap_err(), PrintedError::Checksum);
        for bad in [
            text.get(..52).unwrap(),
            text.get(..49).unwrap(),
            &format!("{text}A"),
            &format!("{text}="),
            &format!(" {text}"),
        ] {
            assert_eq!(parse("btzr_", bad).unwrap_err(), PrintedError::Shape("btzr_"), "{bad}");
        }
    }
}
