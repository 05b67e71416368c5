//! INV-LABEL: what has entered a session never leaves its label but by a recorded endorsement, whatever two nodes do at once.

use std::collections::BTreeSet;

use bartizan_base::Timestamp;
use bartizan_model::{Confidentiality, Integrity, Label, PrincipalId};
use futures_util::future::join_all;

use super::rows::{at, name, tenant};
use super::{TestWarrant, World, apply, founded};
use crate::{Change, MARK_LIFE, Mark, Marked, Marks as _, RowKind, Rows as _, StoreError};

/// Steps of the random walk.
const STEPS: u64 = 400;

fn session(id: &str) -> Marked {
    let of = PrincipalId::from_parts(at(1), [3; 10]);
    Marked { id: id.to_owned(), of, origin: Label::bottom() }
}

/// One of the labels there are, by its number.
fn label(number: u64) -> Label {
    let confidentiality = match number % 4 {
        0 => Confidentiality::Public,
        1 => Confidentiality::Internal,
        2 => Confidentiality::Confidential,
        _ => Confidentiality::Restricted,
    };
    let integrity = if number & 4 == 0 { Integrity::Trusted } else { Integrity::Untrusted };
    let categories = ["health", "legal", "pay"].into_iter().zip(3..);
    let categories = categories.filter(|(_, bit)| number >> bit & 1 == 1).map(|(of, _)| name(of)).collect();
    Label { categories, confidentiality, integrity }
}

/// Numbers that follow from a seed.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

pub async fn inv_label_joins_of_two_nodes_at_once_lose_nothing(world: &impl World) {
    let (place, one) = founded(world).await;
    let other = world.open(&place).await;
    let (of, session, now) = (TestWarrant::of(&tenant("default")), session("s"), at(100));
    let labels: Vec<Label> = (0..64).step_by(5).map(label).collect();
    let joins = labels.iter().enumerate().map(|(n, label)| {
        let store = if n % 2 == 0 { &one } else { &other };
        store.join(&of, &session, label, now)
    });
    let mut lost = 0;
    for (joined, label) in join_all(joins).await.into_iter().zip(&labels) {
        // Too many at once would be said, and nothing released.
        let conflict = matches!(joined, Err(StoreError::Conflict(_)));
        lost += usize::from(conflict);
        if !conflict {
            let now = joined.unwrap();
            assert_eq!(now.join(label), now, "what was acknowledged holds what was joined");
        }
    }
    assert_eq!(lost, 0, "of thirteen at once each finds its turn");
    let all = labels.iter().fold(Label::bottom(), |all, one| all.join(one));
    for store in [&one, &other] {
        assert_eq!(store.mark(&tenant("default"), "s", now).await.unwrap().unwrap().label, all);
    }
}

pub async fn inv_label_goes_down_by_a_recorded_endorsement_alone(world: &impl World) {
    let (place, one) = founded(world).await;
    let mut nodes = [one, world.open(&place).await];
    let t = tenant("default");
    let (of, sessions) = (TestWarrant::of(&t), ["a", "b"].map(session));
    let (mut seed, mut now) = (0x9e37_79b9_7f4a_7c15_u64, 1_000);
    let mut model: [Option<Label>; 2] = [None, None];
    let mut done = BTreeSet::new();
    for _ in 0..STEPS {
        now += 1;
        let (dice, which) = (next(&mut seed), usize::try_from(next(&mut seed) % 2).unwrap());
        let (session, node) = (&sessions[which], usize::try_from(next(&mut seed) % 2).unwrap());
        let before = model[which].clone();
        let (mut endorsed, given) = (false, label(next(&mut seed)));
        match dice % 10 {
            0..6 => {
                let after = nodes[node].join(&of, session, &given, at(now)).await.unwrap();
                let known = before.clone().unwrap_or_else(Label::bottom).join(&given);
                assert_eq!(after, known);
                model[which] = (before.is_some() || known != Label::bottom()).then_some(known);
                done.insert("joined");
            }
            // A crash between the intent and the join, and a node that starts again.
            6 => nodes[node] = world.open(&place).await,
            // An endorsement, of what is there or of what was there some time ago.
            _ => {
                let row = nodes[node].row(RowKind::SessionLabel, &session.id).await.unwrap();
                let Some(row) = row else { continue };
                let fresh = dice % 10 < 9;
                if !fresh {
                    // Something enters between the look and the word.
                    let joined =
                        nodes[1 - node].join(&of, session, &given.join(&label(7)), at(now)).await.unwrap();
                    let rose = model[which].as_ref() != Some(&joined);
                    model[which] = Some(joined);
                    if !rose {
                        continue;
                    }
                }
                let mark = Mark { label: Label::bottom(), ..Mark::of(&row).unwrap() };
                let put = mark.row(&t, &session.id, session.of, at(now)).unwrap();
                let change = Change::PutRow { row: put, expect: Some(row.version) };
                let outcome = apply(&nodes[node], &t, vec![change]).await;
                assert_eq!(outcome.is_ok(), fresh, "what entered since was not endorsed: {outcome:?}");
                if fresh {
                    (model[which], endorsed) = (Some(Label::bottom()), true);
                    done.insert("endorsed");
                } else {
                    done.insert("refused");
                }
            }
        }
        for node in &nodes {
            for (session, known) in sessions.iter().zip(&model) {
                let mark = node.mark(&t, &session.id, at(now)).await.unwrap();
                assert_eq!(mark.map(|mark| mark.label), *known, "every node knows the same");
            }
        }
        if let Some(before) = before.filter(|_| !endorsed) {
            let after = model[which].clone().unwrap();
            assert_eq!(after.join(&before), after, "it went down without an endorsement");
        }
    }
    assert_eq!(done.len(), 3, "{done:?}");
}

pub async fn inv_label_is_of_one_house_and_lasts_while_it_is_used(world: &impl World) {
    let (_place, store) = founded(world).await;
    let (t, other, s) = (tenant("default"), tenant("other"), session("s"));
    let (of, high) = (TestWarrant::of(&t), label(7));
    // Nothing is written for what changes nothing.
    assert_eq!(store.join(&of, &s, &Label::bottom(), at(10)).await.unwrap(), Label::bottom());
    assert_eq!(store.mark(&t, "s", at(10)).await.unwrap(), None);
    store.join(&of, &s, &high, at(10)).await.unwrap();
    // Another house can neither see it nor join into it.
    assert!(store.mark(&other, "s", at(10)).await.is_err());
    let foreign = TestWarrant::of(&other);
    assert!(store.join(&foreign, &s, &label(3), at(10)).await.is_err());
    let life = MARK_LIFE.as_secs();
    let alive = async |second: u64| {
        store.mark(&t, "s", at(second)).await.unwrap().map(|mark| (mark.label, mark.opened))
    };
    assert_eq!(alive(10 + life - 1).await, Some((high.clone(), at(10))));
    assert_eq!(alive(10 + life).await, None);
    // Use keeps it, also where it adds nothing.
    let late = 10 + life - 100;
    assert_eq!(store.join(&of, &s, &Label::bottom(), at(late)).await.unwrap(), high);
    assert_eq!(alive(late + life - 1).await, Some((high, Timestamp::from_secs(10))));
    // When it is over a new one begins, of what enters then.
    let after = store.join(&of, &s, &label(1), at(late + life)).await.unwrap();
    assert_eq!((after.clone(), alive(late + life).await), (label(1), Some((label(1), at(late + life)))));
}
