//! What authors of policy do with a folder, without a server; and what they ask a server about it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bartizan_base::Clock as _;
use bartizan_cli::{DrawnAs, ExitCode, Global, Output};
use bartizan_decide::{
    Bundle, CompiledBundle, Drawn, TEMPLATES, Template, first_files, nearest_template, platform_schema,
};
use bartizan_rt::SystemClock;
use serde_json::{Value, json};

use crate::commands::Failure;
use crate::offline::read_bundle;

/// The bundle in a folder.
pub(crate) fn bundle_in(folder: &Path) -> Result<Bundle, Failure> {
    read_bundle(folder).map_err(|e| Failure::usage(format!("{}: {e}", folder.display())))
}

fn compiled(bundle: &Bundle) -> Result<CompiledBundle, Failure> {
    CompiledBundle::compile(bundle).map_err(|errors| Failure::new(ExitCode::Invalid, errors.to_string()))
}

/// `policy check`.
pub(crate) fn check(global: &Global, folder: &Path) -> Result<ExitCode, Failure> {
    let compiled = compiled(&bundle_in(folder)?)?;
    let (rules, digest, warnings) = (compiled.len(), compiled.digest(), compiled.warnings());
    let value = json!({"ok": true, "rules": rules, "digest": digest, "warnings": warnings});
    Output::new(global.output, io::stdout()).value(&value, |_| {
        let mut out: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
        out.push_str(&format!("ok: {rules} rules, digest {digest}"));
        out
    })?;
    Ok(ExitCode::Ok)
}

/// `policy test`.
pub(crate) fn test(global: &Global, folder: &Path) -> Result<ExitCode, Failure> {
    let bundle = bundle_in(folder)?;
    let tested = Arc::new(compiled(&bundle)?).test(&bundle, SystemClock::new().now());
    if tested.is_empty() {
        let mut failure = Failure::new(ExitCode::Invalid, "the bundle has no tests");
        failure.hint = Some("write some into `tests/NAME.toml`; `bartizan policy new` shows how".to_owned());
        return Err(failure);
    }
    let failed = tested.iter().filter(|t| !t.differences.is_empty()).count();
    let value = serde_json::to_value(&tested).unwrap_or(Value::Null);
    Output::new(global.output, io::stdout()).value(&value, |_| {
        let mut out = String::new();
        for test in &tested {
            let sign = if test.differences.is_empty() { "ok  " } else { "FAIL" };
            out.push_str(&format!("{sign} {}: {}\n", test.file, test.name));
            for difference in &test.differences {
                out.push_str(&format!("       {difference}\n"));
            }
        }
        out + &format!("{} passed, {failed} failed", tested.len() - failed)
    })?;
    Ok(if failed == 0 { ExitCode::Ok } else { ExitCode::Denied })
}

/// `policy coverage`.
pub(crate) fn coverage(global: &Global, folder: &Path) -> Result<ExitCode, Failure> {
    let bundle = bundle_in(folder)?;
    let covered = Arc::new(compiled(&bundle)?).coverage(&bundle, SystemClock::new().now());
    let whole = covered.iter().filter(|rule| rule.both_ways()).count();
    let value = serde_json::to_value(&covered).unwrap_or(Value::Null);
    Output::new(global.output, io::stdout()).value(&value, |_| {
        let mut out = String::new();
        for rule in covered.iter().filter(|rule| !rule.both_ways()) {
            let lacking = match (rule.applied, rule.spared) {
                (0, 0) => "never asked about",
                (0, _) => "never seen to apply",
                _ => "never seen not to apply",
            };
            out.push_str(&format!("{}: {lacking}\n", rule.rule));
        }
        out + &format!("{whole} of {} rules are seen both ways by the tests", covered.len())
    })?;
    Ok(if whole == covered.len() { ExitCode::Ok } else { ExitCode::Denied })
}

