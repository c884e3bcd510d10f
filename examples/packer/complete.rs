//! What may come next on a command line that is being typed: shells call the program with `COMP_LINE` and `COMP_POINT`, where
//! the cursor is in bytes, and read one candidate a line. `install.rs` tells them to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use packer_core::language::functions::NoServices;
use packer_core::template::{Inputs, Inspection, Template};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::template::apart;
use crate::ui::Ui;
use crate::{COMMANDS, FAILED, OK, on_a_thread, registry};

/// How long a person waits for what is in a template.
const PATIENCE: Duration = Duration::from_secs(3);

/// The flags before a command.
const GLOBAL: [&str; 5] =
    ["-autocomplete-install", "-autocomplete-uninstall", "-help", "-machine-readable", "-version"];

/// A command line up to the cursor, in words.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Line {
    /// The words before that of the cursor, without the program.
    before: Vec<String>,
    /// The word of the cursor, up to it.
    current: String,
    /// The words behind it.
    after: Vec<String>,
    /// How much of the current word the shell leaves as it is: bash's words end at `=` too.
    kept: usize,
    /// Whether the shell takes a candidate as it is typed: what is special in it needs a backslash.
    typed: bool,
    /// Whether the shell puts a space behind the only candidate, whatever that is, as bash does.
    spaced: bool,
}

impl Line {
    /// The line that a shell asks about; `args` are then the program's name, the word as the shell sees it, and the one
    /// before.
    pub(crate) fn asked_for(env: &BTreeMap<String, String>, args: &[String]) -> Option<Self> {
        let text = env.get("COMP_LINE").filter(|line| !line.is_empty())?;
        let point = env.get("COMP_POINT").and_then(|point| point.parse().ok()).unwrap_or(text.len());
        let point = text.floor_char_boundary(point);
        let (mut line, quoted) = Self::split(&text[..point], &text[point..]);
        if let [_, seen, ..] = args {
            (line.typed, line.spaced) = (!quoted, true);
            // Of a word in quotes bash shows what is in them.
            let seen = if quoted { seen.clone() } else { words(seen).last.unwrap_or_default() };
            if line.current.ends_with(&seen) {
                line.kept = line.current.len() - seen.len();
            }
        }
        Some(line)
    }

    /// The line, and whether the cursor stands in quotes.
    fn split(before: &str, behind: &str) -> (Self, bool) {
        let Words { done: mut words, last, quoted } = words(before);
        // What stands directly behind the cursor belongs to its word.
        let rest = behind.find(char::is_whitespace).map_or("", |at| &behind[at..]);
        let Words { done: mut after, last: end, .. } = self::words(rest);
        after.extend(end);
        if words.is_empty() {
            return Default::default();
        }
        words.remove(0);
        (Self { before: words, current: last.unwrap_or_default(), after, ..Self::default() }, quoted)
    }
}

/// A text in words.
struct Words {
    done: Vec<String>,
    /// The one that is not finished.
    last: Option<String>,
    /// Whether that is in quotes.
    quoted: bool,
}

