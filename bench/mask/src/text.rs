//! Texts as people write them, made the same way every time.

const WORDS: &[&str] = &[
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "from",
    "or",
    "had",
    "an",
    "they",
    "which",
    "one",
    "you",
    "were",
    "all",
    "her",
    "she",
    "there",
    "would",
    "their",
    "we",
    "him",
    "been",
    "has",
    "when",
    "who",
    "will",
    "no",
    "more",
    "if",
    "out",
    "so",
    "up",
    "said",
    "what",
    "its",
    "about",
    "than",
    "into",
    "them",
    "can",
    "only",
    "other",
    "time",
    "new",
    "some",
    "could",
    "these",
    "two",
    "may",
    "first",
    "then",
    "do",
    "any",
    "like",
    "my",
    "now",
    "over",
    "such",
    "our",
    "man",
    "me",
    "even",
    "most",
    "made",
    "after",
    "also",
    "well",
    "did",
    "many",
    "before",
    "must",
    "years",
    "back",
    "through",
    "much",
    "where",
    "your",
    "way",
    "down",
    "should",
    "because",
    "long",
    "each",
    "just",
    "state",
    "those",
    "people",
    "too",
    "little",
    "good",
    "world",
    "make",
    "very",
    "year",
    "still",
    "see",
    "own",
    "work",
    "men",
    "day",
    "get",
    "here",
    "old",
    "between",
    "both",
    "life",
    "being",
    "under",
    "three",
    "never",
    "know",
    "same",
    "last",
    "another",
    "while",
    "us",
    "customer",
    "invoice",
    "delivery",
    "contract",
    "account",
    "meeting",
    "project",
    "report",
    "department",
    "question",
];

/// What is to be found.
const FINDS: &[&str] = &[
    "ann.lee@mail.example.org",
    "4111 1111 1111 1111",
    "+49 30 901820",
    "DE89 3704 0044 0532 0130 00",
    "192.168.10.1",
    "536-90-4399",
    "AKIAIOSFODNN7EXAMPLE",
    "password: hunter22",
    "RSSMRA85T10A562S",
    "(212) 555-0188",
    "86095742719",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
];

/// Numbers that are nothing.
const NUMBERS: &[&str] = &["12", "2026", "3.5", "1,200", "20.11.2026", "10:30", "v2.4.1", "42", "100"];

struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        // A linear congruential generator is even enough for texts.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.next(all.len())]
    }
}

/// Prose with something to be found every `every` bytes on average, and a number in every other sentence.
pub fn prose(length: usize, every: usize) -> String {
    let mut dice = Dice(1);
    let mut text = String::new();
    let mut since = 0;
    while text.len() < length {
        let words = 6 + dice.next(14);
        for word in 0..words {
            let next = dice.of(WORDS);
            match word {
                0 => text.extend(
                    next.chars().next().into_iter().flat_map(char::to_uppercase).chain(next.chars().skip(1)),
                ),
                _ => text.push_str(next),
            }
            if word == 3 && dice.next(2) == 0 {
                text.push(' ');
                text.push_str(dice.of(NUMBERS));
            }
            if text.len() - since > every {
                text.push(' ');
                text.push_str(dice.of(FINDS));
                since = text.len();
            }
            text.push_str(if word + 1 == words { "." } else { " " });
        }
        text.push_str(if dice.next(5) == 0 { "\n" } else { " " });
    }
    text
}

/// Prose as a result of a tool.
pub fn json(length: usize) -> String {
    let rows: Vec<_> = (0..length / 512)
        .map(|id| serde_json::json!({"id": id, "title": "a \"quoted\" title\n", "body": prose(400, 1_024), "ok": true, "score": 0.5}))
        .collect();
    serde_json::Value::from(rows).to_string()
}
