//! Commands that need no server: checking and testing bundles, verifying logs, explaining codes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use bartizan_decide::Bundle;

/// Reads a bundle folder: every `.cedar`, `.cedarschema` and `.toml` file below it.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn read_bundle(folder: &Path) -> io::Result<Bundle> {
    let mut files = BTreeMap::new();
    let mut queue = vec![folder.to_owned()];
    while let Some(next) = queue.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                queue.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            if [".cedar", ".cedarschema", ".toml"].iter().any(|end| name.ends_with(end)) {
                files.insert(name, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(Bundle { files })
}

/// Reads a duration such as `90s`, `15m`, `12h` or `30d`, in seconds.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_or_refused() {
        assert_eq!(
            (seconds("30d"), seconds("90s"), seconds("12h")),
            (Some(2_592_000), Some(90), Some(43_200))
        );
        for bad in ["", "30", "d", "0d", "-1d", "1y", "99999999999999999999d", "1é"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
