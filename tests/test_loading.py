"""What importing loads: nothing heavy before it is used, and nothing that other systems lack."""

import subprocess
import sys
import textwrap

import pytest

# prints each unwanted module that is loaded, and by which modules, the nearest first
LOADS = """
import sys

unwanted = {unwanted!r}
chains = {{}}

class Watch:
    def find_spec(self, name, path=None, target=None):
        frame, chain = sys._getframe(1), []
        while frame and name in unwanted:
            module = frame.f_globals.get("__name__", "")
            if "importlib" not in module and module not in chain:
                chain.append(module)
            frame = frame.f_back
        chains.setdefault(name, chain)

sys.meta_path.insert(0, Watch())
import {module}
for name in unwanted:
    if name in sys.modules:
        print(name, "is loaded by", " < ".join(chains[name]))
"""

# as on a system without what is POSIX's alone; prints the modules that cannot be imported there
ELSEWHERE = """
import os, pkgutil, sys
from importlib import import_module

for name in ("fcntl", "resource", "pwd", "termios"):
    sys.modules[name] = None
if hasattr(os, "sched_getaffinity"):
    del os.sched_getaffinity

import holotype

count = 0
for module in pkgutil.walk_packages(holotype.__path__, "holotype."):
    count += 1
    try:
        import_module(module.name)
    except (ImportError, AttributeError) as error:
        print(f"{module.name}: {error}")
assert count > 40
"""


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("holotype", "torch openvino onnxruntime matplotlib fastapi sklearn pandas optuna"),
        ("holotype.cli.main", "torch openvino onnxruntime matplotlib fastapi sklearn pandas optuna numpy PIL pydantic"),
        ("holotype.model.classifier", "sklearn torch fastapi optuna matplotlib pyarrow jinja2 uvicorn"),
        ("holotype.review.review", "fastapi uvicorn matplotlib optuna"),
        ("holotype.runs.sweep", "optuna matplotlib fastapi jinja2"),
    ],
)
def test_importing_loads_nothing_heavy(module: str, unwanted: str) -> None:
    assert python(LOADS.format(module=module, unwanted=unwanted.split())) == ""


def test_what_is_loaded_is_named_with_what_loads_it() -> None:
    assert python(LOADS.format(module="holotype.settings", unwanted=["pydantic", "torch"])) == (
        "pydantic is loaded by holotype.settings < __main__"
    )


def test_openvino_tells_nobody_that_it_is_used() -> None:
    """Its telemetry sends an event when it is imported, from a thread of its own."""
    code = """
        import sys, threading
        from holotype.encoders.runtimes import runs_bf16
        runs_bf16("openvino")
        print("openvino" in sys.modules, [name for name in sys.modules if name.startswith("openvino_telemetry")])
        print(threading.active_count())
    """
    assert python(textwrap.dedent(code)).splitlines() == ["True []", "1"]


def test_nothing_of_posix_alone_is_needed_to_import_it() -> None:
    assert python(ELSEWHERE) == ""
