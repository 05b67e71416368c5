//! The ledger as its mirror in a foreign store shows it; `tests/outside/deliver.py` runs the store.

use super::*;

fn get(url: &str) -> Option<Vec<u8>> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    // The store does not check signatures, but wants to see one.
    let signed = "AWS4-HMAC-SHA256 Credential=gate/20261120/us-east-1/s3/aws4_request";
    let mut answer = agent.get(url).header("authorization", signed).call().unwrap();
    (answer.status() == 200).then(|| answer.body_mut().read_to_vec().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3-compatible store: `python3 tests/outside/deliver.py`"]
async fn foreign_store_a_mirror_holds_every_tile_of_its_checkpoint() {
    let store = std::env::var_os("BARTIZAN_TEST_S3").unwrap().into_string().unwrap();
    let house = House::new().await;
    house.credential("bucket", "secret-access-key-of-the-bucket").await;
    let to = |prefix: &str| {
        json!({
            "endpoint": store, "region": "us-east-1", "bucket": "ledger", "prefix": prefix, "access_key_id": "gate",
            "allow_private": true
        })
    };
    let declared = json!([
        {"name": "copy", "spec": {"kind": "mirror", "store": to("mirror"), "credential": "bucket", "interval_s": 1}},
        {"name": "lake", "spec": {"kind": "delivery", "destination": {"type": "s3"}, "credential": "bucket"}}
    ]);
    let mut declared = declared;
    for (name, value) in to("lake").as_object().unwrap() {
        declared[1]["spec"]["destination"][name] = value.clone();
    }
    house.ask("POST", "/api/v1/resources".to_owned(), Some(declared)).await.unwrap();
    // More than a bundle, so that there are full tiles and partial ones.
    for number in 0..140 {
        assert_eq!(house.chat(&house.alice.1, "assistant", &format!("say: {number}")).await.0, 200);
    }
    let view = house
        .delivery_is("copy", |d| d.is_some_and(|d| d.pointer("/done/1").and_then(Value::as_u64) > Some(290)))
        .await
        .unwrap();
    let origin = view.pointer("/done/0").and_then(Value::as_str).unwrap().to_owned();
    house.delivery_is("lake", |d| d.is_some_and(|d| d["records"].as_u64() > Some(256))).await;
    let first = format!("{store}/ledger/lake/{origin}/");
    assert!(!view.to_string().contains("secret-access-key"));
    let folder = house.stop().await;

    let base = format!("{store}/ledger/mirror/{origin}");
    let log = std::fs::read_dir(folder.path().join("log/default")).unwrap().next().unwrap().unwrap().path();
    let key = std::fs::read_to_string(log.join("key.vkey")).unwrap();
    blocking(move || {
        let note = get(&format!("{base}/checkpoint")).unwrap();
        let key = key.trim().parse().unwrap();
        let head = bartizan_ledger::Checkpoint::open(&note, &key).unwrap();
        assert!(head.size > 290);
        let mut entries = 0;
        for tile in bartizan_ledger::tiles_for(head.size) {
            let copied = get(&format!("{base}/{}", tile.path()))
                .unwrap_or_else(|| panic!("{} is missing", tile.path()));
            // The log has grown since: a partial tile is the beginning of what lies there now.
            let now = bartizan_ledger::Tile { width: 256, ..tile };
            let there =
                [tile.path(), now.path()].into_iter().find_map(|path| std::fs::read(log.join(path)).ok());
            assert!(there.is_none_or(|there| there.starts_with(&copied)), "{}", tile.path());
            if tile.level.is_none() {
                entries += bartizan_ledger::bundle_entries(&copied).unwrap().len() as u64;
            }
        }
        assert_eq!(entries, head.size);
        // The first batch of the lake begins with the first entry.
        let listed = get(&format!("{store}/ledger?list-type=2&prefix=lake/")).unwrap();
        let listed = String::from_utf8(listed).unwrap();
        assert!(
            listed.contains(&format!(
                "{}/00000000000000000000-",
                first.rsplit("/ledger/").next().unwrap().trim_end_matches('/')
            )),
            "{listed}"
        );
    })
    .await;
    drop(folder);
}
