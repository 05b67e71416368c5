//! What is found by a mark within it: `@` in an e-mail address, `:` in an IPv6 address, `tok_` in a token of ours.

use std::net::Ipv6Addr;

use bartizan_model::Detector;

use crate::find::{Kind, Raw, View, is_word};

/// The longest local part (RFC 5321, 4.5.3.1.1).
const LOCAL_MAX: usize = 64;
/// The longest domain that is looked at (RFC 5321, 4.5.3.1.2).
const DOMAIN_MAX: usize = 255;
/// The longest IPv6 address in text, with room for an IPv4 one at its end.
const IPV6_MAX: usize = 46;
/// What a token of ours begins with.
pub(crate) const TOKEN: &[u8] = b"tok_";
/// The shortest and the longest token. The shortest hides an empty value.
pub(crate) const TOKEN_LEN: std::ops::RangeInclusive<usize> = 45..=16_384;

const fn is_local(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'%' | b'+' | b'-')
}

const fn is_domain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')
}

pub(crate) fn emails(view: View<'_>, at: usize, out: &mut Vec<Raw>) -> usize {
    let mut from = at;
    while let Some(mark) = memchr::memchr(b'@', view.rest(from)).map(|k| from + k) {
        let mut begin = view.back(mark, LOCAL_MAX, is_local);
        let stop = view.on(mark + 1, DOMAIN_MAX, is_domain);
        if view.is_open(stop) && stop - mark <= DOMAIN_MAX {
            return begin.max(at);
        }
        // Of an escape such as `\n` the letter is not part of the address.
        if view.before(begin) == Some(b'\\') {
            begin += 1;
        }
        if begin < mark
            && let Some(length) = domain(view.part(mark + 1, stop))
        {
            out.push(Raw { from: begin, to: mark + 1 + length, what: Kind::Match(Detector::Email) });
        }
        from = mark + 1;
    }
    if view.ends { view.len() } else { view.back(view.len(), LOCAL_MAX, is_local).max(from) }
}

/// How much of a run of domain characters is a domain with at least two labels, the last one without digits (or
/// `xn--…`).
fn domain(run: &[u8]) -> Option<usize> {
    if !run.first()?.is_ascii_alphanumeric() {
        return None;
    }
    let dots = run.iter().enumerate().rev().filter(|(_, b)| **b == b'.').map(|(at, _)| at);
    for dot in dots {
        let label = run.get(dot + 1..).unwrap_or_default();
        let letters = label.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let before = dot.checked_sub(1).and_then(|at| run.get(at));
        if letters < 2 || !before.is_some_and(u8::is_ascii_alphanumeric) {
            continue;
        }
        let international = label.get(..4).is_some_and(|l| l.eq_ignore_ascii_case(b"xn--"));
        let more = |b: &&u8| b.is_ascii_alphanumeric() || (international && **b == b'-');
        // What touches it belongs to it: half a word is not left over.
        return Some(dot + 1 + label.iter().take_while(more).count());
    }
    None
}

pub(crate) fn ipv6(view: View<'_>, at: usize, out: &mut Vec<Raw>) -> usize {
    let is = |b: u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
    let mut from = at;
    while let Some(mark) = memchr::memchr(b':', view.rest(from)).map(|k| from + k) {
        let begin = view.back(mark, IPV6_MAX, is);
        let stop = view.on(mark + 1, IPV6_MAX, is);
        if view.is_open(stop) && stop - mark <= IPV6_MAX {
            return begin.max(at);
        }
        let run = view.part(begin, stop);
        let dots = run.iter().rev().take_while(|b| **b == b'.').count();
        let run = run.get(..run.len() - dots).unwrap_or_default();
        let touched = |b: Option<u8>| b.is_some_and(is_word);
        let to = begin + run.len();
        let digits = run.iter().filter(|b| b.is_ascii_digit()).count();
        let parsed = std::str::from_utf8(run).ok().and_then(|t| t.parse::<Ipv6Addr>().ok());
        if parsed.is_some() && digits > 0 && !touched(view.before(begin)) && !touched(view.at(to)) {
            out.push(Raw { from: begin, to, what: Kind::Match(Detector::Ip) });
        }
        from = stop.max(mark + 1);
    }
    if view.ends { view.len() } else { view.back(view.len(), IPV6_MAX, is).max(from.min(view.len())) }
}

pub(crate) fn tokens(view: View<'_>, at: usize, out: &mut Vec<Raw>) -> usize {
    let is = |b: u8| matches!(b, b'a'..=b'z' | b'2'..=b'7');
    let mut from = at;
    while let Some(mark) = memchr::memmem::find(view.rest(from), TOKEN).map(|k| from + k) {
        let stop = view.on(mark + TOKEN.len(), *TOKEN_LEN.end(), is);
        if view.is_open(stop) {
            return mark;
        }
        if TOKEN_LEN.contains(&(stop - mark - TOKEN.len())) {
            out.push(Raw { from: mark, to: stop, what: Kind::Token });
        }
        from = stop;
    }
    if view.ends {
        return view.len();
    }
    let begun = (1..TOKEN.len()).rev().find(|n| view.bytes.ends_with(TOKEN.get(..*n).unwrap_or_default()));
    (view.len() - begun.unwrap_or(0)).max(from)
}
