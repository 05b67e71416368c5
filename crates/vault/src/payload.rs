//! Prompts and outputs: files of their own, streamed, named by the digest of what is stored.

use std::io::{Read, Write};

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::PayloadRef;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::address::{Place, SubjectKey, TenantKey};
use crate::crypt::Bound;
use crate::error::{sort, sort_insert};
use crate::items::Row;
use crate::schema::write;
use crate::vault::Inner;
use crate::{Kind, Vault, VaultError, chunks};

/// The longest payload, in bytes.
pub const PAYLOAD_MAX: u64 = 16 * 1024 * 1024;

/// A payload as its row names it.
pub(crate) struct Stored {
    pub(crate) row: Row,
    pub(crate) sha256: Digest,
    pub(crate) bytes: u64,
}

// === impl Vault ===

impl Vault {
    /// Keeps what `source` gives as the payload `field` of a decision, durably. Holds a chunk of it in memory at a time,
    /// and nobody up while it reads.
    ///
    /// # Errors
    /// `TooLarge` above [`PAYLOAD_MAX`]; `Taken` when the decision has a payload of that name; `Erased` when the subject
    /// was erased meanwhile; `OtherEnd` when `source` fails. Nothing is kept then.
    pub fn put_payload(
        &self,
        place: &Place<'_>,
        field: &Name,
        kind: Kind,
        source: &mut dyn Read,
        now: Timestamp,
    ) -> Result<PayloadRef, VaultError> {
        let tools = &self.0.tools;
        let (tenant, key) = write(&mut self.0.lock(), |transaction| {
            let tenant = TenantKey::find_or_make(transaction, tools, place.tenant)?;
            let subject = tenant.subject(place.subject);
            let key = SubjectKey::find_or_make(transaction, tools, &tenant, subject, now)?;
            Ok((tenant, key))
        })?;
        self.put_sealed(place, field, kind, source, now, &tenant, &key)
    }

    /// The same for what belongs to `earlier`, a payload of the same subject: whoever is erased between the two is not
    /// kept again by the second.
    ///
    /// # Errors
    /// As for [`Vault::put_payload`]; also `Erased` when the key of `earlier` is gone.
    pub fn put_payload_after(
        &self,
        earlier: &PayloadRef,
        place: &Place<'_>,
        field: &Name,
        kind: Kind,
        source: &mut dyn Read,
        now: Timestamp,
    ) -> Result<PayloadRef, VaultError> {
        let (tenant, key) = {
            let connection = self.0.lock();
            let tenant =
                TenantKey::find(&connection, &self.0.tools, place.tenant)?.ok_or(VaultError::Erased)?;
            let subject = tenant.subject(place.subject);
            let key = SubjectKey::find(&connection, &self.0.tools, &tenant, subject)?
                .filter(|key| key.id == earlier.key)
                .ok_or(VaultError::Erased)?;
            (tenant, key)
        };
        self.put_sealed(place, field, kind, source, now, &tenant, &key)
    }

    #[expect(clippy::too_many_arguments, reason = "what its two callers were given, and what they found")]
    fn put_sealed(
        &self,
        place: &Place<'_>,
        field: &Name,
        kind: Kind,
        source: &mut dyn Read,
        now: Timestamp,
        tenant: &TenantKey,
        key: &SubjectKey,
    ) -> Result<PayloadRef, VaultError> {
        let Inner { tools, files, .. } = &*self.0;
        let row = Row {
            subject: tenant.subject(place.subject),
            decision: tenant.decision(place.subject, place.decision),
            field: field.clone(),
            kind,
            made: now,
        };
        let mut temporary = files.temporary(&*tools.random)?;
        let bound = bound(&row, tenant, key).bytes();
        let (sha256, bytes) =
            chunks::seal(source, &mut temporary.file, &key.key, &bound, PAYLOAD_MAX, &*tools.random)?;
        let stored = Stored { row, sha256, bytes };
        write(&mut self.0.lock(), |transaction| {
            let current = SubjectKey::find(transaction, tools, tenant, stored.row.subject)?;
            if current.is_none_or(|current| current.id != key.id) {
                return Err(VaultError::Erased);
            }
            stored.insert(transaction, tenant)?;
            // The name before the commit: after a crash between them the file has no row and is removed; the other way
            // round the row would have no file.
            files.keep(&temporary, sha256)
        })?;
        Ok(PayloadRef { sha256, bytes, key: key.id })
    }

