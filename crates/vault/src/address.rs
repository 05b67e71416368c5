//! Where things lie: addresses that only a tenant's own key can compute, and the keys of tenants and subjects.

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::{DataKeyId, DecisionId, PrincipalId, Tenant};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::VaultError;
use crate::crypt::{self, Key};
use crate::error::{sort, sort_seal};
use crate::vault::Tools;

/// Where a value belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Whose house it is.
    pub tenant: &'a Tenant,
    /// The pseudonym of the one concerned, as records have it.
    pub subject: PrincipalId,
    /// The decision it came with.
    pub decision: DecisionId,
}

/// A tenant with its key. Every query names its number, and every address is made with its key, so that the same subject
/// in two tenants has nothing in common.
#[derive(Debug)]
pub(crate) struct TenantKey {
    pub(crate) number: i64,
    pub(crate) tenant: Tenant,
    key: Key,
}

/// The key that everything of one subject lies under.
#[derive(Debug)]
pub(crate) struct SubjectKey {
    pub(crate) id: DataKeyId,
    pub(crate) key: Key,
}

// === impl TenantKey ===

impl TenantKey {
    /// The address of a subject.
    pub(crate) fn subject(&self, subject: PrincipalId) -> Digest {
        crypt::mac(&self.key, &[b"subject\0", subject.as_bytes()])
    }

    /// The address of a decision about a subject.
    pub(crate) fn decision(&self, subject: PrincipalId, decision: DecisionId) -> Digest {
        crypt::mac(&self.key, &[b"decision\0", subject.as_bytes(), decision.as_bytes()])
    }

    /// The tenant, if anything of it was ever kept.
    pub(crate) fn find(
        connection: &Connection,
        tools: &Tools,
        tenant: &Tenant,
    ) -> Result<Option<Self>, VaultError> {
        let row: Option<(i64, Vec<u8>)> = connection
            .prepare_cached("select id, sealed from tenants where name = ?1")
            .and_then(|mut statement| {
                statement.query_row([tenant.0.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map_err(sort)?;
        row.map(|(number, sealed)| {
            let text = tools.sealer.open(&sealed, tenant, &tenant_place()).map_err(sort_seal)?;
            let key = crypt::parse(&text).ok_or(VaultError::Broken("a tenant's key"))?;
            Ok(Self { number, tenant: tenant.clone(), key })
        })
        .transpose()
    }

    /// The tenant, made if it is new. `connection` is a transaction.
    pub(crate) fn find_or_make(
        connection: &Connection,
        tools: &Tools,
        tenant: &Tenant,
    ) -> Result<Self, VaultError> {
        if let Some(found) = Self::find(connection, tools, tenant)? {
            return Ok(found);
        }
        let random = &*tools.random;
        let key = crypt::generate(random);
        let sealed =
            tools.sealer.seal(&crypt::print(&key), tenant, &tenant_place(), random).map_err(sort_seal)?;
        connection
            .prepare_cached("insert into tenants (name, sealed) values (?1, ?2)")
            .and_then(|mut statement| statement.execute(params![tenant.0.as_str(), sealed]))
            .map_err(sort)?;
        Ok(Self { number: connection.last_insert_rowid(), tenant: tenant.clone(), key })
    }

    /// Every tenant.
    pub(crate) fn all(connection: &Connection, tools: &Tools) -> Result<Vec<Self>, VaultError> {
        let names: Vec<String> = connection
            .prepare("select name from tenants order by id")
            .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
            .map_err(sort)?;
        let mut out = Vec::with_capacity(names.len());
        for name in names {
            let tenant = Tenant(name.parse().map_err(|_| VaultError::Broken("a tenant's name"))?);
            out.extend(Self::find(connection, tools, &tenant)?);
        }
        Ok(out)
    }
}

// === impl SubjectKey ===

impl SubjectKey {
    /// The subject's key, if there is one.
    pub(crate) fn find(
        connection: &Connection,
        tools: &Tools,
        tenant: &TenantKey,
        subject: Digest,
    ) -> Result<Option<Self>, VaultError> {
        let row: Option<(String, Vec<u8>)> = connection
            .prepare_cached("select id, sealed from keys where tenant = ?1 and subject = ?2")
            .and_then(|mut statement| {
                statement
                    .query_row(params![tenant.number, subject.as_bytes()], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()
            })
            .map_err(sort)?;
        row.map(|(id, sealed)| {
            let id = id.parse().map_err(|_| VaultError::Broken("a data key"))?;
            let text =
                tools.sealer.open(&sealed, &tenant.tenant, &key_place(id, subject)?).map_err(sort_seal)?;
            let key = crypt::parse(&text).ok_or(VaultError::Broken("a data key"))?;
            Ok(Self { id, key })
        })
        .transpose()
    }

    /// The subject's key, made if there is none. `connection` is a transaction.
    pub(crate) fn find_or_make(
        connection: &Connection,
        tools: &Tools,
        tenant: &TenantKey,
        subject: Digest,
        now: Timestamp,
    ) -> Result<Self, VaultError> {
        if let Some(found) = Self::find(connection, tools, tenant, subject)? {
            return Ok(found);
        }
        let random = &*tools.random;
        let (id, key) = (DataKeyId::new(now, random), crypt::generate(random));
        let sealed = tools
            .sealer
            .seal(&crypt::print(&key), &tenant.tenant, &key_place(id, subject)?, random)
            .map_err(sort_seal)?;
        connection
            .prepare_cached("insert into keys (tenant, subject, id, sealed) values (?1, ?2, ?3, ?4)")
            .and_then(|mut statement| {
                statement.execute(params![tenant.number, subject.as_bytes(), id.to_string(), sealed])
            })
            .map_err(sort)?;
        Ok(Self { id, key })
    }
}

fn tenant_place() -> Name {
    Name::literal("vault/tenant")
}

/// What a wrapped data key is bound to beside its tenant: its id and its subject's address.
fn key_place(id: DataKeyId, subject: Digest) -> Result<Name, VaultError> {
    format!("vault/{id}/{subject}").parse().map_err(|_| VaultError::Broken("a data key"))
}
