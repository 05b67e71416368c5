//! Certificates of the house over real HTTP, and its processes knowing each other by them.
#![expect(clippy::indexing_slicing, reason = "what the tests share may fail like a test")]

use std::fs;

use bartizan::WitnessNode;
use bartizan_ledger::UnverifiedNote;
use rcgen::{CertificateParams, KeyPair};

use super::*;

const DOMAIN: &str = "127.0.0.1";

fn authority() -> [(&'static str, String); 1] {
    [("authority.issuer", "http://127.0.0.1:8081".to_owned())]
}

/// A workload with a key of its own gets a certificate, and keeps it as `bartizan certificate issue` would.
fn identity(control: &str, admin: &Client, name: &str, folder: &Path) {
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

fn mutual(folder: &Path, peers: &str) -> Vec<(&'static str, String)> {
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
