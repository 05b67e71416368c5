//! What a child says on standard error: into the log, bounded, with what it must not tell left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_base::Clock;
use bartizan_mask::Masker;
use bartizan_model::Detector;
use bartizan_secret::Secret;
use tokio::io::AsyncRead;

use crate::lines::{Line, Lines};

/// The longest line that is logged, in bytes.
const LINE_MAX: usize = 4 << 10;
/// Lines that are logged within [`WINDOW_US`]; the others are counted.
const LINES_MAX: u32 = 100;
const WINDOW_US: u64 = 10_000_000;
/// A shorter value is no secret that could be told from other text.
const SECRET_MIN: usize = 6;

/// Writes down what one child says.
#[derive(Debug)]
pub(crate) struct Scribe {
    secrets: Vec<Secret<String>>,
    /// Always there: built-in detectors need nothing that is declared. Without, nothing would be logged.
    masker: Option<Masker>,
    clock: Arc<dyn Clock>,
    since_us: u64,
    lines: u32,
    left_out: u64,
}

impl Scribe {
    pub(crate) fn new(mut secrets: Vec<Secret<String>>, clock: Arc<dyn Clock>) -> Self {
        secrets.retain(|s| s.expose().trim().len() >= SECRET_MIN);
        // The longest first: one may hold another.
        secrets.sort_by_key(|s| std::cmp::Reverse(s.expose().len()));
        let masker = Masker::new(&Detector::ALL.iter().cloned().collect(), &BTreeMap::new()).ok();
        Self { secrets, masker, since_us: clock.monotonic_us(), clock, lines: 0, left_out: 0 }
    }

    /// Logs until the child has no more to say; what is too much is read all the same, so that the child does not stand still.
    pub(crate) async fn follow(mut self, said: impl AsyncRead + Unpin, command: String) {
        let mut lines = Lines::cut(said, LINE_MAX);
        while let Ok(Some(line)) = lines.next().await {
            if let Some(text) = self.take(&line) {
                tracing::info!(command, "a tool server says: {text}");
            }
        }
        if self.left_out > 0 {
            tracing::info!(command, lines = self.left_out, "more that a tool server said was left out");
        }
    }

    fn take(&mut self, line: &Line) -> Option<String> {
        let now = self.clock.monotonic_us();
        if now.saturating_sub(self.since_us) >= WINDOW_US {
            (self.since_us, self.lines) = (now, 0);
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines > LINES_MAX {
            self.left_out += 1;
            return None;
        }
        Some(self.shown(line))
    }

    /// The line without secrets, personal data and what would look like another line.
    fn shown(&self, line: &Line) -> String {
        let mut text = String::from_utf8_lossy(&line.text).into_owned();
        for secret in &self.secrets {
            text = text.replace(secret.expose().trim(), "[secret]");
        }
        if line.cut {
            // The beginning of a secret may stand where it was cut.
            let longest = self.secrets.first().map_or(0, |s| s.expose().len());
            let keep = text.floor_char_boundary(text.len().saturating_sub(longest));
            text.truncate(keep);
            text.push('…');
        }
        let masked = self.masker.as_ref().map(|masker| masker.mask(&text).text).unwrap_or_default();
        masked.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
    }
}

#[cfg(test)]
mod tests {
    use bartizan_base::Timestamp;
    use bartizan_base::time::ManualClock;
    use bytes::Bytes;

    use super::*;

    const TOKEN: &str = "ghp_abcdefghijklmnop";

    fn scribe() -> Scribe {
        let secrets = [TOKEN, "ab", "ghp_abcdef\n"].map(|s| Secret::new(s.to_owned())).into();
        Scribe::new(secrets, Arc::new(ManualClock::at(Timestamp::from_secs(1))))
    }

    fn line(text: &str, cut: bool) -> Line {
        Line { text: Bytes::copy_from_slice(text.as_bytes()), cut }
    }

    #[test]
    fn inv_credential_secrets_and_personal_data_do_not_reach_the_log() {
        let shown = scribe().shown(&line(&format!("token={TOKEN} mail=ann@example.com about"), false));
        assert_eq!(shown, "token=[secret] mail=[email] about");
        for end in 1..TOKEN.len() {
            let begun = TOKEN.get(..end).unwrap();
            let shown = scribe().shown(&line(&format!("{} {begun}", "talk ".repeat(20)), true));
            assert!(!shown.contains("ghp"), "{shown}");
        }
    }

    #[test]
    fn a_line_cannot_look_like_several_or_steer_a_terminal() {
        let shown = scribe().shown(&line("a\r2026-01-01 INFO all is well\u{1b}[2J", false));
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }

    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let mut scribe = scribe();
        let logged = (0..1_000).filter(|_| scribe.take(&line("x y", false)).is_some()).count();
        assert_eq!((logged, scribe.left_out), (100, 900));
    }
}
