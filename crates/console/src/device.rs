//! The question whether a device without a browser may act in somebody's name (RFC 8628, 3.3).

use bartizan_authority::oauth::{Form, OauthError};
use http::StatusCode;

use crate::pages::{DeviceAskPage, DevicePage, ToldPage};
use crate::{Answer, Console, Request, Stop, answer, texts};

impl Console {
    pub(crate) async fn device_page(&self, request: &Request) -> Result<Answer, Stop> {
        self.person(request).await?;
        let code = request.query("user_code").unwrap_or_default();
        Ok(self.render_device(request, StatusCode::OK, &code, String::new()))
    }

    fn render_device(&self, request: &Request, status: StatusCode, code: &str, error: String) -> Answer {
        let (token, cookie) = self.login.greet(&request.visitor);
        answer::with(answer::page(status, &DevicePage { token: &token, code, error }), cookie)
    }

    /// A code that leads nowhere is told of where it can be typed again.
    fn wrong(&self, request: &Request, code: &str, error: &OauthError) -> Answer {
        let status = StatusCode::from_u16(error.reason.status()).unwrap_or(StatusCode::BAD_REQUEST);
        self.render_device(request, status, code, texts::sentence(&error.description))
    }

    pub(crate) async fn device_code(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let (who, person) = self.person(request).await?;
        let typed = form.get("code").unwrap_or_default();
        let ask = match self.login.authority.device_ask(&person, typed).await {
            Ok(ask) => ask,
            Err(error) => return Ok(self.wrong(request, typed, &error)),
        };
        let (token, cookie) = self.login.greet(&request.visitor);
        let page = DeviceAskPage { token: &token, name: &who.principal.name, ask: &ask };
        Ok(answer::with(answer::page(StatusCode::OK, &page), cookie))
    }

    pub(crate) async fn answer_device(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let (_, person) = self.person(request).await?;
        let (typed, token) =
            (form.get("code").unwrap_or_default(), form.get("answer_token").unwrap_or_default());
        let authority = &self.login.authority;
        let (done, said, more) = if form.get("answer") == Some("allow") {
            let done = authority.allow_device(&person, typed, token).await;
            (done, "The device is connected", "You can go on there, and withdraw this on your account page.")
        } else {
            (authority.deny_device(&person, typed, token).await, "The device was refused", "It hears so now.")
        };
        match done {
            Ok(()) => Ok(answer::page(StatusCode::OK, &ToldPage { said, more })),
            Err(error) => Ok(self.wrong(request, typed, &error)),
        }
    }
}
