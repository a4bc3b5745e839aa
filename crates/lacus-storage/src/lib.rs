//! Where bytes live.
//!
//! [`Stores`] is one virtual object store: `<store>/<path>` routes to an S3-compatible server, Google, Azure, a web server (WebDAV or not),
//! another machine by SFTP, a local folder (NFS and Lustre are folders too) or a store that an embedding program brings. Because the store's name is part of every path, caches that are keyed by
//! path can't answer for another store, and credentials stay out of plans.
//!
//! Each query reads through its own [`ReadScope`], which counts requests and bytes per store and holds every object to the version
//! that the query saw first: an object that changes while it is read is an error, never a mixture.
//!
//! What is read of remote stores can be kept on local disk: see [`CacheSpec`]. What is kept is of one version of an object, and read by queries
//! that are held to this version alone.
//!
//! Only a store that says so is written, and only through [`Writing`]: all objects of one result appear, or none stays.

mod answers;
mod azure;
mod cache;
mod google;
mod known;
mod listings;
mod local;
mod masked;
mod mount;
mod network;
mod page;
mod pattern;
mod reads;
mod requests;
mod s3;
mod scan;
mod sftp;
mod spec;
mod stores;
mod web;
mod writing;

pub use cache::{CacheSpec, CacheStatus};
pub use known::Known;
pub use masked::masked;
pub use pattern::Pattern;
pub use reads::{ReadScope, ScopedStore, same_version};
pub use requests::{Operation, StoreReads};
pub use scan::{Scan, Scanning};
pub use spec::{
    AzureCredentials, AzureSpec, Credentials, GoogleCredentials, GoogleSpec, Listing, Network, Place, S3Spec, SftpSpec, StoreSpec, Unnamed,
    WebCredentials, WebSpec,
};
pub use stores::{Stores, TABLES, lake_url};
pub use writing::Writing;
