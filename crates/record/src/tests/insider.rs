//! Somebody with the machine, and with the key: what shows, and who shows it. `docs/threats.md` lists the cases.

use super::*;
use crate::{LogError, ReadError, Round, Witness, WitnessError};
use bartizan_ledger::{Checkpoint, NoteSigner, Promise, verify_consistency};
use futures_util::future::BoxFuture;
use std::sync::Mutex;

/// The operator's published checkpoint.
const OPERATORS: &str = "/data/log/operator/all/checkpoint";

/// A witness that keeps to the protocol: it cosigns what extends what it has cosigned last.
#[derive(Debug, Default)]
struct Faithful {
    latest: Mutex<Option<(u64, Digest)>>,
    down: Mutex<bool>,
}

impl Witness for Faithful {
    fn name(&self) -> &'static str {
        "faithful"
    }

    fn add_checkpoint<'a>(
        &'a self,
        old: u64,
        proof: &'a [Digest],
        checkpoint: &'a str,
    ) -> BoxFuture<'a, Result<String, WitnessError>> {
        Box::pin(async move {
            if *self.down.lock().unwrap() {
                return Err(WitnessError::Unavailable("it is down".to_owned()));
            }
            let key = verifier("log.example/operator/all").parse().unwrap();
            let new =
                Checkpoint::open(checkpoint.as_bytes(), &key).map_err(|_| WitnessError::Refused(403))?;
            let mut latest = self.latest.lock().unwrap();
            let (size, root) = latest.unwrap_or((0, bartizan_ledger::empty_root()));
            if size != old {
                return Err(WitnessError::Knows(size));
            }
            verify_consistency((size, root), (new.size, new.root), proof)
                .map_err(|_| WitnessError::Refused(422))?;
            *latest = Some((new.size, new.root));
            Ok("\u{2014} faithful AAAA\n".to_owned())
        })
    }
}

async fn work(recorder: &Recorder, from: u64, to: u64) {
    for n in from..to {
        drop(intend(recorder, parts(n)).await.unwrap());
    }
    recorder.seal_now().await.unwrap();
    recorder.tell_operator().await.unwrap();
    recorder.seal_now().await.unwrap();
}

async fn round(recorder: &Recorder, witness: &Arc<Faithful>) -> Result<Round, OpenError> {
    recorder.witness_round(&[witness.clone() as Arc<dyn Witness>]).await
}

#[tokio::test]
async fn a_witness_cosigns_what_grows_and_its_cosignature_is_published() {
    let (disk, witness) = (SimDisk::default(), Arc::new(Faithful::default()));
    let recorder = open(&disk).await;
    for n in 0..4 {
        work(&recorder, n * 10, n * 10 + 10).await;
        let round = round(&recorder, &witness).await.unwrap();
        assert_eq!(round.cosigned, ["faithful"]);
        let published = disk.files()[Path::new(OPERATORS)].clone();
        assert_eq!(published, round.checkpoint.as_bytes());
        assert!(String::from_utf8(published).unwrap().ends_with("\u{2014} faithful AAAA\n"));
    }
    // Nothing new: it cosigns the same once more.
    assert_eq!(round(&recorder, &witness).await.unwrap().missing, []);
    *witness.down.lock().unwrap() = true;
    let silent = round(&recorder, &witness).await.unwrap();
    assert_eq!((silent.cosigned.len(), silent.missing.len()), (0, 1));
    recorder.close().await;
}

#[tokio::test]
async fn a_house_put_back_as_a_whole_starts_and_only_the_witness_and_the_receipt_tell() {
    let (disk, witness) = (SimDisk::default(), Arc::new(Faithful::default()));
    let recorder = open(&disk).await;
    work(&recorder, 0, 10).await;
    round(&recorder, &witness).await.unwrap();
    let snapshot = disk.rebooted();
    let late = intend(&recorder, parts(10)).await.unwrap();
    let receipt = late.receipt().clone();
    drop(late);
    work(&recorder, 11, 20).await;
    round(&recorder, &witness).await.unwrap();
    recorder.close().await;

    let again = open(&snapshot).await;
    work(&again, 30, 31).await;
    // Nothing inside can know.
    assert!(again.failure().is_none());
    // The caller can: the house has signed that this record would be in the log.
    let header = receipt.to_string();
    let promise: Promise = header.splitn(5, ';').nth(4).unwrap().parse().unwrap();
    let key = verifier("log.example/default/2026q4").parse().unwrap();
    promise.verify(receipt.leaf, "log.example", &key).unwrap();
    let held = entries(&snapshot, &default_log());
    assert!(held.iter().all(|entry| leaf_hash(entry) != receipt.leaf));
    // And the witness, whether the log is still shorter than what it knows, as long, or longer by now.
    for n in 0..3 {
        let told = round(&again, &witness).await.unwrap_err();
        assert!(matches!(told, OpenError::Log(LogError::Witnessed { .. })), "{told}");
        assert!(told.to_string().contains("faithful"), "{told}");
        work(&again, 40 + n, 41 + n).await;
    }
}

