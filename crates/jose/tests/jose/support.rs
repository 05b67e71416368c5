//! One issuer, one client, and a good token of every profile.

use std::time::Duration;

use bartizan_base::random::SeededRandom;
use bartizan_base::{Digest, Timestamp};
use bartizan_jose::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(crate) const ISSUER: &str = "https://as.example";
pub(crate) const AUDIENCE: &str = "https://ai.example/mcp";
pub(crate) const CLIENT: &str = "https://app.example/client";
pub(crate) const URI: &str = "https://ai.example/mcp/tools";
pub(crate) const NONCE: &str = "n-0S6_WzA2Mj";

pub(crate) fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(crate) fn after(s: u64) -> Timestamp {
    NOW.saturating_add(secs(s))
}

pub(crate) fn before(s: u64) -> Timestamp {
    Timestamp::from_secs(NOW.as_secs() - s)
}

pub(crate) fn key(algorithm: Algorithm, seed: u64) -> SigningKey {
    SigningKey::generate(algorithm, &SeededRandom::new(seed)).unwrap()
}

pub(crate) fn ed25519() -> SigningKey {
    key(Algorithm::Ed25519, 1)
}

pub(crate) fn jwks(keys: &[&SigningKey]) -> Jwks {
    let set = Jwks::of(keys.iter().map(|k| k.public().clone())).unwrap();
    Jwks::parse(set.to_json().to_string().as_bytes()).unwrap()
}

pub(crate) fn time() -> TimeRules {
    TimeRules { now: NOW, skew: secs(30), life_max: secs(600) }
}

pub(crate) fn times() -> Times {
    Times { issued: before(10), not_before: None, expires: after(280) }
}

pub(crate) fn access() -> AccessClaims {
    AccessClaims::new(ISSUER, "alice", AUDIENCE, CLIENT, "at-1", times())
}

pub(crate) fn access_rules() -> AccessRules<'static> {
    AccessRules { issuer: ISSUER, audience: AUDIENCE, time: time(), complete: true }
}

pub(crate) fn id() -> IdClaims {
    IdClaims { nonce: Some(NONCE.to_owned()), ..IdClaims::new(ISSUER, "alice", CLIENT, times()) }
}

pub(crate) fn id_rules() -> IdRules<'static> {
    IdRules {
        issuer: ISSUER,
        client_id: CLIENT,
        trusted_audiences: &[],
        nonce: Some(NONCE),
        age_max: None,
        access_token: None,
        code: None,
        time: time(),
    }
}

pub(crate) fn logout() -> LogoutClaims {
    LogoutClaims {
        iss: ISSUER.to_owned(),
        aud: Audience::One(CLIENT.to_owned()),
        times: times(),
        jti: "lo-1".to_owned(),
        sub: Some("alice".to_owned()),
        sid: Some("s1".to_owned()),
    }
}

pub(crate) fn logout_rules() -> LogoutRules<'static> {
    LogoutRules { issuer: ISSUER, client_id: CLIENT, untyped: true, time: time() }
}

pub(crate) fn assertion() -> AssertionClaims {
    AssertionClaims {
        client_id: CLIENT.to_owned(),
        aud: Audience::One(ISSUER.to_owned()),
        times: times(),
        jti: "ca-1".to_owned(),
    }
}

pub(crate) fn assertion_rules() -> AssertionRules<'static> {
    AssertionRules { client_id: CLIENT, issuer: ISSUER, time: time() }
}

pub(crate) fn id_jag() -> IdJagClaims {
    IdJagClaims {
        iss: ISSUER.to_owned(),
        sub: "alice".to_owned(),
        aud: Audience::One(AUDIENCE.to_owned()),
        client_id: CLIENT.to_owned(),
        times: times(),
        jti: "jag-1".to_owned(),
        resource: vec![AUDIENCE.to_owned()],
        scope: None,
        authorization_details: Vec::new(),
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        act: Vec::new(),
        cnf: None,
        others: serde_json::Map::new(),
    }
}

pub(crate) fn id_jag_rules() -> IdJagRules<'static> {
    IdJagRules { issuer: ISSUER, audience: AUDIENCE, client_id: CLIENT, time: time() }
}

pub(crate) fn workload() -> WorkloadClaims {
    WorkloadClaims {
        iss: Some(ISSUER.to_owned()),
        sub: "system:serviceaccount:ml:trainer".to_owned(),
        aud: Audience::Many(vec![AUDIENCE.to_owned()]),
        times: times(),
        jti: Some("wl-1".to_owned()),
        others: json!({"kubernetes.io": {"namespace": "ml"}}).as_object().cloned().unwrap(),
    }
}

