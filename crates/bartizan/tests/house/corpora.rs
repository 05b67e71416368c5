//! Every parser of what strangers send, on a corpus of interesting inputs and on thousands of mutations of them: no panic, and
//! each parser's law. The mutations are the same on every machine; `BARTIZAN_FUZZ_ROUNDS` makes more of them.

use bartizan_base::Timestamp;
use bartizan_base::json::Limits;
use bartizan_decide::{Bundle, CompiledBundle};
use bartizan_jose::{AccessClaims, Jwks, Jws};
use bartizan_ledger::{Receipt, Tile, VerifierKey, WitnessedReceipt, bundle_entries, encode_bundle};
use bartizan_model::directory::Dialect;
use bartizan_query::{Facts, Problem, Query, TEXT_MAX};
use bartizan_wire::{Address, FrameSplitter, Framing, answer_texts, frame_usage, parse_request, usage_of};
use bytes::Bytes;

use super::*;

/// A small generator whose sequence is fixed for ever (SplitMix64).
struct Mutator(u64);

impl Mutator {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap() % below.max(1)
    }

    fn mutate(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        const PIECES: &[&[u8]] = &[
            b"\"",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"\\",
            b"\\u0000",
            b"\\ud800",
            b"\xff",
            b"\0",
            b"\n\n",
            b"\r",
            b"data:",
            b".",
            b"-",
            b"1e9999",
            b"null",
            b"99999999999999999999",
            b"\"model\":\"x\",",
            b"(",
            b")",
            b"//",
            b"@id(\"a\")",
            b"=",
            b"\xe2\x80\x94",
            b" or ",
            b" -",
            b"..",
            b"*",
            b">=",
            b" since:1d",
        ];
        let mut out = seed.to_vec();
        for _ in 0..=self.next(4) {
            let at = self.next(out.len() + 1);
            match self.next(6) {
                0 if !out.is_empty() => {
                    let at = at.min(out.len() - 1);
                    *out.get_mut(at).unwrap() = u8::try_from(self.next(256)).unwrap();
                }
                1 => drop(out.drain(at..(at + self.next(8)).min(out.len()))),
                2 => drop(out.splice(at..at, PIECES.get(self.next(PIECES.len())).unwrap().iter().copied())),
                3 => out.truncate(at),
                4 => {
                    let from = self.next(other.len() + 1);
                    out.splice(at..at, other.get(from..).unwrap().iter().copied().take(40));
                }
                _ => {
                    let copy = out.get(at..(at + self.next(30)).min(out.len())).unwrap().to_vec();
                    out.splice(at..at, copy);
                }
            }
        }
        out
    }
}

#[expect(clippy::disallowed_methods, reason = "how long to go on is for the one who runs it")]
fn each(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus")).join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty(), "{target} has no corpus");
    seeds.iter().for_each(|seed| check(seed));
    let rounds = std::env::var("BARTIZAN_FUZZ_ROUNDS").ok().map_or(2_000, |rounds| rounds.parse().unwrap());
    let mut mutator = Mutator(0);
    for _ in 0..rounds {
        let (one, other) = (mutator.next(seeds.len()), mutator.next(seeds.len()));
        check(&mutator.mutate(seeds.get(one).unwrap(), seeds.get(other).unwrap()));
    }
}

const LIMITS: Limits = Limits { bytes_max: 1 << 16, depth_max: 16, nodes_max: 1_000 };

#[test]
fn a_request_that_is_read_is_what_every_other_reader_reads_and_leaves_as_it_came() {
    each("request", |bytes| {
        for dialect in Dialect::ALL {
            let Ok(request) = parse_request(*dialect, Bytes::copy_from_slice(bytes), LIMITS) else {
                continue;
            };
            let value: Value = serde_json::from_slice(bytes).unwrap();
            assert_eq!(value.get("model").and_then(Value::as_str), Some(request.model().as_str()));
            assert_eq!(request.edits().apply(), bytes, "without an edit no byte changes");
            // An edit leaves JSON that says the same but for what was edited.
            let mut edits = request.edits();
            edits.set_model(&"other".parse().unwrap());
            let mut edited: Value = serde_json::from_slice(&edits.apply()).unwrap();
            *edited.get_mut("model").unwrap() = value.get("model").unwrap().clone();
            assert_eq!(edited, value);
            drop(request.texts());
        }
        for (path, cap) in [
            ("/model/m/converse", Some("/inferenceConfig/maxTokens")),
            ("/v1beta/models/m:generateContent", Some("/generationConfig/maxOutputTokens")),
            ("/v1beta/models/m:batchEmbedContents", None),
        ] {
            let address = Address::read(path, None).unwrap();
            let Ok(request) = parse_request(address, Bytes::copy_from_slice(bytes), LIMITS) else { continue };
            assert_eq!(request.edits().apply(), bytes, "without an edit no byte changes");
            let mut edits = request.edits();
            edits.set_model(&"other".parse().unwrap());
            edits.cap_output(7);
            edits.strip_tools();
            let edited: Value = serde_json::from_slice(&edits.apply()).unwrap();
            let held = cap.is_none_or(|cap| edited.pointer(cap).and_then(Value::as_u64).unwrap() <= 7);
            assert!(held, "{edited}");
            let name = if path.starts_with("/model/") { "other" } else { "models/other" };
            assert!(edited.get("model").is_none_or(|model| model == name), "{edited}");
        }
    });
}

