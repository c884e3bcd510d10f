//! The steps of a template with a cache: what of them counts, and what a plan and a run say.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]
#![cfg(all(unix, feature = "shell", feature = "file", feature = "sleep", feature = "shell-local"))]

use std::path::{Path, PathBuf};

use packer_core::engine::{Cache, Plan, Reason};
use packer_core::template::{Inputs, Template};
use packer_core::testing::{FakeBuilder, Recorder, TempFolder};
use packer_core::{Engine, Host, Pipeline, Registry};

struct Place {
    folder: TempFolder,
    recorder: Recorder,
}

impl Place {
    fn new() -> Self {
        let folder = TempFolder::new();
        std::fs::create_dir(folder.path().join("world")).unwrap();
        Self { folder, recorder: Recorder::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn registry() -> Registry {
        let mut registry = Registry::new();
        registry.builder::<FakeBuilder>("fake-builder");
        packer_provisioners::register(&mut registry);
        registry
    }

    async fn pipeline(&self, steps: &str, inputs: Inputs) -> Pipeline {
        let text = format!(
            r#"
            variable "token" {{
              default   = "none"
              sensitive = true
            }}
            source "fake-builder" "a" {{
              folder = "{}"
              source = "image-1"
            }}
            build {{
              sources = ["fake-builder.a"]
              {steps}
            }}
            "#,
            self.path("world").display()
        );
        let file = self.path("t.pkr.hcl");
        std::fs::write(&file, text).unwrap();
        let template = Template::load(&file).unwrap();
        template.evaluate(&Self::registry(), inputs).await.unwrap()
    }

    fn engine(&self) -> Engine {
        let mut host = Host::new();
        host.temp_dir = self.folder.path().to_owned();
        let cache = Cache::new(self.path("cache"), Self::registry());
        Engine::new().host(host).events(self.recorder.clone()).cache(cache)
    }

    /// Plans and runs; gives the plan, and why each step ran (nothing where it did not).
    async fn run_with(&self, steps: &str, inputs: Inputs) -> (Plan, Vec<String>) {
        let pipeline = self.pipeline(steps, inputs).await;
        let plan = self.engine().plan(&pipeline).await.unwrap();
        let report = self.engine().run(pipeline).await.unwrap();
        assert!(report.succeeded(), "{:?}", report.builds[0].error);
        let words = |reasons: &[Reason]| reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join("; ");
        let ran: Vec<String> =
            report.builds[0].cache.as_ref().unwrap().steps.iter().map(|s| words(&s.reasons)).collect();
        let planned: Vec<String> = plan.builds[0].steps.iter().map(|s| words(&s.reasons)).collect();
        // What is another value each time it is asked for is another one in the plan too.
        assert!(planned == ran || steps.contains("uuidv4"), "the plan comes true: {planned:?}, {ran:?}");
        (plan, ran)
    }

    async fn run(&self, steps: &str) -> Vec<String> {
        self.run_with(steps, Inputs::new()).await.1
    }
}

fn shell(folder: &Path, more: &str) -> String {
    format!(
        r#"provisioner "shell" {{
             remote_folder = "{}"
             {more}
           }}
        "#,
        folder.display()
    )
}

#[tokio::test]
async fn scripts_files_and_configuration_count() {
    let place = Place::new();
    let script = place.path("setup.sh");
    std::fs::write(&script, "echo script >> log\n").unwrap();
    std::fs::create_dir(place.path("conf")).unwrap();
    std::fs::write(place.path("conf/app"), "1").unwrap();
    let steps = |inline: &str| {
        let file = format!(
            "provisioner \"file\" {{\n source = \"{}/\"\n destination = \"conf\"\n }}\n",
            place.path("conf").display()
        );
        shell(place.folder.path(), &format!("script = \"{}\"", script.display()))
            + &file
            + "provisioner \"sleep\" {\n duration = \"1ms\"\n }\n"
            + &shell(place.folder.path(), &format!("inline = [\"{inline}\"]\n max_retries = 1"))
    };
    place.run(&steps("cat log conf/app")).await;
    assert_eq!(place.run(&steps("cat log conf/app")).await, ["", "", "", ""]);
    let why = "configuration field inline changed from [\"cat log conf/app\"] to [\"cat conf/app log\"]";
    assert_eq!(place.run(&steps("cat conf/app log")).await, ["", "", "", why]);
    std::fs::write(place.path("conf/app"), "2").unwrap();
    let again = "a step before it runs again";
    let why = format!("file {} changed", place.path("conf/app").display());
    assert_eq!(place.run(&steps("cat conf/app log")).await, ["", &why, again, again]);
    std::fs::write(&script, "echo other >> log\n").unwrap();
    let why = format!("file {} changed", script.display());
    assert_eq!(place.run(&steps("cat conf/app log")).await, [&why, again, again, again]);
    assert!(place.recorder.lines().ends_with(&["2other".to_owned()]), "{:?}", place.recorder.lines());
}

