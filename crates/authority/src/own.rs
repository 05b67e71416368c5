//! Our own access tokens, as they come back: to be exchanged, asked about, revoked. The doors have their own eyes
//! (`bartizan-identify`); this is for the endpoints of the authority.

use std::time::Duration;

use bartizan_base::Name;
use bartizan_control::View;
use bartizan_jose::{AccessClaims, AccessRules, Jws, KeptKey, TimeRules, Verified, verify};
use bartizan_model::{Assurance, FamilyId, GrantId, Principal, PrincipalId, Problem, ReasonCode};
use serde_json::{Map, Value};

use crate::Authority;
use crate::clients::epoch_name;
use crate::issue::{BoundTo, OWN, Rights, Root, level};
use crate::keys::TOKEN_LIFE_MAX;
use crate::marks;
use crate::oauth::parse_scope;

/// A token of ours that holds: signed by us, within its time, and nobody concerned was declared dead since.
#[derive(Debug)]
pub(crate) struct Own {
    /// What it says.
    pub(crate) claims: Verified<AccessClaims>,
    /// The same as rights, for whatever comes of it.
    pub(crate) rights: Rights,
    /// The client that it was issued to.
    pub(crate) client: String,
    /// For whom.
    pub(crate) audience: String,
}

impl Authority {
    /// Reads an access token of ours. None for everything that is not one, or is not alive: nobody learns why.
    pub(crate) fn own(&self, view: &View, text: &str) -> Result<Option<Own>, Problem> {
        let now = self.control.clock.now();
        let Ok(jws) = Jws::parse(text) else { return Ok(None) };
        let ring = self.ring(view)?;
        let keys = KeptKey::published(ring.keys(), now).map_err(|_| Problem::new(ReasonCode::Internal))?;
        // For whom it is, is for the caller to look at; here it is taken at its word.
        let Ok(claimed) = AccessClaims::parse(jws.unverified_payload()) else { return Ok(None) };
        let Some(audience) = claimed.aud.iter().next().map(str::to_owned) else { return Ok(None) };
        let rules = AccessRules {
            issuer: &self.issuer,
            audience: &audience,
            // We issued it, so there is no other clock.
            time: TimeRules { now, skew: Duration::ZERO, life_max: TOKEN_LIFE_MAX },
            complete: true,
        };
        let Ok(claims) = verify::<AccessClaims>(&jws, &keys, &rules) else { return Ok(None) };
        let client = claims.client_id.clone().unwrap_or_default();
        let Some(rights) = self.rights_of(view, &claims) else { return Ok(None) };
        if marks::alive(&view.state, &rights, &epoch_name(&client)).is_err() {
            return Ok(None);
        }
        Ok(Some(Own { claims, rights, client, audience }))
    }

    fn rights_of(&self, view: &View, claims: &AccessClaims) -> Option<Rights> {
        let tenant = self.settings.tenant.clone();
        let own = claims.others.get(OWN)?.as_object()?;
        let who = |text: &str| -> Option<Principal> {
            marks::person(&view.state, &tenant, text.parse::<PrincipalId>().ok()?)
        };
        let (grants, family) = withdrawable(own)?;
        Some(Rights::root(Root {
            subject: who(&claims.sub)?,
            actors: claims.actors().map(who).collect::<Option<_>>()?,
            scopes: parse_scope(claims.scope.as_deref()?).ok()?,
            resources: claims.aud.iter().map(str::to_owned).collect(),
            details: claims.authorization_details.clone(),
            assurance: Assurance {
                level: level(claims.acr.as_deref()),
                methods: claims.amr.iter().filter_map(|method| method.parse().ok()).collect(),
                at: claims.auth_time.unwrap_or_default(),
                via: None,
            },
            session: parsed(claims.sid.as_deref())?,
            device: parsed::<Name>(own.get("device").and_then(Value::as_str))?,
            grants,
            family,
            binding: claims.cnf.map(BoundTo),
            since: own.get("rev")?.as_u64()?,
            ends: claims.expires(),
            tenant,
        }))
    }
}

/// The grants and the family that a token depends on.
fn withdrawable(own: &Map<String, Value>) -> Option<(Vec<GrantId>, Option<FamilyId>)> {
    let mut grants = Vec::new();
    let mut family = None;
    let under = match own.get("under") {
        None => &[][..],
        Some(under) => under.as_array()?.as_slice(),
    };
    for id in own.get("grant").into_iter().chain(under) {
        let id = id.as_str()?;
        match id.parse::<FamilyId>() {
            Ok(id) => family = Some(id),
            Err(_) => grants.push(id.parse().ok()?),
        }
    }
    Some((grants, family))
}

/// What may be absent, but not wrong.
#[expect(clippy::option_option, reason = "wrong, absent and there are three things")]
fn parsed<T: std::str::FromStr>(text: Option<&str>) -> Option<Option<T>> {
    text.map(|text| text.parse().ok()).map_or(Some(None), |parsed: Option<T>| parsed.map(Some))
}
