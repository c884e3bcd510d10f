//! A communicator from nothing: a way into machines that none of ours knows.
//!
//! Builders of ordinary machines need none of their own: SSH comes with
//! [`CommunicatorConfig::connect`](crate::CommunicatorConfig::connect). This page is for whoever enters machines by an agent, a serial
//! line, a command such as `nsenter`. A builder hands its own out from
//! [`Machine::communicator`](crate::Machine::communicator), and no one else has to know of it.
//!
//! # All of it
//!
//! Five methods. Here the machine is whatever a local command enters (`nsenter -t PID -a`, `chroot DIR`, `podman exec -i
//! NAME`); the command of the example is `env -i`, which enters this computer with an empty environment.
//!
//! ```
//! use std::path::Path;
//! use std::process::Stdio;
//!
//! use packer_core::kit::shell::{posix_escape, process};
//! use packer_core::{Command, Communicator, Context, Error, ExitStatus, Globs, Result, Source, async_trait};
//! use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
//!
//! struct Through {
//!     /// The program that enters the machine, with its arguments; the machine's own command comes behind.
//!     enter: Vec<String>,
//! }
//!
//! impl Through {
//!     /// Runs a script in the machine with these streams.
//!     async fn run(
//!         &self,
//!         script: &str,
//!         stdin: Option<&mut (dyn AsyncRead + Send + Unpin)>,
//!         stdout: Option<&mut (dyn AsyncWrite + Send + Unpin)>,
//!         stderr: Option<&mut (dyn AsyncWrite + Send + Unpin)>,
//!     ) -> Result<ExitStatus> {
//!         let failed = |e: std::io::Error| Error::provider(format!("{}: {e}", self.enter.join(" ")));
//!         let mut command = tokio::process::Command::new(&self.enter[0]);
//!         command.args(&self.enter[1..]).args(["/bin/sh", "-c", script]);
//!         command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
//!         // Dropping the future (cancellation, timeout) ends the local side.
//!         let mut child = process::spawn(command.kill_on_drop(true)).map_err(failed)?;
//!         let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
//!         let work = async {
//!             tokio::try_join!(copy(output, stdout), copy(errors, stderr))?;
//!             child.wait().await
//!         };
//!         // A command need not read its input: when it has ended, what is left of that is dropped.
//!         let status = tokio::select! {
//!             status = work => status.map_err(failed)?,
//!             never = feed(stdin, input) => match never {},
//!         };
//!         #[cfg(unix)]
//!         if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
//!             return Ok(ExitStatus::Signal(signal));
//!         }
//!         Ok(ExitStatus::Code(status.code().unwrap_or(-1)))
//!     }
//!
//!     /// The same for a script of ours, where a failure is an error with what it printed.
//!     async fn must(
//!         &self,
//!         script: &str,
//!         stdin: Option<&mut (dyn AsyncRead + Send + Unpin)>,
//!         stdout: Option<&mut (dyn AsyncWrite + Send + Unpin)>,
//!     ) -> Result<()> {
//!         let mut said = Vec::new();
//!         match self.run(script, stdin, stdout, Some(&mut said)).await? {
//!             ExitStatus::Code(0) => Ok(()),
//!             _ => Err(Error::guest(String::from_utf8_lossy(&said).trim().to_owned())),
//!         }
//!     }
//! }
//!
//! /// All of a stream into a sink, or nowhere; no more of it in memory than a buffer.
//! async fn copy(
//!     from: Option<impl AsyncRead + Unpin>,
//!     to: Option<&mut (dyn AsyncWrite + Send + Unpin)>,
//! ) -> std::io::Result<()> {
//!     let Some(mut from) = from else { return Ok(()) };
//!     match to {
//!         Some(to) => tokio::io::copy(&mut from, to).await?,
//!         None => tokio::io::copy(&mut from, &mut tokio::io::sink()).await?,
//!     };
//!     Ok(())
//! }
//!
//! /// Feeds a command; never ends by itself, since the command decides when it is over.
//! async fn feed(
//!     from: Option<&mut (dyn AsyncRead + Send + Unpin)>,
//!     to: Option<impl AsyncWrite + Unpin>,
//! ) -> std::convert::Infallible {
//!     if let (Some(from), Some(mut to)) = (from, to) {
//!         let _ = tokio::io::copy(from, &mut to).await; // fails where the command has closed its input
//!         let _ = to.shutdown().await;
//!     } // else the input is closed here
//!     std::future::pending().await
//! }
//!
//! fn quoted(path: &str) -> String {
//!     format!("'{}'", posix_escape(path))
//! }
//!
//! #[async_trait]
//! impl Communicator for Through {
//!     async fn exec(&self, cx: &Context, command: Command<'_>) -> Result<ExitStatus> {
//!         let Command { text, stdin, stdout, stderr, .. } = command;
//!         cx.until_cancelled(self.run(&text, stdin, stdout, stderr)).await
//!     }
//!
//!     async fn upload(&self, cx: &Context, source: Source<'_>, to: &str) -> Result<()> {
//!         let to = quoted(to);
//!         let (mut file, mut bytes);
//!         let (reader, mode): (&mut (dyn AsyncRead + Send + Unpin), Option<u32>) = match source {
//!             Source::File(path) => {
//!                 file = tokio::fs::File::open(path).await.map_err(|e| Error::io("open", path, e))?;
//!                 let metadata = file.metadata().await.map_err(|e| Error::io("stat", path, e))?;
//!                 if !metadata.is_file() {
//!                     return Err(Error::user(format!("{} is no file", path.display())));
//!                 }
//!                 #[cfg(unix)]
//!                 let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
//!                 #[cfg(not(unix))]
//!                 let mode = 0o644;
//!                 (&mut file, Some(mode))
//!             }
//!             Source::Bytes(given) => {
//!                 bytes = given;
//!                 (&mut bytes, None)
//!             }
//!             Source::Reader { reader, mode, .. } => (reader, mode),
//!             other => return Err(Error::internal(format!("cannot upload {other:?}"))),
//!         };
//!         let mode = mode.map_or(String::new(), |mode| format!(" && chmod {mode:o} {to}"));
//!         cx.until_cancelled(self.must(&format!("cat > {to}{mode}"), Some(reader), None)).await
//!     }
//!
//!     async fn download(&self, cx: &Context, from: &str, to: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<()> {
//!         cx.until_cancelled(self.must(&format!("cat {}", quoted(from)), None, Some(to))).await
//!     }
//!
//!     async fn upload_dir(&self, _: &Context, from: &Path, _: &str, _: &Globs) -> Result<()> {
//!         Err(Error::user(format!("{}: folders cannot be moved into this machine", from.display())))
//!     }
//!
//!     async fn download_dir(&self, _: &Context, from: &str, _: &Path, _: &Globs) -> Result<()> {
//!         Err(Error::user(format!("{from}: folders cannot be moved out of this machine")))
//!     }
//! }
//!
//! # #[cfg(all(unix, feature = "testing"))]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use packer_core::CommunicatorExt;
//!
//! let bench = packer_core::testing::Bench::new();
//! let (cx, here) = (bench.context(), Through { enter: vec!["env".into(), "-i".into()] });
//! let path = bench.folder().join("it's here").display().to_string();
//! here.upload_bytes(cx, b"hello", &path).await.unwrap();
//! assert_eq!(here.read(cx, &path).await.unwrap(), b"hello");
//! assert_eq!(here.output(cx, "echo out; exit 7").await.unwrap().status, ExitStatus::Code(7));
//! assert!(here.upload_file(cx, bench.folder(), "/tmp/x").await.is_err());
//! # });
//! ```
//!
//! One that is to be used by others moves folders too (a `tar` at each end of a pipe does it), and passes
//! [`testing::communicator::suite`](crate::testing::communicator::suite), which tries out every rule below on a machine with a
//! POSIX shell: odd names, every byte, 2 MB that nobody reads, ten commands at once, files that are not there, folders with
//! links, cancellation in the middle ([`windows_suite`](crate::testing::communicator::windows_suite) says the same in the words of
//! `cmd`). Folders may be refused as here; provisioners that need them then fail with that message.
//!
//! # The rules
//!
//! - **The text of a command is the machine's shell's.** Nothing is quoted or added. Paths in transfers are *not* a shell's:
//!   whoever moves files by commands quotes them ([`posix_escape`](crate::kit::shell::posix_escape)).
//! - **An exit status is no error.** `Err` means that the command could not be run, or ([`StatusLost`](crate::communicator::StatusLost)) that nobody knows how it ended although
//!   the connection stands. A connection that breaks while it runs is
//!   [`ExitStatus::Disconnected`](crate::ExitStatus::Disconnected): a reboot looks like that.
//! - **It returns when the command has ended and all output is delivered.**
//! - **Everything streams.** Memory does not grow with what a machine sends: a sink that takes nothing holds the
//!   command back. Of messages that are kept, keep a bounded part.
//! - **Uploads replace content.** They do not make folders. A local file brings its permission bits;
//!   [`keeps_modes`](crate::Communicator::keeps_modes) says whether they are exactly those afterwards.
//! - **All methods may be called at once.**
//! - **Dropping a future ends the local side at once**, and asks the remote command to end where the protocol can.
//! - In folder transfers a slash at the end of the **source** means its content, none the folder itself.
//!   [`Globs`](crate::Globs) are what is left out.
//! - What the machine sends is not to be trusted: names in a folder it sends must not leave the destination, and what
//!   its messages hold may be written to a terminal.
//!
//! # Options in templates
//!
//! A builder that offers a communicator of its own beside SSH gives it a name for `communicator = "…"`, asks
//! [`kind_or`](crate::CommunicatorConfig::kind_or) with its default, and connects by itself for that name:
//!
//! ```
//! use std::sync::Arc;
//! use packer_core::{Communicator, CommunicatorConfig, Context, NoCommunicator, Result, Target};
//!
//! async fn enter(options: &CommunicatorConfig, cx: &Context, target: &Target) -> Result<Arc<dyn Communicator>> {
//!     match options.kind_or("serial") {
//!         "serial" => Ok(Arc::new(NoCommunicator::new())), // here: the builder's own
//!         _ => options.connect(cx, target).await,
//!     }
//! }
//! ```
//!
//! `CommunicatorConfig::prepare` refuses names that are none of Packer's; call it only where the kind is not one's own.
