//! What holds for calls of models holds at every other door: limits, locks, obligations, labels; and databases and corpora are
//! tools by the same decision.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;

use super::*;

const RULES: &str = r#"
@id("people-use-tools")
permit (principal in Role::"model-user", action in [Action::"tool:use", Action::"tool:list"], resource in ToolServer::"files");

@id("people-call-apis")
permit (principal in Role::"model-user", action == Action::"api:call", resource);

@id("contractors-see-masked-tools")
@reason("personal_data")
@remedy("redact(pii)")
forbid (principal in Group::"contractors", action in [Action::"tool:use", Action::"api:call"], resource)
unless { context.obligations.contains("redact:pii") };

@id("only-our-own-addresses")
@reason("personal_data")
@remedy("strip_links(\"docs.example\")")
forbid (principal, action in Action::"tool:use", resource == Tool::"files/links")
unless { context.obligations.contains("strip_links") };

@id("kept")
@reason("personal_data")
@remedy("keep(content)")
forbid (principal, action in Action::"tool:use", resource == Tool::"files/kept")
unless { context.obligations.contains("keep:content") };
"#;

/// Something outside that speaks MCP (without sessions) at `/mcp`, and is an API everywhere else.
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

    /// Bodies that reached it and hold `what`.
    fn with(&self, what: &str) -> Vec<String> {
        self.seen.lock().unwrap().iter().filter(|body| body.contains(what)).cloned().collect()
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
    let body = String::from_utf8_lossy(&body).into_owned();
    noted.lock().unwrap().push(body.clone());
    let asked: Value = serde_json::from_str(&body).unwrap_or_default();
    if body.contains("never-answered") {
        if body.contains("begun") {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            (&mut &*stream).write_all(head.as_bytes()).unwrap();
        }
        loop {
            std::thread::park();
        }
    }
    let answer = match asked["method"].as_str() {
        Some("tools/list") => {
            let schema =
                json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
            let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
            let mut counted = tool("counts");
            counted["outputSchema"] = schema;
            let tools = json!([tool("echo"), tool("links"), tool("kept"), tool("picture"), counted]);
            json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"tools": tools}})
        }
        Some("tools/call") => {
            let arguments = asked.pointer("/params/arguments").cloned().unwrap_or_default();
            let text = |text: &str| json!({"content": [{"type": "text", "text": text}]});
            let result = match asked.pointer("/params/name").and_then(Value::as_str).unwrap_or_default() {
                "links" => text("see https://docs.example/a and https://evil.example/?q=secret"),
                "picture" => json!({"content": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}]}),
                "counts" => json!({"content": [], "structuredContent": {"n": arguments["n"]}}),
                _ => {
                    json!({"content": [{"type": "text", "text": "bob@mail.example"}], "structuredContent": {"heard": arguments}})
                }
            };
            json!({"jsonrpc": "2.0", "id": asked["id"], "result": result})
        }
        Some(_) => json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "none"}}),
        None => json!({"of": "bob@mail.example", "heard": asked}),
    };
    let answer = answer.to_string();
    let length = answer.len();
    write!(
        &mut &*stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
    )
    .unwrap();
}

struct Doors {
    house: House,
    outside: Outside,
    _files: tempfile::TempDir,
}

/// What came back: status, headers, body.
type Got = (u16, Vec<(String, String)>, Value);

