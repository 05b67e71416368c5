//! Answering the question to prove oneself more surely for one thing that was asked in one's name.

use bartizan_control::Stopped;
use bartizan_identify::{Question, StepUps};
use bartizan_model::{Action, DecisionId, Problem, ReasonCode};
use serde::Serialize;

use super::{Login, SignedIn};
use crate::kept::Reach;

/// What is recorded of an answer.
#[derive(Serialize)]
struct StepUpAnswer {
    step_up: bool,
    /// The decision that had refused it.
    refused: Option<DecisionId>,
}

impl Login {
    fn step_ups(&self) -> Result<&StepUps, ReasonCode> {
        self.step_ups.as_deref().ok_or(ReasonCode::NotFound)
    }

    /// The question behind a link, as its own person sees it; to anybody else there is none.
    ///
    /// # Errors
    /// When there is no such question for `who`.
    pub fn step_up(&self, who: &SignedIn, secret: &str) -> Result<Question, Problem> {
        if who.session.value.reach != Reach::Full {
            return Err(Problem::new(ReasonCode::NotFound));
        }
        let asked = self.step_ups().and_then(|all| all.question(secret, &who.caller, self.now()));
        asked.map_err(Problem::new)
    }

    /// Answers it: the login that `who` has now counts for that one thing. An ask like a login, so policy and ledger know of it; the
    /// link is used up either way.
    ///
    /// # Errors
    /// When there is no such question for `who`, their login is not as sure as is wanted, or policy says no.
    pub async fn answer_step_up(&self, who: &SignedIn, secret: &str, yes: bool) -> Result<(), Stopped> {
        let asked = self.step_up(who, secret)?;
        if yes && !asked.suffices {
            return Err(ReasonCode::LoginTooOld.into());
        }
        let request = StepUpAnswer { step_up: yes, refused: asked.wanted.decision };
        let session = who.session.value.id;
        let control = &self.authority.control;
        let answer = control.change_with(&who.caller, Action::SessionAuthenticate, &request, async |_, _| {
            let answered = self.step_ups().and_then(|all| match yes {
                true => all.prove(secret, (&who.caller, session), self.now()),
                false => all.refuse(secret, &who.caller, self.now()),
            });
            answered.map(|_| (Vec::new(), ())).map_err(Problem::new)
        });
        answer.await.map(drop)
    }
}
