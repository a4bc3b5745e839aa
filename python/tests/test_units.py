"""Units beside UDUNITS itself (cf-units), and where they arrive: in Python, over Flight SQL, in files."""

import pathlib
import random
import xml.etree.ElementTree as ElementTree

import cf_units
import netCDF4
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lacus

NAMES = pathlib.Path(__file__).resolve().parents[2] / "crates" / "lacus-units" / "src" / "names.txt"
# What UDUNITS means by them, and why it is something else here.
OTHER = {"ct": "counts of FITS; there it is a hundredth of a tonne", "nmi": "nautical miles; there they are nanomiles", "pH": "pH; there it is a picohenry"}
# UDUNITS has the values of constants of 1986, and few digits of old units; the present ones are nearer to each other than this.
ROUNDED = 2e-5
EXACT = 1e-12


def table_names() -> list[str]:
    rows = [line.split(";") for line in NAMES.read_text().splitlines() if line and not line.startswith("#")]
    return [name for row in rows for part in row[1:] for name in part.split()]


def meaning(text: str) -> cf_units.Unit | None:
    """What UDUNITS reads, if it reads it."""
    try:
        unit = cf_units.Unit(text)
    except ValueError:
        return None
    return None if unit.is_unknown() or unit.is_no_unit() or unit.is_time_reference() else unit


def converted(rows: list[tuple[float, str, str]]) -> list[float]:
    """Each value in its other unit."""
    table = pa.table({"value": [row[0] for row in rows], "one": [row[1] for row in rows], "other": [row[2] for row in rows]})
    lake = lacus.open()
    lake.register("rows", table)
    return lake.sql("SELECT convert_units(value, one, other) AS found FROM rows").to_arrow()["found"].to_pylist()


def differs(found: float, wanted: float) -> float:
    return abs(found - wanted) / max(abs(wanted), 1e-300)


def base(unit: cf_units.Unit) -> cf_units.Unit:
    """The same quantity in base units, without a number."""
    words = [word for word in unit.definition.replace(" @ ", "@").split() if not word.replace(".", "").replace("e", "").replace("-", "").isdigit()]
    text = words[-1] if words else "1"
    return cf_units.Unit("K" if text.startswith("K@") or "@" in text else text)


def test_each_name_says_what_it_says_to_udunits() -> None:
    lake = lacus.open()
    other, compared, exact = {}, 0, 0
    for name in table_names():
        unit = meaning(name)
        if unit is None or "re " in unit.definition:
            continue
        target = base(unit)
        wanted = unit.convert(-2.5, target)
        compared += 1
        try:
            found = lake.sql("SELECT convert_units(-2.5, $1, $2) AS x", [name, str(target)]).to_arrow()["x"][0].as_py()
        except lacus.Error as error:
            other[name] = str(error)
            continue
        exact += differs(found, wanted) < EXACT
        if differs(found, wanted) > ROUNDED:
            other[name] = f"{found}, and not {wanted}"
    print(f"{exact} of {compared} units have the digits of UDUNITS")
    assert sorted(other) == sorted(OTHER), other
    assert compared > 250 and exact / compared > 0.7, (compared, exact)


def test_most_of_udunits_is_known() -> None:
    folder = pathlib.Path(cf_units.__file__).parent / "etc" / "share"
    known = {name.casefold() for name in table_names()}
    base_units, derived, accepted, everything = (
        [
            name.text or ""
            for file in files
            for unit in ElementTree.parse(folder / f"udunits2-{file}.xml").getroot().iter("unit")
            for name in [*unit.iter("singular"), *unit.iter("symbol")]
        ]
        for files in (["base"], ["derived"], ["accepted"], ["base", "derived", "accepted", "common"])
    )
    known |= {"kilogram", "kg"}
    for names in (base_units, derived, accepted):
        assert [name for name in names if name.casefold() not in known and meaning(name)] == []
    share = sum(name.casefold() in known for name in everything) / len(everything)
    print(f"{share:.0%} of {len(everything)} names of UDUNITS")
    assert share > 0.55


@pytest.mark.parametrize("seed", range(4))
def test_products_are_read_as_udunits_reads_them(seed: int) -> None:
    chance = random.Random(seed)
    atoms = ["m", "s", "kg", "K", "mol", "A", "cd", "W", "Pa", "hPa", "J", "degC", "hour", "km", "g", "mbar", "day", "L", "um", "meter", "kilograms", "degrees", "MHz"]
    rows, wanted = [], []
    while len(rows) < 100:
        text = ""
        for position in range(chance.randint(1, 4)):
            power = chance.choice([1, 1, 1, 2, -1, -2, 3])
            written = {1: ""}.get(power, chance.choice([f"{power}", f"^{power}", f"**{power}"]))
            text += (chance.choice([" ", ".", "*", "/", " / "]) if position else "") + chance.choice(atoms) + written
        if chance.random() < 0.2:
            text = f"{chance.choice(['1e-3', '10', '2.5', '1E6', '10^-2'])} {text}"
        if chance.random() < 0.2:
            text = f"({text})2"
        unit = meaning(text)
        if unit is None:
            continue
        target = base(unit)
        if unit.convert(1.0, target) in (0.0, float("inf")):
            continue
        rows.append((1.5, text, str(target)))
        wanted.append(unit.convert(1.5, target))
    for row, found, expected in zip(rows, converted(rows), wanted, strict=True):
        assert differs(found, expected) < 1e-9, (row, found, expected)


