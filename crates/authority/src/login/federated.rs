//! What another provider's word does to the directory: memberships in groups, as far as they are mapped, and people who are made
//! by logging in, where that is allowed. The house does it, in an ask of its own, by the rules of any change of the directory.

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_control::{PRINCIPAL_NAME_MAX, Redeclare, Stopped, View, Work, Worked, raises};
use bartizan_identify::Identifier;
use bartizan_jose::IdClaims;
use bartizan_model::directory::PrincipalSpec;
use bartizan_model::{
    Action, Creation, Document, IdentityProviderSpec, MappedGroup, Principal, PrincipalId, PrincipalKind,
    Problem, ReasonCode, Spec, Status, Tenant,
};
use bartizan_store::{Change, RowKind};
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Login, broken};
use crate::kept::{Held, Kept, find, keep};
use crate::names::free;

/// Who somebody is at another provider: under issuer and subject, by pseudonym. It outlives its person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) whom: PrincipalId,
    pub(super) provider: Name,
    pub(super) made: Timestamp,
}

impl Kept for Link {
    const KIND: RowKind = RowKind::Link;

    fn owner(&self) -> String {
        self.whom.to_string()
    }

    fn expires(&self) -> Option<Timestamp> {
        None
    }
}

/// Under what a link lies.
pub(super) fn link_id(tenant: &Tenant, issuer: &str, subject: &str) -> String {
    let [tenant, issuer, subject] =
        [tenant.0.as_str(), issuer, subject].map(|part| Digest::of(part.as_bytes()));
    Digest::of_parts(&[tenant.as_bytes(), issuer.as_bytes(), subject.as_bytes()]).to_string()
}

/// What a provider has said of somebody, verified.
#[derive(Debug)]
pub(super) struct Word<'a> {
    /// Our name for the provider.
    pub(super) provider: &'a Name,
    /// What it said.
    pub(super) claims: &'a IdClaims,
    /// Something random that only this login knows: what is recorded of it cannot be guessed.
    pub(super) salt: Digest,
}

/// What the ledger commits to of it.
#[derive(Serialize)]
struct Request<'a> {
    provider: &'a Name,
    made: bool,
    salt: Digest,
}

impl Login {
    /// Whom a provider means, with memberships as it says; and what has to be kept with the login.
    pub(super) async fn recognised(
        &self,
        spec: &IdentityProviderSpec,
        word: &Word<'_>,
    ) -> Result<(Principal, Vec<Change>), Stopped> {
        let tenant = self.home();
        let id = link_id(&tenant, &spec.issuer, &word.claims.sub);
        let held = find::<Link>(&*self.authority.rows, &id, self.now()).await?;
        let view = self.authority.control.house.view(&tenant)?;
        if let Some(document) = held.as_ref().and_then(|held| known(&view, &tenant, held.value.whom)) {
            self.regroup(&view, word, document).await?;
            return Ok((principal(document)?, Vec::new()));
        }
        // Looks at everybody, whether found or not.
        let people = view.state.documents.iter().filter(|(t, d, _)| *t == tenant && is_person(d));
        let called = named(spec, word.claims);
        let document = people
            .fold(None, |found, (_, d, _)| if called == Some(d.name.as_str()) { Some(d) } else { found });
        if let Some(document) = document {
            self.regroup(&view, word, document).await?;
            let whom = principal(document)?;
            let link = Link { whom: whom.id, provider: word.provider.clone(), made: self.now() };
            let change = match &held {
                // It was of somebody who is gone, whose name was given to somebody new by an administrator.
                Some(held) => held.replace(&link)?,
                None => keep(&tenant, id, &link)?,
            };
            return Ok((whom, vec![change]));
        }
        let new = spec.creates.as_ref().and_then(|creates| admitted(creates, word.claims));
        match (held, new) {
            (None, Some(name)) => self.create(word, id, name).await.map(|whom| (whom, Vec::new())),
            // Whoever had this account is gone, and comes back as nobody.
            _ => Err(ReasonCode::LoginFailed.into()),
        }
    }

    /// Brings the memberships that are the provider's own to what it says now. Whoever may not come in stays as they are.
    async fn regroup(&self, view: &View, word: &Word<'_>, document: &Document) -> Result<(), Stopped> {
        let work = Regroup { login: self, word, whom: principal(document)?.id };
        if work.planned(view)?.is_none() {
            return Ok(());
        }
        let request = Request { provider: word.provider, made: false, salt: word.salt };
        let house = Identifier::house(self.home());
        let control = &self.authority.control;
        control.change_directory(&house, Action::IdentityChange, &request, &work).await.map(drop)
    }

