#!/usr/bin/env python3
"""Pack release builds of the three programs: an archive for people, and a wheel for `pip install`.

    cargo build --release
    scripts/package.py                     # target/package/run-lm-VERSION-TARGET.tar.xz and run_lm-VERSION-….whl
    scripts/package.py --target aarch64-unknown-linux-gnu      # after cargo build --release --target …

Both hold the programs, the project's licence and those of all crates that are compiled into them; the archive also
completions for four shells, man pages and README.md. Needs cargo, and Python's standard library only. Completions and man
pages are printed by the programs themselves: those of another processor need --runner, such as `qemu-aarch64-static -L
/usr/aarch64-linux-gnu`. Equal programs give equal files.
"""
import argparse
import base64
import hashlib
import io
import json
import lzma
import pathlib
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = ["run_mlm", "run_clm", "run_plm"]
SHELLS = {"bash": "{}.bash", "zsh": "_{}", "fish": "{}.fish", "powershell": "_{}.ps1"}
# A moment that zip can hold: archives of equal programs are equal.
EPOCH = (1980, 1, 1, 0, 0, 0)


def host():
    text = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return re.search(r"host: (\S+)", text)[1]


def compiled_in(target):
    """The packages of other people in the programs, by name: neither of tests nor of build scripts."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting = [id for id, package in packages.items() if package["name"] in PROGRAMS]
    found = set()
    while waiting:
        id = waiting.pop()
        if id in found:
            continue
        found.add(id)
        waiting += [dependency["pkg"] for dependency in nodes[id]["deps"]
                    if any(kind["kind"] is None for kind in dependency["dep_kinds"])]
    return sorted((packages[id] for id in found if packages[id]["source"]),
                  key=lambda package: (package["name"], package["version"]))


def licences(target):
    """One text: each crate, its licence by SPDX, where it comes from, and the licence files that it brings."""
    parts, texts = [], {}
    for package in compiled_in(target):
        folder = pathlib.Path(package["manifest_path"]).parent
        files = sorted(path for path in folder.iterdir()
                       if path.is_file() and re.match(r"(?i)(licen[cs]e|copying|notice|unlicense)", path.name))
        numbers = []
        for path in files:
            text = path.read_text(errors="replace").strip()
            numbers.append(texts.setdefault(text, len(texts) + 1))
        told = ", ".join(f"text {number}" for number in numbers) or "no file in the crate"
        parts.append(f"{package['name']} {package['version']}: {package['license'] or 'see text'}"
                     f" ({package['repository'] or 'no address'}); {told}")
    head = "The programs contain these crates. The licence texts that they bring follow, each once.\n\n"
    body = "".join(f"\n\n===== text {number}\n\n{text}\n" for text, number in texts.items())
    return (head + "\n".join(parts) + body).encode()


def glibc(programs):
    """The oldest glibc that has all symbols that the programs ask for, as (major, minor)."""
    versions = {tuple(map(int, match)) for data in programs.values()
                for match in re.findall(rb"GLIBC_(\d+)\.(\d+)\b", data)}
    return max(versions) if versions else None


def platform_tag(target, programs):
    """The wheel's platform (PEP 600)."""
    machine = target.split("-")[0]
    if "linux" in target:
        found = glibc(programs)
        if found is None:
            return f"manylinux_2_17_{machine}.musllinux_1_1_{machine}"
        return f"manylinux_{found[0]}_{found[1]}_{machine}"
    if "apple" in target:
        return "macosx_11_0_arm64" if machine == "aarch64" else "macosx_10_12_x86_64"
    if "windows" in target:
        return "win_arm64" if machine == "aarch64" else "win_amd64"
    sys.exit(f"package: no wheel platform is known for {target}")


def write_archive(path, folder, files):
    """files: name → (bytes, mode). The dictionary spans all three programs, which have most of their code in common."""
    filters = [{"id": lzma.FILTER_X86}] if "x86_64" in path.name else []
    filters.append({"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 256 << 20})
    with lzma.open(path, "wb", filters=filters) as compressed, tarfile.open(fileobj=compressed, mode="w") as archive:
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))


def write_wheel(folder, version, target, programs, documents):
    tag = f"py3-none-{platform_tag(target, programs)}"
    info = f"run_lm-{version}.dist-info"
    metadata = (f"Metadata-Version: 2.4\nName: run-lm\nVersion: {version}\n"
                "Summary: run_mlm, run_clm and run_plm of transformers, in Rust\n"
                "License-Expression: Apache-2.0\nDescription-Content-Type: text/markdown\n\n").encode()
    files = {f"run_lm-{version}.data/scripts/{name}": (data, 0o755) for name, data in programs.items()}
    files[f"{info}/METADATA"] = (metadata + (ROOT / "README.md").read_bytes(), 0o644)
    files[f"{info}/WHEEL"] = ("Wheel-Version: 1.0\nGenerator: scripts/package.py\nRoot-Is-Purelib: false\n".encode()
                              + "".join(f"Tag: py3-none-{platform}\n" for platform in tag[9:].split(".")).encode(), 0o644)
    files |= {f"{info}/licenses/{name}": (data, 0o644) for name, data in documents.items()}
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, (data, _) in files.items())
    files[f"{info}/RECORD"] = ((record + f"{info}/RECORD,,\n").encode(), 0o644)
    path = folder / f"run_lm-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as wheel:
        for name, (data, mode) in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (0o100000 | mode) << 16
            wheel.writestr(entry, data)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="of the build, as cargo names it (default: this machine)")
    parser.add_argument("--programs", type=pathlib.Path, help="folder with the programs (default: cargo's)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "target/package")
    parser.add_argument("--runner", default="", help="what starts a program of another processor")
    parser.add_argument("--wheel_only", action="store_true")
    args = parser.parse_args()

    target = args.target or host()
    built = args.programs or ROOT / "target" / (args.target or "") / "release"
    ending = ".exe" if "windows" in target else ""
    paths = {name + ending: built / (name + ending) for name in PROGRAMS}
    for path in paths.values():
        if not path.is_file():
            sys.exit(f"package: there is no {path}: build it first with cargo build --release")
    programs = {name: path.read_bytes() for name, path in paths.items()}
    version = re.search(r'(?m)^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text())[1]
    documents = {"LICENSE": (ROOT / "LICENSE").read_bytes(), "THIRD_PARTY_LICENSES": licences(target)}
    args.output.mkdir(parents=True, exist_ok=True)

    made = [write_wheel(args.output, version, target, programs, documents)]
    if not args.wheel_only:
        def printed(path, *words):
            try:
                return subprocess.run([*shlex.split(args.runner), path, *words], check=True, capture_output=True).stdout
            except OSError as error:
                sys.exit(f"package: {path} does not run here ({error.strerror}): give --runner, or --wheel_only")

        files = {name: (data, 0o755) for name, data in programs.items()}
        files |= {name: (data, 0o644) for name, data in documents.items()}
        files["README.md"] = ((ROOT / "README.md").read_bytes(), 0o644)
        for name, path in paths.items():
            program = name.removesuffix(ending)
            files[f"man/man1/{program}.1"] = (printed(path, "--man_page"), 0o644)
            for shell, pattern in SHELLS.items():
                files[f"completions/{shell}/{pattern.format(program)}"] = (printed(path, "--completions", shell), 0o644)
        folder = f"run-lm-{version}-{target}"
        archive = args.output / f"{folder}.tar.xz"
        write_archive(archive, folder, files)
        made.append(archive)
    for path in made:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