pub(crate) fn workload_rules() -> WorkloadRules<'static> {
    WorkloadRules { issuer: ISSUER, audience: AUDIENCE, time: time() }
}

pub(crate) fn event() -> EventClaims {
    let events = json!({"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {}});
    EventClaims {
        iss: ISSUER.to_owned(),
        aud: Audience::One(AUDIENCE.to_owned()),
        issued: before(10),
        jti: "set-1".to_owned(),
        sub_id: json!({"format": "opaque", "id": "alice"}).as_object().cloned(),
        txn: None,
        events: events.as_object().cloned().unwrap(),
    }
}

pub(crate) fn event_rules() -> EventRules<'static> {
    EventRules { issuer: ISSUER, audience: AUDIENCE, time: time() }
}

pub(crate) fn proof() -> DpopProof {
    DpopProof {
        jti: "pr-1".to_owned(),
        htm: "POST".to_owned(),
        htu: URI.to_owned(),
        issued: before(1),
        ath: None,
        nonce: None,
    }
}

pub(crate) fn proof_rules() -> DpopRules<'static> {
    DpopRules {
        method: "POST",
        uri: URI,
        now: NOW,
        age_max: secs(60),
        skew: secs(5),
        access_token: None,
        nonce: NonceRule::Off,
    }
}

pub(crate) fn issue<P: Profile>(key: &SigningKey, claims: &P) -> String {
    key.issue(claims).unwrap().expose().clone()
}

pub(crate) fn prove(key: &SigningKey, proof: &DpopProof) -> String {
    key.prove(proof).unwrap().expose().clone()
}

pub(crate) fn check<P: Profile>(
    token: &str,
    keys: &Jwks,
    rules: &P::Rules<'_>,
) -> Result<Verified<P>, TokenError> {
    verify::<P>(&Jws::parse(token)?, keys, rules)
}

pub(crate) fn check_access(token: &str, keys: &Jwks) -> Result<Verified<AccessClaims>, TokenError> {
    check(token, keys, &access_rules())
}

pub(crate) fn ath(token: &str) -> Option<Digest> {
    Some(Digest::of(token.as_bytes()))
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn unb64(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// The header and the payload of a token.
pub(crate) fn opened(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| serde_json::from_slice(&unb64(part)).unwrap_or_default());
    (parts.next().unwrap(), parts.next().unwrap())
}

/// Puts together a token of parts that need not fit.
pub(crate) fn forged(header: &Value, payload: &Value, signature: &[u8]) -> String {
    format!("{}.{}.{}", b64(header.to_string()), b64(payload.to_string()), b64(signature))
}

/// What reads a token of one profile, under the rules that fit the good one.
pub(crate) type ReaderOf = (&'static str, fn(&str, &Jwks) -> Result<(), TokenError>);

pub(crate) const READERS: &[ReaderOf] = &[
    ("access", |t, k| check::<AccessClaims>(t, k, &access_rules()).map(drop)),
    ("id", |t, k| check::<IdClaims>(t, k, &id_rules()).map(drop)),
    ("logout", |t, k| check::<LogoutClaims>(t, k, &logout_rules()).map(drop)),
    ("assertion", |t, k| check::<AssertionClaims>(t, k, &assertion_rules()).map(drop)),
    ("id-jag", |t, k| check::<IdJagClaims>(t, k, &id_jag_rules()).map(drop)),
    ("workload", |t, k| check::<WorkloadClaims>(t, k, &workload_rules()).map(drop)),
    ("event", |t, k| check::<EventClaims>(t, k, &event_rules()).map(drop)),
    ("proof", |t, _| match DpopProof::verify(t, &proof_rules()) {
        Ok(_) => Ok(()),
        Err(_) => Err(TokenError::Type),
    }),
];

/// A good token of every profile, by the name of its reader.
pub(crate) fn tokens(key: &SigningKey) -> Vec<(&'static str, String)> {
    vec![
        ("access", issue(key, &access())),
        ("id", issue(key, &id())),
        ("logout", issue(key, &logout())),
        ("assertion", issue(key, &assertion())),
        ("id-jag", issue(key, &id_jag())),
        ("workload", issue(key, &workload())),
        ("event", issue(key, &event())),
        ("proof", prove(key, &proof())),
    ]
}
