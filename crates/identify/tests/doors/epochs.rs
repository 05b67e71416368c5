//! Epochs: what was verified is looked at again each time (INV-EPOCH, catalogue 43).

use bartizan_identify::{Caller, EpochKind, Identifier, client_mark};
use bartizan_jose::Actor;
use bartizan_model::directory::{PrincipalSpec, Spec, Status};
use bartizan_model::{Document, ReasonCode};
use proptest::prelude::*;
use serde_json::json;

use crate::world::*;

/// A token that everything concerns.
fn full(world: &World) -> String {
    world.own(|c| {
        c.act = vec![Actor::named(id(3).to_string())];
        private(
            c,
            &json!({
                "rev": 50, "kind": "user", "grant": grant().to_string(), "under": ["fam_1", "grt_2"], "device": "laptop"
            }),
        );
    })
}

/// Every kind of mark, with what it would be about for the full token, and for one that it does not concern.
fn marks() -> Vec<(EpochKind, String, &'static str)> {
    let client = client_mark(CLIENT).unwrap().to_string();
    vec![
        (EpochKind::Tenant, "default".to_owned(), "other"),
        (EpochKind::Principal, "user/alice".to_owned(), "user/bob"),
        (EpochKind::Principal, "agent/reporter".to_owned(), "user/reporter"),
        (EpochKind::Session, session().to_string(), "ses_0"),
        (EpochKind::Grant, grant().to_string(), "grt_0"),
        (EpochKind::Grant, "fam_1".to_owned(), "fam_2"),
        (EpochKind::Grant, "grt_2".to_owned(), "grt_1"),
        (EpochKind::Client, client, "app.example"),
        (EpochKind::Device, "laptop".to_owned(), "phone"),
    ]
}

#[test]
fn inv_epoch_attack_43_a_verified_token_dies_with_every_kind_of_epoch_that_concerns_it_and_no_other() {
    for (kind, mine, others) in marks() {
        for (what, dead) in [(mine.as_str(), true), (others, false)] {
            let mut world = World::new();
            let token = full(&world);
            let caller = world.bearer(&token).unwrap();
            // The moment of the mark says nothing about tokens of ours: it may even lie before their issue.
            world.mark(kind, what, before(30));
            let refused = world.bearer(&token).err();
            assert_eq!(refused, dead.then_some(ReasonCode::CredentialRevoked), "{kind:?} {what}");
            let again = world.identifier.again(&world.directory(), &caller, NOW);
            assert_eq!(again.is_none(), dead, "{kind:?} {what}");
            // What was issued on the state that holds the mark lives.
            let revision = world.revision;
            let fresh =
                world.own(|c| private(c, &json!({"rev": revision, "kind": "user", "device": "laptop"})));
            assert!(world.bearer(&fresh).is_ok(), "{kind:?} {what}");
        }
    }
}

#[test]
fn a_mark_of_an_earlier_state_does_not_end_what_was_issued_after_it_whatever_the_clocks_say() {
    let mut world = World::new();
    world.revision = 40;
    world.mark(EpochKind::Principal, "user/alice", after(20));
    world.revision = 50;
    assert!(world.bearer(&world.own(|_| {})).is_ok());
    // Only a mark that is surely later, on a state whose revisions were set back, ends it all the same.
    world.epochs[0].not_before = after(51);
    assert_eq!(world.bearer(&world.own(|_| {})).unwrap_err(), ReasonCode::CredentialRevoked);
}

#[test]
fn inv_epoch_a_foreign_token_dies_when_it_was_issued_about_the_time_of_the_mark_or_earlier() {
    for (kind, what) in [
        (EpochKind::Tenant, "default"),
        (EpochKind::Principal, "user/alice"),
        (EpochKind::Issuer, "company"),
        (EpochKind::Client, "app"),
    ] {
        let mut world = World::new();
        let token = world.foreign(|_| {});
        assert!(world.bearer(&token).is_ok());
        world.mark(kind, what, before(69));
        assert_eq!(world.bearer(&token).err(), Some(ReasonCode::CredentialRevoked), "{kind:?}");
        let mut world = World::new();
        world.mark(kind, what, before(71));
        assert!(world.bearer(&token).is_ok(), "{kind:?}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Mark(usize, i64),
    Disable(u8),
    Remove(u8),
    Enable(u8),
    Agent,
    AgentEnds(i64),
    Reissue,
    KeyEnds(i64),
    Revision(u8),
    Authority(bool),
    Issuer(u8),
    Keys(bool),
    Pass(u16),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0..10_usize, -120..120_i64).prop_map(|(which, at)| Change::Mark(which, at)),
        1 => (1..6_u8).prop_map(Change::Disable),
        1 => (1..6_u8).prop_map(Change::Remove),
        2 => (1..6_u8).prop_map(Change::Enable),
        1 => Just(Change::Agent),
        1 => (-50..400_i64).prop_map(Change::AgentEnds),
        1 => Just(Change::Reissue),
        1 => (-50..400_i64).prop_map(Change::KeyEnds),
        1 => (40..60_u8).prop_map(Change::Revision),
        1 => any::<bool>().prop_map(Change::Authority),
        1 => (0..3_u8).prop_map(Change::Issuer),
        1 => any::<bool>().prop_map(Change::Keys),
        2 => (0..300_u16).prop_map(Change::Pass),
    ]
}

