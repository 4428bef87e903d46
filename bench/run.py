#!/usr/bin/env python3
"""Compares Burin with ONNX Runtime: the same models, the same threads, the same machine, interleaved.

    pip install numpy onnx onnxruntime zstandard
    cargo build --release
    bench/run.py MODEL.onnx ...        # models with weights
    bench/run.py                       # all graphs in $BURIN_SHARED/bench/graphs

Graphs that are stored without weights (`*.onnx.zst`) are filled with seeded ones by the script
`strip_weights.py` beside their folder. Each round measures every system once, after a warm-up, so that
what disturbs the machine disturbs all of them; the median over the rounds of each round's median is
reported. With --json, one object a line.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("models", nargs="*", type=Path, help="ONNX models, or graphs without weights (.onnx.zst)")
    p.add_argument("--burin", type=Path, default=ROOT / "target/release/burin", help="the program burin")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=2.0, help="time of one measurement")
    p.add_argument("--dim", action="append", default=[], metavar="NAME=N", help="size of a symbolic dimension (else 1)")
    p.add_argument("--json", action="store_true", help="one JSON object a line")
    a = p.parse_args()
    if not a.models:
        shared = os.environ.get("BURIN_SHARED")
        a.models = sorted(Path(shared, "bench/graphs").glob("*.onnx.zst")) if shared else []
        if not a.models:
            p.error("no models: name some, or let BURIN_SHARED name the folder that holds bench/graphs")
    if not a.burin.is_file():
        p.error(f"there is no {a.burin}: run `cargo build --release`, or give --burin")
    return a


def with_weights(model, folder):
    """A model that can be run: itself, or a graph without weights filled in."""
    if model.suffix != ".zst":
        return model
    import zstandard

    stripped, filled = folder / f"stripped-{model.stem}", folder / model.stem
    with model.open("rb") as source, stripped.open("wb") as target:
        zstandard.ZstdDecompressor().copy_stream(source, target)
    script = model.resolve().parent.parent / "strip_weights.py"
    subprocess.run([sys.executable, script, "fill", stripped, filled], check=True)
    stripped.unlink()
    return filled


class Burin:
    name = "burin"

    def __init__(self, model, a):
        self.command = [a.burin, "bench", model, "--json", "--threads", str(a.threads)]
        self.command += ["--seconds", str(a.seconds), "--runs", "1000000"]
        self.command += [f"--dim={d}" for d in a.dim]

    def measure(self):
        """The median of a measurement, in milliseconds."""
        out = subprocess.run(self.command, check=True, capture_output=True, text=True).stdout
        return json.loads(out)["median_ms"]


class OnnxRuntime:
    name = "onnxruntime"
    types = {"float": "f4", "double": "f8", "float16": "f2", "int64": "i8", "int32": "i4", "uint8": "u1", "bool": "?"}

    def __init__(self, model, a):
        import numpy as np
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = a.threads, 1
        self.session = ort.InferenceSession(str(model), options, ["CPUExecutionProvider"])
        self.seconds = a.seconds
        sizes = {name: int(size) for name, size in (d.split("=", 1) for d in a.dim)}
        rng = np.random.default_rng(1)

        def random(port):
            shape = [d if isinstance(d, int) else sizes.get(d, 1) for d in port.shape]
            dtype = np.dtype(self.types[port.type[len("tensor(") : -1]])
            return rng.standard_normal(shape).astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype)

        self.inputs = {port.name: random(port) for port in self.session.get_inputs()}

    def measure(self):
        """The median of a measurement, in milliseconds."""
        run = lambda: self.session.run(None, self.inputs)
        begin, times = time.perf_counter(), []
        run()
        while time.perf_counter() - begin < 0.1:
            run()
        begin = time.perf_counter()
        while not times or time.perf_counter() - begin < self.seconds:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return statistics.median(times) * 1e3


def machine():
    """What the figures were measured on."""
    cpu, flags = platform.processor() or platform.machine(), ""
    if Path("/proc/cpuinfo").is_file():
        facts = dict(
            (part.strip() for part in line.split(":", 1))
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if ":" in line
        )
        cpu, flags = facts.get("model name", cpu), facts.get("flags", "")
    widest = next((f for f in ("avx512f", "avx2", "avx") if f in flags.split()), "")
    import onnxruntime

    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "cpu": f"{cpu} {widest}".strip(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "date": datetime.date.today().isoformat(),
        "burin": commit.stdout.strip() or "unknown",
        "onnxruntime": onnxruntime.__version__,
    }


def main():
    a = arguments()
    facts = machine()
    if a.json:
        print(json.dumps(facts), flush=True)
    else:
        print(", ".join(f"{k} {v}" for k, v in facts.items()))
        print(f"{a.threads} thread(s), medians of {a.rounds} rounds of {a.seconds:g} s\n")
        print(f"{'model':20} {'burin ms':>10} {'onnxruntime ms':>15} {'burin / ort':>12}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for path in a.models:
            model = with_weights(path, Path(folder))
            systems = [Burin(model, a), OnnxRuntime(model, a)]
            times = {s.name: [] for s in systems}
            for _ in range(a.rounds):
                for s in systems:
                    times[s.name].append(s.measure())
            ms = {name: statistics.median(t) for name, t in times.items()}
            ratio, title = ms["burin"] / ms["onnxruntime"], model.name.removesuffix(".onnx")
            if a.json:
                print(json.dumps({"model": title, "threads": a.threads, **{f"{k}_ms": v for k, v in ms.items()}, "ratio": ratio}), flush=True)
            else:
                print(f"{title:20} {ms['burin']:10.3f} {ms['onnxruntime']:15.3f} {ratio:12.2f}", flush=True)


if __name__ == "__main__":
    main()
