//! Filters and patches as clients really send them, as an enemy would, and as nobody would.
#![expect(clippy::needless_pass_by_value, reason = "a test reads better with values in their places")]

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Bulk, Filter, GROUP, Patch, Path, Query, Resource, ScimType, USER, clean, complete};

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

fn resource(value: Value) -> Resource {
    value.as_object().unwrap().clone()
}

fn bjensen() -> Resource {
    resource(json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "id": "prn_1", "userName": "bjensen", "externalId": "X-1", "active": true,
        "name": {"familyName": "Jensen", "givenName": "Barbara"},
        "emails": [
            {"value": "Bjensen@example.com", "type": "work", "primary": true},
            {"value": "babs@jensen.org", "type": "home"}
        ],
        "meta": {"resourceType": "User", "created": "2026-11-20T10:00:00Z", "location": "/Users/prn_1"},
        ENTERPRISE: {"department": "Tours", "manager": {"value": "prn_2"}},
    }))
}

fn fits(filter: &str) -> bool {
    Filter::parse(&USER, filter).unwrap_or_else(|e| panic!("{filter}: {e}")).matches(&bjensen())
}

fn patched(resource: &Resource, operations: Value) -> Result<Resource, crate::ScimError> {
    let body =
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations});
    Patch::parse(&USER, &body)?.apply(resource)
}

#[test]
fn filters_mean_what_the_specification_says() {
    for filter in [
        "userName eq \"BJensen\"",
        "USERNAME Eq \"bjensen\"",
        "urn:ietf:params:scim:schemas:core:2.0:User:userName sw \"B\"",
        "name.familyName co \"ens\"",
        "name.familyName ew \"SEN\"",
        "emails co \"jensen.org\"",
        "emails.value eq \"bjensen@example.com\"",
        "emails[type eq \"work\" and value co \"@example.com\"]",
        "emails[type eq \"home\"] and not (emails[type eq \"other\"])",
        "title pr or userType pr or active eq true",
        "active eq \"True\"",
        "not (title pr)",
        "title eq null",
        "title ne \"Guide\"",
        "meta.created gt \"2026-11-20T09:59:59Z\" and meta.created le \"2026-11-20T11:00:00+01:00\"",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq \"tours\"",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager eq \"prn_2\"",
        "userName eq \"nobody\" and title pr or active eq true",
        "externalId eq \"X-1\"",
    ] {
        assert!(fits(filter), "{filter}");
    }
    for filter in [
        "userName ne \"bjensen\"",
        "userName eq \"nobody\" and (title pr or active eq true)",
        "externalId eq \"x-1\"",
        "emails[type eq \"home\" and value co \"@example.com\"]",
        "emails ne \"babs@jensen.org\"",
        "active eq false",
        "not (active eq true)",
        "userName eq null",
        "id eq \"PRN_1\"",
    ] {
        assert!(!fits(filter), "{filter}");
    }
}

#[test]
fn what_is_no_filter_is_refused_as_such() {
    let deep = format!("{}userName pr{}", "(".repeat(20), ")".repeat(20));
    let negated = format!("{}userName pr{}", "not (".repeat(20), ")".repeat(20));
    let wide = vec!["userName pr"; 70].join(" or ");
    let long = format!("userName eq \"{}\"", "a".repeat(5_000));
    for filter in [
        "",
        " ",
        "userName",
        "userName eq",
        "userName eq bjensen",
        "userName like \"x\"",
        "nothing eq \"x\"",
        "userName eq \"x",
        "userName eq \"x\" and",
        "(userName pr",
        "userName pr)",
        "emails[type eq \"work\"",
        "emails[emails[type pr]]",
        "userName[type eq \"x\"]",
        "active gt true",
        "active eq \"maybe\"",
        "userName gt 5",
        "meta.created co \"2026\"",
        "meta.created gt \"yesterday\"",
        "password eq \"x\"",
        "userName eq \"a\u{0}b\"",
        "userName eq \"a\\u0000b\"",
        "userName eq 'x'",
        "userName eq \"x\"; drop table users",
        "emails.nothing pr",
        "name.familyName.more pr",
        "not userName pr",
        &deep,
        &negated,
        &wide,
        &long,
    ] {
        let error = Filter::parse(&USER, filter).unwrap_err();
        assert_eq!((error.status, error.kind), (400, Some(ScimType::InvalidFilter)), "{filter}");
        assert!(
            !error.detail.contains("bjensen") && !error.detail.contains("yesterday"),
            "an error repeats no value"
        );
    }
}

