use bartizan_base::Timestamp;
use bartizan_base::random::SeededRandom;
use bartizan_jose::testing::ForeignKey;
use bartizan_jose::{Jws, TokenError};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const API: &str = "spiffe://acme.example/ns/prod/sa/api";

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn at(offset_s: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000 + offset_s).unwrap()
}

fn authority(names: &[&str]) -> (CertificateParams, KeyPair) {
    let mut params = leaf(names);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = Vec::new();
    (params, KeyPair::generate().unwrap())
}

fn root() -> Issuer {
    let (params, key) = authority(&["spiffe://acme.example"]);
    CertifiedIssuer::self_signed(params, key).unwrap()
}

fn leaf(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().map(|n| SanType::URI((*n).try_into().unwrap())).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = (at(-60), at(3_600));
    params
}

fn signed(params: &CertificateParams, by: &Issuer) -> CertificateDer<'static> {
    params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone()
}

fn bundles(domain: &str, roots: &[&Issuer]) -> TrustBundles {
    let authorities = roots.iter().map(|root| root.der().clone()).collect();
    [TrustBundle::of_authorities(domain.parse().unwrap(), authorities).unwrap()].into_iter().collect()
}

fn verify(chain: &[CertificateDer<'_>], bundles: &TrustBundles) -> Result<X509Svid, SvidError> {
    verify_x509(chain, bundles, Purpose::Client, NOW)
}

#[test]
fn a_workload_is_known_by_a_certificate_of_its_trust_domain() {
    let root = root();
    let certificate = signed(&leaf(&[API]), &root);
    for purpose in [Purpose::Client, Purpose::Server] {
        let chain = [certificate.clone()];
        let svid = verify_x509(&chain, &bundles("acme.example", &[&root]), purpose, NOW).unwrap();
        assert_eq!(svid.id.as_str(), API);
        assert_eq!(svid.expires, Timestamp::from_secs(1_800_003_600));
        assert_eq!(svid.issued, Timestamp::from_secs(1_799_999_940));
    }
    let (params, key) = authority(&["spiffe://acme.example"]);
    let between = CertifiedIssuer::signed_by(params, key, &root).unwrap();
    let chain = [signed(&leaf(&[API]), &between), between.der().clone()];
    assert!(verify(&chain, &bundles("acme.example", &[&root])).is_ok());
    // Without what lies between, there is no path.
    assert_eq!(verify(&chain[..1], &bundles("acme.example", &[&root])), Err(SvidError::Untrusted));
}

#[test]
fn attack_33_a_foreign_authority_another_domain_or_a_moment_past_is_refused() {
    let (ours, theirs) = (root(), root());
    let certificate = [signed(&leaf(&[API]), &theirs)];
    assert_eq!(verify(&certificate, &bundles("acme.example", &[&ours])), Err(SvidError::Untrusted));
    // An authority of one domain vouches for nobody of another, also where both are known.
    let mut both = bundles("acme.example", &[&ours]);
    both.learn(
        TrustBundle::of_authorities("other.example".parse().unwrap(), vec![theirs.der().clone()]).unwrap(),
    );
    assert_eq!(verify(&certificate, &both), Err(SvidError::Untrusted));
    let foreign = [signed(&leaf(&["spiffe://third.example/x"]), &ours)];
    assert_eq!(verify(&foreign, &both), Err(SvidError::UnknownDomain));
    for (from, to) in [(-7_200, -1), (10, 3_600)] {
        let mut params = leaf(&[API]);
        (params.not_before, params.not_after) = (at(from), at(to));
        assert_eq!(verify(&[signed(&params, &ours)], &both), Err(SvidError::Time));
    }
    let (params, key) = authority(&["spiffe://other.example"]);
    let between = CertifiedIssuer::signed_by(params, key, &ours).unwrap();
    let chain = [signed(&leaf(&[API]), &between), between.der().clone()];
    assert_eq!(verify(&chain, &both), Err(SvidError::Id(SpiffeIdError::Domain)));
}

#[test]
fn attack_33_a_certificate_that_names_none_several_or_nobody_or_that_may_sign_is_refused() {
    let root = root();
    let bundles = bundles("acme.example", &[&root]);
    let refused = |params: &CertificateParams| verify(&[signed(params, &root)], &bundles).unwrap_err();
    assert_eq!(refused(&leaf(&[])), SvidError::Names);
    assert_eq!(refused(&leaf(&[API, "spiffe://acme.example/other"])), SvidError::Names);
    assert_eq!(refused(&leaf(&[API, "https://acme.example/"])), SvidError::Names);
    for name in ["https://acme.example/ns", "spiffe://acme.example", "spiffe://acme.example/a/../b"] {
        assert!(matches!(refused(&leaf(&[name])), SvidError::Id(_)), "{name}");
    }
    let mut signer = leaf(&[API]);
    signer.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    assert_eq!(refused(&signer), SvidError::Use);
    let mut silent = leaf(&[API]);
    silent.key_usages = Vec::new();
    assert_eq!(refused(&silent), SvidError::Use);
    let mut authority = leaf(&[API]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(refused(&authority), SvidError::Use);
    // For servers alone.
    let mut server = leaf(&[API]);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    assert_eq!(refused(&server), SvidError::Untrusted);
    // A workload that signs another workload.
    let (mut params, key) = authority_like(API);
    params.is_ca = IsCa::NoCa;
    let workload = CertifiedIssuer::signed_by(params, key, &root).unwrap();
    let chain = [signed(&leaf(&["spiffe://acme.example/admin"]), &workload), workload.der().clone()];
    assert_eq!(verify(&chain, &bundles), Err(SvidError::Use));
    assert_eq!(verify(&[], &bundles), Err(SvidError::Malformed));
    assert_eq!(verify(&[CertificateDer::from(vec![0; 64])], &bundles), Err(SvidError::Malformed));
    let certificate = signed(&leaf(&[API]), &root);
    assert_eq!(verify(&vec![certificate; CHAIN_TOO_LONG], &bundles), Err(SvidError::Malformed));
}

const CHAIN_TOO_LONG: usize = 7;

fn authority_like(name: &str) -> (CertificateParams, KeyPair) {
    (leaf(&[name]), KeyPair::generate().unwrap())
}

#[test]
fn a_bundle_comes_back_as_it_was_published() {
    let root = root();
    let domain: TrustDomain = "acme.example".parse().unwrap();
    let bundle = TrustBundle::of_authorities(domain.clone(), vec![root.der().clone()]).unwrap();
    let published = bundle.to_json(3, std::time::Duration::from_secs(300));
    let read = TrustBundle::parse(domain, published.to_string().as_bytes()).unwrap();
    assert_eq!(read.authorities(), bundle.authorities());
    assert_eq!(read.refresh(), Some(std::time::Duration::from_secs(300)));
    let certificate = [signed(&leaf(&[API]), &root)];
    assert!(verify(&certificate, &[read].into_iter().collect()).is_ok());
}

#[test]
fn a_bundle_with_one_bad_key_is_refused_whole() {
    let root = root();
    let domain = || "acme.example".parse::<TrustDomain>().unwrap();
    let parse = |keys: Value| TrustBundle::parse(domain(), json!({ "keys": keys }).to_string().as_bytes());
    let good = TrustBundle::of_authorities(domain(), vec![root.der().clone()]).unwrap();
    let good = good.to_json(1, std::time::Duration::ZERO)["keys"][0].clone();
    assert!(parse(json!([good, {"use": "enc", "kty": "oct"}])).is_ok());
    let key = ForeignKey::ed25519("k", &SeededRandom::new(1)).unwrap().public_jwk();
    let mut nameless = key;
    nameless["use"] = "jwt-svid".into();
    nameless.as_object_mut().unwrap().remove("kid");
    for bad in [
        json!([]),
        json!([{"use": "enc", "kty": "oct"}]),
        json!([good, {"use": "x509-svid", "kty": "EC"}]),
        json!([good, {"use": "x509-svid", "x5c": [good["x5c"][0], good["x5c"][0]]}]),
        json!([good, {"use": "x509-svid", "x5c": ["AAAA"]}]),
        json!([good, nameless]),
    ] {
        assert!(parse(bad.clone()).is_err(), "{bad}");
    }
    // The certificate of a workload is no authority.
    let workload = signed(&leaf(&[API]), &root);
    assert_eq!(TrustBundle::of_authorities(domain(), vec![workload]).unwrap_err(), BundleError::Authority);
}

fn token_world() -> (ForeignKey, TrustBundle) {
    let key = ForeignKey::ed25519("k1", &SeededRandom::new(7)).unwrap();
    let mut jwk = key.public_jwk();
    jwk["use"] = "jwt-svid".into();
    let bundle = json!({"keys": [jwk]}).to_string();
    let bundle = TrustBundle::parse("acme.example".parse().unwrap(), bundle.as_bytes()).unwrap();
    (key, bundle)
}

fn claims() -> Value {
    json!({"sub": API, "aud": ["https://house.example"], "exp": NOW.as_secs() + 300, "iat": NOW.as_secs() - 5})
}

#[test]
fn a_workload_is_known_by_a_token_of_its_trust_domain() {
    let (key, bundle) = token_world();
    let check = |claims: &Value, audience: &str| {
        let text = key.sign("JWT", claims).unwrap();
        verify_jwt(&Jws::parse(&text).unwrap(), &bundle, audience, NOW).map(|svid| svid.id)
    };
    assert_eq!(check(&claims(), "https://house.example").unwrap().as_str(), API);
    let refused = |member: &str, value: Value| {
        let mut changed = claims();
        changed[member] = value;
        check(&changed, "https://house.example").unwrap_err()
    };
    assert_eq!(check(&claims(), "https://other.example"), Err(SvidError::Token(TokenError::Audience)));
    assert_eq!(refused("exp", json!(NOW.as_secs() - 61)), SvidError::Token(TokenError::Expired));
    assert_eq!(refused("exp", json!(NOW.as_secs() + 90_000)), SvidError::Token(TokenError::TooLongLived));
    for subject in ["spiffe://other.example/x", "spiffe://acme.example", "api", "https://acme.example/x"] {
        assert_eq!(refused("sub", json!(subject)), SvidError::Token(TokenError::Issuer), "{subject}");
    }
    let relative = refused("sub", json!("spiffe://acme.example/../x"));
    assert_eq!(relative, SvidError::Id(SpiffeIdError::Path));
}

#[test]
fn attack_26_a_token_of_another_kind_or_key_is_no_workload() {
    let (key, bundle) = token_world();
    let check = |text: &str| {
        verify_jwt(&Jws::parse(text).unwrap(), &bundle, "https://house.example", NOW).map(|svid| svid.id)
    };
    for typ in ["at+jwt", "secevent+jwt", "logout+jwt", "dpop+jwt"] {
        assert_eq!(
            check(&key.sign(typ, &claims()).unwrap()),
            Err(SvidError::Token(TokenError::Type)),
            "{typ}"
        );
    }
    let stranger = ForeignKey::ed25519("k1", &SeededRandom::new(8)).unwrap();
    assert!(matches!(
        check(&stranger.sign("JWT", &claims()).unwrap()),
        Err(SvidError::Token(TokenError::Jws(_)))
    ));
}
