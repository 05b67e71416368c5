//! What is wrong with a bundle, and where: file, line, column, the line itself, and what would help.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Characters of a source line that are shown.
const SHOWN_MAX: usize = 160;

/// One thing wrong with a bundle, or worth a look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BundleError {
    /// In which file; empty for the bundle as a whole.
    pub file: String,
    /// On which line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// In which column, in characters from 1; 0 for the line as a whole.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How many characters of it are meant, at least one.
    pub length: usize,
}

impl BundleError {
    /// About `span` of `text`, in bytes.
    pub(crate) fn at(file: &str, text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self::after(file, text, (0, 1), span, message)
    }

    /// The same, where it is known on which line an earlier place is: a long text is not counted through for each message.
    pub(crate) fn after(
        file: &str,
        text: &str,
        (known, line): (usize, usize),
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = text.get(line_start..).unwrap_or_default();
        let source: String = rest.lines().next().unwrap_or_default().chars().take(SHOWN_MAX).collect();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let meant = text.get(span).unwrap_or_default();
        let length = meant.lines().next().unwrap_or_default().chars().count();
        let room = (source.chars().count() + 1).saturating_sub(column);
        Self {
            file: file.to_owned(),
            line: line + before.get(known..).unwrap_or_default().matches('\n').count(),
            column,
            message: message.into(),
            help: None,
            source: Some(source).filter(|s| !s.trim().is_empty()),
            length: length.min(room).max(1),
        }
    }

    /// About a file as a whole, or with an empty name about the bundle.
    pub(crate) fn of(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), message: message.into(), ..Self::default() }
    }

    /// File and line, as people say it.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// With what would help.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line, self.column) {
            ("", ..) => {}
            (file, 0, _) => write!(f, "{file}: ")?,
            (file, line, 0) => write!(f, "{file}:{line}: ")?,
            (file, line, column) => write!(f, "{file}:{line}:{column}: ")?,
        }
        f.write_str(&self.message)?;
        if let Some(source) = &self.source {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            // A tab stays a tab, so that the mark stands under what it means.
            let indent: String = source
                .chars()
                .take(self.column - self.column.min(1))
                .map(|c| if c == '\t' { c } else { ' ' })
                .collect();
            write!(
                f,
                "\n {margin} |\n {number} | {source}\n {margin} | {indent}{}",
                "^".repeat(self.length)
            )?;
        }
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "\n  hint: {help}"))
    }
}

/// Everything wrong with a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct BundleErrors(pub Vec<BundleError>);

/// Where the statements of a Cedar text stand, annotations included, comments before them not; and whether there is something
/// after the last one that is none.
pub(crate) fn statements(text: &str) -> (Vec<Range<usize>>, bool) {
    let (mut out, mut start, mut depth) = (Vec::new(), None, 0_usize);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '/' && chars.next_if(|(_, next)| *next == '/').is_some() {
            while chars.next_if(|(_, next)| !matches!(next, '\n' | '\r')).is_some() {}
            continue;
        }
        if start.is_none() && !c.is_whitespace() {
            start = Some(at);
        }
        match c {
            '"' => {
                while let Some((_, c)) = chars.next() {
                    match c {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => out.extend(start.take().map(|from| from..at + 1)),
            _ => {}
        }
    }
    (out, start.is_some())
}

/// Where `wanted` stands within `span`; the beginning of `span` if it does not.
pub(crate) fn within(text: &str, span: &Range<usize>, wanted: &str) -> Range<usize> {
    let inside = text.get(span.clone()).unwrap_or_default();
    match inside.find(wanted) {
        Some(at) => span.start + at..span.start + at + wanted.len(),
        None => span.start..span.start + inside.lines().next().unwrap_or_default().len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_under_what_is_meant_also_behind_letters_of_several_bytes() {
        let text = "// é\n\tforbid ä wrong (x);\n";
        let at = text.find("wrong").unwrap();
        let error = BundleError::at("a.cedar", text, at..at + 5, "no").help("yes");
        assert_eq!(
            error.to_string(),
            "a.cedar:2:11: no\n   |\n 2 | \tforbid ä wrong (x);\n   | \t         ^^^^^\n  hint: yes"
        );
        assert_eq!(BundleError::of("a.cedar", "no").to_string(), "a.cedar: no");
        assert_eq!(BundleError::of("", "no").to_string(), "no");
    }

    #[test]
    fn a_place_outside_the_text_is_no_panic() {
        for span in [0..0, 4..90, 90..95, 1..2] {
            assert!(BundleError::at("f", "é\nx", span, "no").to_string().starts_with("f:"));
        }
    }

    #[test]
    fn statements_end_with_a_semicolon_outside_of_texts_and_brackets() {
        let text = "// a; b\n@id(\"a;\\\"\") permit (principal, action, resource);\n\nforbid (x) // ;\n when { [1;2] };";
        let (spans, rest) = statements(text);
        assert!(!rest && !statements("permit (a); // b").1 && statements("permit (a); b // c;").1);
        let found: Vec<&str> = spans.into_iter().map(|span| text.get(span).unwrap()).collect();
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("@id") && found[1].starts_with("forbid") && found[1].ends_with("};"));
    }
}
