//! INV-FILTER at the engine: what a store returns for the filter is what is permitted row by row.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::world::{NOW, documents, name, names, real, real_alice, situation};
use bartizan_base::Name;
use bartizan_decide::{Bundle, CompiledBundle, Door, Entities, Reader, RowsQuestion, Snapshot};
use bartizan_decide::{Question, Supposed};
use bartizan_filter::{Column, Columns, Dialect, Filter, Kind, Pushdown, SqlValue, Strictness, Tree, sql};
use bartizan_model::asset::AssetSpec;
use bartizan_model::directory::Spec;
use bartizan_model::{
    Action, AskFacts, Confidentiality, Document, EntityRef, Group, Obligation, ObligationKind, Obligations,
};

const RULES: &str = r#"
@id("engineers-read") permit (principal in Group::"engineers", action in Action::"data:read", resource)
when { resource.confidentiality != "restricted" };
@id("owners-read") permit (principal, action == Action::"document:read", resource)
when { resource has owner && resource.owner == principal };
@id("contractors-never") permit (principal in Group::"contractors", action in Action::"data:read", resource);
@id("nobody-reads-what-is-off") forbid (principal, action in Action::"data:read", resource)
when { resource.status == "disabled" };
@id("health-is-masked") @reason("personal_data") @remedy("redact(pii)")
forbid (principal, action in Action::"data:read", resource) when { resource.categories.contains("health") }
unless { context.obligations.contains("redact:pii") };
@id("models-are-something-else") forbid (principal, action in Action::"model:use", resource);
"#;

fn rows() -> Vec<Document> {
    let mut out = Vec::new();
    for confidentiality in [Confidentiality::Public, Confidentiality::Internal, Confidentiality::Restricted] {
        for owner in [None, Some("alice"), Some("carol")] {
            for health in [false, true] {
                for off in [false, true] {
                    let spec = AssetSpec {
                        status: if off { bartizan_model::Status::Disabled } else { Default::default() },
                        confidentiality,
                        owner: owner.map(name),
                        categories: if health { names(&["health"]) } else { names(&[]) },
                        ..AssetSpec::default()
                    };
                    let row = format!("row-{}", out.len());
                    out.push(Document { name: name(&row), principal: None, spec: Spec::Document(spec) });
                }
            }
        }
    }
    out
}

fn snapshot(rules: &str, rows: &[Document]) -> Snapshot {
    let all: Vec<Document> = documents().into_iter().chain(rows.iter().cloned()).collect();
    let bundle = Bundle { files: [("p.cedar".to_owned(), rules.to_owned())].into() };
    let compiled = Arc::new(CompiledBundle::compile(&bundle).unwrap());
    Snapshot::new(Some(compiled), Arc::new(Entities::build(&all).unwrap()))
}

fn columns() -> Columns {
    let text = |name: &str| Column::new(name, Kind::Text).unwrap();
    Columns::none()
        .id(text("id"))
        .attribute("status", text("status"))
        .attribute("confidentiality", text("confidentiality"))
        .attribute("categories", text("categories").set())
        .attribute(
            "owner",
            Column::new("owner", Kind::EntityOf("User".to_owned())).unwrap().missing_is_absent(),
        )
}

