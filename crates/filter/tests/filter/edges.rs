//! Single cases: refusals in words, hostile values, rows that no schema foresaw.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use crate::common::stores::{Absence, Style, columns};
use crate::common::{Case, Dice, Person};
use bartizan_filter::{
    Check, Column, Columns, Dialect, FilterError, Kind, Plan, Pushdown, Sql, SqlValue, Strictness, Tree,
    What, chroma, opensearch, qdrant, sql,
};
use serde_json::json;

fn person(id: &str) -> Person {
    let now = json!({ "__extn": { "fn": "datetime", "arg": "2026-01-01" } });
    let context = json!({ "mfa": true, "hour": 9, "dept": "a", "allowed": [], "now": now });
    Person { uid: crate::common::uid("User", id), context }
}

fn case(policies: &[&str]) -> Case {
    Case::of(policies, vec![person("u0")])
}

fn postgres(case: &Case) -> Result<Pushdown<Sql>, bartizan_filter::Refused> {
    let columns = columns(Style::Postgres, Absence::Certain);
    sql(&case.filter().unwrap(), &columns, Dialect::PostgreSql, 1, Strictness::Exact)
}

fn query<Q>(pushdown: Pushdown<Q>) -> Q {
    match pushdown {
        Pushdown::Query { query, .. } => query,
        Pushdown::Never => panic!("nothing matches"),
    }
}

/// The engine's own parser and checks take much stack for deep rules, in programs that are not optimised.
fn roomy(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1 << 29).spawn(test).unwrap();
    thread.join().unwrap();
}

#[test]
fn nobody_sees_nothing() {
    let case = Case::of(&["permit (principal, action, resource);"], vec![]);
    assert_eq!(case.filter().unwrap(), Tree::Never);
}

#[test]
fn without_policies_nothing_matches() {
    assert_eq!(case(&[]).filter().unwrap(), Tree::Never);
}

#[test]
fn a_permit_without_conditions_matches_every_row() {
    let case = case(&["permit (principal, action, resource);"]);
    assert_eq!(case.filter().unwrap(), Tree::Always);
    assert_eq!(query(postgres(&case).unwrap()).text, "TRUE");
}

#[test]
fn a_chain_sees_what_each_of_its_members_sees() {
    let policies = ["permit (principal, action, resource) when { resource.owner == principal };"];
    let both = Case::of(&policies, vec![person("u0"), person("u1")]);
    let found = query(postgres(&both).unwrap());
    assert_eq!(
        found.text,
        r#"(("owner"::text COLLATE "C") = $1::text AND ("owner"::text COLLATE "C") = $2::text)"#
    );
    assert_eq!(found.values, [SqlValue::Text("u0".to_owned()), SqlValue::Text("u1".to_owned())]);
}

#[test]
fn values_are_never_part_of_the_text() {
    let hostile = r#"'; drop table rows; -- $1 ?1 \" "#;
    let policy = format!(
        r#"permit (principal, action, resource) when {{ resource.title == "{hostile}" || resource.title like "*{hostile}*" || resource.labels.contains("{hostile}") }};"#
    );
    let case = case(&[policy.as_str()]);
    for (dialect, style) in [(Dialect::PostgreSql, Style::Postgres), (Dialect::Sqlite, Style::Sqlite)] {
        let compiled =
            sql(&case.filter().unwrap(), &columns(style, Absence::Certain), dialect, 1, Strictness::Exact);
        let found = query(compiled.unwrap());
        assert!(!found.text.contains("drop"), "{found:?}");
        assert_eq!(found.values.len(), 3, "{found:?}");
    }
}

#[test]
fn placeholders_begin_where_the_caller_says() {
    let case = case(&[
        r#"permit (principal, action, resource) when { resource.title == "a" && resource.other == "b" };"#,
    ]);
    let columns = columns(Style::Postgres, Absence::Certain);
    let found =
        query(sql(&case.filter().unwrap(), &columns, Dialect::PostgreSql, 4, Strictness::Exact).unwrap());
    assert!(
        found.text.contains("$4") && found.text.contains("$5") && !found.text.contains("$1"),
        "{found:?}"
    );
}

