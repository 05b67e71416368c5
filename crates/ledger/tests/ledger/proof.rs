use bartizan_base::Digest;
use bartizan_ledger::{
    ProofError, ProveError, RightEdge, empty_root, leaf_hash, node_hash, prove_consistency, prove_inclusion,
    root_at, verify_consistency, verify_inclusion,
};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

use crate::world::{MemoryLog, entry, leaves, mth, path, subproof};

fn hex(text: &str) -> Digest {
    text.parse().unwrap()
}

#[test]
fn hashes_match_the_vectors_of_certificate_transparency() {
    assert_eq!(empty_root(), hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    let inputs: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut edge = RightEdge::new();
    for (input, root) in inputs.into_iter().zip(roots) {
        edge.append(leaf_hash(input));
        assert_eq!(edge.root(), hex(root));
    }
}

#[test]
fn roots_and_proofs_of_every_small_size_are_those_of_rfc_6962() {
    let all = leaves(300);
    let mut log = MemoryLog::default();
    let mut edge = RightEdge::new();
    for size in 0..=300_u64 {
        log.grow_to(size);
        let d = &all[..usize::try_from(size).unwrap()];
        let root = mth(d);
        assert_eq!((edge.size(), edge.root(), log.appender.root()), (size, root, root));
        edge.append(leaf_hash(&entry(size)));
        // Every index of sizes around each power of two, a few of the others.
        let step = if size < 70 || (254..=260).contains(&size) { 1 } else { 37 };
        for index in (0..size).step_by(step) {
            let at = usize::try_from(index).unwrap();
            let proof = prove_inclusion(&log, size, index).unwrap();
            assert_eq!(proof, path(at, d), "index {index} of {size}");
            verify_inclusion(d[at], index, size, &proof, &root).unwrap();
        }
        for old in (0..=size).step_by(step) {
            let proof = prove_consistency(&log, old, size).unwrap();
            let d_old = &d[..usize::try_from(old).unwrap()];
            if old > 0 {
                assert_eq!(proof, subproof(d_old.len(), d, true), "{old} in {size}");
            }
            verify_consistency((old, mth(d_old)), (size, root), &proof).unwrap();
        }
    }
}

#[test]
fn proofs_beyond_the_log_are_not_made() {
    let log = MemoryLog::of(5);
    assert_eq!(prove_inclusion(&log, 5, 5), Err(ProveError::OutOfRange));
    assert_eq!(prove_inclusion(&log, 0, 0), Err(ProveError::OutOfRange));
    assert_eq!(prove_consistency(&log, 6, 5), Err(ProveError::OutOfRange));
    assert!(matches!(prove_inclusion(&log, 300, 0), Err(ProveError::Read(_))), "tiles that are not there");
}

#[test]
fn consistency_with_the_empty_tree_demands_its_root_and_an_empty_proof() {
    let root = mth(&leaves(3));
    assert!(verify_consistency((0, empty_root()), (3, root), &[]).is_ok());
    assert_eq!(verify_consistency((0, root), (3, root), &[]), Err(ProofError::Root));
    assert!(verify_consistency((0, empty_root()), (3, root), &[root]).is_err());
    assert!(verify_consistency((3, root), (0, empty_root()), &[]).is_err());
}

#[test]
fn a_log_of_the_same_size_with_another_root_is_a_fork() {
    assert!(verify_consistency((3, mth(&leaves(3))), (3, empty_root()), &[]).is_err());
}

#[test]
fn hostile_sizes_do_not_panic() {
    let hash = empty_root();
    for proof in [&[][..], &[hash; 3], &[hash; 64], &[hash; 65]] {
        for size in [0, 1, 2, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            for other in [0, 1, 3, 1 << 63, u64::MAX - 1, u64::MAX] {
                let _ = verify_inclusion(hash, other, size, proof, &hash);
                assert!(
                    verify_consistency((other, hash), (size, hash), proof).is_err()
                        || proof.is_empty() && (other == size || other == 0)
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_change_to_an_inclusion_proof_is_refused(
        size in 2_u64..300, pick in any::<u64>(), at in any::<prop::sample::Index>(), bit in 0_usize..256,
    ) {
        let index = pick % size;
        let log = MemoryLog::of(size);
        let (d, root) = (leaves(size), log.appender.root());
        let leaf = d[usize::try_from(index).unwrap()];
        let good = prove_inclusion(&log, size, index).unwrap();
        let at = at.index(good.len());

        let mut flipped = good.clone();
        flipped[at] = flip(&good[at], bit);
        prop_assert!(verify_inclusion(leaf, index, size, &flipped, &root).is_err());
        let mut shorter = good.clone();
        shorter.remove(at);
        prop_assert!(verify_inclusion(leaf, index, size, &shorter, &root).is_err());
        let mut longer = good.clone();
        longer.insert(at, good[at]);
        prop_assert!(verify_inclusion(leaf, index, size, &longer, &root).is_err());
        for other in (0..size).filter(|other| *other != index) {
            prop_assert!(verify_inclusion(leaf, other, size, &good, &root).is_err());
        }
        prop_assert!(verify_inclusion(flip(&leaf, bit), index, size, &good, &root).is_err());
        prop_assert!(verify_inclusion(leaf, index, size, &good, &flip(&root, bit)).is_err());
    }

    #[test]
    fn any_change_to_a_consistency_proof_is_refused(
        size in 2_u64..300, pick in any::<u64>(), at in any::<prop::sample::Index>(), bit in 0_usize..256,
    ) {
        let old = 1 + pick % (size - 1);
        let log = MemoryLog::of(size);
        let (old_root, root) = (mth(&leaves(old)), log.appender.root());
        let good = prove_consistency(&log, old, size).unwrap();
        let at = at.index(good.len());
        let check = |proof: &[Digest]| verify_consistency((old, old_root), (size, root), proof);
        prop_assert!(check(&good).is_ok());

        let mut flipped = good.clone();
        flipped[at] = flip(&good[at], bit);
        prop_assert!(check(&flipped).is_err());
        let mut shorter = good.clone();
        shorter.remove(at);
        prop_assert!(check(&shorter).is_err());
        let mut longer = good.clone();
        longer.push(good[at]);
        prop_assert!(check(&longer).is_err());
        prop_assert!(verify_consistency((old, flip(&old_root, bit)), (size, root), &good).is_err());
        prop_assert!(verify_consistency((old, old_root), (size, flip(&root, bit)), &good).is_err());
    }
}

#[test]
fn roots_and_proofs_of_every_size_to_64_are_those_of_ct_merkle() {
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut log = MemoryLog::default();
    for size in 1..=64_u64 {
        theirs.push(entry(size - 1));
        log.grow_to(size);
        assert_eq!(theirs.root().as_bytes().to_vec(), concat(&[log.appender.root()]));
        for index in 0..size {
            let ours = prove_inclusion(&log, size, index).unwrap();
            let at = usize::try_from(index).unwrap();
            assert_eq!(theirs.prove_inclusion(at).as_bytes(), concat(&ours), "{index} of {size}");
            assert_eq!(root_at(&log, size, index), Ok(mth(&leaves(index))));
        }
        for old in 1..size {
            let ours = prove_consistency(&log, old, size).unwrap();
            let added = usize::try_from(size - old).unwrap();
            assert_eq!(theirs.prove_consistency(added).as_bytes(), concat(&ours), "{old} to {size}");
        }
    }
    assert_eq!(root_at(&log, 64, 65), Err(ProveError::OutOfRange));
}

fn concat(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

fn flip(hash: &Digest, bit: usize) -> Digest {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Digest::from_bytes(bytes)
}

#[test]
fn node_hash_is_not_the_hash_of_a_leaf_with_the_same_bytes() {
    let (a, b) = (leaf_hash(b"a"), leaf_hash(b"b"));
    assert_ne!(node_hash(&a, &b), leaf_hash(&concat(&[a, b])));
}
