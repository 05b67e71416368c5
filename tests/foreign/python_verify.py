"""Verifies a log folder with the package aics-tlog: python_verify.py FOLDER VKEY [OLD-CHECKPOINT]."""

import sys
from pathlib import Path

from aics_tlog.checkpoint import verify_checkpoint
from aics_tlog.note import parse_note, parse_vkey
from aics_tlog.tiles import FileSystemTileReader, consistency_proof_from_tiles
from aics_tlog.tree import verify_consistency
from aics_tlog.verified import VerifiedTileReader, audit_tiles


def opened(path, key):
    note = parse_note(path.read_bytes().decode("utf-8"))
    result = verify_checkpoint(note, key, [], 0, expected_origin=key.name)
    if not result.ok:
        raise ValueError(f"{path.name} is not a checkpoint of this log")
    return result.size, result.root


def verify(folder, vkey, old=None):
    key = parse_vkey(vkey)
    size, root = opened(Path(folder) / "checkpoint", key)
    reader = FileSystemTileReader(folder)
    audit_tiles(reader, size, root, entries=True)
    if old is None:
        return
    old_size, old_root = opened(Path(old), key)
    if old_size > size:
        raise ValueError("the log is smaller than it was")
    proof = consistency_proof_from_tiles(VerifiedTileReader(reader, size, root), old_size, size)
    if not verify_consistency(old_size, size, old_root, root, proof):
        raise ValueError("history was rewritten")


if __name__ == "__main__":
    try:
        verify(*sys.argv[1:])
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)
