//! Tokens for exact things (RFC 9396) at the doors: tools, models, decisions.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use bartizan_base::{Digest, Timestamp};
use bartizan_jose::{AccessClaims, SigningKey, Times};
use bartizan_model::DetailId;

use super::own_tokens::{GATEWAY, ISSUER, keep_key, key, now};
use super::tools::{Got, Tooled};
use super::*;

struct Scene {
    tooled: Tooled,
    key: SigningKey,
    alice: String,
}

impl Scene {
    async fn new() -> Self {
        let key = key(11);
        let settings =
            [("authority.issuer", ISSUER.to_owned()), ("listeners.public_url", GATEWAY.to_owned())];
        let house = House::prepared(&settings, Machine::default(), |folder| keep_key(folder, &key)).await;
        let tooled = Tooled::of(house).await;
        let admin = Client::new(
            &format!("http://{}", tooled.house.node.control),
            Some(tooled.house.admin_key.clone()),
        );
        let users = blocking(move || admin.call("GET", "/api/v1/resources/user", None).unwrap()).await;
        let alice = users.as_array().unwrap().iter().find(|user| user["name"] == "alice").unwrap();
        let alice = alice["principal"].as_str().unwrap().to_owned();
        Self { tooled, key, alice }
    }

    /// A token of alice's, for exactly these things where there are any.
    fn token(&self, id: &str, details: &[Value]) -> Secret<String> {
        let at = Timestamp::from_secs;
        let times = Times { issued: at(now() - 5), not_before: None, expires: at(now() + 300) };
        let mut claims = AccessClaims::new(ISSUER, &self.alice, GATEWAY, "app", id, times);
        claims.scope = Some("model:use model:list tool:use tool:list access:evaluate".to_owned());
        claims.acr = Some("aal1".to_owned());
        claims.auth_time = Some(at(now() - 60));
        claims.authorization_details = details.to_vec();
        claims.others.insert("bartizan".to_owned(), json!({"rev": 1, "kind": "user"}));
        self.key.issue(&claims).unwrap()
    }

    async fn call(&self, token: &Secret<String>, tool: &str, arguments: Value) -> Got {
        self.tooled.call(token, tool, arguments).await
    }

    async fn post(&self, token: &Secret<String>, path: &str, body: Value) -> Got {
        self.tooled.http(Some(token), "POST", path, &[], &body.to_string()).await
    }

    fn calls(&self) -> usize {
        self.tooled.server.sent("tools/call").len()
    }
}

fn tool(name: &str) -> Value {
    json!({"type": "bartizan_tool", "tool": format!("files/{name}")})
}

/// The same, so often.
fn times(mut detail: Value, uses: u64, id: u8) -> Value {
    detail["uses"] = uses.into();
    detail["until"] = (now() + 3_600).into();
    detail["id"] = DetailId::from_parts(Timestamp::from_secs(1_000), [id; 10]).to_string().into();
    detail
}

