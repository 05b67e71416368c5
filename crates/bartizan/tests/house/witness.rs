//! A witness elsewhere, over real HTTP; what it finds out that nothing inside can; the ledger as its readers see it.

use std::fs;

use bartizan::{NodeError, WitnessNode};
use bartizan_ledger::{CosignerKey, Promise, UnverifiedNote, VerifierKey};

use super::*;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
    // Key files must stay the owner's alone.
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}

fn operators(folder: &Path) -> std::path::PathBuf {
    folder.join("log/operator/all")
}

/// A founded house, stopped, with its operator's log sealed.
async fn founded() -> tempfile::TempDir {
    House::new().await.stop().await
}

async fn witness_of(house: &Path, folder: &Path) -> WitnessNode {
    let logs = folder.join("logs");
    let key = fs::read_to_string(operators(house).join("key.vkey")).unwrap();
    fs::write(&logs, format!("log {key}")).unwrap();
    let more = [("server.role", "witness".to_owned()), ("witness.logs", logs.to_string_lossy().into_owned())];
    WitnessNode::start(&config(&folder.join("data"), &more)).await.unwrap()
}

fn policy(folder: &Path, key: &CosignerKey, address: SocketAddr) -> (&'static str, String) {
    let path = folder.join("policy");
    fs::write(&path, format!("witness elsewhere {key} http://{address}\nquorum elsewhere\n")).unwrap();
    ("record.witness_policy", path.to_string_lossy().into_owned())
}

