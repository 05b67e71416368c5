//! Who can reach what.

use bartizan_decide::{Found, Page, Search, Supposed};
use bartizan_identify::Caller;
use bartizan_model::Action;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Control, Done, Stopped};

/// A search for what policy permits.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// What is searched for.
    pub what: Sought,
    /// The ask; the part that is searched for is passed over.
    pub ask: Supposed,
    /// Which part of the answer.
    #[serde(default)]
    pub page: Page,
}

/// The part of an ask that is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sought {
    /// Who can do it.
    Subjects,
    /// On what it can be done.
    Resources,
    /// What can be done.
    Actions,
}

impl Control {
    /// Who can reach a resource, or what a caller can reach: page by page.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn reach(&self, caller: &Caller, request: &Reach) -> Result<Done<Found>, Stopped> {
        let now = self.clock.now();
        self.read(caller, Action::PolicyTest, request, |view, tenant| {
            let ask = &request.ask;
            let search = Search { ask, tenant, now, door: self.house.door(ask.action) };
            Ok(match request.what {
                Sought::Subjects => view.policy.search_subjects(search, &request.page),
                Sought::Resources => view.policy.search_resources(search, &request.page),
                Sought::Actions => view.policy.search_actions(search, &request.page),
            })
        })
        .await
    }
}
