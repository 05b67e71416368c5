//! Revisions of the protocol, and what each says about headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::message::Message;
use super::mirror::{CLOSING, OPENING, decode};
use crate::scan::Node;

/// Where a request of revision 2026-07-28 names its revision.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// From which level on it wants to be told what is logged.
pub const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Where it says what its client can do.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// By which subscription something is told.
pub const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// Where it says what its client is.
pub const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";

/// A revision of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// 2025-03-26, the first with streamable HTTP; also meant where no header names one.
    March2025,
    /// 2025-06-18.
    June2025,
    /// 2025-11-25, the last with sessions.
    November2025,
    /// 2026-07-28: each request by itself, described by its headers.
    July2026,
}

/// What the headers of a message say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heads<'a> {
    /// `MCP-Protocol-Version`.
    pub version: Option<&'a str>,
    /// `Mcp-Method`.
    pub method: Option<&'a str>,
    /// `Mcp-Name`.
    pub name: Option<&'a str>,
}

/// Why headers and body do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The revision is none of ours.
    #[error("revision `{0}` is not spoken here")]
    Version(String),
    /// What each request of the revision says of itself is missing.
    #[error("`params._meta` lacks `{0}`")]
    Meta(&'static str),
    /// A header is missing, or says something else than the body.
    #[error("`{0}` is missing or does not match the body")]
    Mismatch(&'static str),
}

impl Revision {
    /// Every revision, the newest first.
    pub const ALL: [Self; 4] = [Self::July2026, Self::November2025, Self::June2025, Self::March2025];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::March2025 => "2025-03-26",
            Self::June2025 => "2025-06-18",
            Self::November2025 => "2025-11-25",
            Self::July2026 => "2026-07-28",
        }
    }

    /// The revision of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|revision| revision.name() == name)
    }

    /// Whether each request stands by itself, without `initialize` and sessions.
    #[must_use]
    pub const fn is_stateless(self) -> bool {
        matches!(self, Self::July2026)
    }

    /// In which revision a message is meant, once its headers agree with its body.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn of(heads: Heads<'_>, message: &Message) -> Result<Self, HeaderError> {
        let stated = message.meta(META_VERSION).and_then(|version| message.text(version));
        let header = heads.version.map(str::trim);
        // `initialize` agrees on the revision, so it comes before there is one.
        if message.method() == "initialize" && stated.is_none() {
            return Ok(Self::November2025);
        }
        let unknown = |name: &str| HeaderError::Version(name.chars().take(40).collect());
        let revision = match header {
            None => Self::March2025,
            Some(name) => Self::named(name).ok_or_else(|| unknown(name))?,
        };
        match (stated.as_deref(), header) {
            (None, _) if !revision.is_stateless() => return Ok(revision),
            (Some(stated), Some(header)) if stated == header => {}
            (None, _) => return Err(HeaderError::Meta(META_VERSION)),
            _ => return Err(HeaderError::Mismatch("MCP-Protocol-Version")),
        }
        if !revision.is_stateless() {
            return Ok(revision);
        }
        if !matches!(message.meta(META_CAPABILITIES), Some(Node::Object(..))) {
            return Err(HeaderError::Meta(META_CAPABILITIES));
        }
        if heads.method != Some(message.method()) {
            return Err(HeaderError::Mismatch("Mcp-Method"));
        }
        let named = match message.method() {
            "tools/call" | "prompts/get" => message.param_text("name"),
            "resources/read" => message.param_text("uri"),
            _ => return Ok(revision),
        };
        let header = heads.name.and_then(decode);
        if header.is_none() || header.as_deref() != named.as_deref() {
            return Err(HeaderError::Mismatch("Mcp-Name"));
        }
        Ok(revision)
    }
}

/// The value of `Mcp-Name` for a name or address.
#[must_use]
pub fn encode_name(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && name.trim() == name;
    if plain && !name.is_empty() && !name.starts_with(OPENING) {
        return name.to_owned();
    }
    format!("{OPENING}{}{CLOSING}", BASE64.encode(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::json::Limits;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn message(method: &str, mut params: Value, version: Option<&str>) -> Message {
        if let Some(version) = version {
            params["_meta"] = json!({META_VERSION: version, META_CAPABILITIES: {}});
        }
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        Message::read(Bytes::from(body.to_string()), Limits::default()).unwrap()
    }

    fn heads<'a>(version: &'a str, method: &'a str, name: &'a str) -> Heads<'a> {
        let some = |text: &'a str| (!text.is_empty()).then_some(text);
        Heads { version: some(version), method: some(method), name: some(name) }
    }

    #[test]
    fn a_message_without_a_version_is_of_the_revision_before_the_header() {
        let ping = message("ping", json!({}), None);
        assert_eq!(Revision::of(Heads::default(), &ping), Ok(Revision::March2025));
        assert_eq!(Revision::of(heads("2025-11-25", "", ""), &ping), Ok(Revision::November2025));
        assert!(matches!(Revision::of(heads("1900-01-01", "", ""), &ping), Err(HeaderError::Version(_))));
    }

    #[test]
    fn in_the_stateless_revision_every_header_must_say_what_the_body_says() {
        let call = |version| message("tools/call", json!({"name": "wipe", "arguments": {}}), version);
        let modern = Some("2026-07-28");
        let good = heads("2026-07-28", "tools/call", "wipe");
        assert_eq!(Revision::of(good, &call(modern)), Ok(Revision::July2026));
        for (bad, header) in [
            (heads("2026-07-28", "tools/list", "wipe"), "Mcp-Method"),
            (heads("2026-07-28", "", "wipe"), "Mcp-Method"),
            (heads("2026-07-28", "tools/call", "read"), "Mcp-Name"),
            (heads("2026-07-28", "tools/call", "Wipe"), "Mcp-Name"),
            (heads("2026-07-28", "tools/call", ""), "Mcp-Name"),
            (heads("2025-11-25", "tools/call", "wipe"), "MCP-Protocol-Version"),
            (heads("", "tools/call", "wipe"), "MCP-Protocol-Version"),
        ] {
            assert_eq!(Revision::of(bad, &call(modern)), Err(HeaderError::Mismatch(header)), "{bad:?}");
        }
        // The header alone does not make it so.
        assert_eq!(Revision::of(good, &call(None)), Err(HeaderError::Meta(META_VERSION)));
        let bare = json!({"name": "wipe", "_meta": {META_VERSION: "2026-07-28"}});
        let lacking = Revision::of(good, &message("tools/call", bare, None));
        assert_eq!(lacking, Err(HeaderError::Meta(META_CAPABILITIES)));
        let read = message("resources/read", json!({"uri": "file:///ä"}), modern);
        let encoded = encode_name("file:///ä");
        assert_eq!(
            Revision::of(heads("2026-07-28", "resources/read", &encoded), &read),
            Ok(Revision::July2026)
        );
    }

    proptest! {
        #[test]
        fn any_name_comes_back_out_of_its_header(name in "\\PC{0,12}|=\\?base64\\?[a-z]{0,3}\\?=") {
            let header = encode_name(&name);
            prop_assert!(header.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
            prop_assert_eq!(decode(&header), Some(name));
        }
    }
}
