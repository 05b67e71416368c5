//! Masking a text that may be JSON, in pieces: tool arguments, results, structured answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bartizan_model::{Detector, OnCanary};

use crate::canary::{Canaries, Scan};
use crate::masker::Masker;
use crate::stream::Plain;

/// Matches, and tokens that gave their value back.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    matches: u64,
    revealed: u64,
}

impl Counts {
    fn add(&mut self, plain: &Plain) {
        self.matches += plain.count();
        self.revealed += plain.revealed();
    }
}

/// The longest number or word of JSON (`true`, `false`, `null`) outside of strings.
const SCALAR_MAX: usize = 512;
/// Bytes of the last strings that say what the next value is.
const CONTEXT: usize = 64;

/// Masks pieces of one text. A text that begins with `{` or `[` is taken for JSON as long as it is: then every string is
/// masked as it reads without its escapes and escaped again, a number in which something is found gives way to a string, and
/// what comes out is JSON if what went in was. From where it is not JSON any more it is plain text.
///
/// Names of members are masked like all strings: what is personal there is no less personal. What stands before a value, as a
/// rule its name, says what it is: `"ssn": "078051120"`.
///
/// How much is held back is told at [`Masker`] and bounded by about 8 KiB.
#[derive(Debug)]
pub struct TextMasker {
    masker: Masker,
    state: State,
    /// The last strings, folded into what a value is judged by.
    context: String,
    /// Of what has ended.
    counts: Counts,
    /// The search for canaries, with those that are still looked for.
    scans: Vec<(Scan, Detector, OnCanary)>,
    /// Whose canary stopped the text.
    caught: Option<Detector>,
    /// What the string before was looked at with, for the next.
    spare: Option<Box<InString>>,
}

#[derive(Debug)]
enum State {
    /// Nothing but white space so far.
    Begin,
    Plain(Box<Plain>),
    Json(Json),
}

#[derive(Debug)]
struct Json {
    depth: usize,
    /// A value has ended, and only `,`, `:` or a bracket may follow.
    after_value: bool,
    /// A number or word in progress.
    scalar: String,
    string: Option<Box<InString>>,
}

#[derive(Debug)]
struct InString {
    plain: Plain,
    /// The beginning of the string, for the context of the next one.
    begins: String,
    escape: Escape,
    /// The first half of a surrogate pair.
    high: Option<u16>,
    /// Room for what is released of a piece.
    room: String,
}

#[derive(Debug)]
enum Escape {
    None,
    Begun,
    Unicode(String),
}

impl TextMasker {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(masker: Masker) -> Self {
        let scan = |(detector, canaries, then): (&Detector, &Arc<Canaries>, OnCanary)| {
            (Scan::new(canaries.clone()), detector.clone(), then)
        };
        let scans = masker.plan.canaries().map(scan).collect();
        let (context, counts) = (String::new(), Counts::default());
        Self { masker, state: State::Begin, context, counts, scans, caught: None, spare: None }
    }

    /// Whose canary stopped the text, if any did.
    pub(crate) const fn caught(&self) -> Option<&Detector> {
        self.caught.as_ref()
    }

    /// Looks for canaries in the next piece, each once.
    fn look_out(&mut self, piece: &str) {
        let (masker, caught) = (&self.masker, &mut self.caught);
        self.scans.retain_mut(|(scan, detector, then)| {
            if !scan.feed(piece) {
                return true;
            }
            masker.how.sighted(detector, *then);
            if *then == OnCanary::Block {
                masker.caught.store(true, Ordering::Relaxed);
                caught.get_or_insert_with(|| detector.clone());
            }
            false
        });
    }

    /// Takes the next piece and gives what can be released.
    pub fn feed(&mut self, piece: &str) -> String {
        if !self.scans.is_empty() {
            self.look_out(piece);
        }
        if self.caught.is_some() {
            return String::new();
        }
        let mut out = String::with_capacity(piece.len());
        let mut rest = piece;
        while !rest.is_empty() {
            rest = match &mut self.state {
                State::Begin => {
                    let text = rest.trim_start_matches([' ', '\t', '\r', '\n']);
                    out.push_str(rest.get(..rest.len() - text.len()).unwrap_or_default());
                    if text.starts_with(['{', '[']) {
                        self.state = State::Json(Json {
                            depth: 0,
                            after_value: false,
                            scalar: String::new(),
                            string: None,
                        });
                    } else if !text.is_empty() {
                        self.state = State::Plain(Box::new(Plain::new(self.masker.clone(), "")));
                    }
                    text
                }
                State::Plain(plain) => {
                    plain.feed(rest, &mut out);
                    ""
                }
                State::Json(_) => self.json(rest, &mut out),
            };
        }
        out
    }

