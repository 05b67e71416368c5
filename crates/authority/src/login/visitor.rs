//! What a request says about whoever sent it, before anything is proven.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bartizan_base::{Digest, Random, Text};
use bartizan_model::SessionId;
use bartizan_secret::{Secret, constant_time_eq};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, HeaderMap, HeaderValue, ORIGIN, USER_AGENT};

/// The cookie of a session. The prefix makes browsers keep it to this host, `Secure` and the whole path (RFC 6265bis, 4.1.3.2).
pub(super) const SESSION: &str = "__Host-bartizan-session";
/// The cookie that forms and steps of a login are bound to.
pub(super) const VISIT: &str = "__Host-bartizan-visit";
/// The cookie of a browser in which somebody has logged in before.
pub(super) const KNOWN: &str = "__Host-bartizan-known";

/// A session's cookie as it was sent: an id, and a secret of 256 bits.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) id: SessionId,
    secret: Secret<[u8; 32]>,
}

impl Ticket {
    pub(super) fn generate(id: SessionId, random: &dyn Random) -> Self {
        let mut secret = [0; 32];
        random.fill(&mut secret);
        Self { id, secret: Secret::new(secret) }
    }

    /// What is kept of the secret. A plain hash is enough: there is nothing to guess in 256 random bits.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(self.secret.expose())
    }

    pub(super) fn text(&self) -> Secret<String> {
        Secret::new(format!("{}.{}", self.id, URL_SAFE_NO_PAD.encode(self.secret.expose())))
    }
}

/// The text is not a session's cookie.
#[derive(Debug)]
pub(super) struct NotATicket;

impl FromStr for Ticket {
    type Err = NotATicket;

    fn from_str(text: &str) -> Result<Self, NotATicket> {
        let (id, secret) = text.split_once('.').ok_or(NotATicket)?;
        let secret = URL_SAFE_NO_PAD.decode(secret).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Self { id: id.parse().map_err(|_| NotATicket)?, secret: Secret::new(secret.ok_or(NotATicket)?) })
    }
}

/// Whoever sent a request.
#[derive(Debug)]
pub struct Visitor {
    /// From where.
    pub(super) address: IpAddr,
    /// The program, as it calls itself.
    pub(super) agent: Text<200>,
    pub(super) ticket: Option<Ticket>,
    pub(super) visit: Option<Secret<String>>,
    pub(super) known: Option<Secret<String>>,
    /// What the browser says about where the request comes from.
    origin: Option<String>,
    fetch_site: Option<String>,
}

impl Visitor {
    /// Reads what a request says.
    #[must_use]
    pub fn of(headers: &HeaderMap, peer: SocketAddr) -> Self {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let cookie = |name: &str| cookie(headers, name);
        Self {
            address: peer.ip().to_canonical(),
            agent: Text::lossy(&text(USER_AGENT.as_str()).unwrap_or_default()),
            ticket: cookie(SESSION).and_then(|c| c.expose().parse().ok()),
            visit: cookie(VISIT),
            known: cookie(KNOWN),
            origin: text(ORIGIN.as_str()),
            fetch_site: text("sec-fetch-site"),
        }
    }

    /// The network, as far as it tells people and budgets apart: 24 bits of IPv4, 48 of IPv6.
    pub(super) fn network(&self) -> String {
        match self.address {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                format!("{a}.{b}.{c}.0/24")
            }
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
            }
        }
    }

    /// What forms carry so that only our own pages can send them: it follows from a cookie that no other site can read or set.
    #[must_use]
    pub fn form_token(&self) -> Option<String> {
        self.visit.as_ref().map(|visit| form_token(visit.expose()))
    }

    /// Whether a form was sent by a page of `issuer`: by what the browser says, and by the form's own token.
    #[must_use]
    pub fn is_own_form(&self, issuer: &str, token: &str) -> bool {
        let from_us = match (&self.origin, &self.fetch_site) {
            (Some(origin), _) => origin == issuer,
            (None, Some(site)) => site == "same-origin",
            (None, None) => false,
        };
        let expected = self.form_token();
        from_us && expected.is_some_and(|expected| constant_time_eq(expected.as_bytes(), token.as_bytes()))
    }

    /// To what steps of a login are bound.
    pub(super) fn bound_to(&self) -> Option<Digest> {
        self.visit.as_ref().map(|visit| Digest::of_parts(&[b"bartizan step v1\0", visit.expose().as_bytes()]))
    }
}

fn form_token(visit: &str) -> String {
    let digest = Digest::of_parts(&[b"bartizan form v1\0", visit.as_bytes()]);
    URL_SAFE_NO_PAD.encode(digest.as_bytes())
}

