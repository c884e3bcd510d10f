//! `packer cache`: lists or prunes the states of machines that `packer build -cache` saves. Not one of Packer's commands.

use std::time::Duration;

use packer_core::duration::GoDuration;
use packer_core::engine::{Cache, Checkpoint, Prune, Pruned};

use crate::flags::{self, Flag, Stop};
use crate::ui::Format;
use crate::{FAILED, OK, Session, registry};

pub(crate) const USAGE: &str = "Usage: packer cache list [options]
       packer cache prune [options]

  Lists the states of machines that `packer build -cache` has saved, the one used last first, or removes those that are
  too many.

Options:

  -json                        The states as JSON.
  -cache-bytes=N               Keep at most N bytes of saved states (default 20 GiB).
  -cache-states=N              Keep at most N saved states (default 100).
  -unused=DURATION             Remove those that were not used for so long: 12h, 30m.
  -all                         Remove all.
";

/// How much a cache may keep.
#[derive(Debug)]
pub(crate) struct CacheFlags {
    states: i64,
    bytes: i64,
}

impl Default for CacheFlags {
    fn default() -> Self {
        Self { states: Cache::DEFAULT_MOST as i64, bytes: Cache::DEFAULT_BYTES as i64 }
    }
}

impl CacheFlags {
    /// Where each flag goes.
    pub(crate) fn flags(&mut self) -> [(&'static str, Flag<'_>); 2] {
        [("cache-states", Flag::Number(&mut self.states)), ("cache-bytes", Flag::Number(&mut self.bytes))]
    }

    /// The cache of this program.
    pub(crate) fn cache(&self, session: &Session) -> Cache {
        Cache::new(session.cache_dir().join("steps"), registry())
            .keep_at_most(usize::try_from(self.states).unwrap_or(0))
            .keep_bytes(u64::try_from(self.bytes).unwrap_or(0))
    }
}

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let Some((verb, args)) = args.split_first() else {
        return session.misused(Stop::Wrong("packer cache needs list or prune".to_owned()));
    };
    let (mut limits, mut json, mut all) = (CacheFlags::default(), false, false);
    let mut unused = String::new();
    let mut known = vec![("json", Flag::Switch(&mut json))];
    known.extend(limits.flags());
    known.extend([("all", Flag::Switch(&mut all)), ("unused", Flag::Text(&mut unused))]);
    match flags::parse(args, &mut known) {
        Ok([]) => {}
        Ok([extra, ..]) => {
            return session.misused(Stop::Wrong(format!("packer cache takes no argument {extra:?}")));
        }
        Err(stop) => return session.misused(stop),
    }
    drop(known);
    let cache = limits.cache(&session);
    match verb.as_str() {
        "list" => list(&session, &cache, json),
        "prune" => {
            let which = match which(all, &unused) {
                Ok(which) => which,
                Err(message) => return session.misused(Stop::Wrong(message)),
            };
            let engine = session.engine();
            let pruning = async move { cache.prune(&engine, which).await };
            match session.unless_stopped(pruning).await {
                Ok(Ok(pruned)) => told(&session, &pruned, json),
                Ok(Err(error)) => {
                    session.ui.error(&error.to_string());
                    FAILED
                }
                Err(code) => code,
            }
        }
        other => {
            session.misused(Stop::Wrong(format!("packer cache has no {other:?}; there are list and prune")))
        }
    }
}

fn which(all: bool, unused: &str) -> Result<Prune, String> {
    if all {
        return Ok(Prune::Everything);
    }
    if unused.is_empty() {
        return Ok(Prune::Excess);
    }
    let limit: GoDuration = unused.parse().map_err(|e| format!("-unused: {e}"))?;
    match limit.to_std() {
        Duration::ZERO => Err("-unused needs more than no time; -all removes all".to_owned()),
        limit => Ok(Prune::Unused(limit)),
    }
}

fn list(session: &Session, cache: &Cache, json: bool) -> u8 {
    let states = match cache.list() {
        Ok(states) => states,
        Err(error) => {
            session.ui.error(&error.to_string());
            return FAILED;
        }
    };
    if json {
        session.ui.document(&states);
        return OK;
    }
    for state in &states {
        session.ui.say(&line(state));
    }
    let bytes: u64 = states.iter().filter_map(|s| s.size).sum();
    session.ui.say(&format!("{} in {}, {bytes} bytes", count(states.len()), cache.folder().display()));
    OK
}

fn line(state: &Checkpoint) -> String {
    let used = state.used.strftime("%Y-%m-%dT%H:%M:%SZ");
    let size = state.size.map_or_else(|| "-".to_owned(), |size| size.to_string());
    let damaged = if state.intact { "" } else { " (damaged, not used)" };
    let Checkpoint { build, number, step, resource, .. } = state;
    format!("{used} {size:>12} {build} step {number} ({step}): {} {resource}{damaged}", resource.component)
}

fn count(states: usize) -> String {
    if states == 1 { "1 saved state".to_owned() } else { format!("{states} saved states") }
}

fn told(session: &Session, pruned: &Pruned, json: bool) -> u8 {
    if json {
        session.ui.document(pruned);
    } else {
        for state in &pruned.released {
            session.ui.say(&format!("Removed {} step {}: {}", state.build, state.number, state.resource));
        }
        for left in &pruned.left {
            session.ui.error(&format!("Could not remove {}: {}", left.resource, left.reason));
        }
        session.ui.say(&format!("{} removed", count(pruned.released.len())));
    }
    if pruned.left.is_empty() { OK } else { FAILED }
}

impl crate::ui::Ui {
    /// Shows data as one JSON document.
    pub(crate) fn document(&self, data: &impl serde::Serialize) {
        match serde_json::to_string_pretty(data) {
            Ok(text) if self.format == Format::Json => self.raw(format!("{text}\n").as_bytes()),
            Ok(text) => self.say(&text),
            Err(error) => self.error(&error.to_string()),
        }
    }
}
