use bartizan_base::random::SeededRandom;
use bartizan_identify::spiffe::{Purpose, SvidError, TrustBundles, verify_x509};
use bartizan_keys::Sealer;
use bartizan_secret::Secret;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ED25519, SanType};
use rustls_pki_types::CertificateDer;

use super::leaf::{self, requested};
use super::root::{AHEAD, LIFE, Plan, due, signer};
use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn tenant() -> Tenant {
    Tenant::default_tenant()
}

fn domain() -> TrustDomain {
    "house.example".parse().unwrap()
}

fn sealer(byte: u8) -> Sealer {
    Sealer::new(Secret::new([byte; 32]))
}

fn make(known: &[Root], now: Timestamp, plan: Plan) -> Root {
    let random = SeededRandom::new(now.as_secs());
    Root::make(&tenant(), &domain(), plan, known, now, &sealer(1), &random).unwrap().1
}

fn first() -> Root {
    make(&[], NOW, Plan { signs_from: NOW })
}

fn request(key: &KeyPair, params: &CertificateParams) -> String {
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn issue(root: &Root, id: &str, now: Timestamp) -> CertificateDer<'static> {
    let key = requested(&request(&KeyPair::generate().unwrap(), &CertificateParams::default())).unwrap();
    let issuer = root.open(&tenant(), &sealer(1)).unwrap();
    let random = SeededRandom::new(3);
    let crt = CertificateId::new(now, &random);
    let ends = now.saturating_add(LIFE_MAX);
    leaf::sign(&issuer, &key, &id.parse().unwrap(), crt, now, ends, &random).unwrap().into()
}

fn bundles(roots: &[&Root]) -> TrustBundles {
    let ders = roots.iter().map(|root| root.der().into()).collect();
    [TrustBundle::of_authorities(domain(), ders).unwrap()].into_iter().collect()
}

#[test]
fn what_is_issued_names_who_was_proven_and_holds_for_an_hour() {
    let root = first();
    let certificate = [issue(&root, "spiffe://house.example/workload/payments", NOW)];
    let verify = |now| verify_x509(&certificate, &bundles(&[&root]), Purpose::Client, now);
    let svid = verify(NOW).unwrap();
    assert_eq!(svid.id.as_str(), "spiffe://house.example/workload/payments");
    assert!(verify(Timestamp::from_secs(NOW.as_secs() + 3_599)).is_ok());
    assert_eq!(verify(Timestamp::from_secs(NOW.as_secs() + 3_601)), Err(SvidError::Time));
    // Clients that know nothing of SPIFFE hold it against a name of the trust domain.
    let leaf = webpki::EndEntityCert::try_from(&certificate[0]).unwrap();
    let name = |text: &str| rustls_pki_types::ServerName::try_from(text.to_owned()).unwrap();
    assert!(leaf.verify_is_valid_for_subject_name(&name("payments.workload.house.example")).is_ok());
    assert!(leaf.verify_is_valid_for_subject_name(&name("other.workload.house.example")).is_err());
}

#[test]
fn of_a_request_only_the_key_counts() {
    let root = first();
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::default();
    wish.subject_alt_names = vec![SanType::URI("spiffe://house.example/workload/admin".try_into().unwrap())];
    wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let public = requested(&request(&key, &wish)).unwrap();
    let issuer = root.open(&tenant(), &sealer(1)).unwrap();
    let random = SeededRandom::new(4);
    let id = "spiffe://house.example/workload/small".parse().unwrap();
    let crt = CertificateId::new(NOW, &random);
    let made = leaf::sign(&issuer, &public, &id, crt, NOW, NOW.saturating_add(LIFE_MAX), &random).unwrap();
    let svid = verify_x509(&[made.into()], &bundles(&[&root]), Purpose::Server, NOW).unwrap();
    assert_eq!(svid.id.as_str(), "spiffe://house.example/workload/small");
}

