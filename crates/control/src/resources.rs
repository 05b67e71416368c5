//! Declared things: applied as a set, listed, removed; credentials sealed; epochs advanced; upstreams tried.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

use bartizan_base::{Digest, Name};
use bartizan_decide::ServerWords;
use bartizan_identify::Caller;
use bartizan_identify::spiffe::{TrustBundle, TrustDomain};
use bartizan_mask::Custom;
use bartizan_model::action::ModelCall;
use bartizan_model::{
    Action, ApiRouteSpec, AttestationSpec, CacheSpec, Document, EntityRef, FederationSpec, Problem,
    ReasonCode, RequestExtra, Spec, Status, Target, Tenant, ToolWordsSpec, UpstreamAuth,
};
use bartizan_secret::Secret;
use bartizan_store::{Change, EpochKind, EpochRow, SealedRow, State};
use bartizan_wire::api::ReadyOperation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::{Plainly, Redeclare};
use crate::turn::Turn;
use crate::{Control, Done, Probe, Stopped, View};

/// Operations of an external API.
const OPERATIONS_MAX: usize = 500;

/// A declared thing with the revision of its last change, which a later change must name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DocumentView {
    /// The thing.
    #[serde(flatten)]
    pub document: Document,
    /// The revision of its last change.
    pub revision: u64,
}

/// An epoch to be advanced to the present moment.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EpochToAdvance {
    /// About what kind of thing.
    pub kind: EpochKind,
    /// Which: `user/alice` for a principal, the issuer's name, or the tenant's.
    pub name: Name,
}

impl Control {
    /// Declares things, all or none. A thing that exists already is declared anew.
    ///
    /// Whoever may not come in any more by it is dead everywhere with it.
    ///
    /// # Errors
    /// When policy says no, a reference leads nowhere, or something changed meanwhile.
    pub async fn apply_documents(
        &self,
        caller: &Caller,
        documents: &[Document],
    ) -> Result<Done<Vec<DocumentView>>, Stopped> {
        let work = |view: &View, tenant: &Tenant| {
            let mut put = Vec::new();
            for given in documents {
                check_address(given)?;
                crate::deliveries::check(given, &*self.couriers)?;
                put.push(kept_by_provisioning(view, tenant, given)?);
            }
            Ok(Redeclare { put, ..Redeclare::default() })
        };
        let done = self.change_directory(caller, Action::ResourceApply, &documents, &Plainly(work)).await;
        let view = |(document, revision)| DocumentView { document, revision };
        done.map(|done| done.map(|(put, ())| put.into_iter().map(view).collect()))
    }

