//! Damage, lies, foreign entries and lack of time.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::json;
use bartizan_base::time::ManualClock;
use bartizan_index::{Index, IndexError, LogFailure, Order, Place, Search};
use bartizan_model::Tenant;
use bartizan_query::Query;
use rusqlite::Connection;

use crate::world::{Logs, Ticking, World, first, now, pages, places, query};

#[track_caller]
fn assert_unusable<T: std::fmt::Debug>(result: Result<T, IndexError>, message: &str) {
    match result {
        Err(IndexError::Unusable(text)) => assert!(text.contains(message), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// The world's file, changed behind the index's back.
fn raw(world: &World, sql: &str) {
    Connection::open(world.path()).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_file_that_is_damaged_foreign_or_of_another_version_has_to_be_rebuilt() {
    let logs = Logs::sample(30);
    let filled = || {
        let world = World::new();
        logs.fill(&world.open().unwrap(), 100);
        world
    };
    let garbage =
        |world: &World| fs::write(world.path(), "no database, but long enough ".repeat(500)).unwrap();
    type Damage<'a> = &'a dyn Fn(&World);
    let cases: &[(Damage<'_>, &str)] = &[
        (&garbage, "not a database"),
        (&|world| raw(world, "pragma user_version = 99"), "version 99"),
        (&|world| raw(world, "pragma application_id = 7"), "another program"),
        (&|world| raw(world, "update about set tenant = 'other'"), "another tenant"),
        (&|world| raw(world, "delete from about"), "another tenant"),
        (&|world| raw(world, "drop table about"), "about"),
    ];
    for (damage, message) in cases {
        let world = filled();
        damage(&world);
        assert_unusable(world.open(), message);
        let index = world.rebuild();
        logs.fill(&index, 100);
        let everything = Query::everything();
        assert_eq!(places(&pages(&index, &logs, &first(&everything, Order::Newest, 50))).len(), 60);
    }
}

#[test]
fn damage_inside_the_file_shows_as_unusable_and_never_as_a_wrong_answer() {
    let logs = Logs::sample(200);
    let everything = query("\"gpt 4o\" or -kind:system");
    let expected = logs.scan(&everything, Order::Newest, now());
    let mut unusable = 0;
    for page in 1_usize..30 {
        let world = World::new();
        logs.fill(&world.open().unwrap(), 500);
        let mut bytes = fs::read(world.path()).unwrap();
        for byte in bytes.iter_mut().skip(page * 4_096).take(512) {
            *byte = !*byte;
        }
        fs::write(world.path(), bytes).unwrap();
        let answer =
            world.open().and_then(|index| index.search(&first(&everything, Order::Newest, 1_000), &logs));
        match answer {
            Err(IndexError::Unusable(_)) => unusable += 1,
            Ok(page) => {
                let found = places(&[page]);
                assert!(found.iter().all(|place| expected.contains(place)), "the index invented something");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(unusable > 0);
}

#[test]
fn tables_that_vanish_while_it_is_open_make_it_unusable() {
    let (world, logs) = (World::new(), Logs::sample(10));
    for damage in ["drop table entries", "drop table words", "drop table logs"] {
        let index = world.rebuild();
        logs.fill(&index, 100);
        raw(&world, damage);
        let query = query("openai");
        assert_unusable(index.search(&first(&query, Order::Newest, 10), &logs), "");
        let entries = [logs.0["log/a"][0].as_slice()];
        assert_unusable(index.ingest("log/x", 0, &entries), "");
    }
}

#[test]
fn an_index_that_lies_misses_but_never_invents() {
    let (world, logs) = (World::new(), Logs::sample(50));
    let index = world.open().unwrap();
    logs.fill(&index, 100);
    let query = query("kind:refusal");
    let search = first(&query, Order::Newest, 4);
    let honest = places(&pages(&index, &logs, &search));
    assert!(!honest.is_empty() && honest.len() < 100);

    raw(&world, "update entries set kind = 'refusal'");
    let lied = pages(&index, &logs, &search);
    assert_eq!(places(&lied), honest);
    assert_eq!(lied.iter().map(|page| page.unconfirmed).sum::<u64>(), 100 - honest.len() as u64);

    raw(&world, "insert into entries (log, idx, time_us, kind) values (12345, 0, 1, 'refusal')");
    raw(
        &world,
        "insert into entries (log, idx, time_us, kind) select log, 9999, 1, 'refusal' from entries limit 1",
    );
    assert_eq!(places(&pages(&index, &logs, &search)), honest);
}

#[test]
fn what_is_given_out_is_what_the_log_says_now() {
    let (world, logs) = (World::new(), Logs::sample(10));
    let index = world.open().unwrap();
    logs.fill(&index, 100);
    let everything = Query::everything();
    let search = first(&everything, Order::Newest, 100);

    let shorter = Logs::two(logs.0["log/a"].clone(), Vec::new());
    let page = index.search(&search, &shorter).unwrap();
    assert_eq!((page.rows.len(), page.unconfirmed), (10, 10));

    let nothing = |_: &[Place]| -> Result<Vec<Option<Vec<u8>>>, LogFailure> { Ok(Vec::new()) };
    let page = index.search(&search, &nothing).unwrap();
    assert_eq!((page.rows.len(), page.unconfirmed), (0, 20));

    let fails = |_: &[Place]| -> Result<Vec<Option<Vec<u8>>>, LogFailure> { Err("no such disk".into()) };
    assert!(matches!(index.search(&search, &fails), Err(IndexError::Log(_))));
    assert_eq!(index.search(&search, &logs).unwrap().rows.len(), 20);
}

fn of_tenant(entry: &[u8], tenant: &str) -> Vec<u8> {
    let mut record: serde_json::Value = serde_json::from_slice(entry).unwrap();
    record.as_object_mut().unwrap().insert("tenant".to_owned(), tenant.into());
    json::canonical(&record).unwrap()
}

#[test]
fn inv_tenant_entries_of_another_tenant_are_neither_taken_in_nor_given_out() {
    let (world, mut logs) = (World::new(), Logs::sample(10));
    let index = world.open().unwrap();
    let foreign = of_tenant(&logs.0["log/a"][5], "other");
    let own = logs.0["log/a"].clone();
    let mixed: Vec<_> = own[..5].iter().chain([&foreign]).map(Vec::as_slice).collect();
    assert!(matches!(index.ingest("log/a", 0, &mixed), Err(IndexError::OtherTenant { index: 5, .. })));
    assert_eq!(index.position("log/a").unwrap(), 0, "nothing of the batch was taken in");

    logs.fill(&index, 100);
    logs.add("log/z", &[]);
    logs.0.get_mut("log/a").unwrap()[5] = foreign;
    let everything = Query::everything();
    let page = index.search(&first(&everything, Order::Newest, 100), &logs).unwrap();
    assert_eq!((page.rows.len(), page.unconfirmed), (19, 1));
}

#[test]
fn entries_that_are_no_records_are_counted_and_passed_over() {
    let (world, mut logs) = (World::new(), Logs::sample(5));
    let index = world.open().unwrap();
    let newer =
        String::from_utf8(logs.0["log/a"][0].clone()).unwrap().replace("\"kind\":\"", "\"kind\":\"new_");
    logs.add("log/a", &[b"not JSON".to_vec(), newer.into_bytes(), vec![0xff; 70_000], Vec::new()]);
    let more = logs.0["log/b"].clone();
    logs.add("log/a", &more);
    let entries: Vec<_> = logs.0["log/a"].iter().map(Vec::as_slice).collect();
    let progress = index.ingest("log/a", 0, &entries).unwrap();
    assert_eq!((progress.size, progress.unreadable), (14, 4));
    let everything = Query::everything();
    let found = places(&pages(&index, &logs, &first(&everything, Order::Oldest, 3)));
    assert_eq!(found.len(), 10);
}

#[test]
fn a_search_without_time_is_ended_and_the_next_one_is_answered() {
    let (world, logs) = (World::new(), Logs::sample(1_000));
    let clock = Arc::new(Ticking::default());
    let index = Index::open(&world.path(), Tenant::default_tenant(), clock).unwrap();
    logs.fill(&index, 500);
    // Nothing is found, so everything has to be looked at; the clock moves on whenever SQLite looks.
    let nothing = query("tokens:7 -\"zz\" -rule:x -target:y");
    let search = first(&nothing, Order::Newest, 10);
    for _ in 0..3 {
        let hurried = Search { time_max: Duration::from_secs(2), ..search };
        assert!(matches!(index.search(&hurried, &logs), Err(IndexError::QueryTooSlow)));
    }
    let patient = Search { time_max: Duration::from_secs(1_000_000), ..search };
    assert_eq!(index.search(&patient, &logs).unwrap().rows.len(), 0);
    let everything = Query::everything();
    let quick = Search { time_max: Duration::from_secs(5), ..first(&everything, Order::Newest, 1) };
    assert_eq!(index.search(&quick, &logs).unwrap().rows.len(), 1);
}

#[test]
fn a_search_is_answered_while_somebody_writes() {
    let (world, logs) = (World::new(), Logs::sample(10));
    let index = world.open().unwrap();
    logs.fill(&index, 100);
    let writer = Connection::open(world.path()).unwrap();
    writer.execute_batch("begin immediate; delete from entries").unwrap();
    let everything = Query::everything();
    assert_eq!(index.search(&first(&everything, Order::Newest, 50), &logs).unwrap().rows.len(), 20);
    let entries = [logs.0["log/a"][0].as_slice()];
    assert!(matches!(index.ingest("log/new", 0, &entries), Err(IndexError::Unavailable(_))));
    writer.execute_batch("rollback").unwrap();
    assert_eq!(index.ingest("log/new", 0, &entries).unwrap().size, 1);
}

#[test]
fn every_file_is_readable_by_the_owner_alone_and_a_missing_folder_is_unavailable() {
    let (world, logs) = (World::new(), Logs::sample(10));
    fs::write(world.path(), b"").unwrap();
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let index = world.open().unwrap();
    logs.fill(&index, 100);
    for file in fs::read_dir(world.folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.path().display());
    }
    let missing = world.folder.path().join("missing/index.db");
    let opened = Index::open(&missing, Tenant::default_tenant(), Arc::new(ManualClock::default()));
    assert!(matches!(opened, Err(IndexError::Unavailable(_))));
}
