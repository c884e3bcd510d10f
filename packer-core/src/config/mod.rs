//! From the block of a component to the struct that is the component.

use serde::de::DeserializeOwned;

use crate::value::Value;

/// Makes a component of its configuration.
///
/// # Errors
/// Where the configuration does not fit the struct.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_json::from_value(value.to_json().map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}
