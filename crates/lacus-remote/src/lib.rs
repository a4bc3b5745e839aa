//! Other engines: the Flight SQL client.
