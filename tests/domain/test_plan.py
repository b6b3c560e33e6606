"""A plan applied gives what was desired; planning again is empty."""

from hypothesis import given
from hypothesis import strategies as st

from watchbill.domain.checks import Check, parse_check
from watchbill.domain.plan import FieldChange, Load, diff, load_of
from watchbill.domain.specs import spec_of

names = st.sampled_from([f"c{number}" for number in range(12)])
bodies = st.fixed_dictionaries(
    {
        "interval": st.sampled_from(["10s", "30s", "1m"]),
        "enabled": st.booleans(),
        "headers": st.dictionaries(st.sampled_from(["X-A", "X-B"]), st.sampled_from(["one", "two"])),
    }
)
declared = st.dictionaries(names, bodies).map(
    lambda found: {
        name: parse_check({"id": name, "type": "http", "url": f"http://{name}/", **body})
        for name, body in found.items()
    }
)
moves = st.dictionaries(names, names, max_size=4)


def applied(desired: dict[str, Check], actual: dict[str, Check], moved: dict[str, str]) -> dict[str, Check]:
    plan = diff(specs(desired), specs(actual), moved)
    running = dict(actual)
    for change in plan.moved:
        assert change.moved_from is not None
        del running[change.moved_from]
        running[change.check_id] = desired[change.check_id]
    for check_id in plan.removed:
        del running[check_id]
    for changed in plan.changed:
        running[changed.check_id] = desired[changed.check_id]
    for check_id in plan.added:
        assert check_id not in running
        running[check_id] = desired[check_id]
    return running


def specs(checks: dict[str, Check]):  # type: ignore[no-untyped-def]
    return {check_id: spec_of(check) for check_id, check in checks.items()}


@given(declared, declared, moves)
def test_a_plan_applied_to_actual_gives_desired_and_planning_again_is_empty(
    desired: dict[str, Check], actual: dict[str, Check], moved: dict[str, str]
) -> None:
    running = applied(desired, actual, moved)
    assert running == desired
    assert diff(specs(desired), specs(running), moved).empty


def test_each_id_is_in_exactly_one_part_of_the_plan() -> None:
    def one(check_id: str, **fields: str) -> Check:
        return parse_check({"id": check_id, "type": "tcp", "host": "h", "port": 1, **fields})

    actual = {"kept": one("kept"), "slower": one("slower"), "gone": one("gone"), "old": one("old")}
    desired = {
        "kept": one("kept"),
        "slower": one("slower", interval="1m"),
        "new": one("new"),
        "fresh": one("fresh"),
    }
    plan = diff(specs(desired), specs(actual), {"old": "new"})
    assert plan.added == ("fresh",)
    assert plan.removed == ("gone",)
    assert [change.check_id for change in plan.changed] == ["slower"]
    assert plan.changed[0].fields == (FieldChange("interval", None, "1m"),)
    assert [(change.moved_from, change.check_id) for change in plan.moved] == [("old", "new")]


def test_a_rotated_secret_is_a_change_that_shows_neither_value() -> None:
    def shop(token: str) -> dict[str, Check]:
        return {
            "shop": parse_check(
                {
                    "id": "shop",
                    "type": "http",
                    "url": "http://shop/",
                    "auth": {"bearer": token},
                    "references": {"auth.bearer": "${TOKEN}"},
                }
            )
        }

    [change] = diff(specs(shop("hunter2-new")), specs(shop("hunter2-old")), {}).changed
    assert change.fields == (FieldChange("auth.bearer", "${TOKEN}", "${TOKEN}", secret=True),)
    assert "hunter2" not in repr(change)


def test_a_chain_of_renames_is_followed_to_what_is_declared() -> None:
    def one(check_id: str) -> dict[str, Check]:
        return {check_id: parse_check({"id": check_id, "type": "icmp", "host": "h"})}

    plan = diff(specs(one("c")), specs(one("a")), {"a": "b", "b": "c"})
    assert [(change.moved_from, change.check_id) for change in plan.moved] == [("a", "c")]


def test_deleting_more_than_half_and_more_than_ten_is_a_mass_delete() -> None:
    def many(count: int) -> dict[str, Check]:
        return {f"c{n}": parse_check({"id": f"c{n}", "type": "icmp", "host": "h"}) for n in range(count)}

    assert diff(specs(many(5)), specs(many(16)), {}).deletes_most_of(16)
    assert not diff(specs(many(0)), specs(many(10)), {}).deletes_most_of(10)
    assert not diff(specs(many(11)), specs(many(22)), {}).deletes_most_of(22)


def test_the_load_counts_what_is_enabled() -> None:
    def one(check_id: str, **fields: object) -> dict[str, Check]:
        return {check_id: parse_check({"id": check_id, "type": "icmp", "host": "h", **fields})}

    load = load_of(specs(one("a", interval="2s") | one("b", interval="10s", enabled=False)), {"icmp": 20})
    assert load == Load(checks=1, checks_per_second=0.5, rows_per_day=43_200, series=20)
