//! Lists: what is asked for, in which order, page by page (RFC 7644, 3.4.2 and 3.4.3; RFC 9865), and which attributes of it
//! (RFC 7644, 3.9).

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::Resource;
use crate::error::{ScimError, ScimType};
use crate::filter::Filter;
use crate::matches::{items, order, values};
use crate::path::Target;
use crate::schema::Kind;

/// Resources of a page, if nothing is asked.
pub const PAGE_DEFAULT: usize = 100;
/// Resources of a page at the most.
pub const PAGE_MAX: usize = 1_000;
/// Names of attributes in one request at the most.
const NAMES_MAX: usize = 100;

/// What a client asks of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Which resources.
    pub filter: Option<String>,
    /// By which attribute they are sorted; by id otherwise.
    pub sort_by: Option<String>,
    /// Whether the largest comes first.
    pub descending: bool,
    /// The first to be given, from 1 on.
    pub start_index: usize,
    /// How many to give.
    pub count: Option<usize>,
    /// Where to go on; the empty text to begin.
    pub cursor: Option<String>,
    /// The attributes to give; empty for all.
    pub attributes: Vec<String>,
    /// The attributes to leave out.
    pub excluded: Vec<String>,
}

/// A page.
#[derive(Clone, Debug)]
pub struct Listed {
    /// How many there are in all.
    pub total: usize,
    /// The place of the first of the page, from 1 on; none for a page by cursor.
    pub start: Option<usize>,
    /// The resources.
    pub resources: Vec<Resource>,
    /// Where the next page begins.
    pub next: Option<String>,
}

impl Listed {
    /// A list as it is, on one page.
    #[must_use]
    pub fn whole(resources: &[Value]) -> Value {
        json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": resources.len(),
            "startIndex": 1,
            "itemsPerPage": resources.len(),
            "Resources": resources,
        })
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(self) -> Value {
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": self.total,
            "itemsPerPage": self.resources.len(),
            "Resources": self.resources,
        });
        if let Some(members) = body.as_object_mut() {
            self.start.map(|start| members.insert("startIndex".to_owned(), start.into()));
            self.next.map(|next| members.insert("nextCursor".to_owned(), next.into()));
        }
        body
    }
}

impl Query {
    /// Reads the parameters of a request, already decoded. Names that mean nothing here are passed over.
    ///
    /// # Errors
    /// `invalidValue` for a number that is none.
    pub fn from_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ScimError> {
        let mut out = Self { start_index: 1, ..Self::default() };
        for (name, value) in pairs {
            out.set(name, &Value::String(value.to_owned()))?;
        }
        Ok(out)
    }

