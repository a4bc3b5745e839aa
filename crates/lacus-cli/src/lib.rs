//! The lacus command: the only place that talks to a terminal.
