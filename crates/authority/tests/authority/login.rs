//! Logging in, as an enemy would try it: numbers 45 to 51 of the catalogue of attacks.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod attestation;
mod authenticator;
mod memberships;
mod providers;
mod world;

use std::sync::atomic::Ordering;

use aws_lc_rs::hmac;
use bartizan_authority::kept::Reach;
use bartizan_authority::login::{AuthenticatorKind, PasswordAnswer, RecoveryAnswer, SignedIn};
use bartizan_base::Clock as _;
use bartizan_control::Stopped;
use bartizan_model::{Action, AssuranceLevel, ReasonCode, RiskLevel, Tenant};
use bartizan_secret::Secret;
use bartizan_store::{Change, RowKind, Rows as _};

use authenticator::Authenticator;
use world::{Browser, World};

const ISSUER: &str = "https://id.example.com";
const PHRASE: &str = "mistvogel quelle abendbrot";

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn reason<T>(result: Result<T, Stopped>) -> ReasonCode {
    match result {
        Ok(_) => panic!("it was let through"),
        Err(stopped) => stopped.problem.reason,
    }
}

/// Enrols a passkey for somebody new, and gives the browser that is signed in with it.
async fn with_passkey(world: &World, name: &'static str, id: &str) -> (Browser, Authenticator) {
    let mut browser = Browser::new(&world.login);
    let who = world.enrolling(&mut browser, name).await;
    let mut key = Authenticator::new(id);
    enrol(world, &browser, &who, &mut key).await.unwrap();
    sign_in(world, &mut browser, &mut key).await.unwrap();
    (browser, key)
}

async fn enrol(
    world: &World,
    browser: &Browser,
    who: &SignedIn,
    key: &mut Authenticator,
) -> Result<(), Stopped> {
    enrol_as(world, browser, who, key, false).await
}

/// The same; `attested` as whoever wants their key's maker to vouch for it.
async fn enrol_as(
    world: &World,
    browser: &Browser,
    who: &SignedIn,
    key: &mut Authenticator,
    attested: bool,
) -> Result<(), Stopped> {
    let offer = world.login.offer_passkey(&browser.visitor(), who, attested).await?;
    let answer = key.create(&offer.options);
    world.login.enrol_passkey(&browser.visitor(), who, &offer.step, &answer, "Laptop").await.map(drop)
}

async fn sign_in(world: &World, browser: &mut Browser, key: &mut Authenticator) -> Result<(), Stopped> {
    let ask = world.login.ask_passkey(&browser.visitor())?;
    let answer = key.get(&ask.options);
    let entered = world.login.passkey(&browser.visitor(), &ask.step, &answer).await?;
    browser.take(&entered);
    Ok(())
}

