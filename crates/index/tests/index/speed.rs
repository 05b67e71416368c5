//! How long it takes. Prints; asserts nothing about time.
//!
//! `cargo nextest run --release -p bartizan-index --run-ignored only --no-capture`

use std::time::{Duration, Instant};

use bartizan_index::{Order, Search};

use crate::world::{Logs, World, first, query};

const ENTRIES: usize = 100_000;
const BATCH: usize = 1_000;

#[test]
#[ignore = "measures, by its own command"]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn how_long_ingest_and_typical_queries_take() {
    let sample = Logs::sample(1_000);
    let mut logs = Logs::default();
    for n in 0..ENTRIES {
        // Every entry has an id, a moment and a number of its own, as in a real log.
        let mut record: serde_json::Value = serde_json::from_slice(&sample.0["log/a"][n % 1_000]).unwrap();
        record["seq"] = n.into();
        record["time_us"] = (1_795_000_000_000_000_u64 - (ENTRIES - n) as u64 * 800_000).into();
        for id in ["id", "of"] {
            if record.get(id).is_some() {
                record[id] = format!("dec_0199{:028x}", n / 2).into();
            }
        }
        logs.add("log/a", &[bartizan_base::json::canonical(&record).unwrap()]);
    }
    let bytes: usize = logs.0["log/a"].iter().map(Vec::len).sum();
    let world = World::new();
    let index = world.open().unwrap();
    let start = Instant::now();
    logs.fill(&index, BATCH);
    let took = start.elapsed();
    let size = std::fs::metadata(world.path()).unwrap().len();
    println!(
        "{ENTRIES} entries, {} MB: ingested in {took:?}, index of {} MB",
        bytes / 1_000_000,
        size / 1_000_000
    );

    for text in [
        "",
        "since:1h",
        "kind:refusal verdict:deny since:12h",
        "action:model:* subject:prn_*",
        "reason:assurance_too_low",
        "decision:dec_01990000000000000000000000001000",
        "\"red zone\"",
        "\"red zone\" kind:refusal -verdict:deny since:2h",
        "dec_01990000000000000000000000001000",
        "bytes>2000 target:openai",
        "tokens:7",
        "kind:system event:tail_cut",
    ] {
        let query = query(text);
        let search = Search { time_max: Duration::MAX, ..first(&query, Order::Newest, 50) };
        let page = index.search(&search, &logs).unwrap();
        let mut times: Vec<_> = (0..20)
            .map(|_| {
                let start = Instant::now();
                index.search(&search, &logs).unwrap();
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{:>9.2?} median of 20, {:>3} rows: {text}", times[10], page.rows.len());
    }
}
