//! A hostile child, really run, really kept apart.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use bartizan_rt::{SystemClock, Tasks};
use bartizan_secret::Secret;
use bartizan_upstream::Credentials;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::command::{Bounds, CommandSpec};
use crate::isolation::{Isolation, Unavailable};

const OUTSIDE: u32 = 65_534;
const SEALED: &str = "the-sealed-credential";

#[derive(Debug)]
struct Sealed;

impl Credentials for Sealed {
    fn credential(&self, tenant: &Tenant, name: &Name) -> Option<Secret<String>> {
        let known = *tenant == Tenant::default_tenant() && name.as_str() == "token";
        known.then(|| Secret::new(SEALED.to_owned()))
    }
}

/// A house of children in a folder of its own.
struct World {
    folder: TempDir,
    children: Arc<Children>,
    tasks: Tasks,
    /// Stands in the arguments of every child, so that what is left of one can be found.
    mark: String,
}

fn hostile(mark: &str) -> CommandSpec {
    CommandSpec {
        program: "/usr/bin/python3".into(),
        arguments: ["-c", include_str!("hostile.py"), mark].map(str::to_owned).into(),
        environment: BTreeMap::new(),
        folder: None,
        readable: Vec::new(),
        network: false,
        bounds: Bounds {
            memory_megabytes: 256,
            processes: 16,
            open_files: 64,
            file_megabytes: 4,
            ..Bounds::default()
        },
    }
}

fn totals() -> Totals {
    Totals { patience: Duration::from_secs(20), bytes_max: 1 << 20, ..Totals::default() }
}

impl World {
    fn new() -> Self {
        Self::with(totals(), |_, _| {})
    }

    fn with(totals: Totals, change: impl FnOnce(&mut CommandSpec, &Path)) -> Self {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (data, work) = (folder.path().join("data"), folder.path().join("work"));
        for path in [&data, &work] {
            fs::create_dir(path).unwrap();
        }
        fs::write(data.join("key"), "the key of the house").unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&work, Some(OUTSIDE), Some(OUTSIDE)).unwrap();
        }
        let mark = format!("mark-{}-{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let mut spec = hostile(&mark);
        change(&mut spec, folder.path());
        let isolation = Isolation::find(OUTSIDE);
        assert!(
            isolation.is_ok(),
            "these tests need isolation (`apt-get install bubblewrap`): {isolation:?}"
        );
        let tasks = Tasks::new();
        let children = Children::open(Settings {
            commands: [(Name::literal("hostile"), spec)].into(),
            hidden: vec![data],
            isolation,
            credentials: Arc::new(Sealed),
            clock: Arc::new(SystemClock::new()),
            tasks: tasks.clone(),
            totals,
        });
        Self { folder, children: children.unwrap(), tasks, mark }
    }

    async fn ask(&self, who: Who, tool: &str, arguments: Value) -> Result<Value, ReasonCode> {
        let message = json!({"jsonrpc": "2.0", "id": "mine", "method": "tools/call",
            "params": {"name": tool, "arguments": arguments}});
        let told = self.say(who, &message).await?;
        let answer = told.last().ok_or(ReasonCode::Internal)?;
        assert_eq!(answer["id"], "mine");
        Ok(answer["result"]["value"].clone())
    }

    /// Everything that comes back.
    async fn say(&self, who: Who, message: &Value) -> Result<Vec<Value>, ReasonCode> {
        let tenant = Tenant(Name::literal(who.tenant));
        let message = message.to_string().into();
        let served = served(who.keeps_state);
        let mut messages = self.children.converse(&tenant, served, Digest::of(who.session), message).await?;
        let mut out = Vec::new();
        while let Some(next) = messages.next().await {
            out.push(serde_json::from_slice(&next.map_err(Broken::reason)?).unwrap());
        }
        Ok(out)
    }

    /// Processes of this world that are on the machine, and zombies of ours.
    fn left(&self) -> Vec<String> {
        left(&self.mark)
    }

    async fn nothing_left(&self) {
        for _ in 0..100 {
            if self.left().is_empty() && self.children.running() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("still there: {:?}, counted: {}", self.left(), self.children.running());
    }
}

