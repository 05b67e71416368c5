//! What parses to what, by the canonical form.

use bartizan_query::samples;
use bartizan_query::{EXAMPLES, Query, reference_page};
use proptest::prelude::*;

#[track_caller]
fn canonical(text: &str) -> String {
    text.parse::<Query>().unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
}

#[test]
fn conditions_stand_side_by_side_and_bind_stronger_than_or() {
    assert_eq!(canonical(" kind:refusal\n verdict:deny "), "kind:refusal verdict:deny");
    assert_eq!(canonical("a b or c AND d"), "(\"a\" \"b\") or (\"c\" \"d\")");
    assert_eq!(canonical("((a) (b c)) ((d))"), "\"a\" \"b\" \"c\" \"d\"");
    assert_eq!(canonical("(a or (b or c)) d"), "(\"a\" or \"b\" or \"c\") \"d\"");
    assert_eq!(canonical(" "), "");
}

#[test]
fn negation_is_written_in_two_ways_and_cancels_itself() {
    assert_eq!(canonical("not -not a"), "-\"a\"");
    assert_eq!(canonical("- - a"), "\"a\"");
    assert_eq!(canonical("-(a or b) NOT kind:intent"), "-(\"a\" or \"b\") -kind:intent");
    assert_eq!(canonical("nothing android orchid"), "\"nothing\" \"android\" \"orchid\"");
}

#[test]
fn operators_have_one_canonical_form_each() {
    assert_eq!(canonical("KIND = refusal"), "kind:refusal");
    assert_eq!(canonical("status != (404 ,500)"), "status!=(404, 500)");
    assert_eq!(canonical("bytes>100000 bytes<=64kib"), "bytes>=100001 bytes<=65536");
    assert_eq!(canonical("bytes:1k..2k bytes:5.. bytes:..7"), "bytes:1000..2000 bytes>=5 bytes<=7");
    assert_eq!(canonical("took>=90s took:(1m..2m, 1500us)"), "took>=90s took:(1m..2m, 1500us)");
    assert_eq!(canonical("action:model:* rule:\"a*\" key:*"), "action:model:* rule:\"a*\" key:*");
    assert_eq!(canonical(r#"dialect:"a \"b\" \\""#), r#"dialect:"a \"b\" \\""#);
}

#[test]
fn moments_stay_relative_and_dates_are_whole_days_in_utc() {
    assert_eq!(canonical("since:24h until:now"), "since:1d until:0s");
    assert_eq!(canonical("time>=2026-11-20"), "since:2026-11-20T00:00:00.000Z");
    assert_eq!(canonical("time>2026-11-20"), "time>2026-11-20T23:59:59.999999Z");
    assert_eq!(canonical("time:2026-11-20"), "time:2026-11-20T00:00:00.000Z..2026-11-20T23:59:59.999999Z");
    assert_eq!(canonical("since:2026-11-20T09:00:00.000001+01:00"), "since:2026-11-20T08:00:00.000001Z");
}

#[test]
fn every_example_of_the_reference_page_parses() {
    let page = reference_page();
    for (question, query) in EXAMPLES {
        assert!(query.parse::<Query>().is_ok(), "{question}: {query}");
        assert!(page.contains(query));
    }
}

#[test]
fn the_reference_page_is_current() {
    let present = include_str!("../../../../docs/reference/query.md");
    assert!(present.ends_with(&reference_page()), "run `cargo xtask generate`");
}

proptest! {
    #[test]
    fn the_canonical_form_parses_to_the_same_query(text in samples::query()) {
        let Ok(query) = text.parse::<Query>() else { return Ok(()) };
        let printed = query.to_string();
        let again = printed.parse::<Query>();
        prop_assert_eq!(again.as_ref(), Ok(&query), "{} -> {}", text, printed);
        prop_assert_eq!(again.unwrap().to_string(), printed);
    }

    #[test]
    fn whatever_is_typed_parses_or_is_refused_with_a_place_inside_the_text(
        text in r#"([a-z:=<>!()*,."\\ 0-9é¶-]|kind|time|or |not |\.\.|PRN_|📎){0,30}"#,
    ) {
        match text.parse::<Query>() {
            Ok(query) => prop_assert_eq!(query.to_string().parse::<Query>(), Ok(query)),
            Err(error) => prop_assert!(text.is_char_boundary(error.at), "{} in {:?}", error, text),
        }
    }
}

#[test]
fn most_samples_are_queries() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut good = 0;
    for _ in 0..500 {
        let text = samples::query().new_tree(&mut runner).unwrap().current();
        good += usize::from(text.parse::<Query>().is_ok());
    }
    assert!(good > 300, "{good} of 500");
}
