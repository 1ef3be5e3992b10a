"""Training of the NODE classifier (facts 2.3)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.arrays import Split, write_arrays
from pipeline.data.batches import (
    count_batches,
    crop_randomly,
    flip_randomly,
    jitter_colours,
    normalise_images,
    order_images,
    scale_images,
    split_batches,
)
from pipeline.networks.node import NodeClassifier
from pipeline.schema.compute import Compute
from pipeline.schema.node import NodeRun, NodeTraining
from pipeline.training.outputs import check_finite, count_params, write_history, write_run, write_weights
from pipeline.training.progress import show_progress
from pipeline.training.seeding import make_generator, seed_global


@dataclass(frozen=True)
class Predictions:
    """Logits [N, classes] of the test split in its order, and the forward NFE of every batch."""

    logits: Tensor
    nfe: Tensor


def augment(images: Tensor, training: NodeTraining, generator: torch.Generator) -> Tensor:
    """Crop, colour jitter, flip, in the recipe's order; images [B, C, H, W] in [0, 1]."""
    if training.crop_padding:
        images = crop_randomly(images, training.crop_padding, generator)
    if training.hue or training.saturation:
        images = jitter_colours(images, training.hue, training.saturation, generator)
    return flip_randomly(images, generator) if training.flip else images


@torch.no_grad()
def predict(network: NodeClassifier, images: Tensor, batch_size: int, autocast: torch.autocast) -> Predictions:
    """Predictions for normalised images [N, C, H, W], batch by batch in order."""
    network.eval()
    logits, nfe = [], []
    for batch in images.split(batch_size):
        with autocast:
            classified = network(batch)
        logits.append(classified.logits.float())
        nfe.append(classified.nfe)
    return Predictions(torch.cat(logits).cpu(), torch.tensor(nfe))


def train_node(run: NodeRun, train: Split, test: Split, compute: Compute, device: str, out: Path) -> None:
    """Train one classifier and write run.json, history.tsv, best and last weights, and test predictions to `out`.

    The paper's plateau schedule watches the test accuracy, so training sees the test split.

    Raises:
        ValueError: the loss or a solve diverged.
    """
    training, seed = run.training, run.seed
    seed_global(seed, "initialisation")
    channels, size = train.images.shape[1], train.images.shape[2]
    network = NodeClassifier(run.network, channels, size, train.classes).to(device)
    optimiser = torch.optim.SGD(
        network.parameters(), training.learning_rate, training.momentum, weight_decay=training.weight_decay
    )
    steps = training.epochs * count_batches(len(train.images), training.batch_size)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, "max", patience=training.patience)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    autocast = torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bfloat16")

    images = torch.from_numpy(train.images).to(device)
    labels = torch.from_numpy(train.labels).to(device)
    test_images = scale_images(torch.from_numpy(test.images).to(device))
    test_images = normalise_images(test_images, training.mean, training.std)
    test_labels = torch.from_numpy(test.labels)

    history: list[dict[str, float | int]] = []
    best_accuracy, best_epoch = -1.0, 0
    arrays: dict[str, np.ndarray] = {"labels": test.labels}
    bar = show_progress(steps, f"node {run.arm}", "step")
    out.mkdir(parents=True, exist_ok=True)
    for epoch in range(1, training.epochs + 1):
        network.train()
        seed_global(seed, "dropout", epoch)
        augmentation = make_generator(device, seed, "augmentation", epoch)
        loss_sum = torch.zeros((), device=device)
        correct = torch.zeros((), device=device)
        nfe: list[int] = []
        order = order_images(len(images), make_generator("cpu", seed, "order", epoch))
        for batch in split_batches(order.to(device), training.batch_size):
            x = augment(scale_images(images[batch]), training, augmentation)
            with autocast:
                classified = network(normalise_images(x, training.mean, training.std))
            logits = classified.logits.float()
            loss = functional.cross_entropy(logits, labels[batch])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if training.schedule == "cosine":
                cosine.step()
            loss_sum += loss.detach() * len(batch)
            correct += (logits.argmax(1) == labels[batch]).sum()
            nfe.append(classified.nfe)
            bar.update()
        predictions = predict(network, test_images, training.batch_size, autocast)
        accuracy = (predictions.logits.argmax(1) == test_labels).double().mean().item() * 100
        history.append(
            {
                "epoch": epoch,
                "learning_rate": optimiser.param_groups[0]["lr"],
                "train_loss": check_finite(loss_sum.item() / len(images), f"epoch {epoch}: the training loss"),
                "train_accuracy": correct.item() / len(images) * 100,
                "train_nfe": sum(nfe) / len(nfe),
                "test_loss": functional.cross_entropy(predictions.logits, test_labels).item(),
                "test_accuracy": accuracy,
                "test_nfe": predictions.nfe.double().mean().item(),
            }
        )
        if training.schedule == "plateau":
            plateau.step(accuracy)
        bar.set_postfix(epoch=epoch, accuracy=f"{accuracy:.1f}", nfe=f"{history[-1]['test_nfe']:.0f}")
        if accuracy > best_accuracy:
            best_accuracy, best_epoch = accuracy, epoch
            write_weights(out / "best.safetensors", network.state_dict())
            arrays |= {"best_logits": predictions.logits.numpy(), "best_nfe": predictions.nfe.numpy()}
    bar.close()
    arrays |= {"last_logits": predictions.logits.numpy(), "last_nfe": predictions.nfe.numpy()}
    arrays["epochs"] = np.array([best_epoch, training.epochs, count_params(network)])
    write_weights(out / "last.safetensors", network.state_dict())
    write_arrays(out / "predictions.safetensors", arrays)
    write_history(out / "history.tsv", history)
    write_run(out / "run.json", run, count_params(network))
