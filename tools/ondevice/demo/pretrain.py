"""Pretrains the demo's network and writes watch.onnx: `python -m ondevice.demo.pretrain`.

The file is part of the package, so that a user of the demo needs no PyTorch.
"""

from pathlib import Path

import torch
from torch import nn

from ondevice.demo.model import WatchNet, fold_batch_norm
from ondevice.demo.watch import WINDOW_SAMPLES, pretraining_set

MODEL_FILE = Path(__file__).with_name("watch.onnx")
EPOCHS = 30
BATCH = 32
LEARNING_RATE = 3e-3


def main() -> None:
    """Pretrains and writes the file beside this module."""
    model = pretrain()
    torch.onnx.export(
        model,
        (torch.zeros(1, 6, WINDOW_SAMPLES),),
        MODEL_FILE,
        dynamo=False,
        opset_version=17,
        input_names=["x"],
        output_names=["logits"],
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{MODEL_FILE.name}: {parameters} parameters, {MODEL_FILE.stat().st_size} bytes")


def pretrain(seed: int = 0) -> WatchNet:
    """Returns the network trained on the pretraining people, batch normalisation folded."""
    torch.set_num_threads(2)  # the order of sums, and so the file, depends on it
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.from_numpy(array) for array in pretraining_set())
    model = WatchNet()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=1e-2)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    model.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        for batch in order[: len(x) // BATCH * BATCH].view(-1, BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(augment(x[batch], generator)), y[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
    fold_batch_norm(model)
    return model


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Varies windows [n, 6, 100] as another wearer might: strength, speed of turning, noise."""
    strength = 1 + 0.1 * torch.randn(len(x), 6, 1, generator=generator)
    return x * strength + 0.05 * torch.randn(x.shape, generator=generator)


if __name__ == "__main__":
    main()
