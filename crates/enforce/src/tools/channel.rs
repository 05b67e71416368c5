//! A stream of events that its client can come back to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_wire::mcp::event_under;
use bytes::Bytes;
use tokio::sync::Notify;

/// Events that are kept for whoever comes back, and their bytes.
const KEPT_MAX: usize = 256;
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Events that may wait to be taken.
const AHEAD_MAX: usize = 64;

/// A stream of events under ids of ours, read by one reader at a time.
#[derive(Debug)]
pub(super) struct Channel {
    name: String,
    held: Mutex<Held>,
    more: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Held {
    /// The number of the event that comes next; the first is 1.
    next: u64,
    /// What is kept: the newest, without a gap.
    events: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// The number of the last event that was taken.
    taken: u64,
    over: bool,
    /// Counts readers; the last one reads.
    readers: u64,
    reading: bool,
}

/// Whoever reads a [`Channel`], until somebody else does.
#[derive(Debug)]
pub(super) struct Reader {
    channel: Arc<Channel>,
    number: u64,
    named: bool,
}

impl Channel {
    /// An empty one. Its name is part of the ids of its events.
    pub(super) fn new(name: String) -> Arc<Self> {
        let held = Mutex::new(Held { next: 1, ..Held::default() });
        Arc::new(Self { name, held, more: Notify::new(), room: Notify::new() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message. What was taken goes first where there is too much; what nobody has taken, only where `lossy`.
    fn add(&self, message: Bytes, lossy: bool) {
        {
            let mut held = self.held();
            if held.over {
                return;
            }
            let number = held.next;
            held.next += 1;
            held.bytes += message.len();
            held.events.push_back((number, message));
            while held.events.len() > KEPT_MAX || held.bytes > KEPT_BYTES_MAX {
                let Some((first, _)) = held.events.front() else { break };
                // The newest stays, however long it is.
                if held.events.len() == 1 || !(lossy || *first <= held.taken) {
                    break;
                }
                let gone = held.events.pop_front().map_or(0, |(_, gone)| gone.len());
                held.bytes -= gone;
            }
        }
        self.more.notify_one();
    }

    /// Adds a message that only informs: where too many wait, the oldest are left out.
    pub(super) fn inform(&self, message: Bytes) {
        self.add(message, true);
    }

    /// Adds a message that must arrive; to be called while there is [`Self::has_room`].
    pub(super) fn push(&self, message: Bytes) {
        self.add(message, false);
    }

    /// Whether more may be added: not too much waits to be taken.
    pub(super) fn has_room(&self) -> bool {
        let held = self.held();
        let ahead = held.events.iter().filter(|(number, _)| *number > held.taken);
        let (count, bytes) = ahead.fold((0, 0), |(count, bytes), (_, one)| (count + 1, bytes + one.len()));
        count < AHEAD_MAX && bytes < KEPT_BYTES_MAX
    }

    /// Resolves once something was taken.
    pub(super) async fn taken(&self) {
        self.room.notified().await;
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.held().over = true;
        self.more.notify_one();
    }

    /// Nothing of what waits is given out any more; `last` is what is said instead.
    pub(super) fn cut(&self, last: Bytes) {
        {
            let mut held = self.held();
            held.events.clear();
            held.bytes = last.len();
            let number = held.next;
            held.next += 1;
            held.taken = number - 1;
            held.events.push_back((number, last));
            held.over = true;
        }
        self.more.notify_one();
    }

    /// Whether somebody reads.
    pub(super) fn is_read(&self) -> bool {
        self.held().reading
    }

    pub(super) fn is_over(&self) -> bool {
        self.held().over
    }

    /// Reads on: after the event `after`, or what nobody has taken yet. None where something after that one is not kept any more.
    /// Whoever has read before reads no longer. Events have ids where `named`.
    pub(super) fn read(self: &Arc<Self>, after: Option<u64>, named: bool) -> Option<Reader> {
        let number = {
            let mut held = self.held();
            if let Some(after) = after {
                let first = held.events.front().map_or(held.next, |(number, _)| *number);
                if after >= held.next || after + 1 < first {
                    return None;
                }
                held.taken = after;
            }
            held.readers += 1;
            held.reading = true;
            held.readers
        };
        self.more.notify_waiters();
        self.more.notify_one();
        Some(Reader { channel: self.clone(), number, named })
    }
}

impl Reader {
    /// The next event as it is sent; none once it is over, or somebody else reads.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            let taken = {
                let mut held = self.channel.held();
                if held.readers != self.number {
                    // Whoever reads now was told by what woke us.
                    drop(held);
                    self.channel.more.notify_one();
                    return None;
                }
                let next = held.events.iter().find(|(number, _)| *number > held.taken).cloned();
                if let Some((number, _)) = &next {
                    held.taken = *number;
                } else if held.over {
                    return None;
                }
                next
            };
            if let Some((number, message)) = taken {
                self.channel.room.notify_one();
                let id = format!("{}-{number}", self.channel.name);
                return Some(if self.named {
                    event_under(&id, &message)
                } else {
                    bartizan_wire::mcp::event_of(&message)
                });
            }
            self.channel.more.notified().await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut held = self.channel.held();
        if held.readers == self.number {
            held.reading = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(number: usize) -> Bytes {
        Bytes::from(format!("{{\"n\":{number}}}"))
    }

    fn seen(event: Option<Bytes>) -> String {
        String::from_utf8(event.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn whoever_comes_back_is_told_what_came_after_the_last_that_arrived() {
        let channel = Channel::new("a".to_owned());
        let reader = channel.read(None, true).unwrap();
        for number in 1..=3 {
            channel.push(text(number));
        }
        assert_eq!(seen(reader.next().await), "id: a-1\nevent: message\ndata: {\"n\":1}\n\n");
        let _ = reader.next().await;
        drop(reader);
        assert!(!channel.is_read());
        // The second was sent and never arrived.
        let again = channel.read(Some(1), true).unwrap();
        assert!(seen(again.next().await).starts_with("id: a-2\n"));
        assert!(seen(again.next().await).starts_with("id: a-3\n"));
        channel.close();
        assert_eq!(again.next().await, None);
        assert!(channel.read(Some(4), true).is_none(), "an event that never was");
    }

    #[tokio::test]
    async fn two_never_read_the_same_stream_at_once() {
        let channel = Channel::new("a".to_owned());
        let first = channel.read(None, true).unwrap();
        let second = channel.read(None, true).unwrap();
        channel.push(text(1));
        assert_eq!(first.next().await, None);
        assert!(seen(second.next().await).contains("a-1"));
        drop(first);
        assert!(channel.is_read());
    }

    #[tokio::test]
    async fn what_is_cut_is_not_given_out_whoever_waits_for_it() {
        let channel = Channel::new("a".to_owned());
        let reader = channel.read(None, true).unwrap();
        channel.push(text(1));
        channel.cut(Bytes::from_static(b"{\"ended\":true}"));
        assert!(seen(reader.next().await).contains("ended"));
        assert_eq!(reader.next().await, None);
        assert!(channel.read(Some(0), true).is_none(), "nor whoever comes back for it");
    }

    proptest! {
        /// However much is said and whenever it is read: in order, nothing twice, nothing lost that must arrive, and bounded.
        #[test]
        fn events_arrive_in_order_and_what_is_kept_is_bounded(
            steps in proptest::collection::vec((0_u8..4, 1_usize..60_000), 1..400),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let channel = Channel::new("a".to_owned());
                let mut reader = channel.read(None, true).unwrap();
                let (mut pushed, mut got) = (0, 0);
                for (step, size) in steps {
                    match step {
                        0 | 1 if channel.has_room() => {
                            channel.push(Bytes::from(vec![b'x'; size]));
                            pushed += 1;
                        }
                        2 if got < pushed => {
                            let event = reader.next().await.unwrap();
                            got += 1;
                            assert!(event.starts_with(format!("id: a-{got}\n").as_bytes()));
                        }
                        3 => {
                            // Away and back again, from the last that arrived.
                            let again = channel.read(Some(got), true);
                            reader = again.expect("what was taken last is always kept from");
                        }
                        _ => {}
                    }
                    let held = channel.held();
                    assert!(held.bytes <= 2 * KEPT_BYTES_MAX + 60_000 && held.events.len() <= KEPT_MAX + AHEAD_MAX);
                }
            });
        }
    }
}
