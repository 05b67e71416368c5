//! A person is asked to prove themselves more surely for one thing, and others try to answer, or to use it for more.

use std::time::Duration;

use bartizan_base::Digest;
use bartizan_base::random::SeededRandom;
use bartizan_identify::{Answered, Caller, EpochKind, Link, Proof, STEP_UP_LIFE, Scopes, StepUps, Wanted};
use bartizan_model::directory::{PrincipalSpec, Spec, Status};
use bartizan_model::{
    Assurance, AssuranceLevel, Binding, CredentialKind, PrincipalKind, ReasonCode, Risk, SessionId, Tenant,
};

use crate::world::*;

const STRONG: AssuranceLevel = AssuranceLevel::Aal3;

fn login_as(world: &World, who: &str, level: AssuranceLevel, credential: CredentialKind) -> Caller {
    let proof = Proof {
        tenant: Tenant::default_tenant(),
        kind: PrincipalKind::User,
        name: name(who),
        assurance: Assurance { level, methods: Vec::new(), at: before(60), via: None },
        binding: Binding::None,
        device: None,
        risk: Risk::default(),
        actors: Vec::new(),
        client: None,
        credential,
        scopes: Scopes::All,
        issued: NOW,
        expires: after(3_600),
    };
    proof.caller(&world.directory(), NOW).unwrap()
}

fn login(world: &World, who: &str, level: AssuranceLevel) -> Caller {
    login_as(world, who, level, CredentialKind::Session)
}

fn the_login() -> SessionId {
    SessionId::from_parts(before(60), [9; 10])
}

/// Alice's program has asked for something.
struct Asked {
    world: World,
    step_ups: StepUps,
    caller: Caller,
    by: Digest,
    link: Link,
}

impl Asked {
    fn new() -> Self {
        let world = World::new();
        let caller = world.bearer(&world.own(|_| {})).unwrap();
        let (step_ups, by) = (StepUps::default(), Digest::of(b"session and call"));
        let link = ask(&world, &step_ups, &caller, by).unwrap();
        Self { world, step_ups, caller, by, link }
    }

    fn prove(&self, login: &Caller) -> Result<(), ReasonCode> {
        let secret = self.link.secret.expose();
        self.step_ups.prove(secret, (login, the_login()), NOW).map(drop)
    }

    fn answered(&self, caller: &Caller, by: Digest) -> Answered {
        self.step_ups.answered((self.link.id, by), caller, (&self.world.directory(), NOW))
    }

    fn proven(&self) -> Caller {
        let answered = self.answered(&self.caller, self.by);
        let proven = if let Answered::Proven(caller) = answered { Some(*caller) } else { None };
        proven.unwrap()
    }
}

fn ask(world: &World, step_ups: &StepUps, caller: &Caller, by: Digest) -> Option<Link> {
    let wanted = Wanted {
        level: STRONG,
        max_age: Some(Duration::from_secs(120)),
        what: "pay".to_owned(),
        decision: None,
    };
    step_ups.ask(
        caller,
        by,
        wanted,
        (&world.directory(), NOW),
        &SeededRandom::new(u64::from(by.as_bytes()[0])),
    )
}

#[test]
fn whoever_was_asked_lifts_their_own_call_once_and_nothing_else() {
    let asked = Asked::new();
    assert!(matches!(asked.answered(&asked.caller, asked.by), Answered::Waiting));
    let strong = login(&asked.world, "alice", STRONG);
    let question = asked.step_ups.question(asked.link.secret.expose(), &strong, NOW).unwrap();
    assert_eq!((question.wanted.what.as_str(), question.suffices), ("pay", true));
    asked.prove(&strong).unwrap();
    assert_eq!(asked.prove(&strong), Err(ReasonCode::NotFound), "a link is used once");
    assert!(asked.step_ups.question(asked.link.secret.expose(), &strong, NOW).is_err());
    let other = Digest::of(b"another call");
    assert!(matches!(asked.answered(&asked.caller, other), Answered::Gone), "for another call");
    let lifted = asked.proven();
    assert_eq!((lifted.subject().assurance.level, lifted.is_lifted()), (STRONG, true));
    assert_eq!(lifted.subject().assurance.at, before(60));
    assert!(!asked.caller.is_lifted() && asked.caller.subject().assurance.level < STRONG);
    assert!(matches!(asked.answered(&asked.caller, asked.by), Answered::Gone), "given once");
    // For the next round of the same call it can be kept; by somebody who was not proven it cannot.
    let random = SeededRandom::new(77);
    let id = asked.step_ups.keep(&lifted, asked.by, NOW, &random).unwrap();
    let again = asked.step_ups.answered((id, asked.by), &asked.caller, (&asked.world.directory(), NOW));
    assert!(matches!(again, Answered::Proven(_)));
    assert!(asked.step_ups.keep(&asked.caller, asked.by, NOW, &random).is_none());
    assert!(asked.step_ups.keep(&lifted, asked.by, NOW.saturating_add(STEP_UP_LIFE), &random).is_none());
}

