//! Templates: from text to a pipeline.
