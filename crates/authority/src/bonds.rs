//! What is kept of somebody beside the state, and ends with them.

use std::sync::Arc;

use bartizan_base::Timestamp;
use bartizan_control::Severing;
use bartizan_model::{Principal, PrincipalId, Tenant};
use bartizan_store::{Change, RowKind, Rows, StoreError};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::kept::{Grant, Held, find_of, owner};

/// Rows that one look takes.
const LOOK: usize = 500;
/// Rows of one kind that end with one set of changes at the most; whatever is beyond is ended by the epoch alone.
const ROWS_MAX: usize = 5_000;

/// Ends what rows keep of people.
#[derive(Clone, Debug)]
pub struct Bonds {
    /// Rows beside the state.
    pub rows: Arc<dyn Rows>,
}

/// What becomes of a kind of row when its owner may not come in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It ends. It also changes with every use.
    Ends,
    /// What they allowed is withdrawn, and stays for people to see; it goes with them.
    Withdrawn,
    /// It goes when they leave for good.
    Goes,
    /// It is known of them beside their document, and lies under their own id: it goes when they leave for good, and when they
    /// are forgotten.
    Known,
    /// It is not theirs.
    Stays,
}

/// Every kind has its fate: a new one does not compile until it stands here.
const fn fate(kind: RowKind) -> Fate {
    match kind {
        RowKind::Session | RowKind::Refresh | RowKind::Request | RowKind::Login | RowKind::Connecting => {
            Fate::Ends
        }
        RowKind::Grant => Fate::Withdrawn,
        RowKind::Password
        | RowKind::Totp
        | RowKind::Passkey
        | RowKind::Recovery
        | RowKind::Connection
        | RowKind::Certificate
        | RowKind::Invitation => Fate::Goes,
        RowKind::Profile | RowKind::Habit => Fate::Known,
        // A lock on somebody outlasts their login: that is what it is for.
        // Codes are their grant's and end with it; what came of a device's code is held against the marks of whoever allowed it.
        // Both last minutes. Standing goes by its own clock.
        // A link outlives its person: by the same account elsewhere, nobody comes back as somebody new. It names them by pseudonym.
        // What has entered a session is known as long as it could be said again, whoever leaves; it names them by pseudonym.
        RowKind::Link
        | RowKind::SessionLabel
        | RowKind::Code
        | RowKind::DeviceCode
        | RowKind::SigningKey
        | RowKind::CertificateAuthority
        | RowKind::WithdrawnCertificate
        | RowKind::Standing
        | RowKind::Lock
        | RowKind::Throttle
        | RowKind::Used
        | RowKind::Client
        | RowKind::Stream
        | RowKind::Event => Fate::Stays,
    }
}

impl bartizan_control::Bonds for Bonds {
    fn sever<'a>(
        &'a self,
        tenant: &'a Tenant,
        principal: &'a Principal,
        how: Severing,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<Change>, StoreError>> {
        async move {
            let mut changes = Vec::new();
            for kind in RowKind::ALL {
                match fate(*kind) {
                    Fate::Ends if how.busy => changes.extend(self.removed(tenant, *kind, principal).await?),
                    Fate::Withdrawn if how.gone && how.busy => {
                        changes.extend(self.removed(tenant, *kind, principal).await?);
                    }
                    Fate::Withdrawn if how.busy => {
                        changes.extend(self.withdrawn(tenant, principal, now).await?)
                    }
                    Fate::Goes if how.gone => changes.extend(self.removed(tenant, *kind, principal).await?),
                    Fate::Ends | Fate::Withdrawn | Fate::Goes | Fate::Known | Fate::Stays => {}
                }
            }
            if how.gone {
                changes.extend(self.known(principal.id).await?);
            }
            Ok(changes)
        }
        .boxed()
    }

    fn forget(&self, whom: PrincipalId) -> BoxFuture<'_, Result<Vec<Change>, StoreError>> {
        self.known(whom).boxed()
    }
}

impl Bonds {
    async fn removed(
        &self,
        tenant: &Tenant,
        kind: RowKind,
        principal: &Principal,
    ) -> Result<Vec<Change>, StoreError> {
        let (whose, mut after, mut out) = (owner(principal), String::new(), Vec::new());
        while out.len() < ROWS_MAX {
            let rows = self.rows.rows_of(tenant, kind, &whose, &after, LOOK).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.id);
            out.extend(rows.into_iter().map(|row| Change::DeleteRow {
                kind,
                id: row.id,
                expect: row.version,
            }));
        }
        Ok(out)
    }

    async fn withdrawn(
        &self,
        tenant: &Tenant,
        principal: &Principal,
        now: Timestamp,
    ) -> Result<Vec<Change>, StoreError> {
        let grants: Vec<Held<Grant>> = find_of(&*self.rows, tenant, &owner(principal), ROWS_MAX, now).await?;
        let open = grants.iter().filter(|grant| grant.value.withdrawn.is_none());
        open.map(|grant| grant.replace(&grant.value.ended(now))).collect()
    }

    async fn known(&self, whom: PrincipalId) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for kind in RowKind::ALL.iter().filter(|kind| fate(**kind) == Fate::Known) {
            let row = self.rows.row(*kind, &whom.to_string()).await?;
            changes.extend(row.map(|row| Change::DeleteRow {
                kind: row.kind,
                id: row.id,
                expect: row.version,
            }));
        }
        Ok(changes)
    }
}
