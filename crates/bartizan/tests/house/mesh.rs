//! Proxies that ask, over real HTTP. Real Envoy and nginx are in `tests/outside/mesh.py`.

use std::io::Read as _;
use std::net::TcpStream;

use bartizan_keys::{MutualFiles, MutualTls};
use bartizan_rt::SystemClock;

use super::workloads::{identity, mutual};
use super::*;

const RULES: &str = r#"
@id("workloads-use-orders")
permit (principal is Workload, action == Action::"api:call", resource == Api::"orders");
@id("engineers-use-orders")
permit (principal in Group::"engineers", action == Action::"api:call", resource == Api::"orders");
@id("masked-only")
@reason("personal_data")
@remedy("redact(pii)")
forbid (principal, action == Action::"api:call", resource == Api::"people")
unless { context.obligations.contains("redact:pii") };
@id("engineers-see-people")
permit (principal in Group::"engineers", action == Action::"api:call", resource == Api::"people");
"#;

/// Settings of a listener for proxies; whose word about certificates is taken.
fn mesh(peers: &str, certificates: &str) -> Vec<(&'static str, String)> {
    vec![
        ("listeners.mesh", "127.0.0.1:0".to_owned()),
        ("listeners.mesh_peers", peers.to_owned()),
        ("listeners.mesh_certificates", certificates.to_owned()),
        ("authority.issuer", "http://127.0.0.1:8081".to_owned()),
    ]
}

fn declare(admin: &Client) {
    let route = |path: &str, resource: &str| json!({"kind": "mesh_route", "hosts": ["127.0.0.1"], "methods": ["GET"], "path": path, "action": "api:call", "resource": resource});
    let documents = json!([
        {"name": "orders", "spec": {"kind": "api"}}, {"name": "people", "spec": {"kind": "api"}},
        {"name": "orders", "spec": route("/orders/{id}", "orders")}, {"name": "people", "spec": route("/people", "people")}
    ]);
    admin.call("POST", "/api/v1/resources", Some(&documents)).unwrap();
    let files = json!({"files": {"policy.cedar": format!("{POLICY}{RULES}")}, "expect": 2});
    admin.call("PUT", "/api/v1/policy", Some(&files)).unwrap();
    let house = json!({"kind": "mesh_route", "hosts": ["a.example"], "methods": ["GET"], "path": "/", "action": "key:create", "resource": "x"});
    let refused = admin.call("POST", "/api/v1/resources", Some(&json!([{"name": "bad", "spec": house}])));
    assert!(refused.is_err(), "a route cannot stand for an act on the house itself");
}

async fn asked(
    node: &Node,
    key: Option<Secret<String>>,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, Value) {
    let (base, path) = (format!("http://{}", node.mesh.unwrap()), path.to_owned());
    let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    blocking(move || {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let (status, text) = Client::new(&base, key).raw("GET", &path, None, &headers).unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    })
    .await
}

