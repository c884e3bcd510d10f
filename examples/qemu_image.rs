//! A machine from a disk image, in code; templates of this and of an installer are in `examples/qemu`.
//!
//! `cargo run --example qemu_image -- base.qcow2 USER PASSWORD`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use packer_builders::Qemu;
use packer_core::event::PackerLines;
use packer_core::{Build, Engine, Host, Pipeline};
use packer_postproc::Vagrant;
use packer_provisioners::Shell;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(base), Some(user), Some(password)) = (words.next(), words.next(), words.next()) else {
        return Err("qemu_image BASE.qcow2 USER PASSWORD".into());
    };
    let mut machine =
        Qemu::from_disk(base).memory_mib(512).ssh(user, password).shutdown("poweroff").output("output-image");
    machine.cpu_model = "max".to_owned();

    let build = Build::new("image", machine)
        .provision(Shell::inline(["echo 'made by packer' > /etc/motd", "uname -r"]))
        .test(Shell::inline(["grep 'made by packer' /etc/motd"]))
        .post_process(Vagrant::to("image.box"));
    let engine =
        Engine::new().host(Host::from_process()).events(PackerLines::new(std::io::stderr()).color(true));
    let report = engine.run(Pipeline::of([build])).await?;
    for artifact in report.builds.iter().flat_map(|build| &build.artifacts) {
        println!("{}", artifact.description);
    }
    if report.succeeded() { Ok(()) } else { Err("the build failed".into()) }
}