#[test]
fn patches_add_replace_and_remove_as_clients_send_them() {
    let after = patched(&bjensen(), json!([
        {"op": "Add", "path": "emails", "value": [{"value": "new@example.com", "type": "other", "primary": true}]},
        {"op": "replace", "path": "name.givenName", "value": "Babs"},
        {"op": "replace", "path": "emails[type eq \"home\"].value", "value": "home@example.com"},
        {"op": "add", "path": "phoneNumbers[type eq \"mobile\"].value", "value": "1"},
        {"op": "replace", "value": {"displayName": "Babs", "name.familyName": "J", "active": "False"}},
        {"op": "add", "path": format!("{ENTERPRISE}:costCenter"), "value": 4130},
        {"op": "replace", "path": format!("{ENTERPRISE}:manager"), "value": "prn_3"},
        {"op": "remove", "path": "externalId"},
    ])).unwrap();
    assert_eq!(
        after["emails"],
        json!([
            {"value": "Bjensen@example.com", "type": "work", "primary": false},
            {"value": "home@example.com", "type": "home"},
            {"value": "new@example.com", "type": "other", "primary": true},
        ])
    );
    assert_eq!(after["name"], json!({"familyName": "J", "givenName": "Babs"}));
    assert_eq!(after["phoneNumbers"], json!([{"type": "mobile", "value": "1"}]));
    assert_eq!((&after["active"], &after["displayName"]), (&json!(false), &json!("Babs")));
    assert_eq!(
        after[ENTERPRISE],
        json!({"costCenter": "4130", "department": "Tours", "manager": {"value": "prn_3"}})
    );
    assert!(!after.contains_key("externalId"));

    let gone = patched(
        &after,
        json!([
            {"op": "remove", "path": "emails[type eq \"work\"]"},
            {"op": "remove", "path": "emails", "value": [{"value": "home@example.com", "type": "home"}]},
            {"op": "remove", "path": ENTERPRISE},
            {"op": "remove", "path": "name.givenName"},
            {"op": "replace", "path": "phoneNumbers", "value": []},
        ]),
    )
    .unwrap();
    assert_eq!(gone["emails"], json!([{"value": "new@example.com", "type": "other", "primary": true}]));
    assert_eq!(gone["name"], json!({"familyName": "J"}));
    assert!(!gone.contains_key(ENTERPRISE) && !gone.contains_key("phoneNumbers"));
}

