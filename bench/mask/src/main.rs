//! Measures masking of text on one core: whole and in pieces, beside the `regex` crate with patterns of the same things and
//! beside Presidio's pattern recognisers.

mod presidio;
mod rivals;
mod text;

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use bartizan_bench::Error;
use bartizan_bench::report::{self, Cases, Comparison, Value};
use bartizan_mask::{Masker, TextMasker};
use bartizan_model::{Detector, Group};

const USAGE: &str = "usage: mask --results FILE [--python FILE] [--only CASE,CASE] [--quick]";
const CASES: [&str; 7] = [
    "regex_set",
    "regex_each",
    "bartizan_pii",
    "bartizan_secrets",
    "bartizan_all",
    "bartizan_all_pieces",
    "presidio",
];
const COMPARISON: Comparison = Comparison { baseline: "regex_set", further: &[], added: None };
/// Bytes of one text: a long prompt.
const TEXT: usize = 64 << 10;
/// Bytes of a piece of a stream: about three tokens of a model.
const PIECE: usize = 12;

struct Arguments {
    results: PathBuf,
    python: Option<PathBuf>,
    only: Option<Vec<String>>,
    quick: bool,
}

fn main() -> Result<(), Error> {
    let arguments = arguments(std::env::args().skip(1))?;
    let kinds =
        [("prose", text::prose(TEXT, 2_048)), ("dense", text::prose(TEXT, 64)), ("json", text::json(TEXT))];
    let rounds = if arguments.quick { 3 } else { 9 };
    let window = Duration::from_millis(if arguments.quick { 200 } else { 1_000 });
    let wanted =
        |case: &&str| arguments.only.as_ref().is_none_or(|only| only.iter().any(|name| name == case));
    let mut cases: Cases = Vec::new();
    for case in CASES.iter().filter(|case| wanted(case)) {
        let mut values = Vec::new();
        for (kind, text) in &kinds {
            let speeds: Vec<f64> = match *case {
                "presidio" => match &arguments.python {
                    Some(python) => presidio::measure(python, text, rounds)?,
                    None => continue,
                },
                case => {
                    let mut work = work(case)?;
                    (0..rounds).map(|_| speed(text, window, &mut work)).collect()
                }
            };
            values.push(Value::median(format!("throughput_{kind}"), speeds, "MB/s"));
        }
        if !values.is_empty() {
            cases.push(((*case).to_owned(), values));
        }
    }
    let rows = report::rows(&cases, &COMPARISON);
    println!("{}", report::table(&rows, &COMPARISON));
    report::write(&arguments.results, &report::machine(), &rows)
}

type Work = Box<dyn FnMut(&str) -> usize>;

/// What a case does with a text; gives how many bytes came out.
fn work(case: &str) -> Result<Work, Error> {
    let masker = |detectors| Masker::new(&detectors, &std::collections::BTreeMap::new());
    let all = Detector::ALL.iter().cloned().collect();
    Ok(match case {
        "regex_set" => rivals::set()?,
        "regex_each" => rivals::each()?,
        "bartizan_pii" => whole(masker(Group::Pii.members())?),
        "bartizan_secrets" => whole(masker(Group::Secrets.members())?),
        "bartizan_all" => whole(masker(all)?),
        _ => {
            let masker = masker(all)?;
            Box::new(move |text| {
                let mut stream = TextMasker::new(masker.clone());
                let mut bytes = 0;
                for piece in text.as_bytes().chunks(PIECE) {
                    bytes += stream.feed(std::str::from_utf8(piece).unwrap_or_default()).len();
                }
                bytes + stream.finish().len()
            })
        }
    })
}

fn whole(masker: Masker) -> Work {
    Box::new(move |text| masker.mask(text).text.len())
}

/// Millions of bytes a second of the processor, so that what else the machine does does not count.
fn speed(text: &str, window: Duration, work: &mut Work) -> f64 {
    let begin = processor_time();
    let mut bytes = 0_usize;
    while processor_time() - begin < window {
        black_box(work(black_box(text)));
        bytes += text.len();
    }
    bytes as f64 / 1e6 / (processor_time() - begin).as_secs_f64()
}

/// What this thread has used of the processor.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, Error> {
    let (mut results, mut python, mut only, mut quick) = (None, None, None, false);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--results" => results = given.next().map(PathBuf::from),
            "--python" => python = given.next().map(PathBuf::from),
            "--only" => only = given.next().map(|list| list.split(',').map(str::to_owned).collect()),
            "--quick" => quick = true,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(Arguments { results: results.ok_or(USAGE)?, python, only, quick })
}
