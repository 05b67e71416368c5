//! Seals: what this house wrote is told from what others put into the store behind its back.
//!
//! A seal is an HMAC-SHA256 (RFC 2104) over canonical JSON (RFC 8785), in hexadecimal digits, under a key that never leaves the
//! house. There is one over the passage and one over the access list, so that a new access list needs nobody to read the text again.
//! Both name tenant, corpus, collection and document, so that a row that is copied elsewhere holds nowhere else. The vector
//! is under no seal: who changes it changes what is found first, not what may be seen. Nor is an old row told from a newer one of the
//! same document; the greatest age of an access list bounds that.

use std::fmt;

use aws_lc_rs::hmac;
use bartizan_base::{Name, json};
use bartizan_model::Tenant;
use bartizan_secret::Secret;
use serde_json::{Value, json};

use crate::row::{Access, Passage, Style};

/// The seals of one corpus.
pub struct Seals<'a> {
    key: hmac::Key,
    tenant: &'a Tenant,
    corpus: &'a Name,
}

impl fmt::Debug for Seals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seals")
            .field("tenant", self.tenant)
            .field("corpus", self.corpus)
            .finish_non_exhaustive()
    }
}

impl<'a> Seals<'a> {
    /// The seals of a corpus of a tenant, under the house's key for them.
    #[must_use]
    pub fn new(key: &Secret<[u8; 32]>, tenant: &'a Tenant, corpus: &'a Name) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.expose()), tenant, corpus }
    }

    /// Whose they are.
    #[must_use]
    pub const fn tenant(&self) -> &'a Tenant {
        self.tenant
    }

    pub(crate) fn content(&self, access: &Access, passage: &Passage) -> String {
        self.write(&self.of_content(access, passage))
    }

    pub(crate) fn access(&self, access: &Access) -> String {
        self.write(&self.of_access(access))
    }

    pub(crate) fn holds_content(&self, access: &Access, passage: &Passage, seal: &str) -> bool {
        self.holds(&self.of_content(access, passage), seal)
    }

    pub(crate) fn holds_access(&self, access: &Access, seal: &str) -> bool {
        self.holds(&self.of_access(access), seal)
    }

    fn of_content(&self, access: &Access, passage: &Passage) -> Value {
        let Passage { chunk, text, metadata } = passage;
        json!(["passage", self.tenant, self.corpus, access.collection(), access.id, chunk, text, metadata])
    }

    fn of_access(&self, access: &Access) -> Value {
        let fields = access.fields((Style::Table, false));
        json!(["access", self.tenant, self.corpus, access.collection(), access.id, fields])
    }

    fn write(&self, what: &Value) -> String {
        let bytes = json::canonical(what).unwrap_or_default();
        hmac::sign(&self.key, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn holds(&self, what: &Value, seal: &str) -> bool {
        let Ok(bytes) = json::canonical(what) else { return false };
        let digits = seal.as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let tag: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        digits.len() == 64 && tag.is_some_and(|tag| hmac::verify(&self.key, &bytes, &tag).is_ok())
    }
}
