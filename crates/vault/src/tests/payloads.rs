//! Payloads: streamed, whole or not at all.

use std::io::{self, Read, Write};

use bartizan_base::Digest;

use super::*;
use crate::PAYLOAD_MAX;

const CHUNK: usize = 64 * 1024;
const HEAD: usize = 5 + 32;

#[test]
fn payloads_of_every_awkward_length_are_read_back() {
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let lengths = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 5 * CHUNK + 17];
    for (length, about) in lengths.into_iter().zip(0..) {
        let content = marked("payload", length).into_bytes();
        let place = place(&tenant, 1, about);
        let kept = put_payload(&vault, &place, "prompt", &content, 0).unwrap();
        let file = fs::read(vault.0.files.path(kept.sha256)).unwrap();
        assert_eq!(
            (Digest::of(&file), file.len() as u64),
            (kept.sha256, kept.bytes),
            "named by what is stored"
        );
        assert_eq!(payload(&vault, &place, &kept).unwrap(), content, "{length}");
        assert!(length < 12 || !world.holds(&content[..length.min(64)]));
    }
    assert_eq!(vault.check().unwrap().payloads, lengths.len() as u64);
    assert_eq!(world.payload_files().len(), lengths.len(), "nothing is left aside");
}

#[test]
fn a_payload_above_the_bound_is_refused_and_one_at_it_is_kept() {
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let place = place(&tenant, 1, 1);
    let field = Name::literal("prompt");
    let mut endless = io::repeat(7);
    let refused = vault.put_payload(&place, &field, Kind::Prompt, &mut endless, at(0));
    assert!(matches!(refused, Err(VaultError::TooLarge { max: PAYLOAD_MAX })));
    assert_eq!(world.payload_files(), Vec::<PathBuf>::new());
    let mut most = io::repeat(7).take(PAYLOAD_MAX);
    let kept = vault.put_payload(&place, &field, Kind::Prompt, &mut most, at(0)).unwrap();
    assert_eq!(vault.read_payload(&place, &kept, &mut io::sink()).unwrap(), PAYLOAD_MAX);
}

#[test]
fn what_belongs_to_an_earlier_payload_is_kept_under_its_key_or_not_at_all() {
    let (world, other) = (World::new(), tenant("other"));
    let tenant = tenant("default");
    let vault = world.open();
    let place = place(&tenant, 1, 1);
    let earlier = put_payload(&vault, &place, "prompt", b"asked", 0).unwrap();
    let after = |place: &Place<'_>, field| {
        let field = Name::literal(field);
        vault.put_payload_after(&earlier, place, &field, Kind::Output, &mut &b"answered"[..], at(1))
    };
    let kept = after(&place, "output").unwrap();
    assert_eq!((kept.key, payload(&vault, &place, &kept).unwrap()), (earlier.key, b"answered".to_vec()));
    assert!(matches!(after(&place, "output"), Err(VaultError::Taken)));
    // Of another subject or tenant, it has no earlier one.
    put_payload(&vault, &super::place(&tenant, 2, 1), "prompt", b"asked", 0).unwrap();
    assert!(matches!(after(&super::place(&tenant, 2, 1), "output"), Err(VaultError::Erased)));
    assert!(matches!(after(&super::place(&other, 1, 1), "output"), Err(VaultError::Erased)));
    vault.erase_subject(&tenant, place.subject, at(2)).unwrap();
    assert!(matches!(after(&place, "later"), Err(VaultError::Erased)));
    // Not under a later key either.
    put_payload(&vault, &place, "prompt", b"asked anew", 3).unwrap();
    assert!(matches!(after(&place, "later"), Err(VaultError::Erased)));
    assert_eq!(vault.check().unwrap().payloads, 2);
}

#[test]
fn equal_payloads_are_not_seen_to_be_equal() {
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let one = put_payload(&vault, &place(&tenant, 1, 1), "prompt", b"same", 0).unwrap();
    let two = put_payload(&vault, &place(&tenant, 1, 2), "prompt", b"same", 0).unwrap();
    assert_ne!(one.sha256, two.sha256);
    assert_eq!(one.key, two.key);
    let other = put_payload(&vault, &place(&tenant, 2, 2), "prompt", b"same", 0).unwrap();
    assert_ne!(one.key, other.key);
}

