"""Two real builds of one program, as a compiler and a linker make them: what a delta is measured on.

A small C program for a thermostat, with the C library linked in: mostly code that does not change, in places that do.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

FIX, FEATURE = "a fix", "a feature"
"""What the new build brings: a changed limit and condition, or functions, tables and library calls that are new."""

_FLAGS = ("-std=c99", "-Os", "-static", "-s", "-Wl,--build-id=none")

_SOURCE = r"""
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading { char name[16]; double celsius; unsigned at; };

static const char *version(void) { return "thermostat @VERSION@"; }

static int compare(const void *a, const void *b) {
    const struct reading *x = a, *y = b;
    return x->celsius < y->celsius ? -1 : x->celsius > y->celsius;
}

static double smooth(const struct reading *readings, unsigned count) {
    double sum = 0, weight = 1, weights = 0;
    for (unsigned i = count; i-- > 0; weight *= 0.8) {
        sum += weight * readings[i].celsius;
        weights += weight;
    }
    return weights > 0 ? sum / weights : NAN;
}
@FEATURE@
static unsigned parse(char *line, struct reading *readings, unsigned most) {
    unsigned count = 0;
    for (char *part = strtok(line, ";"); part != NULL && count < most; part = strtok(NULL, ";")) {
        struct reading *r = &readings[count];
        if (sscanf(part, "%15s %lf %u", r->name, &r->celsius, &r->at) == 3 && @SANE@) {
            count++;
        }
    }
    return count;
}

int main(int argc, char **argv) {
    struct reading readings[64];
    char line[2048];
    puts(version());
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned count = parse(line, readings, 64);
        qsort(readings, count, sizeof readings[0], compare);
        double now = smooth(readings, count);
        printf("%u readings, %.2f C: heating %s\n", count, now, now < @LIMIT@ ? "on" : "off");
        @USE@
    }
    return argc > 1 ? atoi(argv[1]) : 0;
}
"""

_FEATURE = r"""
static const struct { const char *name; double offset, gain; } calibrations[] = {
    {"kitchen", 0.25, 1.002}, {"hall", -0.5, 0.998}, {"bath", 0.75, 1.01}, {"attic", -1.25, 0.99},
};

static double calibrated(const struct reading *r) {
    for (unsigned i = 0; i < sizeof calibrations / sizeof calibrations[0]; i++) {
        if (strncmp(calibrations[i].name, r->name, sizeof r->name) == 0) {
            return r->celsius * calibrations[i].gain + calibrations[i].offset;
        }
    }
    return r->celsius;
}

static double deviation(const struct reading *readings, unsigned count) {
    double mean = 0, sum = 0;
    for (unsigned i = 0; i < count; i++) { mean += calibrated(&readings[i]) / count; }
    for (unsigned i = 0; i < count; i++) { sum += pow(calibrated(&readings[i]) - mean, 2); }
    return count > 1 ? sqrt(sum / (count - 1)) : 0;
}
"""

_USE = r'printf("deviation %.3f C, comfort %.2f\n", deviation(readings, count), exp(-fabs(now - 21) / 3));'


def compiled(folder: Path, compiler: str, change: str) -> tuple[bytes, bytes]:
    """Compile and link both builds in a folder; return the two programs.

    Raises:
        RuntimeError: the compiler fails, as it does where the C library's archive is missing; with what it says.
    """
    old = _build(folder / "old", compiler, "1.0.0", "r->celsius > -40", "19.5", "", "")
    feature, use = (_FEATURE, _USE) if change == FEATURE else ("", "")
    sane = "r->celsius > -55 && r->celsius < 125 && r->at != 0"
    return old, _build(folder / "new", compiler, "1.0.1", sane, "19.0", feature, use)


def _build(program: Path, compiler: str, version: str, sane: str, limit: str, feature: str, use: str) -> bytes:
    source = program.with_suffix(".c")
    marks = {"VERSION": version, "SANE": sane, "LIMIT": limit, "FEATURE": feature, "USE": use}
    text = _SOURCE
    for mark, code in marks.items():
        text = text.replace(f"@{mark}@", code)
    source.write_text(text, encoding="utf-8")
    command = [compiler, *_FLAGS, "-o", str(program), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return program.read_bytes()
