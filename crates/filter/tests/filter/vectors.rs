//! INV-FILTER on vector stores: what they return against what a full evaluation permits, row by row.
//!
//! Chroma runs as it is, in a process of Python; so does the client of Qdrant with its own implementation of the filters in Python
//! (`:memory:`), which is not the server. For OpenSearch there is only an evaluator of the query language, written here
//! after its documentation.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::common::stores::{Absence, Style, columns, payload};
use crate::common::words::Words;
use crate::common::{Case, Dice, Row, extent, world};
use bartizan_filter::{Columns, Filter, Pushdown, Refused, Strictness, chroma, opensearch, qdrant};
use serde_json::{Map, Value as Json, json};

const ROWS: usize = 40;
const CASES_A_STORE: usize = 25;

type Compile = fn(&Filter, &Columns, Strictness) -> Result<Pushdown<Json>, Refused>;

/// A question that was compiled, and what must come of it.
struct Asked {
    told: String,
    query: Json,
    permitted: BTreeSet<String>,
    /// What must come back at least.
    least: BTreeSet<String>,
}

/// Rows, and what is asked about them.
struct Batch {
    rows: Vec<Map<String, Json>>,
    asked: Vec<Asked>,
}

#[derive(Debug, Default)]
struct Tally {
    exact: usize,
    refused: usize,
    returned: usize,
    withheld: usize,
}

fn batches(compile: Compile, nulls: bool, cases: usize, seed: u64, tally: &mut Tally) -> Vec<Batch> {
    let mut dice = Dice(seed);
    let mut out = Vec::new();
    let mut done = 0;
    while done < cases {
        let rows: Vec<_> = (0..ROWS).map(|n| Row::random(&mut dice, n)).collect();
        let world = world(&rows);
        let mut asked = Vec::new();
        for _ in 0..CASES_A_STORE.min(cases - done) {
            done += 1;
            let words = dice.pick(&[Words::Common, Words::Common, Words::Some, Words::Any]);
            let case = Case::random(&mut dice, words);
            let filter = case.filter().expect("a filter");
            let permitted = case.permitted(&rows, &world);
            let proper: BTreeSet<_> =
                rows.iter().filter(|row| row.is_proper()).map(|row| row.id.clone()).collect();
            for (absence, strictness) in [
                (Absence::Marked, Strictness::Exact),
                (Absence::Certain, Strictness::Exact),
                (Absence::Marked, Strictness::Narrower),
                (Absence::Unknown, Strictness::Narrower),
            ] {
                let (query, complete) = match compile(&filter, &columns(Style::Vector, absence), strictness) {
                    Ok(Pushdown::Never) => continue,
                    Ok(Pushdown::Query { query, complete }) => (query, complete),
                    Err(_) => {
                        tally.refused += 1;
                        continue;
                    }
                };
                tally.exact += usize::from(complete);
                let least = if complete {
                    permitted.intersection(&proper).cloned().collect()
                } else {
                    BTreeSet::new()
                };
                let told = format!("{case}\n{filter:?}\n{query}");
                asked.push(Asked { told, query, permitted: permitted.clone(), least });
            }
        }
        let rows = rows.iter().enumerate().map(|(n, row)| payload(row, nulls && n % 2 == 0)).collect();
        out.push(Batch { rows, asked });
    }
    out
}

/// Judges what a store returned; the first wrong answer in words.
fn judge(batches: &[Batch], returned: &[Vec<BTreeSet<String>>], tally: &mut Tally) -> Result<(), String> {
    assert_eq!(batches.len(), returned.len());
    for (batch, returned) in batches.iter().zip(returned) {
        assert_eq!(batch.asked.len(), returned.len());
        for (asked, returned) in batch.asked.iter().zip(returned) {
            let guilty = |ids: Vec<&String>| {
                let of = |row: &&Map<String, Json>| ids.iter().any(|id| row["id"] == id.as_str());
                let rows: Vec<_> =
                    batch.rows.iter().filter(of).take(2).map(|row| json!(row).to_string()).collect();
                format!("{}\n{}", rows.join("\n"), asked.told)
            };
            let over: Vec<_> = returned.difference(&asked.permitted).collect();
            if !over.is_empty() {
                return Err(format!("returned, and not permitted: {}", guilty(over)));
            }
            let under: Vec<_> = asked.least.difference(returned).collect();
            if !under.is_empty() {
                return Err(format!("permitted, and not returned: {}", guilty(under)));
            }
            tally.returned += returned.len();
            tally.withheld += batch.rows.len() - returned.len();
        }
    }
    Ok(())
}