#[test]
fn a_patch_that_may_not_be_changes_nothing_and_says_why() {
    for (operation, kind) in [
        (json!({"op": "remove"}), ScimType::NoTarget),
        (
            json!({"op": "replace", "path": "emails[type eq \"other\"].value", "value": "x"}),
            ScimType::NoTarget,
        ),
        (json!({"op": "add", "path": "emails[type sw \"o\"].value", "value": "x"}), ScimType::NoTarget),
        (json!({"op": "replace", "path": "photos.value", "value": "x"}), ScimType::NoTarget),
        (json!({"op": "replace", "path": "id", "value": "prn_9"}), ScimType::Mutability),
        (json!({"op": "replace", "path": "groups", "value": [{"value": "g"}]}), ScimType::Mutability),
        (json!({"op": "add", "path": "roles", "value": [{"value": "administrator"}]}), ScimType::Mutability),
        (json!({"op": "add", "value": {"roles": [{"value": "administrator"}]}}), ScimType::Mutability),
        (
            json!({"op": "add", "path": "roles[value eq \"x\"].value", "value": "administrator"}),
            ScimType::Mutability,
        ),
        (json!({"op": "replace", "path": "meta.version", "value": "1"}), ScimType::Mutability),
        (json!({"op": "remove", "path": "userName"}), ScimType::Mutability),
        (json!({"op": "replace", "path": "userName", "value": null}), ScimType::Mutability),
        (json!({"op": "replace", "path": "nothing", "value": "x"}), ScimType::InvalidPath),
        (json!({"op": "replace", "path": "emails[", "value": "x"}), ScimType::InvalidPath),
        (json!({"op": "replace", "path": "userName[value eq \"x\"]", "value": "x"}), ScimType::InvalidPath),
        (json!({"op": "replace", "path": "emails[type eq]", "value": "x"}), ScimType::InvalidPath),
        (json!({"op": "replace", "path": "active", "value": "perhaps"}), ScimType::InvalidValue),
        (json!({"op": "replace", "path": "userName", "value": "a\u{0}b"}), ScimType::InvalidValue),
        (json!({"op": "replace", "path": "displayName", "value": "\u{202e}nimda"}), ScimType::InvalidValue),
        (json!({"op": "replace", "path": "displayName", "value": {"a": 1}}), ScimType::InvalidValue),
        (json!({"op": "move", "path": "userName"}), ScimType::InvalidSyntax),
        (json!({"op": "add", "value": "x"}), ScimType::InvalidSyntax),
        (json!({"op": "add", "path": 5, "value": "x"}), ScimType::InvalidSyntax),
    ] {
        let error = patched(&bjensen(), json!([operation])).unwrap_err();
        assert_eq!(error.kind, Some(kind), "{operation}: {error}");
    }
}

#[test]
fn members_of_a_group_are_added_once_and_removed_by_value_never_all_by_mistake() {
    let group =
        resource(json!({"displayName": "g", "members": [{"value": "a"}, {"value": "b", "type": "User"}]}));
    let apply = |operation: Value| {
        let body =
            json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [operation]});
        Patch::parse(&GROUP, &body).unwrap().apply(&group)
    };
    let members = |resource: Resource| resource.get("members").cloned().unwrap_or(Value::Null);
    let added =
        apply(json!({"op": "add", "path": "members", "value": [{"value": "b"}, {"value": "c"}]})).unwrap();
    assert_eq!(members(added), json!([{"value": "a"}, {"value": "b", "type": "User"}, {"value": "c"}]));
    for operation in [
        json!({"op": "remove", "path": "members", "value": [{"value": "b"}]}),
        json!({"op": "remove", "path": "members[value eq \"b\"]"}),
    ] {
        assert_eq!(members(apply(operation).unwrap()), json!([{"value": "a"}]));
    }
    assert_eq!(members(apply(json!({"op": "remove", "path": "members"})).unwrap()), Value::Null);
    let moved = apply(json!({"op": "replace", "path": "members[value eq \"b\"].value", "value": "z"}));
    assert_eq!(moved.unwrap_err().kind, Some(ScimType::Mutability));
}

#[test]
fn a_huge_patch_is_refused() {
    let many = vec![json!({"op": "add", "path": "title", "value": "x"}); 1_001];
    assert_eq!(patched(&bjensen(), many.into()).unwrap_err().status, 413);
    let members: Vec<Value> = (0..9_000).map(|n| json!({"value": n.to_string()})).collect();
    let group = resource(json!({"displayName": "g", "members": members}));
    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": vec![json!({"op": "add", "path": "members", "value": [{"value": "x"}]}); 1_000],
    });
    assert_eq!(Patch::parse(&GROUP, &body).unwrap().apply(&group).unwrap_err().status, 413);
}

