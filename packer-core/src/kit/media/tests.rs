use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::context::PrepareContext;
use crate::error::Result;
use crate::testing::{Bench, require};

use super::*;

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(require(program)?).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text + &String::from_utf8_lossy(&output.stderr))
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn write(bench: &Bench, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = bench.folder().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn named(bench: &Bench, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{}/{name}", bench.folder().display())).collect()
}

fn texts(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

async fn made(bench: &Bench, image: CdImage) -> Result<PathBuf> {
    let path = bench.folder().join("made.iso");
    image.write(bench.context(), &path).await.map(|()| path)
}

async fn made_floppy(bench: &Bench, image: FloppyImage) -> Result<PathBuf> {
    let path = bench.folder().join("made.img");
    image.write(bench.context(), &path).await.map(|()| path)
}

const FILES: [(&str, &str); 4] = [
    ("user-data", "#cloud-config\n"),
    ("meta-data", "id: 1\n"),
    ("conf/a.cfg", "a\n"),
    ("conf/deep/b.cfg", "b\n"),
];

#[tokio::test]
async fn cd_files_go_where_packer_puts_them() {
    for (files, content, expected) in [
        (vec!["conf/deep/b.cfg"], texts(&[]), vec!["/b.cfg"]),
        (vec!["conf/deep"], texts(&[]), vec!["/deep", "/deep/b.cfg"]),
        (vec!["conf/"], texts(&[]), vec!["/a.cfg", "/deep", "/deep/b.cfg"]),
        (vec!["*-data"], texts(&[]), vec!["/meta-data", "/user-data"]),
        (vec!["user-data"], texts(&[("user-data", "new\n")]), vec!["/user-data"]),
        (vec![], texts(&[("/a/b", "new\n")]), vec!["/a", "/a/b"]),
        (vec!["nothing*"], texts(&[]), vec![]),
    ] {
        let bench = Bench::new();
        write(&bench, &FILES);
        let config = CdConfig { cd_files: named(&bench, &files), cd_content: content, ..CdConfig::default() };
        assert!(config.prepare(&PrepareContext::default()).is_empty());
        let path = config.create(bench.context()).await.unwrap().unwrap();
        let image = path.to_str().unwrap();
        let Some(listed) = run("isoinfo", &["-R", "-f", "-i", image]) else { return };
        assert_eq!(sorted(&listed), expected, "{files:?}");
        let about = run("isoinfo", &["-d", "-i", image]).unwrap();
        for line in
            ["Volume id: packer", "Joliet with UCS level 3 found", "Rock Ridge signatures version 1 found"]
        {
            assert!(about.lines().any(|found| found == line), "{line}: {about}");
        }
        if !config.cd_content.is_empty() {
            let name = expected.last().unwrap();
            assert_eq!(run("isoinfo", &["-R", "-i", image, "-x", name]).unwrap(), "new\n");
        }
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("packer"));
        assert_eq!(bench.outstanding().len(), 1, "it goes with the build");
    }
}

#[tokio::test]
async fn a_cd_is_read_alike_by_all() {
    let bench = Bench::new();
    let long = format!("{}.txt", "n".repeat(240));
    let accents = "Grüße aus Köln – ✓.txt";
    let mut image = CdImage::new("my disc").text("sp ace", "y\n").text(accents, "u\n").text(&long, "l\n");
    image = image.text("A.Long.Name-with_Everything.and.more.Dots.TXT", "x\n").text("empty", "");
    // More than a sector of records; names that are the same when short.
    for number in 0..100 {
        image = image.text(format!("many/file with a number {number}"), format!("{number}\n"));
    }
    image = image.text("1/2/3/4/5/6/7/8/9/10/deep", "d\n");
    fs::create_dir(bench.folder().join("hollow")).unwrap();
    let path = made(&bench, image.file("hollow", bench.folder().join("hollow"))).await.unwrap();
    let path = path.to_str().unwrap();

    let Some(rock_ridge) = run("isoinfo", &["-R", "-f", "-i", path]) else { return };
    let rock_ridge = sorted(&rock_ridge);
    for name in [accents, &long, "sp ace", "empty", "hollow", "1/2/3/4/5/6/7/8/9/10/deep"] {
        assert!(rock_ridge.contains(&format!("/{name}")), "{name}");
    }
    assert_eq!(rock_ridge.iter().filter(|name| name.starts_with("/many/")).count(), 100);
    let joliet = sorted(&run("isoinfo", &["-J", "-f", "-i", path]).unwrap());
    for name in [format!("/{}", "n".repeat(103)), "/sp ace".to_owned()] {
        assert!(joliet.contains(&name), "{name}: {joliet:?}");
    }
    assert_eq!(joliet.len(), rock_ridge.len());
    let plain = sorted(&run("isoinfo", &["-f", "-i", path]).unwrap());
    assert_eq!(plain.len(), rock_ridge.len());
    assert!(plain.contains(&"/MANY/FILE__99.;1".to_owned()), "{plain:?}");

    let out = bench.folder().join("out");
    let said =
        run("xorriso", &["-osirrox", "on", "-indev", path, "-extract", "/", out.to_str().unwrap()]).unwrap();
    assert_eq!(fs::read_to_string(out.join(&long)).unwrap(), "l\n", "{said}");
    assert_eq!(fs::read_to_string(out.join(accents)).unwrap(), "u\n");
    assert_eq!(fs::read_to_string(out.join("many/file with a number 57")).unwrap(), "57\n");
    assert_eq!(fs::read_to_string(out.join("1/2/3/4/5/6/7/8/9/10/deep")).unwrap(), "d\n");
    assert_eq!(fs::read_dir(out.join("hollow")).unwrap().count(), 0);
}

#[cfg(unix)]
#[tokio::test]
async fn modes_and_times_of_a_cd() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    write(&bench, &[("run.sh", "#!/bin/sh\n")]);
    let script = bench.folder().join("run.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    fs::File::options().write(true).open(&script).unwrap().set_modified(time).unwrap();
    let image = || CdImage::new("x").file("run.sh", &script).text("dir/text", "t");
    let path = made(&bench, image()).await.unwrap();
    let first = fs::read(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "it may hold passwords");
    made(&bench, image()).await.unwrap();
    assert!(first == fs::read(&path).unwrap(), "the same input gives the same bytes");
    let Some(listed) = run("isoinfo", &["-R", "-l", "-i", path.to_str().unwrap()]) else { return };
    let line =
        |name: &str| listed.lines().find(|line| line.ends_with(&format!("{name} "))).unwrap().to_owned();
    assert!(line("run.sh").starts_with("-rw-r--r--") && line("run.sh").contains("Nov 14 2023"), "{listed}");
    assert!(line("dir").starts_with("drwxr-xr-x") && line("dir").contains("Jan  1 1980"), "{listed}");
}

#[tokio::test]
async fn what_cannot_be_on_a_cd_is_said() {
    let bench = Bench::new();
    for (image, expected) in [
        (CdImage::new("l".repeat(33)).text("a", ""), "has 33 bytes, and one of a CD has at most 32 bytes"),
        (CdImage::new("x").text("../a", ""), "\"../a\" cannot be a path in an image"),
        (CdImage::new("x").text("/", ""), "\"/\" names no file"),
        (CdImage::new("x").text("a", "").text("a/b", ""), "a/b: a is the name of a file and of a folder"),
        (CdImage::new("x").text("n".repeat(256), ""), "its name has more than 255 bytes"),
        (CdImage::new("x").file("a", "/no/such/file"), "stat /no/such/file: no such file or directory"),
        (CdImage::new("x").file("a", "/dev/null"), "/dev/null: only files and folders can go into an image"),
    ] {
        let error = made(&bench, image).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(bench.outstanding().is_empty() && !bench.folder().join("made.iso").exists());
    }
    let config = CdConfig {
        cd_files: vec!["a[.txt".into(), "/no/such/file".into()],
        cd_label: "l".repeat(33),
        ..CdConfig::default()
    };
    let found = config.prepare(&PrepareContext::default());
    let found: Vec<_> = found.iter().map(|d| d.summary.as_str()).collect();
    assert_eq!(found[0], "Bad CD disk file 'a[.txt': syntax error in pattern");
    assert_eq!(found[1], "Bad CD disk file '/no/such/file': stat /no/such/file: no such file or directory");
    assert_eq!(found.len(), 3);
    assert_eq!(CdConfig::default().create(bench.context()).await.unwrap(), None);
}

#[cfg(unix)]
#[tokio::test]
async fn links_are_followed_but_not_for_ever() {
    let bench = Bench::new();
    write(&bench, &[("tree/file", "content\n")]);
    let tree = bench.folder().join("tree");
    std::os::unix::fs::symlink("file", tree.join("link")).unwrap();
    let path = made(&bench, CdImage::new("x").file("t", &tree)).await.unwrap();
    if let Some(content) = run("isoinfo", &["-R", "-i", path.to_str().unwrap(), "-x", "/t/link"]) {
        assert_eq!(content, "content\n");
    }
    std::os::unix::fs::symlink(".", tree.join("again")).unwrap();
    let error = made(&bench, CdImage::new("x").file("t", &tree)).await.unwrap_err().to_string();
    assert!(error.contains("again/again") && error.contains("too many levels of symbolic links"), "{error}");
}

#[tokio::test]
async fn floppies_are_as_packer_makes_them() {
    let scripts = [("answer.xml", "<x/>\n"), ("scripts/one.ps1", "1\n"), ("scripts/deep/two.ps1", "2\n")];
    let files =
        |names: &[&str]| (names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), vec![], texts(&[]));
    let dirs =
        |names: &[&str]| (vec![], names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), texts(&[]));
    for ((files, dirs, content), expected) in [
        (files(&["answer.xml", "scripts/one.ps1"]), vec!["::/ANSWER.XML", "::/ONE.PS1"]),
        (files(&["scripts"]), vec!["::/ONE.PS1", "::/TWO.PS1"]),
        (files(&["scripts/*.ps1"]), vec!["::/ONE.PS1"]),
        (files(&["scripts/*.txt"]), vec!["mdir: File \"::\" not found"]),
        (
            dirs(&["scr*"]),
            vec!["::/SCRIPTS/", "::/SCRIPTS/DEEP/", "::/SCRIPTS/DEEP/TWO.PS1", "::/SCRIPTS/ONE.PS1"],
        ),
        (dirs(&["scripts/deep"]), vec!["::/DEEP/", "::/DEEP/TWO.PS1"]),
        (dirs(&["scripts/deep/"]), vec!["::/DEEP/", "::/DEEP/TWO.PS1"]),
        ((vec![], vec![], texts(&[("a.txt", "a"), ("sub/b.txt", "b")])), vec!["::/A.TXT", "::/B.TXT"]),
        (
            (vec![], vec![], texts(&[("Autounattend.xml", "x"), ("a very long name with spaces.txt", "y")])),
            vec!["::/Autounattend.xml", "::/a very long name with spaces.txt"],
        ),
    ] {
        let bench = Bench::new();
        write(&bench, &scripts);
        let at = |names: &[String]| named(&bench, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let config = FloppyConfig {
            floppy_files: at(&files),
            floppy_dirs: at(&dirs),
            floppy_content: content,
            ..FloppyConfig::default()
        };
        assert!(config.prepare(&PrepareContext::default()).is_empty());
        let path = config.create(bench.context()).await.unwrap().unwrap();
        let image = path.to_str().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1_474_560);
        let Some(listed) = run("mdir", &["-b", "-/", "-a", "-i", image, "::"]) else { return };
        let listed = listed.replace("/usr/bin/mdir:", "mdir:");
        assert_eq!(sorted(&listed), expected);
        assert_eq!(run("mlabel", &["-s", "-i", image, "::"]).unwrap().trim(), "Volume label is packer");
        assert_sound(&path);
    }
}

