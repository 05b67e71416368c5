//! Random policies, rows and chains, and the verdict of a full evaluation on every row.

pub(crate) mod stores;
pub(crate) mod words;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::str::FromStr;
use std::sync::LazyLock;

use bartizan_filter::{Filter, FilterError, Member, Question, filter};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet,
    Request, RestrictedExpression, Schema, ValidationMode, Validator,
};

pub(crate) const SCHEMA: &str = r#"
entity Group in [Group];
entity User in [Group] { dept: String, level: Long };
entity Project in [Project];
entity Folder in [Folder, Project];
entity Doc in [Folder, Project] {
  title: String, other: String, dept?: String, level: Long, ceiling: Long, quota?: Long, public: Bool, draft?: Bool,
  owner: User, group?: Group, readers: Set<User>, groups: Set<Group>, labels: Set<String>, marks?: Set<String>,
  numbers: Set<Long>, created: datetime, expires?: datetime, price: decimal, from?: ipaddr,
  meta: { kind: String, rank?: Long }, extra?: { note: String }
} tags String;
action "docs";
action "read" in ["docs"] appliesTo { principal: [User], resource: Doc, context: {
  mfa: Bool, hour: Long, dept: String, now: datetime, allowed: Set<String>, obligations?: Set<String>, approvals?: Set<String>
} };
"#;

pub(crate) static VOCABULARY: LazyLock<Schema> =
    LazyLock::new(|| Schema::from_cedarschema_str(SCHEMA).expect("the schema is right").0);

/// A stored value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored {
    Bool(bool),
    Int(i64),
    Text(String),
    Entity(&'static str, String),
    Texts(Vec<String>),
    Ints(Vec<i64>),
    Entities(&'static str, Vec<String>),
    Moment(i64),
    Decimal(i64),
    Address(String),
}

/// What a field of the rows is: its path, column, whether every proper row has it, and a sample.
pub(crate) struct Shape {
    pub(crate) path: &'static str,
    pub(crate) column: &'static str,
    pub(crate) required: bool,
    pub(crate) make: fn(&mut Dice) -> Stored,
}

pub(crate) const SHAPES: &[Shape] = &[
    Shape { path: "title", column: "title", required: true, make: |d| Stored::Text(d.word()) },
    Shape { path: "other", column: "other", required: true, make: |d| Stored::Text(d.word()) },
    Shape { path: "dept", column: "dept", required: false, make: |d| Stored::Text(d.word()) },
    Shape { path: "level", column: "level", required: true, make: |d| Stored::Int(d.number()) },
    Shape { path: "ceiling", column: "ceiling", required: true, make: |d| Stored::Int(d.number()) },
    Shape { path: "quota", column: "quota", required: false, make: |d| Stored::Int(d.number()) },
    Shape { path: "public", column: "public", required: true, make: |d| Stored::Bool(d.coin()) },
    Shape { path: "draft", column: "draft", required: false, make: |d| Stored::Bool(d.coin()) },
    Shape { path: "owner", column: "owner", required: true, make: |d| Stored::Entity("User", d.user()) },
    Shape {
        path: "group",
        column: "in_group",
        required: false,
        make: |d| Stored::Entity("Group", d.group()),
    },
    Shape {
        path: "readers",
        column: "readers",
        required: true,
        make: |d| Stored::Entities("User", d.some(Dice::user)),
    },
    Shape {
        path: "groups",
        column: "groups",
        required: true,
        make: |d| Stored::Entities("Group", d.some(Dice::group)),
    },
    Shape { path: "labels", column: "labels", required: true, make: |d| Stored::Texts(d.some(Dice::word)) },
    Shape { path: "marks", column: "marks", required: false, make: |d| Stored::Texts(d.some(Dice::word)) },
    Shape {
        path: "numbers",
        column: "numbers",
        required: true,
        make: |d| Stored::Ints(d.some(Dice::number)),
    },
    Shape { path: "created", column: "created", required: true, make: |d| Stored::Moment(d.moment()) },
    Shape { path: "expires", column: "expires", required: false, make: |d| Stored::Moment(d.moment()) },
    Shape { path: "price", column: "price", required: true, make: |d| Stored::Decimal(d.decimal()) },
    Shape { path: "from", column: "from_address", required: false, make: |d| Stored::Address(d.address()) },
    Shape { path: "meta.kind", column: "meta_kind", required: true, make: |d| Stored::Text(d.word()) },
    Shape { path: "meta.rank", column: "meta_rank", required: false, make: |d| Stored::Int(d.number()) },
    Shape { path: "extra", column: "extra", required: false, make: |_| Stored::Bool(true) },
    Shape { path: "extra.note", column: "extra_note", required: false, make: |d| Stored::Text(d.word()) },
    Shape { path: "#color", column: "tag_color", required: false, make: |d| Stored::Text(d.word()) },
];

/// A row: a document as the store has it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) parents: Vec<(&'static str, String)>,
    /// Whether the store knows the ancestors.
    pub(crate) placed: bool,
    pub(crate) values: BTreeMap<&'static str, Stored>,
    /// All ancestors, as stores name them.
    pub(crate) ancestors: Vec<String>,
}