impl Doors {
    async fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(files.path().join("shop.db")).unwrap();
        let table = "create table orders (id integer, owner text, email text, salary integer)";
        database.execute_batch(&format!("{table}; {}", super::sql::ROWS)).unwrap();
        let settings = [
            ("query.sqlite_folder", files.path().to_string_lossy().into_owned()),
            ("listeners.mesh", "127.0.0.1:0".to_owned()),
            ("listeners.mesh_peers", "127.0.0.1".to_owned()),
            ("authority.issuer", "http://127.0.0.1:8081".to_owned()),
        ];
        let (house, outside) = (House::with(&settings).await, Outside::new());
        let body =
            json!({"type": "object", "required": ["body"], "properties": {"body": {"type": "object"}}});
        let by_name = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        let mut documents = super::sql::assets();
        documents.push(super::sql::route(&json!({"engine": "sqlite", "file": "shop.db"}), "all"));
        documents.extend([
            json!({"name": "outside", "spec": {"kind": "upstream", "base_url": format!("http://{}", outside.address), "allow_private": true, "credential": "simulated"}}),
            json!({"name": "files", "spec": {"kind": "tool_server", "confidentiality": "internal"}}),
            json!({"name": "files", "spec": {"kind": "tool_route", "upstream": "outside", "path": "/mcp", "transport": "stateless_http"}}),
            json!({"name": "tickets", "spec": {"kind": "api", "confidentiality": "internal"}}),
            json!({"name": "tickets", "spec": {"kind": "api_route", "upstream": "outside", "operations": [
                {"name": "add", "method": "POST", "path": "/tickets", "arguments": body},
                {"name": "get", "method": "GET", "path": "/people/{name}", "arguments": by_name}
            ]}}),
            json!({"name": "stock", "spec": {"kind": "api", "confidentiality": "confidential", "categories": ["stock"]}}),
            json!({"name": "stock", "spec": {"kind": "mesh_route", "hosts": ["127.0.0.1"], "methods": ["GET"], "path": "/stock/{id}", "action": "api:call", "resource": "stock"}}),
        ]);
        let admin = house.admin.clone();
        blocking(move || {
            admin.call("POST", "/api/v1/resources", Some(&json!(documents))).unwrap();
            let files = json!({"policy.cedar": POLICY, "same.cedar": RULES, "shop.cedar": super::sql::RULES});
            admin.call("PUT", "/api/v1/policy", Some(&json!({"files": files, "expect": 2}))).unwrap();
            let offered = admin.call("GET", "/api/v1/tools/files", None).unwrap();
            let offered = offered.as_array().unwrap().iter();
            let tools: serde_json::Map<_, _> = offered
                .map(|one| (one["name"].as_str().unwrap().to_owned(), one["digest"].clone()))
                .collect();
            admin.call("POST", "/api/v1/tools/files/approve", Some(&json!({"tools": tools}))).unwrap();
        })
        .await;
        Self { house, outside, _files: files }
    }

    async fn declare(&self, documents: Value) {
        let admin = self.house.admin.clone();
        blocking(move || admin.call("POST", "/api/v1/resources", Some(&documents)).unwrap()).await;
    }

    async fn send(
        &self,
        key: &Secret<String>,
        method: &str,
        url: String,
        body: Option<Value>,
        run: &str,
    ) -> Got {
        let request = ureq::http::Request::builder().method(method).uri(url);
        let request = request.header("authorization", format!("Bearer {}", key.expose()));
        let request = request.header("content-type", "application/json").header("x-bartizan-run", run);
        blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut got = match body {
                Some(body) => agent.run(request.body(body.to_string()).unwrap()),
                None => agent.run(request.body(()).unwrap()),
            }
            .unwrap();
            let headers = got.headers().iter();
            let headers =
                headers.map(|(n, v)| (n.to_string(), v.to_str().unwrap_or_default().to_owned())).collect();
            let text = got.body_mut().read_to_string().unwrap_or_default();
            (got.status().as_u16(), headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
        .await
    }

    /// One message, each with an id of its own.
    async fn rpc(&self, key: &Secret<String>, path: &str, method: &str, params: Value, run: &str) -> Got {
        let id = self.outside.seen.lock().unwrap().len();
        let body = json!({"jsonrpc": "2.0", "id": format!("{run}-{id}"), "method": method, "params": params});
        self.send(key, "POST", format!("{}{path}", self.house.data()), Some(body), run).await
    }

    async fn tool(&self, key: &Secret<String>, tool: &str, arguments: Value) -> Value {
        self.rpc(key, "/mcp/files", "tools/call", json!({"name": tool, "arguments": arguments}), "r").await.2
    }

    async fn own(&self, key: &Secret<String>, path: &str, tool: &str, arguments: Value) -> Got {
        self.rpc(key, path, "tools/call", json!({"name": tool, "arguments": arguments}), "r").await
    }

    async fn lock(&self, on: &str) -> String {
        let (admin, order) = (self.house.admin.clone(), json!({"on": on, "reason": "r"}));
        let set = blocking(move || admin.call("POST", "/api/v1/locks", Some(&order)).unwrap()).await;
        format!("/api/v1/locks/{}", set["id"].as_str().unwrap())
    }

    async fn release(&self, lock: String) {
        let admin = self.house.admin.clone();
        blocking(move || admin.call("DELETE", &lock, None).unwrap()).await;
    }
}

