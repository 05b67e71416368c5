//! What was done in somebody's name, as they see it of themselves.

use bartizan_authority::grant;
use bartizan_authority::grants::GiveGrant;
use bartizan_control::{Acts, Control};
use bartizan_identify::Caller;
use bartizan_model::{Action, DecisionId, PrincipalKind, ReasonCode};

use crate::grants::world::{GATEWAY, Kept, World, alice, form, id, somebody};

const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

/// `helper` gets tokens in alice's name, and `barred`, whom policy lets have none, is refused.
async fn acted() -> World {
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("helper-app", None).await;
    let client = world.client("helper-app", None);
    let token = world.log_in(&client, &grant, GATEWAY).await.access_token.expose().clone();
    for agent in ["helper", "barred"] {
        let give = GiveGrant {
            agent: agent.parse().unwrap(),
            client: None,
            scopes: ["model:invoke".to_owned()].into(),
            resources: [GATEWAY.to_owned()].into(),
            life_s: 3_600,
            uses_max: None,
            details: Vec::new(),
        };
        world.authority.give_grant(&world.person(&alice()), &give).await.unwrap();
    }
    let asked = || form(&[("subject_token", &token), ("subject_token_type", ACCESS)]);
    for _ in 0..3 {
        world.pass(1).await;
        grant::exchange(&world.authority, &client, &asked()).await.unwrap();
    }
    let mut barred = world.client("barred-app", None);
    barred.client.serves.insert(GATEWAY.to_owned());
    grant::exchange(&world.authority, &barred, &asked()).await.unwrap_err();
    // What she does herself is no act of others, nor is what the agent does for itself.
    let own = form(&[("scope", "model:invoke"), ("resource", GATEWAY)]);
    grant::client_credentials(&world.authority, &client, &own).await.unwrap();
    sealed(&world.authority.control).await;
    world
}

async fn sealed(control: &Control) {
    control.recorder.seal_now().await.unwrap();
    control.archive.follow().await.unwrap();
}

async fn acts(
    world: &World,
    caller: &Caller,
    actor: Option<&str>,
    cursor: Option<&str>,
    limit: usize,
) -> Acts {
    world.authority.control.acts_in_own_name(caller, actor, cursor, limit).await.unwrap().value
}

#[tokio::test]
async fn a_person_sees_what_each_agent_did_in_her_name_page_by_page_and_nobody_elses() {
    let world = acted().await;
    let (hers, his) = (world.person(&alice()), world.person(&somebody(PrincipalKind::User, "bob", 2)));
    let all = acts(&world, &hers, None, None, 100).await;
    let told: Vec<_> = all.acts.iter().map(|act| (act.actors.join(" "), act.action, act.permitted)).collect();
    let issue = Some(Action::TokenIssue);
    let (helper, barred) = ("agent/helper".to_owned(), "agent/barred".to_owned());
    assert_eq!(told[0], (barred, issue, false), "the latest first: {told:?}");
    assert!(told[1..].iter().all(|act| *act == (helper.clone(), issue, true)), "{told:?}");
    assert_eq!((told.len(), all.next), (4, None));
    assert!(all.acts.windows(2).all(|two| two[0].at >= two[1].at));
    // Page by page it is the same, also where her looking at it was sealed in between.
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let page = acts(&world, &hers, None, cursor.as_deref(), 1).await;
        assert!(page.acts.len() <= 1);
        pages.extend(page.acts);
        sealed(&world.authority.control).await;
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(pages, all.acts);
    // One agent alone, by name or pseudonym, which outlives the name.
    for actor in ["agent/helper", &id(3).to_string()] {
        assert_eq!(acts(&world, &hers, Some(actor), None, 100).await.acts, all.acts[1..]);
    }
    assert_eq!(acts(&world, &his, None, None, 100).await.acts, []);
    assert_eq!(acts(&world, &his, Some("agent/helper"), None, 100).await.acts, []);
    for wrong in ["agent/nobody", "user/alice", "helper", "", "prn_*", "* or subject:prn_*"] {
        let told = world.authority.control.acts_in_own_name(&hers, Some(wrong), None, 10).await.unwrap_err();
        assert_eq!(told.problem.reason, ReasonCode::NotFound, "{wrong}");
    }
    let told = world.authority.control.acts_in_own_name(&hers, None, Some("x"), 10).await.unwrap_err();
    assert_eq!(told.problem.reason, ReasonCode::BodyMalformed);
}

#[tokio::test]
async fn a_cursor_of_hers_leads_nobody_to_what_was_done_in_her_name() {
    let world = acted().await;
    let (hers, his) = (world.person(&alice()), world.person(&somebody(PrincipalKind::User, "bob", 2)));
    let next = acts(&world, &hers, None, None, 1).await.next.unwrap();
    // Refused, or an answer to his own question: nothing of hers either way.
    if let Ok(done) = world.authority.control.acts_in_own_name(&his, None, Some(&next), 10).await {
        assert_eq!(done.value.acts, []);
    }
}

#[tokio::test]
async fn a_receipt_of_a_permitted_act_is_hers_alone_and_its_looking_up_is_recorded() {
    let world = acted().await;
    let control = &world.authority.control;
    let (hers, his) = (world.person(&alice()), world.person(&somebody(PrincipalKind::User, "bob", 2)));
    let all = acts(&world, &hers, None, None, 100).await.acts;
    let (refused, done) = (all[0].decision, all[1].decision);
    let found = control.own_receipt(&hers, done).await.unwrap();
    let (proof, entry) = &found.value;
    assert!(proof.starts_with("c2sp.org/tlog-proof@v1\n"), "{proof}");
    assert!(entry.contains(&done.to_string()) && entry.contains(&alice().id.to_string()));
    // That she looked is in the ledger, as an ask of hers; it is no act in her name.
    let kept = control.recorder.sealed_sizes();
    sealed(control).await;
    assert!(control.recorder.sealed_sizes().values().sum::<u64>() > kept.values().sum());
    assert_eq!(acts(&world, &hers, None, None, 100).await.acts, all);
    // Not his, although he may read the house: for that there is another way, which says so.
    let own = found.decision;
    let none = DecisionId::from_parts(world.now(), [7; 10]);
    for (caller, id) in [(&his, done), (&hers, refused), (&hers, own), (&hers, none)] {
        let told = control.own_receipt(caller, id).await.unwrap_err();
        assert_eq!(told.problem.reason, ReasonCode::NotFound);
        assert!(told.receipt.is_some() || told.problem.decision.is_some(), "asking is recorded as well");
    }
}
