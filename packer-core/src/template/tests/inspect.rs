//! What inspection says of a template that is not right.

use super::*;

#[tokio::test]
async fn locals_that_fail_and_what_needs_them_are_left_out() {
    let text = r#"
        variable "given" { default = "x" }
        variable "open" { type = string }
        locals {
          fails  = upper([])
          needs  = "${local.fails}!"
          twice  = [for n in [1, 2] : "${local.needs}${n}"]
          sound  = "${var.given}y"
          open   = "${var.open}z"
        }
        local "secret" {
          expression = local.fails
          sensitive  = true
        }
    "#;
    let template = Template::from_texts([("t.pkr.hcl", text)]).unwrap();
    let inspection = template.inspect(&registry(), Inputs::new()).await.unwrap();
    let names: Vec<&str> = inspection.locals.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["open", "sound"]);
    let errors: Vec<String> = inspection.diagnostics.iter().map(ToString::to_string).collect();
    assert!(errors.iter().any(|e| e.contains("t.pkr.hcl:5")), "{errors:?}");
    // What one failure makes impossible is no failure of its own.
    let places = |e: &String| (6..=13).any(|line| e.starts_with(&format!("t.pkr.hcl:{line},")));
    assert!(!errors.iter().any(places), "{errors:?}");
    let values = "> input-variables:\n\nvar.given: \"x\"\nvar.open: \"<unknown>\"\n\n\
                  > local-variables:\n\nlocal.open: \"<unknown>\"\nlocal.sound: \"xy\"\n\n";
    assert_eq!(inspection.values(), values);
    assert!(inspection.to_string().starts_with(&format!("Packer Inspect: HCL2 mode\n\n{values}> builds:\n")));
}