fn why(answer: &Value) -> &str {
    ["/error/data/reason", "/result/_meta/bartizan~1reason"]
        .iter()
        .find_map(|place| answer.pointer(place))
        .and_then(Value::as_str)
        .unwrap_or_else(|| reason(answer))
}

fn listed(answer: &Value) -> Vec<&str> {
    let tools =
        answer.pointer("/result/tools").and_then(Value::as_array).unwrap_or_else(|| panic!("{answer}"));
    tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

/// envoyproxy/ai-gateway#2448: there no rate limit can be put on a route to tools that asks for a login.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_envoy_ai_gateway_2448_limits_hold_at_every_door_and_the_same_call_again_is_a_loop() {
    let doors = Doors::new().await;
    let alice = doors.house.alice.1.clone();
    let limit = |name: &str, spec: Value| {
        let mut spec = spec;
        spec["kind"] = json!("limit");
        json!({"name": name, "spec": spec})
    };
    doors
        .declare(json!([
            limit("steps", json!({"what": "requests", "most": 7, "per": ["caller", "run"]})),
            limit("circles", json!({"what": "repeats", "most": 2, "window": "hour", "per": ["caller"]})),
            // A budget of money is no reason to refuse what has no price.
            limit("money", json!({"what": "cost", "most": 1, "window": "month", "per": ["caller"]})),
            limit("pace", json!({"what": "requests", "most": 1_000, "window": "hour", "per": ["caller"]})),
        ]))
        .await;
    // The same arguments in another order and under another id are the same.
    for arguments in [json!({"a": 1, "b": "x"}), json!({"b": "x", "a": 1})] {
        let (_, headers, body) = doors
            .rpc(&alice, "/mcp/files", "tools/call", json!({"name": "echo", "arguments": arguments}), "one")
            .await;
        assert!(body["result"].is_object(), "{body}");
        assert!(headers.iter().any(|(name, _)| name == "x-ratelimit-remaining-requests"), "{headers:?}");
    }
    let sent = doors.outside.with("tools/call").len();
    let third = json!({"name": "echo", "arguments": {"a": 1, "b": "x"}});
    let (_, _, body) = doors.rpc(&alice, "/mcp/files", "tools/call", third, "one").await;
    assert_eq!((why(&body), doors.outside.with("tools/call").len()), ("loop_detected", sent), "{body}");
    // Steps of a run are counted over all doors: two tools, an API, a statement, the same as a tool, a proxy, a tool.
    let (data, mesh) = (doors.house.data(), format!("http://{}", doors.house.node.mesh.unwrap()));
    let ticket = Some(json!({"title": "x"}));
    assert_eq!(
        doors.send(&alice, "POST", format!("{data}/apis/tickets/tickets"), ticket, "one").await.0,
        200
    );
    let sql = Some(json!({"sql": "select id from orders"}));
    let got = doors.send(&alice, "POST", format!("{data}/query/shop"), sql.clone(), "one").await;
    assert!(got.0 == 200 && got.1.iter().any(|(name, _)| name == "ratelimit"), "{got:?}");
    let as_tool = json!({"name": "query", "arguments": sql.clone()});
    let (_, _, body) = doors.rpc(&alice, "/mcp/shop", "tools/call", as_tool, "one").await;
    assert_eq!(body["result"]["isError"], false, "{body}");
    assert_eq!(doors.send(&alice, "GET", format!("{mesh}/ext_authz/stock/1"), None, "one").await.0, 200);
    let last = json!({"name": "echo", "arguments": {"last": true}});
    let (_, _, body) = doors.rpc(&alice, "/mcp/files", "tools/call", last, "one").await;
    assert!(body["result"].is_object(), "{body}");
    for (method, url, body) in [
        ("POST", format!("{data}/apis/tickets/tickets"), Some(json!({"title": "y"}))),
        ("POST", format!("{data}/query/shop"), Some(json!({"sql": "select email from orders"}))),
        ("GET", format!("{mesh}/ext_authz/stock/2"), None),
    ] {
        let (status, _, body) = doors.send(&alice, method, url.clone(), body, "one").await;
        assert_eq!((status, reason(&body)), (403, "run_exhausted"), "{url}: {body}");
    }
    let more = json!({"name": "echo", "arguments": {"more": true}});
    let (_, _, body) = doors.rpc(&alice, "/mcp/files", "tools/call", more.clone(), "one").await;
    assert_eq!(why(&body), "run_exhausted", "{body}");
    let (_, _, body) = doors.own(&alice, "/mcp/shop", "mails_of", json!({"least": 1})).await;
    assert_eq!(body["result"]["isError"], false, "another run: {body}");
    doors.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_what_a_step_touches_holds_it_back_at_every_door() {
    let doors = Doors::new().await;
    let (alice, data) = (doors.house.alice.1.clone(), doors.house.data());
    let mesh = format!("http://{}", doors.house.node.mesh.unwrap());
    let sql = || Some(json!({"sql": "select id from orders"}));
    for (on, tool, api, query, proxy) in [
        ("tool_server/files", true, false, false, false),
        ("tool/files/echo", true, false, false, false),
        ("upstream/outside", true, true, false, false),
        ("run/one", true, true, true, true),
        ("group/engineers", true, true, true, true),
        ("tenant", true, true, true, true),
    ] {
        let lock = doors.lock(on).await;
        let called = json!({"name": "echo", "arguments": {"on": on}});
        let (_, _, body) = doors.rpc(&alice, "/mcp/files", "tools/call", called, "one").await;
        assert_eq!(why(&body) == "locked", tool, "{on}: {body}");
        let ticket = Some(json!({"title": on}));
        let (_, _, body) =
            doors.send(&alice, "POST", format!("{data}/apis/tickets/tickets"), ticket, "one").await;
        assert_eq!(why(&body) == "locked", api, "{on}: {body}");
        let (_, _, body) = doors.send(&alice, "POST", format!("{data}/query/shop"), sql(), "one").await;
        assert_eq!(why(&body) == "locked", query, "{on}: {body}");
        let called = json!({"name": "query", "arguments": sql()});
        let (_, _, body) = doors.rpc(&alice, "/mcp/shop", "tools/call", called, "one").await;
        assert_eq!(why(&body) == "locked", query, "{on}: {body}");
        let (_, _, body) = doors.send(&alice, "GET", format!("{mesh}/ext_authz/stock/1"), None, "one").await;
        assert_eq!(why(&body) == "locked", proxy, "{on}: {body}");
        doors.release(lock).await;
    }
    doors.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_what_is_under_way_whether_the_other_side_has_begun_to_answer_or_not() {
    let doors = Arc::new(Doors::new().await);
    let alice = doors.house.alice.1.clone();
    for (on, begun) in [("tool/files/echo", "begun"), ("run/one", "silent"), ("upstream/outside", "api")] {
        let (own, key, note) = (doors.clone(), alice.clone(), format!("never-answered {begun}"));
        #[expect(clippy::disallowed_methods, reason = "a test's own task")]
        let going = tokio::spawn(async move {
            if begun == "api" {
                let url = format!("{}/apis/tickets/tickets", own.house.data());
                return own.send(&key, "POST", url, Some(json!({ "title": note })), "one").await.2;
            }
            let called = json!({"name": "echo", "arguments": {"note": note}});
            own.rpc(&key, "/mcp/files", "tools/call", called, "one").await.2
        });
        while doors.outside.with(begun).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let lock = doors.lock(on).await;
        // Without the lock it would never end.
        let body = tokio::time::timeout(Duration::from_secs(20), going).await.unwrap().unwrap();
        assert_eq!(why(&body), "stream_ended", "{on}: {body}");
        doors.release(lock).await;
    }
    let Ok(doors) = Arc::try_unwrap(doors) else { panic!("somebody is still at a door") };
    doors.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn obligations_are_applied_at_tools_and_apis_both_ways_and_what_cannot_be_applied_denies() {
    let doors = Doors::new().await;
    let (alice, carol) = (doors.house.alice.1.clone(), doors.house.carol.clone());
    let arguments = json!({"to": ["ann@mail.example"], "card": 4_111_111_111_111_111_u64});
    let body = doors.tool(&carol, "echo", arguments.clone()).await;
    let masked = json!({"to": ["[email]"], "card": "[card]"});
    assert_eq!(body.pointer("/result/structuredContent/heard"), Some(&masked), "{body}");
    assert_eq!(body.pointer("/result/content/0/text"), Some(&json!("[email]")), "{body}");
    assert!(doors.outside.with("ann@mail.example").is_empty(), "it reached the server");
    let body = doors.tool(&alice, "echo", arguments.clone()).await;
    assert_eq!(body.pointer("/result/structuredContent/heard"), Some(&arguments), "{body}");
    assert_eq!(why(&doors.tool(&carol, "picture", json!({})).await), "obligation_failed");
    assert!(doors.tool(&alice, "picture", json!({})).await["result"].is_object());
    let body = doors.tool(&alice, "links", json!({})).await;
    let expected = json!("see https://docs.example/a and [link removed]");
    assert_eq!(body.pointer("/result/content/0/text"), Some(&expected), "{body}");
    let sent = doors.outside.with("tools/call").len();
    let body = doors.tool(&alice, "kept", json!({})).await;
    assert!(body["error"].is_object(), "nothing of a tool can be kept: {body}");
    assert_eq!(doors.outside.with("tools/call").len(), sent);
    // What an approved definition says of answers is held against them.
    assert!(doors.tool(&alice, "counts", json!({"n": 3})).await["result"].is_object());
    assert_eq!(why(&doors.tool(&alice, "counts", json!({"n": "three"})).await), "tool_output_invalid");
    let url = format!("{}/apis/tickets", doors.house.data());
    let ticket = Some(json!({"title": "for ann@mail.example"}));
    let (status, _, body) = doors.send(&carol, "POST", format!("{url}/tickets"), ticket, "r").await;
    assert_eq!((status, &body), (200, &json!({"of": "[email]", "heard": {"title": "for [email]"}})));
    let (status, _, body) =
        doors.send(&carol, "GET", format!("{url}/people/ann%40mail.example"), None, "r").await;
    assert_eq!((status, reason(&body)), (403, "personal_data"), "{body}");
    assert!(
        doors.outside.with("ann@mail.example").iter().all(|seen| seen.contains("4111111111111111")),
        "alice's alone"
    );
    doors.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_a_server_of_tools_by_the_decision_of_its_own_door() {
    let doors = Doors::new().await;
    let (alice, carol, mallory) =
        (doors.house.alice.1.clone(), doors.house.carol.clone(), doors.house.mallory.clone());
    let (_, _, body) = doors.rpc(&alice, "/mcp/shop", "tools/list", json!({}), "r").await;
    assert_eq!(listed(&body), ["query", "mails_of"]);
    let (_, _, body) = doors.rpc(&alice, "/mcp", "tools/list", json!({}), "r").await;
    let all = listed(&body);
    assert!(
        all.contains(&"shop__query") && all.contains(&"shop__mails_of") && all.contains(&"files__echo"),
        "{all:?}"
    );
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "0"}});
    let (_, _, body) = doors.rpc(&alice, "/mcp/shop", "initialize", hello, "r").await;
    assert!(body.pointer("/result/capabilities/tools").is_some(), "{body}");
    // By name or by the name that everything has: the same rows as over HTTP, masked for those who see them masked.
    let (_, headers, body) = doors.own(&alice, "/mcp", "shop__mails_of", json!({"least": 3})).await;
    assert_eq!(
        body.pointer("/result/structuredContent/rows"),
        Some(&json!([[3, "c@mail.example"]])),
        "{body}"
    );
    let text = body.pointer("/result/content/0/text").and_then(Value::as_str).unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), body["result"]["structuredContent"]);
    let decision = headers.iter().find(|(name, _)| name == "bartizan-decision").unwrap().1.clone();
    let admin = doors.house.admin.clone();
    let shown =
        blocking(move || admin.call("GET", &format!("/api/v1/decisions/{decision}"), None).unwrap()).await;
    assert!(
        shown.to_string().contains("database:query") && !shown.to_string().contains("tool:call"),
        "{shown}"
    );
    let (_, _, body) = doors.own(&carol, "/mcp/shop", "mails_of", json!({"least": 3})).await;
    assert_eq!(body.pointer("/result/structuredContent/rows"), Some(&json!([[3, "[email]"]])), "{body}");
    // What is refused is told to the model as the tool's error, with its reason.
    for (sql, expected) in
        [("delete from orders", "statement_refused"), ("select salary from orders", "no_matching_permit")]
    {
        let (status, _, body) = doors.own(&alice, "/mcp/shop", "query", json!({"sql": sql})).await;
        assert_eq!((status, &body["result"]["isError"], why(&body)), (200, &json!(true), expected), "{body}");
    }
    let (_, _, body) =
        doors.own(&alice, "/mcp/shop", "query", json!({"sql": "select 1", "template": "mails_of"})).await;
    assert_eq!(why(&body), "params_invalid", "{body}");
    // Whoever may not query learns what somebody learns who made the name up.
    let (_, _, body) = doors.rpc(&mallory, "/mcp/shop", "tools/list", json!({}), "r").await;
    let (_, _, made_up) = doors.rpc(&mallory, "/mcp/shoq", "tools/list", json!({}), "r").await;
    assert_eq!((why(&body), why(&made_up)), ("tool_not_found", "tool_not_found"), "{body}");
    doors.house.stop().await;
}

