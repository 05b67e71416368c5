use bartizan_base::Digest;
use bartizan_ledger::{Checkpoint, Cosignature, Policy, PolicyError, PolicyFault, Refused, VerifierKey};
use proptest::prelude::*;

use crate::world::{cosigner, signer};

const ORIGIN: &str = "log.example";

/// `witness` lines for the names, each with a key of its own.
fn witnesses(names: &[&str]) -> String {
    names.iter().map(|name| format!("witness {name} {}\n", vkey(name))).collect()
}

fn seed(name: &str) -> u8 {
    Digest::of(name.as_bytes()).as_bytes()[0]
}

fn vkey(name: &str) -> String {
    cosigner(&format!("{name}.example"), seed(name)).verifier().to_string()
}

fn policy(text: &str) -> Policy {
    Policy::parse(text.as_bytes()).unwrap()
}

fn log(seed: u8) -> VerifierKey {
    signer(ORIGIN, seed).verifier().clone()
}

/// A checkpoint of the log of `seed`, cosigned by the named witnesses.
fn signed(seed_of_log: u8, by: &[&str]) -> String {
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 5, root: Digest::of(b"root") };
    let cosign = |name: &&str| {
        cosigner(&format!("{name}.example"), seed(name)).cosign(&checkpoint.text(), 77).unwrap()
    };
    checkpoint.sign(&signer(ORIGIN, seed_of_log)) + &by.iter().map(cosign).collect::<String>()
}

fn cosignatures(policy: &Policy, by: &[&str]) -> Vec<Cosignature> {
    let keys: Vec<_> = policy.witnesses().iter().map(|witness| witness.key.clone()).collect();
    Checkpoint::open_cosigned(signed(1, by).as_bytes(), &log(1), &keys).unwrap().cosignatures
}

fn judge(policy: &Policy, by: &[&str]) -> Result<(), String> {
    policy.satisfied(&cosignatures(policy, by)).map_err(|missing| missing.to_string())
}

/// The example of the specification.
fn example() -> Policy {
    policy(&format!(
        "log {}\n\n{}group X-witnesses 2 X1 X2 X3\n\n{}group Y-witnesses any Y1 Y2 Y3\n\n\
         group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n",
        log(1),
        witnesses(&["X1", "X2", "X3"]),
        witnesses(&["Y1", "Y2", "Y3"]),
    ))
}

#[test]
fn the_specifications_example_holds_for_exactly_the_sets_it_describes() {
    let policy = example();
    let names = ["X1", "X2", "X3", "Y1", "Y2", "Y3"];
    for set in 0..64_u32 {
        let by: Vec<&str> = (0..6).filter(|n| set >> n & 1 == 1).map(|n| names[n]).collect();
        let (x, y) = ((set & 0b111).count_ones(), (set >> 3).count_ones());
        assert_eq!(judge(&policy, &by).is_ok(), x >= 2 && y >= 1, "{by:?}");
    }
}

#[test]
fn what_is_missing_is_said_by_name_and_number() {
    assert_eq!(
        judge(&example(), &["X3", "Y1"]),
        Err("`X-and-Y` needs 2 of 2 and has 1 (`X-witnesses` needs 2 of 3 and has 1 \
             (`X1` has not cosigned, `X2` has not cosigned))"
            .to_owned())
    );
    let one = policy(&(witnesses(&["a"]) + "quorum a\n"));
    assert_eq!(judge(&one, &[]), Err("`a` has not cosigned".to_owned()));
    assert_eq!(judge(&one, &["a"]), Ok(()));
}

#[test]
fn a_quorum_of_none_demands_nothing() {
    assert_eq!(judge(&policy("quorum none\n"), &[]), Ok(()));
    assert_eq!(judge(&policy(&(witnesses(&["a"]) + "quorum none\n")), &[]), Ok(()));
}

#[test]
fn witnesses_are_known_by_their_keys_not_by_their_names() {
    let of_b = policy(&format!("witness a {}\nquorum a\n", vkey("b")));
    assert!(judge(&of_b, &["a"]).is_err());
    assert_eq!(judge(&of_b, &["b"]), Ok(()));
    // A cosignature that another policy knows is worth nothing here.
    let of_a = policy(&(witnesses(&["a"]) + "quorum a\n"));
    assert!(of_b.satisfied(&cosignatures(&of_a, &["a"])).is_err());
}

