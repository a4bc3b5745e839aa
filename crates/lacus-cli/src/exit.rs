use lacus::Kind;

/// The exit codes, as `--help` tells them.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    a defect of lacus
  2    wrong arguments, lake file or option
  3    wrong SQL or parameter
  4    a table, store, bucket or file is not there, or a name is taken
  5    not allowed: credentials or permissions
  6    stored data can't be read, or changed while it was read
  7    a limit was reached: memory, spill space, deadline
  8    a store or server does not answer
  9    lacus can't do that
  130  cancelled with Ctrl-C";

/// The exit code of an error.
pub(crate) fn code(kind: Kind) -> u8 {
    match kind {
        Kind::InvalidConfiguration => 2,
        Kind::InvalidQuery => 3,
        Kind::NotFound | Kind::AlreadyExists => 4,
        Kind::PermissionDenied | Kind::Unauthenticated => 5,
        Kind::CorruptData | Kind::ObjectChanged => 6,
        Kind::LimitExceeded | Kind::DeadlineExceeded => 7,
        Kind::Unavailable => 8,
        Kind::Unsupported => 9,
        Kind::Cancelled => 130,
        // `Kind` grows with its edges: a kind without a code is a defect.
        Kind::Internal | _ => 1,
    }
}
