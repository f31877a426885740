"""What was measured, as a table, a JSON file and a plot. Nothing here is computed that the JSON does not hold."""

from __future__ import annotations

import json
import math
import os
from html import escape
from pathlib import Path
from typing import Any

Results = dict[str, Any]

OURS, AGAIN = "ours", "ours again"
NOISE_FACTOR = 2.0  # a ratio nearer to 1 than this many times the spread of ours against ours says nothing


def save(results: Results, path: Path) -> None:
    """Complete at any moment: the name changes hands when the file is whole."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def name_of(contender: str, dtype: str) -> str:
    return f"{contender} {dtype}"


def compare(found: Results, dtypes: list[str]) -> Results:
    """Ratios of the medians to ours in the same precision, and the spread of ours against itself."""
    ratios: Results = {}
    for name, result in found.items():
        contender, dtype = name.rsplit(" ", 1)
        ours = found.get(name_of(OURS, dtype), {}).get("median")
        if contender != OURS and ours and "median" in result:
            ratios[name] = result["median"] / ours
    for dtype in dtypes:
        again = ratios.get(name_of(AGAIN, dtype))
        if again:
            ratios[f"spread {dtype}"] = abs(again - 1)
    return ratios


def ratio_text(ratio: float, spread: float | None) -> str:
    noisy = spread is not None and abs(ratio - 1) <= NOISE_FACTOR * spread
    return f"{ratio:.2f}x" + (" (noise)" if noisy else "")


def seconds_text(seconds: float, spread: float | None = None) -> str:
    """Such as `61.3 ± 0.4 ms`: three digits."""
    factor, unit = (1000, "ms") if seconds < 0.1 else (1, "s")
    digits = max(0, 2 - math.floor(math.log10(max(seconds * factor, 1e-9))))
    around = "" if spread is None else f" ± {spread * factor:.{digits}f}"
    return f"{seconds * factor:.{digits}f}{around} {unit}"


def cell_text(result: Results, ratio: float | None, spread: float | None) -> str:
    if "failed" in result:
        return "failed"
    if "median" not in result:
        return "-"
    text = seconds_text(result["median"], result["iqr"] / 2)
    return text if ratio is None else f"{text}, {ratio_text(ratio, spread)}"


def times_table(results: Results) -> list[str]:
    """Medians with half the interquartile range, and how many times ours each takes."""
    lines = []
    for dtype in results["options"]["dtypes"]:
        names = [e["name"] for e in results["contenders"] if e["name"].endswith(f" {dtype}")]
        titles = [e["title"] for e in results["contenders"] if e["name"] in names]
        lines += [
            "",
            f"| {dtype} | floor | {' | '.join(titles)} | work |",
            f"|---|---|{'---|' * len(titles)}---|",
        ]
        for cell in results["cells"]:
            found, ratios = cell["results"], cell["ratios"]
            spread = ratios.get(f"spread {dtype}")
            row = [
                cell_text(found.get(n, {}), ratios.get(n), spread if "again" not in n else None)
                for n in names
            ]
            floor = cell.get("floor", {}).get(dtype)
            lines.append(
                f"| {cell['title']} | {seconds_text(floor) if floor else '-'} | {' | '.join(row)} | {work(found, names)} |"
            )
    return lines[1:]


def work(found: Results, names: list[str]) -> str:
    """UNet calls and their batches, each contender named where they differ."""
    calls = {name: found[name]["calls"] for name in names if found.get(name, {}).get("calls")}
    if len(set(calls.values())) <= 1:
        return next(iter(calls.values()), "-")
    return "; ".join(
        f"{name.rsplit(' ', 1)[0]}: {text}" for name, text in calls.items() if "again" not in name
    )


def counts_table(results: Results) -> list[str]:
    """Of one CFG step: what load cannot disturb."""
    if not results["counts"]:
        return []
    lines = [
        "| one CFG step | UNet kernels | bytes | computes in | motion layer: kernels | activation units | live peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, count in results["counts"].items():
        unet, layers = count["unet"], count["layers"]
        flops = sum(unet["flops"].values()) or 1
        types = ", ".join(f"{t} {100 * n / flops:.0f} %" for t, n in unet["flops"].items())
        kernels = sorted({layer["kernels"] for layer in layers})
        units = sorted(layer["units"] for layer in layers)
        lines.append(
            f"| {name} | {unet['kernels']} | {unet['bytes'] / 1e9:.3g} GB | {types} | {spread_text(kernels, '.0f')} "
            f"| {spread_text(units, '.1f')} | {count['peak'] / 2**20:.0f} MiB |"
        )
    return lines


def spread_text(values: list[float], form: str) -> str:
    if not values:
        return "-"
    low, high = format(values[0], form), format(values[-1], form)
    return low if low == high else f"{low} to {high}"


def across_table(results: Results) -> list[str]:
    """Ours in each further precision against everyone in the first: what changing over brings."""
    first, *others = results["options"]["dtypes"]
    names = [
        e["name"] for e in results["contenders"] if e["name"].endswith(f" {first}") and AGAIN not in e["name"]
    ]
    lines = []
    for dtype in others:
        lines += ["", f"| times ours in {dtype} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
        for cell in results["cells"]:
            medians = [cell["results"].get(n, {}).get("median") for n in [name_of(OURS, dtype), *names]]
            if medians[0]:
                row = [f"{m / medians[0]:.2f}x" if m else "-" for m in medians[1:]]
                lines.append(f"| {cell['title']} | {' | '.join(row)} |")
    return lines[1:]


def layers_table(results: Results) -> list[str]:
    """Seconds of the motion layers of one UNet call, by level, as they ran in the CFG step."""
    cell = next((cell for cell in results["cells"] if cell["name"] == "cfg-step"), None)
    if cell is None or not any("layers" in found for found in cell["results"].values()):
        return []
    levels = sorted({level for found in cell["results"].values() for level in found.get("layers", {})})
    head = " | ".join(f"level {level}" for level in levels)
    lines = [f"| motion layers of one CFG step | {head} | all |", f"|---|{'---|' * len(levels)}---|"]
    for name, found in cell["results"].items():
        layers = found.get("layers", {})
        if layers:
            medians = [sorted(layers[level])[len(layers[level]) // 2] for level in levels]
            row = " | ".join(map(seconds_text, medians))
            lines.append(f"| {name} | {row} | {seconds_text(sum(medians))} |")
    return lines


def peaks_table(results: Results) -> list[str]:
    names = [entry["name"] for entry in results["contenders"] if "again" not in entry["name"]]
    lines = [f"| highest memory of the process | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for cell in results["cells"]:
        peaks = [cell["results"].get(name, {}).get("peak_total_bytes") for name in names]
        if any(peaks):
            row = " | ".join(f"{peak / 2**20:.0f} MiB" if peak else "-" for peak in peaks)
            lines.append(f"| {cell['title']} | {row} |")
    return lines if len(lines) > 2 else []


def heading(results: Results) -> list[str]:
    machine, options = results["machine"], results["options"]
    versions = ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items())
    named = (f"{e['title']} {e['version']}" for e in results["contenders"] if AGAIN not in e["name"])
    contenders = dict.fromkeys(named)
    rates = machine.get("rates", {})
    told = ", ".join(f"{dtype} {rate / 1e9:.0f} GF/s" for dtype, rate in rates.items() if rate)
    lines = [
        f"{results['date']}, {machine['name']}, {options['device']}, {options['threads']} threads, load "
        f"{machine['load_before']} before and {machine.get('load_after', '?')} after",
        f"{versions}; {', '.join(contenders)}",
        f"size {options['size']} ({results.get('weights', '')}), {options['pixels']}x{options['pixels']} pixels",
        f"matrix product, at best: {told}" if told else "",
    ]
    lines += [f"skipped: {name}: {reason}" for name, reason in results["skipped"].items()]
    lines += [f"REFUSED before timing: {name}: {reason}" for name, reason in results["refused"].items()]
    for name, check in results["checks"].items():
        lines.append(
            f"check of {name}: one UNet call {check['error']:.1e}, clip {check['error_of_latents']:.1e}"
        )
    if not results["finished"]:
        lines.append("STOPPED before the end: what follows is what was measured")
    return [f"- {line}" for line in lines if line]


def report_text(results: Results) -> str:
    parts = [times_table(results), across_table(results)] if results["cells"] else []
    parts += [layers_table(results), counts_table(results), peaks_table(results)]
    return "\n\n".join("\n".join(part) for part in [heading(results), *parts] if part) + "\n"


BAR, GAP, LEFT, WIDTH = 16, 14, 280, 790
COLOURS = {"ours": "#2f6f4f", "ade": "#b5651d", "diffusers": "#4a5f8a"}


def plot(results: Results) -> str:
    """Bars as an SVG: seconds relative to the slowest of each cell and precision."""
    y, body = 46, []
    for cell in results["cells"]:
        for dtype in results["options"]["dtypes"]:
            bars = [
                (entry, cell["results"][entry["name"]]["median"])
                for entry in results["contenders"]
                if entry["name"].endswith(f" {dtype}")
                and "again" not in entry["name"]
                and "median" in cell["results"].get(entry["name"], {})
            ]
            if not bars:
                continue
            longest = max(seconds for _, seconds in bars)
            label = escape(f"{cell['title']}, {dtype}")
            body.append(
                f'<text x="{LEFT - 10}" y="{y + BAR * len(bars) / 2 + 4}" text-anchor="end">{label}</text>'
            )
            for entry, seconds in bars:
                body += bar(entry, seconds, seconds / longest, y)
                y += BAR
            y += GAP
    options = results["options"]
    size = f"Size {options['size']}, {options['pixels']}x{options['pixels']} pixels"
    machine = escape(f"{size}, {results['machine']['name']}, {options['device']}, {results['date']}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="10" y="20">Seconds, shorter is better. {machine}</text>' + "".join(body) + "</svg>\n"
    )


def bar(entry: Results, seconds: float, share: float, y: int) -> list[str]:
    length = max(1, share * (WIDTH - LEFT - 190))
    text = escape(f"{seconds_text(seconds)}  {entry['title']}")
    return [
        f'<rect x="{LEFT}" y="{y}" width="{length:.0f}" height="{BAR - 3}" fill="{COLOURS[entry["contender"]]}"/>',
        f'<text x="{LEFT + length + 6:.0f}" y="{y + BAR - 5}">{text}</text>',
    ]