    /// Lists declared things, of one kind if `kind` is given.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn list_documents(
        &self,
        caller: &Caller,
        kind: Option<&str>,
    ) -> Result<Done<Vec<DocumentView>>, Stopped> {
        self.read(caller, Action::ResourceRead, &kind, |view, tenant| {
            Ok(view
                .state
                .documents
                .iter()
                .filter(|(t, d, _)| t == tenant && kind.is_none_or(|k| d.spec.kind() == k))
                .map(|(_, d, r)| DocumentView { document: d.clone(), revision: *r })
                .collect())
        })
        .await
    }

    /// Removes a declared thing.
    ///
    /// # Errors
    /// When policy says no, there is no such thing, or something else still refers to it.
    pub async fn delete_document(
        &self,
        caller: &Caller,
        kind: &str,
        name: &Name,
    ) -> Result<Done<()>, Stopped> {
        let work = |_: &View, _: &Tenant| {
            let gone = vec![(kind.to_owned(), name.clone())];
            Ok(Redeclare { gone, ..Redeclare::default() })
        };
        let done =
            self.change_directory(caller, Action::ResourceApply, &(kind, name), &Plainly(work)).await?;
        Ok(done.map(drop))
    }

    /// Keeps a credential for upstreams, sealed. It can be replaced, never read back.
    ///
    /// # Errors
    /// When policy says no or the text cannot stand in a header.
    pub async fn put_credential(
        &self,
        caller: &Caller,
        name: &Name,
        text: &Secret<String>,
    ) -> Result<Done<()>, Stopped> {
        // The record commits to the name alone: a digest of the credential would be something to guess against.
        self.change(caller, Action::ResourceApply, &("credential", name), |_, tenant| {
            let ok = |b: u8| b.is_ascii_graphic();
            if text.expose().is_empty() || text.expose().len() > 8_192 || !text.expose().bytes().all(ok) {
                return Err(Problem::with_detail(
                    ReasonCode::Invalid,
                    "a credential is 1 to 8,192 visible ASCII characters",
                ));
            }
            let sealed = self.sealer.seal(text, tenant, name, &*self.random).map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "sealing failed");
                Problem::new(ReasonCode::Internal)
            })?;
            Ok((
                vec![Change::PutSealed(SealedRow { tenant: tenant.clone(), name: name.clone(), sealed })],
                (),
            ))
        })
        .await
    }

    /// Declares that everything issued to somebody up to now is dead.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn advance_epoch(
        &self,
        caller: &Caller,
        request: &EpochToAdvance,
    ) -> Result<Done<()>, Stopped> {
        let now = self.clock.now();
        self.change(caller, Action::EpochAdvance, request, |_, tenant| {
            let row = EpochRow {
                tenant: tenant.clone(),
                kind: request.kind,
                name: request.name.clone(),
                not_before: now,
                revision: 0,
            };
            Ok((vec![Change::AdvanceEpoch(row)], ()))
        })
        .await
    }

    /// Tries an upstream with a harmless request: its list of models.
    ///
    /// # Errors
    /// When policy says no, there is no such upstream, or it does not answer.
    pub async fn test_upstream(&self, caller: &Caller, name: &Name) -> Result<Done<Probe>, Stopped> {
        let target = Target::Upstream {
            method: "GET".into(),
            upstream: name.clone(),
            path: "/v1/models".to_owned(),
            body: Digest::of(b""),
        };
        let Turn { view, intent } =
            self.ask::<ModelCall>(caller, Action::UpstreamTest, &name, target).await?;
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        if find(&view.state, caller.tenant(), "upstream", name).is_none() {
            let problem =
                Problem::with_detail(ReasonCode::NotFound, format!("no upstream is called `{name}`"));
            return crate::turn::finish(intent.begin(), Err(problem), receipt, decision);
        }
        match self.house.probe(intent, name).await {
            Ok(value) => Ok(Done { value, receipt, decision, acknowledged: None }),
            Err(reason) => {
                Err(Stopped { problem: Problem::new(reason).of(decision), receipt: Some(receipt) })
            }
        }
    }
}

pub(crate) fn find<'a>(
    state: &'a State,
    tenant: &Tenant,
    kind: &str,
    name: &Name,
) -> Option<(&'a Document, u64)> {
    state.document(tenant, kind, name).map(|(_, document, revision)| (document, *revision))
}

/// What stands where it means nothing, or could never hold: it must not look as if it did.
fn misplaced(spec: &Spec) -> Option<Cow<'static, str>> {
    match spec {
        Spec::Role(n) | Spec::Environment(n) | Spec::Provider(n) | Spec::Organisation(n)
            if n.organisation.is_some() =>
        {
            Some("only groups and projects belong to an organisation".into())
        }
        Spec::Role(n)
        | Spec::Environment(n)
        | Spec::Provider(n)
        | Spec::Organisation(n)
        | Spec::Project(n)
            if !n.roles.is_empty() =>
        {
            Some("only groups give roles".into())
        }
        Spec::IdentityProvider(provider) => provider.mistake().map(Cow::Borrowed),
        Spec::DatabaseRoute(route) => bartizan_sql_guard::check_route(route).err().map(Cow::Owned),
        Spec::Agent(a) | Spec::Workload(a) => {
            bartizan_decide::check_conditions(&a.conditions).err().map(Cow::Owned)
        }
        Spec::Attestation(a) => unusable(a).map(Cow::Borrowed),
        Spec::Limit(limit) => {
            let zone = bartizan_limits::window::zone(limit).err().map(|error| Cow::Owned(error.to_string()));
            limit.mistake().map(Cow::Borrowed).or(zone)
        }
        Spec::Model(model) => {
            let astray = !model.routes.is_empty()
                && !model.routes.iter().any(|route| route.upstream == model.upstream);
            let astray = astray.then_some("`upstream` is one of `routes`, where there are any");
            astray.or(model.cache.as_ref().and_then(CacheSpec::mistake)).map(Cow::Borrowed)
        }
        Spec::CorpusRoute(route) => route.check().err().map(Cow::Borrowed),
        Spec::MeshRoute(route) => route.mistake().map(Cow::Borrowed),
        spec => match spec.asset() {
            Some((asset, None)) if !asset.within.is_empty() => Some("it cannot be within anything".into()),
            Some((asset, container))
                if container != Some("Collection")
                    && !(asset.readers.is_empty() && asset.reader_groups.is_empty()) =>
            {
                Some("only documents have access lists".into())
            }
            Some((asset, _))
                if asset.readers.len() > READERS_MAX || asset.reader_groups.len() > READERS_MAX =>
            {
                Some("an access list has at most 500 people and 500 groups".into())
            }
            _ => None,
        },
    }
}

