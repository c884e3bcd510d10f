//! How a provisioner talks to a machine.
//!
//! A provisioner gets a [`Machine`](crate::Machine), and from it a [`Communicator`](crate::Communicator): the way in, whatever
//! it is (SSH, WinRM, a container engine, somebody's own). What holds for each of them:
//!
//! | | |
//! |---|---|
//! | a command | is a text for the machine's own shell. That its exit code is not 0 is no error: an [`ExitStatus`](crate::ExitStatus) says it. `Err` means that it could not be run |
//! | a connection that breaks while a command runs | is [`ExitStatus::Disconnected`](crate::ExitStatus::Disconnected): a reboot is not a mistake |
//! | the next call after it | connects anew where the protocol has connections; it is tried once, so one who waits for a reboot tries again |
//! | input and output | are streams; without input a command reads its end at once |
//! | an upload | replaces what a file contained; parent folders are not made. Over SSH a new file appears when the whole has come |
//! | a folder | with a slash at the end of its name is what it contains, without one it is the folder itself |
//! | many at once | all calls may be made at the same time on one communicator |
//! | a future that is dropped | ends here at once; the command in the machine is told to end where the protocol can |
//!
//! # Commands
//!
//! [`CommunicatorExt`](crate::CommunicatorExt) has what is used most:
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # use packer_core::testing::{Answer, Bench, ScriptedMachine};
//! use packer_core::{Command, Communicator, CommunicatorExt, Error};
//! # let bench = Bench::new();
//! # let cx = bench.context();
//! # let machine = ScriptedMachine::new()
//! #     .on("uname", Answer::prints("Linux\n")).on("apt-get", Answer::prints("Reading package lists\n"));
//!
//! // Kept in memory, up to 64 MiB.
//! let system = machine.output(cx, "uname -s").await?.text();
//! assert_eq!(system, "Linux");
//!
//! // Shown line by line, with secrets hidden.
//! let status = machine.run(cx, "apt-get -y install nginx").await?;
//! if !status.success() {
//!     return Err(Error::guest(format!("apt-get ended with {}", status.code())));
//! }
//!
//! // With a stream to read: no file in the machine, nothing in its list of processes.
//! let mut input = &b"admin:secret\n"[..];
//! machine.exec(cx, Command::new("chpasswd").stdin(&mut input)).await?;
//! # assert_eq!(machine.inputs().last().unwrap(), b"admin:secret\n");
//! # Ok::<(), Error>(())
//! # }).unwrap();
//! ```
//!
//! # Programs for `/bin/sh`
//!
//! Users log in to all kinds of shells. Where [`passes_input`](crate::Communicator::passes_input) says that a command reads
//! exactly what it is given, a program for `/bin/sh` can come as the beginning of the input, and what follows it is read by the
//! program: no quoting, no file, one command. The provisioner `shell` brings its scripts this way.
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # use packer_core::testing::{Bench, LocalMachine};
//! use packer_core::communicator::program_on_input;
//! use packer_core::{Command, Communicator};
//! # let bench = Bench::new();
//! # let (cx, machine) = (bench.context(), LocalMachine::new(bench.folder()));
//!
//! assert!(machine.passes_input());
//! let program = "umask 077; cat > answers && wc -c < answers";
//! let (text, mut printed) = (program_on_input(program.len()), Vec::new());
//! let input = format!("{program}yes\nno\n");
//! machine.exec(cx, Command::new(text).stdin(&mut input.as_bytes()).stdout(&mut printed)).await?;
//! assert_eq!(String::from_utf8_lossy(&printed).trim(), "7");
//! # Ok::<(), packer_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! # What is left in the machine
//!
//! What a step puts into a machine for itself is written into the ledger before it is there
//! ([`Context::record`](crate::Context::record), [`Resource::remote_file`](crate::Resource::remote_file)) and struck out when it
//! is gone ([`Context::released`](crate::Context::released)). A step that is cancelled, out of time or killed is then cleaned up
//! by [`Provisioner::clean`](crate::Provisioner::clean) while the machine is up, and named where it is not.
//!
//! # Tests without a machine
//!
//! [`ScriptedMachine`](crate::testing::ScriptedMachine) answers as it is told and remembers what it was asked: a connection that
//! breaks in the third command is one line. In front of a [`LocalMachine`](crate::testing::LocalMachine) it adds faults to what
//! a real shell does.
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use packer_core::testing::{Answer, Bench, LocalMachine, ScriptedMachine};
//! use packer_core::{CommunicatorExt, ExitStatus};
//!
//! let bench = Bench::new();
//! let machine = ScriptedMachine::before(LocalMachine::new(bench.folder()))
//!     .on("exec reboot", Answer::disconnects())
//!     .on("upload", Answer::fails("the connection broke"));
//! let cx = bench.context();
//! assert_eq!(machine.run(cx, "reboot").await?, ExitStatus::Disconnected);
//! assert!(machine.upload_bytes(cx, b"x", "file").await.is_err());
//! machine.upload_bytes(cx, b"x", "file").await?;
//! assert_eq!(machine.output(cx, "cat file").await?.stdout, b"x");
//! # Ok::<(), packer_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! A communicator of one's own is proved by [`testing::communicator::suite`](crate::testing::communicator::suite) and, where its
//! connections can break, [`reconnects`](crate::testing::communicator::reconnects); how one is written is in [`communicator`](super::communicator).
