//! Large payloads in small memory. A file of its own, so that nothing else runs in the process.

#![expect(clippy::unwrap_used, reason = "what the tests share may fail like a test")]

use std::fs;
use std::io::{self, Read, Write};
use std::sync::Arc;

use bartizan_base::{Name, Timestamp};
use bartizan_keys::Sealer;
use bartizan_model::{DecisionId, PrincipalId, Tenant};
use bartizan_rt::SystemRandom;
use bartizan_secret::Secret;
use bartizan_vault::{Kind, PAYLOAD_MAX, Place, Vault};

/// A source of so many bytes that refuses to fill more than a chunk at a time.
struct Source(u64);

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        assert!(out.len() <= 80 * 1024, "{} at once", out.len());
        let length = out.len().min(usize::try_from(self.0).unwrap());
        out.iter_mut().take(length).for_each(|byte| *byte = b'x');
        self.0 -= length as u64;
        Ok(length)
    }
}

struct Sink(u64);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(bytes.len() <= 64 * 1024, "{} at once", bytes.len());
        assert!(bytes.iter().all(|byte| *byte == b'x'));
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line of `/proc/self/status`, in KiB.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn large_payloads_pass_through_small_memory() {
    let folder = tempfile::tempdir().unwrap();
    let random = Arc::new(SystemRandom::new());
    let vault =
        Vault::open(folder.path(), Arc::new(Sealer::new(Secret::new([1; 32]))), random.clone()).unwrap();
    let tenant = Tenant("default".parse().unwrap());
    let subject = PrincipalId::new(Timestamp::from_secs(1), &*random);
    let field = Name::literal("prompt");
    let round = |length| {
        let decision = DecisionId::new(Timestamp::from_secs(1), &*random);
        let place = Place { tenant: &tenant, subject, decision };
        let now = Timestamp::from_secs(1);
        let kept = vault.put_payload(&place, &field, Kind::Prompt, &mut Source(length), now).unwrap();
        let mut sink = Sink(0);
        assert_eq!(vault.read_payload(&place, &kept, &mut sink).unwrap(), length);
        assert_eq!(sink.0, length);
    };
    round(100_000);
    // Sets the peak back to what is used now (proc(5), `clear_refs`).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    for _ in 0..4 {
        round(PAYLOAD_MAX);
    }
    let peak = status("VmHWM");
    assert!(peak < before + 4 * 1024, "{before} KiB before, {peak} KiB at the peak");
}