#[test]
fn a_checkpoint_opens_under_a_log_of_the_policy_and_its_quorum() {
    let policy = policy(&format!("log {}\nlog {}\n{}quorum a\n", log(1), log(2), witnesses(&["a"])));
    for seed in [1, 2] {
        let cosigned = policy.open(signed(seed, &["a"]).as_bytes()).unwrap();
        assert_eq!((cosigned.checkpoint.size, cosigned.cosignatures[0].time_s()), (5, 77));
    }
    assert!(matches!(policy.open(signed(3, &["a"]).as_bytes()), Err(Refused::Checkpoint(_))));
    assert!(matches!(policy.open(signed(1, &[]).as_bytes()), Err(Refused::Quorum(_))));
    assert!(matches!(policy.open(b"no note"), Err(Refused::Checkpoint(_))));
    // Right key, but not one the policy lists.
    let other = policy.open_signed_by(signed(3, &["a"]).as_bytes(), &log(3));
    assert_eq!(other, Err(Refused::UnknownLog));
    // Without logs the application knows them.
    let any = Policy::parse(b"quorum none\n").unwrap();
    assert!(any.open_signed_by(signed(3, &[]).as_bytes(), &log(3)).is_ok());
    assert_eq!(any.open(signed(3, &[]).as_bytes()), Err(Refused::UnknownLog));
}

#[test]
fn white_space_comments_and_urls_are_read() {
    let text = format!(
        "# first\n\t \n  log\t{} https://log.example/\t\n\t# caf\u{e9}\nwitness  h\u{e9}  {}  http://w\nquorum h\u{e9}\n",
        log(1),
        vkey("a")
    );
    let read = policy(&text);
    assert_eq!(read.logs()[0].url.as_deref(), Some("https://log.example/"));
    assert_eq!(
        (&*read.witnesses()[0].name, read.witnesses()[0].url.as_deref()),
        ("h\u{e9}", Some("http://w"))
    );
    // Comments are octets; a no-break space is no white space.
    assert!(Policy::parse(b"# \xff\nquorum none\n").is_ok());
    assert!(Policy::parse("quorum\u{a0}none\n".as_bytes()).is_err());
}

fn refused(text: &str) -> (usize, PolicyFault) {
    let PolicyError { line, fault } = Policy::parse(text.as_bytes()).unwrap_err();
    (line, fault)
}

