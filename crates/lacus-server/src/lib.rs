//! One process that serves a lake.
