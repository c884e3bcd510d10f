//! The SSH communicator.
