//! Parameters of requests (RFC 6749, 3.1 and 3.2): each at most once, and an empty one counts as absent.

use std::collections::BTreeMap;

use super::OauthError;

/// The longest body or query, in bytes.
const BYTES_MAX: usize = 64 * 1024;
/// The most parameters.
const COUNT_MAX: usize = 64;

/// Parameters that RFC 8707 lets stand more than once.
const REPEATABLE: &[&str] = &["resource", "audience"];

/// The parameters of one request.
#[derive(Clone, Default)]
pub struct Form(BTreeMap<String, Vec<String>>);

impl std::fmt::Debug for Form {
    /// Names only: values hold codes, secrets and tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why parameters are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// One stands twice.
    #[error("a parameter stands twice")]
    Twice,
    /// Not `application/x-www-form-urlencoded` in UTF-8.
    #[error("the parameters are not form-encoded UTF-8")]
    Malformed,
    /// Too many, or too long.
    #[error("the parameters are too many or too long")]
    TooMuch,
}

impl From<FormError> for OauthError {
    fn from(error: FormError) -> Self {
        Self::request(error.to_string())
    }
}

impl Form {
    /// Reads a body or query.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn parse(text: &[u8]) -> Result<Self, FormError> {
        if text.len() > BYTES_MAX {
            return Err(FormError::TooMuch);
        }
        let mut out = Self::default();
        for (count, pair) in text.split(|b| *b == b'&').filter(|pair| !pair.is_empty()).enumerate() {
            if count == COUNT_MAX {
                return Err(FormError::TooMuch);
            }
            let at = pair.iter().position(|b| *b == b'=');
            let (name, value) = match at.and_then(|at| pair.split_at_checked(at)) {
                Some((name, value)) => (name, value.get(1..).unwrap_or_default()),
                None => (pair, &b""[..]),
            };
            out.add(decode(name)?, decode(value)?)?;
        }
        Ok(out)
    }

    fn add(&mut self, name: String, value: String) -> Result<(), FormError> {
        let repeatable = REPEATABLE.contains(&name.as_str());
        let values = self.0.entry(name).or_default();
        if !values.is_empty() && !repeatable {
            return Err(FormError::Twice);
        }
        values.push(value);
        Ok(())
    }

    /// The parameters of these names and values: for requests that are kept.
    ///
    /// # Errors
    /// [`FormError::Twice`].
    pub fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, FormError> {
        let mut out = Self::default();
        for (name, value) in pairs {
            out.add(name, value)?;
        }
        Ok(out)
    }

    /// The value of a parameter; none if it is absent or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .and_then(|values| values.first())
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The values of a parameter that may stand more than once.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.get(name).into_iter().flatten().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a parameter that must be there.
    ///
    /// # Errors
    /// `invalid_request`.
    pub fn need(&self, name: &str) -> Result<&str, OauthError> {
        self.get(name).ok_or_else(|| OauthError::request(format!("{name} is missing")))
    }

    /// Whether a parameter is there at all, even empty.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names and values, in order of the names.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(name, values)| values.iter().map(move |v| (name.as_str(), v.as_str())))
    }

    /// The same without some parameters.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.0.retain(|name, _| !names.contains(&name.as_str()));
        self
    }

    /// The parameters as a query.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mut out = String::new();
        for (name, value) in self.pairs() {
            push_pair(&mut out, name, value);
        }
        out
    }
}

/// Adds a parameter to a query.
pub(crate) fn push_pair(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push('&');
    }
    push_encoded(out, name);
    out.push('=');
    push_encoded(out, value);
}

/// Escapes everything but the unreserved characters (RFC 3986, 2.3).
pub(crate) fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Undoes form encoding. A stray `%` is refused, so that no two readers can differ.
pub(crate) fn decode(text: &[u8]) -> Result<String, FormError> {
    let digit =
        |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(FormError::Malformed),
            },
            other => other,
        });
    }
    String::from_utf8(out).map_err(|_| FormError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_07_a_parameter_that_stands_twice_is_refused() {
        for text in ["client_id=a&client_id=b", "state=a&state=a", "code=a&x=1&code=", "%63ode=a&code=b"] {
            assert_eq!(Form::parse(text.as_bytes()).unwrap_err(), FormError::Twice, "{text}");
        }
        let form = Form::parse(b"resource=https%3A%2F%2Fa.example&resource=https://b.example").unwrap();
        assert_eq!(form.all("resource").count(), 2);
    }

    #[test]
    fn what_two_readers_could_see_differently_is_refused() {
        for text in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=\xff", b"a=%ff"] {
            assert_eq!(Form::parse(text).unwrap_err(), FormError::Malformed);
        }
        let many = "a=1&".repeat(70);
        assert!(Form::parse(many.as_bytes()).is_err());
    }

    #[test]
    fn empty_is_absent_and_a_query_comes_out_as_it_went_in() {
        let form = Form::parse(b"a=&b=x+y%26z&c").unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.has("c")), (None, Some("x y&z"), true));
        let again = Form::parse(form.to_query().as_bytes()).unwrap();
        assert_eq!(again.get("b"), Some("x y&z"));
        assert_eq!(format!("{form:?}"), r#"{"a", "b", "c"}"#);
    }
}
