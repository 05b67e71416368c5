//! Writes the golden files: the catalogue in every format. `cargo run -p bartizan-export --example golden`.

use std::path::Path;
use std::{error, fs};

use bartizan_export::{Exporter, Format, catalogue};

fn main() -> Result<(), Box<dyn error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    fs::create_dir_all(&folder)?;
    for format in Format::ALL {
        let mut exporter = Exporter::new(*format, Vec::new())?;
        for placed in catalogue::placed() {
            exporter.write(&placed)?;
        }
        fs::write(folder.join(format!("records.{}", format.extension())), exporter.finish()?)?;
    }
    Ok(())
}