fn holds(judged: Result<(), String>, tally: &Tally, cases: usize) {
    if let Err(told) = judged {
        panic!("{told}");
    }
    println!("{tally:?}");
    assert!(tally.exact > cases / 3, "{tally:?}");
    assert!(tally.refused > cases / 20, "{tally:?}");
    assert!(tally.returned > tally.withheld / 20 && tally.withheld > tally.returned / 20, "{tally:?}");
}

/// Asks a store in Python everything, in one process.
#[expect(clippy::disallowed_methods, reason = "the runner says where Python has its packages")]
fn ask(store: &str, batches: &[Batch]) -> Vec<Vec<BTreeSet<String>>> {
    let python = std::env::var("BARTIZAN_TEST_PYTHON").expect("run by tests/outside/filters.py");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/outside/stores.py");
    let mut process = Command::new(python)
        .args([script, store])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let all: Vec<_> = batches
        .iter()
        .map(|batch| json!({ "rows": batch.rows, "queries": batch.asked.iter().map(|a| &a.query).collect::<Vec<_>>() }))
        .collect();
    let mut input = process.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(json!(all).to_string().as_bytes()));
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "the store failed");
    writer.join().unwrap().unwrap();
    serde_json::from_slice(&output.stdout).expect("lists of ids")
}

fn chroma_json(
    filter: &Filter,
    columns: &Columns,
    strictness: Strictness,
) -> Result<Pushdown<Json>, Refused> {
    Ok(match chroma(filter, columns, strictness)? {
        Pushdown::Never => Pushdown::Never,
        Pushdown::Query { query, complete } => {
            Pushdown::Query { query: query.unwrap_or(Json::Null), complete }
        }
    })
}

#[test]
#[ignore = "needs the Python package qdrant-client: tests/outside/filters.py"]
fn inv_filter_qdrant_in_its_python_mode_returns_exactly_what_a_full_evaluation_permits() {
    let (cases, seed) = extent(200);
    let mut tally = Tally::default();
    let batches = batches(qdrant, true, cases, seed, &mut tally);
    let returned = ask("qdrant", &batches);
    holds(judge(&batches, &returned, &mut tally), &tally, cases);
}

#[test]
#[ignore = "needs the Python package qdrant-client: tests/outside/filters.py"]
fn qdrant_filters_without_their_guards_are_caught() {
    let mut tally = Tally::default();
    let mut batches = batches(qdrant, true, 200, 1, &mut tally);
    for asked in batches.iter_mut().flat_map(|batch| &mut batch.asked) {
        unguard(&mut asked.query);
    }
    let told = judge(&batches, &ask("qdrant", &batches), &mut tally).expect_err("missing guards show");
    assert!(told.starts_with("returned, and not permitted"), "{told}");
}

#[test]
#[ignore = "needs the Python package chromadb: tests/outside/filters.py"]
fn inv_filter_chroma_returns_exactly_what_a_full_evaluation_permits() {
    let (cases, seed) = extent(200);
    let mut tally = Tally::default();
    let batches = batches(chroma_json, false, cases, seed, &mut tally);
    let returned = ask("chroma", &batches);
    holds(judge(&batches, &returned, &mut tally), &tally, cases);
}

#[test]
fn inv_filter_opensearch_queries_mean_what_a_full_evaluation_permits() {
    let (cases, seed) = extent(200);
    let mut tally = Tally::default();
    let batches = batches(opensearch, true, cases, seed, &mut tally);
    let returned: Vec<_> = batches.iter().map(search).collect();
    holds(judge(&batches, &returned, &mut tally), &tally, cases);
}

