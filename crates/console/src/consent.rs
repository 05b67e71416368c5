//! The question whether a program may act in somebody's name.

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_authority::authorize::Desk;
use bartizan_authority::oauth::Form;
use bartizan_model::ReasonCode;
use http::StatusCode;

use crate::pages::ConsentPage;
use crate::{Answer, Console, Request, Stop, answer};

impl Console {
    fn desk(&self) -> Result<&Arc<Desk>, Stop> {
        self.desk.as_ref().ok_or(Stop::from(ReasonCode::NotFound))
    }

    pub(crate) async fn consent_page(&self, request: &Request) -> Result<Answer, Stop> {
        let (who, person) = self.person(request).await?;
        let id = request.query("request").ok_or(Stop::from(ReasonCode::NotFound))?;
        let ask = self.desk()?.consent(&id, &person).await?;
        let (token, cookie) = self.login.greet(&request.visitor);
        let page = ConsentPage { token: &token, name: &who.principal.name, ask: &ask };
        Ok(answer::with(answer::page(StatusCode::OK, &page), cookie))
    }

    pub(crate) async fn answer_consent(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let (_, person) = self.person(request).await?;
        let (id, token) =
            (form.get("request").unwrap_or_default(), form.get("answer_token").unwrap_or_default());
        let only: BTreeSet<String> =
            form.pairs().filter_map(|(name, _)| name.strip_prefix("scope:")).map(str::to_owned).collect();
        let desk = self.desk()?;
        let back = match form.get("answer") {
            Some("allow") => desk.allow(id, token, &person, Some(&only)).await?,
            _ => desk.deny(id, token, &person).await?,
        };
        Ok(answer::onward("Back to the program", back.address().expose()))
    }
}