#[test]
fn a_file_that_was_cut_lengthened_or_changed_gives_nothing() {
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let place = place(&tenant, 1, 1);
    let content = marked("payload", 2 * CHUNK + 100).into_bytes();
    let kept = put_payload(&vault, &place, "prompt", &content, 0).unwrap();
    let path = vault.0.files.path(kept.sha256);
    let whole = fs::read(&path).unwrap();
    let border = HEAD + CHUNK + 16;
    let cuts = [0, 1, 5, HEAD, HEAD + 1, border - 1, border, border + 1, whole.len() - 17, whole.len() - 1];
    let mut damaged: Vec<Vec<u8>> = cuts.iter().map(|length| whole[..*length].to_vec()).collect();
    damaged.push([whole.as_slice(), &[0]].concat());
    for at in [0, 4, 5, HEAD - 1, HEAD, border, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        damaged.push(changed);
    }
    for bytes in damaged {
        fs::write(&path, &bytes).unwrap();
        let mut out = Vec::new();
        let read = vault.read_payload(&place, &kept, &mut out);
        assert!(matches!(read, Err(VaultError::Broken("a payload"))), "{}: {read:?}", bytes.len());
        assert!(out.is_empty(), "not a byte before the whole was found unchanged");
        assert!(matches!(vault.check(), Err(VaultError::Broken("a payload"))));
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(payload(&vault, &place, &kept), Err(VaultError::Broken("a payload"))));
    fs::write(&path, &whole).unwrap();
    assert_eq!(payload(&vault, &place, &kept).unwrap(), content);
    for forged in
        [PayloadRef { bytes: kept.bytes - 1, ..kept.clone() }, PayloadRef { bytes: 0, ..kept.clone() }]
    {
        assert!(matches!(payload(&vault, &place, &forged), Err(VaultError::Broken(_))));
    }
    let forged = PayloadRef { sha256: Digest::of(b"other"), ..kept };
    assert!(matches!(payload(&vault, &place, &forged), Err(VaultError::Absent)));
}

/// Somebody with root changes the file and the row that names it, so that digest and length agree again.
#[test]
fn chunks_cut_off_swapped_repeated_or_of_another_file_do_not_open_under_a_new_digest() {
    let content = marked("payload", 3 * CHUNK + 100).into_bytes();
    let sealed = CHUNK + 16;
    let chunk =
        |whole: &[u8], n: usize| whole[HEAD + n * sealed..whole.len().min(HEAD + (n + 1) * sealed)].to_vec();
    type Attack = fn(&[u8], &[u8], &dyn Fn(&[u8], usize) -> Vec<u8>) -> Vec<u8>;
    let attacks: [(&str, Attack); 6] = [
        ("the last chunk cut off", |w, _, _| w[..HEAD + 3 * (CHUNK + 16)].to_vec()),
        ("all chunks cut off", |w, _, _| w[..HEAD].to_vec()),
        ("two chunks swapped", |w, _, c| [w[..HEAD].to_vec(), c(w, 1), c(w, 0), c(w, 2), c(w, 3)].concat()),
        ("a chunk repeated", |w, _, c| {
            [w[..HEAD].to_vec(), c(w, 0), c(w, 0), c(w, 1), c(w, 2), c(w, 3)].concat()
        }),
        ("a chunk of another payload", |w, o, c| {
            [w[..HEAD].to_vec(), c(w, 0), c(o, 1), c(w, 2), c(w, 3)].concat()
        }),
        ("the whole of another payload", |_, o, _| o.to_vec()),
    ];
    for (name, attack) in attacks {
        let (world, tenant) = (World::new(), tenant("default"));
        let (one, two) = (place(&tenant, 1, 1), place(&tenant, 1, 2));
        let vault = world.open();
        let kept = put_payload(&vault, &one, "prompt", &content, 0).unwrap();
        let other =
            put_payload(&vault, &two, "prompt", &marked("other", 3 * CHUNK + 100).into_bytes(), 0).unwrap();
        let (path, whole) =
            (vault.0.files.path(kept.sha256), fs::read(vault.0.files.path(kept.sha256)).unwrap());
        let forged = attack(&whole, &fs::read(vault.0.files.path(other.sha256)).unwrap(), &chunk);
        let forged_ref =
            PayloadRef { sha256: Digest::of(&forged), bytes: forged.len() as u64, key: kept.key };
        let target = vault.0.files.path(forged_ref.sha256);
        drop(vault);
        let database = world.database();
        database.execute("delete from payloads where sha256 = ?1", [forged_ref.sha256.to_string()]).unwrap();
        let rows = database
            .execute(
                "update payloads set sha256 = ?1, bytes = ?2 where sha256 = ?3",
                rusqlite::params![forged_ref.sha256.to_string(), forged_ref.bytes, kept.sha256.to_string()],
            )
            .unwrap();
        assert_eq!(rows, 1);
        drop(database);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::rename(&path, &target).unwrap();
        fs::write(&target, &forged).unwrap();
        let vault = world.open();
        let mut out = Vec::new();
        let read = vault.read_payload(&one, &forged_ref, &mut out);
        assert!(matches!(read, Err(VaultError::Broken("a payload"))), "{name}: {read:?}");
        assert!(content.starts_with(&out), "{name}: nothing but what was put in this order");
    }
}