    /// Ends the text and gives the rest.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        if self.caught.is_some() {
            return out;
        }
        match std::mem::replace(&mut self.state, State::Begin) {
            State::Begin => {}
            State::Plain(mut plain) => {
                plain.finish(&mut out);
                self.counts.add(&plain);
            }
            State::Json(mut json) => match json.string.take() {
                Some(mut string) => {
                    // It breaks off within a string: so does what comes out.
                    string.end(&mut out);
                    self.counts.add(&string.plain);
                }
                None => self.scalar(&mut json, &mut out),
            },
        }
        out
    }

    /// How many matches there were so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.so_far().matches + u64::from(self.caught.is_some())
    }

    /// Whether anything is not as it came, but for the escapes of JSON.
    #[must_use]
    pub fn changed(&self) -> bool {
        let counts = self.so_far();
        counts.matches + counts.revealed > 0
    }

    fn so_far(&self) -> Counts {
        let mut counts = self.counts;
        match &self.state {
            State::Plain(plain) => counts.add(plain),
            State::Json(Json { string: Some(string), .. }) => counts.add(&string.plain),
            State::Begin | State::Json(_) => {}
        }
        counts
    }

    /// Bytes that were fed and are not yet released.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.state {
            State::Begin => 0,
            State::Plain(plain) => plain.held(),
            State::Json(json) => {
                json.scalar.len() + json.string.as_ref().map_or(0, |string| string.plain.held())
            }
        }
    }

    /// Takes JSON up to where a string begins or ends, or where it is JSON no more; gives the rest.
    fn json<'a>(&mut self, text: &'a str, out: &mut String) -> &'a str {
        let State::Json(json) = &mut self.state else { return text };
        if let Some(string) = &mut json.string {
            let rest = string.feed(text, out);
            if let Some(rest) = rest {
                string.end(out);
                self.counts.add(&string.plain);
                out.push('"');
                self.context.push_str(&string.begins);
                self.spare = json.string.take();
                json.after_value = true;
                let cut = self.context.len().saturating_sub(CONTEXT);
                let cut = (cut..=self.context.len()).find(|at| self.context.is_char_boundary(*at));
                self.context.drain(..cut.unwrap_or(0));
                return rest;
            }
            return "";
        }
        for (at, c) in text.char_indices() {
            let rest = || text.get(at..).unwrap_or_default();
            let ends = matches!(c, '"' | '{' | '}' | '[' | ']' | ',' | ':' | ' ' | '\t' | '\r' | '\n');
            let State::Json(json) = &mut self.state else { return rest() };
            let blank = matches!(c, ' ' | '\t' | '\r' | '\n');
            if blank && !json.scalar.is_empty() && json.scalar.len() < SCALAR_MAX {
                // Not released before it is known that no further number follows, which JSON has not.
                json.scalar.push(c);
                continue;
            }
            if !ends {
                if json.after_value && json.scalar.is_empty()
                    || !may_go_on(&json.scalar, c)
                    || json.depth == 0
                {
                    return self.not_json(rest(), out);
                }
                json.scalar.push(c);
                continue;
            }
            if !json.scalar.is_empty() {
                let mut taken = std::mem::replace(json, Json::over());
                self.scalar(&mut taken, out);
                taken.after_value = true;
                self.state = State::Json(taken);
            }
            let State::Json(json) = &mut self.state else { return rest() };
            let ok = match c {
                '{' | '[' => {
                    json.depth += 1;
                    !json.after_value
                }
                '}' | ']' => {
                    json.depth = json.depth.saturating_sub(1);
                    json.after_value = true;
                    true
                }
                ',' | ':' => {
                    let ok = json.depth > 0 && json.after_value;
                    json.after_value = false;
                    self.context.push(if c == ':' { ':' } else { ' ' });
                    ok
                }
                '"' if !json.after_value && json.depth > 0 => {
                    out.push('"');
                    let string = match self.spare.take() {
                        Some(mut string) => {
                            string.begin(&self.context);
                            string
                        }
                        None => Box::new(InString::new(self.masker.clone(), &self.context)),
                    };
                    json.string = Some(string);
                    return text.get(at + 1..).unwrap_or_default();
                }
                '"' => false,
                _ => true,
            };
            if !ok {
                return self.not_json(rest(), out);
            }
            out.push(c);
        }
        ""
    }

    /// It was JSON up to here: what follows is plain, the number in progress included.
    fn not_json<'a>(&mut self, rest: &'a str, out: &mut String) -> &'a str {
        let State::Json(json) = std::mem::replace(&mut self.state, State::Begin) else { return rest };
        let mut plain = Plain::new(self.masker.clone(), &self.context);
        plain.feed(&json.scalar, out);
        self.state = State::Plain(Box::new(plain));
        rest
    }

    /// Ends a number or word.
    fn scalar(&mut self, json: &mut Json, out: &mut String) {
        let taken = std::mem::take(&mut json.scalar);
        let scalar = taken.trim_end();
        if !self.masker.plan.may_hold(scalar) {
            out.push_str(&taken);
            return;
        }
        let mut masked = String::new();
        let mut plain = Plain::new(self.masker.clone(), &self.context);
        plain.feed(scalar, &mut masked);
        plain.finish(&mut masked);
        self.counts.add(&plain);
        if masked == scalar {
            out.push_str(&taken);
        } else {
            out.push('"');
            push_escaped(out, &masked);
            out.push('"');
            out.push_str(taken.get(scalar.len()..).unwrap_or_default());
        }
    }
}