/// Splits a text as shells do it.
fn words(text: &str) -> Words {
    let (mut done, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => done.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    Words { done, last: word, quoted: quote.is_some() }
}

/// A word as it is typed.
fn typed(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=~".contains(c);
    word.chars().flat_map(|c| (!plain(c)).then_some('\\').into_iter().chain([c])).collect()
}

/// Tells the shell what may come.
pub(crate) async fn run(
    line: &Line,
    ui: &Ui,
    env: &BTreeMap<String, String>,
    signals: &mut UnboundedReceiver<&'static str>,
) -> u8 {
    let found = tokio::select! {
        found = candidates(line, env) => found,
        Some(_) = signals.recv() => return FAILED,
    };
    for word in found {
        if let Some(rest) = word.get(line.kept..) {
            let shown = if line.typed { typed(rest) } else { rest.to_owned() };
            ui.raw(format!("{shown}\n").as_bytes());
        }
    }
    OK
}

/// The words that may stand where the cursor is, in order.
async fn candidates(line: &Line, env: &BTreeMap<String, String>) -> BTreeSet<String> {
    let Some(at) = line.before.iter().position(|word| !word.starts_with('-')) else {
        let names = COMMANDS.iter().map(|command| command.name);
        return match line.current.starts_with('-') {
            true => starting(&line.current, GLOBAL),
            false => starting(&line.current, names),
        };
    };
    let name = match line.before[at].as_str() {
        "plugin" => "plugins",
        name => name,
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else { return BTreeSet::new() };
    let subcommands: &[&str] = match name {
        "cache" => &["list", "prune"],
        "plugins" => &["install", "installed", "remove", "required"],
        _ => &[],
    };
    let mut words = &line.before[at + 1..];
    let mut subcommand = "";
    if !subcommands.is_empty() {
        let Some((first, rest)) = words.split_first() else {
            return starting(&line.current, subcommands.iter().copied());
        };
        (subcommand, words) = (first, rest);
    }
    let flags = flags(command.usage);
    let typed = Typed::of(&flags, words);
    match typed.next {
        Next::Value(flag) => value(flag, "", &line.current, line, &typed, env).await,
        Next::Word => {
            if let Some((dashed, text)) = line.current.split_once('=')
                && dashed.starts_with('-')
            {
                let flag = dashed.trim_start_matches('-');
                return value(flag, &format!("{dashed}="), text, line, &typed, env).await;
            }
            if line.current.starts_with('-') {
                let dashes = if line.current.starts_with("--") { "--" } else { "-" };
                let all = flags.keys().copied().chain(["help"]).map(|flag| format!("{dashes}{flag}"));
                return all.filter(|flag| flag.starts_with(&line.current)).collect();
            }
            argument(name, subcommand, &line.current, line, env)
        }
        Next::Argument => argument(name, subcommand, &line.current, line, env),
    }
}

/// Those that begin with what is there.
fn starting<'a>(begin: &str, words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().filter(|word| word.starts_with(begin)).map(str::to_owned).collect()
}

/// The flags that a help text lists, and whether each is a switch, which takes no word behind it.
fn flags(usage: &str) -> BTreeMap<&str, bool> {
    let mut found = BTreeMap::new();
    let lines =
        usage.lines().map(str::trim_start).filter(|line| line.starts_with('-') || line.contains("[-"));
    let words = lines.flat_map(|line| line.split_inclusive([' ', '[', ']']).collect::<Vec<_>>());
    let mut of_last: Option<&str> = None;
    for word in words {
        let bare = word.trim_matches([' ', '[', ']']);
        match bare.strip_prefix('-').filter(|flag| flag.starts_with(|c: char| c.is_ascii_lowercase())) {
            Some(flag) => {
                let (name, value) = flag.split_once('=').unwrap_or((flag, "true"));
                found.insert(name, matches!(value, "true" | "false"));
                of_last = Some(name);
            }
            // `-var 'key=value'`
            None if bare.starts_with('\'') => {
                if let Some(name) = of_last.take() {
                    found.insert(name, false);
                }
            }
            None if bare.is_empty() => {}
            None => of_last = None,
        }
    }
    found
}

/// What the words between the command and the cursor say.
struct Typed<'a> {
    next: Next<'a>,
    /// Values of variables, as flags and what follows them.
    variables: Vec<(&'a str, &'a str)>,
    argument: Option<&'a str>,
}

/// What the cursor stands at.
#[derive(Debug, PartialEq)]
enum Next<'a> {
    /// The value of a flag.
    Value(&'a str),
    /// A flag or an argument.
    Word,
    /// An argument.
    Argument,
}

impl<'a> Typed<'a> {
    fn of(flags: &BTreeMap<&str, bool>, words: &'a [String]) -> Self {
        let mut typed = Self { next: Next::Word, variables: Vec::new(), argument: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let flag = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
            let Some(flag) = flag.filter(|_| typed.next == Next::Word) else {
                typed.argument = typed.argument.or(Some(word));
                typed.next = Next::Argument;
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value),
                None if flag.is_empty() => {
                    typed.next = Next::Argument;
                    continue;
                }
                None if flags.get(flag).copied().unwrap_or(true) => continue,
                None => match words.next() {
                    Some(value) => (flag, value.as_str()),
                    None => {
                        typed.next = Next::Value(flag);
                        break;
                    }
                },
            };
            if matches!(name, "var" | "var-file") {
                typed.variables.push((name, value));
            }
        }
        typed
    }
}

