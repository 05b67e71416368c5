//! Signing in.

use bartizan_authority::login::upstream::{ProviderAnswer, Returned};
use bartizan_authority::login::{Entered, PasswordAnswer, RecoveryAnswer};
use bartizan_authority::oauth::Form;
use bartizan_control::Stopped;
use bartizan_model::ReasonCode;
use bartizan_secret::Secret;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::pages::{InvitedPage, LoginPage, RecoveryPage, SecondPage};
use crate::{Answer, Console, Request, Stop, answer, texts};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Passkey {
    token: String,
    step: String,
    answer: Value,
    onward: String,
}

impl Console {
    pub(crate) async fn login_page(&self, request: &Request) -> Result<Answer, Stop> {
        let onward = texts::onward(request.query("continue").as_deref());
        let present = self.login.signed_in(&request.visitor).await?;
        let again = request.query("again").is_some();
        let present = present.filter(|who| who.person().is_some());
        if present.is_some() && !again {
            return Err(Stop::Go(onward));
        }
        let strong = request.query("level").is_some_and(|level| level.as_str() >= "2");
        let name = present.map(|who| who.principal.name.to_string()).unwrap_or_default();
        Ok(self.render_login(request, StatusCode::OK, &onward, &name, String::new(), strong))
    }

    fn render_login(
        &self,
        request: &Request,
        status: StatusCode,
        onward: &str,
        name: &str,
        error: String,
        strong: bool,
    ) -> Answer {
        let (token, cookie) = self.login.greet(&request.visitor);
        let page = LoginPage {
            token: &token,
            onward,
            name,
            again: error.is_empty() && !name.is_empty(),
            error,
            strong,
            passkeys: self.login.has_passkeys(),
            providers: self.login.provider_names().iter().map(ToString::to_string).collect(),
        };
        answer::with(answer::page(status, &page), cookie)
    }

    pub(crate) async fn password(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let name = form.get("name").unwrap_or_default().trim();
        let onward = texts::onward(form.get("onward"));
        let password = Secret::new(form.get("password").unwrap_or_default().to_owned());
        match self.login.password(&request.visitor, name, &password).await {
            Ok(PasswordAnswer::Entered(entered)) => Ok(welcome(entered, &onward)),
            Ok(PasswordAnswer::Second(step)) => {
                Ok(self.render_second(request, StatusCode::OK, &onward, &step, String::new()))
            }
            Err(stopped) => self.failed_login(request, stopped, &onward, name),
        }
    }

    fn failed_login(
        &self,
        request: &Request,
        stopped: Stopped,
        onward: &str,
        name: &str,
    ) -> Result<Answer, Stop> {
        let problem = stopped.problem;
        match problem.reason {
            ReasonCode::LoginFailed | ReasonCode::LoginThrottled | ReasonCode::LoginStale => {
                let line = texts::line(&problem);
                Ok(self.render_login(request, answer::status(&problem), onward, name, line, false))
            }
            _ => Err(problem.into()),
        }
    }

    fn render_second(
        &self,
        request: &Request,
        status: StatusCode,
        onward: &str,
        step: &str,
        error: String,
    ) -> Answer {
        let (token, cookie) = self.login.greet(&request.visitor);
        let page = SecondPage { token: &token, onward, step, error };
        answer::with(answer::page(status, &page), cookie)
    }

    pub(crate) async fn second(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let onward = texts::onward(form.get("onward"));
        let step = form.get("step").unwrap_or_default();
        match self.login.second(&request.visitor, step, form.get("code").unwrap_or_default()).await {
            Ok(entered) => Ok(welcome(entered, &onward)),
            Err(Stopped { problem, .. })
                if matches!(problem.reason, ReasonCode::LoginFailed | ReasonCode::LoginThrottled) =>
            {
                let line = texts::line(&problem);
                Ok(self.render_second(request, answer::status(&problem), &onward, step, line))
            }
            Err(stopped) => self.failed_login(request, stopped, &onward, ""),
        }
    }

    /// The body of a request by the script, if one of our own pages has sent it.
    pub(crate) fn script<T: serde::de::DeserializeOwned>(
        &self,
        request: &Request,
        token: impl FnOnce(&T) -> &str,
    ) -> Result<T, Stop> {
        let head = &request.arrived.head;
        let json = head.headers.get("content-type").is_some_and(|v| v.as_bytes() == b"application/json");
        if !json {
            return Err(ReasonCode::MediaTypeUnsupported.into());
        }
        let body: T = serde_json::from_slice(&request.arrived.body)
            .map_err(|_| Stop::from(ReasonCode::BodyMalformed))?;
        if self.login.is_own_form(&request.visitor, token(&body)) {
            Ok(body)
        } else {
            Err(ReasonCode::RequestForged.into())
        }
    }