/// Asks a program that repairs file systems.
fn assert_sound(image: &Path) {
    let Some(program) = require("fsck.fat") else { return };
    let checked = Command::new(program).arg("-n").arg(image).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[tokio::test]
async fn a_floppy_holds_folders_long_names_and_times() {
    let bench = Bench::new();
    let long = format!("{}.txt", "n".repeat(251));
    let large = "0123456789abcdef".repeat(10_000);
    let mut image =
        FloppyImage::new("a longer label").text(&long, "l\n").text("dir/large.bin", large.clone());
    for number in 0..60 {
        image = image.text(format!("many/a long name {number}.txt"), format!("{number}\n"));
    }
    image = image.text("x.y.z", "dots").text(".profile", "p").text("Grüße", "u").text("thirteen char", "13");
    let path = made_floppy(&bench, image.clone()).await.unwrap();
    let first = fs::read(&path).unwrap();
    made_floppy(&bench, image).await.unwrap();
    assert!(first == fs::read(&path).unwrap(), "the same input gives the same bytes");
    assert_sound(&path);
    let image = path.to_str().unwrap();
    let Some(listed) = run("mdir", &["-b", "-/", "-a", "-i", image, "::"]) else { return };
    for name in [&long, "x.y.z", ".profile", "many/a long name 59.txt", "thirteen char", "DIR/LARGE.BIN"] {
        let (folder, name) = name.split_once('/').unwrap_or(("", name));
        let path = if folder.is_empty() {
            format!("::/{name}")
        } else {
            format!("::/{}/{name}", folder.to_uppercase())
        };
        assert!(listed.lines().any(|line| line == path), "{path}: {listed}");
    }
    assert_eq!(run("mtype", &["-i", image, "::many/a long name 57.txt"]).unwrap(), "57\n");
    assert!(run("mtype", &["-i", image, "::dir/large.bin"]).unwrap() == large);
    assert_eq!(run("mlabel", &["-s", "-i", image, "::"]).unwrap().trim(), "Volume label is a longer la");
}

#[tokio::test]
async fn what_cannot_be_on_a_floppy_is_said() {
    let bench = Bench::new();
    let room = 2847 * 512;
    made_floppy(&bench, FloppyImage::new("x").text("a", vec![b'x'; room])).await.unwrap();
    assert_sound(&bench.folder().join("made.img"));
    let many = (0..224).fold(FloppyImage::new("x"), |image, number| image.text(number.to_string(), ""));
    for (image, expected) in [
        (
            FloppyImage::new("x").text("a", vec![b'x'; room + 1]),
            "The floppy is full: its files and folders take 1424 KiB, and it holds 1423.5 KiB",
        ),
        (many, "The floppy is full: names in its root take 225 entries, and its root has 224"),
        (FloppyImage::new("x").text("a.txt", "").text("A.TXT", ""), "name already exists: A.TXT"),
        (FloppyImage::new("x").text("a:b", ""), "\"a:b\" cannot be the name of a file on a floppy"),
    ] {
        fs::remove_file(bench.folder().join("made.img")).ok();
        let error = made_floppy(&bench, image).await.unwrap_err().to_string();
        assert_eq!(error, expected);
        assert!(bench.outstanding().is_empty() && !bench.folder().join("made.img").exists());
    }
    write(&bench, &[("answer.xml", ""), ("other/answer.xml", "")]);
    let floppy_files = named(&bench, &["answer.xml", "other/answer.xml"]);
    let expected = format!(
        "Error adding file from floppy_files : {} : name already exists: answer.xml",
        floppy_files[1]
    );
    let config = FloppyConfig { floppy_files, ..FloppyConfig::default() };
    assert_eq!(config.create(bench.context()).await.unwrap_err().to_string(), expected);
    let said = bench.recorder().lines();
    assert!(said.iter().any(|text| text.ends_with("other/answer.xml")), "{said:?}");
    let config = FloppyConfig { floppy_dirs: vec!["/no/such".into()], ..FloppyConfig::default() };
    let found = config.prepare(&PrepareContext::default());
    let found: Vec<_> = found.iter().map(|d| d.summary.as_str()).collect();
    assert_eq!(found, ["Bad Floppy disk directory '/no/such': stat /no/such: no such file or directory"]);
}

/// Writes an image of one file, of which an extent holds a sector; `between` runs when the image is laid out.
async fn in_sectors(bench: &Bench, path: &Path, between: impl FnOnce() + Send + 'static) -> Result<PathBuf> {
    use super::tree::{Again, Case, Tree, write_image};
    let image = bench.folder().join("made.iso");
    let (cx, file, target) = (bench.context().clone(), path.to_owned(), image.clone());
    let work = bench.context().blocking(move |stop| {
        let mut tree = Tree::new(Case::Differs);
        tree.add_path("large", &file, Again::Replaces, stop)?;
        tree.add_text("behind", b"behind\n".to_vec(), Again::Replaces)?;
        between();
        write_image(&cx, stop, &target, &tree, |copier, out| {
            super::iso9660::write_in_extents(&tree, "x", 2048, copier, out)
        })
    });
    work.await.map(|()| image)
}

#[tokio::test]
async fn large_files_have_several_extents() {
    let bench = Bench::new();
    let content = "0123456789abcde\n".repeat(400);
    write(&bench, &[("large", &content)]);
    let path = in_sectors(&bench, &bench.folder().join("large"), || {}).await.unwrap();
    let out = bench.folder().join("out");
    let arguments =
        ["-osirrox", "on", "-indev", path.to_str().unwrap(), "-extract", "/", out.to_str().unwrap()];
    let Some(said) = run("xorriso", &arguments) else { return };
    assert!(fs::read_to_string(out.join("large")).unwrap() == content, "{said}");
    assert_eq!(fs::read_to_string(out.join("behind")).unwrap(), "behind\n");
}

#[tokio::test]
async fn a_file_that_changes_its_size_is_an_error() {
    for content in ["short", "much longer than it was"] {
        let bench = Bench::new();
        write(&bench, &[("large", "ten bytes\n")]);
        let path = bench.folder().join("large");
        let changed = path.clone();
        let change = move || fs::write(changed, content).unwrap();
        let error = in_sectors(&bench, &path, change).await.unwrap_err().to_string();
        assert!(error.ends_with("large: its size changed while it was read"), "{error}");
        assert!(bench.outstanding().is_empty() && !bench.folder().join("made.iso").exists());
    }
}
