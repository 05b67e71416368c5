use super::*;
use proptest::prelude::*;

const DAY: u64 = 86_400;

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn at(s: u64) -> Timestamp {
    Timestamp::from_secs(s)
}

fn schedule() -> Schedule {
    Schedule::new(secs(DAY), secs(30 * DAY), secs(300), secs(60)).unwrap()
}

/// Does what the plan asks for, as the caller would.
fn tend(rotation: &mut Rotation, now: Timestamp, made: &mut u32) {
    while let Some(new) = rotation.at(now).needed {
        *made += 1;
        rotation.add(&format!("k{made}"), new);
    }
}

fn signing(rotation: &Rotation, now: Timestamp) -> String {
    rotation.at(now).signing.unwrap().kid.clone()
}

#[test]
fn schedules_without_overlap_are_refused() {
    assert_eq!(Schedule::new(secs(0), secs(9), secs(1), secs(1)), Err(ScheduleError::Lead));
    assert_eq!(Schedule::new(secs(9), secs(9), secs(1), secs(1)), Err(ScheduleError::Lead));
    assert_eq!(Schedule::new(secs(1), secs(9), secs(0), secs(1)), Err(ScheduleError::Life));
}

#[test]
fn keys_go_through_their_states_and_follow_one_another_on_time() {
    let start = 1_000 * DAY;
    let (mut rotation, mut made) = (Rotation::new(schedule(), Vec::new()), 0);
    tend(&mut rotation, at(start), &mut made);
    assert_eq!(signing(&rotation, at(start)), "k1");
    // Asked only when the plan says so.
    let mut now = at(start);
    let mut turns = Vec::new();
    while now < at(start + 95 * DAY) {
        tend(&mut rotation, now, &mut made);
        let plan = rotation.at(now);
        turns.push((
            now.as_secs().saturating_sub(start) / DAY,
            signing(&rotation, now),
            plan.published.len(),
        ));
        assert!(plan.next > now);
        now = plan.next;
    }
    assert_eq!(made, 4, "{turns:?}");
    for (day, kid) in [(29, "k1"), (30, "k2"), (60, "k3"), (90, "k4")] {
        assert_eq!(signing(&rotation, at(start + day * DAY)), kid);
    }
    let states = |day| ["k1", "k2", "k3"].map(|k| rotation.state(k, at(start + day * DAY)).unwrap());
    assert_eq!(states(0), [KeyState::Signing, KeyState::Planned, KeyState::Planned]);
    assert_eq!(states(29), [KeyState::Signing, KeyState::Published, KeyState::Planned]);
    assert_eq!(states(30), [KeyState::Retiring, KeyState::Signing, KeyState::Planned]);
    assert_eq!(states(33), [KeyState::Gone, KeyState::Signing, KeyState::Planned]);
    assert_eq!(rotation.state("other", now), None);
}

#[test]
fn a_key_on_demand_follows_when_verifiers_know_it_and_demands_do_not_pile_up() {
    let start = at(1_000 * DAY);
    let (mut rotation, mut made) = (Rotation::new(schedule(), Vec::new()), 0);
    tend(&mut rotation, start, &mut made);
    let now = start.saturating_add(secs(DAY));
    let new = rotation.demand(now).unwrap();
    rotation.add("wanted", new);
    assert_eq!(rotation.demand(now), Err(DemandError::OnItsWay));
    assert_eq!(signing(&rotation, now), "k1");
    assert!(rotation.at(now).published.iter().any(|k| k.kid == "wanted"));
    assert_eq!(signing(&rotation, now.saturating_add(secs(DAY))), "wanted");
    assert_eq!(rotation.state("k1", now.saturating_add(secs(DAY))), Some(KeyState::Retiring));
}

