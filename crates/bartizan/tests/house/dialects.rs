//! Azure OpenAI, Amazon Bedrock and Gemini through the real doors: the same rules in every format.

use super::*;

const SAY: &str = "say: mail ann@mail.example or +49 30 901820";
const MASKED: &str = "mail [email] or [phone]";
const ALL: &[&str] = &[
    "openai.chat",
    "openai.responses",
    "azure.chat",
    "azure.completions",
    "azure.embeddings",
    "bedrock.converse",
    "bedrock.invoke",
    "gemini.generate",
    "gemini.embed",
];

/// A way to say something in a format: the address, the body, and where the answer, the prompt that was sent and its cap stand.
struct Way {
    path: String,
    body: Value,
    said: &'static str,
    sent: &'static str,
    cap: &'static str,
    /// The address at the upstream, where the model is called `simulated-1`.
    there: &'static str,
}

fn ways(model: &str, prompt: &str) -> Vec<Way> {
    let user = json!([{"role": "user", "content": prompt}]);
    let way = |path: String, body: Value, said, sent, cap, there| Way { path, body, said, sent, cap, there };
    vec![
        way(
            format!("/openai/deployments/{model}/chat/completions?api-version=2024-10-21"),
            json!({"model": "what-the-client-wrote", "messages": user}),
            "/choices/0/message/content",
            "/messages/0/content",
            "/max_completion_tokens",
            "/openai/deployments/simulated-1/chat/completions?api-version=2024-10-21",
        ),
        way(
            format!("/openai/deployments/{model}/completions?api-version=2024-10-21"),
            json!({"prompt": prompt}),
            "/choices/0/text",
            "/prompt",
            "/max_tokens",
            "/openai/deployments/simulated-1/completions?api-version=2024-10-21",
        ),
        way(
            "/openai/v1/chat/completions".to_owned(),
            json!({"model": model, "messages": user}),
            "/choices/0/message/content",
            "/messages/0/content",
            "/max_completion_tokens",
            "/v1/chat/completions",
        ),
        way(
            format!("/model/{model}/converse"),
            json!({"messages": [{"role": "user", "content": [{"text": prompt}]}], "inferenceConfig": {"maxTokens": 9_000}}),
            "/output/message/content/0/text",
            "/messages/0/content/0/text",
            "/inferenceConfig/maxTokens",
            "/model/simulated-1/converse",
        ),
        way(
            format!("/model/{model}/invoke"),
            json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9_000, "messages": user}),
            "/content/0/text",
            "/messages/0/content",
            "/max_tokens",
            "/model/simulated-1/invoke",
        ),
        way(
            format!("/v1beta/models/{model}:generateContent"),
            json!({"contents": [{"role": "user", "parts": [{"text": prompt}]}]}),
            "/candidates/0/content/parts/0/text",
            "/contents/0/parts/0/text",
            "/generationConfig/maxOutputTokens",
            "/v1beta/models/simulated-1:generateContent",
        ),
    ]
}

async fn house() -> House {
    let house = House::new().await;
    let model = json!({"kind": "model", "upstream": "simulated", "upstream_model": "simulated-1", "dialects": ALL, "environment": "development", "project": "support"});
    declare(&house, json!([{"name": "assistant", "spec": model}])).await;
    house
}

async fn declare(house: &House, documents: Value) {
    let control = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
    blocking(move || control.call("POST", "/api/v1/resources", Some(&documents)).map(drop).unwrap()).await;
}

