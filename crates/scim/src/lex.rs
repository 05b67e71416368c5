//! Words of filters and paths (RFC 7644, figure 1).

use std::iter::Peekable;
use std::str::Chars;

/// The longest filter or path, in bytes.
pub(crate) const TEXT_MAX: usize = 4 * 1024;

/// A word of a filter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// `(`
    Open,
    /// `)`
    Close,
    /// `[`
    From,
    /// `]`
    To,
    /// A path, an operator, a literal without quotes; also what follows a `]`, with its dot.
    Word(String),
    /// A JSON string.
    Text(String),
}

/// The words of `text`; `Err` says what is wrong, without repeating what was sent.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    if text.len() > TEXT_MAX {
        return Err("longer than 4,096 bytes");
    }
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.peek().copied() {
        match c {
            ' ' => drop(chars.next()),
            '(' => single(&mut chars, &mut out, Token::Open),
            ')' => single(&mut chars, &mut out, Token::Close),
            '[' => single(&mut chars, &mut out, Token::From),
            ']' => single(&mut chars, &mut out, Token::To),
            '"' => out.push(Token::Text(quoted(&mut chars)?)),
            _ => out.push(Token::Word(word(&mut chars)?)),
        }
    }
    Ok(out)
}

fn single(chars: &mut Peekable<Chars<'_>>, out: &mut Vec<Token>, token: Token) {
    chars.next();
    out.push(token);
}

fn word(chars: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
    let mut out = String::new();
    while let Some(c) = chars.peek().copied() {
        match c {
            ' ' | '(' | ')' | '[' | ']' | '"' => break,
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '-' | '$' | '+') => out.push(c),
            _ => return Err("a character that stands in no name, operator or number"),
        }
        chars.next();
    }
    Ok(out)
}

/// A JSON string (RFC 8259, 7), read by the JSON parser: escapes are its business.
fn quoted(chars: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
    let mut raw = String::new();
    raw.extend(chars.next());
    let mut escaped = false;
    for c in chars.by_ref() {
        raw.push(c);
        match c {
            '\\' => escaped = !escaped,
            '"' if !escaped => {
                let text =
                    serde_json::from_str::<String>(&raw).map_err(|_| "a text that is no JSON string")?;
                let control = text.chars().any(char::is_control);
                return if control { Err("a control character in a text") } else { Ok(text) };
            }
            _ => escaped = false,
        }
    }
    Err("a text without its end")
}
