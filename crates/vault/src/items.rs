//! Small values: put with a commitment, read back with what opens it.

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::Commitment;
use bartizan_secret::Secret;
use rusqlite::{Connection, params};

use crate::address::{Place, SubjectKey, TenantKey};
use crate::crypt::{self, Bound, KEY_LEN};
use crate::error::{sort, sort_insert};
use crate::schema::write;
use crate::{Kind, Opening, Vault, VaultError};

/// The longest value of a field, in bytes; what is longer is a payload.
pub const VALUE_MAX: usize = 64 * 1024;

const BROKEN: VaultError = VaultError::Broken("a value");

/// A value to be kept.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// What it is called in the record.
    pub name: &'a Name,
    /// What kind of personal data it is.
    pub kind: Kind,
    /// The value, at most [`VALUE_MAX`] bytes.
    pub value: &'a str,
}

/// A value that was kept.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is called in the record.
    pub field: Name,
    /// What kind of personal data it is.
    pub kind: Kind,
    /// When it was put.
    pub made: Timestamp,
    /// The value.
    pub value: Secret<String>,
    /// What opens the commitments of its record and group.
    pub opening: Opening,
}

/// A row as it lies in the database.
pub(crate) struct Row {
    pub(crate) subject: Digest,
    pub(crate) decision: Digest,
    pub(crate) field: Name,
    pub(crate) kind: Kind,
    pub(crate) made: Timestamp,
}

impl std::fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Field").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

// === impl Item ===

impl Item {
    /// The commitment that stands in the leaf, if the leaf is about this value.
    #[must_use]
    pub fn commitment(&self) -> Commitment {
        self.opening.commit(&self.field, self.value.expose())
    }

    /// Whether `commitment`, found in a leaf, is to this value.
    #[must_use]
    pub fn opens(&self, commitment: &Commitment) -> bool {
        self.opening.opens(commitment, &self.field, self.value.expose())
    }
}

// === impl Vault ===

impl Vault {
    /// Keeps the values of one group of fields: all of them, durably, or none. Answers the commitments for the leaf, in
    /// the order of the fields.
    ///
    /// # Errors
    /// `TooLarge` for a value above [`VALUE_MAX`]; `Taken` when the decision has a value of that name; otherwise as the
    /// database or keys are.
    pub fn put(
        &self,
        place: &Place<'_>,
        fields: &[Field<'_>],
        now: Timestamp,
    ) -> Result<Vec<(Name, Commitment)>, VaultError> {
        if fields.iter().any(|field| field.value.len() > VALUE_MAX) {
            return Err(VaultError::TooLarge { max: VALUE_MAX as u64 });
        }
        let tools = &self.0.tools;
        let opening = Opening::generate(&*tools.random);
        write(&mut self.0.lock(), |transaction| {
            let tenant = TenantKey::find_or_make(transaction, tools, place.tenant)?;
            let subject = tenant.subject(place.subject);
            let decision = tenant.decision(place.subject, place.decision);
            let key = SubjectKey::find_or_make(transaction, tools, &tenant, subject, now)?;
            let mut commitments = Vec::with_capacity(fields.len());
            for field in fields {
                let name = field.name.clone();
                let row = Row { subject, decision, field: name.clone(), kind: field.kind, made: now };
                let plain = [opening.key().expose().as_slice(), field.value.as_bytes()];
                let sealed = crypt::seal(&key.key, &row.bound(&tenant, &key), &plain, &*tools.random)?;
                insert(transaction, &tenant, &row, &sealed)?;
                commitments.push((name, opening.commit(field.name, field.value)));
            }
            Ok(commitments)
        })
    }

    /// What was kept for a decision about a subject, by name of the field. Empty when nothing was, or when it was erased
    /// or expired.
    ///
    /// # Errors
    /// `Broken` when any of it does not open; then none is given.
    pub fn get(&self, place: &Place<'_>) -> Result<Vec<Item>, VaultError> {
        let tools = &self.0.tools;
        let connection = self.0.lock();
        let Some(tenant) = TenantKey::find(&connection, tools, place.tenant)? else { return Ok(Vec::new()) };
        let subject = tenant.subject(place.subject);
        let Some(key) = SubjectKey::find(&connection, tools, &tenant, subject)? else {
            return Ok(Vec::new());
        };
        let decision = tenant.decision(place.subject, place.decision);
        let mut statement = connection
            .prepare_cached(
                "select subject, decision, field, kind, made_us, sealed from items \
                 where tenant = ?1 and subject = ?2 and decision = ?3 order by field",
            )
            .map_err(sort)?;
        let mut rows =
            statement.query(params![tenant.number, subject.as_bytes(), decision.as_bytes()]).map_err(sort)?;
        let mut items = Vec::new();
        while let Some(row) = rows.next().map_err(sort)? {
            let (row, sealed) = (Row::read(row)?, row.get::<_, Vec<u8>>(5).map_err(sort)?);
            items.push(row.open(&tenant, &key, &sealed)?);
        }
        Ok(items)
    }
}

fn insert(transaction: &Connection, tenant: &TenantKey, row: &Row, sealed: &[u8]) -> Result<(), VaultError> {
    transaction
        .prepare_cached(
            "insert into items (tenant, subject, decision, field, kind, made_us, sealed) \
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                tenant.number,
                row.subject.as_bytes(),
                row.decision.as_bytes(),
                row.field.as_str(),
                row.kind.name(),
                row.made.as_micros(),
                sealed
            ])
        })
        .map(|_| ())
        .map_err(sort_insert)
}

// === impl Row ===

impl Row {
    /// Reads the columns `subject, decision, field, kind, made_us`.
    pub(crate) fn read(row: &rusqlite::Row<'_>) -> Result<Self, VaultError> {
        let field: String = row.get(2).map_err(sort)?;
        let kind: String = row.get(3).map_err(sort)?;
        Ok(Self {
            subject: Digest::from_bytes(row.get(0).map_err(sort)?),
            decision: Digest::from_bytes(row.get(1).map_err(sort)?),
            field: field.parse().map_err(|_| BROKEN)?,
            kind: Kind::from_name(&kind).ok_or(BROKEN)?,
            made: Timestamp::from_micros(row.get(4).map_err(sort)?),
        })
    }

    fn bound<'a>(&'a self, tenant: &'a TenantKey, key: &SubjectKey) -> Bound<'a> {
        self.bound_as("bartizan vault value v1", tenant, key)
    }

    pub(crate) fn bound_as<'a>(
        &'a self,
        what: &'static str,
        tenant: &'a TenantKey,
        key: &SubjectKey,
    ) -> Bound<'a> {
        Bound {
            what,
            tenant: &tenant.tenant,
            key: key.id,
            subject: self.subject,
            decision: self.decision,
            field: &self.field,
            kind: self.kind,
            made: self.made,
        }
    }

    /// Opens a sealed value.
    pub(crate) fn open(
        self,
        tenant: &TenantKey,
        key: &SubjectKey,
        sealed: &[u8],
    ) -> Result<Item, VaultError> {
        let plain = crypt::open(&key.key, &self.bound(tenant, key), sealed)?.ok_or(BROKEN)?;
        let (opening, value) = plain.split_first_chunk::<KEY_LEN>().ok_or(BROKEN)?;
        let value = std::str::from_utf8(value).map_err(|_| BROKEN)?;
        Ok(Item {
            field: self.field,
            kind: self.kind,
            made: self.made,
            value: Secret::new(value.to_owned()),
            opening: Opening::from_key(Secret::new(*opening)),
        })
    }
}