/// Values of a flag, behind what stands before them in the same word.
async fn value(
    flag: &str,
    prefix: &str,
    text: &str,
    line: &Line,
    typed: &Typed<'_>,
    env: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let found = match flag {
        "var" if text.contains('=') => BTreeSet::new(),
        "var" => {
            let names = inspected(line, typed).await.map(|found| variables(&found)).unwrap_or_default();
            names.into_iter().map(|name| format!("{name}=")).filter(|name| name.starts_with(text)).collect()
        }
        "only" | "except" => {
            // The parts before the last comma are there already.
            let (done, begun) = text.rsplit_once(',').map_or(("", text), |(d, b)| (&text[..=d.len()], b));
            let chosen: Vec<&str> = done.split(',').collect();
            let names = inspected(line, typed).await.map(|found| names(&found, flag)).unwrap_or_default();
            names
                .into_iter()
                .filter(|name| name.starts_with(begun) && !chosen.contains(&name.as_str()))
                .map(|name| format!("{done}{name}"))
                .collect()
        }
        "on-error" => starting(text, ["abort", "ask", "cleanup", "run-cleanup-provisioner"]),
        "config-type" => starting(text, ["hcl2", "json"]),
        "var-file" => files(text, &[".hcl", ".json"], line, env),
        "output-file" | "path" | "timeline" => files(text, &[""], line, env),
        // A switch has its value in the same word.
        _ if !prefix.is_empty() && flags_of_all().get(flag) == Some(&true) => {
            starting(text, ["false", "true"])
        }
        _ => BTreeSet::new(),
    };
    found.into_iter().map(|value| format!("{prefix}{value}")).collect()
}

/// The flags of all commands.
fn flags_of_all() -> BTreeMap<&'static str, bool> {
    COMMANDS.iter().flat_map(|command| flags(command.usage)).collect()
}

/// Arguments of a command.
fn argument(
    command: &str,
    subcommand: &str,
    text: &str,
    line: &Line,
    env: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let endings: &[&str] = match (command, subcommand) {
        ("build" | "console" | "inspect" | "plan" | "validate", _) => &[".pkr.hcl", ".json"],
        ("init", _) | ("plugins", "required") => &[".pkr.hcl", ".pkr.json"],
        ("fmt", _) => &[".pkr.hcl", ".pkrvars.hcl"],
        ("fix" | "hcl2_upgrade", _) => &[".json"],
        ("recover", _) => &[".jsonl"],
        _ => return BTreeSet::new(),
    };
    files(text, endings, line, env)
}

/// The folders, and the files whose names end so, that a path may lead to.
fn files(text: &str, endings: &[&str], line: &Line, env: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = listed(text, endings, env);
    let only = found.first().filter(|only| found.len() == 1 && only.ends_with('/'));
    // Of a folder its content is more than one candidate, behind which no space is put.
    if let Some(folder) = only.filter(|_| line.spaced).cloned() {
        found.extend(listed(&folder, endings, env));
    }
    found
}

fn listed(text: &str, endings: &[&str], env: &BTreeMap<String, String>) -> BTreeSet<String> {
    let (folder, begun) = text.rsplit_once('/').map_or(("", text), |(f, b)| (&text[..=f.len()], b));
    let place = match (folder.strip_prefix("~/"), env.get("HOME")) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        _ => PathBuf::from(if folder.is_empty() { "." } else { folder }),
    };
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        if !name.starts_with(begun) || (name.starts_with('.') && begun.is_empty()) {
            return None;
        }
        if std::fs::metadata(entry.path()).is_ok_and(|m| m.is_dir()) {
            return Some(format!("{folder}{name}/"));
        }
        endings.iter().any(|ending| name.ends_with(ending)).then(|| format!("{folder}{name}"))
    });
    named.collect()
}

