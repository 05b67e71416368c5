//! A candidate beside the bundle in force: as a shadow, for some callers, for all, or not any more.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::Name;
use bartizan_decide::Bundle;
use bartizan_identify::Caller;
use bartizan_keys::{Candidate, Stage};
use bartizan_model::{Action, Problem, ReasonCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::propose::{Contents, Proposal, expected};
use super::{Bundled, Version};
use crate::{Control, Done, Stopped};

/// A candidate to be tried, or the present one to be tried otherwise.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TryPolicy {
    /// Its files by relative path; absent for the candidate that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<BTreeMap<String, String>>,
    /// As a shadow: of how many of a thousand decisions it is evaluated beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub shadow_permille: Option<u16>,
    /// In force for so many callers of a hundred; with 100 it takes the place of the bundle in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub percent: Option<u8>,
    /// In force for everybody in these groups.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<Name>,
    /// The version in force as it is known; absent for whichever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
    /// Signatures of authors on a new candidate, from `bartizan policy sign`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
}

/// An end of what is tried.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct End {}

impl TryPolicy {
    fn stage(&self) -> Result<Stage, Problem> {
        let wrong = |detail: &str| Err(Problem::with_detail(ReasonCode::Invalid, detail));
        match (self.shadow_permille, self.percent) {
            (Some(permille @ 1..=1_000), None) if self.groups.is_empty() => Ok(Stage::Shadow { permille }),
            (None, Some(percent @ 0..=100)) => Ok(Stage::Rollout { percent, groups: self.groups.clone() }),
            (None, None) if !self.groups.is_empty() => {
                Ok(Stage::Rollout { percent: 0, groups: self.groups.clone() })
            }
            (Some(_), None) => wrong("a shadow sees 1 to 1000 of a thousand decisions, and has no groups"),
            (None, Some(_)) => wrong("a rollout reaches 0 to 100 of a hundred callers"),
            _ => wrong("say either `shadow_permille`, or `percent` and `groups`"),
        }
    }
}

impl Control {
    /// Tries a candidate beside the bundle in force, or puts it in force for some. With all callers it takes the other's
    /// place.
    ///
    /// # Errors
    /// When policy says no, and as for [`Control::apply_bundle`]; `not_found` when there is no candidate and none is given.
    pub async fn try_policy(&self, caller: &Caller, request: &TryPolicy) -> Result<Done<Bundled>, Stopped> {
        self.change_with(caller, Action::PolicyApply, request, async |view, tenant| {
            expected(view, request.expect)?;
            let stage = request.stage()?;
            let in_force = view.in_force.as_ref();
            let nothing = |detail: &str| Problem::with_detail(ReasonCode::NotFound, detail);
            let in_force =
                in_force.ok_or_else(|| nothing("no bundle is in force that one could stand beside"))?;
            let Version { row, statement } = in_force;
            let (tried, authored) = match (&request.files, &row.candidate, &statement.candidate) {
                (Some(files), ..) => {
                    let tried = Bundle { files: files.clone() };
                    let authored = self.authored(view, tenant, tried.digest(), &request.signatures)?;
                    (tried, authored)
                }
                (None, Some(row), Some(signed)) => {
                    let authored = self.still_authored(tenant, row.digest, signed.authored.as_ref())?;
                    (Bundle { files: row.files.clone() }, authored)
                }
                _ => return Err(nothing("there is no candidate; give its files")),
            };
            self.sound(view, tenant, &tried).await?;
            let digest = tried.digest();
            if matches!(stage, Stage::Rollout { percent: 100, .. }) {
                let proposal = self.proposal(view, tenant, digest, caller);
                let approved = self.approvals.judge(proposal).await?;
                return self.version(approved, Contents { bundle: tried, candidate: None, authored }, view);
            }
            let candidate = Some(Candidate { bundle: digest, stage, authored });
            let proposal = Proposal { candidate, ..self.proposal(view, tenant, row.digest, caller) };
            let approved = self.approvals.judge(proposal).await?;
            let bundle = Bundle { files: row.files.clone() };
            let contents = Contents { bundle, candidate: Some(tried), authored: statement.authored.clone() };
            self.version(approved, contents, view)
        })
        .await
    }

    /// Ends what is tried, in one step: the bundle in force is in force for everybody again.
    ///
    /// # Errors
    /// When policy says no; `not_found` when nothing is tried.
    pub async fn drop_candidate(&self, caller: &Caller) -> Result<Done<Bundled>, Stopped> {
        self.change_with(caller, Action::PolicyApply, &End {}, async |view, tenant| {
            let tried = view.in_force.as_ref().filter(|version| version.row.candidate.is_some());
            let detail = "there is no candidate";
            let Version { row, statement } =
                tried.ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, detail))?;
            let approved = self.approvals.judge(self.proposal(view, tenant, row.digest, caller)).await?;
            let bundle = Bundle { files: row.files.clone() };
            let authored = statement.authored.clone();
            self.version(approved, Contents { bundle, candidate: None, authored }, view)
        })
        .await
    }
}
