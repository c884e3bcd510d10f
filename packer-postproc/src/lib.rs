//! Post-processors: what handles an artifact.
