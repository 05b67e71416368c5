//! A tool that needs a surer login, and the person who is sent to log in: over real HTTP, through both listeners. And what others have
//! learned about doors to tools.

use bartizan_model::AssuranceLevel;

use super::mcp::{Desk, Said, Wire, furnish_desk, open_at};
use super::oauth::{Scene, Told};
use super::*;

const ISSUER: &str = "https://id.example";
const STRONG: AssuranceLevel = AssuranceLevel::Aal2PhishingResistant;

/// A house with a desk of tools, and alice's browser in which she is signed in weakly.
struct Room {
    scene: Scene,
    desk: Arc<Desk>,
}

impl Room {
    async fn new() -> Self {
        let scene = Scene::at(ISSUER, "alice", &[]).await;
        let (desk, address) = Desk::start().await;
        furnish_desk(&scene.house, address).await;
        Self { scene, desk }
    }

    fn alice(&self) -> &Secret<String> {
        &self.scene.house.alice.1
    }

    async fn post(&self, key: &Secret<String>, headers: &[(&str, &str)], body: &Value) -> Wire {
        open_at(self.scene.house.node.data, key, "POST", headers, &body.to_string()).await
    }

    /// A session of a client that can do `can`.
    async fn session(&self, can: Value) -> String {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": can, "clientInfo": {"name": "c", "version": "1"}});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
        self.post(self.alice(), &[], &body).await.whole().await.header("mcp-session-id").unwrap()
    }

