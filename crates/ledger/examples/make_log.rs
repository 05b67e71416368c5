//! Writes a log folder for other implementations to verify: `make_log FOLDER SIZE [CHANGED]`.
//!
//! Continues the log that is in FOLDER up to SIZE entries and prints its verifier key. With CHANGED the entry of that
//! index is another one: a fork of the log made without. The key is public; never use it for anything.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

use bartizan_ledger::{Appender, Checkpoint, NoteSigner, Tile, TileSource};

const ORIGIN: &str = "log.example/default/2026q4";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (folder, size, changed) = match args.as_slice() {
        [folder, size] => (PathBuf::from(folder), size.parse()?, None),
        [folder, size, changed] => (PathBuf::from(folder), size.parse()?, Some(changed.parse()?)),
        _ => return Err("usage: make_log FOLDER SIZE [CHANGED]".into()),
    };
    let signer = NoteSigner::from_seed(ORIGIN, &[42; 32])?;
    grow(&folder, size, changed, &signer)?;
    #[expect(clippy::print_stdout, reason = "the key is what the caller wants to know")]
    {
        println!("{}", signer.verifier());
    }
    Ok(())
}

fn grow(folder: &Path, size: u64, changed: Option<u64>, signer: &NoteSigner) -> Result<(), Box<dyn Error>> {
    let checkpoint = folder.join("checkpoint");
    let mut log = if checkpoint.exists() {
        let last = Checkpoint::open(&fs::read(&checkpoint)?, signer.verifier())?;
        Appender::resume(last.size, &last.root, &Folder(folder))?
    } else {
        Appender::new()
    };
    for index in log.size()..size {
        let subject = if changed == Some(index) { "mallory" } else { "alice" };
        log.append(format!("{{\"seq\":{index},\"subject\":\"{subject}\"}}").as_bytes())?;
    }
    for file in log.take_files() {
        let path = folder.join(file.tile.path());
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, file.bytes)?;
    }
    fs::create_dir_all(folder)?;
    let head = Checkpoint { origin: ORIGIN.to_owned(), size: log.size(), root: log.root() };
    Ok(fs::write(checkpoint, head.sign(signer))?)
}

struct Folder<'a>(&'a Path);

impl TileSource for Folder<'_> {
    type Error = io::Error;

    fn read(&self, tile: Tile) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.0.join(tile.path())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.map(Some),
        }
    }
}
