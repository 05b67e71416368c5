//! Provisioning over HTTP: SCIM 2.0 (RFC 7644) below `/scim/v2` on the control listener, and taking in files.

mod answer;

use bartizan_authority::scim::{Failed, KINDS, Operation, People, Scim, Write};
use bartizan_base::json;
use bartizan_identify::Caller;
use bartizan_model::Tenant;
use bartizan_scim::{
    Bulk, GROUP, Kind, Listed, Query, ScimError, ScimType, USER, resource_types, schema_list,
    service_provider_config,
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HOST, IF_MATCH, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, Method, Response};
use http_body_util::Full;
use serde_json::Value;

use crate::described::{By, Described, JSON, knows, object, permits};
use crate::door::{self, Published};
use crate::mount::{Arrived, Mount};
use answer::Answer;

/// The longest body, in bytes.
const BODY_MAX: usize = 2 << 20;
const LIMITS: json::Limits = json::Limits { bytes_max: BODY_MAX, depth_max: 16, nodes_max: 200_000 };
const ROOT: &str = "/scim/v2";
const IMPORT: &str = "/api/v1/directory/import";

/// What is answered.
pub(crate) const DESCRIBED: &[Described] = &[
    Described::new(
        "GET",
        "/scim/v2/ServiceProviderConfig",
        By::Credential,
        "-",
        "What the service can do (RFC 7643, 5).",
    )
    .gives(200, SCIM, object),
    Described::new("GET", "/scim/v2/Schemas", By::Credential, "-", "Its schemas.").gives(200, SCIM, object),
    Described::new("GET", "/scim/v2/Schemas/{id}", By::Credential, "-", "One of them.")
        .gives(200, SCIM, object),
    Described::new("GET", "/scim/v2/ResourceTypes", By::Credential, "-", "Its kinds of resources.")
        .gives(200, SCIM, object),
    Described::new("GET", "/scim/v2/ResourceTypes/{id}", By::Credential, "-", "One of them.")
        .gives(200, SCIM, object),
    Described::new("GET", "/scim/v2", By::Credential, READ, "People and groups, filtered, sorted, by pages.")
        .gives(200, SCIM, object),
    Described::new("POST", "/scim/v2/.search", By::Credential, READ, "The same by a body (RFC 7644, 3.4.3).")
        .takes(SCIM, object)
        .gives(200, SCIM, object),
    Described::new(
        "POST",
        "/scim/v2/Bulk",
        By::Credential,
        CHANGE,
        "Several operations at once (RFC 7644, 3.7).",
    )
    .takes(SCIM, object)
    .gives(200, SCIM, object),
    Described::new("GET", "/scim/v2/Users", By::Credential, READ, "People, filtered, sorted, by pages.")
        .gives(200, SCIM, object),
    Described::new("POST", "/scim/v2/Users", By::Credential, CHANGE, "Create a person.")
        .takes(SCIM, object)
        .gives(201, SCIM, object),
    Described::new("POST", "/scim/v2/Users/.search", By::Credential, READ, "People by a body.")
        .takes(SCIM, object)
        .gives(200, SCIM, object),
    Described::new("GET", "/scim/v2/Users/{id}", By::Credential, READ, "Show a person.")
        .gives(200, SCIM, object),
    Described::new("PUT", "/scim/v2/Users/{id}", By::Credential, CHANGE, "Replace a person.")
        .takes(SCIM, object)
        .gives(200, SCIM, object),
    Described::new(
        "PATCH",
        "/scim/v2/Users/{id}",
        By::Credential,
        CHANGE,
        "Change a person (RFC 7644, 3.5.2).",
    )
    .takes(SCIM, object)
    .gives(200, SCIM, object),
    Described::new("DELETE", "/scim/v2/Users/{id}", By::Credential, CHANGE, "Delete a person.")
        .gives_nothing(204),
    Described::new("GET", "/scim/v2/Groups", By::Credential, READ, "Groups, filtered, sorted, by pages.")
        .gives(200, SCIM, object),
    Described::new("POST", "/scim/v2/Groups", By::Credential, CHANGE, "Create a group.")
        .takes(SCIM, object)
        .gives(201, SCIM, object),
    Described::new("POST", "/scim/v2/Groups/.search", By::Credential, READ, "Groups by a body.")
        .takes(SCIM, object)
        .gives(200, SCIM, object),
    Described::new("GET", "/scim/v2/Groups/{id}", By::Credential, READ, "Show a group.")
        .gives(200, SCIM, object),
    Described::new("PUT", "/scim/v2/Groups/{id}", By::Credential, CHANGE, "Replace a group.")
        .takes(SCIM, object)
        .gives(200, SCIM, object),
    Described::new(
        "PATCH",
        "/scim/v2/Groups/{id}",
        By::Credential,
        CHANGE,
        "Change a group (RFC 7644, 3.5.2).",
    )
    .takes(SCIM, object)
    .gives(200, SCIM, object),
    Described::new("DELETE", "/scim/v2/Groups/{id}", By::Credential, CHANGE, "Delete a group.")
        .gives_nothing(204),
    Described::new("POST", IMPORT, By::Credential, CHANGE, "Take in people and groups from a file.")
        .takes(JSON, object),
];
const READ: &str = "identity:read";
const CHANGE: &str = "identity:change";
const SCIM: &str = "application/scim+json";