/// What goes through a proxy is seen by nobody here, so that it was asked for is what enters the session.
#[tokio::test(flavor = "multi_thread")]
async fn inv_label_what_a_service_behind_a_proxy_gives_enters_the_session() {
    let doors = Doors::new().await;
    let mesh = format!("http://{}", doors.house.node.mesh.unwrap());
    let labels = || {
        let admin = doors.house.admin.clone();
        blocking(move || admin.call("GET", "/api/v1/session-labels", None).unwrap())
    };
    assert!(!labels().await.to_string().contains("stock"));
    let (status, _, _) =
        doors.send(&doors.house.alice.1, "GET", format!("{mesh}/ext_authz/stock/1"), None, "r").await;
    assert_eq!(status, 200);
    let told = labels().await.to_string();
    assert!(told.contains("stock") && told.contains("confidential"), "{told}");
    doors.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corpus_is_a_server_of_tools_by_the_decision_of_its_own_door() {
    let library = super::retrieve::Library::new(json!({})).await;
    let (alice, carol) = (library.house.alice.1.clone(), library.house.carol.clone());
    library.written("plan", "ask ann@mail.example", json!({})).await;
    library.written("pay", "what people earn", json!({"confidentiality": "restricted"})).await;
    let rpc = async |key: &Secret<String>, path: &str, method: &str, params: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        library.send(key, "POST", path, body).await
    };
    let call = |arguments: Value| json!({"name": "search", "arguments": arguments});
    for (path, name) in [("/mcp/handbook", "search"), ("/mcp", "handbook__search")] {
        assert_eq!(listed(&rpc(&alice, path, "tools/list", json!({})).await.body), [name]);
    }
    let near = json!({"vector": [1.0, 0.5], "k": 5});
    let (over_http, told) = (
        library.search(&alice, near.clone()).await,
        rpc(&alice, "/mcp/handbook", "tools/call", call(near.clone())).await,
    );
    assert_eq!(told.body.pointer("/result/structuredContent"), Some(&over_http.body), "{}", told.body);
    assert_eq!(
        (&told.label, told.body.pointer("/result/_meta/bartizan~1label")),
        (&over_http.label, over_http.label.as_ref())
    );
    assert!(!told.body.to_string().contains("earn"));
    let told =
        rpc(&carol, "/mcp", "tools/call", json!({"name": "handbook__search", "arguments": near.clone()}))
            .await;
    let text = told.body.pointer("/result/structuredContent").unwrap().to_string();
    assert!(text.contains("ask [email]") && !text.contains("ann@mail.example"), "{text}");
    let hidden = rpc(
        &alice,
        "/mcp/handbook",
        "tools/call",
        call(json!({"vector": [1.0, 0.5], "collections": ["board"]})),
    )
    .await;
    let made_up = rpc(
        &alice,
        "/mcp/handbook",
        "tools/call",
        call(json!({"vector": [1.0, 0.5], "collections": ["boart"]})),
    )
    .await;
    assert_eq!((why(&hidden.body), why(&made_up.body)), ("not_found", "not_found"), "{}", hidden.body);
    let stranger = rpc(&library.house.mallory, "/mcp/handbook", "tools/list", json!({})).await;
    assert_eq!(why(&stranger.body), "tool_not_found", "{}", stranger.body);
    // A search counts, over HTTP as much as as a tool, and so does what is written.
    let spec = json!({"kind": "limit", "what": "requests", "most": 2, "window": "day", "per": ["caller"]});
    let (admin, limit) = (library.admin.clone(), json!([{"name": "few", "spec": spec}]));
    blocking(move || admin.call("POST", "/api/v1/resources", Some(&limit)).unwrap()).await;
    assert_eq!(library.search(&alice, near.clone()).await.status, 200);
    assert!(
        rpc(&alice, "/mcp/handbook", "tools/call", call(near.clone())).await.body["result"]["isError"]
            == false
    );
    let over = library.search(&alice, near.clone()).await;
    assert_eq!((over.status, reason(&over.body)), (402, "budget_exhausted"), "{}", over.body);
    let over = rpc(&alice, "/mcp/handbook", "tools/call", call(near)).await;
    assert_eq!((why(&over.body), &over.body["result"]["isError"]), ("budget_exhausted", &json!(true)));
    for n in 0..2 {
        library.written(&format!("note-{n}"), "a note", json!({})).await;
    }
    let document = json!({"collection": "guides", "passages": [{"text": "a note", "vector": [1.0, 0.5]}]});
    let over = library.send(&library.librarian, "PUT", "/retrieve/handbook/documents/note-2", document).await;
    assert_eq!(
        (over.status, reason(&over.body)),
        (402, "budget_exhausted"),
        "each document is one: {}",
        over.body
    );
    library.house.stop().await;
}
