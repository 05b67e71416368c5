//! AWS Signature Version 4, as far as Bedrock takes it: the whole body is there, and there is no query
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, Tag, sign};
use bartizan_base::Timestamp;
use bartizan_secret::Secret;
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request};

/// The service that requests are signed for.
pub(crate) const BEDROCK: &str = "bedrock";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
pub(crate) const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Who signs: `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, with `:SESSION_TOKEN` where there is one.
struct Signer<'a> {
    id: &'a str,
    secret: &'a str,
    token: Option<&'a str>,
}

impl<'a> Signer<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, ':');
        let (id, secret, token) = (parts.next()?, parts.next()?, parts.next());
        let plain = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
        (plain && !secret.is_empty() && token != Some("")).then_some(Self { id, secret, token })
    }
}

/// Signs a request with its body for a region and service: adds the moment, the session's token and the signature. None where the
/// credential is none, or the address has no host, or a query.
pub(crate) fn signed<B>(
    request: &mut Request<B>,
    body: &[u8],
    credential: &Secret<String>,
    (region, service): (&str, &str),
    now: Timestamp,
) -> Option<()> {
    let signer = Signer::read(credential.expose())?;
    let uri = request.uri().clone();
    let host = uri.host().filter(|_| uri.query().is_none())?;
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let host =
        uri.port_u16().filter(|port| *port != usual).map_or(host.to_owned(), |port| format!("{host}:{port}"));
    let moment = moment(now)?;
    let date = moment.get(..8)?;
    let mut sensitive = |name: HeaderName, text: &str| {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        let headers: &mut HeaderMap = request.headers_mut();
        headers.insert(name, value);
        Some(())
    };
    sensitive(DATE, &moment)?;
    // What is sent as the host is what is signed.
    sensitive(HOST, &host)?;
    let (mut names, mut lines) =
        ("host;x-amz-date".to_owned(), format!("host:{host}\nx-amz-date:{moment}\n"));
    if let Some(token) = signer.token {
        sensitive(TOKEN, token)?;
        names.push_str(";x-amz-security-token");
        lines.push_str(&format!("x-amz-security-token:{token}\n"));
    }
    let path = again(uri.path());
    let method = request.method();
    let canonical = format!("{method}\n{path}\n\n{lines}\n{names}\n{}", hex(digest(&SHA256, body).as_ref()));
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let asked = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
    let text = format!("{ALGORITHM}\n{moment}\n{scope}\n{asked}");
    let first = Secret::new(format!("AWS4{}", signer.secret));
    let mut key = mac(first.expose().as_bytes(), date);
    for part in [region, service, "aws4_request"] {
        key = mac(key.as_ref(), part);
    }
    let signature = hex(mac(key.as_ref(), &text).as_ref());
    let id = signer.id;
    let value = format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Some(())
}

fn mac(key: &[u8], text: &str) -> Tag {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        if write!(out, "{byte:02x}").is_err() {
            // A string takes everything.
            break;
        }
    }
    out
}

/// `20150830T123600Z`.
fn moment(now: Timestamp) -> Option<String> {
    let text = now.to_string();
    let whole = text.get(..19)?;
    Some(whole.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>() + "Z")
}

/// A path encoded once more, as every service but S3 signs it. An empty one is the root.
fn again(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~');
        if plain {
            out.push(char::from(byte));
        } else if write!(out, "%{byte:02X}").is_err() {
            break;
        }
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const SESSION: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    fn request(
        method: &str,
        uri: &str,
        credential: &str,
        body: &str,
        of: (&str, &str),
    ) -> Option<Request<()>> {
        let mut request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let now = Timestamp::parse_rfc3339("2015-08-30T12:36:00Z").unwrap();
        signed(&mut request, body.as_bytes(), &Secret::new(credential.to_owned()), of, now)?;
        Some(request)
    }

    fn signature(request: &Request<()>) -> (String, String) {
        let text = request.headers()[AUTHORIZATION].to_str().unwrap();
        let (rest, signature) = text.split_once(", Signature=").unwrap();
        (rest.split_once("SignedHeaders=").unwrap().1.to_owned(), signature.to_owned())
    }

    /// `get-vanilla`, `post-vanilla` and `post-sts-header-before` of the test suite that AWS publishes; the others are what botocore
    /// signs.
    #[test]
    fn signatures_are_those_of_the_published_suite() {
        let key = format!("AKIDEXAMPLE:{SECRET}");
        let session = format!("{key}:{SESSION}");
        let suite = ("us-east-1", "service");
        let bedrock = ("eu-west-1", BEDROCK);
        let root = "https://example.amazonaws.com/";
        for (method, uri, credential, body, of, expected) in [
            (
                "GET",
                root,
                &key,
                "",
                suite,
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                root,
                &key,
                "",
                suite,
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "POST",
                root,
                &session,
                "",
                suite,
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
            (
                "POST",
                "https://bedrock-runtime.eu-west-1.amazonaws.com/model/anthropic.claude-v1%3A0/converse",
                &session,
                "{\"messages\":[]}",
                bedrock,
                "41e6bf51985e1c985f8c151719d2b661440dd825215a032b91e2350f8bec22c0",
            ),
            (
                "POST",
                "http://127.0.0.1:8001/model/a/converse",
                &key,
                "{}",
                bedrock,
                "58d1d41360b890b18d0d087d4f56b1aadd413632990e5f1d41d0167f2527a84e",
            ),
        ] {
            let signed = request(method, uri, credential, body, of).unwrap();
            let (names, found) = signature(&signed);
            assert_eq!(found, expected, "{method} {uri}");
            assert_eq!(names.contains("security-token"), credential.contains(SESSION));
            assert_eq!(signed.headers().contains_key(TOKEN), credential.contains(SESSION));
            assert!(signed.headers()[AUTHORIZATION].is_sensitive());
            assert!(!format!("{:?}", signed.headers()).contains(SECRET));
        }
    }

    #[test]
    fn the_signature_is_over_the_method_the_path_the_host_and_the_body() {
        let key = format!("AKIDEXAMPLE:{SECRET}");
        let one = |method: &str, uri: &str, body: &str| {
            signature(&request(method, uri, &key, body, ("r", BEDROCK)).unwrap()).1
        };
        let base = one("POST", "https://a.example/x", "{}");
        assert_eq!(base, one("POST", "https://a.example:443/x", "{}"), "the usual port is not written");
        for other in [
            one("PUT", "https://a.example/x", "{}"),
            one("POST", "https://a.example/y", "{}"),
            one("POST", "https://b.example/x", "{}"),
            one("POST", "https://a.example:8443/x", "{}"),
            one("POST", "https://a.example/x", "{ }"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn what_is_no_credential_or_cannot_be_signed_is_not_sent() {
        let none =
            |credential: &str, uri: &str| request("POST", uri, credential, "", ("r", BEDROCK)).is_none();
        for bad in
            ["", "AKID", "AKID:", ":secret", "AK ID:secret", "AKID:secret:", "AK/ID:secret", "AKID:s:t\nx"]
        {
            assert!(none(bad, "https://a.example/"), "{bad}");
        }
        assert!(none("AKID:secret", "https://a.example/?x=y"), "a query would have to be signed, too");
        assert!(none("AKID:secret", "/x"));
    }
}
