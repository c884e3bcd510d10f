//! Our side of `hcl_go`: parses `t.pkr.hcl` in the working folder and evaluates every attribute of every block with the
//! variables of `variables.json`, several times. With the argument `write` it writes the two files instead.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark stops at the first surprise")]

use std::fs;
use std::time::Instant;

use packer_core::SourceFile;
use packer_core::language::syntax::parse_file;
use packer_core::value::{Value, from_json_str};

const TEMPLATE: &str = "t.pkr.hcl";
const VARIABLES: &str = "variables.json";
const PASSES: usize = 11;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("write") {
        let text = benches::realistic_template(1_000_000);
        fs::write(VARIABLES, benches::variables_of(&text)).expect("the folder can be written");
        fs::write(TEMPLATE, text).expect("the folder can be written");
        return;
    }
    let text = fs::read_to_string(TEMPLATE).expect("the template is there");
    let variables = fs::read_to_string(VARIABLES).expect("the variables are there");
    let scope = benches::scope_of(&from_json_str(&variables).expect("they are JSON"));
    let (mut parse, mut evaluated) = (Vec::new(), Vec::new());
    let (mut attributes, mut bytes) = (0, 0);
    for pass in 0..PASSES {
        let source = SourceFile::new(TEMPLATE, text.clone());
        let began = Instant::now();
        let (file, diagnostics) = parse_file(&source);
        assert!(diagnostics.is_empty(), "{diagnostics}");
        parse.push(began.elapsed().as_secs_f64());
        benches::evaluate_all(&file, &scope, &mut |_| ());
        if pass == 0 {
            benches::evaluate_all(&file, &scope, &mut |value: Value| {
                attributes += 1;
                bytes += value.to_json_string().expect("everything is known").len();
            });
        }
        drop((file, source));
        evaluated.push(began.elapsed().as_secs_f64());
    }
    println!(
        r#"{{"parse": {parse:?}, "parse and evaluate": {evaluated:?}, "values": "{attributes} attributes, {bytes} bytes"}}"#
    );
}
