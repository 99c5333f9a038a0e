//! Values of a message of the catalogue by the names of its fields; what is not set, or of another type, is empty.

use prost_reflect::{DynamicMessage, Value};

/// A text or a code.
pub(crate) fn text(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A list of texts or codes.
pub(crate) fn texts(message: &DynamicMessage, field: &str) -> Vec<String> {
    match message.get_field_by_name(field).as_deref() {
        Some(Value::List(items)) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// A truth value.
pub(crate) fn truth(message: &DynamicMessage, field: &str) -> bool {
    message.get_field_by_name(field).and_then(|value| value.as_bool()).unwrap_or_default()
}

/// A message within.
pub(crate) fn inner(message: &DynamicMessage, field: &str) -> Option<DynamicMessage> {
    let set = message.has_field_by_name(field).then(|| message.get_field_by_name(field)).flatten()?;
    set.as_message().cloned()
}

/// The messages of a list.
pub(crate) fn inner_list(message: &DynamicMessage, field: &str) -> Vec<DynamicMessage> {
    match message.get_field_by_name(field).as_deref() {
        Some(Value::List(items)) => items.iter().filter_map(|item| item.as_message().cloned()).collect(),
        _ => Vec::new(),
    }
}
