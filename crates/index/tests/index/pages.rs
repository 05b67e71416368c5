//! What is found, and that pages stay as they are.

use bartizan_index::{Entries as _, IndexError, Order, Search};
use bartizan_query::{Query, samples};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::{Logs, World, first, now, pages, places, query};

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Newest), Just(Order::Oldest)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_a_linear_scan_finds(
        a in vec(samples::entry(), 0..40),
        b in vec(samples::entry(), 0..40),
        queries in vec(samples::query(), 24),
        order in order(),
        limit in 1_usize..20,
        batch in 1_usize..30,
    ) {
        let (world, logs) = (World::new(), Logs::two(a, b));
        let index = world.open().unwrap();
        logs.fill(&index, batch);
        for text in queries {
            let Ok(query) = text.parse::<Query>() else { continue };
            let found = pages(&index, &logs, &first(&query, order, limit));
            prop_assert_eq!(places(&found), logs.scan(&query, order, now()), "{}", text);
            for page in &found {
                prop_assert_eq!(page.unconfirmed, 0, "{}", text);
                prop_assert!(page.rows.len() == limit || page.next.is_none());
                for row in &page.rows {
                    prop_assert_eq!(Some(row.entry.clone()), logs.entries(std::slice::from_ref(&row.place)).unwrap()[0].clone());
                }
            }
        }
    }

    #[test]
    fn pages_never_change_although_entries_keep_coming(
        before in vec(samples::entry(), 1..40),
        after in vec(samples::entry(), 1..40),
        text in samples::query(),
        order in order(),
        limit in 1_usize..8,
    ) {
        let Ok(query) = text.parse::<Query>() else { return Ok(()) };
        let (world, mut logs) = (World::new(), Logs::two(before, Vec::new()));
        let index = world.open().unwrap();
        logs.fill(&index, 7);
        let search = first(&query, order, limit);
        let then = pages(&index, &logs, &search);

        // Some of what comes is older than what was there, some in a log that did not exist.
        logs.add("log/a", &after);
        logs.add("log/c", &after);
        logs.fill(&index, 9);
        let again = pages(&index, &logs, &Search { cursor: Some(&then[0].here), ..search });
        prop_assert_eq!(&again, &then);
        for page in &then {
            let search = Search { cursor: Some(&page.here), now: bartizan_base::Timestamp::MAX, ..search };
            prop_assert_eq!(&index.search(&search, &logs).unwrap(), page);
        }
        let fresh = pages(&index, &logs, &search);
        prop_assert_eq!(places(&fresh), logs.scan(&query, order, now()));
    }
}

#[test]
fn a_rebuilt_index_gives_the_same_pages_and_takes_the_same_cursors() {
    let (world, logs) = (World::new(), Logs::sample(60));
    let index = world.open().unwrap();
    logs.fill(&index, 11);
    let query = query("-kind:system");
    let search = first(&query, Order::Newest, 7);
    let then = pages(&index, &logs, &search);
    assert!(then.len() > 3);
    drop(index);

    let index = world.rebuild();
    assert_eq!(index.position("log/a").unwrap(), 0);
    // The other way round, and in other batches.
    logs.fill_log(&index, "log/b", 1_000);
    let cursor = then[1].here.clone();
    match index.search(&Search { cursor: Some(&cursor), ..search }, &logs) {
        Err(IndexError::Behind { origin, size: 0, needed: 60 }) => assert_eq!(origin, "log/a"),
        other => panic!("{other:?}"),
    }
    logs.fill_log(&index, "log/a", 3);
    assert_eq!(pages(&index, &logs, &search), then);
    assert_eq!(pages(&index, &logs, &Search { cursor: Some(&cursor), ..search }), then[1..]);

    index.clear().unwrap();
    assert_eq!(index.position("log/b").unwrap(), 0);
    assert!(pages(&index, &logs, &search)[0].rows.is_empty());
    logs.fill(&index, 17);
    assert_eq!(pages(&index, &logs, &search), then);
}

#[test]
fn entries_are_taken_in_once_and_in_order() {
    let (world, logs) = (World::new(), Logs::sample(20));
    let index = world.open().unwrap();
    let entries: Vec<_> = logs.0["log/a"].iter().map(Vec::as_slice).collect();
    assert!(matches!(index.ingest("log/a", 1, &entries), Err(IndexError::Gap { size: 0, first: 1, .. })));
    assert_eq!(index.ingest("log/a", 0, &entries[..8]).unwrap().size, 8);
    assert_eq!(index.ingest("log/a", 0, &entries[..5]).unwrap().size, 8);
    assert_eq!(index.ingest("log/a", 4, &entries[4..12]).unwrap().size, 12);
    assert!(matches!(
        index.ingest("log/a", 13, &entries[13..]),
        Err(IndexError::Gap { size: 12, first: 13, .. })
    ));
    assert_eq!(index.ingest("log/a", 12, &entries[12..]).unwrap().size, 20);
    assert_eq!(index.ingest("log/a", 20, &[]).unwrap().size, 20);
    drop(index);

    let index = world.open().unwrap();
    assert_eq!(index.position("log/a").unwrap(), 20);
    let everything = Query::everything();
    let found = places(&pages(&index, &logs, &first(&everything, Order::Oldest, 3)));
    let mut once = found.clone();
    once.sort();
    once.dedup();
    assert_eq!((found.len(), once.len()), (20, 20));
}

#[test]
fn a_limit_is_kept_within_its_bounds() {
    let (world, logs) = (World::new(), Logs::sample(5));
    let index = world.open().unwrap();
    logs.fill(&index, 100);
    let everything = Query::everything();
    assert_eq!(index.search(&first(&everything, Order::Newest, 0), &logs).unwrap().rows.len(), 1);
    assert_eq!(index.search(&first(&everything, Order::Newest, usize::MAX), &logs).unwrap().rows.len(), 10);
}

#[test]
fn many_logs_that_grow_and_many_new_ones_do_not_break_a_cursor() {
    let (world, mut logs) = (World::new(), Logs::sample(4));
    let index = world.open().unwrap();
    let entries = logs.0["log/a"].clone();
    for n in 0..60 {
        logs.add(&format!("log/{n}"), &entries);
    }
    logs.fill(&index, 100);
    let query = query("-\"no such words\"");
    let search = first(&query, Order::Newest, 100);
    let then = pages(&index, &logs, &search);
    for n in 0..300 {
        logs.add(&format!("log/{n}"), &entries);
    }
    logs.fill(&index, 100);
    assert_eq!(pages(&index, &logs, &Search { cursor: Some(&then[0].here), ..search }), then);
}
