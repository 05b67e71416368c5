//! At least once, in order, under the same id; dead letters; the end.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bartizan_base::Timestamp;
use bartizan_base::random::SeededRandom;
use bartizan_base::time::ManualClock;
use bartizan_rt::{Shutdown, Tasks};

use crate::testing::{Log, Memory, Script, at, batch};
use crate::{
    Backoff, Batch, Config, Courier, DeadLetters, DeliverError, Health, Parts, Position, Progress, Pulse,
    Sink, Source, SourceError, Want,
};

struct World {
    folder: tempfile::TempDir,
    log: Arc<Log>,
    positions: Arc<Memory>,
    config: Config,
}

struct Running {
    tasks: Tasks,
    pulse: Pulse,
}

impl World {
    fn of(size: u64) -> Self {
        let log = Log::default();
        *log.0.lock().unwrap() = size;
        let config = Config {
            records_max: 10,
            idle: Duration::from_millis(1),
            grace: Duration::from_millis(20),
            backoff: Backoff { first: Duration::from_millis(1), max: Duration::from_millis(4) },
            ..Config::default()
        };
        let folder = tempfile::tempdir().unwrap();
        Self { folder, log: Arc::new(log), positions: Arc::default(), config }
    }

    fn letters(&self) -> DeadLetters {
        DeadLetters::new(self.folder.path(), 2)
    }

    fn courier(&self, source: Arc<dyn Source>, sink: Arc<dyn Sink>, shutdown: Shutdown) -> Courier {
        let parts = Parts {
            source,
            sink,
            positions: self.positions.clone(),
            letters: self.letters(),
            clock: Arc::new(ManualClock::at(Timestamp::from_secs(1_795_161_600))),
            random: Arc::new(SeededRandom::new(7)),
        };
        Courier::new(parts, self.config.clone(), shutdown)
    }

    fn start(&self, sink: Arc<dyn Sink>) -> Running {
        self.start_from(self.log.clone(), sink)
    }

    fn start_from(&self, source: Arc<dyn Source>, sink: Arc<dyn Sink>) -> Running {
        let tasks = Tasks::new();
        let courier = self.courier(source, sink, tasks.shutdown().clone());
        let pulse = courier.pulse();
        tasks.spawn("courier", courier.run());
        Running { tasks, pulse }
    }

    fn done(&self) -> Option<Position> {
        self.positions.stored.lock().unwrap().done.clone()
    }
}

