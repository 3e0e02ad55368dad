"""Loading the detector that ships, against reading its file; imports are not counted."""

import statistics
import time

from safetensors.torch import load_file

from almining import demo


def test_loading_a_demo(benchmark) -> None:
    demo.load_demo("faster_rcnn")

    def bare() -> float:
        begun = time.perf_counter()
        load_file(demo.FOLDER / "faster_rcnn.safetensors")
        return time.perf_counter() - begun

    def ours() -> float:
        begun = time.perf_counter()
        demo.load_demo("faster_rcnn")
        return time.perf_counter() - begun

    pairs = [(ours(), bare()) for _ in range(7)]
    benchmark.pedantic(ours, rounds=1)
    seconds = statistics.median(mine for mine, _ in pairs)
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    benchmark.extra_info["ratio to reading the file"] = round(ratio, 1)
    print(f"\nload_demo: {seconds:.3f} s (aim < 1), {ratio:.1f} times reading the file")
