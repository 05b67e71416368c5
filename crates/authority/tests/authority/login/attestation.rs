//! Authenticators whose makers vouch for them: who is believed, and what that is worth.

use bartizan_authority::login::SignedIn;
use bartizan_model::{Aaguid, AssuranceLevel, AttestationSpec, Document, ReasonCode, Spec, Status};

use crate::login::authenticator::{Authenticator, Root};
use crate::login::world::{Browser, World};
use crate::login::{enrol, enrol_as, reason, sign_in, with_passkey};

const MODEL: [u8; 16] = [0x2f; 16];
const OTHER: [u8; 16] = [0x41; 16];

fn spec(root: &Root, models: &[[u8; 16]], demanded: bool) -> AttestationSpec {
    AttestationSpec {
        status: Status::Active,
        root: root.pem.parse().unwrap(),
        aaguids: models.iter().map(|model| Aaguid::from_bytes(*model).unwrap()).collect(),
        demanded,
    }
}

fn declared(name: &str, spec: AttestationSpec) -> Document {
    Document { name: name.parse().unwrap(), principal: None, spec: Spec::Attestation(spec) }
}

/// An authenticator of the model, of a batch that the root has certified.
fn key(id: &str, root: &Root, model: [u8; 16]) -> Authenticator {
    let mut key = Authenticator::new(id);
    key.format = "packed";
    key.aaguid = model;
    key.maker = Some(root.certifies(model));
    key
}

async fn world_with(documents: Vec<Document>) -> (World, Browser, SignedIn) {
    let world = World::with(None, documents).await;
    let mut browser = Browser::new(&world.login);
    let who = world.enrolling(&mut browser, "alice").await;
    (world, browser, who)
}

async fn level(world: &World, browser: &Browser) -> AssuranceLevel {
    world.who(browser).await.unwrap().session.value.assurance.level
}

#[tokio::test]
async fn a_key_that_its_maker_vouches_for_reaches_level_4_and_a_passkey_that_nobody_vouches_for_level_3() {
    let root = Root::new("maker");
    let (world, mut browser, who) = world_with(vec![declared("maker", spec(&root, &[MODEL], false))]).await;
    let mut hardware = key("k1", &root, MODEL);
    enrol_as(&world, &browser, &who, &mut hardware, true).await.unwrap();
    let kept = world.login.authenticators(&who).await.unwrap().remove(0).attested.unwrap();
    assert_eq!(kept.aaguid, Aaguid::from_bytes(MODEL).unwrap());
    sign_in(&world, &mut browser, &mut hardware).await.unwrap();
    let assurance = world.who(&browser).await.unwrap().session.value.assurance;
    assert_eq!(assurance.level, AssuranceLevel::Aal3);
    assert_eq!(assurance.methods.iter().map(|m| m.as_str()).collect::<Vec<_>>(), ["hwk", "mfa", "user"]);
    // Beside it, what nobody vouches for is taken, and is worth what it always was: also of the same model.
    let who = world.who(&browser).await.unwrap();
    let mut plain = Authenticator::new("k2");
    plain.aaguid = MODEL;
    enrol(&world, &browser, &who, &mut plain).await.unwrap();
    sign_in(&world, &mut browser, &mut plain).await.unwrap();
    assert_eq!(level(&world, &browser).await, AssuranceLevel::Aal2PhishingResistant);
}

#[tokio::test]
async fn attack_45_attestation_that_is_not_in_policy_is_refused() {
    let (root, foreign) = (Root::new("maker"), Root::new("maker"));
    let second = Root::new("second");
    let (world, browser, who) = world_with(vec![
        declared("maker", spec(&root, &[MODEL], false)),
        declared("second", spec(&second, &[OTHER], false)),
    ])
    .await;
    let mut itself = key("k4", &root, MODEL);
    itself.maker = None;
    let mut silent = Authenticator::new("k5");
    silent.aaguid = MODEL;
    let mut copied = key("k6", &root, MODEL);
    copied.copies = (true, false);
    let mut backed_up = key("k7", &root, MODEL);
    backed_up.copies = (true, true);
    let mut pretends = key("k8", &root, MODEL);
    pretends.aaguid = OTHER;
    let mut framed = key("k9", &root, MODEL);
    framed.cross_origin = Some(true);
    let mut unverified = key("k10", &root, MODEL);
    unverified.verifies = false;
    for (what, mut key) in [
        ("a root of the same name that is not believed", key("k1", &foreign, MODEL)),
        ("a model that is not among those of the root", key("k2", &root, OTHER)),
        ("a model of another maker's root", key("k3", &second, MODEL)),
        ("itself alone", itself),
        ("nobody", silent),
        ("a key that can be copied", copied),
        ("a key that is copied", backed_up),
        ("another model than its batch is certified for", pretends),
        ("asked for in a frame", framed),
        ("nobody verified", unverified),
    ] {
        let refused = enrol_as(&world, &browser, &who, &mut key, true).await;
        assert_eq!(reason(refused), ReasonCode::AuthenticatorRefused, "{what}");
    }
    assert!(world.login.authenticators(&who).await.unwrap().is_empty());
    // Where it was not asked for, it is not taken either.
    let mut unasked = key("k11", &root, MODEL);
    assert_eq!(reason(enrol(&world, &browser, &who, &mut unasked).await), ReasonCode::AuthenticatorRefused);
}

