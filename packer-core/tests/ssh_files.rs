//! Files and folders over SSH: names, modes, links, many files, and what is told meanwhile.
#![cfg(all(unix, feature = "ssh", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use packer_core::testing::Bench;
use packer_core::testing::sshd::Sshd;
use packer_core::{Communicator, CommunicatorExt, EventKind, Globs, Source, Target};

/// What a folder contains: by path, a file's content or nothing for a folder, and the permission bits.
fn tree(root: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, u32)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::metadata(&path).unwrap();
            let content = metadata.is_file().then(|| std::fs::read(&path).unwrap());
            let mode = metadata.permissions().mode() & 0o777;
            found.insert(path.strip_prefix(root).unwrap().to_path_buf(), (content, mode));
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Folders within folders, odd names and modes, and links to both kinds.
fn sample(root: &Path) {
    std::fs::create_dir_all(root.join("a b/größe/🦀")).unwrap();
    std::fs::create_dir_all(root.join("empty")).unwrap();
    std::fs::write(root.join("a b/größe/🦀/x'y\"z"), b"deep").unwrap();
    std::fs::write(root.join("-rf"), b"no option").unwrap();
    std::fs::write(root.join(".hidden"), b"hidden").unwrap();
    std::fs::write(root.join("run"), b"#!/bin/sh\n").unwrap();
    set_mode(&root.join("run"), 0o751);
    symlink("run", root.join("link to a file")).unwrap();
    symlink("a b", root.join("link to a folder")).unwrap();
    std::fs::write(root.join("a b/kept"), b"1").unwrap();
    set_mode(&root.join("a b/kept"), 0o400);
    set_mode(&root.join("a b"), 0o550);
}

