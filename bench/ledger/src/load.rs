//! The load: writers that append again as soon as their last record is durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bartizan_bench::Error;
use bartizan_bench::load::quantile_us;
use bartizan_bench::process::{Medium, Processes, Written};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;

/// How many writers, and for how long.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Load {
    pub writers: u64,
    pub warm_up: Duration,
    pub window: Duration,
}

impl Load {
    /// From the first append to the last.
    pub fn duration(&self) -> Duration {
        self.warm_up + self.window
    }
}

/// What a round of load brought.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Records acknowledged as durable, a second.
    pub per_second: f64,
    /// Microseconds from the call to the acknowledgement.
    pub ack_p50_us: f64,
    pub ack_p99_us: f64,
    /// Microseconds of processor time for one acknowledged record: writers, engine and, where there is one, its server.
    pub cpu_us: f64,
    /// The server's part of it.
    pub server_cpu_us: Option<f64>,
    /// Records acknowledged for one flush of the engine's log, where it is known.
    pub per_sync: Option<f64>,
    /// Bytes that the device wrote for one acknowledged record, where it tells.
    pub written_bytes: Option<f64>,
    /// Records acknowledged for one flush of the device.
    pub per_device_flush: Option<f64>,
}

/// The numbers of the process accounting at one moment.
struct Reading {
    cpu_s: f64,
    server_cpu_s: Option<f64>,
    syncs: Option<u64>,
    written: Option<Written>,
}

impl Reading {
    async fn of<E: Engine>(engine: &E, medium: Option<&Medium>) -> Result<Self, Error> {
        Ok(Self {
            cpu_s: Processes::own().cpu_s(),
            server_cpu_s: engine.server().map(Processes::cpu_s),
            syncs: engine.syncs().await?,
            written: medium.and_then(Medium::written),
        })
    }
}

/// Appends on all writers at once; what is told is about the window behind the time of warming up.
///
/// Also gives how many records were acknowledged altogether, for [`Engine::check`].
///
/// # Errors
/// When a record is not taken, or nothing was acknowledged.
pub async fn closed<E: Engine>(
    engine: &Arc<E>,
    load: Load,
    medium: Option<&Medium>,
) -> Result<(Round, u64), Error> {
    let start = Instant::now() + load.warm_up;
    let end = start + load.window;
    let writers: Vec<_> = (0..load.writers)
        .map(|writer| tokio::spawn(append_until(engine.clone(), writer, load.writers, start, end)))
        .collect();
    tokio::time::sleep_until(start.into()).await;
    let before = Reading::of(&**engine, medium).await?;
    tokio::time::sleep_until(end.into()).await;
    let after = Reading::of(&**engine, medium).await?;
    let (mut latencies, mut acknowledged) = (Vec::new(), 0);
    for writer in writers {
        let (own, all) = writer.await??;
        latencies.extend(own);
        acknowledged += all;
    }
    latencies.sort_unstable();
    let count = latencies.len() as f64;
    let quantile = |q| quantile_us(&latencies, q).ok_or("nothing was acknowledged");
    let each_us = |seconds: f64| seconds * 1e6 / count;
    let for_each = |before: Option<u64>, after: Option<u64>| {
        let grown = after?.checked_sub(before?)?;
        (grown > 0).then(|| count / grown as f64)
    };
    let (wrote, had) = (after.written, before.written);
    let round = Round {
        per_second: count / load.window.as_secs_f64(),
        ack_p50_us: quantile(0.5)?,
        ack_p99_us: quantile(0.99)?,
        cpu_us: each_us(after.cpu_s - before.cpu_s),
        server_cpu_us: after
            .server_cpu_s
            .zip(before.server_cpu_s)
            .map(|(after, before)| each_us(after - before)),
        per_sync: for_each(before.syncs, after.syncs),
        written_bytes: for_each(had.map(|w| w.bytes), wrote.map(|w| w.bytes)).map(f64::recip),
        per_device_flush: for_each(had.map(|w| w.flushes), wrote.map(|w| w.flushes)),
    };
    Ok((round, acknowledged))
}

/// Nanoseconds of the appends that ended within the window, and how many there were in all.
async fn append_until<E: Engine>(
    engine: Arc<E>,
    writer: u64,
    writers: u64,
    start: Instant,
    end: Instant,
) -> Result<(Vec<u64>, u64), Error> {
    let (mut latencies, mut all) = (Vec::new(), 0);
    loop {
        let from = Instant::now();
        if from >= end {
            return Ok((latencies, all));
        }
        engine.append(writer + all * writers).await?;
        all += 1;
        let now = Instant::now();
        if (start..end).contains(&now) {
            latencies.push(u64::try_from((now - from).as_nanos()).unwrap_or(u64::MAX));
        }
    }
}

/// Appends `count` records on `writers` at once, without a clock.
///
/// # Errors
/// When a record is not taken.
pub async fn counted<E: Engine>(engine: &Arc<E>, writers: u64, count: u64) -> Result<(), Error> {
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let engine = engine.clone();
            tokio::spawn(async move {
                for number in (writer..count).step_by(usize::try_from(writers)?) {
                    engine.append(number).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