/// Processes with this in their arguments, and zombies of ours.
fn left(mark: &str) -> Vec<String> {
    let mut out = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let text = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let fields = text("stat");
        let after = fields.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
        let zombie = after
            .is_some_and(|f| f.first() == Some(&"Z") && f.get(1) == Some(&&*std::process::id().to_string()));
        if text("cmdline").contains(mark) {
            out.push(fields.clone());
        }
        // Other tests of this process may have one for a moment; only what stays counts.
        if zombie && text("stat").contains("bwrap") {
            out.push(fields);
        }
    }
    out
}

#[derive(Clone, Copy)]
struct Who {
    tenant: &'static str,
    session: &'static [u8],
    keeps_state: bool,
}

const ALICE: Who = Who { tenant: "default", session: b"alice", keeps_state: true };
const BOB: Who = Who { session: b"bob", ..ALICE };
const SHARED: Who = Who { keeps_state: false, ..ALICE };

fn served(keeps_state: bool) -> Served<'static> {
    static NAMES: [std::sync::LazyLock<Name>; 2] = [
        std::sync::LazyLock::new(|| Name::literal("server")),
        std::sync::LazyLock::new(|| Name::literal("hostile")),
    ];
    let [server, command] = &NAMES;
    Served { server, command, keeps_state }
}

