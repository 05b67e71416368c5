use std::cell::Cell;

use bartizan_base::Name;
use bartizan_model::directory::Spec;
use bartizan_model::{Document, PrincipalId};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;
use crate::directory::Changed;
use crate::epochs::EpochEntry;
use crate::identifier::{Identified, Identifier};
use crate::presented::Presented;
use crate::spiffe::TrustBundle;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const API: &str = "spiffe://acme.example/ns/prod/sa/api";
const GATEWAY: &str = "https://gateway.example";
const OURS: &str = "spiffe://house.example/workload/payments";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn later(seconds: u64) -> Timestamp {
    NOW.saturating_add(std::time::Duration::from_secs(seconds))
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
    let at = |offset: i64| OffsetDateTime::from_unix_timestamp(1_800_000_000 + offset).unwrap();
    (params.not_before, params.not_after) = (at(-60), at(3_600));
    params
}

fn authority(domain: &str) -> Authority {
    let mut params = params(&format!("spiffe://{domain}"));
    params.not_after = OffsetDateTime::from_unix_timestamp(1_900_000_000).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(name: &str, by: &Authority) -> WorkloadCertificate {
    let mut params = params(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let der = params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone();
    WorkloadCertificate::of_connection(&[der]).unwrap()
}

fn bundle(authorities: &[&Authority], sequence: u64) -> Value {
    let domain = "acme.example".parse().unwrap();
    let authorities = authorities.iter().map(|by| by.der().clone()).collect();
    TrustBundle::of_authorities(domain, authorities)
        .unwrap()
        .to_json(sequence, std::time::Duration::from_secs(300))
}

fn document(name: &str, number: u8, spec: Value) -> Document {
    let spec: Spec = serde_json::from_value(spec).unwrap();
    let principal = spec.principal_kind().map(|_| PrincipalId::from_parts(NOW, [number; 10]));
    Document { name: name.parse().unwrap(), principal, spec }
}

fn rule(more: &Value) -> Value {
    let mut rule = json!({
        "kind": "federation", "issuer": "spiffe://acme.example", "jwks_url": "https://acme.example/bundle",
        "subjects": [{"subject": "spiffe://acme.example/ns/prod/sa/*", "principal": {"kind": "workload", "name": "payments"}}],
        "scopes": ["model:invoke"],
    });
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

struct World {
    identifier: Identifier,
    documents: Vec<Document>,
    epochs: Vec<EpochEntry>,
    withdrawn: Vec<Digest>,
    /// What is at the address of the bundle.
    published: Option<Value>,
    fetched: Cell<u32>,
    /// What is in the house's rows.
    issued: Vec<IssuedCertificate>,
}

impl World {
    fn new(rules: &[Value]) -> Self {
        let workload = json!({"kind": "workload", "owner": "ada", "purpose": "pays"});
        let mut documents =
            vec![document("ada", 1, json!({"kind": "user"})), document("payments", 2, workload)];
        documents
            .extend(rules.iter().zip(0..).map(|(rule, n)| document(&format!("rule-{n}"), 0, rule.clone())));
        Self {
            identifier: Identifier::new(),
            documents,
            epochs: Vec::new(),
            withdrawn: Vec::new(),
            published: None,
            fetched: Cell::default(),
            issued: Vec::new(),
        }
    }

    fn directory(&self) -> Directory {
        let tenant = Tenant::default_tenant();
        let documents = self.documents.iter().map(|document| (tenant.clone(), document.clone()));
        Directory::build(1, documents, std::iter::empty(), self.epochs.iter().cloned())
            .with_own("https://house.example".into(), [])
            .unwrap()
            .with(
                1,
                Changed {
                    withdrawn: self.withdrawn.iter().map(|it| (*it, true)).collect(),
                    ..Changed::default()
                },
            )
    }

    fn epoch(&mut self, kind: EpochKind, name: &str, not_before: Timestamp) {
        let (tenant, name) = (Tenant::default_tenant(), name.parse().unwrap());
        self.epochs.push(EpochEntry { tenant, kind, name, not_before, revision: 1 });
    }

    /// As a gate does it: what is needed is fetched, and then it is tried once more.
    fn come(&self, shown: &WorkloadCertificate, at: Timestamp) -> Result<Caller, ReasonCode> {
        let presented = Presented::Nothing.or_certificate(Some(shown), || vec![GATEWAY.to_owned()]);
        let directory = self.directory();
        for _ in 0..3 {
            match self.identifier.identify(&directory, &presented, at) {
                Identified::Caller(caller) => return Ok(*caller),
                Identified::Refused { reason, .. } => return Err(reason),
                Identified::NeedKeys(_) => panic!("no issuer was named"),
                Identified::NeedBundle(need) => {
                    assert_eq!(
                        (need.url.as_str(), need.allow_private),
                        ("https://acme.example/bundle", false)
                    );
                    self.fetched.set(self.fetched.get() + 1);
                    let Some(bytes) = &self.published else { continue };
                    let bytes = bytes.to_string();
                    drop(self.identifier.learn_bundle(&directory, &need, bytes.as_bytes(), at));
                }
                Identified::NeedCertificate(thumbprint) => {
                    let issued = self.issued.iter().find(|issued| issued.thumbprint == thumbprint);
                    let issued = issued.ok_or(ReasonCode::CredentialUnknown)?.clone();
                    self.identifier.learn_certificate(Tenant::default_tenant(), issued, at);
                }
            }
        }
        Err(ReasonCode::IssuerKeysUnavailable)
    }

    fn goes_on(&self, caller: &Caller, at: Timestamp) -> bool {
        self.identifier.again(&self.directory(), caller, at).is_some()
    }

    /// The house issues a certificate to `payments`.
    fn issue(&mut self, by: &Authority) -> WorkloadCertificate {
        let shown = certificate(OURS, by);
        let payments = self.documents.iter().find(|d| d.name.as_str() == "payments").unwrap();
        let principal = Principal {
            kind: PrincipalKind::Workload,
            name: payments.name.clone(),
            id: payments.principal.unwrap(),
        };
        self.issued.push(IssuedCertificate {
            principal,
            spiffe: OURS.to_owned(),
            thumbprint: *shown.thumbprint.digest(),
            scopes: Scopes::Only([Action::ModelList].into()),
            issued: NOW,
            ends: later(3_600),
        });
        shown
    }
}

#[test]
fn a_workload_of_a_federated_domain_is_who_the_rule_says_for_what_it_says() {
    let root = authority("acme.example");
    let mut world = World::new(&[rule(&json!({}))]);
    world.published = Some(bundle(&[&root], 1));
    let shown = certificate(API, &root);
    let caller = world.come(&shown, NOW).unwrap();
    assert_eq!(caller.subject().principal.name, Name::literal("payments"));
    assert_eq!(caller.subject().binding, Binding::Mtls(*shown.thumbprint.digest()));
    assert_eq!(*caller.scopes(), Scopes::Only([Action::ModelInvoke].into()));
    assert_eq!(caller.subject().assurance.via, Some(Name::literal("rule-0")));
    assert_eq!((caller.expires(), caller.actors().len()), (later(3_600), 0));
    // A credential in the request comes before the connection's.
    let presented = Presented::ApiKey(Digest::of(b"nobody's")).or_certificate(Some(&shown), Vec::new);
    let found = world.identifier.identify(&world.directory(), &presented, NOW);
    assert!(matches!(found, Identified::Refused { reason: ReasonCode::CredentialUnknown, .. }));
}

#[test]
fn attack_33_nobody_but_the_domain_itself_vouches_for_its_workloads() {
    let (root, other) = (authority("acme.example"), authority("acme.example"));
    let mut world = World::new(&[rule(&json!({}))]);
    world.published = Some(bundle(&[&root], 1));
    let come = |name: &str, by: &Authority| world.come(&certificate(name, by), NOW).map(|_| ());
    assert_eq!(come(API, &root), Ok(()));
    assert_eq!(come(API, &other), Err(ReasonCode::CredentialUnknown));
    assert_eq!(come("spiffe://other.example/ns/prod/sa/api", &root), Err(ReasonCode::TokenIssuerUnknown));
    assert_eq!(come("spiffe://acme.example/ns/test/sa/api", &root), Err(ReasonCode::CredentialUnknown));
    // Our own domain: whoever signs it, only what the house wrote down counts.
    assert_eq!(come(OURS, &root), Err(ReasonCode::CredentialUnknown));
    let mut world = World::new(&[rule(&json!({
        "issuer": "spiffe://house.example",
        "subjects": [{"subject": "spiffe://house.example/workload/*", "principal": {"kind": "workload", "name": "payments"}}],
    }))]);
    world.published = Some(bundle(&[&root], 1));
    assert_eq!(world.come(&certificate(OURS, &root), NOW).unwrap_err(), ReasonCode::CredentialUnknown);
    assert_eq!(world.fetched.get(), 0);
}

#[test]
fn a_rule_lets_in_only_whom_and_where_it_says() {
    let root = authority("acme.example");
    let refused = |more: Value| {
        let mut world = World::new(&[rule(&more)]);
        world.published = Some(bundle(&[&root], 1));
        world.come(&certificate(API, &root), NOW).err()
    };
    let everybody = "spiffe://acme.example/ns/*/sa/*";
    let as_who = |who: Value| refused(json!({"subjects": [{"subject": everybody, "principal": who}]}));
    assert_eq!(as_who(json!({"kind": "workload", "name": "payments"})), None);
    assert_eq!(as_who(json!({"kind": "user", "name": "ada"})), Some(ReasonCode::CredentialUnknown));
    assert_eq!(as_who(json!({"kind": "workload", "name": "gone"})), Some(ReasonCode::CredentialUnknown));
    assert_eq!(refused(json!({"status": "disabled"})), Some(ReasonCode::TokenIssuerUnknown));
    assert_eq!(refused(json!({"takes": "identity_assertion"})), Some(ReasonCode::TokenIssuerUnknown));
    assert_eq!(refused(json!({"clients": ["app"]})), Some(ReasonCode::CredentialUnknown));
    assert_eq!(refused(json!({"resources": [GATEWAY]})), None);
    let elsewhere = json!({"resources": ["https://tools.example"]});
    assert_eq!(refused(elsewhere), Some(ReasonCode::TokenAudienceMismatch));
    // Claims are of tokens: a rule that needs one is not about certificates.
    let claimed = json!({"subjects": [{"subject": everybody, "claims": {"ns": "prod"},
        "principal": {"kind": "workload", "name": "payments"}}]});
    assert_eq!(refused(claimed), Some(ReasonCode::CredentialUnknown));
}

#[test]
fn inv_epoch_a_federated_workload_is_dead_with_its_rule_its_principal_and_their_marks() {
    let root = authority("acme.example");
    let shown = certificate(API, &root);
    let mut world = World::new(&[rule(&json!({}))]);
    world.published = Some(bundle(&[&root], 1));
    let caller = world.come(&shown, NOW).unwrap();
    assert!(world.goes_on(&caller, NOW));
    for (kind, name) in [
        (EpochKind::Principal, "workload/payments"),
        (EpochKind::Issuer, "rule-0"),
        (EpochKind::Tenant, "default"),
    ] {
        world.epoch(kind, name, NOW);
        assert_eq!(world.come(&shown, NOW).unwrap_err(), ReasonCode::CredentialRevoked, "{name}");
        assert!(!world.goes_on(&caller, NOW), "{name}");
        world.epochs.clear();
        assert!(world.come(&shown, NOW).is_ok() && world.goes_on(&caller, NOW));
    }
    assert_eq!(world.come(&shown, later(3_601)).unwrap_err(), ReasonCode::CredentialExpired);
    let disabled = json!({"kind": "workload", "owner": "ada", "purpose": "pays", "status": "disabled"});
    let before = std::mem::replace(&mut world.documents[1], document("payments", 2, disabled));
    assert_eq!(world.come(&shown, NOW).unwrap_err(), ReasonCode::PrincipalDisabled);
    assert!(!world.goes_on(&caller, NOW));
    world.documents[1] = before;
    assert!(world.come(&shown, NOW).is_ok());
    // Without the rule nobody knows the domain, though its keys were learned.
    let (rule, fetched) = (world.documents.pop().unwrap(), world.fetched.get());
    assert_eq!(world.come(&shown, NOW).unwrap_err(), ReasonCode::TokenIssuerUnknown);
    assert!(!world.goes_on(&caller, NOW));
    // Declared otherwise it is another rule: what was learned under the first says nothing about it.
    world.documents.push(rule);
    assert_eq!(world.fetched.get(), fetched);
    let Spec::Federation(spec) = &mut world.documents[2].spec else { panic!("a rule") };
    spec.assurance_cap = 1;
    world.published = None;
    assert_eq!(world.come(&shown, NOW).unwrap_err(), ReasonCode::IssuerKeysUnavailable);
}

#[test]
fn a_bundle_is_fetched_anew_when_it_is_due_and_an_older_one_is_not_taken() {
    let (first, second) = (authority("acme.example"), authority("acme.example"));
    let (old, new) = (certificate(API, &first), certificate(API, &second));
    let mut world = World::new(&[rule(&json!({}))]);
    world.published = Some(bundle(&[&first], 7));
    assert!(world.come(&old, NOW).is_ok());
    // The domain has changed its keys; nobody asks before it is due, also not for one that does not hold.
    world.published = Some(bundle(&[&second], 8));
    assert!(world.come(&old, later(299)).is_ok());
    assert_eq!(world.come(&new, later(299)).unwrap_err(), ReasonCode::CredentialUnknown);
    assert_eq!(world.fetched.get(), 1);
    let caller = world.come(&old, later(299)).unwrap();
    assert!(world.come(&new, later(300)).is_ok());
    assert_eq!(world.come(&old, later(300)).unwrap_err(), ReasonCode::CredentialUnknown);
    assert!(!world.goes_on(&caller, later(300)));
    // One that was published before is not taken, nor one that does not say when it was.
    for sequence in [Some(7), None] {
        let mut older = bundle(&[&first], sequence.unwrap_or_default());
        if sequence.is_none() {
            older.as_object_mut().unwrap().remove("spiffe_sequence");
        }
        world.published = Some(older);
        assert_eq!(world.come(&old, later(700)).unwrap_err(), ReasonCode::CredentialUnknown);
        assert!(world.come(&new, later(700)).is_ok());
    }
    // While nothing comes the last good one is used, asked for once in a while, and not for ever.
    world.published = None;
    let before = world.fetched.get();
    for second in 0..60 {
        assert!(world.come(&new, later(1_000 + second)).is_ok());
    }
    assert_eq!(world.fetched.get() - before, 2);
    assert_ne!(world.come(&new, later(300 + 86_401)).map(|_| ()), Ok(()));
}

#[test]
fn a_rule_may_give_the_keys_itself_and_then_nothing_is_fetched() {
    let (root, other) = (authority("acme.example"), authority("acme.example"));
    let given = rule(&json!({"jwks_url": "", "trust_bundle": bundle(&[&root], 1)}));
    let world = World::new(&[given]);
    let caller = world.come(&certificate(API, &root), NOW).unwrap();
    assert!(world.goes_on(&caller, later(90_000 - 86_400 - 60)));
    assert_eq!(world.come(&certificate(API, &other), NOW).unwrap_err(), ReasonCode::CredentialUnknown);
    assert_eq!(world.fetched.get(), 0);
    // One that cannot be read lets nobody in.
    let world = World::new(&[rule(&json!({"jwks_url": "", "trust_bundle": {"keys": []}}))]);
    assert_eq!(world.come(&certificate(API, &root), NOW).unwrap_err(), ReasonCode::TokenIssuerUnknown);
}

#[test]
fn a_certificate_of_the_house_is_worth_what_was_written_down_when_it_was_issued() {
    let root = authority("house.example");
    let mut world = World::new(&[]);
    let shown = world.issue(&root);
    let caller = world.come(&shown, NOW).unwrap();
    assert_eq!(caller.subject().principal.name, Name::literal("payments"));
    assert_eq!(*caller.scopes(), Scopes::Only([Action::ModelList].into()));
    assert!(world.goes_on(&caller, later(3_599)));
    // The same name under the same authority, but not one that was written down.
    let unknown = certificate(OURS, &root);
    assert_eq!(world.come(&unknown, NOW).unwrap_err(), ReasonCode::CredentialUnknown);
    assert_eq!(world.come(&shown, later(3_600)).unwrap_err(), ReasonCode::CredentialExpired);
    assert!(!world.goes_on(&caller, later(3_600)));
}

#[test]
fn inv_epoch_a_certificate_of_the_house_is_dead_with_its_holder_and_when_it_is_taken_back() {
    let root = authority("house.example");
    let mut world = World::new(&[]);
    let shown = world.issue(&root);
    let caller = world.come(&shown, NOW).unwrap();
    let dead = |world: &World, reason| {
        assert_eq!(world.come(&shown, later(1)).unwrap_err(), reason);
        assert!(!world.goes_on(&caller, later(1)), "{reason}");
    };
    world.withdrawn.push(*shown.thumbprint.digest());
    dead(&world, ReasonCode::CredentialRevoked);
    world.withdrawn.clear();
    world.epoch(EpochKind::Principal, "workload/payments", later(1));
    dead(&world, ReasonCode::CredentialRevoked);
    world.epochs.clear();
    // Its owner may not come in any more.
    let owner = std::mem::replace(
        &mut world.documents[0],
        document("ada", 1, json!({"kind": "user", "status": "disabled"})),
    );
    dead(&world, ReasonCode::PrincipalDisabled);
    world.documents[0] = owner;
    assert!(world.come(&shown, later(1)).is_ok());
    // Somebody else of the same name.
    let workload = json!({"kind": "workload", "owner": "ada", "purpose": "pays"});
    world.documents[1] = document("payments", 3, workload);
    dead(&world, ReasonCode::PrincipalDisabled);
}
