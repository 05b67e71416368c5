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
    let withdrawn = rows(state, RowKind::WithdrawnCertificate).filter_map(|row| row.id.parse().ok());
    let directory = directory.without_certificates(withdrawn);
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

#[cfg(test)]
mod tests {
    use bartizan_base::random::SeededRandom;
    use bartizan_base::{Name, Timestamp};
    use bartizan_jose::{Algorithm, KeyPlan, SigningKey};
    use bartizan_model::{RiskLevel, SessionId};

    use super::*;

    fn row(kind: RowKind, id: &str, body: &str) -> Row {
        Row {
            tenant: Tenant(Name::literal("acme")),
            kind,
            id: id.to_owned(),
            owner: String::new(),
            expires: None,
            version: 1,
            body: body.to_owned(),
        }
    }

    fn kept(seed: u64, withdrawn: bool) -> Row {
        let key = SigningKey::generate(Algorithm::Ed25519, &SeededRandom::new(seed)).unwrap();
        let at = Timestamp::from_secs;
        let kid = key.kid().to_owned();
        let plan = KeyPlan { kid, published: at(1), signs: at(2), ends: at(8), gone: at(9), withdrawn };
        let kept = KeptKey { plan, jwk: key.public().to_json(), sealed: String::new() };
        row(RowKind::SigningKey, key.kid(), &serde_json::to_string(&kept).unwrap())
    }

    #[test]
    fn attack_29_keys_hold_until_they_are_gone_and_withdrawn_moved_or_unreadable_ones_do_not_hold_at_all() {
        let good = own_key(&kept(1, false)).unwrap();
        assert_eq!((good.tenant.0.as_str(), good.until), ("acme", Timestamp::from_secs(9)));
        assert!(own_key(&kept(1, true)).is_none());
        assert!(own_key(&row(RowKind::SigningKey, "x", "{}")).is_none());
        // The public half of one key under the plan of another.
        let (one, other) = (kept(1, false), kept(2, false));
        let mut body: serde_json::Value = serde_json::from_str(&one.body).unwrap();
        body["jwk"] = serde_json::from_str::<serde_json::Value>(&other.body).unwrap()["jwk"].clone();
        assert!(own_key(&row(RowKind::SigningKey, &one.id, &body.to_string())).is_none());
        // Two keys of one id are none at all, and the rest of the directory is there.
        let state = State { rows: vec![kept(1, false), kept(1, false)], revision: 7, ..State::default() };
        assert_eq!(directory(&state, Some("https://id.example".into())).revision(), 7);
    }

    #[test]
    fn a_standing_that_cannot_be_read_is_not_taken_for_harmless() {
        let id = SessionId::new(Timestamp::from_secs(1), &SeededRandom::new(1));
        let body = r#"{"level":"high","score":90,"at":5,"reasons":["impossible_travel"]}"#;
        let (tenant, whom, found) = risk(&row(RowKind::Standing, &id.to_string(), body)).unwrap();
        assert_eq!((tenant.0.as_str(), whom), ("acme", Assessed::Session(id)));
        assert_eq!((found.level, found.reasons), (RiskLevel::High, vec![Name::literal("impossible_travel")]));
        let (.., broken) = risk(&row(RowKind::Standing, &id.to_string(), "{}")).unwrap();
        assert_eq!(broken.level, RiskLevel::Unknown);
        assert!(risk(&row(RowKind::Standing, "nobody", body)).is_none());
    }
}
