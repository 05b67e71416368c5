//! Attacks on what a token is bound to (catalogue 31 to 33), and the devices behind it.

use std::time::Duration;

use bartizan_identify::{Identifier, Presented};
use bartizan_jose::{Confirmation, DpopProof, Nonces, X5t};
use bartizan_model::asset::DeviceSpec;
use bartizan_model::directory::Status;
use bartizan_model::{Binding, ReasonCode};
use bartizan_secret::Secret;
use serde_json::json;

use crate::world::*;

#[test]
fn attack_31_a_proof_for_another_request_another_token_or_another_moment_is_refused() {
    let world = World::new();
    let (mine, other) = (signing(20), signing(21));
    let token = world.own(|c| to_key(c, &mine));
    let good = Showing::dpop(&token, &mine, |_| {});
    let caller = world.show(&good).unwrap();
    assert_eq!(caller.subject().binding, Binding::Dpop(*mine.thumbprint().digest()));
    let refused = |showing: &Showing| world.show(showing).unwrap_err();
    let changed = |n: u8, change: fn(&mut DpopProof)| {
        Showing::dpop(&token, &mine, |p| {
            p.jti = format!("c-{n}");
            change(p);
        })
    };
    for (n, change) in [
        (|p| p.htm = "GET".to_owned()) as fn(&mut DpopProof),
        |p| p.htm = "post".to_owned(),
        |p| p.htu = "https://ai.example/v1/embeddings".to_owned(),
        |p| p.htu = "https://evil.example/v1/chat/completions".to_owned(),
        |p| p.htu = "http://ai.example/v1/chat/completions".to_owned(),
        |p| p.htu = "https://ai.example:8443/v1/chat/completions".to_owned(),
        |p| p.issued = after(61),
        |p| p.issued = before(301),
        |p| p.ath = None,
        |p| p.ath = Some(bartizan_base::Digest::of(b"another token")),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(refused(&changed(n as u8, change)), ReasonCode::ProofRefused, "{n}");
    }
    // The default port, and what comes after the path, say nothing about where.
    for (n, htu) in
        ["https://ai.example:443/v1/chat/completions", "HTTPS://AI.example/v1/chat/completions?a#b"]
            .into_iter()
            .enumerate()
    {
        let showing = Showing::dpop(&token, &mine, |p| {
            p.jti = format!("same-{n}");
            p.htu = htu.to_owned();
        });
        assert!(world.show(&showing).is_ok(), "{htu}");
    }
    // Another's key, and another's token under that key.
    assert_eq!(refused(&Showing::dpop(&token, &other, |_| {})), ReasonCode::BindingMismatch);
    let theirs = world.own(|c| to_key(c, &other));
    let mut swapped = Showing::dpop(&token, &mine, |p| p.jti = "swap".to_owned());
    swapped.authorization = format!("DPoP {theirs}");
    assert_eq!(refused(&swapped), ReasonCode::ProofRefused);
    // None, two, and nonsense.
    for proofs in [
        vec![],
        vec![good.proofs[0].clone(), good.proofs[0].clone()],
        vec!["x.y.z".to_owned()],
        vec![String::new()],
    ] {
        let showing = Showing { proofs, ..good.clone() };
        assert_eq!(refused(&showing), ReasonCode::ProofRefused);
    }
}

#[test]
fn attack_31_a_proof_is_taken_once_by_whoever_comes_first() {
    let world = World::new();
    let mine = signing(20);
    let token = world.own(|c| to_key(c, &mine));
    let good = Showing::dpop(&token, &mine, |_| {});
    let directory = world.directory();
    let presented = Presented::at(
        [good.authorization.as_bytes()].into_iter(),
        std::iter::empty(),
        [good.proofs[0].as_bytes()].into_iter(),
        || good.place.clone(),
    )
    .unwrap();
    let let_in = std::thread::scope(|scope| {
        let one = || {
            let found = world.identifier.identify(&directory, &presented, NOW);
            usize::from(matches!(found, bartizan_identify::Identified::Caller(_)))
        };
        let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum::<usize>()
    });
    assert_eq!(let_in, 1);
    assert_eq!(world.show(&good).unwrap_err(), ReasonCode::ProofRefused);
    // Not by another signature over the same id either, to the end of its life.
    let late = Showing::dpop(&token, &mine, |p| p.issued = after(60));
    assert_eq!(world.show_with(&world.identifier, &late, after(280)).unwrap_err(), ReasonCode::ProofRefused);
}

