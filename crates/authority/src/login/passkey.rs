//! Passkeys (WebAuthn Level 3): discoverable, with the person verified, bound to our origin and to nothing beside it.

use bartizan_base::{Digest, Name, Text, Timestamp};
use bartizan_control::{Done, Stopped};
use bartizan_model::{Action, AssuranceLevel, AuthenticatorId, Principal, Problem, ReasonCode};
use bartizan_store::RowKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::{Host, Url};
use uuid::Uuid;
use webauthn_rs::prelude::{
    AttestedPasskeyRegistration, Credential, DiscoverableAuthentication, DiscoverableKey, Passkey,
    PasskeyRegistration, PublicKeyCredential, RegisterPublicKeyCredential, WebauthnError,
};
use webauthn_rs::{Webauthn, WebauthnBuilder};

use super::attestation::{self, Attested, Roots};
use super::session::Proven;
use super::step::Stage;
use super::{Entered, Login, SignedIn, Visitor, broken};
use crate::kept::{Held, Kept, Reach, find, find_of, keep, owner};

/// Passkeys of one person.
pub(super) const MANY: usize = 20;

/// Verifies passkeys for our origin.
#[derive(Debug)]
pub(super) struct Passkeys(Webauthn);

impl Passkeys {
    /// For an issuer with a host name; a bare address has no passkeys.
    pub(super) fn new(issuer: &str) -> Option<Self> {
        let origin = Url::parse(issuer).ok()?;
        let Some(Host::Domain(host)) = origin.host() else { return None };
        let host = host.to_owned();
        let builder = WebauthnBuilder::new(&host, &origin).ok()?.rp_name("Bartizan");
        builder.build().ok().map(Self)
    }
}

/// A passkey as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PasskeyRow {
    /// Which.
    pub id: AuthenticatorId,
    /// Whose.
    pub principal: Principal,
    /// What its owner calls it.
    pub label: String,
    /// Its public key, counter and flags.
    pub key: Passkey,
    /// Whether it is copied between devices.
    pub synced: bool,
    /// When it was enrolled.
    pub created: Timestamp,
    /// When it was last used.
    pub used: Option<Timestamp>,
    /// What its maker vouched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attested: Option<Attested>,
}

impl Kept for PasskeyRow {
    const KIND: RowKind = RowKind::Passkey;

    fn owner(&self) -> String {
        owner(&self.principal)
    }

    fn expires(&self) -> Option<Timestamp> {
        None
    }
}

/// What a browser is asked for.
#[derive(Debug, Serialize)]
pub struct PasskeyOptions {
    /// The options for `navigator.credentials`, as JSON.
    pub options: Value,
    /// The sealed step, to be sent back with the answer.
    pub step: String,
}

/// The id of a passkey's row: credential ids can be longer than ids of rows.
pub(super) fn row_id(credential: &[u8]) -> String {
    Digest::of(credential).to_string()
}

impl Login {
    #[expect(clippy::result_large_err, reason = "an administrative answer, not a hot path")]
    fn webauthn(&self) -> Result<&Webauthn, Stopped> {
        let none = || {
            Problem::with_detail(ReasonCode::AuthenticatorRefused, "there are no passkeys at this address")
        };
        Ok(&self.passkeys.as_ref().ok_or_else(none)?.0)
    }

    /// Asks a browser for any passkey of ours.
    ///
    /// # Errors
    /// When there are no passkeys here.
    #[expect(clippy::result_large_err, reason = "an administrative answer, not a hot path")]
    pub fn ask_passkey(&self, visitor: &Visitor) -> Result<PasskeyOptions, Stopped> {
        let (options, state) = self
            .webauthn()?
            .start_discoverable_authentication()
            .map_err(|e| broken("a passkey cannot be asked for", &e))?;
        let mut options =
            serde_json::to_value(options).map_err(|e| broken("options cannot be written", &e))?;
        // The person has pressed a button: the browser asks in a window of its own.
        options.as_object_mut().map(|o| o.remove("mediation"));
        let state = serde_json::to_value(state).map_err(|e| broken("a state cannot be written", &e))?;
        Ok(PasskeyOptions { options, step: self.seal_step(visitor, None, Stage::Passkey { state })? })
    }

    /// Looks at a passkey's answer. There is no budget: nothing in it can be guessed.
    ///
    /// # Errors
    /// `login_failed` whatever is wrong with it; `login_stale`; or what policy says.
    pub async fn passkey(&self, visitor: &Visitor, step: &str, answer: &Value) -> Result<Entered, Stopped> {
        match self.check_passkey(visitor, step, answer).await? {
            Ok(proven) => self.enter(visitor, proven).await,
            Err(reason) => Err(self.refuse(&self.home(), reason).await),
        }
    }

