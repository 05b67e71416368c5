//! Enrolling and removing what one proves oneself with.

use bartizan_authority::login::SignedIn;
use bartizan_authority::oauth::Form;
use bartizan_control::Stopped;
use bartizan_model::ReasonCode;
use bartizan_secret::Secret;
use http::StatusCode;
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::pages::{CodesPage, DeviceEnrolPage, TotpPage};
use crate::{Answer, Console, Request, Stop, answer, texts};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    token: String,
    /// For one whose maker vouches for it.
    #[serde(default)]
    attested: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrol {
    token: String,
    step: String,
    answer: Value,
    label: String,
}

impl Console {
    pub(crate) async fn begin_enrolment(&self, request: &Request) -> Result<Answer, Stop> {
        let body = self.script::<Begin>(request, |body| &body.token)?;
        let who = self.who(request).await?;
        let options = self.login.offer_passkey(&request.visitor, &who, body.attested).await?;
        Ok(answer::json(StatusCode::OK, &json!({"options": options.options, "step": options.step})))
    }

    pub(crate) async fn enrol_passkey(&self, request: &Request) -> Result<Answer, Stop> {
        let body = self.script::<Enrol>(request, |body| &body.token)?;
        let who = self.who(request).await?;
        self.login.enrol_passkey(&request.visitor, &who, &body.step, &body.answer, &body.label).await?;
        Ok(answer::json(StatusCode::OK, &json!({"onward": "/account?said=passkey"})))
    }

    pub(crate) async fn set_password(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let who = self.who(request).await?;
        let password = Secret::new(form.get("password").unwrap_or_default().to_owned());
        let done = self.login.set_password(&who, &password).await;
        self.told(request, &who, done.map(drop), "/account?said=password").await
    }

    /// A refusal that one can do something about on the spot stands above the account page.
    async fn told(
        &self,
        request: &Request,
        who: &SignedIn,
        done: Result<(), Stopped>,
        to: &str,
    ) -> Result<Answer, Stop> {
        match done {
            Ok(()) => Ok(answer::see_other(to)),
            Err(Stopped { problem, .. })
                if matches!(
                    problem.reason,
                    ReasonCode::PasswordRefused | ReasonCode::AuthenticatorRefused | ReasonCode::Conflict
                ) =>
            {
                let line = texts::line(&problem);
                self.render_account(request, who, answer::status(&problem), String::new(), line).await
            }
            Err(stopped) => Err(stopped.into()),
        }
    }

    pub(crate) async fn offer_totp(&self, request: &Request) -> Result<Answer, Stop> {
        let who = self.who(request).await?;
        let offer = self.login.offer_totp(&request.visitor, &who).await?;
        let (token, cookie) = self.login.greet(&request.visitor);
        let page = TotpPage {
            token: &token,
            step: &offer.step,
            secret: offer.secret.expose(),
            qr: picture(offer.address.expose()),
            error: String::new(),
        };
        Ok(answer::with(answer::page(StatusCode::OK, &page), cookie))
    }

    pub(crate) async fn confirm_totp(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let who = self.who(request).await?;
        let (step, code) = (form.get("step").unwrap_or_default(), form.get("code").unwrap_or_default());
        let done = self.login.confirm_totp(&request.visitor, &who, step, code).await;
        self.told(request, &who, done.map(drop), "/account?said=totp").await
    }

    pub(crate) async fn make_codes(&self, request: &Request) -> Result<Answer, Stop> {
        let who = self.who(request).await?;
        let codes = self.login.make_recovery_codes(&who).await?.value;
        let page = CodesPage { codes: codes.iter().map(|code| code.expose().as_str()).collect() };
        Ok(answer::page(StatusCode::OK, &page))
    }

    pub(crate) async fn stop_recovery(&self, request: &Request) -> Result<Answer, Stop> {
        let who = self.who(request).await?;
        self.login.stop_recovery(&who).await?;
        Ok(answer::see_other("/account?said=stopped"))
    }

    pub(crate) async fn device_offer(&self, request: &Request) -> Result<Answer, Stop> {
        let (who, _) = self.person(request).await?;
        let label = request.query("label").unwrap_or_default();
        let proof = request.query("proof").unwrap_or_default();
        let key = self.login.check_device(&proof)?.key().to_string();
        let (token, cookie) = self.login.greet(&request.visitor);
        let page =
            DeviceEnrolPage { token: &token, name: &who.principal.name, label: &label, key, proof: &proof };
        Ok(answer::with(answer::page(StatusCode::OK, &page), cookie))
    }

    pub(crate) async fn enrol_device(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let (who, _) = self.person(request).await?;
        let (label, proof) = (form.get("label").unwrap_or_default(), form.get("proof").unwrap_or_default());
        let done = self.login.enrol_device(&who, label, proof).await;
        self.told(request, &who, done.map(drop), "/account?said=device").await
    }

    pub(crate) async fn remove_device(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let (who, _) = self.person(request).await?;
        let done = self.login.remove_device(&who, form.get("name").unwrap_or_default()).await;
        self.told(request, &who, done.map(drop), "/account?said=removed").await
    }

    pub(crate) async fn remove(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let who = self.who(request).await?;
        let id = form.get("id").and_then(|id| id.parse().ok()).ok_or(Stop::from(ReasonCode::NotFound))?;
        let done = self.login.remove_authenticator(&who, id).await;
        self.told(request, &who, done.map(drop), "/account?said=removed").await
    }
}

/// A picture of an address for the camera of a phone. Drawn by us out of squares: nothing of the text stands in it.
fn picture(address: &str) -> String {
    let drawn = QrCode::new(address.as_bytes());
    let drawn =
        drawn.map(|code| code.render::<svg::Color<'_>>().quiet_zone(true).build()).unwrap_or_default();
    // Without the declaration it stands in a page.
    drawn.find("<svg").and_then(|at| drawn.get(at..)).unwrap_or_default().to_owned()
}
