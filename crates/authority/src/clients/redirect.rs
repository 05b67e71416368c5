//! Where answers may be sent (OAuth 2.1, 2.3; RFC 8252, 7 and 8).

use bartizan_jose::normal_uri;

/// The longest address, in bytes.
const BYTES_MAX: usize = 512;

/// Whether an answer may be sent to `asked`, where `registered` is what the client has registered: to the letter, but for
/// the port of a loopback address.
pub(crate) fn is_same(registered: &str, asked: &str) -> bool {
    registered == asked
        || match (loopback(registered), loopback(asked)) {
            (Some(registered), Some(asked)) => registered == asked,
            _ => false,
        }
}

/// Host and what follows the port, of an address on the person's own machine.
fn loopback(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let host = ["127.0.0.1", "[::1]", "localhost"].into_iter().find(|host| rest.starts_with(host))?;
    let rest = rest.strip_prefix(host)?;
    let path = match rest.strip_prefix(':') {
        None => rest,
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (port, path) = rest.split_at_checked(end)?;
            if port.parse::<u16>().is_err() || port.starts_with('0') {
                return None;
            }
            path
        }
    };
    (path.is_empty() || path.starts_with(['/', '?'])).then_some((host, path))
}

/// Whether an address leads to the person's own machine, where any program can listen.
pub(crate) fn is_local(uri: &str) -> bool {
    loopback(uri).is_some()
}

/// Whether a client may register the address: `https`, `http` on the person's own machine, or a scheme of the application's
/// own with a dot in it (RFC 8252, 7.1). No fragment, no user, nothing that a browser would run.
pub(crate) fn is_acceptable(uri: &str) -> bool {
    let plain = !uri.is_empty()
        && uri.len() <= BYTES_MAX
        && uri.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\' | b'"' | b'<' | b'>'));
    if !plain {
        return false;
    }
    match uri.split_once(':') {
        Some(("https", _)) => normal_uri(uri).is_some(),
        Some(("http", _)) => is_local(uri) && normal_uri(uri).is_some(),
        Some((scheme, _)) => {
            scheme.contains('.')
                && scheme.starts_with(|c: char| c.is_ascii_lowercase())
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
        }
        None => false,
    }
}

/// The host of an address, for people.
pub(crate) fn host(uri: &str) -> Option<&str> {
    let rest = uri.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    (!authority.is_empty()).then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_01_an_address_is_the_registered_one_to_the_letter() {
        let registered = "https://app.example/cb";
        assert!(is_same(registered, registered));
        for asked in [
            "https://app.example/cb/",
            "https://app.example/cb/x",
            "https://app.example/c",
            "https://app.example/cb?x=1",
            "https://app.example/cb#x",
            "https://app.example/x/../cb",
            "https://app.example/%63b",
            "https://app.example/%2e%2e/cb",
            "https://app.example:443/cb",
            "https://APP.example/cb",
            "HTTPS://app.example/cb",
            "https://app.example@evil.example/cb",
            "https://user@app.example/cb",
            "https://app.example.evil.example/cb",
            "https://evilapp.example/cb",
            "http://app.example/cb",
            "https://app.example/cb ",
            "https://app.example/cb\n",
            "",
        ] {
            assert!(!is_same(registered, asked), "{asked:?}");
        }
    }

    #[test]
    fn attack_01_only_the_port_of_a_loopback_address_is_free() {
        for (registered, asked) in [
            ("http://127.0.0.1/cb", "http://127.0.0.1:49152/cb"),
            ("http://127.0.0.1:1/cb?a=b", "http://127.0.0.1:2/cb?a=b"),
            ("http://[::1]/cb", "http://[::1]:5000/cb"),
            ("http://localhost/cb", "http://localhost:3118/cb"),
        ] {
            assert!(is_same(registered, asked), "{asked}");
        }
        let registered = "http://127.0.0.1:80/cb";
        for asked in [
            "http://127.0.0.1:80@evil.example/cb",
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:x/cb",
            "http://127.0.0.1:080/cb",
            "http://127.0.0.1:99999/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://127.0.0.1:80.evil.example/cb",
            "http://localhost:80/cb",
            "https://127.0.0.1:81/cb",
            "http://127.0.0.2:80/cb",
            "http://127.0.0.1:81/cb/x",
            "http://127.0.0.1:81/CB",
            "http://127.0.0.1:81\\@evil.example/cb",
        ] {
            assert!(!is_same(registered, asked), "{asked}");
        }
        // Of addresses elsewhere the port is part of the name.
        assert!(!is_same("https://app.example/cb", "https://app.example:8443/cb"));
    }

    #[test]
    fn attack_44_what_a_browser_would_run_is_never_registered() {
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "vbscript:x",
            "http://app.example/cb",
            "https://app.example/cb#f",
            "https://user@app.example/cb",
            "https://app.example/a/../cb",
            "https:app.example",
            "//app.example/cb",
            "app:/cb",
            "",
        ] {
            assert!(!is_acceptable(bad), "{bad}");
        }
        for good in [
            "https://app.example/cb?x=1",
            "http://127.0.0.1/cb",
            "http://localhost:3000/cb",
            "com.example.app:/cb",
        ] {
            assert!(is_acceptable(good), "{good}");
        }
    }
}
