//! Addresses in proofs, brought to one form (RFC 3986, 6.2.2 and 6.2.3) so that equal ones compare equal.

/// The normal form of an absolute `http` or `https` address without query and fragment: scheme and host in lower case, the
/// default port dropped, an empty path as `/`, percent escapes only where they are needed and in upper case. None for
/// everything that two readers could see differently: user information, dot segments, backslashes, characters that must be
/// escaped, hosts that are not ASCII.
#[must_use]
pub fn normal_uri(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once("://")?;
    let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "https" => ("https", "443"),
        "http" => ("http", "80"),
        _ => return None,
    };
    let rest = rest.split(['?', '#']).next()?;
    let (authority, path) = rest.find('/').map_or(Some((rest, "/")), |at| rest.split_at_checked(at))?;
    let (host, port) = split_port(authority)?;
    let port = port.filter(|port| !port.is_empty() && *port != default_port);
    if port.is_some_and(|p| p.len() > 5 || p.starts_with('0') || !p.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let mut out = format!("{scheme}://{}", host.to_ascii_lowercase());
    if let Some(port) = port {
        out.push(':');
        out.push_str(port);
    }
    push_path(&mut out, path)?;
    Some(out)
}

fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.starts_with('[') {
        let (host, rest) = authority.split_at_checked(authority.find(']')? + 1)?;
        let literal = host.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'[' | b']' | b':' | b'.'));
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
        return literal.then_some((host, port));
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p)));
    let name = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    name.then_some((host, port))
}

fn push_path(out: &mut String, path: &str) -> Option<()> {
    let start = out.len();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let plain = match byte {
            b'%' => {
                let value = hex(bytes.next()?)? << 4 | hex(bytes.next()?)?;
                if !is_unreserved(value) {
                    out.push_str(&format!("%{value:02X}"));
                    continue;
                }
                value
            }
            // What a path may hold unescaped (RFC 3986, 3.3).
            b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';'
            | b'=' => byte,
            _ if is_unreserved(byte) => byte,
            _ => return None,
        };
        out.push(char::from(plain));
    }
    let dots = out.get(start..)?.split('/').any(|segment| matches!(segment, "." | ".."));
    (!dots).then_some(())
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_addresses_have_one_form_and_different_ones_do_not() {
        for (uri, normal) in [
            ("https://a.example", "https://a.example/"),
            ("HTTPS://A.Example:443/x?q#f", "https://a.example/x"),
            ("https://a.example:/x", "https://a.example/x"),
            ("https://a.example:8443/x", "https://a.example:8443/x"),
            ("https://a.example:80/x", "https://a.example:80/x"),
            ("http://a.example:80/x", "http://a.example/x"),
            ("https://a.example/%7ejoe/%2f%c3%a9", "https://a.example/~joe/%2F%C3%A9"),
            ("https://[2001:DB8::1]:443/x", "https://[2001:db8::1]/x"),
            ("https://a.example/X//y/", "https://a.example/X//y/"),
        ] {
            assert_eq!(normal_uri(uri).as_deref(), Some(normal), "{uri}");
        }
    }

    #[test]
    fn addresses_that_readers_could_see_differently_are_refused() {
        for uri in [
            "",
            "/x",
            "a.example/x",
            "ftp://a.example/",
            "https:///x",
            "https://user@a.example/",
            "https://a.example@b.example/",
            "https://a.example\\@b.example/",
            "https://a.example/../x",
            "https://a.example/%2e%2E/x",
            "https://a.example/x/.",
            "https://a.example/a b",
            "https://a.example/%4",
            "https://a.example/%zz",
            "https://exämple.example/",
            "https://a.example:0443/",
            "https://a.example:443443/",
            "https://a.example:44x/",
            "https://[::1/",
            "https://[::1]x/",
            "https://a.example/\r\nx",
        ] {
            assert_eq!(normal_uri(uri), None, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own_normal_form(uri in "https?://[a-zA-Z.]{1,9}(:[0-9]{0,4})?(/[a-zA-Z%2-7.~:@]{0,6}){0,3}") {
            if let Some(normal) = normal_uri(&uri) {
                prop_assert_eq!(normal_uri(&normal), Some(normal.clone()));
            }
        }

        #[test]
        fn no_text_makes_it_panic(uri in "\\PC{0,60}") {
            drop(normal_uri(&uri));
        }
    }
}
