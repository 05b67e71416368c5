//! Bartizan's own decisions: from the words of a request to a permit or a refusal.

use std::sync::Arc;

use bartizan_base::random::SeededRandom;
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_bench::Error;
use bartizan_decide::{Bundle, CompiledBundle, Decision, Door, Entities, Snapshot, Verdict};
use bartizan_identify::{Caller, Directory, Identified, Identifier, KeyEntry, Presented};
use bartizan_model::action::ModelCall;
use bartizan_model::{
    Action, Ask, AskFacts, DecisionId, EntityRef, KeyId, Principal, PrincipalKind, Situation, Tenant,
};
use bartizan_secret::ApiKey;

use crate::workload::{Asked, World, principal};

pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Entities of a world, written in parts so that no list of all documents is needed.
pub fn entities(world: &World) -> Result<Entities, Error> {
    let mut out = Entities::build(&world.nodes()?)?;
    let (users, models) = (world.size.users(), world.size.models());
    for from in (0..users.max(models)).step_by(10_000) {
        let mut part = Vec::new();
        for n in from..from + 10_000 {
            if n < users {
                part.push(world.user(n)?);
            }
            if n < models {
                part.push(world.model(n)?);
            }
        }
        out = out.with_documents(&part, &[])?;
    }
    Ok(out)
}

pub fn bundle(cedar: String) -> Result<Arc<CompiledBundle>, Error> {
    bundle_beside(cedar, &[])
}

/// A bundle that takes over what stands in others.
pub fn bundle_beside(cedar: String, beside: &[Arc<CompiledBundle>]) -> Result<Arc<CompiledBundle>, Error> {
    let bundle = Bundle { files: [("rules.cedar".to_owned(), cedar)].into() };
    Ok(Arc::new(CompiledBundle::compile_beside(&bundle, &[], beside)?))
}

/// A request as it comes: somebody identified, and words.
pub struct Request {
    pub caller: Caller,
    pub model: String,
    pub action: Action,
    pub network: std::net::IpAddr,
    pub n: u64,
}

/// The callers are identified before: by API keys, as the gateway does it.
pub fn requests(world: &World, asks: &[Asked]) -> Result<Vec<Request>, Error> {
    let random = SeededRandom::new(1);
    let tenant = Tenant::default_tenant();
    let mut keys = Vec::new();
    let mut entries = Vec::new();
    let mut documents = Vec::new();
    for (n, ask) in asks.iter().enumerate() {
        let key = ApiKey::generate(&random);
        let document = world.user(ask.user)?;
        entries.push(KeyEntry {
            id: KeyId::new(NOW, &random),
            tenant: tenant.clone(),
            digest: key.digest(),
            principal: Principal {
                kind: PrincipalKind::User,
                name: document.name.clone(),
                id: principal(ask.user),
            },
            scopes: None,
            created: NOW,
            expires: NOW.saturating_add(std::time::Duration::from_secs(3_600)),
            revoked: None,
        });
        documents.push((tenant.clone(), document));
        keys.push((n, key));
    }
    let directory = Directory::build(1, documents.into_iter(), entries.into_iter(), std::iter::empty());
    let identifier = Identifier::new();
    keys.iter()
        .map(|(n, key)| {
            let header = format!("Bearer {}", key.text().expose());
            let presented = Presented::from_headers([header.as_bytes()].into_iter(), std::iter::empty())
                .map_err(|_| "the key was not read")?;
            let Identified::Caller(caller) = identifier.identify(&directory, &presented, NOW) else {
                return Err(format!("user{} was not identified", asks[*n].user).into());
            };
            let ask = asks[*n];
            Ok(Request {
                caller: *caller,
                model: format!("model{}", ask.model),
                action: if ask.embed { Action::ModelEmbed } else { Action::ModelInvoke },
                network: if ask.inside { [10, 1, 2, 3].into() } else { [192, 0, 2, 1].into() },
                n: *n as u64,
            })
        })
        .collect()
}

/// Asks as the gateway does, everything but the body's digest built anew.
pub fn decide(
    snapshot: &Snapshot,
    request: &Request,
    door: &Door,
    reference: bool,
) -> Result<Decision<ModelCall>, Error> {
    let resource =
        EntityRef::new(Name::literal("Model"), request.model.parse::<bartizan_model::EntityName>()?);
    let facts =
        AskFacts { bytes: 400, messages: 2, dialect: "openai.chat".to_owned(), ..AskFacts::default() };
    let mut random = [0; 10];
    random[2..].copy_from_slice(&request.n.to_be_bytes());
    let ask = Ask::new(
        DecisionId::from_parts(NOW, random),
        request.action,
        resource,
        facts,
        Digest::from_bytes([7; 32]),
    );
    let situation = Situation { network: Some(request.network), ..Situation::at(NOW) };
    Ok(if reference {
        snapshot.decide_reference(&request.caller, ask, &situation, door)
    } else {
        snapshot.decide(&request.caller, ask, &situation, door)
    })
}

pub fn permits(decision: &Decision<ModelCall>) -> bool {
    matches!(decision.verdict, Verdict::Permit(_))
}
