//! Legal holds: what must not be erased while a claim is open (GDPR, Article 17(3)(b) and (e)).
//!
//! A hold ends when somebody releases it, never by the clock: a clock set forward must not destroy evidence.

use bartizan_base::{Digest, Name, Text, Timestamp};
use bartizan_model::{PrincipalId, Tenant};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::address::TenantKey;
use crate::error::sort;
use crate::schema::write;
use crate::{Vault, VaultError};

/// A hold to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldSpec {
    /// The case, such as `case-2026-17`; refusals name it. No personal data.
    pub name: Name,
    /// On what ground. No personal data: it stays when the subject is erased.
    pub basis: Text<256>,
}

/// A hold that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What was asked for.
    pub spec: HoldSpec,
    /// When it was placed first.
    pub placed: Timestamp,
}

// === impl Vault ===

impl Vault {
    /// The first of these subjects on whom a hold stands, with its name.
    ///
    /// # Errors
    /// As the database is.
    pub fn first_held(
        &self,
        tenant: &Tenant,
        subjects: impl IntoIterator<Item = PrincipalId>,
    ) -> Result<Option<(PrincipalId, Name)>, VaultError> {
        let connection = self.0.lock();
        let Some(tenant) = TenantKey::find(&connection, &self.0.tools, tenant)? else { return Ok(None) };
        for subject in subjects {
            match refuse(&connection, &tenant, tenant.subject(subject)) {
                Ok(()) => {}
                Err(VaultError::Held { hold }) => return Ok(Some((subject, hold))),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Places a hold on a subject; one of the same name gets the new basis. Nothing needs to be kept of the subject yet.
    ///
    /// # Errors
    /// As the database is.
    pub fn hold(
        &self,
        tenant: &Tenant,
        subject: PrincipalId,
        spec: &HoldSpec,
        now: Timestamp,
    ) -> Result<(), VaultError> {
        write(&mut self.0.lock(), |transaction| {
            let tenant = TenantKey::find_or_make(transaction, &self.0.tools, tenant)?;
            let subject = tenant.subject(subject);
            transaction
                .execute(
                    "insert into holds (tenant, subject, name, basis, placed_us) values (?1, ?2, ?3, ?4, ?5) \
                     on conflict (tenant, subject, name) do update set basis = excluded.basis",
                    params![
                        tenant.number,
                        subject.as_bytes(),
                        spec.name.as_str(),
                        spec.basis.as_str(),
                        now.as_micros()
                    ],
                )
                .map(|_| ())
                .map_err(sort)
        })
    }

    /// Releases a hold. Answers whether there was one.
    ///
    /// # Errors
    /// As the database is.
    pub fn release_hold(
        &self,
        tenant: &Tenant,
        subject: PrincipalId,
        name: &Name,
    ) -> Result<bool, VaultError> {
        write(&mut self.0.lock(), |transaction| {
            let Some(tenant) = TenantKey::find(transaction, &self.0.tools, tenant)? else { return Ok(false) };
            let subject = tenant.subject(subject);
            transaction
                .execute(
                    "delete from holds where tenant = ?1 and subject = ?2 and name = ?3",
                    params![tenant.number, subject.as_bytes(), name.as_str()],
                )
                .map(|deleted| deleted > 0)
                .map_err(sort)
        })
    }

    /// The holds on a subject, by name.
    ///
    /// # Errors
    /// As the database is.
    pub fn holds(&self, tenant: &Tenant, subject: PrincipalId) -> Result<Vec<Hold>, VaultError> {
        let connection = self.0.lock();
        let Some(tenant) = TenantKey::find(&connection, &self.0.tools, tenant)? else {
            return Ok(Vec::new());
        };
        let subject = tenant.subject(subject);
        let sql = "select name, basis, placed_us from holds where tenant = ?1 and subject = ?2 order by name";
        let rows: Vec<(String, String, u64)> = connection
            .prepare_cached(sql)
            .and_then(|mut statement| {
                let parameters = params![tenant.number, subject.as_bytes()];
                statement.query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
            })
            .map_err(sort)?;
        let hold = |(name, basis, placed): (String, String, u64)| {
            let spec = HoldSpec { name: name.parse().ok()?, basis: basis.parse().ok()? };
            Some(Hold { spec, placed: Timestamp::from_micros(placed) })
        };
        rows.into_iter().map(hold).collect::<Option<_>>().ok_or(VaultError::Broken("a legal hold"))
    }
}

/// Refuses when a hold stands on the subject.
pub(crate) fn refuse(connection: &Connection, tenant: &TenantKey, subject: Digest) -> Result<(), VaultError> {
    let name: Option<String> = connection
        .prepare_cached("select min(name) from holds where tenant = ?1 and subject = ?2")
        .and_then(|mut statement| {
            statement.query_row(params![tenant.number, subject.as_bytes()], |row| row.get(0)).optional()
        })
        .map_err(sort)?
        .flatten();
    match name {
        None => Ok(()),
        Some(name) => {
            Err(VaultError::Held { hold: name.parse().map_err(|_| VaultError::Broken("a legal hold"))? })
        }
    }
}
