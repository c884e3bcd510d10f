//! What differs from Packer 1.16, and why.
//!
//! Templates that work there work here unchanged; the recorded answers of Packer are replayed by this project's tests. Where
//! it answers differently on purpose, a line of `packer-core/tests/conformance/differences.list` in the repository names the
//! case and the reason. This page says the same in words.
//!
//! # Failures destroy less
//!
//! - A post-processor that fails leaves the artifact in place, and the report names it. In Packer the image of an hour is
//!   deleted because a checksum could not be written.
//! - Each sequence of post-processors that fails is reported, not only the first.
//! - A download that fails leaves the local file as it was, and no half file where there was none.
//!
//! # Time
//!
//! - `pause_before` and `timeout` both apply, and the pause is not part of the timeout. In Packer one replaces the other.
//! - Each retry gets the whole timeout anew.
//!
//! # Files in and out of machines
//!
//! - Names are quoted for the machine's shell: `$`, quotes, blanks and `;` are parts of names and nothing else.
//! - A pattern's files are downloaded *into* the destination folder, which is made. In Packer they may end up in one file.
//! - The destination folder of a folder upload is made; the missing folder of a file upload is an error, not a file of its
//!   name.
//! - `~/` is the home folder with SFTP too, and links are followed with SFTP as with scp.
//! - Where the server has no SFTP, or its shell talks before it is asked, files move through plain commands. So
//!   `ssh_file_transfer_method` decides less than in Packer, and less can go wrong.
//! - Folders come out of containers.
//!
//! # SSH
//!
//! - Host keys can be checked (`ssh_host_key`, `ssh_known_hosts_file`, `ssh_host_key_checking`). As in Packer, they are not
//!   unless one of these is given, or the builder knows the machine's key; that nobody could check one is an
//!   [event](crate::EventKind::HostKeyUnchecked).
//! - `ssh_bastion_username` is `ssh_username` where it is not given. `ssh_bastion_interactive` is enough of a way to log in where
//!   somebody can be asked, and a person answers once: the connection to the bastion is kept while the machine behind it is
//!   waited for.
//! - For the passphrase of a private key the host is asked; where nobody can be, such a key is an error of `prepare`.
//! - Ports in tunnels are checked before anything starts, and tunnels are there again after a reconnect.
//! - `ssh_proxy_type = "http"` makes the proxy one that is asked with `CONNECT`.
//! - A name in `ssh_ciphers` or `ssh_key_exchange_algorithms` that nobody knows is a warning.
//! - "Timeout waiting for SSH." says why.
//! - The status of a signal is 128 and its number for every signal; `valid_exit_codes` may hold the number of a
//!   broken connection, 2300218, as Packer's own message says.
//!
//! # QEMU
//!
//! - Without `accelerator` a machine that does not run with KVM goes on in software, and the run remembers it; with one that does
//!   not do, the build fails at once. Packer takes KVM wherever `/dev/kvm` opens, and waits until `ssh_timeout`.
//! - Without `shutdown_command` the machine's power button is pressed (ACPI), and only a machine that does not listen is killed.
//!   Packer kills it, so that what it had not written is lost.
//! - A boot command may wait for a text or a still screen ([extensions](crate::template::extensions)). Where a build fails, the
//!   timeline page shows what was on the machine's screen while it started, every few seconds, and last; in a debugged build also
//!   where it does not fail, and after each step of the boot command.
//! - The HTTP server listens only where the machine reaches it: on `127.0.0.1` for a machine behind QEMU's own network.
//! - Nothing waits where nothing is typed: the connecting begins with the machine, whatever `boot_wait` says.
//! - The last words of QEMU are in the error; a port that another program took is no failure, another one is tried.
//! - Host keys that the build itself gives to cloud-init (`ssh_keys` in `cd_content`) are checked, and with `serial_console` those
//!   that cloud-init prints: nobody logs in before it has.
//! - Machines without hardware acceleration start in turn, as many at once as there are processors, and one that takes long is
//!   waited for two minutes: ten at once on two processors need more time than one after the other.
//! - A machine that QEMU has stopped because the disk of this computer is full is told so.
//! - Downloads resume, try the next mirror when one stalls, and are made once for builds that want the same file. A password in
//!   a URL is not shown.
//! - CDs and floppies are made without `xorriso` or another program.
//! - With `-cache` the state behind each step is what the disks and the memory of the machine hold, so that a rebuild goes on where
//!   the step ended, without a boot: with what is in `/tmp`, with programs that run. The machine's clock is set then, where it
//!   lets us. A state is read by the version of QEMU that saved it, and by no other. Not saved, which is told: machines that are
//!   entered with a key pair of the build, and those that write to drives of `qemuargs`. With `-cache` QEMU's machine protocol
//!   is always open, and a PC has a device more (`vmgenid`), by which it knows to draw its random numbers anew.
//! - A `test` block ([extensions](crate::template::extensions)) boots the image once more, on disks that are thrown away.
//!
//! # Amazon
//!
//! - What a failing build has made is taken away, all of it: an image that failed while it was waited for, with its snapshots, and
//!   the copies in other regions where one of them fails. Packer leaves these behind.
//! - Where the answer to a call was lost, what it made is found again (a key pair, a group, an image, a snapshot) and the build
//!   goes on.
//! - What cannot be removed is tried again and named, and `packer recover` removes it later.
//! - A call that is throttled is made again for a quarter of an hour, unless `max_retries` is set. Credentials that expire in the
//!   middle of a build are fetched anew where there are others.
//! - Keys of `vault_aws_engine` that were fetched when the template was checked serve the build too.
//! - An instance's host key is checked by what cloud-init prints on its console ([how](super::amazon#who-the-instance-is)).
//! - Waits begin with short pauses, and builds of one run share looks, credentials and clients.
//! - `decode_authorization_messages` decodes.
//! - Without `session-manager-plugin` a build that needs it fails at once, and a session is ended with the build.
//! - `capacity_reservation_id` and `capacity_reservation_group_arn` work; Packer crashes at them.
//! - `amazon-chroot` finds its volume under the name that the kernel has for it (NVMe); `nvme_device_path` is not needed.
//! - `AWS_ENDPOINT_URL` serves `amazon-chroot` and `amazon-instance` too.
//! - An import that fails leaves the image that the builder made, and nothing in the account.
//!
//! # Secrets
//!
//! - Passwords of the connection are masked in all output, also where the machine itself prints them.
//! - What `vault`, `consul_key` and `aws_secretsmanager` answer is sensitive; so is what the data sources
//!   `amazon-secretsmanager` and, of parameters that are a `SecureString`, `amazon-parameterstore` read.
//!
//! # The language
//!
//! - Lengths of texts follow the current Unicode standard; Packer's is of 2020.
//! - Parsing goes on behind a mistake: one run names all of them.
//! - There is more that a template may say ([extensions](crate::template::extensions): `for_each`, `when`, `inputs`, `test`,
//!   `artifacts`, `output`). All of it is opt-in; [`Template::portability`](crate::template::Template::portability), which is
//!   `packer validate -portable`, warns of each use.
//!
//! # `hcl2_upgrade`
//!
//! Where Packer's result is refused by Packer itself, or means something else than the old template, what is written here
//! means what the old one meant. The list of differences has every rule; the ones that are met most:
//!
//! - `override` of a provisioner is kept.
//! - `only` and `except` name sources as the new template names them, those of post-processors too. The old names match
//!   nothing there: `only` would leave a step out everywhere.
//! - A source's body does not come to refer to `build.*`, which does not exist there.
//! - What cannot stand in a name becomes `_`; a name that is taken gets a number.
//! - In known components texts become the lists, numbers and blocks that the component has.
//! - `{{vault}}`, `{{consul_key}}` and `{{aws_secretsmanager}}` become the functions of the same names.
//! - A part that cannot be converted leaves the others alone.
//!
//! # Plugins
//!
//! There are none to install: components are Rust types that are compiled into the host, or registered by it. `required_plugins`
//! are answered for what is [provided](crate::Registry::provides), whatever version they ask for; each is told as an event.
//! Packer's own plugins cannot be run.
//!
//! | Packer's Go SDK | here |
//! |---|---|
//! | `ConfigSpec`, `hcl2-schema`, `mapstructure` | `#[derive(Deserialize, JsonSchema)]` on the component |
//! | `Prepare` returns variables, warnings, error | [`prepare`](crate::Builder::prepare) and [`variables`](crate::Builder::variables) |
//! | `Run` of a builder: steps in a state bag, hooks | [`launch`](crate::Builder::launch) and [`capture`](crate::Machine::capture); the engine runs provisioners between them |
//! | `Cleanup` of each step | [`Context::own`](crate::Context::own) before, [`release`](crate::Builder::release) after |
//! | `multistep.StateBag` | fields of one's [`Machine`](crate::Machine) |
//! | `StepConnect`, `communicator.Config` | [`CommunicatorConfig`](crate::CommunicatorConfig), flattened, and [`connect`](crate::CommunicatorConfig::connect) |
//! | `generatedData`, `StateBag.Put` | [`Facts`](crate::Facts) |
//! | `packer.Ui` | [`Context::say`](crate::Context::say), [`step`](crate::Context::step), [`progress`](crate::Context::progress) |
//! | `interpolate.Context` | [`GoTemplate`](crate::config::GoTemplate), [`kit::render`](crate::kit::render()) |
//! | `packer.Artifact` with `Destroy` | [`Artifact`](crate::Artifact), data that owns resources |
//! | `packersdk.LogSecretFilter` | [`Secrets`](crate::Secrets) |
//! | `RegisterBuilder`, a process for each plugin | [`Registry::builder`](crate::Registry::builder), one process |
//! | acceptance tests | [`testing`](crate::testing): a suite for every trait |
//!
//! # The command line
//!
//! The library has none; the program `packer` in the folder `examples` answers Packer's commands and has `plan`, `cache`,
//! `recover` and `schema` beside them. A second Ctrl-C abandons cleanup and says what is left; `packer recover` releases it
//! later, also after `kill -9`.
//!
//! # What is not there
//!
//! HCP Packer (its blocks are read, and nothing is sent), Packer's plugins, Kerberos for WinRM, and the components that the
//! table "What works today" of the README does not list.
