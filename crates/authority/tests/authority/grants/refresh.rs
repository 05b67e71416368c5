use bartizan_authority::grant;
use bartizan_authority::oauth::TokenAnswer;

use crate::grants::world::{GATEWAY, Kept, TOOLS, World, alice, claims, code, form};

async fn refresh(
    world: &World,
    client: (&str, Option<u8>),
    token: &str,
    more: &[(&str, &str)],
) -> Result<TokenAnswer, bartizan_authority::oauth::OauthError> {
    let client = world.client(client.0, client.1);
    let mut pairs = vec![("refresh_token", token), ("resource", GATEWAY)];
    pairs.extend(more);
    grant::refresh(&world.authority, &client, &form(&pairs)).await
}

fn next(answer: &TokenAnswer) -> String {
    answer.refresh_token.as_ref().unwrap().expose().clone()
}

#[tokio::test]
async fn a_login_is_refreshed_with_less_and_never_with_more() {
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("cli", None).await;
    let first = world.log_in(&world.client("cli", None), &grant, GATEWAY).await;
    let one = claims(first.access_token.expose());
    let own = one.others["bartizan"].as_object().unwrap();
    assert_eq!(own["grant"], grant.id.to_string());
    assert!(own["under"][0].as_str().unwrap().starts_with("fam_"));
    assert_eq!(
        (own["kind"].as_str(), own["rev"].as_u64()),
        (Some("user"), Some(world.view().state.revision))
    );
    assert_eq!((one.acr.as_deref(), one.auth_time), (Some("aal2"), Some(world.login().at)));
    assert_eq!(one.times.expires.saturating_since(one.times.issued).as_secs(), 300);
    assert_eq!((first.token_type, first.expires_in_s), ("Bearer", 300));
    world.pass(3_600).await;
    let second =
        refresh(&world, ("cli", None), &next(&first), &[("scope", "model:list openid")]).await.unwrap();
    assert_eq!(second.scope, "model:list openid");
    let two = claims(second.access_token.expose());
    assert_eq!((two.acr.clone(), two.auth_time), (one.acr.clone(), one.auth_time), "a login is not renewed");
    assert_ne!(two.jti, one.jti);
    // The next one is again for all that was allowed, at any address that was.
    let third = refresh_at(&world, &next(&second), TOOLS).await;
    assert!(third.scope.contains("tool:call"));
    assert!(claims(third.access_token.expose()).is_for(TOOLS));
}

async fn refresh_at(world: &World, token: &str, resource: &str) -> TokenAnswer {
    let client = world.client("cli", None);
    grant::refresh(&world.authority, &client, &form(&[("refresh_token", token), ("resource", resource)]))
        .await
        .unwrap()
}

#[tokio::test]
async fn an_id_token_names_the_login_and_the_access_token_it_came_with() {
    use bartizan_jose::{IdClaims, IdRules, Jws, TimeRules, verify};
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("cli", None).await;
    let answer = world.log_in(&world.client("cli", None), &grant, GATEWAY).await;
    let rules = |nonce| IdRules {
        issuer: crate::grants::world::ISSUER,
        client_id: "cli",
        trusted_audiences: &[],
        nonce,
        age_max: None,
        access_token: Some(answer.access_token.expose()),
        code: None,
        time: TimeRules {
            now: world.now(),
            skew: std::time::Duration::ZERO,
            life_max: std::time::Duration::from_secs(300),
        },
    };
    let text = answer.id_token.as_ref().unwrap().expose();
    let keys = world.authority.jwks().unwrap();
    let id = verify::<IdClaims>(&Jws::parse(text).unwrap(), &keys, &rules(Some("n-1"))).unwrap();
    assert!(id.at_hash.is_some());
    assert_eq!((id.sub.clone(), id.acr.as_deref()), (alice().id.to_string(), Some("aal2")));
    assert_eq!(id.auth_time, Some(world.login().at));
    assert!(verify::<IdClaims>(&Jws::parse(text).unwrap(), &keys, &rules(Some("n-2"))).is_err());
    let again = refresh(&world, ("cli", None), &next(&answer), &[]).await.unwrap();
    let again = Jws::parse(again.id_token.as_ref().unwrap().expose()).unwrap().unverified_payload().to_vec();
    assert!(!String::from_utf8(again).unwrap().contains("nonce"));
}

