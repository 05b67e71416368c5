//! The door to databases: `POST /query/{database}`, and the same as a tool.
//!
//! A statement is resolved before it is decided on, so that policy is asked for the database, for every table and for every
//! column that it reads; and it is written anew before it is run, so that nothing else is run than was decided on.

mod answer;
mod ask;
mod explain;
mod rows;

use std::net::IpAddr;

use bartizan_base::{Digest, Name, json};
use bartizan_model::{Action, Problem, ReasonCode};
use bytes::Bytes;
use http::Request;
use http_body::Body;

use crate::path::{Entering, Gate, Stop};
use crate::reply::{self, Reply};

pub(crate) use ask::{QueryArguments, Statement};

/// What paths of this door begin with.
pub const PREFIX: &str = "/query/";

impl Gate {
    /// A statement for `database`, from the bytes of the request to its rows.
    pub async fn answer_query<B>(&self, database: &str, request: Request<B>, peer: Option<IpAddr>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let path = request.uri().path().to_owned();
        match self.try_query(database, request, peer).await {
            Ok(reply) => reply,
            Err(stop) => self.problem_reply(&path, Some(Action::DatabaseQuery), &stop),
        }
    }

    async fn try_query<B>(
        &self,
        database: &str,
        request: Request<B>,
        peer: Option<IpAddr>,
    ) -> Result<Reply, Stop>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Entering { world, caller, head, body } = self.enter(request).await?;
        let body = self.take(&caller, &head, body).await?;
        let arguments = arguments(&body, self.parts.bounds.body);
        let arguments = self.or_refuse(&caller, None, arguments).await?;
        let database: Result<Name, Problem> =
            database.parse().map_err(|_| Problem::new(ReasonCode::NotFound));
        let database = self.or_refuse(&caller, None, database).await?;
        let (situation, session) = self.assessed(&caller, peer, &head.headers).await?;
        let statement = Statement { database, arguments, bytes: body.len() as u64, body: Digest::of(&body) };
        let told = self.run_statement(&world, &caller, (&situation, &session), statement).await?;
        let mut answer = reply::json(200, told.body());
        reply::mark(answer.headers_mut(), told.decision, Some(&told.receipt));
        reply::label(answer.headers_mut(), &told.label);
        reply::tell(answer.headers_mut(), &told.fields);
        Ok(answer)
    }
}

fn arguments(body: &[u8], limits: json::Limits) -> Result<QueryArguments, Problem> {
    json::parse_as(body, limits).map_err(|error| {
        let reason = match error {
            json::JsonError::DuplicateKey(_) => ReasonCode::JsonDuplicateKey,
            json::JsonError::TooDeep(_) | json::JsonError::TooMany(_) => ReasonCode::JsonTooComplex,
            json::JsonError::TooLong(_) => ReasonCode::BodyTooLarge,
            _ => ReasonCode::BodyMalformed,
        };
        Problem::with_detail(reason, error.to_string())
    })
}
