"""`import almining` in a fresh process, against a bare interpreter."""

import statistics
import subprocess
import sys
import time


def seconds(statement: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - begun


def test_import(benchmark) -> None:
    seconds("import almining")
    pairs = [(seconds("import almining"), seconds("pass")) for _ in range(7)]
    benchmark.pedantic(seconds, args=("import almining",), rounds=1)
    net = statistics.median(ours - bare for ours, bare in pairs)
    benchmark.extra_info["net seconds"] = round(net, 3)
    print(f"\nimport almining: {net:.3f} s net of the interpreter (aim <= 0.25)")
