use bartizan_base::Digest;
use bartizan_ledger::{
    ADD_CHECKPOINT_MAX, AddCheckpoint, Checkpoint, CosignError, CosignerKey, Judgement, NoteError,
    ProofError, RequestError, SIZE_TYPE, VerifierKey, Witness, add_cosignatures, empty_root, monitor_path,
    prove_consistency, read_conflict, read_cosignatures,
};
use proptest::prelude::*;

use crate::world::{MemoryLog, cosigner, leaves, mth, signer};

const ORIGIN: &str = "log.example";

type State = Option<(u64, Digest)>;

fn witness() -> Witness {
    Witness::new(vec![cosigner("w.example", 21)])
}

fn known() -> Vec<VerifierKey> {
    [("other.example", 2), (ORIGIN, 1), (ORIGIN, 3)].map(|(name, seed)| key(name, seed)).into()
}

fn key(name: &str, seed: u8) -> VerifierKey {
    signer(name, seed).verifier().clone()
}

fn witness_key() -> CosignerKey {
    cosigner("w.example", 21).verifier().clone()
}

fn root(size: u64) -> Digest {
    mth(&leaves(size))
}

fn signed(size: u64, root: Digest) -> String {
    Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&signer(ORIGIN, 1))
}

/// An honest log's request.
fn request(old: u64, new: u64) -> AddCheckpoint {
    let proof = prove_consistency(&MemoryLog::of(new), old, new).unwrap();
    AddCheckpoint::new(old, proof, &signed(new, root(new))).unwrap()
}

fn judge(latest: State, request: &AddCheckpoint) -> Judgement {
    witness().judge(&known(), latest, request)
}

fn at(size: u64) -> State {
    Some((size, root(size)))
}

#[test]
fn a_proven_checkpoint_is_accepted_with_the_state_to_keep() {
    for (latest, old, new) in [
        (None, 0, 0),
        (None, 0, 1),
        (None, 0, 300),
        (at(0), 0, 5),
        (at(1), 1, 2),
        (at(255), 255, 300),
        (at(300), 300, 300),
    ] {
        let judgement = judge(latest, &request(old, new));
        assert_eq!(judgement.status(), 200, "{old} to {new}");
        let Judgement::Accept(accepted) = judgement else { panic!("200 is accept") };
        assert_eq!((accepted.latest(), accepted.state()), (latest, (new, root(new))));
        assert_eq!(accepted.origin(), ORIGIN);
        let answer = witness().cosign(&accepted, 99).unwrap();
        let cosigned =
            Checkpoint::open_cosigned(answer.checkpoint.as_bytes(), &key(ORIGIN, 1), &[witness_key()])
                .unwrap();
        assert_eq!((cosigned.checkpoint.size, cosigned.cosignatures[0].time_s()), (new, 99));
        assert!(answer.checkpoint.ends_with(&answer.lines));
        assert_eq!(witness().cosign(&accepted, 0), Err(CosignError::Time));
    }
}

#[test]
fn a_log_it_does_not_know_is_404() {
    let foreign = Checkpoint { origin: "x.example".to_owned(), size: 0, root: empty_root() };
    // Also when a known key signs for a log that is not its own.
    let by_known = foreign.sign(&signer(ORIGIN, 1));
    for note in [foreign.sign(&signer("x.example", 9)), by_known] {
        let judgement = judge(None, &AddCheckpoint::new(0, vec![], &note).unwrap());
        assert_eq!((judgement.status(), judgement), (404, Judgement::UnknownLog));
    }
}

