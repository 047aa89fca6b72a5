//! The shape of JSON values, as much of JSON Schema as describes them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// A member that holds a value of the kernel's own types: its members are the kernel's, not ours.
const OF_THE_KERNEL: &str = "value";

/// What values of one place looked like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    types: BTreeSet<String>,
    /// Of objects.
    members: BTreeMap<String, Shape>,
    /// Of arrays.
    items: Option<Box<Shape>>,
}

impl Shape {
    /// Takes a value in; `news` is told what was not known before.
    pub(crate) fn learn(&mut self, value: &Value, news: &mut dyn FnMut(String)) {
        self.learn_at("", value, news);
    }

    fn learn_at(&mut self, place: &str, value: &Value, news: &mut dyn FnMut(String)) {
        let kind = kind(value);
        if self.types.insert(kind.into()) {
            news(format!("{place} is {kind}"));
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let place = format!("{place}.{name}");
                    let known = self.members.entry(name.clone()).or_default();
                    if name == OF_THE_KERNEL {
                        continue;
                    }
                    known.learn_at(&place, member, news);
                }
            }
            Value::Array(items) => {
                let known = self.items.get_or_insert_default();
                items.iter().for_each(|item| known.learn_at(&format!("{place}[]"), item, news));
            }
            _ => {}
        }
    }

    /// From a schema.
    pub(crate) fn read(schema: &Value) -> Self {
        let types = match &schema["type"] {
            Value::String(one) => [one.clone()].into(),
            Value::Array(types) => types.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => BTreeSet::new(),
        };
        let members = schema["properties"].as_object().into_iter().flatten();
        let members = members.map(|(name, schema)| (name.clone(), Self::read(schema))).collect();
        let items = schema.get("items").map(|items| Box::new(Self::read(items)));
        Self { types, members, items }
    }

    /// As a schema.
    pub(crate) fn write(&self) -> Value {
        let mut schema = json!({});
        let types: Vec<&String> = self.types.iter().collect();
        match types.as_slice() {
            [] => {}
            [one] => schema["type"] = json!(one),
            several => schema["type"] = json!(several),
        }
        if let Some(items) = &self.items {
            schema["items"] = items.write();
        }
        if !self.members.is_empty() {
            let member = |(name, shape): (&String, &Self)| (name.clone(), shape.write());
            schema["properties"] = Value::Object(self.members.iter().map(member).collect());
        }
        schema
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