/// People, and groups, on the access list of a document.
const READERS_MAX: usize = 500;

/// Why the word of a maker of authenticators could never be taken.
fn unusable(spec: &AttestationSpec) -> Option<&'static str> {
    if spec.aaguids.is_empty() {
        return Some("`aaguids` names at least one model");
    }
    let whole = |text: &str| {
        let (rest, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).ok()?;
        let read = pem.parse_x509().is_ok_and(|certificate| certificate.is_ca());
        (read && rest.iter().all(u8::is_ascii_whitespace)).then_some(())
    };
    whole(&spec.root).is_none().then_some("`root` is one certificate of a certificate authority, as PEM")
}

/// What provisioning and other providers say stays as it is when somebody is declared anew: whether they are suspended, who
/// belongs to the groups that are provisioning's own, and which groups a login gave.
fn kept_by_provisioning(view: &View, tenant: &Tenant, given: &Document) -> Result<Document, Problem> {
    let mut document = given.clone();
    let provisioned = |name: &&Name| {
        let group = find(&view.state, tenant, "group", name);
        group.is_some_and(|(group, _)| matches!(&group.spec, Spec::Group(spec) if spec.provisioned))
    };
    let present =
        find(&view.state, tenant, given.spec.kind(), &given.name).map(|(document, _)| &document.spec);
    match (&mut document.spec, present) {
        (Spec::User(_), Some(Spec::User(present))) if present.status == Status::Retired => {
            let detail = format!(
                "user `{}` is gone for good; once it is removed, the name can be given to somebody new",
                given.name
            );
            return Err(Problem::with_detail(ReasonCode::Conflict, detail));
        }
        (Spec::User(spec), Some(Spec::User(present))) => {
            spec.suspended = present.suspended;
            spec.federated.clone_from(&present.federated);
            spec.groups.extend(present.groups.iter().filter(provisioned).cloned());
        }
        (Spec::User(spec), _) => {
            spec.suspended = false;
            spec.federated.clear();
        }
        (Spec::Group(spec), Some(Spec::Group(present))) => {
            spec.parents.extend(present.parents.iter().filter(provisioned).cloned());
        }
        _ => {}
    }
    // A pseudonym is ours to give.
    document.principal = None;
    Ok(document)
}

/// How deep groups, roles, organisations and projects may nest.
const DEPTH_MAX: usize = 32;

