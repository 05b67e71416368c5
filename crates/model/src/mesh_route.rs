//! What a proxy asks about: which requests to which services are which action on what.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::directory::Status;
use crate::{Action, EntityName};

/// The longest host or path pattern, in bytes.
const TEXT_MAX: usize = 1_024;

/// Requests that a proxy asks about (Envoy `ext_authz` and `ext_proc`, forward authentication), and what they are in the words
/// of policy. What no route matches is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeshRouteSpec {
    /// Whether it is in use.
    #[serde(default)]
    pub status: Status,
    /// The hosts that the service is asked at: `shop.example`, or `*.shop.example` for all below it.
    pub hosts: BTreeSet<HostPattern>,
    /// The methods, in capitals.
    pub methods: BTreeSet<Method>,
    /// The path: `/orders/{id}`, or `/files/**` for everything below `/files/`.
    pub path: PathPattern,
    /// What such a request is.
    pub action: Action,
    /// On what, by its name within the type that the action applies to. `{id}` stands for what stands there in the path.
    pub resource: EntityName,
    /// Whether the service may see the credential that its caller showed us. Off: it is taken out of the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pass_credentials: bool,
}

impl MeshRouteSpec {
    /// What it says that could never hold.
    #[must_use]
    pub fn mistake(&self) -> Option<&'static str> {
        if self.hosts.is_empty() || self.methods.is_empty() {
            return Some("it names at least one host and one method");
        }
        if crate::EntityRef::OF_THE_HOUSE.contains(&self.action.resource_type()) {
            return Some("`action` is about the house itself, not about a service");
        }
        let known = |name: &str| self.path.captures().any(|capture| capture == name);
        match pieces(&self.resource) {
            None => Some("`resource` has a brace that names nothing"),
            Some(pieces) if !pieces.iter().all(|(_, name)| name.is_none_or(known)) => {
                Some("`resource` names what does not stand in `path`")
            }
            Some(_) => None,
        }
    }

    /// What a request to `path` is on, which the route's own pattern matches; none where that is no name.
    #[must_use]
    pub fn resource_of(&self, path: &str) -> Option<EntityName> {
        let captured = self.path.captured(path)?;
        let mut out = String::new();
        for (text, name) in pieces(&self.resource)? {
            out.push_str(text);
            if let Some(name) = name {
                out.push_str(captured.iter().find(|(known, _)| *known == name)?.1);
            }
        }
        out.parse().ok()
    }
}

/// Texts, each with the name in braces that follows it.
fn pieces(template: &str) -> Option<Vec<(&str, Option<&str>)>> {
    let mut out = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        if text.contains('}') || name.is_empty() || name.contains('{') {
            return None;
        }
        out.push((text, Some(name)));
        rest = after;
    }
    if rest.contains('}') {
        return None;
    }
    out.push((rest, None));
    Some(out)
}

/// The text is not what this place takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeshPatternError {
    /// Not a host.
    #[error("a host is written `shop.example` or `*.shop.example`: small letters, digits, `-` and `.`")]
    Host,
    /// Not a method.
    #[error("a method is written in capitals, such as `GET`")]
    Method,
    /// Not a path.
    #[error(
        "a path begins with `/`; its segments are plain text, `{{name}}`, or `**` at the end, and none is `.`, `..` or \
         empty but the last"
    )]
    Path,
}

/// `shop.example`, or `*.shop.example` for every host below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern(Box<str>);

/// A method, in capitals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(Box<str>);

/// `/orders/{id}`, `/files/**`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPattern(Box<str>);

impl HostPattern {
    /// How closely it names `host`, which is in small letters and without port: less is closer. None where it does not.
    #[must_use]
    pub fn matches(&self, host: &str) -> Option<usize> {
        match self.0.strip_prefix('*') {
            None => (*self.0 == *host).then_some(0),
            Some(suffix) => {
                let label = host.strip_suffix(suffix)?;
                (!label.is_empty()).then(|| TEXT_MAX.saturating_sub(suffix.len()))
            }
        }
    }

    /// Whether it names one host and no other.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.starts_with('*')
    }
}

impl Method {
    /// The method.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a segment of a pattern stands for; less is closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closeness {
    /// Itself.
    Text,
    /// One segment.
    One,
    /// Everything that follows.
    Rest,
}

fn capture(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

impl PathPattern {
    fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    /// The names in braces.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments().filter_map(capture)
    }

    /// How closely it names `path`, segment by segment; none where it does not. With `folded`, letters count the same whether
    /// they are large or small, as they do for some services.
    #[must_use]
    pub fn matches(&self, path: &str, folded: bool) -> Option<Vec<Closeness>> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let mut out = Vec::new();
        for pattern in self.segments() {
            let segment = segments.next()?;
            if pattern == "**" {
                out.push(Closeness::Rest);
                return Some(out);
            }
            let same = if folded { pattern.eq_ignore_ascii_case(segment) } else { pattern == segment };
            match capture(pattern) {
                Some(_) if !segment.is_empty() => out.push(Closeness::One),
                None if same => out.push(Closeness::Text),
                _ => return None,
            }
        }
        segments.next().is_none().then_some(out)
    }

    /// What stands for the names in braces in `path`; none where it does not match.
    fn captured<'a>(&'a self, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        self.matches(path, false)?;
        let segments = path.strip_prefix('/')?.split('/');
        Some(self.segments().zip(segments).filter_map(|(p, s)| Some((capture(p)?, s))).collect())
    }
}

impl FromStr for HostPattern {
    type Err = MeshPatternError;

