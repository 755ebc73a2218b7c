"""`train --base`: a PaliGemma is taught through LoRA in the same loop, with its own mask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from training.dataset import Case, Dataset
from training.errors import BrokenModel
from training.fit import PretrainConfig, pretrain
from training.fit.lora import add_lora
from training.images import Radiograph
from training.model import load


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of one bright square called a heart."""
    folder = tmp_path_factory.mktemp("data") / "set"
    made = Dataset.create(folder)
    rng = np.random.default_rng(0)
    for i in range(12):
        mask = np.zeros((56, 56), bool)
        top, left = rng.integers(5, 25, 2)
        mask[top : top + 20, left : left + 20] = True
        case = Case(f"c{i}", f"s{i}", "PA", None, f"images/c{i}.png", ("heart",), (), (), "drawn", i, "0")
        made.add(case, Radiograph((0.2 + 0.6 * mask).astype(np.float32)), {"heart": mask})
    return folder


@pytest.mark.parametrize("text_type", ["gemma", "gemma2"])
@pytest.mark.parametrize("freeze_vision", [True, False])
def test_a_base_is_taught_through_lora_and_its_adapter_opens(
    stock_folder: Callable[[str], Path],
    dataset: Path,
    codebook_file: Path,
    tmp_path: Path,
    radiograph: Radiograph,
    text_type: str,
    freeze_vision: bool,
) -> None:
    base = stock_folder(text_type)
    config = PretrainConfig(
        (dataset,),
        tmp_path / "run",
        codebook_file,
        base=str(base),
        structures=("heart",),
        image_size=56,
        images=2,
        queries=2,
        max_steps=3,
        workers=1,
        cache_size=56,
        dense_first=0.0,
        freeze_vision=freeze_vision,
    )
    adapter = pretrain(config)
    weights = load_file(adapter / "adapter_model.safetensors")
    assert all("lora_" in name for name in weights)
    assert any("vision_tower" in name for name in weights) != freeze_vision
    projections = {name.split(".lora_")[0].rsplit(".", 1)[1] for name in weights if "language_model" in name}
    assert projections == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 16
    taught, stock = load(adapter, codebook=codebook_file), load(base, codebook=codebook_file)
    assert not taught.checkpoint.packed
    assert (taught.card["structures"], taught.card["stretch"]) == (["heart"], True), (
        "it is asked about images as it was taught on"
    )
    old, new = stock.model.state_dict(), taught.model.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert any("language_model" in name for name in changed)
    assert any("vision_tower" in name for name in changed) != freeze_vision
    (finding,) = taught.segment(radiograph, ["heart"])
    assert finding.structure == "heart"


def test_a_base_of_another_image_size_is_said(
    stock_folder: Callable[[str], Path], dataset: Path, codebook_file: Path, tmp_path: Path
) -> None:
    config = PretrainConfig((dataset,), tmp_path / "run", codebook_file, base=str(stock_folder("gemma")), max_steps=1)
    with pytest.raises(BrokenModel, match="set the image size to 56"):
        pretrain(config)


def test_recomputed_layers_learn_the_same(
    stock_folder: Callable[[str], Path], dataset: Path, codebook_file: Path, tmp_path: Path
) -> None:
    base = str(stock_folder("gemma2"))
    learned = []
    for checkpointing in (False, True):
        config = PretrainConfig(
            (dataset,), tmp_path / str(checkpointing), codebook_file, base=base, structures=("heart",), image_size=56, images=2,
            queries=2, max_steps=2, workers=1, cache_size=56, dense_first=0.0, calibrate_images=0, checkpointing=checkpointing,
        )  # fmt: skip
        learned.append(load_file(pretrain(config) / "adapter_model.safetensors"))
    assert all(torch.allclose(learned[0][name], learned[1][name], atol=1e-5) for name in learned[0])


def test_adapters_are_learnt_in_float32_on_a_bfloat16_base(stock_folder: Callable[[str], Path]) -> None:
    model = load(stock_folder("gemma")).checkpoint.model.to(torch.bfloat16)
    add_lora(model, 4)
    kinds = {n.split(".")[-3]: p.dtype for n, p in model.named_parameters() if p.requires_grad}
    assert set(kinds.values()) == {torch.float32}
    assert all(p.dtype == torch.bfloat16 for p in model.parameters() if not p.requires_grad)
    q = next(m for n, m in model.named_modules() if n.endswith("language_model.layers.0.self_attn.q_proj"))
    assert q(torch.zeros(1, 1, q.in_features, dtype=torch.bfloat16)).dtype == torch.bfloat16
