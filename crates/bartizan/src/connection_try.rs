//! `bartizan connection try`: goes to a tool server outside as the house would, and says what it found. Nothing is kept, and no
//! house is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;

use bartizan_authority::connections::challenge::Challenge;
use bartizan_authority::connections::flow::{self, FlowSecrets, OurClient, Sent, Tokens};
use bartizan_authority::connections::{ConnectError, Outside, discovery};
use bartizan_authority::oauth::Form;
use bartizan_base::{Clock as _, Name};
use bartizan_cli::login::Loopback;
use bartizan_cli::{ExitCode, Global, TryArgs};
use bartizan_model::{OutsideAuthentication, PrincipalId, Tenant};
use bartizan_rt::{SystemClock, SystemRandom};
use bartizan_secret::Secret;
use bartizan_upstream::{Credentials, Released, Settings, SystemResolver, Upstreams};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use serde_json::{Value, json};

use crate::commands::Failure;
use crate::connection_commands::came_back;

/// How often somebody is asked, at most: a server that is never satisfied is given up.
const ASKED_MAX: usize = 3;
/// The last revision of MCP with sessions, and the one without, which is spoken where the former is refused.
const WITH_SESSIONS: &str = "2025-11-25";
const STATELESS: &str = "2026-07-28";

pub(crate) fn run(_: &Global, args: &TryArgs) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Trial::new(args)?.run().await })?;
    Ok(ExitCode::Ok)
}

#[derive(Debug)]
struct NoCredentials;

impl Credentials for NoCredentials {
    fn credential(&self, _: &Tenant, _: &Name) -> Option<Secret<String>> {
        None
    }
}

struct Trial<'a> {
    args: &'a TryArgs,
    upstreams: Upstreams,
    clock: SystemClock,
    random: SystemRandom,
    waiting: Loopback,
    /// What we are, by issuer: what one server gave us is never shown to another.
    clients: BTreeMap<String, OurClient>,
    scopes: BTreeSet<String>,
    token: Option<Released>,
    asked: usize,
    session: Option<HeaderValue>,
    revision: &'static str,
    next_id: u64,
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::new(ExitCode::Failed, error.to_string())
    }
}

impl<'a> Trial<'a> {
    fn new(args: &'a TryArgs) -> Result<Self, Failure> {
        let settings = Settings {
            extra_roots: Vec::new(),
            resolver: Arc::new(SystemResolver),
            credentials: Arc::new(NoCredentials),
            clock: Arc::new(SystemClock::new()),
        };
        let upstreams = Upstreams::new(settings).map_err(|e| Failure::of(ExitCode::Failed, &e))?;
        Ok(Self {
            args,
            upstreams,
            clock: SystemClock::new(),
            random: SystemRandom::new(),
            waiting: Loopback::new()?,
            clients: BTreeMap::new(),
            scopes: BTreeSet::new(),
            token: None,
            asked: 0,
            session: None,
            revision: WITH_SESSIONS,
            next_id: 1,
        })
    }

