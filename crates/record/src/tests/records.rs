//! What is recorded, and when it is refused.

use super::*;
use crate::Ended;
use bartizan_base::Clock as _;
use bartizan_model::record::{End, Outcome, System};
use std::sync::atomic::Ordering::Relaxed;

fn outcome(records: &BTreeMap<u64, Record>, of: DecisionId) -> Outcome {
    let outcomes: Vec<_> = records
        .values()
        .filter_map(|r| match &r.body {
            Body::Outcome(o) if o.of == of => Some(o.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(outcomes.len(), 1, "exactly one outcome");
    outcomes[0].clone()
}

#[tokio::test]
async fn an_intent_and_its_outcome_are_sealed_with_time_taken() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = open_at(&disk, &clock).await.unwrap();
    let intent = intend(&recorder, parts(1)).await.unwrap();
    assert_eq!((intent.decision(), intent.tenant()), (id(1), &Tenant::default_tenant()));
    let receipt = intent.receipt().clone();
    let running = intent.begin();
    clock.advance(Duration::from_micros(1_500));
    running.finish(Ended {
        bytes: 10,
        status: Some(200),
        input_tokens: Some(u64::MAX),
        ..Ended::new(End::Done)
    });
    recorder.close().await;
    let records = sealed(&disk);
    let told = outcome(&records, id(1));
    assert_eq!((told.end, told.took_us, told.bytes, told.status), (End::Done, 1_500, 10, Some(200)));
    assert_eq!(told.input_tokens, Some((1 << 53) - 1), "an upstream's word is cut to what a record holds");
    assert!(matches!(records[&1].body, Body::System(System::Started { .. })));
    assert!(matches!(records[&receipt.seq].body, Body::Intent(_)));
    assert!(matches!(records[&4].body, Body::System(System::Stopped)));
    assert_eq!(records.len(), 4);
}

#[tokio::test]
async fn a_receipt_names_log_node_number_and_leaf() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    let receipt = intend(&recorder, parts(1)).await.unwrap().receipt().clone();
    recorder.close().await;
    let leaf = leaf_hash(&entries(&disk, &default_log())[1]);
    let named = format!("log.example/default/2026q4;{};2;{leaf};", node());
    assert!(receipt.to_string().starts_with(&named), "{receipt}");
}

#[tokio::test]
async fn an_expired_permit_is_refused_and_leaves_no_record() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = open_at(&disk, &clock).await.unwrap();
    let expired = PermitParts { expires: clock.now(), ..parts(1) };
    assert_eq!(intend(&recorder, expired).await.unwrap_err(), RecordError::PermitExpired);
    recorder.close().await;
    assert_eq!(count(&sealed(&disk)), [0, 0, 0, 2]);
}

#[tokio::test]
async fn a_dropped_intent_is_told_as_abandoned() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    drop(intend(&recorder, parts(1)).await.unwrap());
    let running = intend(&recorder, parts(2)).await.unwrap().begin();
    drop(running);
    recorder.close().await;
    for n in [1, 2] {
        assert_eq!(outcome(&sealed(&disk), id(n)).end, End::Abandoned);
    }
    assert_eq!(recorder.stats().running.load(Relaxed), 0);
}

#[tokio::test]
async fn a_caller_who_stops_waiting_leaves_an_abandoned_intent() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    {
        let mut waiting = std::pin::pin!(intend(&recorder, parts(1)));
        // Polled once: the record is on its way, or just came.
        drop(futures_util::poll!(waiting.as_mut()));
    }
    recorder.system(System::Initialised).await.unwrap();
    recorder.close().await;
    assert_eq!(outcome(&sealed(&disk), id(1)).end, End::Abandoned);
}

#[tokio::test]
async fn a_record_too_long_for_the_schema_is_refused_and_leaves_no_gap() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    let mut long = parts(1);
    long.what.dialect = "x".repeat(bartizan_model::record::ENCODED_MAX);
    assert_eq!(intend(&recorder, long).await.unwrap_err(), RecordError::TooLarge);
    recorder.close().await;
    assert_eq!(sealed(&disk).keys().copied().collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn numbers_go_on_without_a_gap_over_restarts() {
    let mut disk = SimDisk::default();
    for round in 0..4 {
        let recorder = open(&disk).await;
        for n in 0..5 {
            intend(&recorder, parts(round * 10 + n)).await.unwrap().begin().finish(Ended::new(End::Done));
        }
        recorder.close().await;
        disk = disk.rebooted();
    }
    let records = sealed(&disk);
    assert_eq!(records.len(), 4 * 12);
    assert!(records.keys().copied().eq(1..=48));
}

#[tokio::test]
async fn inv_deny_more_running_than_outcomes_have_room_is_queue_full() {
    let disk = SimDisk::default();
    let config = Config { running_max: 2, ..config() };
    let recorder =
        Recorder::open(config, clock(), Arc::new(disk.clone()), Arc::new(disk.clone())).await.unwrap();
    let (one, _two) =
        (intend(&recorder, parts(1)).await.unwrap(), intend(&recorder, parts(2)).await.unwrap());
    let refused = intend(&recorder, parts(3)).await.unwrap_err();
    assert_eq!((refused.reason(), refused), (ReasonCode::RecordQueueFull, RecordError::QueueFull));
    drop(one);
    // The room is free once the outcome is durable.
    recorder.system(System::Initialised).await.unwrap();
    drop(intend(&recorder, parts(4)).await.unwrap());
    assert_eq!(recorder.stats().refused.load(Relaxed), 1);
}

#[tokio::test]
async fn an_intent_that_is_printed_prints_no_other_record() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    recorder.system(System::Recovered { what: "of-another".to_owned() }).await.unwrap();
    let shown = format!("{:?}", intend(&recorder, parts(1)).await.unwrap());
    assert!(shown.contains(&id(1).to_string()) && shown.len() < 1_000, "{shown}");
}

