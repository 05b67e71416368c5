//! What a resource says when it wants a token, or a better one (RFC 6750, 3; RFC 9728, 5.1).

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// The longest header that is read, and how many.
const BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 8;

/// What a challenge for a bearer token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Where the resource describes itself.
    pub metadata: Option<String>,
    /// What is needed for this very request.
    pub scopes: BTreeSet<String>,
    /// Whether a token was there and is for too little.
    pub insufficient: bool,
}

impl Challenge {
    /// Reads the headers of an answer; of several challenges the first for a bearer token counts.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().take(HEADERS_MAX);
        values.filter_map(|v| v.to_str().ok()).filter(|v| v.len() <= BYTES_MAX).find_map(Self::read)
    }

    fn read(header: &str) -> Option<Self> {
        let parameters = bearer(header)?;
        let scope = parameters.get("scope").map(String::as_str).unwrap_or_default();
        Some(Self {
            metadata: parameters.get("resource_metadata").cloned(),
            scopes: scope.split(' ').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
            insufficient: parameters.get("error").is_some_and(|e| e == "insufficient_scope"),
        })
    }
}

/// The parameters of the first `Bearer` challenge (RFC 9110, 11.6.1), names in lower case; the first of two with one name.
fn bearer(header: &str) -> Option<BTreeMap<String, String>> {
    let mut rest = header.trim_start();
    let mut found: Option<BTreeMap<String, String>> = None;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end)?;
        if word.is_empty() {
            // A comma or a stray character between parts.
            rest = rest.get(rest.chars().next()?.len_utf8()..)?;
            continue;
        }
        let value = after.trim_start().strip_prefix('=').filter(|v| !v.starts_with('='));
        match value {
            Some(value) => {
                let (value, after) = parameter(value.trim_start())?;
                if let Some(parameters) = &mut found {
                    parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
                rest = after;
            }
            // A word without a value is a scheme: the next one ends what belongs to `Bearer`.
            None if found.is_some() => return found,
            None => {
                found = word.eq_ignore_ascii_case("bearer").then(BTreeMap::new);
                rest = after;
            }
        }
    }
    found
}

/// A value, quoted or not, and what follows.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return Some((value.to_owned(), rest));
    };
    let (mut out, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, quoted.get(at + 1..)?)),
            '\\' => out.push(chars.next()?.1),
            c => out.push(c),
        }
    }
    None
}

const fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '-' | '.' | '^' | '_' | '`' | '|' | '~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn challenges_are_read_as_they_are_written_in_the_wild() {
        let read = |text: &str| Challenge::read(text);
        let full = read(
            r#"Bearer realm="x, y", resource_metadata="https://a.example/m", scope="a b", error="insufficient_scope""#,
        );
        let full = full.unwrap();
        assert_eq!(full.metadata.as_deref(), Some("https://a.example/m"));
        assert_eq!(full.scopes, ["a", "b"].map(str::to_owned).into());
        assert!(full.insufficient);
        assert_eq!(read("bearer").unwrap(), Challenge::default());
        assert_eq!(read(r#"BEARER Scope=files:read"#).unwrap().scopes, ["files:read".to_owned()].into());
        assert_eq!(read(r#"Basic realm="b", Bearer scope="s""#).unwrap().scopes.len(), 1);
        assert_eq!(read(r#"Bearer scope="s", Basic scope="t""#).unwrap().scopes, ["s".to_owned()].into());
        assert_eq!(read(r#"Bearer scope="a\"b""#).unwrap().scopes, ["a\"b".to_owned()].into());
        // The first counts, so that nothing appended later replaces it.
        assert_eq!(read(r#"Bearer scope="s", scope="t""#).unwrap().scopes, ["s".to_owned()].into());
        for none in ["", "Basic realm=x", "Digest a=b, c=d", r#"Bearer scope="never closed"#] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_run_forever(text in "\\PC{0,80}") {
            drop(Challenge::read(&text));
            drop(Challenge::read(&format!("Bearer {text}")));
        }
    }
}
