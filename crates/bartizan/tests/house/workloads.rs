//! Certificates of the house over real HTTP, and its processes knowing each other by them.
#![expect(clippy::indexing_slicing, reason = "what the tests share may fail like a test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bartizan::WitnessNode;
use bartizan_ledger::UnverifiedNote;
use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::*;

const DOMAIN: &str = "127.0.0.1";

fn authority() -> [(&'static str, String); 1] {
    [("authority.issuer", "http://127.0.0.1:8081".to_owned())]
}

/// A workload with a key of its own gets a certificate, and keeps it as `bartizan certificate issue` would.
pub(super) fn identity(control: &str, admin: &Client, name: &str, folder: &Path) {
    let spec = json!({"kind": "workload", "owner": "ada", "purpose": "a process of the house"});
    admin.call("POST", "/api/v1/resources", Some(&json!([{"name": name, "spec": spec}]))).unwrap();
    let wish = json!({"principal_kind": "workload", "principal": name});
    let made = admin.call("POST", "/api/v1/keys", Some(&wish)).unwrap();
    let key = Secret::new(made["text"].as_str().unwrap().to_owned());
    let pair = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
    let body = json!({ "request": request });
    let issued = Client::new(control, Some(key)).call("POST", "/api/v1/certificates", Some(&body)).unwrap();
    assert_eq!(issued["spiffe_id"], format!("spiffe://{DOMAIN}/workload/{name}"));
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("key.pem"), pair.serialize_pem()).unwrap();
    for (file, member) in [("cert.pem", "certificate"), ("trust.pem", "trust")] {
        fs::write(folder.join(file), issued[member].as_str().unwrap()).unwrap();
    }
}