fn code(base32: &str, seconds: u64) -> String {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: String = base32.chars().map(|c| format!("{:05b}", alphabet.find(c).unwrap())).collect();
    let key: Vec<u8> =
        (0..bits.len() / 8).map(|n| u8::from_str_radix(&bits[n * 8..n * 8 + 8], 2).unwrap()).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let tag = hmac::sign(&key, &(seconds / 30).to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let n = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", n % 1_000_000)
}

/// Enrols a password and codes; gives the secret of the codes.
async fn with_password_and_codes(world: &World, name: &'static str) -> String {
    let mut browser = Browser::new(&world.login);
    let who = world.enrolling(&mut browser, name).await;
    world.login.set_password(&who, &secret(PHRASE)).await.unwrap();
    let offer = world.login.offer_totp(&browser.visitor(), &who).await.unwrap();
    let first = code(offer.secret.expose(), world.clock.now().as_secs());
    world.login.confirm_totp(&browser.visitor(), &who, &offer.step, &first).await.unwrap();
    world.advance(60);
    offer.secret.expose().clone()
}

#[tokio::test]
async fn a_person_is_invited_enrols_a_passkey_and_signs_in_with_it() {
    let world = World::new().await;
    let (browser, _) = with_passkey(&world, "alice", "k1").await;
    let who = world.who(&browser).await.unwrap();
    assert_eq!(who.principal.name.as_str(), "alice");
    let assurance = &who.session.value.assurance;
    assert_eq!(assurance.level, AssuranceLevel::Aal2PhishingResistant);
    assert_eq!(assurance.methods.iter().map(|m| m.as_str()).collect::<Vec<_>>(), ["hwk", "mfa", "user"]);
    assert_eq!(who.session.value.reach, Reach::Full);
    assert!(who.person().is_some() && who.caller.scopes().cover(Action::GrantGive));
    assert_eq!(world.login.authenticators(&who).await.unwrap()[0].kind, AuthenticatorKind::Passkey);
}

#[tokio::test]
async fn an_invitation_is_good_once_and_only_for_enrolling() {
    let world = World::new().await;
    let mut browser = Browser::new(&world.login);
    let invited = world.login.invite(&world.caller(), &"alice".parse().unwrap()).await.unwrap().value;
    let link = invited.link.expose().rsplit('/').next().unwrap().to_owned();
    assert_eq!(
        world.login.invited(&link).await.unwrap().unwrap().name.as_str(),
        "alice",
        "a preview uses nothing up"
    );
    let entered = world.login.accept(&browser.visitor(), &link).await.unwrap();
    browser.take(&entered);
    assert_eq!(reason(world.login.accept(&browser.visitor(), &link).await), ReasonCode::InvitationInvalid);
    let who = world.who(&browser).await.unwrap();
    assert!(who.person().is_none(), "no grant is given and no token issued in it");
    for action in [Action::GrantGive, Action::TokenIssue, Action::KeyCreate, Action::DeviceEnrol] {
        assert!(!who.caller.scopes().cover(action), "{action:?}");
    }
    world.advance(21 * 60);
    assert!(world.who(&browser).await.is_none(), "and it is short");
    let late = world.login.invite(&world.caller(), &"alice".parse().unwrap()).await.unwrap().value;
    world.advance(4 * 24 * 3_600);
    let late = late.link.expose().rsplit('/').next().unwrap().to_owned();
    assert_eq!(reason(world.login.accept(&browser.visitor(), &late).await), ReasonCode::InvitationInvalid);
}

#[tokio::test]
async fn attack_45_passkeys_of_other_origins_frames_and_parties_are_refused() {
    let world = World::new().await;
    let (mut browser, mut key) = with_passkey(&world, "alice", "k1").await;
    for origin in [
        "https://evil.example",
        "https://evilid.example.com",
        "https://id.example.com.evil.example",
        "https://sub.id.example.com",
        "https://example.com",
        "http://id.example.com",
        "https://id.example.com:8443",
    ] {
        key.origin = origin.to_owned();
        assert_eq!(
            reason(sign_in(&world, &mut browser, &mut key).await),
            ReasonCode::LoginFailed,
            "{origin}"
        );
    }
    key.origin = ISSUER.to_owned();
    key.rp = "example.com".to_owned();
    assert_eq!(reason(sign_in(&world, &mut browser, &mut key).await), ReasonCode::LoginFailed, "rpIdHash");
    key.rp = "id.example.com".to_owned();
    key.cross_origin = Some(true);
    assert_eq!(
        reason(sign_in(&world, &mut browser, &mut key).await),
        ReasonCode::LoginFailed,
        "in a frame of another site"
    );
    key.cross_origin = Some(false);
    key.verifies = false;
    assert_eq!(
        reason(sign_in(&world, &mut browser, &mut key).await),
        ReasonCode::LoginFailed,
        "nobody was verified"
    );
    key.verifies = true;
    sign_in(&world, &mut browser, &mut key).await.unwrap();
}

#[tokio::test]
async fn attack_45_a_challenge_is_good_once_in_one_browser_and_for_a_while() {
    let world = World::new().await;
    let (browser, mut key) = with_passkey(&world, "alice", "k1").await;
    let ask = world.login.ask_passkey(&browser.visitor()).unwrap();
    let answer = key.get(&ask.options);
    let other = Browser::new(&world.login);
    assert_eq!(
        reason(world.login.passkey(&other.visitor(), &ask.step, &answer).await),
        ReasonCode::LoginStale
    );
    world.login.passkey(&browser.visitor(), &ask.step, &answer).await.unwrap();
    assert_eq!(
        reason(world.login.passkey(&browser.visitor(), &ask.step, &answer).await),
        ReasonCode::LoginFailed,
        "the counter has moved on"
    );
    // The same challenge again, by a new signature with a higher counter.
    let again = key.get(&ask.options);
    assert_eq!(
        reason(world.login.passkey(&browser.visitor(), &ask.step, &again).await),
        ReasonCode::LoginStale
    );
    let ask = world.login.ask_passkey(&browser.visitor()).unwrap();
    let answer = key.get(&ask.options);
    world.advance(5 * 60 + 1);
    assert_eq!(
        reason(world.login.passkey(&browser.visitor(), &ask.step, &answer).await),
        ReasonCode::LoginStale
    );
    let mut forged = ask.step.clone();
    forged.replace_range(40..41, if &forged[40..41] == "A" { "B" } else { "A" });
    assert_eq!(
        reason(world.login.passkey(&browser.visitor(), &forged, &answer).await),
        ReasonCode::LoginStale
    );
}

#[tokio::test]
async fn attack_45_somebody_elses_credential_and_a_clone_are_refused() {
    let world = World::new().await;
    let (mut hers, mut key) = with_passkey(&world, "alice", "k1").await;
    let (mut his, mut other) = with_passkey(&world, "bob", "k2").await;
    let bob = *world.who(&his).await.unwrap().principal.id.as_bytes();
    let alice = *world.who(&hers).await.unwrap().principal.id.as_bytes();
    key.means(&bob);
    assert_eq!(
        reason(sign_in(&world, &mut hers, &mut key).await),
        ReasonCode::LoginFailed,
        "her key for his name"
    );
    key.means(&alice);
    // A key that is nobody's here, for her name.
    let mut stranger = Authenticator::new("k3");
    stranger.means(&alice);
    assert_eq!(reason(sign_in(&world, &mut hers, &mut stranger).await), ReasonCode::LoginFailed);
    // A key of another pair under the id of hers.
    let mut twin = Authenticator::new("k1");
    twin.means(&alice);
    twin.counter = 100;
    assert_eq!(reason(sign_in(&world, &mut hers, &mut twin).await), ReasonCode::LoginFailed);
    sign_in(&world, &mut his, &mut other).await.unwrap();
    other.counter -= 1;
    assert_eq!(
        reason(sign_in(&world, &mut his, &mut other).await),
        ReasonCode::LoginFailed,
        "the counter stood still"
    );
    other.counter = 0;
    assert_eq!(reason(sign_in(&world, &mut his, &mut other).await), ReasonCode::LoginFailed, "and went back");
}

#[tokio::test]
async fn attack_45_enrolment_refuses_attestation_that_nobody_asked_for_other_sessions_and_taken_credentials()
{
    let world = World::new().await;
    let (browser, _) = with_passkey(&world, "alice", "k1").await;
    let who = world.who(&browser).await.unwrap();
    let mut key = Authenticator::new("k9");
    key.format = "packed";
    assert_eq!(reason(enrol(&world, &browser, &who, &mut key).await), ReasonCode::AuthenticatorRefused);
    key.format = "none";
    key.verifies = false;
    assert_eq!(reason(enrol(&world, &browser, &who, &mut key).await), ReasonCode::AuthenticatorRefused);
    key.verifies = true;
    key.origin = "https://evil.example".to_owned();
    assert_eq!(reason(enrol(&world, &browser, &who, &mut key).await), ReasonCode::AuthenticatorRefused);
    key.origin = ISSUER.to_owned();
    // An offer to her, answered in his session.
    let (his, _) = with_passkey(&world, "bob", "k2").await;
    let bob = world.who(&his).await.unwrap();
    let offer = world.login.offer_passkey(&browser.visitor(), &who, false).await.unwrap();
    let answer = key.create(&offer.options);
    let crossed = world.login.enrol_passkey(&his.visitor(), &bob, &offer.step, &answer, "").await;
    assert_eq!(reason(crossed), ReasonCode::LoginStale);
    world.login.enrol_passkey(&browser.visitor(), &who, &offer.step, &answer, "").await.unwrap();
    let again = world.login.enrol_passkey(&browser.visitor(), &who, &offer.step, &answer, "").await;
    assert_eq!(reason(again), ReasonCode::Conflict, "an offer is taken once");
    // The same credential for somebody else.
    let mut taken = Authenticator::new("k1");
    assert_eq!(reason(enrol(&world, &his, &bob, &mut taken).await), ReasonCode::Conflict);
}

#[tokio::test]
async fn attack_46_nothing_is_enrolled_or_removed_by_an_old_or_weak_login() {
    let world = World::new().await;
    let (mut browser, mut key) = with_passkey(&world, "alice", "k1").await;
    world.advance(11 * 60);
    let who = world.who(&browser).await.unwrap();
    let mut new = Authenticator::new("k2");
    assert_eq!(reason(enrol(&world, &browser, &who, &mut new).await), ReasonCode::LoginTooOld);
    assert_eq!(reason(world.login.set_password(&who, &secret(PHRASE)).await), ReasonCode::LoginTooOld);
    assert_eq!(reason(world.login.offer_totp(&browser.visitor(), &who).await), ReasonCode::LoginTooOld);
    assert_eq!(reason(world.login.make_recovery_codes(&who).await), ReasonCode::LoginTooOld);
    let id = world.login.authenticators(&who).await.unwrap()[0].id;
    assert_eq!(reason(world.login.remove_authenticator(&who, id).await), ReasonCode::LoginTooOld);
    // Proven once more, it is the same session under a new cookie.
    let before = (who.session.value.id, browser.cookies.clone());
    sign_in(&world, &mut browser, &mut key).await.unwrap();
    let who = world.who(&browser).await.unwrap();
    assert_eq!(who.session.value.id, before.0);
    let old = Browser { cookies: before.1, address: None };
    assert!(world.who(&old).await.is_none(), "the old cookie is worth nothing");
    enrol(&world, &browser, &who, &mut new).await.unwrap();
    // By a password alone, though there is a passkey.
    world.login.set_password(&who, &secret(PHRASE)).await.unwrap();
    let mut weak = Browser::new(&world.login);
    let PasswordAnswer::Entered(entered) =
        world.login.password(&weak.visitor(), "alice", &secret(PHRASE)).await.unwrap()
    else {
        panic!("no second factor was enrolled")
    };
    weak.take(&entered);
    let who = world.who(&weak).await.unwrap();
    assert_eq!(who.session.value.assurance.level, AssuranceLevel::Aal1);
    assert_eq!(
        reason(enrol(&world, &weak, &who, &mut Authenticator::new("k4")).await),
        ReasonCode::LoginTooOld
    );
}

#[tokio::test]
async fn the_last_authenticator_stays() {
    let world = World::new().await;
    let (browser, _) = with_passkey(&world, "alice", "k1").await;
    let who = world.who(&browser).await.unwrap();
    let id = world.login.authenticators(&who).await.unwrap()[0].id;
    assert_eq!(reason(world.login.remove_authenticator(&who, id).await), ReasonCode::Conflict);
    enrol(&world, &browser, &who, &mut Authenticator::new("k2")).await.unwrap();
    world.login.remove_authenticator(&who, id).await.unwrap();
    assert_eq!(reason(world.login.remove_authenticator(&who, id).await), ReasonCode::NotFound);
}

#[tokio::test]
async fn attack_47_a_code_is_good_once_also_for_two_at_the_same_moment() {
    let world = World::new().await;
    let base32 = with_password_and_codes(&world, "alice").await;
    let (one, two) = (Browser::new(&world.login), Browser::new(&world.login));
    let mut steps = Vec::new();
    for browser in [&one, &two] {
        match world.login.password(&browser.visitor(), "alice", &secret(PHRASE)).await.unwrap() {
            PasswordAnswer::Second(step) => steps.push(step),
            PasswordAnswer::Entered(_) => panic!("a code is missing"),
        }
    }
    let now = code(&base32, world.clock.now().as_secs());
    let (one, two) = (one.visitor(), two.visitor());
    let (a, b) =
        tokio::join!(world.login.second(&one, &steps[0], &now), world.login.second(&two, &steps[1], &now));
    assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1, "one of them");
    let late = if a.is_ok() { (&two, &steps[1]) } else { (&one, &steps[0]) };
    assert_eq!(reason(world.login.second(late.0, late.1, &now).await), ReasonCode::LoginFailed);
    world.advance(120);
    let older = code(&base32, world.clock.now().as_secs() - 90);
    assert_eq!(
        reason(world.login.second(late.0, late.1, &older).await),
        ReasonCode::LoginFailed,
        "drifted too far"
    );
    let entered =
        world.login.second(late.0, late.1, &code(&base32, world.clock.now().as_secs())).await.unwrap();
    assert_eq!(entered.reach, Reach::Full);
    world.advance(60);
    let again = world.login.second(late.0, late.1, &code(&base32, world.clock.now().as_secs())).await;
    assert_eq!(reason(again), ReasonCode::LoginStale, "the password has to be given again");
}