/// Phishing (MCP 2025-11-25, elicitation by URL): a link that somebody else is sent proves nothing about whoever sent it.
#[test]
fn nobody_else_answers_a_question_however_strong_and_is_not_even_told_that_there_is_one() {
    let asked = Asked::new();
    let bob = login(&asked.world, "bob", AssuranceLevel::Aal3);
    assert_eq!(asked.prove(&bob), Err(ReasonCode::NotFound));
    let secret = asked.link.secret.expose();
    assert_eq!(asked.step_ups.question(secret, &bob, NOW).unwrap_err(), ReasonCode::NotFound);
    assert_eq!(asked.step_ups.refuse(secret, &bob, NOW).unwrap_err(), ReasonCode::NotFound);
    // Only a login of a person counts, not what programs hold in their name, and not what the waiting side knows.
    for credential in [CredentialKind::AccessToken, CredentialKind::ApiKey, CredentialKind::Login] {
        let other = login_as(&asked.world, "alice", AssuranceLevel::Aal3, credential);
        assert_eq!(asked.prove(&other), Err(ReasonCode::NotFound), "{credential:?}");
    }
    let strong = login(&asked.world, "alice", STRONG);
    for wrong in ["", &asked.link.id.to_string(), &secret[..secret.len() - 1]] {
        assert!(asked.step_ups.prove(wrong, (&strong, the_login()), NOW).is_err(), "{wrong}");
    }
    assert!(matches!(asked.answered(&asked.caller, asked.by), Answered::Waiting), "it is still hers");
    // What she proves is no more for somebody else's program than her link is for them.
    asked.prove(&strong).unwrap();
    let bobs = asked.world.bearer(&asked.world.own(|c| c.sub = id(2).to_string())).unwrap();
    assert!(matches!(asked.answered(&bobs, asked.by), Answered::Gone));
    assert!(asked.proven().is_lifted());
}

#[test]
fn a_login_that_is_too_weak_or_too_old_lifts_nothing_and_the_question_stays() {
    let asked = Asked::new();
    let weak = login(&asked.world, "alice", AssuranceLevel::Aal2);
    assert_eq!(asked.prove(&weak), Err(ReasonCode::LoginTooOld));
    let strong = login(&asked.world, "alice", STRONG);
    let secret = asked.link.secret.expose();
    let at = |secs| asked.step_ups.question(secret, &strong, after(secs)).unwrap().suffices;
    assert!(at(59) && !at(61), "two minutes after the login it is too old");
    let late = asked.step_ups.prove(secret, (&strong, the_login()), after(61));
    assert_eq!(late.unwrap_err(), ReasonCode::LoginTooOld);
    let over = NOW.saturating_add(STEP_UP_LIFE);
    assert_eq!(asked.step_ups.question(secret, &strong, over).unwrap_err(), ReasonCode::NotFound);
    asked.prove(&strong).unwrap();
    assert!(asked.proven().is_lifted());
}

#[test]
fn a_refusal_ends_it_and_so_does_whoever_waits_no_more() {
    let strong = |asked: &Asked| login(&asked.world, "alice", STRONG);
    let asked = Asked::new();
    asked.step_ups.refuse(asked.link.secret.expose(), &strong(&asked), NOW).unwrap();
    assert!(matches!(asked.answered(&asked.caller, asked.by), Answered::Gone));
    assert_eq!(asked.prove(&strong(&asked)), Err(ReasonCode::NotFound));
    let asked = Asked::new();
    asked.step_ups.forget(asked.link.id);
    assert_eq!(asked.prove(&strong(&asked)), Err(ReasonCode::NotFound));
}

#[test]
fn what_was_lifted_falls_with_the_login_that_it_comes_from_and_with_the_person() {
    let mut asked = Asked::new();
    asked.prove(&login(&asked.world, "alice", STRONG)).unwrap();
    let lifted = asked.proven();
    let again = |world: &World, now| world.identifier.again(&world.directory(), &lifted, now);
    assert_eq!(again(&asked.world, NOW).unwrap().subject().assurance.level, STRONG);
    asked.world.mark(EpochKind::Session, "ses_0", NOW);
    assert!(again(&asked.world, NOW).is_some(), "another session of hers");
    asked.world.mark(EpochKind::Session, &the_login().to_string(), before(30));
    assert!(again(&asked.world, NOW).is_none());
    assert!(asked.world.identifier.again(&asked.world.directory(), &asked.caller, NOW).is_some());
    // A login that was ended before anybody could use what it proved.
    let mut asked = Asked::new();
    asked.prove(&login(&asked.world, "alice", STRONG)).unwrap();
    asked.world.mark(EpochKind::Session, &the_login().to_string(), before(30));
    assert!(matches!(asked.answered(&asked.caller, asked.by), Answered::Gone));
    let mut asked = Asked::new();
    asked.prove(&login(&asked.world, "alice", STRONG)).unwrap();
    let lifted = asked.proven();
    *asked.world.spec("alice") = Spec::User(PrincipalSpec { status: Status::Disabled, ..Default::default() });
    asked.world.revision += 1;
    assert!(asked.world.identifier.again(&asked.world.directory(), &lifted, NOW).is_none());
}

#[test]
fn questions_are_bounded_and_the_same_one_is_asked_once() {
    let asked = Asked::new();
    let same = ask(&asked.world, &asked.step_ups, &asked.caller, asked.by).unwrap();
    assert_eq!((same.id, same.secret.expose()), (asked.link.id, asked.link.secret.expose()));
    let mut more = 0;
    for number in 0..100_u32 {
        let by = Digest::of(&number.to_be_bytes());
        more += u32::from(ask(&asked.world, &asked.step_ups, &asked.caller, by).is_some());
    }
    assert!((1..20).contains(&more), "{more}");
    // Nobody is asked where there is no person behind it.
    let program = asked.world.bearer(&asked.world.own(|c| {
        c.sub = id(5).to_string();
        private(c, &serde_json::json!({"rev": 50, "kind": "workload"}));
    }));
    assert!(ask(&asked.world, &asked.step_ups, &program.unwrap(), Digest::of(b"x")).is_none());
}
