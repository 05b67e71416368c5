//! A quarter of the ledger, archived and then removed from the node: what stands in the way, what stays, what is said.

use std::fs;
use std::os::unix::fs::symlink;

use bartizan_base::{Clock, Timestamp};
use bartizan_ledger::VerifierKey;
use bartizan_rt::SystemClock;

use super::*;

/// A clock that is ahead, by more than a quarter and a retention of 30 days.
#[derive(Debug)]
struct Ahead(SystemClock);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now().saturating_add(Duration::from_secs(200 * 86_400))
    }
    fn monotonic_us(&self) -> u64 {
        self.0.monotonic_us()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

fn status(client: &Client, method: &str, path: &str) -> (u16, Value) {
    let (status, text) = client.raw(method, path, None, &[]).unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn message((status, answer): &(u16, Value)) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    format!("{status} {} {}", text("reason"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_is_removed_after_its_retention_with_an_archive_that_verifies_and_no_hold_and_leaves_its_end()
 {
    let house = House::new().await;
    let (status_of, answer) = house.chat(&house.alice.1, "assistant", "hello").await;
    assert_eq!(status_of, 200, "{answer}");
    let admin = house.admin_key.clone();
    let control = format!("http://{}", house.node.control);
    let (lasting, other) = blocking(move || {
        let client = Client::new(&control, Some(admin));
        let mut keys = ["ada", "alice"].into_iter().map(|name| {
            let key = json!({"principal_kind": "user", "principal": name, "life_s": 366 * 86_400});
            let key = client.call("POST", "/api/v1/keys", Some(&key)).unwrap();
            Secret::new(key["text"].as_str().unwrap().to_owned())
        });
        let hold = json!({"basis": "a claim is open"});
        client.call("PUT", "/api/v1/subjects/user/alice/holds/case-7", Some(&hold)).unwrap();
        (keys.next().unwrap(), keys.next().unwrap())
    })
    .await;
    let folder = house.stop().await;
    let logs = folder.path().join("log/default");
    let log = fs::read_dir(&logs).unwrap().next().unwrap().unwrap().path();
    let period = log.file_name().unwrap().to_str().unwrap().to_owned();
    let key: VerifierKey = fs::read_to_string(log.join("key.vkey")).unwrap().trim().parse().unwrap();

    let archives = tempfile::tempdir().unwrap();
    let archive = archives.path().join("default").join(&period);
    let settings = [
        ("record.retention_days", "30".to_owned()),
        ("record.archive_folder", archives.path().to_string_lossy().into_owned()),
    ];
    let start = async |settings: &[(&'static str, String)]| {
        let machine = Machine { clock: Arc::new(Ahead(SystemClock::new())), ..Machine::default() };
        Node::start_on(&config(folder.path(), settings), machine).await.unwrap()
    };
    let at = format!("/api/v1/log/{period}");

    // Without a retention nothing is ever removed.
    let node = start(&[]).await;
    let (control, path, key_of) = (format!("http://{}", node.control), at.clone(), lasting.clone());
    let refused = blocking(move || status(&Client::new(&control, Some(key_of)), "DELETE", &path)).await;
    assert!(message(&refused).contains("`record.retention_days` is not set"), "{refused:?}");
    node.stop().await;

    let node = start(&settings).await;
    let (client, alice) = {
        let control = format!("http://{}", node.control);
        (Client::new(&control, Some(lasting.clone())), Client::new(&control, Some(other)))
    };
    let (log_of, archive_of, period_of) = (log.clone(), archive.clone(), period.clone());
    let (cursor, decision) = blocking(move || {
        let remove = || message(&status(&client, "DELETE", &at));
        assert!(message(&status(&alice, "DELETE", &at)).starts_with("403 "));
        assert!(remove().starts_with("409 conflict") && remove().contains("does not verify"), "{}", remove());
        // The log itself under the archive's name: removing it would remove the archive.
        fs::create_dir_all(archive_of.parent().unwrap()).unwrap();
        symlink(&log_of, &archive_of).unwrap();
        assert!(remove().contains("the log's own folder"), "{}", remove());
        fs::remove_file(&archive_of).unwrap();
        fs::create_dir_all(&archive_of).unwrap();
        fs::copy(log_of.join("checkpoint"), archive_of.join("checkpoint")).unwrap();
        symlink(log_of.join("tile"), archive_of.join("tile")).unwrap();
        assert!(remove().contains("does not verify"), "{}", remove());
        fs::remove_dir_all(&archive_of).unwrap();
        copy(&log_of, &archive_of);
        let bundle = archive_of.join("tile/entries/000.p");
        let bundle = fs::read_dir(bundle).unwrap().map(|e| e.unwrap().path()).max().unwrap();
        let whole = fs::read(&bundle).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(&bundle, changed).unwrap();
        assert!(remove().contains("does not verify"), "{}", remove());
        fs::write(&bundle, whole).unwrap();
        // The open period is not removed, whatever lies in the archive, nor what is no period.
        let open = status(&client, "GET", "/api/v1/checkpoints").1;
        let newest = open.as_array().unwrap().last().unwrap()[0]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        assert_ne!(newest, period_of);
        let refused = message(&status(&client, "DELETE", &format!("/api/v1/log/{newest}")));
        assert!(refused.starts_with("409 conflict") && refused.contains("may be removed from"), "{refused}");
        for none in ["1999q1", "all", "..", "latest"] {
            let answer = status(&client, "DELETE", &format!("/api/v1/log/{none}"));
            assert!(answer.0 == 404 || answer.0 == 409, "{none}: {answer:?}");
        }
        // Somebody in it is under a legal hold.
        assert!(remove().starts_with("409 legal_hold") && remove().contains("`case-7`"), "{}", remove());
        assert!(log_of.join("tile").exists());
        client.call("DELETE", "/api/v1/subjects/user/alice/holds/case-7", None).unwrap();

        let question = json!({"query": "action:model:invoke kind:intent", "limit": 1});
        let found = (0..200).map(|_| client.call("POST", "/api/v1/log/search", Some(&question)).unwrap());
        let found = found.into_iter().find(|f| !f["entries"].as_array().unwrap().is_empty()).unwrap();
        let entry: Value = serde_json::from_str(found["entries"][0]["entry"].as_str().unwrap()).unwrap();
        let decision = entry["id"].as_str().unwrap().to_owned();

        let removed = client.call("DELETE", &at, None).unwrap();
        assert_eq!(removed["archive"].as_str().unwrap(), archive_of.to_str().unwrap());
        assert!(removed["size"].as_u64().unwrap() > 10);
        assert_eq!(
            fs::read_to_string(log_of.join("checkpoint")).unwrap(),
            removed["checkpoint"].as_str().unwrap()
        );
        assert!(!log_of.join("tile").exists());
        (found["here"].as_str().unwrap().to_owned(), decision)
    })
    .await;

    // What was there is answered for, before and after a restart.
    let mut node = Some(node);
    for round in 0..2 {
        let node_now = match node.take() {
            Some(node) => node,
            None => start(&settings).await,
        };
        let client = Client::new(&format!("http://{}", node_now.control), Some(lasting.clone()));
        let (period, decision, cursor, log) = (period.clone(), decision.clone(), cursor.clone(), log.clone());
        blocking(move || {
            let gone = |method: &str, path: &str| {
                let answer = message(&status(&client, method, path));
                assert!(answer.starts_with("410 period_removed"), "{round} {path}: {answer}");
            };
            gone("GET", &format!("/api/v1/decisions/{decision}"));
            gone("GET", &format!("/api/v1/decisions/{decision}/proof"));
            gone("GET", &format!("/api/v1/decisions/{decision}/proof/witnessed"));
            gone("GET", &format!("/log/default/{period}/tile/entries/000.p/1"));
            gone("GET", &format!("/log/default/{period}/proof/3"));
            gone("DELETE", &format!("/api/v1/log/{period}"));
            let (code, note) = status(&client, "GET", &format!("/log/default/{period}/checkpoint"));
            assert_eq!(
                (code, note.as_str()),
                (200, Some(fs::read_to_string(log.join("checkpoint")).unwrap().as_str()))
            );
            // The index has forgotten it; a cursor of before says why it leads nowhere.
            let question = json!({"query": "action:model:invoke kind:intent"});
            let found = client.call("POST", "/api/v1/log/search", Some(&question)).unwrap();
            assert_eq!(found["entries"], json!([]), "{found}");
            let before = json!({"query": "action:model:invoke kind:intent", "limit": 1, "cursor": cursor});
            let told = client.call("POST", "/api/v1/log/search", Some(&before)).unwrap_err().to_string();
            assert!(told.contains(&period), "{told}");
            // The ask is in the tenant's own log, and found there.
            let question = json!({"query": "action:ledger:remove kind:intent"});
            let asked = || client.call("POST", "/api/v1/log/search", Some(&question)).unwrap();
            let found = (0..200).map(|_| asked()["entries"].as_array().unwrap().len());
            assert!(found.into_iter().any(|count| count > 0));
        })
        .await;
        node_now.stop().await;
    }
    let entries = fs::read_dir(folder.path().join("log/operator/all/tile/entries/000.p")).unwrap();
    let newest = entries.map(|e| fs::read(e.unwrap().path()).unwrap()).max_by_key(Vec::len).unwrap();
    let told = bartizan_ledger::bundle_entries(&newest).unwrap();
    let told: Vec<Value> = told.iter().map(|e| serde_json::from_slice(e).unwrap()).collect();
    let removed: Vec<_> = told.iter().filter(|r| r["event"] == "removed").collect();
    assert!(removed.len() == 1 && removed[0]["origin"].as_str().unwrap().ends_with(&period), "{removed:?}");
    // And the archive says everything, offline.
    let demand = bartizan_verify::Demand { key: &key, old: None, policy: None, growing: false };
    assert!(bartizan_verify::verify_log(&archive, &demand).ok);
}
