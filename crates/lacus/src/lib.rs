//! The Lacus query engine as a library: open a lake, ask it SQL, read Arrow.
