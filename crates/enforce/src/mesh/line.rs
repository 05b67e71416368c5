//! The line of a request as everybody reads it alike: the proxy that routes by it, we who decide about it, and the service that
//! answers it.
//!
//! Readers differ: nginx merges slashes and decodes before it picks a location, Envoy does neither unless told to, servers of
//! applications cut at `;`, fold letters, or believe a header over the line. What some reader could see otherwise is therefore
//! not repaired but refused.

use http::HeaderMap;
use http::header::HOST;

/// The longest path that is looked at, in bytes.
const PATH_MAX: usize = 8 << 10;
/// The longest authority (RFC 1035 names, and a port).
const HOST_MAX: usize = 262;

/// Headers that some services believe over the line. A `_` counts as the `-` that others make of it.
const OVERRIDES: [&str; 6] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-rewrite-url",
];

/// What is asked for, where, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) method: String,
    /// In small letters, with the port as it was written.
    pub(crate) authority: String,
    /// The authority without its port.
    pub(crate) host: String,
    /// Without query.
    pub(crate) path: String,
}

/// What could be read in two ways.
pub(crate) type Unclear = &'static str;

impl Line {
    /// Reads the parts of a line.
    ///
    /// # Errors
    /// What is not plain.
    pub(crate) fn read(
        method: &str,
        authority: &str,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<Self, Unclear> {
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
            return Err("the method is not written in capitals");
        }
        let authority = authority.to_ascii_lowercase();
        let host = host(&authority)?.to_owned();
        let mut hosts = headers.get_all(HOST).iter();
        if hosts.any(|other| !other.as_bytes().eq_ignore_ascii_case(authority.as_bytes())) {
            return Err("the header `host` says something else than the line");
        }
        for name in headers.keys() {
            let name = name.as_str().replace('_', "-");
            if OVERRIDES.contains(&name.as_str()) {
                return Err("a header would override the line");
            }
        }
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        plain(path)?;
        Ok(Self { method: method.to_owned(), authority, host, path: path.to_owned() })
    }
}

/// The host of an authority, whose port is digits.
fn host(authority: &str) -> Result<&str, Unclear> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return Err("the port of the host is no port");
    }
    let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_');
    let labels = || host.split('.').all(|label| !label.is_empty()) && host.bytes().all(named);
    let address = || {
        let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
    };
    // Also refuses the dot at the end, which names the same host to some and another one to others.
    if authority.len() > HOST_MAX || !(labels() || address()) {
        Err("the host is not a plain name")
    } else {
        Ok(host)
    }
}

/// Refuses a path that is not in its one plain form.
fn plain(path: &str) -> Result<(), Unclear> {
    let Some(inner) = path.strip_prefix('/') else { return Err("the path does not begin with `/`") };
    if path.len() > PATH_MAX {
        return Err("the path is too long");
    }
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err("the path has `//`");
        }
        if matches!(segment, "." | "..") {
            return Err("the path has a segment `.` or `..`");
        }
        let mut decoded = Vec::new();
        let mut bytes = segment.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => decoded.push(escape(bytes.next(), bytes.next())?),
                // The plain characters of a segment (RFC 3986) but `;`, at which some cut.
                byte if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte) => {
                    decoded.push(byte);
                }
                _ => return Err("the path has a character that is not plain"),
            }
        }
        // `%C0%AE` is a dot to lax readers, and so are a wide one and its likes to those that look for the best fit.
        let text = std::str::from_utf8(&decoded).map_err(|_| "the path has an escape that is no UTF-8")?;
        let fits = |c| matches!(c, '\u{80}'..='\u{9f}' | '\u{2024}'..='\u{2026}' | '\u{2044}' | '\u{2215}' | '\u{ff00}'..='\u{ffef}');
        if text.contains(fits) {
            return Err("the path has an escape that some take for a separator");
        }
    }
    Ok(())
}

