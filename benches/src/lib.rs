//! Benchmarks of the SDK, and the scripts that set them beside other programs.
