//! What calls cost: integers, rounded up once.

use bartizan_base::{Name, Timestamp};
use bartizan_model::PriceSpec;

/// Tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the request, those that the provider had kept included.
    pub input: u64,
    /// Of those, how many the provider had kept.
    pub cached: u64,
    /// Of the answer.
    pub output: u64,
}

/// What `tokens` cost, in millionths: never less than the exact amount, and less than one millionth more.
#[must_use]
pub fn cost(price: &PriceSpec, tokens: Tokens) -> u64 {
    let cached = tokens.cached.min(tokens.input);
    let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
    let sum = part(tokens.input - cached, price.input)
        .saturating_add(part(cached, price.cached_input.unwrap_or(price.input)))
        .saturating_add(part(tokens.output, price.output));
    u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The price of a model at an upstream at `now`; none where nobody has declared one.
#[must_use]
pub fn price_at<'a>(
    prices: impl Iterator<Item = &'a PriceSpec>,
    model: &str,
    upstream: Option<&Name>,
    now: Timestamp,
) -> Option<&'a PriceSpec> {
    let fits = |price: &&PriceSpec| {
        price.model.as_str() == model
            && price.from.begins() <= now
            && (price.upstream.is_none() || price.upstream.as_ref() == upstream)
    };
    prices.filter(fits).max_by_key(|price| (price.upstream.is_some(), price.from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn price(upstream: Option<&str>, from: &str, input: u64) -> PriceSpec {
        let spec =
            json!({"model": "gpt", "upstream": upstream, "from": from, "input": input, "output": 10_000_000});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn the_price_is_that_of_the_day_and_of_the_upstream_before_that_of_all() {
        let prices =
            [price(None, "2026-01-01", 1), price(None, "2026-06-01", 2), price(Some("eu"), "2026-02-01", 3)];
        let at = |upstream: &str, day: &str| {
            let now = Timestamp::parse_rfc3339(&format!("{day}T00:00:00Z")).unwrap();
            let upstream: Name = upstream.parse().unwrap();
            price_at(prices.iter(), "gpt", Some(&upstream), now).map(|p| p.input)
        };
        assert_eq!(at("us", "2025-12-31"), None);
        assert_eq!((at("us", "2026-05-31"), at("us", "2026-06-01")), (Some(1), Some(2)));
        assert_eq!((at("eu", "2026-01-31"), at("eu", "2026-07-01")), (Some(1), Some(3)));
        assert_eq!(price_at(prices.iter(), "other", None, Timestamp::MAX), None);
    }

    #[test]
    fn kept_tokens_have_their_own_price_and_a_fraction_is_paid_for_whole() {
        let price = PriceSpec { cached_input: Some(250_000), ..price(None, "2026-01-01", 2_500_000) };
        assert_eq!(cost(&price, Tokens { input: 1_000, cached: 0, output: 100 }), 2_500 + 1_000);
        assert_eq!(cost(&price, Tokens { input: 1_000, cached: 800, output: 100 }), 500 + 200 + 1_000);
        assert_eq!(
            cost(&price, Tokens { input: 1, cached: 9, output: 0 }),
            1,
            "never more kept than there are"
        );
        assert_eq!(cost(&price, Tokens::default()), 0);
        let most = PriceSpec { input: u64::MAX, ..price };
        assert_eq!(cost(&most, Tokens { input: u64::MAX, cached: 0, output: u64::MAX }), u64::MAX);
    }

    proptest! {
        #[test]
        fn two_calls_never_cost_less_than_one_of_both(a in 0_u64..1_000_000, b in 0_u64..1_000_000, input in 0_u64..100_000_000) {
            let price = price(None, "2026-01-01", input);
            let of = |tokens| cost(&price, Tokens { input: tokens, cached: 0, output: 0 });
            prop_assert!(of(a) + of(b) >= of(a + b) && of(a) + of(b) <= of(a + b) + 1);
        }
    }
}
