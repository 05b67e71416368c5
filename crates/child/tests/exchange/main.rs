//! Through the waist: what is recorded is what a server gets, and nothing else.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod ground;
mod old_server;
mod real;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Digest, Name};
use bartizan_child::{
    Bounds, Broken, Children, CommandSpec, Conversation, Isolation, OldServers, Served, Settings, Totals,
};
use bartizan_model::action::ToolCall;
use bartizan_model::directory::UpstreamSpec;
use bartizan_model::{ReasonCode, Target};
use bartizan_record::{Ended, IntentRecorded};
use bartizan_rt::{SystemClock, Tasks};
use bartizan_upstream::{Carries, SendError, SystemResolver, Upstreams};
use bytes::Bytes;
use futures_util::StreamExt as _;
use ground::{Ground, Nothing};
use old_server::{Lead, OldServer};
use serde_json::{Value, json};

/// A well-behaved server: says back what it was asked, and how often it was greeted.
const ECHO: &str = r#"
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if "id" in m:
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": {"said": m}}), flush=True)
"#;

fn call(id: &str) -> Bytes {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "echo", "arguments": {"a": 1}}})
        .to_string()
        .into()
}

async fn all(mut conversation: Conversation) -> Result<Vec<Value>, Broken> {
    let mut out = Vec::new();
    while let Some(next) = conversation.messages.next().await {
        out.push(serde_json::from_slice(&next?).unwrap());
    }
    conversation.running.finish(Ended::default());
    Ok(out)
}

fn children(tasks: &Tasks) -> Arc<Children> {
    let spec = CommandSpec {
        program: "/usr/bin/python3".into(),
        arguments: ["-c", ECHO].map(str::to_owned).into(),
        environment: BTreeMap::new(),
        folder: None,
        readable: Vec::new(),
        network: false,
        bounds: Bounds::default(),
    };
    let isolation = Isolation::find(65_534);
    assert!(isolation.is_ok(), "these tests need isolation (`apt-get install bubblewrap`): {isolation:?}");
    Children::open(Settings {
        commands: [(Name::literal("echo"), spec)].into(),
        hidden: Vec::new(),
        isolation,
        credentials: Arc::new(Nothing),
        clock: Arc::new(SystemClock::new()),
        tasks: tasks.clone(),
        totals: Totals::default(),
    })
    .unwrap()
}

