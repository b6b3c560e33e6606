"""What a profile of the bench adds up to."""

from __future__ import annotations

from bench.profile import Place, Profiled, Stats, part_of, parts

STREAM: Place = ("src/watchbill/net/streams.py", 10, "send")
BUS: Place = ("src/watchbill/bus.py", 20, "publish")
LENGTH: Place = ("~", 0, "<built-in method builtins.len>")
STATS: Stats = {
    STREAM: (10, 10, 0.2, 0.3, {}),
    BUS: (20, 20, 0.1, 0.1, {}),
    LENGTH: (30, 30, 0.1, 0.1, {STREAM: (30, 30, 0.1, 0.1)}),
}


def test_built_in_functions_count_for_their_callers_and_the_rest_is_the_loop() -> None:
    table = parts(Profiled(thread_seconds=0.8, process_seconds=1.0, stats=STATS, probes=10), title="http")
    assert {name: (share, calls) for name, share, calls in table.rows} == {
        "network": ("30.0%", "1.0"),
        "bus": ("10.0%", "2.0"),
        "the loop itself: polling, sockets, callbacks": ("40.0%", "0.0"),
        "other threads": ("20.0%", "0.0"),
    }


def test_every_file_belongs_to_a_part() -> None:
    assert part_of(("/a/src/watchbill/probes/execute.py", 1, "f")) == "executor"
    assert part_of(("/a/src/watchbill/probes/dns.py", 1, "f")) == "probers"
    assert part_of(("/usr/lib/python3.11/json/encoder.py", 1, "f")) == "Python's library and others"