#[test]
fn attack_31_a_proof_without_a_fresh_nonce_of_ours_asks_for_one() {
    let world = World::new();
    let mine = signing(20);
    let nonces = |seed| Nonces::new(Secret::new([seed; 32]), Duration::from_secs(120));
    let asking = Identifier::new().with_nonces(nonces(1));
    let token = world.own(|c| to_key(c, &mine));
    let show = |n: u8, nonce: Option<String>| {
        let showing = Showing::dpop(&token, &mine, |p| {
            p.jti = format!("n-{n}");
            p.nonce = nonce;
        });
        world.show_with(&asking, &showing, NOW)
    };
    assert_eq!(show(1, None).unwrap_err(), ReasonCode::ProofNonceNeeded);
    assert_eq!(show(2, Some("x".to_owned())).unwrap_err(), ReasonCode::ProofNonceNeeded);
    assert_eq!(show(3, Some(nonces(2).current(NOW))).unwrap_err(), ReasonCode::ProofNonceNeeded);
    assert_eq!(show(4, asking.nonce(before(600))).unwrap_err(), ReasonCode::ProofNonceNeeded);
    assert!(show(5, asking.nonce(NOW)).is_ok());
    // A refusal for the nonce has used nothing up.
    assert!(show(1, asking.nonce(NOW)).is_ok());
}

#[test]
fn attack_32_a_bound_token_is_no_bearer_token_and_a_bearer_token_is_not_bound() {
    let world = World::new();
    let mine = signing(20);
    for token in [
        world.own(|c| to_key(c, &mine)),
        world.foreign(|c| c["cnf"] = json!({"jkt": mine.thumbprint().to_string()})),
    ] {
        let proven = Showing::dpop(&token, &mine, |p| p.jti = token[..40].to_owned());
        assert!(world.show(&proven).is_ok());
        assert_eq!(world.bearer(&token).unwrap_err(), ReasonCode::BindingMismatch);
        // Also with the proof beside it: the scheme says what the client means.
        let beside = Showing { proofs: proven.proofs.clone(), ..Showing::bearer(&token) };
        assert_eq!(world.show(&beside).unwrap_err(), ReasonCode::BindingMismatch);
    }
    let bearer = world.own(|_| {});
    assert_eq!(world.show(&Showing::dpop(&bearer, &mine, |_| {})).unwrap_err(), ReasonCode::BindingMismatch);
    // A confirmation that nobody here can hold a request against is refused, never passed over.
    for cnf in [json!({"kid": "x"}), json!({}), json!({"jkt": "short"}), json!("x")] {
        let token = world.foreign(|c| c["cnf"] = cnf.clone());
        assert_eq!(world.bearer(&token).unwrap_err(), ReasonCode::CredentialMalformed, "{cnf}");
    }
    // Our API keys are bearer credentials.
    let key = bartizan_secret::ApiKey::generate(&bartizan_base::random::SeededRandom::new(3));
    let mut showing = Showing::dpop(&bearer, &mine, |_| {});
    showing.authorization = format!("DPoP {}", key.text().expose());
    assert_eq!(world.show(&showing).unwrap_err(), ReasonCode::BindingMismatch);
}

#[test]
fn attack_33_a_token_bound_to_a_certificate_needs_it_on_this_very_connection() {
    let world = World::new();
    let token = world.own(|c| to_certificate(c, b"mine"));
    let bearer = Showing::bearer(&token);
    let caller = world.show(&bearer.clone().over(b"mine")).unwrap();
    assert_eq!(caller.subject().binding, Binding::Mtls(bartizan_base::Digest::of(b"mine")));
    for _ in 0..2 {
        assert_eq!(world.show(&bearer).unwrap_err(), ReasonCode::BindingMismatch);
        assert_eq!(world.show(&bearer.clone().over(b"other")).unwrap_err(), ReasonCode::BindingMismatch);
    }
    // Both at once means both.
    let key = signing(20);
    let both = world.own(|c| {
        c.cnf = Some(Confirmation::Both(key.thumbprint(), X5t::of_certificate(b"mine")));
    });
    let show = |n: u8| Showing::dpop(&both, &key, |p| p.jti = format!("b-{n}"));
    assert!(world.show(&show(1).over(b"mine")).is_ok());
    assert_eq!(world.show(&show(2)).unwrap_err(), ReasonCode::BindingMismatch);
    assert_eq!(world.show(&Showing::bearer(&both).over(b"mine")).unwrap_err(), ReasonCode::BindingMismatch);
}

