//! The canonical JSON of conditions, written byte by byte: it is hashed with every decision, and a general serializer takes
//! several times as long. What it has to give stands in the fields' own serialization, which tests hold against it.

use std::io::Write as _;

use bartizan_base::json;
use bartizan_model::AskFacts;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    AssuranceFact, Conditions, Delegation, DetailsFact, DeviceFact, RiskFact, SessionFact, ZoneFact,
};
use crate::inner::{by_name, write_text};

impl Conditions<'_> {
    /// The canonical JSON (RFC 8785) of all of it.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(b"{\"activity\":");
        match self.activity {
            Some(activity) => serde_json::to_writer(&mut *out, activity).ok()?,
            None => out.extend_from_slice(NULL),
        }
        key(out, b",\"approvals\":");
        texts(self.approvals.iter(), out);
        key(out, b",\"assurance\":");
        self.assurance.write(out);
        key(out, b",\"binding\":");
        write_text(self.binding, out);
        key(out, b",\"delegation\":");
        self.delegation.write(out);
        if let Some(details) = self.details {
            key(out, b",\"details\":");
            details.write(out);
        }
        key(out, b",\"device\":");
        optional(self.device.as_ref(), DeviceFact::write, out);
        key(out, b",\"network\":");
        match self.network {
            // An address has nothing to escape.
            Some(address) => write!(out, "\"{address}\"").ok()?,
            None => out.extend_from_slice(NULL),
        }
        key(out, b",\"now_s\":");
        number(self.now_s, out);
        key(out, b",\"obligations\":");
        texts(self.obligations.iter(), out);
        key(out, b",\"purpose\":");
        optional(self.purpose, write_text, out);
        key(out, b",\"request\":");
        request(self.request, out)?;
        key(out, b",\"risk\":");
        optional(self.risk.as_ref(), RiskFact::write, out);
        key(out, b",\"role_in_chain\":");
        write_text(self.role_in_chain, out);
        key(out, b",\"session\":");
        self.session.write(out);
        key(out, b",\"stale\":");
        texts(self.stale.iter(), out);
        if let Some(tool) = self.tool {
            key(out, b",\"tool\":");
            // A digest has nothing to escape.
            write!(out, "\"{tool}\"").ok()?;
        }
        key(out, b",\"zone\":");
        self.zone.write(out);
        out.push(b'}');
        Some(())
    }
}

impl AssuranceFact<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        key(out, b"{\"age_s\":");
        number(self.age_s, out);
        key(out, b",\"level\":");
        number(self.level.into(), out);
        key(out, b",\"methods\":");
        texts(self.methods.iter(), out);
        out.push(b'}');
    }
}

impl Delegation {
    fn write(self, out: &mut Vec<u8>) {
        key(out, b"{\"autonomous\":");
        flag(self.autonomous, out);
        key(out, b",\"chain_length\":");
        number(self.chain_length as u64, out);
        key(out, b",\"subject_kind\":");
        write_text(self.subject_kind, out);
        out.push(b'}');
    }
}

impl DetailsFact {
    fn write(self, out: &mut Vec<u8>) {
        key(out, b"{\"exact\":");
        flag(self.exact, out);
        if let Some(most) = self.uses_max {
            key(out, b",\"uses_max\":");
            number(most, out);
        }
        out.push(b'}');
    }
}

impl DeviceFact<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        key(out, b"{\"age_s\":");
        number(self.age_s, out);
        key(out, b",\"attested\":");
        flag(self.attested, out);
        key(out, b",\"compliant\":");
        flag(self.compliant, out);
        key(out, b",\"id\":");
        write_text(self.id, out);
        key(out, b",\"managed\":");
        flag(self.managed, out);
        out.push(b'}');
    }
}

impl RiskFact {
    fn write(&self, out: &mut Vec<u8>) {
        key(out, b"{\"age_s\":");
        number(self.age_s, out);
        key(out, b",\"level\":");
        write_text(self.level, out);
        key(out, b",\"score\":");
        number(self.score.into(), out);
        out.push(b'}');
    }
}

