use std::sync::atomic::{AtomicU64, Ordering};

use bartizan_base::Clock;
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::{DecisionId, Label};
use bartizan_rt::Tasks;
use bartizan_wire::Framing;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use proptest::prelude::*;

use super::answers::Lead;
use super::*;
use crate::metrics::Metrics;

/// A clock that a test moves.
#[derive(Debug, Default)]
struct Moved(AtomicU64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.monotonic_us())
    }

    fn monotonic_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Shelf {
    answers: Arc<Answers>,
    clock: Arc<Moved>,
}

fn shelf(bounds: CacheBounds) -> Shelf {
    let clock = Arc::new(Moved::default());
    let metrics = Metrics::register(&mut Registry::default());
    let answers = Arc::new(Answers::new(bounds, clock.clone(), Tasks::new(), metrics));
    Shelf { answers, clock }
}

const WIDE: CacheBounds = CacheBounds { answers_max: 100, bytes_max: 1 << 20, answer_bytes_max: 1 << 16 };

fn key(n: u8) -> Digest {
    Digest::of(&[n])
}

fn of(n: u8) -> DecisionId {
    DecisionId::from_parts(Timestamp::from_secs(1), [n; 10])
}

impl Shelf {
    fn look(&self, key: Digest, revision: u64) -> Found {
        self.answers.look(Wanted { key, revision, within_us: None, may_wait: true })
    }

    fn lead(&self, key: Digest, revision: u64) -> Lead {
        match self.look(key, revision) {
            Found::Lead(lead) => lead,
            other => panic!("{other:?}"),
        }
    }

    fn given(&self, key: Digest, revision: u64) -> Option<Bytes> {
        match self.look(key, revision) {
            Found::Kept(kept) => Some(kept.body.clone()),
            _ => None,
        }
    }

    /// Fetches what is answered with `body` for so many seconds.
    fn fetch(&self, n: u8, revision: u64, body: &str, seconds: u64) {
        let filling = filling(self.lead(key(n), revision), seconds);
        release(filling, 200, "application/json", None, body);
    }
}

fn filling(lead: Lead, seconds: u64) -> Filling {
    Filling::new(lead, Label::bottom(), seconds * 1_000_000)
}

fn release(filling: Filling, status: u16, media: &'static str, framing: Option<Framing>, body: &str) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    let upstream: Name = "up".parse().unwrap();
    let Some(mut filling) = filling.begun((of(1), &upstream), (status, &headers), framing) else { return };
    // However it comes.
    if body.as_bytes().chunks(7).all(|piece| filling.feed(piece)) {
        filling.done(0);
    }
}

const BODY: &str = r#"{"choices":[]}"#;

#[tokio::test]
async fn what_was_fetched_is_given_until_it_is_too_old() {
    let shelf = shelf(WIDE);
    shelf.fetch(1, 5, BODY, 10);
    assert_eq!(shelf.given(key(1), 5).unwrap(), BODY);
    assert_eq!(shelf.given(key(2), 5), None);
    shelf.clock.0.store(9_999_999, Ordering::Relaxed);
    assert!(shelf.given(key(1), 5).is_some());
    shelf.clock.0.store(10_000_000, Ordering::Relaxed);
    assert_eq!(shelf.given(key(1), 5), None);
}

#[tokio::test]
async fn whatever_changes_in_the_house_drops_everything_and_what_is_being_fetched_is_not_kept() {
    let shelf = shelf(WIDE);
    shelf.fetch(1, 5, BODY, 10);
    let under_way = filling(shelf.lead(key(2), 5), 10);
    assert_eq!(shelf.given(key(1), 6), None);
    release(under_way, 200, "application/json", None, BODY);
    assert_eq!(shelf.given(key(2), 6), None);
    // Whoever still goes by the state before finds nothing of it, and leaves nothing.
    assert!(matches!(shelf.look(key(1), 5), Found::Alone));
}

#[tokio::test]
async fn what_is_no_whole_answer_is_not_kept() {
    let shelf = shelf(WIDE);
    let stream = "data: {}\n\ndata: [DONE]\n\n";
    let cases = [
        (500, "application/json", None, BODY),
        (201, "application/json", None, BODY),
        (200, "text/html", None, BODY),
        (200, "application/json", None, "{\"choices\":["),
        (200, "text/event-stream", Some(Framing::Events), "data: {}\n\n"),
        (200, "application/vnd.amazon.eventstream", Some(Framing::Messages), stream),
    ];
    for (n, (status, media, framing, body)) in (0..).zip(cases) {
        let key = Digest::of(&[9, n]);
        release(filling(shelf.lead(key, 1), 10), status, media, framing, body);
        assert_eq!(shelf.given(key, 1), None, "{status} {media} {body}");
    }
    release(filling(shelf.lead(key(7), 1), 10), 200, "text/event-stream", Some(Framing::Events), stream);
    assert_eq!(shelf.given(key(7), 1).unwrap(), stream);
    // Dropped before its end: broken off by whoever.
    let mut broken = filling(shelf.lead(key(8), 1), 10);
    assert!(broken.feed(stream.as_bytes()));
    drop(broken);
    assert_eq!(shelf.given(key(8), 1), None);
}

