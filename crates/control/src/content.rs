//! What was kept of a call, read under a recorded ask of its own.

use std::collections::BTreeMap;

use bartizan_base::{Name, Timestamp};
use bartizan_identify::Caller;
use bartizan_model::action::ReadLedger;
use bartizan_model::record::{Body, Kept};
use bartizan_model::{
    Action, Commitment, DecisionId, PayloadRef, PrincipalId, Problem, ReasonCode, Target, Tenant,
};
use bartizan_record::Found;
use bartizan_vault::{Item, Place, Vault, VaultError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decisions::unreadable;
use crate::turn::{Turn, finish};
use crate::{Control, Done, Stopped};

/// What was kept of a call, as far as it still is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ContentView {
    /// The decision.
    pub decision: String,
    /// The prompt as it went out.
    pub prompt: KeptPayload,
    /// What was released; absent while it runs, or when nothing was released.
    pub output: Option<KeptPayload>,
    /// The circumstances of the ask, by name, in the order of the leaf.
    pub circumstances: BTreeMap<Name, KeptField>,
    /// 64 hexadecimal digits that open the commitments of all circumstances, to check them without us. Whoever has them can
    /// try values for each: as confidential as the values.
    pub opening: Option<String>,
}

/// Whether something is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeptState {
    /// It is there, and what the leaf says is about it.
    Kept,
    /// Its subject was erased.
    Erased,
    /// It went because of its age.
    Expired,
    /// The vault holds something else than the leaf commits to: it was changed.
    Mismatch,
}

/// A prompt or output.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeptPayload {
    /// Whether it is still there.
    pub state: KeptState,
    /// Its text.
    pub text: Option<String>,
    /// SHA-256 of the sealed file, as the leaf has it.
    pub sha256: String,
}

/// A circumstance.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeptField {
    /// Whether it is still there.
    pub state: KeptState,
    /// Its value.
    pub value: Option<String>,
    /// What the leaf commits to.
    pub commitment: Commitment,
}

impl Control {
    /// Reads what was kept of a decision, and checks it against what the ledger says.
    ///
    /// # Errors
    /// When policy says no, there is no such decision, nothing of it was kept, or the vault cannot be read.
    pub async fn read_content(&self, caller: &Caller, id: DecisionId) -> Result<Done<ContentView>, Stopped> {
        let Turn { intent, .. } =
            self.ask::<ReadLedger>(caller, Action::ContentRead, &id, Target::House).await?;
        let found = self.recorder.find(&intent, id).await.map_err(unreadable);
        let leaf = found.and_then(|found| {
            let nothing = || {
                Problem::with_detail(ReasonCode::NotFound, format!("nothing of a decision `{id}` was kept"))
            };
            found.and_then(leaf).ok_or_else(nothing)
        });
        let view = match leaf {
            Ok(leaf) => {
                let tenant = caller.tenant().clone();
                self.with_vault(move |vault| leaf.read(vault, &tenant, id)).await
            }
            Err(problem) => Err(problem),
        };
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), view, receipt, decision)
    }
}

/// Tokens that stand for masked values.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevealTokens {
    /// As they stand in the text, each `tok_…`: at most 100.
    pub tokens: Vec<String>,
}

/// What a token stands for.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RevealedToken {
    /// The token.
    pub token: String,
    /// Which detector found the value; absent if the token is none of this tenant's.
    pub detector: Option<String>,
    /// The value.
    pub value: Option<String>,
}

/// Tokens of one request.
const TOKENS_MAX: usize = 100;

impl Control {
    /// Gives back what tokens stand for. What is none of this tenant's tokens has no value; which is not said why.
    ///
    /// # Errors
    /// When policy says no, or there are too many.
    pub async fn reveal_tokens(
        &self,
        caller: &Caller,
        request: &RevealTokens,
    ) -> Result<Done<Vec<RevealedToken>>, Stopped> {
        self.read(caller, Action::ContentRead, request, |_, tenant| {
            if request.tokens.len() > TOKENS_MAX {
                let detail = format!("at most {TOKENS_MAX} tokens at once");
                return Err(Problem::with_detail(ReasonCode::Invalid, detail));
            }
            let names = self.sealer.pseudonyms(tenant);
            let reveal = |token: &String| {
                let (detector, value) = names.open(token).ok().unzip();
                RevealedToken { token: token.clone(), detector, value: value.map(|v| v.expose().clone()) }
            };
            Ok(request.tokens.iter().map(reveal).collect())
        })
        .await
    }
}

