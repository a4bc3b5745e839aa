"""How many more instructions it takes to plan the 22 queries of TPC-H under a policy that grants all tables, counted by callgrind.

`lacus-policy-planning` plans them so many rounds and so many more, with a policy and without: the difference is what rounds take, without
what the process does once. Other than time, it hardly depends on what else the machine does.

python benches/policy_instructions.py LACUS_POLICY_PLANNING [--rounds 2 6] [--out FILE]
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

MODES = ["without", "with"]


def instructions(binary: str, rounds: int, mode: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", binary, str(rounds), mode]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-2000:])
        # Of all threads, and of all parts of a profile.
        found = re.findall(r"^totals: (\d+)", out.read_text(), re.M)
    if not found:
        raise RuntimeError("callgrind counted nothing")
    return sum(map(int, found))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, nargs=2, default=[2, 6], metavar=("FEW", "MANY"))
    parser.add_argument("--out")
    options = parser.parse_args()
    few, many = options.rounds
    if few >= many:
        parser.error("--rounds are a smaller and a greater number")
    counted = {mode: [instructions(options.binary, rounds, mode) for rounds in (few, many)] for mode in MODES}
    each = {mode: (most - least) / (many - few) for mode, (least, most) in counted.items()}
    lines = [f"Instructions to plan the 22 queries of TPC-H once as a user, by callgrind: rounds {few + 1} to {many} of a process."]
    lines += ["", "| policy | million instructions | ratio |", "|---|---|---|"]
    lines += [f"| {mode} | {count / 1e6:.1f} | {count / each['without']:.4f} |" for mode, count in each.items()]
    text = "\n".join(lines)
    print(text)
    if options.out:
        pathlib.Path(options.out).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
