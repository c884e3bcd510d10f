//! The evaluator: every attribute of a text in native and in JSON syntax has a value or a mistake that is told.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use packer_core::SourceFile;
use packer_core::diagnostic::Diagnostics;
use packer_core::language::eval::{Scope, TypeUse, parse_type, references};
use packer_core::language::functions::{Capabilities, Functions};
use packer_core::language::syntax::{BodySchema, parse_json, parse_native};
use packer_core::value::{Type, Value};

static SCOPE: LazyLock<Scope> = LazyLock::new(|| {
    Scope::new().with_functions(Functions::standard(), Capabilities::none()).with_variables([
        (
            "o",
            Value::object([
                ("a", Value::from("x")),
                ("b", Value::from(1)),
                ("n", Value::null(Type::Dynamic)),
            ]),
        ),
        ("l", Value::list(Type::Number, [Value::from(1), Value::from(2)])),
        ("s", Value::from("secret").sensitive()),
        ("u", Value::unknown(Type::Dynamic)),
        ("us", Value::unknown(Type::list(Type::String))),
    ])
});

fuzz_target!(|text: &str| {
    let source = SourceFile::new("fuzz", text);
    let schema = BodySchema::new().block("b", &[]).block("c", &["x"]);
    for (file, mut diagnostics) in [parse_native(&source), parse_json(&source)] {
        for attribute in file.body.attributes(&mut Diagnostics::new()) {
            references(&attribute.expr);
            for scope in [&*SCOPE, &Scope::constant()] {
                let value = attribute.evaluate(scope, &mut diagnostics);
                let _ = value.to_json_string();
            }
            parse_type(&attribute.expr, &source, TypeUse::Variable, &mut diagnostics);
        }
        file.body.expand(&schema, &SCOPE, &mut diagnostics);
        assert!(!format!("{diagnostics:?}").contains("as \"secret\""));
    }
});
