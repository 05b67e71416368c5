//! Recovery with the offline keys, as their holders do it: order, sign, apply.

use std::io::Write as _;
use std::process::{Command, Stdio};

use bartizan_keys::{KeyFolder, PolicySigner, Statement};
use bartizan_model::Tenant;
use bartizan_testkit::postgres::Server;

use super::*;

struct Stopped {
    settings: Vec<(&'static str, String)>,
    folder: tempfile::TempDir,
    keys: Vec<Secret<String>>,
}

impl Stopped {
    fn run(&self, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bartizan"))
            .env_clear()
            .env("BARTIZAN_DATA__FOLDER", self.folder.path().join("data"))
            .envs(self.settings.iter().map(|(setting, value)| {
                (format!("BARTIZAN_{}", setting.replace('.', "__").to_uppercase()), value)
            }))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn order(&self, arguments: &[&str]) -> String {
        let (code, order, error) = self.run(&[&["recover", "order"], arguments].concat(), "");
        assert_eq!(code, Some(0), "{error}");
        let path = self.folder.path().join("order.json");
        std::fs::write(&path, order).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn sign(&self, order: &str, holder: usize) -> String {
        let key = self.keys.get(holder).unwrap();
        let (code, signature, error) = self.run(&["recover", "sign", order], key.expose());
        assert_eq!(code, Some(0), "{error}");
        signature.trim().to_owned()
    }

    fn apply(&self, order: &str, signatures: &[&str]) -> (Option<i32>, String, String) {
        self.run(&[&["--output", "json", "recover", "apply", order], signatures].concat(), "")
    }
}

/// An installation whose only administrator has ended their only key.
async fn locked_out() -> Stopped {
    locked_out_on(Vec::new()).await
}

async fn locked_out_on(settings: Vec<(&'static str, String)>) -> Stopped {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder.path().join("data"), &settings);
    let Founded { claim, recovery, .. } = found(&config, "2/3").await.unwrap();
    let node = Node::start(&config).await.unwrap();
    let control = format!("http://{}", node.control);
    blocking(move || {
        let body = json!({"claim": claim.expose(), "name": "ada"});
        let value = Client::new(&control, None).call("POST", "/api/v1/claim", Some(&body)).unwrap();
        let key = value.pointer("/key/text").and_then(Value::as_str).unwrap().to_owned();
        let admin = Client::new(&control, Some(Secret::new(key)));
        let bundle = json!({"files": {"policy.cedar": POLICY}, "expect": 1});
        admin.call("PUT", "/api/v1/policy", Some(&bundle)).unwrap();
        // From now on nobody has a credential that can change anything.
        let id = value.pointer("/key/id").and_then(Value::as_str).unwrap();
        admin.call("POST", &format!("/api/v1/keys/{id}/revoke"), None).unwrap();
        admin.call("GET", "/api/v1/whoami", None).unwrap_err();
    })
    .await;
    node.stop().await;
    Stopped { settings, folder, keys: recovery }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_recover_a_quorum_enrols_an_administrator_and_returns_to_an_earlier_bundle() {
    let house = locked_out().await;
    let (house, key) = blocking(move || {
        let order = house.order(&["--administrator", "grace", "--bundle", "1"]);
        let first = house.sign(&order, 0);
        // What an editor does to the end of a file changes nothing about the order.
        let text = std::fs::read_to_string(&order).unwrap();
        std::fs::write(&order, text + "\n").unwrap();
        let second = house.sign(&order, 2);
        let (code, out, error) = house.apply(&order, &[&first, &second]);
        assert_eq!(code, Some(0), "{error}");
        let value: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value.pointer("/version"), Some(&json!(3)));
        // An order is good once: the state has moved on.
        let (code, _, error) = house.apply(&order, &[&first, &second]);
        assert!(code == Some(2) && error.contains("conflict"), "{error}");
        let key = value.pointer("/key/text").and_then(Value::as_str).unwrap().to_owned();
        (house, Secret::new(key))
    })
    .await;
    let node = Node::start(&config(&house.folder.path().join("data"), &[])).await.unwrap();
    let control = format!("http://{}", node.control);
    blocking(move || {
        let admin = Client::new(&control, Some(key));
        let policy = admin.call("GET", "/api/v1/policy", None).unwrap();
        assert_eq!(policy.pointer("/version"), Some(&json!(3)));
        assert!(!policy.to_string().contains("contractors"), "the first bundle, not the second");
        // It is the ledger's next record, made by nobody but the holders.
        let decisions = admin.call("GET", "/api/v1/decisions?limit=50", None).unwrap();
        let all = decisions.as_array().unwrap();
        let recovered: Vec<_> = all
            .iter()
            .filter(|d| d.pointer("/record/what/action") == Some(&json!("house:recover")))
            .collect();
        assert_eq!(recovered.len(), 2, "the one that was done and the one that came too late");
        assert!(recovered.iter().all(|d| d.pointer("/record/who/credential") == Some(&json!("recovery"))));
    })
    .await;
    node.stop().await;
    let log = command_line::log_folder(&house.folder.path().join("data"));
    let key = std::fs::read_to_string(log.join("key.vkey")).unwrap().trim().parse().unwrap();
    assert!(bartizan_verify::verify_directory(&log, &key, None).ok);
    // What was done stands there in words, by a pseudonym.
    let text = entries(&log);
    let (_, told) = text.split_once(r#""event":"recovered""#).unwrap();
    let told = told.split('}').next().unwrap();
    assert!(told.contains("enrolled administrator prn_"), "{told}");
    assert!(told.contains("returned to bundle version 1 as version 3"), "{told}");
    assert!(!text.contains("grace"));
}

/// Every sealed entry of a log, one after the other.
fn entries(log: &Path) -> String {
    let mut queue = vec![log.join("tile/entries")];
    let mut text = String::new();
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            queue.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
    text
}

/// A bundle that the house has signed and no guard has seen: by another version, or by whoever holds the machine. What was
/// in force on this node before is forgotten, as on a new one.
pub(super) fn force(data: &Path, server: &Server, database: &str, policy: &str) {
    let files: std::collections::BTreeMap<_, _> = [("a.cedar".to_owned(), policy.to_owned())].into();
    let bundle = bartizan_decide::Bundle { files };
    let last: u64 = server.psql(database, "select max(version) from bundles").parse().unwrap();
    let seed = KeyFolder::open(&data.join("keys")).unwrap().policy_seed().unwrap();
    let statement = Statement {
        tenant: Tenant::default_tenant(),
        name: String::new(),
        version: last + 1,
        base: None,
        bundle: bundle.digest(),
        candidate: None,
        restores: None,
        created: bartizan_base::Timestamp::from_secs(1_800_000_000),
        author: None,
        authored: None,
    };
    let signed = PolicySigner::from_seed(&seed).unwrap().sign(&statement).unwrap();
    let (digest, files) = (bundle.digest(), json!(bundle.files));
    let sql = format!(
        "insert into bundles (tenant, version, base, digest, files, signed) \
         values ('default', {}, {last}, '{digest}', '{files}', '{signed}'); \
         update installation set revision = revision + 1",
        last + 1
    );
    server.psql(database, &sql);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_recover_a_recovery_that_would_leave_the_house_locked_is_refused() {
    let (server, url) = blocking(|| {
        let server = Server::start();
        let url = server.create_database();
        (server, url)
    })
    .await;
    let house = locked_out_on(vec![("state.postgres_url", url.clone())]).await;
    let (server, house, key) = blocking(move || {
        let database = url.rsplit('/').next().unwrap();
        let recover = |arguments: &[&str]| {
            let order = house.order(arguments);
            house.apply(&order, &[&house.sign(&order, 1), &house.sign(&order, 2)])
        };
        // Nobody is asked to sign such an order.
        let refused = |arguments: &[&str], why: &str| {
            let (code, out, error) = house.run(&[&["recover", "order"], arguments].concat(), "");
            assert!(code == Some(2) && out.is_empty(), "{arguments:?}: {code:?} {out}{error}");
            assert!(error.contains("constitution") && error.contains(why), "{arguments:?}: {error}");
        };
        // A bundle that does not even compile.
        let data = house.folder.path().join("data");
        force(&data, &server, database, "permit (principal");
        std::fs::remove_dir_all(data.join("policy")).unwrap();
        refused(&["--administrator", "grace"], "no bundle is in force that can be read");
        // Bundles that give administrators nothing, or nothing that an API key is enough for.
        for policy in [
            "@id(\"models\") permit (principal in Role::\"model-user\", action, resource is Model);",
            "@id(\"strong\") permit (principal in Role::\"administrator\", action, resource) \
             when { context.assurance.level >= 3 };",
        ] {
            force(&data, &server, database, policy);
            refused(&["--administrator", "grace"], "an earlier version as well");
        }
        // Nor does it help to return to one of them: the second bundle was the demo's, the third did not compile.
        refused(&["--administrator", "grace", "--bundle", "4"], "order an earlier version");
        refused(&["--bundle", "4"], "nobody could apply another");
        // Nor does it help to have one signed.
        let order = house.order(&["--administrator", "grace", "--bundle", "2"]);
        let text = std::fs::read_to_string(&order).unwrap();
        for (version, why) in [("null", "an earlier version as well"), ("4", "order an earlier version")] {
            std::fs::write(&order, text.replace("\"bundle\":2", &format!("\"bundle\":{version}"))).unwrap();
            let (code, _, error) = house.apply(&order, &[&house.sign(&order, 0), &house.sign(&order, 2)]);
            assert!(code == Some(2) && error.contains("constitution") && error.contains(why), "{error}");
        }
        // The role itself may be gone, too, once nobody had it.
        let role = "from documents where kind = 'role' and name = 'administrator'";
        server.psql(database, &format!("delete {role}"));
        let before = server.psql(database, "select revision from installation");
        let (code, out, error) = recover(&["--administrator", "grace", "--bundle", "2"]);
        assert_eq!(code, Some(0), "{error}");
        let after = server.psql(database, "select revision from installation");
        assert_eq!(
            after.parse::<u64>().unwrap(),
            before.parse::<u64>().unwrap() + 1,
            "only the last one changed anything"
        );
        assert_eq!(server.psql(database, &format!("select count(*) {role}")), "1");
        let value: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value.pointer("/version"), Some(&json!(6)));
        // With policy that lets administrators in, a person alone is enough.
        let (code, out, error) = recover(&["--administrator", "ada"]);
        assert_eq!(code, Some(0), "{error}");
        let value: Value = serde_json::from_str(&out).unwrap();
        let key = value.pointer("/key/text").and_then(Value::as_str).unwrap().to_owned();
        (server, house, Secret::new(key))
    })
    .await;
    let node = Node::start(&config(&house.folder.path().join("data"), &house.settings)).await.unwrap();
    let control = format!("http://{}", node.control);
    blocking(move || {
        let admin = Client::new(&control, Some(key));
        let bundle = json!({"files": {"policy.cedar": POLICY}, "expect": 6});
        assert_eq!(
            admin.call("PUT", "/api/v1/policy", Some(&bundle)).unwrap().pointer("/version"),
            Some(&json!(7))
        );
    })
    .await;
    node.stop().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_recover_without_a_quorum_nothing_changes() {
    let house = locked_out().await;
    let other = locked_out().await;
    blocking(move || {
        let order = house.order(&["--administrator", "eve"]);
        let (first, second) = (house.sign(&order, 0), house.sign(&order, 1));
        let stranger = {
            let (_, signature, _) =
                house.run(&["recover", "sign", &order], other.keys.first().unwrap().expose());
            signature.trim().to_owned()
        };
        let refused = |signatures: &[&str], why: &str| {
            let (code, out, error) = house.apply(&order, signatures);
            assert!(
                code == Some(2) && out.is_empty() && error.contains(why),
                "{signatures:?}: {code:?} {out}{error}"
            );
        };
        refused(&[&first], "1 of the recovery keys have signed, 2 are needed");
        refused(&[&first, &first], "1 of the recovery keys have signed");
        refused(&[&first, &second, &stranger], "not by one of the recovery keys");
        // What was signed for one person is not good for another, nor for another installation.
        let text = std::fs::read_to_string(&order).unwrap();
        std::fs::write(&order, text.replace("eve", "mal")).unwrap();
        refused(&[&first, &second], "does not hold");
        std::fs::write(&order, text).unwrap();
        let (code, _, error) = other.apply(&order, &[&first, &second]);
        assert!(code == Some(2) && error.contains("not by one of the recovery keys"), "{error}");
        let (code, _, error) = house.run(&["recover", "sign", &order], "btzr_nonsense");
        assert!(code == Some(64) && !error.contains("nonsense"), "{error}");
        let (code, _, error) = house.run(&["recover", "order"], "");
        assert!(code == Some(2) && error.contains("administrator"), "{error}");
        // A bundle that never was cannot be returned to: nobody is asked to sign that, and signed it is refused, too.
        let (code, _, error) = house.run(&["recover", "order", "--bundle", "7"], "");
        assert!(code == Some(2) && error.contains("never in force"), "{error}");
        let order = house.order(&["--bundle", "1", "--administrator", "eve"]);
        let text = std::fs::read_to_string(&order).unwrap();
        std::fs::write(&order, text.replace("\"bundle\":1", "\"bundle\":7")).unwrap();
        let (first, second) = (house.sign(&order, 0), house.sign(&order, 1));
        let (code, _, error) = house.apply(&order, &[&first, &second]);
        assert!(code == Some(2) && error.contains("never in force"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_is_refused_while_a_node_runs() {
    let house = House::new().await;
    let folder = house.folder.path().to_str().unwrap().to_owned();
    let (code, error) = blocking(move || {
        let output = Command::new(env!("CARGO_BIN_EXE_bartizan"))
            .env_clear()
            .args(["recover", "order", "--administrator", "eve", "--data-folder", &folder])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    })
    .await;
    assert!(code == Some(1) && error.contains("another process"), "{error}");
    house.stop().await;
}
