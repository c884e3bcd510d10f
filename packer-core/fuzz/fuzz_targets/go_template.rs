//! Any text: it is rendered or refused, soon, and what has no action in it stays as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use packer_core::language::go_template::{Data, Interpolation, placeholders, render_fixpoint};

fuzz_target!(|text: &str| {
    let mut interpolation = Interpolation::default();
    interpolation.build_name = Some("web".into());
    interpolation.user_variables = Some(Default::default());
    interpolation.data = placeholders(["ID", "Host"]);
    let rendered = interpolation.render(text);
    if !text.contains("{{") {
        assert_eq!(rendered.as_deref(), Ok(text));
    }
    let data = Data::map([
        ("s", Data::from("text")),
        ("n", Data::from(42_i64)),
        ("f", Data::from(1.5)),
        ("l", Data::list(["a", "b"])),
        ("m", Data::map([("x", "{{.s}}")])),
    ]);
    let _ = render_fixpoint(text, &data, &interpolation);
});