#[tokio::test]
async fn values_of_the_run_and_of_this_moment_are_told() {
    let place = Place::new();
    let first = shell(place.folder.path(), "inline = [\"echo ${build.name} >> log\"]");
    let steps = first.clone()
        + &shell(place.folder.path(), "inline = [\"echo ${build.ID}\"]")
        + &shell(place.folder.path(), "inline = [\"true\"]");
    place.run(&steps).await;
    let again = "a step before it runs again";
    assert_eq!(place.run(&steps).await, ["", "it needs build.ID, known only when it runs", again]);
    let steps = first.clone() + "provisioner \"shell-local\" {\n inline = [\"true\"]\n }\n";
    place.run(&steps).await;
    assert_eq!(place.run(&steps).await, ["", "what its outcome depends on cannot be known"]);
    let steps = first + &shell(place.folder.path(), "inline = [\"echo ${uuidv4()}\"]");
    place.run(&steps).await;
    let ran = place.run(&steps).await;
    assert!(ran[1].starts_with("configuration field inline changed from [\"echo "), "{ran:?}");
}

#[tokio::test]
async fn what_a_secret_was_made_of_is_masked() {
    let place = Place::new();
    let steps = shell(
        place.folder.path(),
        "inline = [\"true\"]\n env = { PLAIN = var.token, MADE = base64encode(\"${var.token}!\") }",
    );
    let run = async |token: &str| place.run_with(&steps, Inputs::new().var("token", token)).await;
    run("horse-battery").await;
    let (plan, ran) = run("staple-correct").await;
    assert_eq!(
        ran,
        ["configuration field env.MADE changed (it shows as \"<sensitive>\" before and after); \
          configuration field env.PLAIN changed (it shows as \"<sensitive>\" before and after)"]
    );
    assert!(
        plan.to_string().contains("env = {\"MADE\":\"<sensitive>\",\"PLAIN\":\"<sensitive>\"}"),
        "{plan}"
    );
    let index = std::fs::read_to_string(place.path("cache/index")).unwrap();
    for secret in ["horse", "staple", "aG9yc2", "c3RhcGxl"] {
        assert!(!index.contains(secret) && !plan.to_string().contains(secret), "{secret}");
    }
    assert_eq!(run("staple-correct").await.1, [""]);
}

#[tokio::test]
async fn the_template_can_say_what_a_step_depends_on() {
    let place = Place::new();
    std::fs::write(place.path("packages.txt"), "1").unwrap();
    let steps = |last: &str| {
        format!(
            r#"
            provisioner "shell-local" {{
              inline = ["true ${{build.ID}}"]
              inputs = ["packages.txt"]
            }}
            provisioner "shell" {{
              remote_folder = "{}"
              inline        = ["true"]
              {last}
            }}
            "#,
            place.folder.path().display()
        )
    };
    place.run(&steps("")).await;
    assert_eq!(place.run(&steps("")).await, ["", ""]);
    assert_eq!(place.run(&steps("volatile = true")).await, ["", "it is marked volatile"]);
    std::fs::write(place.path("packages.txt"), "2").unwrap();
    let why = format!("file {} changed", place.path("packages.txt").display());
    assert_eq!(place.run(&steps("")).await, [&why, "a step before it runs again"]);
}
