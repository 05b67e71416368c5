//! Small texts: moments, addresses to go on to.

use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_model::{Problem, RiskLevel};

/// Where one may be sent on to after a login: paths of ours that are pages, and nothing that browsers read as another host.
pub(crate) fn onward(given: Option<&str>) -> String {
    let pages = ["/oauth/authorize?", "/consent?", "/device", "/account", "/step-up/"];
    let plain = |path: &&str| {
        pages.iter().any(|page| path.starts_with(page))
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    };
    given.filter(plain).unwrap_or("/account").to_owned()
}

/// The login page, and where to go on from it.
pub(crate) fn to_login(back: &str, again: bool) -> String {
    let again = if again { "&again=1" } else { "" };
    format!("/login?continue={}{again}", escaped(back))
}

/// A text as it stands in the query of an address.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A resource as people read it: `Model::"gpt-4o"` is the model gpt-4o, and what is about the house itself needs no name.
pub(crate) fn thing(resource: &str) -> String {
    let Some((kind, name)) = resource.split_once("::\"") else { return resource.to_owned() };
    if kind == "System" {
        return String::new();
    }
    format!("{kind} {}", name.strip_suffix('"').unwrap_or(name))
}

/// A moment as people read it: to the minute, in UTC.
pub(crate) fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    match text.get(..16) {
        Some(minute) => format!("{} UTC", minute.replace('T', " ")),
        None => text,
    }
}

/// A length of time as people say it.
pub(crate) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match (seconds / 60, seconds % 60) {
        (1, 0) => "a minute".to_owned(),
        (minutes, 0) if minutes > 0 => format!("{minutes} minutes"),
        _ => format!("{seconds} seconds"),
    }
}

/// The risk of a session, where there is any to tell.
pub(crate) fn risk(level: RiskLevel) -> String {
    match level {
        RiskLevel::Low | RiskLevel::Unknown => String::new(),
        RiskLevel::Medium => "unusual".to_owned(),
        RiskLevel::High => "very unusual".to_owned(),
    }
}

/// A problem as it stands above a form.
pub(crate) fn line(problem: &Problem) -> String {
    problem.message()
}

/// A text of a program as a sentence.
pub(crate) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// A browser and its system, out of what it calls itself. For people to tell their own apart, nothing else.
pub(crate) fn agent(text: &str) -> String {
    let find =
        |names: &[(&str, &'static str)]| names.iter().find(|(mark, _)| text.contains(mark)).map(|(_, n)| *n);
    let browser = find(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("bartizan", "Bartizan's command line"),
    ]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        _ => "A program that does not say what it is".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_02_nobody_is_sent_on_to_another_host() {
        assert_eq!(onward(Some("/oauth/authorize?client_id=a&x=%2F")), "/oauth/authorize?client_id=a&x=%2F");
        for bad in [
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "/account\\@evil.example",
            "javascript:alert(1)",
            "/account\r\nlocation: x",
            "",
            "/api/v1/keys",
            "/oauth/token",
            "account",
            "/oauth/authorize?\u{9}",
        ] {
            assert_eq!(onward(Some(bad)), "/account", "{bad:?}");
        }
    }

    #[test]
    fn where_to_go_back_to_survives_the_login_page() {
        assert_eq!(
            to_login("/consent?request=a&b=c d", true),
            "/login?continue=/consent%3Frequest%3Da%26b%3Dc%20d&again=1"
        );
    }

    #[test]
    fn what_stands_in_an_address_stays_one_parameter_of_it() {
        assert_eq!(escaped("agent/a b&x=1#é"), "agent/a%20b%26x%3D1%23%C3%A9");
    }

    #[test]
    fn things_are_named_as_people_name_them() {
        let plain = |text: &str| thing(text);
        assert_eq!(plain(r#"Model::"gpt-4o""#), "Model gpt-4o");
        assert_eq!(plain(r#"Shop::Order::"2026::7""#), "Shop::Order 2026::7");
        assert_eq!(plain(r#"System::"bartizan""#), "");
        assert_eq!(plain("odd"), "odd");
    }

    #[test]
    fn programs_are_named_so_that_people_know_their_own() {
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36";
        assert_eq!(agent(chrome), "Chrome on Linux");
        assert_eq!(agent(""), "A program that does not say what it is");
    }
}
