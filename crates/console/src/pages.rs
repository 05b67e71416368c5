//! The pages, by type: what each shows. Everything is escaped where it stands, but for the one picture that we draw ourselves.

use askama::Template;
use bartizan_authority::authorize::consent::Ask;
use bartizan_authority::device::DeviceAsk;

#[derive(Template)]
#[template(path = "onward.html")]
pub(crate) struct OnwardPage<'a> {
    pub(crate) said: &'a str,
    pub(crate) to: &'a str,
}

#[derive(Template)]
#[template(path = "error.html")]
pub(crate) struct ErrorPage<'a> {
    pub(crate) meaning: &'a str,
    pub(crate) way_forward: &'a str,
    pub(crate) code: &'a str,
    pub(crate) decision: String,
    pub(crate) back: &'a str,
    pub(crate) back_label: &'a str,
}

#[derive(Template)]
#[template(path = "login.html")]
pub(crate) struct LoginPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) onward: &'a str,
    pub(crate) name: &'a str,
    pub(crate) error: String,
    pub(crate) again: bool,
    pub(crate) strong: bool,
    pub(crate) passkeys: bool,
    pub(crate) providers: Vec<String>,
}

#[derive(Template)]
#[template(path = "second.html")]
pub(crate) struct SecondPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) onward: &'a str,
    pub(crate) step: &'a str,
    pub(crate) error: String,
}

#[derive(Template)]
#[template(path = "recovery.html")]
pub(crate) struct RecoveryPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) error: String,
    pub(crate) waits: String,
}

#[derive(Template)]
#[template(path = "invited.html")]
pub(crate) struct InvitedPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) name: &'a str,
    pub(crate) secret: &'a str,
}

#[derive(Template)]
#[template(path = "totp.html")]
pub(crate) struct TotpPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) step: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) qr: String,
    pub(crate) error: String,
}

#[derive(Template)]
#[template(path = "codes.html")]
pub(crate) struct CodesPage<'a> {
    pub(crate) codes: Vec<&'a str>,
}

#[derive(Template)]
#[template(path = "consent.html")]
pub(crate) struct ConsentPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) name: &'a str,
    pub(crate) ask: &'a Ask,
}

#[derive(Template)]
#[template(path = "device.html")]
pub(crate) struct DevicePage<'a> {
    pub(crate) token: &'a str,
    pub(crate) code: &'a str,
    pub(crate) error: String,
}

#[derive(Template)]
#[template(path = "device_ask.html")]
pub(crate) struct DeviceAskPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) name: &'a str,
    pub(crate) ask: &'a DeviceAsk,
}

#[derive(Template)]
#[template(path = "device_enrol.html")]
pub(crate) struct DeviceEnrolPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) name: &'a str,
    pub(crate) label: &'a str,
    pub(crate) key: String,
    pub(crate) proof: &'a str,
}

#[derive(Template)]
#[template(path = "step_up.html")]
pub(crate) struct StepUpPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) name: &'a str,
    pub(crate) client: &'a str,
    pub(crate) actors: Vec<&'a str>,
    pub(crate) what: &'a str,
    pub(crate) asked: String,
    pub(crate) suffices: bool,
    pub(crate) level: u8,
    pub(crate) age: String,
    pub(crate) login: String,
}

#[derive(Template)]
#[template(path = "told.html")]
pub(crate) struct ToldPage<'a> {
    pub(crate) said: &'a str,
    pub(crate) more: &'a str,
}

pub(crate) struct AuthenticatorLine {
    pub(crate) id: String,
    pub(crate) label: String,
    pub(crate) kind: &'static str,
    pub(crate) created: String,
    pub(crate) used: String,
}

pub(crate) struct SessionLine {
    pub(crate) id: String,
    pub(crate) is_this: bool,
    pub(crate) agent: String,
    pub(crate) network: String,
    pub(crate) began: String,
    pub(crate) methods: String,
    pub(crate) risk: String,
}

pub(crate) struct GrantLine {
    pub(crate) id: String,
    pub(crate) who: String,
    /// The agent that it is for, if it is for one.
    pub(crate) agent: String,
    pub(crate) state: &'static str,
    pub(crate) alive: bool,
    pub(crate) what: String,
    pub(crate) given: String,
    pub(crate) ends: String,
    pub(crate) used: String,
}

/// What somebody did in one's name.
pub(crate) struct ActLine {
    pub(crate) at: String,
    pub(crate) who: String,
    pub(crate) what: String,
    pub(crate) on: String,
    pub(crate) permitted: bool,
    pub(crate) more: u64,
    /// Where the proof is, of what was permitted.
    pub(crate) receipt: String,
}

/// An agent with the last of what it did.
pub(crate) struct ActorLine {
    pub(crate) name: String,
    pub(crate) all: String,
    pub(crate) acts: Vec<ActLine>,
}

#[derive(Template)]
#[template(path = "acts.html")]
pub(crate) struct ActsPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) title: String,
    pub(crate) acts: Vec<ActLine>,
    /// Where the page after this one is.
    pub(crate) next: String,
    /// Whether this is not the first page.
    pub(crate) later: bool,
    pub(crate) first: String,
    pub(crate) grants: Vec<GrantLine>,
}

pub(crate) struct PendingLine {
    pub(crate) begun: String,
    pub(crate) ready: String,
    pub(crate) network: String,
    pub(crate) agent: String,
}

#[derive(Template)]
#[template(path = "account.html")]
pub(crate) struct AccountPage<'a> {
    pub(crate) token: &'a str,
    pub(crate) name: &'a str,
    pub(crate) said: String,
    pub(crate) error: String,
    pub(crate) enrol: bool,
    pub(crate) passkeys: bool,
    /// Whether makers vouch for authenticators here, and whether no others are taken.
    pub(crate) attested: bool,
    pub(crate) demanded: bool,
    pub(crate) recovery: Option<PendingLine>,
    pub(crate) authenticators: Vec<AuthenticatorLine>,
    pub(crate) sessions: Vec<SessionLine>,
    pub(crate) grants: Vec<GrantLine>,
    pub(crate) actors: Vec<ActorLine>,
    /// Why what was done cannot be shown.
    pub(crate) untold: String,
    pub(crate) devices: Vec<String>,
    pub(crate) providers: Vec<String>,
}
