//! Reading of YAML as libyaml reads it, which is what Packer's reader comes from: YAML 1.1 with its own ways for tabs, line
//! ends and comments.

mod events;
mod scalars;
mod tokens;

pub(super) use events::{Event, Events};

/// Where something is: line and column from 0, in characters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
    /// Characters before it.
    index: usize,
}

/// What is wrong with a text, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) mark: Mark,
    pub(super) message: String,
}

type Result<T> = std::result::Result<T, Fault>;

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// In quotes of either kind.
    Quoted,
    /// Behind `|` or `>`.
    Block,
}