    /// Reads a `SearchRequest` message.
    ///
    /// # Errors
    /// `invalidSyntax` when it is none.
    pub fn from_message(body: &Value) -> Result<Self, ScimError> {
        let wrong = || ScimError::new(ScimType::InvalidSyntax, "the body is no `SearchRequest`");
        let mut out = Self { start_index: 1, ..Self::default() };
        for (name, value) in body.as_object().ok_or_else(wrong)? {
            out.set(name, value)?;
        }
        Ok(out)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), ScimError> {
        let wrong = || ScimError::new(ScimType::InvalidValue, format!("`{name}` cannot be that"));
        let text = || value.as_str().map(str::to_owned).ok_or_else(wrong);
        // RFC 7644, 3.4.2.4: what is too small counts as the smallest.
        let number = |least: i64| {
            let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
            let number = number.ok_or_else(wrong)?.max(least);
            usize::try_from(number).map_err(|_| wrong())
        };
        let names = || -> Result<Vec<String>, ScimError> {
            let names: Vec<String> = match value {
                Value::String(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
                Value::Array(names) => names
                    .iter()
                    .map(|name| name.as_str().map(str::to_owned).ok_or_else(wrong))
                    .collect::<Result<_, _>>()?,
                _ => return Err(wrong()),
            };
            if names.len() > NAMES_MAX {
                return Err(wrong());
            }
            Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
        };
        if value.is_null() {
            return Ok(());
        }
        match name {
            "filter" => self.filter = Some(text()?),
            "sortBy" => self.sort_by = Some(text()?),
            "sortOrder" => self.descending = text()?.eq_ignore_ascii_case("descending"),
            "startIndex" => self.start_index = number(1)?,
            "count" => self.count = Some(number(0)?),
            "cursor" => self.cursor = Some(text()?),
            "attributes" => self.attributes = names()?,
            "excludedAttributes" => self.excluded = names()?,
            _ => {}
        }
        Ok(())
    }

    /// The page of `resources` that is asked for. A type that the filter or the order means nothing for has no resource in it.
    ///
    /// # Errors
    /// `invalidFilter` or `invalidPath` when it means nothing for every type; `invalidCursor`.
    pub fn select(&self, kinds: &[Kind], resources: Vec<(Kind, Resource)>) -> Result<Listed, ScimError> {
        let prepared: Vec<(Kind, Result<Prepared, ScimError>)> =
            kinds.iter().map(|kind| (*kind, self.prepare(kind))).collect();
        if let Some((_, Err(error))) = prepared.first()
            && prepared.iter().all(|(_, prepared)| prepared.is_err())
        {
            return Err(error.clone());
        }
        let of = |kind: &Kind| prepared.iter().find(|(k, _)| k == kind).and_then(|(_, p)| p.as_ref().ok());
        let mut found: Vec<(&Prepared, Resource)> = resources
            .into_iter()
            .filter_map(|(kind, resource)| Some((of(&kind)?, resource)))
            .filter(|(prepared, resource)| {
                prepared.filter.as_ref().is_none_or(|filter| filter.matches(resource))
            })
            .collect();
        found.sort_by(|a, b| {
            let sorted = match (&a.0.sort, &b.0.sort) {
                (Some(x), Some(y)) => by_value(x, &a.1, y, &b.1, self.descending),
                _ => Ordering::Equal,
            };
            sorted.then_with(|| id(&a.1).cmp(id(&b.1)))
        });
        let total = found.len();
        let count = self.count.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX);
        let skipped = match &self.cursor {
            None => self.start_index.saturating_sub(1),
            Some(cursor) => self.after(cursor, &found)?,
        };
        let page: Vec<&(&Prepared, Resource)> = found.iter().skip(skipped).take(count).collect();
        let more = skipped.saturating_add(page.len()) < total && count > 0;
        let next = self.cursor.is_some() && more;
        let next = page.last().filter(|_| next).map(|(_, resource)| id(resource).to_owned());
        let resources = page.iter().map(|(prepared, resource)| prepared.projection.apply(resource)).collect();
        let start = self.cursor.is_none().then_some(skipped.saturating_add(1));
        Ok(Listed { total, start, resources, next })
    }

    /// How many come before the place that a cursor names. A cursor is the id after which the page begins: it stays good
    /// whatever is added or goes meanwhile.
    fn after(&self, cursor: &str, found: &[(&Prepared, Resource)]) -> Result<usize, ScimError> {
        let plain =
            cursor.len() <= 64 && cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-:.".contains(&b));
        if self.sort_by.is_some() || !plain {
            let detail = "a cursor comes from an earlier answer, and goes with no `sortBy`";
            return Err(ScimError::new(ScimType::InvalidCursor, detail));
        }
        Ok(found.iter().filter(|(_, resource)| id(resource) <= cursor && !cursor.is_empty()).count())
    }

    fn prepare(&self, kind: &Kind) -> Result<Prepared, ScimError> {
        let unknown = || ScimError::new(ScimType::InvalidPath, "`sortBy` names no attribute");
        Ok(Prepared {
            filter: self.filter.as_deref().map(|text| Filter::parse(kind, text)).transpose()?,
            sort: match &self.sort_by {
                None => None,
                Some(name) => Some(Target::parse(kind, name).ok_or_else(unknown)?.compared()),
            },
            projection: self.projection(kind),
        })
    }

