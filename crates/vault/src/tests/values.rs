//! Values: what was put is there for who asks rightly, and for nobody else.

use super::*;
use crate::VALUE_MAX;

#[test]
fn what_was_put_is_read_back_with_what_opens_its_commitment() {
    let (world, tenant) = (World::new(), tenant("default"));
    let place = place(&tenant, 1, 1);
    let (ip, agent, purpose) = (Name::literal("ip"), Name::literal("agent"), Name::literal("purpose"));
    let fields = [
        Field { name: &ip, kind: Kind::Network, value: "192.0.2.1" },
        Field { name: &agent, kind: Kind::UserAgent, value: "" },
        Field { name: &purpose, kind: Kind::Purpose, value: "Größe\0\u{1f512}" },
    ];
    let made = world.open().put(&place, &fields, at(5)).unwrap();
    assert_eq!(made.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["ip", "agent", "purpose"]);
    let items = world.open().get(&place).unwrap();
    assert_eq!(items.len(), 3);
    for item in &items {
        let field = fields.iter().find(|field| *field.name == item.field).unwrap();
        assert_eq!((item.kind, item.value.expose().as_str(), item.made), (field.kind, field.value, at(5)));
        for (name, commitment) in &made {
            assert_eq!(item.opens(commitment), *name == item.field, "{name} {}", item.field);
        }
        assert!(made.contains(&(item.field.clone(), item.commitment())));
    }
}

#[test]
fn equal_values_of_two_decisions_have_unlike_commitments() {
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let one = put(&vault, &place(&tenant, 1, 1), "ip", "192.0.2.1", 0).unwrap();
    let two = put(&vault, &place(&tenant, 1, 2), "ip", "192.0.2.1", 0).unwrap();
    assert_ne!(one, two);
}

#[test]
fn inv_tenant_neither_another_tenant_subject_nor_decision_sees_a_value() {
    let world = World::new();
    let (here, there) = (tenant("here"), tenant("there"));
    let vault = world.open();
    put(&vault, &place(&here, 1, 1), "ip", "192.0.2.1", 0).unwrap();
    let kept = put_payload(&vault, &place(&here, 1, 1), "prompt", b"words", 0).unwrap();
    put(&vault, &place(&there, 2, 2), "ip", "192.0.2.2", 0).unwrap();
    for (tenant, subject, decision) in [(&there, 1, 1), (&here, 2, 1), (&here, 1, 2), (&tenant("none"), 1, 1)]
    {
        let place = place(tenant, subject, decision);
        assert_eq!(values(&vault, &place), []);
        assert!(matches!(payload(&vault, &place, &kept), Err(VaultError::Absent)));
    }
    // The same ids under another tenant are another subject: its own values, its own erasure.
    put(&vault, &place(&there, 1, 1), "ip", "198.51.100.9", 0).unwrap();
    assert_eq!(vault.erase_subject(&there, subject(1), at(9)).unwrap().items, 1);
    assert_eq!(values(&vault, &place(&here, 1, 1)), [("ip".to_owned(), "192.0.2.1".to_owned())]);
    assert_eq!(payload(&vault, &place(&here, 1, 1), &kept).unwrap(), b"words");
}

#[test]
fn a_value_once_committed_to_is_not_replaced() {
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let place = place(&tenant, 1, 1);
    put(&vault, &place, "ip", "192.0.2.1", 0).unwrap();
    assert!(matches!(put(&vault, &place, "ip", "192.0.2.2", 1), Err(VaultError::Taken)));
    // All or nothing: a group of which one is taken leaves no trace of the others.
    let (agent, ip) = (Name::literal("agent"), Name::literal("ip"));
    let fields = [
        Field { name: &agent, kind: Kind::UserAgent, value: "curl" },
        Field { name: &ip, kind: Kind::Network, value: "x" },
    ];
    assert!(matches!(vault.put(&place, &fields, at(2)), Err(VaultError::Taken)));
    assert!(matches!(vault.put(&place, &[fields[0], fields[0]], at(2)), Err(VaultError::Taken)));
    assert_eq!(values(&vault, &place), [("ip".to_owned(), "192.0.2.1".to_owned())]);
}

#[test]
fn a_value_above_the_bound_is_refused_and_one_at_it_is_kept() {
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let long = marked("long", VALUE_MAX);
    let refused = put(&vault, &place(&tenant, 1, 1), "note", &format!("{long}x"), 0);
    assert!(matches!(refused, Err(VaultError::TooLarge { max: 65_536 })));
    put(&vault, &place(&tenant, 1, 1), "note", &long, 0).unwrap();
    assert_eq!(values(&vault, &place(&tenant, 1, 1))[0].1, long);
}

#[test]
fn another_key_encryption_key_opens_nothing() {
    let (world, tenant) = (World::new(), tenant("default"));
    put(&world.open(), &place(&tenant, 1, 1), "ip", "192.0.2.1", 0).unwrap();
    let other = Vault::open(world.path(), sealer(2), Arc::clone(&world.random));
    assert!(matches!(other, Err(VaultError::OtherKey)));
    assert_eq!(values(&world.open(), &place(&tenant, 1, 1)).len(), 1);
}

