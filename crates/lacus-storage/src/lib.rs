//! Where bytes live: one virtual object store over S3-compatible servers and folders.