/// By SFTP, by scp where there is nothing else, and by `cat` and `tar` where there is neither.
async fn each(test: impl AsyncFn(&Bench, &Sshd, Arc<dyn Communicator>)) {
    const SCP: &str = "ForceCommand case \"$SSH_ORIGINAL_COMMAND\" in scp\\ *) eval \"$SSH_ORIGINAL_COMMAND\";; \
                       *) echo only scp >&2; exit 1;; esac";
    const SHELL: &str = "ForceCommand case \"$SSH_ORIGINAL_COMMAND\" in scp\\ *) echo no scp >&2; exit 127;; \
                         *) eval \"$SSH_ORIGINAL_COMMAND\";; esac";
    for lines in [&["Subsystem sftp internal-sftp"][..], &[SCP], &[SHELL]] {
        let Some(server) = Sshd::with(lines) else { return };
        let bench = Bench::new();
        let machine = server.config().connect(bench.context(), &Target::default()).await.unwrap();
        test(&bench, &server, machine).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_keep_names_modes_and_contents_both_ways() {
    each(async |bench, server, machine| {
        let (cx, none) = (bench.context(), Globs::none());
        let source = server.scratch().join("src");
        sample(&source);
        let expected = tree(&source);
        let remote = server.scratch();

        let into = remote.join("existing");
        std::fs::create_dir(&into).unwrap();
        machine.upload_dir(cx, &source, into.to_str().unwrap(), &none).await.unwrap();
        assert_eq!(tree(&into.join("src")), expected, "into a folder that exists");

        let new = remote.join("new");
        machine.upload_dir(cx, &source, new.to_str().unwrap(), &none).await.unwrap();
        assert_eq!(tree(&new), expected, "a folder that does not exist becomes the copy");

        let contents = remote.join("contents");
        let slashed = PathBuf::from(format!("{}/", source.display()));
        machine.upload_dir(cx, &slashed, contents.to_str().unwrap(), &none).await.unwrap();
        assert_eq!(tree(&contents), expected, "what it contains");

        let down = server.scratch().join("made here");
        machine.download_dir(cx, new.to_str().unwrap(), &down, &none).await.unwrap();
        assert_eq!(tree(&down.join("new")), expected, "back, the folder itself");
        let down = server.scratch();
        machine.download_dir(cx, &format!("{}/", new.display()), &down, &none).await.unwrap();
        assert_eq!(tree(&down), expected, "back, what it contains");
        let down = server.scratch();
        machine.download_dir(cx, &format!("{}/*", new.display()), &down, &none).await.unwrap();
        let visible: BTreeMap<_, _> = expected
            .iter()
            .filter(|(path, _)| **path != Path::new(".hidden"))
            .map(|(p, e)| (p.clone(), e.clone()))
            .collect();
        assert_eq!(tree(&down), visible, "back, what a pattern matches");

        let missing = remote.join("no/such/folder");
        assert!(machine.upload_dir(cx, &source, missing.to_str().unwrap(), &none).await.is_err());
        assert!(machine.download_dir(cx, &format!("{}/no*", new.display()), &down, &none).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn excluded_names_stay_away_with_all_that_is_below() {
    each(async |bench, server, machine| {
        let cx = bench.context();
        let source = server.scratch().join("src");
        for path in ["keep.txt", "skip.o", "deep/skip.o", "deep/keep", "target/debug/out"] {
            let path = source.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        let globs = Globs::new(["**/*.o", "target"]).unwrap();
        let expected = ["deep", "deep/keep", "keep.txt"].map(PathBuf::from);
        let up = server.scratch();
        machine.upload_dir(cx, &source, up.to_str().unwrap(), &globs).await.unwrap();
        assert!(tree(&up.join("src")).keys().eq(&expected));
        let down = server.scratch();
        machine.download_dir(cx, source.to_str().unwrap(), &down, &globs).await.unwrap();
        assert!(tree(&down.join("src")).keys().eq(&expected), "{:?}", tree(&down).keys());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_lead_in_circles_or_nowhere_are_errors() {
    each(async |bench, server, machine| {
        let (cx, none) = (bench.context(), Globs::none());
        let circle = server.scratch().join("circle");
        std::fs::create_dir_all(circle.join("a/b")).unwrap();
        symlink("../..", circle.join("a/b/up")).unwrap();
        let to = server.scratch();
        let error = machine.upload_dir(cx, &circle, to.to_str().unwrap(), &none).await.unwrap_err();
        assert!(error.to_string().ends_with("a/b/up leads back into a folder that contains it"), "{error}");
        assert!(machine.download_dir(cx, circle.to_str().unwrap(), &to, &none).await.is_err());

        let dangling = server.scratch().join("dangling");
        std::fs::create_dir(&dangling).unwrap();
        symlink("nothing", dangling.join("link")).unwrap();
        assert!(machine.upload_dir(cx, &dangling, to.to_str().unwrap(), &none).await.is_err());
        assert!(machine.download_dir(cx, dangling.to_str().unwrap(), &to, &none).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_path_and_the_reason() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let machine = server.config().connect(cx, &Target::default()).await.unwrap();
    let folder = server.scratch().display().to_string();
    for (path, reason) in [
        (format!("{folder}/no/file"), "no such file or directory"),
        (folder.clone(), "it is a folder"),
        (String::new(), "the path on the machine is empty"),
    ] {
        let error = machine.upload_bytes(cx, b"x", &path).await.unwrap_err().to_string();
        assert!(error.contains(&path) && error.ends_with(reason), "{error}");
    }
    let error = machine.read(cx, &folder).await.unwrap_err().to_string();
    assert_eq!(error, format!("download {folder}: it is a folder"));
    let error = machine.upload_file(cx, Path::new("/no/such"), "/tmp/x").await.unwrap_err().to_string();
    assert_eq!(error, "open /no/such: no such file or directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_small_files_arrive_and_progress_tells_the_total() {
    each(async |bench, server, machine| {
        let (cx, none) = (bench.context(), Globs::none());
        let source = server.scratch().join("many");
        for folder in 0..20 {
            let folder = source.join(folder.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            for file in 0..100 {
                std::fs::write(folder.join(file.to_string()), format!("{file:>1000}")).unwrap();
            }
        }
        let expected = tree(&source);
        let up = server.scratch();
        machine.upload_dir(cx, &source, up.to_str().unwrap(), &none).await.unwrap();
        assert_eq!(tree(&up.join("many")), expected);
        let down = server.scratch();
        machine.download_dir(cx, source.to_str().unwrap(), &down, &none).await.unwrap();
        assert_eq!(tree(&down.join("many")), expected);

        let last = bench.recorder().events().into_iter().find_map(|event| match event.kind {
            EventKind::Progress { title, done, total, finished: true, .. } => Some((title, done, total)),
            _ => None,
        });
        let (title, done, total) = last.unwrap();
        assert_eq!((title.as_str(), total), ("many", Some(2_000_000)));
        // An archive is a little more than what it contains.
        assert!(done >= 2_000_000, "{done}");
        assert_eq!(packer_files(&up), [""; 0]);
    })
    .await;
}

/// What is left of files on their way.
fn packer_files(folder: &Path) -> Vec<String> {
    let names = tree(folder).into_keys().map(|path| path.display().to_string());
    names.filter(|name| name.contains(".packer-")).collect()
}

/// A folder of as many files as go as one archive.
fn many(root: &Path) {
    std::fs::create_dir_all(root.join("sub/deep")).unwrap();
    for file in 0..40 {
        std::fs::write(root.join(format!("sub/{file}")), format!("new {file}")).unwrap();
    }
    std::fs::write(root.join("run"), b"new").unwrap();
    set_mode(&root.join("run"), 0o750);
    set_mode(&root.join("sub"), 0o711);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_come_into_a_folder_by_the_same_rules_as_few() {
    for (method, bits) in [("scp", [0o600, 0o700]), ("sftp", [0o750, 0o711])] {
        let Some(server) = Sshd::start() else { return };
        let bench = Bench::new();
        let (cx, none) = (bench.context(), Globs::none());
        let mut config = server.config();
        config.ssh_file_transfer_method = Some(method.into());
        let machine = config.connect(cx, &Target::default()).await.unwrap();
        let source = server.scratch().join("many");
        many(&source);
        let to = server.scratch();
        std::fs::create_dir_all(to.join("many/sub")).unwrap();
        std::fs::write(to.join("many/run"), b"old and longer").unwrap();
        std::fs::write(to.join("many/kept"), b"old").unwrap();
        set_mode(&to.join("many/run"), 0o600);
        set_mode(&to.join("many/sub"), 0o700);
        std::fs::write(to.join("elsewhere"), b"old").unwrap();
        symlink("../../elsewhere", to.join("many/sub/7")).unwrap();
        machine.upload_dir(cx, &source, to.to_str().unwrap(), &none).await.unwrap();
        let found = tree(&to.join("many"));
        let entry = |name: &str| found[Path::new(name)].clone();
        assert_eq!(entry("run"), (Some(b"new".to_vec()), bits[0]), "{method}");
        assert_eq!(entry("sub").1, bits[1], "{method}");
        assert_eq!(entry("kept").0.as_deref(), Some(&b"old"[..]));
        assert_eq!(found.len(), 44);
        assert_eq!(std::fs::read(to.join("elsewhere")).unwrap(), b"new 7", "what links lead to is written");
        assert!(to.join("many/sub/7").is_symlink());
        assert_eq!(packer_files(&to), [""; 0]);

        // A link to a folder in the place of a folder, which `cp` would not enter.
        let to = server.scratch();
        std::fs::create_dir_all(to.join("real")).unwrap();
        std::fs::create_dir_all(to.join("many")).unwrap();
        symlink("../real", to.join("many/sub")).unwrap();
        machine.upload_dir(cx, &source, to.to_str().unwrap(), &none).await.unwrap();
        assert_eq!(std::fs::read(to.join("real/7")).unwrap(), b"new 7");
        assert_eq!(packer_files(&to), [""; 0]);

        // Where nobody may write.
        let closed = Path::new("/proc/self");
        assert!(machine.upload_dir(cx, &source, closed.to_str().unwrap(), &none).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_appears_whole_and_what_was_begun_goes_with_its_upload() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let machine = server.config().connect(cx, &Target::default()).await.unwrap();
    let folder = server.scratch();
    let path = folder.join("new").display().to_string();
    let (mut never, mut feed) = tokio::io::duplex(1 << 20);
    tokio::io::AsyncWriteExt::write_all(&mut feed, &[7; 600_000]).await.unwrap();
    let uploading = machine.upload(cx, Source::reader(&mut never), &path);
    let names = || packer_files(&folder).len() + usize::from(folder.join("new").exists());
    let watching = async {
        while names() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(!folder.join("new").exists(), "it is not there before it is whole");
    };
    tokio::select! {
        done = uploading => panic!("{done:?}"),
        () = watching => {}
    }
    for _ in 0..500 {
        if names() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(names(), 0, "a dropped upload takes its beginning away");

    // What is there is written in its place.
    std::fs::write(folder.join("target"), b"old").unwrap();
    set_mode(&folder.join("target"), 0o640);
    symlink("target", folder.join("link")).unwrap();
    let local = server.scratch().join("local");
    std::fs::write(&local, b"new").unwrap();
    set_mode(&local, 0o755);
    machine.upload_file(cx, &local, folder.join("link").to_str().unwrap()).await.unwrap();
    assert_eq!(tree(&folder)[Path::new("target")], (Some(b"new".to_vec()), 0o640));
    assert!(folder.join("link").is_symlink());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_tells_its_name_its_size_and_its_end() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let cx = bench.context();
    let machine = server.config().connect(cx, &Target::default()).await.unwrap();
    let local = server.scratch().join("big.iso");
    std::fs::write(&local, vec![1; 5_000_000]).unwrap();
    let remote = server.scratch().join("other name").display().to_string();
    machine.upload_file(cx, &local, &remote).await.unwrap();
    let mut sink = tokio::io::sink();
    machine.download(cx, &remote, &mut sink).await.unwrap();
    let told: Vec<_> = bench
        .recorder()
        .events()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::Progress { title, done, total, finished: true, .. } => Some((title, done, total)),
            _ => None,
        })
        .collect();
    let expected = |name: &str| (name.to_owned(), 5_000_000, Some(5_000_000));
    assert_eq!(told, [expected("big.iso"), expected("other name")]);
}
