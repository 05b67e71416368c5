//! The words of each store, and what is read of what comes back. Whether real stores understand them is seen in
//! `tests/outside/retrieve.py`; Qdrant and OpenSearch are held against their documented grammar here.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use bartizan_base::Name;
use bartizan_filter::{Filter, Pushdown, SqlValue, Tree};
use bartizan_model::asset::AssetSpec;
use bartizan_model::{Confidentiality, CorpusRouteSpec, Integrity, Tenant};
use bartizan_retrieve::{
    Access, Entry, Grammar, Passage, Row, Seals, Search, Step, at, fits_metadata, grammar, metadata_filter,
    place,
};
use bartizan_secret::Secret;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const STORES: [&str; 4] = ["pgvector", "chroma", "qdrant", "opensearch"];

fn route(kind: &str) -> CorpusRouteSpec {
    let store = match kind {
        "pgvector" => {
            json!({"type": kind, "server": {"host": "db", "database": "d", "user": "u"}, "table": "rag.chunks"})
        }
        "opensearch" => json!({"type": kind, "upstream": "s", "index": "docs"}),
        _ => json!({"type": kind, "upstream": "s", "collection": "docs"}),
    };
    let metadata = json!({"year": "number", "lang": "text", "draft": "flag"});
    let spec = json!({"store": store, "dimensions": 2, "metadata": metadata});
    let route: CorpusRouteSpec = serde_json::from_value(spec).unwrap();
    route.check().unwrap();
    route
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn tenant() -> Tenant {
    Tenant::default_tenant()
}

fn step(compiled: Result<Pushdown<Step>, bartizan_filter::Refused>) -> Step {
    match compiled.unwrap() {
        Pushdown::Query { query, complete: true } => query,
        other => panic!("{other:?}"),
    }
}

fn search(words: &dyn Grammar, filter: &Filter) -> Step {
    step(words.search(&Search { filter, vector: &[1.0, 0.5], limit: 7 }))
}

fn sent(step: &Step) -> (String, Value) {
    let Step::Http { path, body, .. } = step else { panic!("{step:?}") };
    (path.clone(), serde_json::from_slice(body).unwrap())
}

/// Everything that a step says, as one text.
fn said(step: &Step) -> String {
    match step {
        Step::Http { body, .. } => String::from_utf8_lossy(body).into_owned(),
        Step::Sql { statements, .. } => format!("{statements:?}"),
    }
}

fn access() -> Access {
    let spec = AssetSpec {
        within: [name("guides")].into(),
        project: Some(name("support")),
        owner: Some(name("ann")),
        confidentiality: Confidentiality::Internal,
        integrity: Integrity::Trusted,
        categories: [name("hr")].into(),
        readers: [name("bob"), name("cem")].into(),
        ..AssetSpec::default()
    };
    let above = vec!["Collection::\"guides\"".to_owned(), "Corpus::\"handbook\"".to_owned()];
    Access { id: name("plan"), spec, above, synced_ms: 1_800_000_000_000 }
}

fn entry() -> Entry {
    let metadata = json!({"year": 2026, "lang": "en"}).as_object().unwrap().clone();
    Entry { passage: Passage { chunk: 3, text: "how we plan".to_owned(), metadata }, vector: vec![1.0, 0.5] }
}

/// What a store gives back of what was written into it.
fn answered(kind: &str, words: &dyn Grammar, step: &Step) -> Vec<Row> {
    let answer = match (kind, step) {
        ("pgvector", Step::Sql { statements, .. }) => {
            let [one] = statements.as_slice() else { panic!("{statements:?}") };
            let names = one.text.split_once('(').unwrap().1.split_once(')').unwrap().0;
            let values = one.values.iter().map(|value| match value {
                SqlValue::Int(number) => json!(number),
                SqlValue::Text(text) => json!(text),
                SqlValue::Texts(texts) => json!(texts),
                other => panic!("{other:?}"),
            });
            let names = names.split(", ").map(|name| name.trim_matches('"').to_owned());
            let row: Map<String, Value> = names.zip(values).collect();
            json!([{"row": row, "score": 0.25}])
        }
        ("chroma", step) => {
            let (_, body) = sent(step);
            json!({"ids": [body["ids"]], "documents": [body["documents"]], "metadatas": [body["metadatas"]], "distances": [[0.25]]})
        }
        ("qdrant", step) => {
            let mut point = sent(step).1["points"][0].clone();
            point["score"] = json!(0.25);
            json!({"result": {"points": [point]}})
        }
        (_, Step::Http { body, .. }) => {
            let lines: Vec<&str> = std::str::from_utf8(body).unwrap().lines().collect();
            let source: Value = serde_json::from_str(lines[1]).unwrap();
            json!({"timed_out": false, "hits": {"hits": [{"_id": "x", "_score": 0.25, "_source": source}]}})
        }
        other => panic!("{other:?}"),
    };
    let (rows, broken) = words.rows(&answer).unwrap();
    assert_eq!(broken, 0, "{answer}");
    rows
}

#[test]
fn what_is_written_comes_back_the_same_from_every_store_under_seals_that_hold_here_alone() {
    let (key, other) = (Secret::new([7; 32]), Secret::new([8; 32]));
    let (ours, corpus) = (tenant(), name("handbook"));
    let seals = Seals::new(&key, &ours, &corpus);
    let bare =
        Access { spec: AssetSpec { within: [name("guides")].into(), ..AssetSpec::default() }, ..access() };
    for kind in STORES {
        let route = route(kind);
        let words = grammar(&route).unwrap();
        for access in [access(), bare.clone()] {
            let added = words.add(&access, &[entry()], &seals);
            let rows = answered(kind, &*words, &added);
            let [row] = rows.as_slice() else { panic!("{rows:?}") };
            assert_eq!(
                (&row.access, &row.passage, row.score),
                (&access, &entry().passage, Some(0.25)),
                "{kind}"
            );
            assert!(row.is_sealed_by(&seals), "{kind}");
            let acme = Tenant(name("acme"));
            assert!(!row.is_sealed_by(&Seals::new(&key, &acme, &corpus)), "another tenant");
            assert!(!row.is_sealed_by(&Seals::new(&key, &ours, &name("other"))), "another corpus");
            assert!(!row.is_sealed_by(&Seals::new(&other, &ours, &corpus)), "another house");
        }
    }
}

proptest! {
    /// Whatever is changed about a row, its seals no longer hold, or it is no row any more.
    #[test]
    fn a_row_that_was_changed_anywhere_is_not_ours(field in 0_usize..40, text in "[a-z0-9]{0,6}", number in 0_u64..9, list: bool) {
        let (key, ours, corpus) = (Secret::new([7; 32]), tenant(), name("handbook"));
        let seals = Seals::new(&key, &ours, &corpus);
        let route = route("qdrant");
        let words = grammar(&route).unwrap();
        let (_, body) = sent(&words.add(&access(), &[entry()], &seals));
        let mut payload = body["points"][0]["payload"].as_object().unwrap().clone();
        let names: Vec<String> = payload.keys().cloned().chain(["digest", "environment", "reader_groups", "m_draft"].map(str::to_owned)).collect();
        let field = &names[field % names.len()];
        let value = match (payload.get(field), list) {
            (Some(Value::Number(_)), _) => json!(number),
            (_, true) => json!([text]),
            (_, false) => json!(text),
        };
        let before = Row::read(&payload, None, &route).unwrap();
        prop_assert!(before.is_sealed_by(&seals));
        payload.insert(field.clone(), value);
        let after = Row::read(&payload, None, &route);
        // Markers are for the store's filter alone.
        let same = after.as_ref().is_some_and(|after| after.access == before.access && after.passage == before.passage && after.tenant == before.tenant);
        let seal = field.ends_with("_seal");
        prop_assert_eq!(after.is_some_and(|after| after.is_sealed_by(&seals)), same && !seal, "{}", field);
    }
}

#[test]
fn every_step_names_tenant_and_collection_and_a_search_its_policy_within_the_stores_own_question() {
    let policy = metadata_filter(&json!({"field": "lang", "is": "the-policy"}), &route("qdrant")).unwrap();
    let around = place(&tenant(), &name("guides"), 1_700_000_000_000);
    let own = at(&tenant(), &name("guides"), &name("plan"), None);
    let (key, ours, corpus) = (Secret::new([7; 32]), tenant(), name("handbook"));
    let seals = Seals::new(&key, &ours, &corpus);
    for kind in STORES {
        let route = route(kind);
        let words = grammar(&route).unwrap();
        let all = Tree::all([around.clone(), policy.clone()]);
        let asked = said(&search(&*words, &all));
        for part in ["default", "guides", "1700000000000", "the-policy"] {
            assert!(asked.contains(part), "{kind}: {part}: {asked}");
        }
        for step in [step(words.look(&own, 9)), step(words.remove(&own))] {
            for part in ["default", "guides", "plan"] {
                assert!(said(&step).contains(part), "{kind}: {part}: {}", said(&step));
            }
        }
        let rewritten = step(words.rewrite(&own, &["k1".to_owned()], &access(), &seals));
        assert!(said(&rewritten).contains(if kind == "chroma" { "k1" } else { "plan" }), "{kind}");
        // What cannot match is not asked.
        let never = Search { filter: &Tree::Never, vector: &[1.0, 0.5], limit: 7 };
        assert_eq!(words.search(&never).unwrap(), Pushdown::Never, "{kind}");
    }
}

#[test]
fn qdrant_is_asked_in_its_documented_grammar() {
    let route = route("qdrant");
    let words = grammar(&route).unwrap();
    let own = at(&tenant(), &name("guides"), &name("plan"), None);
    let (path, body) = sent(&search(&*words, &own));
    assert_eq!(path, "/collections/docs/points/query");
    assert_eq!(
        (&body["query"], &body["limit"], &body["with_payload"]),
        (&json!([1.0, 0.5]), &json!(7), &json!(true))
    );
    let must = body["filter"]["must"].to_string();
    assert!(must.contains(r#""key":"tenant""#) && must.contains(r#""match""#), "{must}");
    let (path, body) = sent(&step(words.remove(&own)));
    assert_eq!(path, "/collections/docs/points/delete?wait=true");
    assert!(body["filter"]["must"].is_array() && body.as_object().unwrap().len() == 1, "{body}");
    assert!(words.done(&json!({"result": {"operation_id": 1, "status": "completed"}, "status": "ok"})));
    // Taken in and not yet done is not done.
    assert!(!words.done(&json!({"result": {"operation_id": 1, "status": "acknowledged"}, "status": "ok"})));
    let (key, ours, corpus) = (Secret::new([7; 32]), tenant(), name("handbook"));
    let seals = Seals::new(&key, &ours, &corpus);
    let (path, body) = sent(&words.add(&access(), &[entry()], &seals));
    assert_eq!(path, "/collections/docs/points?wait=true");
    let id = body["points"][0]["id"].as_str().unwrap();
    assert_eq!((id.len(), id.split('-').count()), (36, 5), "{id}");
    let (path, body) = sent(&step(words.rewrite(&own, &[], &access(), &seals)));
    assert_eq!(path, "/collections/docs/points/payload?wait=true");
    assert_eq!(body["payload"]["environment"], Value::Null, "what is gone is named");
    assert!(body["payload"].as_object().unwrap().contains_key("environment"), "{body}");
}

#[test]
fn opensearch_is_asked_in_its_documented_grammar() {
    let route = route("opensearch");
    let words = grammar(&route).unwrap();
    let own = at(&tenant(), &name("guides"), &name("plan"), Some(5));
    let (path, body) = sent(&search(&*words, &own));
    assert_eq!(path, "/docs/_search");
    let knn = &body["query"]["knn"]["embedding"];
    assert_eq!((&knn["vector"], &knn["k"], &body["size"]), (&json!([1.0, 0.5]), &json!(7), &json!(7)));
    assert!(knn["filter"]["bool"]["filter"].is_array(), "the filter is within the vector query: {body}");
    assert_eq!(body["track_total_hits"], json!(false));
    let (path, _) = sent(&step(words.remove(&own)));
    assert_eq!(path, "/docs/_delete_by_query?refresh=true");
    assert!(words.done(&json!({"took": 1, "timed_out": false, "deleted": 3, "failures": []})));
    assert!(!words.done(&json!({"took": 1, "timed_out": false, "deleted": 3, "failures": [{"id": "x"}]})));
    assert!(!words.done(&json!({"took": 1, "timed_out": true, "deleted": 3, "failures": []})));
    assert!(words.done(&json!({"took": 1, "errors": false, "items": []})));
    assert!(!words.done(&json!({"took": 1, "errors": true, "items": []})));
    // Half an answer is none: what is missing could be anything.
    assert!(words.rows(&json!({"timed_out": true, "hits": {"hits": []}})).is_none());
    let (key, ours, corpus) = (Secret::new([7; 32]), tenant(), name("handbook"));
    let Step::Http { path, body, media, .. } =
        words.add(&access(), &[entry(), entry()], &Seals::new(&key, &ours, &corpus))
    else {
        panic!("over HTTP")
    };
    assert_eq!((path.as_str(), media), ("/docs/_bulk?refresh=true", "application/x-ndjson"));
    assert_eq!(std::str::from_utf8(&body).unwrap().lines().count(), 4);
}

#[test]
fn nothing_that_a_caller_sends_becomes_part_of_a_statement() {
    let route = route("pgvector");
    let words = grammar(&route).unwrap();
    let evil = r#"x' OR "tenant" <> '' --"#;
    let filter = metadata_filter(&json!({"field": "lang", "not_in": [evil]}), &route).unwrap();
    let Step::Sql { statements, reads } =
        search(&*words, &Tree::all([place(&tenant(), &name("guides"), 0), filter]))
    else {
        panic!("a statement")
    };
    assert!(reads, "a search cannot change anything");
    assert!(statements.iter().all(|statement| !statement.text.contains(evil)));
    let bound = |value: &SqlValue| format!("{value:?}").contains("OR");
    assert!(statements.iter().any(|statement| statement.values.iter().any(bound)));
}

#[test]
fn the_language_of_callers_knows_only_declared_fields_and_its_own_relations() {
    let route = route("qdrant");
    for wrong in [
        json!([]),
        json!({}),
        json!({"all": []}),
        json!({"not": {"field": "year", "is": 1}}),
        json!({"field": "tenant", "is": "acme"}),
        json!({"field": "m_year", "is": 1}),
        json!({"field": "readers", "is": "ann"}),
        json!({"field": "year"}),
        json!({"field": "year", "is": 1, "not": 2}),
        json!({"field": "year", "is": "1"}),
        json!({"field": "year", "is": 1.5}),
        json!({"field": "lang", "at_least": "a"}),
        json!({"field": "lang", "is": {"$ne": ""}}),
        json!({"field": "lang", "is": "a\u{0}b"}),
        json!({"field": "lang", "in": []}),
        json!({"field": "draft", "in": vec![true; 65]}),
        json!({"field": "year", "like": "2%"}),
    ] {
        assert!(metadata_filter(&wrong, &route).is_err(), "{wrong}");
    }
    let mut deep = json!({"field": "year", "is": 1});
    for _ in 0..5 {
        deep = json!({"all": [deep]});
    }
    assert!(metadata_filter(&deep, &route).is_ok());
    assert!(metadata_filter(&json!({"any": [deep]}), &route).is_err(), "too deep");
    let many = json!({"any": vec![json!({"field": "year", "is": 1}); 65]});
    assert!(metadata_filter(&many, &route).is_err(), "too many");
}

#[test]
fn metadata_is_what_the_route_declares() {
    let route = route("qdrant");
    let fits = |told: Value| fits_metadata(told.as_object().unwrap(), &route);
    assert!(fits(json!({"year": 2026, "lang": "en", "draft": false})) && fits(json!({})));
    for wrong in
        [json!({"tenant": "x"}), json!({"year": "2026"}), json!({"lang": null}), json!({"lang": ["en"]})]
    {
        assert!(!fits(wrong.clone()), "{wrong}");
    }
}

#[test]
fn a_step_is_known_by_everything_that_it_does() {
    let route = route("pgvector");
    let words = grammar(&route).unwrap();
    let digests: std::collections::BTreeSet<_> = ["a", "b"]
        .iter()
        .flat_map(|id| {
            let own = at(&tenant(), &name("guides"), &name(id), None);
            [step(words.look(&own, 9)), step(words.remove(&own)), search(&*words, &own)]
        })
        .map(|step| step.digest())
        .collect();
    assert_eq!(digests.len(), 6);
}