    /// Writes a payload to `sink`: nothing of it before the whole of its file was found unchanged, and nothing more once
    /// an erasure has answered, but for the chunk in hand. Answers its length in bytes.
    ///
    /// # Errors
    /// `Absent` when it is not there, also when it was erased; `Broken` when it was changed, cut or moved; `Erased` when
    /// that happened meanwhile; `OtherEnd` when `sink` fails.
    pub fn read_payload(
        &self,
        place: &Place<'_>,
        payload: &PayloadRef,
        sink: &mut dyn Write,
    ) -> Result<u64, VaultError> {
        let inner = &*self.0;
        let (tenant, key, stored) = {
            let connection = inner.lock();
            let tenant =
                TenantKey::find(&connection, &inner.tools, place.tenant)?.ok_or(VaultError::Absent)?;
            let subject = tenant.subject(place.subject);
            let key = SubjectKey::find(&connection, &inner.tools, &tenant, subject)?
                .filter(|key| key.id == payload.key)
                .ok_or(VaultError::Absent)?;
            let decision = tenant.decision(place.subject, place.decision);
            let stored = Stored::find(&connection, &tenant, subject, payload.sha256)?
                .filter(|stored| stored.row.decision == decision)
                .ok_or(VaultError::Absent)?;
            (tenant, key, stored)
        };
        let stored = Stored { bytes: payload.bytes, ..stored };
        stored.open(inner, &tenant, &key, sink)
    }
}

// === impl Stored ===

const COLUMNS: &str = "select subject, decision, field, kind, made_us, sha256, bytes from payloads \
                       where tenant = ?1 and subject = ?2";

impl Stored {
    fn find(
        connection: &Connection,
        tenant: &TenantKey,
        subject: Digest,
        sha256: Digest,
    ) -> Result<Option<Self>, VaultError> {
        let mut statement = connection.prepare_cached(&format!("{COLUMNS} and sha256 = ?3")).map_err(sort)?;
        let parameters = params![tenant.number, subject.as_bytes(), sha256.to_string()];
        statement.query_row(parameters, |row| Ok(Self::read(row))).optional().map_err(sort)?.transpose()
    }

    /// Every payload of a subject.
    pub(crate) fn all(
        connection: &Connection,
        tenant: &TenantKey,
        subject: Digest,
    ) -> Result<Vec<Self>, VaultError> {
        let mut statement = connection.prepare_cached(COLUMNS).map_err(sort)?;
        let parameters = params![tenant.number, subject.as_bytes()];
        let rows = statement.query_map(parameters, |row| Ok(Self::read(row))).map_err(sort)?;
        rows.map(|row| row.map_err(sort)?).collect()
    }

    fn read(row: &rusqlite::Row<'_>) -> Result<Self, VaultError> {
        let sha256: String = row.get(5).map_err(sort)?;
        Ok(Self {
            row: Row::read(row)?,
            sha256: sha256.parse().map_err(|_| VaultError::Broken("a payload"))?,
            bytes: row.get(6).map_err(sort)?,
        })
    }

    fn insert(&self, transaction: &Connection, tenant: &TenantKey) -> Result<(), VaultError> {
        transaction
            .prepare_cached(
                "insert into payloads (sha256, tenant, subject, decision, field, kind, made_us, bytes) \
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    self.sha256.to_string(),
                    tenant.number,
                    self.row.subject.as_bytes(),
                    self.row.decision.as_bytes(),
                    self.row.field.as_str(),
                    self.row.kind.name(),
                    self.row.made.as_micros(),
                    self.bytes
                ])
            })
            .map(|_| ())
            .map_err(sort_insert)
    }

    /// Opens the file into `sink`. Does not hold the lock: an erasure overwrites the file before it answers, so whoever still
    /// reads finds nothing more that opens.
    pub(crate) fn open(
        &self,
        inner: &Inner,
        tenant: &TenantKey,
        key: &SubjectKey,
        sink: &mut dyn Write,
    ) -> Result<u64, VaultError> {
        let bound = bound(&self.row, tenant, key).bytes();
        let opened = match inner.files.read(self.sha256)? {
            Some(mut file) => chunks::open(&mut file, (self.sha256, self.bytes), &key.key, &bound, sink),
            None => Err(VaultError::Broken("a payload")),
        };
        match opened {
            Err(VaultError::Broken(_))
                if Self::find(&inner.lock(), tenant, self.row.subject, self.sha256)?.is_none() =>
            {
                Err(VaultError::Erased)
            }
            opened => opened,
        }
    }
}

fn bound<'a>(row: &'a Row, tenant: &'a TenantKey, key: &SubjectKey) -> Bound<'a> {
    row.bound_as("bartizan vault payload v1", tenant, key)
}