    async fn pay(&self, session: &str) -> Wire {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "pay", "arguments": {"euros": 5}}});
        self.post(self.alice(), &[("mcp-session-id", session)], &body).await
    }

    /// The same in the revision without sessions, by a client that opens links.
    async fn modern(&self, key: &Secret<String>, euros: u32, more: Value) -> Said {
        let mut params = json!({"name": "pay", "arguments": {"euros": euros}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}},
        }});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params});
        let headers =
            [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "pay")];
        self.post(key, &headers, &body).await.whole().await
    }

    fn sent(&self) -> usize {
        self.desk.sent("tools/call").len()
    }

    /// A page of ours, as somebody with that cookie sees it.
    async fn page(&self, link: &str, cookie: &str) -> Told {
        let path = link.strip_prefix(ISSUER).unwrap();
        self.scene.call("GET", path, &[("cookie", cookie)], String::new()).await
    }

    async fn answer(&self, link: &str, page: &Told, word: &str, cookie: &str) -> Told {
        self.scene.submit(link.strip_prefix(ISSUER).unwrap(), page, ("answer", word), cookie).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_needs_a_surer_login_goes_on_once_its_own_person_has_logged_in() {
    let room = Room::new().await;
    let strong = room.scene.sign_in("alice", STRONG).await;
    let carol = room.scene.sign_in("carol", AssuranceLevel::Aal3).await;
    // Whoever cannot open links is challenged as before.
    for can in [json!({}), json!({"elicitation": {}}), json!({"elicitation": {"form": {}}})] {
        let mute = room.session(can).await;
        let said = room.pay(&mute).await.whole().await;
        assert_eq!((said.status(), said.reason().as_str()), (401, "assurance_too_low"), "{said:?}");
    }
    let session = room.session(json!({"elicitation": {"url": {}}})).await;
    let mut call = room.pay(&session).await;
    call.until("elicitation/create").await;
    let asked = Said(call.got.clone()).last();
    assert_eq!((&asked["params"]["mode"], room.sent()), (&json!("url"), 0), "{asked}");
    let link = asked["params"]["url"].as_str().unwrap().to_owned();
    assert!(
        link.starts_with("https://id.example/step-up/") && !link.contains("pay") && !link.contains("alice")
    );

    // It opens nothing by itself, and nothing at all for anybody but the person in whose name was asked (phishing).
    let nobody = room.page(&link, "").await;
    assert!(nobody.status == 303 && nobody.location().starts_with("/login?"), "{nobody:?}");
    assert_eq!(room.page(&link, &carol).await.status, 404);
    let weak = room.scene.sign_in("alice", AssuranceLevel::Aal1).await;
    let page = room.page(&link, &weak).await;
    assert!(
        page.status == 200 && page.body.contains("level=3") && !page.body.contains("value=\"allow\""),
        "{page:?}"
    );
    let told = room.answer(&link, &page, "allow", &weak).await;
    assert!(!told.body.contains("It goes on"), "{told:?}");
    let page = room.page(&link, &strong).await;
    assert!(page.body.contains("desk: pay") && page.body.contains("value=\"allow\""), "{page:?}");
    let stolen = room.answer(&link, &page, "allow", &carol).await;
    assert_eq!(stolen.status, 404, "{stolen:?}");
    let forged = room
        .scene
        .call("POST", link.strip_prefix(ISSUER).unwrap(), &[("cookie", &strong)], "answer=allow".to_owned())
        .await;
    assert_eq!(forged.status, 403, "{forged:?}");
    assert_eq!(room.sent(), 0);
    let told = room.answer(&link, &page, "allow", &strong).await;
    assert!(told.status == 200 && told.body.contains("It goes on"), "{told:?}");
    let said = call.whole().await;
    let complete = said.messages().into_iter().find(|m| m["method"] == "notifications/elicitation/complete");
    assert_eq!(complete.unwrap()["params"]["elicitationId"], asked["params"]["elicitationId"]);
    assert_eq!((said.reason().as_str(), &said.last()["id"], room.sent()), ("none", &json!(7), 1), "{said:?}");

    // Used up; and the same call again asks again.
    assert_eq!(room.page(&link, &strong).await.status, 404);
    let mut again = room.pay(&session).await;
    again.until("elicitation/create").await;
    let asked = Said(again.got.clone()).last();
    let second = asked["params"]["url"].as_str().unwrap().to_owned();
    assert_ne!(second, link);
    // Whoever will not is refused as before, and the link is dead.
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "decline"}});
    let answered = room.post(room.alice(), &[("mcp-session-id", &session)], &answer).await.whole().await;
    assert_eq!(answered.status(), 202);
    assert_eq!(again.whole().await.reason(), "assurance_too_low");
    assert_eq!(room.page(&second, &strong).await.status, 404);
    // So it is for whoever refuses on the page.
    let mut third = room.pay(&session).await;
    third.until("elicitation/create").await;
    let link = Said(third.got.clone()).last()["params"]["url"].as_str().unwrap().to_owned();
    let page = room.page(&link, &strong).await;
    assert!(room.answer(&link, &page, "deny", &strong).await.body.contains("refused"));
    assert_eq!(third.whole().await.reason(), "assurance_too_low");
    assert_eq!(room.sent(), 1);
    room.scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_newest_revision_a_surer_login_counts_for_the_rounds_of_one_call() {
    let room = Room::new().await;
    let strong = room.scene.sign_in("alice", STRONG).await;
    let key = room.alice().clone();
    let first = room.modern(&key, 5, json!({})).await.last()["result"].clone();
    assert_eq!(first["resultType"], "input_required", "{first}");
    let asked = &first["inputRequests"]["bartizan/step-up"];
    let link = asked["params"]["url"].as_str().unwrap().to_owned();
    assert_eq!((&asked["method"], &asked["params"]["mode"]), (&json!("elicitation/create"), &json!("url")));
    let page = room.page(&link, &strong).await;
    assert!(room.answer(&link, &page, "allow", &strong).await.body.contains("It goes on"));
    let accepted = json!({"inputResponses": {"bartizan/step-up": {"action": "accept"}}, "requestState": first["requestState"]});
    // For another call, and for another caller, it counts nothing.
    let more = room.modern(&key, 500, accepted.clone()).await;
    assert_eq!(more.last()["result"]["resultType"], "input_required", "{more:?}");
    let carols = room.modern(&room.scene.house.carol, 5, accepted.clone()).await;
    assert_ne!(carols.last()["result"]["resultType"], "complete", "{carols:?}");
    assert_eq!(room.sent(), 0);
    let good = room.modern(&key, 5, accepted.clone()).await;
    assert_eq!(good.last()["result"]["resultType"], "complete", "{good:?}");
    let sent = room.desk.sent("tools/call").pop().unwrap().1;
    assert!(
        sent["params"].get("inputResponses").is_none() && sent["params"].get("requestState").is_none(),
        "{sent}"
    );
    let twice = room.modern(&key, 5, accepted).await;
    assert_eq!(
        (twice.last()["result"]["resultType"].clone(), room.sent()),
        (json!("input_required"), 1),
        "{twice:?}"
    );
    let declined = json!({"inputResponses": {"bartizan/step-up": {"action": "decline"}}, "requestState": twice.last()["result"]["requestState"]});
    let refused = room.modern(&key, 5, declined).await;
    assert_eq!((refused.status(), refused.reason().as_str()), (401, "assurance_too_low"), "{refused:?}");
    room.scene.house.stop().await;
}

