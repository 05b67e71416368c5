//! The mixed workload: who there is, what the rules say, and what is asked. Rules: 60 % a role invokes what lies in a project,
//! 25 % a team with conditions on the model, the login and the network, 10 % one person and one model, the rest forbids, of
//! which 1 % of all rules, ten at most, name nobody.

use std::fmt::Write as _;

use bartizan_base::Name;
use bartizan_bench::Error;
use bartizan_model::directory::{Dialect, ModelSpec, NodeSpec, PrincipalSpec, Spec, Status};
use bartizan_model::{Document, PrincipalId};

/// A small generator (SplitMix64): every engine gets the same world.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap_or(0)
    }
}

/// How large a world is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub rules: usize,
    pub entities: usize,
    /// Whether there are forbids that name nobody.
    pub unscoped: bool,
}

impl Size {
    /// Roles, teams and projects there are, each.
    pub const fn nodes(self) -> usize {
        if self.rules < 20 { 2 } else { self.rules / 10 }
    }

    /// People: three of five of what is left after the nodes; the rest are models.
    pub fn users(self) -> usize {
        self.entities.saturating_sub(self.nodes() * 3 + self.folders() + 1) * 3 / 5
    }

    pub fn models(self) -> usize {
        self.entities.saturating_sub(self.nodes() * 3 + self.folders() + 1) * 2 / 5
    }

    pub const fn folders(self) -> usize {
        self.nodes().div_ceil(10)
    }
}

/// One of the rules, in terms that every engine can be given.
#[derive(Clone, Debug)]
pub enum Rule {
    Role {
        role: usize,
        project: usize,
    },
    Team {
        team: usize,
        project: usize,
        sensitivity: usize,
        level: usize,
    },
    Direct {
        user: usize,
        model: usize,
    },
    /// A team is kept out of a project's disabled models.
    Closed {
        team: usize,
        project: usize,
    },
    /// Nobody uses models of an environment without a strong login.
    Strong {
        environment: usize,
    },
}

pub const SENSITIVITIES: [&str; 3] = ["low", "medium", "high"];
pub const ENVIRONMENTS: usize = 40;

pub struct World {
    pub size: Size,
    pub rules: Vec<Rule>,
}

/// What is asked: who, on what, with which login.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub user: usize,
    pub model: usize,
    pub embed: bool,
    pub level: u8,
    pub inside: bool,
}

impl World {
    pub fn new(size: Size) -> Self {
        let mut dice = Dice(7);
        let nodes = size.nodes();
        let unscoped = if size.unscoped { (size.rules / 100).clamp(1, 10) } else { 0 };
        let rules = (0..size.rules).map(|n| {
            let at = n * 100 / size.rules;
            if n >= size.rules - unscoped {
                // Environments that the models asked for are not in: every one is evaluated and none decides.
                return Rule::Strong { environment: ENVIRONMENTS + n % 10 };
            }
            let (one, other) = (dice.roll(nodes), dice.roll(nodes));
            match at {
                0..60 => Rule::Role { role: one, project: other },
                60..85 => Rule::Team {
                    team: one,
                    project: other,
                    sensitivity: dice.roll(3),
                    level: 1 + dice.roll(2),
                },
                85..95 => Rule::Direct {
                    user: dice.roll(size.users().max(1)),
                    model: dice.roll(size.models().max(1)),
                },
                _ => Rule::Closed { team: one, project: other },
            }
        });
        Self { size, rules: rules.collect() }
    }

    /// The rules in Cedar.
    pub fn cedar(&self) -> String {
        let mut text = String::new();
        for (n, rule) in self.rules.iter().enumerate() {
            let _ = match rule {
                Rule::Role { role, project } => writeln!(
                    text,
                    "@id(\"r{n}\") permit (principal in Role::\"role{role}\", action == Action::\"model:invoke\", resource in Project::\"project{project}\");"
                ),
                Rule::Team { team, project, sensitivity, level } => writeln!(
                    text,
                    "@id(\"r{n}\") permit (principal in Group::\"team{team}\", action in [Action::\"model:invoke\", Action::\"model:embed\"], \
                     resource in Project::\"project{project}\") when {{ resource.sensitivity == \"{}\" && context.assurance.level >= {level} \
                     && context has network && context.network.address.isInRange(ip(\"10.0.0.0/8\")) }};",
                    SENSITIVITIES[*sensitivity]
                ),
                Rule::Direct { user, model } => writeln!(
                    text,
                    "@id(\"r{n}\") permit (principal == User::\"user{user}\", action == Action::\"model:invoke\", resource == Model::\"model{model}\");"
                ),
                Rule::Closed { team, project } => writeln!(
                    text,
                    "@id(\"r{n}\") forbid (principal in Group::\"team{team}\", action in Action::\"model:use\", resource in Project::\"project{project}\") \
                     when {{ resource.status == \"disabled\" }};"
                ),
                Rule::Strong { environment } => writeln!(
                    text,
                    "@id(\"r{n}\") forbid (principal, action in Action::\"model:use\", resource) \
                     when {{ context.assurance.level < 3 && resource.environment == \"env{environment}\" }};"
                ),
            };
        }
        text
    }

