"""The programs that measure: one process for each system and model, the probe, and Burin's compiler."""

import json
import subprocess
import tempfile
import time

import numpy as np


class Failed(Exception):
    """A system cannot run a model, or a program failed."""


class Peer:
    """A system with a loaded model, in a process of its own."""

    def __init__(self, program, system, model, threads, library, inputs, outputs):
        self.system = system
        self.errors = tempfile.TemporaryFile("w+")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program], stdin=pipe, stdout=pipe, stderr=self.errors, text=True)
        job = {"system": system, "model": model, "threads": threads, "library": library}
        self.ready = self.ask({**job, "inputs": inputs, "outputs": outputs})

    def ask(self, request):
        try:
            self.process.stdin.write(json.dumps(request, default=str) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        answers = self.process.stdout.readline()
        # Some systems print warnings there.
        while answers and not answers.startswith("{"):
            answers = self.process.stdout.readline()
        answer = json.loads(answers or "{}")
        if not answer or "error" in answer:
            self.errors.seek(0)
            reason = answer.get("error") or (self.errors.read().strip().splitlines() or ["it died"])[-1]
            self.close()
            raise Failed(f"{self.system}: {reason}")
        return answer

    def measure(self, seconds):
        """The median time of a run, in milliseconds."""
        return self.ask({"measure": seconds})["median_ms"]

    def outputs(self, count, folder):
        files = [folder / f"output{i}.npy" for i in range(count)]
        self.ask({"save": files})
        return [np.load(f) for f in files]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def difference(values, reference):
    """The largest difference from another system's outputs, relative to their largest element."""
    worst = 0.0
    for a, b in zip(values, reference):
        if a.shape != b.shape:
            return float("inf")
        a, b = a.astype("f8"), b.astype("f8")
        if a.size:
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)))
    return worst if np.isfinite(worst) else float("inf")


class Probe:
    """What the machine can do, and what programs cost."""

    def __init__(self, program):
        self.program = program

    def ask(self, *request):
        return json.loads(output([self.program, *request]))

    def fma(self, threads, seconds):
        """GFLOP/s of fused multiply-adds."""
        return self.ask("fma", threads, seconds)["gflops"]

    def copy(self, threads, seconds):
        """GB/s of copies by several ways, `gbs` by the best, counting what is read and what is written."""
        return self.ask("copy", threads, seconds)

    def touch(self, artifact, arena_bytes, times):
        """Milliseconds to touch an artifact's weights and a fresh arena once."""
        return self.ask("touch", artifact, arena_bytes, times)["median_ms"]

    def launch(self, times, *command):
        """Milliseconds and peak bytes of a program's life."""
        answer = self.ask("launch", times, *command)
        return answer["median_ms"], answer["peak_bytes"]


class Compiler:
    """The program `burin`."""

    def __init__(self, program):
        self.program = program

    def build(self, model, target, emit, level):
        """Seconds that a build takes."""
        start = time.perf_counter()
        output([self.program, "build", model.path, "--out", target, "--emit", emit, "--cpu", level])
        return time.perf_counter() - start

    def flops(self, model):
        """Floating-point operations of a run."""
        return json.loads(output([self.program, "inspect", "--json", model.path, *sizes(model)]))["flops"]

    def run_command(self, model):
        """The command that compiles a model in memory and runs it once."""
        return [self.program, "run", model.path, "--backend", "jit", *sizes(model)]


def sizes(model):
    return [f"--dim={name}={n}" for name, n in model.dims.items()]


def output(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed((done.stderr.strip().splitlines() or [f"{command[0]} failed"])[-1])
    return done.stdout
