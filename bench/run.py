#!/usr/bin/env python3
"""Measures Burin beside ONNX Runtime, OpenVINO, tract and rten: one command, which sets all of them up.

    bench/run.py MODEL.onnx ...       # these models
    BURIN_SHARED=DIR bench/run.py     # every graph in DIR/bench/graphs, and models for the machine's limits

README.md beside this file says what is measured and how to read it.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
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
    p.add_argument("--int8", action="store_true", help="also the models quantised to 8 bits")
    p.add_argument("--levels", action="store_true", help=f"also Burin compiled for {LEVEL}")
    p.add_argument("--dim", action="append", default=[], metavar="NAME=N", help="size of a symbolic dimension (else 1)")
    p.add_argument("--json", type=Path, metavar="FILE", help="also writes all figures there, one JSON object a line")
    p.add_argument("--burin", type=Path, help="the program `burin` (default: built from this tree)")
    p.add_argument("--cache", type=Path, default=BENCH / ".cache", help="for what is set up (default bench/.cache)")
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


@dataclass
class Prepared:
    """A model with all that its measurement needs."""

    model: object
    inputs: list
    outputs: list
    flops: int
    built: dict
    """Burin's shared libraries, by the names of their columns."""


class Bench:
    """Everything that is set up, and what measures one model with it."""

    def __init__(self, a, report):
        from systems import Compiler, Probe

        programs = environment.build_peers(a.cache)
        self.peer, self.probe = programs / "peer", Probe(programs / "probe")
        self.libraries = {
            "onnxruntime": environment.library("onnxruntime", "capi/libonnxruntime.so.*"),
            "openvino": environment.library("openvino", "libs/libopenvino_c.so*"),
        }
        self.compiler = None if a.without_burin else Compiler(a.burin or environment.build_burin())
        self.a, self.report = a, report

    def prepare(self, model, folder):
        import models

        folder = folder / model.name
        folder.mkdir(parents=True)
        inputs, outputs = models.inputs(model, folder)
        built, flops = {}, None
        if self.compiler:
            for name, level in [("burin", "native"), ("burin v3", LEVEL)][: 1 + self.a.levels]:
                built[name] = folder / f"{level}.so"
                self.compiler.build(model, built[name], "sharedlib", level)
            flops = self.compiler.flops(model)
        return Prepared(model, inputs, outputs, flops, built)

    def measure(self, this, peers, folder, base=None):
        """A model's speed with each number of threads, and what it costs; a variant's beside its base."""
        model = this.model
        for threads in self.a.threads:
            running = {}
            wanted = [(name, "burin", path, this) for name, path in this.built.items()]
            wanted += [(name, name, model.path, this) for name in peers]
            if base and base.built:
                wanted.append(("base", "burin", base.built["burin"], base))
            try:
                for name, system, path, what in wanted:
                    self.start(running, name, system, path, what, threads)
                speed = self.speed(this, threads, running, folder, base)
                if "burin" in running and threads == 1 and not (base or model.synthetic):
                    self.cost(this, folder, running["burin"].ready, speed["ms"]["burin"])
            finally:
                for system in running.values():
                    system.close()

    def start(self, running, name, system, path, what, threads):
        from systems import Failed, Peer

        try:
            library = self.libraries.get(system)
            running[name] = Peer(self.peer, system, path, threads, library, what.inputs, what.outputs)
        except Failed as e:
            self.note(f"{what.model.name}, {threads} thread(s): {e}")

    def speed(self, this, threads, running, folder, base):
        """Rounds in which each system has its turn, so that what disturbs the machine disturbs all."""
        model = this.model
        differs = self.differences(this, running, folder)
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
        gflops = this.flops / burin / 1e6 if burin else None
        fma = statistics.median(fma)
        columns = ["burin", *(["burin v3"] if self.a.levels else []), *self.a.peers]
        record = {
            "kind": "speed",
            "model": model.name,
            "threads": threads,
            "ms": {name: ms.get(name) for name in columns},
            "ratio": burin / best if burin and best else None,
            "flops": this.flops,
            "gflops": gflops,
            "fma_gflops": fma,
            "fma_share": gflops / fma if gflops else None,
            "differs": differs,
            "quantised": model.quantised,
        }
        if copy:
            record["copy"] = {way: statistics.median(c[way] for c in copy) for way in copy[0]}
            record["copy_share"] = model.copied_bytes / burin / 1e6 / record["copy"]["gbs"] if burin else None
        if self.a.levels:
            record["level_ratio"] = ms["burin v3"] / burin if burin and "burin v3" in ms else None
        if self.a.twins or self.a.int8:
            # Of a symbolic size, and in integers, the work is the same, however it is counted.
            same = model.dims or model.quantised or not (base and base.built)
            work = 1 if same else this.flops / base.flops
            record["base_ratio"] = burin / ms["base"] / work if burin and "base" in ms else None
        self.report.add(record)
        return record

    def differences(self, this, running, folder):
        """How far each system's outputs are from the first one's."""
        from systems import difference

        count = len(this.outputs)
        values = {name: s.outputs(count, folder) for name, s in running.items() if name != "base"}
        first = next(iter(values), None)
        return {name: difference(v, values[first]) for name, v in values.items() if name != first}

    def cost(self, this, folder, ready, steady_ms):
        """Building, starting, and the room that it takes."""
        from systems import Failed

        model, executable = this.model, folder / "executable"
        inputs = [part for name, file in this.inputs for part in ("--input", f"{name}={file}")]
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
    from quantised import quantised
    from report import Report, machine
    from systems import Failed

    report = Report(a.json)
    bench = Bench(a, report)
    if a.setup:
        return
    report.add(machine())
    print(f"medians of {a.rounds} rounds of {a.seconds:g} s each", flush=True)
    todo = [partial(models.named, path, dims=a.dims) for path in a.models]
    if a.made:
        todo += models.MADE
    for make in todo:
        # What a model takes, a gigabyte perhaps, goes before the next one comes.
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            model = make(folder=folder)
            try:
                base = bench.prepare(model, folder)
                bench.measure(base, a.peers, folder)
            except Failed as e:
                bench.note(f"{model.name}: {e}")
                continue
            if a.int8 and not model.synthetic:
                try:
                    bench.measure(bench.prepare(quantised(model, folder), folder), a.peers, folder, base)
                except Failed as e:
                    bench.note(f"{model.name} in 8 bits: {e}")
            if not a.twins or model.synthetic:
                continue
            for variant, reason in models.variants(model, folder):
                if reason:
                    bench.note(f"no variant {reason}")
                    continue
                try:
                    # One peer, to see that the outputs are right.
                    bench.measure(bench.prepare(variant, folder), a.peers[:1], folder, base)
                except Failed as e:
                    bench.note(f"{variant.name}: {e}")
    report.close()


if __name__ == "__main__":
    main()
