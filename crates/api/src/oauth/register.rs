//! Registration of clients (RFC 7591).

use bartizan_authority::oauth::{OauthCode, OauthError};
use bartizan_base::json;
use bartizan_identify::{Caller, Presented};
use bartizan_model::ReasonCode;
use http::StatusCode;
use serde_json::Value;

use super::{Answer, Oauth, answer};
use crate::mount::Arrived;

const LIMITS: json::Limits = json::Limits { bytes_max: 16 << 10, depth_max: 8, nodes_max: 1_000 };

impl Oauth {
    pub(super) async fn register(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let registry = self.desk.registry();
        if !registry.authority().settings.registration {
            return Ok(answer::empty(StatusCode::NOT_FOUND));
        }
        let caller = self.initial(arrived).await?;
        let malformed =
            || OauthError::new(OauthCode::InvalidClientMetadata, "the body is no JSON object within bounds");
        let Ok(Value::Object(members)) = json::parse(&arrived.body, LIMITS) else { return Err(malformed()) };
        let registered = registry.register(&caller, &members).await?;
        Ok(answer::private(StatusCode::CREATED, &registered.answer))
    }

    /// Whoever registers a client: the initial access token (RFC 7591, 3) is a credential of theirs.
    async fn initial(&self, arrived: &Arrived) -> Result<Caller, OauthError> {
        let authority = self.desk.registry().authority();
        let headers = &arrived.head.headers;
        let values = |name: &str| headers.get_all(name).iter().map(|v| v.as_bytes()).collect::<Vec<_>>();
        let presented =
            Presented::from_headers(values("authorization").into_iter(), values("x-api-key").into_iter());
        let refuse = |reason: ReasonCode| {
            OauthError::new(OauthCode::InvalidToken, "the initial access token does not hold").because(reason)
        };
        match presented {
            Err(reason) => Err(authority.refused(refuse(reason)).await),
            Ok(presented) => match authority.control.house.identify(&presented).await {
                Ok(caller) => Ok(caller),
                Err((caller, reason)) => {
                    let stopped = authority.control.refuse_caller(&caller, reason.clone()).await;
                    Err(OauthError { decision: stopped.problem.decision, ..refuse(reason) })
                }
            },
        }
    }
}
