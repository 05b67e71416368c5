//! A stage for hostile plays: servers of tools that answer what a play says, and keep note of what reached them.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::Mutex;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A tool of the play.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prop {
    pub(crate) server: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    /// The schema of its arguments.
    pub(crate) arguments: Value,
    /// Its labels.
    pub(crate) spec: Value,
    /// What it answers: a text; or an object, which it answers as structured content. `ECHO` answers its arguments.
    pub(crate) answer: Value,
}

/// What reached a server: which tool, and its arguments.
pub(crate) type Reached = (String, Value);

/// The servers, at one address, each below its own name.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) props: Mutex<Vec<Prop>>,
    pub(crate) reached: Mutex<Vec<Reached>>,
    /// Every request as it came.
    pub(crate) heads: Mutex<Vec<String>>,
}

impl Stage {
    async fn start(props: Vec<Prop>) -> (Arc<Self>, SocketAddr) {
        let stage =
            Arc::new(Self { props: Mutex::new(props), reached: Mutex::default(), heads: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let own = stage.clone();
        #[expect(clippy::disallowed_methods, reason = "a test's own task")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = own.clone();
                #[expect(clippy::disallowed_methods, reason = "a test's own task")]
                tokio::spawn(async move { own.answer(stream).await.unwrap_or_default() });
            }
        });
        (stage, address)
    }

    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let (mut all, mut part) = (Vec::new(), vec![0; 65_536]);
        let (head, body) = loop {
            let text = String::from_utf8_lossy(&all).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_owned();
                let low = head.to_ascii_lowercase();
                let length = low.split("content-length: ").nth(1).and_then(|l| l.lines().next());
                if body.len() >= length.map_or(0, |l| l.trim().parse::<usize>().unwrap()) {
                    break (head, body.to_owned());
                }
            }
            match stream.read(&mut part).await? {
                0 => return Ok(()),
                read => all.extend_from_slice(part.get(..read).unwrap_or_default()),
            }
        };
        self.heads.lock().unwrap().push(format!("{head}\n{body}"));
        if head.starts_with("POST /api/") {
            // An external API, which is none of the servers: it says something, and notes what it was told.
            self.reached
                .lock()
                .unwrap()
                .push(("api".to_owned(), serde_json::from_str(&body).unwrap_or_default()));
            let said = json!({"said": "canary-of-the-api"}).to_string();
            let length = said.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            return stream.write_all(format!("{head}{said}").as_bytes()).await;
        }
        let server = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        let (id, method) = (&body["id"], body["method"].as_str().unwrap_or_default());
        let result = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
        let props = self.props.lock().unwrap().clone();
        let mut of_server = props.iter().filter(|prop| prop.server == server);
        let (mut before, mut status) = (Vec::new(), "200 OK");
        let answer = match method {
            "initialize" => result(
                json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "stage", "version": "0"}}),
            ),
            "tools/list" => {
                let tools = of_server.map(
                    |p| json!({"name": p.name, "description": p.description, "inputSchema": p.arguments}),
                );
                result(json!({"tools": tools.collect::<Vec<_>>()}))
            }
            "tools/call" => {
                let name = body["params"]["name"].as_str().unwrap_or_default();
                let arguments = body["params"]["arguments"].clone();
                self.reached.lock().unwrap().push((format!("{server}/{name}"), arguments.clone()));
                let text = |text: &str| json!({"content": [{"type": "text", "text": text}]});
                match of_server.find(|prop| prop.name == name).map(|prop| &prop.answer) {
                    None => {
                        json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": "no such tool"}})
                    }
                    Some(Value::String(word)) if word == "ECHO" => result(text(&arguments.to_string())),
                    Some(Value::String(word)) if word.starts_with("ERROR ") => {
                        json!({"jsonrpc": "2.0", "id": id, "error": {"code": -1, "message": word}})
                    }
                    Some(Value::String(word)) if word.starts_with("CHATTY ") => {
                        let token = &body["params"]["_meta"]["progressToken"];
                        let told = [
                            (
                                "notifications/progress",
                                json!({"progressToken": token, "progress": 1, "message": word}),
                            ),
                            ("notifications/message", json!({"level": "error", "data": word})),
                        ];
                        before.extend(told.map(
                            |(method, params)| json!({"jsonrpc": "2.0", "method": method, "params": params}),
                        ));
                        result(text(word))
                    }
                    Some(Value::String(word)) => result(text(word)),
                    Some(value) => result(
                        json!({"content": [{"type": "text", "text": value.to_string()}], "structuredContent": value}),
                    ),
                }
            }
            _ => {
                status = "202 Accepted";
                Value::Null
            }
        };
        let (kind, words) = match (before.is_empty(), &answer) {
            (_, Value::Null) => ("application/json", String::new()),
            (true, answer) => ("application/json", answer.to_string()),
            (false, answer) => {
                before.push(answer.clone());
                ("text/event-stream", before.iter().map(|one| format!("data: {one}\n\n")).collect())
            }
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            words.len()
        );
        stream.write_all(format!("{head}{words}").as_bytes()).await
    }
}

/// A house with that stage behind it; `mill` is a program without a will of its own.
pub(crate) struct Play {
    pub(crate) house: House,
    pub(crate) stage: Arc<Stage>,
    pub(crate) mill: Secret<String>,
}

