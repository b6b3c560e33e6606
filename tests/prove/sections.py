"""The proofs by name, and the module of each, which has ``prove(folder: Path, *, full: bool) -> list[Claim]``.

They stand in the order in which ``make prove`` runs them. One whose module is missing is an error of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias

from tests.proof import Claim

Prove: TypeAlias = Callable[..., list[Claim]]

SECTIONS: dict[str, str] = {
    "kill": "tests.crash.kill",
    "powerloss": "tests.crash.powerloss",
    "diskfull": "tests.crash.diskfull",
    "corrupt": "tests.crash.corrupt",
    "storm": "tests.runtime.storm",
    "faults": "tests.runtime.faults",
    "soak": "tests.soak.proof",
    "sim": "tests.sim.proof",
    "hostile": "tests.hostile.proof",
    "web": "tests.fuzz.web",
    "configs": "tests.fuzz.configs",
    "burn": "tests.generate.burn_proof",
    "secrets": "tests.policy.secrets",
    "reach": "tests.policy.reach",
    "calls": "tests.policy.calls",
    "dependencies": "tests.policy.dependencies",
}


def load(module: str) -> Prove:
    """:raises ImportError, AttributeError: there is no such module, or it proves nothing."""
    prove: Prove = import_module(module).prove
    return prove
