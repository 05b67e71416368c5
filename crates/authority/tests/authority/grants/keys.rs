use bartizan_authority::keys::RotateKeys;
use bartizan_jose::Jws;
use bartizan_model::PrincipalKind;

use crate::grants::world::{Kept, TOOLS, World, alice, somebody};

const DAY: u64 = 24 * 3_600;

fn kid(token: &str) -> String {
    use base64::Engine as _;
    let head = token.split('.').next().unwrap();
    let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(head).unwrap();
    serde_json::from_slice::<serde_json::Value>(&head).unwrap()["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn keys_follow_one_another_with_every_token_verifiable_at_every_moment() {
    let world = World::new(Kept::Sqlite).await;
    let mut known = world.authority.jwks().unwrap();
    let mut kids = std::collections::BTreeSet::new();
    // A hundred days, in steps; others keep our set for up to a day.
    for step in 0..200 {
        world.pass(DAY / 2).await;
        world.authority.tend_keys().await.unwrap();
        let token = world.token(TOOLS).await;
        kids.insert(kid(&token));
        assert!(Jws::parse(&token).unwrap().verify(&known).is_ok(), "step {step}: known a day ahead");
        if step % 2 == 0 {
            known = world.authority.jwks().unwrap();
        }
        assert!(world.is_active(&token).await);
    }
    assert!((3..=5).contains(&kids.len()), "about one a month: {}", kids.len());
    assert!(world.authority.jwks().unwrap().iter().count() <= 3);
}

#[tokio::test]
async fn rotation_on_demand_announces_and_withdrawal_is_at_once() {
    let world = World::new(Kept::Memory).await;
    let bob = world.person(&somebody(PrincipalKind::User, "bob", 2));
    let refused = world.authority.rotate_keys(&world.person(&alice()), &RotateKeys::default()).await;
    assert!(refused.is_err(), "not everybody may");
    let before = world.token(TOOLS).await;
    let keys = world.authority.rotate_keys(&bob, &RotateKeys::default()).await.unwrap().value;
    assert_eq!(keys.iter().map(|k| k.state.as_str()).collect::<Vec<_>>(), ["signing", "published"]);
    assert_eq!(keys[0].ends, keys[1].signs, "no moment without a key, none with two");
    assert!(keys[0].gone > keys[1].signs, "tokens under the old one are verified for as long as they live");
    assert!(world.authority.rotate_keys(&bob, &RotateKeys::default()).await.is_err(), "one is on its way");
    assert_eq!(kid(&world.token(TOOLS).await), kid(&before), "not before it is known");
    world.pass(DAY + 1).await;
    let after = world.token(TOOLS).await;
    assert_ne!(kid(&after), kid(&before));
    let keys = world.authority.rotate_keys(&bob, &RotateKeys { compromised: true }).await.unwrap().value;
    assert_eq!(keys.iter().filter(|k| k.withdrawn).count(), 2);
    assert!(!world.is_active(&after).await, "tokens of a key that is not trusted are dead");
    let fresh = world.token(TOOLS).await;
    assert!(world.is_active(&fresh).await);
    assert_eq!(world.authority.jwks().unwrap().iter().count(), 1);
    assert_eq!(world.authority.list_keys(&bob).await.unwrap().value.len(), 3);
}

#[tokio::test]
async fn two_nodes_that_tend_the_keys_at_once_make_one_key() {
    let world = World::new(Kept::Sqlite).await;
    let other =
        bartizan_authority::Authority { issuing: std::sync::Arc::default(), ..world.authority.clone() };
    world.pass(29 * DAY + 1).await;
    let (one, two) = tokio::join!(world.authority.tend_keys(), other.tend_keys());
    one.unwrap();
    two.unwrap();
    world.keeper.watch().await.unwrap();
    assert_eq!(world.authority.jwks().unwrap().iter().count(), 2, "the old and the next");
}

#[tokio::test]
async fn private_halves_lie_sealed() {
    let world = World::new(Kept::Memory).await;
    let state = world.view().state;
    let row = state.rows.iter().find(|row| row.kind == bartizan_store::RowKind::SigningKey).unwrap();
    assert!(row.body.contains("\"sealed\""));
    assert!(!row.body.contains("\"d\""));
}
