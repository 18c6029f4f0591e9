"""Trains one network on the cached pictures, on the GPU if there is one, else on the CPU.

    python -m training.network.train NETWORK

In phases: crops, which are cheap and of which most show a defect, then whole
pictures as they are served; then both once more, with defects that lie hidden
added. In all of them what proves hard is shown more often. Beside the label of
the picture each cell of the map is taught from the renderer's masks; with
photographs, which have none, the label alone teaches, and every phase sees whole
pictures.

Every few minutes all there is goes to progress.pt; an interrupted run is taken
up from there and ends with the same weights on the same machine.
"""

import argparse
import copy
import json
import math
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from training import CANDIDATES, LABELS
from training.network.batches import IGNORED, Batch, Split, digest_of, draw, order
from training.network.model import FLAWS, NETWORKS, VialNet, normalise
from training.params import params

# After so many steps the run is saved and what comes next is chosen, the hard more often.
ROUND = 200
PROGRESS = ("phase", "step", "seconds", "losses", "history")
WARM_UP = 100
# Batch norm is measured anew on so many whole pictures, for the averaged weights.
SETTLED_ON = 960


class Run:
    """Everything that a step changes, and how far it has come."""

    def __init__(self, network: str, settings: dict, digest: str, device: torch.device) -> None:
        torch.manual_seed(settings["seed"])
        self.settings, self.device = settings, device
        # A run of other pictures, or of other settings, is another run.
        self.made_of = {"settings": settings, "pictures": digest}
        self.model = VialNet(network).to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), weight_decay=settings["weight_decay"])
        self.phase, self.step, self.seconds = 0, 0, 0.0
        # Of each picture, over the times it was shown: what is hard is shown more often.
        self.losses = torch.ones(0)
        self.history: list[dict] = []
        self.path = CANDIDATES / network / "progress.pt"

    def meet(self, n_pictures: int) -> None:
        """From now on so many pictures are shown; those that were not before count as hard."""
        self.losses = torch.cat([self.losses, torch.ones(n_pictures - len(self.losses))])

    def save(self) -> None:
        unfinished = self.path.with_suffix(".part")
        state = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimiser")}
        rest = {name: getattr(self, name) for name in (*PROGRESS, "made_of")}
        torch.save({**state, **rest}, unfinished)
        unfinished.rename(self.path)

    def resume(self) -> None:
        """Takes up what was saved of the same settings and pictures, if anything was."""
        if not self.path.exists():
            return
        # To the CPU: losses stay there, and what belongs to the device is copied there when it is taken up.
        stored = torch.load(self.path, weights_only=True, map_location="cpu")
        if stored.get("made_of") != self.made_of:
            print(f"{self.path.name} is of other settings or pictures: beginning anew")
            return
        for name in ("model", "average", "optimiser"):
            getattr(self, name).load_state_dict(stored[name])
        for name in PROGRESS:
            setattr(self, name, stored[name])
        print(f"taken up at phase {self.phase}, step {self.step}")


def rate_at(step: int, phase: dict) -> float:
    """Cosine from the phase's peak to its final rate, after a linear warm-up."""
    cosine = (1 + math.cos(math.pi * step / phase["steps"])) / 2
    rate = phase["final_rate"] + (phase["peak_rate"] - phase["final_rate"]) * cosine
    return rate * min(1.0, (step + 1) / WARM_UP)


def cell_loss(evidence: Tensor, cells: Tensor) -> Tensor:
    """Focal loss over the cells, a share of the flawed ones (Lin et al. 2017, arXiv 1708.02002)."""
    known = (cells != IGNORED).unsqueeze(1)
    flawed = torch.stack([cells == flaw for flaw in FLAWS], 1)
    plain = functional.binary_cross_entropy_with_logits(evidence, flawed.float(), reduction="none")
    surprise = 1 - torch.exp(-plain)
    return (plain * surprise**2 * known).sum() / flawed.sum().clamp(min=1)


def advance(run: Run, phase: dict, indices: np.ndarray, batch: Batch) -> tuple[float, float]:
    """One step of the optimiser on a view of each of these pictures; returns the losses of pictures and cells."""
    for group in run.optimiser.param_groups:
        group["lr"] = rate_at(run.step, phase)
    images = normalise(batch.images.to(run.device))
    with torch.autocast("cuda", torch.bfloat16, enabled=run.device.type == "cuda"):
        features = run.model.features(images)
    features = features.float()
    evidence = run.model.evidence(features)
    weights = torch.tensor(run.settings["class_weights"], device=run.device)
    logits = run.model.judge(features, evidence).logits
    labels = batch.labels.to(run.device)
    image_loss = functional.cross_entropy(logits, labels, weights, ignore_index=IGNORED)
    cells = torch.zeros(()) if batch.cells is None else cell_loss(evidence, batch.cells.to(run.device))
    run.optimiser.zero_grad()
    (image_loss + cells.to(run.device)).backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), 5.0)
    run.optimiser.step()
    note_losses(run, indices, logits.detach().cpu(), batch.labels)
    # Young averages forget faster, so that they do not hang on the first weights.
    follow(run.average, run.model, min(run.settings["average_decay"], (run.step + 1) / (run.step + 10)))
    return image_loss.item(), cells.item()