    async fn create(&self, word: &Word<'_>, link: String, name: Name) -> Result<Principal, Stopped> {
        let control = &self.authority.control;
        let id = PrincipalId::new(control.clock.now(), &*control.random);
        let whom = Principal { kind: PrincipalKind::User, name, id };
        let work = Create { login: self, word, link: &link, whom: &whom };
        let request = Request { provider: word.provider, made: true, salt: word.salt };
        let house = Identifier::house(self.home());
        match control.change_directory(&house, Action::IdentityChange, &request, &work).await {
            Ok(_) => Ok(whom),
            Err(stopped) => {
                // The same person was quicker in another window.
                let held = find::<Link>(&*self.authority.rows, &link, self.now()).await?;
                let view = control.house.view(&self.home())?;
                match held.and_then(|held| known(&view, &self.home(), held.value.whom).cloned()) {
                    Some(document) => Ok(principal(&document)?),
                    None => Err(stopped),
                }
            }
        }
    }

    /// A person with the memberships that a provider's word gives them.
    fn regrouped(
        &self,
        view: &View,
        spec: &IdentityProviderSpec,
        word: &Word<'_>,
        document: &Document,
    ) -> Result<Document, Problem> {
        let mut given = given(spec, word.claims);
        let home = self.home();
        let there = |group: &Name| {
            let mut groups = view.state.documents.iter().filter(|(t, ..)| *t == home);
            groups.any(|(_, d, _)| matches!(d.spec, Spec::Group(_)) && d.name == *group)
        };
        given.retain(|mapped| there(&mapped.group));
        let all = with(document, word.provider, &given);
        if all == *document || given.iter().all(|mapped| mapped.administration) {
            return Ok(all);
        }
        let without = with(document, word.provider, &[]);
        let now = self.now();
        // A new person is nobody before: then only what they become counts.
        let before = known(view, &home, principal(document)?.id).map(|_| &without);
        if !raises(view, &home, before, &all, now)? {
            return Ok(all);
        }
        tracing::warn!(provider = %word.provider, "a mapping would have made an administrator and does not say so");
        given.retain(|mapped| mapped.administration);
        Ok(with(document, word.provider, &given))
    }
}

/// Changes somebody's memberships.
struct Regroup<'x> {
    login: &'x Login,
    word: &'x Word<'x>,
    whom: PrincipalId,
}

impl Regroup<'_> {
    /// The person as they are to be; none where nothing changes.
    fn planned(&self, view: &View) -> Result<Option<Document>, Problem> {
        let (_, spec) = self.login.provider(view, self.word.provider)?;
        let Some(document) = known(view, &self.login.home(), self.whom) else {
            return Err(Problem::new(ReasonCode::LoginFailed));
        };
        if document.spec.standing() != Some(Status::Active) {
            return Ok(None);
        }
        let after = self.login.regrouped(view, &spec, self.word, document)?;
        Ok((after != *document).then_some(after))
    }
}

impl Work for Regroup<'_> {
    type Value = ();

    fn work<'a>(&'a self, view: &'a View, _: &'a Tenant) -> Worked<'a, ()> {
        let planned = self.planned(view).map(|document| {
            let redeclare = Redeclare { put: document.into_iter().collect(), ..Redeclare::default() };
            (redeclare, Vec::new(), ())
        });
        std::future::ready(planned).boxed()
    }
}

/// Makes somebody.
struct Create<'x> {
    login: &'x Login,
    word: &'x Word<'x>,
    link: &'x str,
    whom: &'x Principal,
}

impl Create<'_> {
    fn planned(&self, view: &View, tenant: &Tenant) -> Result<(Redeclare, Vec<Change>, ()), Problem> {
        let (_, spec) = self.login.provider(view, self.word.provider)?;
        let still = spec.creates.as_ref().and_then(|creates| admitted(creates, self.word.claims));
        if still.as_ref() != Some(&self.whom.name) {
            return Err(Problem::new(ReasonCode::LoginFailed));
        }
        free(view, tenant, "User", &self.whom.name).map_err(|why| {
            tracing::info!(?why, provider = %self.word.provider, "nobody is made under a name that is not free");
            Problem::new(ReasonCode::LoginFailed)
        })?;
        let document = Document {
            name: self.whom.name.clone(),
            principal: Some(self.whom.id),
            spec: Spec::User(PrincipalSpec::default()),
        };
        let document = self.login.regrouped(view, &spec, self.word, &document)?;
        let link = Link { whom: self.whom.id, provider: self.word.provider.clone(), made: self.login.now() };
        let link = keep(tenant, self.link, &link).map_err(|e| broken("a link cannot be kept", &e))?;
        Ok((Redeclare { put: vec![document], ..Redeclare::default() }, vec![link], ()))
    }
}

