//! The page itself: a head of numbers, a row for each build, and the logs below.

use std::fmt::Write;

use base64::Engine;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{Bar, Row, Run, State};
use crate::event::Level;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Writes to a text cannot fail.
macro_rules! put {
    ($page:expr, $($part:tt)*) => {{ let _ = write!($page, $($part)*); }};
}

/// The whole page. Every text of the run is escaped, and the page allows itself no script but its own.
pub(super) fn html(run: &Run) -> String {
    let began = run.began.unwrap_or(Timestamp::UNIX_EPOCH);
    let ended = run.ended.or_else(|| last_moment(run)).unwrap_or(began);
    let axis = Axis { began, length: ended.duration_since(began).max(SignedDuration::from_millis(1)) };
    let script = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT));
    let mut page = String::new();
    put!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>packer run: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        outcome(run)
    );
    put!(
        page,
        "<header><h1>{}</h1><p>{} &middot; {} &middot; run {}</p></header>\n",
        outcome(run),
        escaped(&began.to_string()),
        length(axis.length),
        escaped(&run.id)
    );
    for finding in &run.findings {
        put!(page, "<pre class=\"finding\">{}</pre>\n", escaped(finding));
    }
    put!(page, "<main>\n<div class=\"axis\" aria-hidden=\"true\">");
    for tick in 0..=4 {
        let at = axis.length * tick / 4;
        put!(page, "<span style=\"left:{}%\">{}</span>", tick * 25, length(at));
    }
    put!(page, "</div>\n");
    for (number, row) in run.builds.iter().enumerate() {
        build(&mut page, &axis, number, row);
    }
    put!(page, "</main>\n");
    for (number, row) in run.builds.iter().enumerate() {
        log(&mut page, &axis, number, row);
    }
    put!(page, "<script>{SCRIPT}</script>\n</body>\n</html>\n");
    page
}

fn outcome(run: &Run) -> String {
    let builds = run.builds.len();
    match (run.ended, run.failed) {
        (None, _) => format!("{builds} builds, running"),
        (_, failed) if run.cancelled => format!("cancelled: {failed} of {builds} builds did not finish"),
        (_, 0) => format!("{builds} of {builds} builds succeeded"),
        (_, failed) => format!("{failed} of {builds} builds failed"),
    }
}

fn build(page: &mut String, axis: &Axis, number: usize, row: &Row) {
    let (class, word) = match &row.state {
        State::Waiting => ("waiting", "waiting"),
        State::Running => ("running", "running"),
        State::Succeeded => ("succeeded", "succeeded"),
        State::Failed(_) => ("failed", "failed"),
        State::Skipped(_) => ("skipped", "not started"),
    };
    let took = match (row.began, row.ended) {
        (Some(began), Some(ended)) if !matches!(row.state, State::Skipped(_)) => {
            format!(" &middot; {}", length(ended.duration_since(began)))
        }
        _ => String::new(),
    };
    put!(
        page,
        "<section class=\"build {class}\">\n<h2>{} <small>{} &middot; {word}{took}</small></h2>\n",
        escaped(&row.name),
        escaped(&row.builder)
    );
    if let State::Failed(why) | State::Skipped(why) = &row.state {
        put!(page, "<pre class=\"why\">{}</pre>\n", escaped(why));
    }
    let lanes = row.steps.iter().map(|bar| bar.depth + 1).max().unwrap_or(1);
    put!(page, "<div class=\"lanes\" style=\"height:{}em\">\n", lanes * 2);
    let mut free = vec![0.0; lanes];
    for bar in &row.steps {
        step(page, axis, number, bar, &mut free[bar.depth]);
    }
    put!(page, "</div>\n");
    film(page, axis, row);
    for artifact in &row.artifacts {
        put!(page, "<p class=\"artifact\">{}</p>\n", escaped(artifact));
    }
    put!(page, "</section>\n");
}

/// What the machine's screen showed, from left to right.
fn film(page: &mut String, axis: &Axis, row: &Row) {
    if row.film.is_empty() {
        return;
    }
    put!(page, "<div class=\"film\">\n");
    for picture in &row.film {
        // Whatever wrote the event: an attribute holds base64 and nothing else.
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        let png: String = picture.png.chars().filter(|c| is_base64(*c)).collect();
        let at = length(picture.time.duration_since(axis.began));
        put!(page, "<figure>");
        if !png.is_empty() {
            put!(page, "<img alt=\"{}\" src=\"data:image/png;base64,{png}\">", escaped(&picture.text));
        } else {
            put!(page, "<pre>{}</pre>", escaped(&picture.text));
        }
        put!(page, "<figcaption><time>{at}</time> {}</figcaption></figure>\n", escaped(&picture.title));
    }
    put!(page, "</div>\n");
}

