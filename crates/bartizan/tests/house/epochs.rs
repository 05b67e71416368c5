//! Several nodes on one state: what is revoked at one is dead at all when that is acknowledged, also at one that was silent.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};

use super::database::{PATIENCE, on, server, until};
use super::*;

/// A folder for a further node of `house`, with copies of its keys.
fn folder_beside(house: &House) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    for entry in std::fs::read_dir(house.folder.path().join("keys")).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), keys.join(entry.file_name())).unwrap();
    }
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// A node that is a process of its own.
struct Process {
    child: Child,
    data: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Process {
    fn start(folder: tempfile::TempDir, url: &str) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (data, control, operations) = (free(), free(), free());
        let child = Command::new(env!("CARGO_BIN_EXE_bartizan"))
            .env_clear()
            .env("BARTIZAN_DATA__FOLDER", folder.path())
            .env("BARTIZAN_STATE__POSTGRES_URL", url)
            .env("BARTIZAN_LISTENERS__DATA", data.to_string())
            .env("BARTIZAN_LISTENERS__CONTROL", control.to_string())
            .env("BARTIZAN_LISTENERS__OPERATIONS", operations.to_string())
            .arg("serve")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        Self { child, data, _folder: folder }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "{signal}");
    }

    /// Stops it where it stands. Each of its threads must have had its turn to stop before it is silent.
    fn suspend(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.child.id());
        let stopped = |task: std::fs::DirEntry| {
            let told = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            told.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        while !std::fs::read_dir(&tasks).unwrap().map(Result::unwrap).all(stopped) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks on a thread; the answer comes when the process is able to give one.
    fn ask(
        &self,
        key: &Secret<String>,
        prompt: &str,
        stream: bool,
    ) -> tokio::task::JoinHandle<(u16, String)> {
        let client = Client::new(&format!("http://{}", self.data), Some(key.clone()));
        let body = json!({"model": "assistant", "stream": stream, "messages": [{"role": "user", "content": prompt}]});
        tokio::task::spawn_blocking(move || {
            client.raw("POST", "/v1/chat/completions", Some(&body), &[]).unwrap_or((0, String::new()))
        })
    }

    async fn until_it_serves(&self, key: &Secret<String>) {
        let served = async { while self.ask(key, "say: hi", false).await.unwrap().0 != 200 {} };
        tokio::time::timeout(PATIENCE, served).await.unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn revoke(admin: &Arc<Client>, id: &str) -> Value {
    let (admin, path) = (admin.clone(), format!("/api/v1/keys/{id}/revoke"));
    blocking(move || admin.call("POST", &path, None).unwrap()).await
}

fn many(value: &Value, pointer: &str) -> usize {
    value.pointer(pointer).and_then(Value::as_array).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_epoch_what_is_revoked_on_one_node_is_dead_on_the_other_when_it_is_acknowledged() {
    let server = server().await;
    let (house, url) = on(&server).await;
    let bare = tempfile::tempdir().unwrap();
    // A further node does not make keys of its own: it could not open the credentials that the first one sealed.
    let keyless = Node::start(&config(bare.path(), &[("state.postgres_url", url.clone())])).await;
    assert!(keyless.unwrap_err().to_string().contains("copy of the first one's `keys` folder"));
    // With them it opens the same sealed credentials, and keeps a ledger of its own.
    let folder = folder_beside(&house);
    let other = Node::start(&config(folder.path(), &[("state.postgres_url", url)])).await.unwrap();
    let client =
        |key: &Secret<String>| Arc::new(Client::new(&format!("http://{}", other.data), Some(key.clone())));
    let ask = async |client: Arc<Client>| {
        let body = json!({"model": "assistant", "messages": [{"role": "user", "content": "say: hi"}]});
        blocking(move || client.raw("POST", "/v1/chat/completions", Some(&body), &[]).unwrap()).await
    };
    let (alice, carol) = (client(&house.alice.1), client(&house.carol));
    for client in [&alice, &carol] {
        let (status, text) = ask(client.clone()).await;
        assert_eq!(status, 200, "{text}");
    }
    let admin = Arc::new(house.admin);
    let revoked = revoke(&admin, &house.alice.0).await;
    assert_eq!(revoked.pointer("/acknowledged/nodes"), Some(&json!(2)), "{revoked}");
    assert_eq!(many(&revoked, "/acknowledged/ran_out"), 0);
    // Not soon: the very next one.
    let (status, text) = ask(alice).await;
    assert!(status == 401 && text.contains("credential_revoked"), "{text}");
    // A mark, told the same way.
    let before = admin.clone();
    let raised = blocking(move || {
        before
            .call("POST", "/api/v1/epochs", Some(&json!({"kind": "principal", "name": "user/mallory"})))
            .unwrap()
    })
    .await;
    assert_eq!(raised.pointer("/acknowledged/nodes"), Some(&json!(2)), "{raised}");
    // A new policy is acknowledged when it is compiled there, too.
    let bundle = json!({"files": {"policy.cedar": format!("{POLICY}\n@id(\"none\") forbid (principal in Group::\"contractors\", action in Action::\"model:use\", resource);")}, "expect": 2});
    let (applier, (status, text)) = (admin.clone(), ask(carol.clone()).await);
    assert_eq!(status, 200, "{text}");
    blocking(move || applier.call("PUT", "/api/v1/policy", Some(&bundle)).unwrap()).await;
    let (status, text) = ask(carol).await;
    assert!(status == 403 || status == 404, "{status} {text}");
    // One that ended in order is not waited for.
    other.stop().await;
    let key = admin.clone();
    let made = blocking(move || {
        key.call("POST", "/api/v1/keys", Some(&json!({"principal_kind": "user", "principal": "carol"})))
            .unwrap()
    })
    .await;
    let revoked = revoke(&admin, made.pointer("/id").and_then(Value::as_str).unwrap()).await;
    assert_eq!(revoked.pointer("/acknowledged/nodes"), Some(&json!(1)), "{revoked}");
    assert_eq!(many(&revoked, "/acknowledged/ran_out"), 0, "{revoked}");
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_epoch_a_suspended_node_is_waited_for_as_long_as_its_lease_and_serves_nothing_when_it_goes_on() {
    let server = server().await;
    let (house, url) = on(&server).await;
    let folder = folder_beside(&house);
    let other = blocking(move || Process::start(folder, &url)).await;
    other.until_it_serves(&house.alice.1).await;
    let stream = other.ask(&house.alice.1, "fault: endless", true);
    let admin =
        Arc::new(Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone())));
    let opened = async { while !house.last().await.to_string().contains("endless") {} };
    tokio::time::timeout(PATIENCE, opened).await.unwrap();
    assert!(!stream.is_finished());
    other.suspend();
    // They wait in its sockets; whoever sent them was in good standing then.
    let waiting: Vec<_> = (0..5).map(|_| other.ask(&house.alice.1, "say: hi", false)).collect();
    let revoked = revoke(&admin, &house.alice.0).await;
    assert_eq!(many(&revoked, "/acknowledged/ran_out"), 1, "{revoked}");
    assert_eq!(revoked.pointer("/acknowledged/nodes"), Some(&json!(1)), "{revoked}");
    let ms = revoked.pointer("/acknowledged/ms").and_then(Value::as_u64).unwrap();
    assert!(ms < 2_000, "a lease is a second: {ms}");
    let calls = house.last().await.pointer("/count").cloned();
    other.signal("CONT");
    for answer in waiting {
        let (status, text) = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
        assert!(status == 401 || status == 503, "{status} {text}");
    }
    let (_, streamed) = tokio::time::timeout(PATIENCE, stream).await.unwrap().unwrap();
    assert!(streamed.contains("stream_ended"), "{}", streamed.get(..400).unwrap_or(&streamed));
    assert_eq!(
        house.last().await.pointer("/count").cloned(),
        calls,
        "nothing was forwarded after the acknowledgement"
    );
    // It has caught up, and confirms again.
    other.until_it_serves(&house.carol).await;
    let (status, text) = other.ask(&house.alice.1, "say: hi", false).await.unwrap();
    assert!(status == 401 && text.contains("credential_revoked"), "{text}");
    let again = revoke(&admin, &house.alice.0).await;
    assert_eq!(again.pointer("/acknowledged/nodes"), Some(&json!(2)), "{again}");
    drop(other);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_54_a_database_that_was_put_back_is_not_decided_on() {
    let server = server().await;
    let (house, url) = on(&server).await;
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    let database = url.rsplit('/').next().unwrap().to_owned();
    let back = database.clone();
    let server = blocking(move || {
        server.psql(&back, "update installation set revision = revision - 1");
        server
    })
    .await;
    assert_eq!(until(&house, 503).await, "snapshot_stale");
    let server = blocking(move || {
        server.psql(&database, "update installation set revision = revision + 1");
        server
    })
    .await;
    until(&house, 200).await;
    let folder = house.stop().await;
    // Nor after a restart; the node itself remembers.
    let settings = [("state.postgres_url", url)];
    let database = settings[0].1.rsplit('/').next().unwrap().to_owned();
    let server = blocking(move || {
        server.psql(&database, "update installation set revision = revision - 1");
        server
    })
    .await;
    let refused = Node::start(&config(folder.path(), &settings)).await.unwrap_err().to_string();
    assert!(refused.contains("it was put back"), "{refused}");
    std::fs::remove_file(folder.path().join("revision")).unwrap();
    Node::start(&config(folder.path(), &settings)).await.unwrap().stop().await;
    drop(server);
}
