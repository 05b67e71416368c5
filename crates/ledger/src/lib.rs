//! Merkle tree, tiles, notes, checkpoints, proofs after the C2SP specifications; pure.
