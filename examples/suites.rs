//! The tests of components of one's own: `packer_core::testing` has a suite for every trait, which tries out what a person
//! would not think of: cancellation at every event, releasing twice, recovery from the ledger alone.
//!
//! In a crate of one's own: `[dev-dependencies] packer-core = { version = "0.1", features = ["testing"] }`.
//!
//! `cargo test --example suites`
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests stop at the first surprise"))]

use std::path::{Path, PathBuf};

use packer_core::{
    Artifact, CommunicatorExt, Context, Error, Machine, PostProcessor, Processed, Provisioner, Result,
    WholeFile, async_trait,
};

#[cfg(test)]
mod rented;

/// A provisioner that runs one command.
#[derive(Debug)]
pub struct Run(pub String);

#[async_trait]
impl Provisioner for Run {
    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        match machine.communicator().run(cx, &self.0).await?.success() {
            true => Ok(()),
            false => Err(Error::guest(format!("{:?} failed", self.0))),
        }
    }
}

/// A post-processor that writes the size of an artifact's files into a file.
#[derive(Debug)]
pub struct Sizes(pub PathBuf);

#[async_trait]
impl PostProcessor for Sizes {
    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        let size = |path: &Path| path.metadata().map(|m| m.len()).map_err(|e| Error::io("stat", path, e));
        let mut list = WholeFile::create(cx, &self.0, 0o644)?;
        for path in &artifact.files {
            let line = format!("{} {}\n", size(path)?, path.display());
            std::io::Write::write_all(&mut list, line.as_bytes())
                .map_err(|e| Error::io("write", &self.0, e))?;
        }
        list.commit()?;
        Ok(Processed::beside(Artifact::new("example.sizes", "").file(&self.0)))
    }
}

#[expect(clippy::print_stdout, reason = "it is a program for a terminal")]
fn main() {
    println!("The tests are what this example is about: cargo test --example suites");
}

#[cfg(test)]
mod tests {
    use packer_core::testing::{TempFolder, builder, post_processor, provisioner};
    use packer_core::{Host, Registry};

    use super::*;
    use crate::rented::Rented;

    // Try it in rented.rs: write the file before `own`, leave `with_config` out, or make `release` fail where there is no
    // file. Each time a suite says which rule is broken.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_builder_cleans_up_whatever_happens() {
        let folder = TempFolder::new();
        let make = || Rented { folder: folder.path().to_owned() };
        builder::suite(make, &Host::new()).await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_later_process_releases_what_it_left() {
        let folder = TempFolder::new();
        let make = || Rented { folder: folder.path().to_owned() };
        let mut registry = Registry::new();
        registry.builder::<Rented>("rented"); // what `type_name` makes of the struct's name
        builder::recovers(make, &registry, &Host::new()).await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[tokio::test(flavor = "multi_thread")]
    async fn the_provisioner_bears_a_second_try_and_cancellation() {
        provisioner::suite(&Run("mkdir -p www && echo hello > www/index.html".to_owned())).await;
    }

    #[tokio::test]
    async fn the_post_processor_leaves_its_input_alone() {
        let folder = TempFolder::new();
        let image = folder.path().join("image");
        std::fs::write(&image, "12345").unwrap();
        let artifact = Artifact::new("test", "").file(&image);
        let sizes = Sizes(folder.path().join("sizes"));
        post_processor::suite(&sizes, &artifact).await;
        let expected = format!("5 {}\n", image.display());
        assert_eq!(std::fs::read_to_string(&sizes.0).unwrap(), expected);
    }
}