impl ZoneFact {
    fn write(&self, out: &mut Vec<u8>) {
        key(out, b"{\"name\":");
        write_text(self.name, out);
        key(out, b",\"offset_s\":");
        match self.offset_s {
            Some(offset) => {
                if offset < 0 {
                    out.push(b'-');
                }
                number(offset.unsigned_abs().into(), out);
            }
            None => out.extend_from_slice(NULL),
        }
        out.push(b'}');
    }
}

fn request(facts: &AskFacts, out: &mut Vec<u8>) -> Option<()> {
    out.push(b'{');
    if let Some(arguments) = &facts.arguments {
        key(out, b"\"arguments\":");
        members(arguments, out);
        out.push(b',');
    }
    key(out, b"\"bytes\":");
    number(facts.bytes, out);
    if let Some(code) = &facts.code {
        key(out, b",\"code\":");
        rare(code, out)?;
    }
    key(out, b",\"dialect\":");
    write_text(&facts.dialect, out);
    key(out, b",\"extras\":");
    texts(facts.extras.iter().map(|extra| extra.name()), out);
    if let Some(handles) = &facts.handles {
        key(out, b",\"handles\":");
        rare(handles, out)?;
    }
    key(out, b",\"messages\":");
    number(facts.messages, out);
    if let Some(operation) = &facts.operation {
        key(out, b",\"operation\":");
        write_text(operation, out);
    }
    key(out, b",\"output_tokens_max\":");
    optional(facts.output_tokens_max, number, out);
    key(out, b",\"stream\":");
    flag(facts.stream, out);
    key(out, b",\"tools\":");
    number(facts.tools, out);
    out.push(b'}');
    Some(())
}

/// What few asks hold: written by the general serializer.
fn rare(facts: &impl Serialize, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&json::canonical(facts).ok()?);
    Some(())
}

/// What was sent, with each number as it was written: two calls that differ must not look alike.
fn members(members: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_by(|a, b| by_name(a.0, b.0));
    out.push(b'{');
    for (n, (name, member)) in sorted.into_iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        value(member, out);
    }
    out.push(b'}');
}

fn value(value_of: &Value, out: &mut Vec<u8>) {
    match value_of {
        Value::Null => out.extend_from_slice(NULL),
        Value::Bool(is) => flag(*is, out),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                value(item, out);
            }
            out.push(b']');
        }
        Value::Object(of) => members(of, out),
    }
}

impl SessionFact<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(age) = self.age_s {
            key(out, b"\"age_s\":");
            number(age, out);
            out.push(b',');
        }
        if !self.categories.is_empty() {
            key(out, b"\"categories\":");
            texts(self.categories.iter(), out);
            out.push(b',');
        }
        key(out, b"\"confidentiality\":");
        write_text(self.confidentiality, out);
        if let Some(depth) = self.depth {
            key(out, b",\"depth\":");
            number(depth, out);
        }
        key(out, b",\"integrity\":");
        write_text(self.integrity, out);
        out.push(b'}');
    }
}

const NULL: &[u8] = b"null";

fn key(out: &mut Vec<u8>, written: &[u8]) {
    out.extend_from_slice(written);
}

fn optional<T>(value: Option<T>, write: impl FnOnce(T, &mut Vec<u8>), out: &mut Vec<u8>) {
    match value {
        Some(value) => write(value, out),
        None => out.extend_from_slice(NULL),
    }
}

fn texts<T: AsRef<str>>(items: impl Iterator<Item = T>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (n, item) in items.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write_text(item.as_ref(), out);
    }
    out.push(b']');
}

fn flag(flag: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if flag { b"true" } else { b"false" });
}

fn number(number: u64, out: &mut Vec<u8>) {
    // No number of 64 bits has more than 20 digits.
    let mut digits = [b'0'; 20];
    let (mut left, mut used) = (number, 0);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
        (left, used) = (left / 10, used + 1);
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}
