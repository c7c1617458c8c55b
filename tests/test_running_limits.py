"""`max_running` and `running_key`: what a handler may say, and the key that a job gets."""

from __future__ import annotations

from typing import Any

import pytest

from durablejobs import ArgumentsError, ConfigurationError, DurableJobs, RegistrationError
from durablejobs.running_limits import RunningLimit, group_text
from durablejobs.testing import JobsKit


def sync(tenant: str, order: Any = None, *, region: str = "eu") -> None: ...


@pytest.mark.parametrize(
    ("template", "args", "kwargs", "key"),
    [
        (None, ("acme",), {}, "sync"),
        ("{kwargs[tenant]}", (), {"tenant": "acme"}, "sync/acme"),
        ("{kwargs[tenant]}", ("acme",), {}, "sync/acme"),
        ("{args[0]}", (), {"tenant": "acme"}, "sync/acme"),
        ("{kwargs[tenant]}-{kwargs[region]}", ("acme",), {}, "sync/acme-eu"),
        ("{kwargs[order][lines][1][id]}", ("a",), {"order": {"lines": [{}, {"id": 7}]}}, "sync/7"),
        ("{kwargs[order]}", ("a", {"b": [True, None]}), {}, 'sync/{"b": [true, null]}'),
        ("{{{kwargs[tenant]}}}", ("{args[9]}",), {}, "sync/{{args[9]}}"),
    ],
)
def test_the_key_is_made_of_the_arguments_however_they_were_passed(
    jobs: DurableJobs, template: str | None, args: tuple[Any, ...], kwargs: dict[str, Any], key: str
) -> None:
    handler = jobs.handler(max_running=1, running_key=template)(sync)
    assert jobs.get(handler.enqueue(*args, **kwargs).id).running_key == key
    assert jobs.get(jobs.enqueue("sync", *args, **kwargs).id).running_key == key


def test_many_get_their_keys_and_none_is_stored_when_one_has_none(jobs: DurableJobs) -> None:
    handler = jobs.handler(max_running=1, running_key="{kwargs[order][id]}")(sync)
    handler.enqueue_many([("a", {"id": 1}), {"tenant": "b", "order": {"id": 2}}])
    assert [job.running_key for job in jobs.list_jobs()] == ["sync/2", "sync/1"]
    with pytest.raises(ArgumentsError, match=r"item 1: running_key '\{kwargs\[order\]\[id\]\}' of handler 'sync'"):
        handler.enqueue_many([("a", {"id": 1}), ("b",)])
    assert len(jobs.list_jobs()) == 2


@pytest.mark.parametrize(
    "template",
    [
        "{kwargs.__class__}",
        "{kwargs[tenant].__class__}",
        "{kwargs[tenant]!r}",
        "{kwargs[tenant]:>9}",
        "{tenant}",
        "{}",
        "{0}",
        "{kwargs}",
        "{args[x]}",
        "{kwargs[tenant]",
        "always the same",
        "{self.__init__.__globals__[x]}",
        7,
    ],
)
def test_a_template_that_is_none_is_refused_in_one_line(jobs: DurableJobs, template: Any) -> None:
    with pytest.raises(ConfigurationError, match="running_key") as caught:
        jobs.handler(max_running=1, running_key=template)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", ["{kwargs[nope]}", "{args[2]}", "{args[9]}"])
def test_a_template_that_names_no_parameter_is_refused_at_registration(jobs: DurableJobs, template: str) -> None:
    with pytest.raises(RegistrationError, match=r"handler 'sync' has a running_key with .*, but takes tenant, order"):
        jobs.handler(max_running=1, running_key=template)(sync)


@pytest.mark.parametrize("options", [{"max_running": 0}, {"max_running": True}, {"running_key": "{args[0]}"}])
def test_a_limit_that_is_none_is_refused(jobs: DurableJobs, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        jobs.handler(**options)


@pytest.mark.parametrize("tenant", ["x" * 500, "two\nlines"])
def test_a_key_that_cannot_be_stored_or_shown_is_refused(jobs: DurableJobs, tenant: str) -> None:
    handler = jobs.handler(max_running=1, running_key="{kwargs[tenant]}")(sync)
    with pytest.raises(ArgumentsError, match="must give printable text"):
        handler.enqueue(tenant)
    assert jobs.list_jobs() == []


def test_a_replaced_job_gets_the_key_of_its_new_arguments(jobs: DurableJobs) -> None:
    handler = jobs.handler(max_running=1, running_key="{kwargs[tenant]}")(sync)
    handler.using(unique_key="k").enqueue("a")
    replaced = handler.using(unique_key="k", on_conflict="replace").enqueue("b")
    assert replaced.running_key == "sync/b"


def test_people_see_the_name_of_the_argument() -> None:
    assert group_text("sync/acme", "{kwargs[tenant]}") == "tenant=acme"
    assert group_text("sync/7", "{kwargs[order][customer]}") == "customer=7"
    assert group_text("sync/a-b", "{args[0]}-{args[1]}") == "key a-b"
    assert group_text("sync", None) == "handler sync"


def test_broken_arguments_share_places_instead_of_blocking() -> None:
    limit = RunningLimit.of("sync", 1, "{kwargs[order][id]}", None)
    assert [limit.key_of_json(*each) for each in (("[", "{}"), ("[]", "[]"), ("[]", "{}"))] == ["sync/"] * 3


def test_the_testing_kit_drains_limited_jobs(jobs: DurableJobs, tmp_path: Any) -> None:
    handler = jobs.handler(max_running=1, running_key="{kwargs[tenant]}")(sync)
    with JobsKit(jobs, tmp_path) as kit:
        handler.enqueue_many([("a",), ("a",), ("b",)])
        assert len(kit.drain()) == 3