/// The endpoints of provisioning.
#[derive(Debug)]
pub struct Provisioning {
    scim: Scim,
    published: Option<Published>,
    scheme: &'static str,
}

impl Provisioning {
    /// The endpoints in front of `scim`, at the address that is `published`; without, at the one that is asked for, by TLS if
    /// `secure`.
    #[must_use]
    pub const fn new(scim: Scim, published: Option<Published>, secure: bool) -> Self {
        Self { scim, published, scheme: if secure { "https" } else { "http" } }
    }

    async fn try_answer(&self, arrived: &Arrived) -> Result<Answer, Failed> {
        let head = &arrived.head;
        let caller = self.identify(arrived).await?;
        if head.uri.path() == IMPORT {
            return self.import(&caller, arrived).await;
        }
        let base = self.base(&head.headers)?;
        let path = head.uri.path().strip_prefix(ROOT).unwrap_or_default();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (method, read) = (&head.method, head.method == Method::GET);
        let unknown = || ScimError::of(404, "there is nothing at this path");
        let not_so = || ScimError::of(405, "the path takes another method");
        let whole = format!("{ROOT}{}", parts.iter().map(|part| format!("/{part}")).collect::<String>());
        if knows(DESCRIBED, &whole) && !permits(DESCRIBED, method.as_str(), &whole) {
            return Err(not_so().into_failed());
        }
        match parts.as_slice() {
            ["ServiceProviderConfig"] if read => {
                Ok(Answer::of(200, &service_provider_config(&base, BODY_MAX)))
            }
            ["Schemas"] if read => discovery(head.uri.query(), &schema_list(&base)),
            ["Schemas", id] if read => one(schema_list(&base), &decoded(id)),
            ["ResourceTypes"] if read => discovery(head.uri.query(), &resource_types(&base)),
            ["ResourceTypes", id] if read => one(resource_types(&base), &decoded(id)),
            ["ServiceProviderConfig" | "Schemas" | "ResourceTypes", ..] => Err(not_so().into_failed()),
            ["Bulk"] if method == Method::POST => {
                let bulk = Bulk::parse(&body(arrived)?).map_err(IntoFailed::into_failed)?;
                Ok(Answer::of(200, &self.scim.bulk(&caller, &base, &bulk).await.body))
            }
            [".search"] if method == Method::POST => {
                let query = Query::from_message(&body(arrived)?).map_err(IntoFailed::into_failed)?;
                self.list(&caller, &base, KINDS, &query).await
            }
            ["Bulk" | ".search" | "Me"] => Err(not_so().into_failed()),
            [] if read => self.list(&caller, &base, KINDS, &query(arrived)?).await,
            [endpoint, rest @ ..] => {
                let kind = [USER, GROUP].into_iter().find(|kind| kind.endpoint.get(1..) == Some(endpoint));
                let kind = kind.ok_or_else(|| unknown().into_failed())?;
                match rest {
                    [] if read => self.list(&caller, &base, &[kind], &query(arrived)?).await,
                    [] if method == Method::POST => {
                        let body = body(arrived)?;
                        let create = Operation::Create { body: &body, id: None };
                        self.write(&caller, &base, arrived, kind, create).await
                    }
                    [".search"] if method == Method::POST => {
                        let query = Query::from_message(&body(arrived)?).map_err(IntoFailed::into_failed)?;
                        self.list(&caller, &base, &[kind], &query).await
                    }
                    [id] => self.on_one(&caller, &base, arrived, kind, &decoded(id)).await,
                    [] => Err(not_so().into_failed()),
                    _ => Err(unknown().into_failed()),
                }
            }
            [] => Err(not_so().into_failed()),
        }
    }

