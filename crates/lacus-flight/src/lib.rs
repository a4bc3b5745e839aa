//! Arrow Flight SQL over an engine.