def note_losses(run: Run, indices: np.ndarray, logits: Tensor, labels: Tensor) -> None:
    """Half of what is known of a picture is its last view."""
    known = (labels != IGNORED).numpy()
    losses = functional.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)[known]
    run.losses[indices[known]] = (run.losses[indices[known]] + losses) / 2


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(now, 1 - decay)
        else:
            kept.copy_(now)


@torch.inference_mode()
def predict(model: VialNet, split: Split, device: torch.device) -> Tensor:
    """Logits of a whole split."""
    model.eval()
    starts = tqdm(range(0, len(split.labels), 32), desc="judging", leave=False, mininterval=5)
    chunks = (torch.from_numpy(split.images[start : start + 32].copy()).to(device) for start in starts)
    return torch.cat([model(normalise(chunk)).logits.float().cpu() for chunk in chunks])


@torch.no_grad()
def settle_statistics(model: VialNet, split: Split, device: torch.device) -> None:
    """Measures the batch-norm statistics anew, for the averaged weights on whole pictures."""
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.reset_running_stats()
        # None: a plain average over everything seen.
        norm.momentum = None
    model.train()
    for start in range(0, min(SETTLED_ON, len(split.labels)), 32):
        model(normalise(torch.from_numpy(split.images[start : start + 32].copy()).to(device)))
    model.eval()


def hardness(losses: Tensor) -> np.ndarray:
    """How often a picture is shown: by its loss, none more than twenty times as often as the mean."""
    mean = losses.mean().item()
    return losses.clamp(max=20 * mean).numpy().astype(np.float64) + 0.1 * mean


def separation(logits: Tensor, labels: np.ndarray) -> dict:
    """How good and flawed lie apart on the log-odds of good, as a threshold would find them."""
    log_odds = (logits[:, 0] - logits[:, 1:].logsumexp(1)).numpy()
    good, flawed = log_odds[labels == 0], log_odds[labels != 0]
    return {
        "accuracy": round(float((logits.argmax(1).numpy() == labels).mean()), 5),
        "flawed_above_zero": round(float((flawed > 0).mean()), 5),
        "good_below_all_but_1_in_200_flawed": round(float((good < np.quantile(flawed, 0.995)).mean()), 5),
        "good_below_highest_flawed": round(float((good < flawed.max()).mean()), 5),
    }


def run_phase(run: Run, phase: dict, train: Split, validation: Split) -> None:
    name = phase["name"]
    run.meet(len(train.labels))
    side = phase.get("side") if train.masks is not None else None
    seed = (run.settings["seed"], run.phase)
    bar = tqdm(initial=run.step, total=phase["steps"], desc=name, unit="step", mininterval=10)
    run.model.train()
    while run.step < phase["steps"]:
        started = time.monotonic()
        steps = min(ROUND, phase["steps"] - run.step)
        chosen = order(hardness(run.losses), steps * phase["batch"], (*seed, run.step))
        for indices in chosen.reshape(steps, phase["batch"]):
            batch = draw(train, indices, side, np.random.default_rng((*seed, run.step)))
            image_loss, cells = advance(run, phase, indices, batch)
            run.step += 1
            bar.update()
            bar.set_postfix(image=f"{image_loss:.3f}", cells=f"{cells:.3f}", refresh=False)
        run.history.append({"phase": name, "step": run.step, "image_loss": image_loss, "cell_loss": cells})
        run.seconds += time.monotonic() - started
        run.save()
    bar.close()
    started = time.monotonic()
    settle_statistics(run.average, train, run.device)
    found = separation(predict(run.average, validation, run.device), validation.labels)
    print(f"{name}: {found}", flush=True)
    run.history.append({"phase": name, "step": run.step, "validation": found})
    run.seconds += time.monotonic() - started
    # The next phase begins with the averaged weights and a fresh optimiser.
    run.model.load_state_dict(run.average.state_dict())
    run.average = copy.deepcopy(run.model)
    run.optimiser = torch.optim.AdamW(run.model.parameters(), weight_decay=run.settings["weight_decay"])
    run.phase, run.step = run.phase + 1, 0
    run.save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    network = parser.parse_args().network
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_flush_denormal(True)
    settings = {name: value for name, value in params()["train"].items() if name != "networks"}
    validation = Split.load("validation")
    phases = settings["phases"]
    splits = dict.fromkeys(split for phase in phases for split in phase["splits"])
    (CANDIDATES / network).mkdir(parents=True, exist_ok=True)
    run = Run(network, settings, digest_of(splits), device)
    run.resume()
    while run.phase < len(phases):
        phase = phases[run.phase]
        run_phase(run, phase, Split.load(*phase["splits"]), validation)
    recipe = {
        "network": network,
        "from": "scratch",
        "optimiser": "AdamW",
        **settings,
        "labels": list(LABELS),
        "seconds": round(run.seconds),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "history": run.history,
    }
    checkpoint = {"model": run.average.state_dict(), "recipe": json.dumps(recipe)}
    torch.save(checkpoint, CANDIDATES / network / "checkpoint.part")
    (CANDIDATES / network / "checkpoint.part").rename(CANDIDATES / network / "checkpoint.pt")


if __name__ == "__main__":
    main()
