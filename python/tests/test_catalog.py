"""What a lake tells to catalogs of data, read by their own libraries."""

import json
import pathlib
import subprocess
from typing import Any

import mlcroissant
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rdflib
from conftest import BIN, serving

LAKE = """[lake]
name = "lab"
[store.own]
url = "files"
[dataset.readings]
path = "own:readings.csv"
description = "Readings of a station"
license = "CC-BY-4.0"
doi = "10.5555/readings"
contact = "data@lab.example"
[dataset.readings.columns.t]
unit = "degC"
description = "Air temperature"
[dataset.series]
path = "own:series/*.parquet"
description = "A series"
license = "CC0-1.0"
classification = "controlled"
"""


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "files" / "series").mkdir(parents=True)
    (tmp_path / "files" / "readings.csv").write_text("place,t,how many\na,20.5,1\nb,-5.0,2\n")
    for part in range(2):
        pq.write_table(pa.table({"x": [part, part + 10]}), tmp_path / "files" / "series" / f"{part}.parquet")
    (tmp_path / "lacus.toml").write_text(LAKE)
    return tmp_path


def catalog(lab: pathlib.Path, *words: str) -> Any:
    done = subprocess.run([BIN, "catalog", "--lake", str(lab), *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_croissant_is_valid_and_its_records_are_those_of_the_file(lab: pathlib.Path, tmp_path: pathlib.Path) -> None:
    written = catalog(lab, "readings", "--as", "croissant")
    # The library opens paths, and no addresses of files.
    for file in written["distribution"]:
        file["contentUrl"] = file["contentUrl"].removeprefix("file://")
    (tmp_path / "readings.json").write_text(json.dumps(written))
    dataset = mlcroissant.Dataset(str(tmp_path / "readings.json"))
    assert not list(dataset.metadata.ctx.issues.errors)
    assert (dataset.metadata.name, dataset.metadata.cite_as, dataset.metadata.license) == (
        "readings",
        "https://doi.org/10.5555/readings",
        ["https://spdx.org/licenses/CC-BY-4.0"],
    )
    rows = [{key: value.decode() if isinstance(value, bytes) else value for key, value in row.items()} for row in dataset.records("readings")]
    assert rows == [
        {"readings/place": "a", "readings/t": 20.5, "readings/how-many": 1},
        {"readings/place": "b", "readings/t": -5.0, "readings/how-many": 2},
    ]
    fields = {field.name: field for field in dataset.metadata.record_sets[0].fields}
    assert fields["t"].description == "Air temperature, in degC"


def test_a_croissant_of_many_files_is_valid(lab: pathlib.Path, tmp_path: pathlib.Path) -> None:
    written = catalog(lab, "series", "--as", "croissant")
    assert [part.get("includes") for part in written["distribution"]] == [None, "*.parquet"]
    (lab / "lacus.toml").write_text(LAKE.replace("series/*.parquet", "series/0.parquet"))
    one = catalog(lab, "series", "--as", "croissant")
    one["distribution"][0]["contentUrl"] = one["distribution"][0]["contentUrl"].removeprefix("file://")
    (tmp_path / "one.json").write_text(json.dumps(one))
    assert list(mlcroissant.Dataset(str(tmp_path / "one.json")).records("series")) == [{"series/x": 0}, {"series/x": 10}]
    (tmp_path / "series.json").write_text(json.dumps(written))
    dataset = mlcroissant.Dataset(str(tmp_path / "series.json"))
    assert not list(dataset.metadata.ctx.issues.errors)


def test_dcat_is_a_graph_of_the_datasets(lab: pathlib.Path) -> None:
    graph = rdflib.Graph().parse(data=json.dumps(catalog(lab, "--as", "dcat")), format="json-ld")
    dcat, dct = rdflib.Namespace("http://www.w3.org/ns/dcat#"), rdflib.Namespace("http://purl.org/dc/terms/")
    [lake] = graph.subjects(rdflib.RDF.type, dcat.Catalog)
    titles = {str(graph.value(dataset, dct.title)): dataset for dataset in graph.objects(lake, dcat.dataset)}
    assert set(titles) == {"readings", "series"}
    assert titles["readings"] == rdflib.URIRef("https://doi.org/10.5555/readings")
    assert str(graph.value(titles["series"], dct.accessRights)) == "controlled"
    [distribution] = graph.objects(titles["readings"], dcat.distribution)
    assert str(graph.value(distribution, dcat.accessURL)) == f"file://{lab}/files/readings.csv"
    assert graph.value(distribution, dcat.mediaType) == rdflib.URIRef("https://www.iana.org/assignments/media-types/text/csv")
    assert graph.value(titles["readings"], dct.license) == rdflib.URIRef("https://spdx.org/licenses/CC-BY-4.0")


def test_schema_org_tells_columns_and_units(lab: pathlib.Path) -> None:
    written = catalog(lab)
    graph = rdflib.Graph().parse(data=json.dumps(written), format="json-ld")
    schema = rdflib.Namespace("https://schema.org/")
    assert len(set(graph.subjects(rdflib.RDF.type, schema.Dataset))) == 2
    readings = next(dataset for dataset in written["dataset"] if dataset["name"] == "readings")
    assert readings["variableMeasured"][1] == {
        "@type": "PropertyValue",
        "name": "t",
        "unitText": "degC",
        "description": "Air temperature",
    }


def test_a_server_tells_the_same(lab: pathlib.Path) -> None:
    with serving(lab) as address:
        done = subprocess.run([BIN, "catalog", "--connect", address], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == catalog(lab)


def test_containers_have_all_their_tables(cli) -> None:
    written = json.loads(cli("catalog", "climate", "--as", "croissant").stdout)
    assert written["distribution"][0]["encodingFormat"] == "application/netcdf" and "recordSet" not in written
    written = json.loads(cli("catalog", "climate").stdout)
    names = [variable["name"] for variable in written["dataset"][0]["variableMeasured"]]
    assert {"time", "lat", "lon"} < set(names) and len(names) == len(set(names))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--as", "croissant"], "a Croissant is of one dataset, and there are 2; name one of readings, series"),
        (["reading"], "no dataset `reading`; did you mean `readings`?"),
    ],
)
def test_mistakes_are_explained(lab: pathlib.Path, words: list[str], message: str) -> None:
    done = subprocess.run([BIN, "catalog", "--lake", str(lab), *words], capture_output=True, text=True)
    assert done.returncode != 0 and message in done.stderr


def test_who_sees_a_part_is_not_told_where_it_lies(lab: pathlib.Path) -> None:
    (lab / "policy.toml").write_text(
        """
[[rule]]
name = "a part"
to = ["anonymous"]
tables = ["readings"]
allow = ["select"]
filter = "t > 0"
"""
    )
    (lab / "lacus.toml").write_text(LAKE + '[policy]\nfile = "policy.toml"\n')
    with serving(lab) as address:
        done = subprocess.run([BIN, "catalog", "--connect", address], capture_output=True, text=True, check=True)
        [readings] = json.loads(done.stdout)["dataset"]
        assert readings["name"] == "readings" and "distribution" not in readings
        assert str(lab) not in done.stdout and "series" not in done.stdout
