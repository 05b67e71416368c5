//! The load: closed loops, where each connection asks again as soon as it is answered, and open loops, where requests
//! are due at fixed times and latency counts from then, so that a slow gateway cannot slow the asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};

use crate::client::{Answer, Connection};

/// What a round of load brought.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Seconds that were measured.
    pub seconds: f64,
    /// Answers as expected.
    pub answers: u64,
    /// Everything else: other statuses, broken connections, answers that did not come.
    pub errors: u64,
    /// Server-sent events.
    pub events: u64,
    /// Nanoseconds from sending, or from when it was due, to the last byte; sorted.
    pub latency: Vec<u64>,
    /// Nanoseconds to the first byte of the body; sorted.
    pub first_byte: Vec<u64>,
}

/// What is asked, and what the answer has to be.
#[derive(Clone)]
pub struct Ask {
    pub address: SocketAddr,
    pub request: Arc<[u8]>,
    /// Events of the answer; zero for one that is not streamed.
    pub events: u64,
    /// Bytes of its body, at least: a refusal may have the same status.
    pub bytes: u64,
}

impl Ask {
    /// Whether the answer is what it has to be.
    pub fn is_answered_by(&self, answer: &Answer) -> bool {
        answer.status == 200 && answer.events >= self.events && answer.bytes >= self.bytes
    }
}

impl Round {
    pub fn per_second(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.errors += other.errors;
        self.events += other.events;
        self.latency.extend(other.latency);
        self.first_byte.extend(other.first_byte);
    }

    fn count(&mut self, ask: &Ask, from: Instant, answer: Option<Answer>) {
        let as_expected = answer.filter(|a| ask.is_answered_by(a));
        let Some(answer) = as_expected else {
            self.errors += 1;
            return;
        };
        self.answers += 1;
        self.events += answer.events;
        self.latency.push(nanoseconds(from.elapsed()));
        self.first_byte.extend(answer.first_byte.map(|at| nanoseconds(at.saturating_duration_since(from))));
    }

    fn finish(mut self, window: Duration) -> Self {
        self.seconds = window.as_secs_f64();
        self.latency.sort_unstable();
        self.first_byte.sort_unstable();
        self
    }
}

/// A quantile of sorted nanoseconds, in microseconds.
pub fn quantile_us(sorted: &[u64], quantile: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = (last as f64 * quantile).round() as usize;
    sorted.get(at).map(|ns| *ns as f64 / 1_000.0)
}

/// Asks on `connections` at once for `window`, after a time of warming up. `at_start` and `at_end` are called where
/// the measured window begins and ends.
pub async fn closed(
    ask: &Ask,
    connections: usize,
    warm_up: Duration,
    window: Duration,
    at_start: impl FnOnce(),
    at_end: impl FnOnce(),
) -> Round {
    let start = Instant::now() + warm_up;
    let end = start + window;
    let tasks: Vec<_> = (0..connections).map(|_| tokio::spawn(ask_until(ask.clone(), start, end))).collect();
    tokio::time::sleep_until(start.into()).await;
    at_start();
    tokio::time::sleep_until(end.into()).await;
    at_end();
    let mut round = Round::default();
    for task in tasks {
        round.add(task.await.unwrap_or_default());
    }
    round.finish(window)
}

async fn ask_until(ask: Ask, start: Instant, end: Instant) -> Round {
    let mut round = Round::default();
    let mut connection = None;
    while Instant::now() < end {
        let from = Instant::now();
        let answer = call(&mut connection, &ask).await;
        // Counted where it ended: a window counts what was answered within it.
        if (start..end).contains(&Instant::now()) {
            round.count(&ask, from, answer);
        }
        if answer.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    round
}

/// Asks `rate` times a second on at most `connections` at once for `window`.
pub async fn open(ask: &Ask, rate: f64, connections: usize, window: Duration) -> Round {
    let (due, queue) = mpsc::unbounded_channel();
    let queue = Arc::new(Mutex::new(queue));
    let tasks: Vec<_> =
        (0..connections).map(|_| tokio::spawn(ask_when_due(ask.clone(), queue.clone()))).collect();
    let count = (rate * window.as_secs_f64()) as u64;
    // A thread of its own: the runtime's timer is no finer than a millisecond.
    let clock = std::thread::spawn(move || {
        let start = Instant::now() + Duration::from_millis(100);
        for number in 0..count {
            let at = start + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if due.send(at).is_err() {
                break;
            }
        }
    });
    let limit = Instant::now() + window + Duration::from_secs(3);
    let mut round = Round::default();
    for mut task in tasks {
        let left = limit.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, &mut task).await {
            Ok(part) => round.add(part.unwrap_or_default()),
            // Its answers are lost and count as errors: a gateway that is this far behind does not hold the rate.
            Err(_) => task.abort(),
        }
    }
    drop(queue);
    let _ = clock.join();
    round.errors = count.saturating_sub(round.answers);
    round.finish(window)
}

async fn ask_when_due(ask: Ask, queue: Arc<Mutex<mpsc::UnboundedReceiver<Instant>>>) -> Round {
    let mut round = Round::default();
    let mut connection = Connection::open(ask.address).await.ok();
    loop {
        let due = queue.lock().await.recv().await;
        let Some(due) = due else { return round };
        let answer = call(&mut connection, &ask).await;
        round.count(&ask, due, answer);
    }
}

async fn call(connection: &mut Option<Connection>, ask: &Ask) -> Option<Answer> {
    if connection.is_none() {
        *connection = Connection::open(ask.address).await.ok();
    }
    let answer = match connection {
        Some(open) => open.call(&ask.request).await.ok(),
        None => None,
    };
    // Refused or broken: the next one begins anew.
    if answer.is_none() {
        *connection = None;
    }
    answer
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let sorted: Vec<u64> = (0..=100).map(|n| n * 1_000).collect();
        assert_eq!(quantile_us(&sorted, 0.5), Some(50.0));
        assert_eq!(quantile_us(&sorted, 0.99), Some(99.0));
        assert_eq!(quantile_us(&[], 0.5), None);
    }
}