/// The ids that SQLite finds.
fn found(filter: &Filter, rows: &[Document]) -> BTreeSet<Name> {
    let Pushdown::Query { query, complete } =
        sql(filter, &columns(), Dialect::Sqlite, 1, Strictness::Exact).unwrap()
    else {
        return BTreeSet::new();
    };
    assert!(complete);
    let database = rusqlite::Connection::open_in_memory().unwrap();
    database
        .execute_batch(
            "CREATE TABLE d (id TEXT, status TEXT, confidentiality TEXT, categories TEXT, owner TEXT)",
        )
        .unwrap();
    for row in rows {
        let Spec::Document(spec) = &row.spec else { panic!("a document") };
        let status = if spec.status == bartizan_model::Status::Active { "active" } else { "disabled" };
        let categories: Vec<&str> = spec.categories.iter().map(AsRef::as_ref).collect();
        database
            .execute(
                "INSERT INTO d VALUES (?1, ?2, ?3, ?4, ?5)",
                (
                    row.name.as_str(),
                    status,
                    spec.confidentiality.name(),
                    serde_json::to_string(&categories).unwrap(),
                    spec.owner.as_deref(),
                ),
            )
            .unwrap();
    }
    let values = query.values.iter().map(|value| match value {
        SqlValue::Bool(flag) => rusqlite::types::Value::from(*flag),
        SqlValue::Int(number) => (*number).into(),
        SqlValue::Text(text) => text.clone().into(),
        SqlValue::Ints(_) | SqlValue::Texts(_) => panic!("not for SQLite"),
    });
    let mut statement = database.prepare(&format!("SELECT id FROM d WHERE {}", query.text)).unwrap();
    let ids = statement.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(0)).unwrap();
    ids.map(|id| name(&id.unwrap())).collect()
}

#[test]
fn inv_filter_what_the_store_finds_is_what_is_permitted_row_by_row() {
    let rows = rows();
    let snapshot = snapshot(RULES, &rows);
    let (caller, facts, situation) = (real(None), AskFacts::default(), situation());
    let pii = Obligation::redact(Group::Pii.members());
    let masks: Obligations = [pii].into_iter().collect();
    let redacting = Door::new([ObligationKind::Redact].into());
    for (door, applied) in [(&redacting, &masks), (&redacting, &Obligations::none()), (&Door::none(), &masks)]
    {
        let question = RowsQuestion {
            caller: &caller,
            action: Action::DocumentRead,
            rows: "Document",
            facts: &facts,
            situation: &situation,
            applied,
        };
        let filter = snapshot.filter(&question, door).unwrap();
        let one_by_one = |row: &&Document| {
            let resource = EntityRef::new(name("Document"), row.name.clone());
            let (action, facts, situation) = (Action::DocumentRead, &facts, &situation);
            let question = Question { caller: &caller, action, resource: &resource, facts, situation };
            let told = snapshot.explain(&question, door, Reader::CALLER);
            let masked = told.obligations.iter().all(|o| applied.contains(o.kind()));
            told.verdict == bartizan_model::record::VerdictKind::Permit && masked
        };
        let permitted: BTreeSet<Name> = rows.iter().filter(one_by_one).map(|row| row.name.clone()).collect();
        assert!(!permitted.is_empty() && permitted.len() < rows.len());
        assert_eq!(found(&filter, &rows), permitted, "{applied:?}");
    }
}

#[test]
fn whoever_may_only_be_asked_about_and_whoever_has_no_policy_gets_nothing() {
    let rows = rows();
    let (facts, situation, none) = (AskFacts::default(), situation(), Obligations::none());
    let ask = |snapshot: &Snapshot, caller: &bartizan_identify::Caller, rows: &str| {
        let action = Action::DocumentRead;
        let question =
            RowsQuestion { caller, action, rows, facts: &facts, situation: &situation, applied: &none };
        snapshot.filter(&question, &Door::none())
    };
    let with_rules = snapshot(RULES, &rows);
    let supposed =
        Supposed::new("user/alice".to_owned().try_into().unwrap(), Action::DocumentRead, name("x"));
    let supposed = supposed.caller(bartizan_model::Tenant::default_tenant(), NOW);
    assert_eq!(ask(&with_rules, &supposed, "Document").unwrap(), Tree::Never);
    assert_eq!(ask(&snapshot("", &rows), &real(None), "Document").unwrap(), Tree::Never);
    // A key that is not for reading.
    assert_eq!(ask(&with_rules, &real_alice(), "Document").unwrap(), Tree::Never);
    // A type that the action is not for is a question that makes no sense, and answered with nothing to ask a store.
    assert!(ask(&with_rules, &real(None), "Model").is_err());
    assert!(ask(&with_rules, &real(None), "no such type").is_err());
}

