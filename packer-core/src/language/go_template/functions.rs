//! The functions that Packer adds to the language: `{{build_name}}`, `{{isotime}}`, `{{user "x"}}`, …

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::data::Data;
use super::{FunctionTable, Kind, Signature, TemplateError, printf};
use crate::facts::BuildInfo;
use crate::language::go_time;
use crate::secrets::Secrets;

/// The longest text that a function may make.
const MAX_LENGTH: usize = 64 << 20;

/// What the `{{ … }}` in a component's strings may know, at prepare and at run time.
///
/// [`Interpolation::default`] knows nothing: each function that needs to know something fails with Packer's message.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Interpolation {
    /// `{{build_name}}`: the name of the source.
    pub build_name: Option<String>,
    /// `{{build_type}}`.
    pub build_type: Option<String>,
    /// `{{timestamp}}`, `{{isotime}}`, `{{strftime}}`: when the run began.
    pub started: Timestamp,
    /// `{{pwd}}`; the folder of the process where `None`.
    pub pwd: Option<PathBuf>,
    /// `{{template_dir}}`: the file of a legacy JSON template; HCL templates have none.
    pub template_path: Option<PathBuf>,
    /// `{{user "name"}}`: the variables of a legacy JSON template; HCL templates have none.
    pub user_variables: Option<Arc<BTreeMap<String, String>>>,
    /// Dot, and what `{{build "KEY"}}` finds. [`Data::Nil`] for builders, which may not ask.
    pub data: Data,
    /// What the variables section of a legacy JSON template may use besides.
    pub variables_section: Option<VariablesSection>,
    /// `{{clean_resource_name}}`, where the component has one.
    pub clean_resource_name: Option<fn(&str) -> String>,
    /// Whether dot has all the fields that may be named; another one is an error.
    pub fields_are_known: bool,
    /// Learns what a configuration that is rendered with this holds of secrets.
    pub secrets: Secrets,
}

/// A function of the outside world, `vault`, `consul_key`, `aws_secretsmanager` or `aws_secretsmanager_raw`: its name
/// and arguments give a secret.
pub type OutsideFunction = Arc<dyn Fn(&str, &[&str]) -> Result<String, String> + Send + Sync>;

/// What only the variables section of a legacy JSON template may use.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct VariablesSection {
    /// `{{env "NAME"}}`; a name that is not there is the empty text.
    pub env: Arc<BTreeMap<String, String>>,
    /// `{{vault …}}` and its like.
    pub outside: Option<OutsideFunction>,
}

impl VariablesSection {
    /// With an environment and, perhaps, the outside world.
    pub fn new(env: Arc<BTreeMap<String, String>>, outside: Option<OutsideFunction>) -> Self {
        Self { env, outside }
    }
}

impl Interpolation {
    /// What a build knows before it runs, with nothing as data.
    ///
    /// A build of a legacy JSON template is known by its template path or user variables.
    pub fn of_build(build: &BuildInfo, run_started: Timestamp) -> Self {
        let legacy = !build.template_path.is_empty() || !build.user_variables.is_empty();
        Self {
            build_name: Some(build.name.clone()),
            build_type: Some(build.builder_type.clone()),
            started: build.started.unwrap_or(run_started),
            template_path: (!build.template_path.is_empty()).then(|| PathBuf::from(&build.template_path)),
            user_variables: legacy.then(|| Arc::new(build.user_variables.clone())),
            clean_resource_name: build.clean_resource_name,
            ..Self::default()
        }
    }

    /// The same with dot.
    #[must_use]
    pub fn with_data(mut self, data: Data) -> Self {
        self.data = data;
        self
    }

    /// Renders a text once.
    ///
    /// # Errors
    /// Where it is no template or one of its functions fails.
    pub fn render(&self, text: &str) -> Result<String, TemplateError> {
        super::render(text, &self.data, self)
    }

    /// Renders a text until it changes no more, as components do at run time.
    ///
    /// # Errors
    /// As [`Interpolation::render`], and where it never stops changing.
    pub fn render_fixpoint(&self, text: &str) -> Result<String, TemplateError> {
        super::render_fixpoint(text, &self.data, self)
    }

    /// Parses a text without rendering it.
    ///
    /// # Errors
    /// Where it is no template or names a function that does not exist.
    pub fn check(&self, text: &str) -> Result<(), TemplateError> {
        super::GoTemplate::parse(text, self).map(drop)
    }
}

