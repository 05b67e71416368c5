//! Cursors that were changed, or are used for another question.

use std::sync::Arc;

use bartizan_base::time::ManualClock;
use bartizan_index::{Cursor, CursorError, Index, IndexError, Order, Search};
use bartizan_model::Tenant;

use crate::world::{Logs, World, first, query};

fn some_cursor(world: &World, logs: &Logs) -> (Index, Cursor) {
    let index = world.open().unwrap();
    logs.fill(&index, 100);
    let query = query("-kind:system");
    let page = index.search(&first(&query, Order::Newest, 3), logs).unwrap();
    (index, page.next.unwrap())
}

#[test]
fn a_cursor_that_was_changed_or_cut_is_refused() {
    let (_, cursor) = some_cursor(&World::new(), &Logs::sample(20));
    let text = cursor.to_string();
    assert_eq!(text.parse(), Ok(cursor));
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')), "{text}");
    for place in 0..text.len() {
        assert_eq!(text.get(..place).unwrap().parse::<Cursor>(), Err(CursorError::Malformed));
        let mut changed = text.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(changed.parse::<Cursor>(), Err(CursorError::Malformed), "{place}");
    }
    for other in ["", "é", "null", &format!("{text}="), &format!("{text}AAAA"), &"A".repeat(1 << 20)] {
        assert_eq!(other.parse::<Cursor>(), Err(CursorError::Malformed));
    }
}

#[test]
fn inv_tenant_a_cursor_of_another_query_order_or_tenant_is_refused() {
    let (world, logs) = (World::new(), Logs::sample(20));
    let (index, cursor) = some_cursor(&world, &logs);
    let refused = |index: &Index, text: &str, order: Order| {
        let query = query(text);
        let search = Search { cursor: Some(&cursor), ..first(&query, order, 3) };
        matches!(index.search(&search, &logs), Err(IndexError::Cursor(CursorError::OtherQuestion)))
    };
    assert!(!refused(&index, "-kind:system", Order::Newest));
    // The same question in other words is the same question.
    assert!(!refused(&index, "not (KIND=system)", Order::Newest));
    assert!(refused(&index, "kind:system", Order::Newest));
    assert!(refused(&index, "", Order::Newest));
    assert!(refused(&index, "-kind:system", Order::Oldest));

    let elsewhere = World::new();
    let tenant = Tenant("other".parse().unwrap());
    let other = Index::open(&elsewhere.path(), tenant, Arc::new(ManualClock::default())).unwrap();
    assert!(refused(&other, "-kind:system", Order::Newest));
}

#[test]
fn a_forged_cursor_over_more_than_there_is_gives_nothing() {
    let (world, logs) = (World::new(), Logs::sample(20));
    let (_, cursor) = some_cursor(&world, &logs);
    drop(world);
    // Whoever forges a cursor names sizes; those beyond the index are refused, whatever they are.
    let elsewhere = World::new();
    let small = elsewhere.open().unwrap();
    let query = query("-kind:system");
    let search = Search { cursor: Some(&cursor), ..first(&query, Order::Newest, 3) };
    assert!(matches!(small.search(&search, &logs), Err(IndexError::Behind { .. })));
}
