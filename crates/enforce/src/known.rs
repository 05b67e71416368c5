//! What identification needs to know of a state.

use std::sync::Arc;

use bartizan_identify::{Assessed, Changed, Directory, EpochEntry, KeyEntry, OwnKey};
use bartizan_jose::KeptKey;
use bartizan_model::{Risk, Tenant};
use bartizan_store::{EpochKind, EpochRow, KeyRow, Row, RowKind, State};

use crate::follow::Touched;
use crate::world::World;

/// Who can be identified after a change, `issuer` being our own authority.
pub(crate) fn directory(
    before: &World,
    state: &State,
    touched: &Touched,
    issuer: Option<&Arc<str>>,
) -> Directory {
    let mut changed = Changed::default();
    for (tenant, kind, name) in &touched.documents {
        let of =
            |state: &State| state.document(tenant, kind, name).map(|(_, d, _)| (tenant.clone(), d.clone()));
        changed.gone.extend(of(&before.state));
        changed.come.extend(of(state));
    }
    changed.keys = touched.keys.iter().filter_map(|id| state.key_by_id(*id)).map(key).collect();
    let epochs = touched.epochs.iter().filter_map(|(tenant, kind, name)| state.epoch(tenant, *kind, name));
    changed.epochs = epochs.map(epoch).collect();
    let standings = touched.rows.iter().filter(|(kind, _)| *kind == RowKind::Standing);
    changed.risks = standings.filter_map(|(kind, id)| standing(id, state.row(*kind, id))).collect();
    let withdrawn = touched.rows.iter().filter(|(kind, _)| *kind == RowKind::WithdrawnCertificate);
    let withdrawn =
        withdrawn.filter_map(|(kind, id)| Some((id.parse().ok()?, state.row(*kind, id).is_some())));
    changed.withdrawn = withdrawn.collect();
    let directory = before.directory.with(state.revision, changed);
    let first = before.state.revision == 0;
    if !first && !touched.rows.iter().any(|(kind, _)| *kind == RowKind::SigningKey) {
        return directory;
    }
    let Some(issuer) = issuer else { return directory };
    match directory
        .without_own()
        .with_own(issuer.clone(), rows(state, RowKind::SigningKey).filter_map(own_key))
    {
        Ok(directory) => directory,
        Err((directory, error)) => {
            tracing::error!(%error, "the authority's keys are not acceptable together; its tokens are refused");
            *directory
        }
    }
}

fn key(row: &KeyRow) -> KeyEntry {
    KeyEntry {
        id: row.id,
        tenant: row.tenant.clone(),
        digest: row.digest,
        principal: row.principal.clone(),
        scopes: row.scopes.clone(),
        created: row.created,
        expires: row.expires,
        revoked: row.revoked,
    }
}

fn epoch(row: &EpochRow) -> EpochEntry {
    EpochEntry {
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
fn standing(id: &str, row: Option<&Row>) -> Option<(Assessed, Option<(Tenant, Risk)>)> {
    let whom = id.parse().map(Assessed::Session).or_else(|_| id.parse().map(Assessed::Principal));
    let Ok(whom) = whom else {
        tracing::error!(row = id, "a standing is about nobody");
        return None;
    };
    let read = |row: &Row| {
        serde_json::from_str::<Risk>(&row.body).unwrap_or_else(|error| {
            tracing::error!(row = row.id, %error, "a standing is not readable; it counts as not assessed");
            Risk::default()
        })
    };
    Some((whom, row.map(|row| (row.tenant.clone(), read(row)))))
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
        let rows = vec![kept(1, false), kept(1, false)].into();
        let state = State { rows, revision: 7, ..State::default() };
        let (before, touched) = (World::empty(), Touched::default());
        let issuer: Arc<str> = "https://id.example".into();
        assert_eq!(directory(&before, &state, &touched, Some(&issuer)).revision(), 7);
    }

    #[test]
    fn a_standing_that_cannot_be_read_is_not_taken_for_harmless() {
        let id = SessionId::new(Timestamp::from_secs(1), &SeededRandom::new(1));
        let body = r#"{"level":"high","score":90,"at":5,"reasons":["impossible_travel"]}"#;
        let id_text = id.to_string();
        let found = |body: &str| standing(&id_text, Some(&row(RowKind::Standing, &id_text, body))).unwrap();
        let (whom, assessed) = found(body);
        let (tenant, risk) = assessed.unwrap();
        assert_eq!((tenant.0.as_str(), whom), ("acme", Assessed::Session(id)));
        assert_eq!((risk.level, risk.reasons), (RiskLevel::High, vec![Name::literal("impossible_travel")]));
        assert_eq!(found("{}").1.unwrap().1.level, RiskLevel::Unknown);
        assert_eq!(standing(&id_text, None), Some((Assessed::Session(id), None)));
        assert!(standing("nobody", Some(&row(RowKind::Standing, "nobody", body))).is_none());
    }
}