impl Row {
    pub(crate) fn random(dice: &mut Dice, number: usize) -> Self {
        let mut values = BTreeMap::new();
        for shape in SHAPES {
            // One row in eight or so lacks something that it must have.
            let missing = if shape.required { dice.one_in(150) } else { dice.one_in(3) };
            if !missing {
                values.insert(shape.path, (shape.make)(dice));
            }
        }
        // A record that lacks what it must hold: there are few, and only such rows are not proper.
        match (values.contains_key("extra.note"), dice.one_in(10)) {
            (true, _) => drop(values.insert("extra", Stored::Bool(true))),
            (false, true) => {}
            (false, false) => drop(values.remove("extra")),
        }
        let parents = dice.some(Dice::place);
        let id = format!("d{number}");
        let mut row = Self { id, parents, placed: !dice.one_in(30), values, ancestors: Vec::new() };
        let world = world(std::slice::from_ref(&row));
        let found = world.ancestors(&row.uid()).expect("the row is there");
        row.ancestors = found.map(|a| text(&a.type_name().to_string(), a.id().unescaped())).collect();
        row.ancestors.sort();
        row
    }

    /// Whether a full evaluation sees what the store has, and that is what the schema says.
    pub(crate) fn is_proper(&self) -> bool {
        let whole = self.values.contains_key("extra") == self.values.contains_key("extra.note");
        whole
            && self.placed
            && SHAPES.iter().all(|shape| !shape.required || self.values.contains_key(shape.path))
    }

    pub(crate) fn uid(&self) -> EntityUid {
        uid("Doc", &self.id)
    }

    fn entity(&self) -> Entity {
        let mut attributes = HashMap::new();
        let mut inner: BTreeMap<&str, Vec<(String, RestrictedExpression)>> = BTreeMap::new();
        // A record that every proper row has is there in all, also when what is in it is missing.
        inner.insert("meta", Vec::new());
        let mut tags = Vec::new();
        for (path, value) in &self.values {
            if *path == "extra" {
                inner.entry("extra").or_default();
            } else if let Some(name) = path.strip_prefix('#') {
                tags.push((name.to_owned(), expression(value)));
            } else if let Some((record, name)) = path.split_once('.') {
                inner.entry(record).or_default().push((name.to_owned(), expression(value)));
            } else {
                attributes.insert((*path).to_owned(), expression(value));
            }
        }
        for (record, fields) in inner {
            attributes.insert(record.to_owned(), RestrictedExpression::new_record(fields).expect("a record"));
        }
        let parents: HashSet<_> = self.parents.iter().map(|(kind, id)| uid(kind, id)).collect();
        Entity::new_with_tags(self.uid(), attributes, parents, tags).expect("an entity")
    }
}

/// How stores name an entity.
pub(crate) fn text(kind: &str, id: &str) -> String {
    bartizan_filter::Entity { kind: kind.to_owned(), id: id.to_owned() }.text()
}

fn expression(value: &Stored) -> RestrictedExpression {
    use RestrictedExpression as E;
    match value {
        Stored::Bool(value) => E::new_bool(*value),
        Stored::Int(value) => E::new_long(*value),
        Stored::Text(value) => E::new_string(value.clone()),
        Stored::Entity(kind, id) => E::new_entity_uid(uid(kind, id)),
        Stored::Texts(values) => E::new_set(values.iter().map(|v| E::new_string(v.clone()))),
        Stored::Ints(values) => E::new_set(values.iter().map(|v| E::new_long(*v))),
        Stored::Entities(kind, ids) => E::new_set(ids.iter().map(|id| E::new_entity_uid(uid(kind, id)))),
        Stored::Moment(at) => E::new_datetime(moment_text(*at)),
        Stored::Decimal(value) => E::new_decimal(bartizan_filter::Decimal(*value).to_string()),
        Stored::Address(text) => E::new_ip(text.clone()),
    }
}

pub(crate) fn moment_text(at: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at)
        .expect("a moment")
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

