//! Secrets that cannot be printed by accident, the format of our API keys, and constant-time comparison.
//!
//! Small on purpose: this crate is meant to be read whole by whoever audits the product.

mod api_key;

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

pub use api_key::{ApiKey, ApiKeyError, KeyHandle};

/// A value that must not be shown: no `Display`, no `Serialize`, a `Debug` that says only that it is there, memory
/// wiped when dropped. Reading it is spelled [`Secret::expose`], so that every reading place can be searched for.
///
/// ```compile_fail,E0277
/// let key = bartizan_secret::Secret::new(String::from("s3cr3t"));
/// println!("{key}");
/// ```
///
/// ```compile_fail,E0277
/// let key = bartizan_secret::Secret::new(String::from("s3cr3t"));
/// let _ = serde_json::to_string(&key);
/// ```
#[derive(Clone, Default)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes `value` into keeping.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself. Only for the code that must use it: signing, hashing, the outbound header.
    #[must_use]
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<T: Zeroize + AsRef<[u8]>> PartialEq for Secret<T> {
    /// Takes the same time wherever the first difference lies; lengths are not hidden.
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(self.0.as_ref(), other.0.as_ref())
    }
}

impl<'de, T: Zeroize + serde::Deserialize<'de>> serde::Deserialize<'de> for Secret<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::new)
    }
}

/// Compares without telling by its duration where the first difference lies.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_contain_the_secret() {
        let secret = Secret::new(String::from("hunter2hunter2"));
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(…) Some(Secret(…))");
        assert_eq!(secret.expose(), "hunter2hunter2");
    }

    #[test]
    fn equality_compares_contents() {
        assert!(Secret::new(vec![1_u8, 2]) == Secret::new(vec![1_u8, 2]));
        assert!(Secret::new(vec![1_u8, 2]) != Secret::new(vec![1_u8, 3]));
        assert!(!constant_time_eq(b"a", b"ab"));
    }
}