    async fn on_one(
        &self,
        caller: &Caller,
        base: &str,
        arrived: &Arrived,
        kind: Kind,
        id: &str,
    ) -> Result<Answer, Failed> {
        match arrived.head.method {
            Method::GET => {
                let found = self.scim.get(caller, base, kind, id).await?;
                let shown = query(arrived)?.projection(&kind).apply(&found.value);
                let answer = Answer::of(200, &Value::Object(shown)).recorded(&found).tagged(&found.value);
                Ok(answer.unless_known(arrived.head.headers.get(IF_NONE_MATCH)))
            }
            Method::PUT => {
                let body = body(arrived)?;
                let replace = Operation::Replace { id, body: &body };
                self.write(caller, base, arrived, kind, replace).await
            }
            Method::PATCH => {
                let body = body(arrived)?;
                let patch = Operation::Patch { id, body: &body };
                self.write(caller, base, arrived, kind, patch).await
            }
            Method::DELETE => self.write(caller, base, arrived, kind, Operation::Delete { id }).await,
            _ => Err(ScimError::of(405, "the path takes another method").into_failed()),
        }
    }

    async fn write(
        &self,
        caller: &Caller,
        base: &str,
        arrived: &Arrived,
        kind: Kind,
        operation: Operation<'_>,
    ) -> Result<Answer, Failed> {
        let made = matches!(operation, Operation::Create { .. });
        let if_match = arrived.head.headers.get(IF_MATCH).and_then(|value| value.to_str().ok());
        let write = Write { kind, operation, if_match };
        let done = Box::pin(self.scim.write(caller, base, &write)).await?;
        let Some(resource) = &done.value else { return Ok(Answer::empty(204).recorded(&done)) };
        let shown = query(arrived)?.projection(&kind).apply(resource);
        let answer = Answer::of(if made { 201 } else { 200 }, &Value::Object(shown));
        let answer = answer.recorded(&done).tagged(resource);
        let location = resource.get("meta").and_then(|meta| meta.get("location")).and_then(Value::as_str);
        Ok(match location {
            Some(location) if made => answer.with(LOCATION, location),
            _ => answer,
        })
    }

    async fn list(
        &self,
        caller: &Caller,
        base: &str,
        kinds: &[Kind],
        query: &Query,
    ) -> Result<Answer, Failed> {
        let done = self.scim.list(caller, base, kinds, query).await?;
        let answer = Answer::of(200, &done.value.clone().body());
        Ok(answer.recorded(&done))
    }

    async fn import(&self, caller: &Caller, arrived: &Arrived) -> Result<Answer, Failed> {
        if arrived.head.method != Method::POST {
            return Err(ScimError::of(405, "the path takes another method").into_failed());
        }
        let wrong = |detail: String| ScimError::new(ScimType::InvalidSyntax, detail).into_failed();
        let people: People =
            serde_json::from_value(body(arrived)?).map_err(|error| wrong(format!("not people: {error}")))?;
        let done = Box::pin(self.scim.import(caller, &people)).await?;
        let value = serde_json::to_value(&done.value).unwrap_or_default();
        Ok(Answer::plain(200, &value).recorded(&done))
    }