#[test]
fn a_row_is_decided_on_like_the_same_document_declared_and_lies_where_the_directory_says() {
    let here = |spec: &AssetSpec| AssetSpec {
        within: names(&["shelf"]),
        project: Some(name("support")),
        ..spec.clone()
    };
    let corpus =
        Document { name: name("library"), principal: None, spec: Spec::Corpus(AssetSpec::default()) };
    let shelf = AssetSpec { within: names(&["library"]), ..AssetSpec::default() };
    let shelf = Document { name: name("shelf"), principal: None, spec: Spec::Collection(shelf) };
    let rows: Vec<Document> = rows()
        .into_iter()
        .map(|row| {
            let Spec::Document(spec) = &row.spec else { panic!("a document") };
            Document { spec: Spec::Document(here(spec)), ..row }
        })
        .collect();
    let around = [corpus, shelf];
    let all: Vec<Document> = rows.iter().chain(&around).cloned().collect();
    let rules = r#"
        @id("listed") permit (principal, action == Action::"document:read", resource in Corpus::"library")
        when { resource.confidentiality == "restricted" && resource has owner };
    "#;
    let rules = format!("{RULES}{rules}");
    let (declared, bare) = (snapshot(&rules, &all), snapshot(&rules, &around));
    let (caller, facts, situation) = (real(None), AskFacts::default(), situation());
    let pii = Obligation::redact(Group::Pii.members());
    let one = Obligation::redact(Group::Pii.members().into_iter().take(1));
    let redacting = Door::new([ObligationKind::Redact].into());
    let (masks, none): (Obligations, _) = ([pii].into_iter().collect(), Obligations::none());
    let mut seen = BTreeSet::new();
    for applied in [&masks, &none] {
        for row in &rows {
            let Spec::Document(spec) = &row.spec else { panic!("a document") };
            let (action, resource) = (Action::DocumentRead, row.entity());
            let question = RowsQuestion {
                caller: &caller,
                action,
                rows: "Document",
                facts: &facts,
                situation: &situation,
                applied,
            };
            let laid = bare.lay(&row.name, spec).unwrap();
            let may = bare.permits_row(&question, &laid, &redacting);
            assert_eq!(may, declared.permits_declared(&question, &resource, &redacting), "{spec:?}");
            assert!(!bare.permits_declared(&question, &resource, &redacting), "it is not declared");
            seen.insert((may, applied.is_empty()));
            let above = ["Collection::\"shelf\"", "Corpus::\"library\"", "Project::\"support\""];
            assert_eq!(laid.above(), above.map(str::to_owned));
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    // Masking less than what is owed is not masking.
    let health = rows.iter().find(|row| matches!(&row.spec, Spec::Document(s) if s.categories.contains("health") && s.confidentiality == Confidentiality::Public && s.status == Default::default())).unwrap();
    let Spec::Document(spec) = &health.spec else { panic!("a document") };
    let laid = bare.lay(&health.name, spec).unwrap();
    let with = |applied: &Obligations| {
        let action = Action::DocumentRead;
        let question = RowsQuestion {
            caller: &caller,
            action,
            rows: "Document",
            facts: &facts,
            situation: &situation,
            applied,
        };
        bare.permits_row(&question, &laid, &redacting)
    };
    assert!(with(&masks) && !with(&[one].into_iter().collect()));
    // No row: what is declared, what lies nowhere, what lies in two, what lies in something unknown.
    assert!(declared.lay(&health.name, spec).is_none());
    for within in [names(&[]), names(&["shelf", "other"]), names(&["other"])] {
        assert!(bare.lay(&health.name, &AssetSpec { within, ..spec.clone() }).is_none());
    }
    // And nothing but a key for reading reads.
    let action = Action::DocumentRead;
    let writer = real_alice();
    let question = RowsQuestion {
        caller: &writer,
        action,
        rows: "Document",
        facts: &facts,
        situation: &situation,
        applied: &masks,
    };
    assert!(!bare.permits_row(&question, &laid, &redacting));
}
