//! What is known of a person or group beside its document: the attributes that another system keeps up to date. Personal, so
//! they lie sealed beside the state, never in a document, a record or a log, and go with their subject.

use std::collections::HashMap;

use bartizan_base::{Digest, Name, Random, Timestamp};
use bartizan_control::Control;
use bartizan_model::{PrincipalId, ReasonCode, Tenant};
use bartizan_scim::Resource;
use bartizan_secret::Secret;
use bartizan_store::{Change, Row, RowKind, Rows, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kept::{Held, Kept, find, keep};

/// Profiles that one look takes.
const LOOK: usize = 1_000;

/// A profile as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Profile {
    /// The attributes as JSON, sealed for the subject alone.
    sealed: String,
    /// By what it is found: a digest under the tenant of what the other system calls the subject.
    external: Option<Digest>,
    /// When it was made.
    pub(super) created: Timestamp,
    /// When it was last changed.
    pub(super) modified: Timestamp,
}

impl Kept for Profile {
    const KIND: RowKind = RowKind::Profile;

    fn owner(&self) -> String {
        self.external.map(|digest| digest.to_string()).unwrap_or_default()
    }

    fn expires(&self) -> Option<Timestamp> {
        None
    }
}

/// A profile, opened.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// As it is kept.
    pub(super) held: Held<Profile>,
    /// The attributes.
    pub(super) attributes: Resource,
}

/// Reads and writes profiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Profiles<'a> {
    pub(super) control: &'a Control,
    pub(super) rows: &'a dyn Rows,
    pub(super) tenant: &'a Tenant,
}

impl Profiles<'_> {
    /// What is known of somebody.
    pub(super) async fn of(&self, id: PrincipalId) -> Result<Option<Known>, StoreError> {
        let held = find::<Profile>(self.rows, &id.to_string(), self.control.clock.now()).await?;
        let held = held.filter(|held| held.tenant == *self.tenant);
        held.map(|held| self.open(held)).transpose()
    }

    /// What is known of everybody, by pseudonym as text.
    pub(super) async fn all(&self) -> Result<HashMap<String, Known>, StoreError> {
        let (mut out, mut after) = (HashMap::new(), String::new());
        loop {
            let rows = self.rows.rows(self.tenant, RowKind::Profile, &after, LOOK).await?;
            let Some(last) = rows.last() else { return Ok(out) };
            after.clone_from(&last.id);
            for row in rows {
                let known = self.open(read(row)?)?;
                out.insert(known.held.id.clone(), known);
            }
        }
    }

    /// The pseudonyms of those whom the other system calls so.
    pub(super) async fn called(&self, external: &str) -> Result<Vec<String>, StoreError> {
        let owner = digest(self.tenant, external).to_string();
        let rows = self.rows.rows_of(self.tenant, RowKind::Profile, &owner, "", LOOK).await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// The change that keeps `attributes` of somebody; none where they are as they were.
    pub(super) fn keep(
        &self,
        id: PrincipalId,
        present: Option<&Known>,
        attributes: &Resource,
        random: &dyn Random,
    ) -> Result<Option<Change>, StoreError> {
        if present.is_some_and(|known| known.attributes == *attributes) {
            return Ok(None);
        }
        let now = self.control.clock.now();
        let text = Secret::new(Value::Object(attributes.clone()).to_string());
        let sealed = self.control.sealer.seal(&text, self.tenant, &place(id)?, random);
        let sealed = sealed.map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let external = attributes.get("externalId").and_then(Value::as_str);
        let profile = Profile {
            sealed: STANDARD_NO_PAD.encode(sealed),
            external: external.map(|external| digest(self.tenant, external)),
            created: present.map_or(now, |known| known.held.value.created),
            modified: now,
        };
        match present {
            Some(known) => known.held.replace(&profile).map(Some),
            None => keep(self.tenant, id.to_string(), &profile).map(Some),
        }
    }

    fn open(&self, held: Held<Profile>) -> Result<Known, StoreError> {
        let broken = |what: &str| StoreError::Corrupt(format!("a profile {what}"));
        let id: PrincipalId = held.id.parse().map_err(|_| broken("has no pseudonym"))?;
        let sealed = STANDARD_NO_PAD.decode(&held.value.sealed).map_err(|_| broken("is not sealed"))?;
        let opened = self.control.sealer.open(&sealed, self.tenant, &place(id)?);
        let opened = opened.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a profile does not open");
            broken("does not open")
        })?;
        let attributes = serde_json::from_str(opened.expose()).map_err(|_| broken("is not readable"))?;
        Ok(Known { held, attributes })
    }
}

fn read(row: Row) -> Result<Held<Profile>, StoreError> {
    let value =
        serde_json::from_str(&row.body).map_err(|e| StoreError::Corrupt(format!("a profile: {e}")))?;
    Ok(Held { tenant: row.tenant, id: row.id, version: row.version, value })
}

/// The place that a profile is sealed for: moved to another subject, it does not open.
fn place(id: PrincipalId) -> Result<Name, StoreError> {
    format!("profile/{id}").parse().map_err(|_| StoreError::Corrupt(ReasonCode::Internal.code().into_owned()))
}

fn digest(tenant: &Tenant, external: &str) -> Digest {
    Digest::of_parts(&[b"bartizan external id v1\0", tenant.0.as_bytes(), b"\0", external.as_bytes()])
}
