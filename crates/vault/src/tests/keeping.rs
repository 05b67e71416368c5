//! Legal holds and retention.

use std::time::Duration;

use super::*;
use crate::{Expired, Hold, HoldSpec, Retention};

fn spec(name: &'static str) -> HoldSpec {
    HoldSpec { name: Name::literal(name), basis: "litigation".parse().unwrap() }
}

#[test]
fn a_hold_stops_erasure_by_name_until_it_is_released() {
    let (world, here, there) = (World::new(), tenant("here"), tenant("there"));
    let vault = world.open();
    for tenant in [&here, &there] {
        put(&vault, &place(tenant, 1, 1), "ip", "192.0.2.1", 1).unwrap();
    }
    vault.hold(&here, subject(1), &spec("case-2"), at(2)).unwrap();
    vault.hold(&here, subject(1), &spec("case-1"), at(3)).unwrap();
    vault.hold(&here, subject(1), &spec("case-1"), at(4)).unwrap();
    drop(vault);
    let vault = world.open();
    let holds = [Hold { spec: spec("case-1"), placed: at(3) }, Hold { spec: spec("case-2"), placed: at(2) }];
    assert_eq!(vault.holds(&here, subject(1)).unwrap(), holds);
    assert_eq!(vault.holds(&there, subject(1)).unwrap(), [], "of another tenant");
    for name in ["case-1", "case-2"] {
        let refused = vault.erase_subject(&here, subject(1), at(5)).unwrap_err();
        assert_eq!(refused.to_string(), format!("the legal hold `{name}` keeps the data"));
        assert_eq!(values(&vault, &place(&here, 1, 1)).len(), 1);
        assert!(!vault.release_hold(&there, subject(1), &Name::literal(name)).unwrap());
        assert!(vault.release_hold(&here, subject(1), &Name::literal(name)).unwrap());
        assert!(!vault.release_hold(&here, subject(1), &Name::literal(name)).unwrap());
    }
    assert_eq!(vault.erasures(&here).unwrap(), [], "a refused erasure is none");
    assert_eq!(vault.erase_subject(&there, subject(1), at(6)).unwrap().items, 1);
    assert_eq!(vault.erase_subject(&here, subject(1), at(6)).unwrap().items, 1);
}

#[test]
fn a_hold_on_somebody_of_whom_nothing_is_kept_yet_holds_what_comes() {
    let (world, here) = (World::new(), tenant("here"));
    let vault = world.open();
    vault.hold(&here, subject(1), &spec("case-1"), at(0)).unwrap();
    put(&vault, &place(&here, 1, 1), "ip", "192.0.2.1", 1).unwrap();
    assert!(matches!(vault.erase_subject(&here, subject(1), at(2)), Err(VaultError::Held { .. })));
}

#[test]
fn what_is_older_than_its_kind_may_be_goes_and_what_is_held_stays() {
    let (world, here, there) = (World::new(), tenant("here"), tenant("there"));
    let vault = world.open();
    let sealed = |who: u8| -> Vec<u8> {
        let connection = vault.0.lock();
        let key = TenantKey::find(&connection, &vault.0.tools, &here).unwrap().unwrap();
        let sql = "select sealed from items where subject = ?1 order by made_us limit 1";
        connection.query_row(sql, [key.subject(subject(who)).as_bytes()], |row| row.get(0)).unwrap()
    };
    for tenant in [&here, &there] {
        for who in [1, 2] {
            put(&vault, &place(tenant, who, 1), "ip", "192.0.2.1", 10).unwrap();
            put(&vault, &place(tenant, who, 2), "ip", "192.0.2.2", 20).unwrap();
            put_payload(&vault, &place(tenant, who, 1), "prompt", b"old words", 10).unwrap();
            put_payload(&vault, &place(tenant, who, 2), "prompt", b"new words", 20).unwrap();
        }
    }
    vault.hold(&here, subject(2), &spec("case-1"), at(21)).unwrap();
    let (going, held) = (sealed(1), sealed(2));
    assert!(world.holds(&going) && world.holds(&held));
    let seconds = Duration::from_secs;
    let network = Retention::from([(Kind::Network, seconds(30)), (Kind::Output, seconds(0))]);
    // Exactly as old as it may be is not too old.
    assert_eq!(vault.expire(&here, at(40), &network).unwrap(), Expired::default());
    assert_eq!(vault.expire(&here, at(41), &network).unwrap(), Expired { items: 1, payloads: 0 });
    assert_eq!(vault.expire(&here, at(41), &network).unwrap(), Expired::default());
    assert!(!world.holds(&going) && world.holds(&held));
    let both = Retention::from([(Kind::Network, seconds(30)), (Kind::Prompt, seconds(15))]);
    assert_eq!(vault.expire(&here, at(60), &both).unwrap(), Expired { items: 1, payloads: 2 });
    assert_eq!(world.payload_files().len(), 6, "those of the held and of the other tenant");
    // A clock set back, or a retention beyond all time, removes nothing.
    let forever = Retention::from([(Kind::Network, Duration::MAX), (Kind::Prompt, seconds(0))]);
    assert_eq!(vault.expire(&there, Timestamp::from_micros(0), &forever).unwrap(), Expired::default());
    assert_eq!(vault.expire(&tenant("none"), at(99), &both).unwrap(), Expired::default());
    assert_eq!(vault.check().unwrap(), crate::Checked { subjects: 4, items: 6, payloads: 6 });
}
