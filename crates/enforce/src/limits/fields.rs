//! How limits are told in header fields: as clients of OpenAI know them, and as the IETF's draft does
//! (draft-ietf-httpapi-ratelimit-headers).

use bartizan_limits::{Claim, Span, Standing};
use bartizan_model::limit::Counted;

/// Fields of an answer.
pub(crate) type Fields = Vec<(&'static str, String)>;

/// The fields that tell how limits stand. Costs are not told: what others have spent is not everybody's to know.
pub(crate) fn fields(claims: &[(Claim, Counted)], standings: &[Standing]) -> Fields {
    let all = || claims.iter().zip(standings).filter(|((claim, _), _)| windowed(claim).is_some());
    let tightest = |kinds: &[Counted]| {
        let of = all().filter(|((_, what), _)| kinds.contains(what));
        of.min_by_key(|((claim, _), standing)| (standing.left, claim.most))
    };
    let mut out = Fields::new();
    if let Some(((claim, _), standing)) = tightest(&[Counted::Requests]) {
        out.push(("x-ratelimit-limit-requests", claim.most.to_string()));
        out.push(("x-ratelimit-remaining-requests", standing.left.to_string()));
        out.extend(standing.reset_us.map(|us| ("x-ratelimit-reset-requests", duration(us))));
    }
    if let Some(((claim, _), standing)) = tightest(&[Counted::Tokens, Counted::TokensIn, Counted::TokensOut])
    {
        out.push(("x-ratelimit-limit-tokens", claim.most.to_string()));
        out.push(("x-ratelimit-remaining-tokens", standing.left.to_string()));
        out.extend(standing.reset_us.map(|us| ("x-ratelimit-reset-tokens", duration(us))));
    }
    let (mut policies, mut states) = (Vec::new(), Vec::new());
    for ((claim, _), standing) in all().filter(|((_, what), _)| *what == Counted::Requests) {
        // A name that cannot stand in a quoted string is not told this way.
        if !claim.limit.as_str().bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            continue;
        }
        let (name, window) = (&claim.limit, windowed(claim).unwrap_or(0));
        policies.push(format!("\"{name}\";q={};w={window}", claim.most));
        let reset = standing.reset_us.map_or(String::new(), |us| format!(";t={}", seconds(us)));
        states.push(format!("\"{name}\";r={}{reset}", standing.left));
    }
    if !policies.is_empty() {
        out.push(("ratelimit-policy", policies.join(", ")));
        out.push(("ratelimit", states.join(", ")));
    }
    out
}

/// The length of a claim's window in seconds; none without one.
const fn windowed(claim: &Claim) -> Option<u64> {
    match claim.span {
        Span::Fixed { start, end } => Some(end.as_secs() - start.as_secs()),
        Span::Sliding { window_us } => Some(window_us / 1_000_000),
        Span::Whole => None,
    }
}

/// Whole seconds, rounded up: who comes back then does not come too early.
pub(crate) const fn seconds(us: u64) -> u64 {
    us.div_ceil(1_000_000)
}

/// As OpenAI writes it: `6m0s`, `1s`, `20ms`.
fn duration(us: u64) -> String {
    let ms = us.div_ceil(1_000);
    let (hours, minutes, secs) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    match (hours, minutes, secs) {
        (0, 0, 0) => format!("{ms}ms"),
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::{Name, Timestamp};
    use bartizan_limits::Of;

    #[test]
    fn the_tightest_limit_is_told_as_clients_know_it_and_costs_are_not() {
        let claim = |name: &str, most, what, span| {
            let of = Of::Amount { key: String::new(), amount: 1 };
            (Claim { limit: name.parse::<Name>().unwrap(), most, hard: true, span, of }, what)
        };
        let minute = Span::Fixed { start: Timestamp::from_secs(60), end: Timestamp::from_secs(120) };
        let claims = [
            claim("wide", 100, Counted::Requests, Span::Sliding { window_us: 3_600_000_000 }),
            claim("narrow", 10, Counted::Requests, minute),
            claim("money", 7, Counted::Cost, minute),
            claim("words", 1_000, Counted::Tokens, minute),
        ];
        let standing = |left, reset_us| Standing { used: 1, left, reset_us: Some(reset_us), over: false };
        let standings =
            [standing(50, 5), standing(9, 59_500_001), standing(1, 1), standing(900, 360_000_000)];
        let told = fields(&claims, &standings);
        let value = |name: &str| told.iter().find(|(known, _)| *known == name).map(|(_, v)| v.as_str());
        assert_eq!(value("x-ratelimit-limit-requests"), Some("10"));
        assert_eq!(value("x-ratelimit-remaining-requests"), Some("9"));
        assert_eq!(value("x-ratelimit-reset-requests"), Some("59s"));
        assert_eq!(
            (value("x-ratelimit-remaining-tokens"), value("x-ratelimit-reset-tokens")),
            (Some("900"), Some("6m0s"))
        );
        assert_eq!(value("ratelimit-policy"), Some("\"wide\";q=100;w=3600, \"narrow\";q=10;w=60"));
        assert_eq!(value("ratelimit"), Some("\"wide\";r=50;t=1, \"narrow\";r=9;t=60"));
        assert!(!told.iter().any(|(_, v)| v.contains("money")));
    }
}
