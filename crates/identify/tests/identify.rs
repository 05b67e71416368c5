//! Identification as an enemy would try it.
#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test fails by panicking")]
use std::collections::BTreeMap;

use bartizan_base::random::SeededRandom;
use bartizan_base::{Name, Timestamp};
use bartizan_identify::{
    Caller, Directory, EpochEntry, EpochKind, Identified, Identifier, KeyEntry, Presented,
};
use bartizan_jose::testing::ForeignKey;
use bartizan_model::directory::{AgentSpec, IssuerSpec, PrincipalSpec, Spec, Status};
use bartizan_model::{Action, Document, KeyId, Principal, PrincipalId, PrincipalKind, ReasonCode, Tenant};
use bartizan_secret::ApiKey;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn id(n: u8) -> PrincipalId {
    PrincipalId::from_parts(NOW, [n; 10])
}

struct World {
    documents: Vec<Document>,
    key: ApiKey,
    entry: KeyEntry,
    epochs: Vec<EpochEntry>,
    signer: ForeignKey,
    identifier: Identifier,
    revision: u64,
}

impl World {
    fn new() -> Self {
        let random = SeededRandom::new(1);
        let key = ApiKey::generate(&random);
        let tenant = Tenant::default_tenant();
        let user = |n: &str, p: u8| Document {
            name: name(n),
            principal: Some(id(p)),
            spec: Spec::User(PrincipalSpec::default()),
        };
        let agent = AgentSpec {
            status: Status::Active,
            owner: name("alice"),
            purpose: "reports".parse().unwrap(),
            expires_us: None,
            conditions: Default::default(),
            groups: Default::default(),
            roles: Default::default(),
        };
        let issuer = IssuerSpec {
            events: None,
            status: Status::Active,
            issuer: "https://id.example".to_owned(),
            audience: "https://ai.example".to_owned(),
            jwks_url: "https://id.example/jwks".to_owned(),
            allow_private: false,
            subject_claim: "sub".to_owned(),
            subject_kind: PrincipalKind::User,
            acr: BTreeMap::from([("phr".to_owned(), 3), ("phrh".to_owned(), 4)]),
            assurance_cap: 3,
        };
        let signer = ForeignKey::ed25519("k1", &random).unwrap();
        let identifier = Identifier::new();
        identifier
            .learn_keys(&name("company"), json!({"keys": [signer.public_jwk()]}).to_string().as_bytes(), NOW)
            .unwrap();
        let entry = KeyEntry {
            id: KeyId::new(NOW, &random),
            tenant,
            digest: key.digest(),
            principal: Principal { kind: PrincipalKind::User, name: name("alice"), id: id(1) },
            scopes: None,
            created: Timestamp::from_secs(900_000),
            expires: Timestamp::from_secs(2_000_000),
            revoked: None,
        };
        Self {
            documents: vec![
                user("alice", 1),
                Document { name: name("reporter"), principal: Some(id(2)), spec: Spec::Agent(agent) },
                Document { name: name("company"), principal: None, spec: Spec::Issuer(issuer) },
            ],
            key,
            entry,
            epochs: Vec::new(),
            signer,
            identifier,
            revision: 1,
        }
    }

    fn directory(&self) -> Directory {
        let documents = self.documents.iter().map(|d| (Tenant::default_tenant(), d.clone()));
        Directory::build(
            self.revision,
            documents,
            [self.entry.clone()].into_iter(),
            self.epochs.iter().cloned(),
        )
    }

    fn present(&self, text: &str, now: Timestamp) -> Result<Caller, ReasonCode> {
        let header = format!("Bearer {text}");
        let presented = Presented::from_headers([header.as_bytes()].into_iter(), std::iter::empty())?;
        match self.identifier.identify(&self.directory(), &presented, now) {
            Identified::Caller(caller) => Ok(*caller),
            Identified::Refused { reason, .. } => Err(reason),
            Identified::NeedKeys(_) | Identified::NeedBundle(_) | Identified::NeedCertificate(_) => {
                Err(ReasonCode::IssuerKeysUnavailable)
            }
        }
    }

