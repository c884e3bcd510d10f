//! The TPM of a machine, which is a program beside it: `swtpm`.

use std::path::PathBuf;
use std::time::Duration;

use packer_core::kit::process::{Process, Program};
use packer_core::{Context, Error, Result};

use super::{LONGEST_SOCKET, Qemu};

/// A TPM that runs; dropped, it ends.
#[derive(Debug)]
pub(super) struct Tpm {
    /// Where QEMU finds it.
    pub(super) socket: PathBuf,
    _process: Process,
}

/// Starts it where the machine is to have one; its state is empty and goes with the build.
pub(super) async fn start(vm: &Qemu, cx: &Context) -> Result<Option<Tpm>> {
    /// How long its socket is waited for; QEMU says it where it is not there.
    const APPEARS: Duration = Duration::from_secs(2);
    if !vm.vtpm {
        return Ok(None);
    }
    let state = cx.temp_dir()?;
    let socket = state.join("vtpm.sock");
    if socket.as_os_str().len() > LONGEST_SOCKET {
        let text = format!(
            "Error starting the TPM: the path of its socket is longer than {LONGEST_SOCKET} bytes, a shorter folder for \
             temporary files is needed: {}",
            socket.display()
        );
        return Err(Error::user(text));
    }
    let mut program = Program::new("swtpm")
        .args(["socket", "--tpmstate"])
        .arg(format!("dir={}", state.display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,path={}", socket.display()));
    if !vm.use_tpm1 {
        program = program.arg("--tpm2");
    }
    let mut process = program.start_shown(cx).map_err(|e| e.context("Error starting the TPM"))?;
    let appears = async {
        while !socket.exists() {
            cx.sleep(Duration::from_millis(10)).await?;
        }
        Ok::<(), Error>(())
    };
    let waited = process.while_running(async { Ok(tokio::time::timeout(APPEARS, appears).await) }).await;
    if let Ok(there) = waited.map_err(|e| e.context("Error starting the TPM"))? {
        there?;
    }
    Ok(Some(Tpm { socket, _process: process }))
}
