#!/usr/bin/env python3
"""Write learning rates that Python's get_scheduler gives, odd settings included, for the test of lm-train's schedules.

    python scripts/make_schedules.py crates/lm-train/tests/fixtures/schedules_more.json

Needs torch and transformers 4.57. `rates[i]` is the rate that the step with index i uses; for reduce_lr_on_plateau
`metrics[i]` is observed after it.
"""
import json
import sys

import torch
import transformers

CASES = [
    ("linear", 20, 20, {}), ("linear", 10, 30, {}), ("linear", 1, 0, {}), ("linear", 0, 0, {}),
    ("cosine", 24, 3, {"num_cycles": 0}), ("cosine", 24, 0, {"num_cycles": 3}), ("cosine", 24, 24, {}), ("cosine", 24, 3, {"num_cycles": -0.5}),
    ("cosine_with_restarts", 24, 0, {}), ("cosine_with_restarts", 25, 4, {"num_cycles": 2.5}), ("cosine_with_restarts", 25, 4, {"num_cycles": -2}),
    ("polynomial", 24, 3, {"power": 0.5}), ("polynomial", 24, 0, {"power": 0, "lr_end": 1e-5}), ("polynomial", 24, 5, {"lr_end": 0.0, "power": 3}),
    ("polynomial", 24, 5, {"lr_end": -1e-4}), ("polynomial", 10, 20, {}),
    ("constant", 10, 5, {}), ("constant", 10, 5, {"num_cycles": 2}), ("constant_with_warmup", 12, 0, {}), ("constant_with_warmup", 12, 12, {"x": 1}),
    ("inverse_sqrt", 30, 0, {}), ("inverse_sqrt", 30, 1, {}), ("inverse_sqrt", 10, 20, {}),
    ("cosine_with_min_lr", 24, 4, {"min_lr_rate": 0.5, "num_cycles": 1}), ("cosine_with_min_lr", 24, 0, {"min_lr": 1e-3}),
    ("cosine_with_min_lr", 24, 4, {"min_lr": 0}), ("cosine_with_min_lr", 24, 4, {"min_lr": None, "min_lr_rate": 0.1}),
    ("cosine_with_min_lr", 24, 4, {"min_lr_rate": -0.5}),
    ("cosine_warmup_with_min_lr", 24, 4, {"min_lr_rate": 0.1}), ("cosine_warmup_with_min_lr", 24, 4, {"min_lr": 5e-5, "warmup_lr_rate": 0.2}),
    ("cosine_warmup_with_min_lr", 24, 1, {"min_lr": 5e-5, "warmup_lr_rate": 0.2}), ("cosine_warmup_with_min_lr", 24, 0, {"min_lr_rate": 0.1, "num_cycles": 2}),
    ("cosine_warmup_with_min_lr", 10, 20, {"min_lr_rate": 0.1, "warmup_lr_rate": 0}),
    ("warmup_stable_decay", 30, 5, {"num_decay_steps": 10}), ("warmup_stable_decay", 30, 5, {"num_decay_steps": 40}),
    ("warmup_stable_decay", 30, 5, {"num_decay_steps": 8, "num_stable_steps": 3, "min_lr_ratio": 0.05}),
    ("warmup_stable_decay", 30, 8, {"num_decay_steps": 8, "warmup_type": "1-sqrt", "decay_type": "1-sqrt", "min_lr_ratio": 0.2}),
    ("warmup_stable_decay", 30, 8, {"num_decay_steps": 12, "num_cycles": 1.5, "warmup_type": "cosine"}),
    ("warmup_stable_decay", 30, 0, {"num_decay_steps": 0}), ("warmup_stable_decay", 10, 20, {"num_decay_steps": 5}),
    ("reduce_lr_on_plateau", 40, 5, {}), ("reduce_lr_on_plateau", 40, 0, {"factor": 0.3, "patience": 0, "cooldown": 2, "min_lr": 1e-5}),
    ("reduce_lr_on_plateau", 40, 0, {"mode": "max", "factor": 0.5, "patience": 1, "threshold": 0.01}),
    ("reduce_lr_on_plateau", 40, 0, {"mode": "max", "threshold_mode": "abs", "threshold": 0.05, "factor": 0.9, "patience": 2, "cooldown": 1}),
    ("reduce_lr_on_plateau", 40, 0, {"threshold_mode": "abs", "threshold": 0.02, "factor": 0.5, "patience": 1, "eps": 1e-4}),
    ("reduce_lr_on_plateau", 40, 0, {"threshold": 1.0, "factor": 0.5, "patience": 3}),
]
PEAKS = [5e-4, 3e-5, 1e-2]

out = []
for i, (name, steps, warmup, kwargs) in enumerate(CASES):
    peak = PEAKS[i % 3] if "min_lr" not in kwargs and "lr_end" not in kwargs else 5e-4
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = transformers.get_scheduler(name, optimizer, warmup, steps, scheduler_specific_kwargs=dict(kwargs))
    rates, metrics = [], []
    for step in range(steps + 3):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if name == "reduce_lr_on_plateau":
            metrics.append(round(3.0 - 0.1 * min(step, 8) + 0.02 * ((step * 7) % 5) - (0.5 if step > 25 else 0), 4))
            schedule.step(metrics[-1])
        else:
            schedule.step()
    out.append(dict(lr_scheduler_type=name, steps=steps, warmup_steps=warmup, kwargs=kwargs, peak=peak, rates=rates, **({"metrics": metrics} if metrics else {})))
with open(sys.argv[1], "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]\n")
print(len(out), "schedules")
