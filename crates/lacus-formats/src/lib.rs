//! The formats of arrays that ship with Lacus, each a module and a feature.
//!
//! A format knows its bytes and nothing of tables: it implements [`Opener`] and [`GridStore`](lacus_array::GridStore), and
//! [`GridWriter`] when it is written too.

#[cfg(any(feature = "hdf5", feature = "zarr"))]
mod blosc;
#[cfg(feature = "hdf5")]
mod hdf5;
#[cfg(feature = "netcdf")]
mod netcdf;
#[cfg(feature = "zarr")]
mod zarr;

use std::sync::Arc;

use lacus_array::{Format, GridWriter, Opener};

/// All formats that this build has.
pub fn formats() -> Vec<Format> {
    vec![
        #[cfg(feature = "netcdf")]
        Format {
            name: "netcdf",
            endings: &[".nc", ".nc4", ".cdf", ".netcdf", ".nc3"],
            openers: openers([Arc::new(netcdf::ClassicOpener), Arc::new(hdf5::Hdf5Opener { netcdf: true })]),
            folder: false,
        },
        #[cfg(feature = "hdf5")]
        Format {
            name: "hdf5",
            endings: &[".h5", ".hdf5", ".hdf", ".he5", ".h5ad", ".nwb", ".nxs", ".mat", ".cool"],
            openers: openers([Arc::new(hdf5::Hdf5Opener { netcdf: false })]),
            folder: false,
        },
        #[cfg(feature = "zarr")]
        Format { name: "zarr", endings: &[".zarr"], openers: openers([Arc::new(zarr::ZarrOpener)]), folder: true },
    ]
}

/// The formats that are written.
pub fn writers() -> Vec<Arc<dyn GridWriter>> {
    vec![
        #[cfg(feature = "netcdf")]
        Arc::new(netcdf::ClassicWriter),
        #[cfg(feature = "zarr")]
        Arc::new(zarr::ZarrWriter),
    ]
}

fn openers<const COUNT: usize>(openers: [Arc<dyn Opener>; COUNT]) -> Vec<Arc<dyn Opener>> {
    openers.into()
}
