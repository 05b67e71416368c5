//! Erasure: afterwards nothing is found, by nobody who has the whole disk.

use super::*;
use crate::Erasure;

/// What must not be found after an erasure: keys in each form, sealed values, sealed payloads.
fn traces(vault: &Vault, tenant: &Tenant, who: u8, payloads: &[PayloadRef]) -> Vec<(&'static str, Vec<u8>)> {
    let (key, wrapped) = data_key(vault, tenant, subject(who));
    // The first nine bytes say which key-encryption key and are the same in every wrapped key. The last part is the key.
    let mut out = vec![
        ("the data key", key.expose().to_vec()),
        ("the data key as text", crypt::print(&key).expose().clone().into_bytes()),
        ("the wrapped data key", wrapped[9..].to_vec()),
        ("the end of the wrapped data key", wrapped[wrapped.len() - 24..].to_vec()),
        ("the middle of the wrapped data key", wrapped[40..64].to_vec()),
    ];
    let connection = vault.0.lock();
    let key = TenantKey::find(&connection, &vault.0.tools, tenant).unwrap().unwrap();
    let address = key.subject(subject(who));
    let mut statement = connection.prepare("select sealed from items where subject = ?1").unwrap();
    let sealed = statement.query_map([address.as_bytes()], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    out.extend(sealed.map(|sealed| ("a sealed value", sealed.unwrap()[..28].to_vec())));
    for payload in payloads {
        let file = fs::read(vault.0.files.path(payload.sha256)).unwrap();
        out.push(("the salt of a payload", file[5..37].to_vec()));
        out.push(("the end of a payload", file[file.len() - 24..].to_vec()));
    }
    out
}

#[test]
fn after_an_erasure_neither_values_nor_keys_nor_sealed_forms_are_on_the_disk() {
    let (world, here) = (World::new(), tenant("default"));
    let vault = world.open();
    // Enough subjects, put in turns, that the trees are balanced many times and cells have moved between pages.
    let mut payloads = Vec::new();
    for round in 0..4_u8 {
        for who in 0..120_u8 {
            let place = place(&here, who, round);
            put(&vault, &place, "ip", &marked(&format!("{who} {round}"), 60 + usize::from(who)), 1).unwrap();
            if who == 60 {
                payloads.push(
                    put_payload(&vault, &place, "prompt", &marked("p", 70_000).into_bytes(), 2).unwrap(),
                );
            }
        }
    }
    let before = traces(&vault, &here, 60, &payloads);
    for (what, bytes) in &before {
        assert_eq!(
            world.holds(bytes),
            what.starts_with("the wrapped") || what.contains("of ") || what.starts_with("a "),
            "{what}"
        );
    }
    let kept = traces(&vault, &here, 61, &[]);
    let erased = vault.erase_subject(&here, subject(60), at(9)).unwrap();
    assert_eq!((erased.items, erased.payloads), (4, 4));
    assert_eq!((erased.first_us, erased.last_us), (Some(at(1)), Some(at(2))));
    for (what, bytes) in &before {
        assert!(!world.holds(bytes), "{what} lingers");
    }
    assert_eq!(world.payload_files(), Vec::<PathBuf>::new());
    for round in 0..4 {
        assert_eq!(values(&vault, &place(&here, 60, round)), []);
        assert!(matches!(
            payload(&vault, &place(&here, 60, round), &payloads[usize::from(round)]),
            Err(VaultError::Absent)
        ));
    }
    // Everybody else is untouched.
    assert!(
        kept.iter().filter(|(what, _)| what.starts_with("a sealed")).all(|(_, bytes)| world.holds(bytes))
    );
    assert_eq!(vault.check().unwrap(), crate::Checked { subjects: 119, items: 476, payloads: 0 });
    // Nor do they come back.
    drop(vault);
    let vault = world.open();
    put(&vault, &place(&here, 60, 200), "ip", "192.0.2.1", 20).unwrap();
    for (what, bytes) in &before {
        assert!(!world.holds(bytes), "{what} came back");
    }
}

#[test]
fn what_trees_and_journals_leave_behind_is_gone_too() {
    let (world, here) = (World::new(), tenant("default"));
    let vault = world.open();
    // One with most of the data, so that the database shrinks when it goes: rewriting leaves a long journal of everybody's
    // pages, of which the next, shorter ones would overwrite only the beginning.
    for about in 0..60 {
        put(&vault, &place(&here, 255, about), "note", &marked("long", 60_000), 1).unwrap();
    }
    // Many small ones in an order of their own, so that cells move between pages.
    for who in 0..250_u8 {
        let who = who.wrapping_mul(77);
        put(&vault, &place(&here, who, 1), "ip", &marked("short", 20 + usize::from(who) * 3), 1).unwrap();
    }
    let going: Vec<u8> =
        (0..250_u8).step_by(9).map(|who| who.wrapping_mul(77)).filter(|who| *who != 255).collect();
    let before: Vec<_> = going.iter().map(|who| traces(&vault, &here, *who, &[])).collect();
    vault.erase_subject(&here, subject(255), at(2)).unwrap();
    for (who, before) in going.iter().zip(&before) {
        vault.erase_subject(&here, subject(*who), at(3)).unwrap();
        for (what, bytes) in before {
            assert!(!world.holds(bytes), "{what} of {who} lingers");
        }
    }
}

#[test]
fn an_erasure_asked_again_answers_the_same_and_new_data_needs_a_new_one() {
    let (world, here) = (World::new(), tenant("default"));
    let vault = world.open();
    put(&vault, &place(&here, 1, 1), "ip", "192.0.2.1", 1).unwrap();
    let first = vault.erase_subject(&here, subject(1), at(2)).unwrap();
    assert_eq!((first.items, first.erasure.time_us), (1, at(2)));
    assert_eq!(vault.erase_subject(&here, subject(1), at(3)).unwrap(), first);
    assert_eq!(world.open_after(vault).erased(&here, subject(1)).unwrap(), Some(first.clone()));
    let vault = world.open();
    put(&vault, &place(&here, 1, 1), "ip", "192.0.2.1", 4).unwrap();
    let second = vault.erase_subject(&here, subject(1), at(5)).unwrap();
    assert_ne!(second.erasure.id, first.erasure.id);
    assert_eq!(vault.erasures(&here).unwrap(), [first.erasure, second.erasure]);
    assert_eq!(vault.erased(&here, subject(2)).unwrap(), None);
}

#[test]
fn a_subject_of_whom_nothing_is_kept_is_noted_for_older_backups() {
    let (world, here) = (World::new(), tenant("default"));
    let vault = world.open();
    let erased = vault.erase_subject(&here, subject(1), at(2)).unwrap();
    assert_eq!((erased.items, erased.payloads, erased.first_us, erased.last_us), (0, 0, None, None));
    assert_eq!(vault.erasures(&here).unwrap(), [erased.erasure]);
}

impl World {
    fn open_after(&self, vault: Vault) -> Vault {
        drop(vault);
        self.open()
    }

    /// A copy of the whole folder, as a backup has it. The vault must be closed.
    fn copy(&self) -> Self {
        let copy = Self { folder: tempfile::tempdir().unwrap(), random: Arc::clone(&self.random) };
        for path in self.files() {
            let target = copy.path().join(path.strip_prefix(self.path()).unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(path, target).unwrap();
        }
        copy
    }
}

#[test]
fn erasures_are_done_again_after_a_restore_from_an_older_backup() {
    let (world, here, there) = (World::new(), tenant("here"), tenant("there"));
    let vault = world.open();
    for tenant in [&here, &there] {
        for who in [1, 2] {
            put(&vault, &place(tenant, who, 1), "ip", "192.0.2.1", 1).unwrap();
            put_payload(&vault, &place(tenant, who, 1), "prompt", b"words", 1).unwrap();
        }
    }
    let early = vault.erase_subject(&here, subject(2), at(2)).unwrap().erasure;
    put(&vault, &place(&here, 2, 7), "ip", "192.0.2.7", 3).unwrap();
    drop(vault);
    let backup = world.copy();
    let vault = world.open();
    let late = vault.erase_subject(&here, subject(1), at(4)).unwrap().erasure;
    let list: Vec<Erasure> =
        serde_json::from_str(&serde_json::to_string(&vault.erasures(&here).unwrap()).unwrap()).unwrap();
    assert_eq!(list, [early, late.clone()]);

    let restored = backup.open();
    // A hold that the backup still has was released before the erasure was possible.
    let spec = crate::HoldSpec { name: Name::literal("case-1"), basis: "litigation".parse().unwrap() };
    restored.hold(&here, subject(1), &spec, at(0)).unwrap();
    let before = traces(&restored, &here, 1, &[]);
    assert_eq!(restored.reapply(&list).unwrap(), 1, "the earlier one is behind the backup");
    assert_eq!(values(&restored, &place(&here, 1, 1)), []);
    assert!(before.iter().all(|(_, bytes)| !backup.holds(bytes)));
    assert_eq!(values(&restored, &place(&here, 2, 7)).len(), 1, "put after its erasure, so it stays");
    assert_eq!(values(&restored, &place(&there, 1, 1)).len(), 1, "another tenant");
    assert_eq!(backup.payload_files().len(), 2);
    assert_eq!(restored.erased(&here, subject(1)).unwrap().unwrap().erasure, late);
    // Asked again, it touches nothing: also not what was put since.
    put(&restored, &place(&here, 1, 8), "ip", "192.0.2.8", 5).unwrap();
    assert_eq!(restored.reapply(&list).unwrap(), 0);
    assert_eq!(values(&restored, &place(&here, 1, 8)).len(), 1);
}

#[test]
fn inv_tenant_an_erasure_of_one_tenant_means_nothing_to_another() {
    let (world, here, there) = (World::new(), tenant("here"), tenant("there"));
    let vault = world.open();
    put(&vault, &place(&here, 1, 1), "ip", "192.0.2.1", 1).unwrap();
    put(&vault, &place(&there, 1, 1), "ip", "192.0.2.1", 1).unwrap();
    let address = vault.erase_subject(&here, subject(1), at(2)).unwrap().erasure;
    let forged = Erasure {
        id: bartizan_model::ErasureId::from_parts(at(3), [9; 10]),
        tenant: there.clone(),
        ..address.clone()
    };
    vault.reapply(&[forged]).unwrap();
    assert_eq!(
        values(&vault, &place(&there, 1, 1)).len(),
        1,
        "the address was made with another tenant's key"
    );
    let unknown = Erasure { tenant: tenant("unknown"), ..address };
    assert_eq!(vault.reapply(&[unknown]).unwrap(), 0);
    assert_eq!(vault.erasures(&tenant("unknown")).unwrap(), []);
}
