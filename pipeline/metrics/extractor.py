"""Trains the small classifier whose features serve the FID and KID of a small dataset."""

from pathlib import Path

import torch
from torch.nn import functional

from pipeline.compute.seeding import make_generator, seed_global
from pipeline.data.arrays import Split
from pipeline.data.batches import order_images, scale_images, split_batches
from pipeline.metrics.classifier import FeatureClassifier
from pipeline.run.outputs import write_history, write_weights
from pipeline.schema.data import ClassifierExtractor


def train_extractor(spec: ClassifierExtractor, train: Split, test: Split, device: str, out: Path) -> float:
    """Train with Adam and write weights and history to `out`; returns the test accuracy in %.

    Initialisation and data order depend on the extractor's own seed.
    """
    seed_global(spec.seed, "initialisation")
    network = FeatureClassifier(train.images.shape[1], spec.features, train.classes).to(device)
    # Fused: the unfused one takes MKL's square root, whose last bit depends on the CPU (see `take_root`).
    optimiser = torch.optim.Adam(network.parameters(), spec.learning_rate, fused=True)
    images, test_images = (scale_images(torch.from_numpy(split.images).to(device)) for split in (train, test))
    labels, test_labels = (torch.from_numpy(split.labels).to(device) for split in (train, test))
    history: list[dict[str, float | int]] = []
    for epoch in range(1, spec.epochs + 1):
        order = order_images(len(images), make_generator("cpu", spec.seed, "order", epoch)).to(device)
        for batch in split_batches(order, spec.batch_size):
            loss = functional.cross_entropy(network(images[batch])[1], labels[batch])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            accuracy = float((network(test_images)[1].argmax(1) == test_labels).double().mean().item() * 100)
        history.append({"epoch": epoch, "train_loss": loss.item(), "test_accuracy": accuracy})
    write_weights(out / "weights.safetensors", network.state_dict())
    write_history(out / "history.tsv", list(history[0]), history)
    return accuracy
