//! Errors as SCIM tells them (RFC 7644, 3.12).

use serde_json::{Value, json};

/// The detail error keyword of RFC 7644, table 9, and of RFC 9865.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScimType {
    /// The filter is not one, or compares what cannot be compared.
    InvalidFilter,
    /// The body is not what the operation takes.
    InvalidSyntax,
    /// The path of a patch is not one.
    InvalidPath,
    /// The path of a patch leads to nothing that could be changed.
    NoTarget,
    /// A value does not fit its attribute.
    InvalidValue,
    /// The attribute is not the client's to set.
    Mutability,
    /// Another resource has the value.
    Uniqueness,
    /// The filter asks for more than is given.
    TooMany,
    /// The cursor is none of ours.
    InvalidCursor,
}

impl ScimType {
    /// The keyword.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidFilter => "invalidFilter",
            Self::InvalidSyntax => "invalidSyntax",
            Self::InvalidPath => "invalidPath",
            Self::NoTarget => "noTarget",
            Self::InvalidValue => "invalidValue",
            Self::Mutability => "mutability",
            Self::Uniqueness => "uniqueness",
            Self::TooMany => "tooMany",
            Self::InvalidCursor => "invalidCursor",
        }
    }
}

/// Why an operation was not done. The detail never repeats a value that was sent: values are personal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ScimError {
    /// The HTTP status.
    pub status: u16,
    /// The keyword, where there is one.
    pub kind: Option<ScimType>,
    /// For people.
    pub detail: String,
}

impl ScimError {
    /// An error with a keyword: status 400, or 409 for uniqueness.
    #[must_use]
    pub fn new(kind: ScimType, detail: impl Into<String>) -> Self {
        let status = if kind == ScimType::Uniqueness { 409 } else { 400 };
        Self { status, kind: Some(kind), detail: detail.into() }
    }

    /// An error that only a status tells.
    #[must_use]
    pub fn of(status: u16, detail: impl Into<String>) -> Self {
        Self { status, kind: None, detail: detail.into() }
    }

    /// There is no such resource.
    #[must_use]
    pub fn not_found() -> Self {
        Self::of(404, "there is no such resource")
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": self.status.to_string(),
            "detail": self.detail,
        });
        if let (Some(kind), Some(members)) = (self.kind, body.as_object_mut()) {
            members.insert("scimType".to_owned(), kind.name().into());
        }
        body
    }
}
