//! Random policies in Cedar's own words.

use super::Dice;

/// Which conditions to draw from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Words {
    /// What every store can be asked.
    Common,
    /// Also what only some can.
    Some,
    /// Also what none can, and what errs.
    Any,
}

pub(crate) fn policy(dice: &mut Dice, words: Words) -> String {
    let effect = if dice.one_in(3) { "forbid" } else { "permit" };
    let principal = dice.pick(&[
        "principal",
        "principal",
        "principal",
        "principal",
        "principal is User",
        "principal in Group::\"g0\"",
        "principal == User::\"u0\"",
    ]);
    let action = dice.pick(&["action", "action == Action::\"read\"", "action in Action::\"docs\""]);
    let resource = dice.pick(&[
        "resource",
        "resource",
        "resource",
        "resource is Doc",
        "resource in Project::\"p0\"",
        "resource is Doc in Folder::\"f0\"",
        "resource == Doc::\"d3\"",
    ]);
    let clauses: String = (0..dice.below(3))
        .map(|_| {
            let word = if dice.one_in(4) { "unless" } else { "when" };
            format!(" {word} {{ {} }}", condition(dice, words, 3))
        })
        .collect();
    format!("{effect} ({principal}, {action}, {resource}){clauses};")
}

/// A condition of at most this depth.
pub(crate) fn condition(dice: &mut Dice, words: Words, depth: usize) -> String {
    if depth == 0 {
        return atom(dice, words);
    }
    let inner = |dice: &mut Dice| condition(dice, words, depth - 1);
    match dice.below(9) {
        0 | 1 => format!("({} && {})", inner(dice), inner(dice)),
        2 | 3 => format!("({} || {})", inner(dice), inner(dice)),
        4 => format!("!({})", inner(dice)),
        5 if words >= Words::Some => {
            format!("(if {} then {} else {})", inner(dice), inner(dice), inner(dice))
        }
        _ => atom(dice, words),
    }
}

/// A text as a literal of Cedar.
pub(crate) fn quoted(text: &str) -> String {
    let inner: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            '\n' => "\\n".to_owned(),
            c => c.to_string(),
        })
        .collect();
    format!("\"{inner}\"")
}

