//! Limits, locks and several upstreams, through the real doors.

use super::*;

impl House {
    async fn run_house(&self, method: &'static str, path: &str, body: Value) -> (u16, Value) {
        let (client, path) = (
            Client::new(&format!("http://{}", self.node.control), Some(self.admin_key.clone())),
            path.to_owned(),
        );
        let (status, text) = blocking(move || client.raw(method, &path, Some(&body), &[]).unwrap()).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn put(&self, documents: Value) -> (u16, Value) {
        self.run_house("POST", "/api/v1/resources", documents).await
    }

    async fn reached(&self) -> u64 {
        self.last().await.pointer("/count").and_then(Value::as_u64).unwrap()
    }

    async fn stream(&self, key: &Secret<String>) -> tokio::task::JoinHandle<(u16, String)> {
        let before = self.reached().await;
        let body = json!({"model": "assistant", "stream": true, "messages": [{"role": "user", "content": "fault: endless"}]});
        let client = Client::new(&self.data(), Some(key.clone()));
        let stream = tokio::task::spawn_blocking(move || {
            client.raw("POST", "/v1/chat/completions", Some(&body), &[]).unwrap()
        });
        while self.reached().await == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream
    }
}

fn limit(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec.as_object_mut().unwrap().insert("kind".to_owned(), json!("limit"));
    json!({"name": name, "spec": spec})
}

/// Envoy AI Gateway: a quota on a model that does not exist is "silently not applied".
#[tokio::test(flavor = "multi_thread")]
async fn lesson_envoy_a_limit_on_something_that_does_not_exist_is_refused_when_it_is_applied() {
    let house = House::new().await;
    for only in [json!({"model": "asistant"}), json!({"user": "nobody"}), json!({"group": "enginers"})] {
        let spec = json!({"what": "requests", "most": 1, "window": "day", "only": only});
        let (status, body) = house.put(json!([limit("typo", spec)])).await;
        assert!(status == 422 && body["reason"] == "invalid", "{status} {body}");
    }
    let spec = json!({"what": "requests", "most": 1, "window": "day", "zone": "Europe/Berlim"});
    let (status, body) = house.put(json!([limit("zone", spec)])).await;
    assert!(status == 422 && body.to_string().contains("Europe/Berlim"), "{status} {body}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_holds_over_a_restart_is_recorded_and_is_nobody_elses() {
    let house = House::new().await;
    let spec = json!({"what": "requests", "most": 2, "window": "month", "only": {"user": "alice"}});
    let (status, body) = house.put(json!([limit("alice", spec)])).await;
    assert_eq!(status, 200, "{body}");
    for _ in 0..2 {
        assert_eq!(house.chat(&house.alice.1, "assistant", "hello").await.0, 200);
    }
    let reached = house.reached().await;
    let (status, body) = house.chat(&house.alice.1, "assistant", "hello").await;
    assert_eq!((status, reason(&body), house.reached().await), (402, "budget_exhausted", reached), "{body}");
    let decision = body.pointer("/error/bartizan/decision").and_then(Value::as_str).unwrap().to_owned();
    let (_, shown) = house.run_house("GET", &format!("/api/v1/decisions/{decision}"), Value::Null).await;
    assert!(
        shown.to_string().contains("budget_exhausted") && shown.to_string().contains("model:invoke"),
        "{shown}"
    );
    assert_eq!(house.chat(&house.carol, "assistant", "hello").await.0, 200);
    let alice = house.alice.1.clone();
    let folder = house.stop().await;
    let node = Node::start(&config(folder.path(), &[])).await.unwrap();
    let base = format!("http://{}", node.data);
    let (status, text) = blocking(move || {
        let body = json!({"model": "assistant", "messages": [{"role": "user", "content": "hello"}]});
        Client::new(&base, Some(alice)).raw("POST", "/v1/chat/completions", Some(&body), &[]).unwrap()
    })
    .await;
    assert!(status == 402 && text.contains("budget_exhausted"), "{status} {text}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_reserved_at_the_most_and_settled_at_what_the_upstream_counted() {
    let house = House::new().await;
    let spec = json!({"what": "tokens", "most": 2_000, "window": "day", "per": ["caller"]});
    assert_eq!(house.put(json!([limit("words", spec)])).await.0, 200);
    let ask = |most: u64| json!({"model": "assistant", "max_tokens": most, "messages": [{"role": "user", "content": "say: hi"}]});
    // Each may take well over a thousand; each takes a few. So many fit that without settling would not.
    for _ in 0..6 {
        let (status, body) = house.post(&house.alice.1, "/v1/chat/completions", ask(1_200)).await;
        assert_eq!(status, 200, "{body}");
        // What was reserved is settled beside the answer.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (status, body) = house.post(&house.alice.1, "/v1/chat/completions", ask(5_000)).await;
    assert_eq!((status, reason(&body)), (402, "budget_exhausted"), "{body}");
    // Who names no number is held to what was reserved for them.
    assert_eq!(house.put(json!([{"name": "assistant", "spec": {"kind": "model", "upstream": "simulated", "dialects": ["openai.chat"], "environment": "development", "project": "support", "output_tokens_max": 300}}])).await.0, 200);
    assert_eq!(house.chat(&house.alice.1, "assistant", "hello").await.0, 200);
    let sent = house.last().await;
    assert!(sent["body"].to_string().contains("300"), "{sent}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_taken_while_a_stream_runs_and_free_when_it_has_ended() {
    let house = House::new().await;
    let spec = json!({"what": "concurrency", "most": 1, "per": ["caller"]});
    assert_eq!(house.put(json!([limit("lanes", spec)])).await.0, 200);
    let stream = house.stream(&house.alice.1).await;
    let (status, body) = house.chat(&house.alice.1, "assistant", "hello").await;
    assert_eq!((status, reason(&body)), (429, "too_many_at_once"), "{body}");
    assert_eq!(house.chat(&house.carol, "assistant", "hello").await.0, 200);
    let path = format!("/api/v1/keys/{}/revoke", house.alice.0);
    assert_eq!(house.run_house("POST", &path, Value::Null).await.0, 200);
    stream.await.unwrap();
    for _ in 0..3 {
        assert_eq!(
            house.chat(&house.carol, "assistant", "hello").await.0,
            200,
            "one after the other is one at once"
        );
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_open_streams_refuses_what_comes_and_is_released_again() {
    let house = House::new().await;
    let stream = house.stream(&house.alice.1).await;
    let lock =
        json!({"on": "group/engineers", "reason": "incident 17", "ask": "the duty desk", "for_s": 600});
    let (status, set) = house.run_house("POST", "/api/v1/locks", lock).await;
    assert!(status == 200 && set["acknowledged"].is_object(), "{status} {set}");
    // Without the lock this stream would never end.
    let (_, text) = tokio::time::timeout(Duration::from_secs(20), stream).await.unwrap().unwrap();
    assert!(text.contains("stream_ended"), "{text}");
    let reached = house.reached().await;
    let (status, body) = house.chat(&house.alice.1, "assistant", "hello").await;
    assert_eq!((status, reason(&body), house.reached().await), (403, "locked", reached));
    assert!(
        body.to_string().contains("the duty desk") && !body.to_string().contains("incident 17"),
        "{body}"
    );
    assert_eq!(house.chat(&house.carol, "assistant", "hello").await.0, 200);
    let (_, listed) = house.run_house("GET", "/api/v1/locks", Value::Null).await;
    assert_eq!(listed.pointer("/0/on").and_then(Value::as_str), Some("group/engineers"), "{listed}");
    let path = format!("/api/v1/locks/{}", set["id"].as_str().unwrap());
    assert_eq!(house.run_house("DELETE", &path, Value::Null).await.0, 200);
    assert_eq!(house.chat(&house.alice.1, "assistant", "hello").await.0, 200);
    for (on, who) in
        [("model/assistant", true), ("upstream/simulated", true), ("tenant", true), ("model/private", false)]
    {
        let (status, set) = house.run_house("POST", "/api/v1/locks", json!({"on": on, "reason": "r"})).await;
        assert_eq!(status, 200, "{on} {set}");
        let (status, body) = house.chat(&house.alice.1, "assistant", "hello").await;
        assert_eq!(status == 403 && reason(&body) == "locked", who, "{on} {status} {body}");
        let path = format!("/api/v1/locks/{}", set["id"].as_str().unwrap());
        assert_eq!(
            house.run_house("DELETE", &path, Value::Null).await.0,
            200,
            "those who run the house still do"
        );
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_recover_nobody_locks_themselves_out_and_whoever_is_locked_releases_nothing() {
    let house = House::new().await;
    let (status, body) =
        house.run_house("POST", "/api/v1/locks", json!({"on": "user/ada", "reason": "r"})).await;
    assert!(status == 403 && body["reason"] == "constitution", "{status} {body}");
    let (status, body) =
        house.run_house("POST", "/api/v1/locks", json!({"on": "tool/rn", "reason": "r"})).await;
    assert!(status == 404 && body["reason"] == "not_found", "{status} {body}");
    let long = json!({"on": "user/alice", "reason": "r", "for_s": 100 * 86_400});
    assert_eq!(house.run_house("POST", "/api/v1/locks", long).await.0, 422);
    // A second administrator, who is locked by the first one, cannot undo it or lock back.
    let roles =
        house.put(json!([{"name": "eve", "spec": {"kind": "user", "roles": ["administrator"]}}])).await;
    assert_eq!(roles.0, 200, "{}", roles.1);
    let (_, key) =
        house.run_house("POST", "/api/v1/keys", json!({"principal_kind": "user", "principal": "eve"})).await;
    let eve = Client::new(
        &format!("http://{}", house.node.control),
        Some(Secret::new(key["text"].as_str().unwrap().to_owned())),
    );
    let (status, set) =
        house.run_house("POST", "/api/v1/locks", json!({"on": "user/eve", "reason": "r"})).await;
    assert_eq!(status, 200, "{set}");
    let path = format!("/api/v1/locks/{}", set["id"].as_str().unwrap());
    let tried = blocking(move || {
        [
            eve.raw("DELETE", &path, None, &[]).unwrap(),
            eve.raw("POST", "/api/v1/locks", Some(&json!({"on": "user/ada", "reason": "back"})), &[])
                .unwrap(),
        ]
    })
    .await;
    for (status, text) in tried {
        assert!(status == 403 && text.contains("locked"), "{status} {text}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_to_the_next_upstream_only_where_the_first_did_not_take_it() {
    let house = House::new().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstream = |name: &str, address: SocketAddr| json!({"name": name, "spec": {"kind": "upstream", "base_url": format!("http://{address}"), "allow_private": true, "credential": "simulated"}});
    let model = |name: &str, first: &str, second: &str| {
        json!({"name": name, "spec": {"kind": "model", "upstream": first, "dialects": ["openai.chat"], "environment": "development", "project": "support",
        "routes": [{"upstream": first, "upstream_model": "one"}, {"upstream": second, "upstream_model": "two", "weight": 0}]}})
    };
    let documents = json!([
        upstream("gone", gone),
        upstream("other", house.model),
        model("far", "gone", "other"),
        model("near", "simulated", "other")
    ]);
    let (status, body) = house.put(documents).await;
    assert_eq!(status, 200, "{body}");
    let before = house.reached().await;
    let (status, body) = house.chat(&house.alice.1, "far", "hello").await;
    assert_eq!(status, 200, "{body}");
    assert!(house.last().await["body"].to_string().contains("two"), "it was sent as the second calls it");
    assert_eq!(house.reached().await, before + 1);
    // Each attempt is a decision of its own, with its own target and its own end.
    let (_, listed) = house.run_house("GET", "/api/v1/decisions", Value::Null).await;
    let listed = listed.to_string();
    assert!(
        listed.matches("Model::\\\"far\\\"").count() >= 2 || listed.matches("\"far\"").count() >= 2,
        "{listed}"
    );
    // One that says that it takes no more is passed over; one that answers is asked once.
    let before = house.reached().await;
    assert_eq!(house.chat(&house.alice.1, "near", "fault: status-503").await.0, 503);
    assert_eq!(house.reached().await, before + 2);
    assert_eq!(house.chat(&house.alice.1, "near", "hello").await.0, 200);
    assert_eq!(house.reached().await, before + 3);
    house.stop().await;
}
