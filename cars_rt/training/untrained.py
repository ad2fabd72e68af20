"""Every network of the registry as a model before it has learnt anything: as fast as a trained one."""

import hashlib
from dataclasses import asdict

import torch

from cars_rt.engines import Card, Model
from cars_rt.training.data.bcars import STEPS
from cars_rt.training.export import to_onnx
from cars_rt.training.networks import build

LENGTH = 1000  # points, of the published networks
STEP = 2.0  # cm-1


def untrained(name: str) -> Model:
    """With the scaling and the length that a trained one has; always the same weights, none of them all
    zero (that would hide what lies before).

    Raises TrainingError if no network is called that, or if it cannot be exported.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build(name, [LENGTH]).eval()
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02)
    fixed = network.fixed_length
    card = Card(
        name=name,
        version="0",
        grid_step_cm1=STEP,
        stride=network.stride,
        min_length=network.min_length,
        scaling="minmax" if fixed else "mean",
        target="chi3" if fixed else "ratio",
        description="Untrained.",
        training={},
        accuracy={},
        fixed_length=fixed,
        pitch_cm1=() if fixed else STEPS,
    )
    content = to_onnx(network, asdict(card))
    return Model(content, card, hashlib.sha256(content).hexdigest())
