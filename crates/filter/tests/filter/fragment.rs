//! The table of what can be asked of which store, in `docs/filters.md`, is what the compilers do.

use crate::common::stores::{Absence, Style, columns};
use crate::common::{Case, Person};
use bartizan_filter::{Columns, Dialect, Filter, Strictness, chroma, opensearch, qdrant, sql};

/// Conditions as they are shown, in groups.
const CONDITIONS: &[&str] = &[
    "resource.public",
    "resource.title == \"a\"",
    "[\"a\", \"b\"].contains(resource.title)",
    "resource.title like \"a*\"",
    "resource.meta.kind == \"a\"",
    "resource.level < 3",
    "resource.level < 9007199254740993",
    "resource.created < context.now",
    "resource.price.lessThan(decimal(\"1.5\"))",
    "resource has from && resource.from.isInRange(ip(\"10.0.0.0/8\"))",
    "resource == Doc::\"d1\"",
    "resource in Folder::\"f0\"",
    "resource.owner == principal",
    "principal in resource.groups",
    "resource.readers.contains(principal)",
    "resource.labels.containsAny([\"a\", \"b\"])",
    "resource.labels.containsAll([\"a\", \"b\"])",
    "[\"a\", \"b\"].containsAll(resource.labels)",
    "resource.labels == [\"a\"]",
    "resource.labels.isEmpty()",
    "resource has quota && resource.quota < 3",
    "resource has dept && resource.dept == \"a\"",
    "resource has dept",
    "resource.hasTag(\"color\") && resource.getTag(\"color\") == \"red\"",
    "resource.title == resource.other",
    "resource.level < resource.ceiling",
    "resource.owner in Group::\"g0\"",
    "resource.readers.contains(resource.owner)",
    "resource.level + 1 < 3",
    "resource.created.offset(duration(\"1d\")) < context.now",
];

type Ask = fn(&Filter, Absence) -> bool;

const STORES: &[(&str, Ask)] = &[
    ("PostgreSQL", |filter, absence| {
        sql(filter, &columns(Style::Postgres, absence), Dialect::PostgreSql, 1, Strictness::Exact).is_ok()
    }),
    ("SQLite", |filter, absence| {
        sql(filter, &columns(Style::Sqlite, absence), Dialect::Sqlite, 1, Strictness::Exact).is_ok()
    }),
    ("Qdrant", |filter, absence| qdrant(filter, &vector(absence), Strictness::Exact).is_ok()),
    ("Chroma", |filter, absence| chroma(filter, &vector(absence), Strictness::Exact).is_ok()),
    ("OpenSearch", |filter, absence| opensearch(filter, &vector(absence), Strictness::Exact).is_ok()),
];

fn vector(absence: Absence) -> Columns {
    columns(Style::Vector, absence)
}

fn table() -> String {
    let now = serde_json::json!({ "__extn": { "fn": "datetime", "arg": "2026-01-01" } });
    let context = serde_json::json!({ "mfa": true, "hour": 9, "dept": "a", "allowed": [], "now": now });
    let person = Person { uid: crate::common::uid("User", "u0"), context };
    let filter = |policies: &[&str]| Case::of(policies, vec![person.clone()]).filter().unwrap();
    let cell = |filter: &Filter, ask: Ask| {
        [(Absence::Unknown, "yes"), (Absence::Certain, "absence"), (Absence::Marked, "marker")]
            .iter()
            .find(|(absence, _)| ask(filter, *absence))
            .map_or("no", |(_, word)| word)
    };
    let names: Vec<_> = STORES.iter().map(|(name, _)| *name).collect();
    let mut out = format!("| condition | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for condition in CONDITIONS {
        let permit = filter(&[&format!("permit (principal, action, resource) when {{ {condition} }};")]);
        let forbid = filter(&[
            "permit (principal, action, resource);",
            &format!("forbid (principal, action, resource) when {{ {condition} }};"),
        ]);
        let cells: Vec<_> = STORES
            .iter()
            .map(|(_, ask)| match (cell(&permit, *ask), cell(&forbid, *ask)) {
                (one, other) if one == other => one.to_owned(),
                (one, other) => format!("{one}, {other}"),
            })
            .collect();
        out.push_str(&format!("| `{condition}` | {} |\n", cells.join(" | ")));
    }
    out
}

#[test]
fn the_documented_fragment_is_what_the_compilers_translate() {
    let page = include_str!("../../../../docs/filters.md");
    let (_, rest) = page.split_once("<!-- fragment -->\n").expect("the table begins");
    let (documented, _) = rest.split_once("<!-- end -->").expect("the table ends");
    let made = table();
    assert!(documented == made, "docs/filters.md says something else; it should say:\n{made}");
}
