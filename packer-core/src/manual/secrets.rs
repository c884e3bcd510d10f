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
//! accident.
//!
//! # One place where everything passes
//!
//! [`Secrets`](crate::Secrets) are the texts of a run that must not be shown. Events, errors and reports are scrubbed of them before
//! a sink or the caller sees them. Into it come by themselves: sensitive values of a template, what
//! [`Secret`](crate::Secret) fields of its blocks hold, what Vault, Consul and Secrets Manager answered, and the passwords and
//! keys that a communicator connects with; of a component that is made in code, what is marked in its
//! [`config()`](crate::Builder::config). All else a component registers when it learns it:
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
//! Of a text of several lines each line counts by itself, since output is scrubbed line by line. Derived forms are not known:
//! register the Base64 of a password too where it will be shown.
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
//! Scrubbing finds texts, not meanings: a machine that prints a password backwards prints it. A secret of fewer than eight
//! characters, or six digits, is hidden in values and in what commands print, but in sentences and names only where it is no
//! part of a word. The files that a template or a provisioner writes are the user's own business; they are written as they are.
