//! A builder of one's own that can save the state of its machines and start from a saved one, so that finished steps are not
//! repeated. Its machine is a folder; a checkpoint is a copy of it.
//!
//! `cargo run --example checkpoints`
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

#[cfg(unix)]
mod folders {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use packer_core::testing::LocalMachine;
    use packer_core::{
        Artifact, Builder, CheckpointKey, Communicator, Context, Diagnostics, Error, Facts, Machine,
        PrepareContext, Prepared, Resource, Result, Value, async_trait, config, kit,
    };
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
    #[serde(default)]
    pub(super) struct Folders {
        /// The folder in which machines and checkpoints are.
        pub(super) world: PathBuf,
        /// The folder that a machine starts as.
        pub(super) base: PathBuf,
        /// Where the finished folder goes.
        pub(super) output: PathBuf,
    }

    impl Folders {
        /// A copy of a folder under a new name, in the ledger before it exists.
        async fn copy(&self, cx: &Context, kind: &str, from: &Path) -> Result<(Resource, PathBuf)> {
            let name = format!("{kind}-{:016x}", rand());
            let to = self.world.join(&name);
            let resource = Resource::new(kind, name).with_config(serde_json::json!({ "world": self.world }));
            cx.own(resource.clone(), copy_tree(cx, from, &to)).await?;
            Ok((resource, to))
        }

        async fn machine(&self, cx: &Context, from: &Path) -> Result<Box<dyn Machine>> {
            let (resource, path) = self.copy(cx, "machine", from).await?;
            let facts = Facts::new().id(&resource.name);
            Ok(Box::new(Open { builder: self.clone(), path, facts }))
        }
    }

    #[async_trait]
    impl Builder for Folders {
        async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
            Ok(Prepared::new())
        }

        async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
            self.machine(cx, &self.base).await
        }

        /// Starts from a saved state, which stays as it is.
        async fn resume(&self, cx: &Context, checkpoint: &Resource) -> Result<Box<dyn Machine>> {
            self.machine(cx, &self.world.join(&checkpoint.name)).await
        }

        async fn checkpoint_exists(&self, _: &Context, checkpoint: &Resource) -> Result<bool> {
            Ok(self.world.join(&checkpoint.name).exists())
        }

        /// Destroys machines and checkpoints alike.
        async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
            match std::fs::remove_dir_all(self.world.join(&resource.name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::io("remove", &resource.name, e))
                }
                _ => Ok(()),
            }
        }

        /// What a machine starts from, as content.
        async fn source_digest(&self, cx: &Context) -> Result<Option<String>> {
            kit::digest_files(cx, [&self.base]).await.map(Some)
        }

        fn config(&self) -> Option<Value> {
            config::to_value(self)
        }

        /// Another place for the result costs no step.
        fn capture_arguments(&self) -> &'static [&'static str] {
            &["output"]
        }
    }

    struct Open {
        builder: Folders,
        path: PathBuf,
        facts: Facts,
    }

    #[async_trait]
    impl Machine for Open {
        fn communicator(&self) -> Arc<dyn Communicator> {
            Arc::new(LocalMachine::new(&self.path))
        }

        fn facts(&self) -> &Facts {
            &self.facts
        }

        /// Saves the state. The machine goes on as if nothing had happened.
        async fn checkpoint(&self, cx: &Context, _: &CheckpointKey) -> Result<Option<Resource>> {
            let (checkpoint, _) = self.builder.copy(cx, "checkpoint", &self.path).await?;
            Ok(Some(checkpoint))
        }

        async fn capture(&self, cx: &Context) -> Result<Artifact> {
            let output = &self.builder.output;
            let result = Resource::directory(output);
            cx.own(result.clone(), copy_tree(cx, &self.path, output)).await?;
            // The artifact owns it, so it stays; discarding the artifact removes it.
            let mut artifact = Artifact::new("example.folders", output.to_string_lossy()).owning(result);
            artifact.generated_data.insert("ID".to_owned(), self.facts.text("ID").into());
            Ok(artifact)
        }
    }

    async fn copy_tree(cx: &Context, from: &Path, to: &Path) -> Result<()> {
        let arguments = ["-rT", &from.to_string_lossy(), &to.to_string_lossy()].map(str::to_owned);
        // Killed with all it started when the build is cancelled.
        match kit::shell::process::run(cx, "cp", &arguments).await?.success() {
            true => Ok(()),
            false => Err(Error::provider(format!("{} could not be copied", from.display()))),
        }
    }

    /// A number that no other process has.
    fn rand() -> u64 {
        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id())
    }
}

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use folders::Folders;
    use packer_core::engine::Cache;
    use packer_core::event::PackerLines;
    use packer_core::testing::FakeProvisioner;
    use packer_core::{Build, Engine, Pipeline, Registry};

    let folder = std::env::temp_dir().join(format!("packer-checkpoints-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("world"))?;
    std::fs::create_dir(folder.join("base"))?;
    std::fs::write(folder.join("base/release"), "base 12.4\n")?;

    // A later run may prune states that an earlier one has saved: with a builder of this name, from the ledger's words.
    let mut registry = Registry::new();
    registry.builder::<Folders>("folders");
    let cache = Cache::new(folder.join("cache"), registry);
    let engine = Engine::new().cache(cache).events(PackerLines::new(std::io::stderr()));

    for (output, last) in [("first", "echo red > colour"), ("second", "echo blue > colour")] {
        let builder =
            Folders { world: folder.join("world"), base: folder.join("base"), output: folder.join(output) };
        let build = Build::new("web", builder)
            .provision(FakeProvisioner::run("echo a step that takes its time; date > installed"))
            .provision(FakeProvisioner::run(last));
        let report = engine.run(Pipeline::of([build])).await?;
        if !report.succeeded() {
            return Err(format!("{:?}", report.builds[0].error).into());
        }
        let reused = report.builds[0].cache.as_ref().map_or(0, |cache| cache.reused());
        println!("{output}: {reused} of 2 steps taken from the cache");
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("the machine of this example is for Unix");
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    use packer_core::testing::{TempFolder, builder, checkpoints};
    use packer_core::{Host, Registry};

    use super::folders::Folders;

    fn outputs(folder: &Path) -> impl Fn() -> PathBuf {
        let (folder, number) = (folder.to_owned(), AtomicU32::new(0));
        move || folder.join(format!("output-{}", number.fetch_add(1, Ordering::Relaxed)))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_keeps_the_rules_of_builders_and_checkpoints() {
        let folder = TempFolder::new();
        let (world, base) = (folder.path().join("world"), folder.path().join("base"));
        std::fs::create_dir(&world).unwrap();
        std::fs::create_dir(&base).unwrap();
        std::fs::write(base.join("release"), "base").unwrap();
        let output = outputs(folder.path());
        let make = || Folders { world: world.clone(), base: base.clone(), output: output() };
        let mut registry = Registry::new();
        registry.builder::<Folders>("folders");
        builder::suite(make, &Host::new()).await;
        builder::recovers(make, &registry, &Host::new()).await;
        checkpoints::suite(make, &registry, &Host::new(), "marker").await;
        assert_eq!(std::fs::read_dir(&world).unwrap().count(), 0, "nothing is left");
    }
}