/// Every reference must lead somewhere, and the entities must still make a policy snapshot (no cycles). Looks at what is given,
/// at what refers to what goes, and at what is above and below what nests; the rest was whole before.
pub(crate) fn check_whole(
    view: &View,
    tenant: &Tenant,
    given: &[Document],
    gone: &[(String, Name)],
) -> Result<(), Problem> {
    let named: HashSet<(&str, &Name)> = given.iter().map(|d| (d.spec.kind(), &d.name)).collect();
    if named.len() < given.len() {
        return Err(Problem::with_detail(ReasonCode::Invalid, "a thing stands twice in what is declared"));
    }
    let leaving: HashSet<(&str, &Name)> = gone.iter().map(|(kind, name)| (kind.as_str(), name)).collect();
    let mut removed = Vec::new();
    for (kind, name) in gone {
        let Some((document, _)) = find(&view.state, tenant, kind, name) else {
            return Err(Problem::with_detail(ReasonCode::NotFound, format!("no {kind} is called `{name}`")));
        };
        let stays = |user: &(&str, &Name)| !named.contains(user) && !leaving.contains(user);
        let there = view.state.index.referrers(tenant, kind, name).filter(stays).min();
        let user = there.or_else(|| {
            let refers = |d: &&Document| d.spec.references().iter().any(|(k, n)| k == kind && *n == name);
            given.iter().find(refers).map(|d| (d.spec.kind(), &d.name))
        });
        if let Some((kind, name)) = user {
            let by = format!("{kind} `{name}` still refers to it");
            return Err(Problem::with_detail(ReasonCode::Conflict, by));
        }
        if kind == "detector"
            && let Some(bundle) = view.policy.bundle()
            && let Some((_, rule)) = bundle.custom_detectors().find(|(detector, _)| *detector == name)
        {
            let by = format!("rule `{rule}` of the policy in force still names it");
            return Err(Problem::with_detail(ReasonCode::Conflict, by));
        }
        removed.push(document);
    }
    for document in given {
        if let Spec::Model(model) = &document.spec
            && model.accepts.contains(&RequestExtra::ProviderState)
        {
            let detail = "`provider_state` cannot be accepted: whose it is cannot be told yet";
            return Err(Problem::with_detail(ReasonCode::Invalid, detail));
        }
        if let Spec::View(saved) = &document.spec
            && let Err(error) = saved.query.parse::<bartizan_query::Query>()
        {
            return Err(Problem::with_detail(
                ReasonCode::Invalid,
                format!("view `{}`: {error}", document.name),
            ));
        }
        if let Spec::ToolWords(words) = &document.spec {
            let wrong = |why: String| {
                Problem::with_detail(ReasonCode::Invalid, format!("tool_words `{}`: {why}", document.name))
            };
            if serde_json::to_vec(&words.tools).map_or(usize::MAX, |bytes| bytes.len())
                > ToolWordsSpec::BYTES_MAX
            {
                return Err(wrong(format!(
                    "the definitions are longer than {} bytes",
                    ToolWordsSpec::BYTES_MAX
                )));
            }
            ServerWords::of(&document.name, &words.tools).map_err(|why| wrong(why.to_string()))?;
        }
        if let Spec::Detector(spec) = &document.spec
            && let Err(error) = Custom::compile(&document.name, spec)
        {
            let detail = format!("detector `{}`: {error}", document.name);
            return Err(Problem::with_detail(ReasonCode::Invalid, detail));
        }
        if let Spec::ToolRoute(route) = &document.spec {
            let name = &document.name;
            let server = ("tool_server", name);
            let there = named.contains(&server)
                || !leaving.contains(&server) && find(&view.state, tenant, server.0, name).is_some();
            let why = route.mistake(name).or((!there).then_some("no tool_server is called so"));
            if let Some(why) = why {
                return Err(Problem::with_detail(ReasonCode::Invalid, format!("tool_route `{name}`: {why}")));
            }
        }
        if let Some(why) = misplaced(&document.spec) {
            let place = format!("{} `{}`: {why}", document.spec.kind(), document.name);
            return Err(Problem::with_detail(ReasonCode::Invalid, place));
        }
        for (kind, name) in document.spec.references() {
            let stays = !leaving.contains(&(kind, name)) && find(&view.state, tenant, kind, name).is_some();
            if !named.contains(&(kind, name)) && !stays {
                let place = format!(
                    "{} `{}` refers to {kind} `{name}`, which is not declared",
                    document.spec.kind(),
                    document.name
                );
                return Err(Problem::with_detail(ReasonCode::Invalid, place));
            }
        }
    }
    // Where something of a bundle's own falls out because of what is removed, that is what it is in conflict with.
    let checked = check_entities(view, tenant, given, &removed);
    checked.map_err(|e| if given.is_empty() { Problem { reason: ReasonCode::Conflict, ..e } } else { e })?;
    check_depth(&view.state, tenant, given, &leaving)
}

/// What something nests in, if it is of a kind that nests in its own.
const fn nests(spec: &Spec) -> Option<&BTreeSet<Name>> {
    match spec {
        Spec::Group(n) | Spec::Role(n) | Spec::Project(n) | Spec::Organisation(n) => Some(&n.parents),
        _ => None,
    }
}

