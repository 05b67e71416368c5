//! What identification needs to know of a state.

use std::sync::Arc;

use bartizan_identify::{Assessed, Directory, EpochEntry, KeyEntry, OwnKey};
use bartizan_jose::KeptKey;
use bartizan_model::{Risk, Tenant};
use bartizan_store::{EpochKind, Row, RowKind, State};

/// Who can be identified in a state, `issuer` being our own authority.
pub(crate) fn directory(state: &State, issuer: Option<Arc<str>>) -> Directory {
    let keys = state.keys.iter().map(|row| KeyEntry {
        id: row.id,
        tenant: row.tenant.clone(),
        digest: row.digest,
        principal: row.principal.clone(),
        scopes: row.scopes.clone(),
        created: row.created,
        expires: row.expires,
        revoked: row.revoked,
    });
    let epochs = state.epochs.iter().map(|row| EpochEntry {
        tenant: row.tenant.clone(),
        kind: match row.kind {
            EpochKind::Principal => bartizan_identify::EpochKind::Principal,
            EpochKind::Issuer => bartizan_identify::EpochKind::Issuer,
            EpochKind::Tenant => bartizan_identify::EpochKind::Tenant,
            EpochKind::Session => bartizan_identify::EpochKind::Session,
            EpochKind::Grant => bartizan_identify::EpochKind::Grant,
            EpochKind::Client => bartizan_identify::EpochKind::Client,
            EpochKind::Device => bartizan_identify::EpochKind::Device,
        },
        name: row.name.clone(),
        not_before: row.not_before,
        revision: row.revision,
    });
    let documents = state.documents.iter().map(|(tenant, document, _)| (tenant.clone(), document.clone()));
    let directory = Directory::build(state.revision, documents, keys, epochs);
    let directory = directory.with_risks(rows(state, RowKind::Standing).filter_map(risk));
    let Some(issuer) = issuer else { return directory };
    match directory.with_own(issuer, rows(state, RowKind::SigningKey).filter_map(own_key)) {
        Ok(directory) => directory,
        Err((directory, error)) => {
            tracing::error!(%error, "the authority's keys are not acceptable together; its tokens are refused");
            *directory
        }
    }
}

fn rows(state: &State, kind: RowKind) -> impl Iterator<Item = &Row> {
    state.rows.iter().filter(move |row| row.kind == kind)
}

/// A key that the authority signs with; none once it was withdrawn. What cannot be read lets nobody in.
fn own_key(row: &Row) -> Option<OwnKey> {
    let kept = serde_json::from_str::<KeptKey>(&row.body).map_err(|error| error.to_string());
    let read = kept.and_then(|kept| Ok((kept.public().map_err(|error| error.to_string())?, kept.plan)));
    match read {
        Ok((_, plan)) if plan.withdrawn => None,
        Ok((public, plan)) => Some(OwnKey { tenant: row.tenant.clone(), public, until: plan.gone }),
        Err(error) => {
            tracing::error!(row = row.id, error, "a signing key is not readable; its tokens are refused");
            None
        }
    }
}

/// How risky a session (`ses_…`) or principal (`prn_…`) was last found: a [`Risk`] as JSON. What cannot be read is unknown, which
/// is more than harmless.
fn risk(row: &Row) -> Option<(Tenant, Assessed, Risk)> {
    let whom = row.id.parse().map(Assessed::Session).or_else(|_| row.id.parse().map(Assessed::Principal));
    let Ok(whom) = whom else {
        tracing::error!(row = row.id, "a standing is about nobody");
        return None;
    };
    let risk = serde_json::from_str::<Risk>(&row.body).unwrap_or_else(|error| {
        tracing::error!(row = row.id, %error, "a standing is not readable; it counts as not assessed");
        Risk::default()
    });
    Some((row.tenant.clone(), whom, risk))
}
