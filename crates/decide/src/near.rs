//! What somebody probably meant.

/// `did you mean …`, if one of `known` is near enough to `word`.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|near| format!("did you mean `{near}`?"))
}

/// The nearest of `known`, if it is near: a third of the word may differ.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = (word.chars().count() / 3).max(1);
    let far = known.into_iter().map(|name| (distance(word, name), name));
    far.filter(|(distance, _)| *distance <= near).min().map(|(_, name)| name)
}

/// How many characters must be put in, taken out, replaced, or exchanged with their neighbour to make one of the other
/// (optimal string alignment). Long words are cut: this is only a hint.
fn distance(a: &str, b: &str) -> usize {
    const LONG: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(LONG).collect(), b.chars().take(LONG).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(LONG);
            let mut best =
                (get(&above, j) + usize::from(x != y)).min(get(&above, j + 1) + 1).min(get(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(get(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_is_near_and_another_word_is_not() {
        for (word, near) in [
            ("redcat", Some("redact")),
            ("Rol", Some("Role")),
            ("model:invok", Some("model:invoke")),
            ("step-up", Some("step_up")),
            ("frobnicate", None),
            ("", None),
        ] {
            let known = ["redact", "Role", "model:invoke", "step_up"];
            assert_eq!(nearest(word, known), near, "{word}");
        }
        assert_eq!((distance("", "abc"), distance("abc", "abc"), distance("ab", "ba")), (3, 0, 1));
    }
}
