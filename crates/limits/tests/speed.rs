//! What reading costs. Printed, not asserted: the machine may be busy.

use std::time::Instant;

use bartizan_base::random::SeededRandom;
use bartizan_base::{Name, Timestamp};
use bartizan_limits::{Activities, Noted, Track, Tracks};
use bartizan_model::{EntityRef, KeyId, PrincipalId};

#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn reading_and_noting() {
    let activities = Activities::new(20_000, &SeededRandom::new(1));
    let tracks = |n: u16| {
        let mut random = [0; 10];
        random[..2].copy_from_slice(&n.to_be_bytes());
        let id = PrincipalId::from_parts(Timestamp::from_secs(1), random);
        let key = KeyId::from_parts(Timestamp::from_secs(1), random);
        Tracks {
            agent: Some(Track::Agent(id)),
            caller: Some(Track::Caller(id)),
            key: Some(Track::Key(key)),
            session: Some(Track::Session([0; 16])),
        }
    };
    let resources: Vec<EntityRef> = (0..200)
        .map(|n: u32| EntityRef::new(Name::literal("Model"), n.to_string().parse::<Name>().unwrap()))
        .collect();
    let rounds = 200_000_u64;
    let began = Instant::now();
    for n in 0..rounds {
        let resource = &resources[usize::try_from(n % 200).unwrap()];
        // Over a day, so that every part of every window is filled.
        let noted = Noted { requests: 1, tokens: 10, resource: Some(resource), ..Noted::default() };
        activities.note(&tracks(u16::try_from(n % 50).unwrap()), n * 432_000, &noted);
    }
    println!("note, 4 tracks: {:.2} µs", began.elapsed().as_secs_f64() * 1e6 / f64::from(200_000));
    let began = Instant::now();
    let mut sum = 0;
    for n in 0..rounds {
        let read = activities.read(&tracks(u16::try_from(n % 50).unwrap()), rounds * 432_000);
        sum += read.caller.map_or(0, |w| w.day.requests);
    }
    println!("read, 4 tracks: {:.2} µs ({sum})", began.elapsed().as_secs_f64() * 1e6 / f64::from(200_000));
}
