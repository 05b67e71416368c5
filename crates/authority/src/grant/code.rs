//! Codes for tokens (OAuth 2.1, 4.1.3).

use bartizan_base::{Digest, Timestamp};
use bartizan_identify::{Proof, Scopes};
use bartizan_model::{Action, Binding, CredentialKind, GrantType, Risk};
use bartizan_secret::constant_time_eq;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Authority;
use crate::authorize::Code;
use crate::clients::{Authenticated, Client};
use crate::issue::{Issue, OpenId};
use crate::kept::{Grant, Session, find};
use crate::oauth::{Form, OauthError, TokenAnswer};
use crate::userinfo::about;

/// The client that a code was given to, as it was described when it was allowed. Says nothing of whether it may redeem it.
///
/// # Errors
/// When the state database does not answer.
pub async fn agreed(
    authority: &Authority,
    form: &Form,
    now: Timestamp,
) -> Result<Option<Client>, OauthError> {
    let Some(text) = form.get("code") else { return Ok(None) };
    let held = find::<Code>(&*authority.rows, &Code::row_id(text), now).await?;
    Ok(held.map(|held| held.value.client))
}

/// Redeems a code, once. Presented a second time, it takes with it whatever came of it.
///
/// # Errors
/// `invalid_grant` in one text for every cause.
pub async fn code(
    authority: &Authority,
    client: &Authenticated,
    form: &Form,
) -> Result<TokenAnswer, OauthError> {
    let what = Code::row_id(form.get("code").unwrap_or_default());
    authority.issue_for(&what, || Box::pin(redeem(authority, client, form))).await
}

async fn redeem(authority: &Authority, client: &Authenticated, form: &Form) -> Result<Issue, OauthError> {
    let now = authority.control.clock.now();
    let text = form.need("code")?;
    let verifier = form.need("code_verifier")?;
    let rows = &*authority.rows;
    let held = find::<Code>(rows, &Code::row_id(text), now).await?.ok_or_else(OauthError::grant)?;
    let code = &held.value;
    // Somebody else's code is not used up by showing it.
    if held.tenant != client.client.tenant || code.client.id != client.client.id {
        return Err(OauthError::grant());
    }
    if code.spent.is_some() {
        withdraw(authority, code, now).await;
        return Err(OauthError::grant());
    }
    let sent_there = form.get("redirect_uri").is_none_or(|uri| uri == code.redirect);
    if code.until <= now || !sent_there || !fits(verifier, &code.challenge) {
        return Err(OauthError::grant());
    }
    let alive = find::<Session>(rows, &code.session.to_string(), now).await?;
    let grant = find::<Grant>(rows, &code.grant.to_string(), now).await?;
    if alive.is_none() || grant.is_none_or(|grant| grant.value.withdrawn.is_some()) {
        return Err(OauthError::grant());
    }
    let spent = Code { spent: Some(now), ..code.clone() };
    let openid = OpenId { nonce: code.nonce.clone(), about: about(code.rights.get()) };
    Issue::new(GrantType::AuthorizationCode, client, code.rights.clone())?
        .with([held.replace(&spent)?])
        .openid(openid)
        .refreshable()
        .asked(form)
}

/// Whether a verifier is one, and the one that the challenge was made of (RFC 7636, 4.1 and 4.6).
fn fits(verifier: &str, challenge: &str) -> bool {
    let form = (43..=128).contains(&verifier.len())
        && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'));
    let digest = URL_SAFE_NO_PAD.encode(Digest::of(verifier.as_bytes()).as_bytes());
    form && constant_time_eq(digest.as_bytes(), challenge.as_bytes())
}

/// Withdraws what came of a code that was presented a second time: somebody has stolen it, and nobody can tell who.
async fn withdraw(authority: &Authority, code: &Code, now: Timestamp) {
    let rights = code.rights.get();
    let proof = Proof {
        tenant: rights.tenant.clone(),
        kind: rights.subject.kind,
        name: rights.subject.name.clone(),
        assurance: rights.assurance.clone(),
        binding: Binding::None,
        device: None,
        risk: Risk::default(),
        actors: Vec::new(),
        client: Some(code.client.name.clone()),
        credential: CredentialKind::Client,
        scopes: Scopes::Only([Action::GrantWithdraw].into()),
        issued: now,
        expires: rights.ends,
    };
    // Whose person is gone, whose tokens are dead already.
    let Ok(caller) = authority.control.house.prove(&proof) else { return };
    if let Err(stopped) = authority.withdraw_grant(&caller, code.grant).await {
        tracing::error!(grant = %code.grant, reason = %stopped.problem.reason, "what came of a stolen code was not withdrawn");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_03_a_verifier_has_its_length_and_letters_and_is_the_right_one() {
        // RFC 7636, Appendix B.
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(fits(verifier, challenge));
        assert!(!fits(verifier, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cN"));
        assert!(!fits(challenge, challenge), "a challenge is no verifier: there is no method plain");
        let of = |text: &str| URL_SAFE_NO_PAD.encode(Digest::of(text.as_bytes()).as_bytes());
        for bad in [
            "",
            "short",
            &"a".repeat(42),
            &"a".repeat(129),
            &format!("{} ", "a".repeat(43)),
            &"\u{e9}".repeat(30),
        ] {
            assert!(!fits(bad, &of(bad)), "{bad}");
        }
        assert!(fits(&"a".repeat(43), &of(&"a".repeat(43))) && fits(&"~".repeat(128), &of(&"~".repeat(128))));
    }
}
