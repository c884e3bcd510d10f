//! JSON syntax: any text is read as a body and as a whole template or refused, soon, with places that lie in the text;
//! and a value written as JSON reads back as itself.
#![no_main]

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context as TaskContext, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use packer_core::diagnostic::{Diagnostics, packer_layout_all};
use packer_core::language::eval::Scope;
use packer_core::language::functions::{Capabilities, Functions};
use packer_core::language::syntax::{BodySchema, parse_json};
use packer_core::template::{Inputs, Template};
use packer_core::value::{Value, from_json_str};
use packer_core::{Registry, SourceFile};

static SCOPE: LazyLock<Scope> = LazyLock::new(|| {
    Scope::new()
        .with_functions(Functions::standard(), Capabilities::none())
        .with_variables([("o", Value::object([("a", Value::from("x")), ("b", Value::from(1))]))])
});

/// What a future gives that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a template without data sources waits for nothing"),
    }
}

fn has_long_number(json: &str) -> bool {
    json.split(|c: char| !c.is_ascii_digit() && c != '.').any(|digits| digits.len() > 300)
}

fuzz_target!(|text: &str| {
    let source = SourceFile::new("fuzz.pkr.json", text);
    let (file, mut found) = parse_json(&source);
    let schema = BodySchema::new().optional("a").required("b").block("c", &["x", "y"]).block("d", &[]);
    let (content, rest) = file.body.partial_content(&schema, &mut found);
    for attribute in content.attributes.into_iter().chain(rest.attributes(&mut found)) {
        for scope in [&*SCOPE, &Scope::constant()] {
            let Ok(json) = attribute.evaluate(scope, &mut found).to_json_string() else { continue };
            let again = from_json_str(&json).expect("what was written reads back");
            // Scaling by a large power of ten rounds as cty's reader does, which is not always to the nearest: a number
            // of thousands of digits may read back as its neighbour.
            if !has_long_number(&json) {
                assert_eq!(again.to_json_string().expect("and is written again"), json);
            }
        }
    }
    file.body.expand(&schema, &SCOPE, &mut Diagnostics::new());
    packer_layout_all(&found);

    let inputs = || Inputs::new().files(packer_core::language::functions::NoFiles);
    match Template::from_texts([("fuzz.pkr.json", text)]) {
        Ok(template) => {
            if let Err(found) = now(template.evaluate(&Registry::new(), inputs())) {
                assert!(found.has_errors());
                packer_layout_all(&found);
            }
            if let Ok(inspection) = now(template.inspect(&Registry::new(), inputs())) {
                let _ = (inspection.to_string(), inspection.values());
            }
        }
        Err(found) => {
            assert!(found.has_errors());
            packer_layout_all(&found);
        }
    }
});
