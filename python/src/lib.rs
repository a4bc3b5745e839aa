//! The Lacus engine from Python.