/// Dot as provisioners and post-processors of a legacy JSON template see it at prepare: for each of these names a
/// text that says to use `build`, which in turn gives `{{.NAME}}` for the rendering at run time.
pub fn placeholders<'a>(names: impl IntoIterator<Item = &'a str>) -> Data {
    let names: BTreeSet<&str> = names.into_iter().collect();
    Data::map(names.into_iter().map(|name| match name {
        "WinRMPassword" => (name, "{{.WinRMPassword}}".to_string()),
        _ => (name, format!("Build_{name}. {PLACEHOLDER}")),
    }))
}

const PLACEHOLDER: &str = "To set this dynamically in the Packer template, you must use the `build` function";

impl FunctionTable for Interpolation {
    fn fields_are_known(&self) -> bool {
        self.fields_are_known
    }

    fn signature(&self, name: &str) -> Option<Signature> {
        use Kind::{Int, String};
        let (fixed, variadic): (&[Kind], _) = match name {
            "build_name" | "build_type" | "packer_version" | "pwd" | "template_dir" | "timestamp"
            | "uuid" => (&[], None),
            "isotime" => (&[], Some(String)),
            "build" | "consul_key" | "env" | "lower" | "strftime" | "upper" | "user" => (&[String], None),
            "clean_resource_name" if self.clean_resource_name.is_some() => (&[String], None),
            "aws_secretsmanager" => (&[], Some(String)),
            "aws_secretsmanager_raw" => (&[String], None),
            "sed" | "vault" => (&[String, String], None),
            "replace" => (&[String, String, Int, String], None),
            "replace_all" => (&[String, String, String], None),
            "split" => (&[String, String, Int], None),
            _ => return None,
        };
        Some(Signature { fixed, variadic })
    }

    fn call(&self, name: &str, arguments: &[Data]) -> Result<Data, String> {
        let text = |n: usize| arguments.get(n).and_then(Data::as_str).unwrap_or_default();
        let number = |n: usize| match arguments.get(n) {
            Some(Data::Int(n)) => *n,
            _ => 0,
        };
        let texts = || arguments.iter().filter_map(Data::as_str).collect::<Vec<_>>();
        let result = match name {
            "aws_secretsmanager" | "aws_secretsmanager_raw" => {
                self.outside(name, &texts(), "AWS Secrets Manager is only allowed in the variables section")?
            }
            "build" => self.build(text(0))?,
            "build_name" => self.build_name.clone().ok_or("build_name not available")?,
            "build_type" => self.build_type.clone().ok_or("build_type not available")?,
            "clean_resource_name" => match self.clean_resource_name {
                Some(clean) => clean(text(0)),
                None => return Err("this component has no rules for names".into()),
            },
            "consul_key" => self.outside(name, &texts(), "consul_key is not allowed here")?,
            "env" => match &self.variables_section {
                Some(section) => section.env.get(text(0)).cloned().unwrap_or_default(),
                None => return Err("env vars are not allowed here".into()),
            },
            "isotime" => match texts().as_slice() {
                [] => go_time::format_layout(self.started, go_time::RFC3339),
                [layout] => go_time::format_layout(self.started, layout),
                more => return Err(format!("too many values, 1 needed: {more:?}")),
            },
            "lower" => text(0).chars().map(lower).collect(),
            "packer_version" => crate::VERSION.into(),
            "pwd" => match &self.pwd {
                Some(pwd) => pwd.display().to_string(),
                None => std::env::current_dir().map_err(|e| e.to_string())?.display().to_string(),
            },
            "replace" => replace(text(3), text(0), text(1), number(2))?,
            "replace_all" => replace(text(2), text(0), text(1), -1)?,
            "sed" => {
                return Err("template function `sed` is deprecated use `replace` or `replace_all` instead.\
                            Documentation: https://www.packer.io/docs/templates/engine"
                    .into());
            }
            "split" => split(text(0), text(1), number(2))?,
            "strftime" => go_time::strftime(self.started, text(0)),
            "template_dir" => self.template_dir()?,
            "timestamp" => self.started.as_second().to_string(),
            "upper" => text(0).chars().map(upper).collect(),
            "user" => self.user(text(0))?,
            "uuid" => time_ordered_uuid(self.started),
            "vault" => {
                self.outside(name, &texts(), "Vault vars are only allowed in the variables section")?
            }
            _ => return Err(format!("{} is not a defined function", printf::quote(name))),
        };
        Ok(result.into())
    }
}

