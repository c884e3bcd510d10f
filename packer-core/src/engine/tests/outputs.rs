//! Outputs: made when the builds are done, of what they made.

use super::*;
use crate::diagnostic::Diagnostic;
use crate::event::EventKind;
use crate::pipeline::Output;
use crate::secrets::Secrets;
use crate::testing::{Trouble, Verb};
use crate::value::Value;

fn count(name: &str, needs: &[&str]) -> Output {
    Output::new(name, needs.iter().copied(), |values| {
        Ok(Value::from(values.artifacts.values().map(|all| all.len() as i64).sum::<i64>()))
    })
}

#[tokio::test]
async fn they_see_what_the_builds_made() {
    let world = World::new();
    let mut pipeline = Pipeline::of([Build::new("a", world.builder()), Build::new("b", world.builder())])
        .output(count("all", &[]))
        .output(Output::new("secret", ["a"], |_| Ok(Value::from("x").sensitive())))
        .output(Output::new("known", ["a"], |_| Ok(Value::from("the hunter2 text"))));
    pipeline.secrets = Secrets::new();
    pipeline.secrets.add("hunter2");
    let report = world.engine().run(pipeline).await.unwrap();
    assert!(report.succeeded());
    assert_eq!(report.outputs.get("all").and_then(Value::as_i64), Some(2));
    assert_eq!(report.outputs.get("known").and_then(Value::as_str), Some("the hunter2 text"));
    let events = world.recorder.events();
    let told = events.iter().find_map(|e| match &e.kind {
        EventKind::Outputs { outputs } => Some(serde_json::to_string(outputs).unwrap()),
        _ => None,
    });
    let expected = r#"{"all":2,"known":"the <sensitive> text","secret":"<sensitive>"}"#;
    assert_eq!(told.as_deref(), Some(expected));
    assert!(matches!(events.last().unwrap().kind, EventKind::RunFinished { .. }));
    assert!(!serde_json::to_string(&report).unwrap().contains("\"x\""));
}

#[tokio::test]
async fn without_its_builds_there_is_none() {
    let world = World::new();
    let failing = world.builder().trouble(Verb::Launch, Trouble::Fail);
    let pipeline = Pipeline::of([Build::new("a", world.builder()), Build::new("b", failing)])
        .output(count("all", &[]))
        .output(count("of_a", &["a"]))
        .output(count("of_b", &["b"]))
        .output(count("of_none", &["c"]));
    let report = world.engine().run(pipeline).await.unwrap();
    let made: Vec<&str> = report.outputs.iter().map(|(name, _)| name).collect();
    assert_eq!(made, ["all", "of_a"]);
    let told: Vec<&str> = report.diagnostics.iter().map(|d| d.summary.as_str()).collect();
    assert_eq!(told, ["No output \"of_b\"", "No output \"of_none\""]);
    assert!(!report.diagnostics.has_errors());
}

#[tokio::test]
async fn one_that_cannot_be_made_is_a_failure() {
    let world = World::new();
    let wrong = Output::new("o", ["a"], |_| Err(Diagnostic::error("it is not there").into()));
    let pipeline = Pipeline::of([Build::new("a", world.builder())]).output(wrong);
    let report = world.engine().run(pipeline).await.unwrap();
    assert!(!report.succeeded() && report.outputs.is_empty());
    assert_eq!(report.build("a").unwrap().status, crate::engine::Status::Succeeded);
    let told =
        |e: &crate::Event| matches!(&e.kind, EventKind::Diagnostic { diagnostic } if diagnostic.is_error());
    assert!(world.recorder.events().iter().any(told));
}