#[tokio::test]
async fn attack_47_codes_cannot_be_guessed_by_trying() {
    let world = World::new().await;
    let base32 = with_password_and_codes(&world, "alice").await;
    let browser = Browser::new(&world.login);
    let PasswordAnswer::Second(step) =
        world.login.password(&browser.visitor(), "alice", &secret(PHRASE)).await.unwrap()
    else {
        panic!("a code is missing")
    };
    let right = code(&base32, world.clock.now().as_secs());
    let mut looked_at = 0;
    for guess in (0..1_000).map(|n| format!("{n:06}")).filter(|guess| *guess != right) {
        match reason(world.login.second(&browser.visitor(), &step, &guess).await) {
            ReasonCode::LoginFailed => looked_at += 1,
            ReasonCode::LoginThrottled => break,
            other => panic!("{other}"),
        }
    }
    assert!(looked_at <= 5, "{looked_at}");
    assert_eq!(
        reason(world.login.second(&browser.visitor(), &step, &right).await),
        ReasonCode::LoginThrottled
    );
}

#[tokio::test]
async fn attack_48_known_and_unknown_names_cost_and_say_the_same() {
    let world = World::new().await;
    with_password_and_codes(&world, "alice").await;
    let mut seen = Vec::new();
    // With a password and codes; with nothing; nobody.
    for (name, address) in [("alice", "192.0.2.1"), ("bob", "203.0.113.1"), ("nobody", "198.51.100.1")] {
        let browser = Browser { address: Some(address), ..Browser::new(&world.login) };
        let before = (world.login.hashes(), world.reads.load(Ordering::Relaxed));
        let Err(stopped) =
            world.login.password(&browser.visitor(), name, &secret("wrong horse battery staple")).await
        else {
            panic!("let in")
        };
        let cost = (world.login.hashes() - before.0, world.reads.load(Ordering::Relaxed) - before.1);
        let recover = world.login.recover(&browser.visitor(), name, &secret("AAAAA-AAAAA-AAAAA-AAAAA")).await;
        let reads = world.reads.load(Ordering::Relaxed) - before.1 - cost.1;
        assert!(stopped.receipt.is_some(), "it is recorded");
        seen.push((cost, reads, stopped.problem.message(), reason(recover)));
    }
    assert_eq!(seen[0].0.0, 1, "one hash");
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    // Whoever may not come in hears the same, also with the right password.
    world.disable("alice").await;
    let browser = Browser { address: Some("192.0.2.9"), ..Browser::new(&world.login) };
    let answer = world.login.password(&browser.visitor(), "alice", &secret(PHRASE)).await;
    assert!(
        answer.is_ok_and(|answer| matches!(answer, PasswordAnswer::Second(_))),
        "nothing is said before the end"
    );
}