    async fn check_passkey(
        &self,
        visitor: &Visitor,
        step: &str,
        answer: &Value,
    ) -> Result<Result<Proven, ReasonCode>, Stopped> {
        let (stage, once) = match self.open_step(visitor, None, step) {
            Ok(opened) => opened,
            Err(reason) => return Ok(Err(reason)),
        };
        let failed = Ok(Err(ReasonCode::LoginFailed));
        let Stage::Passkey { state } = stage else { return Ok(Err(ReasonCode::LoginStale)) };
        let Ok(state) = serde_json::from_value::<DiscoverableAuthentication>(state) else {
            return Ok(Err(ReasonCode::LoginStale));
        };
        let Ok(answer) = PublicKeyCredential::deserialize(answer) else { return failed };
        if is_framed(answer.response.client_data_json.as_ref()) {
            return failed;
        }
        let id = row_id(answer.get_credential_id());
        let Some(held) = find::<PasskeyRow>(&*self.authority.rows, &id, self.now()).await? else {
            return failed;
        };
        let row = &held.value;
        // The handle is whom the authenticator means: it must be whose key it is.
        if answer.get_user_unique_id() != Some(row.principal.id.as_bytes()) {
            return failed;
        }
        let key = DiscoverableKey::from(&row.key);
        let result = match self.webauthn()?.finish_discoverable_authentication_v2(&answer, state, &key) {
            Ok(result) if result.user_verified() => result,
            Ok(_) => return failed,
            Err(error) => {
                tracing::info!(authenticator = %row.id, %error, "a passkey was refused");
                return failed;
            }
        };
        let mut after = row.clone();
        after.key.update_credential(&result);
        after.synced = result.backup_eligible();
        after.used = Some(self.now());
        let kind = if after.synced { "swk" } else { "hwk" };
        // Hardware that no key leaves, of a model that is believed by now (NIST SP 800-63B-4, 2.3).
        let roots = self.roots(&held.tenant)?;
        let vouched = after.attested.as_ref().is_some_and(|attested| roots.stand_by(attested));
        let level = match vouched && !after.synced {
            true => AssuranceLevel::Aal3,
            false => AssuranceLevel::Aal2PhishingResistant,
        };
        Ok(Ok(Proven {
            tenant: held.tenant.clone(),
            principal: row.principal.clone(),
            level,
            methods: [kind, "mfa", "user"].map(Name::literal).to_vec(),
            via: None,
            at: None,
            reach: Reach::Full,
            failures: 0,
            changes: vec![once, held.replace(&after)?],
        }))
    }

    /// Asks a browser for a new passkey of whoever asks; with `attested`, or where the house demands it, for one whose maker
    /// vouches for it.
    ///
    /// # Errors
    /// When the login is too old, there are no passkeys here, or none that makers vouch for.
    pub async fn offer_passkey(
        &self,
        visitor: &Visitor,
        who: &SignedIn,
        attested: bool,
    ) -> Result<PasskeyOptions, Stopped> {
        self.demand_fresh(who).await?;
        let present = self.passkeys_of(who).await?;
        if present.len() >= MANY {
            return Err(refused(&format!("{MANY} are enough")));
        }
        let exclude = present.iter().map(|held| held.value.key.cred_id().clone()).collect();
        let user = Uuid::from_bytes(*who.principal.id.as_bytes());
        let name = who.principal.name.as_str();
        let webauthn = self.webauthn()?;
        let unasked = |e| broken("a passkey cannot be asked for", &e);
        let unwritten = |e| broken("a state cannot be written", &e);
        let roots = self.roots(&who.tenant)?;
        let (options, stage) = if attested || roots.demanded {
            if roots.is_empty() {
                return Err(refused("no maker of authenticators is believed here"));
            }
            let list = roots.list();
            let started =
                webauthn.start_attested_passkey_registration(user, name, name, Some(exclude), list, None);
            let (options, state) = started.map_err(unasked)?;
            let state = serde_json::to_value(state).map_err(unwritten)?;
            (options, Stage::EnrolAttested { state: attestation::without_roots(state) })
        } else {
            let started = webauthn.start_passkey_registration(user, name, name, Some(exclude));
            let (options, state) = started.map_err(unasked)?;
            (options, Stage::Enrol { state: serde_json::to_value(state).map_err(unwritten)? })
        };
        let mut options =
            serde_json::to_value(options).map_err(|e| broken("options cannot be written", &e))?;
        // Found without a name being typed first.
        if let Some(wanted) =
            options.pointer_mut("/publicKey/authenticatorSelection").and_then(Value::as_object_mut)
        {
            wanted.insert("residentKey".to_owned(), "required".into());
            wanted.insert("requireResidentKey".to_owned(), true.into());
        }
        let step = self.seal_step(visitor, Some(who.session.value.id), stage)?;
        Ok(PasskeyOptions { options, step })
    }

