//! How the outcome of a case is compared with what was recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use crate::Outcome;
use crate::case::Case;

/// What differs, a line each; nothing where the outcome matches.
pub(crate) fn check(case: &Case, outcome: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    if outcome.code != case.exit {
        wrong.push(format!("exit {}, recorded {}; output:\n{}", outcome.code, case.exit, outcome.output));
    }
    wrong.extend(
        case.absent.iter().filter(|text| outcome.output.contains(*text)).map(|t| format!("prints {t:?}")),
    );
    let compares = |mode: &str| case.compare.iter().any(|m| m == mode);
    let recorded = normalise(&case.stdout, "\0");
    if compares("stdout") && outcome.output != recorded {
        wrong.push(both("output", &recorded, &outcome.output));
    }
    if compares("builds") && by_build(&outcome.output) != by_build(&recorded) {
        wrong.push(both("output of the builds", &recorded, &outcome.output));
    }
    if compares("diagnostics") || compares("first-diagnostic") {
        let most = if compares("first-diagnostic") { 1 } else { usize::MAX };
        wrong.extend(missing(case, outcome, most));
    }
    let names: BTreeSet<&String> = case.files.keys().chain(outcome.files.keys()).collect();
    for name in names {
        match (case.files.get(name), outcome.files.get(name)) {
            (Some(_), None) => wrong.push(format!("did not make {name}")),
            (None, Some(_)) if !compares("extra-files") => {
                wrong.push(format!("made {name}, which Packer did not"))
            }
            (Some(a), Some(b)) => {
                let shown = |text: &str| match (compares("code"), case.is_exact()) {
                    (true, _) => code(text),
                    (false, true) => text.to_owned(),
                    (false, false) => text.trim_end_matches('\n').to_owned(),
                };
                if shown(a) != shown(b) {
                    wrong.push(both(name, a, b));
                }
            }
            _ => {}
        }
    }
    wrong
}

fn both(what: &str, recorded: &str, ours: &str) -> String {
    format!("{what} differs; recorded:\n{recorded}ours:\n{ours}")
}

/// The text with what differs from run to run replaced; `root` is the folder above the case's own.
pub(crate) fn normalise(text: &str, root: &str) -> String {
    static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let unit = "(?:hour|minute|second|millisecond|microsecond|nanosecond)s?";
        [
            (r"\x1b\[[0-9;?]*[A-Za-z]".to_owned(), ""),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".into(), "<UUID>"),
            (format!(r"\bafter (?:\d+ {unit}[ ,]*)+"), "after <DURATION>"),
            (r"\b1[0-9]{9},".into(), "<TIME>,"),
            (r"compression with \d+ cores? for ".into(), "compression with <N> cores for "),
            (r"packer-(shell|provisioner|tmp|data)[-_]?[A-Za-z0-9_]*\d{4,}".into(), "packer-$1<RANDOM>"),
            (r"/tmp\d{5,}:".into(), "/tmp<RANDOM>:"),
            (r"(sha256:|Container ID: |Killing the container: )[0-9a-f]{64}\b".into(), "$1<HEX>"),
            (r"communicator to connect: 172\.[\d.]+".into(), "communicator to connect: <IP>"),
            (r"\b(pkr-file-content|(?:windows-shell|powershell)-provisioner)\d{4,}".into(), "$1<RANDOM>"),
            (r"\b[01]?\d?\d\d/\d\d/\d\d \d\d:\d\d:\d\d".into(), "<CLOCK>"),
            (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)".into(), "<RFC3339>"),
        ]
        .into_iter()
        .map(|(pattern, with)| (Regex::new(&pattern).unwrap(), with))
        .collect()
    });
    let mut text =
        text.replace("\r\n", "\n").replace(&format!("{root}/work"), "<DIR>").replace(root, "<TMP>");
    for (pattern, with) in PATTERNS.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    let lines: Vec<&str> = text.split('\n').map(str::trim_end).collect();
    format!("{}\n", lines.join("\n").trim_matches('\n'))
}

/// Lines grouped by the build that printed them: builds may interleave.
fn by_build(text: &str) -> BTreeMap<String, Vec<&str>> {
    static LINE: LazyLock<Regex> = LazyLock::new(|| {
        let ui =
            r"^(?:<TIME>,,ui,\w+,)?(?:(?:==>|   |-->) ([^\s:]+)(?: \([\w-]+\))?:(?: |$)|Build '([^']+)' )";
        Regex::new(&format!("{ui}|^<TIME>,([^,]+),")).unwrap()
    });
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for line in text.split('\n').filter(|line| !line.trim().is_empty()) {
        let found = LINE
            .captures(line)
            .and_then(|c| c.iter().skip(1).flatten().next().map(|m| m.as_str().to_owned()));
        groups.entry(found.unwrap_or_default()).or_default().push(line);
    }
    groups
}

#[derive(Debug, Default)]
struct Finding {
    severity: String,
    summary: String,
    place: Option<(String, u32)>,
    /// Places that its text names.
    nested: Vec<(String, u32)>,
}

/// Recorded findings that we do not report, or elsewhere.
fn missing(case: &Case, outcome: &Outcome, most: usize) -> Vec<String> {
    let template = case.args.last().map_or("", String::as_str);
    let ours = findings(&outcome.output, template);
    let reported = |severity: &str, place: &(String, u32)| {
        ours.iter().any(|o| o.severity == severity && o.place.as_ref() == Some(place))
    };
    let recorded = findings(&case.output, template);
    let lacking = recorded.iter().take(most).filter(|finding| match &finding.place {
        None => !ours.iter().any(|o| o.severity == finding.severity),
        Some(place) => {
            !reported(&finding.severity, place)
                && !finding.nested.iter().any(|nested| reported(&finding.severity, nested))
        }
    });
    lacking
        .map(|f| format!("no {} {:?} at {:?}; output:\n{}", f.severity, f.summary, f.place, outcome.output))
        .collect()
}

/// The findings in Packer's layout.
fn findings(text: &str, template: &str) -> Vec<Finding> {
    static HEAD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\s*(Error|Warning):(?: (.*))?$").unwrap());
    static PLACE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"on (\S+?) line (\d+)").unwrap());
    static NESTED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(\S+):(\d+),\d+-(?:\d+,)?\d+: \S").unwrap());
    static LEGACY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^At line (\d+), column \d+ \(offset").unwrap());
    let place = |c: &regex::Captures<'_>| Some((plain(&c[1]), c[2].parse::<u32>().ok()?));
    let mut found: Vec<Finding> = Vec::new();
    for line in text.lines() {
        if let Some(head) = HEAD.captures(line) {
            let summary = head.get(2).map_or(String::new(), |m| m.as_str().trim().to_owned());
            found.push(Finding { severity: head[1].to_lowercase(), summary, ..Finding::default() });
        } else if let Some(at) = LEGACY.captures(line) {
            let place = at[1].parse().ok().map(|line| (plain(template), line));
            found.push(Finding { severity: "error".into(), place, ..Finding::default() });
        } else if let Some(finding) = found.last_mut() {
            match PLACE.captures(line).filter(|_| finding.place.is_none()) {
                Some(at) => finding.place = place(&at),
                None => finding.nested.extend(NESTED.captures(line).as_ref().and_then(place)),
            }
        }
    }
    found
}

/// A path as it is compared: without the case's folder and without `./`.
fn plain(path: &str) -> String {
    let path = path.replace("<DIR>/", "");
    let parts: Vec<&str> = path.split('/').filter(|part| *part != ".").collect();
    parts.join("/")
}

/// A text without its comments and blank lines.
fn code(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
}
