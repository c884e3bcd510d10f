//! What a machine prints on its serial line: for the waits of the boot command, and the host keys that it tells there.

use packer_core::kit::boot_command::Transcript;

use crate::printed_keys::PrintedKeys;

/// A machine's serial line. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Console {
    pub(super) transcript: Transcript,
    pub(super) keys: PrintedKeys,
}

impl Console {
    pub(super) fn new() -> Self {
        Self { transcript: Transcript::new(), keys: PrintedKeys::default() }
    }

    /// Adds what the machine printed.
    pub(super) fn push(&self, text: &str) {
        self.transcript.push(text);
        self.keys.push(text);
    }
}
