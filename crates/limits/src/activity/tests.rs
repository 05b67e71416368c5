use std::collections::BTreeSet;

use bartizan_base::random::SeededRandom;
use bartizan_base::{Name, Timestamp};
use bartizan_model::{Counts, CredentialKind};
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;

fn activities(tracks_max: usize) -> Activities {
    Activities::new(tracks_max, &SeededRandom::new(7))
}

fn principal(n: u64) -> PrincipalId {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&n.to_be_bytes());
    PrincipalId::from_parts(Timestamp::from_secs(1), random)
}

fn caller(n: u64) -> Tracks {
    Tracks { caller: Some(Track::Caller(principal(n))), ..Tracks::default() }
}

fn resource(n: u64) -> EntityRef {
    EntityRef::new(Name::literal("Model"), n.to_string().parse::<Name>().unwrap())
}

fn read(activities: &Activities, n: u64, now_us: u64) -> Option<Windows> {
    activities.read(&caller(n), now_us).caller
}

/// What somebody did, in a list: the naive model.
#[derive(Clone, Debug)]
struct Done {
    at_us: u64,
    who: u64,
    requests: u64,
    denials: u64,
    tokens: u64,
    resource: u64,
}

fn done() -> impl Strategy<Value = Vec<Done>> {
    // Gaps of microseconds, seconds, minutes and hours, so that windows open and close at their edges.
    let gap = prop_oneof![
        0..3_u64,
        0..9 * SECOND,
        0..400 * SECOND,
        0..9_000 * SECOND,
        Just(60 * SECOND),
        Just(3_600 * SECOND)
    ];
    let one = (gap, 0..3_u64, 0..3_u64, 0..2_u64, 0..1_000_u64, 0..40_u64);
    proptest::collection::vec(one, 1..120).prop_map(|all| {
        let mut now = 0;
        let done = |(gap, who, requests, denials, tokens, resource)| {
            now += gap;
            Done { at_us: now, who, requests, denials, tokens, resource }
        };
        all.into_iter().map(done).collect()
    })
}

