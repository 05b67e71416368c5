//! What is sent to be run.

use std::collections::BTreeMap;

use bartizan_base::json;
use bartizan_model::{CodeFacts, Problem, ReasonCode};
use bartizan_sandbox::Program;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The body of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// The program as text.
    source: Option<String>,
    /// Or as a module of WebAssembly, in Base64.
    module: Option<String>,
    /// What it finds on its standard input.
    #[serde(default)]
    stdin: String,
    /// What it finds in its scratch, by path; the content in Base64.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

/// The same, read.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) program: Program,
    pub(super) stdin: Vec<u8>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

impl Sent {
    pub(super) fn read(body: &[u8], limits: json::Limits) -> Result<Self, Problem> {
        let malformed = |detail: String| Problem::with_detail(ReasonCode::BodyMalformed, detail);
        let body: Body = json::parse_as(body, limits).map_err(|error| {
            let reason = match error {
                json::JsonError::DuplicateKey(_) => ReasonCode::JsonDuplicateKey,
                json::JsonError::TooDeep(_) | json::JsonError::TooMany(_) => ReasonCode::JsonTooComplex,
                json::JsonError::TooLong(_) => ReasonCode::BodyTooLarge,
                _ => ReasonCode::BodyMalformed,
            };
            Problem::with_detail(reason, error.to_string())
        })?;
        let bytes = |what: &str, text: &str| {
            STANDARD.decode(text).map_err(|_| malformed(format!("{what} is not in Base64")))
        };
        let program = match (body.source, body.module) {
            (Some(source), None) => Program::Source(source),
            (None, Some(module)) => Program::Module(bytes("`module`", &module)?),
            _ => return Err(malformed("send either `source` or `module`".to_owned())),
        };
        let file = |(path, text): (String, String)| Ok((path, bytes("a file of `files`", &text)?));
        let files = body.files.into_iter().map(file).collect::<Result<_, Problem>>()?;
        Ok(Self { program, stdin: body.stdin.into_bytes(), files })
    }

    pub(super) const fn dialect(&self) -> &'static str {
        match self.program {
            Program::Source(_) => "code.source",
            Program::Module(_) => "code.module",
        }
    }

    pub(super) fn facts(&self) -> CodeFacts {
        CodeFacts {
            bytes: self.program.bytes().len() as u64,
            digest: self.program.digest(),
            files: self.files.len() as u64,
            files_bytes: self.files.values().map(|content| content.len() as u64).sum(),
            stdin_bytes: self.stdin.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: json::Limits = json::Limits { bytes_max: 1_000, depth_max: 8, nodes_max: 100 };

    #[test]
    fn one_program_is_sent_and_what_is_beside_it_is_counted() {
        let sent =
            Sent::read(br#"{"source": "1+1", "stdin": "abc", "files": {"a/b": "AAEC", "c": ""}}"#, LIMITS)
                .unwrap();
        let facts = sent.facts();
        assert_eq!((facts.bytes, facts.files, facts.files_bytes, facts.stdin_bytes), (3, 2, 3, 3));
        assert_eq!(facts.digest, bartizan_base::Digest::of(b"1+1"));
        assert_eq!(sent.dialect(), "code.source");
        let sent = Sent::read(br#"{"module": "AGFzbQ=="}"#, LIMITS).unwrap();
        assert_eq!((sent.dialect(), sent.program.bytes()), ("code.module", &b"\0asm"[..]));
        for bad in [
            r#"{}"#,
            r#"{"source": "a", "module": ""}"#,
            r#"{"module": "no base"}"#,
            r#"{"source": "a", "files": {"x": "%"}}"#,
            r#"{"source": "a", "environment": {}}"#,
            r#"{"source": "a", "runtime": "/bin/sh"}"#,
            r#"[]"#,
        ] {
            assert_eq!(
                Sent::read(bad.as_bytes(), LIMITS).unwrap_err().reason,
                ReasonCode::BodyMalformed,
                "{bad}"
            );
        }
        let twice = Sent::read(br#"{"source": "a", "source": "b"}"#, LIMITS).unwrap_err();
        assert_eq!(twice.reason, ReasonCode::JsonDuplicateKey);
    }
}
