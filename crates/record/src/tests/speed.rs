//! Not a test of behaviour: what a record costs, on the machine at hand. Run it optimised:
//! `cargo test --release -p bartizan-record speed -- --ignored --nocapture`.

use super::*;
use crate::{Ended, RealDisk};
use bartizan_model::record::{End, Intent, VERSION};
use bartizan_rt::SystemClock;
use std::sync::atomic::Ordering::Relaxed;

/// Processor time of this process so far, in microseconds (proc(5): ticks of 10 ms).
fn processor_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap() * 10_000).sum()
}

#[test]
#[ignore = "a measurement"]
fn speed_of_encoding() {
    let parts = parts(1);
    let body = Body::Intent(Intent {
        id: parts.id,
        who: parts.who,
        what: parts.what,
        grounds: parts.grounds,
        obligations: parts.obligations,
        target: Target::House,
        kept: None,
    });
    let seq = crate::encode::SEQ_PLACE;
    let record =
        Record { v: VERSION, tenant: Tenant::default_tenant(), node: node(), seq, time_us: start(), body };
    let rounds = 20_000;
    let mut results = Vec::new();
    for fast in [false, true] {
        let before = processor_us();
        for _ in 0..rounds {
            if fast {
                let mut entry = Vec::new();
                crate::encode::Encoded::of(&record).unwrap().write(7, &mut entry);
                std::hint::black_box(entry);
            } else {
                std::hint::black_box(bartizan_base::json::canonical(&record).unwrap());
            }
        }
        results.push((processor_us() - before) * 1_000 / rounds);
    }
    println!("encoding: {} ns canonical, {} ns here", results[0], results[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_of_intents() {
    for writers in [1, 32, 256] {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { segment_bytes: 64 << 20, folder: folder.path().join("data"), ..config() };
        let clock = Arc::new(SystemClock::new());
        let recorder =
            Recorder::open(config, clock.clone(), Arc::new(RealDisk), Arc::new(SimDisk::default()))
                .await
                .unwrap();
        let (wall, processor) = (bartizan_base::Clock::monotonic_us(&*clock), processor_us());
        let rounds = 20_000 / writers;
        let tasks = (0..writers).map(|w| {
            let recorder = recorder.clone();
            async move {
                for n in 0..rounds {
                    let intent = intend(&recorder, parts(w * rounds + n)).await.unwrap();
                    intent.begin().finish(Ended::new(End::Done));
                }
            }
        });
        let tracker = bartizan_rt::Tasks::new();
        let handles: Vec<_> = tasks.map(|task| tracker.spawn("writer", task)).collect();
        for handle in handles {
            handle.await.unwrap();
        }
        let wall = bartizan_base::Clock::monotonic_us(&*clock) - wall;
        let stats = recorder.stats();
        let (records, batches) = (stats.records.load(Relaxed), stats.syncs.load(Relaxed));
        println!(
            "{writers} writers: {} records/s, {} us of processor a record, {} records a sync",
            records * 1_000_000 / wall.max(1),
            (processor_us() - processor) as f64 / records as f64,
            records / batches.max(1),
        );
        recorder.close().await;
    }
}
