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
        systems = list(r["ms"])
        if not self.headed:
            self.headed = True
            head = "".join(f"{short(s):>10}" for s in systems)
            print(f"\nmedian ms\n{'model':28}{'thr':>4}{head}{'/ best':>8}{'GFLOP/s':>9}  {'of the limit':14}{'differs':>8}")
        times = "".join(f"{number(r['ms'][s]):>10}" for s in systems)
        share, limit = (r["copy_share"], "copy") if "copy_share" in r else (r["fma_share"], "FMA")
        limit = "-" if share is None else f"{share:.0%} {limit}"
        gflops = number(r["gflops"])
        worst = max(r["differs"].values(), default=None)
        far = {system: value for system, value in r["differs"].items() if not value <= DIFFERS}
        mark = "!" if far else " "
        differs = "-" if worst is None else f"{worst:.0e}"
        for system, value in far.items():
            self.notes.append(f"{r['model']}, {r['threads']} thread(s): the outputs differ from {system}'s by {value:.0e}")
        print(f"{r['model']:28}{r['threads']:>4}{times}{ratio(r['ratio']):>8}{gflops:>9}  {limit:14}{differs:>8}{mark}", flush=True)

    def variant(self, r):
        self.notes.append(f"{r['model']}, {r['threads']} thread(s): {r['relative']:.2f} of {r['of']}'s time {r['per']}")

    def level(self, r):
        self.notes.append(f"{r['model']}, {r['threads']} thread(s): {r['level']} takes {r['relative']:.2f} of native's time")

    def cost(self, r):
        self.costs.append(r)

    def close(self):
        if self.costs:
            print("\nwhat a model costs; one thread, page cache warm; `least` is what no program can do without")
            print(f"{'':20}{'build':>8}{'JIT run':>8} |{'file, KiB':>10}{'- weights':>10} |{'cold, ms':>9}{'least':>8}{'beyond':>8} |{'peak, MiB':>10}{'least':>8}{'beyond':>8}")
            print(f"{'model':20}{'s':>8}{'s':>8} |{'':>20} |{'':>25} |")
        for r in self.costs:
            beyond = r["cold_ms"] - r["least_ms"]
            mib = 1 << 20
            print(
                f"{r['model']:20}{r['build_s']:8.2f}{r['jit_run_s']:8.2f} |{r['file_bytes'] / 1024:10.0f}"
                f"{(r['file_bytes'] - r['weight_bytes']) / 1024:10.0f} |{r['cold_ms']:9.2f}{r['least_ms']:8.2f}{beyond:8.2f} |"
                f"{r['peak_bytes'] / mib:10.1f}{r['least_bytes'] / mib:8.1f}{(r['peak_bytes'] - r['least_bytes']) / mib:8.1f}"
            )
        if self.notes:
            print()
        for note in self.notes:
            print(note)
        if self.file:
            self.file.close()


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