    pub(crate) async fn begin_passkey(&self, request: &Request) -> Result<Answer, Stop> {
        self.script::<Begin>(request, |body| &body.token)?;
        let options = self.login.ask_passkey(&request.visitor)?;
        Ok(answer::json(StatusCode::OK, &json!({"options": options.options, "step": options.step})))
    }

    pub(crate) async fn passkey(&self, request: &Request) -> Result<Answer, Stop> {
        let body = self.script::<Passkey>(request, |body| &body.token)?;
        let entered = self.login.passkey(&request.visitor, &body.step, &body.answer).await?;
        let value = json!({"onward": texts::onward(Some(&body.onward))});
        Ok(answer::with(answer::json(StatusCode::OK, &value), entered.cookies))
    }

    pub(crate) async fn to_provider(
        &self,
        request: &Request,
        form: &Form,
        provider: &str,
    ) -> Result<Answer, Stop> {
        let onward = texts::onward(form.get("onward"));
        let to = self.login.to_provider(&request.visitor, provider, &onward, None).await?;
        Ok(answer::onward("On to the other side", to.expose()))
    }

    pub(crate) async fn link_provider(&self, request: &Request, provider: &str) -> Result<Answer, Stop> {
        let (who, _) = self.person(request).await?;
        let to = self.login.to_provider(&request.visitor, provider, "/account", Some(&who)).await?;
        Ok(answer::onward("On to the other side", to.expose()))
    }

    pub(crate) async fn back_from_provider(&self, request: &Request, provider: &str) -> Result<Answer, Stop> {
        let query = Form::parse(request.arrived.head.uri.query().unwrap_or_default().as_bytes());
        let query = query.map_err(|_| Stop::from(ReasonCode::ProviderRefused))?;
        let who = self.login.signed_in(&request.visitor).await?.filter(|who| who.person().is_some());
        let returned = Returned { code: query.get("code"), state: query.get("state"), iss: query.get("iss") };
        match self.login.from_provider(&request.visitor, provider, &returned, who.as_ref()).await? {
            ProviderAnswer::Entered(entered, onward) => Ok(welcome(entered, &onward)),
            ProviderAnswer::Linked => Ok(answer::see_other("/account?said=linked")),
        }
    }

    pub(crate) fn recovery_page(&self, request: &Request) -> Answer {
        self.render_recovery(request, StatusCode::OK, String::new(), String::new())
    }

    fn render_recovery(&self, request: &Request, status: StatusCode, error: String, waits: String) -> Answer {
        let (token, cookie) = self.login.greet(&request.visitor);
        answer::with(answer::page(status, &RecoveryPage { token: &token, error, waits }), cookie)
    }

    pub(crate) async fn recover(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let code = Secret::new(form.get("code").unwrap_or_default().to_owned());
        let name = form.get("name").unwrap_or_default().trim();
        match self.login.recover(&request.visitor, name, &code).await {
            Ok(RecoveryAnswer::Entered(entered)) => Ok(welcome(entered, "/account")),
            Ok(RecoveryAnswer::Waits(until)) => {
                Ok(self.render_recovery(request, StatusCode::OK, String::new(), texts::moment(until)))
            }
            Err(Stopped { problem, .. })
                if matches!(problem.reason, ReasonCode::LoginFailed | ReasonCode::LoginThrottled) =>
            {
                let line = texts::line(&problem);
                Ok(self.render_recovery(request, answer::status(&problem), line, String::new()))
            }
            Err(stopped) => Err(stopped.into()),
        }
    }

    pub(crate) async fn invited_page(&self, request: &Request, secret: &str) -> Result<Answer, Stop> {
        let invited = self.login.invited(secret).await?.ok_or(Stop::from(ReasonCode::InvitationInvalid))?;
        let (token, cookie) = self.login.greet(&request.visitor);
        let page = InvitedPage { token: &token, name: &invited.name, secret };
        Ok(answer::with(answer::page(StatusCode::OK, &page), cookie))
    }

    pub(crate) async fn accept(&self, request: &Request, secret: &str) -> Result<Answer, Stop> {
        let entered = self.login.accept(&request.visitor, secret).await?;
        Ok(welcome(entered, "/account"))
    }

    pub(crate) async fn log_out(&self, request: &Request) -> Result<Answer, Stop> {
        if let Some(who) = self.login.signed_in(&request.visitor).await? {
            self.login.end_session(&who, who.session.value.id).await?;
        }
        Ok(answer::with(answer::onward("You are signed out", "/login"), self.login.farewell()))
    }
}

fn welcome(entered: Entered, onward: &str) -> Answer {
    answer::with(answer::onward("You are signed in", onward), entered.cookies)
}
