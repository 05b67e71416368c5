//! What others did in somebody's own name, as they may see it of themselves.

use bartizan_base::Timestamp;
use bartizan_identify::Caller;
use bartizan_index::{Cursor, Order};
use bartizan_model::action::ReadLedger;
use bartizan_model::record::{Body, Record, What, Who};
use bartizan_model::{Action, DecisionId, PrincipalId, Problem, ReasonCode, Target, Tenant};
use bartizan_store::State;
use schemars::JsonSchema;
use serde::Serialize;

use crate::decisions::unreadable;
use crate::turn::{Turn, finish};
use crate::{Control, Done, Stopped};

/// Acts of a page at the most.
const LIMIT_MAX: usize = 100;

/// What others did in somebody's name, the latest first.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Acts {
    /// The acts.
    pub acts: Vec<Act>,
    /// The cursor of the next page; absent behind the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One of them. It says what was asked and whether it was permitted, not why not: what rules refuse can tell of things that
/// the reader may not know of, and is read by those who may read decisions.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Act {
    /// When.
    #[schemars(with = "String")]
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    /// Who acted, outermost first: `agent/helper`, or the pseudonym where the directory knows the name no more.
    pub actors: Vec<String>,
    /// What.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// On what, such as `Model::"gpt-4o"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Whether it was permitted.
    pub permitted: bool,
    /// How many more of the same kind this one stands for, where a flood of refusals was counted.
    #[serde(skip_serializing_if = "is_zero")]
    pub repeated: u64,
    /// The decision. Of a permitted one, [`Control::own_receipt`] gives the proof.
    pub decision: DecisionId,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn as_text<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

impl Control {
    /// What others did in the caller's own name: sealed records of which they are the subject and somebody acts for them, or
    /// `actor` alone (`agent/NAME`, `workload/NAME` or a pseudonym); the latest first, `limit` of them, at most 100. Everybody may
    /// see these of themselves.
    ///
    /// # Errors
    /// When policy says no, there is no such actor, or the cursor cannot be read.
    pub async fn acts_in_own_name(
        &self,
        caller: &Caller,
        actor: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Done<Acts>, Stopped> {
        let subject = caller.subject().principal.id;
        self.read_with(caller, Action::GrantList, &("acts", actor, cursor), async |view, tenant| {
            let actor = actor.map(|actor| actor_of(&view.state, tenant, actor)).transpose()?;
            let actor = actor.map_or_else(|| "prn_*".to_owned(), |actor| actor.to_string());
            let query = format!("subject:{subject} actor:{actor}");
            let cursor = cursor.map(str::parse::<Cursor>).transpose();
            let cursor =
                cursor.map_err(|e| Problem::with_detail(ReasonCode::BodyMalformed, e.to_string()))?;
            let limit = limit.clamp(1, LIMIT_MAX);
            let page = self.found_page(tenant, &query, Order::Newest, limit, cursor).await?;
            let found = self.told(tenant, page);
            let read = |entry: &str| serde_json::from_str::<Record>(entry).ok();
            let records = found.entries.iter().filter_map(|entry| read(&entry.entry));
            let acts = records.filter_map(|record| act(&view.state, tenant, subject, &record));
            Ok(Acts { acts: acts.collect(), next: found.next })
        })
        .await
    }

    /// The proof that a permitted act in the caller's own name is in the ledger: a `.tlog-proof` file and the entry it proves.
    ///
    /// # Errors
    /// When policy says no, or nobody did such a thing in their name, or it is not sealed yet.
    pub async fn own_receipt(
        &self,
        caller: &Caller,
        id: DecisionId,
    ) -> Result<Done<(String, String)>, Stopped> {
        let Turn { view, intent } =
            self.ask::<ReadLedger>(caller, Action::GrantList, &("receipt", id), Target::House).await?;
        let subject = caller.subject().principal.id;
        let proof = async {
            let absent = || {
                let detail = "nothing of that kind was done in your name, or it is not sealed yet";
                Problem::with_detail(ReasonCode::NotFound, detail)
            };
            let found = self.recorder.find(&intent, id).await.map_err(unreadable)?.ok_or_else(absent)?;
            let own = act(&view.state, caller.tenant(), subject, &found.record);
            own.filter(|act| act.permitted).ok_or_else(absent)?;
            let proof = self.recorder.proof(&intent, id).await.map_err(unreadable)?.ok_or_else(absent)?;
            Ok((proof.text, String::from_utf8(proof.entry).map_err(|_| absent())?))
        };
        let proof = proof.await;
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), proof, receipt, decision)
    }
}

/// The pseudonym of an actor, who may be gone by now.
fn actor_of(state: &State, tenant: &Tenant, text: &str) -> Result<PrincipalId, Problem> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let is = |kind: &str, name: &str| {
        let mut all = state.documents.iter().filter(|(owner, ..)| owner == tenant);
        all.find(|(_, d, _)| d.spec.kind() == kind && d.name.as_str() == name)
            .and_then(|(_, d, _)| d.principal)
    };
    let named = text.split_once('/').filter(|(kind, _)| matches!(*kind, "agent" | "workload"));
    named
        .and_then(|(kind, name)| is(kind, name))
        .ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, "there is no such agent or workload"))
}

/// What a record tells of an act in `subject`'s name; none where it tells of none.
fn act(state: &State, tenant: &Tenant, subject: PrincipalId, record: &Record) -> Option<Act> {
    let (who, what, permitted, decision, repeated): (&Who, Option<&What>, bool, DecisionId, u64) =
        match &record.body {
            Body::Intent(intent) => (&intent.who, Some(&intent.what), true, intent.id, 0),
            Body::Refusal(refusal) => {
                (&refusal.who, refusal.what.as_ref(), false, refusal.id, refusal.repeated)
            }
            Body::Outcome(_) | Body::System(_) => return None,
        };
    if record.tenant != *tenant || who.subject != subject || who.actors.is_empty() {
        return None;
    }
    let name = |id: &PrincipalId| {
        let mut all = state.documents.iter();
        let found = all.find(|(owner, d, _)| owner == tenant && d.principal == Some(*id));
        found.map_or_else(|| id.to_string(), |(_, d, _)| format!("{}/{}", d.spec.kind(), d.name))
    };
    Some(Act {
        at: record.time_us,
        actors: who.actors.iter().map(name).collect(),
        action: what.map(|what| what.action),
        resource: what.map(|what| what.resource.to_string()),
        permitted,
        repeated,
        decision,
    })
}