#[test]
fn a_stream_is_split_alike_however_it_comes_in_pieces() {
    let frames = |pieces: &[&[u8]], framing| {
        let mut splitter = FrameSplitter::new(framing);
        let mut out = Vec::new();
        for piece in pieces {
            splitter.feed(piece);
            while let Ok(Some(frame)) = splitter.whole_frame() {
                out.push(frame);
            }
        }
        (out, splitter.rest())
    };
    each("stream", |bytes| {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        for framing in [Framing::Events, Framing::Messages] {
            let whole = frames(&[bytes], framing);
            assert_eq!(frames(&single, framing), whole);
            for frame in whole.0 {
                for dialect in [Dialect::BedrockConverse, Dialect::BedrockInvoke] {
                    let usage = frame_usage(dialect, framing, &frame);
                    assert!(usage.input.is_none() || !frame.is_empty());
                }
            }
        }
        for dialect in Dialect::ALL {
            let usage = usage_of(*dialect, bytes);
            assert!(usage.input.is_none() || !bytes.is_empty());
        }
        answer_texts(bytes).map(drop).unwrap_or_default();
    });
}

#[test]
fn tokens_keys_and_claims_are_read_or_refused() {
    let keys: Vec<u8> =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/keys/ed25519.json")).unwrap();
    let known = Jwks::parse(&keys).unwrap();
    each("token", |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let Ok(jws) = Jws::parse(text) else { return };
        assert!(jws.verify(&known).is_err(), "nobody signed {text}");
        drop(AccessClaims::parse(jws.unverified_payload()));
    });
    each("keys", |bytes| drop(Jwks::parse(bytes)));
}

#[test]
fn notes_receipts_and_paths_are_read_or_refused_and_have_one_spelling() {
    let nobody =
        "log.example/a+aaaaaaaa+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==".parse::<VerifierKey>();
    each("note", |bytes| {
        if let Ok(key) = &nobody {
            assert!(bartizan_ledger::Checkpoint::open(bytes, key).is_err());
        }
        if let Ok(text) = str::from_utf8(bytes) {
            drop(text.parse::<VerifierKey>());
        }
        if let Some(entries) = bundle_entries(bytes) {
            assert_eq!(encode_bundle(entries.iter().copied()).as_deref(), Some(bytes));
        }
    });
    each("receipt", |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        if let Ok(receipt) = Receipt::parse(text) {
            assert_eq!(Receipt::parse(&receipt.text()).map(|again| again.text()), Ok(receipt.text()));
        }
    });
    each("witnessed", |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        if let Ok(receipt) = WitnessedReceipt::parse(text) {
            assert_eq!(receipt.text(), text);
        }
    });
    each("path", |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        if let Ok(tile) = text.parse::<Tile>() {
            assert_eq!(tile.path(), text);
        }
    });
}

#[test]
fn bundles_are_compiled_or_refused_with_a_place() {
    each("bundle", |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let bundle = Bundle { files: [("a.cedar".to_owned(), text.to_owned())].into() };
        if let Err(errors) = CompiledBundle::compile(&bundle) {
            assert!(!errors.0.is_empty() && errors.0.iter().all(|e| !e.message.is_empty()));
        }
    });
}

/// What a query says about every kind of record that there is.
fn meaning(query: &Query, facts: &[Facts]) -> Vec<bool> {
    facts.iter().map(|facts| query.matches(facts, Timestamp::from_secs(1_795_161_600))).collect()
}

#[test]
fn a_query_is_refused_at_a_place_or_means_what_its_one_spelling_and_never_what_its_negation_means() {
    let placed = bartizan_export::catalogue::placed();
    // Entries of later versions are no records yet.
    let facts: Vec<Facts> =
        placed.iter().filter_map(|p| Facts::read(p.text().as_bytes(), None).ok()).map(|(_, f)| f).collect();
    assert!(facts.len() >= bartizan_export::Kind::ALL.len());
    let longer = |problem: &Problem| {
        matches!(problem, Problem::TooLong(_) | Problem::TooDeep(_) | Problem::TooMany(_))
    };
    each("query", |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let query: Query = match text.parse() {
            Ok(query) => query,
            Err(error) => {
                let bartizan_query::QueryError { at, .. } = error;
                assert!(text.is_char_boundary(at) || text.len() > TEXT_MAX, "{text}: {error}");
                assert!(!error.to_string().chars().any(char::is_control), "{text}: {error}");
                return;
            }
        };
        let canonical = query.to_string();
        // The one spelling may be longer than what was typed.
        match canonical.parse::<Query>() {
            Ok(again) => {
                assert_eq!(again.to_string(), canonical, "{text}");
                assert_eq!(meaning(&again, &facts), meaning(&query, &facts), "{text}");
            }
            Err(error) => assert!(longer(&error.problem), "{text} became {canonical}: {error}"),
        }
        match format!("-({text})").parse::<Query>() {
            Ok(negation) => {
                let both: Vec<_> = meaning(&negation, &facts).into_iter().map(|said| !said).collect();
                assert_eq!(both, meaning(&query, &facts), "{text}");
            }
            Err(error) => {
                assert!(longer(&error.problem) || canonical.is_empty(), "-({text}): {error}");
            }
        }
    });
}