impl Work for Create<'_> {
    type Value = ();

    fn work<'a>(&'a self, view: &'a View, tenant: &'a Tenant) -> Worked<'a, ()> {
        std::future::ready(self.planned(view, tenant)).boxed()
    }
}

fn is_person(document: &Document) -> bool {
    matches!(document.spec, Spec::User(_))
}

/// The person of a pseudonym, whatever they are called now.
pub(super) fn known<'a>(view: &'a View, tenant: &Tenant, whom: PrincipalId) -> Option<&'a Document> {
    let mut people = view.state.documents.iter().filter(|(t, d, _)| t == tenant && is_person(d));
    people.find(|(_, d, _)| d.principal == Some(whom)).map(|(_, document, _)| document)
}

fn principal(document: &Document) -> Result<Principal, Problem> {
    let id = document.principal.ok_or_else(|| Problem::new(ReasonCode::LoginFailed))?;
    Ok(Principal { kind: PrincipalKind::User, name: document.name.clone(), id })
}

fn with(document: &Document, provider: &Name, given: &[&MappedGroup]) -> Document {
    let mut document = document.clone();
    if let Spec::User(spec) = &mut document.spec {
        if given.is_empty() {
            spec.federated.remove(provider);
        } else {
            let groups = given.iter().map(|mapped| mapped.group.clone()).collect();
            spec.federated.insert(provider.clone(), groups);
        }
    }
    document
}

fn claim<'a>(claims: &'a IdClaims, name: &str) -> Option<&'a Value> {
    claims.others.get(name)
}

/// A claim as texts: one, or a list of nothing but texts. Anything else says nothing.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().map(Value::as_str).collect::<Option<Vec<_>>>().unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

/// The groups that a provider's word gives, as far as they are mapped.
fn given<'a>(spec: &'a IdentityProviderSpec, claims: &IdClaims) -> Vec<&'a MappedGroup> {
    let said = spec.groups.as_ref().and_then(|mapping| claim(claims, &mapping.claim));
    let said = said.map(texts).unwrap_or_default();
    spec.given().filter(|mapped| said.contains(&mapped.value.as_str())).collect()
}

/// The name of the account that is to be made for somebody; none for somebody who is not to be let in so.
fn admitted(creates: &Creation, claims: &IdClaims) -> Option<Name> {
    let holds = |(name, values): (&String, &std::collections::BTreeSet<String>)| {
        claim(claims, name).map(texts).unwrap_or_default().iter().any(|text| values.contains(*text))
    };
    let at_home = || {
        // Only what the provider itself has verified; a text `true` is no verification.
        let verified = claim(claims, "email_verified") == Some(&Value::Bool(true));
        let domain = claim(claims, "email")?.as_str()?.rsplit_once('@')?.1.to_ascii_lowercase();
        Some(verified && creates.domains.contains(&domain))
    };
    let bounded = !(creates.domains.is_empty() && creates.when.is_empty());
    let admits = bounded
        && creates.when.iter().all(holds)
        && (creates.domains.is_empty() || at_home().unwrap_or(false));
    let text = match creates.name_claim.as_str() {
        "sub" => Some(claims.sub.as_str()),
        other => claim(claims, other).and_then(Value::as_str),
    };
    text.filter(|_| admits)?.parse().ok().filter(|name: &Name| name.len() <= PRINCIPAL_NAME_MAX)
}

/// What the provider calls somebody in our directory, where it is asked to. Addresses for mail name nobody: whoever controls
/// one today did not yesterday.
fn named<'a>(spec: &IdentityProviderSpec, claims: &'a IdClaims) -> Option<&'a str> {
    match spec.name_claim.as_ref()?.as_str() {
        "sub" => Some(&claims.sub),
        "email" | "mail" | "email_verified" => None,
        other => claim(claims, other)?.as_str(),
    }
}

