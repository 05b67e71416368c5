//! Rights to test with.

use bartizan_base::{Name, Timestamp};
use bartizan_jose::{Confirmation, Jkt};
use bartizan_model::{
    Assurance, AssuranceLevel, FamilyId, GrantId, Principal, PrincipalId, PrincipalKind, SessionId, Tenant,
};
use serde_json::json;

use super::{BoundTo, Rights, Root};

pub(crate) fn somebody(kind: PrincipalKind, name: &str, number: u8) -> Principal {
    let id = PrincipalId::from_parts(Timestamp::from_secs(1), [number; 10]);
    Principal { kind, name: name.parse().unwrap(), id }
}

pub(crate) fn key(number: u8) -> Confirmation {
    Confirmation::Key(Jkt::from_digest(bartizan_base::Digest::of(&[number])))
}

/// Rights with something of everything.
pub(crate) fn rights() -> Rights {
    let at = Timestamp::from_secs(100);
    Rights::root(Root {
        tenant: Tenant::default_tenant(),
        subject: somebody(PrincipalKind::User, "alice", 1),
        actors: vec![somebody(PrincipalKind::Agent, "helper", 2)],
        scopes: ["model:invoke", "model:list", "openid"].map(str::to_owned).into(),
        resources: ["https://a.example", "https://b.example"].map(str::to_owned).into(),
        details: vec![json!({"type": "tool", "name": "one"}), json!({"type": "tool", "name": "two"})],
        assurance: Assurance {
            level: AssuranceLevel::Aal2,
            methods: vec![Name::literal("otp"), Name::literal("pwd")],
            at,
            via: None,
        },
        session: Some(SessionId::from_parts(at, [3; 10])),
        device: Some(Name::literal("laptop")),
        grants: vec![GrantId::from_parts(at, [4; 10])],
        family: Some(FamilyId::from_parts(at, [5; 10])),
        binding: Some(BoundTo(key(1))),
        since: 7,
        ends: Timestamp::from_secs(1_000),
    })
}
