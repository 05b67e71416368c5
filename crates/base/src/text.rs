//! Text with a bound, checked once at the edge.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// Text of at most `MAX` bytes without control characters other than line feed and tab. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text<const MAX: usize>(Arc<str>);

/// A name people and files use: 1 to 128 bytes of ASCII letters, digits and `. _ - : / @ +`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

/// The text breaks its bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Longer than allowed; the limit in bytes.
    #[error("text is longer than {0} bytes")]
    TooLong(usize),
    /// A control character.
    #[error("text contains a control character")]
    Control,
    /// Not a [`Name`].
    #[error("a name has 1 to 128 characters out of letters, digits and `. _ - : / @ +`")]
    NotAName,
}

impl<const MAX: usize> Text<MAX> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As much of `text` as fits, control characters replaced: for messages of others that are only shown.
    #[must_use]
    pub fn lossy(text: &str) -> Self {
        let mut out = String::new();
        for c in text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }) {
            if out.len() + c.len_utf8() > MAX {
                break;
            }
            out.push(c);
        }
        Self(out.into())
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.len() > MAX {
            return Err(TextError::TooLong(MAX));
        }
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(TextError::Control);
        }
        Ok(Self(text.into()))
    }
}

impl Name {
    /// The longest name, in bytes.
    pub const MAX: usize = 128;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name known when the program was written.
    ///
    /// # Panics
    /// At compile time of the constant's first use in tests when `name` is not a name: only for literals.
    #[must_use]
    pub fn literal(name: &'static str) -> Self {
        debug_assert!(name.parse::<Self>().is_ok(), "not a name: {name}");
        Self(name.into())
    }
}

impl FromStr for Name {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let allowed =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'/' | b'@' | b'+');
        if text.is_empty() || text.len() > Self::MAX || !text.bytes().all(allowed) {
            return Err(TextError::NotAName);
        }
        Ok(Self(text.into()))
    }
}

macro_rules! text_traits {
    ([$($generics:tt)*] $type:ty) => {
        impl<$($generics)*> fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(&self.0) }
        }
        impl<$($generics)*> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Debug::fmt(&*self.0, f) }
        }
        impl<$($generics)*> Deref for $type {
            type Target = str;
            fn deref(&self) -> &str { &self.0 }
        }
        impl<$($generics)*> AsRef<str> for $type {
            fn as_ref(&self) -> &str { &self.0 }
        }
        impl<$($generics)*> Borrow<str> for $type {
            fn borrow(&self) -> &str { &self.0 }
        }
        impl<'de, $($generics)*> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// Whatever is a name is also a text of this bound.
impl From<Name> for Text<1024> {
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

text_traits!([const MAX: usize] Text<MAX>);
text_traits!([] Name);

impl<const MAX: usize> JsonSchema for Text<MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Text{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": MAX})
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[A-Za-z0-9._:/@+-]{1,128}$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_spaces_quotes_controls_and_length() {
        assert!("gpt-4o".parse::<Name>().is_ok());
        assert!("alice@example.com".parse::<Name>().is_ok());
        for bad in ["", "a b", "a\"b", "a\nb", "é", &"x".repeat(129)] {
            assert_eq!(bad.parse::<Name>(), Err(TextError::NotAName), "{bad:?}");
        }
    }

    #[test]
    fn text_is_bounded_and_lossy_text_is_cut_at_a_character() {
        assert_eq!("abcd".parse::<Text<3>>(), Err(TextError::TooLong(3)));
        assert_eq!("a\u{1b}".parse::<Text<3>>(), Err(TextError::Control));
        assert_eq!(Text::<3>::lossy("aé\u{1b}b").as_str(), "aé");
    }
}
