use bartizan_base::Digest;
use bartizan_base::random::SeededRandom;
use bartizan_base::time::ManualClock;
use bartizan_limits::Tokens;
use bartizan_model::{
    Assurance, Binding, LimitSpec, Member, Principal, PrincipalId, PrincipalKind, Risk, Tenant,
};
use bartizan_store::{CounterWork, MemoryCounters};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use serde_json::{Value, json};

use super::*;

struct Bench {
    limiter: Arc<Limiter>,
    clock: Arc<ManualClock>,
    random: SeededRandom,
}

fn bench() -> Bench {
    over(Arc::new(MemoryCounters::default()))
}

fn over(counters: Arc<dyn Counters>) -> Bench {
    let clock = Arc::new(ManualClock::at(Timestamp::parse_rfc3339("2026-11-22T10:00:30Z").unwrap()));
    Bench { limiter: Arc::new(Limiter::new(counters, clock.clone())), clock, random: SeededRandom::new(7) }
}

fn world(limits: &[(&str, Value)], prices: &[Value]) -> TenantWorld {
    let limits = limits.iter().map(|(name, spec)| {
        let spec: LimitSpec = serde_json::from_value(spec.clone()).unwrap();
        assert_eq!(spec.mistake(), None, "{name}");
        (name.parse().unwrap(), spec)
    });
    let prices = prices
        .iter()
        .enumerate()
        .map(|(n, price)| (format!("p{n}").parse().unwrap(), serde_json::from_value(price.clone()).unwrap()));
    TenantWorld {
        limits: Arc::new(limits.collect()),
        prices: Arc::new(prices.collect()),
        ..TenantWorld::empty()
    }
}

fn member(kind: PrincipalKind, name: &str) -> Member {
    let id = PrincipalId::from_parts(
        Timestamp::from_secs(1),
        Digest::of(name.as_bytes()).as_bytes()[..10].try_into().unwrap(),
    );
    Member {
        principal: Principal { kind, name: name.parse().unwrap(), id },
        assurance: Assurance::default(),
        binding: Binding::None,
        device: None,
        risk: Risk::default(),
    }
}

fn caller(user: &str, agents: &[&str]) -> Caller {
    let agents = agents.iter().map(|name| member(PrincipalKind::Agent, name)).collect();
    Caller::suppose(Tenant::default_tenant(), member(PrincipalKind::User, user), agents)
}

/// What is asked: 100 tokens in and 50 out at the most, of the model `gpt`.
struct Asked<'a> {
    run: Option<&'a str>,
    body: &'a str,
}

const PLAIN: Asked<'_> = Asked { run: None, body: "a" };

impl Bench {
    async fn ask(
        &self,
        world: &TenantWorld,
        caller: &Caller,
        asked: &Asked<'_>,
    ) -> Result<Reservation, Problem> {
        let resource = EntityRef::new(Name::literal("Model"), Name::literal("gpt"));
        let upstream = Name::literal("eu");
        let run = asked.run.map(|run| run.parse().unwrap());
        let demand = Demand {
            resource: &resource,
            upstreams: vec![&upstream],
            estimate: Tokens { input: 100, cached: 0, output: 50 },
            digest: Digest::of(asked.body.as_bytes()),
            run: run.as_ref(),
            ends: true,
        };
        let id = DecisionId::new(self.clock.now(), &self.random);
        self.limiter.reserve(world, caller, id, &demand).await
    }

    async fn fits(&self, world: &TenantWorld, caller: &Caller, asked: &Asked<'_>) -> bool {
        self.ask(world, caller, asked).await.map(|reserved| reserved.settle(None)).is_ok()
    }
}

fn spent(input: u64, output: u64) -> Spent {
    let at = Timestamp::parse_rfc3339("2026-11-22T10:00:30Z").unwrap();
    Spent { input: Some(input), cached: 0, output: Some(output), upstream: Some(Name::literal("eu")), at }
}