    async fn run(&mut self) -> Result<(), Failure> {
        let about = json!({"protocolVersion": WITH_SESSIONS, "capabilities": {}, "clientInfo": ourselves()});
        let began = self.call("initialize", Some(about)).await;
        if self.revision == WITH_SESSIONS {
            began?;
            self.notify("notifications/initialized").await?;
        }
        let listed = self.call("tools/list", None).await?;
        let tools = listed.pointer("/tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut out = std::io::stdout();
        for tool in tools {
            writeln!(out, "{}", tool.pointer("/name").and_then(Value::as_str).unwrap_or_default())?;
        }
        if let Some(name) = &self.args.call {
            let result = self.call("tools/call", Some(json!({"name": name, "arguments": {}}))).await?;
            writeln!(out, "{result}")?;
        }
        Ok(())
    }

    async fn call(&mut self, method: &str, params: Option<Value>) -> Result<Value, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let mut message = json!({"jsonrpc": "2.0", "id": id, "method": method});
        let mut params = params.unwrap_or_else(|| json!({}));
        if let Some(members) = params.as_object_mut().filter(|_| self.revision == STATELESS) {
            let about = json!({
                "io.modelcontextprotocol/protocolVersion": STATELESS,
                "io.modelcontextprotocol/clientInfo": ourselves(),
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            members.insert("_meta".to_owned(), about);
        }
        if let Some(members) = message.as_object_mut() {
            members.insert("params".to_owned(), params);
        }
        let answer = self.send(&message).await?;
        let message = result(&answer, id).ok_or_else(|| {
            Failure::new(ExitCode::Failed, format!("`{method}` was not answered in JSON-RPC"))
        })?;
        if let Some(error) = message.pointer("/error/message").and_then(Value::as_str) {
            return Err(Failure::new(ExitCode::Failed, format!("`{method}`: {error}")));
        }
        Ok(message.pointer("/result").cloned().unwrap_or_default())
    }

    async fn notify(&mut self, method: &str) -> Result<(), Failure> {
        self.send(&json!({"jsonrpc": "2.0", "method": method})).await.map(drop)
    }

    /// Sends one message, getting a token, or a better one, where the server asks for it.
    async fn send(&mut self, message: &Value) -> Result<Response<Bytes>, Failure> {
        loop {
            let answer = self.once(message).await?;
            let status = answer.status().as_u16();
            let challenge = Challenge::of(answer.headers());
            let wanted = match (status, challenge) {
                (401, challenge) => challenge.unwrap_or_default(),
                // More is asked for only where the server says that scopes are what is missing.
                (403, Some(challenge)) if challenge.insufficient => challenge,
                (200..300, _) => {
                    if let Some(session) = answer.headers().get("mcp-session-id") {
                        self.session = Some(session.clone());
                    }
                    return Ok(answer);
                }
                // Whoever knows no sessions does not know how they begin.
                (400, _) if self.revision == WITH_SESSIONS => {
                    self.revision = STATELESS;
                    return Ok(answer);
                }
                _ => {
                    return Err(Failure::new(ExitCode::Failed, format!("the tool server answered {status}")));
                }
            };
            if self.asked == ASKED_MAX {
                return Err(Failure::new(ExitCode::Denied, "the tool server is not satisfied by any token"));
            }
            self.asked += 1;
            self.authorize(&wanted).await?;
        }
    }

    async fn once(&self, message: &Value) -> Result<Response<Bytes>, Failure> {
        let mut request = Request::post(&self.args.url)
            .body(Bytes::from(message.to_string()))
            .map_err(|_| Failure::usage(format!("`{}` is not an address", self.args.url)))?;
        let headers: &mut HeaderMap = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers
            .insert(HeaderName::from_static("mcp-protocol-version"), HeaderValue::from_static(self.revision));
        if self.revision == STATELESS {
            for (header, pointer) in [("mcp-method", "/method"), ("mcp-name", "/params/name")] {
                let value = message.pointer(pointer).and_then(Value::as_str);
                if let Some(value) = value.and_then(|text| HeaderValue::from_str(text).ok()) {
                    headers.insert(HeaderName::from_static(header), value);
                }
            }
        }
        if let Some(session) = &self.session {
            headers.insert(HeaderName::from_static("mcp-session-id"), session.clone());
        }
        let private = self.args.allow_private;
        match &self.token {
            None => Ok(Outside::exchange(&self.upstreams, request, private).await?),
            Some(token) => {
                self.upstreams.connected(token, request).await.map_err(|e| Failure::of(ExitCode::Failed, &e))
            }
        }
    }

    async fn authorize(&mut self, challenge: &Challenge) -> Result<(), Failure> {
        let private = self.args.allow_private;
        let outside: &dyn Outside = &self.upstreams;
        // Asked anew each time: the resource may have moved to another issuer.
        let resource = discovery::resource(outside, &self.args.url, Some(challenge), None, private).await?;
        let server = discovery::server(outside, &resource.issuer, private).await?;
        let client = match self.clients.get(&server.issuer) {
            Some(client) => client.clone(),
            None => self.client(&server).await?,
        };
        self.clients.insert(server.issuer.clone(), client.clone());
        let declared = self.args.scopes.iter().cloned().collect();
        let offline = server.offline;
        let scopes =
            flow::scopes_to_ask(&declared, &challenge.scopes, &resource.scopes, &self.scopes, None, offline);
        let sent = Sent {
            server,
            client_id: client.id.clone(),
            redirect: self.waiting.address.clone(),
            resource: resource.identifier,
            scopes,
        };
        let secrets = FlowSecrets::new(&self.random);
        let address = flow::authorization_address(&sent, &secrets);
        let answer = if self.args.follow { self.followed(&address).await? } else { self.opened(&address)? };
        let answer = Form::parse(answer.as_bytes()).map_err(|e| Failure::of(ExitCode::Failed, &e))?;
        let code = flow::answered(&sent, secrets.state.expose(), &answer)?;
        let now = self.clock.now();
        let bounds = (private, now);
        let tokens = flow::redeem(&self.upstreams, &sent, &client, &code, &secrets.verifier, bounds).await?;
        self.take(&sent, tokens)
    }

    fn take(&mut self, sent: &Sent, tokens: Tokens) -> Result<(), Failure> {
        self.scopes.extend(sent.scopes.iter().cloned());
        let now = self.clock.now();
        let nobody = PrincipalId::new(now, &self.random);
        let private = self.args.allow_private;
        self.token = Released::new(tokens.access, &self.args.url, private, (nobody, None), now);
        if self.token.is_none() {
            return Err(Failure::usage(format!("`{}` is not an address to send a token to", self.args.url)));
        }
        Ok(())
    }

    async fn client(&self, server: &discovery::Server) -> Result<OurClient, Failure> {
        if let Some(id) = &self.args.client_id {
            let secret = self.args.client_secret_file.as_ref().map(std::fs::read_to_string).transpose()?;
            let secret = secret.map(|text| Secret::new(text.trim().to_owned()));
            let knows = |method: &str| server.authentication.contains(method);
            let authentication = match &secret {
                None => OutsideAuthentication::None,
                Some(_) if knows("client_secret_post") && !knows("client_secret_basic") => {
                    OutsideAuthentication::ClientSecretPost
                }
                Some(_) => OutsideAuthentication::ClientSecretBasic,
            };
            return Ok(OurClient { id: id.clone(), authentication, secret });
        }
        if let Some(document) = self.args.client_document.as_ref().filter(|_| server.takes_documents) {
            let authentication = OutsideAuthentication::None;
            return Ok(OurClient { id: document.clone(), authentication, secret: None });
        }
        let ours = ("Bartizan", self.waiting.address.as_str());
        Ok(flow::register(&self.upstreams, server, ours, self.args.allow_private).await?)
    }

    /// A person opens it, and the browser comes back here.
    fn opened(&self, address: &str) -> Result<String, Failure> {
        writeln!(
            std::io::stderr(),
            "Open this address and allow what you want to allow there:\n\n  {address}\n"
        )?;
        came_back(&self.waiting)
    }

    /// The server asks nobody and sends the browser back at once.
    async fn followed(&self, address: &str) -> Result<String, Failure> {
        let request = Request::get(address).body(Bytes::new());
        let request = request.map_err(|_| Failure::new(ExitCode::Failed, "an address is not acceptable"))?;
        let answer = Outside::exchange(&self.upstreams, request, self.args.allow_private).await?;
        let location = answer.headers().get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let back = location.strip_prefix(&self.waiting.address).and_then(|rest| rest.strip_prefix('?'));
        back.map(str::to_owned).ok_or_else(|| {
            let said = format!(
                "the authorization server answered {} instead of sending the browser back",
                answer.status()
            );
            Failure::new(ExitCode::Failed, said)
        })
    }
}

fn ourselves() -> Value {
    json!({"name": "bartizan", "version": env!("CARGO_PKG_VERSION")})
}

/// The message that answers `id`, in a body of JSON or of events.
fn result(answer: &Response<Bytes>, id: u64) -> Option<Value> {
    let body = std::str::from_utf8(answer.body()).ok()?;
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if kind.starts_with("text/event-stream") {
        let data = body.lines().filter_map(|line| line.strip_prefix("data:"));
        let mut messages = data.filter_map(|text| serde_json::from_str::<Value>(text.trim()).ok());
        return messages.find(|m| m.pointer("/id") == Some(&json!(id)));
    }
    serde_json::from_str(body).ok()
}
