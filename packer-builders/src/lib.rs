//! Builders: what starts a machine and turns it into an artifact.
