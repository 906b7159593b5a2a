"""Times of every kind are seconds; what is no time is one line that names the row."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from sparcode.config import DataConfig, config_from_dict, load_config, to_toml
from sparcode.data.interactions import build_interactions
from sparcode.data.split import by_time
from sparcode.data.times import could_be_times, ticks_per_second, to_seconds, unit_name
from sparcode.errors import ConfigError, DataError

MOMENT = 1365029107.0
DAY = 1364947200.0
ROWS = np.arange(100)


@pytest.mark.parametrize(
    "text",
    [
        "2013-04-03T22:45:07",
        "2013-04-03 22:45:07",
        "2013-04-03 22:45:07Z",
        "2013-04-03 22:45:07 UTC",
        "2013-04-03T22:45:07+00:00",
        "2013-04-04T00:45:07+0200",
        "2013-04-04 00:45:07 +02",
        "2013/04/03 22:45:07",
        "2013-04-03T22:45:07.000000000",
        " 2013-04-03T22:45:07.0000000009Z ",
        "1365029107",
        "1365029107.0",
        "1.365029107e9",
    ],
)
def test_text(text: str) -> None:
    for kind in (pa.string(), pa.large_string()):
        assert to_seconds(pa.array([text, None, "", text], kind), "t", ROWS).tolist()[::3] == [MOMENT, MOMENT]


def test_texts_may_differ_in_form() -> None:
    texts = pa.array(["2013-04-03", "2013-04-03T22:45:07Z", None, "2013-04-03 22:45", "9999-12-31"])
    found = to_seconds(texts, "t", ROWS)
    assert found[[0, 1, 3, 4]].tolist() == [DAY, MOMENT, MOMENT - 7, 253402214400.0]
    assert np.isnan(found[2])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_and_durations_of_every_unit(unit: str) -> None:
    ticks = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    for zone in (None, "UTC", "Europe/Berlin"):
        array = pa.array([int(MOMENT) * ticks, None], pa.timestamp(unit, zone))
        assert to_seconds(pa.chunked_array([array]), "t", ROWS)[0] == MOMENT
    assert to_seconds(pa.array([3 * ticks], pa.duration(unit)), "t", ROWS).tolist() == [3.0]


def test_nanoseconds_are_read_to_the_microsecond() -> None:
    array = pa.array([int(MOMENT) * 10**9 + 123_456_789], pa.timestamp("ns"))
    assert to_seconds(array, "t", ROWS)[0] == pytest.approx(MOMENT + 0.123456, abs=1e-6)


def test_dates_and_decimals() -> None:
    day = [datetime.date(2013, 4, 3)]
    assert to_seconds(pa.array(day, pa.date32()), "t", ROWS).tolist() == [DAY]
    assert to_seconds(pa.array(day, pa.date64()), "t", ROWS).tolist() == [DAY]
    assert to_seconds(pa.array([Decimal("1365029107.5")]), "t", ROWS).tolist() == [MOMENT + 0.5]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array([1], pa.time32("s")), "'t' holds times of day without a date"),
        (pa.array([1], pa.time64("ns")), "'t' holds times of day without a date"),
        (pa.array([True]), "must hold numbers, found bool"),
        (pa.array([[1]]), "must hold numbers, found list"),
        (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "must hold numbers"),
        (pa.array(["2013-04-03", "2013-13-03"]), "row 2: '2013-13-03' is no number and no ISO date"),
        (pa.array(["2013-04-03"] * 5 + ["soon"]), "row 6: 'soon'"),
        (pa.array(["1", "2", "x"]), "row 3: 'x'"),
        (pa.array(["x", "1", "2"]), "row 1: 'x'"),
        (pa.array(["04/03/2013"]), "row 1: '04/03/2013'"),
        (pa.array(["2013-04-03T25:00"]), "row 1"),
    ],
)
def test_what_is_no_time_is_one_line(array: pa.Array, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        to_seconds(array, "t", ROWS)
    assert "\n" not in str(caught.value)


def test_units_of_unix_times() -> None:
    times = np.array([0.0, MOMENT, MOMENT + 1, MOMENT + 2])
    for ticks, name in ((1, "seconds"), (1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")):
        assert (ticks_per_second(times * ticks), unit_name(times * ticks)) == (ticks, name)
    assert ticks_per_second(np.arange(1000.0)) is None
    assert ticks_per_second(np.array([1e300])) is None
    assert unit_name(np.zeros(0)) is None


def test_columns_that_could_be_times() -> None:
    columns = {"n": [1, 2], "when": [MOMENT, MOMENT], "hole": [MOMENT, None], "day": ["2013-04-03", "2014-01-01"]}
    table = pa.table({**columns, "dated": [datetime.date(2013, 4, 3)] * 2, "text": ["a", "b"]})
    table = table.set_column(3, "day", table["day"].cast(pa.large_string()))
    assert could_be_times(table) == ["when", "day", "dated"]


def _events(times: pa.Array) -> object:
    table = pa.table({"u": [1] * len(times), "i": list(range(len(times))), "t": times})
    return build_interactions(table, {"user": "u", "item": "i", "time": "t"}, ROWS)


@pytest.mark.parametrize("ticks", [1, 10**3, 10**6, 10**9])
def test_a_date_cuts_times_of_every_unit(ticks: int) -> None:
    days = [int(DAY) + 86400 * day for day in range(10)]
    for times in (pa.array([day * ticks for day in days]), pa.array(days, pa.timestamp("s"))):
        for cut in ("2013-04-10", "2013-04-10T00:00", "2013-04-10T02:00+02:00", "2013-04-09 23:59"):
            assert (by_time(_events(times), cut).part == 2).tolist() == [False] * 7 + [True] * 3, cut


def test_cuts_that_make_no_sense_are_one_line() -> None:
    times = pa.array([int(DAY) + 86400 * day for day in range(10)])
    with pytest.raises(DataError, match="run from 0 to 9 and are no dates or Unix times; give a share"):
        by_time(_events(pa.array(range(10))), "2013-04-10")
    with pytest.raises(DataError, match=r"seconds, 2013-04-03T00:00 to 2013-04-12T00:00; a date is a cut too"):
        by_time(_events(times), 1365000000000.0)
    with pytest.raises(DataError, match="2020-01-01: 10 events lie before the cut and 0 from it on"):
        by_time(_events(times), "2020-01-01")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("0.8", 0.8),
        (1, 1.0),
        ("1365029107", MOMENT),
        (" 2020-01-01 ", "2020-01-01"),
        ("2020-01-01T12:00+02:00", "2020-01-01T12:00+02:00"),
        (datetime.date(2020, 1, 1), "2020-01-01"),
        (datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC), "2020-01-01T12:00:00+00:00"),
        (None, None),
    ],
)
def test_the_configuration_keeps_numbers_and_dates(given: object, kept: object, tmp_path) -> None:
    config = config_from_dict({"data": {"time_cut": given}})
    assert config.data.time_cut == kept
    (tmp_path / "c.toml").write_text(to_toml(config))
    assert load_config(tmp_path / "c.toml") == config
    assert DataConfig.model_validate_json(config.data.model_dump_json()) == config.data


def test_toml_and_overrides_take_dates(tmp_path) -> None:
    (tmp_path / "c.toml").write_text("[data]\ntime_cut = 2020-01-01\n")
    assert load_config(tmp_path / "c.toml").data.time_cut == "2020-01-01"
    assert load_config(None, ["data.time_cut=2020-01-01T12:00"]).data.time_cut == "2020-01-01T12:00"


@pytest.mark.parametrize("text", ["soon", "", "2020-13-01", "nan", "inf", True, [1]])
def test_a_cut_that_is_neither_is_one_line(text: object) -> None:
    with pytest.raises(ConfigError, match=r"'data.time_cut': got .*, expected a share .*2020-01-01T12:00") as caught:
        config_from_dict({"data": {"time_cut": text}})
    assert "\n" not in str(caught.value)
