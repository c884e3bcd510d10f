//! Programs that embed the SDK; each file shows one idea.