    /// The asks, of different people on different models.
    pub fn asks(&self, number: usize) -> Vec<Asked> {
        let mut dice = Dice(99);
        let (users, models) = (self.size.users(), self.size.models());
        (0..number)
            .map(|n| {
                let (mut user, mut model) = (dice.roll(users), dice.roll(models));
                // Half of them by somebody whom a rule lets, and the rest by anybody.
                if let (Some(Rule::Role { role, project }), 0) =
                    (self.rules.get(dice.roll(self.rules.len())), n % 4 % 3)
                {
                    user = role + self.size.nodes() * dice.roll((users / self.size.nodes()).max(1));
                    model = project + self.size.nodes() * dice.roll((models / self.size.nodes()).max(1));
                }
                Asked {
                    user: user.min(users - 1),
                    model: model.min(models - 1),
                    embed: dice.roll(10) == 0,
                    level: u8::try_from(1 + dice.roll(2)).unwrap_or(1),
                    inside: dice.roll(4) != 0,
                }
            })
            .collect()
    }

    /// The roles that a user has, besides the team.
    pub fn roles_of(&self, user: usize) -> [usize; 3] {
        let nodes = self.size.nodes();
        [user % nodes, (user / 3 + 1) % nodes, (user * 7 + 2) % nodes]
    }

    pub fn team_of(&self, user: usize) -> usize {
        (user * 13 + 5) % self.size.nodes()
    }

    pub fn project_of(&self, model: usize) -> usize {
        model % self.size.nodes()
    }

    pub fn folder_of(&self, project: usize) -> usize {
        project % self.size.folders()
    }

    /// The documents of everything below number `of_nodes`, and of people and models.
    pub fn nodes(&self) -> Result<Vec<Document>, Error> {
        let mut out = Vec::new();
        let node = |name: String, parents: &[String]| -> Result<(Name, NodeSpec), Error> {
            let parents: Result<_, _> = parents.iter().map(|p| p.parse()).collect();
            Ok((name.parse()?, NodeSpec { parents: parents?, ..NodeSpec::default() }))
        };
        let plain = |(name, spec): (Name, NodeSpec), kind: fn(NodeSpec) -> Spec| Document {
            name,
            principal: None,
            spec: kind(spec),
        };
        for n in 0..self.size.nodes() {
            out.push(plain(node(format!("role{n}"), &[])?, Spec::Role));
            out.push(plain(node(format!("team{n}"), &[])?, Spec::Group));
            out.push(plain(
                node(format!("project{n}"), &[format!("folder{}", self.folder_of(n))])?,
                Spec::Project,
            ));
        }
        for n in 0..self.size.folders() {
            out.push(plain(node(format!("folder{n}"), &["org".to_owned()])?, Spec::Project));
        }
        out.push(plain(node("org".to_owned(), &[])?, Spec::Project));
        Ok(out)
    }

    pub fn user(&self, n: usize) -> Result<Document, Error> {
        let groups = [format!("team{}", self.team_of(n)).parse()?].into();
        let roles: Result<_, _> = self.roles_of(n).iter().map(|r| format!("role{r}").parse()).collect();
        let spec = PrincipalSpec { groups, roles: roles?, ..PrincipalSpec::default() };
        Ok(Document {
            name: format!("user{n}").parse()?,
            principal: Some(principal(n)),
            spec: Spec::User(spec),
        })
    }

    pub fn model(&self, n: usize) -> Result<Document, Error> {
        let spec = ModelSpec {
            accepts: Default::default(),
            status: if n % 20 == 0 { Status::Disabled } else { Status::Active },
            upstream: "up".parse()?,
            upstream_model: None,
            routes: Vec::new(),
            output_tokens_max: None,
            cache: None,
            family: None,
            dialects: [Dialect::OpenAiChat].into(),
            project: Some(format!("project{}", self.project_of(n)).parse()?),
            environment: format!("env{}", n % ENVIRONMENTS).parse()?,
            sensitivity: SENSITIVITIES[n / 7 % 3].parse()?,
        };
        Ok(Document { name: format!("model{n}").parse()?, principal: None, spec: Spec::Model(spec) })
    }
}

pub fn principal(n: usize) -> PrincipalId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&(n as u64).to_be_bytes());
    PrincipalId::from_parts(bartizan_base::Timestamp::from_secs(1_800_000_000), random)
}