#[test]
fn demands_day_after_day_do_not_make_the_set_larger_than_verifiers_take() {
    let schedule = Schedule::new(secs(60), secs(30 * DAY), secs(300), secs(60)).unwrap();
    let (mut rotation, mut made) = (Rotation::new(schedule, Vec::new()), 0);
    let mut refused = 0;
    for minute in 0..200 {
        let now = at(1_000 * DAY + minute * 61);
        tend(&mut rotation, now, &mut made);
        match rotation.demand(now) {
            Ok(new) => drop(rotation.add(&format!("d{minute}"), new)),
            Err(error) => refused += u32::from(error == DemandError::TooMany),
        }
        assert!(rotation.at(now).published.len() <= PUBLISHED_MAX + 1);
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_withdrawn_key_is_replaced_at_once_and_never_published_again() {
    let now = at(1_000 * DAY);
    let (mut rotation, mut made) = (Rotation::new(schedule(), Vec::new()), 0);
    tend(&mut rotation, now, &mut made);
    rotation.withdraw("k1");
    assert!(rotation.at(now).signing.is_none() && rotation.at(now).published.is_empty());
    tend(&mut rotation, now, &mut made);
    assert_eq!(signing(&rotation, now), "k2");
    assert_eq!(rotation.state("k1", now), Some(KeyState::Gone));
}

#[test]
fn the_last_token_of_a_key_of_a_node_whose_clock_is_ahead_ends_before_the_key_is_gone() {
    let mut rotation = Rotation::new(schedule(), Vec::new());
    let plan = rotation.add("k", schedule().at_once(at(1_000 * DAY)));
    let last = Timestamp::from_micros(plan.ends.as_micros() - 1);
    assert_eq!(signing(&rotation, last), "k");
    assert!(rotation.at(plan.ends).signing.is_none());
    let (life, skew) = (secs(300), secs(60));
    let dead = last.saturating_add(life).saturating_add(skew).saturating_add(skew);
    assert!(plan.is_published(dead));
    assert!(!plan.is_published(Timestamp::from_micros(dead.as_micros() + 1)), "and no longer than needed");
    let early = Timestamp::from_micros(plan.signs.as_micros() - 60_000_000);
    assert!(plan.is_published(early), "a verifier whose clock is behind");
}

#[test]
fn a_house_that_slept_past_every_end_signs_again_at_once() {
    let now = at(1_000 * DAY);
    let (mut rotation, mut made) = (Rotation::new(schedule(), Vec::new()), 0);
    tend(&mut rotation, now, &mut made);
    let late = now.saturating_add(secs(400 * DAY));
    tend(&mut rotation, late, &mut made);
    assert_eq!(signing(&rotation, late), "k2");
    assert_eq!(rotation.forget(late, secs(400 * DAY)), Vec::<String>::new());
    assert_eq!(rotation.forget(late, secs(DAY)), ["k1"]);
}

#[test]
fn plans_are_stored_and_read_back() {
    let mut rotation = Rotation::new(schedule(), Vec::new());
    let plan = rotation.add("k", schedule().at_once(at(1_000)));
    let text = serde_json::to_string(&plan).unwrap();
    assert!(text.contains(r#""signs_us":1000000000"#), "{text}");
    assert_eq!(serde_json::from_str::<KeyPlan>(&text).unwrap(), plan);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Jump(i64),
    Sign,
    Demand,
    Withdraw,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..2_000).prop_map(Step::Wait),
        2 => (-9_000_i64..9_000).prop_map(Step::Jump),
        6 => Just(Step::Sign),
        1 => Just(Step::Demand),
        1 => Just(Step::Withdraw),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the clock does: the key that signs is published, and the key of every token that holds is.
    #[test]
    fn no_token_holds_whose_key_is_not_published_and_no_unpublished_key_signs(
        lead in 1_u64..500, more in 1_u64..2_000, life in 1_u64..700, skew in 0_u64..60,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let schedule = Schedule::new(secs(lead), secs(lead + more), secs(life), secs(skew)).unwrap();
        let mut rotation = Rotation::new(schedule, Vec::new());
        let (mut now, mut made) = (1_000_000_u64, 0);
        let mut tokens: Vec<(String, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(s) => now += s,
                Step::Jump(s) => now = now.saturating_add_signed(s),
                Step::Demand => if let Ok(new) = rotation.demand(at(now)) {
                    made += 1;
                    rotation.add(&format!("k{made}"), new);
                },
                Step::Withdraw => if made % 5 == 4 {
                    let kid = format!("k{made}");
                    rotation.withdraw(&kid);
                    tokens.retain(|(k, _)| *k != kid);
                },
                Step::Sign => {
                    tend(&mut rotation, at(now), &mut made);
                    let plan = rotation.at(at(now));
                    let key = plan.signing.unwrap();
                    prop_assert!(plan.published.contains(&key));
                    prop_assert_eq!(rotation.state(&key.kid, at(now)), Some(KeyState::Signing));
                    tokens.push((key.kid.clone(), now));
                }
            }
            let plan = rotation.at(at(now));
            for (kid, issued) in &tokens {
                let holds = *issued <= now + skew && now < issued + life + skew;
                prop_assert!(!holds || plan.published.iter().any(|k| k.kid == *kid), "{kid} of {issued} at {now}");
            }
        }
    }

    /// While the clock runs on and the house is tended in time, verifiers that keep a set for as long as the lead know every key
    /// before it signs, there is always one, and few are published.
    #[test]
    fn a_set_kept_for_the_lead_holds_every_key_that_signs(
        lead in 2_u64..500, more in 1_u64..2_000, life in 1_u64..700,
        waits in prop::collection::vec((1_u64..250, any::<bool>()), 1..200),
    ) {
        let schedule = Schedule::new(secs(lead), secs(lead + more), secs(life), secs(5)).unwrap();
        let mut rotation = Rotation::new(schedule, Vec::new());
        let (mut now, mut made) = (1_000_000_u64, 0);
        tend(&mut rotation, at(now), &mut made);
        let mut kept: (u64, Vec<String>) = (0, Vec::new());
        for (wait, demand) in waits {
            now += wait.min(lead / 2);
            tend(&mut rotation, at(now), &mut made);
            if let Some(Ok(new)) = demand.then(|| rotation.demand(at(now))) {
                made += 1;
                rotation.add(&format!("k{made}"), new);
            }
            if now - kept.0 >= lead {
                kept = (now, rotation.at(at(now)).published.iter().map(|k| k.kid.clone()).collect());
            }
            prop_assert!(kept.1.contains(&signing(&rotation, at(now))));
        }
    }
}