/// `policy fmt`.
pub(crate) fn format(global: &Global, folder: &Path, check_only: bool) -> Result<ExitCode, Failure> {
    let bundle = bundle_in(folder)?;
    let formatted = bundle.formatted().map_err(|e| Failure::new(ExitCode::Invalid, e.to_string()))?;
    let changed: Vec<&String> = formatted
        .files
        .iter()
        .filter(|(name, text)| bundle.files.get(*name) != Some(text))
        .map(|(name, _)| name)
        .collect();
    if !check_only {
        for name in &changed {
            let text = formatted.files.get(*name).map(String::as_str).unwrap_or_default();
            fs::write(folder.join(name), text).map_err(|e| Failure::usage(format!("{name}: {e}")))?;
        }
    }
    let value = json!({"changed": changed, "written": !check_only});
    Output::new(global.output, io::stdout()).value(&value, |_| {
        let mut out: String = changed.iter().map(|name| format!("{name}\n")).collect();
        let what = if check_only { "would change" } else { "changed" };
        out.push_str(&format!("{} files {what}", changed.len()));
        out
    })?;
    Ok(if check_only && !changed.is_empty() { ExitCode::Denied } else { ExitCode::Ok })
}

/// `policy graph`.
pub(crate) fn graph(global: &Global, folder: &Path, drawn: DrawnAs) -> Result<ExitCode, Failure> {
    let drawn = match drawn {
        DrawnAs::Dot => Drawn::Dot,
        DrawnAs::Mermaid => Drawn::Mermaid,
    };
    let picture = compiled(&bundle_in(folder)?)?.graph(drawn);
    Output::new(global.output, io::stdout())
        .value(&json!({"graph": picture}), |_| picture.trim_end().to_owned())?;
    Ok(ExitCode::Ok)
}

/// `policy schema`.
pub(crate) fn schema(global: &Global) -> Result<ExitCode, Failure> {
    let schema = platform_schema();
    Output::new(global.output, io::stdout())
        .value(&json!({"schema": schema}), |_| schema.trim_end().to_owned())?;
    Ok(ExitCode::Ok)
}

/// `policy new --list`.
pub(crate) fn list(global: &Global) -> Result<ExitCode, Failure> {
    let all: Vec<Value> =
        TEMPLATES.iter().map(|t| json!({"name": t.name, "title": t.title(), "text": t.text()})).collect();
    Output::new(global.output, io::stdout()).value(&Value::Array(all), |_| {
        let lines: Vec<String> = TEMPLATES.iter().map(|t| format!("{:34} {}", t.name, t.title())).collect();
        lines.join("\n")
    })?;
    Ok(ExitCode::Ok)
}

/// `policy new [PATTERN] FOLDER`: writes what is not there yet, and changes nothing that is.
pub(crate) fn new(global: &Global, pattern: Option<&str>, folder: &Path) -> Result<ExitCode, Failure> {
    let mut files = match pattern {
        None => first_files(),
        Some(name) => match Template::named(name) {
            Some(template) => template.bundle().files,
            None => {
                let mut failure = Failure::usage(format!("there is no pattern `{name}`"));
                let near = nearest_template(name).map(|near| format!("did you mean `{near}`?"));
                failure.hint = Some(near.unwrap_or_else(|| "see `bartizan policy new --list`".to_owned()));
                return Err(failure);
            }
        },
    };
    // What patterns stand on is there once.
    files.retain(|name, _| name != "base.cedar" || !folder.join(name).exists());
    if let Some(present) = files.keys().find(|name| folder.join(name).exists()) {
        return Err(Failure::usage(format!("{} is there already", folder.join(present).display())));
    }
    for (name, text) in &files {
        let path = folder.join(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    }
    let names: Vec<&String> = files.keys().collect();
    Output::new(global.output, io::stdout()).value(&json!({"written": names}), |_| {
        let mut out: String = names.iter().map(|name| format!("{}\n", folder.join(name).display())).collect();
        out.push_str(&format!("next: bartizan policy test {}", folder.display()));
        out
    })?;
    Ok(ExitCode::Ok)
}

/// What a search for reach says, for people.
pub(crate) fn told_reach(value: &Value) -> String {
    let mut out = String::new();
    for item in value.pointer("/items").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        out.push_str(&format!("{:40} {}\n", text("name"), text("verdict")));
    }
    match value.pointer("/next").and_then(Value::as_str) {
        Some(next) => out.push_str(&format!("there may be more: --after {next}")),
        None => out.push_str("that is all"),
    }
    out
}