#[tokio::test]
async fn attack_49_guessing_is_slowed_for_unknown_names_alike_and_locks_nobody_out() {
    let world = World::new().await;
    let (mut hers, mut key) = with_passkey(&world, "alice", "k1").await;
    let who = world.who(&hers).await.unwrap();
    world.login.set_password(&who, &secret(PHRASE)).await.unwrap();
    for name in ["alice", "nobody"] {
        let reasons = async |n: u8| {
            let address: &'static str = Box::leak(format!("10.{n}.{}.1", name.len()).into_boxed_str());
            let browser = Browser { address: Some(address), ..Browser::new(&world.login) };
            reason(world.login.password(&browser.visitor(), name, &secret("guess")).await)
        };
        for n in 0..5 {
            assert_eq!(reasons(n).await, ReasonCode::LoginFailed, "{name} {n}");
        }
        assert_eq!(reasons(5).await, ReasonCode::LoginThrottled, "{name}");
    }
    // Her own browser and her passkey go on.
    let PasswordAnswer::Entered(_) =
        world.login.password(&hers.visitor(), "alice", &secret(PHRASE)).await.unwrap()
    else {
        panic!("no second factor was enrolled")
    };
    sign_in(&world, &mut hers, &mut key).await.unwrap();
    let mut elsewhere = Browser { address: Some("10.0.0.1"), ..Browser::new(&world.login) };
    sign_in(&world, &mut elsewhere, &mut key).await.unwrap();
}