/// Something on the way may have gone by the header; what is done goes by the body.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_headers_say_another_argument_than_its_body_goes_nowhere() {
    let room = Room::new().await;
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo", "arguments": {"region": "eu"}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let heads = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "echo")];
    let cases: [(&[(&str, &str)], bool); 6] = [
        (&[("mcp-param-region", "us")], false),
        (&[], false),
        (&[("Mcp-Param-Region", "eu"), ("mcp-param-region", "us")], false),
        (&[("mcp-param-region", "=?base64?dXM=?=")], false),
        (&[("mcp-param-region", "eu")], true),
        (&[("Mcp-Param-Region", "=?base64?ZXU=?=")], true),
    ];
    for (more, good) in cases {
        let before = room.sent();
        let headers = [heads.as_slice(), more].concat();
        let said = room.post(room.alice(), &headers, &body).await.whole().await;
        if good {
            assert_eq!(
                (said.status(), said.reason().as_str(), room.sent()),
                (200, "none", before + 1),
                "{said:?}"
            );
        } else {
            assert_eq!(
                (said.status(), said.last()["error"]["code"].clone()),
                (400, json!(-32020)),
                "{said:?}"
            );
            assert_eq!((said.reason().as_str(), room.sent()), ("header_mismatch", before));
        }
    }
    room.scene.house.stop().await;
}

/// rmcp before 1.4: a page of somebody else's made a browser speak to a server on its own machine.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2026_42559_pages_of_others_do_not_speak_to_a_door_whatever_name_they_reach_it_by() {
    let room = Room::new().await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
    for origin in ["https://evil.example", "null", "http://localhost:9999", "http://127.0.0.1"] {
        let said = room.post(room.alice(), &[("origin", origin)], &list).await.whole().await;
        assert_eq!((said.status(), said.reason().as_str()), (403, "request_forged"), "{origin}: {said:?}");
    }
    room.scene.house.stop().await;
}

/// LiteLLM 1.81.16: a key that was looked up by a string-built statement. LiteLLM 39234: a key without rights got an empty list. Bifrost
/// 1361: a key that counted at one door and not at another.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_litellm_39234_and_cve_2026_42208_a_key_is_the_same_at_every_door_or_none_at_all() {
    let room = Room::new().await;
    let (data, carol) = (room.scene.house.node.data, room.scene.house.carol.clone());
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).to_string();
    let good = open_at(data, room.alice(), "POST", &[], &list).await.whole().await;
    assert!(good.status() == 200 && good.last()["result"]["tools"].is_array(), "{good:?}");
    for hostile in ["' or 1=1 --", "brt_' union select 1 --", "\"; drop table keys; --", "x", "%00", "{}"] {
        let key = Secret::new(hostile.to_owned());
        let said = open_at(data, &key, "POST", &[], &list).await.whole().await;
        assert_eq!(said.status(), 401, "{hostile}: {said:?}");
        for (method, path) in [("GET", "/v1/models"), ("POST", "/access/v1/evaluation"), ("POST", "/mcp")] {
            let client = Client::new(&room.scene.house.data(), Some(key.clone()));
            let told = blocking(move || client.raw(method, path, None, &[]).unwrap()).await;
            assert_eq!(told.0, 401, "{hostile} {path}: {told:?}");
        }
    }
    // Known everywhere, and where nothing is hers, that is said.
    let admin = Client::new(
        &format!("http://{}", room.scene.house.node.control),
        Some(room.scene.house.admin_key.clone()),
    );
    let bare = blocking(move || {
        let nobody = json!([{"name": "nemo", "spec": {"kind": "user"}}]);
        admin.call("POST", "/api/v1/resources", Some(&nobody)).unwrap();
        let key = json!({"principal_kind": "user", "principal": "nemo"});
        admin.call("POST", "/api/v1/keys", Some(&key)).unwrap()["text"].as_str().unwrap().to_owned()
    })
    .await;
    let said = open_at(data, &Secret::new(bare), "POST", &[], &list).await.whole().await;
    assert!(said.last()["error"].is_object() && said.last().get("result").is_none(), "{said:?}");
    let models = Client::new(&room.scene.house.data(), Some(carol));
    assert_ne!(blocking(move || models.raw("GET", "/v1/models", None, &[]).unwrap()).await.0, 401);
    room.scene.house.stop().await;
}