#[test]
fn what_no_key_of_the_log_has_signed_or_badly_is_403() {
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 1, root: root(1) };
    let good = checkpoint.sign(&signer(ORIGIN, 1));
    let other = Checkpoint { size: 2, ..checkpoint.clone() }.sign(&signer(ORIGIN, 3));
    let forged = format!("{good}{}", other.rsplit_once("\n\n").unwrap().1);
    let twice = format!("{good}{}", good.rsplit_once("\n\n").unwrap().1);
    for (note, error) in [
        (checkpoint.sign(&signer(ORIGIN, 9)), NoteError::Unsigned),
        (checkpoint.sign(&signer("other.example", 2)), NoteError::Unsigned),
        (forged, NoteError::Signature),
        (twice, NoteError::Duplicate),
    ] {
        let judgement = judge(None, &AddCheckpoint::new(0, vec![], &note).unwrap());
        assert_eq!((judgement.status(), judgement), (403, Judgement::Unsigned(error)));
    }
    // A key of the log that was replaced signs as well, and both at once.
    for note in [checkpoint.sign(&signer(ORIGIN, 3)), good] {
        assert_eq!(judge(None, &AddCheckpoint::new(0, vec![], &note).unwrap()).status(), 200);
    }
}

#[test]
fn an_old_size_beyond_the_new_one_is_400() {
    let request = AddCheckpoint::new(6, vec![], &signed(5, root(5))).unwrap();
    for latest in [None, at(5), at(6)] {
        assert_eq!(judge(latest, &request), Judgement::Backwards);
    }
    assert_eq!(Judgement::Backwards.status(), 400);
}

#[test]
fn an_old_size_that_is_not_the_latest_is_409_with_the_latest() {
    for (latest, old) in [(None, 3), (at(4), 0), (at(4), 3), (at(7), 5), (at(9), 5)] {
        let judgement = judge(latest, &request(old, 7));
        let size = latest.map_or(0, |(size, _)| size);
        assert_eq!((judgement.status(), judgement.conflict_body()), (409, Some(format!("{size}\n"))));
        assert_eq!(read_conflict(SIZE_TYPE, judgement.conflict_body().unwrap().as_bytes()), Some(size));
    }
    assert_eq!(judge(at(7), &request(7, 7)).conflict_body(), None);
}

#[test]
fn what_does_not_extend_the_latest_is_422() {
    let fork = Digest::of(b"fork");
    let proof = |old, new| prove_consistency(&MemoryLog::of(new), old, new).unwrap();
    let cut = |old, new| proof(old, new).split_last().unwrap().1.to_vec();
    let longer = |old, new| [proof(old, new), vec![fork]].concat();
    for (latest, old, hashes, size, claimed) in [
        // A proof where none may be.
        (None, 0, vec![fork], 5, root(5)),
        (at(0), 0, vec![fork], 5, root(5)),
        (at(5), 5, vec![fork], 5, root(5)),
        // The same size with another root; nothing under another root than that of nothing.
        (at(5), 5, vec![], 5, fork),
        (None, 0, vec![], 0, fork),
        (at(0), 0, vec![], 0, fork),
        // Proofs of something else.
        (at(5), 5, proof(5, 9), 9, fork),
        (at(5), 5, proof(4, 9), 9, root(9)),
        (at(5), 5, proof(5, 8), 9, root(9)),
        (at(5), 5, cut(5, 9), 9, root(9)),
        (at(5), 5, longer(5, 9), 9, root(9)),
        (at(5), 5, vec![], 9, root(9)),
        // What was cosigned before is not what the proof begins from.
        (Some((5, fork)), 5, proof(5, 9), 9, root(9)),
    ] {
        let judgement = judge(latest, &AddCheckpoint::new(old, hashes, &signed(size, claimed)).unwrap());
        assert_eq!(judgement.status(), 422, "{judgement:?}");
        assert!(matches!(judgement, Judgement::Inconsistent(ProofError::Root | ProofError::Length)));
    }
}

/// What a server does around the judgement: keep the state by compare-and-swap, then answer.
fn swap(kept: &mut State, judgement: &Judgement) -> bool {
    let Judgement::Accept(accepted) = judgement else { return false };
    let won = *kept == accepted.latest();
    if won {
        *kept = Some(accepted.state());
    }
    won
}

