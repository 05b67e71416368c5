//! The results as rows, as a file, and as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::Error;

/// A measured value; none where the bound cannot be reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub metric: String,
    pub value: Option<f64>,
    pub unit: &'static str,
    /// What the rounds brought, where the value is their median. Cases measured in turns are compared round by round,
    /// so that a machine that is slow for a while is so for both.
    pub rounds: Vec<f64>,
}

impl Value {
    /// A value measured once.
    pub fn new(metric: String, value: Option<f64>, unit: &'static str) -> Self {
        Self { metric, value, unit, rounds: Vec::new() }
    }

    /// The median of rounds.
    pub fn median(metric: String, rounds: Vec<f64>, unit: &'static str) -> Self {
        Self { metric, value: median(&rounds), unit, rounds }
    }
}

/// The middle of several numbers; the mean of the two in the middle where they are even in number.
pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

/// What the cases of a run are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// What everything is compared with.
    pub baseline: &'static str,
    /// What Bartizan is compared with besides.
    pub further: &'static [&'static str],
    /// The case without anything to measure, and the rounds whose latencies are also given as what comes on top of it.
    pub added: Option<(&'static str, &'static [&'static str])>,
}

/// One number, beside what it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub case: String,
    pub metric: String,
    /// None where the bound cannot be reached.
    pub value: Option<f64>,
    pub unit: &'static str,
    /// The case that the ratio is to.
    pub baseline: Option<&'static str>,
    pub ratio: Option<f64>,
}

#[derive(Serialize)]
struct File<'a> {
    machine: &'a BTreeMap<&'static str, String>,
    rows: &'a [Row],
}

/// Cases by name with what was measured of each.
pub type Cases = Vec<(String, Vec<Value>)>;

/// The rows of all cases, in the order they were measured.
pub fn rows(cases: &[(String, Vec<Value>)], comparison: &Comparison) -> Vec<Row> {
    let value = |case: &str, metric: &str| {
        let (_, values) = cases.iter().find(|(name, _)| name == case)?;
        values.iter().find(|v| v.metric == metric).cloned()
    };
    let mut rows = Vec::new();
    for (case, values) in cases {
        for v in values {
            rows.extend(compared(case, v, comparison, &|case| value(case, &v.metric)));
        }
        let Some((direct, rounds)) = comparison.added.filter(|(direct, _)| case != direct) else { continue };
        for round in rounds {
            for quantile in ["p50", "p99"] {
                let metric = format!("latency_{quantile}_{round}");
                let number = |case: &str| value(case, &metric)?.value;
                let added = |case: &str| {
                    let added = number(case)? - number(direct)?;
                    Some(Value::new(format!("added_{quantile}_{round}"), Some(added), "us"))
                };
                if let Some(own) = added(case) {
                    rows.extend(compared(case, &own, comparison, &added));
                }
            }
        }
    }
    rows
}

/// One row for each baseline that has the number, or one row without.
fn compared(
    case: &str,
    own: &Value,
    comparison: &Comparison,
    of: &dyn Fn(&str) -> Option<Value>,
) -> Vec<Row> {
    let row = |baseline, ratio| Row {
        case: case.into(),
        metric: own.metric.clone(),
        value: own.value,
        unit: own.unit,
        baseline,
        ratio,
    };
    let further = comparison.further.iter().filter(|_| case.starts_with("bartizan"));
    let baselines = std::iter::once(&comparison.baseline).chain(further);
    let rows: Vec<Row> = baselines
        .filter_map(|baseline| Some(row(Some(*baseline), Some(ratio(own, &of(baseline)?)?))))
        .collect();
    if rows.is_empty() { vec![row(None, None)] } else { rows }
}

/// The median of the ratios of the rounds, where both were measured in as many.
fn ratio(own: &Value, other: &Value) -> Option<f64> {
    let of = |own: f64, other: f64| (own > 0.0 && other > 0.0).then(|| own / other);
    if own.rounds.len() == other.rounds.len() && !own.rounds.is_empty() {
        let pairs = own.rounds.iter().zip(&other.rounds);
        let ratios: Option<Vec<f64>> = pairs.map(|(own, other)| of(*own, *other)).collect();
        return median(&ratios?);
    }
    of(own.value?, other.value?)
}

