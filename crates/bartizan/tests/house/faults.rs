//! What the house does when its own machine fails: it refuses with a reason, forwards nothing, and loses nothing.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bartizan_record::{Disk, DiskFile, RealDisk};

use super::*;

/// The real disk, until it fails.
#[derive(Clone, Debug, Default)]
struct FailingDisk(Arc<Faults>);

#[derive(Debug, Default)]
struct Faults {
    /// No room for anything new; what was written out before can be written over.
    full: AtomicBool,
    /// Nothing becomes durable.
    sync_fails: AtomicBool,
}

#[derive(Debug)]
struct FailingFile(Box<dyn DiskFile>, Arc<Faults>);

impl Faults {
    fn room(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.room()?;
        Ok(Box::new(FailingFile(RealDisk.create(path)?, self.0.clone())))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FailingFile(RealDisk.open(path)?, self.0.clone())))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(folder)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.0.room()?;
        RealDisk.create_dir_all(folder)
    }
    fn remove_dir_all(&self, folder: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(folder)
    }
    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_dir(folder)
    }
}

impl DiskFile for FailingFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        if self.1.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the device reports an error"));
        }
        self.0.sync_data()
    }
    fn zero(&mut self, from: u64, to: u64) -> io::Result<()> {
        self.1.room()?;
        self.0.zero(from, to)
    }
}

async fn house(disk: &FailingDisk) -> House {
    House::on(&[], Machine { disk: Arc::new(disk.clone()), ..Machine::default() }).await
}

/// How often the model was called.
async fn calls(house: &House) -> u64 {
    house.last().await.pointer("/count").and_then(Value::as_u64).unwrap()
}

async fn ready(house: &House) -> u16 {
    let client = Client::new(&format!("http://{}", house.node.operations), None);
    blocking(move || client.raw("GET", "/readyz", None, &[]).unwrap().0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_deny_a_full_disk_refuses_every_call_and_the_house_recovers_by_itself() {
    let disk = FailingDisk::default();
    let house = house(&disk).await;
    disk.0.full.store(true, Ordering::SeqCst);
    // The room that was laid out before is used up first.
    let mut answered = 0;
    let refused = loop {
        let (status, body) = house.chat(&house.alice.1, "assistant", "say: hi").await;
        if status != 200 {
            break (status, reason(&body).to_owned());
        }
        answered += 1;
        assert!(answered < 5_000, "a disk without room was never noticed");
    };
    assert_eq!(refused, (503, "record_unavailable".to_owned()));
    assert_eq!(calls(&house).await, answered, "a call that is not recorded is not forwarded");
    // Also a refusal by policy is told as what cannot be recorded, not as anything that was decided. Its record is shorter than
    // that of a call, so a few may still fit.
    let mut told = 0;
    let refused = loop {
        let (status, body) = house.chat(&house.mallory, &format!("other-{told}"), "say: hi").await;
        if status != 404 {
            break (status, reason(&body).to_owned());
        }
        told += 1;
        assert!(told < 50, "what cannot be recorded was told as decided");
    };
    assert_eq!(refused, (503, "record_unavailable".to_owned()));
    disk.0.full.store(false, Ordering::SeqCst);
    let back = async { while house.chat(&house.alice.1, "assistant", "say: hi").await.0 != 200 {} };
    tokio::time::timeout(Duration::from_secs(20), back).await.unwrap();
    assert_eq!(ready(&house).await, 200);
    let folder = house.stop().await;
    assert!(verified(folder.path()) > 2 * answered, "everything that was answered is in the ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_deny_a_disk_that_cannot_sync_stops_the_house_until_it_is_started_again() {
    let disk = FailingDisk::default();
    let house = house(&disk).await;
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    let before = calls(&house).await;
    disk.0.sync_fails.store(true, Ordering::SeqCst);
    let (status, body) = house.chat(&house.alice.1, "assistant", "say: lost").await;
    assert_eq!((status, reason(&body)), (503, "record_unavailable"));
    // A sync that failed once proves nothing when it succeeds the next time: the kernel may have dropped the pages.
    disk.0.sync_fails.store(false, Ordering::SeqCst);
    let (status, body) = house.chat(&house.alice.1, "assistant", "say: hi").await;
    assert_eq!((status, reason(&body)), (503, "record_unavailable"));
    assert_eq!(ready(&house).await, 503, "a balancer sends nothing here");
    assert_eq!(calls(&house).await, before, "nothing was forwarded");
    let model = house.model;
    let alice = house.alice.1.clone();
    let folder = house.stop().await;
    let again = Node::start(&config(folder.path(), &[])).await.unwrap();
    let client = Client::new(&format!("http://{}", again.data), Some(alice));
    let body = json!({"model": "assistant", "messages": [{"role": "user", "content": "say: hi"}]});
    let answered =
        blocking(move || client.raw("POST", "/v1/chat/completions", Some(&body), &[]).unwrap()).await;
    assert_eq!(answered.0, 200, "{model}: {}", answered.1);
    again.stop().await;
    assert!(verified(folder.path()) > 0);
}

/// Verifies the one log of a data folder; how many entries it has.
fn verified(data: &Path) -> u64 {
    let log = command_line::log_folder(data);
    let key = std::fs::read_to_string(log.join("key.vkey")).unwrap().trim().parse().unwrap();
    let report = bartizan_verify::verify_directory(&log, &key, None);
    assert!(report.ok, "{report:?}");
    report.size
}
