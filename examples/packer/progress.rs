//! Bars at the bottom of the terminal for work that takes long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use packer_core::event::visible;
use packer_core::{Event, EventKind, EventSink};

/// The bars of all work that goes on, drawn on standard error. A sink of events; cheap to clone.
#[derive(Clone)]
pub(crate) struct Bars {
    all: MultiProgress,
    by_id: Arc<Mutex<HashMap<u64, ProgressBar>>>,
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), by_id: Arc::default() }
    }

    /// Takes the bars away while something else is written.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.all.suspend(write)
    }
}

impl EventSink for Bars {
    fn event(&self, event: &Event) {
        let EventKind::Progress { id, title, done, total, finished, .. } = &event.kind else { return };
        let mut bars = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        if *finished {
            if let Some(bar) = bars.remove(id) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
            return;
        }
        let bar = bars.entry(*id).or_insert_with(|| {
            let title = visible(title).replace('\n', " ");
            let prefix = format!("    {}: {title}", event.build.as_deref().unwrap_or_default());
            let bar = self.all.add(ProgressBar::no_length()).with_prefix(prefix);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        if let Some(total) = total
            && bar.length() != Some(*total)
        {
            bar.set_style(style(KNOWN));
            bar.set_length(*total);
        } else if total.is_none() && bar.position() == 0 {
            bar.set_style(style(if *done == 0 { WAIT } else { OPEN }));
        }
        bar.set_position(*done);
    }
}

/// With a known end.
const KNOWN: &str = "{prefix} [{bar:30}] {binary_bytes}/{binary_total_bytes} {eta}";
/// Without.
const OPEN: &str = "{prefix} {spinner} {binary_bytes}";
/// Nothing has come yet.
const WAIT: &str = "{prefix} {spinner}";

fn style(template: &str) -> ProgressStyle {
    // A template that does not parse would show the plain bar; a test says that both do.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_templates_parse() {
        for template in [super::KNOWN, super::OPEN, super::WAIT] {
            indicatif::ProgressStyle::with_template(template).unwrap();
        }
    }
}
