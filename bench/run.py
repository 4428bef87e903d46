#!/usr/bin/env python3
"""Measures Burin beside ONNX Runtime, OpenVINO, tract and rten: one command, which sets all of them up.

    bench/run.py MODEL.onnx ...       # these models
    BURIN_SHARED=DIR bench/run.py     # every graph in DIR/bench/graphs, and models for the machine's limits

README.md beside this file says what is measured and how to read it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import environment
from environment import BENCH, ROOT

PEERS = ["onnxruntime", "openvino", "tract", "rten"]
LEVEL = "x86-64-v3"


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("models", nargs="*", type=Path, help="ONNX models, or graphs without weights (.onnx.zst)")
    p.add_argument("--threads", default="1,2", help="numbers of threads, with commas (default 1,2)")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--seconds", type=float, default=1.0, help="time of one measurement (default 1)")
    p.add_argument("--quick", action="store_true", help="2 rounds of 0.3 s, fewer program starts")
    p.add_argument("--peers", default=",".join(PEERS), help=f"systems beside Burin (default {','.join(PEERS)})")
    p.add_argument("--without-burin", action="store_true", help="the peers alone")
    p.add_argument("--twins", action="store_true", help="also variants of odd sizes, and of dynamic length")
    p.add_argument("--levels", action="store_true", help=f"also Burin compiled for {LEVEL}")
    p.add_argument("--dim", action="append", default=[], metavar="NAME=N", help="size of a symbolic dimension (else 1)")
    p.add_argument("--json", type=Path, metavar="FILE", help="also writes all figures there, one JSON object a line")
    p.add_argument("--burin", type=Path, help="the program `burin` (default: built from this tree)")
    p.add_argument("--cache", type=Path, default=BENCH / ".cache", help="what is set up lies there (default bench/.cache)")
    p.add_argument("--setup", action="store_true", help="only sets up")
    a = p.parse_args()
    a.threads = [int(n) for n in a.threads.split(",")]
    a.peers = [s for s in a.peers.split(",") if s]
    a.dims = {name: int(n) for name, n in (d.split("=", 1) for d in a.dim)}
    a.launches = 5 if a.quick else 21
    if a.quick:
        a.rounds, a.seconds = 2, 0.3
    a.made = not a.models
    if not a.models:
        shared = Path(os.environ.get("BURIN_SHARED", ROOT.parent / "shared"))
        a.models = sorted(shared.glob("bench/graphs/*.onnx.zst"))
        if not a.models and not a.setup:
            p.error("no models: name some, or let BURIN_SHARED name the folder that holds bench/graphs")
    return a


class Bench:
    """Everything that is set up, and what measures one model with it."""

    def __init__(self, a, folder, report):
        from systems import Compiler, Probe

        programs = environment.build_peers(a.cache)
        self.peer, self.probe = programs / "peer", Probe(programs / "probe")
        self.libraries = {
            "onnxruntime": environment.library("onnxruntime", "capi/libonnxruntime.so.*"),
            "openvino": environment.library("openvino", "libs/libopenvino_c.so*"),
        }
        self.compiler = None if a.without_burin else Compiler(a.burin or environment.build_burin())
        self.a, self.folder, self.report = a, folder, report
        self.speeds = {}

    def measure(self, model, peers):
        """A model's speed with each number of threads, and what it costs."""
        import models

        files, outputs = models.inputs(model, self.folder)
        built, flops = {}, None
        if self.compiler:
            levels = ["native", LEVEL] if self.a.levels else ["native"]
            for level in levels:
                name = "burin" if level == "native" else "burin v3"
                built[name] = self.folder / f"model-{level}.so"
                self.compiler.build(model, built[name], "sharedlib", level)
            flops = self.compiler.flops(model)
        for threads in self.a.threads:
            running = self.start(model, threads, built, peers, files, outputs)
            try:
                speed = self.speed(model, threads, running, len(outputs), flops)
                if "burin" in running and threads == 1 and not model.variant_of:
                    self.cost(model, files, running["burin"].ready, speed["ms"]["burin"])
            finally:
                for system in running.values():
                    system.close()

    def start(self, model, threads, built, peers, files, outputs):
        from systems import Failed, Peer

        running = {}
        for name in [*built, *peers]:
            system, path = ("burin", built[name]) if name in built else (name, model.path)
            try:
                running[name] = Peer(self.peer, system, path, threads, self.libraries.get(system), files, outputs)
            except Failed as e:
                self.note(f"{model.name}, {threads} thread(s): {e}")
        return running

    def speed(self, model, threads, running, outputs, flops):
        """Rounds in which each system has its turn, so that what disturbs the machine disturbs all."""
        differs = self.differences(running, outputs)
        times = {name: [] for name in running}
        fma, copy = [], []
        for _ in range(self.a.rounds):
            fma.append(self.probe.fma(threads, self.a.seconds / 5))
            if model.copied_bytes:
                copy.append(self.probe.copy(threads, self.a.seconds))
            for name, system in running.items():
                # Threads of the one before may still wait for work with all their might.
                time.sleep(0.02)
                times[name].append(system.measure(self.a.seconds))
        ms = {name: statistics.median(t) for name, t in times.items()}

        burin, best = ms.get("burin"), min((ms[p] for p in self.a.peers if p in ms), default=None)
        gflops = flops / burin / 1e6 if burin else None
        fma = statistics.median(fma)
        columns = ["burin", *(["burin v3"] if self.a.levels else []), *self.a.peers]
        record = {
            "kind": "speed",
            "model": model.name,
            "threads": threads,
            "ms": {name: ms.get(name) for name in columns},
            "ratio": burin / best if burin and best else None,
            "flops": flops,
            "gflops": gflops,
            "fma_gflops": fma,
            "fma_share": gflops / fma if gflops else None,
            "differs": differs,
        }
        if copy:
            record["copy"] = {way: statistics.median(c[way] for c in copy) for way in copy[0]}
            record["copy_share"] = model.copied_bytes / burin / 1e6 / record["copy"]["gbs"] if burin else None
        self.report.add(record)
        self.speeds[model.name, threads] = record
        if burin:
            self.compare(model, threads, ms, flops)
        return record

    def differences(self, running, outputs):
        """How far each system's outputs are from the first one's."""
        from systems import difference

        values = {name: system.outputs(outputs, self.folder) for name, system in running.items()}
        first = next(iter(values), None)
        return {name: difference(v, values[first]) for name, v in values.items() if name != first}

    def compare(self, model, threads, ms, flops):
        """The time beside that of the model that this one is a variant of, and of the other level."""
        facts = {"model": model.name, "threads": threads}
        base = self.speeds.get((model.variant_of, threads))
        if base and base["ms"]["burin"]:
            per = "at the same size" if model.dims else "per FLOP"
            work = 1 if model.dims else flops / base["flops"]
            relative = ms["burin"] / base["ms"]["burin"] / work
            self.report.add({"kind": "variant", **facts, "of": model.variant_of, "per": per, "relative": relative})
        if "burin v3" in ms:
            self.report.add({"kind": "level", **facts, "level": LEVEL, "relative": ms["burin v3"] / ms["burin"]})

    def cost(self, model, files, ready, steady_ms):
        """Building, starting, and the room that it takes."""
        from systems import Failed

        executable = self.folder / "executable"
        inputs = [part for name, file in files for part in ("--input", f"{name}={file}")]
        try:
            builds = [self.compiler.build(model, executable, "exe", "native") for _ in range(1 if self.a.quick else 3)]
            cold, peak = self.probe.launch(self.a.launches, executable, *inputs)
            touch = self.probe.touch(executable, ready["arena_bytes"], self.a.launches)
            jit, _ = self.probe.launch(1 if self.a.quick else 3, *self.compiler.run_command(model))
        except Failed as e:
            return self.note(f"{model.name}: {e}")
        self.report.add(
            {
                "kind": "cost",
                "model": model.name,
                "build_s": statistics.median(builds),
                "jit_run_s": jit / 1e3,
                "file_bytes": executable.stat().st_size,
                "weight_bytes": ready["weight_bytes"],
                "arena_bytes": ready["arena_bytes"],
                "cold_ms": cold,
                "steady_ms": steady_ms,
                "touch_ms": touch,
                "least_ms": steady_ms + touch,
                "peak_bytes": peak,
                "least_bytes": ready["weight_bytes"] + ready["arena_bytes"],
            }
        )

    def note(self, text):
        self.report.add({"kind": "note", "text": text})


def main():
    a = arguments()
    a.cache = a.cache.resolve()
    environment.enter(a.cache)

    import models
    from report import Report, machine
    from systems import Failed

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        report = Report(a.json)
        bench = Bench(a, folder, report)
        if a.setup:
            return
        report.add(machine())
        print(f"medians of {a.rounds} rounds of {a.seconds:g} s each", flush=True)
        todo = [models.named(path, folder, a.dims) for path in a.models]
        if a.made:
            todo += models.made(folder)
        for model in todo:
            rows = [(model, a.peers)]
            if a.twins:
                for variant, reason in models.variants(model, folder):
                    # One peer, to see that the outputs are right.
                    rows += [(variant, a.peers[:1])] if variant else []
                    if reason:
                        bench.note(f"no variant {reason}")
            for row, peers in rows:
                try:
                    bench.measure(row, peers)
                except Failed as e:
                    bench.note(f"{row.name}: {e}")
                if row.variant_of:
                    row.path.unlink()
        report.close()


if __name__ == "__main__":
    sys.exit(main())