fn cosigners(folder: &Path, key: &CosignerKey) -> usize {
    let note = fs::read(operators(folder).join("checkpoint")).unwrap();
    UnverifiedNote::parse(&note).unwrap().cosigned_by(std::slice::from_ref(key)).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_begins_with_the_founding_of_the_house() {
    let folder = tempfile::tempdir().unwrap();
    let setting = config(folder.path(), &[]);
    found(&setting, "1/1").await.unwrap();
    // Founding it once more changes nothing, and is not recorded as if it had.
    assert!(found(&setting, "1/1").await.is_err());
    let period = fs::read_dir(folder.path().join("log/default")).unwrap().next().unwrap().unwrap().path();
    let bundles = fs::read_dir(period.join("tile/entries/000.p")).unwrap();
    let latest =
        bundles.map(|bundle| fs::read(bundle.unwrap().path()).unwrap()).max_by_key(Vec::len).unwrap();
    let entries = bartizan_ledger::bundle_entries(&latest).unwrap();
    let event = |entry: &&[u8]| serde_json::from_slice::<Value>(entry).unwrap()["event"].clone();
    assert_eq!(entries.iter().map(event).collect::<Vec<_>>(), ["started", "initialised", "stopped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_put_back_to_a_snapshot_is_found_out_by_its_witness_alone() {
    let house = founded().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let witness = witness_of(house.path(), elsewhere.path()).await;
    let key = witness.key.clone();
    let setting = [policy(elsewhere.path(), &key, witness.data)];

    let node = Node::start(&config(house.path(), &setting)).await.unwrap();
    node.stop().await;
    assert_eq!(cosigners(house.path(), &key), 1, "the last round cosigned what was published last");
    let snapshot = tempfile::tempdir().unwrap();
    copy(house.path(), snapshot.path());

    // Life goes on, also over a restart of the witness.
    witness.stop().await;
    let witness = witness_of(house.path(), elsewhere.path()).await;
    assert_eq!(witness.key.to_string(), key.to_string());
    let setting = [policy(elsewhere.path(), &key, witness.data)];
    for _ in 0..2 {
        Node::start(&config(house.path(), &setting)).await.unwrap().stop().await;
    }
    assert_eq!(cosigners(house.path(), &key), 1);

    // The snapshot is whole: without the witness it starts.
    let alone = tempfile::tempdir().unwrap();
    copy(snapshot.path(), alone.path());
    Node::start(&config(alone.path(), &[])).await.unwrap().stop().await;
    // With it, not: neither as it is, nor after it has grown as long as the true one and longer.
    for restarts in [0, 3] {
        let back = tempfile::tempdir().unwrap();
        copy(snapshot.path(), back.path());
        for _ in 0..restarts {
            Node::start(&config(back.path(), &[])).await.unwrap().stop().await;
        }
        let refused = Node::start(&config(back.path(), &setting)).await.unwrap_err();
        let NodeError::Part { source, .. } = refused else { panic!("{refused}") };
        assert!(source.to_string().contains("put back to an earlier state"), "{source}");
    }
    witness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_whose_operators_log_is_gone_with_its_lock_is_refused_by_the_witness() {
    let house = founded().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let witness = witness_of(house.path(), elsewhere.path()).await;
    let setting = [policy(elsewhere.path(), &witness.key, witness.data)];
    for _ in 0..2 {
        Node::start(&config(house.path(), &setting)).await.unwrap().stop().await;
    }
    // Whoever may write the disk and the state database leaves no trace of it inside.
    fs::remove_dir_all(house.path().join("log/operator")).unwrap();
    let database = rusqlite::Connection::open(house.path().join("state.db")).unwrap();
    assert_eq!(database.execute("delete from checkpoints where log like '%/operator/all'", []).unwrap(), 1);
    drop(database);
    let refused = Node::start(&config(house.path(), &setting)).await.unwrap_err();
    let NodeError::Part { source, .. } = refused else { panic!("{refused}") };
    assert!(source.to_string().contains("put back to an earlier state"), "{source}");
    witness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_in_the_place_of_the_first_is_refused_and_elsewhere_it_is_kept() {
    let house = founded().await;
    let link = tempfile::tempdir().unwrap();
    let alias = link.path().join("alias");
    std::os::unix::fs::symlink(house.path().join("wal"), &alias).unwrap();
    let copied = |path: &Path| [("record.copy_folder", path.to_string_lossy().into_owned())];
    let refused = Node::start(&config(house.path(), &copied(&alias))).await.unwrap_err();
    assert!(
        matches!(&refused, NodeError::Part { source, .. } if source.to_string().contains("another disk"))
    );
    let elsewhere = link.path().join("copy");
    Node::start(&config(house.path(), &copied(&elsewhere))).await.unwrap().stop().await;
    // The first disk is lost: the copy starts the house again.
    fs::remove_dir_all(house.path().join("wal")).unwrap();
    Node::start(&config(house.path(), &copied(&elsewhere))).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_is_down_is_told_of_and_stops_nobody() {
    let house = founded().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let witness = witness_of(house.path(), elsewhere.path()).await;
    let setting = [policy(elsewhere.path(), &witness.key, witness.data)];
    witness.stop().await;
    let node = Node::start(&config(house.path(), &setting)).await.unwrap();
    let operations = format!("http://{}", node.operations);
    let metrics =
        blocking(move || Client::new(&operations, None).raw("GET", "/metrics", None, &[]).unwrap().1).await;
    assert!(metrics.contains("bartizan_record_unwitnessed_seconds"), "{metrics}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_answers_each_wrong_request_with_its_status_and_serves_monitors() {
    let house = founded().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let witness = witness_of(house.path(), elsewhere.path()).await;
    let checkpoint = fs::read_to_string(operators(house.path()).join("checkpoint")).unwrap();
    let origin = checkpoint.lines().next().unwrap().to_owned();
    let base = format!("http://{}", witness.data);
    let post = |body: String| {
        let url = format!("{base}/add-checkpoint");
        async move {
            blocking(move || {
                let sent = ureq_post(&url, body.as_bytes());
                (sent.0, sent.1)
            })
            .await
        }
    };
    let size: u64 = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    assert_eq!(post("nonsense".to_owned()).await.0, 400);
    assert_eq!(post(format!("old {}\n\n{checkpoint}", size + 1)).await.0, 400);
    assert_eq!(post(format!("old 1\n\n{checkpoint}")).await, (409, "0\n".to_owned()));
    assert_eq!(post(format!("old 0\n\n{}", checkpoint.replace(&origin, "example.org/log"))).await.0, 404);
    let forged = checkpoint.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size + 5), 1);
    assert_eq!(post(format!("old 0\n\n{forged}")).await.0, 403);
    let monitor = format!("{base}/{}", bartizan_ledger::monitor_path(&origin));
    assert_eq!(
        blocking({
            let url = monitor.clone();
            move || ureq_get(&url).0
        })
        .await,
        404,
        "nothing was cosigned yet"
    );
    let (status, lines) = post(format!("old 0\n\n{checkpoint}")).await;
    assert_eq!((status, lines.lines().count()), (200, 1));
    let (status, note) = blocking(move || ureq_get(&monitor)).await;
    assert_eq!((status, note), (200, format!("{checkpoint}{lines}")));
    // Again at the same size: cosigned again. From nothing again: it knows better.
    assert_eq!(post(format!("old {size}\n\n{checkpoint}")).await.0, 200);
    assert_eq!(post(format!("old 0\n\n{checkpoint}")).await, (409, format!("{size}\n")));
    witness.stop().await;
}

fn ureq_post(url: &str, body: &[u8]) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.post(url).send(body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

fn ureq_get(url: &str) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.get(url).call().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_reader_follows_the_tiles_and_a_receipt_leads_to_its_entry() {
    let house = House::new().await;
    let (url, key) = (format!("{}/v1/chat/completions", house.data()), house.alice.1.clone());
    let body = json!({"model": "assistant", "messages": [{"role": "user", "content": "hello"}]});
    let receipt = blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.post(&url).header("authorization", format!("Bearer {}", key.expose()));
        let answer =
            request.header("content-type", "application/json").send(body.to_string().as_bytes()).unwrap();
        answer.headers()["bartizan-receipt"].to_str().unwrap().to_owned()
    })
    .await;
    house.node.seal().await.unwrap();
    let parts: Vec<&str> = receipt.splitn(5, ';').collect();
    let (origin, leaf) = (parts[0], parts[3].parse().unwrap());
    let folder = house.folder.path().join("log").join(origin.rsplit_once("/log/").unwrap().1);
    let vkey: VerifierKey = fs::read_to_string(folder.join("key.vkey")).unwrap().trim().parse().unwrap();
    let family = origin.rsplitn(3, '/').nth(2).unwrap();
    parts[4].parse::<Promise>().unwrap().verify(leaf, family, &vkey).unwrap();

    let control = format!("http://{}", house.node.control);
    let at = format!("{control}/log/{}", origin.rsplit_once("/log/").unwrap().1);
    let (admin, alice) = (house.admin_key.clone(), house.alice.1.clone());
    blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let get = |key: &Secret<String>, path: &str| {
            let request = agent.get(format!("{at}/{path}"));
            let mut answer =
                request.header("authorization", format!("Bearer {}", key.expose())).call().unwrap();
            let cache = answer.headers().get("cache-control").map(|v| v.to_str().unwrap().to_owned());
            (answer.status().as_u16(), cache.unwrap_or_default(), answer.body_mut().read_to_vec().unwrap())
        };
        let (status, cache, note) = get(&admin, "checkpoint");
        assert_eq!((status, cache.as_str()), (200, "private, max-age=1"));
        let head = bartizan_ledger::Checkpoint::open(&note, &vkey).unwrap();
        let mut leaves = Vec::new();
        for tile in bartizan_ledger::tiles_for(head.size) {
            let (status, cache, bytes) = get(&admin, &tile.path());
            assert_eq!(status, 200, "{}", tile.path());
            assert!(cache.contains("immutable"), "{cache}");
            if tile.level.is_none() {
                leaves.extend(
                    bartizan_ledger::bundle_entries(&bytes)
                        .unwrap()
                        .iter()
                        .map(|e| bartizan_ledger::leaf_hash(e)),
                );
            }
        }
        assert_eq!(bartizan_ledger::root_of(&leaves), head.root);
        let index = leaves.iter().position(|l| *l == leaf).expect("what was promised is in the log");
        let (status, _, proof) = get(&admin, &format!("proof/{index}"));
        assert_eq!(status, 200);
        let proof: Value = serde_json::from_slice(&proof).unwrap();
        let receipt = bartizan_ledger::Receipt::parse(proof["proof"].as_str().unwrap()).unwrap();
        receipt.verify(leaf, &vkey).unwrap();
        for absent in ["proof/99999", "tile/9/000", "tile/0/000.p/255", "../keys/log.ed25519", "key.vkey", ""]
        {
            assert_eq!(get(&admin, absent).0, 404, "{absent}");
        }
        assert_eq!(get(&alice, "checkpoint").0, 403, "reading the ledger is an ask");
    })
    .await;
    drop(house.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_fetches_and_one_verifies_that_witnesses_cosigned_the_log_of_a_decision() {
    let house = House::new().await;
    let admin = house.admin_key.clone();
    let (status, answer) = house.chat(&house.alice.1, "assistant", "hello").await;
    assert_eq!(status, 200, "{answer}");
    let folder = house.stop().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let witness = witness_of(folder.path(), elsewhere.path()).await;
    let setting = [policy(elsewhere.path(), &witness.key, witness.data)];
    let node = Node::start(&config(folder.path(), &setting)).await.unwrap();
    let control = format!("http://{}", node.control);
    let files = tempfile::tempdir().unwrap();
    let (proof, entry) = (files.path().join("proof"), files.path().join("entry"));
    let program = |arguments: &[&str], key: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.env_clear().env("BARTIZAN_API_KEY", key).args(arguments);
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let fetched = blocking({
        let (control, entry) = (control.clone(), entry.clone());
        move || {
            let client = Client::new(&control, Some(admin.clone()));
            let decisions = client.call("GET", "/api/v1/decisions?limit=1000", None).unwrap();
            // What was decided before this start has been told and cosigned by its first round.
            let called = |d: &&Value| d.pointer("/record/what/action") == Some(&json!("model:invoke"));
            let id = decisions
                .as_array()
                .unwrap()
                .iter()
                .find(called)
                .unwrap()
                .pointer("/record/id")
                .unwrap()
                .clone();
            let arguments =
                ["--control-url", &control, "log", "proof", id.as_str().unwrap(), "--witnessed", "--entry"];
            let fetched = program(&[&arguments[..], &[entry.to_str().unwrap()]].concat(), admin.expose());
            let newest = decisions.pointer("/0/record/id").unwrap().as_str().unwrap();
            // The newest is the asking itself, which no witness has seen.
            let untold = client.call("GET", &format!("/api/v1/decisions/{newest}/proof/witnessed"), None);
            let told = untold.unwrap_err().to_string();
            assert!(told.contains("is sealed") || told.contains("not cosigned it yet"), "{told}");
            fetched
        }
    })
    .await;
    assert_eq!(fetched.0, Some(0), "{}", fetched.1);
    fs::write(&proof, fetched.1.trim_end().to_owned() + "\n").unwrap();
    node.stop().await;
    witness.stop().await;

    let key = fs::read_to_string(
        command_line::log_folder(folder.path().join("log/default").as_path()).join("key.vkey"),
    )
    .unwrap();
    let check = |policy: &str| {
        let files = [proof.to_str().unwrap(), entry.to_str().unwrap()];
        program(&["log", "check", files[0], files[1], "--key", key.trim(), "--policy", policy], "")
    };
    let (code, out) = check(&setting[0].1);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("the entry was in the log that 1 witness cosigned: "), "{out}");
    // Somebody else's witness has not cosigned it.
    let other = bartizan_ledger::Cosigner::from_seed("other.example", &[3; 32]).unwrap();
    let others = files.path().join("others");
    fs::write(&others, format!("witness elsewhere {}\nquorum elsewhere\n", other.verifier())).unwrap();
    let (code, out) = check(others.to_str().unwrap());
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("has not cosigned") && !out.contains("was in the log"), "{out}");
}
