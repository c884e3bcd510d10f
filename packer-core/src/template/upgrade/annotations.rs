//! Comments that explain a template to those who have not seen the language before.

pub(super) const FILE: &str = "\
Written by `packer hcl2_upgrade` from a JSON template. Read it through before you rely on it.
Its blocks may be moved to other files in the same folder, as long as their names end in .pkr.hcl;
`packer inspect FOLDER` tells what a folder holds.

${ … } is evaluated when the template is loaded; {{ … }} is put in later, by the component whose setting it is.";

pub(super) const PACKER: &str = "\
What the template needs: the version of Packer, and plugins.";

pub(super) const VARIABLES: &str = "\
Variables are set with -var, in variable files, or by the environment (PKR_VAR_name). JSON templates know
texts only, so all have the type string; you may give them better ones.";

pub(super) const DATA: &str = "\
Data sources look something up before anything is built.";

pub(super) const TIMESTAMP: &str = "\
Stands for {{timestamp}}.";

pub(super) const LOCALS: &str = "\
Variables whose defaults are computed have become locals, which cannot be set from outside.";

pub(super) const SOURCES: &str = "\
Each builder has become a source: what a build starts from.";

pub(super) const BUILD: &str = "\
A build brings sources and the steps together that are taken with each of them.";