#[test]
fn a_second_process_is_refused() {
    let world = World::new();
    let _first = world.open();
    assert!(matches!(world.try_open(), Err(VaultError::Unavailable(_))));
}

/// What somebody with the disk but without the keys may try, as SQL, against two tenants and two subjects.
#[test]
fn inv_tenant_a_row_that_was_moved_redated_or_changed_does_not_open() {
    let (here, there) = (tenant("here"), tenant("there"));
    // From copies: an update that reads the table it writes would swap there and back again.
    let other = |column: &str, table: &str| {
        format!("(select o.{column} from old_{table} o where o.tenant <> {table}.tenant limit 1)")
    };
    let sibling = |column: &str, table: &str| {
        format!(
            "(select o.{column} from old_{table} o where o.tenant = {table}.tenant and o.subject <> {table}.subject)"
        )
    };
    let attacks = [
        // Sealed values swapped between tenants and between subjects.
        format!("update items set sealed = {}", other("sealed", "items")),
        format!("update items set sealed = {}", sibling("sealed", "items")),
        // Wrapped keys swapped so, without and with their ids.
        format!("update keys set sealed = {}", other("sealed", "keys")),
        format!("update keys set sealed = {}", sibling("sealed", "keys")),
        "delete from keys; insert into keys (tenant, subject, id, sealed) \
         select k.tenant, o.subject, k.id, k.sealed from old_keys k \
         join old_keys o on o.tenant = k.tenant and o.subject <> k.subject"
            .to_owned(),
        // What the associated data binds beside the ids.
        "update items set made_us = made_us + 1".to_owned(),
        "update items set kind = 'purpose'".to_owned(),
        "update items set field = 'pi'".to_owned(),
        "update items set kind = 'unknown'".to_owned(),
        "update keys set id = 'dek_' || substr(id, 6) || '0'".to_owned(),
        // Cut, emptied, changed.
        "update items set sealed = substr(sealed, 1, length(sealed) - 1)".to_owned(),
        "update items set sealed = x''".to_owned(),
        "update items set sealed = zeroblob(length(sealed))".to_owned(),
        "update keys set sealed = substr(sealed, 1, 40)".to_owned(),
        "update tenants set sealed = (select o.sealed from old_tenants o where o.id <> tenants.id)"
            .to_owned(),
    ];
    for attack in attacks {
        let world = World::new();
        {
            let vault = world.open();
            for tenant in [&here, &there] {
                for who in [1, 2] {
                    put(&vault, &place(tenant, who, 1), "ip", "192.0.2.123456", 0).unwrap();
                }
            }
        }
        let database = world.database();
        for table in ["tenants", "keys", "items"] {
            database
                .execute_batch(&format!("create temp table old_{table} as select * from {table}"))
                .unwrap();
        }
        database.execute_batch(&format!("pragma foreign_keys = off; {attack}")).unwrap();
        assert!(database.changes() >= 2, "{attack}");
        drop(database);
        let vault = match world.try_open() {
            Ok(vault) => vault,
            Err(error) => {
                assert!(
                    matches!(error, VaultError::Broken(_)) && attack.contains("tenants"),
                    "{attack}: {error}"
                );
                continue;
            }
        };
        for tenant in [&here, &there] {
            for who in [1, 2] {
                let error = vault.get(&place(tenant, who, 1)).unwrap_err();
                assert!(matches!(error, VaultError::Broken(_)), "{attack}: {error:?}");
                assert!(!format!("{error} {error:?}").contains("192.0.2"), "{attack}");
            }
        }
        assert!(matches!(vault.check(), Err(VaultError::Broken(_))), "{attack}");
    }
}

#[test]
fn a_value_moved_to_another_decision_of_the_same_subject_does_not_open() {
    let (world, tenant) = (World::new(), tenant("default"));
    {
        let vault = world.open();
        put(&vault, &place(&tenant, 1, 1), "ip", "192.0.2.1", 0).unwrap();
        put(&vault, &place(&tenant, 1, 2), "other", "192.0.2.2", 0).unwrap();
    }
    let moved =
        "update items set decision = (select decision from items where field = 'other') where field = 'ip'";
    assert_eq!(world.database().execute(moved, []).unwrap(), 1);
    assert!(matches!(world.open().get(&place(&tenant, 1, 2)), Err(VaultError::Broken(_))));
}

#[test]
fn nothing_of_the_vault_shows_values_keys_or_who_is_concerned() {
    let (world, tenant) = (World::new(), tenant("default"));
    let vault = world.open();
    let place = place(&tenant, 1, 1);
    let value = marked("value", 40);
    put(&vault, &place, "ip", &value, 0).unwrap();
    let items = vault.get(&place).unwrap();
    let name = Name::literal("ip");
    let field = Field { name: &name, kind: Kind::Network, value: &value };
    let shown = format!("{vault:?} {items:?} {field:?}");
    assert!(!shown.contains(&value) && !shown.contains("Secret(["), "{shown}");
    // On the disk there is neither the value nor the pseudonym, in no form.
    assert!(!world.holds(value.as_bytes()));
    assert!(!world.holds(subject(1).as_bytes()) && !world.holds(subject(1).to_string().as_bytes()));
    assert!(!world.holds(decision(1).as_bytes()) && !world.holds(decision(1).to_string().as_bytes()));
}