/// How wide a bar is at least, in percent: enough for a mouse.
const NARROWEST: f64 = 0.4;

/// A bar; `free` is where the bars before it in its lane end, in percent. One that is drawn wider than it took moves those
/// behind it, so that none is hidden.
fn step(page: &mut String, axis: &Axis, build: usize, bar: &Bar, free: &mut f64) {
    let ended = bar.ended.unwrap_or_else(|| axis.end());
    let took = length(ended.duration_since(bar.began));
    let class = match (&bar.error, bar.reused) {
        (Some(_), _) => "step failed",
        (None, true) => "step reused",
        (None, false) => "step",
    };
    let title = match &bar.error {
        Some(error) => format!("{}: {took}: {error}", bar.name),
        None => format!("{}: {took}", bar.name),
    };
    let left = axis.percent(bar.began).max(*free).min(100.0 - NARROWEST);
    let width = (axis.percent(ended) - left).max(NARROWEST);
    *free = left + width;
    put!(
        page,
        "<button class=\"{class}\" style=\"left:{left:.3}%;width:{width:.3}%;top:{}em\" title=\"{}\" \
         data-log=\"log-{build}\" data-from=\"{}\" data-to=\"{}\">{}</button>\n",
        bar.depth * 2,
        escaped(&title),
        bar.lines.start,
        bar.lines.end,
        escaped(&bar.name)
    );
}

/// The lines of a build. A click on a step shows those of the step.
fn log(page: &mut String, axis: &Axis, number: usize, row: &Row) {
    put!(page, "<section class=\"log\" id=\"log-{number}\" hidden>\n<h2>{}</h2>\n", escaped(&row.name));
    if row.dropped > 0 {
        put!(page, "<p>{} earlier lines are not kept.</p>\n", row.dropped);
    }
    put!(page, "<ol>\n");
    for (i, line) in row.lines.iter().enumerate() {
        let class = if line.level == Level::Error { " class=\"error\"" } else { "" };
        let at = length(line.time.duration_since(axis.began));
        put!(
            page,
            "<li data-line=\"{}\"{class}><time>{at}</time> {}</li>\n",
            row.dropped + i,
            escaped(&line.text)
        );
    }
    put!(page, "</ol>\n</section>\n");
}

/// Where moments are from left to right.
struct Axis {
    began: Timestamp,
    length: SignedDuration,
}

impl Axis {
    fn percent(&self, at: Timestamp) -> f64 {
        let part = at.duration_since(self.began).as_secs_f64() / self.length.as_secs_f64();
        (part * 100.0).clamp(0.0, 100.0)
    }

    fn end(&self) -> Timestamp {
        self.began.checked_add(self.length).unwrap_or(self.began)
    }
}

/// The last thing that happened in a run that is not over.
fn last_moment(run: &Run) -> Option<Timestamp> {
    run.builds
        .iter()
        .flat_map(|row| {
            let steps = row.steps.iter().flat_map(|bar| [Some(bar.began), bar.ended]);
            steps.chain([row.began, row.ended, row.lines.back().map(|line| line.time)])
        })
        .flatten()
        .max()
}

/// A duration as a person reads it: `340ms`, `12.3s`, `4m05s`.
fn length(duration: SignedDuration) -> String {
    let millis = duration.as_millis().max(0);
    match millis {
        0..1000 => format!("{millis}ms"),
        1000..60_000 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        _ => format!("{}m{:02}s", millis / 60_000, millis % 60_000 / 1000),
    }
}

/// A text inside HTML, also inside an attribute. What a terminal takes for colours is taken out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                // Parameters, then the letter that ends the sequence.
                for c in chars.by_ref() {
                    if ('\u{40}'..='\u{7e}').contains(&c) {
                        break;
                    }
                }
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_colours_taken_out() {
        for (text, expected) in [
            ("a <b> & \"c\" 'd'", "a &lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;"),
            ("\u{1b}[1;32mgreen\u{1b}[0m", "green"),
            ("\u{1b}[", ""),
            ("bell\u{7}", "bell\u{fffd}"),
        ] {
            assert_eq!(escaped(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations_read_well() {
        for (millis, expected) in [(0, "0ms"), (999, "999ms"), (12_340, "12.3s"), (245_000, "4m05s")] {
            assert_eq!(length(SignedDuration::from_millis(millis)), expected);
        }
    }
}