#[tokio::test]
async fn a_forked_operators_log_of_the_same_or_a_larger_size_is_not_cosigned() {
    let witness = Arc::new(Faithful::default());
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    work(&recorder, 0, 10).await;
    round(&recorder, &witness).await.unwrap();
    recorder.close().await;
    // Another history under the same key.
    let fork = SimDisk::default();
    let forked = open(&fork).await;
    work(&forked, 50, 52).await;
    work(&forked, 52, 53).await;
    let told = round(&forked, &witness).await.unwrap_err();
    assert!(told.to_string().contains("another history"), "{told}");
    assert!(!String::from_utf8_lossy(&fork.files()[Path::new(OPERATORS)]).contains("faithful"));
}

/// Rewrites the default log with one entry changed: hashes, tiles and signature made anew with the real key.
fn rewritten(disk: &SimDisk) -> (SimDisk, (u64, Digest)) {
    let mut all = entries(disk, &default_log());
    let at = all[1].iter().position(|b| *b == b'o').unwrap();
    all[1][at] = b'0';
    let forged = disk.rebooted();
    let leaves: Vec<Digest> = all.iter().map(|e| leaf_hash(e)).collect();
    let size = all.len() as u64;
    let root = bartizan_ledger::root_of(&leaves);
    let signer = NoteSigner::from_seed("log.example/default/2026q4", &[5; 32]).unwrap();
    let note = Checkpoint { origin: "log.example/default/2026q4".to_owned(), size, root }.sign(&signer);
    for tile in bartizan_ledger::tiles_for(size) {
        let from = usize::try_from(tile.index * 256).unwrap();
        let to = from + usize::from(tile.width);
        let bytes = match tile.level {
            None => bartizan_ledger::encode_bundle(all[from..to].iter().map(|e| &**e)).unwrap(),
            Some(_) => leaves[from..to].iter().flat_map(|h| *h.as_bytes()).collect(),
        };
        forged.tamper(&default_log().join(tile.path()), |file| *file = bytes);
    }
    forged.tamper(&default_log().join("checkpoint"), |file| *file = note.into_bytes());
    (forged, (size, root))
}

#[tokio::test]
async fn a_rewritten_log_with_a_true_signature_is_refused_by_the_lock_and_then_by_the_operators_log() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    work(&recorder, 0, 10).await;
    std::mem::forget(recorder);
    let (forged, head) = rewritten(&disk);
    assert!(
        matches!(open_at(&forged, &clock()).await, Err(OpenError::Log(_))),
        "the lock store knows the root"
    );
    // The lock store is rewritten as well; its table has no memory.
    let (forged, _) = rewritten(&disk);
    forged.forget_swaps("log.example/default/2026q4");
    bartizan_store::Checkpoints::swap(&forged, "log.example/default/2026q4", None, head).await.unwrap();
    let refused = open_at(&forged, &clock()).await.unwrap_err();
    assert!(
        refused.to_string().contains("rolled back or changed") || refused.to_string().contains("changed"),
        "{refused}"
    );
}