/// An escape that everybody leaves or decodes to the same: of a byte that must be escaped, and that parts nothing.
fn escape(high: Option<u8>, low: Option<u8>) -> Result<u8, Unclear> {
    let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
    let (Some(high), Some(low)) = (digit(high), digit(low)) else {
        return Err("the path has a broken escape");
    };
    let byte = u8::try_from(high * 16 + low).unwrap_or_default();
    let parts = byte < b' ' || byte == 0x7f || b"/\\.%;?#".contains(&byte);
    if parts || byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
        return Err("the path has an escape that others decode first");
    }
    Ok(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(authority: &str, target: &str) -> Result<Line, Unclear> {
        Line::read("GET", authority, target, &HeaderMap::new())
    }

    #[test]
    fn a_plain_line_is_read_as_it_stands() {
        let line = read("Shop.Example:8443", "/orders/7%20x/caf%C3%A9/?a=/../b;c").unwrap();
        assert_eq!((line.host.as_str(), line.path.as_str()), ("shop.example", "/orders/7%20x/caf%C3%A9/"));
        assert_eq!(line.authority, "shop.example:8443");
        assert_eq!(read("[2001:db8::1]:80", "/").unwrap().host, "[2001:db8::1]");
        assert_eq!(read("[2001:db8::1]", "/").unwrap().host, "[2001:db8::1]");
    }

    #[test]
    fn a_path_that_a_proxy_a_service_and_we_could_read_differently_is_refused() {
        for target in [
            "",
            "*",
            "orders",
            "http://shop.example/orders",
            "//orders",
            "/a//b",
            "/a/../admin",
            "/a/./b",
            "/..",
            "/a/..",
            "/a/%2e%2e/admin",
            "/a/%2E./admin",
            "/a%2fadmin",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0a",
            "/a%252e",
            "/a;x=1/b",
            "/a%3bx",
            "/a%3Fb",
            "/a%23b",
            "/a#b",
            "/%61dmin",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%u0041",
            "/é",
            "/a b",
            "/a/%c0%ae",
            "/a/%e0%80%ae",
            "/%ef%bc%8e%ef%bc%8e/a",
            "/a%ef%bc%8fb",
            "/%e2%80%a5/a",
            "/a%ff",
            "/a%c2%85",
            "/a\tb",
            "/a\u{0}",
            "/a\"b",
            "/a<b",
            "/a|b",
            "/a^b",
            "/a`b",
            "/a{b}",
            "/a[b]",
        ] {
            assert!(read("shop.example", target).is_err(), "{target:?}");
        }
        assert!(read("shop.example", &format!("/{}", "a".repeat(PATH_MAX))).is_err());
    }

    #[test]
    fn a_host_that_could_be_another_one_is_refused() {
        for authority in [
            "",
            ".",
            "shop.example.",
            "shop..example",
            ".shop.example",
            "user@shop.example",
            "shop.example:",
            "shop.example:x",
            "shop.example:+80",
            "shop.example:99999",
            "shop.example:80:80",
            "shop.example/x",
            "shop.example,evil.example",
            "shop example",
            "shop.example\0",
            "sh\u{f6}p.example",
            "[::1",
            "::1",
            "[x]",
            "shop.example#",
            "*",
            "shop.%65xample",
        ] {
            assert!(read(authority, "/").is_err(), "{authority:?}");
        }
        assert!(read(&"a".repeat(HOST_MAX + 1), "/").is_err());
    }

    #[test]
    fn a_header_that_some_services_believe_over_the_line_is_refused() {
        for (name, value) in [
            ("x-http-method-override", "DELETE"),
            ("X-HTTP-Method", "DELETE"),
            ("x_method_override", "DELETE"),
            ("x-original-url", "/admin"),
            ("X-Rewrite-URL", "/admin"),
            ("host", "other.example"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
            assert!(Line::read("GET", "shop.example", "/", &headers).is_err(), "{name}");
        }
        let mut headers = HeaderMap::new();
        headers.append(HOST, "shop.example".parse().unwrap());
        assert!(Line::read("GET", "Shop.example", "/", &headers).is_ok());
        headers.append(HOST, "other.example".parse().unwrap());
        assert!(Line::read("GET", "shop.example", "/", &headers).is_err(), "two hosts");
        for method in ["", "get", "GET ", "G\u{0}T"] {
            assert!(Line::read(method, "shop.example", "/", &HeaderMap::new()).is_err(), "{method:?}");
        }
    }

    proptest! {
        /// Decoding once, decoding twice, removing dot segments, merging slashes, and cutting at `;`: a path that is let through
        /// has the same segments whichever of them a reader does.
        #[test]
        fn whatever_a_reader_normalises_a_plain_path_has_the_same_segments(path in "/([a-z.;%/\\\\]|%2[ef5]|%5c|%3b|%20|\\.\\.){0,14}") {
            if plain(&path).is_ok() {
                let once: String = path.replace("%20", " ");
                prop_assert!(!once.contains('%'), "{}", path);
                prop_assert!(!once.contains([';', '\\']) && !once.contains("//"), "{}", path);
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."), "{}", path);
            }
        }
    }
}
