//! The command line as a client of the authority: the real program against a running house, with a person's browser played by a
//! client over HTTP. Numbers are those of the catalogue of attacks.
#![expect(clippy::indexing_slicing, reason = "what the tests share may fail like a test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use super::oauth::Scene;
use super::*;

/// Somebody at a machine of their own: nothing of the tester's environment reaches it.
struct Machine {
    home: tempfile::TempDir,
}

/// A login that waits for its person.
struct Waiting {
    child: Child,
    err: BufReader<ChildStderr>,
}

impl Machine {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.env_clear().env("HOME", self.home.path()).current_dir(self.home.path()).args(arguments);
        command
    }

    /// Runs the program, which must end so, and returns what it printed.
    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> (String, String) {
        told(arguments, &self.command(arguments).output().unwrap(), code)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--output", "json"]].concat(), 0).0).unwrap()
    }

    fn begin(&self, arguments: &[&str]) -> Waiting {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Waiting { child, err }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(".config/bartizan").join(name)
    }

    fn tokens(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.file("tokens/work.json")).unwrap()).unwrap()
    }

    /// Lets the access token be over, as far as the program knows.
    fn outlive(&self) {
        let mut tokens = self.tokens();
        tokens["until_us"] = 0.into();
        std::fs::write(self.file("tokens/work.json"), tokens.to_string()).unwrap();
    }
}

#[track_caller]
fn told(arguments: &[&str], output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
    (out, err)
}

impl Waiting {
    /// The next line that it shows and that begins so, without spaces around it.
    fn line(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.err.read_line(&mut line).unwrap(), 0, "it ended before `{start}`");
            if line.trim().starts_with(start) {
                return line.trim().to_owned();
            }
        }
    }

    #[track_caller]
    fn end(mut self, code: i32) -> (String, String) {
        let mut err = String::new();
        self.err.read_to_string(&mut err).unwrap();
        let output = self.child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{err}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), err)
    }
}

/// The browser comes back to the program: the status of the page that it shows.
fn come_back(address: &str) -> String {
    let (host, path) = address.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// A house that is known by the address it listens at, and its administrator in a browser.
async fn scene() -> (Scene, String) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let issuer = format!("http://{free}");
    let scene = Scene::at(&issuer, "ada", &[("listeners.control", free.to_string())]).await;
    (scene, issuer)
}

/// What the person answers to the login that waits: the address to which the browser is sent back.
async fn answered(scene: &Scene, issuer: &str, waiting: Waiting, word: &str) -> (Waiting, String) {
    let (waiting, address) = blocking(move || {
        let mut waiting = waiting;
        let address = waiting.line("http");
        (waiting, address)
    })
    .await;
    let asked = scene.get(address.strip_prefix(issuer).unwrap()).await;
    assert_eq!(asked.status, 303, "{asked:?}");
    let page = scene.get(asked.location()).await;
    assert!(page.body.contains("Bartizan command line") && page.body.contains("Take care"), "{page:?}");
    (waiting, scene.answer(&asked, word).await.location().to_owned())
}

