//! Plans: what they say, and that making one changes nothing. That they come true is checked beside each case of the
//! cache.

use super::cache::Place;
use crate::diagnostic::Diagnostics;
use crate::engine::Engine;
use crate::pipeline::ProvisionerExt;
use crate::pipeline::{Build, Pipeline};
use crate::testing::{FakeBuilder, FakePostProcessor, FakeProvisioner, Trouble, Verb};

#[tokio::test]
async fn a_plan_has_the_order_and_the_configuration_of_a_run() {
    let place = Place::new();
    let image = Build::made_from("web", ["base"], place.builder(), {
        let builder = place.builder();
        move |_| Ok::<_, Diagnostics>(builder.clone())
    });
    let base = Build::new("base", place.builder())
        .provision(FakeProvisioner::run("echo hunter2").secret("T", "s").named("greet").max_retries(2))
        .provision(FakeProvisioner::run("true").only(["other"]))
        .on_error(FakeProvisioner::run("echo sorry"))
        .post_process(FakePostProcessor::passing(crate::Keep::Yes));
    let bad = Build::new("bad", place.builder().trouble(Verb::Prepare, Trouble::Fail));
    let pipeline = Pipeline::of([image.provision(FakeProvisioner::run("echo web")), base, bad]);
    pipeline.secrets.add("hunter2");
    let plan = place.engine().plan(&pipeline).await.unwrap();
    let names: Vec<&str> = plan.builds.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["base", "web", "bad"]);
    assert_eq!(plan.diagnostics.iter().next().unwrap().summary, "prepare failed");
    let world = place.path("world");
    assert_eq!(
        plan.to_string(),
        format!(
            "base\n  starts from its source with fake-builder\n    folder = {world:?}\n  1. fake greet: runs: it runs for \
             the first time\n       (up to 2 more tries)\n       command = \"echo <sensitive>\"\n       env = \
             {{\"T\":\"<sensitive>\"}}\n  if provisioning fails: fake\n       command = \"echo sorry\"\n       env = {{}}\n  \
             of the artifact: fake\n\nweb\n  runs when these have succeeded: base\n  starts from its source with \
             fake-builder\n    folder = {world:?}\n  1. fake: not known yet whether it runs: it is made from what base will \
             have made\n       command = \"echo web\"\n       env = {{}}\n\nbad\n  does not run: its configuration is wrong\n"
        )
    );
    assert!(!place.path("cache").exists(), "nothing was written");
    assert_eq!(place.kinds(), [] as [&str; 0]);
    assert!(place.recorder.events().is_empty());

    let json = serde_json::to_value(&plan).unwrap();
    let step = &json["builds"][0]["steps"][0];
    assert_eq!(step["reasons"][0]["reason"], "first_run");
    assert_eq!(step["reused"], false);
    assert_eq!(json["builds"][1]["steps"][0]["reused"], serde_json::Value::Null);
}

#[tokio::test]
async fn without_a_cache_a_plan_says_nothing_of_one() {
    let place = Place::new();
    let build = Build::new("a", FakeBuilder::new(place.path("world"))).provision(FakeProvisioner::run("x"));
    let plan = Engine::new().plan(&Pipeline::of([build.clone()])).await.unwrap();
    assert_eq!(plan.builds[0].steps[0].reused, None);
    assert!(plan.to_string().contains("  1. fake: runs\n"), "{plan}");
    let circle = Pipeline::of([build.after("b")]);
    assert!(Engine::new().plan(&circle).await.unwrap_err().has_errors());
}

#[tokio::test]
async fn a_plan_sees_that_a_saved_state_is_gone() {
    let place = Place::new();
    let build = || Build::new("a", place.builder()).provision(Place::step("1")).provision(Place::step("2"));
    place.run(build()).await;
    let plan = place.plan(&build()).await;
    let state = plan.builds[0].starts_from.clone().unwrap();
    assert_eq!(place.cache().list().unwrap()[0].resource, state);
    std::fs::remove_dir_all(place.path("world").join(&state.name)).unwrap();
    let plan = place.plan(&build()).await;
    assert_ne!(plan.builds[0].starts_from.clone().unwrap(), state);
    assert_eq!(
        plan.builds[0].steps[1].reasons[0].to_string(),
        "the state saved behind it cannot be used: it is not there any more"
    );
    assert_eq!(place.cache().list().unwrap().len(), 2, "a plan takes nothing off the list");
    place.as_planned(build()).await;
}