impl Interpolation {
    fn build(&self, key: &str) -> Result<String, String> {
        let Data::Map(values) = &self.data else {
            return Err(format!(
                "Error validating build variable: the given variable {key} will not be passed into your plugin."
            ));
        };
        match values.get(key) {
            Some(Data::String(text)) if text.contains(PLACEHOLDER) => Ok(format!("{{{{.{key}}}}}")),
            Some(value) => Ok(value.to_string()),
            None => Err(format!("loaded data, but couldnt find {key} in it.")),
        }
    }

    fn user(&self, name: &str) -> Result<String, String> {
        let Some(variables) = &self.user_variables else {
            return Err("test".into());
        };
        match variables.get(name) {
            Some(value) => Ok(value.clone()),
            // While variables are resolved a missing one may come yet; elsewhere it is empty.
            None if self.variables_section.is_some() => Err(format!("variable {name} not set")),
            None => Ok(String::new()),
        }
    }

    fn template_dir(&self) -> Result<String, String> {
        let path = self.template_path.as_deref().ok_or("template path not available")?;
        let path = match &self.pwd {
            Some(pwd) => pwd.join(path),
            None => std::path::absolute(path).map_err(|e| e.to_string())?,
        };
        Ok(path.parent().unwrap_or(Path::new("/")).display().to_string())
    }

    fn outside(&self, name: &str, arguments: &[&str], refused: &str) -> Result<String, String> {
        match &self.variables_section {
            None => Err(refused.into()),
            Some(VariablesSection { outside: Some(call), .. }) => call(name, arguments),
            Some(_) => Err(format!("this program does not offer {name}")),
        }
    }
}

impl fmt::Debug for Interpolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Variables and data may hold secrets.
        f.debug_struct("Interpolation")
            .field("build_name", &self.build_name)
            .field("build_type", &self.build_type)
            .field("started", &self.started)
            .field("template_path", &self.template_path)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for VariablesSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VariablesSection({} variables)", self.env.len())
    }
}

/// Replaces the first `count` places, or all where it is negative. The empty text is found before each
/// character and at the end.
fn replace(text: &str, old: &str, new: &str, count: i64) -> Result<String, String> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let found = text.matches(old).take(count).count();
    if text.len().saturating_add(found.saturating_mul(new.len())) > MAX_LENGTH {
        return Err(format!("the text gets longer than {} MiB", MAX_LENGTH >> 20));
    }
    Ok(text.replacen(old, new, count))
}

fn split(text: &str, separator: &str, n: i64) -> Result<String, String> {
    let pieces: Vec<&str> = if separator.is_empty() {
        text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]).collect()
    } else {
        text.split(separator).collect()
    };
    match usize::try_from(n).ok().and_then(|n| pieces.get(n)) {
        Some(piece) => Ok((*piece).into()),
        None => Err(format!(
            "the substring {n} was unavailable using the separator value, {separator}, only {} values were found",
            pieces.len()
        )),
    }
}

/// The upper case of a character where that is one character, as Go maps texts.
fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(upper), None) => upper,
        // Greek letters with a small iota below have a capital of their own, beside the two letters Rust gives.
        _ => match c as u32 {
            code @ (0x1F80..=0x1F87 | 0x1F90..=0x1F97 | 0x1FA0..=0x1FA7) => char::from_u32(code + 8),
            code @ (0x1FB3 | 0x1FC3 | 0x1FF3) => char::from_u32(code + 9),
            _ => None,
        }
        .unwrap_or(c),
    }
}

