//! The first administrator.

use std::time::Duration;

use bartizan_base::{Digest, Name};
use bartizan_identify::Identifier;
use bartizan_keys::ClaimToken;
use bartizan_model::directory::{PrincipalSpec, Spec};
use bartizan_model::{Action, Document, Principal, PrincipalId, PrincipalKind, Problem, ReasonCode, Tenant};
use bartizan_secret::Secret;
use bartizan_store::Change;
use serde::Serialize;

use crate::{Control, CreatedKey, Done, Stopped};

/// How long the first administrator's key lives.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3_600);
/// The role of administrators in the starter bundle.
const ROLE: &str = "administrator";

/// The first administrator, made by redeeming the claim.
#[derive(Debug)]
pub struct Claimed {
    /// Their name.
    pub name: Name,
    /// Their key.
    pub key: CreatedKey,
}

#[derive(Serialize)]
struct Request<'a> {
    administrator: &'a Name,
}

impl Control {
    /// Redeems the open claim: creates a person with the role `administrator` and a key for them. The claim is used up in the
    /// same set of changes.
    ///
    /// # Errors
    /// When there is no such open claim.
    pub async fn redeem_claim(&self, text: &Secret<String>, name: &Name) -> Result<Done<Claimed>, Stopped> {
        let now = self.clock.now();
        let tenant = Tenant::default_tenant();
        let view = self.house.view(&tenant)?;
        let open = view.state.claim.as_ref().map(|c| (c.digest, c.expires));
        // One answer for a claim that is none of ours and for one that is not open.
        let digest = text.expose().trim().parse::<ClaimToken>().map(|claim| claim.digest());
        let digest = digest.unwrap_or(Digest::of(b""));
        let caller = match Identifier::claimant(tenant.clone(), digest, open, now) {
            Ok(caller) => caller,
            Err(reason) => {
                return Err(self.refuse_caller(&bartizan_identify::Caller::anonymous(tenant), reason).await);
            }
        };
        self.change(&caller, Action::HouseClaim, &Request { administrator: name }, |view, tenant| {
            if crate::resources::find(&view.state, tenant, "user", name).is_some() {
                return Err(Problem::with_detail(
                    ReasonCode::Conflict,
                    format!("a user is called `{name}` already"),
                ));
            }
            let id = PrincipalId::new(now, &*self.random);
            let role = Name::literal(ROLE);
            let spec = PrincipalSpec { roles: [role.clone()].into(), ..PrincipalSpec::default() };
            let document = Document { name: name.clone(), principal: Some(id), spec: Spec::User(spec) };
            let principal = Principal { kind: PrincipalKind::User, name: name.clone(), id };
            let label = "first administrator".to_owned();
            let (row, key) = self.new_key(tenant, principal, label, None, now, now.saturating_add(LIFE));
            let mut changes = vec![
                Change::UseClaim { digest, now },
                Change::PutDocument { document, expect: None },
                Change::AddKey(row),
            ];
            if crate::resources::find(&view.state, tenant, "role", &role).is_none() {
                let document = Document { name: role, principal: None, spec: Spec::Role(Default::default()) };
                changes.push(Change::PutDocument { document, expect: None });
            }
            Ok((changes, Claimed { name: name.clone(), key }))
        })
        .await
    }
}