#[tokio::test]
async fn attack_50_a_recovery_waits_is_told_and_can_be_stopped() {
    let world = World::new().await;
    let (browser, _) = with_passkey(&world, "alice", "k1").await;
    let who = world.who(&browser).await.unwrap();
    let codes = world.login.make_recovery_codes(&who).await.unwrap().value;
    let thief = Browser { address: Some("203.0.113.5"), ..Browser::new(&world.login) };
    let RecoveryAnswer::Waits(_) = world.login.recover(&thief.visitor(), "alice", &codes[0]).await.unwrap()
    else {
        panic!("it did not wait")
    };
    let told = world.login.pending_recovery(&who).await.unwrap().unwrap();
    assert_eq!(told.network, "203.0.113.0/24");
    world.login.stop_recovery(&who).await.unwrap();
    world.advance(25 * 3_600);
    assert_eq!(
        reason(world.login.recover(&thief.visitor(), "alice", &codes[0]).await),
        ReasonCode::LoginFailed
    );
}

#[tokio::test]
async fn attack_50_a_recovery_is_weak_and_leads_to_enrolling_only() {
    let world = World::new().await;
    let (browser, _) = with_passkey(&world, "root", "k1").await;
    let who = world.who(&browser).await.unwrap();
    let codes = world.login.make_recovery_codes(&who).await.unwrap().value;
    let mut lost = Browser::new(&world.login);
    let RecoveryAnswer::Waits(until) = world.login.recover(&lost.visitor(), "root", &codes[3]).await.unwrap()
    else {
        panic!("it did not wait")
    };
    world.advance(24 * 3_600 - 1);
    let RecoveryAnswer::Waits(still) = world.login.recover(&lost.visitor(), "root", &codes[3]).await.unwrap()
    else {
        panic!("too early")
    };
    assert_eq!(until, still, "asking again does not prolong it");
    world.advance(1);
    let RecoveryAnswer::Entered(entered) =
        world.login.recover(&lost.visitor(), "root", &codes[3]).await.unwrap()
    else {
        panic!("it is time")
    };
    lost.take(&entered);
    let weak = world.who(&lost).await.unwrap();
    assert_eq!(
        (weak.session.value.reach, weak.session.value.assurance.level),
        (Reach::Enrol, AssuranceLevel::Aal1)
    );
    // An administrator, and yet: nothing but enrolling.
    let invited = world.login.invite(&weak.caller, &"alice".parse().unwrap()).await;
    assert_eq!(reason(invited), ReasonCode::ScopeInsufficient);
    assert_eq!(
        reason(world.login.recover(&lost.visitor(), "root", &codes[3]).await),
        ReasonCode::LoginFailed,
        "once"
    );
    let mut key = Authenticator::new("k2");
    enrol(&world, &lost, &weak, &mut key).await.unwrap();
    sign_in(&world, &mut lost, &mut key).await.unwrap();
    assert_eq!(world.who(&lost).await.unwrap().session.value.reach, Reach::Full);
}

