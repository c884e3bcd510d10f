//! Secrets: what is scrubbed, and what a component does for it.
//!
//! # Two marks
//!
//! A **value** of a template is sensitive when its variable says so, when a function for secrets gave it, or when it was made
//! of one that is. The mark stays on through all of evaluation: a text with a sensitive part is sensitive.
//! [`Value::sensitive`](crate::Value::sensitive) sets it in code.
//!
//! A **field** of a component that holds a secret is a [`Secret`](crate::Secret): `Debug` and serialization show
//! `<sensitive>`, [`reveal`](crate::Secret::reveal) gives the text. So it cannot end in a log, a ledger or an artifact by
//! accident. A field of another type is declared secret in its schema: `#[schemars(extend("writeOnly" = true))]`. What is
//! declared so is secret whatever its value came from, a literal or an ordinary variable; of what code sets, fields of the type
//! `Secret` are, and what else a component's `config` marks.
//!
//! # One place where everything passes
//!
//! [`Secrets`](crate::Secrets) are the texts of a run that must not be shown. Events, errors and reports are scrubbed of them before
//! a sink or the caller sees them. Into it come by themselves:
//!
//! - sensitive values of a template, and what is made of them as far as it reaches a component's configuration and can be told
//!   apart (the Base64 of a token, a header with it; not its first two characters);
//! - what components declare secret, when a template's block is read, also where that fails, and when a pipeline written in
//!   code is prepared;
//! - the passwords and tokens inside of URLs: of configurations, and of what the host lends (a proxy's);
//! - what Vault, Consul and Secrets Manager answered, credentials of registries, and the passwords and keys that a
//!   communicator connects with.
//!
//! All else a component registers when it learns it:
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use packer_core::Context;
//! # async fn ask_for_token() -> String { "t0ken-4711".into() }
//!
//! async fn log_in(cx: &Context) {
//!     let token = ask_for_token().await;
//!     cx.secrets().add(&token); // before anything else is done with it
//!     cx.say(format!("logged in with {token}"));
//! }
//!
//! let bench = packer_core::testing::Bench::new();
//! log_in(bench.context()).await;
//! assert_eq!(bench.recorder().lines(), ["logged in with <sensitive>"]);
//! # });
//! ```
//!
//! A [`Secret`](crate::Secret) field needs it only where the component does not say its `config()`.
//!
//! Of a text of several lines each line counts by itself, since output is scrubbed line by line; a long one is also found as it
//! stands in a URL and in JSON. What a component itself makes of a secret is not known: register the Base64 of a
//! password too where it will be shown.
//!
//! **Short ones.** A text of eight characters and more, or of six digits and more, is replaced wherever it stands. A shorter one
//! is replaced anywhere in values and in what commands print, but in sentences of this library and in names only where it is no part of a
//! word, or every `an` would go with the password `an`. A warning says so once: for words that stand everywhere (fewer than
//! four characters, `true`) with the findings of the pipeline, for all others as
//! [`EventKind::SecretTooShort`](crate::EventKind::SecretTooShort), which lines of Packer's layout do not show. `plan` warns of both.
//!
//! **Cuts.** No part of a secret is shown where a text is cut because it is too long: [`LineWriter`](crate::communicator::LineWriter) holds
//! back what may become one, and what a program says of a failure is cut between lines
//! ([`first_lines`](crate::secrets::first_lines)).
//!
//! **Files of variables** are values, of which nobody knows yet whether they are secret when something is wrong with the file.
//! Findings about them, and about values on the command line, show the name of the variable and `***`; those about a
//! template that cannot be read hide the values beside names such as `password` and `token`.
//!
//! # What a component promises
//!
//! - **No secret in a [`Resource`](crate::Resource)**: neither in its name, nor in `details`, nor in `config`. The later process
//!   that releases it takes credentials from what its host lends: a file, a variable, a role.
//! - **None in an [`Artifact`](crate::Artifact)** either; post-processors that need one have it in their own configuration.
//! - **None on a command line**, of this computer or of the machine, where other users may read it: environment, standard
//!   input, or a file that only its owner may read ([`Context::temp_file`](crate::Context::temp_file) with `0o600`).
//! - **Facts that are secret are marked**, so that what templates make of them is sensitive too, and registered as above:
//!   `facts.with("Token", Value::from(token).sensitive())`.
//! - **Text that leaves on other ways is scrubbed by hand**: `cx.secrets().scrub(text)` for a log file that a component
//!   writes itself.
//!
//! ```
//! use packer_core::{Facts, Secret, Value, config};
//! use serde::Serialize;
//!
//! #[derive(Debug, Clone, Default, Serialize)]
//! struct Login { user: String, password: Secret }
//!
//! let login = Login { user: "admin".into(), password: "hunter2".into() };
//! assert!(!format!("{login:?}").contains("hunter2"));
//! assert_eq!(serde_json::to_value(&login).unwrap()["password"], "<sensitive>");
//! // `config()` of a component keeps the mark: a plan masks it, a written-out template makes a variable of it.
//! assert!(config::to_value(&login).unwrap().get("password").unwrap().is_sensitive());
//!
//! let facts = Facts::new().password("hunter2").with("Token", Value::from("t0ken").sensitive());
//! assert!(facts.get("Password").unwrap().is_sensitive() && facts.get("Token").unwrap().is_sensitive());
//! ```
//!
//! # What a host does
//!
//! Values of its own go in marked ([`Inputs::value`](crate::template::Inputs::value) with a sensitive value). Texts that it knows
//! beside the template's it adds to [`Pipeline::secrets`](crate::Pipeline::secrets):
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use packer_core::testing::{FakeBuilder, FakeProvisioner, Recorder, TempFolder};
//! use packer_core::{Build, Engine, Pipeline};
//!
//! let (folder, heard) = (TempFolder::new(), Recorder::new());
//! let build = Build::new("web", FakeBuilder::new(folder.path())).provision(FakeProvisioner::run("echo it is hunter2"));
//! let pipeline = Pipeline::of([build]);
//! pipeline.secrets.add("hunter2");
//! Engine::new().events(heard.clone()).run(pipeline).await.unwrap();
//! assert!(heard.lines().contains(&"it is <sensitive>".to_owned()));
//! # });
//! ```
//!
//! # What it cannot do
//!
//! Scrubbing finds texts, not meanings: a machine that prints a password backwards prints it, and a finding about a template
//! that cannot be read shows the literal password that stands beside the name `note`. The files that a template or a
//! provisioner writes are the user's own business; they are written as they are.
