//! Bounds on what is given to the engine's parser.
//!
//! Parser, validator and conversions go down the tree of a condition by recursion, so a deep one ends the process.
//! Whoever may test or apply a bundle must not be able to do that; depth is therefore bounded in the text, before
//! anything is parsed.

use std::iter::Peekable;
use std::str::CharIndices;

/// How deep brackets can nest within one rule or declaration.
const NESTING_MAX: usize = 16;

/// How many operators that can be chained one rule can hold, such as `&&` and `if`: each makes its tree a level deeper.
/// Comparisons cannot be chained, so they do not count. The engine's largest frames are those of a debug build, where
/// about fifty levels fill the two megabytes of a thread's stack.
const OPERATORS_MAX: usize = 32;

/// How many attributes can follow one another, as in `principal.owner.status`.
const PATH_MAX: usize = 16;

/// What a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextOf {
    /// Rules, where `<` compares.
    Rules,
    /// Declarations, where `<` is a bracket: `Set<Set<Long>>`.
    Schema,
}

/// Where a text is too complex, in bytes, and why.
pub(crate) fn check(text: &str, text_is: TextOf) -> Result<(), (usize, String)> {
    let mut chars = text.char_indices().peekable();
    let (mut nesting, mut operators, mut path) = (0_usize, 0_usize, 0_usize);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if !skip_string(&mut chars) => return Err((at, "a text does not end".to_owned())),
            '/' if chars.next_if(|(_, c)| *c == '/').is_some() => {
                while chars.next_if(|(_, c)| !matches!(c, '\n' | '\r')).is_some() {}
            }
            '(' | '{' => nesting += 1,
            '[' => (nesting, path) = (nesting + 1, path + 1),
            ')' | ']' | '}' => nesting = nesting.saturating_sub(1),
            '.' => path += 1,
            '&' | '|' => {
                chars.next_if(|(_, next)| *next == c);
                (operators, path) = (operators + 1, 0);
            }
            '!' if chars.next_if(|(_, next)| *next == '=').is_some() => path = 0,
            '+' | '-' | '*' | '!' => (operators, path) = (operators + 1, 0),
            '<' if text_is == TextOf::Schema => nesting += 1,
            '>' if text_is == TextOf::Schema => nesting = nesting.saturating_sub(1),
            '<' | '>' | '=' | ',' => path = 0,
            c if c.is_alphanumeric() || c == '_' => {
                let word = word(c, &mut chars);
                operators += usize::from(word == "if");
                if matches!(word.as_str(), "if" | "then" | "else" | "has" | "like" | "in" | "is") {
                    path = 0;
                }
            }
            ';' if nesting == 0 => (operators, path) = (0, 0),
            _ => {}
        }
        for (count, max, what) in [
            (nesting, NESTING_MAX, "levels of brackets"),
            (operators, OPERATORS_MAX, "operators"),
            (path, PATH_MAX, "attributes that follow one another"),
        ] {
            if count > max {
                return Err((at, format!("there are more than {max} {what}")));
            }
        }
    }
    Ok(())
}

type Chars<'a> = Peekable<CharIndices<'a>>;

/// Goes behind the closing quote; false if there is none.
fn skip_string(chars: &mut Chars<'_>) -> bool {
    while let Some((_, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '"' => return true,
            _ => {}
        }
    }
    false
}

/// The beginning of a word, of which the rest is skipped.
fn word(first: char, chars: &mut Chars<'_>) -> String {
    let mut word = String::from(first);
    while let Some((_, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
        if word.len() < 8 {
            word.push(c);
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_operators_in_texts_and_comments_do_not_count() {
        let many = "(&&[!".repeat(1_000);
        let check = |text: &str| check(text, TextOf::Rules);
        assert!(check(&format!("@description(\"{many}\\\"{many}\") // {many}\nforbid (a);")).is_ok());
        assert!(check(&"forbid (a) when { b.c && d };\n".repeat(1_000)).is_ok(), "each rule counts alone");
    }

    #[test]
    fn comment_ends_with_its_line_and_text_with_its_quote() {
        let check = |text: &str| check(text, TextOf::Rules);
        let deep = "(".repeat(NESTING_MAX + 1);
        for text in [
            format!("// x\n{deep}"),
            format!("// x\r{deep}"),
            format!("\"//\"{deep}"),
            format!("\"\\\\\"{deep}"),
        ] {
            assert!(check(&text).is_err(), "{text}");
        }
        assert!(check("\"never").is_err());
        assert!(check("\"never\\\"").is_err());
    }
}