#[tokio::test]
async fn attack_13_a_replay_after_the_grace_window_ends_the_family_and_what_was_issued_to_it() {
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("cli", None).await;
    let first = world.log_in(&world.client("cli", None), &grant, TOOLS).await;
    let other = world.log_in(&world.client("cli", None), &grant, TOOLS).await;
    let second = refresh(&world, ("cli", None), &next(&first), &[]).await.unwrap();
    world.pass(30).await;
    let same = refresh(&world, ("cli", None), &next(&first), &[]).await.unwrap();
    assert_eq!(next(&same), next(&second), "within the window, the same successor");
    world.pass(16).await;
    assert!(world.is_active(first.access_token.expose()).await);
    assert_eq!(code(refresh(&world, ("cli", None), &next(&first), &[]).await), "invalid_grant");
    // The thief's and the owner's token are dead alike, and so is the access token; the other login lives on.
    assert_eq!(code(refresh(&world, ("cli", None), &next(&second), &[]).await), "invalid_grant");
    assert!(!world.is_active(first.access_token.expose()).await);
    assert!(world.is_active(other.access_token.expose()).await);
    assert!(refresh(&world, ("cli", None), &next(&other), &[]).await.is_ok());
}

#[tokio::test]
async fn attack_13_within_the_window_another_key_ends_the_family() {
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("cli", None).await;
    let first = world.log_in(&world.client("cli", Some(1)), &grant, GATEWAY).await;
    assert_eq!(first.token_type, "DPoP");
    let second = refresh(&world, ("cli", Some(1)), &next(&first), &[]).await.unwrap();
    assert_eq!(code(refresh(&world, ("cli", Some(2)), &next(&first), &[]).await), "invalid_grant");
    assert_eq!(code(refresh(&world, ("cli", Some(1)), &next(&second), &[]).await), "invalid_grant");
}

#[tokio::test]
async fn attack_14_another_key_client_scope_or_resource_is_refused_and_the_owner_goes_on() {
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("cli", None).await;
    let first = next(&world.log_in(&world.client("cli", Some(1)), &grant, GATEWAY).await);
    for (client, more, expected) in [
        (("cli", Some(2)), &[][..], "invalid_grant"),
        (("cli", None), &[], "invalid_grant"),
        (("web", Some(1)), &[], "invalid_grant"),
        (("cli", Some(1)), &[("scope", "house:change")], "invalid_scope"),
        (("cli", Some(1)), &[("scope", "model:invoke model:train")], "invalid_scope"),
    ] {
        assert_eq!(code(refresh(&world, client, &first, more).await), expected, "{client:?} {more:?}");
    }
    let client = world.client("cli", Some(1));
    let evil = form(&[("refresh_token", &first), ("resource", "https://evil.example")]);
    assert_eq!(code(grant::refresh(&world.authority, &client, &evil).await), "invalid_target");
    for garbage in ["", "brt_", "nonsense", first.split_at(first.len() - 4).0] {
        assert!(refresh(&world, ("cli", Some(1)), garbage, &[]).await.is_err());
    }
    assert!(refresh(&world, ("cli", Some(1)), &first, &[]).await.is_ok());
}