/// Rules that let everybody of the plays use tools.
const USE: &str = r#"
@id("players-use-tools")
permit (principal, action in [Action::"tool:use", Action::"tool:list", Action::"model:use"], resource)
when { principal in Group::"engineers" || principal in Group::"contractors" || principal is Workload };
@id("endorsers-look")
permit (principal in Role::"administrator", action == Action::"session:endorse", resource);
"#;

impl Play {
    /// With these tools, approved as they are, these rules and these patterns of the catalogue.
    pub(crate) async fn new(props: Vec<Prop>, rules: &str, patterns: &[String]) -> Self {
        let house = House::new().await;
        let (stage, address) = Stage::start(props.clone()).await;
        let admin = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
        let mut files = serde_json::Map::new();
        for pattern in patterns {
            let bundle = bartizan_decide::Template::named(pattern).unwrap().bundle();
            let name = format!("{pattern}.cedar");
            files.extend(
                bundle
                    .files
                    .into_iter()
                    .filter(|(file, _)| *file == name)
                    .map(|(file, text)| (file, json!(text))),
            );
        }
        files.insert("policy.cedar".to_owned(), json!(POLICY));
        files.insert("stage.cedar".to_owned(), json!(format!("{USE}{rules}")));
        let mill = blocking(move || {
            let mut servers: Vec<String> = props.iter().map(|prop| prop.server.clone()).collect();
            servers.sort();
            servers.dedup();
            let mut documents = vec![
                json!({"name": "stage", "spec": {"kind": "upstream", "base_url": format!("http://{address}"), "allow_private": true, "credential": "simulated"}}),
                json!({"name": "mill", "spec": {"kind": "workload", "owner": "alice", "purpose": "bookkeeping"}}),
            ];
            for server in &servers {
                let of = props.iter().filter(|prop| prop.server == *server);
                let words: Vec<Value> = of
                    .clone()
                    .map(|p| json!({"name": p.name, "description": p.description, "inputSchema": p.arguments}))
                    .collect();
                documents.push(json!({"name": server, "spec": {"kind": "tool_server"}}));
                documents.push(json!({"name": server, "spec": {"kind": "tool_route", "upstream": "stage", "path": format!("/{server}")}}));
                documents.push(json!({"name": server, "spec": {"kind": "tool_words", "tools": words}}));
                for prop in of {
                    let mut spec = prop.spec.clone();
                    spec["kind"] = "tool".into();
                    spec["within"] = json!([server]);
                    documents.push(json!({"name": format!("{server}/{}", prop.name), "spec": spec}));
                }
            }
            admin.call("POST", "/api/v1/resources", Some(&json!(documents))).unwrap();
            admin.call("PUT", "/api/v1/policy", Some(&json!({"files": files, "expect": 2}))).unwrap();
            for server in &servers {
                let offered = admin.call("GET", &format!("/api/v1/tools/{server}"), None).unwrap();
                let offered = offered.as_array().unwrap().iter();
                let tools: serde_json::Map<_, _> =
                    offered.map(|one| (one["name"].as_str().unwrap().to_owned(), one["digest"].clone())).collect();
                admin.call("POST", &format!("/api/v1/tools/{server}/approve"), Some(&json!({"tools": tools}))).unwrap();
            }
            let made = admin
                .call("POST", "/api/v1/keys", Some(&json!({"principal_kind": "workload", "principal": "mill"})))
                .unwrap();
            Secret::new(made["text"].as_str().unwrap().to_owned())
        })
        .await;
        Self { house, stage, mill }
    }

    /// Calls `server/tool`: what came back, whole.
    pub(crate) async fn call(&self, key: &Secret<String>, tool: &str, arguments: &Value) -> Told {
        let (server, name) = tool.split_once('/').unwrap();
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "arguments": arguments}});
        let (status, told) = self.house.post(key, &format!("/mcp/{server}"), body).await;
        Told { status, told }
    }

    pub(crate) async fn extract(&self, key: &Secret<String>, body: Value) -> Told {
        let (status, told) = self.house.post(key, "/handles/extract", body).await;
        Told { status, told }
    }

    /// What has entered sessions, as those see it who may endorse.
    pub(crate) async fn sessions(&self) -> Vec<Value> {
        let client =
            Client::new(&format!("http://{}", self.house.node.control), Some(self.house.admin_key.clone()));
        let listed = blocking(move || client.call("GET", "/api/v1/session-labels", None).unwrap()).await;
        listed.as_array().unwrap().clone()
    }

    /// The tools that were reached, in order.
    pub(crate) fn reached(&self) -> Vec<Reached> {
        self.stage.reached.lock().unwrap().clone()
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) told: Value,
}

impl Told {
    /// `none` where it was done.
    pub(crate) fn reason(&self) -> &str {
        let of_protocol = self.told.pointer("/error/data/reason").and_then(Value::as_str);
        of_protocol.unwrap_or_else(|| reason(&self.told))
    }

    /// The text that the model is given.
    pub(crate) fn text(&self) -> &str {
        self.told.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_default()
    }

    /// The handle that stands for what came back.
    pub(crate) fn handle(&self) -> String {
        let handle = self.told.pointer("/result/_meta/bartizan~1handle/handle").and_then(Value::as_str);
        handle.unwrap_or_else(|| panic!("no handle: {self:?}")).to_owned()
    }
}
