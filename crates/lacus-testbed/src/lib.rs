//! The servers that tests, the demo and the benches run against: a real S3 server with faults on request.