#[test]
fn of_two_requests_judged_from_one_state_only_one_is_kept_and_the_log_never_rolls_back() {
    let (a, b) = (request(4, 6), request(4, 9));
    for first_larger in [false, true] {
        let mut kept = at(4);
        // Both are judged before either is kept.
        let (judged_a, judged_b) = (judge(kept, &a), judge(kept, &b));
        assert_eq!((judged_a.status(), judged_b.status()), (200, 200));
        let order = if first_larger { [&judged_b, &judged_a] } else { [&judged_a, &judged_b] };
        assert!(swap(&mut kept, order[0]));
        let after = kept;
        assert!(!swap(&mut kept, order[1]), "the second was judged from a state that is gone");
        assert_eq!(kept, after);
        // Judged again, it is told where the witness is now.
        let loser = if first_larger { &a } else { &b };
        assert_eq!(judge(kept, loser), Judgement::Conflict(after.unwrap().0));
    }
}

#[test]
fn requests_read_as_the_specification_shows_them() {
    let body = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
    let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
    assert_eq!((request.origin(), request.text().as_str()), ("example.com/behind-the-sofa", body));
}

#[test]
fn malformed_requests_are_refused() {
    let good = request(5, 9).text();
    let hash = good.lines().nth(1).unwrap();
    for bad in [
        String::new(),
        good.replace("old 5", "old 05"),
        good.replace("old 5", "old -5"),
        good.replace("old 5", "old 18446744073709551616"),
        good.replace("old 5", "Old 5"),
        good.replace("old 5\n", ""),
        good.replace("old 5", " old 5"),
        good.replace(hash, "AAAA"),
        good.replace(hash, &format!("{hash} ")),
        good.replace(hash, &hash.replace('=', "")),
        good.replace(hash, ""),
        good.replacen("\n\n", "\n", 1),
        good.replace('\n', "\r\n"),
        good.replace("\n9\n", "\n09\n"),
        good.trim_end().to_owned(),
        format!("{good}x\n"),
    ] {
        assert!(AddCheckpoint::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(AddCheckpoint::parse(b"old 0\n\n\xff\n").is_err());
    for end in 0..good.len() {
        assert!(AddCheckpoint::parse(&good.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn sixty_three_hashes_are_read_and_judged_sixty_four_are_refused() {
    let hash = Digest::of(b"x");
    let with = |count| AddCheckpoint::new(5, vec![hash; count], &signed(9, root(9)));
    let most = with(63).unwrap();
    assert_eq!(AddCheckpoint::parse(most.text().as_bytes()), Ok(most.clone()));
    assert_eq!(judge(at(5), &most).status(), 422);
    assert_eq!(with(64), Err(RequestError::Shape));
    let line = most.text().lines().nth(1).unwrap().to_owned() + "\n";
    let more = most.text().replacen(&line, &line.repeat(2), 1);
    assert_eq!(AddCheckpoint::parse(more.as_bytes()), Err(RequestError::Shape));
    let huge = format!("old 0\n\n{}", "x".repeat(ADD_CHECKPOINT_MAX));
    assert_eq!(AddCheckpoint::parse(huge.as_bytes()), Err(RequestError::Shape));
}

#[test]
fn an_answer_is_worth_only_what_expected_keys_cosigned_over_our_checkpoint() {
    let (ours, other) = (signed(9, root(9)), signed(8, root(8)));
    let text = |note: &str| note.rsplit_once("\n\n").unwrap().0.to_owned() + "\n";
    let (w, v) = (cosigner("w.example", 21), cosigner("v.example", 22));
    let (good, foreign) = (w.cosign(&text(&ours), 5).unwrap(), v.cosign(&text(&ours), 5).unwrap());
    let read = |body: &str| read_cosignatures(body.as_bytes(), &ours, &[witness_key()]);
    let cosignatures = read(&format!("{foreign}{good}")).unwrap();
    assert_eq!(cosignatures.len(), 1);
    assert_eq!(add_cosignatures(&ours, &cosignatures), Ok(format!("{ours}{good}")));
    assert_eq!(read(&foreign), Err(NoteError::Unsigned));
    assert_eq!(read(&w.cosign(&text(&other), 5).unwrap()), Err(NoteError::Signature));
    assert_eq!(read(&format!("{good}{good}")), Err(NoteError::Duplicate));
    for bad in [
        String::new(),
        "\n".to_owned(),
        good.trim_end().to_owned(),
        format!("{good}\n"),
        format!("\n{good}"),
        format!("{ours}{good}"),
        format!("{good}extra\n"),
        good.repeat(101),
        good.replace('\n', "\r\n"),
    ] {
        assert_eq!(read(&bad), Err(NoteError::Shape), "{bad}");
    }
    assert_eq!(read_cosignatures(b"\xff\n", &ours, &[]), Err(NoteError::Shape));
}

#[test]
fn only_a_size_of_the_right_type_is_read_as_a_conflict() {
    assert_eq!(read_conflict("Text/X.tlog.Size; charset=utf-8", b"0\n"), Some(0));
    assert_eq!(read_conflict(SIZE_TYPE, b"18446744073709551615\n"), Some(u64::MAX));
    for (kind, body) in [
        ("text/plain", &b"5\n"[..]),
        ("", b"5\n"),
        (SIZE_TYPE, b"5"),
        (SIZE_TYPE, b"05\n"),
        (SIZE_TYPE, b"5\n\n"),
        (SIZE_TYPE, b" 5\n"),
        (SIZE_TYPE, b"5\r\n"),
        (SIZE_TYPE, b"\n"),
        (SIZE_TYPE, b"18446744073709551616\n"),
        (SIZE_TYPE, b"\xff\n"),
    ] {
        assert_eq!(read_conflict(kind, body), None, "{kind} {body:?}");
    }
}

#[test]
fn monitors_find_a_log_by_the_hash_of_its_origin() {
    let path = monitor_path("example.com/log");
    assert_eq!(path.len(), 64 + "/checkpoint".len());
    // SHA-256 of the empty string.
    assert_eq!(
        monitor_path(""),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/checkpoint"
    );
}

#[test]
fn what_strangers_add_to_a_checkpoint_is_not_served_to_monitors() {
    let stranger = signer("stranger", 77).sign("x\n");
    let note = format!("{}{}", signed(1, root(1)), stranger.rsplit_once("\n\n").unwrap().1);
    let Judgement::Accept(accepted) = judge(None, &AddCheckpoint::new(0, vec![], &note).unwrap()) else {
        panic!("accepted")
    };
    assert!(!witness().cosign(&accepted, 1).unwrap().checkpoint.contains("stranger"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_round_trip(
        old in any::<u64>(), size in any::<u64>(), proof in prop::collection::vec(any::<[u8; 32]>(), 0..=63),
    ) {
        let proof = proof.into_iter().map(Digest::from_bytes).collect();
        let request = AddCheckpoint::new(old, proof, &signed(size, Digest::of(b"r"))).unwrap();
        prop_assert_eq!(AddCheckpoint::parse(request.text().as_bytes()), Ok(request));
    }

    /// Whatever a log asks, in whatever order: what the witness keeps only ever grows along one history.
    #[test]
    fn a_witness_keeps_one_history(steps in prop::collection::vec((0..12_u64, 0..12_u64, any::<bool>()), 1..12)) {
        let mut kept: State = None;
        let mut cosigned = std::collections::BTreeMap::new();
        for (old, new, forged) in steps {
            let claimed = if forged { Digest::of(&new.to_be_bytes()) } else { root(new) };
            let proof = if old <= new { prove_consistency(&MemoryLog::of(new), old, new).unwrap() } else { vec![] };
            let request = AddCheckpoint::new(old, proof, &signed(new, claimed)).unwrap();
            let before = kept.map_or(0, |(size, _)| size);
            let judgement = judge(kept, &request);
            if swap(&mut kept, &judgement) {
                prop_assert!(new >= before && old == before);
                prop_assert_eq!(*cosigned.entry(new).or_insert(claimed), claimed, "two roots of one size");
            }
        }
    }
}
