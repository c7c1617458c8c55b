"""Settings are checked once, in plain sentences, before anything is started or stored."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from durablejobs import (
    FOREVER,
    ConfigurationError,
    DatabaseConfig,
    DurableJobsError,
    JobDefaults,
    Retention,
    WorkerConfig,
)
from durablejobs.config import DAY, checked_name, checked_options, checked_unique_key, parsed_job_id
from durablejobs.enqueue_options import EnqueueOptions


@pytest.mark.parametrize(
    ("config", "setting", "value"),
    [
        (DatabaseConfig, "busy_timeout", -1),
        (DatabaseConfig, "busy_timeout", math.nan),
        (DatabaseConfig, "busy_timeout", 1e300),
        (DatabaseConfig, "busy_timeout", "5"),
        (DatabaseConfig, "synchronous", "OFF"),
        (DatabaseConfig, "synchronous", "full"),
        (DatabaseConfig, "synchronous", 2),
        (JobDefaults, "queue", ""),
        (JobDefaults, "queue", "two words"),
        (JobDefaults, "priority", 2**31),
        (JobDefaults, "priority", 1.5),
        (JobDefaults, "max_attempts", 0),
        (JobDefaults, "max_attempts", -1),
        (JobDefaults, "max_attempts", 10**9),
        (JobDefaults, "max_attempts", True),
        (JobDefaults, "args_limit", 1),
        (JobDefaults, "result_limit", 2**31),
        (Retention, "succeeded", -1),
        (Retention, "failed", math.nan),
        (Retention, "cancelled", "7d"),
        (WorkerConfig, "concurrency", 0),
        (WorkerConfig, "concurrency", 1001),
        (WorkerConfig, "concurrency", 2.0),
        (WorkerConfig, "interval", 0),
        (WorkerConfig, "interval", math.nan),
        (WorkerConfig, "interval", math.inf),
        (WorkerConfig, "grace", -1),
        (WorkerConfig, "grace", math.inf),
        (WorkerConfig, "lease", 0),
        (WorkerConfig, "lease", 1e300),
        (WorkerConfig, "heartbeat", 0),
        (WorkerConfig, "heartbeat", -1),
        (WorkerConfig, "max_crashes", 0),
        (WorkerConfig, "prune_interval", 0),
        (WorkerConfig, "max_jobs", 0),
        (WorkerConfig, "max_jobs", 2**63),
        (WorkerConfig, "name", "no spaces"),
    ],
)
def test_a_value_out_of_bounds_is_refused_and_the_setting_named(config: Any, setting: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config(**{setting: value})
    assert setting in caught.value.setting
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_heartbeat_slower_than_a_third_of_the_lease_is_refused_with_both_numbers() -> None:
    with pytest.raises(
        ConfigurationError, match=r"heartbeat: 11 s is more than a third of the lease, 30 s: .* 10 s or"
    ):
        WorkerConfig(lease=30, heartbeat=11)
    assert WorkerConfig(lease=30, heartbeat=10).heartbeat == 10


def test_settings_are_values_nobody_changes_afterwards() -> None:
    for config in (DatabaseConfig(), JobDefaults(), Retention(), WorkerConfig(concurrency=1)):
        for each in fields(config):
            with pytest.raises(FrozenInstanceError):
                setattr(config, each.name, getattr(config, each.name))


def test_the_defaults_are_the_documented_ones() -> None:
    assert DatabaseConfig() == DatabaseConfig(busy_timeout=30, synchronous="FULL")
    assert JobDefaults().max_attempts == 20
    assert Retention() == Retention(succeeded=7 * DAY, cancelled=7 * DAY, failed=90 * DAY)
    assert WorkerConfig(lease=30).heartbeat == 8


def test_zero_and_for_ever_are_retentions() -> None:
    assert Retention(succeeded=0, failed=FOREVER).failed == math.inf


@pytest.mark.parametrize("name", ["mail", "a", "A.b_c:d-9", "x" * 200])
def test_these_are_names(name: str) -> None:
    assert checked_name(name, "handler") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "mail\n",
        "\nmail",
        "ma\0il",
        "a/b",
        "müll",
        "x" * 201,
        "x" * 10_000,
        "\u202e",
        "a\tb",
        None,
        7,
        b"mail",
    ],
)
def test_these_are_not_names_and_the_message_stays_short(name: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        checked_name(name, "handler")
    assert str(caught.value).startswith("handler: must be 1-200 of A-Z a-z 0-9 _ . : - , not ")
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


def test_a_very_long_name_is_shown_by_its_beginning_and_its_length() -> None:
    with pytest.raises(ConfigurationError, match=r"'xxxxx.*… \(10,000 characters\)$"):
        checked_name("x" * 10_000, "queue")


@pytest.mark.parametrize("key", ["a", "welcome:7", "grüße 7", "x" * 500])
def test_these_are_unique_keys(key: str) -> None:
    assert checked_unique_key(key) == key


@pytest.mark.parametrize("key", ["", "x" * 501, "a\nb", "a\0b", "\udc80", 7, b"a", None])
def test_these_are_not_unique_keys(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="unique_key: must be 1-500 printable characters"):
        checked_unique_key(key)


@pytest.mark.parametrize(("given", "number"), [(1, 1), ("1", 1), ("007", 7), (2**63 - 1, 2**63 - 1)])
def test_these_are_job_ids(given: Any, number: int) -> None:
    assert parsed_job_id(given) == number


@pytest.mark.parametrize(
    "given",
    [
        0,
        -1,
        10**30,
        2**63,
        "0",
        "-1",
        "+1",
        "1.0",
        " 1",
        "1 OR 1=1",
        "",
        "٣",
        "1_000",
        "9" * 19,
        "9" * 5000,
        1.0,
        True,
        None,
    ],
)
def test_no_job_can_have_these_ids(given: Any) -> None:
    assert parsed_job_id(given) is None


def test_an_unknown_option_is_refused_with_the_nearest_one() -> None:
    assert checked_options(WorkerConfig, {"lease": 5}) == {"lease": 5}
    with pytest.raises(ConfigurationError, match=r"^concurency: is not a known option; did you mean concurrency\?$"):
        checked_options(WorkerConfig, {"concurency": 4})
    with pytest.raises(ConfigurationError, match=r"^zzz: is not a known option$"):
        checked_options(EnqueueOptions, {"zzz": 4})


def test_a_configuration_error_is_a_value_error_too() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(ConfigurationError, DurableJobsError)
