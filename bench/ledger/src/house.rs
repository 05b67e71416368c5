//! A small house whose decisions are recorded: one user with a real key, a policy, and asks for two models.

use std::sync::Arc;

use bartizan_base::json::canonical;
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_bench::Error;
use bartizan_decide::{Bundle, CompiledBundle, Door, Entities, Permit, Refused, Snapshot, Verdict};
use bartizan_identify::{Caller, Directory, Identified, Identifier, KeyEntry, Presented};
use bartizan_model::action::ModelCall;
use bartizan_model::directory::{Dialect, ModelSpec, NodeSpec, PrincipalSpec, Spec, Status};
use bartizan_model::record::{Body, Record, Refusal, VERSION};
use bartizan_model::{
    Action, Ask, AskFacts, DecisionId, Document, EntityRef, KeyId, NodeId, Principal, PrincipalId,
    PrincipalKind, Situation, Tenant,
};
use bartizan_rt::SystemRandom;
use bartizan_secret::ApiKey;

use crate::engine::RECORD_BYTES;

const POLICY: &str = r#"
@id("engineers-use-models") permit (principal in Group::"engineers", action in [Action::"model:use", Action::"model:list"], resource);
@id("closed-models-are-closed") forbid (principal, action in Action::"model:use", resource == Model::"closed");
"#;

/// Who asks, and who decides.
pub struct House {
    caller: Caller,
    snapshot: Snapshot,
}

impl House {
    pub fn new(now: Timestamp) -> Result<Self, Error> {
        let documents = documents(now)?;
        let bundle = Bundle { files: [("policy.cedar".to_owned(), POLICY.to_owned())].into() };
        let compiled = CompiledBundle::compile(&bundle).map_err(|e| format!("the policy: {e:?}"))?;
        let entities = Entities::build(&documents).map_err(|e| format!("the entities: {e:?}"))?;
        let snapshot = Snapshot::new(Some(Arc::new(compiled)), Arc::new(entities));
        Ok(Self { caller: caller(documents, now)?, snapshot })
    }

    /// A permit to use a model, as `decide` gives it.
    pub fn permit(&self, now: Timestamp, id: DecisionId) -> Result<Permit<ModelCall>, Error> {
        match self.decide("open", now, id)? {
            Verdict::Permit(permit) => Ok(permit),
            other => Err(format!("this should have been permitted: {other:?}").into()),
        }
    }

    /// A refusal, as `decide` gives it.
    pub fn refused(&self, now: Timestamp, id: DecisionId) -> Result<Refused, Error> {
        match self.decide("closed", now, id)? {
            Verdict::Deny(refused) => Ok(refused),
            other => Err(format!("this should have been refused: {other:?}").into()),
        }
    }

    /// Where permitted asks go.
    pub fn upstream(&self) -> Name {
        Name::literal("provider")
    }

    fn decide(&self, model: &str, now: Timestamp, id: DecisionId) -> Result<Verdict<ModelCall>, Error> {
        let facts =
            AskFacts { bytes: 400, dialect: "openai.chat".to_owned(), messages: 2, ..AskFacts::default() };
        let resource = EntityRef::new(Name::literal("Model"), model.parse::<bartizan_model::EntityName>()?);
        let ask = Ask::new(id, Action::ModelInvoke, resource, facts, Digest::of(b"body"));
        // Permits of a stock must not run out before they are spent: they are asked for an hour ahead.
        let now = now.saturating_add(std::time::Duration::from_secs(3_600));
        let situation = Situation::at(now);
        Ok(self.snapshot.decide(&self.caller, ask, &situation, &Door::model_calls()).verdict)
    }
}

/// The refusal with further rules named among its grounds, so that its record has [`RECORD_BYTES`] under a number of seven
/// digits.
pub fn padded(mut refused: Refused, node: NodeId) -> Result<Refused, Error> {
    let of = |refused: &Refused| Ok::<_, Error>(canonical(&record(refused, node, 1_000_000))?.len());
    // A name in the list takes its quotes and a comma besides.
    let mut room =
        RECORD_BYTES.checked_sub(of(&refused)?).ok_or("a plain refusal is longer than a record")?;
    let grounds = refused.grounds.as_mut().ok_or("a refusal without grounds")?;
    while room >= 4 {
        // What would be left for the last name must not be too short for one.
        let length = if room > Name::MAX + 7 { Name::MAX } else { room.min(Name::MAX + 3) - 3 };
        grounds.rules.push("z".repeat(length).parse()?);
        room -= length + 3;
    }
    Ok(refused)
}

