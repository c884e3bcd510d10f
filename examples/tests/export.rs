//! Pipelines of the components that come with the library, written out as templates and read again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::time::Duration;

use packer_builders::{FileBuilder, Null};
use packer_core::communicator::CommunicatorConfig;
use packer_core::template::{Template, export};
use packer_core::{
    Build, Late, Pipeline, PostProcessStep, PostProcessor, PostProcessorExt, ProvisionStep, Provisioner,
    ProvisionerExt, Registry, RunValues,
};
use packer_postproc::{Artifice, Checksum, Compress, Manifest, ShellLocal as ShellLocalAfter};
use packer_provisioners::{Breakpoint, FileProvisioner, LocalShell, Shell, ShellLocal, Sleep, Upload};

fn registry() -> Registry {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    packer_provisioners::register(&mut registry);
    packer_postproc::register(&mut registry);
    registry
}

/// The configurations of all components, in order.
fn configurations(pipeline: &Pipeline) -> Vec<String> {
    let now = RunValues::default();
    let mut all = Vec::new();
    for build in &pipeline.builds {
        all.push(format!("{} {:?}", build.source, build.builder.make(&now).unwrap().config().unwrap()));
        for step in &build.provisioners {
            all.push(format!("{} {:?}", step.kind, step.provisioner.make(&now).unwrap().config().unwrap()));
        }
        for step in build.post_processors.iter().flatten() {
            let made: &Late<dyn PostProcessor> = &step.post_processor;
            all.push(format!("{} {:?}", step.kind, made.make(&now).unwrap().config().unwrap()));
        }
    }
    all
}

#[tokio::test]
async fn every_component_comes_back() {
    let mut communicator =
        CommunicatorConfig::ssh("admin").host("192.0.2.7").port(2222).password("geheim{{123").key_file("~/k");
    communicator.ssh_timeout = "1m30s".parse().unwrap();
    communicator.ssh_ciphers = vec!["aes128-ctr".into()];
    communicator.winrm_use_ntlm = Some(false);
    let script = "for f in *; do\n  echo \"${f%.txt} %{http_code} {{ not a template }}\"\ndone";
    let shell = Shell::inline([script, "\ttrue \\\n  && false"])
        .env("TOKEN", "$HOME ${x}")
        .execute_command("sudo sh -c '{{.Vars}} {{.Path}}'")
        .valid_exit_codes([0, 3])
        .expect_disconnect();
    let steps: Vec<ProvisionStep> = vec![
        shell.max_retries(2).timeout(Duration::from_secs(600)),
        Upload::new("app.conf", "/etc/app.conf").into(),
        Upload::content("{{ upper }} ${a}\n", "/etc/motd").named("motd"),
        FileProvisioner::download("/var/log/*.log", "logs/").continue_on_error(),
        Sleep::seconds(3).pause_before(Duration::from_millis(1500)),
        Breakpoint::default().into(),
        ShellLocal::from(LocalShell::scripts(["a.sh"]).env("A", "1").valid_exit_codes([0, 2])).into(),
    ];
    let after: Vec<PostProcessStep> = vec![
        Artifice::files(["out/*.img"]).into(),
        Checksum::sha256().to("{{.BuildName}}_{{.ChecksumType}}").keep_input_artifact(true),
        Compress::to("disk.tar.gz").level(9).into(),
        Manifest::to("m.json").custom_data("rev", "{{ build `ID` }} abc").into(),
        ShellLocalAfter::inline(["true"]).into(),
    ];
    let mut web = Build::new("web", Null::from(communicator)).post_process_chain(after);
    web.provisioners = steps;
    let file = Build::new("note", FileBuilder::content("out/note", "a \"quoted\" ${note}\n"));
    let pipeline = Pipeline::of([web, file]);

    let exported = export(&pipeline, &registry()).unwrap_or_else(|e| panic!("{e}"));
    assert!(!exported.text().contains("geheim"), "{}", exported.text());
    let template = Template::from_texts([("exported.pkr.hcl", exported.text())]).unwrap();
    let again = template.evaluate(&registry(), exported.inputs()).await;
    let again = again.unwrap_or_else(|e| panic!("{e}\n{}", exported.text()));
    assert_eq!(configurations(&pipeline), configurations(&again), "{}", exported.text());
    assert_eq!(again.builds.iter().map(Build::name).collect::<Vec<_>>(), ["null.web", "file.note"]);
    let kept: Vec<_> = again.builds[0].post_processors[0].iter().map(|s| s.keep_input_artifact).collect();
    assert_eq!(kept, [None, Some(true), None, None, None]);
    // In the canonical layout already.
    let source = packer_core::SourceFile::new("t", exported.text());
    assert_eq!(packer_core::language::fmt::format(&source).unwrap(), exported.text());
}

#[test]
fn every_component_tells_its_configuration() {
    // What a template cannot leave out is in there; what is not set is not.
    let config = Shell::inline(["true"]).config().unwrap();
    assert_eq!(config.as_map().unwrap().keys().map(|k| &**k).collect::<Vec<_>>(), ["inline"]);
}
