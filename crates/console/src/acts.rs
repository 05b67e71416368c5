//! What agents did in one's name, out of the ledger: the last of it on the account page, all of it page by page.

use std::collections::BTreeMap;

use bartizan_authority::login::SignedIn;
use bartizan_authority::oauth::Form;
use bartizan_control::Act;
use bartizan_model::ReasonCode;
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, HeaderValue};
use serde_json::json;

use crate::account::grant;
use crate::pages::{ActLine, ActorLine, ActsPage, GrantLine};
use crate::{Answer, Console, Request, Stop, answer, texts};

/// Acts of each agent on the account page.
const LAST: usize = 3;
/// Among how many acts of all agents those are looked for: one ask of the ledger a page.
const LOOKED_AT: usize = 100;
/// Acts of a page.
const PAGE: usize = 25;

impl Console {
    /// Everybody who acted lately or still may, with the last of what they did; or why that cannot be shown. The page stands
    /// without it: what may act can be withdrawn also while the ledger cannot be read.
    pub(crate) async fn actors(&self, who: &SignedIn, grants: &[GrantLine]) -> (Vec<ActorLine>, String) {
        let control = &self.login.authority.control;
        let found = match control.acts_in_own_name(&who.caller, None, None, LOOKED_AT).await {
            Ok(done) => done.value,
            Err(stopped) => return (Vec::new(), texts::line(&stopped.problem)),
        };
        let mut by: BTreeMap<String, Vec<ActLine>> = BTreeMap::new();
        for agent in grants.iter().filter(|one| one.alive && !one.agent.is_empty()) {
            by.entry(agent.agent.clone()).or_default();
        }
        for act in found.acts {
            for actor in act.actors.clone() {
                let acts = by.entry(actor).or_default();
                if acts.len() < LAST {
                    acts.push(line(&act));
                }
            }
        }
        let actors = by.into_iter().map(|(name, acts)| ActorLine { all: address(&name, None), name, acts });
        (actors.collect(), String::new())
    }

    pub(crate) async fn acts_page(&self, request: &Request) -> Result<Answer, Stop> {
        let (who, _) = self.person(request).await?;
        let (actor, cursor) = (request.query("actor"), request.query("after"));
        let (token, cookie) = self.login.greet(&request.visitor);
        let authority = &self.login.authority;
        let done = authority
            .control
            .acts_in_own_name(&who.caller, actor.as_deref(), cursor.as_deref(), PAGE)
            .await?;
        let grants = authority.list_grants(&who.caller).await?.value.into_iter().map(grant);
        let of = |line: &GrantLine| line.alive && actor.as_ref().is_some_and(|actor| line.agent == *actor);
        let named = actor.clone().unwrap_or_default();
        let page = ActsPage {
            token: &token,
            title: actor.as_ref().map_or_else(
                || "What was done in your name".to_owned(),
                |actor| format!("What {actor} did in your name"),
            ),
            acts: done.value.acts.iter().map(line).collect(),
            next: done.value.next.map(|next| address(&named, Some(&next))).unwrap_or_default(),
            later: cursor.is_some(),
            first: address(&named, None),
            grants: grants.filter(of).collect(),
        };
        Ok(answer::with(answer::page(StatusCode::OK, &page), cookie))
    }

    /// The proof of one act, to be kept and checked by anybody.
    pub(crate) async fn act_receipt(&self, request: &Request, id: &str) -> Result<Answer, Stop> {
        let (who, _) = self.person(request).await?;
        let id = id.parse().map_err(|_| Stop::from(ReasonCode::NotFound))?;
        let done = self.login.authority.control.own_receipt(&who.caller, id).await?;
        let (proof, entry) = done.value;
        let mut answer = answer::json(StatusCode::OK, &json!({"proof": proof, "entry": entry}));
        // An id holds nothing that a header could not.
        if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{id}.json\"")) {
            answer.headers_mut().insert(CONTENT_DISPOSITION, value);
        }
        Ok(answer)
    }

    pub(crate) async fn withdraw(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let (who, _) = self.person(request).await?;
        let id = form.get("id").and_then(|id| id.parse().ok()).ok_or(Stop::from(ReasonCode::NotFound))?;
        self.login.authority.withdraw_grant(&who.caller, id).await?;
        Ok(answer::see_other("/account?said=withdrawn"))
    }
}

fn line(act: &Act) -> ActLine {
    ActLine {
        at: texts::moment(act.at),
        who: act.actors.join(" for "),
        what: act
            .action
            .map_or_else(|| "something that was not understood".to_owned(), |a| a.name().to_owned()),
        on: act.resource.as_deref().map(texts::thing).unwrap_or_default(),
        permitted: act.permitted,
        more: act.repeated,
        receipt: if act.permitted {
            format!("/account/acts/{}/receipt", act.decision)
        } else {
            String::new()
        },
    }
}

/// The page with everything that `actor` did; of everybody, where none is named.
fn address(actor: &str, after: Option<&str>) -> String {
    let mut out = format!("/account/acts?actor={}", texts::escaped(actor));
    if actor.is_empty() {
        "/account/acts?".clone_into(&mut out);
    }
    if let Some(after) = after {
        out.push_str(&format!("&after={}", texts::escaped(after)));
    }
    out
}
