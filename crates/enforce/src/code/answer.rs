//! What code gave, as it is told.

use bartizan_mask::Masker;
use bartizan_model::directory::Dialect;
use bartizan_model::{DecisionId, Problem, ReasonCode};
use bartizan_sandbox::{Ending, Finished};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::mask::uncaught;

/// An answer, redacted and written.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) status: u16,
    pub(super) body: Bytes,
    /// How many matches were redacted.
    pub(super) redacted: u64,
}

impl Shown {
    /// What `finished` gave. Where something is redacted, files are texts or nothing is told.
    pub(super) fn new(finished: Finished, masker: Option<&Masker>, id: DecisionId) -> Result<Self, Problem> {
        let mut redacted = 0;
        let mut text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let Some(masker) = masker else { return text };
            let masked = masker.mask(&text);
            redacted += masked.count;
            masked.text.into_owned()
        };
        let (stdout, stderr) = (text(&finished.stdout), text(&finished.stderr));
        let mut files = Map::new();
        for (path, content) in finished.files {
            let shown = if masker.is_some() {
                if text(path.as_bytes()) != path || std::str::from_utf8(&content).is_err() {
                    let detail =
                        "a file that the code made is no text, or its name would have to be redacted";
                    return Err(Problem::with_detail(ReasonCode::ObligationFailed, detail));
                }
                STANDARD.encode(text(&content))
            } else {
                STANDARD.encode(content)
            };
            files.insert(path, shown.into());
        }
        uncaught(masker)?;
        let reason = finished.ended.reason();
        let ended = reason.as_ref().map_or("exited".into(), ReasonCode::code);
        let exit = match finished.ended {
            Ending::Exited(code) => json!(code),
            _ => Value::Null,
        };
        let mut body = json!({"exit": exit, "stdout": stdout, "stderr": stderr, "files": files, "ended": ended, "fuel": finished.fuel});
        let mut status = 200;
        if let Some(reason) = reason {
            let detail = match finished.ended {
                Ending::Trap(words) => words,
                _ => String::new(),
            };
            // In the words of every other refusal, and beside them what there is.
            let (code, error) =
                bartizan_wire::error_body(Dialect::OpenAiChat, &Problem::with_detail(reason, detail).of(id));
            let error: Map<String, Value> = serde_json::from_slice(&error).unwrap_or_default();
            status = code;
            body.as_object_mut().into_iter().for_each(|body| body.extend(error.clone()));
        }
        Ok(Self { status, body: serde_json::to_vec(&body).unwrap_or_default().into(), redacted })
    }
}

#[cfg(test)]
mod tests {
    use bartizan_base::Timestamp;
    use bartizan_model::Detector;

    use super::*;

    fn finished(ended: Ending, files: &[(&str, &[u8])]) -> Finished {
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect();
        Finished { ended, stdout: b"to ann@mail.example".to_vec(), stderr: b"\xff".to_vec(), files, fuel: 7 }
    }

    fn told(finished: Finished, masker: Option<&Masker>) -> Result<(u16, Value, u64), ReasonCode> {
        let id = DecisionId::from_parts(Timestamp::from_secs(1), [0; 10]);
        let shown = Shown::new(finished, masker, id).map_err(|problem| problem.reason)?;
        Ok((shown.status, serde_json::from_slice(&shown.body).unwrap(), shown.redacted))
    }

    #[test]
    fn what_was_written_is_told_however_it_ended() {
        let (status, body, _) = told(finished(Ending::Exited(3), &[("out/a", &[0, 1])]), None).unwrap();
        assert_eq!((status, &body["exit"], &body["ended"]), (200, &json!(3), &json!("exited")));
        assert_eq!((&body["stderr"], &body["files"]), (&json!("\u{fffd}"), &json!({"out/a": "AAE="})));
        let (status, body, _) = told(finished(Ending::Time, &[]), None).unwrap();
        assert_eq!((status, &body["exit"], &body["ended"]), (422, &Value::Null, &json!("code_time")));
        assert_eq!(body["stdout"], "to ann@mail.example");
        assert_eq!(body.pointer("/error/bartizan/reason"), Some(&json!("code_time")));
    }

    #[test]
    fn where_something_is_redacted_it_is_so_in_files_too_or_nothing_is_told() {
        let masker = Masker::new(&Detector::ALL.iter().cloned().collect(), &Default::default()).unwrap();
        let text = finished(Ending::Exited(0), &[("a.txt", b"ann@mail.example")]);
        let (_, body, redacted) = told(text, Some(&masker)).unwrap();
        assert_eq!((&body["stdout"], redacted), (&json!("to [email]"), 2));
        assert_eq!(body["files"]["a.txt"], STANDARD.encode("[email]"));
        for hidden in [("a.bin", &b"\xff\xfe"[..]), ("ann@mail.example", b"x")] {
            let refused = told(finished(Ending::Exited(0), &[hidden]), Some(&masker));
            assert_eq!(refused.unwrap_err(), ReasonCode::ObligationFailed);
        }
    }
}