#[tokio::test]
async fn those_who_ask_for_the_same_wait_for_one_and_go_on_however_that_ends() {
    let shelf = shelf(WIDE);
    for whole in [true, false] {
        let lead = shelf.lead(key(1), 1);
        let waiting: Vec<_> = (0..3)
            .map(|_| match shelf.look(key(1), 1) {
                Found::Behind(flight) => flight,
                other => panic!("{other:?}"),
            })
            .collect();
        // Others are not held up, and whoever waited once does not wait again.
        drop(shelf.lead(key(2), 1));
        let again = Wanted { key: key(1), revision: 1, within_us: None, may_wait: false };
        assert!(matches!(shelf.answers.look(again), Found::Alone));
        if whole {
            release(filling(lead, 10), 200, "application/json", None, BODY);
        } else {
            drop(lead);
        }
        for one in waiting {
            // Without an end of its own: what is not over hangs here.
            one.over(Duration::MAX).await;
        }
        assert_eq!(shelf.given(key(1), 1).is_some(), whole);
        shelf.clock.0.fetch_add(60_000_000, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn who_wants_a_younger_answer_gets_it_fetched_and_the_others_get_that_then() {
    let shelf = shelf(WIDE);
    shelf.fetch(1, 1, BODY, 100);
    shelf.clock.0.store(5_000_000, Ordering::Relaxed);
    let within = |within_us| Wanted { key: key(1), revision: 1, within_us: Some(within_us), may_wait: true };
    assert!(matches!(shelf.answers.look(within(6_000_000)), Found::Kept(_)));
    for too_young in [5_000_000, 0] {
        let Found::Lead(lead) = shelf.answers.look(within(too_young)) else { panic!() };
        release(filling(lead, 100), 200, "application/json", None, r#"{"choices":[1]}"#);
        assert_eq!(shelf.given(key(1), 1).unwrap(), r#"{"choices":[1]}"#);
        shelf.clock.0.fetch_add(5_000_000, Ordering::Relaxed);
    }
}

#[test]
fn what_a_caller_says_about_caches_is_read_strictly() {
    let read = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CACHE_CONTROL, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        said(&headers)
    };
    for (values, expected) in [
        (&[][..], Said::Nothing),
        (&["no-transform"], Said::Nothing),
        (&["No-Store"], Said::Aside),
        (&["max-age=60", "no-store"], Said::Aside),
        (&["\u{e9}"], Said::Aside),
        (&["no-cache"], Said::Within(0)),
        (&["max-age=60"], Said::Within(60_000_000)),
        (&["max-age=60, max-age = \"5\""], Said::Within(5_000_000)),
        (&["max-age=soon"], Said::Within(0)),
        (&["max-age=5, no-cache"], Said::Within(0)),
    ] {
        assert_eq!(read(values), expected, "{values:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn there_are_never_more_answers_or_bytes_than_the_bounds_say(
        steps in prop::collection::vec((0..20_u8, 0..400_usize, 1..20_u64, 0..4_u64), 1..60),
        answers_max in 1..6_usize,
        bytes_max in 600..4_000_usize,
        answer_bytes_max in 50..300_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let bounds = CacheBounds { answers_max, bytes_max, answer_bytes_max };
        let shelf = shelf(bounds);
        for (n, long, seconds, passes) in steps {
            let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(long));
            if let Found::Lead(lead) = shelf.look(key(n), 1) {
                release(filling(lead, seconds), 200, "application/json", None, &body);
                prop_assert_eq!(shelf.given(key(n), 1).is_some(), body.len() <= shelf.answers.body_max());
            }
            let (count, bytes) = shelf.answers.holds();
            prop_assert!(count <= answers_max && bytes <= bytes_max, "{} {}", count, bytes);
            shelf.clock.0.fetch_add(passes * 1_000_000, Ordering::Relaxed);
        }
        // Everything has an end, and nothing is left over in the sums.
        shelf.clock.0.fetch_add(60_000_000, Ordering::Relaxed);
        drop(shelf.look(key(99), 1));
        prop_assert_eq!(shelf.answers.holds(), (0, 0));
    }
}
