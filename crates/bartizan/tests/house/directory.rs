//! The directory as another system keeps it up to date, as an enemy in its place would.

use super::*;

const CORE: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
const BULK: &str = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";

/// A house with a connector: a workload whose key is good for the directory alone.
struct Provisioned {
    house: House,
    connector: Secret<String>,
}

impl Provisioned {
    async fn new() -> Self {
        let house = House::new().await;
        let connector = house
            .admin(
                "POST",
                "/api/v1/resources",
                json!([{"name": "hr", "spec": {
                "kind": "workload", "owner": "ada", "purpose": "provisioning", "roles": ["administrator"]}}]),
            )
            .await;
        assert_eq!(connector.0, 200, "{connector:?}");
        let key = json!({"principal_kind": "workload", "principal": "hr", "scopes": ["identity:read", "identity:change"]});
        let (_, key) = house.admin("POST", "/api/v1/keys", key).await;
        let connector = Secret::new(key.pointer("/text").and_then(Value::as_str).unwrap().to_owned());
        Self { house, connector }
    }

    async fn scim(&self, method: &'static str, path: &str, body: Value) -> (u16, Value) {
        self.with(method, path, body, &[]).await
    }

    async fn with(
        &self,
        method: &'static str,
        path: &str,
        body: Value,
        headers: &[(&'static str, String)],
    ) -> (u16, Value) {
        let (path, headers) = (format!("/scim/v2{path}"), headers.to_vec());
        self.house.speak(self.connector.clone(), method, path, body, headers).await
    }

    async fn find(&self, name: &str) -> Value {
        let (status, listed) =
            self.scim("GET", &format!("/Users?filter=userName+eq+%22{name}%22"), Value::Null).await;
        assert_eq!((status, listed.pointer("/totalResults")), (200, Some(&json!(1))), "{listed}");
        listed.pointer("/Resources/0").unwrap().clone()
    }

    async fn id(&self, name: &str) -> String {
        self.find(name).await.pointer("/id").and_then(Value::as_str).unwrap().to_owned()
    }

    async fn patch(&self, path: &str, operations: Value) -> (u16, Value) {
        self.scim("PATCH", path, json!({"schemas": [PATCH], "Operations": operations})).await
    }

    async fn create(&self, name: &str) -> (u16, Value) {
        self.scim("POST", "/Users", json!({"schemas": [CORE], "userName": name})).await
    }

    async fn group(&self, name: &str, members: Value) -> (u16, Value) {
        self.scim("POST", "/Groups", json!({"schemas": [GROUP], "displayName": name, "members": members}))
            .await
    }
}

impl House {
    async fn speak(
        &self,
        key: Secret<String>,
        method: &'static str,
        path: String,
        body: Value,
        headers: Vec<(&'static str, String)>,
    ) -> (u16, Value) {
        let client = Client::new(&format!("http://{}", self.node.control), Some(key));
        let (status, text) = blocking(move || {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            client.raw(method, &path, (!body.is_null()).then_some(&body), &headers).unwrap()
        })
        .await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn admin(&self, method: &'static str, path: &str, body: Value) -> (u16, Value) {
        self.speak(self.admin_key.clone(), method, path.to_owned(), body, Vec::new()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_53_somebody_deactivated_by_provisioning_is_dead_at_the_door_with_the_next_request_and_stays_so()
 {
    let p = Provisioned::new().await;
    let (house, alice) = (&p.house, p.id("alice").await);
    let at = format!("/Users/{alice}");
    let chat = async || {
        let (status, body) = house.chat(&house.alice.1, "assistant", "say: hi").await;
        (status, reason(&body).to_owned())
    };
    assert_eq!(chat().await.0, 200);
    let (status, body) = p.patch(&at, json!([{"op": "replace", "path": "active", "value": false}])).await;
    assert_eq!((status, &body["active"]), (200, &json!(false)), "{body}");
    assert_eq!(chat().await, (401, "principal_disabled".to_owned()));
    // Declared anew by a file, they stay out: only provisioning, or an administrator by name, brings them back.
    let again = json!([{"name": "alice", "spec": {"kind": "user", "groups": ["engineers"]}}]);
    assert_eq!(house.admin("POST", "/api/v1/resources", again).await.0, 200);
    assert_eq!(chat().await, (401, "principal_disabled".to_owned()));
    let (status, body) = p.patch(&at, json!([{"op": "replace", "path": "active", "value": true}])).await;
    assert_eq!((status, &body["active"]), (200, &json!(true)), "{body}");
    assert_eq!(chat().await, (401, "credential_revoked".to_owned()), "what was issued before is dead");
    // An administrator's word is not provisioning's to lift.
    assert_eq!(house.admin("POST", "/api/v1/directory/user/alice/disable", Value::Null).await.0, 200);
    let (status, body) = p.patch(&at, json!([{"op": "replace", "path": "active", "value": true}])).await;
    assert_eq!((status, &body["active"]), (200, &json!(false)), "{body}");
    assert_eq!(house.admin("POST", "/api/v1/directory/user/alice/enable", Value::Null).await.0, 200);
    // Gone for good: the name stays taken, in any spelling.
    assert_eq!(p.scim("DELETE", &at, Value::Null).await.0, 204);
    assert_eq!(p.scim("GET", &at, Value::Null).await.0, 404);
    for name in ["alice", "Alice"] {
        let (status, body) = p.create(name).await;
        assert_eq!((status, &body["scimType"]), (409, &json!("uniqueness")), "{body}");
    }
    // The ledger tells it all, by pseudonym.
    let query = json!({"query": format!("event:directory_changed \"{alice}\""), "first": "oldest"});
    let mut became = Vec::new();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (_, found) = house.admin("POST", "/api/v1/log/search", query.clone()).await;
        let entries = found["entries"].as_array().unwrap().clone();
        let records =
            entries.iter().map(|e| serde_json::from_str::<Value>(e["entry"].as_str().unwrap()).unwrap());
        let own =
            records.flat_map(|r| r["changes"].as_array().unwrap().clone()).filter(|c| c["whom"] == alice);
        became = own.map(|c| c["became"].as_str().unwrap().to_owned()).collect();
        if became.len() >= 7 {
            break;
        }
    }
    assert_eq!(became, ["declared", "disabled", "changed", "enabled", "disabled", "enabled", "retired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_answers_for_an_agent_takes_it_along_when_they_leave() {
    let p = Provisioned::new().await;
    let documents = json!([
        {"name": "olga", "spec": {"kind": "user"}},
        {"name": "bot", "spec": {"kind": "agent", "owner": "olga", "purpose": "tests", "groups": ["engineers"]}}
    ]);
    assert_eq!(p.house.admin("POST", "/api/v1/resources", documents).await.0, 200);
    let key = json!({"principal_kind": "agent", "principal": "bot"});
    let (_, key) = p.house.admin("POST", "/api/v1/keys", key).await;
    let key = Secret::new(key["text"].as_str().unwrap().to_owned());
    assert_eq!(p.house.chat(&key, "assistant", "say: hi").await.0, 200);
    let at = format!("/Users/{}", p.id("olga").await);
    for active in [false, true] {
        let (status, body) =
            p.patch(&at, json!([{"op": "replace", "path": "active", "value": active}])).await;
        assert_eq!(status, 200, "{body}");
        let (status, body) = p.house.chat(&key, "assistant", "say: hi").await;
        assert_eq!(status, 401, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_gives_nobody_rights_and_locks_nobody_out() {
    let p = Provisioned::new().await;
    let (house, mallory) = (&p.house, p.id("mallory").await);
    // A group that carries a role is not provisioning's, unless it was declared so.
    let (_, groups) = p.scim("GET", "/Groups?filter=displayName+eq+%22engineers%22", Value::Null).await;
    let engineers = groups["Resources"][0]["id"].as_str().unwrap().to_owned();
    let add = json!([{"op": "add", "path": "members", "value": [{"value": mallory}]}]);
    let (status, body) = p.patch(&format!("/Groups/{engineers}"), add.clone()).await;
    assert_eq!(status, 403, "{body}");
    assert_eq!(p.scim("DELETE", &format!("/Groups/{engineers}"), Value::Null).await.0, 403);
    let (status, _) = house.chat(&house.mallory, "assistant", "say: hi").await;
    assert_eq!(status, 404, "she still sees no model");
    // Roles and groups that are sent with a person mean nothing, and cannot be patched.
    let eve = json!({"schemas": [CORE], "userName": "eve", "roles": [{"value": "administrator"}], "groups": [{"value": engineers}], "password": "x"});
    let (status, body) = p.scim("POST", "/Users", eve).await;
    assert_eq!(
        (status, body.get("roles"), body.get("groups"), body.get("password")),
        (201, None, None, None),
        "{body}"
    );
    let role = json!([{"op": "add", "path": "roles", "value": [{"value": "administrator"}]}]);
    let (status, body) = p.patch(&format!("/Users/{mallory}"), role).await;
    assert_eq!((status, &body["scimType"]), (400, &json!("mutability")));
    // A name that policy speaks of is not provisioning's to give.
    let free = json!([{"name": "carol", "spec": {"kind": "user"}}]);
    assert_eq!(house.admin("POST", "/api/v1/resources", free).await.0, 200);
    assert_eq!(house.admin("DELETE", "/api/v1/resources/group/contractors", Value::Null).await.0, 200);
    assert_eq!(p.group("contractors", json!([])).await.0, 403);
    // Declared for it, the group is provisioning's, with whatever an administrator gave it.
    let declared = json!([{"name": "engineers", "spec": {"kind": "group", "roles": ["model-user"], "provisioned": true}}]);
    assert_eq!(house.admin("POST", "/api/v1/resources", declared).await.0, 200);
    let (status, body) = p.patch(&format!("/Groups/{engineers}"), add).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(house.chat(&house.mallory, "assistant", "say: hi").await.0, 200);
    // The last one who can change policy stays.
    let ada = format!("/Users/{}", p.id("ada").await);
    let (status, body) = p.patch(&ada, json!([{"op": "replace", "path": "active", "value": false}])).await;
    assert_eq!(status, 403, "{body}");
    assert_eq!(p.scim("DELETE", &ada, Value::Null).await.0, 403);
    // The connector's key is good for the directory alone; others' keys are not good for it.
    let apply = json!([{"name": "eve", "spec": {"kind": "user", "roles": ["administrator"]}}]);
    let path = "/api/v1/resources".to_owned();
    assert_eq!(house.speak(p.connector.clone(), "POST", path, apply, Vec::new()).await.0, 403);
    let users = "/scim/v2/Users".to_owned();
    let (status, body) =
        house.speak(house.alice.1.clone(), "GET", users.clone(), Value::Null, Vec::new()).await;
    assert_eq!((status, &body["schemas"][0]), (403, &json!("urn:ietf:params:scim:api:messages:2.0:Error")));
    let nobody = Secret::new("btz_000000000000_0000000000000000000000000000000000000000000000000".to_owned());
    assert_eq!(house.speak(nobody, "GET", users, Value::Null, Vec::new()).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_deceives_or_overwhelms_is_refused() {
    let p = Provisioned::new().await;
    for name in ["\u{430}lice", "al\u{0}ice", "ali ce", "alice\u{202e}", "", &"a".repeat(113), "ｍallory"] {
        let (status, body) = p.create(name).await;
        assert_eq!((status, &body["scimType"]), (400, &json!("invalidValue")), "{name:?}: {body}");
    }
    assert_eq!(p.create("MALLORY").await.0, 409);
    let deep = format!("{}userName%20pr{}", "(".repeat(40), ")".repeat(40));
    let (status, body) = p.scim("GET", &format!("/Users?filter={deep}"), Value::Null).await;
    assert_eq!((status, &body["scimType"]), (400, &json!("invalidFilter")));
    let many = vec![json!({"op": "add", "path": "title", "value": "x"}); 1_001];
    let at = format!("/Users/{}", p.id("mallory").await);
    assert_eq!(p.patch(&at, many.into()).await.0, 413);
    let long = json!([{"op": "add", "path": "title", "value": "x".repeat(3 << 20)}]);
    // Cut off in the middle, or told: either way it is not taken.
    let body = json!({"schemas": [PATCH], "Operations": long});
    let client = Client::new(&format!("http://{}", p.house.node.control), Some(p.connector.clone()));
    let path = format!("/scim/v2{at}");
    let sent = blocking(move || client.raw("PATCH", &path, Some(&body), &[])).await;
    assert!(sent.is_err() || sent.is_ok_and(|(status, _)| status == 413));
    assert_eq!(p.find("mallory").await.get("title"), None);
    let (status, _) = p.scim("GET", "/Users/prn_00000000000070008000000000000000", Value::Null).await;
    assert_eq!(status, 404);
    // No personal value reaches the ledger or a log in clear.
    let known = json!([{"op": "add", "path": "emails", "value": [{"value": "mallory@private.example"}]}]);
    assert_eq!(p.patch(&at, known).await.0, 200);
    let folder = p.house.stop().await;
    let mut queue = vec![folder.path().to_owned()];
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            queue.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(15).any(|w| w == b"private.example"), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_nest_without_circles_and_change_by_parts_under_their_tag() {
    let p = Provisioned::new().await;
    let (alice, carol) = (p.id("alice").await, p.id("carol").await);
    let (status, inner) = p.group("Tour Guides", json!([{"value": alice}])).await;
    assert_eq!((status, &inner["displayName"]), (201, &json!("Tour Guides")), "{inner}");
    let inner_id = inner["id"].as_str().unwrap();
    let (status, outer) = p.group("all", json!([{"value": inner_id}, {"value": carol}])).await;
    assert_eq!((status, outer["members"].as_array().unwrap().len()), (201, 2), "{outer}");
    let circle = json!([{"op": "add", "path": "members", "value": [{"value": outer["id"]}]}]);
    assert_eq!(p.patch(&format!("/Groups/{inner_id}"), circle).await.0, 400);
    let at = format!("/Groups/{}", outer["id"].as_str().unwrap());
    let tag = outer["meta"]["version"].as_str().unwrap().to_owned();
    let remove = json!({"schemas": [PATCH], "Operations": [{"op": "remove", "path": format!("members[value eq \"{carol}\"]")}]});
    let (status, changed) = p.with("PATCH", &at, remove.clone(), &[("if-match", tag.clone())]).await;
    assert_eq!((status, changed["members"].as_array().unwrap().len()), (200, 1), "{changed}");
    assert_eq!(p.with("PATCH", &at, remove, &[("if-match", tag)]).await.0, 412);
    let known = changed["meta"]["version"].as_str().unwrap().to_owned();
    assert_eq!(p.with("GET", &at, Value::Null, &[("if-none-match", known)]).await.0, 304);
    assert_eq!(p.group("none", json!([{"value": "prn_00000000000070008000000000000000"}])).await.0, 400);
    assert_eq!(p.scim("DELETE", &format!("/Groups/{inner_id}"), Value::Null).await.0, 204);
    assert!(
        p.find("alice").await["groups"].as_array().unwrap().iter().all(|g| g["display"] != "tour-guides")
    );
    let bulk = json!({"schemas": [BULK], "failOnErrors": 2, "Operations": [
        {"method": "POST", "path": "/Groups", "bulkId": "g", "data": {"schemas": [GROUP], "displayName": "new", "members": [{"value": "bulkId:u"}]}},
        {"method": "POST", "path": "/Users", "bulkId": "u", "data": {"schemas": [CORE], "userName": "newcomer"}},
        {"method": "POST", "path": "/Users", "bulkId": "v", "data": {"schemas": [CORE], "userName": "newcomer"}},
        {"method": "POST", "path": "/Groups", "bulkId": "h", "data": {"schemas": [GROUP], "displayName": "h", "members": [{"value": "bulkId:v"}]}},
        {"method": "POST", "path": "/Users", "bulkId": "w", "data": {"schemas": [CORE], "userName": "never"}},
    ]});
    let (_, body) = p.scim("POST", "/Bulk", bulk).await;
    let statuses: Vec<&str> =
        body["Operations"].as_array().unwrap().iter().map(|o| o["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["201", "201", "409", "409"], "{body}");
    assert_eq!(p.find("newcomer").await["groups"][0]["display"], "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_taken_in_once_however_often_it_is_sent() {
    let p = Provisioned::new().await;
    let people = |dry_run: bool| {
        json!({"dry_run": dry_run,
        "users": [{"userName": "ann", "displayName": "Ann", "active": "true"}, {"userName": "alice", "title": "x"}, {"userName": "a b"}],
        "groups": [{"displayName": "staff", "members": [{"value": "ann"}, {"value": "alice"}]}, {"displayName": "engineers", "members": [{"value": "ann"}]}]})
    };
    let outcomes = async |dry_run| {
        let path = "/api/v1/directory/import".to_owned();
        let (status, body) =
            p.house.speak(p.connector.clone(), "POST", path, people(dry_run), Vec::new()).await;
        assert_eq!(status, 200, "{body}");
        body["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["outcome"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let expected = ["created", "changed", "refused", "created", "refused"];
    assert_eq!(outcomes(true).await, expected);
    assert_eq!(outcomes(false).await, expected);
    assert_eq!(outcomes(false).await, ["unchanged", "unchanged", "refused", "unchanged", "refused"]);
    let ann = p.find("ann").await;
    assert_eq!((&ann["displayName"], &ann["groups"][0]["display"]), (&json!("Ann"), &json!("staff")));
}
