//! The ledger as people ask it: searched, paged, saved, exported; every reading an ask of its own.

use std::fs;

use super::*;

async fn ask(client: &Client, body: Value) -> Result<Value, bartizan_cli::ClientError> {
    let client = client.clone();
    blocking(move || client.call("POST", "/api/v1/log/search", Some(&body))).await
}

fn places(page: &Value) -> Vec<u64> {
    let entries = page["entries"].as_array().unwrap();
    entries.iter().map(|e| e["index"].as_u64().unwrap()).collect()
}

fn records(page: &Value) -> Vec<Value> {
    let entries = page["entries"].as_array().unwrap();
    entries.iter().map(|e| serde_json::from_str(e["entry"].as_str().unwrap()).unwrap()).collect()
}

/// Seals, and waits until what was sealed can be found.
async fn settled(house: &House, query: &str, count: usize) -> Value {
    house.node.seal().await.unwrap();
    for _ in 0..600 {
        let page = ask(&house.admin, json!({"query": query, "limit": 1000})).await.unwrap();
        if places(&page).len() >= count {
            return page;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("`{query}` never found {count} entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_found_by_what_it_says_and_never_for_whoever_may_not_read() {
    let house = House::new().await;
    for _ in 0..3 {
        assert_eq!(house.chat(&house.mallory, "assistant", "let me in").await.0, 404);
    }
    assert_eq!(house.chat(&house.alice.1, "assistant", "hello").await.0, 200);
    let page = settled(&house, "kind:refusal action:model:invoke", 3).await;
    for record in records(&page) {
        assert_eq!((&record["kind"], &record["verdict"]), (&json!("refusal"), &json!("deny")));
    }
    // The prompt is nowhere: not in the ledger, not in the index.
    assert!(places(&ask(&house.admin, json!({"query": "\"let me in\""})).await.unwrap()).is_empty());
    let index = fs::read_dir(house.folder.path().join("index")).unwrap();
    for file in index {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|w| w == b"let me in"));
    }
    let control = format!("http://{}", house.node.control);
    let alice = Client::new(&control, Some(house.alice.1.clone()));
    let refused = ask(&alice, json!({"query": "kind:refusal"})).await.unwrap_err();
    assert!(matches!(&refused, bartizan_cli::ClientError::Refused { status: 403, .. }), "{refused}");
    // Reading is recorded too, with who read.
    let read = settled(&house, "action:ledger:read kind:intent", 1).await;
    assert!(!places(&read).is_empty());
    let tried = settled(&house, "action:ledger:read kind:refusal", 1).await;
    assert_eq!(places(&tried).len(), 1);
    drop(house.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_pages_never_change_though_the_ledger_grows_and_the_index_is_lost() {
    let house = House::new().await;
    for _ in 0..12 {
        assert_eq!(house.chat(&house.mallory, "assistant", "x").await.0, 404);
    }
    settled(&house, "kind:refusal", 12).await;
    let question = json!({"query": "kind:refusal", "limit": 5});
    let with = |cursor: &Value| json!({"query": "kind:refusal", "limit": 5, "cursor": cursor});
    let first = ask(&house.admin, question).await.unwrap();
    let second = ask(&house.admin, with(&first["next"])).await.unwrap();
    let (here, next) = (first["here"].clone(), first["next"].clone());
    for _ in 0..6 {
        house.chat(&house.mallory, "assistant", "y").await;
    }
    settled(&house, "kind:refusal", 18).await;
    assert_eq!(places(&ask(&house.admin, with(&here)).await.unwrap()), places(&first));
    assert_eq!(places(&ask(&house.admin, with(&next)).await.unwrap()), places(&second));
    // The index is thrown away while the house is down, and damaged another time.
    let key = house.admin_key.clone();
    let folder = house.stop().await;
    for damage in [false, true] {
        for file in fs::read_dir(folder.path().join("index")).unwrap() {
            let path = file.unwrap().path();
            if damage { fs::write(&path, "no database").unwrap() } else { fs::remove_file(&path).unwrap() }
        }
        let node = Node::start(&config(folder.path(), &[])).await.unwrap();
        let admin = Client::new(&format!("http://{}", node.control), Some(key.clone()));
        let mut again = Vec::new();
        for _ in 0..600 {
            // Behind until the index has come as far as the cursor.
            if let Ok(page) = ask(&admin, with(&next)).await {
                again = places(&page);
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(again, places(&second), "damaged: {damage}");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_cannot_be_read_says_where_and_a_foreign_cursor_gives_nothing() {
    let house = House::new().await;
    settled(&house, "", 1).await;
    for (body, says) in [
        (json!({"query": "kidn:refusal"}), "kind"),
        (json!({"query": "(kind:refusal"}), ""),
        (json!({"query": "kind:refusal", "cursor": "forged"}), ""),
        (json!({"view": "absent"}), "absent"),
        (json!({"format": "ocsf"}), ""),
    ] {
        let refused = ask(&house.admin, body.clone()).await.unwrap_err();
        let bartizan_cli::ClientError::Refused { status, message, .. } = refused else { panic!("{body}") };
        assert!((400..500).contains(&status) && message.contains(says), "{body}: {status} {message}");
    }
    let page = ask(&house.admin, json!({"query": "kind:system", "limit": 1})).await.unwrap();
    let other = json!({"query": "kind:intent", "limit": 1, "cursor": page["here"]});
    assert!(ask(&house.admin, other).await.is_err(), "a cursor belongs to its question");
    drop(house.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_view_narrows_a_question_and_a_wrong_one_cannot_be_saved() {
    let house = House::new().await;
    house.chat(&house.mallory, "assistant", "x").await;
    house.chat(&house.alice.1, "assistant", "x").await;
    settled(&house, "kind:refusal", 1).await;
    let apply = |query: &str| {
        let document = json!([{"name": "models", "spec": {"kind": "view", "query": query}}]);
        let client = house.admin.clone();
        blocking(move || client.call("POST", "/api/v1/resources", Some(&document)))
    };
    let refused = apply("action:model:* or").await.unwrap_err().to_string();
    assert!(refused.contains("models"), "{refused}");
    apply("action:model:invoke or kind:system").await.unwrap();
    let page = ask(&house.admin, json!({"view": "models", "query": "kind:refusal"})).await.unwrap();
    assert_eq!(places(&page).len(), 1);
    let page = ask(&house.admin, json!({"view": "models", "query": "kind:intent"})).await.unwrap();
    assert!(records(&page).iter().all(|r| r["what"]["action"] == "model:invoke"), "{page}");
    drop(house.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_holds_every_entry_and_taking_along_is_recorded() {
    let house = House::new().await;
    for _ in 0..4 {
        house.chat(&house.mallory, "assistant", "x").await;
    }
    settled(&house, "kind:refusal", 4).await;
    let export = |format: &'static str, key: &Secret<String>, search: Value| {
        let client = Client::new(&format!("http://{}", house.node.control), Some(key.clone()));
        let body = json!({"format": format, "search": search});
        blocking(move || client.bytes("/api/v1/log/export", &body, "bartizan-next"))
    };
    let search = json!({"query": "kind:refusal action:model:invoke", "first": "oldest"});
    for format in ["jsonl", "ocsf", "cef", "otlp-json", "parquet"] {
        let (bytes, next) = export(format, &house.admin_key, search.clone()).await.unwrap();
        assert_eq!(next, None);
        match format {
            "parquet" => assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1")),
            "otlp-json" => assert!(String::from_utf8(bytes).unwrap().contains("resourceLogs")),
            _ => assert_eq!(String::from_utf8(bytes).unwrap().lines().count(), 4, "{format}"),
        }
    }
    // Piece by piece it is the same.
    let (whole, _) = export("jsonl", &house.admin_key, search.clone()).await.unwrap();
    let (mut pieces, mut search) =
        (Vec::new(), json!({"query": "kind:refusal action:model:invoke", "first": "oldest", "limit": 3}));
    loop {
        let (bytes, next) = export("jsonl", &house.admin_key, search.clone()).await.unwrap();
        pieces.extend(bytes);
        match next {
            Some(next) => search["cursor"] = next.into(),
            None => break,
        }
    }
    assert_eq!(pieces.len(), whole.len());
    assert!(export("xml", &house.admin_key, json!({})).await.is_err());
    assert!(export("cef", &house.alice.1, json!({})).await.is_err());
    let taken = settled(&house, "action:ledger:export kind:intent", 5).await;
    assert!(places(&taken).len() >= 5);
    drop(house.stop().await);
}