async fn with_headers(
    house: &House,
    path: &str,
    body: Value,
    headers: Vec<(&'static str, String)>,
) -> (u16, Value) {
    let (client, path) = (Client::new(&house.data(), None), path.to_owned());
    let (status, text) = blocking(move || {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        client.raw("POST", &path, Some(&body), &headers).unwrap()
    })
    .await;
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn sent(last: &Value) -> Value {
    serde_json::from_str(last.pointer("/body").and_then(Value::as_str).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_obligations_hold_in_every_format_and_no_key_of_a_caller_goes_upstream() {
    let house = house().await;
    for way in ways("assistant", SAY) {
        let (status, body) = house.post(&house.carol, &way.path, way.body.clone()).await;
        assert_eq!((status, body.pointer(way.said)), (200, Some(&json!(MASKED))), "{}: {body}", way.path);
        let last = house.last().await;
        assert_eq!(last.pointer("/path"), Some(&json!(way.there)));
        let body = sent(&last);
        assert_eq!(body.pointer(way.sent), Some(&json!(format!("say: {MASKED}"))), "{}", way.path);
        assert_eq!(body.pointer(way.cap), Some(&json!(500)), "{}: {body}", way.path);
        assert!(
            !body.to_string().contains("what-the-client-wrote"),
            "the name that was decided on, and no other"
        );
        assert_eq!(last.pointer("/headers/authorization"), Some(&json!(format!("Bearer {OWN}"))));
        assert!(!last.to_string().contains(house.carol.expose()));
    }
    // A stream of events, too.
    let path = "/v1beta/models/assistant:streamGenerateContent?alt=sse";
    let (status, body) =
        house.post(&house.carol, path, json!({"contents": [{"parts": [{"text": SAY}]}]})).await;
    let said: String = body
        .as_str()
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| {
            let frame: Value = serde_json::from_str(data).unwrap();
            frame.pointer("/candidates/0/content/parts/0/text")?.as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!((status, said.as_str()), (200, MASKED), "{body}");
    // What cannot be redacted is not forwarded.
    let image = json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}]});
    let (status, body) = house.post(&house.carol, "/v1beta/models/assistant:generateContent", image).await;
    assert_eq!((status, reason(&body)), (502, "obligation_failed"), "{body}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_permit_nothing_reaches_the_model_on_a_refusal_in_any_format() {
    let house = house().await;
    let before = house.last().await["count"].clone();
    for way in ways("assistant", "say: hi") {
        let (status, body) = house.post(&house.mallory, &way.path, way.body.clone()).await;
        assert_eq!((status, reason(&body)), (404, "model_not_found"), "{}: {body}", way.path);
        if way.path.starts_with("/model/") {
            assert_eq!(body["__type"], "ResourceNotFoundException");
        } else if way.path.starts_with("/v1beta/") {
            assert_eq!(
                (&body["error"]["code"], &body["error"]["status"]),
                (&json!(404), &json!("NOT_FOUND"))
            );
        }
        // What nobody knows could do anything.
        let mut strange = way.body.clone();
        strange.as_object_mut().unwrap().insert("api_base".to_owned(), json!("http://169.254.169.254"));
        let (status, body) = house.post(&house.alice.1, &way.path, strange).await;
        assert_eq!((status, reason(&body)), (400, "request_field_unknown"), "{}: {body}", way.path);
        let (status, _) = with_headers(&house, &way.path, way.body.clone(), Vec::new()).await;
        assert_eq!(status, 401, "{}", way.path);
    }
    let generate = json!({"contents": [{"parts": [{"text": "hi"}]}]});
    let azure = json!({"messages": []});
    for (path, body, why) in [
        ("/v1beta/models/assistant:generateContent?key=x", &generate, "body_malformed"),
        ("/v1beta/models/assistant:generateContent?$alt=media", &generate, "request_field_unknown"),
        ("/v1beta/models/assistant:streamGenerateContent", &generate, "body_malformed"),
        ("/openai/deployments/assistant/chat/completions", &azure, "body_malformed"),
        ("/openai/deployments/assistant/chat/completions?api-version=1&x=y", &azure, "request_field_unknown"),
        ("/model/..%2f..%2fadmin/converse", &json!({"messages": []}), "model_not_found"),
        ("/model/%2e%2e/converse", &json!({"messages": []}), "model_not_found"),
        ("/model/assistant/invoke", &json!({"inputText": "a format that nobody reads"}), "body_malformed"),
        ("/model/assistant-prod/converse", &json!({"messages": []}), "assurance_too_low"),
        // A model speaks what it is declared with, and nothing besides.
        ("/model/private/converse", &json!({"messages": []}), "dialect_unsupported"),
        ("/v1beta/models/assistant:predict", &generate, "not_found"),
    ] {
        let (status, answer) = house.post(&house.alice.1, path, body.clone()).await;
        assert_eq!(reason(&answer), why, "{path}: {status} {answer}");
    }
    assert_eq!(house.last().await["count"], before);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_from_the_header_of_the_provider_whose_address_it_is() {
    let house = house().await;
    let key = house.alice.1.expose().clone();
    let [azure, _, _, converse, _, gemini] = <[Way; 6]>::try_from(ways("assistant", "say: hi")).ok().unwrap();
    for (way, header, taken) in [
        (&azure, "api-key", true),
        (&gemini, "x-goog-api-key", true),
        (&azure, "x-goog-api-key", false),
        (&gemini, "api-key", false),
        (&converse, "api-key", false),
        (&converse, "x-api-key", true),
    ] {
        let headers = vec![(header, key.clone())];
        let (status, body) = with_headers(&house, &way.path, way.body.clone(), headers).await;
        assert_eq!(status, if taken { 200 } else { 401 }, "{header} at {}: {body}", way.path);
    }
    // Two credentials are none, also where one of them is right.
    let two = vec![("api-key", key.clone()), ("x-api-key", key.clone())];
    assert_eq!(with_headers(&house, &azure.path, azure.body.clone(), two).await.0, 400);
    // A signature by somebody's own account is not ours to judge, and does not go on.
    let signed =
        "AWS4-HMAC-SHA256 Credential=AKID/20261122/eu/bedrock/aws4_request, SignedHeaders=host, Signature=00";
    let before = house.last().await["count"].clone();
    let headers = vec![("authorization", signed.to_owned())];
    assert_eq!(with_headers(&house, &converse.path, converse.body.clone(), headers).await.0, 401);
    assert_eq!(house.last().await["count"], before);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_provider_gets_our_credential_in_its_own_way() {
    let house = house().await;
    let open = spawn(SocketAddr::from(([127, 0, 0, 1], 0)), Options::default()).await.unwrap();
    let secret = "AKIDOFTHEHOUSE:a/secret+of=the/house";
    let control = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
    let refused = blocking(move || {
        let credential = json!({"credential": secret});
        control.call("PUT", "/api/v1/credentials/amazon", Some(&credential)).unwrap();
        let spec = json!({"kind": "upstream", "base_url": "http://127.0.0.1:1", "auth": "sig_v4"});
        let document = json!([{"name": "nowhere", "spec": spec}]);
        control.raw("POST", "/api/v1/resources", Some(&document), &[]).unwrap()
    })
    .await;
    assert!(refused.0 == 422 && refused.1.contains("region"), "{refused:?}");
    let [azure, _, _, converse, _, gemini] = <[Way; 6]>::try_from(ways("assistant", "say: hi")).ok().unwrap();
    for (way, auth, header) in [
        (azure, "api_key", "api-key"),
        (gemini, "x_goog_api_key", "x-goog-api-key"),
        (converse, "sig_v4", "authorization"),
    ] {
        let amazon = auth == "sig_v4";
        let (base, credential) = if amazon { (open, "amazon") } else { (house.model, "simulated") };
        let mut spec = json!({"kind": "upstream", "base_url": format!("http://{base}"), "allow_private": true, "credential": credential, "auth": auth});
        if amazon {
            spec.as_object_mut().unwrap().insert("region".to_owned(), json!("eu-west-1"));
        }
        declare(&house, json!([{"name": "simulated", "spec": spec}])).await;
        let (status, body) = house.post(&house.alice.1, &way.path, way.body.clone()).await;
        assert_eq!((status, body.pointer(way.said)), (200, Some(&json!("hi"))), "{auth}: {body}");
        let seen = blocking(move || {
            Client::new(&format!("http://{base}"), None).call("GET", "/_last", None).unwrap()
        })
        .await;
        let value = seen.pointer(&format!("/headers/{header}")).and_then(Value::as_str).unwrap();
        if amazon {
            assert!(value.starts_with("AWS4-HMAC-SHA256 Credential=AKIDOFTHEHOUSE/"), "{value}");
            assert!(
                value.contains("/eu-west-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date, Signature=")
            );
            assert!(!seen.to_string().contains("a/secret+of=the/house"), "only a signature by it is sent");
        } else {
            assert_eq!(value, OWN);
            assert_eq!(seen.pointer("/headers/authorization"), None);
        }
        assert!(!seen.to_string().contains(house.alice.1.expose()));
    }
    house.stop().await;
}
