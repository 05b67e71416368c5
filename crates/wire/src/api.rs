//! Calls of external APIs, read against what is declared of them.
//!
//! What is sent is never what came in: the path and the query are written anew from the operation's template and the values that
//! were checked, so that no reader at the other end can see a path that was not decided on.

mod openapi;
mod schema;

use std::fmt::Write as _;

use bartizan_base::json;
use bartizan_model::{ApiMethod, ApiOperation, Problem, ReasonCode};
use bytes::Bytes;
use serde_json::{Map, Number, Value};

pub use openapi::{OpenApiError, operations_of};
pub use schema::{ArgumentSchema, SchemaError};

/// The parameter that holds the body among the arguments.
const BODY: &str = "body";
/// Segments of a path.
const SEGMENTS_MAX: usize = 64;

/// A request that came in for an external API.
#[derive(Clone, Debug)]
pub struct ApiRequest<'a> {
    /// Its method.
    pub method: &'a str,
    /// What follows the API's name in its path; empty, or beginning with a slash.
    pub path: &'a str,
    /// Its query, without the question mark.
    pub query: Option<&'a str>,
    /// The media type of its body, as it was sent.
    pub content_type: Option<&'a str>,
    /// Its body.
    pub body: Bytes,
}

/// A call that is one of the declared operations, with arguments that are what the operation takes.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiCall<'o> {
    /// The operation.
    pub operation: &'o ApiOperation,
    /// Its arguments: parameters by name, and `body`.
    pub arguments: Map<String, Value>,
    /// Path and query, written anew.
    pub path: String,
    /// The body as it came: read strictly, so that nobody reads another one.
    pub body: Bytes,
}

/// An operation whose templates are read and whose schema is compiled.
#[derive(Debug)]
pub struct ReadyOperation {
    operation: ApiOperation,
    segments: Vec<Segment>,
    schema: ArgumentSchema,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
}

/// Why an operation cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The template is not a path of whole segments.
    #[error("the path is segments between slashes, each plain text or one `{{parameter}}`")]
    Path,
    /// Two parameters have the same name, or one is called `body`.
    #[error("the parameter `{0}` is named twice, or has the name of the body")]
    Parameter(String),
    /// The schema of its arguments is unusable.
    #[error("`arguments`: {0}")]
    Schema(#[from] SchemaError),
}

impl ReadyOperation {
    /// Makes an operation ready.
    ///
    /// # Errors
    /// [`OperationError`], for whoever declares it.
    pub fn new(operation: &ApiOperation) -> Result<Self, OperationError> {
        let segments = template(&operation.path).ok_or(OperationError::Path)?;
        let mut names: Vec<&str> = vec![BODY];
        let parameters = segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        });
        for name in parameters.chain(operation.query.iter().map(|name| &**name)) {
            if names.contains(&name) {
                return Err(OperationError::Parameter(name.to_owned()));
            }
            names.push(name);
        }
        let schema = ArgumentSchema::new(&operation.arguments)?;
        Ok(Self { operation: operation.clone(), segments, schema })
    }

    /// The operation.
    #[must_use]
    pub const fn operation(&self) -> &ApiOperation {
        &self.operation
    }

    /// The values of its path's parameters, if the path is one of its.
    fn matches<'p>(&self, path: &'p [String]) -> Option<Vec<(&str, &'p str)>> {
        if path.len() != self.segments.len() {
            return None;
        }
        let mut values = Vec::new();
        for (segment, given) in self.segments.iter().zip(path) {
            match segment {
                Segment::Literal(text) if text == given => {}
                Segment::Literal(_) => return None,
                Segment::Parameter(name) => values.push((name.as_str(), given.as_str())),
            }
        }
        Some(values)
    }

    /// Its path with these segments: literals as they are declared, of the values each encoded whole.
    fn write(&self, path: &[String]) -> String {
        let mut out = String::new();
        for (segment, given) in self.segments.iter().zip(path) {
            out.push('/');
            match segment {
                Segment::Literal(text) => out.push_str(text),
                Segment::Parameter(_) => encode(given, &mut out),
            }
        }
        if out.is_empty() { "/".to_owned() } else { out }
    }

    fn takes_body(&self) -> bool {
        self.operation.arguments.pointer("/properties/body").is_some()
    }
}

/// Which operation a request is of, and whether it is one: its method, its path, its parameters, its body.
///
/// # Errors
/// `OperationUnknown` where there is none; `ArgumentsInvalid`, with what is wrong, where it is not what the operation takes.
pub fn read_api_call<'o>(
    operations: &'o [ReadyOperation],
    request: &ApiRequest<'_>,
    limits: json::Limits,
) -> Result<ApiCall<'o>, Problem> {
    let path = segments(request.path).ok_or_else(|| {
        let detail = "a path is segments of text between slashes, none of them empty, `.` or `..`";
        Problem::with_detail(ReasonCode::ArgumentsInvalid, detail)
    })?;
    let fitting = operations.iter().filter(|ready| ready.operation.method.name() == request.method);
    // The one with the most literal segments is meant: `/users/me` and not `/users/{id}`.
    let found = fitting.filter_map(|ready| Some((ready, ready.matches(&path)?))).min_by_key(|(_, v)| v.len());
    let (ready, values) = found.ok_or_else(|| Problem::new(ReasonCode::OperationUnknown))?;
    let mut arguments = Map::new();
    for (name, text) in values {
        arguments.insert(name.to_owned(), ready.schema.read(name, text));
    }
    let query = query(ready, request.query.unwrap_or_default(), &mut arguments)?;
    let body = body(ready, request, limits)?;
    arguments.extend(body.map(|body| (BODY.to_owned(), body)));
    let arguments = Value::Object(arguments);
    ready.schema.check(&arguments).map_err(|detail| invalid(&detail))?;
    let Value::Object(arguments) = arguments else { return Err(Problem::new(ReasonCode::Internal)) };
    let mut written = ready.write(&path);
    if !query.is_empty() {
        written.push('?');
        written.push_str(&query);
    }
    Ok(ApiCall { operation: &ready.operation, arguments, path: written, body: request.body.clone() })
}

