//! External APIs through the door: declared operations, under our credential or the caller's own account, and nothing else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;

use super::*;

/// An API outside that notes what reaches it.
struct Outside {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Outside {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let noted = noted.clone();
                std::thread::spawn(move || serve(&stream.unwrap(), &noted));
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: &std::net::TcpStream, noted: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).unwrap_or_default() > 0 && line != "\r\n" {
        head.push_str(&std::mem::take(&mut line));
    }
    let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    noted.lock().unwrap().push(format!("{head}\r\n{}", String::from_utf8_lossy(&body)));
    let (status, kind, body) = match path.as_str() {
        "/v2/tickets/2" => ("200 OK", "application/json", format!("\"{}\"", "x".repeat(5_000))),
        "/v2/tickets/3" => ("200 OK", "text/html", "<script>alert(1)</script>".to_owned()),
        "/v2/tickets/4" => ("302 Found", "application/json", "{}".to_owned()),
        "/v2/tickets/5" => ("401 Unauthorized", "application/json", "{}".to_owned()),
        "/v2/tickets/6" => {
            ("404 Not Found", "application/json; charset=utf-8", "{\"error\":\"none\"}".to_owned())
        }
        _ => ("200 OK", "application/json", "{\"ok\":true}".to_owned()),
    };
    let location = "location: http://169.254.169.254/latest\r\nset-cookie: a=b\r\n";
    let length = body.len();
    write!(&mut &*stream, "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{location}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .unwrap();
}

const RULES: &str = r#"
@id("engineers-call-apis") permit (principal in Group::"engineers", action == Action::"api:call", resource);
@id("nothing-is-deleted") @reason("custom:never_delete")
forbid (principal, action == Action::"api:call", resource)
when { context.request has operation && context.request.operation == "tickets.delete" };
"#;

async fn house() -> (House, Outside) {
    let (house, outside) = (House::new().await, Outside::new());
    let id = json!({"type": "object", "properties": {"id": {"type": "integer", "minimum": 1}}});
    let body =
        json!({"type": "object", "additionalProperties": false, "properties": {"title": {"type": "string"}}});
    let operations = json!([
        {"name": "tickets.get", "method": "GET", "path": "/tickets/{id}", "arguments": id},
        {"name": "tickets.delete", "method": "DELETE", "path": "/tickets/{id}", "arguments": id},
        {"name": "tickets.add", "method": "POST", "path": "/tickets",
         "arguments": {"type": "object", "required": ["body"], "properties": {"body": body}}},
    ]);
    let route = |upstream: &str| json!({"kind": "api_route", "upstream": upstream, "operations": operations, "answer_bytes_max": 4_000});
    let address = format!("http://{}/v2", outside.address);
    let documents = json!([
        {"name": "desk", "spec": {"kind": "upstream", "base_url": address, "allow_private": true, "credential": "simulated"}},
        {"name": "guarded-desk", "spec": {"kind": "upstream", "base_url": address}},
        {"name": "accounts", "spec": {"kind": "connection_provider", "resource": address, "allow_private": true,
            "client": {"by": "registered", "client_id": "bartizan"}}},
        {"name": "tickets", "spec": {"kind": "api", "confidentiality": "internal", "integrity": "trusted", "categories": ["support"]}},
        {"name": "own-tickets", "spec": {"kind": "api", "connection": "accounts"}},
        {"name": "guarded", "spec": {"kind": "api"}},
        {"name": "tickets", "spec": route("desk")}, {"name": "own-tickets", "spec": route("desk")},
        {"name": "undeclared", "spec": route("desk")}, {"name": "guarded", "spec": route("guarded-desk")},
    ]);
    let admin = house.admin.clone();
    let policy = json!({"files": {"policy.cedar": format!("{POLICY}{RULES}"), "bundle.toml": "name = \"ours\"\nreasons = [\"custom:never_delete\"]\n"}, "expect": 2});
    blocking(move || {
        admin.call("POST", "/api/v1/resources", Some(&documents)).unwrap();
        admin.call("PUT", "/api/v1/policy", Some(&policy)).unwrap();
    })
    .await;
    (house, outside)
}

async fn ask(
    house: &House,
    key: &Secret<String>,
    method: &'static str,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let (client, path) = (Client::new(&house.data(), Some(key.clone())), path.to_owned());
    let (status, text) = blocking(move || client.raw(method, &path, body.as_ref(), &[]).unwrap()).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn code(body: &Value) -> &str {
    body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_credential_a_declared_operation_is_called_with_our_credential_and_only_what_was_checked() {
    let (house, outside) = house().await;
    let (status, body) = ask(&house, &house.alice.1, "GET", "/apis/tickets/tickets/%37", None).await;
    assert_eq!((status, &body), (200, &json!({"ok": true})));
    let (status, _) =
        ask(&house, &house.alice.1, "POST", "/apis/tickets/tickets", Some(json!({"title": "x"}))).await;
    assert_eq!(status, 200);
    let seen = outside.seen();
    assert!(seen[0].starts_with("GET /v2/tickets/7 HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(
        seen[1].starts_with("POST /v2/tickets HTTP/1.1\r\n") && seen[1].ends_with("{\"title\":\"x\"}"),
        "{}",
        seen[1]
    );
    for seen in seen {
        assert!(seen.contains(&format!("authorization: Bearer {OWN}")), "{seen}");
        assert!(!seen.contains(house.alice.1.expose()), "the caller's key went outside");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_permit_nothing_reaches_an_api_on_any_refusal() {
    let (house, outside) = house().await;
    let (alice, mallory) = (&house.alice.1, &house.mallory);
    for (key, method, path, status, why) in [
        // What there is, and how it is called, is told only to those who may call it.
        (mallory, "GET", "/apis/tickets/tickets/7", 403, "no_matching_permit"),
        (mallory, "GET", "/apis/tickets/no/such", 403, "no_matching_permit"),
        (mallory, "GET", "/apis/no-such/x", 403, "no_matching_permit"),
        (alice, "GET", "/apis/no-such/x", 403, "no_matching_permit"),
        (alice, "GET", "/apis/tickets/admin", 404, "operation_unknown"),
        (alice, "PUT", "/apis/tickets/tickets/7", 404, "operation_unknown"),
        (alice, "DELETE", "/apis/tickets/tickets/7", 403, "custom:never_delete"),
        (alice, "GET", "/apis/tickets/tickets/0", 400, "arguments_invalid"),
        (alice, "GET", "/apis/tickets/tickets/7?as=root", 400, "arguments_invalid"),
        (alice, "GET", "/apis/tickets/tickets/%2e%2e/admin", 400, "arguments_invalid"),
        (alice, "GET", "/apis/guarded/tickets/7", 502, "egress_forbidden"),
        (alice, "GET", "/apis/own-tickets/tickets/7", 403, "connection_needed"),
    ] {
        let (got, body) = ask(&house, key, method, path, None).await;
        assert_eq!((got, code(&body)), (status, why), "{method} {path}: {body}");
    }
    let (got, body) =
        ask(&house, alice, "POST", "/apis/tickets/tickets", Some(json!({"title": "x", "owner": "root"})))
            .await;
    assert_eq!((got, code(&body)), (400, "arguments_invalid"), "{body}");
    assert_eq!(outside.seen(), Vec::<String>::new());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_bounded_of_a_declared_type_and_labelled_untrusted() {
    let (house, _outside) = house().await;
    let alice = &house.alice.1;
    for (id, status, why) in [
        (2, 502, "answer_refused"),
        (3, 502, "answer_refused"),
        (4, 502, "upstream_redirect"),
        (5, 502, "upstream_credential_refused"),
        (6, 404, ""),
    ] {
        let (got, body) = ask(&house, alice, "GET", &format!("/apis/tickets/tickets/{id}"), None).await;
        assert_eq!((got, code(&body)), (status, why), "{id}: {body}");
    }
    let (base, key) = (house.data(), alice.clone());
    let head = blocking(move || {
        let mut stream = std::net::TcpStream::connect(base.trim_start_matches("http://")).unwrap();
        let key = key.expose();
        write!(stream, "GET /apis/tickets/tickets/1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await;
    let label = r#"x-bartizan-label: {"categories":["support"],"confidentiality":"internal","integrity":"untrusted"}"#;
    assert!(head.contains(label), "{head}");
    assert!(!head.contains("set-cookie") && !head.contains("location"), "{head}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_could_mean_two_things_is_not_declared() {
    let house = House::new().await;
    let admin = house.admin.clone();
    let declare = move |operations: Value| {
        let upstream = "simulated";
        let route = json!([{"name": "x", "spec": {"kind": "api_route", "upstream": upstream, "operations": operations}}]);
        admin.call("POST", "/api/v1/resources", Some(&route)).map(drop).map_err(|error| error.to_string())
    };
    blocking(move || {
        let get = |name: &str, path: &str| json!({"name": name, "method": "GET", "path": path});
        assert!(declare(json!([])).is_err());
        assert!(declare(json!([get("a", "/a"), get("a", "/b")])).unwrap_err().contains("twice"));
        assert!(declare(json!([get("a", "/a/../b")])).unwrap_err().contains("segments"));
        assert!(declare(json!([{"name": "a", "method": "TRACE", "path": "/a"}])).is_err());
        assert!(declare(json!([get("a", "/a"), get("b", "/a/{b}")])).is_ok());
    })
    .await;
    house.stop().await;
}