    /// Which attributes are given.
    #[must_use]
    pub fn projection(&self, kind: &Kind) -> Projection {
        let read = |names: &[String]| names.iter().filter_map(|name| Asked::parse(kind, name)).collect();
        Projection {
            kind: *kind,
            only: (!self.attributes.is_empty()).then(|| read(&self.attributes)),
            without: read(&self.excluded),
        }
    }
}

struct Prepared {
    filter: Option<Filter>,
    sort: Option<Target>,
    projection: Projection,
}

fn id(resource: &Resource) -> &str {
    resource.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// What has no value comes last, whichever way round (RFC 7644, 3.4.2.3).
fn by_value(x: &Target, a: &Resource, y: &Target, b: &Resource, descending: bool) -> Ordering {
    match (first(a, x), first(b, y)) {
        (Some(a), Some(b)) => {
            let order = order(x.leaf(), a, b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// The value that an attribute is sorted by: the primary one, or the first.
fn first<'a>(resource: &'a Resource, target: &Target) -> Option<&'a Value> {
    let primary =
        items(resource, target).into_iter().find(|item| item.get("primary") == Some(&Value::Bool(true)));
    let primary = primary.zip(target.part).and_then(|(item, part)| item.get(part.name));
    primary.or_else(|| values(resource, target).first().copied()).filter(|value| !value.is_null())
}

/// A name in `attributes` or `excludedAttributes`.
#[derive(Clone, Debug)]
enum Asked {
    Extension(&'static str),
    Attribute(Target),
}

impl Asked {
    fn parse(kind: &Kind, name: &str) -> Option<Self> {
        let extension = kind.extension(name).map(|schema| Self::Extension(schema.id));
        extension.or_else(|| Target::parse(kind, name).map(Self::Attribute))
    }

    fn names(&self, extension: Option<&str>, name: &str) -> Option<Option<&'static str>> {
        match self {
            Self::Extension(id) => (extension == Some(id)).then_some(None),
            Self::Attribute(target) => (target.extension.map(|schema| schema.id) == extension
                && target.attribute.name == name)
                .then_some(target.part.map(|part| part.name)),
        }
    }
}

/// Which attributes of a resource are given.
#[derive(Clone, Debug)]
pub struct Projection {
    kind: Kind,
    only: Option<Vec<Asked>>,
    without: Vec<Asked>,
}

impl Projection {
    /// What is given of `resource`. What is always given, is.
    #[must_use]
    pub fn apply(&self, resource: &Resource) -> Resource {
        let mut out = Resource::new();
        for (name, value) in resource {
            if let Some(schema) = self.kind.extension(name) {
                let members = value.as_object().into_iter().flatten();
                let members = members.filter_map(|(part, value)| {
                    Some((part.clone(), self.given(Some(schema.id), part, value)?))
                });
                let members: Resource = members.collect();
                if !members.is_empty() {
                    out.insert(name.clone(), members.into());
                }
                continue;
            }
            let always = self.kind.attribute(name).is_some_and(|attribute| attribute.always);
            let given = if always { Some(value.clone()) } else { self.given(None, name, value) };
            given.map(|value| out.insert(name.clone(), value));
        }
        out
    }

    fn given(&self, extension: Option<&str>, name: &str, value: &Value) -> Option<Value> {
        if let Some(only) = &self.only {
            let parts: Vec<Option<&str>> =
                only.iter().filter_map(|asked| asked.names(extension, name)).collect();
            return if parts.contains(&None) {
                Some(value.clone())
            } else if parts.is_empty() {
                None
            } else {
                Some(filtered(value, &|part| parts.contains(&Some(part))))
            };
        }
        let parts: Vec<Option<&str>> =
            self.without.iter().filter_map(|asked| asked.names(extension, name)).collect();
        if parts.contains(&None) {
            return None;
        }
        Some(if parts.is_empty() {
            value.clone()
        } else {
            filtered(value, &|part| !parts.contains(&Some(part)))
        })
    }
}

/// A complex value with some of its parts.
fn filtered(value: &Value, keep: &dyn Fn(&str) -> bool) -> Value {
    match value {
        Value::Array(values) => values.iter().map(|value| filtered(value, keep)).collect(),
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| keep(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        value => value.clone(),
    }
}