/// What nests too deeply is refused: nobody sees through it, and everybody's rights are looked up in it. A way that is too long
/// now leads through something given, so its length is that above it and that below it.
fn check_depth(
    state: &State,
    tenant: &Tenant,
    given: &[Document],
    leaving: &HashSet<(&str, &Name)>,
) -> Result<(), Problem> {
    let nesting = given.iter().filter(|document| nests(&document.spec).is_some());
    let mut within: HashMap<(&str, &Name), Vec<&Name>> = HashMap::new();
    for document in nesting.clone() {
        for parent in nests(&document.spec).into_iter().flatten() {
            within.entry((document.spec.kind(), parent)).or_default().push(&document.name);
        }
    }
    let given = nesting.clone().map(|document| ((document.spec.kind(), &document.name), document)).collect();
    let nest = Nest { state, tenant, given, within, leaving };
    let (mut above, mut below) = (HashMap::new(), HashMap::new());
    for document in nesting {
        let (kind, name) = (document.spec.kind(), &document.name);
        let up = longest(&mut above, (kind, name), DEPTH_MAX, &|kind, name| nest.parents(kind, name));
        let down = longest(&mut below, (kind, name), DEPTH_MAX, &|kind, name| nest.members(kind, name));
        if up.zip(down).is_none_or(|(up, down)| up + down > DEPTH_MAX) {
            let detail = format!("{kind} `{name}` is nested more than {DEPTH_MAX} deep");
            return Err(Problem::with_detail(ReasonCode::Invalid, detail));
        }
    }
    Ok(())
}

/// What nests, as it would be after a change.
struct Nest<'a> {
    state: &'a State,
    tenant: &'a Tenant,
    given: HashMap<(&'a str, &'a Name), &'a Document>,
    /// What is given by what it nests in.
    within: HashMap<(&'a str, &'a Name), Vec<&'a Name>>,
    leaving: &'a HashSet<(&'a str, &'a Name)>,
}

impl<'a> Nest<'a> {
    fn parents(&self, kind: &'a str, name: &'a Name) -> Vec<&'a Name> {
        let given = self.given.get(&(kind, name)).copied();
        let present = || {
            let there = find(self.state, self.tenant, kind, name).map(|(document, _)| document);
            there.filter(|_| !self.leaving.contains(&(kind, name)))
        };
        let document = given.or_else(present);
        document.and_then(|document| nests(&document.spec)).into_iter().flatten().collect()
    }

    fn members(&self, kind: &'a str, name: &'a Name) -> Vec<&'a Name> {
        let same = |(of, member): &(&'static str, &'a Name)| {
            *of == kind
                && !self.given.contains_key(&(kind, *member))
                && !self.leaving.contains(&(kind, *member))
        };
        let there =
            self.state.index.referrers(self.tenant, kind, name).filter(same).map(|(_, member)| member);
        there.chain(self.within.get(&(kind, name)).into_iter().flatten().copied()).collect()
    }
}

/// The longest way from something along `next`; none for more than `left`.
fn longest<'a>(
    known: &mut HashMap<(&'a str, &'a Name), usize>,
    (kind, name): (&'a str, &'a Name),
    left: usize,
    next: &impl Fn(&'a str, &'a Name) -> Vec<&'a Name>,
) -> Option<usize> {
    if let Some(long) = known.get(&(kind, name)) {
        return (*long <= left).then_some(*long);
    }
    let mut long = 0;
    for name in next(kind, name) {
        long = long.max(1 + longest(known, (kind, name), left.checked_sub(1)?, next)?);
    }
    known.insert((kind, name), long);
    Some(long)
}

/// The entities must make a snapshot, and nothing of a bundle's own types may fall out of it that was in it: neither what is
/// given, nor what refers to something that is changed.
fn check_entities(
    view: &View,
    tenant: &Tenant,
    given: &[Document],
    gone: &[&Document],
) -> Result<(), Problem> {
    let invalid = |detail: String| Problem::with_detail(ReasonCode::Invalid, detail);
    let ours = || view.state.documents.iter().filter(|(t, ..)| t == tenant).map(|(_, d, _)| d);
    let own = |document: &Document| matches!(document.spec, Spec::Entity(_));
    if !given.iter().any(own) && view.state.of_kind(tenant, "entity").next().is_none() {
        let gone: Vec<EntityRef> = gone.iter().map(|document| document.entity()).collect();
        let changed = view.policy.entities().with_documents(given, &gone);
        return changed.map(|_| ()).map_err(|e| invalid(e.to_string()));
    }
    // Whether things of a bundle's own types fit depends on each other, so all are looked at.
    let named: HashSet<(&str, &Name)> =
        given.iter().chain(gone.iter().copied()).map(|d| (d.spec.kind(), &d.name)).collect();
    let kept = ours().filter(|d| !named.contains(&(d.spec.kind(), &d.name)));
    let all: Vec<Document> = kept.chain(given).cloned().collect();
    let bundle = view.policy.bundle().map(|bundle| &**bundle);
    let entities = bartizan_decide::Entities::build_for(&all, bundle).map_err(|e| invalid(e.to_string()))?;
    let is_given = |name: &Name| given.iter().any(|d| d.spec.kind() == "entity" && d.name == *name);
    let was_out = |name: &Name| view.policy.misfits().iter().any(|m| m.document == *name);
    let fell = entities.misfits().iter().find(|m| is_given(&m.document) || !was_out(&m.document));
    fell.map_or(Ok(()), |misfit| Err(invalid(misfit.to_string())))
}

