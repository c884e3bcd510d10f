//! What templates can say here that Packer does not know.
//!
//! All of it is opt-in: a template that uses none of it means the same in Packer, and nothing here takes a name from a
//! template that Packer accepts (a component's own argument of such a name stays the component's). It is plain
//! template syntax, in `.pkr.hcl` and in `.pkr.json`. [`Template::portability`] lists every use in a template, as
//! `packer validate -portable` does.
//!
//! # One block for several: `for_each`
//!
//! A `source` block with `for_each` stands for one source for each element of a list, set, map, tuple or object, in which
//! `each.key` and `each.value` are that element (the key of a list is the index). The argument `name` names each of
//! them; without it they are called `NAME-KEY`. `sources = ["TYPE.NAME"]` takes all of them, `"TYPE.NAME-KEY"` one.
//!
//! ```hcl
//! source "file" "motd" {
//!   for_each = { web = "Welcome to the web", db = "Keep out" }
//!   name     = "motd_${each.key}"
//!   target   = "motd/${each.key}.txt"
//!   content  = each.value
//! }
//!
//! build {
//!   sources = ["file.motd"]
//! }
//! ```
//!
//! A `build` block with `for_each` stands for several builds in the same way; where it has no `name`, the key is the
//! name. `each` can be used in everything in the block. Steps of a build without `for_each` see the `each` of the source.
//!
//! ```hcl
//! locals {
//!   stages = { dev = "off", prod = "on" }
//! }
//!
//! source "file" "config" {
//!   target = "${source.name}.conf"
//! }
//!
//! build {
//!   for_each = local.stages
//!   name     = "stage-${each.key}"
//!
//!   source "file.config" {
//!     name    = each.key
//!     content = "cache = ${each.value}"
//!   }
//!
//!   post-processor "checksum" {
//!     checksum_types = ["sha256"]
//!     output         = "${each.key}.sum"
//!   }
//! }
//! ```
//!
//! The keys become parts of names, so they can be neither sensitive nor unknown. `validate` without
//! `-evaluate-datasources` does not know what comes of a data source: a source is then checked once, with `each`
//! unknown, and a build is left out with a warning.
//!
//! # Steps on a condition: `when`
//!
//! A provisioner, a post-processor or what runs after an error is left out of each build for which `when` is false. The
//! expression may use what other arguments that the loader reads may use (`var`, `local`, `data`, `build.name`), and
//! beside that `source` and `each`.
//!
//! ```hcl
//! variable "release" {
//!   type    = bool
//!   default = false
//! }
//!
//! source "file" "notes" {
//!   content = "notes"
//!   target  = "notes.txt"
//! }
//!
//! source "file" "draft" {
//!   content = "draft"
//!   target  = "draft.txt"
//! }
//!
//! build {
//!   sources = ["file.notes", "file.draft"]
//!
//!   post-processor "compress" {
//!     when   = var.release && source.name != "draft"
//!     output = "${source.name}.tar.gz"
//!   }
//! }
//! ```
//!
//! # What a step depends on: `inputs` and `volatile`
//!
//! Whether the result of a provisioner can be used again in a later run depends on what it reads. Most provisioners know
//! that; `inputs` says it in their place, as a list of files and folders relative to the template's folder, and
//! `volatile = true` says that more counts than can be known, so that the step always runs. See
//! [`StepInputs`](crate::StepInputs).
//!
//! ```hcl
//! source "null" "machine" {
//!   communicator = "none"
//! }
//!
//! build {
//!   sources = ["null.machine"]
//!
//!   provisioner "shell-local" {
//!     inline = ["cat packages.txt > /dev/null || true"]
//!     inputs = ["packages.txt", "scripts"]
//!   }
//!   provisioner "shell-local" {
//!     inline   = ["date"]
//!     volatile = true
//!   }
//! }
//! ```
//!
//! # Looking at what was made: `test`
//!
//! A `test` block in a build is written as a `provisioner` block is, with the same types and settings (`only`, `override`,
//! `max_retries`, `when` …; not `inputs` and `volatile`). It runs when the image is finished, in a machine that is started
//! from the image and thrown away afterwards, so that nothing which a test changes is in the image. Only when all tests have
//! passed the post-processors run. Where one fails, or the image does not start, the build fails, and the image is kept under
//! a name that says so. The report has the result ([`TestReport`](crate::engine::TestReport)). Builders that cannot start
//! what they made refuse such a build before anything runs.
//!
//! ```hcl
//! source "oci" "motd" {
//!   output = ["oci:motd:latest"]
//! }
//!
//! build {
//!   sources = ["oci.motd"]
//!
//!   provisioner "file" {
//!     content     = "Welcome"
//!     destination = "/motd"
//!   }
//!
//!   test "file" {
//!     direction   = "download"
//!     source      = "/motd"
//!     destination = "motd.txt"
//!   }
//! }
//! ```
//!
//! # What builds have made: `artifacts`
//!
//! A `source` block (or one in a build) may refer to what another build of the same template makes, by the other build's
//! display name. The reference makes the build wait for the other one.
//!
//! ```hcl
//! source "file" "image" {
//!   content = "an image"
//!   target  = "image.img"
//! }
//!
//! source "file" "copy" {
//!   source = artifacts["base.file.image"].files[0]
//!   target = "copy.img"
//! }
//!
//! build {
//!   name    = "base"
//!   sources = ["file.image"]
//! }
//!
//! build {
//!   name    = "derived"
//!   sources = ["file.copy"]
//! }
//! ```
//!
//! Each artifact is an object of `id`, `builder_id` and `description` (texts), `files` (a list of texts) and `metadata`
//! (whatever the component said); `all` lists every artifact that the other build leaves, and the attributes directly
//! behind the name are those of the first. Before the other build has run all of it is unknown.
//!
//! # What a run gives back: `output`
//!
//! The value of an `output` block is made when the builds are done. It may use what a local may use, and `artifacts`
//! as above; also `artifacts` as a whole, which is everything that succeeded. The values are in
//! [`Report::outputs`](crate::Report::outputs). One that refers by name to a build which did not succeed is not there.
//! Sensitive values, and those of an output with `sensitive = true`, are masked wherever they are shown.
//!
//! ```hcl
//! source "file" "key" {
//!   content = "key"
//!   target  = "key.txt"
//! }
//!
//! build {
//!   sources = ["file.key"]
//! }
//!
//! output "key_file" {
//!   description = "Where the key is."
//!   value       = artifacts["file.key"].files[0]
//! }
//!
//! output "all_files" {
//!   value     = flatten([for name, made in artifacts : made.files])
//!   sensitive = true
//! }
//! ```
//!
//! # Boot commands that look: `<wait "…">`
//!
//! In `boot_command` and `boot_steps`, `<wait "login:">` waits until the text shows: on the machine's first serial line, and on
//! its screen where that is a text console. `<wait "login:" 90s>` says how long at most (5 minutes otherwise); in the quotes a
//! backslash stands before `"` and `\\`. `<wait still>` waits until the screen has not changed for 5 seconds, `<wait still 10s 2m>`
//! for 10 seconds and at most 2 minutes. Packer types all of these as they stand.
//!
//! # The library's side
//!
//! ```
//! # use packer_core::template::{Inputs, Template};
//! # use packer_core::{Engine, Registry};
//! let text = r#"
//!   output "answer" {
//!     value = 6 * 7
//!   }
//! "#;
//! let template = Template::from_texts([("t.pkr.hcl", text)])?;
//! let warnings = template.portability(&Registry::new());
//! assert_eq!(warnings.iter().map(|w| w.location.as_ref().unwrap().start().line).collect::<Vec<_>>(), [2]);
//! # Ok::<(), packer_core::Diagnostics>(())
//! ```