#[test]
fn inv_tenant_payload_rows_swapped_between_subjects_do_not_open() {
    let (world, here) = (World::new(), tenant("here"));
    let kept = {
        let vault = world.open();
        let kept = put_payload(&vault, &place(&here, 1, 1), "prompt", b"of the first", 0).unwrap();
        put(&vault, &place(&here, 2, 1), "ip", "192.0.2.1", 0).unwrap();
        kept
    };
    let database = world.database();
    let moved = "update payloads set (subject, decision) = (select subject, decision from items)";
    assert_eq!(database.execute(moved, []).unwrap(), 1);
    drop(database);
    let vault = world.open();
    assert!(matches!(vault.check(), Err(VaultError::Broken("a payload"))));
    assert!(matches!(payload(&vault, &place(&here, 1, 1), &kept), Err(VaultError::Absent)));
    assert!(matches!(payload(&vault, &place(&here, 2, 1), &kept), Err(VaultError::Absent)), "of another key");
    let mine = put_payload(&vault, &place(&here, 2, 3), "prompt", b"mine", 0).unwrap();
    let forged = PayloadRef { key: mine.key, ..kept };
    assert!(matches!(payload(&vault, &place(&here, 2, 1), &forged), Err(VaultError::Broken("a payload"))));
}

#[test]
fn a_source_that_fails_leaves_nothing() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let Some(left) = self.0.checked_sub(1) else { return Err(io::Error::other("gone")) };
            self.0 = left;
            Ok(out.len())
        }
    }
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let field = Name::literal("prompt");
    for reads in 0..4 {
        let failed =
            vault.put_payload(&place(&tenant, 1, 1), &field, Kind::Prompt, &mut Failing(reads), at(0));
        assert!(matches!(failed, Err(VaultError::OtherEnd(_))));
    }
    put_payload(&vault, &place(&tenant, 1, 1), "prompt", b"first", 0).unwrap();
    assert!(matches!(
        put_payload(&vault, &place(&tenant, 1, 1), "prompt", b"second", 0),
        Err(VaultError::Taken)
    ));
    assert_eq!(world.payload_files().len(), 1);
}

#[test]
fn a_subject_erased_while_its_payload_is_written_keeps_nothing() {
    struct Erasing<'a>(&'a Vault, Tenant, usize);
    impl Read for Erasing<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.2 += 1;
            if self.2 == 2 {
                self.0.erase_subject(&self.1, subject(1), at(5)).unwrap();
                // Somebody else's put makes a new key for the same subject at once.
                put(self.0, &place(&self.1, 1, 9), "ip", "192.0.2.1", 6).unwrap();
            }
            let length = if self.2 < 4 { out.len().min(1_000) } else { 0 };
            out[..length].fill(7);
            Ok(length)
        }
    }
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let mut source = Erasing(&vault, tenant.clone(), 0);
    let field = Name::literal("prompt");
    let put = vault.put_payload(&place(&tenant, 1, 1), &field, Kind::Prompt, &mut source, at(0));
    assert!(matches!(put, Err(VaultError::Erased)), "{put:?}");
    assert_eq!(world.payload_files(), Vec::<PathBuf>::new());
    assert_eq!(vault.check().unwrap(), crate::Checked { subjects: 1, items: 1, payloads: 0 });
}

#[test]
fn a_reader_gets_nothing_more_once_the_subject_is_erased() {
    struct Erasing<'a>(&'a Vault, Tenant, Vec<u8>);
    impl Write for Erasing<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.erase_subject(&self.1, subject(1), at(5)).unwrap();
            self.2.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let content = marked("payload", 10 * CHUNK).into_bytes();
    let kept = put_payload(&vault, &place(&tenant, 1, 1), "prompt", &content, 0).unwrap();
    let mut sink = Erasing(&vault, tenant.clone(), Vec::new());
    let read = vault.read_payload(&place(&tenant, 1, 1), &kept, &mut sink);
    assert!(matches!(read, Err(VaultError::Erased)), "{read:?}");
    assert_eq!(sink.2, content[..CHUNK]);
    assert!(matches!(payload(&vault, &place(&tenant, 1, 1), &kept), Err(VaultError::Absent)));
}

#[test]
fn what_was_being_written_when_the_process_ended_is_gone_at_the_next_start() {
    let (world, tenant) = (World::new(), tenant("default"));
    let kept = put_payload(&world.open(), &place(&tenant, 1, 1), "prompt", b"words", 0).unwrap();
    let root = world.path().join("vault");
    let orphan = world.open().0.files.path(Digest::of(b"named but without a row"));
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(orphan, b"named").unwrap();
    fs::write(root.join("tmp/0123456789abcdef"), b"half").unwrap();
    assert_eq!(world.payload_files().len(), 3);
    let vault = world.open();
    assert_eq!(world.payload_files(), [vault.0.files.path(kept.sha256)]);
    assert_eq!(payload(&vault, &place(&tenant, 1, 1), &kept).unwrap(), b"words");
}
