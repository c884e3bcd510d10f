//! Values and types of the template language.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Dynamic,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Value(serde_json::Value);
impl Value {
    pub fn to_json(&self) -> serde_json::Value {
        self.0.clone()
    }
    pub fn from_json(json: &serde_json::Value) -> Self {
        Value(json.clone())
    }
    pub fn sensitive(self) -> Self {
        self
    }
}
impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value(s.into())
    }
}
impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self(v.into())
    }
}
impl From<i64> for Value {
    fn from(s: i64) -> Self {
        Value(s.into())
    }
}