#[tokio::test]
async fn sessions_end_unused_at_last_and_when_their_owner_ends_them() {
    let world = World::new().await;
    let (mut one, mut key) = with_passkey(&world, "alice", "k1").await;
    let mut two = Browser { address: Some("203.0.113.5"), ..Browser::new(&world.login) };
    sign_in(&world, &mut two, &mut key).await.unwrap();
    // Used every half hour, it lives on; the other one ends unused.
    for _ in 0..4 {
        world.advance(1_800);
        assert!(world.who(&one).await.is_some());
    }
    assert!(world.who(&two).await.is_none());
    for _ in 0..48 {
        world.advance(1_800);
        world.who(&one).await;
    }
    assert!(world.who(&one).await.is_none(), "after a day whatever happens");
    sign_in(&world, &mut one, &mut key).await.unwrap();
    sign_in(&world, &mut two, &mut key).await.unwrap();
    let who = world.who(&one).await.unwrap();
    let sessions = world.login.sessions(&who).await.unwrap().value;
    assert_eq!((sessions.len(), sessions.iter().filter(|s| s.is_this).count()), (2, 1));
    world.login.end_other_sessions(&who).await.unwrap();
    assert!(world.who(&two).await.is_none() && world.who(&one).await.is_some());
    world.login.end_session(&who, who.session.value.id).await.unwrap();
    assert!(world.who(&one).await.is_none());
    assert_eq!(reason(world.login.end_session(&who, who.session.value.id).await), ReasonCode::NotFound);
}