    async fn identify(&self, arrived: &Arrived) -> Result<Caller, Failed> {
        let control = &self.scim.control;
        let nobody = || Caller::anonymous(Tenant::default_tenant());
        let refused = match door::presented(self.published.as_ref(), &arrived.head) {
            Err(reason) => control.refuse_caller(&nobody(), reason).await,
            Ok(presented) => match control.house.identify(&presented).await {
                Ok(caller) => return Ok(caller),
                Err((caller, reason)) => control.refuse_caller(&caller, reason).await,
            },
        };
        Err(refused.into())
    }

    /// The address of the service, as the client knows it. What it says in `host` is said back to it alone, and kept nowhere.
    fn base(&self, headers: &HeaderMap) -> Result<String, Failed> {
        if let Some(published) = &self.published {
            return Ok(format!("{}{ROOT}", published.issuer));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
        if host.len() > 255 || !host.bytes().all(plain) {
            return Err(ScimError::of(400, "the header `host` is not one").into_failed());
        }
        Ok(format!("{}://{host}{ROOT}", self.scheme))
    }
}

impl Mount for Provisioning {
    fn takes(&self, path: &str) -> bool {
        path == IMPORT || path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn body_max(&self) -> usize {
        BODY_MAX
    }

    fn answer(&self, arrived: Arrived) -> BoxFuture<'_, Response<Full<Bytes>>> {
        async move {
            let answer = Box::pin(self.try_answer(&arrived)).await;
            answer.unwrap_or_else(|failed| Answer::failed(&failed)).into_response()
        }
        .boxed()
    }
}

trait IntoFailed {
    fn into_failed(self) -> Failed;
}

impl IntoFailed for ScimError {
    fn into_failed(self) -> Failed {
        Failed { error: self, decision: None }
    }
}

fn body(arrived: &Arrived) -> Result<Value, Failed> {
    let media = arrived.head.headers.get(CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
    let json =
        [&b"application/scim+json"[..], b"application/json"].iter().any(|json| media.starts_with(json));
    if !json {
        return Err(ScimError::of(415, "send `content-type: application/scim+json`").into_failed());
    }
    json::parse(&arrived.body, LIMITS).map_err(|error| {
        // The place is told, never the value.
        let detail = match error {
            json::JsonError::DuplicateKey(_) => "a member stands twice in one object",
            json::JsonError::TooDeep(_) | json::JsonError::TooMany(_) => "the JSON is too complex",
            _ => "the body is no JSON",
        };
        ScimError::new(ScimType::InvalidSyntax, detail).into_failed()
    })
}

fn query(arrived: &Arrived) -> Result<Query, Failed> {
    let text = arrived.head.uri.query().unwrap_or_default();
    let pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
    Query::from_pairs(pairs.iter().map(|(name, value)| (&**name, &**value))).map_err(IntoFailed::into_failed)
}

fn decoded(part: &str) -> String {
    // Ids and URNs hold no `+` and no `&`, so that a part of a path reads like a form.
    form_urlencoded::parse(part.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// RFC 7644, 4: filters on what describes the service are refused, rather than passed over.
fn discovery(query: Option<&str>, all: &[Value]) -> Result<Answer, Failed> {
    let filtered =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).any(|(name, _)| name == "filter");
    if filtered {
        return Err(ScimError::of(403, "what describes the service is not filtered").into_failed());
    }
    Ok(Answer::of(200, &Listed::whole(all)))
}

fn one(all: Vec<Value>, id: &str) -> Result<Answer, Failed> {
    let found = all.into_iter().find(|value| value.get("id").and_then(Value::as_str) == Some(id));
    found.map(|value| Answer::of(200, &value)).ok_or_else(|| ScimError::not_found().into_failed())
}
