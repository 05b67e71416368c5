//! What tests are about: fields of a row, and values.

use std::fmt;
use std::net::IpAddr;

/// A place in a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The row's own entity id.
    Id,
    /// All ancestors of the row's entity, direct and indirect: the closure, not the parents.
    Ancestors,
    /// An attribute, by its path from the resource.
    Attribute(Vec<String>),
    /// A tag.
    Tag(String),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("the id"),
            Self::Ancestors => f.write_str("the ancestors"),
            Self::Attribute(path) => write!(f, "`{}`", path.join(".")),
            Self::Tag(name) => write!(f, "the tag `{name}`"),
        }
    }
}

/// An entity by type and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entity {
    /// The type's qualified name, such as `Acme::User`.
    pub kind: String,
    /// The id, as it is: not escaped.
    pub id: String,
}

impl Entity {
    /// The text by which stores know the entity: `Type::"id"` with the id as it is. No two entities share one, because a type's
    /// name has no quotes.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}::\"{}\"", self.kind, self.id)
    }
}

/// A decimal of Cedar, in ten-thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(pub i64);

impl Decimal {
    /// Reads what Cedar's `decimal` takes: digits, a point, one to four digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, part) = digits.split_once('.')?;
        let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !plain(whole) || !plain(part) || part.len() > 4 {
            return None;
        }
        let value: i128 = format!("{whole}{part:0<4}").parse().ok()?;
        i64::try_from(if negative { -value } else { value }).ok().map(Self)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let value = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:04}", value / 10_000, value % 10_000)
    }
}

/// An address with the length of its network, as Cedar's `ip` takes it. Bits of the host are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// Reads `address` or `address/length`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Some(most), |l| l.parse().ok())?;
        (length <= most).then_some(Self { address, length })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// A value of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Long(i64),
    /// A text, compared byte by byte.
    Text(String),
    /// An entity.
    Entity(Entity),
    /// A moment, in milliseconds since 1970 UTC.
    Datetime(i64),
    /// A span, in milliseconds.
    Duration(i64),
    /// A decimal.
    Decimal(Decimal),
    /// An address or network.
    Address(Network),
}

impl Value {
    /// What the value is, in words.
    pub(crate) const fn noun(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a truth value",
            Self::Long(_) => "a number",
            Self::Text(_) => "a text",
            Self::Entity(_) => "an entity",
            Self::Datetime(_) => "a moment",
            Self::Duration(_) => "a span of time",
            Self::Decimal(_) => "a decimal",
            Self::Address(_) => "an address",
        }
    }
}

/// Part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Exactly this text, which is not empty.
    Text(String),
    /// Any text, also none.
    Anything,
}

/// A pattern of Cedar's `like`, without two wildcards or two texts in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Piece>);

impl Pattern {
    /// A pattern of `pieces`; neighbours that mean one thing become one.
    #[must_use]
    pub fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut out: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (out.last_mut(), piece) {
                (Some(Piece::Anything), Piece::Anything) => {}
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
                (_, Piece::Text(text)) if text.is_empty() => {}
                (_, piece) => out.push(piece),
            }
        }
        Self(out)
    }

    /// The pieces, from the left.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether every text matches.
    pub(crate) fn matches_all(&self) -> bool {
        matches!(self.0.as_slice(), [Piece::Anything])
    }

    /// The only text that matches, if there is only one.
    pub(crate) fn exactly(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether the pattern holds a zero byte.
    pub(crate) fn has_nul(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Text(text) if text.contains('\0')))
    }

    /// The pattern in a store's own notation: `anything` for the wildcard, texts through `escape`.
    pub(crate) fn written(&self, anything: &str, escape: impl Fn(char, &mut String)) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Anything => out.push_str(anything),
                Piece::Text(text) => text.chars().for_each(|c| escape(c, &mut out)),
            }
        }
        out
    }
}
