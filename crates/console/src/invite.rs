//! Invitations, for programs: the one thing here that is not a page.

use bartizan_base::Name;
use bartizan_identify::{Caller, Presented};
use bartizan_model::ReasonCode;
use http::StatusCode;
use serde_json::json;

use crate::{Answer, Console, Request, Stop, answer};

impl Console {
    /// `POST /api/v1/users/NAME/invitation`: a link by which somebody enrols an authenticator.
    pub(crate) async fn invite(&self, request: &Request, name: &str) -> Result<Answer, Stop> {
        let caller = self.identify(request).await?;
        let name: Name = name.parse().map_err(|_| Stop::from(ReasonCode::NotFound))?;
        let done = self.login.invite(&caller, &name).await?;
        let value = json!({"link": done.value.link.expose(), "ends": done.value.ends.to_string()});
        Ok(answer::json(StatusCode::OK, &value))
    }

    async fn identify(&self, request: &Request) -> Result<Caller, Stop> {
        let control = &self.login.authority.control;
        let headers = &request.arrived.head.headers;
        let values = |name: &str| headers.get_all(name).iter().map(|v| v.as_bytes()).collect::<Vec<_>>();
        let presented =
            Presented::from_headers(values("authorization").into_iter(), values("x-api-key").into_iter());
        let identified = match presented {
            Ok(presented) => control.house.identify(&presented).await,
            Err(reason) => Err((Caller::anonymous(self.login.authority.settings.tenant.clone()), reason)),
        };
        match identified {
            Ok(caller) => Ok(caller),
            Err((caller, reason)) => Err(control.refuse_caller(&caller, reason).await.into()),
        }
    }
}
