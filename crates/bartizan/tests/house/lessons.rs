//! What broke in others of this kind. docs/lessons.md says where each lesson is held.

use std::io::{Read as _, Write as _};
use std::process::Command;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn cve_2024_6587_a_caller_never_chooses_where_a_call_goes_nor_reaches_beyond_the_text_by_default() {
    let house = House::new().await;
    let chat = |more: Value| {
        let mut body = json!({"model": "assistant", "messages": [{"role": "user", "content": "say: hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (more, status, why) in [
        (json!({"api_base": "http://127.0.0.1:1"}), 400, "request_field_unknown"),
        (json!({"base_url": "http://127.0.0.1:1"}), 400, "request_field_unknown"),
        (json!({"Model": "assistant-prod"}), 400, "request_field_unknown"),
        (json!({"previous_response_id": "resp_of_somebody_else"}), 403, "request_extra_refused"),
        (json!({"store": true}), 403, "request_extra_refused"),
        (json!({"web_search_options": {}}), 403, "request_extra_refused"),
        (
            json!({"tools": [{"type": "mcp", "server_url": "http://169.254.169.254"}]}),
            403,
            "request_extra_refused",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]}),
            403,
            "request_extra_refused",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}),
            403,
            "request_extra_refused",
        ),
    ] {
        let (got, body) = house.post(&house.alice.1, "/v1/chat/completions", chat(more.clone())).await;
        assert_eq!((got, reason(&body)), (status, why), "{more}: {body}");
    }
    assert_eq!(house.last().await.pointer("/count"), Some(&json!(0)), "something was forwarded");
    // Headers that other gateways obey are nothing here.
    let client = Client::new(&house.data(), Some(house.alice.1.clone()));
    let body = chat(json!({}));
    let headers = [
        ("x-upstream", "http://127.0.0.1:1"),
        ("x-forwarded-host", "evil.example"),
        ("x-api-base", "http://127.0.0.1:1"),
    ];
    let (status, _) =
        blocking(move || client.raw("POST", "/v1/chat/completions", Some(&body), &headers).unwrap()).await;
    assert_eq!(status, 200);
    let seen = house.last().await.to_string();
    assert!(!seen.contains("evil.example") && !seen.contains("x-upstream"), "{seen}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_accepts_is_declared_and_state_at_the_provider_cannot_be() {
    let house = House::new().await;
    let declare = |accepts: Value, inert: Value| {
        let admin = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
        let base = format!("http://{}", house.model);
        let documents = json!([
            {"name": "simulated", "spec": {"kind": "upstream", "base_url": base, "allow_private": true, "credential": "simulated", "inert_fields": inert}},
            {"name": "assistant", "spec": {"kind": "model", "upstream": "simulated", "dialects": ["openai.chat", "openai.responses"], "environment": "development", "project": "support", "accepts": accepts}}
        ]);
        blocking(move || admin.call("POST", "/api/v1/resources", Some(&documents)).map(drop))
    };
    let ask = json!({"model": "assistant", "messages": [{"role": "user", "content": "say: hi"}], "store": true, "chat_template_kwargs": {}});
    declare(json!(["storage"]), json!(["chat_template_kwargs"])).await.unwrap();
    let (status, body) = house.post(&house.alice.1, "/v1/chat/completions", ask).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = house
        .post(
            &house.alice.1,
            "/v1/responses",
            json!({"model": "assistant", "input": "say: hi", "previous_response_id": "resp_1"}),
        )
        .await;
    assert_eq!((status, reason(&body)), (403, "request_extra_refused"), "{body}");
    let refused = declare(json!(["provider_state"]), json!([])).await;
    assert!(
        matches!(&refused, Err(bartizan_cli::ClientError::Refused { reason, .. }) if reason == "invalid"),
        "{refused:?}"
    );
    // A provider that keeps exchanges unless told otherwise is told otherwise.
    declare(json!([]), json!([])).await.unwrap();
    let (status, body) =
        house.post(&house.alice.1, "/v1/responses", json!({"model": "assistant", "input": "say: hi"})).await;
    assert_eq!(status, 200, "{body}");
    let sent = house.last().await;
    let sent: Value = serde_json::from_str(sent.pointer("/body").and_then(Value::as_str).unwrap()).unwrap();
    assert_eq!(sent.pointer("/store"), Some(&json!(false)));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2025_66405_whoever_is_not_known_learns_nothing_about_bodies_paths_or_models() {
    let house = House::new().await;
    for (method, path, body) in [
        ("POST", "/v1/chat/completions", Some(json!("garbage"))),
        ("POST", "/v1/no/such/path", Some(json!({}))),
        ("GET", "/v1/models/assistant", None),
        ("GET", "/api/v1/keys", None),
        ("DELETE", "/v1/chat/completions", None),
    ] {
        let base =
            if path.starts_with("/api") { format!("http://{}", house.node.control) } else { house.data() };
        let client = Client::new(&base, None);
        let (status, text) = blocking(move || client.raw(method, path, body.as_ref(), &[]).unwrap()).await;
        assert!(status == 401 && text.contains("credential_missing"), "{method} {path}: {status} {text}");
    }
    house.stop().await;
}

#[test]
fn ghsa_g53w_w6mj_hrpp_there_is_no_default_secret_and_no_start_without_an_installation() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bartizan"))
        .env_clear()
        .args(["serve", "--data-folder", folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains("bartizan init"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_is_cut_off_and_its_call_is_told_as_abandoned() {
    let house = House::with(&[("limits.write_timeout_ms", "500".to_owned())]).await;
    let body = json!({"model": "assistant", "stream": true, "messages": [{"role": "user", "content": "fault: flood"}]}).to_string();
    let (address, key) = (house.node.data, house.alice.1.clone());
    let stream = blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            key.expose(),
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut first = [0; 512];
        let read = stream.read(&mut first).unwrap();
        assert!(read > 0);
        stream
    })
    .await;
    let admin =
        Arc::new(Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone())));
    let told = async {
        loop {
            let client = admin.clone();
            let decision = blocking(move || {
                let all = client.call("GET", "/api/v1/decisions?limit=1000", None).unwrap();
                let ours = all
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|d| d.pointer("/record/what/action") == Some(&json!("model:invoke")))
                    .cloned();
                let id = ours.unwrap().pointer("/record/id").and_then(Value::as_str).unwrap().to_owned();
                client.call("GET", &format!("/api/v1/decisions/{id}"), None).unwrap()
            })
            .await;
            if let Some(how) = decision.pointer("/outcome/end/how").and_then(Value::as_str) {
                return how.to_owned();
            }
        }
    };
    let how = tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    assert_eq!(how, "abandoned");
    drop(stream);
    house.stop().await;
}