fn check_address(document: &Document) -> Result<(), Problem> {
    match &document.spec {
        Spec::Upstream(u) => match (u.auth, &u.region) {
            (UpstreamAuth::SigV4, None) => Err(Problem::with_detail(
                ReasonCode::Invalid,
                format!("upstream `{}`: requests that are signed need a `region`", document.name),
            )),
            _ => check_url(&document.name, &u.base_url),
        },
        Spec::Issuer(i) => check_url(&document.name, &i.jwks_url),
        Spec::Federation(f) => check_federation(&document.name, f),
        Spec::IdentityProvider(p) => check_url(&document.name, &p.issuer),
        Spec::ConnectionProvider(p) => check_url(&document.name, &p.resource),
        Spec::ApiRoute(route) => check_operations(&document.name, route),
        Spec::DatabaseRoute(route) => match route.mistake(&document.name) {
            None => Ok(()),
            Some(why) => Err(Problem::with_detail(
                ReasonCode::Invalid,
                format!("database_route `{}`: {why}", document.name),
            )),
        },
        _ => Ok(()),
    }
}

/// Operations of an external API that nobody could call, or of which nobody could tell which is meant.
fn check_operations(name: &Name, route: &ApiRouteSpec) -> Result<(), Problem> {
    let invalid = |text: String| Err(Problem::with_detail(ReasonCode::Invalid, format!("`{name}`: {text}")));
    if route.operations.is_empty() || route.operations.len() > OPERATIONS_MAX {
        return invalid(format!("an API has 1 to {OPERATIONS_MAX} operations"));
    }
    let mut names = HashSet::new();
    for operation in &route.operations {
        if !names.insert(&operation.name) {
            return invalid(format!("the operation `{}` stands twice", operation.name));
        }
        if let Err(error) = ReadyOperation::new(operation) {
            return invalid(format!("the operation `{}`: {error}", operation.name));
        }
    }
    Ok(())
}

/// The issuer's keys are at an address or, for a trust domain, in the rule itself.
fn check_federation(name: &Name, rule: &FederationSpec) -> Result<(), Problem> {
    let invalid = |text: &str| Err(Problem::with_detail(ReasonCode::Invalid, format!("`{name}`: {text}")));
    let domain = TrustDomain::of_issuer(&rule.issuer);
    if domain.is_none() && rule.issuer.starts_with("spiffe:") {
        return invalid("the issuer is no trust domain");
    }
    match (&rule.trust_bundle, domain) {
        (None, _) => check_url(name, &rule.jwks_url),
        (Some(_), _) if !rule.jwks_url.is_empty() => {
            invalid("keys are at `jwks_url` or in `trust_bundle`, not both")
        }
        (Some(_), None) => invalid("only a trust domain (`spiffe://…`) has a trust bundle"),
        (Some(bundle), Some(domain)) => TrustBundle::parse(domain, bundle.to_string().as_bytes())
            .map(|_| ())
            .or_else(|error| invalid(&format!("`trust_bundle`: {error}"))),
    }
}

pub(crate) fn check_url(name: &Name, url: &str) -> Result<(), Problem> {
    let plain = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match plain {
        Some(rest) if !rest.is_empty() && !rest.contains(['@', '?', '#', ' ']) => Ok(()),
        _ => Err(Problem::with_detail(
            ReasonCode::Invalid,
            format!(
                "`{name}`: an address is `http://` or `https://`, a host and a path, without user, query or fragment"
            ),
        )),
    }
}
