//! Parquet, read back by the reader of its own library; `tests/outside/ocsf.py` reads it with a foreign one.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bartizan_export::parquet::COLUMNS;
use bartizan_export::{Exporter, Format, Placed, catalogue};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use crate::world::export;

fn reader(file: Vec<u8>) -> SerializedFileReader<bytes::Bytes> {
    SerializedFileReader::new(file.into()).unwrap()
}

#[test]
fn every_row_holds_what_its_record_says() {
    let placed = catalogue::placed();
    let reader = reader(export(Format::Parquet, &placed));
    let mut rows = 0;
    for (row, placed) in reader.get_row_iter(None).unwrap().zip(&placed) {
        let row = row.unwrap();
        let cell = |name: &str| row.get_column_iter().find(|(n, _)| *n == name).unwrap().1.clone();
        assert_eq!(row.len(), COLUMNS.len());
        assert_eq!(cell("leaf"), Field::Str(placed.leaf.to_string()));
        assert_eq!(cell("raw"), Field::Str(placed.text().to_owned()));
        assert_eq!(cell("index"), Field::Long(placed.index.try_into().unwrap()));
        let value: serde_json::Value = serde_json::from_str(placed.text()).unwrap_or_default();
        let time = value["time_us"].as_i64().map_or(Field::Null, Field::TimestampMicros);
        assert_eq!(cell("time"), time);
        let subject = value["who"]["subject"].as_str().map_or(Field::Null, |s| Field::Str(s.to_owned()));
        assert_eq!(cell("subject"), subject);
        let tokens = value["input_tokens"].as_i64().map_or(Field::Null, Field::Long);
        assert_eq!(cell("input_tokens"), tokens);
        rows += 1;
    }
    assert_eq!(rows, placed.len());
}

#[test]
fn an_export_of_nothing_is_a_whole_file() {
    assert_eq!(reader(export(Format::Parquet, &[])).metadata().file_metadata().num_rows(), 0);
    for format in [Format::JsonLines, Format::Ocsf, Format::Cef, Format::OtlpJson] {
        assert!(export(format, &[]).is_empty());
    }
}

/// Counts what arrives.
#[derive(Clone)]
struct Count(Arc<AtomicUsize>);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn row_groups_are_bounded_by_rows_and_by_bytes() {
    let small = catalogue::placed().remove(5);
    let reader_of = |placed: &Placed, times: usize| {
        let mut exporter = Exporter::new(Format::Parquet, Vec::new()).unwrap();
        (0..times).for_each(|_| exporter.write(placed).unwrap());
        reader(exporter.finish().unwrap())
    };
    let many = reader_of(&small, 33_000);
    let groups: Vec<_> = many.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
    assert_eq!(groups, [16_384, 16_384, 232]);
    // Entries of the greatest length, which do not compress away before they are counted.
    let large = Placed::read(catalogue::ORIGIN.into(), 0, 1, &[b'x'; 65_535]);
    let long = reader_of(&large, 1_000);
    let groups: Vec<_> = long.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
    assert!(groups.len() >= 4 && groups.iter().all(|rows| *rows <= 257), "{groups:?}");
    assert_eq!(groups.iter().sum::<i64>(), 1_000);
}

#[test]
fn what_was_given_is_passed_on_while_the_export_goes_on() {
    let placed = catalogue::placed();
    for format in Format::ALL {
        // A row group of the table must be full; of lines a few requests are enough.
        let times = if *format == Format::Parquet { 20_000 } else { 1_000 };
        let arrived = Count(Arc::new(AtomicUsize::new(0)));
        let mut exporter = Exporter::new(*format, arrived.clone()).unwrap();
        let mut given = 0;
        for placed in placed.iter().cycle().take(times) {
            exporter.write(placed).unwrap();
            given += placed.text().len();
        }
        // Parquet compresses equal rows to almost nothing, but its groups must be on their way.
        let floor = if *format == Format::Parquet { 10_000 } else { given / 2 };
        let arrived = arrived.0.load(Ordering::Relaxed);
        assert!(arrived > floor, "{format}: {arrived} bytes arrived of {given}");
        drop(exporter);
    }
}