async fn settled() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// agentgateway/website#962: there a budget is charged when the answer is over, so it caps what is begun, not what is spent.
#[tokio::test]
async fn lesson_agentgateway_website_962_a_budget_is_reserved_before_and_settled_after() {
    let bench = bench();
    let world = world(&[("words", json!({"what": "tokens", "most": 400, "window": "day"}))], &[]);
    let ann = caller("ann", &[]);
    let first = bench.ask(&world, &ann, &PLAIN).await.unwrap();
    assert_eq!(first.output_most, Some(50), "the upstream is held to what is reserved");
    let second = bench.ask(&world, &ann, &PLAIN).await.unwrap();
    let third = bench.ask(&world, &ann, &PLAIN).await.unwrap_err();
    assert_eq!(third.reason, ReasonCode::BudgetExhausted, "150 each, and none of them is over");
    first.settle(Some(&spent(10, 5)));
    settled().await;
    let third = bench.ask(&world, &ann, &PLAIN).await.unwrap();
    // Nothing was sent: given back. Usage unknown: the estimate stays.
    drop(third);
    second.settle(None);
    settled().await;
    assert!(bench.fits(&world, &ann, &PLAIN).await, "15 + 150 + 150");
    assert!(!bench.fits(&world, &ann, &PLAIN).await);
    bench.clock.advance(Duration::from_secs(14 * 3_600));
    assert!(bench.fits(&world, &ann, &PLAIN).await, "another day");
}

#[tokio::test]
async fn a_budget_of_money_goes_by_the_price_and_refuses_what_has_none() {
    let limits = [("money", json!({"what": "cost", "most": 1_000, "window": "month"}))];
    let ann = caller("ann", &[]);
    let (bench, free) = (bench(), world(&limits, &[]));
    assert_eq!(bench.ask(&free, &ann, &PLAIN).await.unwrap_err().reason, ReasonCode::PriceMissing);
    let dear = json!({"model": "gpt", "from": "2026-01-01", "input": 2_000_000, "output": 8_000_000});
    let priced = world(&limits, &[dear]);
    // At the most 100 × 2 + 50 × 8 = 600.
    let first = bench.ask(&priced, &ann, &PLAIN).await.unwrap();
    assert_eq!(bench.ask(&priced, &ann, &PLAIN).await.unwrap_err().reason, ReasonCode::BudgetExhausted);
    first.settle(Some(&spent(100, 10)));
    settled().await;
    assert!(bench.fits(&priced, &ann, &PLAIN).await, "280 + 600");
    assert!(!bench.fits(&priced, &ann, &PLAIN).await);
}

#[tokio::test]
async fn what_is_refused_says_when_to_come_back_in_the_words_that_clients_know() {
    let bench = bench();
    let world = world(&[("calls", json!({"what": "requests", "most": 2, "window": "minute"}))], &[]);
    let ann = caller("ann", &[]);
    let first = bench.ask(&world, &ann, &PLAIN).await.unwrap();
    assert!(first.fields.contains(&("x-ratelimit-remaining-requests", "1".to_owned())));
    drop(first);
    assert!(bench.fits(&world, &ann, &PLAIN).await);
    let problem = bench.ask(&world, &ann, &PLAIN).await.unwrap_err();
    assert_eq!((problem.reason.clone(), problem.reason.status()), (ReasonCode::RateLimited, 429));
    assert!(problem.fields.contains(&("retry-after", "30".to_owned())), "{:?}", problem.fields);
    assert!(problem.detail.contains("calls"), "{}", problem.detail);
}

#[tokio::test]
async fn each_is_counted_apart_by_what_the_limit_names_and_together_by_what_it_does_not() {
    let bench = bench();
    let world = world(
        &[
            ("each", json!({"what": "requests", "most": 1, "window": "hour", "per": ["caller"]})),
            ("agents", json!({"what": "requests", "most": 2, "window": "hour", "per": ["agent"]})),
            ("bob", json!({"what": "requests", "most": 0, "window": "hour", "only": {"user": "bob"}})),
            (
                "other-model",
                json!({"what": "requests", "most": 0, "window": "hour", "only": {"model": "other"}}),
            ),
        ],
        &[],
    );
    assert!(bench.fits(&world, &caller("ann", &[]), &PLAIN).await);
    assert!(!bench.fits(&world, &caller("ann", &["helper"]), &PLAIN).await, "an agent of hers is hers");
    for (user, fits) in [("cem", true), ("dea", true), ("eve", false), ("bob", false)] {
        assert_eq!(bench.fits(&world, &caller(user, &["helper"]), &PLAIN).await, fits, "{user}");
    }
}

