//! The behaviour suite of data sources.

use super::Bench;
use crate::data_source::DataSource;
use crate::value::{Type, Value};

/// Checks every rule of [`DataSource`]: it prepares without finding anything wrong, reads twice, and the value has
/// the type it promised. Returns what it read.
///
/// # Panics
/// Where a rule is broken.
pub async fn suite(source: &dyn DataSource) -> Value {
    let bench = Bench::new();
    let findings = source.prepare(bench.prepare_context());
    assert!(!findings.has_errors(), "prepare of a working data source: {findings}");
    let promised: Type = source.output_type();
    let read = source.read(bench.context()).await;
    let value = read.unwrap_or_else(|e| panic!("reading: {e}"));
    assert_eq!(source.output_type(), promised, "the type of what is read does not change");
    if promised != Type::Dynamic {
        assert_eq!(value.ty(), promised, "the type of what was read");
    }
    let again = source.read(bench.context()).await;
    assert!(again.is_ok(), "reading again: {}", again.unwrap_err());
    assert!(bench.outstanding().is_empty(), "a data source only reads");
    value
}