#[test]
fn what_is_sent_is_brought_into_one_form() {
    let cleaned = clean(&USER, &json!({
        "SCHEMAS": ["URN:ietf:params:scim:schemas:core:2.0:User"],
        "USERNAME": "bj", "Active": "true", "password": "secret", "roles": [{"value": "administrator"}], "id": "prn_9",
        "groups": [{"value": "g"}], "emails": "b@example.com", "title": "", "unknown": {"a": 1},
        "URN:IETF:params:scim:schemas:extension:enterprise:2.0:USER": {"EmployeeNumber": 701984, "manager": "prn_2"},
    })).unwrap();
    assert_eq!(
        Value::Object(cleaned.clone()),
        json!({
            "userName": "bj", "active": true, "emails": [{"value": "b@example.com"}],
            ENTERPRISE: {"employeeNumber": "701984", "manager": {"value": "prn_2"}},
        })
    );
    assert!(complete(&USER, &cleaned).is_ok() && complete(&GROUP, &cleaned).is_err());
    let core = "urn:ietf:params:scim:schemas:core:2.0:User";
    for wrong in [
        json!("bj"),
        json!({"userName": "bj"}),
        json!({"schemas": [core], "userName": "bj", "username": "eve"}),
        json!({"schemas": [core], "userName": ["bj"]}),
        json!({"schemas": [core], "emails": [{"value": "a", "primary": true}, {"value": "b", "primary": true}]}),
        json!({"schemas": [core], "emails": vec![json!({"value": "a"}); 101]}),
        json!({"schemas": [core], "displayName": "x".repeat(3_000)}),
    ] {
        assert!(clean(&USER, &wrong).is_err(), "{wrong}");
    }
}

fn people() -> Vec<(crate::Kind, Resource)> {
    let person = |n: u32| {
        resource(
            json!({"id": format!("prn_{n:03}"), "userName": format!("u{:03}", 999 - n), "title": if n.is_multiple_of(2) { json!("x") } else { Value::Null }}),
        )
    };
    (0..250).map(|n| (USER, person(n))).collect()
}

