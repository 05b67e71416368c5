//! Pages for people: login, consent, and what acts in one's name. Rendered here, without scripts where none is needed, under
//! a content security policy that allows nothing inline.
//!
//! A form is taken only from our own pages ([`bartizan_authority::login::Visitor::is_own_form`]). What follows a good form is a
//! small page that goes on by itself, not a redirect: so `form-action` can stay with ourselves, also where a login ends at a
//! client's address.

mod account;
mod acts;
mod answer;
mod consent;
mod device;
mod enrol;
mod invite;
mod login;
mod pages;
mod step_up;
mod texts;

use std::net::SocketAddr;
use std::sync::Arc;

use bartizan_api::oauth::Visitors;
use bartizan_api::{Arrived, Mount};
use bartizan_authority::authorize::{Desk, Person};
use bartizan_authority::login::{Login, SignedIn, Visitor};
use bartizan_authority::oauth::{Form, OauthCode, OauthError};
use bartizan_control::Stopped;
use bartizan_model::{Problem, ReasonCode};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Response};
use http_body_util::Full;

type Answer = Response<Full<Bytes>>;

/// The longest body of a form, in bytes: an attestation is the largest thing in one.
const BODY_MAX: usize = 32 << 10;

/// The pages.
#[derive(Debug)]
pub struct Console {
    login: Arc<Login>,
    desk: Option<Arc<Desk>>,
}

/// Why a page cannot be shown: a reason for people, or another place to go to.
#[derive(Debug)]
pub(crate) enum Stop {
    Problem(Problem),
    Go(String),
}

impl From<Stopped> for Stop {
    fn from(stopped: Stopped) -> Self {
        Self::Problem(stopped.problem)
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<ReasonCode> for Stop {
    fn from(reason: ReasonCode) -> Self {
        Self::Problem(Problem::new(reason))
    }
}

impl From<OauthError> for Stop {
    fn from(error: OauthError) -> Self {
        Self::Problem(Problem {
            decision: error.decision,
            ..Problem::with_detail(error.reason, error.description)
        })
    }
}

/// A request to the pages.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) visitor: Visitor,
    pub(crate) arrived: Arrived,
}

impl Request {
    /// A parameter of the address.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let form = Form::parse(self.arrived.head.uri.query().unwrap_or_default().as_bytes()).ok()?;
        form.get(name).map(str::to_owned)
    }
}

impl Console {
    /// The pages of `login`, and of consent where there is an authorization endpoint.
    #[must_use]
    pub const fn new(login: Arc<Login>, desk: Option<Arc<Desk>>) -> Self {
        Self { login, desk }
    }

    async fn try_answer(&self, request: &Request) -> Result<Answer, Stop> {
        let head = &request.arrived.head;
        let parts: Vec<&str> = head.uri.path().split('/').skip(1).collect();
        match (&head.method, &*parts) {
            (&Method::GET, ["assets", name]) => answer::asset(name).ok_or(Stop::from(ReasonCode::NotFound)),
            (&Method::GET, [""]) => Err(Stop::Go("/account".to_owned())),
            (&Method::GET, ["login"]) => self.login_page(request).await,
            (&Method::GET, ["login", "recovery"]) => Ok(self.recovery_page(request)),
            (&Method::GET, ["login", "invited", secret]) => self.invited_page(request, secret).await,
            (&Method::GET, ["login", "callback", provider]) => {
                self.back_from_provider(request, provider).await
            }
            (&Method::GET, ["account"]) => self.account_page(request).await,
            (&Method::GET, ["account", "acts"]) => self.acts_page(request).await,
            (&Method::GET, ["account", "acts", id, "receipt"]) => self.act_receipt(request, id).await,
            (&Method::GET, ["account", "device"]) => self.device_offer(request).await,
            (&Method::GET, ["consent"]) => self.consent_page(request).await,
            (&Method::GET, ["device"]) => self.device_page(request).await,
            (&Method::GET, ["step-up", secret]) => self.step_up_page(request, secret).await,
            (&Method::POST, ["login", "passkey", "begin"]) => self.begin_passkey(request).await,
            (&Method::POST, ["login", "passkey"]) => self.passkey(request).await,
            (&Method::POST, ["account", "passkey", "begin"]) => self.begin_enrolment(request).await,
            (&Method::POST, ["account", "passkey"]) => self.enrol_passkey(request).await,
            (&Method::POST, ["api", "v1", "users", name, "invitation"]) => self.invite(request, name).await,
            (&Method::POST, parts) => {
                let form = self.form(request)?;
                match parts {
                    ["login"] => self.password(request, &form).await,
                    ["login", "second"] => self.second(request, &form).await,
                    ["login", "recovery"] => self.recover(request, &form).await,
                    ["login", "invited", secret] => self.accept(request, secret).await,
                    ["login", "provider", provider] => self.to_provider(request, &form, provider).await,
                    ["account", "link", provider] => self.link_provider(request, provider).await,
                    ["logout"] => self.log_out(request).await,
                    ["account", "password"] => self.set_password(request, &form).await,
                    ["account", "totp"] => self.offer_totp(request).await,
                    ["account", "totp", "confirm"] => self.confirm_totp(request, &form).await,
                    ["account", "recovery"] => self.make_codes(request).await,
                    ["account", "recovery", "stop"] => self.stop_recovery(request).await,
                    ["account", "remove"] => self.remove(request, &form).await,
                    ["account", "end"] => self.end_session(request, &form).await,
                    ["account", "end-others"] => self.end_others(request).await,
                    ["account", "device"] => self.enrol_device(request, &form).await,
                    ["account", "device", "remove"] => self.remove_device(request, &form).await,
                    ["account", "withdraw"] => self.withdraw(request, &form).await,
                    ["device"] => self.device_code(request, &form).await,
                    ["device", "answer"] => self.answer_device(request, &form).await,
                    ["consent"] => self.answer_consent(request, &form).await,
                    ["step-up", secret] => self.answer_step_up(request, secret, &form).await,
                    _ => Err(ReasonCode::NotFound.into()),
                }
            }
            (&Method::GET, _) => Err(ReasonCode::NotFound.into()),
            _ => Err(ReasonCode::MethodNotAllowed.into()),
        }
    }

