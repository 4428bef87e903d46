"""What is printed: tables for people, or one JSON object a line."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import tomllib
from pathlib import Path

from environment import BENCH, ROOT

DIFFERS = 1e-3
"""Outputs that differ by more, relative to their largest element, are marked."""
STEPS_DIFFER = 5e-2
"""The same, of models in 8 bits, whose outputs are some hundred steps wide."""


def machine():
    """What the figures are measured on, and with."""
    cpu, flags = platform.machine(), []
    if Path("/proc/cpuinfo").is_file():
        lines = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in lines}
        cpu, flags = facts.get("model name", cpu), facts.get("flags", "").split()
        if "cpu family" in facts:
            cpu += f" (family {facts['cpu family']}, model {facts['model']})"
    vectors = next((f for f in ("avx512f", "avx2", "avx") if f in flags), "none")
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    locked = tomllib.loads((BENCH / "peers/Cargo.lock").read_text())["package"]
    crates = {p["name"]: p["version"] for p in locked}
    return {
        "kind": "machine",
        "cpu": cpu,
        "vectors": vectors,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "date": datetime.date.today().isoformat(),
        "load": round(os.getloadavg()[0], 2),
        "burin": commit.stdout.strip() or "unknown",
        "onnxruntime": importlib.metadata.version("onnxruntime"),
        "openvino": importlib.metadata.version("openvino"),
        "tract": crates["tract-onnx"],
        "rten": crates["rten"],
    }


class Report:
    """Prints speeds as they come, the rest as tables of their own, and writes all as JSON where asked."""

    def __init__(self, json_file):
        self.file = json_file and json_file.open("w")
        self.costs, self.notes = [], []
        self.headed = False

    def add(self, record):
        if self.file:
            print(json.dumps(record), file=self.file, flush=True)
        getattr(self, record["kind"])(record)

    def machine(self, m):
        facts = {k: v for k, v in m.items() if k != "kind"}
        print(", ".join(f"{k} {v}" for k, v in facts.items()), flush=True)

    def note(self, record):
        self.notes.append(record["text"])

    def speed(self, r):
        worst = max(r["differs"].values(), default=None)
        most = STEPS_DIFFER if r["quantised"] else DIFFERS
        far = {system: value for system, value in r["differs"].items() if not value <= most}
        for system, value in far.items():
            self.notes.append(f"{r['model']}, {r['threads']} thread(s): differs from {system} by {value:.0e}")
        share, limit = (r["copy_share"], "copy") if "copy_share" in r else (r["fma_share"], "FMA")
        columns = [(short(system), 10, number(ms)) for system, ms in r["ms"].items()]
        columns.append(("/ best", 8, ratio(r["ratio"])))
        if "level_ratio" in r:
            columns.append(("v3 / own", 10, ratio(r["level_ratio"])))
        if "base_ratio" in r:
            columns.append(("/ base", 8, ratio(r["base_ratio"])))
        columns += [
            ("GFLOP/s", 9, number(r["gflops"])),
            ("of limit", 10, "-" if share is None else f"{share:.0%} {limit}"),
            ("differs", 9, "-" if worst is None else f"{worst:.0e}" + ("!" if far else " ")),
        ]
        if not self.headed:
            self.headed = True
            print(f"\n{'median ms':28}{'thr':>4}" + "".join(f"{name:>{width}}" for name, width, _ in columns))
        row = "".join(f"{text:>{width}}" for _, width, text in columns)
        print(f"{r['model']:28}{r['threads']:>4}{row}", flush=True)

    def cost(self, record):
        self.costs.append(record)

    def close(self):
        if self.costs:
            print("\ncosts: one thread, page cache warm; `least` is what no program can do without")
        for number, r in enumerate(self.costs):
            columns = cost_columns(r)
            if number == 0:
                print(f"{'':20}" + "".join(f"{name:>{width}}" for name, width, _ in columns))
            row = "".join(f"{value:{width}.{2 if width < 9 else 0}f}" for _, width, value in columns)
            print(f"{r['model']:20}{row}")
        if self.notes:
            print()
        for note in self.notes:
            print(note)
        if self.file:
            self.file.close()


def cost_columns(r):
    """(name, width, value); wide columns have whole numbers."""
    kib, mib = 1 << 10, 1 << 20
    return [
        ("build s", 8, r["build_s"]),
        ("JIT s", 7, r["jit_run_s"]),
        ("file KiB", 11, r["file_bytes"] / kib),
        ("- weights", 10, (r["file_bytes"] - r["weight_bytes"]) / kib),
        (" cold ms", 8, r["cold_ms"]),
        ("least", 8, r["least_ms"]),
        ("beyond", 8, r["cold_ms"] - r["least_ms"]),
        ("MiB", 8, r["peak_bytes"] / mib),
        ("least", 8, r["least_bytes"] / mib),
        ("beyond", 8, (r["peak_bytes"] - r["least_bytes"]) / mib),
    ]


def short(system):
    return {"onnxruntime": "ONNX Rt", "openvino": "OpenVINO"}.get(system, system)


def number(value):
    """Four digits."""
    if value is None:
        return "-"
    digits = 4 if value < 1 else 3 if value < 10 else 2 if value < 100 else 1
    return f"{value:.{digits}f}"


def ratio(value):
    return "-" if value is None else f"{value:.2f}"