pub(crate) fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().expect("a type");
    EntityUid::from_type_name_and_id(kind, cedar_policy::EntityId::new(id))
}

/// People, groups, folders and projects; `rows` beside them.
pub(crate) fn world(rows: &[Row]) -> Entities {
    let actions = VOCABULARY.action_entities().expect("actions");
    let all = people().into_iter().chain(places()).chain(actions).chain(rows.iter().map(Row::entity));
    Entities::from_entities(all, None).expect("the world is right")
}

fn people() -> Vec<Entity> {
    let plain = |kind: &str, id: &str, parents: &[(&str, &str)]| {
        Entity::new_no_attrs(uid(kind, id), parents.iter().map(|(k, i)| uid(k, i)).collect::<HashSet<_>>())
    };
    let user = |id: &str, dept: &str, level: i64, groups: &[&str]| {
        let attributes = HashMap::from([
            ("dept".to_owned(), RestrictedExpression::new_string(dept.to_owned())),
            ("level".to_owned(), RestrictedExpression::new_long(level)),
        ]);
        Entity::new(uid("User", id), attributes, groups.iter().map(|g| uid("Group", g)).collect())
            .expect("a user")
    };
    vec![
        plain("Group", "g0", &[]),
        plain("Group", "g1", &[("Group", "g0")]),
        plain("Group", "g2", &[]),
        plain("Group", "g\"3'", &[("Group", "g2")]),
        user("u0", "a", 1, &["g1"]),
        user("u1", "b", 3, &["g2"]),
        user("u2", "A", 0, &[]),
        user("u\\3", "é", -2, &["g\"3'", "g1"]),
    ]
}

fn places() -> Vec<Entity> {
    let plain = |kind: &str, id: &str, parents: &[(&str, &str)]| {
        Entity::new_no_attrs(uid(kind, id), parents.iter().map(|(k, i)| uid(k, i)).collect::<HashSet<_>>())
    };
    vec![
        plain("Project", "p0", &[]),
        plain("Project", "p1", &[("Project", "p0")]),
        plain("Folder", "f0", &[("Project", "p1")]),
        plain("Folder", "f1", &[("Folder", "f0")]),
        plain("Folder", "f'2", &[]),
    ]
}

/// One member as the tests know it.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) uid: EntityUid,
    pub(crate) context: serde_json::Value,
}

impl Person {
    fn random(dice: &mut Dice) -> Self {
        let allowed = dice.some(Dice::word);
        let now = moment_text(dice.moment());
        let context = serde_json::json!({
            "mfa": dice.coin(), "hour": dice.below(24), "dept": dice.word(), "allowed": allowed,
            "now": { "__extn": { "fn": "datetime", "arg": now } },
        });
        Self { uid: uid("User", &dice.user()), context }
    }

    fn context(&self) -> Context {
        let action = uid("Action", "read");
        Context::from_json_value(self.context.clone(), Some((&VOCABULARY, &action)))
            .expect("the context is right")
    }
}

/// One case: policies and a chain.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) policies: Vec<Policy>,
    pub(crate) texts: Vec<String>,
    pub(crate) people: Vec<Person>,
}

impl Case {
    pub(crate) fn of(texts: &[&str], people: Vec<Person>) -> Self {
        let policies = texts
            .iter()
            .enumerate()
            .map(|(n, text)| parse(n, text).unwrap_or_else(|| panic!("not valid: {text}")))
            .collect();
        Self { policies, texts: texts.iter().map(|t| (*t).to_owned()).collect(), people }
    }

    pub(crate) fn random(dice: &mut Dice, words: words::Words) -> Self {
        let mut policies = Vec::new();
        let mut texts = Vec::new();
        let count = 1 + dice.below(4);
        while policies.len() < count {
            let text = words::policy(dice, words);
            if let Some(policy) = parse(policies.len(), &text) {
                policies.push(policy);
                texts.push(text);
            }
        }
        let people = (0..1 + dice.below(2)).map(|_| Person::random(dice)).collect();
        Self { policies, texts, people }
    }

    pub(crate) fn filter(&self) -> Result<Filter, FilterError> {
        self.filter_applying(&BTreeSet::new())
    }

    pub(crate) fn filter_applying(&self, applied: &BTreeSet<String>) -> Result<Filter, FilterError> {
        let entities = Entities::from_entities(people(), Some(&VOCABULARY)).expect("people are right");
        let contexts: Vec<_> = self.people.iter().map(Person::context).collect();
        let members: Vec<_> = self
            .people
            .iter()
            .zip(&contexts)
            .map(|(person, context)| Member { principal: &person.uid, context, entities: &entities })
            .collect();
        filter(&Question {
            policies: &self.policies,
            schema: &VOCABULARY,
            members: &members,
            action: &uid("Action", "read"),
            resource: &EntityTypeName::from_str("Doc").expect("a type"),
            applied,
        })
    }