/// What is in the template of the line; of the working folder where the line names none yet. Data sources are not read,
/// nobody is asked, and what is wrong with it is not told.
async fn inspected(line: &Line, typed: &Typed<'_>) -> Option<Inspection> {
    let later = line.after.iter().find(|word| !word.starts_with('-')).map(String::as_str);
    let path = typed.argument.or(later).unwrap_or(".").to_owned();
    let mut inputs = Inputs::new().evaluate_data_sources(false).services(NoServices);
    for (flag, value) in &typed.variables {
        inputs = match (*flag, value.split_once('=')) {
            ("var", Some((name, text))) => inputs.var(name, text),
            ("var-file", _) => inputs.var_file(*value),
            _ => inputs,
        };
    }
    let looking = async {
        let given = inputs.clone();
        let template = on_a_thread(move || Template::load_for(&path, &given)).await?.ok()?;
        apart(async move { template.inspect(&registry(), inputs).await }).await.ok()
    };
    tokio::time::timeout(PATIENCE, looking).await.ok()?
}

/// The names of the variables that a template declares.
fn variables(found: &Inspection) -> Vec<String> {
    match &found.legacy {
        Some(legacy) => legacy.variables.iter().map(|variable| variable.name.clone()).collect(),
        None => found.variables.iter().map(|(name, _)| name.clone()).collect(),
    }
}

/// The names that `-only` and `-except` may have; the latter leaves out post-processors too.
fn names(found: &Inspection, flag: &str) -> BTreeSet<String> {
    if let Some(legacy) = &found.legacy {
        return legacy.builders.iter().map(|(name, _)| name.clone()).collect();
    }
    let mut names = BTreeSet::new();
    for build in &found.builds {
        names.extend(build.sources.iter().map(|source| match build.name.as_str() {
            "" => source.clone(),
            name => format!("{name}.{source}"),
        }));
        if flag == "except" {
            // A post-processor is left out by its own name.
            let steps = build.post_processors.iter().flatten();
            names.extend(steps.map(|step| step.split_once('.').map_or(step.as_str(), |(_, n)| n).to_owned()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_shells_do_it() {
        let split = |text: &str| {
            let words = words(text);
            (words.done.join("|"), words.last)
        };
        for (text, done, last) in [
            ("", "", None),
            ("packer ", "packer", None),
            ("packer bu", "packer", Some("bu")),
            ("packer -var 'a b=c' x\\ y \"q\\\" r\" ", "packer|-var|a b=c|x y|q\" r", None),
            ("packer 'un", "packer", Some("un")),
            ("packer ''", "packer", Some("")),
        ] {
            assert_eq!(split(text), (done.to_owned(), last.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn the_cursor_may_stand_anywhere() {
        let at = |line: &str, point: Option<usize>, seen: &str| {
            let mut env = BTreeMap::from([("COMP_LINE".to_owned(), line.to_owned())]);
            env.extend(point.map(|point| ("COMP_POINT".to_owned(), point.to_string())));
            Line::asked_for(&env, &["packer".to_owned(), seen.to_owned()])
        };
        let strings = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            at("packer build -only=null.a t.pkr.hcl -x", Some(22), "nul"),
            Some(Line {
                before: strings(&["build"]),
                current: "-only=nul".into(),
                after: strings(&["t.pkr.hcl", "-x"]),
                kept: 6,
                typed: true,
                spaced: true,
            })
        );
        for (point, current) in [(Some(9), "bu"), (Some(900), "bui"), (None, "bui")] {
            assert_eq!(at("packer bui", point, current).unwrap().current, current);
        }
        assert_eq!(at("päcker bü", Some(10), "b").unwrap().current, "b");
        assert_eq!(at("", None, ""), None);
        assert_eq!(Line::asked_for(&BTreeMap::new(), &[]), None);
    }

    #[test]
    fn flags_come_from_the_help() {
        let build = flags(crate::build::USAGE);
        for (flag, switch) in
            [("var", false), ("var-file", false), ("on-error", false), ("force", true), ("color", true)]
        {
            assert_eq!(build.get(flag), Some(&switch), "{flag}");
        }
        let plugins = flags(crate::plugins::USAGE);
        assert_eq!(plugins, BTreeMap::from([("force", true), ("path", false)]));
        assert_eq!(flags(crate::recover::USAGE), BTreeMap::new());
        let cache: Vec<_> = flags(crate::cache::USAGE).into_keys().collect();
        assert_eq!(cache, ["all", "cache-bytes", "cache-states", "json", "unused"]);
    }
}
