//! A small world that decisions are made in.
#![allow(dead_code, reason = "each test takes what it needs")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_decide::{
    Bundle, CompiledBundle, Door, Entities, Explanation, Question, Reader, Snapshot, Standing,
};
use bartizan_identify::{Caller, Directory, Identified, Identifier, KeyEntry, Presented};
use bartizan_model::action::ModelCall;
use bartizan_model::directory::{AgentSpec, Dialect, ModelSpec, NodeSpec, PrincipalSpec, Spec, Status};
use bartizan_model::{
    Action, Ask, AskFacts, Assurance, AssuranceLevel, Binding, BoundBy, DecisionId, Document, EntityRef,
    KeyId, Member, ObligationKind, Principal, PrincipalId, PrincipalKind, Risk, Situation, Tenant,
};
use bartizan_secret::ApiKey;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(crate) const BASE: &str = r#"
@id("engineers") permit (principal in Group::"engineers", action in [Action::"model:use", Action::"model:list"], resource);
"#;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn names(all: &[&str]) -> std::collections::BTreeSet<Name> {
    all.iter().map(|n| name(n)).collect()
}

pub(crate) fn id(n: u8) -> PrincipalId {
    PrincipalId::from_parts(NOW, [n; 10])
}

pub(crate) fn documents() -> Vec<Document> {
    let plain = |n: &str, spec| Document { name: name(n), principal: None, spec };
    let user = |n: &str, p: u8, groups: &[&str]| {
        let spec = PrincipalSpec { groups: names(groups), ..PrincipalSpec::default() };
        Document { name: name(n), principal: Some(id(p)), spec: Spec::User(spec) }
    };
    let agent = |n: &str, p: u8, groups: &[&str]| {
        let spec = AgentSpec {
            status: Status::Active,
            owner: name("alice"),
            purpose: "reports".parse().unwrap(),
            expires_us: None,
            conditions: Default::default(),
            groups: names(groups),
            roles: names(&[]),
        };
        Document { name: name(n), principal: Some(id(p)), spec: Spec::Agent(spec) }
    };
    let model = |n: &str, environment: &str| {
        let spec = ModelSpec {
            routes: Vec::new(),
            output_tokens_max: None,
            cache: None,
            accepts: Default::default(),
            status: Status::Active,
            upstream: name("up"),
            upstream_model: None,
            family: None,
            dialects: [Dialect::OpenAiChat].into(),
            project: None,
            environment: name(environment),
            sensitivity: name("low"),
        };
        plain(n, Spec::Model(spec))
    };
    vec![
        plain("engineers", Spec::Group(NodeSpec::default())),
        plain("contractors", Spec::Group(NodeSpec::default())),
        plain("production", Spec::Environment(NodeSpec::default())),
        plain("development", Spec::Environment(NodeSpec::default())),
        model("dev", "development"),
        model("prod", "production"),
        model("weights", "production"),
        user("alice", 1, &["engineers"]),
        user("carol", 2, &["engineers", "contractors"]),
        user("mallory", 3, &[]),
        agent("reporter", 4, &["engineers"]),
        agent("stranger", 5, &[]),
    ]
}

pub(crate) fn snapshot(policies: &str) -> Snapshot {
    let bundle = Bundle { files: [("p.cedar".to_owned(), policies.to_owned())].into() };
    let compiled = CompiledBundle::compile(&bundle).unwrap();
    Snapshot::new(Some(Arc::new(compiled)), Arc::new(Entities::build(&documents()).unwrap()))
}

pub(crate) fn member(kind: PrincipalKind, who: &str, level: AssuranceLevel) -> Member {
    let principal = Principal { kind, name: name(who), id: id(9) };
    let assurance = Assurance { level, methods: Vec::new(), at: NOW, via: None };
    Member { principal, assurance, binding: Binding::None, device: None, risk: Risk::default() }
}

pub(crate) fn user(who: &str, level: AssuranceLevel) -> Caller {
    Caller::suppose(Tenant::default_tenant(), member(PrincipalKind::User, who, level), Vec::new())
}

pub(crate) fn door() -> Door {
    Door::new([ObligationKind::Cap, ObligationKind::Redact, ObligationKind::StripTools].into())
}

pub(crate) fn situation() -> Situation {
    Situation::at(NOW)
}