    fn by_key(&self) -> Result<Caller, ReasonCode> {
        self.present(self.key.text().expose(), NOW)
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "iss": "https://id.example", "sub": "alice", "aud": ["https://ai.example"], "client_id": "app",
            "iat": NOW.as_secs() - 10, "exp": NOW.as_secs() + 300, "acr": "phr", "auth_time": NOW.as_secs() - 60
        });
        change(&mut claims);
        self.signer.sign("at+jwt", &claims).unwrap()
    }
}

#[test]
fn a_known_key_is_its_principal_and_dead_ones_are_refused_by_reason() {
    let mut world = World::new();
    let caller = world.by_key().unwrap();
    assert_eq!(
        (caller.subject().principal.name.as_str(), u8::from(caller.subject().assurance.level)),
        ("alice", 1)
    );
    assert_eq!(
        world.present(ApiKey::generate(&SeededRandom::new(9)).text().expose(), NOW).unwrap_err(),
        ReasonCode::CredentialUnknown
    );
    let text = world.key.text().expose().clone();
    assert_eq!(world.present(&text[..60], NOW).unwrap_err(), ReasonCode::CredentialMalformed);
    assert_eq!(
        world.present(&text, Timestamp::from_secs(2_000_000)).unwrap_err(),
        ReasonCode::CredentialExpired
    );
    world.entry.revoked = Some(NOW);
    assert_eq!(world.by_key().unwrap_err(), ReasonCode::CredentialRevoked);
    world.entry.revoked = None;
    world.documents[0].spec = Spec::User(PrincipalSpec { status: Status::Disabled, ..Default::default() });
    assert_eq!(world.by_key().unwrap_err(), ReasonCode::PrincipalDisabled);
    world.documents.remove(0);
    assert_eq!(world.by_key().unwrap_err(), ReasonCode::PrincipalDisabled);
}

#[test]
fn a_principal_declared_anew_under_an_old_name_does_not_inherit_its_keys() {
    let mut world = World::new();
    world.documents[0].principal = Some(id(77));
    assert_eq!(world.by_key().unwrap_err(), ReasonCode::PrincipalDisabled);
}

#[test]
fn headers_with_two_different_credentials_are_ambiguous() {
    let from =
        |a: &[&[u8]], k: &[&[u8]]| Presented::from_headers(a.iter().copied(), k.iter().copied()).map(|_| ());
    let (one, two) = (ApiKey::generate(&SeededRandom::new(1)), ApiKey::generate(&SeededRandom::new(2)));
    let bearer = |k: &ApiKey| format!("Bearer {}", k.text().expose()).into_bytes();
    assert!(from(&[&bearer(&one)], &[one.text().expose().as_bytes()]).is_ok());
    assert_eq!(
        from(&[&bearer(&one)], &[two.text().expose().as_bytes()]),
        Err(ReasonCode::CredentialAmbiguous)
    );
    assert_eq!(from(&[&bearer(&one), &bearer(&one)], &[]), Err(ReasonCode::CredentialAmbiguous));
    assert_eq!(from(&[b"Basic abc"], &[]), Err(ReasonCode::CredentialMalformed));
    assert_eq!(from(&[b"Bearer \xff"], &[]), Err(ReasonCode::CredentialMalformed));
}

#[test]
fn a_token_is_its_subject_with_capped_assurance() {
    let world = World::new();
    let caller = world.present(&world.token(|_| {}), NOW).unwrap();
    assert_eq!(
        (caller.subject().principal.name.as_str(), u8::from(caller.subject().assurance.level)),
        ("alice", 3)
    );
    let level = |acr: &str| {
        let token = world.token(|c| c["acr"] = json!(acr));
        u8::from(world.present(&token, NOW).unwrap().subject().assurance.level)
    };
    assert_eq!((level("phrh"), level("made-up")), (3, 1));
    // Without `auth_time` nothing is claimed about how recent the login was.
    let token = world.token(|c| drop(c.as_object_mut().unwrap().remove("auth_time")));
    assert_eq!(world.present(&token, NOW).unwrap().subject().assurance.at, Timestamp::default());
}