/// Keeps a link that somebody made themselves, signed in.
pub(super) fn linked(
    tenant: &Tenant,
    id: String,
    link: &Link,
    held: Option<&Held<Link>>,
) -> Result<Change, Problem> {
    let change = match held {
        Some(held) => held.replace(link),
        None => keep(tenant, id, link),
    };
    change.map_err(|e| broken("a link cannot be kept", &e))
}

#[cfg(test)]
mod tests {
    use bartizan_jose::Times;
    use serde_json::json;

    use super::*;

    fn spec(groups: Value, creates: Value) -> IdentityProviderSpec {
        let mut spec = json!({"issuer": "https://login.example", "client_id": "b"});
        spec["groups"] = groups;
        spec["creates"] = creates;
        serde_json::from_value(spec).unwrap()
    }

    fn claims(others: Value) -> IdClaims {
        let times =
            Times { issued: Timestamp::from_secs(1), not_before: None, expires: Timestamp::from_secs(9) };
        let mut claims = IdClaims::new("https://login.example", "s-1", "b", times);
        let Value::Object(others) = others else { panic!("claims") };
        claims.others = others;
        claims
    }

    fn mapped(said: Value) -> Vec<String> {
        let map = json!([{"value": "Eng", "group": "engineers"}, {"value": "Eng", "group": "staff"},
            {"value": "42", "group": "answers"}]);
        let spec = spec(json!({"claim": "groups", "map": map}), Value::Null);
        given(&spec, &claims([("groups".to_owned(), said)].into_iter().collect()))
            .iter()
            .map(|m| m.group.to_string())
            .collect()
    }

    #[test]
    fn attack_51_a_claim_of_groups_gives_what_is_listed_to_the_letter_and_nothing_else() {
        assert_eq!(mapped(json!("Eng")), ["engineers", "staff"]);
        assert_eq!(mapped(json!(["x", "Eng", "Eng"])), ["engineers", "staff"]);
        for nothing in [
            json!("engineers"),
            json!("eng"),
            json!(" Eng"),
            json!("Eng,staff"),
            json!([["Eng"]]),
            json!(["Eng", 1]),
            json!({"Eng": true}),
            json!(42),
            json!(true),
            Value::Null,
        ] {
            assert!(mapped(nothing.clone()).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn attack_51_a_provider_that_is_out_of_use_gives_nothing() {
        let mut spec = spec(json!({"claim": "g", "map": [{"value": "a", "group": "a"}]}), Value::Null);
        assert_eq!(given(&spec, &claims(json!({"g": "a"}))).len(), 1);
        spec.status = Status::Disabled;
        assert!(given(&spec, &claims(json!({"g": "a"}))).is_empty());
    }

    #[test]
    fn attack_51_whoever_is_made_fulfils_every_bound_and_a_mere_address_is_none() {
        let bounds = json!({"domains": ["example.com"], "when": {"hd": ["example.com"]}});
        let spec = spec(Value::Null, bounds);
        let creates = spec.creates.as_ref().unwrap();
        let right = json!({"preferred_username": "eve", "email": "eve@Example.com", "email_verified": true, "hd": "example.com"});
        assert_eq!(admitted(creates, &claims(right.clone())).as_deref(), Some("eve"));
        for (name, value) in [
            ("email_verified", json!(false)),
            ("email_verified", json!("true")),
            ("email_verified", Value::Null),
            ("email", json!("eve@example.com.evil.example")),
            ("email", json!("eve@sub.example.com")),
            ("email", json!("\"eve@example.com\"@evil.example")),
            ("email", json!(["eve@example.com"])),
            ("hd", json!("evil.example")),
            ("hd", Value::Null),
            ("preferred_username", json!("")),
            ("preferred_username", json!("eve mallory")),
            ("preferred_username", json!("e".repeat(PRINCIPAL_NAME_MAX + 1))),
            ("preferred_username", json!(["eve"])),
        ] {
            let mut wrong = right.clone();
            wrong[name] = value.clone();
            assert_eq!(admitted(creates, &claims(wrong)), None, "{name}: {value}");
        }
        // Without any bound it is refused when it is declared; should it come here all the same, it admits nobody.
        let open =
            Creation { name_claim: "sub".to_owned(), domains: Default::default(), when: Default::default() };
        assert_eq!(admitted(&open, &claims(right)), None);
    }
}