/// The record of a refusal.
pub fn record(refused: &Refused, node: NodeId, seq: u64) -> Record {
    let refusal = Refusal {
        id: refused.id,
        who: refused.who.clone(),
        what: refused.what.clone(),
        verdict: refused.verdict,
        reasons: refused.reasons.clone(),
        offers: refused.offers.clone(),
        grounds: refused.grounds.clone(),
        repeated: 0,
    };
    Record {
        v: VERSION,
        tenant: refused.tenant.clone(),
        node,
        seq,
        time_us: refused.id.timestamp(),
        body: Body::Refusal(refusal),
    }
}

fn documents(now: Timestamp) -> Result<Vec<Document>, Error> {
    let plain = |name: &str, spec| Ok::<_, Error>(Document { name: name.parse()?, principal: None, spec });
    let model = |name: &str| {
        let spec = ModelSpec {
            accepts: Default::default(),
            status: Status::Active,
            upstream: "provider".parse()?,
            upstream_model: None,
            routes: Vec::new(),
            output_tokens_max: None,
            cache: None,
            family: None,
            dialects: [Dialect::OpenAiChat].into(),
            project: None,
            environment: "production".parse()?,
            sensitivity: "low".parse()?,
        };
        plain(name, Spec::Model(spec))
    };
    let user = PrincipalSpec { groups: ["engineers".parse()?].into(), ..PrincipalSpec::default() };
    Ok(vec![
        plain("engineers", Spec::Group(NodeSpec::default()))?,
        plain("production", Spec::Environment(NodeSpec::default()))?,
        model("open")?,
        model("closed")?,
        Document { name: "alice".parse()?, principal: Some(principal(now)), spec: Spec::User(user) },
    ])
}

fn principal(now: Timestamp) -> PrincipalId {
    PrincipalId::from_parts(now, [1; 10])
}

/// Only somebody with a real key gets a permit.
fn caller(documents: Vec<Document>, now: Timestamp) -> Result<Caller, Error> {
    let key = ApiKey::generate(&SystemRandom::new());
    let entry = KeyEntry {
        id: KeyId::from_parts(now, [1; 10]),
        tenant: Tenant::default_tenant(),
        digest: key.digest(),
        principal: Principal { kind: PrincipalKind::User, name: "alice".parse()?, id: principal(now) },
        scopes: None,
        created: now,
        expires: now.saturating_add(std::time::Duration::from_secs(86_400)),
        revoked: None,
    };
    let documents = documents.into_iter().map(|document| (Tenant::default_tenant(), document));
    let directory = Directory::build(1, documents, std::iter::once(entry), std::iter::empty());
    let header = format!("Bearer {}", key.text().expose());
    let presented = Presented::from_headers(std::iter::once(header.as_bytes()), std::iter::empty())
        .map_err(|reason| format!("the key is not taken: {reason:?}"))?;
    match Identifier::new().identify(&directory, &presented, now) {
        Identified::Caller(caller) => Ok(*caller),
        other => Err(format!("the key's holder should be known: {other:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_model::record::VerdictKind;

    const NOW: Timestamp = Timestamp::from_secs(1_795_161_600);

    #[test]
    fn refusals_are_padded_to_the_size_of_every_other_record() {
        let house = House::new(NOW).unwrap();
        let node = NodeId::from_parts(NOW, [1; 10]);
        let refused = house.refused(NOW, DecisionId::from_parts(NOW, [2; 10])).unwrap();
        assert_eq!(refused.verdict, VerdictKind::Deny);
        let before = canonical(&record(&refused, node, 1_000_000)).unwrap().len();
        assert!(before < RECORD_BYTES, "{before}");
        let refused = padded(refused, node).unwrap();
        let length = canonical(&record(&refused, node, 1_000_000)).unwrap().len();
        assert!((RECORD_BYTES - 3..=RECORD_BYTES).contains(&length), "{length}");
    }

    #[test]
    fn permits_of_a_stock_outlast_the_measurement() {
        let house = House::new(NOW).unwrap();
        let permit = house.permit(NOW, DecisionId::from_parts(NOW, [2; 10])).unwrap();
        assert!(permit.expires() >= NOW.saturating_add(std::time::Duration::from_secs(600)));
    }
}