pub(crate) fn explain(
    snapshot: &Snapshot,
    caller: &Caller,
    action: Action,
    model: &str,
    door: &Door,
) -> Explanation {
    let resource = EntityRef::new(
        name(action.resource_type()),
        name(if EntityRef::OF_THE_HOUSE.contains(&action.resource_type()) { "bartizan" } else { model }),
    );
    let facts = AskFacts::default();
    let situation = situation();
    snapshot.explain(
        &Question { caller, action, resource: &resource, facts: &facts, situation: &situation },
        door,
        Reader::ALL,
    )
}

/// What is decided of somebody who invokes a model, with approvals that were given.
pub(crate) fn invoke_standing(
    snapshot: &Snapshot,
    caller: &Caller,
    model: &str,
    situation: &Situation,
    standing: &Standing,
) -> Explanation {
    let resource = EntityRef::new(name("Model"), name(model));
    let facts = AskFacts::default();
    let question =
        Question { caller, action: Action::ModelInvoke, resource: &resource, facts: &facts, situation };
    snapshot.explain_standing(&question, &Door::model_calls(), standing, Reader::ALL)
}

/// What a bundle of one file is refused with; nothing if it is not.
pub(crate) fn refused_with(policies: &str) -> String {
    compile(policies).err().unwrap_or_default()
}

pub(crate) fn compile(policies: &str) -> Result<CompiledBundle, String> {
    let bundle = Bundle { files: [("p.cedar".to_owned(), policies.to_owned())].into() };
    CompiledBundle::compile(&bundle).map_err(|errors| errors.to_string())
}

pub(crate) fn agent(who: &str) -> Caller {
    Caller::suppose(
        Tenant::default_tenant(),
        member(PrincipalKind::Agent, who, AssuranceLevel::None),
        Vec::new(),
    )
}

pub(crate) fn stated(purpose: &str) -> Situation {
    Situation { purpose: Some(purpose.parse().unwrap()), ..situation() }
}

pub(crate) fn bound(by: BoundBy) -> Binding {
    let thumbprint = Digest::of(b"a key");
    match by {
        BoundBy::Dpop => Binding::Dpop(thumbprint),
        BoundBy::Mtls => Binding::Mtls(thumbprint),
    }
}

pub(crate) fn user_bound(who: &str, level: AssuranceLevel, binding: Binding) -> Caller {
    let member = Member { binding, ..member(PrincipalKind::User, who, level) };
    Caller::suppose(Tenant::default_tenant(), member, Vec::new())
}

pub(crate) fn invoke(snapshot: &Snapshot, caller: &Caller, model: &str) -> Explanation {
    explain(snapshot, caller, Action::ModelInvoke, model, &door())
}

/// A real caller with a real key: only such a one can get a permit.
pub(crate) fn real_alice() -> Caller {
    real(Some([Action::ModelInvoke, Action::ModelList].into()))
}

/// Alice, by a key with these scopes; with all of them if none are named.
pub(crate) fn real(scopes: Option<std::collections::BTreeSet<Action>>) -> Caller {
    let key = ApiKey::generate(&bartizan_base::random::SeededRandom::new(1));
    let entry = KeyEntry {
        id: KeyId::from_parts(NOW, [1; 10]),
        tenant: Tenant::default_tenant(),
        digest: key.digest(),
        principal: Principal { kind: PrincipalKind::User, name: name("alice"), id: id(1) },
        scopes,
        created: NOW,
        expires: NOW.saturating_add(std::time::Duration::from_secs(10)),
        revoked: None,
    };
    let all = documents().into_iter().map(|d| (Tenant::default_tenant(), d));
    let directory = Directory::build(1, all, [entry].into_iter(), std::iter::empty());
    let header = format!("Bearer {}", key.text().expose());
    let presented = Presented::from_headers([header.as_bytes()].into_iter(), std::iter::empty()).unwrap();
    match Identifier::new().identify(&directory, &presented, NOW) {
        Identified::Caller(caller) => *caller,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn ask(model: &str, action: Action) -> Ask<ModelCall> {
    let resource = EntityRef::new(name("Model"), name(model));
    Ask::new(DecisionId::from_parts(NOW, [7; 10]), action, resource, AskFacts::default(), Digest::of(b"{}"))
}
