//! The question to prove oneself more surely for one thing that was asked in one's name.

use bartizan_authority::oauth::Form;
use bartizan_base::Name;
use http::StatusCode;

use crate::pages::{StepUpPage, ToldPage};
use crate::{Answer, Console, Request, Stop, answer, texts};

impl Console {
    pub(crate) async fn step_up_page(&self, request: &Request, secret: &str) -> Result<Answer, Stop> {
        let (who, _) = self.person(request).await?;
        let asked = self.login.step_up(&who, secret)?;
        let (token, cookie) = self.login.greet(&request.visitor);
        let level = u8::from(asked.wanted.level);
        let back = format!("/step-up/{secret}");
        let age = asked.wanted.max_age.map(texts::span).unwrap_or_default();
        let page = StepUpPage {
            token: &token,
            secret,
            name: &who.principal.name,
            client: asked.client.as_ref().map(Name::as_str).unwrap_or_default(),
            actors: asked.actors.iter().map(Name::as_str).collect(),
            what: &asked.wanted.what,
            asked: texts::moment(asked.asked),
            suffices: asked.suffices,
            level,
            age,
            login: format!("{}&level={level}", texts::to_login(&back, true)),
        };
        Ok(answer::with(answer::page(StatusCode::OK, &page), cookie))
    }

    pub(crate) async fn answer_step_up(
        &self,
        request: &Request,
        secret: &str,
        form: &Form,
    ) -> Result<Answer, Stop> {
        let (who, _) = self.person(request).await?;
        let yes = form.get("answer") == Some("allow");
        self.login.answer_step_up(&who, secret, yes).await?;
        let (said, more) = if yes {
            ("It goes on", "You can go back to the program. This held for this one thing.")
        } else {
            ("It was refused", "The program hears so now.")
        };
        Ok(answer::page(StatusCode::OK, &ToldPage { said, more }))
    }
}