#[tokio::test]
async fn places_are_taken_until_the_end_is_told_and_a_crash_gives_them_back_later() {
    let bench = bench();
    let world = world(&[("lanes", json!({"what": "concurrency", "most": 1}))], &[]);
    let ann = caller("ann", &[]);
    let first = bench.ask(&world, &ann, &PLAIN).await.unwrap();
    let refused = bench.ask(&world, &ann, &PLAIN).await.unwrap_err();
    assert_eq!(refused.reason, ReasonCode::TooManyAtOnce);
    assert!(refused.fields.contains(&("retry-after", "1".to_owned())));
    // A call that goes on for long keeps its place as long as its node lives.
    for _ in 0..20 {
        bench.clock.advance(RENEW_EVERY);
        bench.limiter.renew().await;
    }
    assert!(!bench.fits(&world, &ann, &PLAIN).await);
    first.settle(None);
    settled().await;
    bench.limiter.renew().await;
    let second = bench.ask(&world, &ann, &PLAIN).await.unwrap();
    // The node is gone: nobody renews.
    std::mem::forget(second);
    bench.clock.advance(PLACE_KEPT - Duration::from_secs(1));
    assert!(!bench.fits(&world, &ann, &PLAIN).await);
    bench.clock.advance(Duration::from_secs(1));
    assert!(bench.fits(&world, &ann, &PLAIN).await);
}

#[tokio::test]
async fn who_finds_the_last_place_taken_waits_a_moment_for_whoever_is_just_leaving() {
    let bench = bench();
    let world = world(&[("lanes", json!({"what": "concurrency", "most": 1}))], &[]);
    let ann = caller("ann", &[]);
    let first = bench.ask(&world, &ann, &PLAIN).await.unwrap();
    let (second, ()) =
        futures_util::future::join(bench.ask(&world, &ann, &PLAIN), async { first.settle(None) }).await;
    assert!(second.is_ok());
}

#[tokio::test]
async fn a_run_has_its_steps_its_time_and_its_depth() {
    let bench = bench();
    let world = world(
        &[
            ("steps", json!({"what": "requests", "most": 2, "per": ["run"]})),
            ("time", json!({"what": "duration", "most": 60, "per": ["run"]})),
            ("depth", json!({"what": "depth", "most": 1})),
            ("runs", json!({"what": "runs", "most": 3, "window": "day", "per": ["caller"]})),
        ],
        &[],
    );
    let agent = caller("ann", &["helper"]);
    let named = |run| Asked { run: Some(run), body: "a" };
    assert!(
        bench.fits(&world, &agent, &named("one")).await && bench.fits(&world, &agent, &named("one")).await
    );
    let third = bench.ask(&world, &agent, &named("one")).await.unwrap_err();
    assert_eq!(third.reason, ReasonCode::RunExhausted);
    assert!(bench.fits(&world, &agent, &named("two")).await);
    bench.clock.advance(Duration::from_secs(61));
    assert_eq!(bench.ask(&world, &agent, &named("two")).await.unwrap_err().reason, ReasonCode::RunExhausted);
    let deep = bench.ask(&world, &caller("ann", &["helper", "inner"]), &named("x")).await.unwrap_err();
    assert_eq!(deep.reason, ReasonCode::RunExhausted);
    // Naming the run otherwise each time is no way around: how many there are is limited too, and so is naming none.
    assert!(bench.fits(&world, &agent, &Asked { run: None, body: "a" }).await);
    assert!(!bench.fits(&world, &agent, &named("four")).await);
}

/// What somebody else calls a run neither takes from this one nor gives to it.
#[tokio::test]
async fn a_name_of_a_run_only_splits_what_is_ones_own() {
    let bench = bench();
    let world = world(&[("steps", json!({"what": "requests", "most": 1, "per": ["run"]}))], &[]);
    let named = Asked { run: Some("r"), body: "a" };
    for who in [caller("ann", &["helper"]), caller("ann", &[]), caller("bob", &["helper"])] {
        assert!(bench.fits(&world, &who, &named).await);
        assert!(!bench.fits(&world, &who, &named).await);
    }
}

#[tokio::test]
async fn the_same_again_and_again_is_a_loop_also_in_turns() {
    let bench = bench();
    let world =
        world(&[("loop", json!({"what": "repeats", "most": 2, "window": "hour", "per": ["run"]}))], &[]);
    let agent = caller("ann", &["helper"]);
    let asked = |body| Asked { run: Some("r"), body };
    for body in ["a", "b", "a", "b", "c"] {
        assert!(bench.fits(&world, &agent, &asked(body)).await, "{body}");
    }
    for body in ["a", "b"] {
        assert_eq!(
            bench.ask(&world, &agent, &asked(body)).await.unwrap_err().reason,
            ReasonCode::LoopDetected
        );
    }
    assert!(bench.fits(&world, &agent, &asked("c")).await);
}

