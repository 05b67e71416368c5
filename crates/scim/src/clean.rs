//! What a client sends, brought into one form before anything is done with it.

use serde_json::{Map, Value};

use crate::Resource;
use crate::error::{ScimError, ScimType};
use crate::schema::{Attribute, Kind, Mutability, Schema, Type};

/// The longest text of an attribute, in bytes.
const TEXT_MAX: usize = 2_048;
/// Values of an attribute at the most; members of a group have a bound of their own.
const VALUES_MAX: usize = 100;
/// Members of a group at the most, in one resource.
const MEMBERS_MAX: usize = 10_000;

/// Brings a resource that was sent into one form: names as the schema writes them, values of the right types, nothing that is
/// not the client's to set, nothing that the schema does not know.
///
/// # Errors
/// `invalidSyntax` when it is no resource of the kind, `invalidValue` when a value does not fit.
pub fn clean(kind: &Kind, sent: &Value) -> Result<Resource, ScimError> {
    let members = sent.as_object().ok_or_else(|| syntax("the resource is not a JSON object"))?;
    let named = |(name, _): &(&String, &Value)| name.eq_ignore_ascii_case("schemas");
    let schemas = members.iter().find(named).and_then(|(_, value)| value.as_array());
    let core = |value: &Value| value.as_str().is_some_and(|urn| urn.eq_ignore_ascii_case(kind.schema.id));
    if !schemas.is_some_and(|schemas| schemas.iter().any(core)) {
        return Err(syntax(&format!("`schemas` does not name `{}`", kind.schema.id)));
    }
    let mut out = Resource::new();
    for (name, value) in members {
        if let Some(schema) = kind.extension(name) {
            let cleaned = clean_extension(schema, value)?;
            if !cleaned.is_empty() {
                insert(&mut out, schema.id, cleaned.into())?;
            }
            continue;
        }
        let Some(attribute) = kind.attribute(name) else { continue };
        if let Some(value) = clean_value(attribute, value)? {
            insert(&mut out, attribute.name, value)?;
        }
    }
    Ok(out)
}

/// Whether everything is there that a resource must have.
///
/// # Errors
/// `invalidValue` names what is missing.
pub fn complete(kind: &Kind, resource: &Resource) -> Result<(), ScimError> {
    let missing = |attribute: &&Attribute| attribute.required && !resource.contains_key(attribute.name);
    match kind.schema.attributes.iter().find(missing) {
        Some(attribute) => Err(value_error(attribute, "must be there")),
        None => Ok(()),
    }
}

/// The same of the attributes of an extension.
pub(crate) fn clean_extension(schema: &'static Schema, sent: &Value) -> Result<Resource, ScimError> {
    let mut out = Resource::new();
    let members = match sent {
        Value::Null => return Ok(out),
        Value::Object(members) => members,
        _ => return Err(syntax("an extension is not a JSON object")),
    };
    for (name, value) in members {
        let Some(attribute) = schema.attribute(name) else { continue };
        if let Some(value) = clean_value(attribute, value)? {
            insert(&mut out, attribute.name, value)?;
        }
    }
    Ok(out)
}

/// One attribute's value in its form; none where there is no value, or it is not the client's to set.
pub(crate) fn clean_value(attribute: &'static Attribute, sent: &Value) -> Result<Option<Value>, ScimError> {
    if attribute.mutability == Mutability::ReadOnly {
        return Ok(None);
    }
    if !attribute.many {
        return clean_one(attribute, sent);
    }
    let one;
    let values: &[Value] = match sent {
        Value::Null => return Ok(None),
        Value::Array(values) => values,
        // Some clients send the one value of a list without the list.
        value => {
            one = [value.clone()];
            &one
        }
    };
    let max = if attribute.name == "members" { MEMBERS_MAX } else { VALUES_MAX };
    if values.len() > max {
        return Err(value_error(attribute, &format!("has more than {max} values")));
    }
    let mut out = Vec::with_capacity(values.len());
    for value in values {
        // Some clients send a list of plain texts where the values have parts.
        let value = match (value, attribute.part("value")) {
            (Value::String(_), Some(_)) => {
                &Value::Object(Map::from_iter([("value".to_owned(), value.clone())]))
            }
            _ => value,
        };
        out.extend(clean_one(attribute, value)?);
    }
    let primary = |value: &&Value| value.get("primary") == Some(&Value::Bool(true));
    if out.iter().filter(primary).count() > 1 {
        return Err(value_error(attribute, "has more than one primary value"));
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}

/// One value in its form.
pub(crate) fn clean_one(attribute: &'static Attribute, sent: &Value) -> Result<Option<Value>, ScimError> {
    let wrong = || value_error(attribute, "has a value of another type");
    Ok(Some(match (attribute.kind, sent) {
        (_, Value::Null) => return Ok(None),
        (Type::Boolean, Value::Bool(flag)) => Value::Bool(*flag),
        (Type::Boolean, Value::String(text)) if text.eq_ignore_ascii_case("true") => Value::Bool(true),
        (Type::Boolean, Value::String(text)) if text.eq_ignore_ascii_case("false") => Value::Bool(false),
        (Type::Integer, Value::Number(number)) if number.is_i64() => Value::Number(number.clone()),
        (Type::String | Type::Reference | Type::DateTime, Value::String(text)) => {
            return clean_text(attribute, text);
        }
        // Numbers where text belongs: employee numbers, postal codes.
        (Type::String, Value::Number(number)) => Value::String(number.to_string()),
        (Type::Complex, Value::Object(members)) => {
            let mut out = Resource::new();
            for (name, value) in members {
                let Some(part) = attribute.part(name) else { continue };
                if let Some(value) = clean_value(part, value)? {
                    insert(&mut out, part.name, value)?;
                }
            }
            return Ok((!out.is_empty()).then_some(Value::Object(out)));
        }
        // `manager` as a plain id.
        (Type::Complex, Value::String(text)) if attribute.part("value").is_some() => {
            let text = clean_text(attribute, text)?;
            return Ok(text.map(|text| Map::from_iter([("value".to_owned(), text)]).into()));
        }
        _ => return Err(wrong()),
    }))
}

fn clean_text(attribute: &Attribute, text: &str) -> Result<Option<Value>, ScimError> {
    if text.len() > TEXT_MAX {
        return Err(value_error(attribute, &format!("is longer than {TEXT_MAX} bytes")));
    }
    // Line ends stand in postal addresses; whatever else is invisible deceives.
    let hidden = |c: char| (c.is_control() && c != '\n' && c != '\r') || is_hidden(c);
    if text.chars().any(hidden) {
        return Err(value_error(attribute, "holds a control character"));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

/// Characters that turn or hide text (Unicode TR 36): overrides of direction, spaces without width, the mark of byte order.
/// Joiners stay: some scripts need them.
const fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn insert(out: &mut Resource, name: &str, value: Value) -> Result<(), ScimError> {
    match out.insert(name.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(syntax(&format!("`{name}` stands twice"))),
    }
}

fn syntax(what: &str) -> ScimError {
    ScimError::new(ScimType::InvalidSyntax, what)
}

fn value_error(attribute: &Attribute, what: &str) -> ScimError {
    ScimError::new(ScimType::InvalidValue, format!("`{}` {what}", attribute.name))
}