#[test]
fn tokens_that_are_forged_expired_for_others_or_of_other_kinds_are_refused() {
    let world = World::new();
    let refused = |change: fn(&mut Value)| world.present(&world.token(change), NOW).unwrap_err();
    assert_eq!(refused(|c| c["aud"] = json!("https://other.example")), ReasonCode::TokenAudienceMismatch);
    assert_eq!(refused(|c| c["iss"] = json!("https://id.example/")), ReasonCode::TokenIssuerUnknown);
    assert_eq!(refused(|c| c["exp"] = json!(999_000)), ReasonCode::CredentialExpired);
    assert_eq!(refused(|c| c["nbf"] = json!(1_001_000)), ReasonCode::CredentialNotYetValid);
    assert_eq!(refused(|c| c["sub"] = json!("mallory")), ReasonCode::CredentialUnknown);
    assert_eq!(
        refused(|c| c["cnf"] = json!({"jkt": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"})),
        ReasonCode::BindingMismatch
    );
    assert_eq!(refused(|c| c["act"] = json!({"sub": "nobody"})), ReasonCode::CredentialUnknown);
    let claims = json!({"iss": "https://id.example", "sub": "alice", "aud": "https://ai.example", "iat": 999_990, "exp": 1_000_300});
    let id_token = world.signer.sign("JWT", &claims).unwrap();
    assert_eq!(world.present(&id_token, NOW).unwrap_err(), ReasonCode::TokenTypeRefused);
    let other_key =
        ForeignKey::ed25519("k1", &SeededRandom::new(99)).unwrap().sign("at+jwt", &claims).unwrap();
    assert_eq!(world.present(&other_key, NOW).unwrap_err(), ReasonCode::TokenSignatureInvalid);
    let confused = ForeignKey::p256("k1").unwrap().sign("at+jwt", &claims).unwrap();
    assert_eq!(world.present(&confused, NOW).unwrap_err(), ReasonCode::TokenAlgorithmRefused);
}

/// LiteLLM before 1.83.0 remembered who somebody is under the first characters of a token.
#[test]
fn cve_2026_35030_tokens_that_begin_alike_are_two_tokens() {
    let world = World::new();
    let good = world.token(|_| {});
    for _ in 0..2 {
        world.present(&good, NOW).unwrap();
    }
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    assert_eq!(forged[..=signed.len()], good[..=signed.len()]);
    assert!(world.present(&forged, NOW).is_err());
    let cut = &good[..good.len() - 4];
    assert!(world.present(cut, NOW).is_err());
    world.present(&good, NOW).unwrap();
}

#[test]
fn an_unknown_key_id_asks_for_keys_once_in_a_while_not_for_every_token() {
    let world = World::new();
    let stranger = ForeignKey::ed25519("k2", &SeededRandom::new(5)).unwrap();
    let claims = json!({"iss": "https://id.example", "sub": "alice", "aud": "https://ai.example", "iat": 999_990, "exp": 1_000_300});
    let token = stranger.sign("at+jwt", &claims).unwrap();
    assert_eq!(world.present(&token, NOW).unwrap_err(), ReasonCode::TokenSignatureInvalid);
    let later = Timestamp::from_secs(1_000_040);
    assert_eq!(world.present(&token, later).unwrap_err(), ReasonCode::IssuerKeysUnavailable);
    assert_eq!(world.present(&token, later).unwrap_err(), ReasonCode::TokenSignatureInvalid);
}

#[test]
fn an_actor_is_a_member_without_the_persons_login() {
    let mut world = World::new();
    let token = world.token(|c| c["act"] = json!({"sub": "reporter"}));
    let caller = world.present(&token, NOW).unwrap();
    assert_eq!(caller.members().count(), 2);
    assert_eq!(u8::from(caller.actors()[0].assurance.level), 0);
    // The owner is disabled: so is the agent.
    world.documents[0].spec = Spec::User(PrincipalSpec { status: Status::Disabled, ..Default::default() });
    world.revision += 1;
    assert_eq!(world.present(&token, NOW).unwrap_err(), ReasonCode::PrincipalDisabled);
}

#[test]
fn inv_epoch_a_remembered_token_dies_with_the_epoch() {
    let mut world = World::new();
    let token = world.token(|_| {});
    assert!(world.present(&token, NOW).is_ok());
    for (kind, what) in
        [(EpochKind::Principal, "user/alice"), (EpochKind::Issuer, "company"), (EpochKind::Tenant, "default")]
    {
        world.epochs = vec![EpochEntry {
            tenant: Tenant::default_tenant(),
            kind,
            name: name(what),
            not_before: NOW,
            revision: world.revision + 1,
        }];
        world.revision += 1;
        assert_eq!(world.present(&token, NOW).unwrap_err(), ReasonCode::CredentialRevoked, "{what}");
        if kind != EpochKind::Issuer {
            assert_eq!(world.by_key().unwrap_err(), ReasonCode::CredentialRevoked, "{what}");
        }
    }
    world.epochs.clear();
    world.revision += 1;
    assert!(world.present(&token, NOW).is_ok());
}

#[test]
fn inv_tenant_an_issuers_tokens_are_callers_of_its_own_tenant_only() {
    let world = World::new();
    let other = Tenant(name("other"));
    let documents = world.documents.iter().map(|d| {
        let tenant = if matches!(d.spec, Spec::Issuer(_)) { other.clone() } else { Tenant::default_tenant() };
        (tenant, d.clone())
    });
    let directory = Directory::build(9, documents, std::iter::empty(), std::iter::empty());
    let header = format!("Bearer {}", world.token(|_| {}));
    let presented = Presented::from_headers([header.as_bytes()].into_iter(), std::iter::empty()).unwrap();
    let Identified::Refused { caller, reason } = world.identifier.identify(&directory, &presented, NOW)
    else {
        panic!()
    };
    assert_eq!((caller.tenant(), reason), (&other, ReasonCode::CredentialUnknown));
}

#[test]
fn inv_tenant_an_agent_is_alive_only_by_a_sponsor_of_its_own_organisation_who_is_in_use() {
    let mut world = World::new();
    world.entry.principal = Principal { kind: PrincipalKind::Agent, name: name("reporter"), id: id(2) };
    let header = format!("Bearer {}", world.key.text().expose());
    let presented = Presented::from_headers([header.as_bytes()].into_iter(), std::iter::empty()).unwrap();
    // Where its owner is, and how they stand; nowhere for nobody of that name.
    for (sponsor, alive) in [
        (Some((Tenant::default_tenant(), Status::Active)), true),
        (Some((Tenant::default_tenant(), Status::Disabled)), false),
        (Some((Tenant::default_tenant(), Status::Retired)), false),
        (Some((Tenant(name("other")), Status::Active)), false),
        (None, false),
    ] {
        let documents = world.documents.iter().filter_map(|document| match &document.spec {
            Spec::User(_) => {
                let (tenant, status) = sponsor.clone()?;
                let spec = Spec::User(PrincipalSpec { status, ..PrincipalSpec::default() });
                Some((tenant, Document { spec, ..document.clone() }))
            }
            _ => Some((Tenant::default_tenant(), document.clone())),
        });
        let directory = Directory::build(1, documents, [world.entry.clone()].into_iter(), std::iter::empty());
        let found = world.identifier.identify(&directory, &presented, NOW);
        assert_eq!(matches!(found, Identified::Caller(_)), alive, "{sponsor:?}");
        if let Identified::Refused { reason, .. } = found {
            assert_eq!(reason, ReasonCode::PrincipalDisabled);
        }
    }
}

#[test]
fn scopes_of_a_token_are_our_actions_only() {
    let world = World::new();
    let caller = world.present(&world.token(|c| c["scope"] = json!("openid model:invoke *")), NOW).unwrap();
    assert!(caller.scopes().cover(Action::ModelInvoke) && !caller.scopes().cover(Action::ModelEmbed));
}
