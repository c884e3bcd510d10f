//! Names in the template language: identifiers, each once.

use std::collections::BTreeSet;

use crate::language::syntax::is_identifier;

/// A text as an identifier: what may not stand in one becomes `_`.
fn identifier(text: &str) -> String {
    let fits = |c: char| is_identifier(&format!("a{c}"));
    let mut name: String = text.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if !is_identifier(&name) {
        name.insert(0, '_');
    }
    name
}

/// A text as an identifier that is not taken yet, which it is from now on.
pub(super) fn unique_identifier(text: &str, taken: &mut BTreeSet<String>) -> String {
    let name = identifier(text);
    let mut candidate = name.clone();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers_and_differ() {
        let mut taken = BTreeSet::new();
        let mut name = |text: &str| unique_identifier(text, &mut taken);
        let names = ["my box", "my.box", "16.04", "a-b", "", "é{{x}}", "a-b"].map(&mut name);
        assert_eq!(names, ["my_box", "my_box_2", "_16_04", "a-b", "_", "é__x__", "a-b_2"]);
    }
}
