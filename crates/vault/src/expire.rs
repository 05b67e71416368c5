//! Retention: what is older than its kind may be goes, unless a hold keeps it.

use std::collections::BTreeMap;
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_model::Tenant;
use rusqlite::params;

use crate::address::TenantKey;
use crate::error::sort;
use crate::schema::write;
use crate::vault::{Doomed, Inner, Step};
use crate::{Kind, Vault, VaultError, erase};

/// How long each kind is kept. A kind that is not in it is kept until its subject is erased.
pub type Retention = BTreeMap<Kind, Duration>;

/// What went because of its age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// How many values of fields.
    pub items: u64,
    /// How many payloads.
    pub payloads: u64,
}

// === impl Vault ===

impl Vault {
    /// Removes what a tenant keeps longer than `retention`, except for subjects under a hold. Their keys stay, so unlike an
    /// erasure this is removal and overwriting, not destruction of a key.
    ///
    /// # Errors
    /// As the database and the disk are; asking again goes on.
    pub fn expire(
        &self,
        tenant: &Tenant,
        now: Timestamp,
        retention: &Retention,
    ) -> Result<Expired, VaultError> {
        let inner = &*self.0;
        let mut connection = inner.lock();
        inner.step(Step::Begun)?;
        let interrupted = Inner::is_unswept(&connection)?;
        let (expired, doomed) = write(&mut connection, |transaction| {
            let (mut expired, mut names) = (Expired::default(), Vec::new());
            let Some(tenant) = TenantKey::find(transaction, &inner.tools, tenant)? else {
                return Ok((expired, names));
            };
            for (kind, duration) in retention {
                let kept = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
                let before = now.as_micros().saturating_sub(kept);
                let old = "tenant = ?1 and kind = ?2 and made_us < ?3 and subject not in \
                           (select subject from holds where tenant = ?1)";
                let parameters = params![tenant.number, kind.name(), before];
                let sql = format!("delete from payloads where {old} returning sha256");
                names.extend(erase::doomed(transaction, &sql, parameters)?);
                let sql = format!("delete from items where {old}");
                let items = transaction.execute(&sql, parameters).map_err(sort)?;
                expired.items += items as u64;
            }
            expired.payloads = names.len() as u64;
            if expired != Expired::default() {
                Inner::note_unswept(transaction)?;
            }
            inner.step(Step::Deleted)?;
            Ok((expired, names))
        })?;
        inner.step(Step::Committed)?;
        inner.sweep(&connection, &if interrupted { Doomed::Orphans } else { Doomed::Named(doomed) })?;
        Ok(expired)
    }
}
