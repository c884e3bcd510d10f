//! What a step depends on, found out before it runs: its configuration and the files it reads, or why they cannot be
//! known.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use regex::Regex;

use crate::engine::guard;
use crate::event::Reason;
use crate::facts::Facts;
use crate::pipeline::{Build, Decoded, ProvisionStep, RunValues};
use crate::provisioner::{Provisioner, StepInputs};
use crate::value::Value;

/// What counts of a step beside what was there before it.
pub(crate) struct Described {
    pub(crate) config: Value,
    pub(crate) files: Vec<PathBuf>,
}

/// Whether the step is what it will be whatever the machine: what it was made of before counts when it has run too.
pub(crate) fn is_fixed(step: &ProvisionStep) -> bool {
    step.provisioner.reads().is_some_and(<[String]>::is_empty)
}

/// Describes a step that has not run. `own` are the names of values that its builder adds to the common ones.
pub(crate) fn describe(
    build: &Build,
    step: &ProvisionStep,
    own: &[String],
    values: &RunValues,
) -> Result<Described, Reason> {
    let late = &step.provisioner;
    let made = match late.reads() {
        Some([]) => guard::unwound_call(|| late.make_decoded(values))
            .map_err(|message| Reason::Unreadable { error: message })?
            .map_err(|findings| Reason::Unreadable { error: findings.to_string() })?,
        // The user knows better: what is not known yet does not count.
        _ if step.inputs.is_some() => {
            Decoded { component: late.preview().clone(), config: late.preview_config().cloned() }
        }
        reads => {
            let names = reads.unwrap_or_default().to_vec();
            return Err(Reason::RunValues { names });
        }
    };
    describe_made(build, step, own, &made.component, made.config)
}

/// Describes a step by the provisioner that it is made to.
pub(crate) fn describe_made(
    build: &Build,
    step: &ProvisionStep,
    own: &[String],
    provisioner: &Arc<dyn Provisioner>,
    config: Option<Value>,
) -> Result<Described, Reason> {
    let inputs = match &step.inputs {
        Some(declared) => declared.clone(),
        None => guard::unwound_call(|| provisioner.inputs()).unwrap_or(StepInputs::Volatile),
    };
    let StepInputs::Files(files) = inputs else {
        return Err(Reason::Volatile { marked: step.inputs.is_some() });
    };
    let config = config.or_else(|| guard::unwound_call(|| provisioner.config()).unwrap_or_default());
    let Some(mut config) = config else {
        return Err(Reason::NoConfiguration { component: step.kind.clone() });
    };
    let rendered = rendered_late(&config, own);
    if step.inputs.is_none() && !rendered.changing.is_empty() {
        return Err(Reason::RunValues { names: rendered.changing.into_iter().collect() });
    }
    if rendered.user && !build.info.user_variables.is_empty() {
        let variables = build.info.user_variables.iter();
        let variables = Value::object(variables.map(|(name, text)| (name.as_str(), Value::text(text))));
        let fields = config.as_map().cloned().unwrap_or_default();
        config = Value::object(fields.into_iter().chain([("{{user}}".into(), variables)]));
    }
    Ok(Described { config, files })
}

/// What the `{{ … }}` say that are rendered only when the step runs.
#[derive(Default)]
struct Rendered {
    /// Those whose value is another one each time, or is known only then.
    changing: BTreeSet<String>,
    /// Whether a variable of a legacy template is among them.
    user: bool,
}

fn rendered_late(config: &Value, own: &[String]) -> Rendered {
    let mut rendered = Rendered::default();
    let mut waiting = vec![config];
    while let Some(value) = waiting.pop() {
        if let Some(text) = value.as_str() {
            look_into(text, own, &mut rendered);
        }
        if !value.is_too_deep() {
            waiting.extend(value.children());
        }
    }
    rendered
}

/// Functions that say something else each time, or what only the running machine can tell.
const CHANGING: [&str; 10] = [
    "aws_secretsmanager",
    "aws_secretsmanager_raw",
    "build",
    "consul_key",
    "env",
    "isotime",
    "strftime",
    "timestamp",
    "uuid",
    "vault",
];

/// Looks at the words between braces. A word that only looks like a function costs a rebuild, one that is missed
/// would cost a wrong image.
fn look_into(text: &str, own: &[String], rendered: &mut Rendered) {
    static WORDS: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(\.?)([A-Za-z_][A-Za-z0-9_]*)").ok());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let inside = &rest[start + 2..];
        let end = inside.find("}}").unwrap_or(inside.len());
        let action = &inside[..end];
        for word in WORDS.iter().flat_map(|words| words.captures_iter(action)) {
            let (field, name) = (!word[1].is_empty(), &word[2]);
            let fact = || Facts::COMMON.contains(&name) || own.iter().any(|o| o == name);
            if (field && fact()) || (!field && CHANGING.contains(&name)) {
                rendered.changing.insert(format!("{{{{{}}}}}", action.trim()));
            }
            rendered.user |= !field && name == "user";
        }
        rest = &inside[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_late_is_seen() {
        let changing = |text: &str| {
            let mut rendered = Rendered::default();
            look_into(text, &["ImageID".to_owned()], &mut rendered);
            rendered.changing.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(changing("chmod +x {{.Path}}; {{.Vars}} {{ .Path }}"), [] as [&str; 0]);
        assert_eq!(changing("echo {{build `ID`}} {{ timestamp }} {{upper build_name}}").len(), 2);
        assert_eq!(changing("{{.ID}} and {{ .ImageID | lower }}"), ["{{.ID}}", "{{.ImageID | lower}}"]);
        assert_eq!(changing("{{ uuid"), ["{{uuid}}"]);
        assert_eq!(changing("docker ps -f '{{.Names}}' build timestamp"), [] as [&str; 0]);
    }
}