fn invalid(detail: &str) -> Problem {
    Problem::with_detail(ReasonCode::ArgumentsInvalid, detail)
}

/// Reads the query into the arguments, and writes it anew.
fn query(ready: &ReadyOperation, text: &str, arguments: &mut Map<String, Value>) -> Result<String, Problem> {
    let mut written = String::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let spaced = |text: &str| decode(&text.replace('+', " "));
        let (Some(name), Some(value)) = (spaced(name), spaced(value)) else {
            return Err(invalid("the query is not percent-encoded UTF-8"));
        };
        if !ready.operation.query.iter().any(|known| **known == *name) {
            return Err(invalid(&format!("`{}` is no parameter of this operation", shown(&name))));
        }
        let read = ready.schema.read(&name, &value);
        match arguments.get_mut(&name) {
            None if ready.schema.is_list(&name) => {
                arguments.insert(name.clone(), Value::Array(vec![read]));
            }
            None => {
                arguments.insert(name.clone(), read);
            }
            Some(Value::Array(list)) if ready.schema.is_list(&name) => list.push(read),
            // Which of two values counts is read differently by different readers.
            Some(_) => return Err(invalid(&format!("`{}` stands twice", shown(&name)))),
        }
        if !written.is_empty() {
            written.push('&');
        }
        encode(&name, &mut written);
        written.push('=');
        encode(&value, &mut written);
    }
    Ok(written)
}

fn body(
    ready: &ReadyOperation,
    request: &ApiRequest<'_>,
    limits: json::Limits,
) -> Result<Option<Value>, Problem> {
    if request.body.is_empty() {
        return Ok(None);
    }
    if !ready.takes_body() {
        return Err(invalid("this operation takes no body"));
    }
    let kind = request.content_type.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        return Err(invalid("a body is JSON, and says so in `content-type`"));
    }
    let read = json::parse(&request.body, limits);
    read.map(Some).map_err(|error| Problem::with_detail(ReasonCode::BodyMalformed, error.to_string()))
}

/// A name of a caller as far as it can be shown to them.
fn shown(name: &str) -> String {
    name.chars().take(40).flat_map(char::escape_debug).collect()
}

fn template(path: &str) -> Option<Vec<Segment>> {
    let rest = path.strip_prefix('/')?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$'()*,:@".contains(c);
    let read = |text: &str| {
        let parameter = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        match parameter {
            Some(name) if !name.is_empty() && !name.contains(['{', '}']) => {
                Some(Segment::Parameter(name.to_owned()))
            }
            Some(_) => None,
            None => {
                let fits = !text.is_empty() && text != "." && text != ".." && text.chars().all(plain);
                fits.then(|| Segment::Literal(text.to_owned()))
            }
        }
    };
    let segments: Vec<_> = rest.split('/').map(read).collect::<Option<_>>()?;
    (segments.len() <= SEGMENTS_MAX).then_some(segments)
}

/// The segments of a path, decoded. None for whatever different readers read differently: empty segments, `.`, `..`, encoded
/// slashes, control characters, what is not UTF-8.
fn segments(path: &str) -> Option<Vec<String>> {
    let rest = match path.strip_prefix('/') {
        None if path.is_empty() => return Some(Vec::new()),
        Some("") => return Some(Vec::new()),
        rest => rest?,
    };
    let read = |text: &str| {
        let decoded = decode(text)?;
        let bad = decoded.is_empty() || decoded == "." || decoded == "..";
        let odd = |c: char| c.is_control() || matches!(c, '/' | '\\');
        (!bad && !decoded.contains(odd)).then_some(decoded)
    };
    let all: Vec<_> = rest.split('/').map(read).collect::<Option<_>>()?;
    (all.len() <= SEGMENTS_MAX).then_some(all)
}

/// Decodes percent-encoding strictly: a percent sign is followed by two hexadecimal digits, and all of it is UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// Encodes everything but the unreserved characters of RFC 3986.
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
}

/// A parameter's text as the value that the schema's type makes of it; as text where it is none of that type, which the schema
/// then refuses.
fn typed(kind: Option<&str>, text: &str) -> Value {
    let read = match kind {
        Some("integer") => text.parse::<i64>().ok().map(Value::from),
        Some("number") => text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number),
        Some("boolean") => text.parse::<bool>().ok().map(Value::Bool),
        _ => None,
    };
    read.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Methods by their names, for declarations that are read from elsewhere.
fn method(name: &str) -> Option<ApiMethod> {
    ApiMethod::ALL.iter().copied().find(|method| method.name().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
