//! The provisioner `file`: moves files and folders into the machine or out of it.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use packer_core::error::os_text;
use packer_core::kit::render;
use packer_core::{
    Communicator, CommunicatorExt, Context, Diagnostic, Diagnostics, Error, Globs, Machine, PrepareContext,
    Provisioner, Result, StepInputs, Value, WholeFile, async_trait, config,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

/// Moves files and folders into the machine, or out of it.
///
/// Upload: of a folder with a trailing slash its contents go into `destination`, without one the folder itself does. A
/// file goes to `destination`, or below it where that ends in a slash. Download: a folder is written with a trailing
/// slash, and is made inside `destination`; what a pattern (`/var/log/*.log`) matches goes into `destination`; a file
/// goes where an uploaded one would.
///
/// ```
/// use packer_provisioners::{FileProvisioner, Upload};
/// let config = Upload::new("app.conf", "/etc/app.conf");
/// let motd = Upload::content("welcome\n", "/etc/motd");
/// let logs = FileProvisioner::download("/var/log/", "logs/");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct FileProvisioner {
    /// The path of a file or folder.
    pub source: String,
    /// Paths of files and folders; come before `source`.
    pub sources: Vec<String>,
    /// A text to upload instead of files.
    pub content: String,
    /// Where it goes. In the machine a relative path starts where the communicator does.
    pub destination: String,
    /// `upload` (the default) or `download`.
    pub direction: String,
    /// Says that the sources come to exist only while the build runs.
    pub generated: bool,
}

/// The name for code that uploads: `Upload::new("app.conf", "/etc/app.conf")`.
pub type Upload = FileProvisioner;

impl FileProvisioner {
    /// Uploads a file or folder.
    pub fn new(source: impl Into<String>, destination: impl Into<String>) -> Self {
        Self { source: source.into(), destination: destination.into(), ..Self::default() }
    }

    /// Uploads a text.
    pub fn content(text: impl Into<String>, destination: impl Into<String>) -> Self {
        Self { content: text.into(), destination: destination.into(), ..Self::default() }
    }

    /// Downloads a file, a folder, or what a pattern matches.
    pub fn download(source: impl Into<String>, destination: impl Into<String>) -> Self {
        Self { direction: "download".into(), ..Self::new(source, destination) }
    }

    fn is_download(&self) -> bool {
        self.direction == "download"
    }

    fn sources(&self) -> impl Iterator<Item = &str> {
        let single = (!self.source.is_empty()).then_some(&self.source);
        self.sources.iter().chain(single).map(String::as_str)
    }
}

#[async_trait]
impl Provisioner for FileProvisioner {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        if !matches!(self.direction.as_str(), "" | "upload" | "download") {
            found.push(Diagnostic::error("Direction must be one of: download, upload."));
        }
        if !self.content.is_empty() && self.sources().next().is_some() {
            found.push(Diagnostic::error("source(s) conflicts with content."));
        }
        if !self.content.is_empty() && self.is_download() {
            found.push(Diagnostic::error("content is for uploads: a download needs source(s)."));
        }
        if !self.is_download() && !self.generated {
            for source in self.sources() {
                if let Err(e) = std::fs::metadata(source) {
                    let reason = format!("Bad source '{source}': stat {source}: {}", os_text(&e));
                    found.push(Diagnostic::error(reason));
                }
            }
        }
        if self.destination.is_empty() {
            found.push(Diagnostic::error("Destination must be specified."));
        }
        found
    }

    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        let communicator = machine.communicator();
        let destination = render(cx, &self.destination, &[])?;
        if !self.content.is_empty() {
            let file = cx.temp_file("pkr-file-content", "", 0o600, self.content.as_bytes())?;
            return upload(cx, &*communicator, &file.path().to_string_lossy(), &destination).await;
        }
        for source in self.sources() {
            let source = render(cx, source, &[])?;
            match self.is_download() {
                true => download(cx, &*communicator, &source, &destination).await?,
                false => upload(cx, &*communicator, &source, &destination).await?,
            }
        }
        Ok(())
    }

    fn inputs(&self) -> StepInputs {
        match self.is_download() || self.generated {
            true => StepInputs::Volatile,
            false => StepInputs::Files(self.sources().map(PathBuf::from).collect()),
        }
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }

    fn type_name(&self) -> Cow<'static, str> {
        "file".into()
    }
}

