//! `packer hcl2_upgrade`: writes a JSON template in native syntax.

use std::io::Write;
use std::path::Path;

use packer_core::template::upgrade::{read, to_hcl};
use packer_core::{Error, Result, WholeFile};

use crate::flags::{self, Flag};
use crate::{FAILED, OK, Session, registry};

pub(crate) const USAGE: &str = "Usage: packer hcl2_upgrade [options] TEMPLATE

  Writes a JSON template in native syntax.

Options:

  -output-file=path    Where to; by default TEMPLATE with \".pkr.hcl\" behind it. Only files whose names end so are
                       templates.
  -with-annotations    Explain the blocks in comments.
";

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let (mut output, mut annotated) = (String::new(), false);
    let mut flags =
        [("output-file", Flag::Text(&mut output)), ("with-annotations", Flag::Switch(&mut annotated))];
    let path = match flags::parse(&args, &mut flags) {
        Ok(arguments) => session.only_argument(arguments),
        Err(stop) => return session.misused(stop),
    };
    let Ok(path) = path else { return FAILED };
    if output.is_empty() {
        output = format!("{path}.pkr.hcl");
    }
    let source = match session.reading(move || read(&path)).await {
        Ok(Ok(source)) => source,
        Err(code) => return code,
        Ok(Err(error)) => {
            session.ui.error(&error.to_string());
            return FAILED;
        }
    };
    let upgraded = match to_hcl(&source, &registry(), annotated) {
        Ok(upgraded) => upgraded,
        Err(findings) => return session.failed(&findings),
    };
    if let Err(error) = write(Path::new(&output), &upgraded.text) {
        session.ui.error(&error.to_string());
        return FAILED;
    }
    for (kind, name) in &upgraded.unknown {
        session
            .ui
            .error(&format!("unknown {kind} type: {name}; which of its settings are blocks is a guess"));
    }
    let code = if upgraded.unknown.is_empty() { OK } else { FAILED };
    session.ui.say(&format!("Successfully created {output}. Exit {code}"));
    code
}

/// Writes the file, and makes its folder where there is none.
fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("mkdir", folder, e))?;
    }
    let mut file = WholeFile::create_outside_of_a_run(path, 0o644)?;
    file.write_all(text.as_bytes()).map_err(|e| Error::io("write", path, e))?;
    file.commit()
}