#[tokio::test]
async fn inv_ack_earlier_segments_that_are_put_back_are_refused_or_harmless() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    let mut acked = BTreeMap::new();
    let mut earlier: BTreeMap<(PathBuf, Vec<u8>), ()> = BTreeMap::new();
    for n in 0..12 {
        let intent = intend(&recorder, parts(n)).await.unwrap();
        acked.insert(intent.receipt().seq, intent.receipt().leaf);
        drop(intent);
        let wal = disk.files().into_iter().filter(|(path, _)| path.starts_with("/data/wal"));
        earlier.extend(wal.map(|file| (file, ())));
        if n % 2 == 1 {
            recorder.seal_now().await.unwrap();
        }
    }
    recorder.close().await;
    assert!(super::crash::used_again(&disk) > 0);
    let disk = disk.rebooted();
    let now = disk.files();
    let is_segment =
        |path: &&PathBuf| path.starts_with("/data/wal") && path.extension().is_some_and(|e| e == "seg");
    let last = now.keys().rfind(is_segment).unwrap().clone();
    // As many sectors as are used.
    let used = now[&last].chunks(512).position(|sector| sector.iter().all(|b| *b == 0));
    let used = used.unwrap_or(now[&last].len() / 512) * 512;
    let (mut refused, mut harmless) = (0, 0);
    for (path, bytes) in earlier.into_keys() {
        let first_of = path.with_extension("seg");
        let mut cases: Vec<(&str, PathBuf, Vec<u8>)> = vec![
            ("under its name", first_of, bytes.clone()),
            ("under the last one's name", last.clone(), bytes.clone()),
            ("as the one behind", PathBuf::from("/data/wal/00000000000000009000.seg"), bytes.clone()),
            ("as a freed one", PathBuf::from("/data/wal/00000000000000000001.old"), bytes.clone()),
        ];
        // Its sectors at their places in the last one, from each place on.
        for from in (0..bytes.len()).step_by(512) {
            let mut mixed = now[&last].clone();
            mixed.truncate(from);
            mixed.extend_from_slice(&bytes[from..]);
            cases.push((
                if from < used { "over the last one" } else { "behind its end" },
                last.clone(),
                mixed,
            ));
        }
        for (what, at, bytes) in cases {
            let what = format!("{} {what}", path.display());
            let changed = disk.rebooted();
            crate::disk::write_whole(&changed, Path::new(""), &[(at, bytes)]).unwrap();
            match open_at(&changed.rebooted(), &clock()).await {
                Ok(_) => {}
                Err(error) => {
                    assert!(error.to_string().contains("second copy"), "{what}: names the way out: {error}");
                    refused += 1;
                    continue;
                }
            }
            let again = open_at(&changed, &clock()).await.unwrap();
            drop(intend(&again, parts(500)).await.unwrap());
            again.close().await;
            super::crash::check(&changed, &acked, &what);
            harmless += 1;
        }
    }
    assert!(refused > 20 && harmless > 10, "{refused} refused, {harmless} harmless");
}

/// What a file is for. Checkpoint and key are for readers elsewhere: a start takes the head from the lock store and writes
/// them anew. Partial tiles of earlier sizes are for readers of older checkpoints. Of a segment the end may be torn.
fn kind(path: &Path, sizes: &BTreeMap<PathBuf, u64>) -> String {
    let Some((folder, size)) = sizes.iter().find(|(folder, _)| path.starts_with(folder)) else {
        return "segment".to_owned();
    };
    let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
    match name.parse::<bartizan_ledger::Tile>() {
        Ok(tile) if bartizan_ledger::Tile::at(tile.level, tile.index, *size) == Some(tile) => {
            "tile".to_owned()
        }
        Ok(_) => "earlier partial tile".to_owned(),
        Err(_) => name.to_owned(),
    }
}

#[tokio::test]
async fn a_flipped_bit_in_any_file_is_refused_or_harmless_and_never_read_as_truth() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    work(&recorder, 0, 6).await;
    recorder.close().await;
    let disk = disk.rebooted();
    let truth = sealed(&disk);
    let origin = "log.example/default/2026q4";
    let sizes: BTreeMap<PathBuf, u64> = disk
        .files()
        .into_iter()
        .filter(|(path, _)| path.ends_with("checkpoint"))
        .map(|(path, text)| {
            let size = String::from_utf8(text).unwrap().lines().nth(1).unwrap().parse().unwrap();
            (path.parent().unwrap().to_owned(), size)
        })
        .collect();
    let (mut refused, mut harmless) = (BTreeMap::new(), BTreeMap::new());
    for (path, bytes) in disk.files() {
        let kind = kind(&path, &sizes);
        // The written part of a segment; what follows is zeroes to its end.
        let written = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 20).min(bytes.len());
        for at in (0..written).step_by(7) {
            let flipped = disk.rebooted();
            flipped.tamper(&path, |bytes| bytes[at] ^= 1 << (at % 8));
            let what = format!("{} byte {at}", path.display());
            let Ok(again) = open_at(&flipped, &clock()).await else {
                *refused.entry(kind.clone()).or_insert(0) += 1;
                continue;
            };
            let read = reader(&again, Tenant::default_tenant(), 900).await;
            let size =
                again.heads(&read).unwrap().iter().find(|h| &*h.origin == origin).map_or(0, |h| h.size);
            match again.entries(&read, origin, 0, usize::try_from(size).unwrap()).await {
                Ok(entries) => {
                    for entry in entries {
                        let record: Record = serde_json::from_slice(&entry).unwrap();
                        if let Some(true_one) = truth.get(&record.seq) {
                            assert_eq!(record, *true_one, "{what}: a changed record was read as truth");
                        }
                    }
                    assert!(kind != "tile", "{what}: a tile in force is of no consequence");
                    *harmless.entry(kind.clone()).or_insert(0) += 1;
                }
                Err(ReadError::Damaged(_) | ReadError::Io { .. }) => {
                    *refused.entry(kind.clone()).or_insert(0) += 1
                }
                Err(error) => panic!("{what}: {error}"),
            }
            drop(read);
            std::mem::forget(again);
        }
    }
    let total = |map: &BTreeMap<String, usize>| map.values().sum::<usize>();
    assert!(total(&refused) > 100, "{refused:?}");
    assert!(harmless.len() <= 4, "{harmless:?}");
}

