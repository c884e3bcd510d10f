//! Post-processors behind a build that writes files: what they make, say, and leave alone.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use packer_core::testing::{Recorder, TempFolder, post_processor};
use packer_core::{
    Artifact, Build, Builder, Clock, Communicator, Context, Diagnostics, Engine, Facts, Lifecycle, Machine,
    NoCommunicator, Pipeline, PostProcessStep, PostProcessorExt, PrepareContext, Prepared, Resource, Result,
    async_trait,
};
use packer_postproc::{Artifice, Checksum, Compress, LocalShell, Manifest, ShellLocal};

/// A builder whose artifact is files that exist.
#[derive(Clone)]
struct Files(Vec<PathBuf>);

#[async_trait]
impl Builder for Files {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        Ok(Box::new(self.clone()))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Machine for Files {
    fn communicator(&self) -> Arc<dyn Communicator> {
        Arc::new(NoCommunicator::accepting())
    }

    fn facts(&self) -> &Facts {
        static NONE: std::sync::LazyLock<Facts> = std::sync::LazyLock::new(Facts::new);
        &NONE
    }

    async fn capture(&self, _: &Context) -> Result<Artifact> {
        let mut artifact = Artifact::new("test.files", "F").describe("files").files(self.0.iter().cloned());
        artifact.generated_data.insert("Rev".into(), "r7".into());
        Ok(artifact)
    }

