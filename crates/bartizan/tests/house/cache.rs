//! Answers that are given again, and canaries, through the real doors.

use std::collections::BTreeMap;

use super::*;

/// An answer with its headers.
struct Told {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Told {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// What is said of the cache, without how long it lasts.
    fn cache(&self) -> &str {
        assert_eq!(self.status, 200, "{}", self.body);
        self.header("cache-status").split("; ttl=").next().unwrap()
    }

    fn said(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap().to_owned()
    }
}

fn told(base: &str, key: &Secret<String>, headers: &[(&str, &str)], body: &Value) -> Told {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent
        .post(format!("{base}/v1/chat/completions"))
        .header("authorization", &format!("Bearer {}", key.expose()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = request.header("content-type", "application/json").send(body.to_string()).unwrap();
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Told { status: answer.status().as_u16(), headers, body: answer.body_mut().read_to_string().unwrap() }
}

fn prompt(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

struct Caching(House);

impl Caching {
    /// `own` gives answers again to whoever got them, `shared` to all with the same entitlement.
    async fn new() -> Self {
        let house = Self(House::new().await);
        let model = |name: &str, cache: Value| json!({"name": name, "spec": {"kind": "model", "upstream": "simulated", "dialects": ["openai.chat"], "environment": "development", "project": "support", "cache": cache}});
        let own = model("own", json!({"max_age_s": 600}));
        let shared = model("shared", json!({"max_age_s": 600, "among": "entitlement"}));
        house.put(json!([own, shared])).await;
        house
    }

    async fn control(&self, method: &'static str, path: String, body: Option<Value>) -> (u16, Value) {
        let client = Client::new(&format!("http://{}", self.0.node.control), Some(self.0.admin_key.clone()));
        let (status, text) = blocking(move || client.raw(method, &path, body.as_ref(), &[]).unwrap()).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn put(&self, documents: Value) {
        let (status, body) = self.control("POST", "/api/v1/resources".to_owned(), Some(documents)).await;
        assert_eq!(status, 200, "{body}");
    }

    async fn reached(&self) -> u64 {
        self.0.last().await.pointer("/count").and_then(Value::as_u64).unwrap()
    }

    async fn ask(&self, key: &Secret<String>, headers: &'static [(&str, &str)], body: Value) -> Told {
        let (base, key) = (self.0.data(), key.clone());
        blocking(move || told(&base, &key, headers, &body)).await
    }

    async fn says(&self, key: &Secret<String>, model: &str, text: &str) -> Told {
        self.ask(key, &[], prompt(model, text)).await
    }
}

const MISS: &str = "Bartizan; fwd=miss";
const HIT: &str = "Bartizan; hit";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_again_decided_recorded_and_counted_and_nothing_leaves_the_house() {
    let house = Caching::new().await;
    let alice = house.0.alice.1.clone();
    let first = house.says(&alice, "own", "say: hi").await;
    assert_eq!((first.cache(), first.said().as_str()), (MISS, "hi"));
    let again = house.says(&alice, "own", "say: hi").await;
    assert_eq!((again.cache(), &again.body, house.reached().await), (HIT, &first.body, 1));
    assert_eq!((again.header("age"), again.header("cache-control")), ("0", "no-store"));
    // Its record is its own, and says where it came from.
    let decision = |told: &Told| told.header("bartizan-decision").to_owned();
    assert_ne!(decision(&first), decision(&again));
    let (_, shown) = house.control("GET", format!("/api/v1/decisions/{}", decision(&again)), None).await;
    let shown = shown.to_string();
    assert!(shown.contains("\"cached\"") && shown.contains(&decision(&first)), "{shown}");
    // Nothing but exactly the same is the same; a model that does not say so gives nothing again.
    let mut warmer = prompt("own", "say: hi");
    warmer.as_object_mut().unwrap().insert("temperature".to_owned(), json!(1));
    assert_eq!(house.ask(&alice, &[], warmer).await.cache(), MISS);
    for _ in 0..2 {
        assert_eq!(house.says(&alice, "assistant", "say: hi").await.header("cache-status"), "");
    }
    // What the caller says about caches holds for it.
    let reached = house.reached().await;
    let stored = house.ask(&alice, &[("cache-control", "no-store")], prompt("own", "say: hi")).await;
    assert_eq!(stored.cache(), "Bartizan; fwd=request; detail=no-store");
    let fresh = house.ask(&alice, &[("cache-control", "no-cache")], prompt("own", "say: hi")).await;
    assert_eq!((fresh.cache(), house.reached().await), ("Bartizan; fwd=request", reached + 2));
    // Tools may have effects each time.
    let mut tools = prompt("own", "say: hi");
    let tool = json!({"type": "function", "function": {"name": "x", "parameters": {}}});
    tools.as_object_mut().unwrap().insert("tools".to_owned(), json!([tool]));
    assert_eq!(house.ask(&alice, &[], tools).await.cache(), "Bartizan; fwd=bypass; detail=tools");
    // A stream is given again as the same frames; one that broke off, and an error, are not.
    let stream = |text: &str| {
        let mut body = prompt("own", text);
        body.as_object_mut().unwrap().insert("stream".to_owned(), json!(true));
        body
    };
    let first = house.ask(&alice, &[], stream("say: one two three")).await;
    let again = house.ask(&alice, &[], stream("say: one two three")).await;
    assert_eq!((first.cache(), again.cache(), &first.body), (MISS, HIT, &again.body));
    assert!(again.header("content-type").starts_with("text/event-stream"));
    for _ in 0..2 {
        let broken = house.ask(&alice, &[], stream("fault: die-mid-stream and a longer text")).await;
        assert_eq!(broken.cache(), MISS);
        let (status, _) = house.0.chat(&alice, "own", "fault: status-503").await;
        assert_eq!(status, 503);
    }
    // What is given again counts as a request.
    let limit =
        json!({"kind": "limit", "what": "requests", "most": 3, "window": "day", "only": {"user": "alice"}});
    house.put(json!([{"name": "few", "spec": limit}])).await;
    let all: Vec<_> = [
        house.says(&alice, "own", "say: hi").await,
        house.says(&alice, "own", "say: hi").await,
        house.says(&alice, "own", "say: hi").await,
    ]
    .iter()
    .map(|told| told.cache().to_owned())
    .collect();
    assert_eq!(all, [MISS, HIT, HIT], "whatever is changed in the house drops what there was");
    assert_eq!(house.says(&alice, "own", "say: hi").await.status, 402);
    house.0.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pitfall_answers_that_are_given_again_cross_no_entitlement() {
    let house = Caching::new().await;
    let (alice, carol, mallory) = (house.0.alice.1.clone(), house.0.carol.clone(), house.0.mallory.clone());
    let text = "say: mail ann@mail.example";
    // The same prompt under other obligations is another answer, in either order.
    for (model, hit) in [("own", HIT), ("shared", HIT)] {
        let clear = house.says(&alice, model, text).await;
        assert_eq!((clear.cache(), clear.said().as_str()), (MISS, "mail ann@mail.example"));
        let masked = house.says(&carol, model, text).await;
        assert_eq!((masked.cache(), masked.said().as_str()), (MISS, "mail [email]"), "{model}");
        assert_eq!(house.says(&carol, model, text).await.said(), "mail [email]");
        let again = house.says(&alice, model, text).await;
        assert_eq!((again.cache(), again.said().as_str()), (hit, "mail ann@mail.example"));
        // Whoever may not ask learns nothing of what others asked.
        let refused = house.says(&mallory, model, text).await;
        assert_eq!((refused.status, refused.header("cache-status")), (404, ""));
    }
    // Another key of the same person is another session; only what is shared goes there.
    let key = json!({"principal_kind": "user", "principal": "alice"});
    let (_, made) = house.control("POST", "/api/v1/keys".to_owned(), Some(key)).await;
    let other = Secret::new(made["text"].as_str().unwrap().to_owned());
    for (model, expected) in [("own", MISS), ("shared", HIT)] {
        house.says(&alice, model, text).await;
        assert_eq!(house.says(&other, model, text).await.cache(), expected, "{model}");
    }
    // Many who ask at once are one call of the model.
    let reached = house.reached().await;
    let all = (0..8).map(|_| house.says(&alice, "shared", "say: all at once"));
    for told in futures_util::future::join_all(all).await {
        assert_eq!(told.said(), "all at once");
    }
    assert_eq!(house.reached().await, reached + 1);
    // What was withdrawn a moment ago is over, however soon it is asked again.
    house.control("POST", format!("/api/v1/keys/{}/revoke", house.0.alice.0), None).await;
    let revoked = house.says(&alice, "shared", text).await;
    assert_eq!((revoked.status, revoked.header("cache-status")), (401, ""));
    house.0.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_stops_what_it_stands_in_on_the_way_in_and_out_and_in_streams() {
    let house = Caching::new().await;
    let alice = house.0.alice.1.clone();
    let canary = "said-kestrel-7d41-bb09-e55a";
    house.put(json!([{"name": "traps", "spec": {"kind": "detector", "canaries": [canary]}}])).await;
    let rule = r#"
@id("canaries")
@remedy("redact(detector: \"traps\")")
forbid (principal in Group::"engineers", action in Action::"model:use", resource == Model::"assistant")
unless { context.obligations.contains("redact:custom:traps") };
"#;
    let files = json!({"files": {"policy.cedar": POLICY, "canaries.cedar": rule}, "expect": 2});
    let (status, body) = house.control("PUT", "/api/v1/policy".to_owned(), Some(files)).await;
    assert_eq!(status, 200, "{body}");
    let reached = house.reached().await;
    for sent in [canary.to_uppercase(), canary.replace('-', " - ")] {
        let (status, body) = house.0.chat(&alice, "assistant", &format!("see {sent}")).await;
        assert_eq!((status, reason(&body)), (403, "canary_found"), "{body}");
    }
    assert_eq!(house.reached().await, reached, "it left the house");
    // The model answers `You said: …`, so that it stands in the answer alone, and in pieces of a stream.
    let echoed = "kestrel-7d41-bb09-e55a";
    let (status, body) = house.0.chat(&alice, "assistant", echoed).await;
    assert_eq!((status, reason(&body), house.reached().await), (403, "canary_found", reached + 1), "{body}");
    let mut streamed = prompt("assistant", echoed);
    streamed.as_object_mut().unwrap().insert("stream".to_owned(), json!(true));
    let told = house.ask(&alice, &[], streamed).await;
    assert!(told.body.contains("canary_found") && !told.body.contains("[DONE]"), "{}", told.body);
    assert_eq!(house.0.chat(&alice, "assistant", "say: nothing to see").await.0, 200);
    house.0.stop().await;
}
