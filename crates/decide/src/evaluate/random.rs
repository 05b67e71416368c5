//! Random worlds: a schema, entities, rules and asks that belong together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use cedar_policy::{
    Entity, EntityId, EntityUid, Policy, PolicyId, PolicySet, RestrictedExpression as Value, Schema,
    SchemaFragment, ValidationMode, Validator,
};

use super::LEVEL;

/// A small generator (SplitMix64), so that a world follows from one number.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    pub(super) fn often(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }

    pub(super) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }
}

/// Ids that differ only in their type, and some that an enemy would choose.
const IDS: [&str; 6] = ["x", "y", "z", "", "a\"::b\\\n\u{0}*", "é\u{202e}x"];
const GROUPS: [&str; 2] = ["g0", "g1"];
/// The name of an action stands in two namespaces.
const ACTIONS: [&str; 4] = ["M::Action::\"a0\"", "Action::\"a1\"", "Action::\"a2\"", "N::Action::\"a0\""];

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) schema: Schema,
    validator: Validator,
    pub(super) entities: Vec<Entity>,
    pub(super) rules: Vec<Policy>,
    pub(super) constitution: Vec<Policy>,
    pub(super) text: String,
    types: Vec<String>,
    above: BTreeMap<String, Vec<String>>,
    peers: BTreeMap<String, String>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let types: Vec<String> =
            (0..2 + dice.roll(3)).map(|n| if n == 1 { "N::E1".into() } else { format!("E{n}") }).collect();
        let mut above = BTreeMap::new();
        let mut peers = BTreeMap::new();
        let (mut text, mut inner) = (String::new(), String::new());
        for kind in &types {
            let within: Vec<String> = types.iter().filter(|_| dice.often(55)).cloned().collect();
            let peer = types[dice.roll(types.len())].clone();
            let own = kind.rsplit("::").next().unwrap();
            let listed =
                if within.is_empty() { String::new() } else { format!(" in [{}]", within.join(", ")) };
            let entity = format!(
                "entity {own}{listed} {{ n: Long, s: String, b: Bool, o?: Long, peer: {peer}, maybe?: {peer}, some: Set<{peer}>, words: Set<String>, \
                 rec: {{ x: Long, y?: String, who: {peer} }}, ip: ipaddr }} tags String;"
            );
            let to = if own.len() < kind.len() { &mut inner } else { &mut text };
            let _ = write!(to, "{entity} ");
            above.insert(kind.clone(), within);
            peers.insert(kind.clone(), peer);
        }
        text.push_str("action g0; action g1 in [g0]; ");
        for action in ACTIONS {
            let some = |dice: &mut Dice| {
                let picked: Vec<String> = types.iter().filter(|_| dice.often(75)).cloned().collect();
                if picked.is_empty() { types[0].clone() } else { picked.join(", ") }
            };
            let (principals, resources) = (some(&mut dice), some(&mut dice));
            let applies = format!(
                "appliesTo {{ principal: [{principals}], resource: [{resources}], context: Context }};"
            );
            let _ = match action {
                "M::Action::\"a0\"" => {
                    write!(text, "namespace M {{ action a0 in [Action::\"g1\"] {applies} }} ")
                }
                "Action::\"a1\"" => write!(text, "action a1 in [g0] {applies} "),
                "Action::\"a2\"" => write!(text, "action a2 {applies} "),
                _ => write!(inner, "action a0 {applies} "),
            };
        }
        let _ = write!(text, "namespace N {{ {inner} }}");
        let schema = Schema::from_schema_fragments([
            house_types(),
            SchemaFragment::from_cedarschema_str(&text).unwrap().0,
        ]);
        let schema = schema.unwrap_or_else(|e| panic!("{text}\n{e}"));
        let mut world = Self {
            dice,
            validator: Validator::new(schema.clone()),
            schema,
            types,
            above,
            peers,
            text,
            entities: Vec::new(),
            rules: Vec::new(),
            constitution: Vec::new(),
        };
        world.entities = world.some_entities();
        world.rules = (0..4 + world.dice.roll(14)).filter_map(|n| world.rule(n, false)).collect();
        world.constitution = (100..100 + world.dice.roll(3)).filter_map(|n| world.rule(n, true)).collect();
        world
    }

    pub(super) fn uid(&mut self) -> EntityUid {
        let kind = self.types[self.dice.roll(self.types.len())].clone();
        uid(&kind, IDS[self.dice.roll(IDS.len())])
    }

    fn uid_of(&mut self, kind: &str) -> EntityUid {
        uid(kind, IDS[self.dice.roll(IDS.len())])
    }

    fn some_entities(&mut self) -> Vec<Entity> {
        let mut out = Vec::new();
        for kind in self.types.clone() {
            for id in IDS {
                if self.dice.often(80) {
                    out.push(self.entity(&uid(&kind, id)));
                }
            }
        }
        out
    }

    /// An entity that fits the schema. Parents come later in one order of all names, so there are no cycles.
    pub(super) fn entity(&mut self, id: &EntityUid) -> Entity {
        let kind = id.type_name().to_string();
        let peer = self.peers[&kind].clone();
        let number = |dice: &mut Dice| Value::new_long([0, 1, 2, 3, i64::MAX, i64::MIN][dice.roll(6)]);
        let word =
            |dice: &mut Dice| Value::new_string(["", "a", "ab", "b*", "\"\\"][dice.roll(5)].to_owned());
        let mut attributes: HashMap<String, Value> = HashMap::new();
        attributes.insert("n".into(), number(&mut self.dice));
        attributes.insert("s".into(), word(&mut self.dice));
        attributes.insert("b".into(), Value::new_bool(self.dice.often(50)));
        let peer_uid = Value::new_entity_uid(self.uid_of(&peer));
        attributes.insert("peer".into(), peer_uid);
        let some: Vec<Value> =
            (0..self.dice.roll(3)).map(|_| Value::new_entity_uid(self.uid_of(&peer))).collect();
        attributes.insert("some".into(), Value::new_set(some));
        let words: Vec<Value> = (0..self.dice.roll(3)).map(|_| word(&mut self.dice)).collect();
        attributes.insert("words".into(), Value::new_set(words));
        if self.dice.often(50) {
            attributes.insert("o".into(), number(&mut self.dice));
        }
        if self.dice.often(50) {
            let peer = Value::new_entity_uid(self.uid_of(&peer));
            attributes.insert("maybe".into(), peer);
        }
        let mut record = vec![
            ("x".to_owned(), number(&mut self.dice)),
            ("who".to_owned(), Value::new_entity_uid(self.uid_of(&peer))),
        ];
        if self.dice.often(50) {
            record.push(("y".to_owned(), word(&mut self.dice)));
        }
        attributes.insert("rec".into(), Value::new_record(record).unwrap());
        attributes.insert("ip".into(), Value::new_ip(self.dice.one(&["10.0.0.0/8", "127.0.0.1", "::1"])));
        let mut parents = HashSet::new();
        for kind in self.above[&kind].clone() {
            for _ in 0..self.dice.roll(3) {
                let parent = self.uid_of(&kind);
                if parent > *id {
                    parents.insert(parent);
                }
            }
        }
        let tags: Vec<(String, Value)> =
            (0..self.dice.roll(2)).map(|_| ("k".to_owned(), word(&mut self.dice))).collect();
        Entity::new_with_tags(id.clone(), attributes, parents, tags).unwrap()
    }

    /// A rule, if validation takes it. Those that can err are taken: what they come upon at run time is the subject.
    fn rule(&mut self, n: usize, forbids: bool) -> Option<Policy> {
        for _ in 0..6 {
            let effect = if forbids || self.dice.often(45) { "forbid" } else { "permit" };
            let (principal, resource) = (self.place("principal"), self.place("resource"));
            let action = match self.dice.roll(6) {
                0 | 1 => "action".to_owned(),
                2 => format!("action == {}", self.dice.one(&ACTIONS)),
                3 => format!("action in Action::\"{}\"", self.dice.one(&GROUPS)),
                4 => format!("action in [{}, {}]", self.dice.one(&ACTIONS), self.dice.one(&ACTIONS)),
                _ => {
                    format!("action in [Action::\"{}\", {}]", self.dice.one(&GROUPS), self.dice.one(&ACTIONS))
                }
            };
            let mut text = format!("@id(\"r{n}\") {effect} ({principal}, {action}, {resource})");
            for clause in ["when", "unless"] {
                if self.dice.often(45) {
                    let _ = write!(text, " {clause} {{ {} }}", self.condition(3));
                }
            }
            text.push(';');
            let policy = Policy::parse(Some(PolicyId::new(format!("r{n}"))), &text)
                .unwrap_or_else(|e| panic!("{text}\n{e}"));
            let set = PolicySet::from_policies([policy.clone()]).unwrap();
            let result = self.validator.validate_with_level(&set, ValidationMode::Strict, LEVEL);
            if result.validation_passed() {
                self.text.push_str(&format!("\n{text}"));
                return Some(policy);
            }
        }
        None
    }

    fn place(&mut self, var: &str) -> String {
        let (kind, id) = (self.types[self.dice.roll(self.types.len())].clone(), self.uid());
        match self.dice.roll(7) {
            0 | 1 => var.to_owned(),
            2 => format!("{var} == {id}"),
            3 => format!("{var} in {id}"),
            4 => format!("{var} is {kind}"),
            5 => format!("{var} is {kind} in {id}"),
            _ => format!("{var} is {kind}"),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth > 0 {
            let mut sub = || self.condition(depth - 1);
            let (a, b, c) = (sub(), sub(), sub());
            match self.dice.roll(9) {
                0 | 1 => return format!("({a} && {b})"),
                2 => return format!("({a} || {b})"),
                3 => return format!("!({a})"),
                4 => return format!("(if {a} then {b} else {c})"),
                _ => {}
            }
        }
        let var = *self.dice.one(&[&"principal", &"resource"]);
        // An entity of the world reached from it, or itself.
        let far = match self.dice.roll(6) {
            0 => format!("{var}.peer"),
            1 => format!("{var}.rec.who"),
            _ => var.to_owned(),
        };
        let number = *self.dice.one(&[&"0", &"2", &"9223372036854775807", &"-1"]);
        let (kind, id) = (self.types[self.dice.roll(self.types.len())].clone(), self.uid());
        match self.dice.roll(46) {
            0 => format!("{far}.n > {number}"),
            1 => format!("{far}.n + {number} > 0"),
            2 => format!("{far}.n * 2 < {var}.n - 1"),
            3 => format!("{far}.s like \"*a*\""),
            4 => format!("{far}.s == context.binding"),
            5 => format!("({far} has o && {far}.o == {number})"),
            6 => format!("{far} has o"),
            7 => format!("({var} has maybe && {var}.maybe.n >= {number})"),
            8 => format!("{var} has rec.y"),
            9 => format!("{far}.words.contains(\"a\")"),
            10 => format!("{far}.words.containsAny([\"a\", \"b*\"])"),
            11 => format!("{var}.some.contains({id})"),
            12 => format!("{far} in {id}"),
            13 => format!("{var} is {kind}"),
            14 => format!("{var} is {kind} in {id}"),
            15 => format!("{var} == {id}"),
            16 => "principal == resource".to_owned(),
            17 => "principal in resource".to_owned(),
            18 => format!("action in Action::\"{}\"", self.dice.one(&GROUPS)),
            19 => format!("action == {}", self.dice.one(&ACTIONS)),
            20 => format!("({far}.hasTag(\"k\") && {far}.getTag(\"k\") == \"a\")"),
            21 => format!("{far}.ip.isLoopback()"),
            22 => format!("context.assurance.level > {number}"),
            23 => "(context has purpose && context.purpose == \"a\")".to_owned(),
            24 => "(context has network && context.network.address.isLoopback())".to_owned(),
            25 => "context has network.kind".to_owned(),
            26 => "(context has device && context.device.managed)".to_owned(),
            27 => "(context.time.hour < 8 || context.time.zone like \"U*C\")".to_owned(),
            28 => "context.time.at < datetime(\"2030-01-01\")".to_owned(),
            29 => "context.assurance.methods.isEmpty()".to_owned(),
            30 => "[context.role_in_chain, \"x\"].contains(\"subject\")".to_owned(),
            31 => format!("{var}.ip.isInRange(ip(\"10.0.0.0/8\"))"),
            32 => format!("{var}.rec.x <= {number}"),
            33 => format!("{var}.rec has y"),
            34 => format!("({var} has rec.y && {var}.rec.y like \"a*\")"),
            35 => format!("{far}.words.containsAll([\"a\"])"),
            36 => format!("{var}.words.isEmpty()"),
            37 => format!("[\"a\", \"\"].contains({far}.s)"),
            38 => format!("{var} in [{id}, {}]", self.uid()),
            39 => format!("(if {var}.b then {var}.n else {var}.rec.x) == {number}"),
            40 => format!("{var}.n - {number} * 2 <= {var}.rec.x"),
            41 => format!("{var}.peer == {id}"),
            42 => format!("{var}.some.contains({var})"),
            43 => format!("{var}.rec == {far}.rec"),
            44 => format!("{var}.words == [\"a\"]"),
            _ => format!("{far}.b"),
        }
    }

    /// Who, what and on what: often something that there is, sometimes not, sometimes what the schema does not know.
    pub(super) fn ask(&mut self) -> [EntityUid; 3] {
        let action = match self.dice.roll(12) {
            0 => "Action::\"g1\"",
            1 => "Action::\"unheard of\"",
            _ => self.dice.one(&ACTIONS),
        };
        [self.uid(), action.parse().unwrap(), self.uid()]
    }
}

/// The types of the house without its actions: what a context consists of.
fn house_types() -> SchemaFragment {
    let house = SchemaFragment::from_cedarschema_str(include_str!("../schema.cedarschema")).unwrap().0;
    let mut json = house.to_json_value().unwrap();
    for (_, namespace) in json.as_object_mut().unwrap() {
        namespace["actions"] = serde_json::json!({});
    }
    SchemaFragment::from_json_value(json).unwrap()
}

pub(super) fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.parse().unwrap(), EntityId::new(id))
}

/// How often something was seen, so that a test can tell that it tested anything.
pub(super) type Seen = BTreeSet<&'static str>;
