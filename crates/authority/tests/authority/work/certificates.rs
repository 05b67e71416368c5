use std::time::Duration;

use bartizan_authority::ca::IssuedView;
use bartizan_base::{Digest, Name};
use bartizan_control::EpochToAdvance;
use bartizan_identify::spiffe::{Purpose, verify_x509};
use bartizan_identify::{Caller, Identified, Presented, Scopes, WorkloadCertificate};
use bartizan_model::{Action, PrincipalKind, ReasonCode, Tenant};
use bartizan_store::{EpochKind, RowKind};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::work::world::World;

fn request() -> String {
    let key = KeyPair::generate().unwrap();
    CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
}

fn payments(world: &World) -> Caller {
    world.prove(&world.proof(PrincipalKind::Workload, "payments", None)).unwrap()
}

async fn shown(world: &World, issued: &IssuedView) -> WorkloadCertificate {
    let (bundle, _) = world.authority.trust_bundle(&Tenant::default_tenant()).await.unwrap();
    let chain = [CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()];
    let now = world.authority.control.clock.now();
    let svid = verify_x509(&chain, &[bundle].into_iter().collect(), Purpose::Client, now).unwrap();
    assert_eq!(svid.expires, issued.ends_us);
    WorkloadCertificate::of_connection(&chain).unwrap()
}

/// Who comes with a certificate and nothing else, as a door finds out.
async fn caller_of(world: &World, shown: &WorkloadCertificate) -> Result<Caller, ReasonCode> {
    let known = world.keeper.current().unwrap();
    let presented = Presented::Nothing.or_certificate(Some(shown), Vec::new);
    let now = world.authority.control.clock.now();
    loop {
        match world.identifier.identify(&known.directory, &presented, now) {
            Identified::Caller(caller) => return Ok(*caller),
            Identified::Refused { reason, .. } => return Err(reason),
            Identified::NeedCertificate(thumbprint) => {
                let row = world.authority.rows.row(RowKind::Certificate, &thumbprint.to_string()).await;
                let row = row.unwrap().ok_or(ReasonCode::CredentialUnknown)?;
                let issued = serde_json::from_str(&row.body).unwrap();
                world.identifier.learn_certificate(row.tenant, issued, now);
            }
            Identified::NeedKeys(_) | Identified::NeedBundle(_) => {
                return Err(ReasonCode::IssuerKeysUnavailable);
            }
        }
    }
}

#[tokio::test]
async fn a_workload_gets_a_certificate_and_is_known_by_it() {
    let world = World::new().await;
    let issued = world.authority.issue_certificate(&payments(&world), &request()).await.unwrap().value;
    assert_eq!(issued.spiffe_id, "spiffe://house.example/workload/payments");
    let certificate = shown(&world, &issued).await;
    let caller = caller_of(&world, &certificate).await.unwrap();
    assert_eq!(caller.subject().principal.name, Name::literal("payments"));
    assert_eq!(caller.subject().binding.name(), "mtls");
    assert!(!world.kept().await.contains("PRIVATE KEY"));
    // One authority for all: the second certificate makes none.
    let second = world.authority.issue_certificate(&payments(&world), &request()).await.unwrap().value;
    assert_eq!(second.trust, issued.trust);
}

#[tokio::test]
async fn a_certificate_is_dead_with_its_holder_and_when_it_is_taken_back() {
    let world = World::new().await;
    let issue = async || {
        let issued = world.authority.issue_certificate(&payments(&world), &request()).await.unwrap().value;
        let certificate = shown(&world, &issued).await;
        (certificate, issued)
    };
    let (certificate, issued) = issue().await;
    assert!(caller_of(&world, &certificate).await.is_ok());
    let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    world.authority.withdraw_certificate(&payments(&world), Digest::of(&der)).await.unwrap();
    // Also where it was remembered.
    assert_eq!(caller_of(&world, &certificate).await.unwrap_err(), ReasonCode::CredentialRevoked);
    let (certificate, _) = issue().await;
    world.advance(5);
    let epoch = EpochToAdvance { kind: EpochKind::Principal, name: Name::literal("workload/payments") };
    world.authority.control.advance_epoch(&world.user("root"), &epoch).await.unwrap();
    assert_eq!(caller_of(&world, &certificate).await.unwrap_err(), ReasonCode::CredentialRevoked);
    world.advance(5);
    let (certificate, _) = issue().await;
    assert!(caller_of(&world, &certificate).await.is_ok());
    world.advance(3_600);
    assert_eq!(caller_of(&world, &certificate).await.unwrap_err(), ReasonCode::CredentialExpired);
}

#[tokio::test]
async fn inv_narrow_a_certificate_is_worth_no_more_than_what_was_presented_for_it() {
    let world = World::new().await;
    let mut proof = world.proof(PrincipalKind::Workload, "payments", None);
    proof.scopes = Scopes::Only([Action::CertificateIssue, Action::ModelList].into());
    proof.expires = world.authority.control.clock.now().saturating_add(Duration::from_secs(600));
    let short = world.prove(&proof).unwrap();
    let issued = world.authority.issue_certificate(&short, &request()).await.unwrap().value;
    assert_eq!(issued.ends_us, proof.expires);
    let certificate = shown(&world, &issued).await;
    let caller = caller_of(&world, &certificate).await.unwrap();
    assert_eq!(*caller.scopes(), proof.scopes);
    // Nor does it renew itself beyond that.
    world.advance(300);
    let next = world.authority.issue_certificate(&caller, &request()).await.unwrap().value;
    assert_eq!(next.ends_us, proof.expires);
    world.advance(260);
    let caller = caller_of(&world, &certificate).await.unwrap();
    let stopped = world.authority.issue_certificate(&caller, &request()).await.unwrap_err();
    assert_eq!(stopped.problem.reason, ReasonCode::Invalid);
}

#[tokio::test]
async fn people_and_those_who_act_for_others_get_no_certificate() {
    let world = World::new().await;
    for caller in [world.user("alice"), world.through("alice", "helper")] {
        let stopped = world.authority.issue_certificate(&caller, &request()).await.unwrap_err();
        assert_eq!(stopped.problem.reason, ReasonCode::Invalid);
    }
    let stopped = world.authority.issue_certificate(&payments(&world), "not a request").await.unwrap_err();
    assert_eq!(stopped.problem.reason, ReasonCode::Invalid);
    // A certificate of another authority of the same name, or one whose row is another's, is nobody.
    let bundle = world.authority.trust_bundle(&Tenant::default_tenant()).await;
    assert_eq!(bundle.unwrap_err().reason, ReasonCode::NotFound);
}
