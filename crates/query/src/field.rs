//! The fields of an entry that can be asked for. A closed list: the reference page, the parser and every index are
//! made from it.

use std::borrow::Cow;

use bartizan_model::{Action, ReasonCode};

use crate::facts;

/// What the values of a field are, and so how they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// One word of a closed list, see [`Field::words`].
    Word,
    /// A name, compared byte by byte.
    Name,
    /// An id with this prefix.
    Id(&'static str),
    /// SHA-256, in lower-case hexadecimal digits.
    Digest,
    /// A whole number.
    Number,
    /// A number of bytes.
    Bytes,
    /// A duration; kept in microseconds.
    Duration,
    /// A moment; kept in microseconds since 1970.
    Time,
}

impl Type {
    /// Whether values are numbers that have an order; the others are text.
    #[must_use]
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::Number | Self::Bytes | Self::Duration | Self::Time)
    }

    /// What a value must be, to complete "expected …".
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Word => "one of the field's words",
            Self::Name => "a name",
            Self::Id(_) => "a whole id, or its beginning and `*`",
            Self::Digest => "64 lower-case hexadecimal digits, or their beginning and `*`",
            Self::Number => "a whole number such as `200`",
            Self::Bytes => "a number of bytes such as `4096`, `64k` or `1mib`",
            Self::Duration => "a duration such as `250ms`, `3s` or `5m`",
            Self::Time => "a moment such as `24h` (so long ago), `2026-11-20` or `2026-11-20T08:00:00Z`",
        }
    }

    /// The name on the reference page.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Word => "word",
            Self::Name => "name",
            Self::Id(_) => "id",
            Self::Digest => "SHA-256",
            Self::Number => "number",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::Time => "moment",
        }
    }
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $type:expr,)+) => {
        /// A field of an entry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field { $($(#[doc = $doc])+ $variant,)+ }

        impl Field {
            /// Every field, in the order of the reference page.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in queries.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What its values are.
            #[must_use]
            pub const fn value_type(self) -> Type {
                match self { $(Self::$variant => $type,)+ }
            }

            /// What it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

fields! {
    /// What the entry is: a permitted ask, a refused one, how a permitted one ended, or the house about itself.
    Kind "kind" Type::Word,
    /// The verdict of an ask. Outcomes and the house have none.
    Verdict "verdict" Type::Word,
    /// Every reason of a refusal; why an outcome failed.
    Reason "reason" Type::Word,
    /// Who is responsible, as a pseudonym.
    Subject "subject" Type::Id("prn"),
    /// What kind of being the subject is.
    SubjectKind "subject_kind" Type::Word,
    /// Every actor between the subject and us, as a pseudonym.
    Actor "actor" Type::Id("prn"),
    /// The API key that was presented.
    Key "key" Type::Id("key"),
    /// Who issued the token that was presented.
    Issuer "issuer" Type::Name,
    /// What kind of credential was presented.
    Credential "credential" Type::Word,
    /// How surely the subject was authenticated, 0 to 4.
    Assurance "assurance" Type::Number,
    /// What was asked for.
    Action "action" Type::Word,
    /// The name of the resource.
    Resource "resource" Type::Name,
    /// The resource's type in policies, such as `Model`.
    ResourceType "resource_type" Type::Name,
    /// Where the effect of a permitted ask goes: the name of an upstream, or `house` for our own state and ledger.
    Target "target" Type::Name,
    /// The dialect spoken, such as `openai.chat`.
    Dialect "dialect" Type::Name,
    /// Every rule that decided.
    Rule "rule" Type::Name,
    /// The digest of the policy bundle that was in force.
    Policy "policy" Type::Digest,
    /// The decision: of an ask, and of the outcome that belongs to it.
    Decision "decision" Type::Id("dec"),
    /// The process that wrote the entry.
    Node "node" Type::Id("nod"),
    /// The node's running number.
    Seq "seq" Type::Number,
    /// When the entry was written.
    Time "time" Type::Time,
    /// The size of the body of an ask; the bytes released to the caller by an outcome.
    Bytes "bytes" Type::Bytes,
    /// Input and output tokens together, as far as the upstream counted them.
    Tokens "tokens" Type::Number,
    /// How long an outcome took, from intent to end.
    Took "took" Type::Duration,
    /// How many matches an outcome redacted.
    Redacted "redacted" Type::Number,
    /// How many further refusals of the same kind this one stands for.
    Repeated "repeated" Type::Number,
    /// The upstream's HTTP status.
    Status "status" Type::Number,
    /// How an outcome ended.
    End "end" Type::Word,
    /// What the house says about itself.
    Event "event" Type::Word,
    /// The log that holds the entry. Entries that are not sealed yet have none.
    Origin "origin" Type::Name,
    /// The place of the entry in its log, from 0. Entries that are not sealed yet have none.
    Index "index" Type::Number,
}

impl Field {
    /// The field of that name, in lower or upper case.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name().eq_ignore_ascii_case(name))
    }

    /// The words of a field of type [`Type::Word`]; empty for every other.
    #[must_use]
    pub fn words(self) -> Vec<Cow<'static, str>> {
        let all = |words: &[&'static str]| words.iter().map(|word| Cow::Borrowed(*word)).collect();
        match self {
            Self::Kind => all(facts::KINDS),
            Self::Verdict => all(facts::VERDICTS),
            Self::Reason => ReasonCode::ALL.iter().map(ReasonCode::code).collect(),
            Self::SubjectKind => all(facts::BEINGS),
            Self::Credential => all(facts::CREDENTIALS),
            Self::Action => Action::ALL.iter().map(|action| action.name().into()).collect(),
            Self::End => all(facts::ENDS),
            Self::Event => all(facts::EVENTS),
            _ => Vec::new(),
        }
    }

    /// Whether `value` is a word of the field; a policy bundle's own reasons are.
    pub(crate) fn has_word(self, value: &str) -> bool {
        match self {
            Self::Reason => value.parse::<ReasonCode>().is_ok(),
            _ => self.words().iter().any(|word| word == value),
        }
    }

    /// Whether a word of the field begins with `prefix`.
    pub(crate) fn has_word_with(self, prefix: &str) -> bool {
        (matches!(self, Self::Reason) && (prefix.starts_with("custom:") || "custom:".starts_with(prefix)))
            || self.words().iter().any(|word| word.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_unique_and_can_be_typed_without_quotes() {
        let mut names: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        assert!(!names.iter().any(|name| matches!(*name, "and" | "or" | "not" | "since" | "until")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Field::ALL.len());
    }

    #[test]
    fn fields_of_words_have_words_and_no_others_do() {
        for field in Field::ALL {
            assert_eq!(field.value_type() == Type::Word, !field.words().is_empty(), "{field:?}");
        }
    }
}