impl Running {
    async fn until(&self, what: impl Fn(&Health) -> bool) -> Health {
        let wait = async {
            loop {
                let health = self.pulse.health();
                if what(&health) {
                    return health;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes to that")
    }

    async fn end(self) {
        assert!(self.tasks.finish(Duration::from_secs(5)).await, "the courier ends");
    }
}

fn ranges(batches: &[Batch]) -> Vec<(u64, u64)> {
    batches.iter().map(|b| (b.first().index, b.last().index)).collect()
}

#[tokio::test]
async fn everything_is_delivered_once_and_in_order_also_what_is_written_meanwhile() {
    let world = World::of(25);
    let sink = Arc::new(Script::default());
    let running = world.start(sink.clone());
    running.until(|h| h.done == Some(at(24))).await;
    *world.log.0.lock().unwrap() = 27;
    let health = running.until(|h| h.done == Some(at(26)) && h.behind == 0).await;
    running.end().await;
    assert_eq!(ranges(&sink.taken()), [(0, 9), (10, 19), (20, 24), (25, 26)]);
    assert_eq!((health.batches, health.records, health.failures), (4, 27, 0));
    assert_eq!(health.last_success, Some(Timestamp::from_secs(1_795_161_600)));
    assert_eq!(*world.positions.stored.lock().unwrap(), Progress { done: Some(at(26)), trying: None });
}

#[tokio::test]
async fn a_batch_that_fails_is_tried_again_before_any_that_follows() {
    let world = World::of(20);
    let sink = Arc::new(Script::of([
        Err(DeliverError::retry("status 503")),
        Err(DeliverError::Retry {
            after: Some(Duration::from_secs(3_600)),
            cause: crate::Cause::new("status 429"),
        }),
        Ok(()),
    ]));
    let running = world.start(sink.clone());
    let health = running.until(|h| h.done == Some(at(19))).await;
    running.end().await;
    assert_eq!(ranges(&sink.tried()), [(0, 9), (0, 9), (0, 9), (10, 19)]);
    assert_eq!((health.failures, health.failures_in_a_row, health.failing), (2, 0, None));
}

#[tokio::test]
async fn a_batch_that_was_tried_before_a_crash_keeps_its_range_and_id_after_it() {
    let world = World::of(4);
    // It is taken, and the process dies before that is stored: stores 1 (trying) and then 2 (done), which fails for ever.
    *world.positions.fail.lock().unwrap() = (2..10_000).map(|n| (n, false)).collect();
    let first = Arc::new(Script::default());
    let running = world.start(first.clone());
    let health = running.until(|h| h.failures > 2).await;
    assert!(health.failing.is_some());
    running.end().await;
    assert_eq!(world.done(), None);

    // Meanwhile more was written, of which a new batch would take some.
    world.positions.fail.lock().unwrap().clear();
    *world.log.0.lock().unwrap() = 30;
    let second = Arc::new(Script::default());
    let running = world.start(second.clone());
    running.until(|h| h.done == Some(at(29))).await;
    running.end().await;
    assert_eq!(ranges(&second.taken()), [(0, 3), (4, 13), (14, 23), (24, 29)]);
    assert_eq!(first.taken()[0].id(), second.taken()[0].id());
}

#[tokio::test]
async fn a_position_that_cannot_be_stored_holds_the_next_batch_but_not_the_delivered_one_again() {
    for written in [false, true] {
        let world = World::of(20);
        *world.positions.fail.lock().unwrap() = vec![(2, written), (3, written), (4, written)];
        let sink = Arc::new(Script::default());
        let running = world.start(sink.clone());
        let health = running.until(|h| h.done == Some(at(19))).await;
        running.end().await;
        assert_eq!(ranges(&sink.tried()), [(0, 9), (10, 19)], "written: {written}");
        assert_eq!(health.failures, 3);
    }
}

#[tokio::test]
async fn a_refused_batch_is_parked_and_the_rest_goes_on() {
    let world = World::of(30);
    let sink = Arc::new(Script::of([Ok(()), Err(DeliverError::refused("status 422"))]));
    let running = world.start(sink.clone());
    let health = running.until(|h| h.done == Some(at(29))).await;
    running.end().await;
    assert_eq!(ranges(&sink.taken()), [(0, 9), (20, 29)]);
    assert_eq!(health.dead_letters, 1);
    let letter = world.letters().list().await.unwrap().remove(0);
    assert_eq!((letter.first, letter.cause.to_string().as_str()), (at(10), "status 422"));
    world.letters().deliver(letter.id, sink.as_ref()).await.unwrap();
    assert_eq!(sink.taken().last(), Some(&batch(10, 19)));
}

#[tokio::test]
async fn with_the_folder_full_a_refused_batch_waits_and_nothing_is_lost() {
    let world = World::of(50);
    let no = || Err(DeliverError::refused("no"));
    let sink = Arc::new(Script::of([no(), no(), no(), Ok(())]));
    let running = world.start(sink.clone());
    let health = running.until(|h| h.failures_in_a_row > 3).await;
    assert_eq!((health.dead_letters, health.done), (2, Some(at(19))));
    assert!(health.failing.unwrap().to_string().contains("2 dead letters"));
    let parked = world.letters().list().await.unwrap().remove(0).id;
    world.letters().deliver(parked, &Script::default()).await.unwrap();
    running.until(|h| h.done == Some(at(49))).await;
    running.end().await;
}

#[tokio::test]
async fn a_batch_that_fails_too_often_becomes_a_dead_letter_where_that_is_asked_for() {
    let mut world = World::of(20);
    world.config.tries_max = NonZeroU32::new(3);
    let sink = Arc::new(Script::of((0..3).map(|_| Err(DeliverError::retry("status 500")))));
    let running = world.start(sink.clone());
    running.until(|h| h.done == Some(at(19))).await;
    running.end().await;
    assert_eq!(ranges(&sink.tried()), [(0, 9), (0, 9), (0, 9), (10, 19)]);
    assert_eq!(world.letters().list().await.unwrap().len(), 1);
}

/// Never answers.
#[derive(Debug)]
struct Hanging;

#[async_trait]
impl Sink for Hanging {
    async fn deliver(&self, _: &Batch) -> Result<(), DeliverError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_is_left_after_the_patience_and_does_not_hold_the_end_up() {
    let mut world = World::of(5);
    world.config.patience = Duration::from_millis(10);
    let running = world.start(Arc::new(Hanging));
    let health = running.until(|h| h.failures > 1).await;
    assert_eq!(health.failing.unwrap().to_string(), "no answer in time");
    running.end().await;
    world.config.patience = Duration::from_secs(3_600);
    let running = world.start(Arc::new(Hanging));
    running.until(|h| h.behind == 5).await;
    running.end().await;
    assert_eq!(world.done(), None);
}

/// Takes its time; says when it began.
#[derive(Debug, Default)]
struct Slow(tokio::sync::Notify);

#[async_trait]
impl Sink for Slow {
    async fn deliver(&self, _: &Batch) -> Result<(), DeliverError> {
        self.0.notify_one();
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_finished_and_its_position_stored() {
    let mut world = World::of(5);
    world.config.grace = Duration::from_secs(5);
    let slow = Arc::new(Slow::default());
    let running = world.start(slow.clone());
    slow.0.notified().await;
    running.end().await;
    assert_eq!(world.done(), Some(at(4)));
}

/// Gives a batch that leaves entries out.
#[derive(Debug)]
struct Gap;

#[async_trait]
impl Source for Gap {
    async fn next(&self, want: &Want) -> Result<Option<Batch>, SourceError> {
        Ok(Some(if want.after.is_none() { batch(0, 4) } else { batch(6, 9) }))
    }

    async fn behind(&self, _: Option<&Position>) -> Result<u64, SourceError> {
        Ok(1)
    }
}

#[tokio::test]
async fn a_source_that_leaves_a_gap_is_not_followed() {
    let world = World::of(0);
    let sink = Arc::new(Script::default());
    let running = world.start_from(Arc::new(Gap), sink.clone());
    let health = running.until(|h| h.failures > 3).await;
    running.end().await;
    assert_eq!(ranges(&sink.tried()), [(0, 4)]);
    assert!(health.failing.unwrap().to_string().contains("not the one that comes next"));
}

/// Has entries, none of which are for this destination.
#[derive(Debug)]
struct NotOurs;

#[async_trait]
impl Source for NotOurs {
    async fn next(&self, want: &Want) -> Result<Option<Batch>, SourceError> {
        let empty = Batch::new(at(0), at(9), Batch::JSON_LINES, bytes::Bytes::new(), 0);
        Ok(want.after.is_none().then(|| empty.unwrap()))
    }

    async fn behind(&self, _: Option<&Position>) -> Result<u64, SourceError> {
        Ok(0)
    }
}

#[tokio::test]
async fn a_range_without_records_for_the_destination_is_passed_over_without_a_delivery() {
    let world = World::of(0);
    let sink = Arc::new(Script::default());
    let running = world.start_from(Arc::new(NotOurs), sink.clone());
    running.until(|h| h.done == Some(at(9))).await;
    running.end().await;
    assert!(sink.tried().is_empty());
}
