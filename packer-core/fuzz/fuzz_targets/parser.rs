//! Every reader of template text: whatever comes in, there is a result, and no byte is lost between tokens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packer_core::SourceFile;
use packer_core::diagnostic::Diagnostics;
use packer_core::language::syntax::{
    BodySchema, lex, parse_expression, parse_json, parse_native, parse_template,
};

fuzz_target!(|text: &str| {
    let mut at = 0;
    for token in lex(text) {
        assert_eq!(token.span.start, at);
        at = token.span.end;
    }
    assert_eq!(at as usize, text.len());
    let source = SourceFile::new("fuzz", text);
    let schema = BodySchema::new().optional("a").required("b").block("c", &["x"]).block("d", &[]);
    for (file, diagnostics) in [parse_native(&source), parse_json(&source)] {
        for d in &diagnostics {
            // Shows that every place lies in the text.
            let _ = d.to_string();
        }
        let mut found = Diagnostics::new();
        let (_, rest) = file.body.partial_content(&schema, &mut found);
        rest.attributes(&mut found);
    }
    let _ = parse_expression(&source);
    let _ = parse_template(&source);
});