fn failed(told: &Value) -> bool {
    told.get("failed").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_sees_and_writes_nothing_but_its_own_folder() {
    let world = World::with(totals(), |spec, folder| {
        spec.folder = Some(folder.join("work"));
        spec.readable = vec!["/etc/hostname".into()];
    });
    let (data, work) = (world.folder.path().join("data"), world.folder.path().join("work"));
    let at = |path: &Path| json!(path);
    for path in [&data.join("key"), Path::new("/etc/shadow"), Path::new("/etc/passwd"), Path::new("/root")] {
        assert!(failed(&world.ask(ALICE, "read", at(path)).await.unwrap()), "{}", path.display());
    }
    assert!(failed(&world.ask(ALICE, "list", at(&data)).await.unwrap()));
    let seen = world.ask(ALICE, "list", at(world.folder.path())).await.unwrap();
    assert_eq!(seen["done"], json!(["work"]), "the data folder is not even there");
    for path in ["/usr/x", "/etc/x", "/x", "/etc/hostname", "/proc/sys/kernel/hostname", "/usr/bin/python3"] {
        assert!(failed(&world.ask(ALICE, "write", json!(path)).await.unwrap()), "{path}");
    }
    // What lies in `/tmp` lies in its own.
    world.ask(ALICE, "write", at(&world.folder.path().join("x"))).await.unwrap();
    assert!(!world.folder.path().join("x").exists());
    assert_eq!(world.ask(ALICE, "write", at(&work.join("x"))).await.unwrap()["done"], true);
    assert_eq!(fs::read_to_string(work.join("x")).unwrap(), "was here");
    assert!(!failed(&world.ask(ALICE, "read", json!("/etc/hostname")).await.unwrap()));
    // What it writes elsewhere is its own and gone with it.
    assert_eq!(world.ask(ALICE, "write", json!("/tmp/of-the-child")).await.unwrap()["done"], true);
    assert!(!Path::new("/tmp/of-the-child").exists());
    assert!(failed(&world.ask(BOB, "read", json!("/tmp/of-the-child")).await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_nobody_and_cannot_become_somebody() {
    let world = World::new();
    let told = world.ask(ALICE, "identity", json!(null)).await.unwrap()["done"].clone();
    assert_eq!((&told[0], &told[1], &told[2]), (&json!(OUTSIDE), &json!(OUTSIDE), &json!(OUTSIDE)));
    assert!(told[3].as_array().unwrap().iter().all(|group| group != 0), "{told}");
    let status = world.ask(ALICE, "read", json!("/proc/self/status")).await.unwrap();
    assert!(status["done"].as_str().unwrap().contains("Name:"));
    for (tool, what) in [("namespace", "a user namespace"), ("mount", "a mount")] {
        assert_ne!(world.ask(ALICE, tool, json!(null)).await.unwrap()["done"], 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_sees_no_process_but_its_own_and_kills_none() {
    let world = World::new();
    let told = world.ask(ALICE, "processes", json!(null)).await.unwrap()["done"].clone();
    let seen = told.as_object().unwrap();
    assert!(seen.len() <= 3, "{told}");
    let ours = json!(std::process::id());
    assert!(!seen.contains_key(&ours.to_string()) || std::process::id() <= 3);
    assert!(failed(&world.ask(ALICE, "kill", ours).await.unwrap()));
    assert!(failed(
        &world.ask(ALICE, "read", json!(format!("/proc/{}/environ", std::process::id()))).await.unwrap()
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_has_no_network_unless_it_is_granted() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"reached").await.unwrap();
        }
    });
    let closed = World::new();
    for address in [json!(["127.0.0.1", port]), json!(["169.254.169.254", 80]), json!(["1.1.1.1", 53])] {
        assert!(failed(&closed.ask(ALICE, "connect", address.clone()).await.unwrap()), "{address}");
    }
    let open = World::with(totals(), |spec, _| spec.network = true);
    assert_eq!(open.ask(ALICE, "connect", json!(["127.0.0.1", port])).await.unwrap()["done"], "reached");
    answering.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_cleared_and_only_the_first_three_descriptors_are_open() {
    let world = World::with(totals(), |spec, folder| {
        fs::write(folder.join("secret"), "from-a-file\n").unwrap();
        let from_file = format!("file:{}", folder.join("secret").display());
        let variables = [("PLAIN", "text:x y"), ("TOKEN", "credential:token"), ("FILE", &from_file)];
        spec.environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    });
    let told = world.ask(ALICE, "environment", json!(null)).await.unwrap()["done"].clone();
    let names: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
    // Two are of the programs around it: `PWD`, and `SHLVL` where inherited descriptors had to be closed.
    let known = ["FILE", "HOME", "LANG", "LC_CTYPE", "PATH", "PLAIN", "PWD", "SHLVL", "TMPDIR", "TOKEN"];
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
    assert_eq!(
        (&told["PLAIN"], &told["TOKEN"], &told["FILE"]),
        (&json!("x y"), &json!(SEALED), &json!("from-a-file"))
    );
    let open = world.ask(ALICE, "list", json!("/proc/self/fd")).await.unwrap()["done"].clone();
    // The fourth is the folder that is being listed.
    assert_eq!(open, json!(["0", "1", "2", "3"]));
    // Another tenant has not that credential; its child is not started without.
    let other = Who { tenant: "other", ..ALICE };
    assert_eq!(world.ask(other, "echo", json!(1)).await, Err(ReasonCode::UpstreamUnreachable));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_files_memory_and_disk_are_bounded() {
    let world = World::with(totals(), |spec, folder| spec.folder = Some(folder.join("work")));
    let number = |told: &Value| told["done"].as_u64().unwrap();
    let forks = number(&world.ask(ALICE, "forks", json!(1_000)).await.unwrap());
    assert!((1..16).contains(&forks), "{forks} processes");
    let opens = number(&world.ask(ALICE, "opens", json!(1_000)).await.unwrap());
    assert!((1..64).contains(&opens), "{opens} files");
    let eaten = number(&world.ask(ALICE, "eats", json!(4_096)).await.unwrap());
    assert!((16..256).contains(&eaten), "{eaten} MB");
    let work = world.folder.path().join("work/full");
    assert_eq!(number(&world.ask(ALICE, "fills", json!(work)).await.unwrap()), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_child_started_dies_with_it_also_where_it_left_the_group_and_ignores_signals() {
    let world = World::with(totals(), |spec, folder| spec.folder = Some(folder.join("work")));
    let beat = world.folder.path().join("work/beat");
    assert_eq!(world.ask(ALICE, "heartbeat", json!(beat)).await.unwrap()["done"], true);
    for _ in 0..100 {
        if fs::metadata(&beat).is_ok_and(|m| m.len() > 2) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(fs::metadata(&beat).unwrap().len() > 2, "it beats");
    world.children.end(&Tenant::default_tenant(), served(true), Digest::of(ALICE.session));
    world.nothing_left().await;
    let length = fs::metadata(&beat).unwrap().len();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(fs::metadata(&beat).unwrap().len(), length, "and does not any longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_house_is_the_end_of_every_child_without_zombies() {
    let world = World::new();
    for (who, tool) in [(ALICE, "echo"), (BOB, "echo"), (SHARED, "echo")] {
        world.ask(who, tool, json!("x")).await.unwrap();
    }
    assert_eq!((world.children.running(), world.left().is_empty()), (3, false));
    assert!(world.tasks.finish(Duration::from_secs(20)).await, "every task ends");
    world.nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_writes_rubbish_a_line_without_end_or_a_flood_is_ended() {
    for (tool, about) in [("rubbish", json!(null)), ("long", json!(8 << 20)), ("floods", json!(null))] {
        let world = World::with(Totals { patience: Duration::from_secs(60), ..totals() }, |_, _| {});
        assert_eq!(world.ask(ALICE, tool, about).await, Err(ReasonCode::UpstreamInvalid), "{tool}");
        world.nothing_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_never_answers_is_ended_and_whoever_waits_is_told() {
    let world = World::with(Totals { patience: Duration::from_millis(1_500), ..totals() }, |_, _| {});
    world.ask(ALICE, "echo", json!(1)).await.unwrap();
    // It has answered before, so its first silence only ends the call; the second ends it.
    assert_eq!(world.ask(ALICE, "sleeps", json!(null)).await, Err(ReasonCode::UpstreamTimeout));
    assert_eq!(world.ask(ALICE, "echo", json!(1)).await, Err(ReasonCode::UpstreamTimeout));
    world.nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_does_not_answer_the_greeting_is_ended_and_not_started_again_at_once() {
    let start = Duration::from_millis(1_500);
    let world = World::with(Totals { start, ..totals() }, |spec, _| spec.arguments.push("--deaf".to_owned()));
    assert_eq!(world.ask(ALICE, "echo", json!(1)).await, Err(ReasonCode::UpstreamTimeout));
    // Nor for another session: it would go the same way.
    assert_eq!(world.ask(BOB, "echo", json!(1)).await, Err(ReasonCode::UpstreamUnreachable));
    world.nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_ends_is_started_again_with_the_same_greeting_but_not_at_once() {
    let world = World::new();
    let greeting = json!({"jsonrpc": "2.0", "id": 9, "method": "initialize", "params": {"protocolVersion": "2025-06-18",
        "capabilities": {"elicitation": {}}, "clientInfo": {"name": "mine", "version": "1"}}});
    let hello = world.say(ALICE, &greeting).await.unwrap();
    assert_eq!((&hello[0]["id"], &hello[0]["result"]["serverInfo"]["name"]), (&json!(9), &json!("hostile")));
    assert_eq!(world.ask(ALICE, "exits", json!(null)).await, Err(ReasonCode::UpstreamTruncated));
    assert_eq!(world.ask(ALICE, "kept", json!(null)).await, Err(ReasonCode::UpstreamUnreachable), "too soon");
    let kept = loop {
        match world.ask(ALICE, "kept", json!(null)).await {
            Ok(kept) => break kept,
            Err(reason) => assert_eq!(reason, ReasonCode::UpstreamUnreachable),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(kept, json!({"calls": 1, "greeting": greeting["params"]}), "a new one, greeted as the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_session_has_a_child_of_its_own_unless_the_server_keeps_no_state() {
    let world = World::new();
    for _ in 0..2 {
        world.ask(ALICE, "echo", json!(1)).await.unwrap();
    }
    let [alice, bob] =
        [world.ask(ALICE, "kept", json!(1)).await.unwrap(), world.ask(BOB, "kept", json!(1)).await.unwrap()];
    assert_eq!((&alice["calls"], &bob["calls"]), (&json!(3), &json!(1)));
    let other = Who { session: b"carol", ..SHARED };
    world.ask(SHARED, "echo", json!(1)).await.unwrap();
    assert_eq!(world.ask(other, "kept", json!(1)).await.unwrap()["calls"], 2, "one for both");
    // Another tenant never shares it.
    let elsewhere = Who { tenant: "other", ..SHARED };
    assert_eq!(world.ask(elsewhere, "kept", json!(1)).await.unwrap()["calls"], 1);
    assert_eq!(world.children.running(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_of_one_child_each_get_their_own_answer_also_from_one_that_steals() {
    let world = World::new();
    let world = &world;
    let sessions: [&'static [u8]; 8] = [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"];
    let asked =
        sessions.iter().enumerate().flat_map(|(n, session)| (0..10).map(move |m| (n * 100 + m, *session)));
    let asked = asked.map(|(n, session)| async move {
        (n, world.ask(Who { session, ..SHARED }, "echo", json!(n)).await.unwrap()["done"].clone())
    });
    for (n, told) in futures_util::future::join_all(asked).await {
        assert_eq!(told, json!(n));
    }
    assert_eq!(world.children.running(), 1);
    // Answers under numbers that nobody asked under reach nobody.
    assert_eq!(world.ask(SHARED, "steals", json!(null)).await.unwrap(), true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_a_bounded_number_of_children_and_an_idle_one_makes_room() {
    let world = World::with(Totals { of_tenant_max: 2, children_max: 3, ..totals() }, |_, _| {});
    let sessions: [&'static [u8]; 4] = [b"0", b"1", b"2", b"3"];
    for session in sessions {
        world.ask(Who { session, ..ALICE }, "echo", json!(1)).await.unwrap();
        assert!(world.children.running() <= 2);
    }
    // The first was ended for a later one; its session gets a new child that remembers nothing.
    assert_eq!(world.ask(Who { session: b"0", ..ALICE }, "kept", json!(1)).await.unwrap()["calls"], 1);
    // One that is in use makes no room.
    let world = World::with(Totals { of_tenant_max: 1, ..totals() }, |_, _| {});
    world.ask(ALICE, "echo", json!(1)).await.unwrap();
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "sleeps"}});
    let (tenant, alice) = (Tenant::default_tenant(), Digest::of(ALICE.session));
    let open =
        world.children.converse(&tenant, served(true), alice, message.to_string().into()).await.unwrap();
    assert_eq!(world.ask(BOB, "echo", json!(1)).await, Err(ReasonCode::Busy));
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_nobody_asks_is_ended_by_the_sweep() {
    let world = World::with(Totals { idle: Duration::ZERO, ..totals() }, |_, _| {});
    world.ask(ALICE, "echo", json!(1)).await.unwrap();
    world.children.sweep();
    world.nothing_left().await;
    world.children.sweep();
    assert!(held(&world.children.slots).is_empty(), "and forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn lesson_litellm_cve_2026_42271_only_commands_of_the_configuration_are_run() {
    let world = World::new();
    let (server, command) = (Name::literal("server"), Name::literal("other"));
    let served = Served { server: &server, command: &command, keeps_state: true };
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "echo", "command": "/bin/sh", "args": ["-c", "id"]}});
    let tenant = Tenant::default_tenant();
    let asked = world.children.converse(&tenant, served, Digest::of(b"s"), message.to_string().into());
    assert_eq!(asked.await.unwrap_err(), ReasonCode::CommandUnknown);
    assert_eq!(world.children.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_children_cannot_be_kept_apart_none_is_started() {
    let tasks = Tasks::new();
    let children = Children::open(Settings {
        commands: [(Name::literal("hostile"), hostile("never"))].into(),
        hidden: Vec::new(),
        isolation: Err(Unavailable::Missing("bwrap", "bubblewrap")),
        credentials: Arc::new(Sealed),
        clock: Arc::new(SystemClock::new()),
        tasks,
        totals: totals(),
    })
    .unwrap();
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string().into();
    let asked = children.converse(&Tenant::default_tenant(), served(true), Digest::of(b"s"), message).await;
    assert_eq!(asked.unwrap_err(), ReasonCode::IsolationUnavailable);
}

/// What is killed by the test below.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a process of its own, which is killed"]
#[expect(clippy::disallowed_methods, reason = "the one that kills it says by which mark it knows the child")]
async fn victim() {
    let Ok(mark) = std::env::var("BARTIZAN_TEST_MARK") else { return };
    let world = World::with(totals(), |spec, _| spec.arguments.push(mark));
    world.ask(ALICE, "echo", json!(1)).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_die_with_a_house_that_is_killed() {
    let mark = format!("killed-{}", std::process::id());
    let mut house = std::process::Command::new(std::env::current_exe().unwrap());
    house.args(["children::tests::victim", "--exact", "--ignored"]).env("BARTIZAN_TEST_MARK", &mark);
    let mut house = house.stdout(std::process::Stdio::null()).spawn().unwrap();
    let until = async |there: bool| {
        for _ in 0..200 {
            if left(&mark).is_empty() != there {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("children are there: {}", !there);
    };
    until(true).await;
    house.kill().unwrap();
    house.wait().unwrap();
    until(false).await;
}