fn ids(listed: &crate::Listed) -> Vec<String> {
    listed.resources.iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn pages_by_index_and_by_cursor_give_every_resource_once() {
    let ask = |pairs: &[(&'static str, &str)]| {
        let pairs: Vec<(&str, &str)> = pairs.to_vec();
        Query::from_pairs(pairs.into_iter()).unwrap().select(&[USER], people())
    };
    let first = ask(&[]).unwrap();
    assert_eq!((first.total, first.start, first.resources.len(), &first.next), (250, Some(1), 100, &None));
    let last = ask(&[("startIndex", "241"), ("count", "100")]).unwrap();
    assert_eq!(ids(&last).len(), 10);
    assert_eq!(ask(&[("startIndex", "-5"), ("count", "-1")]).unwrap().resources.len(), 0);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ask(&[("cursor", &cursor), ("count", "60")]).unwrap();
        seen.extend(ids(&page));
        match page.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!(seen, people().iter().map(|(_, r)| r["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>());
    let sorted = ask(&[("sortBy", "userName"), ("count", "1")]).unwrap();
    assert_eq!(ids(&sorted), ["prn_249"]);
    let sorted = ask(&[("sortBy", "title"), ("sortOrder", "descending"), ("count", "126")]).unwrap();
    assert_eq!(ids(&sorted).last().unwrap(), "prn_001", "what has no value comes last");
    let wrong = ask(&[("cursor", "a b"), ("count", "1")]).unwrap_err();
    assert_eq!(wrong.kind, Some(ScimType::InvalidCursor));
    assert!(ask(&[("filter", "members pr")]).is_err() && ask(&[("sortBy", "nothing")]).is_err());
}

#[test]
fn a_filter_that_means_something_for_one_type_only_finds_that_type() {
    let both = vec![
        (USER, bjensen()),
        (GROUP, resource(json!({"id": "prn_5", "displayName": "g", "members": [{"value": "prn_1"}]}))),
    ];
    let query = Query { filter: Some("members pr".to_owned()), start_index: 1, ..Query::default() };
    assert_eq!(ids(&query.select(&[USER, GROUP], both).unwrap()), ["prn_5"]);
}

#[test]
fn attributes_are_given_as_asked_and_ids_always() {
    let given = |pairs: &[(&str, &str)]| {
        let query = Query::from_pairs(pairs.iter().copied()).unwrap();
        Value::Object(query.projection(&USER).apply(&bjensen()))
    };
    assert_eq!(
        given(&[("attributes", "userName,emails.value")]),
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "id": "prn_1", "userName": "bjensen",
            "emails": [{"value": "Bjensen@example.com"}, {"value": "babs@jensen.org"}],
        })
    );
    let less = given(&[(
        "excludedAttributes",
        "id,meta,emails,name.givenName,urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
    )]);
    assert_eq!(less["name"], json!({"familyName": "Jensen"}));
    assert_eq!(less["id"], "prn_1");
    assert!(less.get("emails").is_none() && less.get("meta").is_none() && less.get(ENTERPRISE).is_none());
    let department = given(&[("attributes", &format!("{ENTERPRISE}:department"))]);
    assert_eq!(department[ENTERPRISE], json!({"department": "Tours"}));
}

#[test]
fn bulk_operations_are_put_in_order_and_refer_to_what_was_made() {
    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "failOnErrors": 1,
        "Operations": [
            {"method": "POST", "path": "/Groups", "bulkId": "g", "data": {"members": [{"value": "bulkId:u"}]}},
            {"method": "PATCH", "path": "/Users/bulkId:u", "data": {}},
            {"method": "post", "path": "/Users", "bulkId": "u", "data": {}},
        ]
    });
    let bulk = Bulk::parse(&body).unwrap();
    assert_eq!(bulk.operations.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2, 0, 1]);
    let ids = [("u".to_owned(), "prn_7".to_owned())].into();
    assert_eq!(bulk.operations[1].1.resolved(&ids).data["members"][0]["value"], "prn_7");
    assert_eq!(bulk.operations[2].1.resolved(&ids).path, "/Users/prn_7");
    for wrong in [
        json!({}),
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": [{"method": "POST", "path": "/Users"}]}),
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": [
            {"method": "POST", "path": "/Users", "bulkId": "u"}, {"method": "POST", "path": "/Users", "bulkId": "u"}]}),
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "failOnErrors": 0, "Operations": []}),
    ] {
        assert!(Bulk::parse(&wrong).is_err(), "{wrong}");
    }
    let circle = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
        "Operations": [
            {"method": "POST", "path": "/Users", "bulkId": "a", "data": {"manager": "bulkId:b"}},
            {"method": "POST", "path": "/Users", "bulkId": "b", "data": {"manager": "bulkId:a"}},
        ]
    });
    assert_eq!(Bulk::parse(&circle).unwrap().operations.len(), 2);
}

fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "userName",
        "emails",
        "name.familyName",
        "active",
        "eq",
        "ne",
        "co",
        "pr",
        "and",
        "or",
        "not",
        "(",
        ")",
        "[",
        "]",
        "\"x\"",
        "true",
        "null",
        "5",
        "type",
        "value",
        ".value",
        "meta.created",
        "members",
        "\\",
        "\"",
        "ü",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.join(" "))
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(Into::into),
        prop::sample::select(vec!["", "x", "work", "true", "prn_1", "\u{0}"]).prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = prop::sample::select(vec![
            "value",
            "type",
            "primary",
            "userName",
            "emails",
            "name",
            "givenName",
            "x",
            ENTERPRISE,
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reading_any_text_as_filter_or_path_ends_and_what_is_read_can_be_asked(text in prop_oneof![words(), ".{0,80}"]) {
        if let Ok(filter) = Filter::parse(&USER, &text) {
            let fits = filter.matches(&bjensen());
            prop_assert_eq!(Filter::Not(Box::new(filter)).matches(&bjensen()), !fits);
        }
        drop(Path::parse(&USER, &text));
    }

    #[test]
    fn any_patch_leaves_a_resource_that_is_in_its_form_or_changes_nothing(
        op in prop::sample::select(vec!["add", "remove", "replace"]),
        path in prop_oneof![
            Just(Value::Null), words().prop_map(Value::from),
            prop::sample::select(vec!["emails", "emails[type eq \"work\"]", "emails[type eq \"work\"].value", "name", "name.givenName", "active", ENTERPRISE])
                .prop_map(Value::from),
        ],
        value in json_value(),
    ) {
        let before = bjensen();
        if let Ok(after) = patched(&before, json!([{"op": op, "path": path, "value": value}])) {
            for ours in ["id", "meta", "schemas", "roles", "groups"] {
                prop_assert_eq!(after.get(ours), before.get(ours), "{}", ours);
            }
            prop_assert!(after.get("userName").is_some_and(Value::is_string));
            // What a patch leaves is what a client could have sent whole: cleaning it changes nothing that is the client's.
            let own: Resource = after.iter().filter(|(name, _)| !["id", "meta"].contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect();
            let cleaned = clean(&USER, &Value::Object(own.clone())).unwrap();
            for (name, value) in cleaned {
                prop_assert_eq!(Some(&value), own.get(&name), "{}", name);
            }
        }
    }

    #[test]
    fn replacing_an_attribute_by_itself_changes_nothing(name in prop::sample::select(vec!["emails", "name", "active", "userName", "externalId"])) {
        let before = bjensen();
        let after = patched(&before, json!([{"op": "replace", "path": name, "value": before[name]}])).unwrap();
        prop_assert_eq!(after, before);
    }
}

/// Every seed of a corpus, and cuts and joins of them: two halves of any two make an input that nobody thought of.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus")).join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(seeds.len() > 3, "{name} has no corpus");
    let mut out = seeds.clone();
    for (a, b) in seeds.iter().flat_map(|a| seeds.iter().map(move |b| (a, b))) {
        for at in 0..a.len() {
            let mut joined = a[..at].to_vec();
            joined.extend_from_slice(&b[(at * 7 % b.len())..]);
            out.push(joined);
            let mut changed = a.clone();
            changed[at] = b"\"[]{}(),:\\ \0.\xff0"[at % 15];
            out.push(changed);
        }
    }
    out
}

#[test]
fn no_filter_or_path_of_the_corpus_or_made_of_it_breaks_the_reader() {
    let mut read = 0;
    for text in corpus("scim-filter").iter().filter_map(|bytes| std::str::from_utf8(bytes).ok()) {
        if let Ok(filter) = Filter::parse(&USER, text) {
            let fits = filter.matches(&bjensen());
            assert_eq!(Filter::Not(Box::new(filter)).matches(&bjensen()), !fits);
            read += 1;
        }
        read += usize::from(Path::parse(&USER, text).is_ok());
    }
    assert!(read > 20, "the corpus holds what is read as well");
}

#[test]
fn no_message_of_the_corpus_or_made_of_it_breaks_the_engine() {
    let mut read = 0;
    for value in corpus("scim-patch").iter().filter_map(|bytes| serde_json::from_slice::<Value>(bytes).ok()) {
        for kind in [USER, GROUP] {
            if let Ok(after) = Patch::parse(&kind, &value).and_then(|patch| patch.apply(&bjensen())) {
                assert_eq!(after.get("id"), bjensen().get("id"));
                read += 1;
            }
            read += usize::from(clean(&kind, &value).is_ok());
        }
        if let Ok(bulk) = Bulk::parse(&value) {
            read += bulk
                .operations
                .iter()
                .filter(|(_, o)| o.resolved(&Default::default()).refers() == o.refers())
                .count();
        }
    }
    assert!(read > 20, "the corpus holds what is read as well");
}