#[test]
fn mistakes_are_told_with_their_lines() {
    let (w, two) = (witnesses(&["a"]), witnesses(&["a", "b"]));
    let (log1, twin) = (log(1), signer("other", 1).verifier().to_string());
    let twin_witness = cosigner("twin", seed("a")).verifier().to_string();
    use PolicyFault as F;
    for (text, line, fault) in [
        (String::new(), 1, F::NoQuorum),
        ("\n\n".to_owned(), 2, F::NoQuorum),
        (w.clone(), 1, F::NoQuorum),
        ("quorum none".to_owned(), 1, F::Unterminated),
        (format!("{w}quorum a"), 2, F::Unterminated),
        ("quorum none\nquorum none\n".to_owned(), 2, F::SecondQuorum),
        ("Quorum none\n".to_owned(), 1, F::Unknown),
        ("quorum none\nlogs\n".to_owned(), 2, F::Unknown),
        ("quorum\n".to_owned(), 1, F::Words("quorum <name>|none")),
        ("quorum a b\n".to_owned(), 1, F::Words("quorum <name>|none")),
        (format!("quorum a\n{w}"), 1, F::Undefined("a".to_owned())),
        ("log\n".to_owned(), 1, F::Words("log <vkey> [<url>]")),
        (format!("log {log1} u v\n"), 1, F::Words("log <vkey> [<url>]")),
        ("log x\n".to_owned(), 1, F::Key),
        (format!("log {}\n", vkey("a")), 1, F::Key),
        (format!("log {log1}\nlog {twin}\n"), 2, F::SameKey),
        ("witness a\n".to_owned(), 1, F::Words("witness <name> <vkey> [<url>]")),
        (format!("witness a {log1}\n"), 1, F::Key),
        (format!("{w}witness b {twin_witness}\n"), 2, F::SameKey),
        (format!("{w}witness a {}\n", vkey("b")), 2, F::Taken("a".to_owned())),
        (format!("witness none {}\n", vkey("b")), 1, F::Taken("none".to_owned())),
        ("group g any\n".to_owned(), 1, F::Words("group <name> all|any|<k> <name>...")),
        (format!("{w}group a any a\n"), 2, F::Taken("a".to_owned())),
        (format!("{w}group none any a\n"), 2, F::Taken("none".to_owned())),
        (format!("{w}group g any g\n"), 2, F::Undefined("g".to_owned())),
        (format!("{w}group g any none\n"), 2, F::Undefined("none".to_owned())),
        (format!("{w}group g any a a\n"), 2, F::Member("a".to_owned())),
        (format!("{w}group g any a\ngroup h any a\n"), 3, F::Member("a".to_owned())),
        (format!("{w}group g any a\ngroup h all g\ngroup i all g\n"), 4, F::Member("g".to_owned())),
        (format!("{two}group g 0 a b\n"), 3, F::Threshold),
        (format!("{two}group g 3 a b\n"), 3, F::Threshold),
        (format!("{two}group g 02 a b\n"), 3, F::Threshold),
        (format!("{two}group g +2 a b\n"), 3, F::Threshold),
        (format!("{two}group g most a b\n"), 3, F::Threshold),
        ("quorum none\r\n".to_owned(), 1, F::Octet),
        ("quorum none\n# \0\n".to_owned(), 2, F::Octet),
        ("quorum none\n# \x7f\n".to_owned(), 2, F::Octet),
        ("#".repeat(1 << 20) + "\n", 1, F::TooLong),
    ] {
        assert_eq!(refused(&text), (line, fault), "{text}");
    }
    assert_eq!(Policy::parse(b"quorum \xff\n").unwrap_err().fault, F::Octet);
    assert_eq!(
        Policy::parse(b"log x\n").unwrap_err().to_string(),
        "line 1: not a verifier key of the right type"
    );
}

#[test]
fn sixty_four_of_each_are_read_and_no_more() {
    let mut text = String::new();
    for n in 0..64_u8 {
        text += &format!("log {}\n", signer(&format!("log{n}"), n).verifier());
        text += &format!("witness w{n} {}\n", cosigner(&format!("w{n}"), n).verifier());
        text +=
            &format!("group g{n} all w{n}{}\n", if n > 0 { format!(" g{}", n - 1) } else { String::new() });
    }
    // A chain of 64 groups, each in the next.
    let chain = policy(&(text.clone() + "quorum g63\n"));
    assert!(judge(&chain, &[]).unwrap_err().starts_with("`g63` needs 2 of 2 and has 0"));
    for line in [
        format!("log {}\n", signer("log", 99).verifier()),
        format!("witness w {}\n", cosigner("w", 99).verifier()),
        "group g any g63\n".to_owned(),
    ] {
        assert_eq!(refused(&(text.clone() + &line)), (193, PolicyFault::TooMany));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_threshold_counts_distinct_witnesses_only(k in 1..=5_usize, set in 0..32_u32, again in 0..5_usize) {
        let names = ["a", "b", "c", "d", "e"];
        let policy = policy(&format!("{}group g {k} a b c d e\nquorum g\n", witnesses(&names)));
        let by: Vec<&str> = (0..5).filter(|n| set >> n & 1 == 1).map(|n| names[n]).collect();
        let mut held = cosignatures(&policy, &by);
        // The same cosignature handed in twice is still one witness.
        held.extend(held.get(again).cloned());
        prop_assert_eq!(policy.satisfied(&held).is_ok(), by.len() >= k);
    }

    #[test]
    fn hostile_policies_do_not_panic(text in "((log|witness|group|quorum|#) ?([a-z0-9+ \t]{0,9})\n){0,6}") {
        if let Err(PolicyError { line, .. }) = Policy::parse(text.as_bytes()) {
            prop_assert!((1..=text.lines().count().max(1) + 1).contains(&line));
        }
    }
}