/// A cookie's value. One that comes twice is none: somebody has planted one of them.
fn cookie(headers: &HeaderMap, name: &str) -> Option<Secret<String>> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut found = pairs
        .flat_map(|pairs| pairs.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name);
    let first = found.next()?.1;
    found.next().is_none().then(|| Secret::new(first.to_owned()))
}

/// A cookie to be set. Its value is secret, also in logs.
#[derive(Clone)]
pub struct SetCookie(HeaderValue);

impl fmt::Debug for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetCookie(…)")
    }
}

impl SetCookie {
    pub(super) fn new(name: &str, value: &str, life_s: Option<u64>) -> Option<Self> {
        let age = life_s.map(|s| format!("; Max-Age={s}")).unwrap_or_default();
        let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}");
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(Self(header))
    }

    /// The value of the `set-cookie` header.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// A visit that begins: what forms carry, and the cookie it follows from.
pub(super) fn new_visit(random: &dyn Random) -> (String, Option<SetCookie>) {
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    let visit = Secret::new(URL_SAFE_NO_PAD.encode(bytes));
    (form_token(visit.expose()), SetCookie::new(VISIT, visit.expose(), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::Timestamp;
    use bartizan_base::random::SeededRandom;

    const ISSUER: &str = "https://id.example.com";

    fn visitor(headers: &[(&'static str, &str)]) -> Visitor {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Visitor::of(&map, "198.51.100.7:4711".parse().unwrap())
    }

    #[test]
    fn a_ticket_round_trips_and_shows_nothing() {
        let random = SeededRandom::new(1);
        let ticket = Ticket::generate(SessionId::new(Timestamp::from_micros(5), &random), &random);
        let read: Ticket = ticket.text().expose().parse().unwrap();
        assert_eq!((read.id, read.digest()), (ticket.id, ticket.digest()));
        assert!(!format!("{read:?}").contains(&*URL_SAFE_NO_PAD.encode(ticket.secret.expose())));
        for bad in ["", "ses_", "a.b", &format!("{}.AAAA", ticket.id), &format!("{}", ticket.id)] {
            assert!(bad.parse::<Ticket>().is_err(), "{bad}");
        }
    }

    #[test]
    fn attack_09_a_form_of_another_site_is_not_ours() {
        let cookie = "__Host-bartizan-visit=abc";
        let token = form_token("abc");
        let own = |headers: &[(&'static str, &str)], token: &str| visitor(headers).is_own_form(ISSUER, token);
        assert!(own(&[("cookie", cookie), ("origin", ISSUER)], &token));
        assert!(own(&[("cookie", cookie), ("sec-fetch-site", "same-origin")], &token));
        for origin in
            ["https://evil.example", "null", "https://id.example.com.evil.example", "http://id.example.com"]
        {
            assert!(!own(
                &[("cookie", cookie), ("origin", origin), ("sec-fetch-site", "same-origin")],
                &token
            ));
        }
        for site in ["cross-site", "same-site", "none"] {
            assert!(!own(&[("cookie", cookie), ("sec-fetch-site", site)], &token), "{site}");
        }
        assert!(!own(&[("cookie", cookie)], &token), "a browser that says nothing is not believed");
        assert!(!own(&[("cookie", cookie), ("origin", ISSUER)], &form_token("abd")));
        assert!(!own(&[("origin", ISSUER)], &form_token("")), "no cookie, no form");
        assert!(!own(&[("cookie", cookie), ("origin", ISSUER)], ""));
    }

    #[test]
    fn attack_09_a_cookie_that_was_planted_beside_another_counts_as_none() {
        let twice = visitor(&[("cookie", "__Host-bartizan-visit=a; __Host-bartizan-visit=b")]);
        assert!(twice.visit.is_none());
        let apart = visitor(&[("cookie", "__Host-bartizan-visit=a"), ("cookie", "__Host-bartizan-visit=b")]);
        assert!(apart.visit.is_none());
        assert!(visitor(&[("cookie", "x=1; __Host-bartizan-visit=a")]).visit.is_some());
    }

    #[test]
    fn networks_are_as_wide_as_one_customer() {
        assert_eq!(visitor(&[]).network(), "198.51.100.0/24");
        let of = |peer: &str| Visitor::of(&HeaderMap::new(), peer.parse().unwrap()).network();
        assert_eq!(of("[2001:db8:1:2::3]:1"), "2001:db8:1::/48");
        assert_eq!(of("[::ffff:192.0.2.9]:1"), "192.0.2.0/24");
    }

    #[test]
    fn cookies_are_for_this_host_alone_and_out_of_reach_of_scripts() {
        let cookie = SetCookie::new(SESSION, "v", Some(9)).unwrap();
        assert_eq!(
            cookie.header().to_str().unwrap(),
            "__Host-bartizan-session=v; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=9"
        );
        assert!(cookie.header().is_sensitive());
    }
}
