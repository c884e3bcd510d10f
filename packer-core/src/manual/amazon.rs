//! Amazon's EC2: the account, waiting, what is in the ledger, and components of one's own that call AWS.
//!
//! The builders `amazon-ebs`, `amazon-ebssurrogate`, `amazon-ebsvolume`, `amazon-chroot` and `amazon-instance` and the data sources
//! `amazon-ami`, `amazon-secretsmanager` and `amazon-parameterstore` are the feature `amazon` of `packer-builders`, the
//! post-processor `amazon-import` is a feature of `packer-postproc`. Templates, pipelines for CI and a program are in
//! `examples/amazon` and `examples/amazon_image.rs`; what differs from Packer is told
//! [on its own page](super::coming_from_packer#amazon).
//!
//! # The account
//!
//! All of them, and components of one's own, have an [`AccessConfig`](crate::aws::AccessConfig) among their options. What it does
//! not say is found as AWS's own tools find it, in this order:
//!
//! 1. the keys of the options, or those that Vault makes (`vault_aws_engine`);
//! 2. variables: `AWS_ACCESS_KEY_ID` and its companions, or a role for a token (`AWS_WEB_IDENTITY_TOKEN_FILE` and
//!    `AWS_ROLE_ARN`, as pods and jobs of CI have them), unless the options name a profile;
//! 3. the profile: keys, `source_profile` and `credential_source`, a token, single sign-on (after `aws sso login`),
//!    `credential_process`;
//! 4. the container, then the instance that this runs on.
//!
//! With `assume_role` the credentials take that role on. What expires is fetched anew in time, and once more when AWS says in
//! the middle of a build that it is over; so a build may take longer than its credentials. Keys that a pipeline puts into
//! variables cannot be fetched anew: let them be good for as long as the longest build takes.
//!
//! Variables, files and the home folder are those that the host lends ([`Host`](crate::Host)). The
//! [`Session`](crate::aws::Session) that a component opens is shared by all builds of a run that have the same options: they
//! find and check credentials once, and have one client.
//!
//! ```
//! # #[cfg(not(all(feature = "aws-requests", feature = "testing")))] fn main() {}
//! # #[cfg(all(feature = "aws-requests", feature = "testing"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> packer_core::Result<()> {
//! use packer_core::Host;
//! use packer_core::aws::AccessConfig;
//! # use packer_core::testing::Bench;
//!
//! let variables = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")];
//! let host = Host::from_env(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
//! # let bench = Bench::with_host(host);
//! # let cx = bench.context();
//! let mut access = AccessConfig::in_region("eu-central-1");
//! access.skip_credential_validation = true; // nobody asks AWS whether they are good
//! let session = access.session(cx).await?;
//! assert_eq!(session.credentials().await?.access_key, "AKIDEXAMPLE");
//! // The same account elsewhere.
//! assert_eq!(session.in_region("us-east-1").region(), "us-east-1");
//! // The secret is known to be one from now on.
//! assert!(!cx.secrets().scrub("the key wJalrXUtnFEMI/K7MDENG").contains("wJalr"));
//! # Ok(())
//! # }
//! ```
//!
//! `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_EC2`, `…_S3` and so on lead all of it to another place, a test server for instance;
//! `custom_endpoint_ec2` leads EC2 there, in the region of the build.
//!
//! # Calls
//!
//! [`Session::json`](crate::aws::Session::json) and [`query`](crate::aws::Session::query) sign calls of the small services (STS,
//! IAM, SSM, Secrets Manager, KMS, ECR), `s3_put` and `s3_delete` move files. They need the feature `aws-requests`. EC2 has
//! Amazon's own client, with a type for each answer, behind the feature `aws-ec2`: its crate takes minutes and gigabytes to
//! compile. [`Ec2::ask`](crate::aws::ec2::Ec2::ask) makes a call with it, and again where it was throttled, did not arrive
//! or came with credentials that were over. So what it is given must do no harm when it comes twice: whatever creates
//! something has a client token or a name of its own, which was in the ledger before.
//!
//! What AWS refused is a [`Refused`](crate::aws::ec2::Refused) with AWS's code, and becomes an [`Error`](crate::Error) that says
//! whose fault it looks like: a quota, missing rights, a network.
//!
//! # Waiting
//!
//! [`Pace`](crate::aws::ec2::Pace) looks until something is as it should be. Looks begin half a second apart and end five seconds
//! apart; `aws_polling`, and the variables that AWS's tools have for it, win. Each change of what is seen is told as
//! [`Waiting`](crate::EventKind::Waiting), in AWS's own words, with how long it may take: the timeline draws it. Looks that several
//! builds make in the same moment are one call, so that twenty builds do not ask twenty times.
//!
//! ```
//! # #[cfg(feature = "aws-ec2")] mod waiting {
//! use std::time::Duration;
//!
//! use packer_core::aws::ec2::{Ec2, Pace, Seen};
//! use packer_core::{Context, Result};
//!
//! /// Waits until a volume is on no instance.
//! pub async fn is_free(cx: &Context, ec2: &Ec2, id: &str) -> Result<()> {
//!     let look = || async {
//!         let Some(volume) = ec2.volume(id).await? else { return Ok(Seen::Unknown) };
//!         let state = volume.state().map_or("", |state| state.as_str());
//!         Ok(if state == "available" { Seen::Done(()) } else { Seen::Underway(state.to_owned()) })
//!     };
//!     let pace = Pace::new(&ec2.session().polling(), Duration::from_secs(200));
//!     pace.wait(cx, &format!("volume {id}"), "the volume is still in use", look).await
//! }
//! # }
//! ```
//!
//! # What is in the ledger
//!
//! What a build makes in the account is in its ledger before the call that makes it. The entry holds what a later process needs to
//! find it, also where the answer to that call was lost. (A session of the session manager is noted with its id: one that nobody
//! has heard of ends by itself.)
//!
//! | what | is found by |
//! |---|---|
//! | key pair, security group, launch template; role and instance profile of IAM | a name that nobody else has |
//! | instance | the client token of the call; of a spot instance the launch template |
//! | volumes that the instance leaves behind, sessions of the session manager | their ids |
//! | volume of `amazon-chroot` | the same call with the same client token, which makes no second one |
//! | snapshot | its volume and its description |
//! | image, with its snapshots, in each region | its name, and the instance, snapshots, image or bundle that it is made of |
//! | file in S3 | its address, and what was there before, which stays |
//! | task that imports an image | the same call with the same client token |
//!
//! Names of things are not taken for proof: an image of the same name that was made of something else is somebody else's, and
//! stays. The entry also says how the account is entered, without secrets: profile, role, region. A later process (`packer
//! recover`, [`Engine::recover_all`](crate::Engine::recover_all)) finds the credentials for that by itself; keys that stood in
//! the template it does not have.
//!
//! ```
//! # #[cfg(feature = "aws-requests")] {
//! use packer_core::Resource;
//! use packer_core::aws::AccessConfig;
//!
//! let mut access = AccessConfig::default();
//! access.profile = "images".to_owned();
//! access.token = "a token that is secret".into();
//! let volume = Resource::new("volume", "packer-1f3a").with_config(access.for_recovery("eu-central-1"));
//! let entry = serde_json::to_string(&volume).unwrap();
//! assert!(entry.contains("images") && entry.contains("eu-central-1"));
//! assert!(!entry.contains("a token"));
//! # }
//! ```
//!
//! An image leaves the ledger when the build returns it. Until then a failure takes all of it back: the image that failed while it
//! was waited for, and the copies in other regions.
//!
//! # Who the instance is
//!
//! Nobody has seen the instance's host key before. cloud-init prints it on the console, where EC2 reads it: the build connects,
//! looks there, and logs in only when the instance has shown one of these keys. It waits at most a minute for it; where an image
//! prints no keys, or `ec2:GetConsoleOutput` is not allowed, the key counts as
//! [unchecked](crate::EventKind::HostKeyUnchecked), which is told. `ssh_host_key` and `ssh_known_hosts_file` go before that.
//! A builder of one's own gives such a source to [`Target::host_key_source`](crate::Target::host_key_source).
//!
//! With `ssh_interface = "session_manager"` the instance needs no way in from outside; AWS's program `session-manager-plugin` must be
//! in the search path.
//!
//! # Data sources
//!
//! `amazon-ami` finds an image as `source_ami_filter` does, once for all that use it. What `amazon-secretsmanager` reads, and
//! `amazon-parameterstore` of a `SecureString`, is [sensitive](super::secrets) from the start. `packer validate` reads none of them
//! unless it is told to (`-evaluate-datasources`).
//!
//! ```hcl
//! data "amazon-ami" "debian" {
//!   owners      = ["136693071363"]
//!   most_recent = true
//!   filters     = { name = "debian-12-amd64-*" }
//! }
//!
//! source "amazon-ebs" "web" {
//!   source_ami = data.amazon-ami.debian.id
//!   # …
//! }
//! ```
//!
//! # Images that were made elsewhere
//!
//! `amazon-import` takes the first file of an artifact that has the form (`ova`, `raw`, `vmdk`, `vhd`, `vhdx`), puts it into S3,
//! in parts where it is large, has EC2 make an image of it, names, tags and shares that, and takes the file away again. The account needs the
//! role `vmimport`, of which Amazon's documentation for VM Import says what it may. A failing import leaves what the builder
//! made in place, and takes away what it has put into the account.
//!
//! ```hcl
//! build {
//!   sources = ["qemu.web"] # format = "raw", vm_name = "web.raw"
//!
//!   post-processor "amazon-import" {
//!     s3_bucket_name = "acme-images"
//!     format         = "raw"
//!     ami_name       = "web-1.2"
//!   }
//! }
//! ```