/// A Markdown table: metrics down, cases across, the ratio to the baseline in brackets.
pub fn table(rows: &[Row], comparison: &Comparison) -> String {
    let (mut cases, mut metrics) = (Vec::new(), Vec::new());
    for row in rows {
        if !cases.contains(&row.case) {
            cases.push(row.case.clone());
        }
        if !metrics.contains(&(row.metric.clone(), row.unit)) {
            metrics.push((row.metric.clone(), row.unit));
        }
    }
    let mut text =
        format!("| metric | unit | {} |\n|---|---|{}\n", cases.join(" | "), "---:|".repeat(cases.len()));
    for (metric, unit) in metrics {
        let of = |case: &String| {
            let row = rows.iter().find(|row| row.case == *case && row.metric == metric);
            row.map_or_else(|| "-".to_owned(), |row| cell(row, comparison))
        };
        let cells: Vec<String> = cases.iter().map(of).collect();
        let _ = writeln!(text, "| {metric} | {unit} | {} |", cells.join(" | "));
    }
    text
}

fn cell(row: &Row, comparison: &Comparison) -> String {
    let Some(value) = row.value else { return "none".to_owned() };
    let digits = if value.abs() < 100.0 { 1 } else { 0 };
    let ratio =
        row.ratio.filter(|_| row.baseline == Some(comparison.baseline) && row.case != comparison.baseline);
    let ratio = ratio.map(|ratio| format!(" ({ratio:.2})")).unwrap_or_default();
    format!("{value:.digits$}{ratio}")
}

pub fn write(path: &Path, machine: &BTreeMap<&'static str, String>, rows: &[Row]) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(&File { machine, rows })?;
    text.push('\n');
    Ok(std::fs::write(path, text)?)
}

/// What the numbers were measured on.
pub fn machine() -> BTreeMap<&'static str, String> {
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    BTreeMap::from([
        ("processor", cpu.trim_start_matches([' ', '\t', ':']).to_owned()),
        ("cores", std::thread::available_parallelism().map_or(0, usize::from).to_string()),
        ("kernel", first_line("uname", &["-sr"]).unwrap_or_default()),
        ("date", first_line("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).unwrap_or_default()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAYS: Comparison = Comparison {
        baseline: "bare",
        further: &["bare_journal", "envoy_token"],
        added: Some(("direct", &["c1"])),
    };

    fn case(name: &str, metric: &str, value: Option<f64>) -> (String, Vec<Value>) {
        (name.to_owned(), vec![Value::new(metric.into(), value, "us")])
    }

    #[test]
    fn rows_compare_with_the_bare_proxy_and_bartizan_also_with_envoy() {
        let cases = [
            case("bare", "request_cpu_c32", Some(40.0)),
            case("envoy_token", "request_cpu_c32", Some(90.0)),
            case("bartizan_token", "request_cpu_c32", Some(60.0)),
        ];
        let rows = rows(&cases, &GATEWAYS);
        let of = |case: &str| {
            rows.iter().filter(|r| r.case == case).map(|r| (r.baseline, r.ratio)).collect::<Vec<_>>()
        };
        assert_eq!(of("envoy_token"), [(Some("bare"), Some(2.25))]);
        assert_eq!(
            of("bartizan_token"),
            [(Some("bare"), Some(1.5)), (Some("envoy_token"), Some(60.0 / 90.0))]
        );
    }

    #[test]
    fn bound_that_cannot_be_reached_has_a_row_and_prints_none() {
        let cases = [case("bare", "rate_p99_1ms", Some(9.0)), case("litellm", "rate_p99_1ms", None)];
        let rows = rows(&cases, &GATEWAYS);
        assert_eq!(rows.last().unwrap().value, None);
        assert!(table(&rows, &GATEWAYS).contains("| rate_p99_1ms | us | 9.0 | none |"));
    }

    #[test]
    fn added_latency_is_what_the_direct_way_does_not_have() {
        let cases =
            [case("direct", "latency_p50_c1", Some(20.0)), case("bare", "latency_p50_c1", Some(100.0))];
        let rows = rows(&cases, &GATEWAYS);
        let added = rows.iter().find(|r| r.metric == "added_p50_c1").unwrap();
        assert_eq!((added.case.as_str(), added.value), ("bare", Some(80.0)));
    }
    #[test]
    fn rounds_are_compared_in_pairs_so_that_a_slow_while_does_not_count() {
        let rounds = |name: &str, rounds: &[f64]| {
            (name.to_owned(), vec![Value::median("per_second".into(), rounds.to_vec(), "1/s")])
        };
        // The medians are of different rounds; in most rounds, slow or not, nine tenths were reached.
        let cases = [rounds("bare", &[100.0, 50.0, 10.0]), rounds("bartizan", &[40.0, 45.0, 9.0])];
        let rows = rows(&cases, &GATEWAYS);
        let own = rows.iter().find(|r| r.case == "bartizan").unwrap();
        assert_eq!((own.value, own.ratio), (Some(40.0), Some(0.9)));
        assert_eq!([median(&[]), median(&[4.0, 1.0, 3.0, 2.0])], [None, Some(2.5)]);
    }
}
