//! The form of a message (RFC 5424, section 6). The text is the record as it is, JSON in UTF-8 without a byte order mark
//! (`MSG-ANY`), for receivers hand it on to readers of JSON.

use bartizan_base::Timestamp;
use bartizan_model::delivery::SyslogFacility;
use serde_json::Value;

use crate::batch::{Batch, DeliverError};

/// What every message of a destination begins with.
#[derive(Clone, Debug)]
pub struct Header {
    facility: SyslogFacility,
    hostname: String,
    enterprise: u32,
}

/// The header cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a host name in syslog has 1 to 255 printable ASCII characters without space")]
pub struct HeaderError;

/// The number that RFC 5612 sets aside for examples.
const EXAMPLE_ENTERPRISE: u32 = 32_473;
const NOTICE: u8 = 5;
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;

/// The number of RFC 5424, 6.2.1.
const fn code(facility: SyslogFacility) -> u8 {
    match facility {
        SyslogFacility::Auth => 4,
        SyslogFacility::AuthPriv => 10,
        SyslogFacility::Audit => 13,
        SyslogFacility::Local0 => 16,
        SyslogFacility::Local1 => 17,
        SyslogFacility::Local2 => 18,
        SyslogFacility::Local3 => 19,
        SyslogFacility::Local4 => 20,
        SyslogFacility::Local5 => 21,
        SyslogFacility::Local6 => 22,
        SyslogFacility::Local7 => 23,
    }
}

impl Header {
    /// A header with our own name for this host. The structured data is called `bartizan@NUMBER` after the private enterprise
    /// number of whoever runs the house; without one, the number of examples stands there.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn new(
        facility: SyslogFacility,
        hostname: &str,
        enterprise: Option<u32>,
    ) -> Result<Self, HeaderError> {
        if hostname.is_empty() || hostname.len() > 255 || !hostname.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(HeaderError);
        }
        let enterprise = enterprise.unwrap_or(EXAMPLE_ENTERPRISE);
        Ok(Self { facility, hostname: hostname.to_owned(), enterprise })
    }

    /// A message for each line of the batch, none longer than `max`.
    pub(crate) fn messages(&self, batch: &Batch, max: usize) -> Result<Vec<Vec<u8>>, DeliverError> {
        let body =
            std::str::from_utf8(&batch.body).map_err(|_| DeliverError::refused("the body is not UTF-8"))?;
        body.lines().enumerate().map(|(number, line)| self.message(batch, number, line, max)).collect()
    }

    fn message(&self, batch: &Batch, number: usize, line: &str, max: usize) -> Result<Vec<u8>, DeliverError> {
        let value: Option<Value> = serde_json::from_str(line).ok();
        if value.is_none() && batch.media_type == Batch::JSON_LINES {
            return Err(DeliverError::refused(format_args!("line {number} is not JSON")));
        }
        // The record may stand in an envelope that tells its place.
        let record = value.as_ref().map(|v| v.get("record").filter(|r| r.is_object()).unwrap_or(v));
        let text = |name| record.and_then(|r| r.get(name)).and_then(Value::as_str);
        let whole = |value: Option<&Value>, name| value.and_then(|v| v.get(name)).and_then(Value::as_u64);
        let kind = text("kind").unwrap_or_default();
        let severity = match kind {
            "refusal" => WARNING,
            "system" => NOTICE,
            _ => INFORMATIONAL,
        };
        let priority = code(self.facility) * 8 + severity;
        // OCSF tells the time in milliseconds, as `time`.
        let millis = whole(record, "time").and_then(|t| t.checked_mul(1_000));
        let time = whole(record, "time_us").or(millis);
        let time = time.map_or_else(|| "-".to_owned(), |t| Timestamp::from_micros(t).to_string());
        let mut out = format!(
            "<{priority}>1 {time} {} bartizan - {} [bartizan@{} batch=\"{}\"",
            self.hostname,
            message_id(kind),
            self.enterprise,
            batch.id()
        );
        parameter(&mut out, "origin", &batch.first().origin);
        for name in ["tenant", "node", "id", "of", "verdict"] {
            if let Some(value) = text(name) {
                parameter(&mut out, name, value);
            }
        }
        if let Some(seq) = whole(record, "seq") {
            parameter(&mut out, "seq", &seq.to_string());
        }
        // Else a place in the log can be told where every entry of the range has its line.
        let (first, last) = (batch.first().index, batch.last().index);
        let all = (last - first).checked_add(1) == Some(u64::from(batch.records));
        let counted = || all.then(|| u64::try_from(number).ok().and_then(|n| first.checked_add(n)))?;
        if let Some(index) = whole(value.as_ref(), "index").or_else(counted) {
            parameter(&mut out, "index", &index.to_string());
        }
        finish(out, line, max)
    }
}

/// Ends the structured data and adds as much of the text as fits.
fn finish(mut out: String, line: &str, max: usize) -> Result<Vec<u8>, DeliverError> {
    const END: &str = "] ";
    if out.len() + END.len() + line.len() <= max {
        out.push_str(END);
        out.push_str(line);
        return Ok(out.into_bytes());
    }
    parameter(&mut out, "cut", &line.len().to_string());
    out.push_str(END);
    let room = max.checked_sub(out.len());
    let room = room.ok_or_else(|| DeliverError::refused("the longest message has no room for its header"))?;
    out.extend(line.char_indices().take_while(|(at, c)| at + c.len_utf8() <= room).map(|(_, c)| c));
    Ok(out.into_bytes())
}

/// Adds a parameter of structured data, escaped (RFC 5424, 6.3.3).
fn parameter(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

/// 1 to 32 printable characters, or none.
fn message_id(kind: &str) -> &str {
    let fits = (1..=32).contains(&kind.len()) && kind.bytes().all(|b| b.is_ascii_graphic());
    if fits { kind } else { "-" }
}

#[cfg(test)]
mod tests;
