"""Models open in the formats they are published in, and say plainly why they do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from training.errors import BrokenModel
from training.images import Radiograph
from training.model import load, load_checkpoint
from training.model.checkpoint import CODEBOOK
from training.model.loading import EMBEDDED_FOLDER
from training.model.unet import Unet, build, load_unet
from training.tokens.codebook import MaskCodebook

Stock = Callable[[str], Path]


@pytest.fixture(scope="session", params=["gemma", "gemma2"])
def stock(request: pytest.FixtureRequest, stock_folder: Stock) -> Path:
    return stock_folder(request.param)


def original(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("model-*.safetensors") for k, v in load_file(file).items()}


def published_adapter(folder: Path, base: Path, old_names: bool) -> Path:
    """A LoRA (r=16 on the seven projections) as peft wrote it for transformers before or after 4.52."""
    prefix = "base_model.model.language_model.model.layers" if old_names else "base_model.model.model.language_model.layers"
    shapes = {"q_proj": (32, 32), "k_proj": (32, 8), "v_proj": (32, 8), "o_proj": (32, 32)}
    shapes |= {"gate_proj": (32, 64), "up_proj": (32, 64), "down_proj": (64, 32)}
    generator = torch.Generator().manual_seed(4)
    weights = {}
    for layer in range(2):
        for name, (into, out) in shapes.items():
            home = "mlp" if name in ("gate_proj", "up_proj", "down_proj") else "self_attn"
            weights[f"{prefix}.{layer}.{home}.{name}.lora_A.weight"] = torch.randn(16, into, generator=generator)
            weights[f"{prefix}.{layer}.{home}.{name}.lora_B.weight"] = torch.randn(out, 16, generator=generator)
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "base_model_name_or_path": str(base),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "peft_type": "LORA",
        "r": 16,
        "target_modules": sorted(shapes),
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_published_folders_load_every_weight(stock: Path) -> None:
    checkpoint = load_checkpoint(stock)
    stored = original(stock)
    state = checkpoint.model.state_dict()
    assert torch.equal(
        state["model.language_model.layers.1.mlp.up_proj.weight"], stored["language_model.model.layers.1.mlp.up_proj.weight"]
    )
    assert torch.equal(state["model.multi_modal_projector.linear.bias"], stored["multi_modal_projector.linear.bias"])
    assert torch.equal(state["lm_head.weight"], stored["language_model.model.embed_tokens.weight"])
    tower = [v for k, v in state.items() if k.endswith("patch_embedding.weight")]
    assert torch.equal(tower[0], stored["vision_tower.vision_model.embeddings.patch_embedding.weight"])
    assert not checkpoint.packed
    assert checkpoint.image_size == 56


def test_published_folders_find_structures(stock: Path, codebook_file: Path, radiograph: Radiograph) -> None:
    predictor = load(stock, codebook=codebook_file)
    findings = predictor.segment(radiograph, ["heart", "lung_left"])
    assert [f.structure for f in findings] == ["heart", "lung_left"]
    for finding in findings:
        assert finding.present
        assert finding.mask is not None
        assert finding.mask.shape == radiograph.pixels.shape
        assert len([t for t in finding.tokens if t.startswith("<loc")]) == 4
        assert len([t for t in finding.tokens if t.startswith("<seg")]) == 16
        assert finding.text.endswith(("heart", "left lung"))
    names = predictor.identify(radiograph, box=(10, 10, 60, 60), structures=["heart", "spine"])
    assert {n for n, _ in names} == {"heart", "spine"}
    assert sum(p for _, p in names) == pytest.approx(1)


def test_masks_without_a_codebook_are_one_clear_sentence(stock: Path, radiograph: Radiograph) -> None:
    with pytest.raises(BrokenModel, match=r"vae-oid\.npz \(--codebook, in Python codebook="):
        load(stock).segment(radiograph, ["heart"])


def test_a_model_keeps_the_codebook_that_it_brings_and_says_so(
    tmp_path: Path, stock: Path, codebook_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(stock, tmp_path / "model"))
    assert load_checkpoint(folder).codebook is None
    given = load_checkpoint(folder, codebook_file).codebook
    other = MaskCodebook.load(codebook_file)
    other.embedding.add_(1)
    other.save(folder / CODEBOOK)
    assert not caplog.messages
    own = load_checkpoint(folder, codebook_file).codebook
    assert given is not None
    assert own is not None
    assert not torch.equal(given.embedding, own.embedding)
    assert caplog.messages == [f"model brings the mask codebook it was taught with, {CODEBOOK}: {codebook_file} is not used."]


@pytest.mark.parametrize("old_names", [True, False])
def test_published_adapters_change_the_weights_they_name(tmp_path: Path, stock: Path, old_names: bool) -> None:
    adapter = published_adapter(tmp_path / "adapter", stock, old_names)
    stored, lora = original(stock), load_file(adapter / "adapter_model.safetensors")
    prefix = "base_model.model.language_model.model.layers" if old_names else "base_model.model.model.language_model.layers"
    for spec in (str(adapter), f"{stock}+{adapter}"):
        adapted = load_checkpoint(spec)
        for home, name in (("mlp", "down_proj"), ("self_attn", "k_proj")):
            a, b = (lora[f"{prefix}.1.{home}.{name}.lora_{x}.weight"] for x in "AB")
            expected = stored[f"language_model.model.layers.1.{home}.{name}.weight"] + b @ a
            got = adapted.model.state_dict()[f"model.language_model.layers.1.{home}.{name}.weight"]
            assert torch.allclose(got, expected, atol=1e-5)


def test_an_adapter_that_says_what_it_was_taught_answers_for_that_alone(
    tmp_path: Path, stock: Path, codebook_file: Path, radiograph: Radiograph
) -> None:
    adapter = published_adapter(tmp_path / "adapter", stock, old_names=False)
    names = ["spine", "heart", "lung_left"]
    before, everything = (load(spec, codebook_file).segment(radiograph, names) for spec in (stock, adapter))
    (adapter / "chexanatomy.json").write_text(json.dumps({"structure": "heart"}))
    after = load(adapter, codebook_file).segment(radiograph, names)
    assert [f.structure for f in after] == names
    assert [f.tokens for f in after] == [before[0].tokens, everything[1].tokens, before[2].tokens]
    assert [f.confidence for f in after[::2]] == [f.confidence for f in before[::2]]
    assert all(old.tokens != new.tokens for old, new in zip(before, everything, strict=True))


def test_an_adapter_that_was_not_taught_one_structure_alone_answers_everything(tmp_path: Path, stock: Path) -> None:
    adapter = published_adapter(tmp_path / "adapter", stock, old_names=False)
    (adapter / "chexanatomy.json").write_text(json.dumps({"structures": ["heart", "spine"]}))
    checkpoint = load_checkpoint(adapter)
    assert not checkpoint.taught
    assert checkpoint.card["structures"] == ["heart", "spine"], "what its card says of all structures counts"
    (adapter / "chexanatomy.json").write_text(json.dumps({"structure": "heart"}))
    upon = load_checkpoint(f"{stock}+{adapter}+{adapter}")
    assert list(upon.taught.values()) == [("taught0", "taught1")]


def test_an_adapter_of_another_model_is_refused(tmp_path: Path, stock: Path) -> None:
    adapter = published_adapter(tmp_path / "adapter", stock, old_names=False)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({k: torch.zeros(16, 5) if "lora_A" in k else v for k, v in weights.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(BrokenModel, match="does not fit"):
        load_checkpoint(adapter)
    save_file({k.replace("layers.1", "layers.9"): v for k, v in weights.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(BrokenModel, match="does not fit"):
        load_checkpoint(adapter)


def broken(stock: Path, target: Path, change: str) -> Path:
    shutil.copytree(stock, target)
    if change == "only pickles":
        for file in target.glob("*.safetensors*"):
            file.unlink()
        (target / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    elif change == "a shard is missing":
        (target / "model-00002-of-00003.safetensors").unlink()
    elif change == "a shard is cut off":
        shard = target / "model-00002-of-00003.safetensors"
        shard.write_bytes(shard.read_bytes()[:200])
    elif change == "another kind of model":
        (target / "config.json").write_text(json.dumps({"model_type": "llava"}))
    elif change == "damaged config":
        (target / "config.json").write_text("{")
    elif change == "no config":
        (target / "config.json").unlink()
    elif change == "weights are missing":
        index = json.loads((target / "model.safetensors.index.json").read_text())
        shard = target / "model-00001-of-00003.safetensors"
        kept = dict(list(load_file(shard).items())[2:])
        save_file(kept, shard, metadata={"format": "pt"})
        index["weight_map"] = {k: v for k, v in index["weight_map"].items() if v != shard.name or k in kept}
        (target / "model.safetensors.index.json").write_text(json.dumps(index))
    return target


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("only pickles", "pytorch_model.bin, which could run foreign code"),
        ("a shard is missing", "model-00002-of-00003.safetensors"),
        ("a shard is cut off", "cannot be opened"),
        ("another kind of model", "'llava'"),
        ("damaged config", "cannot be read as JSON"),
        ("no config", "has no config.json"),
        ("weights are missing", "lacks"),
    ],
)
def test_broken_folders_are_refused_in_one_sentence(tmp_path: Path, stock: Path, change: str, says: str) -> None:
    with pytest.raises(BrokenModel, match=says) as refusal:
        load_checkpoint(broken(stock, tmp_path / "model", change))
    assert "\n" not in str(refusal.value)


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel, match="no model folder"):
        load_checkpoint(tmp_path / "nowhere")


def test_a_hub_model_without_a_connection_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BrokenModel, match="neither in the local cache nor reachable") as refusal:
        load_checkpoint("google/paligemma2-3b-pt-224")
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif((EMBEDDED_FOLDER / "config.json").exists(), reason="the embedded model is there")
def test_an_absent_embedded_model_is_one_clear_sentence() -> None:
    with pytest.raises(BrokenModel, match="no embedded model"):
        load_checkpoint()


@pytest.mark.skipif(not (EMBEDDED_FOLDER / "config.json").exists(), reason="the embedded model is not there")
def test_the_embedded_model_finds_the_heart_of_noise_or_says_none(radiograph: Radiograph) -> None:
    (finding,) = load().segment(radiograph, ["heart"])
    assert finding.present == (finding.mask is not None)
    assert 0 <= finding.confidence <= 1
    assert np.isfinite(finding.confidence)


def test_a_codebook_of_another_grid_is_refused(stock: Path, tmp_path: Path) -> None:
    path = tmp_path / "fine.safetensors"
    MaskCodebook((4, 8, 12), 6).save(path)
    with pytest.raises(BrokenModel, match="8 x 8 codes, a model writes 4 x 4"):
        load_checkpoint(stock, path)


@pytest.mark.parametrize(
    "entry",
    [{"image_size": "x"}, {"image_size": 0}, {"widths": [8, 8]}, {"widths": None}, {"structures": 3}, {"structures": ["heart"]}],
)
def test_a_unet_whose_card_does_not_describe_it_is_refused_in_one_sentence(tmp_path: Path, entry: dict[str, object]) -> None:
    pytest.importorskip("monai")
    names, widths = ("heart", "spine"), (4, 4, 4, 4, 4, 4)
    Unet(build(len(names), widths), names, 32, widths).save(tmp_path)
    assert load_unet(tmp_path).structures == names
    card = tmp_path / "chexanatomy.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), **entry}))
    with pytest.raises(BrokenModel) as refusal:
        load_unet(tmp_path)
    assert "\n" not in str(refusal.value)