def described(unit: str, **more: str) -> dict[str, str]:
    return {"units": unit, **more}


@pytest.fixture
def readings() -> pa.Table:
    fields = [
        pa.field("place", pa.string()),
        pa.field("t", pa.float64(), metadata=described("degC", long_name="Air temperature")),
        pa.field("p", pa.float32(), metadata=described("hPa")),
        pa.field("day", pa.float64(), metadata=described("days since 2000-01-01", calendar="360_day")),
    ]
    return pa.table([["a", "a", "b"], [20.0, 10.0, -5.0], [1000.0, 990.0, 1010.0], [1.0, 2.0, 59.0]], schema=pa.schema(fields))


def units_of(schema: pa.Schema) -> dict[str, str | None]:
    found = {field.name: (field.metadata or {}).get(b"units") for field in schema}
    return {name: unit and unit.decode() for name, unit in found.items()}


SQL = """SELECT place, max(t) AS hot, avg(p) AS p, convert_units(max(t), 'K') AS k, max(t) - min(t) AS apart, sum(t) AS none, max(day) AS day
    FROM readings GROUP BY place ORDER BY place"""
EXPECTED = {"place": None, "hot": "degC", "p": "hPa", "k": "K", "apart": "K", "none": None, "day": "days since 2000-01-01"}


def test_results_in_python_have_units(readings: pa.Table) -> None:
    lake = lacus.open()
    lake.register("readings", readings)
    result = lake.sql(SQL)
    table = result.to_arrow()
    assert units_of(table.schema) == EXPECTED
    assert (table.schema.field("day").metadata or {})[b"calendar"] == b"360_day"
    assert table["k"].to_pylist() == [293.15, 268.15]
    assert all(batch.schema.equals(table.schema, check_metadata=True) for batch in table.to_batches())


def test_strictness_is_for_a_session(readings: pa.Table) -> None:
    lake = lacus.open()
    lake.register("readings", readings)
    answer = lake.sql("SELECT t + p AS x FROM readings").to_arrow()
    assert b"brings together `degC` and `hPa`" in (answer.schema.metadata or {})[b"lacus.notices"]
    lake.sql("SET lacus.units = 'strict'")
    with pytest.raises(lacus.Error, match="they measure different things"):
        lake.sql("SELECT t + p AS x FROM readings")
    assert lake.sql("SELECT t + t AS x FROM readings").to_arrow().num_rows == 3


def test_the_lake_file_may_be_strict(tmp_path: pathlib.Path, readings: pa.Table) -> None:
    pq.write_table(readings, tmp_path / "readings.parquet")
    (tmp_path / "lacus.toml").write_text('[lake]\nunits = "strict"\n[dataset.readings]\npath = "readings.parquet"\n')
    lake = lacus.open(tmp_path)
    with pytest.raises(lacus.Error, match="brings together `degC` and `hPa`"):
        lake.sql("SELECT t + p AS x FROM readings")
    (tmp_path / "lacus.toml").write_text('[lake]\nunits = "loud"\n')
    with pytest.raises(lacus.Error, match="neither `warn` nor `strict`.*lake.units"):
        lacus.open(tmp_path)


def test_files_that_are_written_have_units(tmp_path: pathlib.Path, readings: pa.Table) -> None:
    (tmp_path / "lacus.toml").write_text('[store.out]\nurl = "."\nwritable = true\n')
    lake = lacus.open(tmp_path)
    lake.register("readings", readings)
    lake.sql(f"COPY ({SQL}) TO 'out:kept.parquet'")
    assert units_of(pq.read_schema(tmp_path / "kept.parquet")) == EXPECTED
    lake.sql("COPY (SELECT day, max(t) AS t, avg(p) AS p FROM readings GROUP BY day ORDER BY day) TO 'out:kept.nc' OPTIONS (dims 'day')")
    with netCDF4.Dataset(tmp_path / "kept.nc") as kept:
        assert (kept["t"].units, kept["p"].units, kept["day"].calendar) == ("degC", "hPa", "360_day")


def test_functions_of_ones_own_say_units(readings: pa.Table) -> None:
    import pyarrow.compute as pc

    lake = lacus.open()
    lake.register("readings", readings)

    @lake.function(arguments=[pa.float64()], returns=pa.field("k", pa.float64(), metadata={"units": "K"}))
    def kelvins(t):
        return pc.add(t, 273.15)

    table = lake.sql("SELECT kelvins(t) AS k, convert_units(kelvins(t), 'degC') AS c, max(kelvins(t)) OVER () AS m FROM readings").to_arrow()
    assert units_of(table.schema) == {"k": "K", "c": "degC", "m": "K"}
    assert table["c"].to_pylist() == pytest.approx([20.0, 10.0, -5.0])