#[track_caller]
fn insufficient(got: &Got) -> Value {
    let told = got.json();
    let reason = told.pointer("/error/data/reason").or_else(|| told.pointer("/error/bartizan/reason"));
    let reason = reason.and_then(Value::as_str).unwrap_or_default();
    assert_eq!((got.status, reason), (403, "authorization_details_insufficient"), "{got:?}");
    let challenge = got.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains("error=\"insufficient_authorization_details\""), "{got:?}");
    let offers = told.pointer("/error/data/remedies").or_else(|| told.pointer("/error/bartizan/remedies"));
    offers.cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_tool_lists_and_calls_that_tool_with_those_arguments_and_is_told_what_else_it_takes()
{
    let scene = Scene::new().await;
    let mut exact = tool("echo");
    exact["arguments"] = json!({"to": "bob", "n": 1});
    let token = scene.token("tok_1", &[exact]);
    let listed = scene.tooled.listed(&token, "/mcp/files").await;
    assert_eq!(listed.into_iter().collect::<Vec<_>>(), ["echo"]);
    let done = scene.call(&token, "echo", json!({"n": 1.0, "to": "bob"})).await;
    assert_eq!((done.status, done.reason().as_str(), scene.calls()), (200, "none", 1), "{done:?}");
    // Other arguments, and another tool: refused before the server hears of it, with what to ask for.
    let arguments = json!({"n": 2, "to": "bob"});
    let offered = insufficient(&scene.call(&token, "echo", arguments.clone()).await);
    let digest = Digest::of(&bartizan_base::json::canonical(&arguments).unwrap());
    let wanted = json!([{"remedy": "authorize", "authorization_details":
        [{"type": "bartizan_tool", "tool": "files/echo", "arguments": digest}]}]);
    assert_eq!(offered, wanted);
    let other = scene.call(&token, "progress", json!({})).await;
    assert_eq!(insufficient(&other)[0]["authorization_details"][0]["tool"], "files/progress");
    assert_eq!(scene.calls(), 1);
    // With what was offered it goes through.
    let more = scene.token("tok_2", wanted[0]["authorization_details"].as_array().unwrap());
    assert_eq!(scene.call(&more, "echo", arguments).await.reason(), "none");
    // What policy does not grant, no token gives; and what would not help is not offered.
    let wiping = scene.token("tok_3", &[tool("wipe")]);
    assert_eq!(scene.call(&wiping, "wipe", json!({})).await.reason(), "forbidden");
    assert_eq!(insufficient(&scene.call(&token, "wipe", json!({})).await), json!([]));
    assert_eq!(scene.calls(), 2);
    // A token for exact things of which none is known is for nothing.
    let payment = scene.token("tok_4", &[json!({"type": "payment", "amount": 5})]);
    insufficient(&scene.call(&payment, "echo", json!({})).await);
    scene.tooled.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_allowed_so_often_is_done_so_often_whichever_tokens_come_and_however_many_at_once() {
    let scene = Scene::new().await;
    let detail = times(tool("echo"), 3, 1);
    let tokens: Vec<_> =
        (0..8).map(|n| scene.token(&format!("tok_{n}"), std::slice::from_ref(&detail))).collect();
    // Seeing it is no use, nor is what has to be said to the server before.
    for token in &tokens {
        assert!(scene.tooled.listed(token, "/mcp/files").await.contains("echo"));
    }
    let calls = tokens.iter().map(|token| scene.call(token, "echo", json!({})));
    let told = futures_util::future::join_all(calls).await;
    let done = told.iter().filter(|got| got.reason() == "none").count();
    let over = told.iter().filter(|got| got.reason() == "authorization_details_used_up").count();
    assert_eq!((done, over, scene.calls()), (3, 5, 3), "{told:?}");
    // Fewer left under the same id is not more, and another one is another one.
    let again = scene.token("tok_again", &[times(tool("echo"), 2, 1)]);
    assert_eq!(scene.call(&again, "echo", json!({})).await.reason(), "authorization_details_used_up");
    let other = scene.token("tok_other", &[times(tool("echo"), 1, 2)]);
    assert_eq!(scene.call(&other, "echo", json!({})).await.reason(), "none");
    // Without an id, or without an end, nobody could count.
    for missing in ["id", "until"] {
        let mut uncounted = times(tool("echo"), 1, 3);
        uncounted.as_object_mut().unwrap().remove(missing);
        insufficient(&scene.call(&scene.token("tok_u", &[uncounted]), "echo", json!({})).await);
    }
    assert_eq!(scene.calls(), 4);
    scene.tooled.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_the_decision_api_honour_exact_things_as_tools_do() {
    let scene = Scene::new().await;
    let chat = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "say: hi"}]});
    let action = |action: &str, resource: &str| json!({"type": "bartizan_action", "action": action, "resources": [resource]});
    let path = "/v1/chat/completions";
    let of_tool = scene.token("tok_1", &[tool("echo")]);
    let told = insufficient(&scene.post(&of_tool, path, chat("assistant")).await);
    let wanted = action("model:invoke", "Model::assistant");
    assert_eq!(told[0]["authorization_details"], json!([wanted]));
    let of_model = scene.token("tok_2", &[wanted]);
    assert_eq!(scene.post(&of_model, path, chat("assistant")).await.status, 200);
    insufficient(&scene.post(&of_model, path, chat("assistant-prod")).await);
    let once = scene.token("tok_3", &[times(action("model:invoke", "Model::assistant"), 1, 5)]);
    assert_eq!(scene.post(&once, path, chat("assistant")).await.status, 200);
    let over = scene.post(&once, path, chat("assistant")).await;
    assert_eq!(over.json().pointer("/error/bartizan/reason"), Some(&json!("authorization_details_used_up")));
    // The decision API: as somebody with this very token without details is answered, or not at all.
    let path = "/access/v1/evaluation";
    let question = json!({"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}, "resource": {"type": "doc", "id": "1"}});
    let free = scene.post(&scene.token("tok_4", &[]), path, question.clone()).await;
    let asking = scene.token("tok_5", &[action("access:evaluate", "System::bartizan")]);
    assert_eq!(scene.post(&asking, path, question.clone()).await.status, free.status);
    let refused = scene.post(&of_tool, path, question).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(format!("{refused:?}").contains("authorization_details_insufficient"), "{refused:?}");
    scene.tooled.house.stop().await;
}
