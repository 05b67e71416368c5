//! Servers as people run them, from npm: `tests/outside/children.py` installs them and says where they are.
//!
//! `BARTIZAN_TEST_MCP` names the folder with `node_modules`. Without it these tests have nothing to run, so they are ignored and
//! asked for by name.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::ground::{Ground, Nothing};
use bartizan_base::{Digest, Name};
use bartizan_child::{Bounds, Children, CommandSpec, Isolation, Served, Settings, Totals};
use bartizan_model::Target;
use bartizan_record::Ended;
use bartizan_rt::{SystemClock, Tasks};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

struct Real {
    ground: Ground,
    tasks: Tasks,
    children: Arc<Children>,
    shared: bool,
}

#[expect(clippy::disallowed_methods, reason = "where the packages are is the environment's word")]
fn packages() -> PathBuf {
    PathBuf::from(std::env::var("BARTIZAN_TEST_MCP").unwrap()).canonicalize().unwrap()
}

impl Real {
    async fn start(package: &str, arguments: &[&str], folder: Option<&Path>, shared: bool) -> Self {
        let packages = packages();
        let program = packages.join("node_modules/@modelcontextprotocol").join(package).join("dist/index.js");
        assert!(program.is_file(), "{}", program.display());
        let arguments = std::iter::once(program.to_str().unwrap()).chain(arguments.iter().copied());
        let spec = CommandSpec {
            program: "/usr/bin/node".into(),
            arguments: arguments.map(str::to_owned).collect(),
            environment: BTreeMap::new(),
            folder: folder.map(Path::to_owned),
            readable: vec![packages],
            network: false,
            bounds: Bounds::default(),
        };
        let tasks = Tasks::new();
        let settings = Settings {
            commands: [(Name::literal("real"), spec)].into(),
            hidden: Vec::new(),
            isolation: Isolation::find(65_534),
            credentials: Arc::new(Nothing),
            clock: Arc::new(SystemClock::new()),
            tasks: tasks.clone(),
            totals: Totals::default(),
        };
        Self { ground: Ground::new().await, tasks, children: Children::open(settings).unwrap(), shared }
    }

    /// Everything that comes back to a message, the answer last.
    async fn say(&self, session: &[u8], message: Value) -> Vec<Value> {
        let (server, command) = (Name::literal("server"), Name::literal("real"));
        let served = Served { server: &server, command: &command, keeps_state: !self.shared };
        let message = bytes::Bytes::from(message.to_string());
        let target = Target::Direct { name: server.clone(), body: Digest::of(&message) };
        let intent = self.ground.intent(target).await;
        let exchanged = self.children.exchange(intent, served, Digest::of(session), message).await;
        let mut conversation = exchanged.unwrap();
        let mut out = Vec::new();
        while let Some(next) = conversation.messages.next().await {
            out.push(serde_json::from_slice(&next.unwrap()).unwrap());
        }
        conversation.running.finish(Ended::default());
        out
    }

    async fn call(&self, session: &[u8], tool: &str, arguments: Value) -> Vec<Value> {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}});
        self.say(session, json!({"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": params}))
            .await
    }
}

fn text(told: &[Value]) -> &str {
    told.last().unwrap()["result"]["content"][0]["text"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs packages from npm: tests/outside/children.py"]
async fn the_everything_server_is_listed_called_and_reports_its_progress() {
    let real = Real::start("server-everything", &["stdio"], None, false).await;
    let listed = real.say(b"a", json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    let tools = listed.last().unwrap()["result"]["tools"].as_array().unwrap();
    let named = |name: &str| tools.iter().any(|tool| tool["name"] == name);
    assert!(named("echo") && named("trigger-long-running-operation"), "{tools:?}");
    assert_eq!(text(&real.call(b"a", "echo", json!({"message": "hello"})).await), "Echo: hello");
    let long = real.call(b"a", "trigger-long-running-operation", json!({"duration": 1, "steps": 4})).await;
    let progress: Vec<_> = long.iter().filter(|m| m["method"] == "notifications/progress").collect();
    assert_eq!(progress.len(), 4, "{long:?}");
    assert!(progress.iter().all(|m| m["params"]["progressToken"] == "p"));
    assert_eq!(long.last().unwrap()["id"], "c");
    // What it sees of its environment is what we gave it.
    let seen = real.call(b"a", "get-env", json!({})).await;
    let seen: Value = serde_json::from_str(text(&seen)).unwrap();
    let known = ["HOME", "LANG", "PATH", "PWD", "SHLVL", "TMPDIR"];
    assert!(seen.as_object().unwrap().keys().all(|name| known.contains(&name.as_str())), "{seen}");
    // Two at once, in two sessions and in one.
    let (one, two, three) = tokio::join!(
        real.call(b"a", "echo", json!({"message": "1"})),
        real.call(b"a", "echo", json!({"message": "2"})),
        real.call(b"b", "echo", json!({"message": "3"})),
    );
    assert_eq!([text(&one), text(&two), text(&three)], ["Echo: 1", "Echo: 2", "Echo: 3"]);
    assert_eq!(real.children.running(), 2);
    assert!(real.tasks.finish(Duration::from_secs(20)).await);
    assert_eq!(real.children.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs packages from npm: tests/outside/children.py"]
async fn the_filesystem_server_reads_and_writes_its_folder_and_is_kept_from_the_rest() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("files");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(outside.path().join("secret"), "not for the child").unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&folder, Some(65_534), Some(65_534)).unwrap();
    }
    // Told that it may go everywhere, it still goes nowhere else.
    let arguments = [folder.to_str().unwrap(), "/"];
    let real = Real::start("server-filesystem", &arguments, Some(&folder), true).await;
    let file = folder.join("a.txt");
    real.call(b"a", "write_file", json!({"path": file, "content": "written"})).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "written");
    assert_eq!(text(&real.call(b"b", "read_text_file", json!({"path": file})).await), "written");
    for path in [outside.path().join("secret").as_path(), Path::new("/etc/shadow"), Path::new("/root")] {
        let told = real.call(b"a", "read_text_file", json!({"path": path})).await;
        assert_eq!(told.last().unwrap()["result"]["isError"], true, "{}: {told:?}", path.display());
    }
    let told = real.call(b"a", "write_file", json!({"path": "/usr/x", "content": "x"})).await;
    assert_eq!(told.last().unwrap()["result"]["isError"], true, "{told:?}");
    assert_eq!(real.children.running(), 1, "shared");
}