/// What the ledger says of kept content.
struct Leaf {
    subject: PrincipalId,
    kept: Kept,
    output: Option<PayloadRef>,
}

fn leaf(found: Found) -> Option<Leaf> {
    let Body::Intent(intent) = found.record.body else { return None };
    let output = found.outcome.and_then(|outcome| match outcome.body {
        Body::Outcome(outcome) => outcome.kept,
        Body::Intent(_) | Body::Refusal(_) | Body::System(_) => None,
    });
    Some(Leaf { subject: intent.who.subject, kept: intent.kept?, output })
}

impl Leaf {
    fn read(self, vault: &Vault, tenant: &Tenant, decision: DecisionId) -> Result<ContentView, VaultError> {
        let place = Place { tenant, subject: self.subject, decision };
        let gone = || -> Result<KeptState, VaultError> {
            let erased = vault.erased(tenant, self.subject)?;
            let is_later = |at: Timestamp| at >= decision.timestamp();
            let was_erased = erased.is_some_and(|erased| is_later(erased.erasure.time_us));
            Ok(if was_erased { KeptState::Erased } else { KeptState::Expired })
        };
        let payload = |kept: &PayloadRef| -> Result<KeptPayload, VaultError> {
            let mut bytes = Vec::new();
            let (state, text) = match vault.read_payload(&place, kept, &mut bytes) {
                Ok(_) => (KeptState::Kept, Some(String::from_utf8_lossy(&bytes).into_owned())),
                Err(VaultError::Absent | VaultError::Erased) => (gone()?, None),
                Err(VaultError::Broken(_)) => (KeptState::Mismatch, None),
                Err(error) => return Err(error),
            };
            Ok(KeptPayload { state, text, sha256: kept.sha256.to_string() })
        };
        let items = vault.get(&place)?;
        let opening = items.first().map(|item| {
            // The one place where it is given out, to whom policy lets read the values.
            item.opening.key().expose().iter().map(|byte| format!("{byte:02x}")).collect()
        });
        let mut circumstances = BTreeMap::new();
        for (name, commitment) in &self.kept.committed {
            let item = items.iter().find(|item| item.field == *name);
            let field = match item {
                Some(item) => field(item, commitment),
                None => KeptField { state: gone()?, value: None, commitment: *commitment },
            };
            circumstances.insert(name.clone(), field);
        }
        Ok(ContentView {
            decision: decision.to_string(),
            prompt: payload(&self.kept.prompt)?,
            output: self.output.as_ref().map(payload).transpose()?,
            circumstances,
            opening,
        })
    }
}

fn field(item: &Item, commitment: &Commitment) -> KeptField {
    let is_it = item.opens(commitment);
    KeptField {
        state: if is_it { KeptState::Kept } else { KeptState::Mismatch },
        value: is_it.then(|| item.value.expose().clone()),
        commitment: *commitment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;
    use bartizan_secret::Secret;
    use bartizan_vault::{Kind, Opening};

    #[test]
    fn a_value_that_is_not_what_the_leaf_commits_to_is_told_as_that_and_not_shown() {
        let opening = Opening::generate(&SeededRandom::new(1));
        let (purpose, network) = (Name::literal("purpose"), Name::literal("network"));
        let item = Item {
            field: purpose.clone(),
            kind: Kind::Purpose,
            made: Timestamp::default(),
            value: Secret::new("research".to_owned()),
            opening: opening.clone(),
        };
        let told = |commitment| {
            let told = field(&item, &commitment);
            (told.state, told.value)
        };
        let right = opening.commit(&purpose, "research");
        assert_eq!(told(right), (KeptState::Kept, Some("research".to_owned())));
        for wrong in [opening.commit(&purpose, "other"), opening.commit(&network, "research")] {
            assert_eq!(told(wrong), (KeptState::Mismatch, None));
        }
    }
}
