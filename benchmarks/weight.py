"""python -m benchmarks.weight: what an installation weighs, by what is installed here.

Of holotype with all that it asks for, and of what a server needs that only predicts (docs/guides/shipping.md).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from installed import closure, size_of
from test_wheel import TO_PREDICT

NAMED = 7  # of the heaviest

if __name__ == "__main__":
    for what, names in {"holotype": ["holotype"], "only to predict": TO_PREDICT}.items():
        found = {name: size_of(one) / 1e6 for name, one in closure(names).items()}
        heaviest = [f"{name} {found[name]:.0f}" for name in sorted(found, key=found.__getitem__, reverse=True)]
        print(f"{what}: {len(found)} packages, {sum(found.values()):,.0f} MB: {', '.join(heaviest[:NAMED])}")
