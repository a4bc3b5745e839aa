//! Measurements of Lacus beside its peers.