#[test]
fn what_no_store_can_be_asked_is_refused_with_the_rule_and_the_reason() {
    let case = case(&[
        "permit (principal, action, resource);",
        "forbid (principal, action, resource) when { resource.readers.contains(resource.owner) };",
    ]);
    let refused = postgres(&case).unwrap_err();
    let told: Vec<_> = refused.because.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["rule `rule-1`: no store is asked to compute this"]);
    let bound = NonZeroUsize::new(50).unwrap();
    match Plan::new(Err::<Pushdown<Sql>, _>(refused), bound) {
        Plan::CheckEach { bound, because } => assert_eq!((bound.get(), because.len()), (50, 1)),
        plan => panic!("{plan:?}"),
    }
}

#[test]
fn a_forbid_that_cannot_be_asked_denies_every_row_where_only_fewer_rows_are_wanted() {
    let case = case(&[
        "permit (principal, action, resource);",
        "forbid (principal, action, resource) when { resource.owner.level > 2 };",
    ]);
    let columns = columns(Style::Postgres, Absence::Certain);
    let narrower = sql(&case.filter().unwrap(), &columns, Dialect::PostgreSql, 1, Strictness::Narrower);
    assert_eq!(narrower, Ok(Pushdown::Never));
}

#[test]
fn a_permit_that_cannot_be_asked_is_left_out_where_only_fewer_rows_are_wanted() {
    let case = case(&[
        "permit (principal, action, resource) when { resource.public };",
        "permit (principal, action, resource) when { resource.readers.contains(resource.owner) };",
    ]);
    let columns = columns(Style::Postgres, Absence::Certain);
    assert!(sql(&case.filter().unwrap(), &columns, Dialect::PostgreSql, 1, Strictness::Exact).is_err());
    let narrower =
        sql(&case.filter().unwrap(), &columns, Dialect::PostgreSql, 1, Strictness::Narrower).unwrap();
    match narrower {
        // What the other permit uses must be there all the same: a row without it errs.
        Pushdown::Query { query, complete: false } => {
            assert!(query.text.contains(r#""owner" IS NOT NULL"#), "{query:?}");
            assert!(query.text.contains(r#""public" = $1::bool"#), "{query:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_permit_that_can_err_is_not_simply_left_out() {
    // Where the addition overflows the engine denies, though the first permit is true.
    let case = case(&[
        "permit (principal, action, resource) when { resource.public };",
        "permit (principal, action, resource) when { resource.level + 1 > 2 };",
    ]);
    let columns = columns(Style::Postgres, Absence::Certain);
    let narrower = sql(&case.filter().unwrap(), &columns, Dialect::PostgreSql, 1, Strictness::Narrower);
    assert_eq!(narrower, Ok(Pushdown::Never));
}

#[test]
fn an_attribute_without_a_column_is_named() {
    let case = case(&["permit (principal, action, resource) when { resource.public };"]);
    let refused =
        sql(&case.filter().unwrap(), &Columns::none(), Dialect::Sqlite, 1, Strictness::Exact).unwrap_err();
    assert_eq!(refused.because[0].to_string(), "rule `rule-0`: no column holds `public`");
}

#[test]
fn an_attribute_of_another_entity_is_asked_for_where_it_is_stored_with_the_row() {
    let case = case(&["permit (principal, action, resource) when { resource.owner.level > 2 };"]);
    let columns = Columns::none().attribute("owner.level", Column::new("o.level", Kind::Long).unwrap());
    let compiled = sql(&case.filter().unwrap(), &columns, Dialect::PostgreSql, 1, Strictness::Exact);
    assert_eq!(query(compiled.unwrap()).text, r#""o"."level" > $1::int8"#);
}

#[test]
fn a_column_of_another_type_is_refused_rather_than_converted() {
    let case = case(&["permit (principal, action, resource) when { resource.level > 2 };"]);
    let columns = Columns::none().attribute("level", Column::new("level", Kind::Text).unwrap());
    let refused = sql(&case.filter().unwrap(), &columns, Dialect::Sqlite, 1, Strictness::Exact).unwrap_err();
    assert_eq!(refused.because[0].why, "`level` is stored as texts, the rule asks for a number");
}

#[test]
fn what_is_missing_does_not_match_unless_its_absence_is_certain() {
    let case = case(&["permit (principal, action, resource) when { !(resource has dept) };"]);
    let filter = case.filter().unwrap();
    let unknown = columns(Style::Postgres, Absence::Unknown);
    let refused = sql(&filter, &unknown, Dialect::PostgreSql, 1, Strictness::Exact).unwrap_err();
    assert!(refused.because[0].why.contains("nothing missing does"), "{refused:?}");
    let narrower = sql(&filter, &unknown, Dialect::PostgreSql, 1, Strictness::Narrower);
    assert_eq!(narrower, Ok(Pushdown::Never));
    assert_eq!(query(postgres(&case).unwrap()).text, r#""dept" IS NULL"#);
}

#[test]
fn obligations_that_the_door_does_not_apply_are_not_presumed() {
    let policies = [
        "permit (principal, action, resource);",
        r#"forbid (principal, action, resource) unless { context has obligations && context.obligations.contains("redact:pii") };"#,
    ];
    let mut who = person("u0");
    who.context["obligations"] = json!(["redact:pii"]);
    let case = Case::of(&policies, vec![who]);
    let applied = BTreeSet::from(["redact:pii".to_owned()]);
    assert_eq!(case.filter_applying(&applied).unwrap(), Tree::Always);
    let presumed = case.filter_applying(&BTreeSet::new());
    assert!(matches!(&presumed, Err(FilterError::Presumed(fact)) if fact == "redact:pii"), "{presumed:?}");
}

#[test]
fn approvals_are_never_presumed() {
    let mut who = person("u0");
    who.context["approvals"] = json!(["two-people"]);
    let case = Case::of(&["permit (principal, action, resource);"], vec![who]);
    let presumed = case.filter_applying(&BTreeSet::from(["two-people".to_owned()]));
    assert!(matches!(presumed, Err(FilterError::Presumed(_))), "{presumed:?}");
}

#[test]
fn a_question_outside_of_the_schema_has_no_filter() {
    let mut case = case(&["permit (principal, action, resource);"]);
    case.people[0].uid = crate::common::uid("Folder", "f0");
    assert!(matches!(case.filter(), Err(FilterError::Request(_))));
}

#[test]
fn a_policy_that_always_errs_denies_every_row() {
    let case = case(&[
        "permit (principal, action, resource);",
        "permit (principal, action, resource) when { principal.level + 9223372036854775807 > 0 };",
    ]);
    assert_eq!(case.filter().unwrap(), Tree::Never);
}

#[test]
fn a_zero_byte_is_not_compared() {
    let case = case(&[r#"permit (principal, action, resource) when { resource.title == "a\0b" };"#]);
    let refused = postgres(&case).unwrap_err();
    assert!(refused.because[0].why.contains("zero byte"), "{refused:?}");
}

#[test]
fn rules_that_nest_deeply_are_refused_and_do_not_crash() {
    roomy(|| {
        // What nests in ways that no chain flattens.
        let mut deep = "resource.public".to_owned();
        for _ in 0..80 {
            deep = format!("(if resource.level > 1 then {deep} else false)");
        }
        let policy = format!("permit (principal, action, resource) when {{ {deep} }};");
        let refused = postgres(&case(&[policy.as_str()])).unwrap_err();
        assert!(refused.because[0].why.contains("nested"), "{refused:?}");
    });
}

#[test]
fn a_long_chain_of_one_operator_is_translated() {
    roomy(|| {
        let many: Vec<_> = (0..300).map(|n| format!("resource.title == \"t{n}\"")).collect();
        let policy = format!("permit (principal, action, resource) when {{ {} }};", many.join(" || "));
        let found = query(postgres(&case(&[policy.as_str()])).unwrap());
        match found.values.as_slice() {
            [SqlValue::Texts(texts)] => assert_eq!(texts.len(), 300),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn rules_that_can_err_do_not_grow_without_bound() {
    roomy(|| {
        // In a record that need not be there, a test may err in ways that cannot be asked for once and for all.
        let mut deep = r#"resource.extra.note == "x""#.to_owned();
        for n in 0..40 {
            let joint = if n % 2 == 0 { "||" } else { "&&" };
            deep = format!(r#"({deep} {joint} resource.extra.note == "{n}")"#);
        }
        let policy = format!("permit (principal, action, resource) when {{ resource has extra && {deep} }};");
        let error = case(&[policy.as_str()]).filter().unwrap_err();
        assert!(matches!(error, FilterError::TooLarge));
        match Plan::<Sql>::without(&error, NonZeroUsize::new(9).unwrap()) {
            Plan::CheckEach { bound, because } => {
                assert_eq!((bound.get(), because[0].to_string()), (9, error.to_string()));
            }
            plan => panic!("{plan:?}"),
        }
    });
}

#[test]
fn filters_that_a_store_would_find_too_long_are_refused_before_it_does() {
    roomy(|| {
        let many: Vec<_> = (0..1000).map(|n| format!("resource.title like \"t{n}*\"")).collect();
        let policy = format!("permit (principal, action, resource) when {{ {} }};", many.join(" || "));
        let filter = case(&[policy.as_str()]).filter().unwrap();
        let vector = columns(Style::Vector, Absence::Marked);
        let refused = opensearch(&filter, &vector, Strictness::Exact).unwrap_err();
        assert_eq!(
            refused.because[0].to_string(),
            "OpenSearch takes at most 512 tests, this filter has 1000"
        );
        let table = columns(Style::Sqlite, Absence::Certain);
        let refused = sql(&filter, &table, Dialect::Sqlite, 1, Strictness::Exact).unwrap_err();
        assert_eq!(refused.because[0].to_string(), "SQLite takes at most 900 tests, this filter has 1000");
        let table = columns(Style::Postgres, Absence::Certain);
        assert!(sql(&filter, &table, Dialect::PostgreSql, 1, Strictness::Exact).is_ok());
        let many: Vec<_> =
            (0..600).map(|n| format!("(resource.level < {n} && resource.ceiling > {n})")).collect();
        let policy = format!("permit (principal, action, resource) when {{ {} }};", many.join(" || "));
        let refused =
            chroma(&case(&[policy.as_str()]).filter().unwrap(), &vector, Strictness::Exact).unwrap_err();
        assert_eq!(refused.because[0].to_string(), "Chroma takes at most 500 tests, this filter has 1200");
    });
}

#[test]
fn lists_that_are_empty_match_nothing_and_are_never_sent() {
    let columns =
        Columns::none().attribute("owner", Column::new("owner", Kind::EntityOf("Robot".to_owned())).unwrap());
    let case = case(&["permit (principal, action, resource) when { resource.owner == principal };"]);
    let filter = case.filter().unwrap();
    assert_eq!(qdrant(&filter, &columns, Strictness::Exact), Ok(Pushdown::Never));
    assert_eq!(chroma(&filter, &columns, Strictness::Exact), Ok(Pushdown::Never));
    assert_eq!(opensearch(&filter, &columns, Strictness::Exact), Ok(Pushdown::Never));
}

#[test]
fn numbers_that_a_double_cannot_tell_apart_are_not_asked_of_qdrant() {
    let columns = columns(Style::Vector, Absence::Marked);
    for (number, asked) in
        [(9_007_199_254_740_991_i64, true), (9_007_199_254_740_992, false), (i64::MIN + 1, false)]
    {
        let policy = format!("permit (principal, action, resource) when {{ resource.level < {number} }};");
        let compiled = qdrant(&case(&[policy.as_str()]).filter().unwrap(), &columns, Strictness::Exact);
        assert_eq!(compiled.is_ok(), asked, "{number}");
    }
}

#[test]
fn the_tests_of_a_filter_come_in_pairs() {
    let mut dice = Dice(7);
    for _ in 0..200 {
        let case = Case::random(&mut dice, crate::common::words::Words::Some);
        for atom in case.filter().unwrap().leaves() {
            if let What::Test { check, .. } = &atom.what {
                assert_ne!(*check, check.complement());
                assert_eq!(*check, check.complement().complement());
            }
        }
    }
    assert_eq!(Check::Present.complement(), Check::Absent);
}

#[test]
fn names_of_columns_are_plain() {
    for good in ["title", "d.title", "_x1"] {
        assert!(Column::new(good, Kind::Text).is_ok(), "{good}");
    }
    for bad in ["", "a b", "a\"b", "1a", "a..b", "a;", "é", "a[]", "$x", "a\0"] {
        assert!(Column::new(bad, Kind::Text).is_err(), "{bad}");
    }
}

#[test]
fn sqlite_rows_of_other_types_do_not_match() {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    connection
        .execute_batch(
            "create table rows (id, title, level, labels);
             insert into rows values ('proper', 'b', 5, '[\"x\"]'), ('text for number', 'b', 'z', '[\"x\"]'), ('null', null, null, null),
               ('blob', x'62', x'35', '[\"x\"]'), ('fraction', 'b', 5.5, '[\"x\"]'), ('no json', 'b', 5, 'x'), ('object', 'b', 5, '{\"x\":1}'),
               ('mixed', 'b', 5, '[1, \"x\"]'), ('holds null', 'b', 5, '[null]'), ('zero byte', 'b' || char(0) || 'x', 5, '[\"x\"]'),
               ('hidden', 'b', 5, '[\"secret\\u0000\"]');",
        )
        .unwrap();
    let columns = Columns::none()
        .attribute("title", Column::new("title", Kind::Text).unwrap())
        .attribute("level", Column::new("level", Kind::Long).unwrap())
        .attribute("labels", Column::new("labels", Kind::Text).unwrap().set());
    let ask = |condition: &str| -> Vec<String> {
        let policy = format!("permit (principal, action, resource) when {{ {condition} }};");
        let found = query(
            sql(&case(&[policy.as_str()]).filter().unwrap(), &columns, Dialect::Sqlite, 1, Strictness::Exact)
                .unwrap(),
        );
        let values = found.values.iter().map(|value| match value {
            SqlValue::Text(text) => rusqlite::types::Value::from(text.clone()),
            SqlValue::Int(value) => rusqlite::types::Value::from(*value),
            other => panic!("{other:?}"),
        });
        let mut statement = connection.prepare(&format!("select id from rows where {}", found.text)).unwrap();
        let rows = statement.query_map(rusqlite::params_from_iter(values), |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let of_level = ["proper", "no json", "object", "mixed", "holds null", "zero byte", "hidden"];
    assert_eq!(ask("resource.level > 3"), of_level);
    assert_eq!(ask("resource.level != 4"), of_level);
    assert_eq!(
        ask("!resource.labels.contains(\"y\")"),
        ["proper", "text for number", "blob", "fraction", "zero byte", "hidden"]
    );
    assert_eq!(ask("resource.labels.contains(\"secret\")"), Vec::<String>::new());
    assert!(!ask("resource.title like \"*b\"").contains(&"zero byte".to_owned()));
    assert!(!ask("resource.title != \"a\"").contains(&"blob".to_owned()));
}