#[test]
fn a_request_that_its_own_key_did_not_sign_is_refused() {
    let params = CertificateParams::default();
    let good = request(&KeyPair::generate().unwrap(), &params);
    assert!(requested(&good).is_ok());
    assert!(requested(&request(&KeyPair::generate_for(&PKCS_ED25519).unwrap(), &params)).is_ok());
    let other = request(&KeyPair::generate().unwrap(), &params);
    // The last lines hold the signature.
    let swapped = {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (mut mixed, other) = (lines(&good), lines(&other));
        let last = mixed.len() - 2;
        mixed[last] = other[last].clone();
        mixed.join("\n")
    };
    assert!(requested(&swapped).is_err());
    for bad in ["", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"] {
        assert_eq!(requested(bad), Err(RequestError::Form));
    }
    assert_eq!(requested(&"x".repeat(9_000)), Err(RequestError::Form));
}

#[test]
fn an_authority_signs_nothing_outside_its_domain_that_a_verifier_would_take() {
    let root = first();
    let foreign = issue(&root, "spiffe://other.example/workload/x", NOW);
    let known = bundles(&[&root]);
    assert_eq!(
        verify_x509(std::slice::from_ref(&foreign), &known, Purpose::Client, NOW),
        Err(SvidError::UnknownDomain)
    );
    // Not even where both are known: the other domain has other keys, and the name is outside of what ours may name.
    let mut both = known;
    both.learn(
        TrustBundle::of_authorities("other.example".parse().unwrap(), vec![root.der().into()]).unwrap(),
    );
    assert_eq!(verify_x509(&[foreign], &both, Purpose::Client, NOW), Err(SvidError::Untrusted));
}

#[test]
fn the_key_of_an_authority_opens_only_where_it_was_sealed() {
    let root = first();
    assert!(root.open(&tenant(), &sealer(2)).is_err());
    assert!(root.open(&Tenant(Name::literal("other")), &sealer(1)).is_err());
    let text = serde_json::to_string(&root).unwrap();
    assert!(!text.contains("PRIVATE KEY"));
}

#[test]
fn a_new_authority_is_published_before_it_signs_and_after_until_all_it_signed_is_over() {
    let mut roots = vec![first()];
    assert_eq!(due(&roots, NOW), None);
    let late = NOW.saturating_add(LIFE * 2 / 3 + Duration::from_secs(1));
    let plan = due(&roots, late).unwrap();
    assert_eq!(plan.signs_from, late.saturating_add(AHEAD));
    roots.push(make(&roots, late, plan));
    assert_eq!(signer(&roots, late).unwrap().sequence(), 1);
    assert_eq!(due(&roots, late), None);
    assert_eq!(signer(&roots, plan.signs_from).unwrap().sequence(), 2);
    // What the old one signed in its last moment still verifies by what is published.
    let last = Timestamp::from_micros(plan.signs_from.as_micros() - 1);
    let certificate = [issue(&roots[0], "spiffe://house.example/workload/a", last)];
    let both = bundles(&roots.iter().collect::<Vec<_>>());
    assert!(verify_x509(&certificate, &both, Purpose::Client, plan.signs_from).is_ok());
}

#[test]
fn the_host_of_the_issuer_is_the_trust_domain() {
    let of = |issuer: &str| TrustDomain::of_address(issuer).map(|d| d.to_string());
    assert_eq!(of("https://Auth.Example.com:8443/x").as_deref(), Some("auth.example.com"));
    assert_eq!(of("http://127.0.0.1:8081").as_deref(), Some("127.0.0.1"));
    assert_eq!(of("https://[::1]:8081"), None);
    assert_eq!(of("nothing"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn at_every_moment_there_is_a_signer_and_it_outlives_what_it_signs(days in prop::collection::vec(0_u64..60, 1..12)) {
        let (mut now, mut roots) = (NOW, Vec::<Root>::new());
        for day in days {
            now = now.saturating_add(Duration::from_secs(day * 24 * 3_600));
            roots.retain(|root| root.expires().is_some_and(|end| now < end));
            if let Some(plan) = due(&roots, now) {
                roots.push(make(&roots, now, plan));
            }
            let signer = signer(&roots, now).unwrap();
            prop_assert!(signer.expires().unwrap() >= now.saturating_add(LIFE_MAX));
            prop_assert!(roots.len() <= 3);
        }
    }
}
