//! The engine: runs the builds of a pipeline.
