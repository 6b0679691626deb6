//! Environment variables over the file: `MOCKS3_STORAGE__REPLICAS=2`.

use super::{Config, ConfigError};

/// Puts one environment variable into the tree.
///
/// A key that holds text takes the variable as text, whatever it looks like (a token of digits);
/// only where that cannot be does it count as a TOML value, as in `write_quorum`.
///
/// # Errors
/// When there is no such key, or the key does not take the value.
pub(super) fn override_key(
    tree: &mut toml::Table,
    key: &str,
    value: &str,
) -> Result<(), ConfigError> {
    let invalid = |text: &str| ConfigError::Invalid(key.to_owned(), text.to_owned());
    let path = key["MOCKS3_".len()..].to_lowercase();
    let (sections, leaf) = path.rsplit_once("__").ok_or_else(|| {
        invalid("no such key: expected MOCKS3_SECTION__KEY, as in MOCKS3_STORAGE__REPLICAS=2")
    })?;
    let mut section = &*tree;
    for name in sections.split("__") {
        let inner = section.get(name).and_then(|s| s.as_table());
        section = inner.ok_or_else(|| invalid("no such section in the configuration"))?;
    }
    if !section.contains_key(leaf) {
        let known: Vec<&str> = section.keys().map(String::as_str).collect();
        return Err(invalid(&format!("no such key: expected one of {}", known.join(", "))));
    }
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let text = toml::Value::String(value.to_owned());
    let readings = match (parsed, section[leaf].is_str()) {
        (Some(toml::Value::String(inner)), _) => vec![toml::Value::String(inner)],
        (Some(other), true) => vec![text, other],
        (Some(other), false) => vec![other],
        (None, _) => vec![text],
    };
    let mut refused = None;
    for reading in readings {
        let mut changed = tree.clone();
        put(&mut changed, &path, reading);
        match changed.clone().try_into::<Config>() {
            Ok(_) => {
                *tree = changed;
                return Ok(());
            }
            Err(error) => refused = refused.or(Some(error.to_string())),
        }
    }
    Err(invalid(&refused.unwrap_or_default()))
}

/// Sets the key at a path like `storage__replicas`, which is there.
fn put(tree: &mut toml::Table, path: &str, value: toml::Value) {
    match path.split_once("__") {
        Some((section, rest)) => {
            if let Some(inner) = tree.get_mut(section).and_then(|s| s.as_table_mut()) {
                put(inner, rest, value);
            }
        }
        None => drop(tree.insert(path.to_owned(), value)),
    }
}