/// What the model counts of `who` since a moment.
fn counted(all: &[Done], who: u64, since_us: u64) -> Counts {
    let those: Vec<&Done> = all.iter().filter(|d| d.who == who && d.at_us >= since_us).collect();
    Counts {
        requests: those.iter().map(|d| d.requests).sum(),
        denials: those.iter().map(|d| d.denials).sum(),
        tokens: those.iter().map(|d| d.tokens).sum(),
        resources: those.iter().map(|d| d.resource).collect::<BTreeSet<_>>().len() as u64,
        ..Counts::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn counts_are_never_below_a_naive_models_nor_above_it_by_more_than_a_part_of_the_window(all in done(), after in 0..90_000 * SECOND) {
        let activities = activities(1_000);
        for d in &all {
            let resource = resource(d.resource);
            let noted = Noted { requests: d.requests, denials: d.denials, tokens: d.tokens, resource: Some(&resource), ..Noted::default() };
            activities.note(&caller(d.who), d.at_us, &noted);
        }
        let last = all.last().unwrap().at_us;
        for now in [last, last + after] {
            for who in 0..4 {
                let told = read(&activities, who, now).unwrap();
                for ((length, parts), told) in WINDOWS.into_iter().zip([told.minute, told.hour, told.day]) {
                    let least = counted(&all, who, now.saturating_sub(length));
                    let most = counted(&all, who, now.saturating_sub(length + length / parts));
                    // Few different things are counted exactly.
                    prop_assert_eq!(told.resources, least.resources);
                    for ((told, least), most) in told.values().into_iter().zip(least.values()).zip(most.values()) {
                        prop_assert!(told >= least && told <= most.max(least), "{told} is not within {least} and {most}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_loses_nothing(moments in proptest::collection::vec(0..200_000 * SECOND, 1..60)) {
        let activities = activities(10);
        let mut newest = 0;
        for at in &moments {
            newest = newest.max(*at);
            activities.note(&caller(1), *at, &Noted { requests: 1, ..Noted::default() });
        }
        // Whoever was noted at an earlier moment after a later one counts as of the later one.
        let mut so_far = 0;
        let recent = moments.iter().filter(|at| { so_far = so_far.max(**at); so_far + 86_400 * SECOND >= newest }).count() as u64;
        prop_assert!(read(&activities, 1, newest).unwrap().day.requests >= recent);
        prop_assert!(read(&activities, 1, 0).unwrap().day.requests >= recent);
    }
}

#[test]
fn different_things_are_exact_while_few_and_estimated_within_a_third_when_many() {
    for many in [1, 64, 128, 129, 1_000, 20_000] {
        let activities = activities(10);
        for n in 0..many {
            // Twice each, which changes nothing.
            for _ in 0..2 {
                let resource = resource(n);
                activities.note(&caller(1), n, &Noted { resource: Some(&resource), ..Noted::default() });
            }
        }
        let told = read(&activities, 1, many).unwrap().hour.resources;
        if many <= 128 {
            assert_eq!(told, many);
        } else {
            assert!(told.abs_diff(many) * 3 < many, "{told} of {many}");
        }
        // When the window has become empty, the count is exact again.
        let later = 100_000 * SECOND;
        let resource = resource(1);
        activities.note(&caller(1), later, &Noted { resource: Some(&resource), ..Noted::default() });
        assert_eq!(read(&activities, 1, later).unwrap().day.resources, 1);
    }
}

#[test]
fn memory_is_bounded_and_who_may_have_been_given_up_is_unknown_and_not_idle() {
    let activities = activities(160);
    let ask = Noted { requests: 1, ..Noted::default() };
    for n in 0..10_000 {
        activities.note(&caller(n), n, &ask);
        assert!(activities.tracked() <= 160);
    }
    assert!(activities.given_up() >= 10_000 - 160);
    let told = |now: u64| (0..10_000).map(|n| read(&activities, n, now)).collect::<Vec<_>>();
    // Nobody is told as having done nothing: either what they did, or nothing is known.
    let known: Vec<_> = told(10_000).into_iter().flatten().collect();
    assert!(known.iter().all(|w| w.day.requests == 1), "{known:?}");
    // Whoever comes again after having been given up stays unknown for a day, however often they ask.
    activities.note(&caller(1), 20_000, &ask);
    assert_eq!(read(&activities, 1, 86_000 * SECOND), None);
    let day = 86_400 * SECOND;
    activities.note(&caller(1), day, &ask);
    assert_eq!(read(&activities, 1, day + 30_000).unwrap().day.requests, 2);
    // After that nobody can have been active any more.
    assert!(told(3 * day).into_iter().all(|w| w == Some(Windows::default())));
}

#[test]
fn those_who_did_nothing_for_a_day_make_room_without_anybody_being_given_up() {
    let activities = activities(1_600);
    for round in 0..5_u64 {
        for n in 0..800 {
            let now = round * 90_000 * SECOND + n;
            activities.note(&caller(round * 1_000 + n), now, &Noted { requests: 1, ..Noted::default() });
        }
    }
    assert_eq!(activities.given_up(), 0);
}

#[test]
fn an_ask_counts_for_subject_agent_and_key_and_nobody_counts_for_nothing() {
    let who = |subject_kind, actors: &[u64]| Who {
        subject: principal(1),
        subject_kind,
        actors: actors.iter().map(|n| principal(*n)).collect(),
        credential: CredentialKind::ApiKey,
        key: Some(KeyId::from_parts(Timestamp::from_secs(1), [9; 10])),
        issuer: None,
        assurance: 1,
    };
    let activities = activities(1_000);
    let delegated = Tracks::of(&who(PrincipalKind::User, &[2, 3]));
    assert_eq!(delegated.agent, Some(Track::Agent(principal(2))));
    activities.note(&delegated, 1, &Noted { requests: 1, exports: 1, cost_micro: 5, ..Noted::default() });
    let told = activities.read(&delegated, 2);
    for windows in [told.agent, told.caller, told.key] {
        let minute = windows.unwrap().minute;
        assert_eq!((minute.requests, minute.exports, minute.cost_micro), (1, 1, 5));
    }
    assert_eq!(told.session, None);
    let autonomous = Tracks::of(&who(PrincipalKind::Agent, &[]));
    assert_eq!(autonomous.agent, Some(Track::Agent(principal(1))));
    assert_eq!(Tracks::of(&who(PrincipalKind::Anonymous, &[])).caller, None);
}

#[test]
fn sums_end_where_numbers_do() {
    let activities = activities(10);
    for _ in 0..3 {
        activities.note(&caller(1), 1, &Noted { tokens: u64::MAX, ..Noted::default() });
    }
    assert_eq!(read(&activities, 1, 1).unwrap().day.tokens, (1 << 53) - 1);
}