async fn logged_in(scene: &Scene, issuer: &str) -> Arc<Machine> {
    let machine = Arc::new(Machine::new());
    let waiting = machine.begin(&["login", "--no-browser", "--server", issuer, "--context", "work"]);
    let (waiting, address) = answered(scene, issuer, waiting, "allow").await;
    let out = blocking(move || {
        assert_eq!(come_back(&address), "200");
        waiting.end(0).0
    })
    .await;
    assert!(out.contains("Logged in at") && out.contains("house:change"), "{out}");
    machine
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_logs_in_by_browser_and_commands_go_by_their_bound_token_until_they_log_out() {
    let (scene, issuer) = scene().await;
    let machine = logged_in(&scene, &issuer).await;
    let (own, server) = (machine.clone(), issuer.clone());
    blocking(move || {
        let who = own.json(&["whoami"]);
        assert_eq!(
            (&who["name"], &who["credential"], &who["binding"]),
            (&json!("ada"), &json!("access_token"), &json!("dpop"))
        );
        assert_eq!(
            (&who["server"], &who["context"], &who["tenant"]),
            (&json!(server), &json!("work"), &json!("default"))
        );
        assert_eq!((&who["assurance"], &who["client"]), (&json!(1), &json!("bartizan-cli")));
        assert_eq!(who["scopes"], json!(["content:read", "house:change", "house:read", "self:use"]));
        let shown = own.run(&["whoami"], 0).0;
        assert!(
            shown.starts_with("user/ada in default, assurance 1") && shown.contains("bound (dpop)"),
            "{shown}"
        );
        assert_eq!(own.json(&["whoami", "--json"]), own.json(&["whoami"]));
        // Commands that had only keys before.
        let key = own.json(&["key", "create", "user/alice", "--life", "1h"]);
        assert!(own.run(&["key", "list"], 0).0.contains(key["id"].as_str().unwrap()));
        assert!(
            own.run(&["policy", "explain", "user/alice", "model:invoke", "assistant"], 0)
                .0
                .starts_with("permitted")
        );
        // A key that is said beats the context.
        let mut keyed = own.command(&["whoami", "--json"]);
        keyed.env("BARTIZAN_API_KEY", key["text"].as_str().unwrap());
        let who: Value = serde_json::from_str(&told(&[], &keyed.output().unwrap(), 0).0).unwrap();
        assert_eq!(
            (&who["name"], &who["credential"], &who["server"]),
            (&json!("alice"), &json!("api_key"), &json!(server))
        );
        // Nobody's file but their own.
        for name in ["contexts.toml", "tokens/work.json"] {
            assert_eq!(
                std::fs::metadata(own.file(name)).unwrap().permissions().mode() & 0o777,
                0o600,
                "{name}"
            );
        }
        let token = own.tokens()["access_token"].as_str().unwrap().to_owned();
        assert!(!std::fs::read_to_string(own.file("contexts.toml")).unwrap().contains(&token));
        // attack 31: a copy of the token is nothing without the key.
        let stolen = Client::new(&server, Some(Secret::new(token)));
        assert_eq!(stolen.raw("GET", "/api/v1/whoami", None, &[]).unwrap().0, 401);
    })
    .await;
    let (own, server) = (machine.clone(), issuer.clone());
    blocking(move || {
        // The authority's keys: seen, replaced with overlap, and not twice at a time.
        let before = own.json(&["authority", "keys"]);
        assert_eq!(
            (before.as_array().unwrap().len(), &before[0]["state"]),
            (1, &json!("signing")),
            "{before}"
        );
        let after = own.json(&["authority", "rotate"]);
        let states: Vec<_> =
            after.as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["signing", "published"]);
        assert_eq!(after[0]["ends"], after[1]["signs"], "no moment without one, none with two");
        assert_eq!(after[0]["kid"], before[0]["kid"]);
        let (_, error) = own.run(&["authority", "rotate"], 5);
        assert!(error.contains("error:"), "{error}");
        assert!(own.run(&["authority", "keys"], 0).0.starts_with("THUMBPRINT"));
        assert!(own.run(&["decision", "list"], 0).0.contains("identity:change"));
        let contexts = own.json(&["context", "list"]);
        assert_eq!((&contexts[0]["context"], &contexts[0]["logged_in"]), (&json!("work"), &json!(true)));
        let copy = std::fs::read(own.file("tokens/work.json")).unwrap();
        own.run(&["logout"], 0);
        assert!(!own.file("tokens/work.json").exists());
        assert!(own.run(&["key", "list"], 4).1.contains("bartizan login --context work"));
        // Whoever has kept a copy has nothing: ended at the authority, also what was given with it.
        std::fs::write(own.file("tokens/work.json"), copy).unwrap();
        std::fs::set_permissions(own.file("tokens/work.json"), std::fs::Permissions::from_mode(0o600))
            .unwrap();
        assert!(own.run(&["key", "list"], 4).1.contains("is over"));
        own.run(&["context", "remove", "work"], 0);
        assert_eq!(own.json(&["context", "list"]), json!([]));
        assert!(own.run(&["--control-url", &server, "key", "list"], 4).1.contains("nobody is logged in"));
    })
    .await;
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_14_of_two_commands_that_find_the_token_over_one_refreshes_and_both_go_on() {
    let (scene, issuer) = scene().await;
    let machine = logged_in(&scene, &issuer).await;
    let own = machine.clone();
    blocking(move || {
        let before = own.tokens();
        own.outlive();
        let all: Vec<_> = (0..4)
            .map(|_| own.command(&["whoami"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
            .collect();
        for child in all {
            let (out, _) = told(&["whoami"], &child.wait_with_output().unwrap(), 0);
            assert!(out.starts_with("user/ada"), "{out}");
        }
        let after = own.tokens();
        assert_ne!(before["refresh_token"], after["refresh_token"]);
        assert_ne!(before["access_token"], after["access_token"]);
        assert_eq!(before["key"], after["key"]);
    })
    .await;
    let path = scene.house.folder.path().join("state.db");
    let rotations = blocking(move || {
        let state = rusqlite::Connection::open(path).unwrap();
        let query = "select json_extract(body, '$.rotations') from side_rows where kind = 'refresh'";
        state.query_row(query, (), |row| row.get::<_, u64>(0)).unwrap()
    })
    .await;
    assert_eq!(rotations, 1, "redeemed once");
    let own = machine.clone();
    blocking(move || {
        // What is no private file is not used, and what is said everything of needs none.
        let tokens = own.file("tokens/work.json");
        std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o644)).unwrap();
        let (_, error) = own.run(&["whoami"], 64);
        assert!(error.contains("can be used by others (mode 644)") && error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::set_permissions(own.file("contexts.toml"), std::fs::Permissions::from_mode(0o660)).unwrap();
        assert!(own.run(&["whoami"], 64).1.contains("contexts.toml"));
        std::fs::set_permissions(own.file("contexts.toml"), std::fs::Permissions::from_mode(0o600)).unwrap();
        own.run(&["whoami"], 0);
    })
    .await;
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_05_and_06_answers_that_were_not_asked_for_or_are_from_elsewhere_log_nobody_in() {
    let (scene, issuer) = scene().await;
    let machine = Arc::new(Machine::new());
    let arguments = ["login", "--no-browser", "--server", &issuer];
    let (waiting, address) = answered(&scene, &issuer, machine.begin(&arguments), "allow").await;
    let own = machine.clone();
    let evil = address.clone();
    let (_, error) = blocking(move || {
        let change = |from: &str, to: &str| {
            let (start, rest) = evil.split_once(from).unwrap();
            let after = rest.split_once('&').map(|(_, after)| format!("&{after}")).unwrap_or_default();
            format!("{start}{from}{to}{after}")
        };
        // Somebody else's page sends the browser here: it is sent away, and the login goes on.
        assert_eq!(come_back(&change("state=", "guessed")), "400");
        assert_eq!(come_back(&format!("{evil}&state=again")), "400");
        assert_eq!(come_back(evil.split_once('?').unwrap().0), "404");
        // With the right state, but from another authority: nothing of it is believed.
        assert_eq!(come_back(&change("iss=", "https%3A%2F%2Fevil.example")), "200");
        let ended = waiting.end(1);
        assert!(!own.file("contexts.toml").exists() && !own.file("tokens").exists());
        ended
    })
    .await;
    assert!(error.contains("is from `https://evil.example`"), "{error}");
    // The person refuses.
    let (waiting, address) = answered(&scene, &issuer, machine.begin(&arguments), "deny").await;
    let own = machine.clone();
    let (_, error) = blocking(move || {
        assert_eq!(come_back(&address), "200");
        let ended = waiting.end(2);
        assert!(!own.file("tokens").exists());
        ended
    })
    .await;
    assert!(error.contains("it was not allowed"), "{error}");
    // An administrator has the say over the program's client.
    let admin = scene.house.admin.clone();
    let off = json!([{"name": "bartizan-cli", "spec": {"kind": "client", "status": "disabled"}}]);
    blocking(move || admin.call("POST", "/api/v1/resources", Some(&off)).unwrap()).await;
    let waiting = machine.begin(&arguments);
    let (waiting, address) = blocking(move || {
        let mut waiting = waiting;
        let address = waiting.line("http");
        (waiting, address)
    })
    .await;
    let asked = scene.get(address.strip_prefix(&issuer).unwrap()).await;
    assert_eq!(asked.status, 400, "{asked:?}");
    blocking(move || {
        let mut child = waiting.child;
        child.kill().unwrap();
        child.wait().unwrap();
    })
    .await;
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_20_a_code_typed_elsewhere_logs_in_for_reading_and_never_for_changing_the_house() {
    let (scene, issuer) = scene().await;
    let machine = Arc::new(Machine::new());
    let waiting = machine.begin(&["login", "--device", "--server", &issuer, "--context", "work"]);
    let device = format!("{issuer}/device");
    let (waiting, code) = blocking(move || {
        let mut waiting = waiting;
        assert_eq!(waiting.line("http"), device);
        let complete = waiting.line(&format!("{device}?user_code="));
        (waiting, complete.split_once('=').unwrap().1.to_owned())
    })
    .await;
    let page = scene.get("/device").await;
    let ask = scene.send("/device", &page, ("code", &code)).await;
    assert!(ask.body.contains("Bartizan command line") && ask.body.contains(&code), "{ask:?}");
    assert!(ask.body.contains("house:read") && !ask.body.contains("house:change"), "{ask:?}");
    let done = scene.send("/device/answer", &ask, ("answer", "allow")).await;
    assert!(done.body.contains("The device is connected"), "{done:?}");
    let own = machine.clone();
    let server = issuer.clone();
    blocking(move || {
        assert!(waiting.end(0).0.contains("house:read"));
        assert_eq!(own.json(&["whoami"])["scopes"], json!(["house:read", "self:use"]));
        own.run(&["key", "list"], 0);
        let (_, error) = own.run(&["key", "create", "user/alice"], 2);
        assert!(error.contains("scope_insufficient"), "{error}");
        let asked = ["login", "--device", "--server", &server, "--scope", "house:change"];
        assert!(own.run(&asked, 1).1.contains("invalid_scope"));
        // One server, two names for it: tokens are for the one that it is known by.
        let other = server.replace("127.0.0.1", "localhost");
        let (_, error) = own.run(&["login", "--no-browser", "--server", &other], 64);
        assert!(
            error.contains("calls itself") && error.contains(&format!("bartizan login --server {server}")),
            "{error}"
        );
    })
    .await;
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_issues_no_tokens_says_what_to_do_instead() {
    let house = House::new().await;
    let (server, key) = (format!("http://{}", house.node.control), house.admin_key.clone());
    blocking(move || {
        let machine = Machine::new();
        let (_, error) = machine.run(&["login", "--server", &server], 1);
        assert!(error.contains("issues no tokens") && error.contains("authority.issuer"), "{error}");
        assert!(error.contains("BARTIZAN_API_KEY"), "{error}");
        let (_, error) = machine.run(&["login", "--server", "http://ai.example"], 64);
        assert!(error.contains("https://"), "{error}");
        let (_, error) = machine.run(&["login", "--context", "new"], 64);
        assert!(error.contains("--server"), "{error}");
        machine.run(&["context", "use", "new"], 64);
        machine.run(&["logout"], 4);
        let mut keys = machine.command(&["authority", "keys", "--control-url", &server]);
        keys.env("BARTIZAN_API_KEY", key.expose());
        let (_, error) = told(&["authority", "keys"], &keys.output().unwrap(), 1);
        assert!(error.contains("no authority") && error.contains("authority.issuer"), "{error}");
    })
    .await;
    house.stop().await;
}