#[tokio::test]
async fn where_it_is_demanded_nothing_else_is_enrolled_and_what_was_there_stays() {
    let root = Root::new("maker");
    let world = World::new().await;
    let (mut browser, mut old) = with_passkey(&world, "alice", "k0").await;
    let who = world.who(&browser).await.unwrap();
    assert_eq!(world.login.takes_attested(&who.tenant), (false, false));
    let asked = world.login.offer_passkey(&browser.visitor(), &who, true).await;
    assert_eq!(reason(asked), ReasonCode::AuthenticatorRefused, "nobody is believed");
    // An offer from before the demand is not answered after it.
    let before = world.login.offer_passkey(&browser.visitor(), &who, false).await.unwrap();
    let demanded = declared("maker", spec(&root, &[MODEL], true));
    let control = &world.login.authority.control;
    control.apply_documents(&world.caller(), &[demanded]).await.unwrap();
    assert_eq!(world.login.takes_attested(&who.tenant), (true, true));
    let mut plain = Authenticator::new("k1");
    let answer = plain.create(&before.options);
    let late = world.login.enrol_passkey(&browser.visitor(), &who, &before.step, &answer, "").await;
    assert_eq!(reason(late), ReasonCode::AuthenticatorRefused);
    assert_eq!(reason(enrol(&world, &browser, &who, &mut plain).await), ReasonCode::AuthenticatorRefused);
    let mut hardware = key("k2", &root, MODEL);
    enrol(&world, &browser, &who, &mut hardware).await.unwrap();
    sign_in(&world, &mut browser, &mut old).await.unwrap();
    assert_eq!(level(&world, &browser).await, AssuranceLevel::Aal2PhishingResistant);
}

#[tokio::test]
async fn a_model_that_is_no_longer_believed_is_worth_level_3_with_the_next_login() {
    let root = Root::new("maker");
    let (world, mut browser, who) = world_with(vec![declared("maker", spec(&root, &[MODEL], false))]).await;
    let mut hardware = key("k1", &root, MODEL);
    enrol_as(&world, &browser, &who, &mut hardware, true).await.unwrap();
    let control = &world.login.authority.control;
    for (changed, expected) in [
        (spec(&root, &[MODEL, OTHER], false), AssuranceLevel::Aal3),
        (spec(&root, &[OTHER], false), AssuranceLevel::Aal2PhishingResistant),
        (spec(&Root::new("maker"), &[MODEL], false), AssuranceLevel::Aal2PhishingResistant),
        (
            AttestationSpec { status: Status::Disabled, ..spec(&root, &[MODEL], false) },
            AssuranceLevel::Aal2PhishingResistant,
        ),
        (spec(&root, &[MODEL], false), AssuranceLevel::Aal3),
    ] {
        control.apply_documents(&world.caller(), &[declared("maker", changed)]).await.unwrap();
        sign_in(&world, &mut browser, &mut hardware).await.unwrap();
        assert_eq!(level(&world, &browser).await, expected);
    }
    // An authenticator that says later that its key can be copied after all is not the one that was vouched for.
    for copies in [(true, true), (true, false), (false, true)] {
        hardware.copies = copies;
        let refused = sign_in(&world, &mut browser, &mut hardware).await;
        assert_eq!(reason(refused), ReasonCode::LoginFailed, "{copies:?}");
    }
}

#[tokio::test]
async fn a_root_that_is_no_certificate_or_vouches_for_no_model_is_not_declared() {
    let (world, root) = (World::new().await, Root::new("maker"));
    let control = &world.login.authority.control;
    let leaf = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap().cert.pem();
    let text =
        |root: &str| AttestationSpec { root: root.parse().unwrap(), ..spec(&Root::new("x"), &[MODEL], true) };
    for bad in [
        spec(&root, &[], true),
        text(""),
        text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        text(&leaf),
        text(&format!("{}{}", root.pem, root.pem)),
    ] {
        let refused = control.apply_documents(&world.caller(), &[declared("maker", bad)]).await;
        assert_eq!(reason(refused), ReasonCode::Invalid);
    }
    control
        .apply_documents(&world.caller(), &[declared("maker", spec(&root, &[MODEL], true))])
        .await
        .unwrap();
}