fn atom(dice: &mut Dice, words: Words) -> String {
    let kinds = match words {
        Words::Common => 30,
        Words::Some => 46,
        Words::Any => 55,
    };
    let word = quoted(&dice.word());
    let n = dice.number();
    let sign = dice.pick(&["==", "!=", "<", "<=", ">", ">="]);
    let equal = dice.pick(&["==", "!="]);
    let user = format!("User::{}", quoted(&dice.user()));
    let group = format!("Group::{}", quoted(&dice.group()));
    let texts = list(dice, |d| quoted(&d.word()));
    let optional = dice.pick(&["dept", "quota", "draft", "group", "marks", "expires", "extra"]);
    let n = if n == i64::MIN { "(-9223372036854775807 - 1)".to_owned() } else { format!("({n})") };
    match dice.below(kinds) {
        0 => format!("resource.title {equal} {word}"),
        1 => format!("{word} {equal} resource.title"),
        2 => format!("(resource has dept && resource.dept {equal} {word})"),
        3 => format!("resource.level {sign} {}", small(dice)),
        4 => format!("{} {sign} resource.level", small(dice)),
        5 => format!("(resource has quota && resource.quota {sign} {})", small(dice)),
        6 => "resource.public".to_owned(),
        7 => format!("resource.public {equal} {}", dice.coin()),
        8 => format!("(resource has draft && resource.draft {equal} {})", dice.coin()),
        9 => format!("resource.owner {equal} principal"),
        10 => format!("{user} {equal} resource.owner"),
        11 => "(resource has group && principal in resource.group)".to_owned(),
        12 => "resource.readers.contains(principal)".to_owned(),
        13 => "principal in resource.groups".to_owned(),
        14 => format!("resource.groups.containsAny([{group}, Group::\"g0\"])"),
        15 => format!("resource.labels.contains({word})"),
        16 => format!("resource.labels.containsAny({texts})"),
        17 => format!("resource.labels.containsAll({texts})"),
        18 => format!("(resource has marks && resource.marks.containsAny({texts}))"),
        19 => "resource in Project::\"p1\"".to_owned(),
        20 => "resource in [Folder::\"f'2\", Folder::\"f1\"]".to_owned(),
        21 => "resource == Doc::\"d7\"".to_owned(),
        22 => format!("resource.meta.kind {equal} {word}"),
        23 => format!("(resource.meta has rank && resource.meta.rank {sign} {})", small(dice)),
        24 => format!("(resource has extra && resource.extra.note {equal} {word})"),
        25 => format!("(resource.hasTag(\"color\") && resource.getTag(\"color\") {equal} {word})"),
        26 => format!("{texts}.contains(resource.title)"),
        27 => format!("resource.created {sign} {}", moment(dice)),
        28 => dice
            .pick(&[
                "(context.mfa && resource.title == principal.dept)",
                "context.allowed.contains(resource.title)",
                "context.dept == resource.title",
                "principal.level > resource.level",
                "(context.hour < 12 || resource.public)",
                "context.now > resource.created",
            ])
            .to_owned(),
        29 => format!("(resource has expires && resource.expires {sign} context.now)"),
        // From here on, not every store.
        30 => format!("resource has {optional}"),
        31 => format!("!(resource has {optional})"),
        32 => format!("resource.title like \"{}\"", pattern(dice)),
        33 => format!("(resource has dept && resource.dept like \"{}\")", pattern(dice)),
        34 => format!("resource.title {equal} resource.other"),
        35 => format!("resource.level {sign} resource.ceiling"),
        36 => format!("(resource has from && resource.from.isInRange(ip({})))", quoted(&dice.address())),
        37 => format!("(resource has from && resource.from {equal} ip({}))", quoted(&dice.address())),
        38 => {
            let question = dice.pick(&["isIpv4", "isIpv6", "isLoopback", "isMulticast"]);
            format!("(resource has from && resource.from.{question}())")
        }
        39 => {
            let order = dice.pick(&["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"]);
            format!("resource.price.{order}({})", decimal(dice))
        }
        40 => format!("resource.price {equal} {}", decimal(dice)),
        41 => format!("{texts}.containsAll(resource.labels)"),
        42 => format!("resource.labels {equal} {texts}"),
        43 => format!("resource.level {sign} {n}"),
        44 => dice
            .pick(&[
                "resource.labels.isEmpty()",
                "(resource has marks && resource.marks.isEmpty())",
                "!resource.labels.isEmpty()",
            ])
            .to_owned(),
        45 => format!("resource.numbers.contains({n})"),
        // From here on, none.
        46 => format!("resource.level + 1 {sign} {n}"),
        47 => format!("resource.owner.level {sign} {}", small(dice)),
        48 => format!("resource.owner in {group}"),
        49 => "(if resource.public then resource.level else resource.ceiling) > 2".to_owned(),
        50 => "(resource has marks && resource.marks.containsAny(resource.labels))".to_owned(),
        51 => format!("resource.created.offset(duration(\"1d\")) {sign} context.now"),
        52 => format!("-resource.level {sign} {}", small(dice)),
        53 => "resource.readers.contains(resource.owner)".to_owned(),
        _ => format!("resource.level * resource.ceiling {sign} {}", small(dice)),
    }
}

fn list(dice: &mut Dice, mut one: impl FnMut(&mut Dice) -> String) -> String {
    let items: Vec<_> = (0..1 + dice.below(3)).map(|_| one(dice)).collect();
    format!("[{}]", items.join(", "))
}

fn small(dice: &mut Dice) -> String {
    format!("({})", dice.pick(&[-7, -1, 0, 1, 2, 3, 5, 10]))
}

fn moment(dice: &mut Dice) -> String {
    format!("datetime(\"{}\")", super::moment_text(dice.moment()))
}

fn decimal(dice: &mut Dice) -> String {
    format!("decimal(\"{}\")", bartizan_filter::Decimal(dice.decimal()))
}

fn pattern(dice: &mut Dice) -> String {
    const PATTERNS: &[&str] = &[
        "*", "a*", "*b", "a", "", "A*", "a%", "%", "_", "a_b", "a\\*b", "*[a]*", "?", "\u{e9}*", "*\\\\*",
        "*a*b*", "[a]", "*'*", "a?b", "*\\n*",
    ];
    (*dice.pick(PATTERNS)).to_owned()
}
