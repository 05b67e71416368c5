//! Events of senders that are asked for them (RFC 8936).

use std::collections::{BTreeMap, BTreeSet};

use bartizan_model::directory::Status;
use bartizan_model::{EventPoll, Spec};
use bartizan_secret::Secret;
use bartizan_store::SealedRow;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{NotTaken, Posted, Signals};

/// Events of one answer.
const MOST: u32 = 32;
/// Answers of one sender at a time, so that no sender keeps us from the others.
const ROUNDS: u32 = 16;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    sets: BTreeMap<String, Secret<String>>,
    #[serde(default, rename = "moreAvailable")]
    more: bool,
}

impl Signals {
    /// Asks every sender that wants to be asked, takes what it gives, and tells it so. To be called every few seconds.
    pub async fn fetch_events(&self) {
        let tenant = &self.authority.settings.tenant;
        let Ok(view) = self.authority.control.house.view(tenant) else { return };
        let documents = view.state.documents.iter().filter(|(of, ..)| of == tenant);
        for (_, document, _) in documents {
            let Spec::Issuer(spec) = &document.spec else { continue };
            let poll = spec.events.as_ref().and_then(|events| events.poll.as_ref());
            let Some(poll) = poll.filter(|_| spec.status == Status::Active) else { continue };
            let sealed = view
                .state
                .sealed
                .iter()
                .find(|s| s.tenant == *tenant && Some(&s.name) == poll.credential.as_ref());
            if let Err(why) = self.fetch_from(poll, sealed, spec.allow_private).await {
                tracing::warn!(issuer = %document.name, why, "events could not be fetched");
            }
        }
    }

    async fn fetch_from(
        &self,
        poll: &EventPoll,
        sealed: Option<&SealedRow>,
        private: bool,
    ) -> Result<(), &'static str> {
        let open = |row: &SealedRow| self.authority.control.sealer.open(&row.sealed, &row.tenant, &row.name);
        let credential = sealed.map(open).transpose().map_err(|_| "its credential does not open")?;
        if poll.credential.is_some() && credential.is_none() {
            return Err("its credential is not there");
        }
        let authorization = credential.map(|text| Secret::new(format!("Bearer {}", text.expose())));
        let (mut ack, mut errors) = (BTreeSet::new(), BTreeMap::new());
        for _ in 0..ROUNDS {
            let asked = json!({"maxEvents": MOST, "returnImmediately": true, "ack": ack, "setErrs": errors});
            let posted = Posted {
                media: "application/json",
                authorization: authorization.clone(),
                body: Secret::new(asked.to_string()),
            };
            let answer =
                self.outside.post(poll.url.clone(), posted, private).await.map_err(|_| "no answer")?;
            if answer.status() != 200 {
                return Err("the answer is not 200");
            }
            let answer: Answer =
                serde_json::from_slice(answer.body()).map_err(|_| "the answer cannot be read")?;
            (ack, errors) = (BTreeSet::new(), BTreeMap::new());
            for (jti, token) in answer.sets.into_iter().take(MOST as usize) {
                match self.receive(token.expose()).await {
                    Ok(()) => drop(ack.insert(jti)),
                    Err(why) => drop(told(&why).map(|error| errors.insert(jti, error))),
                }
            }
            if ack.is_empty() && errors.is_empty() && !answer.more {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What a sender is told of an event that is not taken; nothing where it is to give it again.
fn told(why: &NotTaken) -> Option<Value> {
    why.code().map(|code| json!({"err": code, "description": why.to_string()}))
}
