#!/usr/bin/env python3
"""Have the real wandb and mlflow read what `--report_to wandb mlflow` makes.

    cargo build --release --bin run_mlm
    python3 -m venv VENV && VENV/bin/pip install wandb mlflow
    scripts/trackers_in_python.py VENV [--program target/release/run_mlm]

A run of 30 steps reports to an offline run and to an `mlflow server` on this machine. Then `wandb sync` uploads the run to a small
server that answers as api.wandb.ai does, and what arrives there, and what MLflow's own client reads, is compared with log.jsonl.
Nothing leaves the machine.
"""

import argparse
import gzip
import http.server
import json
import math
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SINGLE = {"train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos"}


class Wandb(http.server.BaseHTTPRequestHandler):
    """As much of W&B's server as `wandb sync` needs; what is uploaded is kept in `got`."""

    got = {"mutations": [], "files": {}, "stream": []}

    def log_message(self, *_):
        pass

    def body(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def reply(self, answer):
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply({})

    def do_PUT(self):
        self.got["files"][self.path.rsplit("/", 1)[-1]] = self.body().decode()
        self.reply({})

    def do_POST(self):
        body = self.body()
        if self.path.endswith("/file_stream"):
            self.got["stream"].append(json.loads(body))
            return self.reply({"exitcode": None, "limits": {}})
        if not self.path.startswith("/graphql"):
            return self.reply({})
        variables = json.loads(body).get("variables") or {}
        self.got["mutations"].append(variables)
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "someone"}}
        bucket = {"id": "b", "name": variables.get("name"), "displayName": None, "description": None, "config": None,
                  "sweepName": None, "project": project, "historyLineCount": 0}
        here = f"http://{self.headers['Host']}/upload"
        files = [{"name": name, "uploadUrl": f"{here}/{name}"} for name in variables.get("files") or []]
        viewer = {"id": "v", "entity": "someone", "username": "someone", "flags": "{}", "teams": {"edges": []}}
        self.reply({"data": {
            "upsertBucket": {"bucket": bucket, "inserted": True}, "viewer": viewer, "model": {"bucket": None},
            "serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None, "features": []},
            "createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files},
        }})


def same(one, other):
    """Whether two figures are one, whatever a file of text made of it."""
    return math.isclose(float(one), float(other), rel_tol=1e-9)


def tag(name):
    """Python's rewrite_logs, and perplexity beside the evaluation's loss."""
    if name == "perplexity":
        return "eval/perplexity"
    return f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}"


def check_wandb(venv, folder, records):
    """Uploads the offline run, and compares what arrives."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wandb)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    [run] = folder.glob("wandb/offline-run-*")
    environment = os.environ | {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}"}
    done = subprocess.run([venv / "bin/wandb", "sync", run], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Finished syncing" in done.stderr + done.stdout, done.stderr + done.stdout
    got = Wandb.got
    begun = got["mutations"][0]
    config = {name: entry["value"] for name, entry in json.loads(begun["config"]).items()}
    assert (begun["project"], begun["displayName"]) == ("ferry", "first"), begun
    assert config["learning_rate"] == 0.001 and config["hidden_size"] == 32 and config["model/num_parameters"] > 0, config
    lines = [json.loads(line) for part in got["stream"]
             for line in part.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])]
    assert len(lines) == len(records), (len(lines), len(records))
    for line, record in zip(lines, records):
        assert line["train/global_step"] == record["step"], (line, record)
        for name, value in record.items():
            if name not in SINGLE | {"step"}:
                assert same(line[tag(name)], value), (name, line, record)
    summary = json.loads(got["files"]["wandb-summary.json"])
    final = {name: value for record in records for name, value in record.items()}
    assert all(same(summary[name], final[name]) for name in SINGLE), summary
    assert "program" in json.loads(got["files"]["wandb-metadata.json"]) and "config.yaml" in got["files"], got["files"]
    assert got["stream"][-1].get("exitcode") == 0, got["stream"][-1]
    print(f"wandb: {len(lines)} records, {len(config)} settings, {sorted(got['files'])}")


def check_mlflow(venv, address, records):
    """Compares what MLflow's own client reads."""
    code = """
import json, mlflow
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("ferry")
[run] = client.search_runs([experiment.experiment_id])
metrics = {name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics}
print(json.dumps([run.info.run_name, run.info.status, run.data.params, run.data.tags, metrics]))
"""
    done = subprocess.run([venv / "bin/python", "-c", code], env=os.environ | {"MLFLOW_TRACKING_URI": address},
                          capture_output=True, text=True, check=True)
    name, status, params, tags, metrics = json.loads(done.stdout)
    assert (name, status, tags["mlflow.source.type"]) == ("first", "FINISHED", "LOCAL"), (name, status, tags)
    assert params["learning_rate"] == "0.001" and params["do_train"] == "True" and params["hub_token"] == "None", params
    wanted = {}
    for record in records:
        for key, value in record.items():
            if key != "step":
                wanted.setdefault(key, []).append((record["step"], value))
    assert metrics.keys() == wanted.keys(), (metrics.keys(), wanted.keys())
    for key, values in wanted.items():
        found = sorted(map(tuple, metrics[key]))
        assert all(step == at and same(value, other) for (step, value), (at, other) in zip(found, sorted(values), strict=True)), key
    print(f"mlflow: {sum(map(len, metrics.values()))} numbers of {len(metrics)} metrics, {len(params)} parameters")


def mlflow_server(venv, folder):
    """A server on a free port; its process and address, once it answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [venv / "bin/mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + 180
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address}/health")
            return process, address
        except OSError:
            time.sleep(0.5)
    process.terminate()
    raise SystemExit("mlflow server does not answer")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("venv", type=pathlib.Path)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/run_mlm")
    arguments = parser.parse_args()
    venv = arguments.venv.absolute()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        process, address = mlflow_server(venv, folder)
        try:
            environment = os.environ | {
                "WANDB_PROJECT": "ferry", "MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": "ferry"}
            size = "hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=64"
            command = (f"{arguments.program.absolute()} --model_type bert --config_overrides {size} --train_tokenizer 500 "
                       f"--train_file {ROOT}/samples/train.txt --validation_file {ROOT}/samples/valid.txt --line_by_line "
                       "--max_seq_length 64 --do_train --do_eval --max_steps 30 --learning_rate 1e-3 --logging_steps 5 "
                       "--eval_strategy steps --eval_steps 10 --report_to wandb mlflow --run_name first --output_dir out")
            subprocess.run(command.split(), cwd=folder, env=environment, check=True)
            records = [json.loads(line) for line in (folder / "out/log.jsonl").read_text().splitlines()]
            check_wandb(venv, folder, records)
            check_mlflow(venv, address, records)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