    /// Keeps a new passkey.
    ///
    /// # Errors
    /// When it is not acceptable, is somebody's already, the login is too old, or policy says no.
    pub async fn enrol_passkey(
        &self,
        visitor: &Visitor,
        who: &SignedIn,
        step: &str,
        answer: &Value,
        label: &str,
    ) -> Result<Done<AuthenticatorId>, Stopped> {
        self.demand_fresh(who).await?;
        let (stage, once) = self.open_step(visitor, Some(who.session.value.id), step)?;
        let answer = RegisterPublicKeyCredential::deserialize(answer)
            .map_err(|_| refused("the browser's answer cannot be read"))?;
        let now = self.now();
        let (key, attested) = self.enrolled(&self.roots(&who.tenant)?, stage, &answer, now)?;
        let credential = Credential::from(key.clone());
        if !credential.user_verified {
            return Err(refused("it does not verify who uses it"));
        }
        if is_framed(answer.response.client_data_json.as_ref()) {
            return Err(refused("it was asked for in a frame of another site"));
        }
        let label = Text::<60>::lossy(label.trim());
        let row = PasskeyRow {
            id: AuthenticatorId::new(now, &*self.authority.control.random),
            principal: who.principal.clone(),
            label: if label.is_empty() { "Passkey".to_owned() } else { label.to_string() },
            synced: credential.backup_eligible,
            key,
            created: now,
            used: None,
            attested,
        };
        // What the maker vouched for is part of what the record commits to.
        let request = ("passkey", row.id, &row.attested);
        self.authority
            .control
            .change_with(&who.caller, Action::AuthenticatorChange, &request, async |_, tenant| {
                let put = keep(tenant, row_id(row.key.cred_id()), &row);
                Ok((vec![once, put.map_err(|e| broken("a passkey cannot be kept", &e))?], row.id))
            })
            .await
    }

    /// The key of an answer, with what its maker vouches for, by the roots in force when it comes.
    #[expect(clippy::result_large_err, reason = "an administrative answer, not a hot path")]
    fn enrolled(
        &self,
        roots: &Roots,
        stage: Stage,
        answer: &RegisterPublicKeyCredential,
        now: Timestamp,
    ) -> Result<(Passkey, Option<Attested>), Stopped> {
        let webauthn = self.webauthn()?;
        let stale = |_| Stopped::from(ReasonCode::LoginStale);
        let unfit = |error: WebauthnError| {
            tracing::info!(%error, "a passkey was not enrolled");
            refused("it does not fit what was asked for")
        };
        match stage {
            Stage::Enrol { .. } if roots.demanded => Err(refused("its maker has to vouch for it")),
            Stage::Enrol { state } => {
                let state: PasskeyRegistration = serde_json::from_value(state).map_err(stale)?;
                let key = webauthn.finish_passkey_registration(answer, &state).map_err(unfit)?;
                if !is_unattested(answer) {
                    return Err(refused("it says more about its maker than was asked for"));
                }
                Ok((key, None))
            }
            Stage::EnrolAttested { state } => {
                let state = attestation::with_roots(state, roots).map_err(stale)?;
                let state: AttestedPasskeyRegistration = serde_json::from_value(state).map_err(stale)?;
                let done = webauthn.finish_attested_passkey_registration(answer, &state);
                let key = done.map_err(|error| {
                    tracing::info!(%error, "an attested passkey was not enrolled");
                    refused("no maker that is believed here vouches for it, or it can be copied")
                })?;
                let attested = roots.vouch(&key, now);
                let attested =
                    attested.ok_or_else(|| refused("its model is not among those that are believed"))?;
                Ok((key.into(), Some(attested)))
            }
            _ => Err(ReasonCode::LoginStale.into()),
        }
    }

    pub(super) async fn passkeys_of(&self, who: &SignedIn) -> Result<Vec<Held<PasskeyRow>>, Stopped> {
        let rows = &*self.authority.rows;
        Ok(find_of(rows, &who.tenant, &owner(&who.principal), MANY, self.now()).await?)
    }
}

fn refused(detail: &str) -> Stopped {
    Problem::with_detail(ReasonCode::AuthenticatorRefused, detail).into()
}

/// Whether the browser says that another site has framed ours (WebAuthn Level 3, 7.2 step 13): our pages are in nobody's frame.
/// The library looks at this only when a passkey is enrolled.
fn is_framed(client_data: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Frame {
        #[serde(default)]
        cross_origin: bool,
        top_origin: Option<String>,
    }
    serde_json::from_slice(client_data)
        .map_or(true, |frame: Frame| frame.cross_origin || frame.top_origin.is_some())
}

/// Whether the attestation is the empty one that was asked for. Its format is the first text after `fmt` in the CBOR map.
fn is_unattested(answer: &RegisterPublicKeyCredential) -> bool {
    let object: &[u8] = answer.response.attestation_object.as_ref();
    object.windows(9).any(|w| w == b"\x63fmt\x64none")
}
