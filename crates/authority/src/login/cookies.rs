//! What a browser keeps: the ticket of its session, and that somebody has logged in with it before.

use std::time::Duration;

use bartizan_base::{Name, Timestamp};
use bartizan_model::{PrincipalId, Tenant};
use bartizan_secret::Secret;
use serde::{Deserialize, Serialize};

use super::visitor::{KNOWN, SESSION, SetCookie, Ticket, new_visit};
use super::{Login, Visitor};
use crate::kept::{Reach, Session};

/// How long a browser counts as known.
const KNOWN_FOR: Duration = Duration::from_secs(180 * 24 * 3_600);

/// Who has logged in with a browser, as its cookie says, sealed.
#[derive(Serialize, Deserialize)]
struct Known {
    principal: PrincipalId,
    at: Timestamp,
}

impl Login {
    pub(super) fn cookies(&self, ticket: &Ticket, session: &Session) -> Vec<SetCookie> {
        let random = &*self.authority.control.random;
        let mut cookies = Vec::new();
        cookies.extend(SetCookie::new(SESSION, ticket.text().expose(), None));
        // Whatever was known of the visit before the login is worth nothing after it.
        cookies.extend(new_visit(random).1);
        if session.reach == Reach::Full {
            let known = Known { principal: session.principal.id, at: session.assurance.at };
            let sealed = serde_json::to_string(&known).ok().and_then(|text| {
                self.known.seal(&Secret::new(text), &self.home(), &Name::literal("login/known"), random).ok()
            });
            let text = sealed.map(|bytes| {
                base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
            });
            cookies.extend(text.and_then(|text| SetCookie::new(KNOWN, &text, Some(KNOWN_FOR.as_secs()))));
        }
        cookies
    }

    /// Tells browsers apart in which `principal` has logged in before.
    pub(super) fn known_browser(
        &self,
        visitor: &Visitor,
        _: &Tenant,
        principal: PrincipalId,
    ) -> Option<bartizan_base::Digest> {
        let text = visitor.known.as_ref()?.expose();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).ok()?;
        let opened = self.known.open(&bytes, &self.home(), &Name::literal("login/known")).ok()?;
        let known: Known = serde_json::from_str(opened.expose()).ok()?;
        let fresh = self.now().saturating_since(known.at) <= KNOWN_FOR;
        (fresh && known.principal == principal).then(|| bartizan_base::Digest::of(text.as_bytes()))
    }

    /// Cookies that take a session out of a browser.
    #[must_use]
    pub fn farewell(&self) -> Vec<SetCookie> {
        SetCookie::new(SESSION, "", Some(0))
            .into_iter()
            .chain(new_visit(&*self.authority.control.random).1)
            .collect()
    }
}
