//! One's own account: what one proves oneself with, where one is signed in, what acts in one's name.

use bartizan_authority::grants::GrantView;
use bartizan_authority::login::{AuthenticatorKind, SignedIn};
use bartizan_authority::oauth::Form;
use bartizan_model::ReasonCode;
use http::StatusCode;

use crate::pages::{AccountPage, AuthenticatorLine, GrantLine, PendingLine, SessionLine};
use crate::{Answer, Console, Request, Stop, answer, texts};

impl Console {
    pub(crate) async fn account_page(&self, request: &Request) -> Result<Answer, Stop> {
        let who = self.who(request).await?;
        let said = match request.query("said").as_deref() {
            Some("passkey") => "The passkey was added.",
            Some("password") => "The password was set.",
            Some("totp") => "Codes from the app count from now on.",
            Some("linked") => "The account there is yours: you can sign in with it.",
            Some("device") => "The device is yours.",
            Some("removed") => "It was removed.",
            Some("ended") => "It was ended, and everything issued in it is dead.",
            Some("stopped") => "The recovery was stopped, and its code is dead.",
            Some("withdrawn") => "It was withdrawn.",
            _ => "",
        };
        self.render_account(request, &who, StatusCode::OK, said.to_owned(), String::new()).await
    }

    pub(crate) async fn render_account(
        &self,
        request: &Request,
        who: &SignedIn,
        status: StatusCode,
        said: String,
        error: String,
    ) -> Result<Answer, Stop> {
        let (token, cookie) = self.login.greet(&request.visitor);
        let enrol = who.person().is_none();
        let recovery = self.login.pending_recovery(who).await?.filter(|_| !enrol);
        let (sessions, grants, devices) = if enrol { Default::default() } else { self.lists(who).await? };
        let (actors, untold) = if enrol { Default::default() } else { self.actors(who, &grants).await };
        let authenticators = self.login.authenticators(who).await?;
        let (attested, demanded) = self.login.takes_attested(&who.tenant);
        let page = AccountPage {
            token: &token,
            name: &who.principal.name,
            said,
            error,
            enrol,
            passkeys: self.login.has_passkeys(),
            attested,
            demanded,
            recovery: recovery.map(|pending| PendingLine {
                begun: texts::moment(pending.begun),
                ready: texts::moment(pending.ready),
                network: pending.network,
                agent: texts::agent(&pending.agent),
            }),
            authenticators: authenticators
                .into_iter()
                .map(|one| AuthenticatorLine {
                    id: one.id.to_string(),
                    label: one.label,
                    kind: match one.kind {
                        AuthenticatorKind::Passkey if one.attested.is_some() => {
                            "Security key, vouched for by its maker"
                        }
                        AuthenticatorKind::Passkey => "Passkey",
                        AuthenticatorKind::Password => "First factor",
                        AuthenticatorKind::Totp => "Second factor",
                        AuthenticatorKind::Recovery => "For the worst day",
                    },
                    created: texts::moment(one.created),
                    used: one.used.map(texts::moment).unwrap_or_default(),
                })
                .collect(),
            sessions,
            grants,
            actors,
            untold,
            devices,
            providers: if enrol {
                Vec::new()
            } else {
                self.login.provider_names().iter().map(ToString::to_string).collect()
            },
        };
        Ok(answer::with(answer::page(status, &page), cookie))
    }

    async fn lists(&self, who: &SignedIn) -> Result<(Vec<SessionLine>, Vec<GrantLine>, Vec<String>), Stop> {
        let sessions = self.login.sessions(who).await?.value.into_iter().map(|one| SessionLine {
            id: one.id.to_string(),
            is_this: one.is_this,
            agent: texts::agent(&one.agent),
            network: one.network,
            began: texts::moment(one.began),
            methods: methods(&one.assurance.methods.iter().map(|m| m.as_str()).collect::<Vec<_>>()),
            risk: texts::risk(one.risk.level),
        });
        let sessions = sessions.collect();
        let grants = self.login.authority.list_grants(&who.caller).await?.value;
        let grants = grants.into_iter().map(grant).collect();
        let devices = self.login.own_devices(who)?.iter().map(ToString::to_string).collect();
        Ok((sessions, grants, devices))
    }

    pub(crate) async fn end_session(&self, request: &Request, form: &Form) -> Result<Answer, Stop> {
        let who = self.who(request).await?;
        let id = form.get("id").and_then(|id| id.parse().ok()).ok_or(Stop::from(ReasonCode::NotFound))?;
        self.login.end_session(&who, id).await?;
        if id == who.session.value.id {
            return Ok(answer::with(answer::onward("You are signed out", "/login"), self.login.farewell()));
        }
        Ok(answer::see_other("/account?said=ended"))
    }

    pub(crate) async fn end_others(&self, request: &Request) -> Result<Answer, Stop> {
        let who = self.who(request).await?;
        self.login.end_other_sessions(&who).await?;
        Ok(answer::see_other("/account?said=ended"))
    }
}

pub(crate) fn grant(view: GrantView) -> GrantLine {
    // Where something exact was allowed, nothing else was.
    let exact = view.details.into_iter().map(|one| match one.used {
        Some(1) => format!("{}; done once", one.words),
        Some(used) => format!("{}; done {used} times", one.words),
        None => one.words,
    });
    let mut what: Vec<String> = exact.collect();
    if what.is_empty() {
        what.extend(view.scopes);
    }
    if !view.resources.is_empty() {
        what.push(format!("at {}", view.resources.into_iter().collect::<Vec<_>>().join(", ")));
    }
    let last = view.logins.iter().map(|login| login.used.as_str()).max();
    let minute = |text: &str| text.parse_moment();
    let who = match &view.agent {
        Some(agent) if view.client.is_empty() => agent.clone(),
        Some(agent) => format!("{agent} through {}", view.client),
        None => view.client.clone(),
    };
    GrantLine {
        id: view.id.to_string(),
        who,
        agent: view.agent.unwrap_or_default(),
        state: view.state,
        alive: view.state == "active",
        what: what.join(", "),
        given: minute(&view.given),
        ends: minute(&view.ends),
        used: last.map(|at| format!("last used {}", minute(at))).unwrap_or_default(),
    }
}

trait Moment {
    fn parse_moment(&self) -> String;
}

impl Moment for str {
    /// A moment of an API as people read it.
    fn parse_moment(&self) -> String {
        bartizan_base::Timestamp::parse_rfc3339(self).map_or_else(|_| self.to_owned(), texts::moment)
    }
}

fn methods(codes: &[&str]) -> String {
    let said = |code: &&str| {
        Some(match *code {
            "hwk" => "a passkey of a device",
            "swk" => "a passkey",
            "pwd" => "a password",
            "otp" => "a code",
            "recovery" => "a recovery code",
            "invitation" => "an invitation",
            "fed" => "another provider",
            _ => return None,
        })
    };
    codes.iter().filter_map(said).collect::<Vec<_>>().join(" and ")
}