    /// A form, if one of our own pages has sent it.
    fn form(&self, request: &Request) -> Result<Form, Stop> {
        let form = Form::parse(&request.arrived.body)
            .map_err(|e| Problem::with_detail(ReasonCode::BodyMalformed, e.to_string()))?;
        let token = form.get("token").unwrap_or_default();
        if self.login.is_own_form(&request.visitor, token) {
            Ok(form)
        } else {
            Err(ReasonCode::RequestForged.into())
        }
    }

    /// Whoever is signed in; else to the login, and back.
    pub(crate) async fn who(&self, request: &Request) -> Result<SignedIn, Stop> {
        let found = self.login.signed_in(&request.visitor).await?;
        found.ok_or_else(|| {
            let uri = &request.arrived.head.uri;
            let back = if request.arrived.head.method == Method::GET {
                uri.to_string()
            } else {
                "/account".to_owned()
            };
            Stop::Go(texts::to_login(&back, false))
        })
    }

    /// Whoever is signed in for more than enrolling.
    pub(crate) async fn person(&self, request: &Request) -> Result<(SignedIn, Person), Stop> {
        let who = self.who(request).await?;
        match who.person() {
            Some(person) => Ok((who, person)),
            None => Err(Stop::Go("/account".to_owned())),
        }
    }
}

impl Mount for Console {
    fn takes(&self, path: &str) -> bool {
        let first = path.split('/').nth(1).unwrap_or_default();
        let invites = path.starts_with("/api/v1/users/") && path.ends_with("/invitation");
        invites
            || matches!(
                first,
                "" | "login" | "logout" | "account" | "consent" | "device" | "step-up" | "assets"
            )
    }

    fn body_max(&self) -> usize {
        BODY_MAX
    }

    fn answer(&self, arrived: Arrived) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let visitor = Visitor::of(&arrived.head.headers, arrived.peer);
            let request = Request { visitor, arrived };
            match self.try_answer(&request).await {
                Ok(answer) => answer,
                Err(stop) => answer::stopped(stop, &request),
            }
        })
    }
}

/// Tells the authorization endpoint who is signed in.
#[derive(Debug)]
pub struct SignedInVisitors(pub Arc<Login>);

impl Visitors for SignedInVisitors {
    fn signed_in<'a>(
        &'a self,
        headers: &'a HeaderMap,
        peer: SocketAddr,
    ) -> BoxFuture<'a, Result<Option<Person>, OauthError>> {
        Box::pin(async move {
            let found = self.0.signed_in(&Visitor::of(headers, peer)).await;
            let found = found.map_err(|stopped| {
                OauthError::new(OauthCode::TemporarilyUnavailable, stopped.problem.message())
            })?;
            Ok(found.and_then(|who| who.person()))
        })
    }
}
