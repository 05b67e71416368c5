//! What is refused, where, and with which help.

use bartizan_query::{DEPTH_MAX, Problem, Query, QueryError, TERMS_MAX, TEXT_MAX};

#[track_caller]
fn refused(text: &str) -> QueryError {
    match text.parse::<Query>() {
        Ok(query) => panic!("{text} parsed as {query}"),
        Err(error) => error,
    }
}

/// The text with a `^` where the error begins, and what it must say.
#[track_caller]
fn assert_refused(marked: &str, message: &str) {
    let at = marked.find('^').unwrap();
    let error = refused(&marked.replacen('^', "", 1));
    let said = error.to_string();
    assert!(said.contains(message), "{marked}: {said}");
    assert_eq!(error.at, at, "{marked}: {said}");
}

#[test]
fn unknown_fields_are_refused_and_the_meant_one_is_named() {
    assert_refused("kind:intent ^subjct:x", "no field `subjct`; did you mean `subject`?");
    assert_refused("^snce:24h", "did you mean `since`?");
    assert_refused("^http://x", "put it in quotes");
    assert!(!refused("zzz:1").to_string().contains("did you mean"));
    assert_refused("a ^b>5", "no field `b`");
}

#[test]
fn values_that_a_field_cannot_have_are_refused() {
    assert_refused("verdict:^denied", "did you mean `deny`?");
    assert_refused("action:(key:list, ^model:invok)", "did you mean `model:invoke`?");
    assert_refused("action:^spell:*", "is not a value of `action`");
    assert_refused("subject:^key_*", "a whole id, or its beginning and `*`");
    assert_refused("subject:^prn_0199", "a whole id, or its beginning and `*`");
    assert_refused("policy:^ABCD*", "lower-case hexadecimal");
    assert_refused("status:^ok", "a whole number");
    assert_refused("took>^5", "a duration such as");
    assert_refused("since:^yesterday", "a moment such as");
    assert_refused("time:^24h", "for the time since then, `since:`");
    assert_refused("bytes:^..", "a number of bytes");
    assert!("reason:custom:red-zone".parse::<Query>().is_ok());
    assert!("reason:custom:*".parse::<Query>().is_ok());
}

#[test]
fn operators_that_do_not_fit_are_refused() {
    assert_refused("^kind>intent", "have no order");
    assert_refused("bytes>^(1, 2)", "one value");
    assert_refused("bytes>^1..2", "one value");
    assert_refused("bytes>=^1*", "one value");
    assert_refused("since!=^24h", "`:` after `since` and `until`");
    assert_refused("bytes:^5..4", "no value of `bytes`");
    assert_refused("bytes<^0", "no value of `bytes`");
    assert_refused("bytes>^9007199254740991", "no value of `bytes`");
    assert_refused("time:^1h..2h", "no value of `time`");
}

#[test]
fn loose_ends_are_refused_where_they_are() {
    assert_refused("kind:^", "expected a value, found the end");
    assert_refused("kind: ^or a", "is not a value of `kind`");
    assert_refused("(kind:^)", "expected a value");
    assert_refused("(a or b^", "expected `)`");
    assert_refused("a ^)", "or the end");
    assert_refused("^)", "expected a field");
    assert_refused("(^)", "expected a field");
    assert_refused("a or^", "expected a field");
    assert_refused("a ^, b", "expected a field");
    assert_refused("^or a", "expected a field");
    assert_refused("-^", "expected a field");
    assert_refused("kind=^=x", "expected a value");
    assert_refused("status:(1 ^2)", "`,` or `)`");
    assert_refused("rule:a^\"b\"", "expected a space");
    assert_refused("\"a\"^b", "expected a space");
    assert_refused("kind:intent^!", "expected a space");
}

#[test]
fn text_that_cannot_be_looked_for_is_refused() {
    assert_refused("a ^\"--\"", "no letter or digit");
    assert_refused("^a*", "at least 2");
    assert_refused("ab*^cd", "a space");
    assert_refused("rule:^a*b", "at the end only");
    assert_refused("^\"open", "not closed");
    assert_refused("\"a^\\n\"", "stands before");
    assert_refused("bytes:^\"5\"*", "at the end only");
}

#[test]
fn limits_on_length_depth_and_terms_hold() {
    let at_limit = format!("a{}", " ".repeat(TEXT_MAX - 1));
    assert!(at_limit.parse::<Query>().is_ok());
    assert_eq!(refused(&(at_limit + " ")).problem, Problem::TooLong(TEXT_MAX));

    let nested = |depth| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(nested(DEPTH_MAX).parse::<Query>().is_ok());
    assert_eq!(refused(&nested(DEPTH_MAX + 1)).problem, Problem::TooDeep(DEPTH_MAX));
    assert_eq!(refused(&"(".repeat(TEXT_MAX)).problem, Problem::TooDeep(DEPTH_MAX));
    assert!(format!("{}a", "-".repeat(TEXT_MAX - 1)).parse::<Query>().is_ok());

    let list = |count| format!("status:({})", vec!["1"; count].join(","));
    assert!(list(TERMS_MAX).parse::<Query>().is_ok());
    assert_eq!(refused(&list(TERMS_MAX + 1)).problem, Problem::TooMany(TERMS_MAX));
    assert_eq!(refused(&"a ".repeat(TERMS_MAX + 1)).problem, Problem::TooMany(TERMS_MAX));
}

#[test]
fn errors_repeat_a_part_of_the_text_only() {
    let said = refused(&format!("{}:x", "f".repeat(4_000))).to_string();
    assert!(said.len() < 300, "{}", said.len());
    let said = refused(&format!("kind:\"{}\"", "x".repeat(4_000))).to_string();
    assert!(said.len() < 300, "{}", said.len());
}

#[test]
fn an_error_repeats_no_control_character() {
    for text in ["by\u{1b}[2Jtes:1", "verdict:\u{7}deny", "status:4\u{85}4", "a \u{0}:b"] {
        if let Err(error) = text.parse::<Query>() {
            assert!(!error.to_string().chars().any(char::is_control), "{text:?}: {error}");
        }
    }
    let said = refused("by\u{1b}[2Jtes:1").to_string();
    assert!(said.contains(r"by\u{1b}[2j"), "{said}");
}