#[tokio::test]
async fn a_session_is_judged_anew_each_time_and_nobody_ends_somebody_elses() {
    let world = World::new().await;
    let (hers, _) = with_passkey(&world, "alice", "k1").await;
    let (his, mut key) = with_passkey(&world, "bob", "k2").await;
    let (alice, bob) = (world.who(&hers).await.unwrap(), world.who(&his).await.unwrap());
    assert_eq!(reason(world.login.end_session(&bob, alice.session.value.id).await), ReasonCode::NotFound);
    let mut forged = hers.clone();
    let cookie = forged.cookies.get_mut("__Host-bartizan-session").unwrap();
    let id = cookie.split('.').next().unwrap().to_owned();
    *cookie = format!("{id}.{}", "A".repeat(43));
    assert!(world.who(&forged).await.is_none(), "the id alone is nothing");
    world.disable("bob").await;
    assert!(world.who(&his).await.is_none(), "disabled: dead on the next request");
    let mut his = his;
    assert_eq!(reason(sign_in(&world, &mut his, &mut key).await), ReasonCode::LoginFailed);
}

#[tokio::test]
async fn attack_09_every_login_sets_new_cookies_and_fixes_nothing() {
    let world = World::new().await;
    let (mut browser, mut key) = with_passkey(&world, "alice", "k1").await;
    let planted = browser.cookies.clone();
    sign_in(&world, &mut browser, &mut key).await.unwrap();
    for name in ["__Host-bartizan-session", "__Host-bartizan-visit", "__Host-bartizan-known"] {
        assert_ne!(planted[name], browser.cookies[name], "{name}");
    }
}

#[tokio::test]
async fn risk_is_assessed_with_reasons_and_kept_with_the_session() {
    let world = World::new().await;
    let (browser, mut key) = with_passkey(&world, "alice", "k1").await;
    assert_eq!(world.who(&browser).await.unwrap().session.value.risk.level, RiskLevel::Low);
    let mut stranger = Browser { address: Some("203.0.113.5"), ..Browser::new(&world.login) };
    sign_in(&world, &mut stranger, &mut key).await.unwrap();
    let who = world.who(&stranger).await.unwrap();
    let risk = &who.session.value.risk;
    assert_eq!(risk.level, RiskLevel::Medium);
    assert_eq!(risk.reasons.iter().map(|r| r.as_str()).collect::<Vec<_>>(), ["new_device", "new_network"]);
    assert_eq!(who.caller.subject().risk, *risk, "policy sees it");
}

#[tokio::test]
async fn inv_credential_no_secret_lies_in_a_row() {
    let world = World::new().await;
    let base32 = with_password_and_codes(&world, "alice").await;
    let (browser, _) = with_passkey(&world, "bob", "k1").await;
    let who = world.who(&browser).await.unwrap();
    let codes = world.login.make_recovery_codes(&who).await.unwrap().value;
    let invited = world.login.invite(&world.caller(), &"bob".parse().unwrap()).await.unwrap().value;
    let link = invited.link.expose().rsplit('/').next().unwrap().to_owned();
    let session = browser.cookies["__Host-bartizan-session"].split('.').nth(1).unwrap().to_owned();
    let mut all = String::new();
    for kind in RowKind::ALL {
        for row in world.store.rows(who.caller.tenant(), *kind, "", 1_000).await.unwrap() {
            all.push_str(&format!("{} {} {}\n", row.id, row.owner, row.body));
        }
    }
    assert!(all.len() > 1_000);
    for text in [PHRASE, &base32, codes[0].expose(), &link, &session] {
        assert!(!all.contains(text), "a secret lies there");
    }
}

fn device_proof(world: &World, key: &bartizan_jose::SigningKey, address: &str, jti: &str) -> String {
    let proof = bartizan_jose::DpopProof {
        jti: jti.to_owned(),
        htm: "POST".to_owned(),
        htu: address.to_owned(),
        issued: world.clock.now(),
        ath: None,
        nonce: None,
    };
    key.prove(&proof).unwrap().expose().clone()
}