    /// The ids of the rows that a full evaluation permits to everybody, without any error.
    pub(crate) fn permitted(&self, rows: &[Row], world: &Entities) -> BTreeSet<String> {
        let set = PolicySet::from_policies(self.policies.iter().cloned()).expect("a set");
        let authorizer = Authorizer::new();
        let contexts: Vec<_> = self.people.iter().map(Person::context).collect();
        let action = uid("Action", "read");
        let permits = |row: &Row| {
            self.people.iter().zip(&contexts).all(|(person, context)| {
                let request =
                    Request::new(person.uid.clone(), action.clone(), row.uid(), context.clone(), None);
                let response = authorizer.is_authorized(&request.expect("a request"), &set, world);
                response.decision() == Decision::Allow && response.diagnostics().errors().next().is_none()
            })
        };
        rows.iter().filter(|row| permits(row)).map(|row| row.id.clone()).collect()
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for person in &self.people {
            writeln!(f, "{}: {}", person.uid, person.context)?;
        }
        self.texts.iter().try_for_each(|text| writeln!(f, "{text}"))
    }
}

/// A policy, if it is strictly valid.
fn parse(number: usize, text: &str) -> Option<Policy> {
    let policy = Policy::parse(Some(PolicyId::new(format!("rule-{number}"))), text)
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    let set = PolicySet::from_policies([policy.clone()]).expect("a set");
    let judged = Validator::new(VOCABULARY.clone()).validate(&set, ValidationMode::Strict);
    judged.validation_passed().then_some(policy)
}

/// Random numbers that are the same in every run with the same seed (splitmix64).
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("it is below a usize")
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub(crate) fn some<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| one(self)).collect()
    }

    pub(crate) fn word(&mut self) -> String {
        const WORDS: &[&str] = &[
            "a", "b", "a", "b", "A", "ab", "a%", "a_b", "axb", "é", "e\u{301}", "", "it's", "x\"y", "a*b",
            "[a]", "a\\b", "5", "true", "null", "a\nb", "$1", "?1", "日本", " a",
        ];
        self.pick(WORDS).to_owned()
    }

    pub(crate) fn number(&mut self) -> i64 {
        const NUMBERS: &[i64] =
            &[0, 1, 2, 3, 5, -1, -7, 10, 1 << 40, (1 << 53) + 1, -(1 << 53) - 1, i64::MAX, i64::MIN];
        self.pick(NUMBERS)
    }

    pub(crate) fn user(&mut self) -> String {
        self.pick(&["u0", "u1", "u2", "u\\3"]).to_owned()
    }

    pub(crate) fn group(&mut self) -> String {
        self.pick(&["g0", "g1", "g2", "g\"3'"]).to_owned()
    }

    fn place(&mut self) -> (&'static str, String) {
        let (kind, id) = self.pick(&[
            ("Project", "p0"),
            ("Project", "p1"),
            ("Folder", "f0"),
            ("Folder", "f1"),
            ("Folder", "f'2"),
        ]);
        (kind, id.to_owned())
    }

    pub(crate) fn moment(&mut self) -> i64 {
        self.pick(&[0, 1, -1, 1_700_000_000_000, 1_700_000_000_001, 1_750_000_000_000, -62_000_000_000_000])
    }

    pub(crate) fn decimal(&mut self) -> i64 {
        self.pick(&[0, 1, -1, 10_000, 12_345, -99_999, i64::MAX, i64::MIN])
    }

    pub(crate) fn address(&mut self) -> String {
        const ADDRESSES: &[&str] = &[
            "10.0.0.1",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.168.0.7",
            "127.0.0.1",
            "::1",
            "::ffff:a00:1",
            "2001:db8::/32",
            "224.0.0.1",
            "0.0.0.0/0",
        ];
        self.pick(ADDRESSES).to_owned()
    }
}

/// How many cases to run, and from which seed: `BARTIZAN_FILTER_CASES`, `BARTIZAN_FILTER_SEED`.
#[expect(clippy::disallowed_methods, reason = "a long run is asked for through the environment")]
pub(crate) fn extent(cases: usize) -> (usize, u64) {
    let read = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().expect("a number"));
    (
        read("BARTIZAN_FILTER_CASES").map_or(cases, |n| usize::try_from(n).expect("a count")),
        read("BARTIZAN_FILTER_SEED").unwrap_or(1),
    )
}