fn enrolled(key: &bartizan_jose::SigningKey) -> DeviceSpec {
    DeviceSpec {
        owner: Some(name("alice")),
        managed: true,
        compliant: true,
        key: Some(*key.thumbprint().digest()),
        seen_us: Some(before(5)),
        ..DeviceSpec::default()
    }
}

#[test]
fn a_device_is_a_fact_only_by_its_enrolled_key_and_only_for_its_owner() {
    let mut world = World::new();
    let (laptop, other) = (signing(20), signing(21));
    world.device(enrolled(&laptop));
    let token = |key: &bartizan_jose::SigningKey, sub: u8| {
        world.own(|c| {
            to_key(c, key);
            c.sub = id(sub).to_string();
        })
    };
    let caller = world.show(&Showing::dpop(&token(&laptop, 1), &laptop, |_| {})).unwrap();
    let device = caller.subject().device.clone().unwrap();
    assert!(device.key_matches_binding && device.managed && device.compliant && !device.attested);
    assert_eq!((device.name.as_str(), device.seen), ("laptop", before(5)));
    // Another key of hers, and her device in another's hands.
    let caller = world.show(&Showing::dpop(&token(&other, 1), &other, |_| {})).unwrap();
    assert_eq!(caller.subject().device, None);
    let caller =
        world.show(&Showing::dpop(&token(&laptop, 2), &laptop, |p| p.jti = "bob".to_owned())).unwrap();
    assert_eq!(caller.subject().device, None);
    // Claimed without the key: none.
    let claimed = world.own(|c| private(c, &json!({"rev": 50, "kind": "user", "device": "laptop"})));
    assert_eq!(world.bearer(&claimed).unwrap().subject().device, None);
    // A key that two devices claim tells of neither.
    let twin = bartizan_model::Document { name: name("twin"), ..world.documents[6].clone() };
    world.documents.push(twin);
    let token = world.own(|c| to_key(c, &laptop));
    let caller = world.show(&Showing::dpop(&token, &laptop, |p| p.jti = "twin".to_owned())).unwrap();
    assert_eq!(caller.subject().device, None);
}

#[test]
fn attack_53_a_device_out_of_use_lets_nobody_in_by_its_key_or_in_its_sessions() {
    let mut world = World::new();
    let (laptop, own) = (signing(20), signing(20));
    world.device(DeviceSpec { certificate: Some(bartizan_base::Digest::of(b"cert")), ..enrolled(&laptop) });
    let by_key = world.own(|c| to_key(c, &own));
    let by_certificate = world.own(|c| to_certificate(c, b"cert"));
    let in_session = world.own(|c| private(c, &json!({"rev": 50, "kind": "user", "device": "laptop"})));
    let show = |world: &World, n: u8| {
        [
            world.show(&Showing::dpop(&by_key, &laptop, |p| p.jti = format!("d-{n}"))).err(),
            world.show(&Showing::bearer(&by_certificate).over(b"cert")).err(),
            world.bearer(&in_session).err(),
        ]
    };
    assert_eq!(show(&world, 1), [None, None, None]);
    let spec = DeviceSpec {
        status: Status::Disabled,
        certificate: Some(bartizan_base::Digest::of(b"cert")),
        ..enrolled(&laptop)
    };
    world.device(spec);
    let disabled = Some(ReasonCode::DeviceDisabled);
    assert_eq!(show(&world, 2), [disabled.clone(), disabled, Some(ReasonCode::CredentialRevoked)]);
    world.documents.remove(6);
    assert_eq!(show(&world, 3), [None, None, Some(ReasonCode::CredentialRevoked)]);
}