async fn upload(cx: &Context, to: &dyn Communicator, source: &str, destination: &str) -> Result<()> {
    cx.say(format!("Uploading {source} => {destination}"));
    let path = Path::new(source);
    let kind = tokio::fs::metadata(path).await.map_err(|e| Error::io("stat", path, e))?;
    let uploaded = if kind.is_dir() {
        to.upload_dir(cx, path, destination, &Globs::none()).await
    } else if destination.ends_with('/') {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        to.upload_file(cx, path, &format!("{destination}{name}")).await
    } else {
        to.upload_file(cx, path, destination).await
    };
    uploaded.inspect_err(|e| {
        if e.is_cancelled() {
            return;
        }
        cx.say_error(format!("Upload failed: {e}"));
        if e.message().contains("Error restoring file") {
            cx.say_error(
                "The destination may be a folder of the machine: a slash at its end says that the file goes into it.",
            );
        }
    })
}

async fn download(cx: &Context, from: &dyn Communicator, source: &str, destination: &str) -> Result<()> {
    let mut target = destination.to_owned();
    if destination.ends_with('/') && !source.ends_with(['/', '*']) {
        target = joined(destination, remote_name(source));
    }
    cx.say(format!("Downloading {source} => {target}"));
    let folder = match target.ends_with('/') {
        true => Some(Path::new(&target)),
        false => Path::new(&target).parent(),
    };
    if let Some(folder) = folder {
        tokio::fs::create_dir_all(folder).await.map_err(|e| Error::io("mkdir", folder, e))?;
    }
    let downloaded = if source.ends_with('/') || source.contains(['*', '?', '[']) {
        // Here the slash only says that it is a folder.
        let folder = Some(source.trim_end_matches('/')).filter(|folder| !folder.is_empty());
        from.download_dir(cx, folder.unwrap_or("/"), Path::new(&target), &Globs::none()).await
    } else {
        download_file(cx, from, source, &target).await
    };
    downloaded.inspect_err(|e| {
        if !e.is_cancelled() {
            cx.say_error(format!("Download failed: {e}"));
        }
    })
}

/// Brings one file; the local one changes only when the whole is there.
async fn download_file(cx: &Context, from: &dyn Communicator, source: &str, target: &str) -> Result<()> {
    let mut whole = WholeFile::create(cx, target, 0o644)?;
    let writer = whole.file().try_clone().map_err(|e| Error::io("open", target, e))?;
    let mut writer = tokio::fs::File::from_std(writer);
    from.download(cx, source, &mut writer).await?;
    writer.flush().await.map_err(|e| Error::io("write", target, e))?;
    drop(writer);
    cx.blocking(move |_| whole.commit()).await
}

/// A file in a folder of this computer, without `.`, `..` and empty parts: that is how templates know it from the output.
fn joined(folder: &str, name: &str) -> String {
    let mut path = PathBuf::new();
    for part in Path::new(folder).join(name).components() {
        match (part, path.components().next_back()) {
            (Component::CurDir, _) | (Component::ParentDir, Some(Component::RootDir)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(path.pop()),
            _ => path.push(part),
        }
    }
    path.to_string_lossy().into_owned()
}

/// The last part of a path in the machine, which may be a Windows one.
fn remote_name(path: &str) -> &str {
    let windows = path.as_bytes().get(1) == Some(&b':') || path.starts_with("\\\\");
    let parts = |c: char| c == '/' || (windows && c == '\\');
    path.rsplit(parts).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_at_once() {
        let messages = |file: &FileProvisioner| -> Vec<String> {
            file.prepare(&PrepareContext::default()).iter().map(|d| d.summary.clone()).collect()
        };
        let wrong = FileProvisioner {
            content: "x".into(),
            source: "/no/such".into(),
            direction: "sideways".into(),
            ..FileProvisioner::default()
        };
        assert_eq!(
            messages(&wrong),
            [
                "Direction must be one of: download, upload.",
                "source(s) conflicts with content.",
                "Bad source '/no/such': stat /no/such: no such file or directory",
                "Destination must be specified.",
            ]
        );
        assert!(messages(&FileProvisioner::download("/no/such", "x")).is_empty());
        let down = FileProvisioner { direction: "download".into(), ..Upload::content("x", "y") };
        assert_eq!(messages(&down), ["content is for uploads: a download needs source(s)."]);
        assert!(messages(&FileProvisioner { generated: true, ..Upload::new("/no/such", "x") }).is_empty());
    }

    #[test]
    fn targets_in_folders() {
        for (folder, target) in [
            ("out/", "out/a"),
            ("./out//x/", "out/x/a"),
            ("./", "a"),
            ("/", "/a"),
            ("/../x/../", "/a"),
            ("x/../../y/", "../y/a"),
            ("../../", "../../a"),
        ] {
            assert_eq!(joined(folder, "a"), target);
        }
    }

    #[test]
    fn names_of_remote_files() {
        for (path, name) in [("/r/one", "one"), ("one", "one"), (r"C:\a\b.log", "b.log"), (r"/r/a\b", r"a\b")]
        {
            assert_eq!(remote_name(path), name);
        }
    }
}
