//! What builders of virtual machines need beside what every [builder](super::builder) does.
//!
//! # What machines share
//!
//! Installers are fetched by [`kit::download`](crate::kit::download), answers served by [`kit::http_server`](crate::kit::http_server)
//! and put on a CD or a floppy by [`kit::media`](crate::kit::media); [`kit::boot_command`](crate::kit::boot_command) types at a boot
//! prompt, over [`kit::vnc`](crate::kit::vnc) or a driver of your own, and looks at the [screen](crate::kit::screen). All have a
//! struct of options that a builder flattens into its own. They are behind the cargo feature `machines` of packer-core; the
//! builder `qemu` of packer-builders uses them all.
//!
//! # Connecting
//!
//! All options of SSH, and the names that templates have for them, come with
//! [`CommunicatorConfig`](crate::CommunicatorConfig) as a flattened field. What the builder found out (the address that a
//! hypervisor gave, the port that it forwards, a key that was made for this build) is a
//! [`Target`](crate::Target); what the template says about the same things wins.
//!
//! The SSH communicator is behind the cargo feature `ssh` **of packer-core**. A crate with a builder of its own turns it on in
//! its own manifest, and nothing else is needed:
//!
//! ```toml
//! [dependencies]
//! packer-core = { version = "0.1", features = ["ssh"] }
//! ```
//!
//! Without the feature [`unsupported`](crate::CommunicatorConfig::unsupported) says so in `prepare`, which is why `prepare`
//! asks it. (The feature `ssh` of `packer-builders` turns the same one on; it is for hosts that use our builders.)
//!
//! ```
//! use packer_core::communicator::{CommunicatorConfig, Target};
//! use packer_core::{Communicator, Context, Diagnostics, Facts, PrepareContext, Result};
//! use std::sync::Arc;
//!
//! fn prepare(options: &CommunicatorConfig, cx: &PrepareContext) -> Diagnostics {
//!     let mut found = options.prepare(cx); // missing users, files that are not there, wrong algorithms …
//!     if !found.has_errors() {
//!         found.extend(options.unsupported()); // what this build of the library cannot do
//!     }
//!     found
//! }
//!
//! async fn enter(
//!     options: &CommunicatorConfig,
//!     cx: &Context,
//!     port: u16,
//!     key: &str,
//! ) -> Result<(Arc<dyn Communicator>, Facts)> {
//!     // The port that the hypervisor forwards to the machine's 22, and the key that cloud-init put into it.
//!     let target = Target::new("127.0.0.1", port).user("packer").private_key(key);
//!     // Tries again until the machine is up, for as long as `ssh_timeout` says; ends at once when cancelled.
//!     let communicator = cx.step("connect", options.connect(cx, &target)).await?;
//!     Ok((communicator, options.facts(&target).id("vm-1")))
//! }
//! ```
//!
//! [`facts`](crate::CommunicatorConfig::facts) are what `build.Host`, `build.Port`, `build.User`, `build.Password` and so on
//! show. `connect` registers passwords and keys as secrets by itself. A builder with defaults of its own (no communicator unless
//! one is asked for, a user that its images always have) lays the options over them with [`or`](crate::CommunicatorConfig::or), and
//! does all this with the result:
//!
//! ```
//! use packer_core::{CommunicatorConfig, Target};
//! # let given = CommunicatorConfig::default();
//! let options = given.or(&CommunicatorConfig::ssh("packer"));
//! assert_eq!(options.username(&Target::default()), Some("packer"));
//! ```
//!
//! The key of a machine that needs one is made by [`key_pair`](crate::CommunicatorConfig::key_pair): it makes none where the template
//! brings a way in, and [`clear_authorized_keys`](crate::CommunicatorConfig::clear_authorized_keys) takes it out of the machine again
//! before the image is made of it. Whoever can tell which key the machine itself will show (because the builder made the disk,
//! or reads the serial line) says so in [`Target::host_key`](crate::Target::host_key); any other key then ends the build. Where
//! nobody can, each connecting tells it once as an [event](crate::EventKind::HostKeyUnchecked).
//!
//! A wait that ends without a machine is an error with a [reason](crate::communicator::Unreachable) that programs can decide by.
//!
//! One with a communicator of its own: see [the page about those](super::communicator#options-in-templates). A machine in which no command can run says why in
//! [`Prepared::no_commands`](crate::Prepared::no_commands): builds with provisioners that need commands are then refused
//! before anything starts.
//!
//! # A machine is a resource, and so is its program
//!
//! What a later process needs to end the machine is in its entry: the name under which the hypervisor knows it, the path of a
//! control socket. All of these the builder chooses before the start. Where the machine is a program that the builder
//! starts itself, [`kit::process`](crate::kit::process) does all of it:
//!
//! ```
//! # #[cfg(all(unix, feature = "testing"))]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use packer_core::kit::process::Program;
//!
//! # let bench = packer_core::testing::Bench::new();
//! # let cx = bench.context();
//! # async fn connect() -> packer_core::Result<()> { Ok(()) }
//! // A hypervisor. It is in the ledger before it runs, what it prints is shown, and it is killed with all it started when
//! // the value is dropped.
//! let mut machine = Program::new("sleep").arg("600").start_shown(cx)?;
//! // Where it ends before that, this is an error at once.
//! cx.step("connect", machine.while_running(connect())).await?;
//! // … provisioners …
//! machine.stop(Duration::from_secs(10)).await?; // asks it to end; kills it when it does not
//! assert!(bench.outstanding().is_empty());
//! # Ok::<(), packer_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! A [`Process`](crate::kit::process::Process) lives in a field of the machine. On Linux a later process finds it, by a mark in its
//! environment, and ends it with all that it started; so `release` has nothing to do for it.
//! [`Program::show`](crate::kit::process::Program::show) runs a program to its end and shows what it prints,
//! [`capture`](crate::kit::process::Program::capture) returns what it prints, up to a limit, and
//! [`success`](crate::kit::process::Captured::success) makes a failure of it an error with what it said: for `qemu-img` and its
//! like.
//!
//! # Ports
//!
//! Two builds of one run must not choose the same free port. [`Context::reserve_port`](crate::Context::reserve_port) holds one
//! open until it is handed to the program that listens there; the value is kept for as long as that runs.
//!
//! ```
//! # #[cfg(feature = "testing")] {
//! # let bench = packer_core::testing::Bench::new();
//! # let cx = bench.context();
//! let mut vnc = cx.reserve_port(5900..=5999)?; // any of these
//! let mut ssh = cx.reserve_port(None)?; // any at all
//! assert_ne!(vnc.number(), ssh.number());
//! // … all that takes time …
//! let arguments = [format!("-vnc :{}", vnc.hand_over() - 5900), format!("hostfwd=tcp:127.0.0.1:{}-:22", ssh.hand_over())];
//! # }
//! # Ok::<(), packer_core::Error>(())
//! ```
//!
//! # Waiting
//!
//! Wait with [`Context::sleep`](crate::Context::sleep), which ends early with an error when the work is cancelled; put an end to
//! every wait, and say what was waited for.
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use packer_core::{Context, Error, Result};
//!
//! async fn wait_until_off(cx: &Context, is_off: impl Fn() -> bool, patience: Duration) -> Result<()> {
//!     let began = Instant::now();
//!     while !is_off() {
//!         if began.elapsed() > patience {
//!             return Err(Error::guest(format!("the machine is not off after {patience:?}")));
//!         }
//!         cx.sleep(Duration::from_millis(200)).await?;
//!     }
//!     Ok(())
//! }
//! # #[cfg(feature = "testing")] {
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # let bench = packer_core::testing::Bench::new();
//! # let cx = bench.context();
//! # runtime.block_on(wait_until_off(cx, || true, Duration::ZERO)).unwrap();
//! # let late = runtime.block_on(wait_until_off(cx, || false, Duration::ZERO)).unwrap_err();
//! # assert_eq!(late.message(), "the machine is not off after 0ns");
//! # bench.cancel();
//! # let stopped = runtime.block_on(wait_until_off(cx, || false, Duration::from_secs(60))).unwrap_err();
//! # assert!(stopped.is_cancelled());
//! # }
//! ```
//!
//! # Cancellation
//!
//! `launch` and `capture` are dropped at an await point. So:
//!
//! - Between the future of `own` and the end of `launch` keep nothing in memory that cleanup needs.
//! - Work that must not be cut in the middle (two calls that belong together) runs in
//!   [`blocking`](crate::Context::blocking), or is made so that `release` can take up either half.
//! - Never `tokio::spawn` work of a build and forget it: cleanup waits for threads of `blocking`, not for tasks it does
//!   not know. Where a task is needed, its handle aborts it when it is dropped (`tokio::task::JoinSet`).
//! - [`until_cancelled`](crate::Context::until_cancelled) makes any future end with the scope, and
//!   [`cancellation`](crate::Context::cancellation) gives the token to code that takes one. `step`, `own`, `sleep`, `ask` and
//!   `blocking` heed it by themselves.
//! - In `release` the same context works: there cancellation means that the host gave cleanup up.
//!
//! # Long work, and work that blocks
//!
//! Hashing, compressing and copying go to [`Context::blocking`](crate::Context::blocking), with
//! [`Stop::reader`](crate::kit::blocking::Stop::reader) around what is read: it ends the work when nobody waits for it any more
//! and tells the progress. Progress counts bytes, and is told at most ten times a second however often it is
//! [advanced](crate::Progress::advance).
//!
//! ```
//! use std::io::Read;
//! use packer_core::{Context, Error, Result};
//!
//! /// The number of zero bytes of an image, found without holding it in memory.
//! async fn zeros(cx: &Context, image: std::path::PathBuf) -> Result<u64> {
//!     let inner = cx.clone();
//!     cx.blocking(move |stop| {
//!         let file = std::fs::File::open(&image).map_err(|e| Error::io("open", &image, e))?;
//!         let size = file.metadata().ok().map(|m| m.len());
//!         let mut input = stop.reader(file, Some(inner.progress(image.display().to_string(), size)));
//!         let (mut buffer, mut zeros) = (vec![0; 64 * 1024], 0);
//!         loop {
//!             match input.read(&mut buffer).map_err(|e| Error::io("read", &image, e))? {
//!                 0 => return Ok(zeros),
//!                 read => zeros += buffer[..read].iter().filter(|b| **b == 0).count() as u64,
//!             }
//!         }
//!     })
//!     .await
//! }
//! # #[cfg(feature = "testing")] {
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # let bench = packer_core::testing::Bench::new();
//! # let image = bench.folder().join("image");
//! # std::fs::write(&image, [0, 1, 0]).unwrap();
//! # assert_eq!(runtime.block_on(zeros(bench.context(), image)).unwrap(), 2);
//! # }
//! ```
//!
//! # Files
//!
//! | what | with |
//! |---|---|
//! | an output that people and later steps read | [`WholeFile`](crate::WholeFile): beside its target, synced, renamed; a failure leaves the old one |
//! | a small temporary file (a seed, a script, a key) | [`Context::temp_file`](crate::Context::temp_file), with its permission bits; removed when dropped |
//! | a temporary file that another program makes | [`Context::temp_path`](crate::Context::temp_path): a name that is in the ledger already |
//! | a folder for several | [`Context::temp_dir`](crate::Context::temp_dir), removed with the build |
//! | downloads that stay | [`Context::cache_dir`](crate::Context::cache_dir); write them with `WholeFile` too, other runs read them |
//!
//! # Commands at the end
//!
//! A shutdown command comes from the template and goes through the communicator. That the connection breaks while it runs is
//! what one expects of it:
//!
//! ```
//! use packer_core::config::GoTemplate;
//! use packer_core::{CommunicatorExt, Context, Error, ExitStatus, Machine, Result};
//!
//! async fn shut_down(cx: &Context, machine: &dyn Machine, command: &GoTemplate) -> Result<()> {
//!     let command = command.render(cx, &[])?;
//!     match machine.communicator().run(cx, &command).await? {
//!         ExitStatus::Code(0) | ExitStatus::Disconnected => Ok(()),
//!         other => Err(Error::guest(format!("the shutdown command ended with {}", other.code()))),
//!     }
//! }
//! ```
//!
//! # Errors
//!
//! An [`Error`](crate::Error) says whose fault it looks like, because hosts decide by that:
//!
//! | constructor | when |
//! |---|---|
//! | [`Error::user`](crate::Error::user) | the configuration or a file of the user's is wrong |
//! | [`Error::guest`](crate::Error::guest) | something in the machine failed |
//! | [`Error::network`](crate::Error::network) | a connection could not be made or broke (retryable) |
//! | [`Error::provider`](crate::Error::provider) | the hypervisor, the cloud, this computer's disk refused or broke |
//! | [`Error::new`](crate::Error::new) with [`Fault::Quota`](crate::Fault::Quota) | a limit was reached |
//! | [`Error::internal`](crate::Error::internal) | what cannot happen happened |
//! | [`Error::io`](crate::Error::io) | a file operation, worded `open a.img: no such file or directory` |
//!
//! [`retryable`](crate::Error::retryable) says that the same call may succeed later: `release` is tried again for it, and hosts
//! may retry builds. [`context`](crate::Error::context) puts words in front (`"start the machine: …"`),
//! [`with_source`](crate::Error::with_source) keeps the cause. The step it happened in is added by
//! [`Context::step`](crate::Context::step), which tells its end whatever happens. Events and reports carry errors as
//! [`ErrorInfo`](crate::ErrorInfo), which can be read again.
//!
//! ```
//! use packer_core::{Error, Fault};
//!
//! fn refused(status: u16, text: &str) -> Error {
//!     match status {
//!         401 | 403 => Error::user(format!("the hypervisor refuses these credentials: {text}")),
//!         429 => Error::new(Fault::Quota, text).retryable(),
//!         500.. => Error::provider(text).retryable(),
//!         _ => Error::provider(text),
//!     }
//!     .context("create the machine")
//! }
//! assert_eq!(refused(429, "slow down").message(), "create the machine: slow down");
//! assert!(refused(503, "").is_retryable() && refused(401, "").fault() == Fault::User);
//! ```
