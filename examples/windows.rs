//! A Windows machine, entered by WinRM: PowerShell, a script as another user, a restart, a batch file.
//!
//! `cargo run --example windows -- HOST USER`, with the password in the variable `WINDOWS_PASSWORD`, enters a machine that
//! `examples/windows/enable-winrm.ps1` has prepared; `examples/windows` has the same build as a template. Without arguments
//! it enters a server of packer-core's feature `testing` that stands in for Windows and only says what it was asked.
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use packer_builders::Null;
use packer_core::event::PackerLines;
use packer_core::testing::winrm::{Reply, WinRmServer};
use packer_core::{Build, CommunicatorConfig, Engine, Pipeline};
use packer_provisioners::{PowerShell, Upload, WindowsRestart, WindowsShell};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (_stand_in, config) = match arguments.as_slice() {
        [host, user] => {
            let password = std::env::var("WINDOWS_PASSWORD")?;
            let mut config = CommunicatorConfig::winrm(user, password).host(host);
            config.winrm_use_ssl = true;
            config.winrm_insecure = true; // the certificate is one that the machine made for itself
            config.winrm_use_ntlm = Some(true);
            (None, config)
        }
        _ => {
            let server = WinRmServer::start(stand_in).await;
            let config = server.config();
            (Some(server), config)
        }
    };

    let setup = concat!(env!("CARGO_MANIFEST_DIR"), "/windows/setup.ps1");
    let windows = Build::new("windows", Null::from(config))
        .provision(PowerShell::inline([
            "New-Item -ItemType Directory -Force -Path C:\\app | Out-Null",
            "Write-Output \"this is $env:COMPUTERNAME\"",
        ]))
        .provision(Upload::new(setup, "C:/app/"))
        .provision(
            PowerShell::script(setup).env("STAGE", "test").elevated("SYSTEM", "").valid_exit_codes([0, 3010]),
        )
        .provision(WindowsRestart::new().check_registry().timeout("15m".parse()?))
        .provision(WindowsShell::inline(["ver", "type C:\\app\\stage.txt"]));

    let engine = Engine::new().events(PackerLines::new(std::io::stdout()));
    let report = engine.run(Pipeline::of([windows])).await?;
    println!("{:?}", report.builds[0].status);
    if report.succeeded() { Ok(()) } else { Err("the build failed".into()) }
}

/// What a machine would do, as far as this build looks at it.
fn stand_in(command: &str, _: &[u8]) -> Reply {
    match command {
        _ if command.contains("packer restart test") => Reply::code(1), // it is down
        _ if command.contains("restarted.") => Reply::prints("STAND-IN restarted.\r\n"),
        _ if command.contains("Test-Path \"HKLM") => Reply::prints("False\r\n"),
        _ if command.contains("packer-elevated-shell") => {
            Reply { code: Some(3010), ..Reply::prints("set up\r\n") }
        }
        _ if command.contains("script.bat") => Reply::prints("stage: test\r\n"),
        _ => Reply::code(0),
    }
}