/// The lower case of a character; the first of two where there are two.
fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// A UUID whose first 32 bits are a time in seconds, so that names made of it sort; the rest is random.
fn time_ordered_uuid(time: Timestamp) -> String {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    let random = *uuid::Uuid::new_v4().as_bytes();
    // A version 4 UUID has six fixed bits in bytes 6 and 8; another one lends random bits for them.
    bytes[6] = random[0];
    bytes[8] = random[1];
    bytes[..4].copy_from_slice(&(time.as_second() as u32).to_be_bytes());
    uuid::Uuid::from_bytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legacy() -> Interpolation {
        Interpolation {
            build_name: Some("web".into()),
            build_type: Some("file".into()),
            started: "2024-03-05T14:07:09Z".parse().unwrap(),
            pwd: Some("/home/me".into()),
            template_path: Some("sub/t.json".into()),
            user_variables: Some(Arc::new(BTreeMap::from([("a".into(), "{{ .Later }}".into())]))),
            data: placeholders(["ID", "WinRMPassword"]),
            ..Interpolation::default()
        }
    }

    #[test]
    fn functions_give_what_packer_gives() {
        for (text, expected) in [
            ("{{build_name}} {{build_type}} {{packer_version}}", "web file 1.16.0"),
            (
                "{{timestamp}} {{isotime}} {{isotime `2006-01`}} {{strftime `%H`}}",
                "1709647629 2024-03-05T14:07:09Z 2024-03 14",
            ),
            ("{{template_dir}} {{pwd}}", "/home/me/sub /home/me"),
            ("[{{user `a`}}] [{{user `nope`}}]", "[{{ .Later }}] []"),
            (
                "{{build `ID`}} {{.ID}}",
                "{{.ID}} Build_ID. To set this dynamically in the Packer template, you must use the `build` function",
            ),
            ("{{build `WinRMPassword`}}", "{{.WinRMPassword}}"),
            ("{{upper `aé-ß1ᾳ`}} {{lower `AÉ-İ1`}}", "AÉ-ß1ᾼ aé-i1"),
            ("{{split `a-b-c` `-` 2}} {{split `abc` `` 1}} {{split `` `,` 0}}|", "c b |"),
            (
                "{{replace `a` `X` 1 `banana`}} {{replace `a` `X` -1 `banana`}} {{replace `a` `X` 0 `b-a`}}",
                "bXnana bXnXnX b-a",
            ),
            ("{{replace_all `a` `` `banana`}} {{replace_all `` `_` `ab`}}", "bnn _a_b_"),
            ("{{uuid | len}} {{if eq uuid uuid}}same{{end}}", "36 "),
        ] {
            assert_eq!(legacy().render(text).as_deref(), Ok(expected), "{text}");
        }
        assert!(legacy().render("{{uuid}}").unwrap().starts_with("65e7270d-"));
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for (text, expected) in [
            ("{{user `a`}}", "error calling user: test"),
            ("{{template_dir}}", "error calling template_dir: template path not available"),
            (
                "{{build `ID`}}",
                "error calling build: Error validating build variable: the given variable ID will not be passed into your plugin.",
            ),
            ("{{env `HOME`}}", "error calling env: env vars are not allowed here"),
            ("{{consul_key `a`}}", "error calling consul_key: consul_key is not allowed here"),
            (
                "{{vault `a` `b`}}",
                "error calling vault: Vault vars are only allowed in the variables section",
            ),
            ("{{aws_secretsmanager `a`}}", "AWS Secrets Manager is only allowed in the variables section"),
            ("{{sed `a` `b`}}", "template function `sed` is deprecated"),
            (
                "{{split `a-b` `-` 2}}",
                "the substring 2 was unavailable using the separator value, -, only 2 values were found",
            ),
            ("{{split `a` `-` -1}}", "the substring -1 was unavailable"),
            ("{{clean_resource_name `a b`}}", "function \"clean_resource_name\" not defined"),
        ] {
            let error = Interpolation::default().render(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let empty = Interpolation::default().with_data(Data::map::<&str, &str>([]));
        let error = empty.render("{{build `ID`}}").unwrap_err().to_string();
        assert_eq!(
            error,
            "template: root:1:2: executing \"root\" at <build `ID`>: error calling build: loaded data, but couldnt \
             find ID in it."
        );
    }

    #[test]
    fn the_variables_section_may_look_outside() {
        let env = Arc::new(BTreeMap::from([("A".to_string(), "x".to_string())]));
        let outside: OutsideFunction =
            Arc::new(|name, arguments| Ok(format!("{name}:{}", arguments.join(","))));
        let section = Interpolation {
            variables_section: Some(VariablesSection::new(env, Some(outside))),
            user_variables: Some(Arc::default()),
            clean_resource_name: Some(|name| name.replace(' ', "-")),
            ..Interpolation::default()
        };
        let text = "{{env `A`}}{{env `B`}} {{vault `p` `k`}} {{aws_secretsmanager `n`}} {{clean_resource_name `a b`}}";
        assert_eq!(section.render(text).unwrap(), "x vault:p,k aws_secretsmanager:n a-b");
        let error = section.render("{{user `a`}}").unwrap_err().to_string();
        assert!(error.contains("variable a not set"), "{error}");
    }
}