/// Many sessions of one program share one stored token and refresh it at the same moment (identity 0, point 2).
async fn concurrent(kept: Kept) {
    let world = std::sync::Arc::new(World::new(kept).await);
    let grant = world.consent("cli", None).await;
    let first = next(&world.log_in(&world.client("cli", None), &grant, GATEWAY).await);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (world, first) = (world.clone(), first.clone());
            tokio::spawn(async move { next(&refresh(&world, ("cli", None), &first, &[]).await.unwrap()) })
        })
        .collect();
    let mut successors = std::collections::BTreeSet::new();
    for task in tasks {
        successors.insert(task.await.unwrap());
    }
    assert_eq!(successors.len(), 1, "one successor for all");
    let successor = successors.pop_first().unwrap();
    assert!(refresh(&world, ("cli", None), &successor, &[]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attack_13_concurrent_presentations_get_one_successor_in_memory() {
    concurrent(Kept::Memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attack_13_concurrent_presentations_get_one_successor_on_sqlite() {
    concurrent(Kept::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attack_13_concurrent_presentations_get_one_successor_on_postgresql() {
    concurrent(Kept::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attack_13_two_processes_on_one_database_get_one_successor() {
    two_processes(Kept::Sqlite).await;
    two_processes(Kept::Postgres).await;
}

/// As two nodes would: nothing but the versions of rows stands between them.
async fn two_processes(kept: Kept) {
    let world = World::new(kept).await;
    let grant = world.consent("cli", None).await;
    let first = next(&world.log_in(&world.client("cli", None), &grant, GATEWAY).await);
    let other =
        bartizan_authority::Authority { issuing: std::sync::Arc::default(), ..world.authority.clone() };
    let tasks: Vec<_> = (0..12)
        .map(|number| {
            let authority = if number % 2 == 0 { world.authority.clone() } else { other.clone() };
            let client = world.client("cli", None);
            let form = form(&[("refresh_token", &first), ("resource", GATEWAY)]);
            tokio::spawn(async move { grant::refresh(&authority, &client, &form).await.map(|a| next(&a)) })
        })
        .collect();
    let mut successors = std::collections::BTreeSet::new();
    for task in tasks {
        successors.insert(task.await.unwrap().unwrap());
    }
    assert_eq!(successors.len(), 1);
}

#[tokio::test]
async fn a_family_ends_when_it_is_idle_for_a_week_and_after_a_month_in_any_case() {
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("cli", None).await;
    let day = 24 * 3_600;
    let mut token = next(&world.log_in(&world.client("cli", None), &grant, GATEWAY).await);
    let idle = next(&world.log_in(&world.client("cli", None), &grant, GATEWAY).await);
    for _ in 0..4 {
        world.pass(6 * day).await;
        token = next(&refresh(&world, ("cli", None), &token, &[]).await.unwrap());
    }
    assert_eq!(code(refresh(&world, ("cli", None), &idle, &[]).await), "invalid_grant");
    world.pass(6 * day).await;
    assert_eq!(code(refresh(&world, ("cli", None), &token, &[]).await), "invalid_grant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_grant_with_a_bound_is_used_exactly_so_often_however_many_ask_at_once() {
    used_up(Kept::Sqlite).await;
    used_up(Kept::Postgres).await;
}

async fn used_up(kept: Kept) {
    let world = std::sync::Arc::new(World::new(kept).await);
    let grant = world.consent("web", Some(5)).await;
    // Logins of their own, so that only the grant stands between them. They use it as well.
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(next(&world.log_in(&world.client("web", None), &grant, GATEWAY).await));
    }
    let tasks: Vec<_> = (0..9)
        .map(|number| {
            let (world, token) = (world.clone(), tokens[number % 3].clone());
            tokio::spawn(async move { refresh(&world, ("web", None), &token, &[]).await.is_ok() })
        })
        .collect();
    let mut issued = 0;
    for task in tasks {
        issued += usize::from(task.await.unwrap());
    }
    let listed = world.authority.list_grants(&world.person(&alice())).await.unwrap().value;
    assert_eq!((listed[0].uses, listed[0].state), (5, "used_up"));
    assert_eq!(issued, 2, "three logins and two refreshes are five");
}