/// The world moves on. Gives how much later it is.
fn apply(world: &mut World, change: Change) -> u64 {
    let moment = |at: i64| bartizan_base::Timestamp::from_secs(NOW.as_secs().checked_add_signed(at).unwrap());
    let named = |n: u8| ["alice", "bob", "reporter", "helper", "batch"][usize::from(n) - 1];
    let place = |world: &World, n: u8| world.documents.iter().position(|d| d.name.as_str() == named(n));
    match change {
        Change::Mark(9, at) => world.mark(EpochKind::Issuer, "company", moment(at)),
        Change::Mark(which, at) => {
            let (kind, what, _) = &marks()[which];
            world.mark(*kind, what, moment(at));
        }
        Change::Disable(n) => {
            if let Some(at) = place(world, n) {
                match &mut world.documents[at].spec {
                    Spec::User(spec) => spec.status = Status::Disabled,
                    Spec::Agent(spec) | Spec::Workload(spec) => spec.status = Status::Disabled,
                    _ => {}
                }
            }
        }
        Change::Remove(n) => {
            if let Some(at) = place(world, n) {
                world.documents.remove(at);
            }
        }
        Change::Enable(n) => {
            if let Some(at) = place(world, n) {
                world.documents.remove(at);
            }
            world.documents.push(World::new().documents[usize::from(n) - 1].clone());
        }
        // An agent with the name of a workload.
        Change::Agent => world.documents.push(Document {
            name: name("batch"),
            principal: Some(id(60)),
            spec: Spec::Agent(agent("alice")),
        }),
        Change::AgentEnds(at) => {
            if let Some(place) = place(world, 3)
                && let Spec::Agent(spec) = &mut world.documents[place].spec
            {
                spec.expires_us = Some(moment(at));
            }
        }
        // The same name, another person.
        Change::Reissue => {
            if let Some(at) = place(world, 1) {
                world.documents[at].principal = Some(id(61));
                world.documents[at].spec = Spec::User(PrincipalSpec::default());
            }
        }
        Change::KeyEnds(at) => world.key_until = moment(at),
        Change::Revision(to) => world.revision = to.into(),
        Change::Authority(has) => world.has_authority = has,
        Change::Issuer(how) => {
            let mut spec = issuer();
            match how {
                0 => {}
                1 => spec.status = Status::Disabled,
                _ => spec.assurance_cap = 1,
            }
            *world.spec("company") = Spec::Issuer(spec);
        }
        Change::Keys(good) => {
            let keys = if good { vec![world.company.public_jwk()] } else { Vec::new() };
            let jwks = json!({ "keys": keys }).to_string();
            world.identifier.learn_keys(&name("company"), jwks.as_bytes(), NOW).unwrap();
        }
        Change::Pass(secs) => return secs.into(),
    }
    world.revision += u64::from(!matches!(change, Change::Revision(_) | Change::Mark(..)));
    0
}

fn told(result: Result<Caller, ReasonCode>) -> Result<String, ReasonCode> {
    // Everything there is to know of a caller, but how it came to be known.
    result.map(|caller| {
        let members: Vec<_> = caller.members().cloned().collect();
        format!(
            "{:?} {members:?} {:?} {:?} {:?} {:?} {:?}",
            caller.tenant(),
            caller.scopes(),
            caller.session(),
            caller.grant(),
            caller.client(),
            caller.who()
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn attack_43_what_is_remembered_is_what_a_fresh_verification_finds_whatever_has_happened_meanwhile(
        changes in proptest::collection::vec(change(), 1..12)
    ) {
        let mut world = World::new();
        let showings = [
            Showing::bearer(&full(&world)),
            Showing::bearer(&world.own(|c| c.act = [3, 5].map(|n| Actor::named(id(n).to_string())).to_vec())),
            Showing::bearer(&world.foreign(|_| {})),
            Showing::bearer(&world.foreign(|c| c["act"] = json!({"sub": "batch", "act": {"sub": "reporter"}}))),
            Showing::bearer(&world.foreign(|c| c["acr"] = json!("phrh"))),
        ];
        let mut later = 0;
        let mut keys_good = true;
        for change in changes {
            for showing in &showings {
                // Verified here and there, at whatever time.
                drop(world.show_with(&world.identifier, showing, after(later)));
            }
            later += apply(&mut world, change);
            if let Change::Keys(good) = change {
                keys_good = good;
            }
            let now = after(later);
            let fresh = Identifier::new();
            let keys = if keys_good { vec![world.company.public_jwk()] } else { Vec::new() };
            fresh.learn_keys(&name("company"), json!({"keys": keys}).to_string().as_bytes(), NOW).unwrap();
            for (n, showing) in showings.iter().enumerate() {
                let anew = told(world.show_with(&fresh, showing, now));
                let found = world.show_with(&world.identifier, showing, now);
                let again = found.as_ref().ok().map(|caller| world.identifier.again(&world.directory(), caller, now));
                let found = told(found);
                // How often an issuer is asked for its keys is no part of it.
                let asked = [Err(ReasonCode::IssuerKeysUnavailable), Err(ReasonCode::TokenSignatureInvalid)];
                if asked.contains(&anew) {
                    prop_assert!(asked.contains(&found), "{n} {change:?}: {found:?}");
                } else {
                    prop_assert_eq!(&found, &anew, "{} {:?}", n, change);
                }
                if let Some(again) = again {
                    prop_assert_eq!(told(again.ok_or(ReasonCode::StreamEnded)), found, "{} {:?}", n, change);
                }
            }
        }
    }
}