#[test]
fn opensearch_queries_without_their_guards_are_caught() {
    let mut tally = Tally::default();
    let mut batches = batches(opensearch, true, 200, 1, &mut tally);
    for asked in batches.iter_mut().flat_map(|batch| &mut batch.asked) {
        unguard(&mut asked.query);
    }
    let returned: Vec<_> = batches.iter().map(search).collect();
    let told = judge(&batches, &returned, &mut tally).expect_err("missing guards show");
    assert!(told.starts_with("returned, and not permitted"), "{told}");
}

/// Plants the fault of an author who forgets that a negative test is true for what is missing: nothing asks for presence any more.
fn unguard(query: &mut Json) {
    let guards = |item: &Json| {
        let name = item["key"]
            .as_str()
            .or_else(|| item["term"].as_object().and_then(|term| term.keys().next()).map(String::as_str));
        let marker = name.is_some_and(|name| name.starts_with("has_"));
        marker || item.get("exists").is_some() || item["values_count"] == json!({ "gte": 1, "lte": 1 })
    };
    match query {
        Json::Object(members) => {
            for positive in ["must", "filter"] {
                if let Some(Json::Array(items)) = members.get_mut(positive) {
                    items.retain(|item| !guards(item));
                }
            }
            members.values_mut().for_each(unguard);
        }
        Json::Array(items) => items.iter_mut().for_each(unguard),
        _ => {}
    }
}

fn search(batch: &Batch) -> Vec<BTreeSet<String>> {
    let ids = |asked: &Asked| {
        let found = batch.rows.iter().filter(|row| matches(&asked.query, row));
        found.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    batch.asked.iter().map(ids).collect()
}

/// What a query of OpenSearch means for one document: every field is the list of its values, without nulls.
fn matches(query: &Json, row: &Map<String, Json>) -> bool {
    let (name, body) = query.as_object().and_then(|q| q.iter().next()).expect("a query");
    assert_eq!(query.as_object().unwrap().len(), 1, "{query}");
    let values = |field: &str| match row.get(field) {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Array(items)) => items.clone(),
        Some(value) => vec![value.clone()],
    };
    let named = || body.as_object().and_then(|b| b.iter().next()).expect("a field");
    match name.as_str() {
        "match_all" => true,
        "exists" => !values(body["field"].as_str().unwrap()).is_empty(),
        "term" => values(named().0).contains(&named().1["value"]),
        "terms" => values(named().0).iter().any(|value| named().1.as_array().unwrap().contains(value)),
        "range" => {
            let (sign, bound) = named().1.as_object().and_then(|r| r.iter().next()).expect("a bound");
            let bound = bound.as_i64().unwrap();
            values(named().0).iter().any(|value| match (value.as_i64(), sign.as_str()) {
                (Some(value), "lt") => value < bound,
                (Some(value), "lte") => value <= bound,
                (Some(value), "gt") => value > bound,
                (Some(value), "gte") => value >= bound,
                other => panic!("{other:?}"),
            })
        }
        "wildcard" => {
            assert_eq!(named().1["case_insensitive"], false);
            let pattern: Vec<char> = named().1["value"].as_str().unwrap().chars().collect();
            values(named().0)
                .iter()
                .any(|value| wild(&pattern, &value.as_str().unwrap().chars().collect::<Vec<_>>()))
        }
        "bool" => {
            let all = |name: &str| body.get(name).and_then(Json::as_array).cloned().unwrap_or_default();
            for name in body.as_object().unwrap().keys() {
                assert!(
                    ["filter", "should", "must_not", "minimum_should_match"].contains(&name.as_str()),
                    "{name}"
                );
            }
            let should = all("should");
            all("filter").iter().all(|q| matches(q, row))
                && !all("must_not").iter().any(|q| matches(q, row))
                && (should.is_empty() || should.iter().any(|q| matches(q, row)))
        }
        other => panic!("no such query: {other}"),
    }
}

/// Lucene's wildcards: `*`, `?`, and `\` before what is meant as it is.
fn wild(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|n| wild(rest, &text[n..])),
        ['?', rest @ ..] => !text.is_empty() && wild(rest, &text[1..]),
        ['\\', c, rest @ ..] | [c, rest @ ..] => text.first() == Some(c) && wild(rest, &text[1..]),
    }
}
