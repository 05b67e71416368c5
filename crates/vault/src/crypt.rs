//! The cryptography of values: HMAC-SHA256 (RFC 2104) and AES-256-GCM (NIST SP 800-38D).
//!
//! Every value's nonce is 96 random bits; a data key seals the fields of one subject, far below the 2^32 random nonces
//! that the mode allows. Payloads have keys of their own, see `chunks`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use bartizan_base::{Digest, Name, Random, Timestamp};
use bartizan_model::{DataKeyId, Tenant};
use bartizan_secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::{Kind, VaultError};

pub(crate) const KEY_LEN: usize = 32;
pub(crate) const TAG_LEN: usize = 16;

/// A key of AES-256-GCM or HMAC-SHA256.
pub(crate) type Key = Secret<[u8; KEY_LEN]>;

/// Thirty-two fresh random bytes.
pub(crate) fn generate(random: &dyn Random) -> Key {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    random.fill(&mut *bytes);
    Secret::new(*bytes)
}

/// A key as the house's sealer takes it, which is text: unpadded base64url.
pub(crate) fn print(key: &Key) -> Secret<String> {
    // Room for all of it at once: a growing string would leave copies behind.
    let mut text = String::with_capacity(KEY_LEN.div_ceil(3) * 4);
    URL_SAFE_NO_PAD.encode_string(key.expose(), &mut text);
    Secret::new(text)
}

/// Reads what [`print`] wrote.
pub(crate) fn parse(text: &Secret<String>) -> Option<Key> {
    let mut bytes = Zeroizing::new([0; KEY_LEN + 1]);
    let len = URL_SAFE_NO_PAD.decode_slice(text.expose(), &mut *bytes).ok()?;
    let (key, _) = bytes.split_first_chunk::<KEY_LEN>()?;
    (len == KEY_LEN).then(|| Secret::new(*key))
}

/// HMAC-SHA256 over the concatenation of `parts`. The caller makes sure that the borders are unambiguous.
pub(crate) fn mac(key: &Key, parts: &[&[u8]]) -> Digest {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()));
    for part in parts {
        context.update(part);
    }
    let mut out = [0; KEY_LEN];
    out.copy_from_slice(context.sign().as_ref());
    Digest::from_bytes(out)
}

/// What a sealed value belongs to; all of it is associated data, so a row that is moved or redated does not open.
pub(crate) struct Bound<'a> {
    pub(crate) what: &'static str,
    pub(crate) tenant: &'a Tenant,
    pub(crate) key: DataKeyId,
    /// The subject's address.
    pub(crate) subject: Digest,
    /// The decision's address.
    pub(crate) decision: Digest,
    pub(crate) field: &'a Name,
    pub(crate) kind: Kind,
    pub(crate) made: Timestamp,
}

impl Bound<'_> {
    /// Four texts that hold no zero byte, each ended by one; then parts of fixed length.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let made = self.made.as_micros().to_be_bytes();
        let parts: [&[u8]; 8] = [
            self.what.as_bytes(),
            self.tenant.0.as_bytes(),
            self.field.as_bytes(),
            self.kind.name().as_bytes(),
            self.key.as_bytes(),
            self.subject.as_bytes(),
            self.decision.as_bytes(),
            &made,
        ];
        parts.join(&0)
    }
}

pub(crate) fn aead(key: &Key) -> Result<LessSafeKey, VaultError> {
    UnboundKey::new(&AES_256_GCM, key.expose()).map(LessSafeKey::new).map_err(|_| VaultError::Refused)
}

/// Nonce, ciphertext and tag.
pub(crate) fn seal(
    under: &Key,
    bound: &Bound<'_>,
    plain: &[&[u8]],
    random: &dyn Random,
) -> Result<Vec<u8>, VaultError> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce);
    let length = plain.iter().map(|part| part.len()).sum::<usize>();
    let mut text = Zeroizing::new(Vec::with_capacity(length + TAG_LEN));
    plain.iter().for_each(|part| text.extend_from_slice(part));
    aead(under)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound.bytes()), &mut *text)
        .map_err(|_| VaultError::Refused)?;
    Ok([nonce.as_slice(), &text].concat())
}

/// Opens what [`seal`] made; `None` when it was changed, cut or moved.
pub(crate) fn open(
    under: &Key,
    bound: &Bound<'_>,
    sealed: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
    let Some((nonce, sealed)) = sealed.split_first_chunk::<NONCE_LEN>() else { return Ok(None) };
    let mut text = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let Ok(plain) = aead(under)?.open_in_place(nonce, Aad::from(bound.bytes()), &mut text) else {
        return Ok(None);
    };
    let length = plain.len();
    text.truncate(length);
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;

    #[test]
    fn hmac_matches_the_vector_of_rfc_4231() {
        // Test case 6 would need a longer key; case 1's key of 20 bytes, padded by zeros, is the same HMAC key.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let mac = mac(&Secret::new(key), &[b"Hi ", b"There"]);
        assert_eq!(mac.to_string(), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }

    #[test]
    fn keys_are_read_back_from_their_text_and_nothing_else_is() {
        let key = generate(&SeededRandom::new(1));
        let text = print(&key);
        assert_eq!(text.expose().len(), 43);
        assert!(parse(&text).unwrap() == key);
        for bad in
            [String::new(), "A".repeat(42), "A".repeat(44), "é".repeat(20), format!("{}=", text.expose())]
        {
            assert!(parse(&Secret::new(bad.clone())).is_none(), "{bad}");
        }
    }

    #[test]
    fn any_changed_bit_or_cut_is_noticed() {
        let (random, tenant, field) =
            (SeededRandom::new(1), Tenant("default".parse().unwrap()), Name::literal("ip"));
        let bound = Bound {
            what: "test",
            tenant: &tenant,
            key: DataKeyId::new(Timestamp::from_micros(1), &random),
            subject: Digest::of(b"s"),
            decision: Digest::of(b"d"),
            field: &field,
            kind: Kind::Network,
            made: Timestamp::from_micros(7),
        };
        let key = generate(&random);
        let sealed = seal(&key, &bound, &[b"19", b"2.0.2.1"], &random).unwrap();
        assert_eq!(open(&key, &bound, &sealed).unwrap().unwrap().as_slice(), b"192.0.2.1");
        for at in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert!(open(&key, &bound, &changed).unwrap().is_none(), "{at}");
        }
        for length in 0..sealed.len() {
            assert!(open(&key, &bound, &sealed[..length]).unwrap().is_none(), "{length}");
        }
        let redated = Bound { made: Timestamp::from_micros(8), ..bound };
        assert!(open(&key, &redated, &sealed).unwrap().is_none());
    }
}
