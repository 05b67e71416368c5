//! Answers that go back to the client by way of the browser.

use bartizan_secret::Secret;

use crate::oauth::{OauthError, push_pair};

/// An answer: an address that the client has registered, with what it is to be told. It may hold a code.
#[derive(Clone)]
pub struct Answer {
    address: Secret<String>,
    state: Option<String>,
    issuer: String,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer(…)")
    }
}

impl Answer {
    /// An answer to `redirect`, which was checked.
    pub(super) fn to(redirect: &str, state: Option<&str>, issuer: &str) -> Self {
        Self {
            address: Secret::new(redirect.to_owned()),
            state: state.map(str::to_owned),
            issuer: issuer.to_owned(),
        }
    }

    /// With an error.
    pub(super) fn error(self, error: &OauthError) -> Self {
        self.with(&[("error", error.code.name()), ("error_description", &error.description)])
    }

    /// With a code.
    pub(super) fn code(self, code: &Secret<String>) -> Self {
        self.with(&[("code", code.expose())])
    }

    /// Whatever is answered, it names the issuer and gives the state back.
    fn with(self, pairs: &[(&str, &str)]) -> Self {
        let mut query = String::new();
        for (name, value) in pairs {
            push_pair(&mut query, name, value);
        }
        if let Some(state) = &self.state {
            push_pair(&mut query, "state", state);
        }
        push_pair(&mut query, "iss", &self.issuer);
        let glue = if self.address.expose().contains('?') { '&' } else { '?' };
        Self { address: Secret::new(format!("{}{glue}{query}", self.address.expose())), ..self }
    }

    /// The address to send the browser to.
    #[must_use]
    pub const fn address(&self) -> &Secret<String> {
        &self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_05_every_answer_names_the_issuer_and_keeps_what_the_client_registered() {
        let answer = Answer::to("https://app.example/cb?x=1", Some("a b&c"), "https://id.example");
        let told = answer.clone().error(&OauthError::request("no, \"really\""));
        assert_eq!(
            told.address().expose(),
            "https://app.example/cb?x=1&error=invalid_request&error_description=no%2C%20%27really%27&state=a%20b%26c&iss=https%3A%2F%2Fid.example"
        );
        let code =
            Answer::to("com.example.app:/cb", None, "https://id.example").code(&Secret::new("c".to_owned()));
        assert_eq!(code.address().expose(), "com.example.app:/cb?code=c&iss=https%3A%2F%2Fid.example");
        assert!(!format!("{code:?}").contains("code=c"));
    }
}