/// A witness that cosigns whatever it is shown, with a key of its own.
#[derive(Debug)]
pub(super) struct Credulous(bartizan_ledger::Cosigner);

impl Credulous {
    pub(super) fn new(name: &str, seed: u8) -> Self {
        Self(bartizan_ledger::Cosigner::from_seed(name, &[seed; 32]).unwrap())
    }
}

impl Witness for Credulous {
    fn name(&self) -> &str {
        self.0.verifier().name()
    }

    fn add_checkpoint<'a>(
        &'a self,
        _: u64,
        _: &'a [Digest],
        checkpoint: &'a str,
    ) -> BoxFuture<'a, Result<String, WitnessError>> {
        let text = checkpoint.split_once("\n\n").unwrap().0.to_owned() + "\n";
        Box::pin(async move { Ok(self.0.cosign(&text, 1_795_161_600).unwrap()) })
    }
}

async fn ask_for(recorder: &Recorder, of: u64, n: u64) -> crate::WitnessedProof {
    let reading = reader(recorder, Tenant::default_tenant(), n).await;
    recorder.witnessed_proof(&reading, id(of)).await.unwrap()
}

#[tokio::test]
async fn a_decision_is_proven_to_be_in_the_log_that_a_witness_cosigned_once_it_was_told() {
    use crate::WitnessedProof;
    use bartizan_ledger::{Policy, VerifierKey, WitnessedReceipt};
    let disk = SimDisk::default();
    let witness = Arc::new(Credulous::new("w.example", 9));
    let policy = format!("witness w {}\nquorum w\n", witness.0.verifier());
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let all = [witness as Arc<dyn Witness>];
    let recorder = open(&disk).await;
    drop(intend(&recorder, parts(1)).await.unwrap());
    assert_eq!(ask_for(&recorder, 1, 100).await, WitnessedProof::Unsealed);
    work(&recorder, 2, 12).await;
    assert_eq!(ask_for(&recorder, 1, 101).await, WitnessedProof::Unwitnessed);
    // What was cosigned is for a policy to judge: a round alone changes nothing.
    let round = recorder.witness_round(&all).await.unwrap();
    assert_eq!(ask_for(&recorder, 1, 102).await, WitnessedProof::Unwitnessed);
    recorder.note_witnessed(&round);
    assert_eq!(ask_for(&recorder, 7_000, 103).await, WitnessedProof::Unsealed);

    let key: VerifierKey = verifier("log.example/default/2026q4").parse().unwrap();
    let mut sizes = std::collections::BTreeSet::new();
    for grown in 0..3_u64 {
        // The log goes on, past full tiles too; what was witnessed stays provable.
        let from = 1_000 + grown * 300;
        work(&recorder, from, from + 300).await;
        assert_eq!(ask_for(&recorder, from, 200 + grown).await, WitnessedProof::Untold);
        for of in (1..12).chain((0..grown).map(|n| 1_000 + n * 300 + 299)) {
            let asked = ask_for(&recorder, of, 10_000 + grown * 10_000 + of).await;
            let WitnessedProof::Proof(proof) = asked else { panic!("{of}: {asked:?}") };
            let receipt = WitnessedReceipt::parse(&proof.text).unwrap();
            let answer = receipt.verify(leaf_hash(&proof.entry), &key, &policy).unwrap();
            assert_eq!(answer.cosigned.cosignatures.len(), 1);
            let record: Record = serde_json::from_slice(&proof.entry).unwrap();
            assert!(matches!(record.body, Body::Intent(intent) if intent.id == id(of)));
            sizes.insert(answer.checkpoint.size);
        }
        let round = recorder.witness_round(&all).await.unwrap();
        recorder.note_witnessed(&round);
    }
    assert_eq!(sizes.len(), 3, "each proof leads to what was told first: {sizes:?}");
    // Nobody reads of another tenant's decision.
    let theirs = reader(&recorder, tenant("acme"), 90_000).await;
    assert_eq!(recorder.witnessed_proof(&theirs, id(1)).await.unwrap(), WitnessedProof::Unsealed);
    recorder.close().await;
}
