use std::fs;
use std::io;
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_base::time::ManualClock;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{ClientConnection, ServerConnection};

use super::*;

const NOW_S: i64 = 1_800_000_000;
const DOMAIN: &str = "house.example";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, valid from and to these seconds from now.
    fn issue(&self, id: &str, (from, to): (i64, i64)) -> (String, String) {
        let moment = |offset| time::OffsetDateTime::from_unix_timestamp(NOW_S + offset).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = (moment(from), moment(to));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A process with its folder.
struct Process {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    tls: MutualTls,
}

impl Process {
    fn new(of: &Authority, trusts: &Authority, id: &str, peers: &[&str], holds: (i64, i64)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &of.issue(id, holds));
        fs::write(folder.path().join("trust.pem"), trusts.0.pem()).unwrap();
        let files = MutualFiles {
            certificate: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
            trust: folder.path().join("trust.pem"),
            domain: DOMAIN.parse().unwrap(),
            peers: peers.iter().map(|p| p.parse().unwrap()).collect(),
        };
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let tls = MutualTls::open(files, clock.clone()).unwrap();
        Self { folder, clock, tls }
    }
}

fn write(folder: &Path, (certificate, key): &(String, String)) {
    fs::write(folder.join("cert.pem"), certificate).unwrap();
    fs::write(folder.join("key.pem"), key).unwrap();
}

/// Shakes hands in memory, until both sides are done.
fn handshake(client: ClientConfig, server: &ServerTls) -> Result<(), Error> {
    let name = ServerName::try_from("whatever.example").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server.config()).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut io::Cursor::new(wire)).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut io::Cursor::new(wire)).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

const NODE: &str = "spiffe://house.example/workload/node-1";
const WITNESS: &str = "spiffe://house.example/workload/witness";
const HOUR: (i64, i64) = (-60, 3_600);

fn meet(node: &Process, witness: &Process) -> Result<(), Error> {
    handshake(node.tls.client().unwrap(), &witness.tls.server().unwrap())
}

fn pair(of: &Authority) -> (Process, Process) {
    let node = Process::new(of, of, NODE, &[WITNESS], HOUR);
    (node, Process::new(of, of, WITNESS, &["spiffe://house.example/workload/node-*"], HOUR))
}

#[test]
fn two_processes_of_the_house_know_each_other_by_their_certificates() {
    let (node, witness) = pair(&Authority::new());
    meet(&node, &witness).unwrap();
}

#[test]
fn attack_33_somebody_without_a_certificate_is_not_let_in() {
    let (node, witness) = pair(&Authority::new());
    let anonymous = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(node.tls.0.clone())
        .with_no_client_auth();
    let error = handshake(anonymous, &witness.tls.server().unwrap()).unwrap_err();
    assert_eq!(error, Error::NoCertificatesPresented);
}

#[test]
fn attack_33_other_authorities_domains_workloads_and_moments_are_refused_on_both_sides() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (node, witness) = pair(&ours);
    let node_with = |of: &Authority, id: &str, holds| Process::new(of, &ours, id, &[WITNESS], holds);
    for (why, stranger) in [
        ("another authority", node_with(&theirs, NODE, HOUR)),
        ("another trust domain", node_with(&ours, "spiffe://other.example/workload/node-1", HOUR)),
        ("a workload not named", node_with(&ours, "spiffe://house.example/workload/payments", HOUR)),
        ("below one that is named", node_with(&ours, "spiffe://house.example/workload/node-1/x", HOUR)),
        ("expired", node_with(&ours, NODE, (-7_200, -1))),
        ("not valid yet", node_with(&ours, NODE, (120, 3_600))),
    ] {
        assert!(matches!(meet(&stranger, &witness), Err(Error::InvalidCertificate(_))), "{why}");
    }
    let witness_with = |of: &Authority, id: &str, holds| Process::new(of, &ours, id, &[NODE], holds);
    for (why, stranger) in [
        ("another authority", witness_with(&theirs, WITNESS, HOUR)),
        ("a workload not named", witness_with(&ours, "spiffe://house.example/workload/payments", HOUR)),
        ("expired", witness_with(&ours, WITNESS, (-7_200, -1))),
    ] {
        assert!(matches!(meet(&node, &stranger), Err(Error::InvalidCertificate(_))), "{why}");
    }
    // Nobody is named, so nobody is let in.
    let closed = Process::new(&ours, &ours, WITNESS, &[], HOUR);
    assert!(meet(&node, &closed).is_err());
}

#[test]
fn a_certificate_is_replaced_while_the_process_runs_and_one_that_ran_out_is_refused() {
    let ours = Authority::new();
    let (node, witness) = pair(&ours);
    let (client, server) = (node.tls.client().unwrap(), witness.tls.server().unwrap());
    for process in [&node, &witness] {
        process.clock.advance(Duration::from_secs(3_601));
    }
    assert!(handshake(client.clone(), &server).is_err(), "what ran out is of no use");
    write(node.folder.path(), &ours.issue(NODE, (3_500, 7_200)));
    // Half written: the key of another certificate.
    fs::write(witness.folder.path().join("key.pem"), ours.issue(WITNESS, HOUR).1).unwrap();
    for process in [&node, &witness] {
        process.clock.advance(Duration::from_secs(6));
    }
    assert!(handshake(client.clone(), &server).is_err());
    write(witness.folder.path(), &ours.issue(WITNESS, (3_500, 7_200)));
    for process in [&node, &witness] {
        process.clock.advance(Duration::from_secs(6));
    }
    handshake(client, &server).unwrap();
}

#[test]
fn an_authority_that_is_not_trusted_any_more_vouches_for_nobody() {
    let (old, new) = (Authority::new(), Authority::new());
    let (node, witness) = pair(&old);
    meet(&node, &witness).unwrap();
    fs::write(witness.folder.path().join("trust.pem"), new.0.pem()).unwrap();
    witness.clock.advance(Duration::from_secs(6));
    assert!(meet(&node, &witness).is_err());
    // During a change both are trusted.
    fs::write(witness.folder.path().join("trust.pem"), [old.0.pem(), new.0.pem()].concat()).unwrap();
    witness.clock.advance(Duration::from_secs(6));
    meet(&node, &witness).unwrap();
}