pub(super) fn mutual(folder: &Path, peers: &str) -> Vec<(&'static str, String)> {
    vec![
        ("mutual.folder", folder.to_string_lossy().into_owned()),
        ("mutual.trust_domain", DOMAIN.to_owned()),
        ("mutual.peers", format!("spiffe://{DOMAIN}/workload/{peers}")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_33_a_witness_under_mutual_tls_serves_nodes_of_the_house_alone() {
    let house = House::with(&authority()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (control, admin) = (format!("http://{}", house.node.control), house.admin_key.clone());
    let folders = ["node-1", "witness", "payments"].map(|name| (name, elsewhere.path().join(name)));
    let [node_folder, witness_folder, other_folder] = folders.clone().map(|(_, folder)| folder);
    let base = control.clone();
    let bundle = blocking(move || {
        let admin = Client::new(&base, Some(admin));
        folders.iter().for_each(|(name, folder)| identity(&base, &admin, name, folder));
        Client::new(&base, None).call("GET", "/.well-known/spiffe-bundle", None).unwrap()
    })
    .await;
    assert_eq!(bundle["keys"][0]["use"], "x509-svid");
    // People have tokens, not certificates; nobody has nothing.
    for (key, status) in [(Some(house.alice.1.clone()), 422), (None, 401)] {
        let base = control.clone();
        let got = blocking(move || {
            let pair = KeyPair::generate().unwrap();
            let request = CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
            let body = json!({ "request": request });
            Client::new(&base, key).raw("POST", "/api/v1/certificates", Some(&body), &[]).unwrap()
        });
        let (got, text) = got.await;
        assert!(got == status || (status == 422 && got == 400), "{got} {text}");
    }
    let house = house.stop().await;

    let logs = elsewhere.path().join("logs");
    let key = fs::read_to_string(house.path().join("log/operator/all/key.vkey")).unwrap();
    fs::write(&logs, format!("log {key}")).unwrap();
    let mut more = mutual(&witness_folder, "node-*");
    more.push(("server.role", "witness".to_owned()));
    more.push(("witness.logs", logs.to_string_lossy().into_owned()));
    let witness = WitnessNode::start(&config(&elsewhere.path().join("data"), &more)).await.unwrap();
    let policy = elsewhere.path().join("policy");
    fs::write(
        &policy,
        format!("witness elsewhere {} https://{}\nquorum elsewhere\n", witness.key, witness.data),
    )
    .unwrap();
    let cosigners = || {
        let note = fs::read(house.path().join("log/operator/all/checkpoint")).unwrap();
        let known = std::slice::from_ref(&witness.key);
        UnverifiedNote::parse(&note).unwrap().cosigned_by(known).unwrap().len()
    };
    let run = async |identity: Option<Vec<(&'static str, String)>>| {
        let mut more = identity.unwrap_or_default();
        more.push(("record.witness_policy", policy.to_string_lossy().into_owned()));
        // A witness that does not answer stops nobody.
        Node::start(&config(house.path(), &more)).await.unwrap().stop().await;
    };
    // Nobody's node, somebody else's, and one that expects another witness: not a word is exchanged.
    for identity in [None, Some(mutual(&other_folder, "witness")), Some(mutual(&node_folder, "another"))] {
        run(identity).await;
        assert_eq!(cosigners(), 0);
    }
    run(Some(mutual(&node_folder, "witness"))).await;
    assert_eq!(cosigners(), 1);
    witness.stop().await;
}

type Stream = StreamOwned<ClientConnection, TcpStream>;
type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn connected(address: SocketAddr, root: &CertificateDer<'static>, identity: Option<Identity>) -> Stream {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match identity {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from("house.example").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}

/// One request on a connection that stays: its status and body.
fn ask(stream: &mut Stream, method: &str, path: &str, more: &str) -> (u16, Value) {
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: house.example\r\ncontent-length: 0\r\n{more}\r\n")
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// Whoever asks is not let in; each door says so in its own form.
fn refuses(answer: &(u16, Value), reason: &str) {
    assert!(answer.0 == 401 && answer.1.to_string().contains(reason), "{reason}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_epoch_a_workload_comes_by_its_certificate_until_the_next_request_after_it_may_not() {
    const WHOAMI: &str = "/api/v1/whoami";
    let house = House::with(&authority()).await;
    let (control, admin) = (format!("http://{}", house.node.control), house.admin_key.clone());
    let elsewhere = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let acme = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let of_acme = |name: &str, ended: bool| -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if ended {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &acme).unwrap().der().clone();
        (der, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    };
    let bundle = json!({"spiffe_sequence": 1, "keys": [{"kty": "EC", "use": "x509-svid",
        "x5c": [base64::engine::general_purpose::STANDARD.encode(acme.der())]}]});
    let rule = json!({"name": "acme", "spec": {"kind": "federation", "issuer": "spiffe://acme.example",
        "trust_bundle": bundle, "scopes": ["model:list"],
        "subjects": [
            {"subject": "spiffe://acme.example/sa/*", "principal": {"kind": "workload", "name": "batch"}},
            {"subject": "spiffe://acme.example/job/*", "principal": {"kind": "workload", "name": "jobs"}}]}});
    let folders = ["payments", "batch", "jobs"].map(|name| (name, elsewhere.path().join(name)));
    let payments = folders[0].1.clone();
    let (base, key) = (control, admin.clone());
    blocking(move || {
        let admin = Client::new(&base, Some(key));
        folders.iter().for_each(|(name, folder)| identity(&base, &admin, name, folder));
        admin.call("POST", "/api/v1/resources", Some(&json!([rule]))).unwrap();
    })
    .await;
    let folder = house.stop().await;

    let made = rcgen::generate_simple_self_signed(["house.example".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = elsewhere.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut settings = authority().to_vec();
    settings.push(("listeners.tls_certificate", file("cert.pem", made.cert.pem())));
    settings.push(("listeners.tls_key", file("key.pem", made.signing_key.serialize_pem())));
    settings.push(("listeners.workloads", "true".to_owned()));
    let node = Node::start(&config(folder.path(), &settings)).await.unwrap();
    let (data, control, root) = (node.data, node.control, made.cert.der().clone());
    let own = || -> Identity {
        let certificate = CertificateDer::from_pem_file(payments.join("cert.pem")).unwrap();
        (certificate, PrivateKeyDer::from_pem_file(payments.join("key.pem")).unwrap())
    };
    let (ours, thumbprint) = (own(), bartizan_base::Digest::of(&own().0));
    let workloads =
        ["sa/nightly", "job/report"].map(|path| of_acme(&format!("spiffe://acme.example/{path}"), false));
    let refusals = [
        (None, "credential_missing"),
        (Some(of_acme("spiffe://acme.example/sa/nightly", true)), "credential_expired"),
        (Some(of_acme("spiffe://acme.example/other/nightly", false)), "credential_unknown"),
        (Some(of_acme("spiffe://evil.example/sa/nightly", false)), "token_issuer_unknown"),
        (Some(of_acme("spiffe://127.0.0.1/workload/payments", false)), "credential_unknown"),
    ];
    blocking(move || {
        for (identity, reason) in refusals {
            for (address, path) in [(control, WHOAMI), (data, "/v1/models")] {
                let mut stream =
                    connected(address, &root, identity.as_ref().map(|(c, k)| (c.clone(), k.clone_key())));
                refuses(&ask(&mut stream, "GET", path, ""), reason);
            }
        }
        let mut of_house = connected(control, &root, Some(ours));
        let (status, who) = ask(&mut of_house, "GET", WHOAMI, "");
        assert_eq!((status, &who["kind"], &who["name"]), (200, &json!("workload"), &json!("payments")));
        let [(batch, batch_key), (jobs, jobs_key)] = workloads;
        let mut at_data = connected(data, &root, Some((batch, batch_key)));
        assert_ne!(ask(&mut at_data, "GET", "/v1/models", "").0, 401);
        let mut at_control = connected(control, &root, Some((jobs, jobs_key)));
        assert_eq!(ask(&mut at_control, "GET", WHOAMI, "").1["name"], "jobs");
        // Taken back: dead with the next request of the same connection.
        let taken = format!("/api/v1/certificates/{thumbprint}");
        assert_eq!(ask(&mut of_house, "DELETE", &taken, "").0, 200);
        refuses(&ask(&mut of_house, "GET", WHOAMI, ""), "credential_revoked");
        // So is a workload that is taken out of use, and one whose trust domain is.
        let mut admin_at = connected(control, &root, None);
        let header = format!("x-api-key: {}\r\n", admin.expose());
        let disabled = ask(&mut admin_at, "POST", "/api/v1/directory/workload/batch/disable", &header);
        assert_eq!(disabled.0, 200, "{disabled:?}");
        refuses(&ask(&mut at_data, "GET", "/v1/models", ""), "principal_disabled");
        assert_eq!(ask(&mut at_control, "GET", WHOAMI, "").0, 200);
        assert_eq!(ask(&mut admin_at, "DELETE", "/api/v1/resources/federation/acme", &header).0, 200);
        refuses(&ask(&mut at_control, "GET", WHOAMI, ""), "token_issuer_unknown");
    })
    .await;
    node.stop().await;
}
