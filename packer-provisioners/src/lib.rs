//! Provisioners: what changes a machine while it is up.
