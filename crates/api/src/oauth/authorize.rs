//! The authorization endpoint: what a browser comes to.

use bartizan_authority::authorize::Outcome;
use bartizan_authority::oauth::{Form, OauthCode, OauthError};
use bartizan_model::AssuranceLevel;
use http::Method;

use super::{Answer, Oauth, answer, token};
use crate::mount::Arrived;

impl Oauth {
    pub(super) async fn authorize(&self, arrived: &Arrived) -> Answer {
        match self.try_authorize(arrived).await {
            Ok(answer) => answer,
            Err(error) => answer::page(&error),
        }
    }

    async fn try_authorize(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let query = arrived.head.uri.query().unwrap_or_default();
        let form = if arrived.head.method == Method::POST {
            if !query.is_empty() {
                return Err(OauthError::request(
                    "parameters stand in the body or in the address, not in both",
                ));
            }
            token::form(arrived)?
        } else {
            Form::parse(query.as_bytes())?
        };
        if form.has("client_secret") {
            return Err(OauthError::request("a secret does not go through a browser"));
        }
        let person = self.visitors.signed_in(&arrived.head.headers, arrived.peer).await?;
        Ok(match self.desk.authorize(&form, person.as_ref()).await? {
            Outcome::Back(back) => answer::see_other(back.address().expose()),
            Outcome::Consent(request) => answer::see_other(&to("/consent", &[("request", request)])?),
            Outcome::Login { resume, level, again } => {
                let mut pairs = vec![("continue", resume)];
                if level > AssuranceLevel::None {
                    pairs.push(("level", u8::from(level).to_string()));
                }
                if again {
                    pairs.push(("again", "1".to_owned()));
                }
                answer::see_other(&to("/login", &pairs)?)
            }
        })
    }
}

fn to(path: &str, pairs: &[(&str, String)]) -> Result<String, OauthError> {
    let form = Form::of(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let form = form.map_err(|_| OauthError::new(OauthCode::ServerError, "a parameter stands twice"))?;
    Ok(format!("{path}?{}", form.to_query()))
}