impl Json {
    const fn over() -> Self {
        Self { depth: 0, after_value: false, scalar: String::new(), string: None }
    }
}

/// Whether a number or word of JSON can go on so.
fn may_go_on(scalar: &str, c: char) -> bool {
    if scalar.len() >= SCALAR_MAX {
        return false;
    }
    match scalar.chars().next() {
        None => c.is_ascii_digit() || matches!(c, '-' | 't' | 'f' | 'n'),
        Some('0'..='9' | '-') => c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'),
        Some(_) => ["true", "false", "null"]
            .iter()
            .any(|word| word.strip_prefix(scalar).is_some_and(|rest| rest.starts_with(c))),
    }
}

impl InString {
    fn new(masker: Masker, context: &str) -> Self {
        let plain = Plain::new(masker, context);
        Self { plain, begins: String::new(), escape: Escape::None, high: None, room: String::new() }
    }

    /// Begins anew, behind another context.
    fn begin(&mut self, context: &str) {
        self.plain.begin(context);
        self.begins.clear();
        (self.escape, self.high) = (Escape::None, None);
    }

    /// Takes the string's text up to its end; gives what follows that.
    fn feed<'a>(&mut self, text: &'a str, out: &mut String) -> Option<&'a str> {
        let idle = matches!(self.escape, Escape::None) && self.high.is_none();
        let stop = memchr::memchr2(b'"', b'\\', text.as_bytes());
        match stop.map(|at| (at, text.as_bytes().get(at))) {
            // Most strings have no escapes: they are read where they stand.
            None if idle => {
                self.clear(text, out);
                return None;
            }
            Some((at, Some(b'"'))) if idle => {
                let clear = text.get(..at).unwrap_or_default();
                self.note(clear);
                self.plain.feed_last(clear);
                return text.get(at + 1..);
            }
            _ => {}
        }
        let mut clear = String::new();
        let mut after = None;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            // What needs no look at single characters is taken at once.
            if matches!(self.escape, Escape::None) && self.high.is_none() {
                let plain = memchr::memchr2(b'"', b'\\', rest.as_bytes()).unwrap_or(rest.len());
                if plain > 0 {
                    clear.push_str(rest.get(..plain).unwrap_or_default());
                    rest = rest.get(plain..).unwrap_or_default();
                    continue;
                }
            }
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            if !self.take(c, &mut clear) {
                after = Some(rest);
                break;
            }
        }
        self.clear(&clear, out);
        after
    }

    /// Keeps the beginning of the string for what follows it.
    fn note(&mut self, clear: &str) {
        let room = CONTEXT.saturating_sub(self.begins.len());
        self.begins.extend(clear.chars().take(room));
    }

    /// Takes text without escapes.
    fn clear(&mut self, clear: &str, out: &mut String) {
        self.note(clear);
        self.room.clear();
        self.plain.feed(clear, &mut self.room);
        push_escaped(out, &self.room);
    }

    /// Takes one character; false at the end of the string.
    fn take(&mut self, c: char, clear: &mut String) -> bool {
        match &mut self.escape {
            Escape::None => {
                if c == '\\' {
                    self.escape = Escape::Begun;
                    return true;
                }
                self.lone(clear);
                if c == '"' {
                    return false;
                }
                clear.push(c);
            }
            Escape::Begun => {
                self.escape = Escape::None;
                let single = match c {
                    'u' => {
                        self.escape = Escape::Unicode(String::new());
                        return true;
                    }
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                };
                self.lone(clear);
                clear.push(single);
            }
            Escape::Unicode(digits) => {
                digits.push(c);
                if digits.len() < 4 && c.is_ascii() {
                    return true;
                }
                let unit = u16::from_str_radix(digits, 16).unwrap_or(0xFFFD);
                self.escape = Escape::None;
                self.unit(unit, clear);
            }
        }
        true
    }

    /// Takes a UTF-16 code unit.
    fn unit(&mut self, unit: u16, clear: &mut String) {
        let units: Vec<u16> = self.high.take().into_iter().chain([unit]).collect();
        if let [only @ 0xD800..=0xDBFF] = units.as_slice() {
            self.high = Some(*only);
            return;
        }
        clear.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    }

    /// Half a pair that nothing follows.
    fn lone(&mut self, clear: &mut String) {
        if self.high.take().is_some() {
            clear.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn end(&mut self, out: &mut String) {
        self.room.clear();
        if self.high.take().is_some() {
            self.plain.feed("\u{fffd}", &mut self.room);
        }
        self.plain.finish(&mut self.room);
        push_escaped(out, &self.room);
    }
}

/// Appends a text as it stands in a JSON string.
fn push_escaped(out: &mut String, text: &str) {
    let escapes =
        |bytes: &[u8]| bytes.iter().fold(false, |any, b| any | (*b < 0x20) | (*b == b'"') | (*b == b'\\'));
    let (chunks, rest) = text.as_bytes().as_chunks::<32>();
    if !chunks.iter().any(|chunk| escapes(chunk)) && !escapes(rest) {
        out.push_str(text);
        return;
    }
    let quoted = serde_json::Value::from(text).to_string();
    out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
}
