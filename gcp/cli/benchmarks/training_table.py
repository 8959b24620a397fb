"""The text of the training benchmark: machine, what is compared, and a table for each topic."""

from typing import Any

from gcp.analysis.benchmarks.photographs import DESCRIPTION
from gcp.cli.benchmarks.command import machine


def header(environment: dict[str, Any], settings: dict[str, Any]) -> str:
    """Machine and versions."""
    packages = environment["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "torchvision", "timm"))
    return (
        f"machine    {machine(environment)}, {environment['cores']} cores, {versions}\n"
        f"figures    medians of {settings['repeats']} rounds in which the rows take turns, after "
        f"{settings['warmup']} of warm-up, with least and greatest"
    )


def loop_table(point: dict[str, Any]) -> str:
    """Images per second of both loops, their ratio, and what the device waited for."""
    lines = [
        f"loop: epochs of {point['images']} images in memory, {_threads(point)}; fit has the batches read and "
        "checks every step",
        f"{'':<12}{'images/s':>10}   {'least to greatest':<20}",
    ]
    lines += [f"{row['loop']:<12}{_rate(row['images_per_second'])}" for row in point["rows"]]
    ratio, wait = point["ratio"], point["data_wait"]
    lines.append(f"fit / bare  {ratio['median']:>10.3f}   {ratio['min']:.3f} to {ratio['max']:.3f}")
    lines.append(f"data wait   {wait['median']:>9.1f} %   {wait['min']:.1f} to {wait['max']:.1f}")
    return "\n".join(lines)


def loader_table(point: dict[str, Any]) -> str:
    """Images per second and core of each loader, and the time of each over that of ours."""
    plural = "s" if point["workers"] > 1 else ""
    workers = f"{point['workers']} worker{plural} each" if point["workers"] else "read by the calling process"
    lines = [
        f"loader: {DESCRIPTION.format(count=point['images'])}; {workers}, {_threads(point)}",
        f"{'':<24}{'images/s/core':>14}   {'least to greatest':<20}{'cpu ms/image':>13}{'time over gcp':>15}",
    ]
    for row in point["rows"]:
        rate = _rate(row["images_per_second"], 14)
        cpu = f"{row['cpu_ms']['median']:.2f}" if row["cpu_ms"] else "-"
        lines.append(f"{row['loader']:<24}{rate:<37}{cpu:>13}{row['speedup']['median']:>15.2f}")
    lines += [f"  {row['loader']:<22}{row['what']}" for row in point["rows"]]
    return "\n".join(lines)


def monitor_table(point: dict[str, Any]) -> str:
    """Milliseconds of a step and of an observation, and what the observations take of the run."""
    lines = [
        f"monitor: steps with and without an observation of {point['images']} images, {point['channels']} channels, "
        f"{point['map']} samples, {_threads(point)}",
        f"{'':<12}{'ms':>10}   {'least to greatest':<20}",
    ]
    for row in ("step", "observation"):
        value = point[row]
        lines.append(f"{row:<12}{value['median']:>10.1f}   {value['min']:.1f} to {value['max']:.1f}")
    share = point["share"]
    lines.append(
        f"share       {share['median']:>8.2f} %   {share['min']:.2f} to {share['max']:.2f}, of a run that observes one "
        f"step out of {point['every']}"
    )
    return "\n".join(lines)


def _rate(value: dict[str, float], width: int = 10) -> str:
    return f"{value['median']:>{width}.0f}   {value['min']:.0f} to {value['max']:.0f}"


def _threads(point: dict[str, Any]) -> str:
    return f"{point['threads']} thread{'s' if point['threads'] > 1 else ''}"