#[tokio::test]
async fn inv_deny_too_much_unsealed_is_refused_until_sealing_catches_up() {
    let disk = SimDisk::default();
    let config = Config { unsealed_bytes_max: 2_000, ..config() };
    let recorder =
        Recorder::open(config, clock(), Arc::new(disk.clone()), Arc::new(disk.clone())).await.unwrap();
    let mut refusal = None;
    for n in 0..10 {
        if let Err(error) = intend(&recorder, parts(n)).await {
            refusal = Some(error);
            break;
        }
    }
    assert_eq!(refusal, Some(RecordError::SealingBehind));
    recorder.seal_now().await.unwrap();
    std::mem::forget(intend(&recorder, parts(20)).await.unwrap());
    drop(recorder);
    // A start with such a tail seals before it says anything.
    let disk = disk.rebooted();
    let config = Config { unsealed_bytes_max: 100, ..self::config() };
    let recorder =
        Recorder::open(config, clock(), Arc::new(disk.clone()), Arc::new(disk.clone())).await.unwrap();
    recorder.seal_now().await.unwrap();
    assert!(
        sealed(&disk).values().filter(|r| matches!(r.body, Body::System(System::Started { .. }))).count()
            == 2
    );
}

#[tokio::test]
async fn inv_deny_a_closed_recorder_refuses_with_its_own_reason() {
    let recorder = open(&SimDisk::default()).await;
    recorder.close().await;
    let error = intend(&recorder, parts(1)).await.unwrap_err();
    assert_eq!((error.reason(), error), (ReasonCode::ShuttingDown, RecordError::Closed));
    assert_eq!(recorder.refused(&refused(2)).await, Err(RecordError::Closed));
}

#[tokio::test]
async fn a_flood_of_equal_refusals_is_counted_exactly() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = open_at(&disk, &clock).await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..50 {
        receipts.push(recorder.refused(&refused(n)).await.unwrap());
    }
    // Another reason is another kind.
    let other = Refused { reasons: vec![ReasonCode::Forbidden], ..refused(60) };
    recorder.refused(&other).await.unwrap();
    assert!(receipts[20..].iter().all(|r| r == &receipts[0]));
    recorder.seal_now().await.unwrap();
    assert_eq!(count(&sealed(&disk))[1], 21, "the window is still open");
    clock.advance(Duration::from_secs(1));
    recorder.seal_now().await.unwrap();
    let repeats = |records: &BTreeMap<u64, Record>| -> Vec<(DecisionId, u64)> {
        let refusals = records.values().filter_map(|r| match &r.body {
            Body::Refusal(refusal) => Some((refusal.id, refusal.repeated)),
            _ => None,
        });
        refusals.collect()
    };
    let told = repeats(&sealed(&disk));
    assert_eq!(told.len(), 22);
    assert_eq!(told.iter().map(|(_, repeated)| repeated + 1).sum::<u64>(), 51);
    assert_eq!(told[21], (id(49), 29));
    assert_eq!(recorder.stats().coalesced.load(Relaxed), 30);
    // A new window begins with full records, also when the clock went back.
    clock.set_wall(start());
    recorder.refused(&refused(70)).await.unwrap();
    recorder.close().await;
    assert_eq!(repeats(&sealed(&disk)).last(), Some(&(id(70), 0)));
}

#[tokio::test]
async fn concurrent_floods_are_counted_exactly_too() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    let asks: Vec<_> = (0..100).map(refused).collect();
    let answers = futures_util::future::join_all(asks.iter().map(|r| recorder.refused(r))).await;
    assert!(answers.iter().all(Result::is_ok));
    recorder.close().await;
    let told: u64 = sealed(&disk)
        .values()
        .filter_map(|r| match &r.body {
            Body::Refusal(refusal) => Some(refusal.repeated + 1),
            _ => None,
        })
        .sum();
    assert_eq!((count(&sealed(&disk))[1], told), (21, 100));
}
