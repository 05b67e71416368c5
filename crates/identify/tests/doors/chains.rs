//! Chains of those who act for others (catalogue 17, 53), and how risky they look.

use bartizan_identify::Assessed;
use bartizan_jose::Actor;
use bartizan_model::directory::{PrincipalSpec, Spec, Status};
use bartizan_model::{PrincipalKind, ReasonCode, Risk, RiskLevel};
use serde_json::json;

use crate::world::*;

fn acting(world: &World, actors: &[u8]) -> String {
    world.own(|c| c.act = actors.iter().map(|n| Actor::named(id(*n).to_string())).collect())
}

fn disabled() -> Spec {
    Spec::User(PrincipalSpec { status: Status::Disabled, ..PrincipalSpec::default() })
}

#[test]
fn a_chain_is_its_subject_and_every_actor_outermost_first_without_the_persons_login() {
    let world = World::new();
    let key = signing(20);
    let token = world.own(|c| {
        to_key(c, &key);
        c.act = [3, 5].map(|n| Actor::named(id(n).to_string())).to_vec();
    });
    let caller = world.show(&Showing::dpop(&token, &key, |_| {})).unwrap();
    let names: Vec<_> = caller.members().map(|m| m.principal.name.to_string()).collect();
    assert_eq!(names, ["alice", "reporter", "batch"]);
    let levels: Vec<_> = caller.members().map(|m| u8::from(m.assurance.level)).collect();
    assert_eq!(levels, [3, 0, 0]);
    // The credential is one, and so is what it is bound to.
    assert!(caller.members().all(|m| m.binding.name() == "dpop"));
}

#[test]
fn attack_17_forged_actors_loops_people_as_actors_and_chains_that_are_too_long_are_refused() {
    let world = World::new();
    assert!(world.bearer(&acting(&world, &[3, 4, 5])).is_ok());
    for (actors, why) in [
        (&[3, 3][..], ReasonCode::ChainRefused),
        (&[3, 4, 3], ReasonCode::ChainRefused),
        (&[2], ReasonCode::ChainRefused),
        (&[1], ReasonCode::ChainRefused),
        (&[99], ReasonCode::CredentialUnknown),
        (&[3, 99], ReasonCode::CredentialUnknown),
    ] {
        assert_eq!(world.bearer(&acting(&world, actors)).unwrap_err(), why, "{actors:?}");
    }
    // An agent that acts for itself through itself.
    let itself = world.own(|c| {
        c.sub = id(3).to_string();
        private(c, &json!({"rev": 50, "kind": "agent"}));
        c.act = vec![Actor::named(id(3).to_string())];
    });
    assert_eq!(world.bearer(&itself).unwrap_err(), ReasonCode::ChainRefused);
    let mut act = json!({"sub": id(3).to_string()});
    for _ in 0..4 {
        act = json!({"sub": id(3).to_string(), "act": act});
    }
    let mut payload: serde_json::Value = serde_json::from_str(&world.payload()).unwrap();
    payload["act"] = act;
    let deep = world.raw(&world.header().to_string(), &payload.to_string());
    assert_eq!(world.bearer(&deep).unwrap_err(), ReasonCode::ChainRefused);
    let nameless = world.own(|c| c.act = vec![Actor::named("reporter")]);
    assert_eq!(world.bearer(&nameless).unwrap_err(), ReasonCode::CredentialMalformed);
}

#[test]
fn attack_53_whoever_is_disabled_or_past_its_end_anywhere_in_a_chain_ends_it_at_the_next_request() {
    let change: [fn(&mut World); 5] = [
        |world| *world.spec("alice") = disabled(),
        // The one who answers for the agent.
        |world| *world.spec("bob") = disabled(),
        |world| {
            let Spec::Agent(spec) = world.spec("helper") else { panic!() };
            spec.status = Status::Disabled;
        },
        |world| {
            let Spec::Agent(spec) = world.spec("helper") else { panic!() };
            spec.expires_us = Some(NOW);
        },
        |world| {
            let Spec::Agent(spec) = world.spec("helper") else { panic!() };
            spec.owner = name("nobody-here");
        },
    ];
    for (n, change) in change.into_iter().enumerate() {
        let mut world = World::new();
        let token = acting(&world, &[3, 4]);
        let caller = world.bearer(&token).unwrap();
        change(&mut world);
        assert_eq!(world.bearer(&token).unwrap_err(), ReasonCode::PrincipalDisabled, "{n}");
        // A stream that is open ends with it.
        assert!(world.identifier.again(&world.directory(), &caller, NOW).is_none(), "{n}");
    }
    // An agent's end comes by itself, on the same state.
    let mut world = World::new();
    let Spec::Agent(spec) = world.spec("helper") else { panic!() };
    spec.expires_us = Some(after(30));
    let (showing, directory) = (Showing::bearer(&acting(&world, &[4])), world.directory());
    let caller = world.show(&showing).unwrap();
    assert!(world.identifier.again(&directory, &caller, after(29)).is_some());
    assert!(world.identifier.again(&directory, &caller, after(30)).is_none());
    let refused = world.show_with(&world.identifier, &showing, after(30)).unwrap_err();
    assert_eq!(refused, ReasonCode::PrincipalDisabled);
}

#[test]
fn an_agent_for_itself_is_no_person_and_says_what_it_is() {
    let world = World::new();
    let autonomous = |kind: &str, sub: u8| {
        world.own(|c| {
            c.sub = id(sub).to_string();
            c.sid = None;
            private(c, &json!({"rev": 50, "kind": kind}));
        })
    };
    let caller = world.bearer(&autonomous("agent", 3)).unwrap();
    assert_eq!((caller.subject().principal.kind, caller.members().count()), (PrincipalKind::Agent, 1));
    assert!(world.bearer(&autonomous("workload", 5)).is_ok());
    // What a token says somebody is must be what they are.
    for (kind, sub) in [("user", 3), ("agent", 5), ("workload", 3), ("agent", 1)] {
        assert_eq!(world.bearer(&autonomous(kind, sub)).unwrap_err(), ReasonCode::CredentialMalformed);
    }
}

#[test]
fn risk_is_read_by_session_and_principal_at_each_request_and_the_worse_counts() {
    let mut world = World::new();
    let token = acting(&world, &[3]);
    let risk =
        |level, score, why: &'static str| Risk { level, score, at: before(5), reasons: vec![name(why)] };
    let of = |world: &World| {
        let caller = world.bearer(&token).unwrap();
        (caller.subject().risk.clone(), caller.actors()[0].risk.clone())
    };
    // In a session of ours nothing was found, when the token was issued: that is known. Of the agent nothing is.
    let (subject, actor) = of(&world);
    assert_eq!((subject.level, subject.at, actor.level), (RiskLevel::Low, before(10), RiskLevel::Unknown));
    let medium = risk(RiskLevel::Medium, 40, "new_device");
    world.risks.push((Assessed::Session(session()), medium.clone()));
    assert_eq!(of(&world).0, medium);
    let high = risk(RiskLevel::High, 90, "impossible_travel");
    world.risks.push((Assessed::Principal(id(1)), high.clone()));
    world.risks.push((Assessed::Principal(id(3)), medium.clone()));
    assert_eq!(of(&world), (high, medium));
    world.risks.push((Assessed::Principal(id(1)), Risk::default()));
    assert_eq!(of(&world).0.level, RiskLevel::Unknown);
    // Without a session nobody has looked.
    world.risks.clear();
    let without = world.own(|c| c.sid = None);
    assert_eq!(world.bearer(&without).unwrap().subject().risk.level, RiskLevel::Unknown);
}
