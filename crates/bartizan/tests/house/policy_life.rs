//! The life of a policy, as those live it who write it, those who are decided by it, and an insider at the database.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bartizan_base::{Clock, Timestamp};
use bartizan_keys::{KeyFolder, PolicySigner, Statement};
use bartizan_model::Tenant;
use bartizan_rt::SystemClock;
use rusqlite::Connection;

use super::*;

impl House {
    async fn told(&self, method: &'static str, path: &str, body: Option<Value>) -> (u16, Value) {
        let (client, path) = (
            Client::new(&format!("http://{}", self.node.control), Some(self.admin_key.clone())),
            path.to_owned(),
        );
        let (status, text) = blocking(move || client.raw(method, &path, body.as_ref(), &[]).unwrap()).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn done(&self, method: &'static str, path: &str, body: Option<Value>) -> Value {
        let (status, value) = self.told(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {value}");
        value
    }

    /// A call with the id of its decision.
    async fn decided(&self, key: &Secret<String>, model: &str) -> (u16, String) {
        let (status, body) = self.chat(key, model, "say: hi").await;
        let told = body.pointer("/error/bartizan/decision").and_then(Value::as_str).map(str::to_owned);
        let id = match told {
            Some(id) => id,
            None => {
                let latest = self.done("GET", "/api/v1/decisions?limit=30", None).await;
                let ours = latest
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|d| d.pointer("/record/what/resource/name") == Some(&json!(model)));
                ours.unwrap().pointer("/record/id").and_then(Value::as_str).unwrap().to_owned()
            }
        };
        (status, id)
    }

    /// What the ledger says of events of this kind, once there are some.
    async fn events(&self, event: &str) -> Vec<Value> {
        for _ in 0..200 {
            let body = json!({"query": format!("event:{event}"), "limit": 100});
            let found = self.done("POST", "/api/v1/log/search", Some(body)).await;
            let entries = found.pointer("/entries").and_then(Value::as_array).unwrap().clone();
            let read = |e: &Value| {
                serde_json::from_str(e.pointer("/entry").and_then(Value::as_str).unwrap()).unwrap()
            };
            if !entries.is_empty() {
                return entries.iter().map(read).collect();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no event {event}")
    }

    fn run(&self, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
        use std::io::Write as _;
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
            .env_clear()
            .env("BARTIZAN_CONTROL_URL", format!("http://{}", self.node.control))
            .env("BARTIZAN_API_KEY", self.admin_key.expose())
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}

/// The demo's policy without what lets model users in for the models of the project.
fn stricter() -> Value {
    json!({"policy.cedar": format!("{POLICY}\n@id(\"assistant-is-closed\") forbid (principal, action in Action::\"model:use\", resource == Model::\"assistant\");")})
}

/// How many rules a large bundle has: the engine is some twenty times slower without optimisation.
const MANY: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };

fn demo() -> Value {
    json!({"policy.cedar": POLICY})
}

fn version(value: &Value) -> u64 {
    value.pointer("/version").and_then(Value::as_u64).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_changes_and_is_good_for_what_it_was_made_of_alone() {
    let house = House::new().await;
    for _ in 0..3 {
        assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    }
    house.chat(&house.carol, "weights-lab", "say: hi").await;
    house.node.seal().await.unwrap();
    let plan =
        house.done("POST", "/api/v1/policy/plan", Some(json!({"files": stricter(), "since_s": 3_600}))).await;
    let rules = plan.pointer("/difference/rules").unwrap();
    assert_eq!(rules.as_array().unwrap().len(), 1, "{rules}");
    assert_eq!(
        (rules.pointer("/0/id"), rules.pointer("/0/became"), rules.pointer("/0/widens")),
        (Some(&json!("assistant-is-closed")), Some(&json!("added")), Some(&json!("no")))
    );
    assert_eq!(plan.pointer("/difference/widens"), Some(&json!("no")));
    let group = plan.pointer("/replay/groups/0").unwrap();
    assert_eq!(
        (group.pointer("/from"), group.pointer("/to"), group.pointer("/rules"), group.pointer("/count")),
        (
            Some(&json!("permit")),
            Some(&json!("deny")),
            Some(&json!(["assistant-is-closed"])),
            Some(&json!(3))
        ),
        "{plan}"
    );
    let subject = plan.pointer("/replay/subjects/0").unwrap();
    assert_eq!(
        (subject.pointer("/name"), subject.pointer("/loses"), subject.pointer("/gains")),
        (Some(&json!("user/alice")), Some(&json!(3)), Some(&json!(0)))
    );
    let (all, unchanged) =
        (plan.pointer("/replay/decisions").unwrap(), plan.pointer("/replay/unchanged").unwrap());
    assert!(
        unchanged.as_u64().unwrap() >= 5 && all.as_u64().unwrap() > unchanged.as_u64().unwrap(),
        "{plan}"
    );

    // Another bundle than was planned, and another base than it was planned on, are refused.
    let put = |files: Value, plan: &Value, expect: u64| json!({"files": files, "expect": expect, "plan": plan.pointer("/plan")});
    let (status, body) = house.told("PUT", "/api/v1/policy", Some(put(demo(), &plan, 2))).await;
    assert_eq!((status, body.pointer("/reason")), (409, Some(&json!("conflict"))), "{body}");
    assert_eq!(version(&house.done("PUT", "/api/v1/policy", Some(put(stricter(), &plan, 2))).await), 3);
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 403);
    let (status, body) = house.told("PUT", "/api/v1/policy", Some(put(stricter(), &plan, 3))).await;
    assert_eq!((status, body.pointer("/reason")), (409, Some(&json!("conflict"))), "{body}");

    // Back in one step, as a new version.
    let back = house.done("POST", "/api/v1/policy/rollback", Some(json!({"to": 2}))).await;
    assert_eq!((version(&back), back.pointer("/restores")), (4, Some(&json!(2))));
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    for (to, reason, status) in [(99, "not_found", 404), (0, "not_found", 404)] {
        let (found, body) = house.told("POST", "/api/v1/policy/rollback", Some(json!({"to": to}))).await;
        assert_eq!((found, body.pointer("/reason")), (status, Some(&json!(reason))));
    }
    let (status, _) =
        house.told("POST", "/api/v1/policy/rollback", Some(json!({"to": 3, "expect": 2}))).await;
    assert_eq!(status, 409);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_answers_nobody_and_tells_what_it_would_have_said() {
    let house = House::new().await;
    let staged = house
        .done("PUT", "/api/v1/policy/candidate", Some(json!({"files": stricter(), "shadow_permille": 1000})))
        .await;
    assert_eq!((version(&staged), staged.pointer("/candidate/shadow_permille")), (3, Some(&json!(1000))));
    let (_, id) = house.decided(&house.alice.1, "assistant").await;
    for _ in 0..4 {
        assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    }
    assert_eq!(house.chat(&house.mallory, "assistant", "say: hi").await.0, 404);
    let mut status = Value::Null;
    for _ in 0..100 {
        status = house.done("GET", "/api/v1/policy/candidate", None).await;
        if status.pointer("/flips") == Some(&json!(5)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        (status.pointer("/flips"), status.pointer("/failed")),
        (Some(&json!(5)), Some(&json!(0))),
        "{status}"
    );
    let group = status.pointer("/groups/0").unwrap();
    assert_eq!(
        (group.pointer("/count"), group.pointer("/rules/0")),
        (Some(&json!(5)), Some(&json!("assistant-is-closed")))
    );
    assert!(group.pointer("/examples").unwrap().as_array().unwrap().contains(&json!(id)), "{group} {id}");
    let told = house.run(&["policy", "shadow", "status"], "");
    assert!(told.1.contains("permit → deny by [assistant-is-closed]: 5"), "{told:?}");
    // The record says what decided: the bundle in force.
    let shown = house.done("GET", &format!("/api/v1/decisions/{id}"), None).await;
    assert_eq!(shown.pointer("/record/grounds/policy"), staged.pointer("/digest"));

    // What could not be put in force cannot be tried either.
    for (body, status) in [
        (json!({"files": {"a.cedar": "permit (principal"}, "shadow_permille": 10}), 422),
        (
            json!({"files": {"a.cedar": "@id(\"x\") permit (principal in Role::\"model-user\", action, resource is Model);"}, "percent": 10}),
            403,
        ),
        (json!({"files": demo(), "shadow_permille": 10, "percent": 10}), 422),
        (json!({"files": demo()}), 422),
    ] {
        let (found, told) = house.told("PUT", "/api/v1/policy/candidate", Some(body)).await;
        assert_eq!(found, status, "{told}");
    }
    let ended = house.done("DELETE", "/api/v1/policy/candidate", None).await;
    assert_eq!((version(&ended), ended.pointer("/candidate")), (4, Some(&Value::Null)));
    let event = house.events("policy_compared").await;
    assert_eq!(event[0].pointer("/flips"), Some(&json!(5)), "{event:?}");
    assert_eq!(house.told("DELETE", "/api/v1/policy/candidate", None).await.0, 404);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_reaches_groups_then_a_share_then_all_and_the_record_says_what_decided() {
    let house = House::new().await;
    let first = house.done("GET", "/api/v1/policy", None).await;
    let staged = house
        .done(
            "PUT",
            "/api/v1/policy/candidate",
            Some(json!({"files": stricter(), "groups": ["contractors"]})),
        )
        .await;
    let candidate = staged.pointer("/candidate/digest").unwrap().clone();
    // Alice is no contractor, Carol is one.
    let (alice, by_base) = house.decided(&house.alice.1, "assistant").await;
    let (carol, by_candidate) = house.decided(&house.carol, "assistant").await;
    assert_eq!((alice, carol), (200, 403));
    for (id, digest) in [(&by_base, first.pointer("/digest").unwrap()), (&by_candidate, &candidate)] {
        let shown = house.done("GET", &format!("/api/v1/decisions/{id}"), None).await;
        assert_eq!(shown.pointer("/record/grounds/policy"), Some(digest), "{shown}");
        let again = house.done("GET", &format!("/api/v1/decisions/{id}/replay"), None).await;
        assert_eq!(again.pointer("/same"), Some(&json!(true)), "{again}");
    }
    // Stopped in one step.
    let (code, out, error) = house.run(&["policy", "rollout", "--abort"], "");
    assert!(code == Some(0) && out.contains("version 4"), "{out}{error}");
    assert_eq!(house.chat(&house.carol, "assistant", "say: hi").await.0, 200);
    // A share is stable: whoever is in stays in while it grows, and with all of them it is the bundle in force.
    let mut inside = [false; 2];
    for percent in [10, 50, 100] {
        let mut body = json!({"percent": percent});
        if percent == 10 {
            body["files"] = stricter();
        }
        let put = house.done("PUT", "/api/v1/policy/candidate", Some(body)).await;
        assert_eq!(put.pointer("/candidate") == Some(&Value::Null), percent == 100);
        for (key, was) in [&house.alice.1, &house.carol].into_iter().zip(&mut inside) {
            let now = house.chat(key, "assistant", "say: hi").await.0 == 403;
            assert_eq!(house.chat(key, "assistant", "say: hi").await.0 == 403, now);
            assert!(now || !*was, "whoever was in stays in");
            *was = now;
        }
    }
    assert_eq!(inside, [true; 2]);
    assert_eq!(house.done("GET", "/api/v1/policy", None).await.pointer("/digest"), Some(&candidate));
    assert_eq!(house.told("PUT", "/api/v1/policy/candidate", Some(json!({"percent": 20}))).await.0, 404);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_same_a_decision_comes_out_again_bit_for_bit_until_its_subject_is_erased() {
    let settings = [("replay.check_interval_s", "1".to_owned())];
    let house = House::with(&settings).await;
    let more = "@id(\"auditors-read-and-erase\") permit (principal in Role::\"administrator\", action in [Action::\"content:read\", Action::\"subject:erase\"], resource);";
    let files = json!({"policy.cedar": POLICY, "more.cedar": more});
    house.done("PUT", "/api/v1/policy", Some(json!({"files": files, "expect": 2}))).await;
    let (_, permitted) = house.decided(&house.alice.1, "assistant").await;
    let (_, redacted) = house.decided(&house.carol, "assistant").await;
    let (status, refused) = house.decided(&house.alice.1, "assistant-prod").await;
    assert_eq!(status, 401);
    let latest = house.done("GET", "/api/v1/decisions?limit=50", None).await;
    let mut administrative = latest.as_array().unwrap().iter();
    let administrative =
        administrative.find(|d| d.pointer("/record/what/action") == Some(&json!("policy:apply")));
    let administrative =
        administrative.unwrap().pointer("/record/id").and_then(Value::as_str).unwrap().to_owned();
    // Also after policy and directory have moved on.
    let moved = json!({"policy.cedar": stricter().pointer("/policy.cedar"), "more.cedar": more});
    house.done("PUT", "/api/v1/policy", Some(json!({"files": moved, "expect": 3}))).await;
    let replay = |id: &str| format!("/api/v1/decisions/{id}/replay");
    for id in [&permitted, &redacted, &refused, &administrative] {
        let again = house.done("GET", &replay(id), None).await;
        assert_eq!(again.pointer("/same"), Some(&json!(true)), "{again}");
    }
    // Whoever could not even be identified was never decided on by policy.
    let unknown = Secret::new("btz_not_a_key".to_owned());
    let (_, early) = house.decided(&unknown, "assistant").await;
    let again = house.done("GET", &replay(&early), None).await;
    assert_eq!(again.pointer("/not_replayable"), Some(&json!("not_decided_by_policy")), "{again}");

    // Taken along, it is decided again without us; and whatever is changed of it shows.
    let saved = house.folder.path().join("decision.json");
    let path = saved.to_str().unwrap().to_owned();
    let (code, out, error) = house.run(&["decision", "replay", &redacted, "--save", &path], "");
    assert!(code == Some(0) && out.contains("the same again"), "{out}{error}");
    let text = std::fs::read_to_string(&saved).unwrap();
    let offline = |text: &str| {
        std::fs::write(&saved, text).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
            .env_clear()
            .args(["decision", "replay", "--from", &path])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(offline(&text).0, Some(0));
    let material: Value = serde_json::from_str(&text).unwrap();
    let change = |pointer: &str, to: Value| {
        let mut changed = material.clone();
        *changed.pointer_mut(pointer).unwrap() = to;
        offline(&changed.to_string())
    };
    for (pointer, to, told) in [
        ("/ask/facts/bytes", json!(7), "context"),
        ("/ask/subject/assurance/level", json!(4), "context"),
        ("/record/grounds/rules", json!(["model-users-use-models"]), "rules"),
        ("/record/obligations", json!([]), "obligations"),
        ("/entities", json!([]), "verdict"),
        ("/files", stricter(), "policy"),
    ] {
        let (code, out) = change(pointer, to);
        assert!(
            code == Some(2) && out.contains("NOT THE SAME") && out.contains(told),
            "{pointer}: {code:?} {out}"
        );
    }
    // The house checks itself.
    let checked = house.events("replay_checked").await;
    assert!(checked.iter().all(|e| e.pointer("/differing") == Some(&json!(0))), "{checked:?}");
    assert!(checked[0].pointer("/same").and_then(Value::as_u64).unwrap() >= 4, "{checked:?}");

    // Gone with its subject, and nobody else's with it.
    house.done("POST", "/api/v1/subjects/user/alice/erase", Some(json!({"basis": "objection"}))).await;
    for id in [&permitted, &refused] {
        let again = house.done("GET", &replay(id), None).await;
        assert_eq!(again.pointer("/not_replayable"), Some(&json!("erased")), "{again}");
    }
    assert_eq!(house.run(&["decision", "replay", &permitted], "").0, Some(1));
    assert_eq!(house.done("GET", &replay(&redacted), None).await.pointer("/same"), Some(&json!(true)));
    house.node.seal().await.unwrap();
    let under = house
        .done("POST", "/api/v1/decisions/replay", Some(json!({"files": demo(), "since_s": 3_600})))
        .await;
    assert!(under.pointer("/not_replayable/erased").and_then(Value::as_u64).unwrap() >= 2, "{under}");
    // What comes later is kept again.
    let (_, later) = house.decided(&house.alice.1, "assistant").await;
    assert_eq!(house.done("GET", &replay(&later), None).await.pointer("/same"), Some(&json!(true)));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_decisions_are_replayed_under_a_draft_and_every_flip_is_listed_by_its_rule() {
    let house = House::new().await;
    for _ in 0..25 {
        house.chat(&house.alice.1, "assistant", "say: hi").await;
        house.chat(&house.mallory, "assistant", "say: hi").await;
    }
    house.node.seal().await.unwrap();
    let draft = house.folder.path().join("draft");
    std::fs::create_dir(&draft).unwrap();
    let open = POLICY.replace(
        "permit (principal in Role::\"model-user\", action in [Action::\"model:use\"",
        "permit (principal, action in [Action::\"model:use\"",
    );
    assert_ne!(open, POLICY);
    std::fs::write(draft.join("policy.cedar"), &open).unwrap();
    let path = draft.to_str().unwrap();
    let (code, out, error) = house.run(&["decision", "replay", "--since", "7d", "--with", path], "");
    assert_eq!(code, Some(2), "{out}{error}");
    assert!(out.contains("deny → permit by [model-users-use-models]: "), "{out}");
    assert!(out.contains("user/mallory: loses 0, gains "), "{out}");
    std::fs::write(draft.join("policy.cedar"), POLICY).unwrap();
    let (code, out, error) = house.run(&["decision", "replay", "--since", "7d", "--with", path], "");
    assert!(code == Some(0) && out.contains(" 0 come out otherwise"), "{out}{error}");
    let limited = house
        .done(
            "POST",
            "/api/v1/decisions/replay",
            Some(json!({"files": demo(), "since_s": 3_600, "limit": 5})),
        )
        .await;
    assert_eq!(
        (limited.pointer("/decisions"), limited.pointer("/truncated")),
        (Some(&json!(5)), Some(&json!(true)))
    );
    house.stop().await;
}

/// Somebody with the state database and without the key.
struct Insider(std::path::PathBuf);

impl Insider {
    fn sql(&self, sql: &str) {
        let connection = Connection::open(&self.0).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
            .execute_batch(&format!(
                "begin immediate; {sql}; update installation set revision = revision + 1; commit"
            ))
            .unwrap();
    }
}

fn copy_of(version: u64, tenant: &str, as_version: &str, digest: &str, files: &str, signed: &str) -> String {
    format!(
        "insert into bundles (tenant, version, base, digest, files, signed) \
         select {tenant}, {as_version}, base, {digest}, {files}, {signed} from bundles where version = {version} and tenant = 'default'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insider_at_the_database_puts_nothing_in_force_and_the_last_good_one_stays() {
    let house = House::new().await;
    house.done("PUT", "/api/v1/policy", Some(json!({"files": stricter(), "expect": 2}))).await;
    let insider = Insider(house.folder.path().join("state.db"));
    let seed = KeyFolder::open(&house.folder.path().join("keys")).unwrap().policy_seed().unwrap();
    let stranger = PolicySigner::from_seed(&Secret::new([9; 32])).unwrap();
    let open = bartizan_decide::Bundle {
        files: [("a.cedar".to_owned(), "@id(\"all\") permit (principal, action, resource);".to_owned())]
            .into(),
    };
    let files = serde_json::to_string(&open.files).unwrap().replace('\'', "''");
    let statement = |version, tenant: Tenant| Statement {
        tenant,
        name: String::new(),
        version,
        base: None,
        bundle: open.digest(),
        candidate: None,
        restores: None,
        created: Timestamp::from_secs(1_800_000_000),
        author: None,
        authored: None,
    };
    let ours = PolicySigner::from_seed(&seed).unwrap();
    let theirs = stranger.sign(&statement(4, Tenant::default_tenant())).unwrap();
    let elsewhere = ours.sign(&statement(4, Tenant("other".parse().unwrap()))).unwrap();
    let (digest, quoted) = (format!("'{}'", open.digest()), |text: &str| format!("'{text}'"));
    let tries = [
        ("policy_unsigned", copy_of(3, "tenant", "4", &digest, &quoted(&files), "''")),
        ("policy_signature_invalid", copy_of(3, "tenant", "4", &digest, &quoted(&files), &quoted(&theirs))),
        ("policy_tenant_mismatch", copy_of(3, "tenant", "4", &digest, &quoted(&files), &quoted(&elsewhere))),
        (
            "policy_digest_mismatch",
            copy_of(3, "tenant", "version", "digest", &quoted(&files), "signed")
                .replace("insert", "insert or replace"),
        ),
        (
            "policy_digest_mismatch",
            copy_of(3, "tenant", "version", &digest, &quoted(&files), "signed")
                .replace("insert", "insert or replace"),
        ),
        // The demo's bundle again, under a new number; and as if nothing had come after it.
        ("policy_replayed", copy_of(2, "tenant", "4", "digest", "files", "signed")),
        ("policy_replayed", "delete from bundles where version > 2".to_owned()),
        ("policy_replayed", "delete from bundles".to_owned()),
    ];
    let (keep, restore) = (
        "create table kept as select * from bundles",
        "delete from bundles; insert into bundles select * from kept",
    );
    insider.sql(keep);
    let mut seen = 0;
    for (reason, sql) in tries {
        insider.sql(&sql);
        // The alarm, and its own reason.
        let mut told = Vec::new();
        for _ in 0..100 {
            told = house.events("policy_rejected").await;
            if told.len() > seen {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(told.len(), seen + 1, "{reason}: {sql}");
        assert_eq!(told[0].pointer("/reason"), Some(&json!(reason)), "{sql}: {told:?}");
        seen += 1;
        // The last good one decides on.
        assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 403, "{sql}");
        assert_eq!(
            house.chat(&house.alice.1, "private", "say: hi").await.1.pointer("/error/bartizan/reason"),
            Some(&json!("egress_forbidden"))
        );
        let shown = house.done("GET", "/api/v1/policy", None).await;
        assert_eq!(version(&shown), 3);
        insider.sql(restore);
    }
    let operations = Client::new(&format!("http://{}", house.node.operations), None);
    let (_, metrics) = blocking(move || operations.raw("GET", "/metrics", None, &[]).unwrap()).await;
    assert!(metrics.contains(&format!("bartizan_bundles_rejected_total {seen}")), "{metrics}");

    // Also over a restart on a database that was set back; and the way on is a version above all that were seen.
    insider.sql("delete from bundles where version > 2");
    let (alice, admin) = (house.alice.1.clone(), house.admin_key.clone());
    let folder = house.stop().await;
    let node = Node::start(&config(folder.path(), &[])).await.unwrap();
    let (data, control) = (format!("http://{}", node.data), format!("http://{}", node.control));
    blocking(move || {
        let admin = Client::new(&control, Some(admin));
        assert_eq!(version(&admin.call("GET", "/api/v1/policy", None).unwrap()), 3);
        let call = json!({"model": "assistant", "messages": [{"role": "user", "content": "say: hi"}]});
        let chat = Client::new(&data, Some(alice));
        assert_eq!(chat.raw("POST", "/v1/chat/completions", Some(&call), &[]).unwrap().0, 403);
        let put = admin.call("PUT", "/api/v1/policy", Some(&json!({"files": demo(), "expect": 3}))).unwrap();
        assert_eq!(version(&put), 4);
        assert_ne!(chat.raw("POST", "/v1/chat/completions", Some(&call), &[]).unwrap().0, 403);
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_authors_are_named_a_bundle_needs_the_signature_of_one_for_this_bundle_on_this_version() {
    let (keys, stranger) = (House::run_key(), House::run_key());
    let house = {
        // The house is furnished before authors are named.
        let house = House::new().await;
        let (admin_key, alice) = (house.admin_key.clone(), house.alice.1.clone());
        let folder = house.stop().await;
        let settings = [("policy.signers", keys.0.clone())];
        let node = Node::start(&config(folder.path(), &settings)).await.unwrap();
        (node, folder, admin_key, alice)
    };
    let (node, folder, admin_key, _) = house;
    let control = format!("http://{}", node.control);
    let draft = folder.path().join("draft");
    blocking(move || {
        std::fs::create_dir(&draft).unwrap();
        std::fs::write(
            draft.join("policy.cedar"),
            stricter().pointer("/policy.cedar").unwrap().as_str().unwrap(),
        )
        .unwrap();
        let admin = Client::new(&control, Some(admin_key));
        let put = |expect: u64, signatures: Vec<String>| {
            admin
                .raw(
                    "PUT",
                    "/api/v1/policy",
                    Some(&json!({"files": stricter(), "expect": expect, "signatures": signatures})),
                    &[],
                )
                .unwrap()
        };
        let sign = |key: &str, base: &str| {
            let output = run_with(&["policy", "sign", draft.to_str().unwrap(), "--base", base], key);
            assert!(output.0 == Some(0) && !output.1.contains(key), "{output:?}");
            output.1.trim().to_owned()
        };
        let missing = |(status, text): (u16, String)| {
            assert!(status == 403 && text.contains("policy_author_missing"), "{text}")
        };
        missing(put(2, Vec::new()));
        missing(put(2, vec![sign(&stranger.1, "2")]));
        missing(put(2, vec![sign(&keys.1, "1")]));
        let good = sign(&keys.1, "2");
        let (status, text) = put(2, vec![good.clone()]);
        assert_eq!(status, 200, "{text}");
        // The same signature is good once: the version has moved on.
        missing(put(3, vec![good]));
        // A version that no author has signed cannot be returned to; one that was can.
        let back =
            |to: u64| admin.raw("POST", "/api/v1/policy/rollback", Some(&json!({"to": to})), &[]).unwrap();
        missing(back(2));
        assert_eq!(back(3).0, 200);
        let (status, _) = admin
            .raw("PUT", "/api/v1/policy/candidate", Some(&json!({"files": demo(), "percent": 10})), &[])
            .unwrap();
        assert_eq!(status, 403);
    })
    .await;
    node.stop().await;
}

fn run_with(arguments: &[&str], input: &str) -> (Option<i32>, String) {
    use std::io::Write as _;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
        .env_clear()
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

impl House {
    /// An author's key: public and private half.
    fn run_key() -> (String, String) {
        let (_, out) = run_with(&["--output", "json", "policy", "key"], "");
        let value: Value = serde_json::from_str(&out).unwrap();
        let part = |name: &str| value.pointer(name).and_then(Value::as_str).unwrap().to_owned();
        (part("/public"), part("/private"))
    }
}

/// Rules that match nobody who asks here, with the demo's policy, and a word of its own in the schema.
fn large(rules: usize, word: &str) -> Value {
    let mut text = String::from(POLICY);
    for n in 0..rules {
        text.push_str(&format!(
            "\n@id(\"r{n}\") permit (principal in Group::\"g{n}\", action == Action::\"model:invoke\", resource == Model::\"m{n}\") when {{ context.time.hour < 20 }};"
        ));
    }
    json!({"policy.cedar": text, "schema/more.cedarschema": format!("entity {word};")})
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_large_bundle_with_another_schema_comes_into_force_decisions_go_on_and_none_is_torn() {
    let house = House::new().await;
    let (over, slowest, count) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let clock = SystemClock::new();
    let asking = async |key: &Secret<String>, expect: u16| {
        while !over.load(Ordering::Relaxed) {
            let began = clock.monotonic_us();
            let (status, body) = house.chat(key, "assistant", "say: hi").await;
            assert_eq!(status, expect, "{body}");
            slowest.fetch_max((clock.monotonic_us() - began) / 1_000, Ordering::Relaxed);
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    let applying = async {
        let first = house.done("GET", "/api/v1/policy", None).await;
        let (mut digests, mut longest) = (vec![first.pointer("/digest").unwrap().clone()], 0);
        for (expect, files) in [(2, large(MANY, "Ward")), (3, large(50, "Bed")), (4, demo())] {
            let began = clock.monotonic_us();
            let body = json!({"files": files, "expect": expect});
            let put = house.done("PUT", "/api/v1/policy", Some(body)).await;
            longest = longest.max((clock.monotonic_us() - began) / 1_000);
            digests.push(put.pointer("/digest").unwrap().clone());
        }
        over.store(true, Ordering::Relaxed);
        (digests, longest)
    };
    let ((), (), (digests, longest)) =
        tokio::join!(asking(&house.alice.1, 200), asking(&house.mallory, 404), applying);
    let (slowest, count) = (slowest.load(Ordering::Relaxed), count.load(Ordering::Relaxed));
    println!(
        "{count} decisions; the slowest took {slowest} ms while a bundle took {} ms to come into force",
        longest
    );
    assert!(count > 20 && slowest * 3 < longest.max(6_000), "{slowest} of {longest}");
    // Each was decided by one whole bundle, and comes out again.
    let latest = house.done("GET", "/api/v1/decisions?limit=300", None).await;
    let calls: Vec<&Value> = latest
        .as_array()
        .unwrap()
        .iter()
        .filter(|d| d.pointer("/record/what/resource/name") == Some(&json!("assistant")))
        .collect();
    assert!(calls.iter().all(|d| digests.contains(d.pointer("/record/grounds/policy").unwrap())));
    let permitted = calls.iter().filter(|d| d.pointer("/record/kind") == Some(&json!("intent")));
    for call in permitted.step_by(17) {
        let id = call.pointer("/record/id").and_then(Value::as_str).unwrap();
        let again = house.done("GET", &format!("/api/v1/decisions/{id}/replay"), None).await;
        assert_eq!(again.pointer("/same"), Some(&json!(true)), "{again}");
    }
    house.stop().await;
}

/// A clock that is set about.
#[derive(Debug)]
struct Jumping(SystemClock, AtomicI64);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        let now = i64::try_from(self.0.now().as_micros()).unwrap() + self.1.load(Ordering::Relaxed);
        Timestamp::from_micros(u64::try_from(now).unwrap())
    }

    fn monotonic_us(&self) -> u64 {
        self.0.monotonic_us()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_moves_no_version_back_and_every_decision_comes_out_again() {
    let clock = Arc::new(Jumping(SystemClock::new(), AtomicI64::new(0)));
    let house = House::on(&[], Machine { clock: clock.clone(), ..Machine::default() }).await;
    let hour = 3_600_000_000_i64;
    let mut decisions = Vec::new();
    let mut last = version(&house.done("GET", "/api/v1/policy", None).await);
    for (jump, files) in [(0, stricter()), (2 * hour, demo()), (-hour, stricter()), (0, demo())] {
        clock.1.store(jump, Ordering::Relaxed);
        let put = house.done("PUT", "/api/v1/policy", Some(json!({"files": files, "expect": last}))).await;
        assert_eq!(version(&put), last + 1);
        last += 1;
        let (status, id) = house.decided(&house.alice.1, "assistant").await;
        assert_eq!(status, if files == demo() { 200 } else { 403 }, "{jump}");
        decisions.push(id);
    }
    for id in decisions {
        let again = house.done("GET", &format!("/api/v1/decisions/{id}/replay"), None).await;
        assert_eq!(again.pointer("/same"), Some(&json!(true)), "{again}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_decision_is_explained_as_far_as_its_reader_may_see_until_its_subject_is_erased() {
    let house = House::new().await;
    let more = r#"
        @id("ada-erases") permit (principal == User::"ada", action == Action::"subject:erase", resource);
        @id("carol-reads-decisions") permit (principal == User::"carol", action == Action::"decision:read", resource);
        @id("not-from-here") @description("Not from this machine.") @reason("custom:from-here")
        forbid (principal, action == Action::"model:invoke", resource == Model::"assistant")
        when { context has network && context.network.kind == "loopback" };"#;
    let reading = r#"@id("ada-reads-content") permit (principal == User::"ada", action == Action::"content:read", resource);"#;
    let reasons = r#"reasons = ["custom:from-here"]"#;
    let files = json!({"policy.cedar": POLICY, "more.cedar": more, "bundle.toml": reasons});
    house.done("PUT", "/api/v1/policy", Some(json!({"files": files, "expect": 2}))).await;
    let (status, refused) = house.decided(&house.alice.1, "assistant").await;
    assert_eq!(status, 403);
    let path = format!("/api/v1/decisions/{refused}/explanation");
    let seen_by = async |key: &Secret<String>| {
        let client = Client::new(&format!("http://{}", house.node.control), Some(key.clone()));
        let path = path.clone();
        let (status, text) = blocking(move || client.raw("GET", &path, None, &[]).unwrap()).await;
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    // Policy has moved on: it is told by the bundle that decided.
    let moved = json!({"policy.cedar": POLICY, "reading.cedar": reading, "more.cedar": more.replace("not-from-here", "other"), "bundle.toml": reasons});
    // Whoever reads policy sees rules and conditions, and no personal values without the right to read content.
    let (_, told) = seen_by(&house.admin_key).await;
    assert_eq!((&told["same"], &told["verdict"]), (&json!(true), &json!("deny")), "{told:#}");
    let text = told["text"].as_str().unwrap().to_owned();
    assert!(text.contains("`not-from-here` forbids") && text.contains("Not from this machine."), "{text}");
    assert!(text.contains("context.network.kind is (hidden)"), "{text}");
    house.done("PUT", "/api/v1/policy", Some(json!({"files": moved, "expect": 3}))).await;
    let (_, told) = seen_by(&house.admin_key).await;
    let text = told["text"].as_str().unwrap();
    assert!(text.contains("`not-from-here` forbids") && !text.contains("`other`"), "{text}");
    assert!(text.contains("context.network.kind is") && !text.contains("(hidden)"), "{text}");
    // Whoever reads decisions alone sees what is on record and why, and nothing of the rules.
    let (status, told) = seen_by(&house.carol).await;
    assert_eq!((status, &told["same"], &told["reasons"][0]), (200, &json!(true), &json!("custom:from-here")));
    let all = told.to_string();
    for hidden in ["Not from this machine", "loopback", "127.0.0.1", "context.network", "\"near\":[\""] {
        assert!(!all.contains(hidden), "{hidden}: {told:#}");
    }
    assert_eq!(seen_by(&house.alice.1).await.0, 403);
    let (code, out, error) = house.run(&["decision", "explain", &refused], "");
    assert!(code == Some(0) && out.contains("forbidden by: `not-from-here`"), "{out}{error}");
    // What was never asked of policy has no more to tell, and what is erased neither.
    let (_, early) = house.decided(&Secret::new("btz_not_a_key".to_owned()), "assistant").await;
    let told = house.done("GET", &format!("/api/v1/decisions/{early}/explanation"), None).await;
    assert_eq!(
        (&told["not_replayable"], &told["explanation"]),
        (&json!("not_decided_by_policy"), &Value::Null)
    );
    house.done("POST", "/api/v1/subjects/user/alice/erase", Some(json!({"basis": "objection"}))).await;
    let (_, told) = seen_by(&house.admin_key).await;
    assert_eq!((&told["not_replayable"], &told["explanation"]), (&json!("erased"), &Value::Null), "{told:#}");
    assert_eq!((&told["verdict"], &told["rules"]), (&json!("deny"), &json!(["not-from-here"])));
    assert_eq!(house.run(&["decision", "explain", &refused], "").0, Some(1));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_without_a_solver_says_unavailable_and_never_safe() {
    let house = House::new().await;
    let wider = POLICY.replacen("context.assurance.level >= 3", "context.assurance.level >= 2", 1);
    let plan =
        house.done("POST", "/api/v1/policy/plan", Some(json!({"files": {"policy.cedar": wider}}))).await;
    if cfg!(feature = "proofs") {
        // The program of this test is no prover, whatever it answers.
        assert_ne!(plan.pointer("/proof/outcome"), Some(&json!("proven")), "{plan}");
    } else {
        assert_eq!(plan.pointer("/proof/outcome"), Some(&json!("unavailable")), "{plan}");
    }
    assert_ne!(plan.pointer("/difference/widens"), Some(&json!("no")), "{plan}");
    // Nothing changes, so there is nothing to prove.
    let same = house.done("POST", "/api/v1/policy/plan", Some(json!({"files": demo()}))).await;
    assert_eq!(
        (same.pointer("/proof"), same.pointer("/difference/widens")),
        (Some(&Value::Null), Some(&json!("no")))
    );
    house.stop().await;
}