use super::builds::{STEP_EXTENSIONS, TEST};
use super::for_each::FOR_EACH;
use super::{Template, artifacts};
use crate::config::Schema;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::language::eval::references;
use crate::language::syntax::{Attribute, Block, Body, BodySchema};
use crate::registry::Registry;

impl Template {
    /// A warning for each place where the template uses what Packer does not know.
    pub fn portability(&self, registry: &Registry) -> Diagnostics {
        let mut walk = Walk { registry, found: Diagnostics::new() };
        for block in &self.0.sources {
            walk.source(block);
        }
        for block in &self.0.builds {
            walk.build(block);
        }
        for output in &self.0.outputs {
            walk.warn("an output block", output.location.clone());
        }
        self.in_order(walk.found)
    }
}

struct Walk<'r> {
    registry: &'r Registry,
    found: Diagnostics,
}

impl Walk<'_> {
    fn warn(&mut self, what: &str, place: Location) {
        self.found.push(
            Diagnostic::warning("Not portable")
                .detail(format!("Packer does not know {what} and refuses this template."))
                .at(place),
        );
    }

    /// Warns of these arguments of a body, unless the component has arguments of that name itself.
    fn arguments(&mut self, names: &[&'static str], body: &Body, own: Option<&Schema>) {
        let free = names.iter().filter(|name| own.is_none_or(|own| own.field(name).is_none()));
        let schema = free.fold(BodySchema::new(), |schema, name| schema.optional(*name));
        for attribute in content(body, &schema).attributes {
            let place = attribute.name.span.in_source(&attribute.source);
            self.warn(&format!("the argument \"{}\" here", attribute.name.as_str()), place);
        }
    }

    fn artifacts(&mut self, attributes: &[Attribute]) {
        for attribute in attributes {
            for reference in references(&attribute.expr).iter().filter(|r| &*r.root == artifacts::ROOT) {
                self.warn("\"artifacts\"", reference.span.in_source(&attribute.source));
            }
        }
    }

    fn source(&mut self, block: &Block) {
        let registry = self.registry;
        let own = registry.get_builder(block.label(0)).map(|kind| &*kind.schema);
        self.arguments(&[FOR_EACH], &block.body, own);
        let attributes = block.body.all_attributes();
        self.artifacts(&attributes);
        for attribute in
            attributes.iter().filter(|a| matches!(a.name.as_str(), "boot_command" | "boot_steps"))
        {
            let place = attribute.value_location();
            let text = place.source().text().get(place.span().range()).unwrap_or_default();
            if ["<wait \"", "<wait \\\"", "<wait still"].iter().any(|wait| text.contains(wait)) {
                self.found.push(
                    Diagnostic::warning("Not portable")
                        .detail("Packer knows no waits for a text or a still screen, and types them.")
                        .at(place),
                );
            }
        }
    }

    /// A build block: what is in it, and in the `dynamic` blocks and sequences in it.
    fn build(&mut self, block: &Block) {
        self.arguments(&[FOR_EACH], &block.body, None);
        let schema = BodySchema::new()
            .block("source", &["reference"])
            .block("provisioner", &["type"])
            .block("error-cleanup-provisioner", &["type"])
            .block(TEST, &["type"])
            .block("post-processor", &["type"])
            .block("post-processors", &[])
            .block("dynamic", &["type"]);
        let mut pending = vec![block.body.clone()];
        while let Some(body) = pending.pop() {
            for inner in content(&body, &schema).blocks {
                match inner.kind.as_str() {
                    "dynamic" => {
                        if inner.label(0) == TEST {
                            self.warn("a test block", inner.location());
                        }
                        let inside = BodySchema::new().block("content", &[]);
                        for written in content(&inner.body, &inside).blocks {
                            self.part(inner.label(0), "", &written.body);
                            if inner.label(0) == "post-processors" {
                                pending.push(written.body);
                            }
                        }
                    }
                    "post-processors" => pending.push(inner.body),
                    kind => {
                        if kind == TEST {
                            self.warn("a test block", inner.location());
                        }
                        self.part(kind, inner.label(0), &inner.body);
                    }
                }
            }
        }
    }

    /// A block in a build; `label` is empty where a `dynamic` block gives it.
    fn part(&mut self, kind: &str, label: &str, body: &Body) {
        let registry = self.registry;
        match kind {
            "source" => self.artifacts(&body.all_attributes()),
            "provisioner" | "error-cleanup-provisioner" => {
                let own = registry.get_provisioner(label).map(|kind| &*kind.schema);
                let names = if kind == "provisioner" { &STEP_EXTENSIONS[..] } else { &STEP_EXTENSIONS[..1] };
                self.arguments(names, body, own);
            }
            TEST => {
                let own = registry.get_provisioner(label).map(|kind| &*kind.schema);
                self.arguments(&STEP_EXTENSIONS[..1], body, own);
            }
            "post-processor" => {
                let own = registry.get_post_processor(label).map(|kind| &*kind.schema);
                self.arguments(&STEP_EXTENSIONS[..1], body, own);
            }
            _ => {}
        }
    }
}

fn content(body: &Body, schema: &BodySchema) -> crate::language::syntax::Content {
    // What else is wrong with the body is told by whoever evaluates it.
    body.partial_content(schema, &mut Diagnostics::new()).0
}
