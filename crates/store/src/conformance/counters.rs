//! What every keeper of counts must do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bartizan_base::Timestamp;

use crate::{CounterRow, Counters};

fn row(number: u64) -> CounterRow {
    CounterRow { body: number.to_string(), expires: Timestamp::from_secs(100) }
}

fn number(rows: &BTreeMap<String, CounterRow>, key: &str) -> u64 {
    rows.get(key).map_or(0, |row| row.body.parse().unwrap())
}

async fn read(counters: &dyn Counters, key: &str) -> u64 {
    let (tell, told) = tokio::sync::oneshot::channel();
    let asked = key.to_owned();
    let work = Box::new(move |rows: &mut BTreeMap<String, CounterRow>| {
        tell.send(number(rows, &asked)).unwrap();
        false
    });
    counters.work([key.to_owned()].into(), work).await.unwrap();
    told.await.unwrap()
}

/// Many who look and take at the same time, from two nodes, never take more than there is.
pub async fn lesson_litellm_34732_counts_are_looked_at_and_taken_in_one_step(
    one: Arc<dyn Counters>,
    other: Arc<dyn Counters>,
) {
    const MOST: u64 = 25;
    let keys: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
    let tasks = (0..40).map(|n| {
        let counters = if n % 2 == 0 { one.clone() } else { other.clone() };
        let keys = keys.clone();
        async move {
            let (tell, told) = tokio::sync::oneshot::channel();
            let work = Box::new(move |rows: &mut BTreeMap<String, CounterRow>| {
                let (a, b) = (number(rows, "a"), number(rows, "b"));
                let fits = a < MOST;
                if fits {
                    rows.insert("a".to_owned(), row(a + 1));
                    rows.insert("b".to_owned(), row(b + 2));
                }
                tell.send(fits).unwrap();
                fits
            });
            counters.work(keys, work).await.unwrap();
            told.await.unwrap()
        }
    });
    let let_in: u64 = futures_util::future::join_all(tasks).await.into_iter().map(u64::from).sum();
    assert_eq!((let_in, read(&*one, "a").await, read(&*other, "b").await), (MOST, MOST, 2 * MOST));
}

/// What is not to be kept is not kept; what is over goes, and nothing else.
pub async fn counts_that_are_over_are_swept(counters: Arc<dyn Counters>) {
    let put = |key: &'static str, secs: u64, keep: bool| {
        let work = Box::new(move |rows: &mut BTreeMap<String, CounterRow>| {
            rows.insert(key.to_owned(), CounterRow { expires: Timestamp::from_secs(secs), ..row(7) });
            keep
        });
        counters.work([key.to_owned()].into(), work)
    };
    put("not kept", 10, false).await.unwrap();
    put("old", 10, true).await.unwrap();
    put("older", 9, true).await.unwrap();
    put("new", 30, true).await.unwrap();
    assert_eq!(read(&*counters, "not kept").await, 0);
    assert_eq!(counters.sweep_counters(Timestamp::from_secs(20), 1).await.unwrap(), 1);
    assert_eq!(counters.sweep_counters(Timestamp::from_secs(20), 9).await.unwrap(), 1);
    assert_eq!((read(&*counters, "old").await, read(&*counters, "new").await), (0, 7));
}