#[tokio::test]
async fn a_device_is_enrolled_by_a_fresh_passkey_and_a_proof_of_its_key() {
    let world = World::new().await;
    let (browser, _) = with_passkey(&world, "alice", "k1").await;
    let who = world.who(&browser).await.unwrap();
    let random = bartizan_base::random::SeededRandom::new(3);
    let key = bartizan_jose::SigningKey::generate(bartizan_jose::Algorithm::Ed25519, &random).unwrap();
    let here = format!("{ISSUER}/account/device");
    let elsewhere = device_proof(&world, &key, "https://evil.example/account/device", "p0");
    assert_eq!(
        reason(world.login.enrol_device(&who, "laptop", &elsewhere).await),
        ReasonCode::AuthenticatorRefused
    );
    let proof = device_proof(&world, &key, &here, "p1");
    assert_eq!(
        world.login.enrol_device(&who, "laptop", &proof).await.unwrap().value.as_str(),
        "alice/laptop"
    );
    assert_eq!(reason(world.login.enrol_device(&who, "other", &proof).await), ReasonCode::Conflict);
    let (his, _) = with_passkey(&world, "bob", "k2").await;
    let bob = world.who(&his).await.unwrap();
    let again = device_proof(&world, &key, &here, "p2");
    assert_eq!(
        reason(world.login.enrol_device(&bob, "laptop", &again).await),
        ReasonCode::Conflict,
        "the key is taken"
    );
    assert_eq!(reason(world.login.remove_device(&bob, "alice/laptop").await), ReasonCode::NotFound);
    assert_eq!(world.login.own_devices(&who).unwrap().len(), 1);
    world.login.remove_device(&who, "alice/laptop").await.unwrap();
    assert_eq!(
        reason(world.login.enrol_device(&who, "laptop", &proof).await),
        ReasonCode::Conflict,
        "a proof is used once"
    );
    world.advance(11 * 60);
    let old = world.who(&browser).await.unwrap();
    let proof = device_proof(&world, &key, &here, "p3");
    assert_eq!(reason(world.login.enrol_device(&old, "laptop", &proof).await), ReasonCode::LoginTooOld);
}

/// Everything that rows say of `person`, and which kinds say it.
async fn told_of(world: &World, person: &str) -> Vec<RowKind> {
    let mut kinds = Vec::new();
    for kind in RowKind::ALL {
        let rows = world.store.rows(&Tenant::default_tenant(), *kind, "", 1_000).await.unwrap();
        kinds.extend(rows.iter().filter(|row| format!("{row:?}").contains(person)).map(|_| *kind));
    }
    kinds
}

#[tokio::test]
async fn whoever_leaves_for_good_leaves_nothing_behind() {
    let world = World::new().await;
    with_password_and_codes(&world, "alice").await;
    let (browser, _) = with_passkey(&world, "alice", "k1").await;
    let who = world.who(&browser).await.unwrap();
    world.login.make_recovery_codes(&who).await.unwrap();
    world.login.invite(&world.caller(), &"alice".parse().unwrap()).await.unwrap();
    let person = who.principal.id.to_string();
    let told = told_of(&world, &person).await;
    for kind in [RowKind::Session, RowKind::Passkey, RowKind::Password, RowKind::Totp, RowKind::Habit] {
        assert!(told.contains(&kind), "{kind:?}: {told:?}");
    }
    // What is known of them is forgotten where an erasure asks for it.
    let forgotten = world.login.authority.control.bonds.forget(who.principal.id).await.unwrap();
    assert!(
        matches!(forgotten.as_slice(), [Change::DeleteRow { kind: RowKind::Habit, .. }]),
        "{forgotten:?}"
    );
    let (control, alice) = (&world.login.authority.control, "alice".parse().unwrap());
    control.delete_document(&world.caller(), "user", &alice).await.unwrap();
    assert_eq!(told_of(&world, &person).await, []);
}

#[tokio::test]
async fn what_is_long_over_is_swept_and_nothing_else() {
    let world = World::new().await;
    let (browser, _) = with_passkey(&world, "alice", "k1").await;
    let who = world.who(&browser).await.unwrap();
    let ends = who.session.value.idle_ends.saturating_since(world.clock.now()).as_secs();
    let authority = &world.login.authority;
    let id = who.session.id.clone();
    let is_there = async || world.store.row(RowKind::Session, &id).await.unwrap().is_some();
    world.advance(ends + 60);
    assert!(world.who(&browser).await.is_none());
    authority.sweep().await.unwrap();
    assert!(is_there().await, "another node may still count on it");
    world.advance(15 * 60);
    assert!(authority.sweep().await.unwrap() > 0);
    assert!(!is_there().await);
    assert_eq!(authority.sweep().await.unwrap(), 0);
    assert!(told_of(&world, &who.principal.id.to_string()).await.contains(&RowKind::Passkey));
}