fn to_child(message: &Bytes) -> Target {
    Target::Direct { name: Name::literal("server"), body: Digest::of(message) }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_permit_a_child_gets_the_recorded_message_and_no_other() {
    let (ground, tasks) = (Ground::new().await, Tasks::new());
    let children = children(&tasks);
    let (server, command) = (Name::literal("server"), Name::literal("echo"));
    let served = Served { server: &server, command: &command, keeps_state: true };
    let session = Digest::of(b"session");
    let message = call("mine");
    let intent = ground.intent(to_child(&message)).await;
    let told = all(children.exchange(intent, served, session, message.clone()).await.unwrap()).await.unwrap();
    assert_eq!(told[0]["id"], "mine");
    assert_eq!(told[0]["result"]["said"]["params"]["arguments"], json!({"a": 1}));
    for target in [
        to_child(&call("another")),
        Target::Direct { name: Name::literal("other"), body: Digest::of(&message) },
        Target::post(server.clone(), "/".to_owned(), Digest::of(&message)),
        Target::House,
    ] {
        let intent = ground.intent(target).await;
        let SendError { reason, .. } =
            children.exchange(intent, served, session, message.clone()).await.unwrap_err();
        assert_eq!(reason, ReasonCode::Internal);
    }
    assert!(tasks.finish(Duration::from_secs(20)).await);
}

struct Old {
    ground: Ground,
    tasks: Tasks,
    servers: Arc<OldServers>,
    spec: UpstreamSpec,
}

impl Old {
    async fn reach(address: &str) -> Self {
        let (ground, tasks) = (Ground::new().await, Tasks::new());
        let settings = bartizan_upstream::Settings {
            extra_roots: Vec::new(),
            resolver: Arc::new(SystemResolver),
            credentials: Arc::new(Nothing),
            clock: Arc::new(SystemClock::new()),
        };
        let upstreams = Arc::new(Upstreams::new(settings).unwrap());
        let totals = Totals { start: Duration::from_secs(5), ..Totals::default() };
        let servers = OldServers::new(upstreams, Arc::new(SystemClock::new()), tasks.clone(), totals);
        let spec = json!({"base_url": address, "allow_private": true});
        Self { ground, tasks, servers, spec: serde_json::from_value(spec).unwrap() }
    }

    async fn intent(&self, message: &Bytes) -> IntentRecorded<ToolCall> {
        let (upstream, path) = (Name::literal("old"), "/sse".to_owned());
        self.ground.intent(Target::post(upstream, path, Digest::of(message))).await
    }

    async fn say(&self, session: &[u8], message: Bytes) -> Result<Conversation, SendError> {
        let (intent, about) = (self.intent(&message).await, (Digest::of(session), Carries::Own));
        self.servers.exchange(intent, &self.spec, &Name::literal("old"), about, message).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_is_greeted_once_for_each_session_and_answers_each_its_own() {
    let server = OldServer::start(Lead::Own).await;
    let old = Old::reach(&server.address).await;
    for (session, id) in [(b"a", "1"), (b"a", "2"), (b"b", "1")] {
        let told = all(old.say(session, call(id)).await.unwrap()).await.unwrap();
        assert_eq!((told.len(), &told[0]["id"]), (1, &json!(id)), "{told:?}");
        assert_eq!(told[0]["result"]["said"]["params"]["arguments"], json!({"a": 1}));
        assert_ne!(told[0]["result"]["said"]["id"], json!(id), "under a number of ours");
    }
    let seen = server.seen();
    assert_eq!(seen.iter().filter(|line| line.starts_with("GET /sse ")).count(), 2, "a line each");
    assert_eq!(seen.iter().filter(|line| line.contains(r#""method":"initialize""#)).count(), 2);
    assert!(!seen.iter().any(|line| line.to_lowercase().contains("authorization:")));
    // A client's own greeting on an open line is answered with what the server said.
    let greeting = json!({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": {}}).to_string();
    let told = all(old.say(b"a", greeting.into()).await.unwrap()).await.unwrap();
    assert_eq!(
        (&told[0]["id"], &told[0]["result"]["said"]["method"]),
        (&json!("hello"), &json!("initialize"))
    );
    assert!(old.tasks.finish(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_permit_what_was_not_recorded_is_not_posted() {
    let server = OldServer::start(Lead::Own).await;
    let old = Old::reach(&server.address).await;
    all(old.say(b"a", call("1")).await.unwrap()).await.unwrap();
    let before = server.seen().len();
    let (recorded, other) = (call("2"), call("3"));
    let name = Name::literal("old");
    let about = || (Digest::of(b"a"), Carries::Own);
    let intent = old.intent(&recorded).await;
    let refused = old.servers.exchange(intent, &old.spec, &name, about(), other).await.unwrap_err();
    assert_eq!(refused.reason, ReasonCode::Internal);
    // Another path is another target.
    let (upstream, path) = (name.clone(), "/other".to_owned());
    let intent = old.ground.intent(Target::post(upstream, path, Digest::of(&recorded))).await;
    let refused = old.servers.exchange(intent, &old.spec, &name, about(), recorded).await.unwrap_err();
    assert_eq!(refused.reason, ReasonCode::Internal);
    assert_eq!(server.seen().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_event_leads_to_no_other_origin_and_only_once() {
    let elsewhere = OldServer::start(Lead::Own).await;
    for lead in [Lead::To(format!("{}/messages", elsewhere.address)), Lead::To("//evil.example/m".to_owned())]
    {
        let server = OldServer::start(lead).await;
        let old = Old::reach(&server.address).await;
        let refused = old.say(b"a", call("1")).await.unwrap_err();
        assert_eq!(refused.reason, ReasonCode::EgressForbidden);
    }
    for (lead, reason) in
        [(Lead::None, ReasonCode::UpstreamTimeout), (Lead::MessageFirst, ReasonCode::UpstreamInvalid)]
    {
        let server = OldServer::start(lead).await;
        let old = Old::reach(&server.address).await;
        assert_eq!(old.say(b"a", call("1")).await.unwrap_err().reason, reason);
    }
    // A second address, later, ends the line; nothing is posted to it.
    let server = OldServer::start(Lead::Moves(format!("{}/messages", elsewhere.address))).await;
    let old = Old::reach(&server.address).await;
    let told = match old.say(b"a", call("1")).await {
        Ok(conversation) => all(conversation).await.map_err(Broken::reason),
        Err(error) => Err(error.reason),
    };
    assert_eq!(told, Err(ReasonCode::UpstreamInvalid));
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_at_a_private_address_needs_leave() {
    let server = OldServer::start(Lead::Own).await;
    let mut old = Old::reach(&server.address).await;
    old.spec.allow_private = false;
    assert_eq!(old.say(b"a", call("1")).await.unwrap_err().reason, ReasonCode::EgressForbidden);
    assert!(server.seen().is_empty());
}