fn refuses(answer: &(u16, Value), status: u16, why: &str) {
    assert_eq!(
        (answer.0, answer.1.pointer("/error/bartizan/reason")),
        (status, Some(&json!(why))),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_told_what_policy_says_of_the_one_who_asks_it() {
    let house = House::with(&mesh("127.0.0.1", "")).await;
    let admin = house.admin.clone();
    blocking(move || declare(&admin)).await;
    let (alice, mallory) = (Some(house.alice.1.clone()), Some(house.mallory.clone()));
    let node = &house.node;
    assert_eq!(asked(node, alice.clone(), "/ext_authz/orders/7", &[]).await.0, 200);
    assert_eq!(asked(node, alice.clone(), "/ext_authz:orders/orders/7", &[]).await.0, 200);
    let elsewhere = asked(node, alice.clone(), "/ext_authz:people/orders/7", &[]).await;
    refuses(&elsewhere, 403, "mesh_route_unknown");
    refuses(&asked(node, None, "/ext_authz/orders/7", &[]).await, 401, "credential_missing");
    let denied = asked(node, mallory, "/ext_authz/orders/7", &[]).await;
    assert!(matches!(denied.0, 403 | 404), "{denied:?}");
    refuses(&asked(node, alice.clone(), "/ext_authz/else", &[]).await, 403, "mesh_route_unknown");
    refuses(&asked(node, alice.clone(), "/ext_authz/orders/%2e%2e", &[]).await, 400, "request_line_refused");
    // A proxy applies no obligations.
    refuses(&asked(node, alice.clone(), "/ext_authz/people", &[]).await, 403, "obligation_unsupported");
    let nginx = [
        ("x-original-method", "GET"),
        ("x-original-host", "127.0.0.1"),
        ("x-original-server", "127.0.0.1"),
        ("x-original-uri", "/orders/7"),
    ];
    assert_eq!(asked(node, alice.clone(), "/forward-auth/nginx", &nginx).await.0, 200);
    assert_eq!(asked(node, alice.clone(), "/forward-auth/nginx?route=people", &nginx).await.0, 403);
    assert_eq!(asked(node, alice.clone(), "/forward-auth/traefik", &nginx).await.0, 400);
    for path in ["/", "/forward-auth/other", "/ext_authzx/orders/7", "/v1/models", "/api/v1/whoami"] {
        assert_eq!(asked(node, alice.clone(), path, &[]).await.0, 404, "{path}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_a_proxy_is_answered() {
    let house = House::with(&mesh("192.0.2.1", "127.0.0.1")).await;
    let answer = asked(&house.node, Some(house.alice.1.clone()), "/ext_authz/orders/7", &[]).await;
    assert_eq!(answer.0, 403, "{answer:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_behind_a_proxy_comes_by_its_certificate_where_the_proxy_is_believed_and_no_longer_than_it_holds()
 {
    for believed in [true, false] {
        let house = House::with(&mesh("127.0.0.1", if believed { "127.0.0.1" } else { "" })).await;
        let (admin, key) = (house.admin.clone(), house.admin_key.clone());
        let (control, folder) = (format!("http://{}", house.node.control), house.folder.path().join("w"));
        let pem = blocking(move || {
            declare(&admin);
            identity(&control, &Client::new(&control, Some(key)), "payments", &folder);
            std::fs::read_to_string(folder.join("cert.pem")).unwrap()
        })
        .await;
        let escaped = pem.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
        let told = format!("Cert=\"{escaped}\"");
        let by_certificate = [("x-forwarded-client-cert", told.as_str())];
        let by_name = [("x-forwarded-client-cert", "URI=spiffe://127.0.0.1/workload/payments")];
        let node = &house.node;
        if !believed {
            refuses(
                &asked(node, None, "/ext_authz/orders/7", &by_certificate).await,
                401,
                "credential_missing",
            );
            house.stop().await;
            continue;
        }
        let first = asked(node, None, "/ext_authz/orders/7", &by_certificate).await;
        assert_eq!(first.0, 200, "{first:?}");
        assert_eq!(
            asked(node, None, "/ext_authz/orders/7", &by_name).await.0,
            400,
            "a name is no certificate"
        );
        let admin = house.admin.clone();
        blocking(move || admin.call("POST", "/api/v1/directory/workload/payments/disable", None).unwrap())
            .await;
        refuses(&asked(node, None, "/ext_authz/orders/7", &by_certificate).await, 401, "principal_disabled");
        house.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_mutual_tls_only_the_workloads_that_are_named_can_ask() {
    let house = House::with(&mesh("127.0.0.1", "")).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let folders = ["gate", "proxy", "other"].map(|name| elsewhere.path().join(name));
    let (admin, control, key) =
        (house.admin.clone(), format!("http://{}", house.node.control), house.admin_key.clone());
    let [gate, proxy, other] = folders.clone();
    blocking(move || {
        declare(&admin);
        let admin = Client::new(&control, Some(key));
        for folder in &folders {
            identity(&control, &admin, folder.file_name().unwrap().to_str().unwrap(), folder);
        }
    })
    .await;
    let alice = house.alice.1.clone();
    let folder = house.stop().await;
    let mut settings = mesh("127.0.0.1", "");
    settings.push(("listeners.mesh_tls", "mutual".to_owned()));
    settings.extend(mutual(&gate, "proxy"));
    let node = Node::start(&config(folder.path(), &settings)).await.unwrap();
    let address = node.mesh.unwrap();
    blocking(move || {
        let request = format!(
            "GET /ext_authz/orders/7 HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            alice.expose()
        );
        let told = |stream: &mut (dyn std::io::Write + '_)| stream.write_all(request.as_bytes());
        for (folder, let_in) in [(&proxy, true), (&other, false)] {
            let files = MutualFiles {
                certificate: folder.join("cert.pem"),
                key: folder.join("key.pem"),
                trust: folder.join("trust.pem"),
                domain: "127.0.0.1".parse().unwrap(),
                peers: vec!["spiffe://127.0.0.1/workload/gate".parse().unwrap()],
            };
            let tls = MutualTls::open(files, Arc::new(SystemClock::new())).unwrap();
            let mut tls = tls.client().unwrap();
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
            let connection = rustls::ClientConnection::new(Arc::new(tls), name).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap());
            let mut answer = String::new();
            let sent = told(&mut stream).and_then(|()| stream.read_to_string(&mut answer));
            assert_eq!(answer.starts_with("HTTP/1.1 200"), let_in, "{answer} {sent:?}");
        }
        let mut plain = TcpStream::connect(address).unwrap();
        let mut answer = Vec::new();
        told(&mut plain).and_then(|()| plain.read_to_end(&mut answer)).unwrap_or_default();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "in clear");
    })
    .await;
    node.stop().await;
}
