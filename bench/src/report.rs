//! The results as rows, as a file, and as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::Error;
use crate::measure::Value;

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

/// What everything is compared with, and what Bartizan is compared with besides.
const BASELINE: &str = "bare";
const FURTHER: &[&str] = &["bare_journal", "envoy_token"];

/// Latencies of these rounds are also given as what the gateway adds to the direct way.
const ADDED: &[&str] = &["c1", "open_1k"];

/// The rows of all cases, in the order they were measured.
pub fn rows(cases: &[(String, Vec<Value>)]) -> Vec<Row> {
    let value = |case: &str, metric: &str| {
        let (_, values) = cases.iter().find(|(name, _)| name == case)?;
        values.iter().find(|v| v.metric == metric)?.value
    };
    let mut rows = Vec::new();
    for (case, values) in cases {
        for v in values {
            rows.extend(compared(case, &v.metric, v.unit, &|case| value(case, &v.metric)));
        }
        for round in ADDED.iter().filter(|_| case != "direct") {
            for quantile in ["p50", "p99"] {
                let metric = format!("latency_{quantile}_{round}");
                let added =
                    |case: &str| value(case, &metric).zip(value("direct", &metric)).map(|(own, d)| own - d);
                if added(case).is_some() {
                    rows.extend(compared(case, &format!("added_{quantile}_{round}"), "us", &added));
                }
            }
        }
    }
    rows
}

/// One row for each baseline that has the number, or one row without.
fn compared(case: &str, metric: &str, unit: &'static str, value: &dyn Fn(&str) -> Option<f64>) -> Vec<Row> {
    let own = value(case);
    let row =
        |baseline, ratio| Row { case: case.into(), metric: metric.into(), value: own, unit, baseline, ratio };
    let further = FURTHER.iter().filter(|_| case.starts_with("bartizan"));
    let baselines = std::iter::once(&BASELINE).chain(further);
    let ratio = |baseline: &&str| {
        own.filter(|v| *v > 0.0).zip(value(baseline).filter(|v| *v > 0.0)).map(|(own, other)| own / other)
    };
    let rows: Vec<Row> =
        baselines.filter_map(|baseline| Some(row(Some(*baseline), Some(ratio(baseline)?)))).collect();
    if rows.is_empty() { vec![row(None, None)] } else { rows }
}

/// A Markdown table: metrics down, cases across, the ratio to the bare proxy in brackets.
pub fn table(rows: &[Row]) -> String {
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
        let cell = |case: &String| {
            let row = rows.iter().find(|row| row.case == *case && row.metric == metric);
            row.map_or_else(|| "-".to_owned(), cell)
        };
        let cells: Vec<String> = cases.iter().map(cell).collect();
        let _ = writeln!(text, "| {metric} | {unit} | {} |", cells.join(" | "));
    }
    text
}

fn cell(row: &Row) -> String {
    let Some(value) = row.value else { return "none".to_owned() };
    let digits = if value.abs() < 100.0 { 1 } else { 0 };
    let ratio = row.ratio.filter(|_| row.baseline == Some(BASELINE) && row.case != BASELINE);
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

    fn case(name: &str, metric: &str, value: Option<f64>) -> (String, Vec<Value>) {
        (name.to_owned(), vec![Value { metric: metric.into(), value, unit: "us" }])
    }

    #[test]
    fn rows_compare_with_the_bare_proxy_and_bartizan_also_with_envoy() {
        let cases = [
            case("bare", "request_cpu_c32", Some(40.0)),
            case("envoy_token", "request_cpu_c32", Some(90.0)),
            case("bartizan_token", "request_cpu_c32", Some(60.0)),
        ];
        let rows = rows(&cases);
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
        let rows = rows(&[case("bare", "rate_p99_1ms", Some(9.0)), case("litellm", "rate_p99_1ms", None)]);
        assert_eq!(rows.last().unwrap().value, None);
        assert!(table(&rows).contains("| rate_p99_1ms | us | 9.0 | none |"));
    }

    #[test]
    fn added_latency_is_what_the_direct_way_does_not_have() {
        let cases =
            [case("direct", "latency_p50_c1", Some(20.0)), case("bare", "latency_p50_c1", Some(100.0))];
        let rows = rows(&cases);
        let added = rows.iter().find(|r| r.metric == "added_p50_c1").unwrap();
        assert_eq!((added.case.as_str(), added.value), ("bare", Some(80.0)));
    }
}
