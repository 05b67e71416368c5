//! Devices of one's own: a key that never leaves the device, vouched for by its owner's passkey.

use std::time::Duration;

use bartizan_base::Name;
use bartizan_control::{Done, Stopped, View};
use bartizan_jose::{DpopProof, DpopRules, NonceRule, ProvenKey};
use bartizan_model::asset::DeviceSpec;
use bartizan_model::{Action, AssuranceLevel, Document, Problem, ReasonCode, Spec, Tenant};
use bartizan_store::{Change, EpochKind};

use super::session::FRESH;
use super::{Login, SignedIn, broken};
use crate::clients::use_up;
use crate::marks;

/// How old a device's proof may be: the person reads and compares meanwhile.
const PROOF_AGE: Duration = Duration::from_secs(300);
const SKEW: Duration = Duration::from_secs(30);

impl Login {
    /// The address that a device's proof is for.
    fn device_address(&self) -> String {
        format!("{}/account/device", self.authority.issuer)
    }

    /// What a device has proven: that it holds a key (a DPoP proof for `POST ISSUER/account/device`, RFC 9449).
    ///
    /// # Errors
    /// `authenticator_refused`.
    pub fn check_device(&self, proof: &str) -> Result<ProvenKey, Problem> {
        let rules = DpopRules {
            method: "POST",
            uri: &self.device_address(),
            now: self.now(),
            age_max: PROOF_AGE,
            skew: SKEW,
            access_token: None,
            nonce: NonceRule::Off,
        };
        DpopProof::verify(proof, &rules).map_err(|error| {
            tracing::info!(%error, "a device's proof was refused");
            Problem::with_detail(
                ReasonCode::AuthenticatorRefused,
                "the device's proof does not hold, or is old",
            )
        })
    }

    /// Enrols a device of whoever asks, under their name and `label`: requests proven by its key come from it.
    ///
    /// # Errors
    /// When the proof does not hold or was used, the login is no fresh passkey, the name is taken, or policy says no.
    pub async fn enrol_device(
        &self,
        who: &SignedIn,
        label: &str,
        proof: &str,
    ) -> Result<Done<Name>, Stopped> {
        self.demand(who, AssuranceLevel::Aal2PhishingResistant, FRESH).await?;
        let proven = self.check_device(proof)?;
        let name: Name = format!("{}/{label}", who.principal.name).parse().map_err(|_| {
            Problem::with_detail(
                ReasonCode::Invalid,
                "a device is called by letters, digits and `. _ - : / @ +`",
            )
        })?;
        let key = *proven.key().digest();
        let spec =
            DeviceSpec { owner: Some(who.principal.name.clone()), key: Some(key), ..DeviceSpec::default() };
        let document = Document { name: name.clone(), principal: None, spec: Spec::Device(spec) };
        let request = (name.clone(), key);
        self.authority
            .control
            .change_with(&who.caller, Action::DeviceEnrol, &request, async |view, tenant| {
                if devices(view, tenant).any(|(_, spec)| spec.key == Some(key)) {
                    return Err(Problem::with_detail(ReasonCode::Conflict, "that key is a device's already"));
                }
                if devices(view, tenant).any(|(present, _)| *present.name == *name) {
                    return Err(Problem::with_detail(ReasonCode::Conflict, "a device is called so already"));
                }
                let once =
                    use_up(tenant, proven.replay()).map_err(|e| broken("a proof cannot be used up", &e))?;
                Ok((vec![once, Change::PutDocument { document, expect: None }], name))
            })
            .await
    }

    /// Removes a device of whoever asks, and ends everything that was issued to it.
    ///
    /// # Errors
    /// When they have no such device, or policy says no.
    pub async fn remove_device(&self, who: &SignedIn, name: &str) -> Result<Done<()>, Stopped> {
        self.demand_fresh(who).await?;
        let now = self.now();
        self.authority
            .control
            .change_with(&who.caller, Action::DeviceEnrol, &("remove", name), async |view, tenant| {
                let own = view.state.documents.iter().find(|(t, d, _)| {
                    let owned = matches!(&d.spec, Spec::Device(spec) if spec.owner.as_ref() == Some(&who.principal.name));
                    t == tenant && d.name.as_str() == name && owned
                });
                let (_, document, revision) =
                    own.ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, "you have no such device"))?;
                let gone = Change::DeleteDocument {
                    kind: document.spec.kind().to_owned(),
                    name: document.name.clone(),
                    expect: *revision,
                };
                Ok((vec![gone, marks::advance(&view.state, tenant, (EpochKind::Device, name), now)?], ()))
            })
            .await
    }

    /// The devices of whoever asks, by name.
    ///
    /// # Errors
    /// When what is known is too old.
    #[expect(clippy::result_large_err, reason = "an administrative answer, not a hot path")]
    pub fn own_devices(&self, who: &SignedIn) -> Result<Vec<Name>, Stopped> {
        let view = self.authority.control.house.view(&who.tenant)?;
        let own =
            devices(&view, &who.tenant).filter(|(_, spec)| spec.owner.as_ref() == Some(&who.principal.name));
        Ok(own.map(|(document, _)| document.name.clone()).collect())
    }
}

fn devices<'a>(view: &'a View, tenant: &'a Tenant) -> impl Iterator<Item = (&'a Document, &'a DeviceSpec)> {
    view.state.documents.iter().filter(move |(t, ..)| t == tenant).filter_map(|(_, document, _)| {
        match &document.spec {
            Spec::Device(spec) => Some((document, spec)),
            _ => None,
        }
    })
}
