#!/usr/bin/env python3
"""Has TensorFlow and Flax themselves save small models, and compares what these programs compute from their files.

    cargo build --release --example logits -p lm-train
    python3 scripts/foreign_weights_in_python.py target/release/examples/logits VENV [FAMILY ...]

sets up the virtual environment VENV (Python 3.9 to 3.11; TensorFlow 2.15, Flax 0.7, transformers 4.57: two gigabytes) and
prints a line per family and format, whole and in shards: how far logits are from those that the library itself computes,
and from those of the same weights in PyTorch's file. Models are the fixtures of lm-models. TensorFlow 1 has no model to
compute with: its checkpoints are saved by its `Saver`, under the names of the first programs of BERT and GPT-2.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ROOT / "crates/lm-models/tests/fixtures/models"
PACKAGES = ["tensorflow-cpu==2.15.1", "transformers==4.57.6", "jax==0.4.13", "jaxlib==0.4.13", "flax==0.7.0",
            "numpy<2", "scipy<1.13", "ml-dtypes<0.4", "tensorstore<0.1.55"]


def set_up(venv):
    """Goes on in the virtual environment, made first if it is not there."""
    python = venv / "bin/python"
    if pathlib.Path(sys.prefix) == venv:
        return
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0", JAX_PLATFORMS="cpu", HF_HUB_OFFLINE="1",
                      TRANSFORMERS_VERBOSITY="error", PYTHONWARNINGS="ignore")
    os.execv(python, [python, __file__, *sys.argv[1:]])


def ours(program, folder):
    from safetensors.numpy import load_file
    out = folder / "logits.safetensors"
    subprocess.run([program, folder, out], check=True)
    return load_file(out)


def far(left, right):
    return float(abs(left - right).max())


def save(framework, family, source, folder, **how):
    """The library's model of a PyTorch folder, saved in the library's own form; none if it has none."""
    import transformers
    prefix = {"TensorFlow": "TF", "Flax": "Flax"}[framework]
    config = transformers.AutoConfig.from_pretrained(source)
    cls = getattr(transformers, prefix + config.architectures[0], None)
    if cls is None:
        return None
    if framework == "TensorFlow":
        # 4.57 fails to read safetensors into TensorFlow by itself: it goes through a file as through a dictionary.
        from safetensors.numpy import load_file
        from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model
        model = load_pytorch_state_dict_in_tf2_model(
            cls(config), load_file(source / "model.safetensors"), allow_missing_keys=True,
            tf_to_pt_weight_rename=getattr(cls(config), "tf_to_pt_weight_rename", None))
    else:
        model = cls.from_pretrained(source, from_pt=True)
    model.save_pretrained(folder, safe_serialization=False, **how)
    return model


def library(framework, family, source, folder, program):
    model = save(framework, family, source, folder / "whole")
    if model is None:
        return
    save(framework, family, source, folder / "shards", max_shard_size="6KB")
    torch, whole, shards = ours(program, source_copy(source, folder)), ours(program, folder / "whole"), ours(program, folder / "shards")
    files = len(list((folder / "shards").glob("*-of-*")))
    line = f"from PyTorch's {far(whole['logits'], torch['logits']):.1e}, in {files} shards {far(shards['logits'], torch['logits']):.1e}"
    if family != "xlnet":  # whose query stream the program shows
        theirs = model(**{name: whole[name] for name in ("input_ids", "attention_mask")}).logits
        line = f"from its own {far(whole['logits'], theirs.__array__()):.1e}, " + line
    print(f"{framework:13} {family:22} logits {line}", flush=True)


def source_copy(source, folder):
    copy = folder / "torch"
    shutil.copytree(source, copy, dirs_exist_ok=True)
    return copy


def bert(name, value):
    owner, last = name.rsplit(".", 1)
    path = re.sub(r"\.(\d+)", r"_\1", owner).replace(".", "/")
    if path == "cls/predictions":
        return f"{path}/output_bias", value
    if path.endswith("embeddings"):
        return path, value
    if path.endswith("LayerNorm"):
        return f"{path}/{'gamma' if last == 'weight' else 'beta'}", value
    return (f"{path}/kernel", value.T) if last == "weight" else (f"{path}/bias", value)


def gpt2(name, value):
    owner, last = name.removeprefix("transformer.").rsplit(".", 1)
    path = "model/" + re.sub(r"\.(\d+)", r"\1", owner).replace(".", "/")
    if path.endswith(("wte", "wpe")):
        return path, value
    if "ln_" in path:
        return f"{path}/{'g' if last == 'weight' else 'b'}", value
    return (f"{path}/w", value[None]) if last == "weight" else (f"{path}/b", value)


def saver(family, names, source, folder, program):
    import tensorflow.compat.v1 as tf
    from safetensors.numpy import load_file
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in load_file(source / "model.safetensors").items():
            name, value = names(name, value)
            tf.get_variable(name, initializer=value)
        tf.train.get_or_create_global_step()
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(folder / "saved/model.ckpt"))
    shutil.copy(source / "config.json", folder / "saved")
    torch, saved = ours(program, source_copy(source, folder)), ours(program, folder / "saved")
    print(f"TensorFlow 1  {family:22} logits from PyTorch's {far(saved['logits'], torch['logits']):.1e}", flush=True)


def main():
    program, venv, wanted = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve(), sys.argv[3:]
    set_up(venv)
    for source in sorted(MODELS.iterdir()):
        family = source.name
        if not source.is_dir() or (wanted and family not in wanted):
            continue
        for framework in ("TensorFlow", "Flax"):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    library(framework, family, source, pathlib.Path(folder), program)
                except Exception as error:  # what the library can't do with its own model is told, the rest goes on
                    print(f"{framework:13} {family:22} {type(error).__name__}: {str(error).splitlines()[0][:90]}", flush=True)
        if family in ("bert", "gpt2"):
            with tempfile.TemporaryDirectory() as folder:
                saver(family, {"bert": bert, "gpt2": gpt2}[family], source, pathlib.Path(folder), program)


main()