    fn from_str(text: &str) -> Result<Self, MeshPatternError> {
        let labels = text.strip_prefix("*.").unwrap_or(text);
        let of_a_label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let label = |label: &str| !label.is_empty() && label.bytes().all(of_a_label);
        if text.len() > TEXT_MAX || !labels.split('.').all(label) {
            return Err(MeshPatternError::Host);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Method {
    type Err = MeshPatternError;

    fn from_str(text: &str) -> Result<Self, MeshPatternError> {
        let capitals = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        // With `CONNECT` there is no path, and what is said afterwards is seen by nobody.
        if text.is_empty() || text.len() > 32 || !capitals || text == "CONNECT" {
            return Err(MeshPatternError::Method);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for PathPattern {
    type Err = MeshPatternError;

    fn from_str(text: &str) -> Result<Self, MeshPatternError> {
        let segments = text.strip_prefix('/').filter(|_| text.len() <= TEXT_MAX);
        let segments: Vec<_> = segments.ok_or(MeshPatternError::Path)?.split('/').collect();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&b);
        let named = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let mut names = BTreeSet::new();
        for (at, segment) in segments.iter().enumerate() {
            let last = at + 1 == segments.len();
            let fits = match *segment {
                "" | "**" => last,
                "." | ".." => false,
                segment => match capture(segment) {
                    Some(name) => named(name) && names.insert(name),
                    None => segment.bytes().all(plain),
                },
            };
            if !fits {
                return Err(MeshPatternError::Path);
            }
        }
        Ok(Self(text.into()))
    }
}

macro_rules! as_text {
    ($($name:ident $pattern:literal,)+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern, "maxLength": TEXT_MAX})
            }
        }
    )+};
}

as_text! {
    HostPattern "^(\\*\\.)?[a-z0-9_-]+(\\.[a-z0-9_-]+)*$",
    Method "^[A-Z-]+$",
    PathPattern "^/",
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(pattern: &str, path: &str) -> Option<Vec<Closeness>> {
        pattern.parse::<PathPattern>().unwrap().matches(path, false)
    }

    #[test]
    fn a_path_is_matched_segment_by_segment() {
        use Closeness::{One, Rest, Text};
        assert_eq!(path("/orders/{id}", "/orders/7"), Some(vec![Text, One]));
        assert_eq!(path("/orders/7", "/orders/7"), Some(vec![Text, Text]));
        assert_eq!(path("/**", "/"), Some(vec![Rest]));
        assert_eq!(path("/files/**", "/files/a/b/"), Some(vec![Text, Rest]));
        assert_eq!(path("/files/", "/files/"), Some(vec![Text, Text]));
        for (pattern, other) in [
            ("/orders/{id}", "/orders/"),
            ("/orders/{id}", "/orders"),
            ("/orders/{id}", "/orders/7/"),
            ("/orders/{id}", "/orders/7/8"),
            ("/orders/{id}", "/Orders/7"),
            ("/files/**", "/files"),
            ("/files/**", "/filesx/y"),
            ("/files", "/files/"),
            ("/files", "files"),
            ("/", ""),
        ] {
            assert_eq!(path(pattern, other), None, "{pattern} {other}");
        }
        assert!("/Admin".parse::<PathPattern>().unwrap().matches("/aDMIN", true).is_some());
    }

    #[test]
    fn what_no_proxy_and_service_read_alike_is_no_pattern() {
        for bad in [
            "", "x", "//", "/a//b", "/./a", "/a/..", "/a;b", "/a%2fb", "/**/a", "/{}", "/{A}", "/{a}/{a}",
            "/a b", "/é", "/a?b", "/a*",
        ] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
        }
        for bad in [
            "",
            "*",
            "*.",
            "Shop.example",
            "shop.example.",
            "a..b",
            "*.*.b",
            "a*.b",
            "shop.example:80",
            "[::1]",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
        for bad in ["", "get", "CONNECT", "GET POST"] {
            assert!(bad.parse::<Method>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_star_of_a_host_is_one_label_at_least_and_the_closest_host_is_the_longest() {
        let close = |pattern: &str, host: &str| pattern.parse::<HostPattern>().unwrap().matches(host);
        assert_eq!(close("shop.example", "shop.example"), Some(0));
        assert!(close("*.a.example", "x.a.example") < close("*.example", "x.a.example"));
        for (pattern, other) in [
            ("*.example", "example"),
            ("*.example", ".example"),
            ("*.example", "xexample"),
            ("a.example", "b.a.example"),
        ] {
            assert_eq!(close(pattern, other), None, "{pattern} {other}");
        }
    }

    #[test]
    fn a_resource_is_named_by_what_stands_in_the_path() {
        let route = |path: &str, resource: &str| MeshRouteSpec {
            status: Status::Active,
            hosts: ["a.example".parse().unwrap()].into(),
            methods: ["GET".parse().unwrap()].into(),
            path: path.parse().unwrap(),
            action: Action::ApiCall,
            resource: resource.parse().unwrap(),
            pass_credentials: false,
        };
        let named =
            |p: &str, r: &str, asked: &str| route(p, r).resource_of(asked).map(|name| name.to_string());
        assert_eq!(named("/o/{id}/{of}", "{of}-{id}!", "/o/7/x").as_deref(), Some("x-7!"));
        assert_eq!(named("/o/**", "orders", "/o/7/x").as_deref(), Some("orders"));
        assert_eq!(named("/o/{id}", "{id}", "/p/7"), None);
        for bad in ["{other}", "{", "}", "{}", "a}{id}"] {
            assert!(route("/o/{id}", bad).mistake().is_some(), "{bad}");
        }
        assert_eq!(route("/o/{id}", "order {id}").mistake(), None);
        let house = MeshRouteSpec { action: Action::KeyCreate, ..route("/o", "o") };
        assert!(house.mistake().is_some());
    }
}
