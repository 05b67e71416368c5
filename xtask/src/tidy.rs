//! Tidiness of tracked files.

use std::process::Command;

use crate::{Failure, root};

/// Source files past this many lines have more than one subject.
const LINES_MAX: usize = 800;

fn tracked() -> Result<Vec<String>, Failure> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let output = output.map_err(|e| format!("git ls-files: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

pub(crate) fn check() -> Result<(), Failure> {
    let mut wrong = Vec::new();
    // Written in halves, so that this file does not hold them itself.
    let banned: Vec<String> = [
        ("TO", "DO:"),
        ("FIX", "ME"),
        ("/wor", "k/"),
        ("/ro", "ot/"),
        ("crates", ".io"),
        ("pypi", ".org"),
        ("registry.npm", "js"),
    ]
    .iter()
    .map(|(a, b)| format!("{a}{b}"))
    .collect();
    for name in tracked()? {
        let checked = [".rs", ".md", ".toml", ".cedar", ".cedarschema", ".py", ".mjs"]
            .iter()
            .any(|end| name.ends_with(end));
        let Ok(text) = std::fs::read_to_string(root().join(&name)) else { continue };
        if !checked {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            if line.ends_with([' ', '\t']) || line.contains('\t') {
                wrong.push(format!("{name}:{number}: a tab or space too many"));
            }
            if let Some(word) = banned.iter().find(|w| line.contains(w.as_str())) {
                wrong.push(format!("{name}:{number}: `{word}` does not belong in a tracked file"));
            }
        }
        if name.ends_with(".rs") && text.lines().count() > LINES_MAX {
            wrong.push(format!("{name}: more than {LINES_MAX} lines"));
        }
        if name.ends_with(".md") {
            wrong.extend(dead_links(&name, &text));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n  ")) }
}

/// Relative links that lead nowhere.
fn dead_links(name: &str, text: &str) -> Vec<String> {
    let folder = root().join(name);
    let folder = folder.parent().map_or_else(root, std::path::Path::to_owned);
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    links
        .filter(|link| !link.contains("://") && !link.starts_with('#') && !link.is_empty())
        .filter(|link| !folder.join(link.split('#').next().unwrap_or(link)).exists())
        .map(|link| format!("{name}: the link `{link}` leads nowhere"))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn tracked_files_are_tidy() {
        assert_eq!(super::check(), Ok(()));
    }
}