/// Counts that cannot be had.
#[derive(Debug)]
struct Gone;

impl Counters for Gone {
    fn work(&self, _: BTreeSet<String>, _: CounterWork) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Err(StoreError::Corrupt("gone".to_owned()))).boxed()
    }

    fn sweep_counters(&self, _: Timestamp, _: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        ready(Ok(0)).boxed()
    }
}

#[tokio::test]
async fn a_hard_limit_whose_count_cannot_be_had_refuses_and_a_soft_one_does_not() {
    let bench = over(Arc::new(Gone));
    let ann = caller("ann", &[]);
    let spec = |hard: bool| json!({"what": "requests", "most": 9, "window": "day", "hard": hard});
    let hard = bench.ask(&world(&[("l", spec(true))], &[]), &ann, &PLAIN).await.unwrap_err();
    assert_eq!((hard.reason.clone(), hard.reason.status()), (ReasonCode::LimitUnavailable, 503));
    assert!(bench.fits(&world(&[("l", spec(false))], &[]), &ann, &PLAIN).await);
    assert!(bench.fits(&world(&[], &[]), &ann, &PLAIN).await, "nothing is limited, so nothing is counted");
}

/// litellm#34732, through the whole of it: many at once, on two nodes with one count.
#[expect(clippy::disallowed_methods, reason = "on threads of their own, which is the point")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lesson_litellm_34732_many_at_once_never_take_more_than_there_is() {
    let shared: Arc<dyn Counters> = Arc::new(MemoryCounters::default());
    let benches = [Arc::new(over(shared.clone())), Arc::new(over(shared))];
    let spec = json!({"what": "requests", "most": 20, "window": "day"});
    let world = world(&[("l", spec)], &[]);
    let asks = (0..100).map(|n| {
        let (bench, world) = (benches[n % 2].clone(), world.clone());
        tokio::spawn(async move { bench.fits(&world, &caller(&format!("u{n}"), &[]), &PLAIN).await })
    });
    let mut let_in = 0;
    for ask in asks.collect::<Vec<_>>() {
        let_in += u32::from(ask.await.unwrap());
    }
    assert_eq!(let_in, 20);
}

/// litellm#26672: the limiter was made and never registered; every check passed.
#[tokio::test]
async fn lesson_litellm_26672_a_start_proves_that_limits_are_asked() {
    for bench in [bench(), over(Arc::new(Gone))] {
        let id = DecisionId::new(bench.clock.now(), &bench.random);
        assert!(bench.limiter.prove(id).await.is_ok());
    }
}

/// What is neither made of tokens nor has a price is under no budget of either, and what nobody tells the end of takes no place.
#[tokio::test]
async fn a_step_at_another_door_counts_as_a_request_and_as_nothing_that_it_is_not() {
    let bench = bench();
    let limits = [
        ("money", json!({"what": "cost", "most": 1, "window": "month"})),
        ("words", json!({"what": "tokens", "most": 1, "window": "day"})),
        ("lanes", json!({"what": "concurrency", "most": 1})),
        ("steps", json!({"what": "requests", "most": 4, "window": "day"})),
    ];
    let (world, ann) = (world(&limits, &[]), caller("ann", &[]));
    let resource = EntityRef::new(Name::literal("Tool"), Name::literal("files/read"));
    let step = async |ends| {
        let demand = Demand {
            resource: &resource,
            upstreams: Vec::new(),
            estimate: Tokens::default(),
            digest: Digest::EMPTY,
            run: None,
            ends,
        };
        let id = DecisionId::new(bench.clock.now(), &bench.random);
        bench.limiter.reserve(&world, &ann, id, &demand).await
    };
    let going = step(true).await.unwrap();
    assert_eq!(step(true).await.unwrap_err().reason, ReasonCode::TooManyAtOnce);
    for _ in 0..2 {
        step(false).await.unwrap().settle(None);
    }
    drop(going);
    settled().await;
    step(true).await.unwrap().settle(None);
    assert_eq!(
        step(false).await.unwrap_err().reason,
        ReasonCode::BudgetExhausted,
        "each of the four counted"
    );
}