    fn lifecycle(&self) -> Lifecycle {
        Lifecycle::Flat
    }
}

struct Place(TempFolder);

impl Place {
    fn new() -> Self {
        Self(TempFolder::new())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs a build named `web` with these files and this sequence of post-processors.
    async fn build(&self, files: &[PathBuf], steps: impl IntoIterator<Item = PostProcessStep>) -> Ran {
        self.run(Engine::new(), files, steps).await
    }

    async fn run(
        &self,
        engine: Engine,
        files: &[PathBuf],
        steps: impl IntoIterator<Item = PostProcessStep>,
    ) -> Ran {
        let recorder = Recorder::new();
        let build = Build::new("web", Files(files.to_vec())).post_process_chain(steps);
        let report = engine.events(recorder.clone()).run(Pipeline::of([build])).await.unwrap();
        let folder = format!("{}/", self.0.path().display());
        let short = |text: &str| text.replace(&folder, "");
        Ran {
            error: report.builds[0].error.as_ref().map(|e| short(&e.to_string())),
            described: report.artifacts().map(|a| short(&a.description)).collect(),
            lines: recorder.lines_of("web").iter().map(|line| short(line)).collect(),
        }
    }
}

struct Ran {
    error: Option<String>,
    described: Vec<String>,
    lines: Vec<String>,
}

#[tokio::test]
async fn manifest_adds_entries_byte_for_byte() {
    let place = Place::new();
    let file = place.write("deep/f.txt", "some text\n");
    let output = place.text("m.json");
    place.write("m.json", r#"{"note":1,"builds":[{"name":"old","extra":1}]}"#);
    place.write("m.json.lock", "left behind");
    let mut manifest = Manifest::to(&output).custom_data("zeta", "<&> ü").custom_data("rev", "{{.Rev}}");
    manifest.strip_path = true;
    let clock = Clock::fixed("2023-11-14T22:13:20Z".parse().unwrap());
    let engine = Engine::new().run_id("run-1").clock(clock);
    let ran = place.run(engine, &[file, place.path("gone")], [manifest.into()]).await;
    assert_eq!(ran.error, None);
    assert_eq!(ran.described, ["files", "files"]);
    let expected = r#"{
  "builds": [
    {
      "name": "old",
      "builder_type": "",
      "files": null,
      "artifact_id": "",
      "packer_run_uuid": "",
      "custom_data": null
    },
    {
      "name": "web",
      "builder_type": "files",
      "build_time": 1700000000,
      "files": [
        {
          "name": "f.txt",
          "size": 10
        },
        {
          "name": "gone",
          "size": 0
        }
      ],
      "artifact_id": "F",
      "packer_run_uuid": "run-1",
      "custom_data": {
        "rev": "r7",
        "zeta": "\u003c\u0026\u003e ü"
      }
    }
  ],
  "last_run_uuid": "run-1"
}"#;
    assert_eq!(place.read("m.json"), expected);
    assert_eq!(place.names(), ["deep", "m.json"]);

    let mut plain = Manifest::to(&output);
    plain.strip_time = true;
    let engine = Engine::new().run_id("run-2").force(true);
    place.run(engine, &[], [plain.into()]).await;
    let expected = r#"{
  "builds": [
    {
      "name": "web",
      "builder_type": "files",
      "files": null,
      "artifact_id": "F",
      "packer_run_uuid": "run-2",
      "custom_data": null
    }
  ],
  "last_run_uuid": "run-2"
}"#;
    assert_eq!(place.read("m.json"), expected);
}

#[tokio::test]
async fn manifest_leaves_alone_what_it_cannot_read() {
    let place = Place::new();
    let file = place.write("f", "");
    place.write("m.json", "not json");
    let ran = place.build(std::slice::from_ref(&file), [Manifest::to(place.text("m.json")).into()]).await;
    assert!(ran.error.unwrap().contains("Post-processor failed: Unable to parse content from m.json: "));
    assert_eq!(place.read("m.json"), "not json");
    let file = place.write("f", "");
    let ran = place.build(&[file], [Manifest::to(place.text("no/m.json")).into()]).await;
    let expected = "Unable to write no/m.json: open no/m.json: no such file or directory";
    assert!(ran.error.unwrap().contains(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn manifest_loses_no_entry_of_many_builds_at_once() {
    let place = Place::new();
    let output = place.text("m.json");
    let builds =
        (0..40).map(|n| Build::new(format!("b{n}"), Files(vec![])).post_process(Manifest::to(&output)));
    let report = Engine::new().run(Pipeline::of(builds)).await.unwrap();
    assert!(report.succeeded());
    let document: serde_json::Value = serde_json::from_str(&place.read("m.json")).unwrap();
    assert_eq!(document["builds"].as_array().unwrap().len(), 40);
}

#[tokio::test]
async fn checksum_writes_a_line_for_each_file_and_type() {
    let place = Place::new();
    let files = [place.write("one", "one"), place.write("sub/two", "two")];
    let sums = Checksum::of(["sha1", "md5"]).to(place.text("new/{{.BuildName}}-{{.Rev}}.sums"));
    let ran = place.build(&files, [sums.clone().into()]).await;
    assert_eq!(ran.error, None);
    assert_eq!(ran.described, ["files", "Created artifact from files: one, sub/two, new/web-r7.sums"]);
    let lines = "fe05bcdcdc4928012781a5f1a2a77cbb5398e106\tone\n\
                 ad782ecdac770fc6eb9a62e44f90873fb97fb26b\ttwo\n\
                 f97c5d29941bfb1b2fdab0874906ab82\tone\n\
                 b8a9f715dbb64fd5c56e7783c6820a61\ttwo\n";
    assert_eq!(place.read("new/web-r7.sums"), lines);
    let ran = place.build(&files, [sums.into()]).await;
    assert_eq!(ran.described[1], "Created artifact from files: one, sub/two");
    assert_eq!(place.read("new/web-r7.sums"), lines.repeat(2));
    let ran = place.build(&[place.path("gone")], [Checksum::sha256().to(place.text("s")).into()]).await;
    assert!(ran.error.unwrap().contains("unable to open file gone: open gone: no such file or directory"));
    assert!(!place.path("s").exists());
}

#[tokio::test]
async fn what_an_unfinished_checksum_wrote_goes_and_what_others_wrote_stays() {
    let place = Place::new();
    let file = place.write("a.bin", "abc");
    // The second of the two cannot be written.
    std::fs::create_dir_all(place.path("sums/sha1.sum")).unwrap();
    place.write("sums/old.sum", "old\n");
    let to = |name: &str| Checksum::of(["md5", "sha1"]).to(place.text(name));
    let ran = place.build(std::slice::from_ref(&file), [to("sums/{{.ChecksumType}}.sum").into()]).await;
    assert!(ran.error.unwrap().contains("sums/sha1.sum"));
    assert!(!place.path("sums/md5.sum").exists(), "it is of no artifact");
    // A file that was there is somebody else's, also where its lines are ours.
    let ran = place.build(std::slice::from_ref(&file), [to("sums/old.sum").into()]).await;
    assert_eq!(ran.error, None);
    assert!(place.read("sums/old.sum").starts_with("old\n900150983cd24fb0d6963f7d28e17f72\ta.bin\n"));
    // Two types in one new file.
    let ran = place.build(std::slice::from_ref(&file), [to("sums/new.sum").into()]).await;
    assert_eq!(ran.error, None);
    assert_eq!(place.read("sums/new.sum").lines().count(), 2);
}

#[tokio::test]
async fn many_builds_write_one_new_checksum_file_and_no_line_is_lost() {
    let place = Place::new();
    let files: Vec<PathBuf> = (0..16).map(|i| place.write(&format!("f{i}"), "x")).collect();
    let build = |file: &PathBuf| {
        let sums = Checksum::sha256().to(place.text("SUMS"));
        Build::new(file.file_name().unwrap().to_string_lossy(), Files(vec![file.clone()]))
            .post_process_chain([sums.into()])
    };
    let report = Engine::new().run(Pipeline::of(files.iter().map(build))).await.unwrap();
    assert!(report.succeeded());
    let mut names: Vec<String> =
        place.read("SUMS").lines().map(|line| line.split('\t').nth(1).unwrap().to_owned()).collect();
    names.sort();
    let mut expected: Vec<String> = (0..16).map(|i| format!("f{i}")).collect();
    expected.sort();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn an_archive_over_an_older_one_behind_a_link_stays() {
    let place = Place::new();
    let file = place.write("a.txt", "abc");
    std::fs::create_dir(place.path("real")).unwrap();
    std::os::unix::fs::symlink(place.path("real"), place.path("link")).unwrap();
    for _ in 0..2 {
        let pack = Compress::to(place.text("link/out.tar")).keep_input_artifact(true);
        let ran = place.build(std::slice::from_ref(&file), [pack]).await;
        assert_eq!(ran.error, None);
        assert!(place.path("real/out.tar").exists(), "the artifact of a build that succeeded");
    }
}

#[tokio::test]
async fn artifice_names_files_and_compress_replaces_them() {
    let place = Place::new();
    let other = place.write("other", "");
    place.write("out/b.img", "b");
    place.write("out/a.img", "a");
    let steps = [
        Artifice::files([place.text("out/*.img"), place.text("none")]).into(),
        Compress::to(place.text("x.tar")).into(),
        ShellLocal::inline([format!("tar xOf {} b.img a.img", place.text("x.tar"))]).into(),
    ];
    let ran = place.build(&[other], steps).await;
    assert_eq!(ran.error, None);
    assert_eq!(
        ran.lines.iter().filter(|line| !line.starts_with("Running")).collect::<Vec<_>>(),
        [
            "Discarding files from artifact: other",
            "Using these artifact files: out/a.img, out/b.img",
            "Tarring x.tar with no compression",
            "Archive x.tar completed",
            "ab",
        ]
    );
    assert_eq!(ran.described, ["files", "compressed artifacts in: x.tar", "compressed artifacts in: x.tar"]);
    assert_eq!(place.names(), ["other", "out", "x.tar"]);
    assert!(std::fs::read_dir(place.path("out")).unwrap().next().is_none());
}

/// Bytes that compress somewhat, and not the same everywhere.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { b'a' } else { (state >> 16) as u8 }
    };
    (0..length).map(|_| byte()).collect()
}

fn output_of(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn every_codec_is_read_by_others() {
    let place = Place::new();
    for length in [0, 10, 0xff00, 1_200_000] {
        let content = sample(length);
        for (extension, level) in [
            ("gz", 0),
            ("gz", 1),
            ("gz", -2),
            ("gz", 9),
            ("bgzf", -1),
            ("bgzf", 42),
            ("xz", 0),
            ("bzip2", 0),
            ("lz4", 0),
        ] {
            let input = place.write("input", &content);
            let name = format!("f.{extension}");
            let output = place.text(&name);
            let ran = place.build(&[input], [Compress::to(&output).level(level).into()]).await;
            assert_eq!(ran.error, None, "{name}");
            let read = match extension {
                "gz" | "bgzf" => output_of("sh", &["-c", "gzip -dc < \"$0\"", &output]),
                "xz" => {
                    python("import lzma,sys; sys.stdout.buffer.write(lzma.open(sys.argv[1]).read())", &output)
                }
                "bzip2" => {
                    python("import bz2,sys; sys.stdout.buffer.write(bz2.open(sys.argv[1]).read())", &output)
                }
                _ => {
                    let mut read = Vec::new();
                    let file = std::fs::File::open(&output).unwrap();
                    lz4_flex::frame::FrameDecoder::new(file).read_to_end(&mut read).unwrap();
                    read
                }
            };
            assert!(read == content, "{name} of {length} bytes at level {level}");
        }
    }
    let end = std::fs::read(place.path("f.bgzf")).unwrap();
    assert!(end.ends_with(b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0\x1b\0\x03\0\0\0\0\0\0\0\0\0"));
    assert!(!place.path("input").exists(), "the input of the last build is gone");
}

fn python(program: &str, argument: &str) -> Vec<u8> {
    output_of("python3", &["-c", program, argument])
}

#[tokio::test]
async fn archives_hold_the_files() {
    let place = Place::new();
    let long = format!("p/{}", "long-name-".repeat(20));
    let (one, two) = (place.write("p/q/one", "1"), place.write(&long, "22"));
    let tar = place.text("x.tar.gz");
    let keep = |output: &str| Compress::to(output).keep_input_artifact(true);
    let ran = place.build(&[one.clone(), two.clone()], [keep(&tar)]).await;
    assert_eq!(ran.error, None);
    let names = String::from_utf8(output_of("tar", &["tzf", &tar])).unwrap();
    assert_eq!(names, format!("one\n{}\n", &long[2..]));
    let zip = place.text("x");
    let mut by_format = Compress::to(&zip);
    by_format.format = "zip".into();
    let ran = place.build(&[one.clone(), two], [by_format.into()]).await;
    assert_eq!(ran.error, None);
    let list = python(
        "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); print(z.testzip(), *(i.filename for i in z.infolist()))",
        &zip,
    );
    assert_eq!(String::from_utf8(list).unwrap(), format!("None {} {}\n", one.display(), place.text(&long)));
    let ran = place.build(&[], [keep(&tar)]).await;
    assert_eq!(ran.error, None);
    assert_eq!(output_of("tar", &["tzf", &tar]), b"");
}

#[tokio::test]
async fn compress_fails_before_it_harms() {
    let place = Place::new();
    let files = || [place.write("one", "1"), place.write("two", "2")];
    let old = place.write("x.gz", "old");
    let failures = [
        (
            Compress::to(place.text("x.gz")),
            "Can only have 1 input file when not using tar/zip. Found 2 files: [one two]",
        ),
        (
            Compress::to(place.text("x.tar.bgzf")).level(-2),
            "error creating bgzf writer: Invalid compression level. Expected an integer from -1 to 9.",
        ),
        (Compress::to(place.text("one")), "The output one is one of the files to compress"),
    ];
    for (compress, expected) in failures {
        let ran = place.build(&files(), [compress.into()]).await;
        let error = ran.error.unwrap();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(std::fs::read_to_string(old).unwrap(), "old");
    assert!(!place.path("x.tar.bgzf").exists());
}

#[tokio::test]
async fn shell_local_of_one_word_is_a_shells_text() {
    let place = Place::new();
    let log = place.text("log");
    let script = LocalShell::inline([format!("echo \"$1 $PACKER_BUILD_NAME {{{{.Rev}}}}\" >> {log}")]);
    let shell = script.execute_command([format!("{{{{.Vars}}}} {{{{.Script}}}} extra; echo more >> {log}")]);
    let ran = place.build(&[], [ShellLocal::from(shell).into()]).await;
    assert_eq!(ran.error, None);
    assert_eq!(place.read("log"), "extra web r7\nmore\n");
}

#[tokio::test]
async fn each_keeps_the_rules() {
    let place = Place::new();
    let input = |name: &str| Artifact::new("test", "").file(place.write(name, "text"));
    post_processor::suite(&Manifest::to(place.text("m.json")), &input("a")).await;
    post_processor::suite(&Checksum::sha256().to(place.text("sums")), &input("b")).await;
    let made = post_processor::suite(&Compress::to(place.text("c.gz")), &input("c")).await.artifact.unwrap();
    assert_eq!(made.files, [Path::new(&place.text("c.gz"))]);
    post_processor::suite(&Artifice::files([place.text("*")]), &input("d")).await;
    post_processor::suite(&ShellLocal::inline(["true"]), &input("e")).await;
}
