//! Reads a claim set member by member, every one with its exact type and bounds; what is left over is "the others".

use bartizan_base::{Timestamp, json};
use serde_json::{Map, Value};

use crate::claims::{Audience, Times};
use crate::jws::PAYLOAD_LIMITS;
use crate::token::TokenError;

/// The longest text in a claim, in bytes; scopes may be as long as the token.
const TEXT_MAX: usize = 2_048;
/// The most members of a list.
const LIST_MAX: usize = 32;

/// A claim set, from which claims are taken.
#[derive(Debug)]
pub struct Reader(Map<String, Value>);

impl Reader {
    pub(crate) const fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    pub(crate) fn parse(payload: &[u8]) -> Result<Self, TokenError> {
        match json::parse(payload, PAYLOAD_LIMITS) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) | Err(_) => Err(TokenError::Malformed),
        }
    }

    /// What nobody took.
    pub(crate) fn others(self) -> Map<String, Value> {
        self.0
    }

    /// Refuses a claim that must not be there.
    pub(crate) fn absent(&self, name: &'static str) -> Result<(), TokenError> {
        if self.0.contains_key(name) { Err(TokenError::Forbidden(name)) } else { Ok(()) }
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<String, TokenError> {
        self.text_opt(name)?.ok_or(TokenError::Claim(name))
    }

    pub(crate) fn text_opt(&mut self, name: &'static str) -> Result<Option<String>, TokenError> {
        self.0.remove(name).map(|value| text(value).ok_or(TokenError::Claim(name))).transpose()
    }

    pub(crate) fn date(&mut self, name: &'static str) -> Result<Timestamp, TokenError> {
        self.date_opt(name)?.ok_or(TokenError::Claim(name))
    }

    /// A moment in whole seconds, not negative and not beyond what can be written as a date.
    pub(crate) fn date_opt(&mut self, name: &'static str) -> Result<Option<Timestamp>, TokenError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        match value.as_u64().filter(|seconds| *seconds <= Timestamp::MAX.as_secs()) {
            Some(seconds) => Ok(Some(Timestamp::from_secs(seconds))),
            None => Err(TokenError::Claim(name)),
        }
    }

    pub(crate) fn times(&mut self) -> Result<Times, TokenError> {
        Ok(Times { issued: self.date("iat")?, not_before: self.date_opt("nbf")?, expires: self.date("exp")? })
    }

    pub(crate) fn audience(&mut self) -> Result<Audience, TokenError> {
        match self.0.remove("aud") {
            Some(Value::Array(list)) if !list.is_empty() => texts("aud", list).map(Audience::Many),
            Some(value) => text(value).map(Audience::One).ok_or(TokenError::Claim("aud")),
            None => Err(TokenError::Claim("aud")),
        }
    }

    pub(crate) fn list(&mut self, name: &'static str) -> Result<Vec<String>, TokenError> {
        match self.0.remove(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => texts(name, list),
            Some(_) => Err(TokenError::Claim(name)),
        }
    }

    /// A text or a list of texts, as `resource` comes.
    pub(crate) fn one_or_many(&mut self, name: &'static str) -> Result<Vec<String>, TokenError> {
        match self.0.remove(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => texts(name, list),
            Some(value) => Ok(vec![text(value).ok_or(TokenError::Claim(name))?]),
        }
    }

    pub(crate) fn object_opt(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Map<String, Value>>, TokenError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(members)),
            Some(_) => Err(TokenError::Claim(name)),
        }
    }

    /// A list of objects that each have a `type` (RFC 9396).
    pub(crate) fn details(&mut self) -> Result<Vec<Value>, TokenError> {
        const NAME: &str = "authorization_details";
        match self.0.remove(NAME) {
            None => Ok(Vec::new()),
            Some(Value::Array(list))
                // An empty list could be read as a limit or as none.
                if !list.is_empty()
                    && list.len() <= LIST_MAX
                    && list.iter().all(|d| d.get("type").is_some_and(Value::is_string)) =>
            {
                Ok(list)
            }
            Some(_) => Err(TokenError::Claim(NAME)),
        }
    }

    /// Scope tokens separated by single spaces (RFC 6749, 3.3).
    pub(crate) fn scope(&mut self) -> Result<Option<String>, TokenError> {
        match self.0.remove("scope") {
            None => Ok(None),
            Some(Value::String(scope)) if is_scope(&scope) => Ok(Some(scope)),
            Some(_) => Err(TokenError::Claim("scope")),
        }
    }
}

fn is_scope(scope: &str) -> bool {
    scope.is_empty()
        || scope.split(' ').all(|word| {
            !word.is_empty() && word.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
        })
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text)
            if !text.is_empty() && text.len() <= TEXT_MAX && !text.chars().any(char::is_control) =>
        {
            Some(text)
        }
        _ => None,
    }
}

fn texts(name: &'static str, list: Vec<Value>) -> Result<Vec<String>, TokenError> {
    if list.len() > LIST_MAX {
        return Err(TokenError::Claim(name));
    }
    list.into_iter().map(|value| text(value).ok_or(TokenError::Claim(name))).collect()
}
